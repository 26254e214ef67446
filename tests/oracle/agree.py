#!/usr/bin/env python3
"""agree.py AGT VENV [COUNT]: what the toolkit's own evaluators say, held against `policy eval`.

Every document of policy/tests/vectors and of documents/ gets COUNT (1000) generated contexts. Verdict and rule have to be
the same, or to differ in one of the ways of DIVERGENCES, each of which has to occur.
"""

import collections
import json
import logging
import os
import pathlib
import re
import subprocess
import sys
import tempfile
import warnings
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

HERE = pathlib.Path(__file__).resolve().parent

# How the two may differ, and never so that we are the laxer.
DIVERGENCES = {
    "default deny": "a document without a default: no rule, and so deny",
    "no action": "a tool, path or host that is not what its field holds is no action, and denied under `errors`",
    "error, without its rule": "both deny what cannot be compared; ours names the rule",
    "error in governance.toolkit/v1": "a value of another type denies; theirs reads texts as numbers and takes what is left as unequal",
    "missing and allowed": "in governance.toolkit/v1 a field that is missing is 0, or different, to rules that deny; theirs allow by it too",
    "joined within quotes": "`and` and `or` within a quoted text are part of it; theirs cuts the condition there, and it never holds",
}

# What is taken out of a document before the two are compared: we refuse the document for it, and why.
REFUSED = {
    "an action of another dialect": r"a PolicyDocument has the actions",
    "an operator of another dialect": r"a PolicyDocument has the operators",
    "a default that nothing enforces": r"there is no key `\w+` here; there are action, max_tokens",
    "a pattern that takes longer than the text": r"(look-around, .* is|backreferences are) not supported",
    "a pattern of halves of characters": r"hexadecimal literal is not a Unicode scalar value",
    "a pattern that is too large": r"it is larger than 4 MiB once compiled",
}
# These the toolkit's own evaluator refuses: they were written for its .NET library.
REFUSED_BY_TOOLKIT = {"v1/9dbdad-aspnet.yaml", "v1/a222e3-quickstart.yaml"}

STRICTNESS = ("allow", "audit", "escalate", "deny")
V4_VERDICTS = {"allow": "allow", "audit": "audit", "deny": "deny", "block": "deny"}
V1_VERDICTS = {"allow": "allow", "warn": "audit", "deny": "deny", "require_approval": "escalate"}
COMPARISON = re.compile(r"""([\w.]+)\s*(==|!=|>=|<=|>|<|\bin\b)\s*('[^']*'|"[^"]*"|\[[^\]]*\]|-?\d+(?:\.\d+)?)""")
OPERATORS = {"==": "eq", "!=": "ne", ">": "gt", "<": "lt", ">=": "gte", "<=": "lte", "in": "in"}


class Said(NamedTuple):
    verdict: str
    rule: str | None
    error: bool


def refusal(agt: str, path: pathlib.Path) -> str | None:
    """Why we refuse a document."""
    done = subprocess.run([agt, "policy", "eval", path], input="", capture_output=True, text=True, check=False)
    if done.returncode == 0:
        return None
    found = [name for name, said in REFUSED.items() if re.search(said, done.stderr)]
    if done.returncode != 2 or len(found) != 1 or not re.search(r":\d+:\d+: ", done.stderr):
        raise SystemExit(f"agree.py: not a refusal that is known: {done.stderr.strip()}")
    return found[0]


def holds(pattern: str) -> Callable[[dict[str, Any]], bool]:
    return lambda rule: re.search(pattern, str(rule["condition"]["value"])) is not None


def without(document: dict[str, Any], reason: str) -> int:
    """Takes out what a document is refused for; how much that was."""
    from agent_os.policies import PolicyDefaults
    if reason == "a default that nothing enforces":
        unknown = set(document["defaults"]) - set(PolicyDefaults.model_fields)
        for key in unknown:
            del document["defaults"][key]
        return len(unknown)
    fits: Callable[[dict[str, Any]], bool] = {
        "an action of another dialect": lambda rule: rule["action"] not in V4_VERDICTS,
        "an operator of another dialect": lambda rule: rule["condition"]["operator"] == "not_in",
        "a pattern that takes longer than the text": holds(r"\(\?<?[=!]|\\[1-9]"),
        "a pattern of halves of characters": holds(r"\\u[dD][89a-fA-F]"),
        "a pattern that is too large": holds(r"\[\\w\./-\]\{1,100\}"),
    }[reason]
    before = len(document["rules"])
    document["rules"] = [rule for rule in document["rules"] if not fits(rule)]
    return before - len(document["rules"])


def ours(agt: str, path: pathlib.Path, contexts: list[dict[str, Any]]) -> Iterator[Said]:
    lines = "".join(json.dumps(context) + "\n" for context in contexts)
    done = subprocess.run([agt, "policy", "eval", path], input=lines, capture_output=True, text=True, check=True)
    for line in done.stdout.splitlines():
        said = json.loads(line)
        yield Said(said["verdict"], said["rule"], "errors" in said)


def toolkit_v4(document: dict[str, Any], contexts: list[dict[str, Any]]) -> Iterator[Said]:
    from agent_os.policies import PolicyDocument, PolicyEvaluator
    evaluator = PolicyEvaluator([PolicyDocument.model_validate(document)])
    for context in contexts:
        said = evaluator.evaluate(context)
        yield Said(V4_VERDICTS[said.action], said.matched_rule, "error" in said.audit_entry)


