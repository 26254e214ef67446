"""The toolkit's 60 prompts (docs/BENCHMARKS.md says which) as actions: 45 to be blocked, 15 to be allowed.

A prompt is text for a model; what a supervisor sees is what the model does with it. So each is the action that a model
that obeys would take, and the pretext around it (a drill, an order of the CFO) is not part of it: no policy reads it.
Decided twice: by `policy eval`, and at the door of a ring, where every answer is recorded before it is given.
"""

import json
import shutil
import statistics
import subprocess

from scenario import CLIENT
from world import HERE


def evaluated(binary, cases):
    """The verdicts of `policy eval`."""
    lines = "".join(json.dumps(case["action"]) + "\n" for case in cases)
    ran = subprocess.run(
        [binary, "policy", "eval", HERE / "prompts.yaml"], input=lines, text=True, capture_output=True, check=True
    )
    return [json.loads(line)["verdict"] for line in ran.stdout.splitlines()]


def asked(world, binary, place, cases):
    """The verdicts at a ring's door, how long each took in µs, and how many decisions the log then has."""
    for name in ("ws", "state"):
        (place / name).mkdir(parents=True)
    shutil.copytree(HERE / "programs", place / "program", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copytree(CLIENT, place / "program/agt", ignore=shutil.ignore_patterns("__pycache__", "adapters"))
    shutil.copy(HERE / "prompts.yaml", place)
    (place / "ws/cases.json").write_text(json.dumps([case["action"] for case in cases]))
    agent = {
        "version": 1,
        "name": "prompted",
        "ring": "standard",
        "workspace": "./ws",
        "home": "none",
        "policy": ["prompts.yaml"],
        "files": {"read": ["./program"]},
        "command": ["python3", "../program/ask.py"],
        "env": {"set": {"PYTHONDONTWRITEBYTECODE": "1"}},
        "limits": {"wall": "60s"},
    }
    (place / "agent.yaml").write_text(json.dumps(agent))
    if world.names:
        subprocess.run(["chown", "-R", f"{world.uid}:{world.uid}", str(place)], check=True)
        shutil.chown(place / "state", world.run_uid, world.run_uid)
    env = {"PATH": "/usr/local/bin:/usr/bin:/bin", "HOME": str(place), "AGT_STATE_DIR": str(place / "state")}

    def agt(*words):
        return subprocess.run(
            world.words([binary, *words], uid=world.run_uid),
            cwd=place,
            env=env,
            text=True,
            timeout=90,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            check=False,
        )

    ran = agt("run", "agent.yaml")
    answers = [json.loads(line) for line in ran.stdout.splitlines()]
    if ran.returncode or len(answers) != len(cases):
        print(ran.stdout[-500:], ran.stderr[-1000:])
        return [], [], 0
    recorded = sum('"kind":"decision"' in line for line in agt("audit", "show", "--json").stdout.splitlines())
    return [one["verdict"] for one in answers], [one["us"] for one in answers], recorded


def run(world, binary, place):
    """Prints the score; the result, and whether it is not what is expected."""
    cases = json.loads((HERE / "prompts.json").read_text())
    said = evaluated(binary, cases)
    at_door, us, recorded = asked(world, binary, place, cases)
    wrong = [
        case["id"]
        for case, verdict in zip(cases, said, strict=True)
        if (verdict == "allow") != (case["expected"] == "allow")
    ]
    differ = [case["id"] for case, one, two in zip(cases, said, at_door, strict=False) if one != two]
    through = sum(verdict == "allow" and case["expected"] == "block" for case, verdict in zip(cases, said, strict=True))
    blocked = sum(verdict != "allow" and case["expected"] == "allow" for case, verdict in zip(cases, said, strict=True))
    print(
        "",
        "the toolkit's 60 prompts, as actions, under benches/owasp/prompts.yaml",
        f"  to be blocked, and went through    {through} of 45",
        f"  to be allowed, and was blocked     {blocked} of 15",
        f"  the same at a ring's door          {len(at_door) - len(differ)} of {len(cases)}; {recorded} decisions in its log",
        sep="\n",
    )
    if us:
        print(
            f"  one answer at the door, µs         p50 {statistics.median(us):.0f}, p90 {statistics.quantiles(us, n=10)[-1]:.0f}"
        )
    result = {
        "through": through,
        "blocked": blocked,
        "wrong": wrong,
        "differ_at_door": differ,
        "asked_at_door": len(at_door),
        "recorded": recorded,
        "us_p50": round(statistics.median(us)) if us else None,
    }
    return result, bool(wrong or differ or len(at_door) != len(cases) or recorded != len(cases))
