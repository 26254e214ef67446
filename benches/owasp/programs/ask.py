"""Asks for each action of cases.json, slower than its ring's pace; prints each verdict and how long it took."""

import json
import time

import agt

agent = agt.Agent.connect()
with open("cases.json", encoding="utf-8") as file:
    cases = json.load(file)
for case in cases:
    kind = case.pop("action")
    since = time.perf_counter()
    try:
        action = agent.act(kind, **case)
        took, verdict = time.perf_counter() - since, action.verdict
        # None of these is done, here or anywhere.
        action.done(ok=False, error="only asked")
    except agt.Denied as no:
        took, verdict = time.perf_counter() - since, no.verdict
    print(json.dumps({"verdict": verdict, "us": round(took * 1e6)}))
    time.sleep(0.055)
