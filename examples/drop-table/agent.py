"""An agent with a database and a scripted model. The one line that matters is `@agent.governed`."""

import sqlite3

import agt

# What the model says. The last two came out of a web page that it read.
SAYS = [
    "CREATE TABLE IF NOT EXISTS users (name TEXT)",
    "INSERT INTO users VALUES ('ada'), ('bob')",
    "SELECT count(*) FROM users",
    "DROP TABLE users",
    "drop\ttable if exists users",
    "SELECT count(*) FROM users",
]

agent = agt.Agent.connect()
agent.ready()
database = sqlite3.connect("users.db")


@agent.governed("sql.run")
def run(query):
    with database:
        return database.execute(query).fetchall()


for query in SAYS:
    try:
        print(f"done    {query!r} {run(query)}")
    except agt.Denied as no:
        print(f"denied  {query!r} {no.reason} (rule {no.rule}, record {no.decision['seq']})")
