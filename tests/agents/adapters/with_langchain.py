"""A LangChain tool called with invoke and ainvoke: what the policy allows runs, what it denies does not."""

import asyncio

from langchain_core.tools import StructuredTool, Tool, ToolException, tool

import agt
from agt import aio
from agt.adapters import langchain

RAN = []


@tool
def query(sql: str) -> str:
    """Asks the database."""
    RAN.append(sql)
    return f"rows of {sql}"


async def later(sql: str) -> str:
    """Asks the database."""
    RAN.append(sql)
    return f"rows of {sql}"


def refused(call):
    try:
        call()
    except ToolException as no:
        assert isinstance(no, agt.Denied) and no.rule == "no-drop", no
        return
    raise AssertionError("not refused")


def main():
    agent = agt.Agent.connect()
    agent.ready()
    asked = langchain.governed(agent, query)
    assert type(asked).__name__ == type(query).__name__ and asked.args == query.args
    assert asked.invoke({"sql": "select 1"}) == "rows of select 1"
    refused(lambda: asked.invoke({"sql": "drop table users"}))
    # As a model's call comes, and answered as the model reads it.
    asked.handle_tool_error = True
    said = asked.invoke({"type": "tool_call", "id": "1", "name": "query", "args": {"sql": "DROP x"}})
    assert said.status == "error" and "needs a person" in said.content, said
    assert query.handle_tool_error is False
    asked.handle_tool_error = False
    # Without a coroutine it runs in a thread, and is asked about once.
    assert asyncio.run(asked.ainvoke({"sql": "select 2"})) == "rows of select 2"
    refused(lambda: asyncio.run(asked.ainvoke({"sql": "drop it"})))
    slow = langchain.governed(agent, StructuredTool.from_function(coroutine=later, name="query"))
    assert asyncio.run(slow.ainvoke({"sql": "select 3"})) == "rows of select 3"
    refused(lambda: asyncio.run(slow.ainvoke({"sql": "drop it"})))
    one = langchain.governed(agent, Tool("any", lambda text: RAN.append(text) or "fine", "Any."))
    assert one.invoke("select 4") == "fine"
    agent.close()
    asyncio.run(awaited())
    assert RAN == [f"select {number}" for number in range(1, 6)], RAN


async def awaited():
    async with await aio.Agent.connect() as agent:
        asked = langchain.governed(agent, StructuredTool.from_function(coroutine=later, name="query"))
        assert await asked.ainvoke({"sql": "select 5"}) == "rows of select 5"
        try:
            await asked.ainvoke({"sql": "drop it"})
        except langchain.Refused:
            print("fine: 5 allowed, 5 denied")


main()