def toolkit_v1(document: dict[str, Any], contexts: list[dict[str, Any]]) -> Iterator[Said]:
    import yaml
    from agentmesh.governance.policy import PolicyEngine
    engine = PolicyEngine()
    # One without agents holds for nobody there, and for everybody here.
    engine.load_yaml(yaml.safe_dump({**document, "agents": ["*"]}))
    for context in contexts:
        said = engine.evaluate("did:mesh:test", context)
        yield Said(V1_VERDICTS[said.action], said.matched_rule, False)


def conditions(document: dict[str, Any]) -> list[tuple[str, str, Any]]:
    found = []
    for rule in document["rules"]:
        if isinstance(rule["condition"], dict):
            found.append((rule["condition"]["field"], rule["condition"]["operator"], rule["condition"]["value"]))
            continue
        for field, sign, text in COMPARISON.findall(rule["condition"]):
            value = json.loads(text.replace("'", '"'))
            found.append((field, OPERATORS[sign], value))
    return found


def divergence(document: dict[str, Any], theirs: Said, we: Said) -> str | None:
    """In which way the two differ; `None` when it is none of those that may be."""
    v1 = not isinstance(document["rules"][0]["condition"], dict)
    rules = {rule["name"]: rule for rule in document["rules"]}
    default = document.get("default_action") if v1 else document.get("defaults", {}).get("action")
    if we.verdict == "deny" and we.rule is None and we.error:
        return "no action"
    if we.rule is None and theirs.rule is None and default is None and (theirs.verdict, we.verdict) == ("allow", "deny"):
        return "default deny"
    if theirs.error and we.error and we.verdict == "deny":
        return "error, without its rule"
    if v1 and we.error and we.verdict == "deny":
        return "error in governance.toolkit/v1"
    if v1 and theirs.rule and theirs.verdict != "deny" and re.search(r"!=|<", rules[theirs.rule]["condition"]):
        return "missing and allowed"
    if v1 and we.rule and re.search(r"'[^']* (and|or) [^']*'", rules[we.rule]["condition"]):
        return "joined within quotes"
    return None


def compare(agt: str, path: pathlib.Path, count: int, folder: pathlib.Path) -> collections.Counter[str]:
    """Holds the two against each other on one document."""
    import yaml
    from contexts import cases
    name = f"{path.parent.name}/{path.name}"
    document = yaml.safe_load(path.read_text())
    found: collections.Counter[str] = collections.Counter()
    kept = path
    while reason := refusal(agt, kept):
        if without(document, reason) == 0:
            raise SystemExit(f"agree.py: {name}: nothing in it is {reason}")
        found[f"refused: {reason}"] += 1
        kept = folder / path.name
        kept.write_text(yaml.safe_dump(document, sort_keys=False))
    every = list(cases(conditions(document), count, name))
    v4 = isinstance(document["rules"][0]["condition"], dict)
    if not v4:
        from agentmesh.governance.protocol_facets import extract_protocol_facets
        for case in every:
            # `sql` and `k8s` are made before anything is evaluated; both sides hold the same objects.
            extract_protocol_facets(case.theirs)
    evaluator = toolkit_v4 if v4 else toolkit_v1
    said = zip(every, evaluator(document, [case.theirs for case in every]), ours(agt, kept, [case.ours for case in every]), strict=True)
    for case, theirs, we in said:
        if theirs[:2] == we[:2]:
            found[f"agreed: {we.verdict}"] += 1
            continue
        way = divergence(document, theirs, we)
        if way is None or STRICTNESS.index(we.verdict) < STRICTNESS.index(theirs.verdict):
            raise SystemExit(f"agree.py: {name}: {json.dumps(case.ours)}\n  the toolkit says {theirs}\n  we say {we}")
        found[way] += 1
    return found


def main() -> int:
    agt, venv = os.path.abspath(sys.argv[1]), sys.argv[2]
    count = int(sys.argv[3]) if len(sys.argv) > 3 else 1000
    python = pathlib.Path(venv).absolute() / "bin/python3"
    if pathlib.Path(sys.executable) != python:
        os.execv(python, [str(python), __file__, agt, venv, str(count)])
    # It warns of its own names, and tells of each error that it denies for.
    warnings.simplefilter("ignore")
    logging.disable(logging.CRITICAL)
    # A document has more patterns than Python keeps compiled.
    re._MAXCACHE = 8192  # type: ignore[attr-defined]
    vectors = HERE.parent.parent / "policy/tests/vectors"
    paths = sorted([*vectors.glob("v?/*.yaml"), *(HERE / "documents").glob("*.yaml")])
    total: collections.Counter[str] = collections.Counter()
    with tempfile.TemporaryDirectory() as folder:
        for path in paths:
            if f"{path.parent.name}/{path.name}" in REFUSED_BY_TOOLKIT:
                continue
            total += compare(agt, path, count, pathlib.Path(folder))
    for name, times in sorted(total.items()):
        print(f"{times:8} {name}")
    missing = [name for name in DIVERGENCES if not total[name]] + [name for name in REFUSED if not total[f"refused: {name}"]]
    if missing:
        print(f"agree.py: never seen, so no longer true: {', '.join(missing)}", file=sys.stderr)
    return 1 if missing else 0


if __name__ == "__main__":
    sys.exit(main())
