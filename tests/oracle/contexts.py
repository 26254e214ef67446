"""Contexts to hold evaluators against each other: for each document values that meet its conditions, that nearly do, and
that are of another type or missing."""

import random
import re
import string
from collections.abc import Iterator
from dataclasses import dataclass
from re import _parser as parser  # type: ignore[attr-defined]
from typing import Any

# How the toolkit names what is no tool call, and what an action of that kind needs here.
KINDS: dict[str, dict[str, Any]] = {
    "file.read": {"action": "fs.read", "path": "/data/a.txt"},
    "file.write": {"action": "fs.write", "path": "/data/a.txt"},
    "file.delete": {"action": "fs.delete", "path": "/data/a.txt"},
    "shell.execute": {"action": "exec", "program": "/bin/sh", "argv": ["sh"]},
    "network.egress": {"action": "net.connect", "host": "api.example.com", "port": 443},
    "model.call": {"action": "model.call"},
}
NAMES = ("action", "tool_name", "path")
ODD: list[Any] = [None, True, False, 0, 1, -1, 1.5, 10**12, "", "x", "12", [], ["x"], [1], {}, {"x": 1}]
TEXT = string.ascii_letters + string.digits + " .-_/:;'\"\\\n\té"


@dataclass(frozen=True)
class Case:
    """One context, as the toolkit is given it and as we are."""

    theirs: dict[str, Any]
    ours: dict[str, Any]


def cases(conditions: list[tuple[str, str, Any]], count: int, seed: str) -> Iterator[Case]:
    """`conditions`: field, operator and value of each comparison of a document."""
    rng = random.Random(seed)
    fields: dict[str, list[tuple[str, Any]]] = {}
    for field, operator, value in conditions:
        fields.setdefault(field, []).append((operator, value))
    for _ in range(count):
        yield case(rng, fields)


def case(rng: random.Random, fields: dict[str, list[tuple[str, Any]]]) -> Case:
    """Mostly one field at a time: what comes first by priority would hide the others."""
    context: dict[str, Any] = {}
    wanted = [field for field in fields if field not in NAMES]
    share = rng.choice((0.0, 1.5 / max(len(wanted), 1), 0.8))
    for field in wanted:
        if rng.random() < share:
            nest(context, field, of(rng, *rng.choice(fields[field])))
    names = [pair for field in ("action", "tool_name") for pair in fields.get(field, [])]
    word = of(rng, *rng.choice(names)) if names and rng.random() < 0.8 else "some_tool"
    if rng.random() < 0.3:
        word = rng.choice(list(KINDS))
    if rng.random() > 0.02 and not (isinstance(word, str) and word and "\0" not in word):
        word = "some_tool"
    known = KINDS.get(word) if isinstance(word, str) else None
    ours = {**context, **(known or {"action": "tool.call", "tool": word})}
    if "path" in fields and "path" not in ours and rng.random() < 0.5:
        ours["path"] = rng.choice([value for _, value in fields["path"]] + ["/etc/passwd.d", "/tmp"])
    # The toolkit sees what we take an action to be.
    theirs = {**context, "action": word} | ({} if known else {"tool_name": word})
    theirs |= {key: ours[key] for key in ("path", "host") if key in ours}
    return Case(theirs, ours)


def nest(context: dict[str, Any], field: str, value: Any) -> None:
    """Sets a field by its dotted name."""
    *folders, last = field.split(".")
    for folder in folders:
        context = context.setdefault(folder, {})
    context[last] = value


def of(rng: random.Random, operator: str, value: Any) -> Any:
    """A value for one comparison: most meet it or nearly do."""
    if rng.random() < 0.08:
        return rng.choice(ODD)
    if operator == "in":
        value = rng.choice(value) if value else ""
    if isinstance(value, bool | int | float):
        return rng.choice([value, value, value + 1, value - 1, value + 0.5, -value, str(value), float(value)])
    if not isinstance(value, str):
        return rng.choice(ODD)
    text = sample(rng, parser.parse(value)) if operator == "matches" else value
    choice = rng.random()
    if choice < 0.15:
        return mutated(rng, text)
    if choice < 0.25:
        return text.swapcase()
    if choice < 0.30:
        return [text] if rng.random() < 0.5 else ["a", text, 1]
    if operator in ("matches", "contains") and choice < 0.75:
        return noise(rng) + text + noise(rng)
    return text


def noise(rng: random.Random) -> str:
    return "".join(rng.choice(TEXT) for _ in range(rng.randrange(6)))


def mutated(rng: random.Random, text: str) -> str:
    at = rng.randrange(len(text) + 1)
    return rng.choice((text[:at] + text[at + 1:], text[:at] + rng.choice(TEXT) + text[at:], text[:at]))


def sample(rng: random.Random, tree: Any) -> str:
    """A text that a pattern fits, as far as its edges allow."""
    return "".join(one(rng, code, argument) for code, argument in tree)


def one(rng: random.Random, code: Any, argument: Any) -> str:
    match str(code):
        case "LITERAL":
            return chr(argument)
        case "NOT_LITERAL":
            return rng.choice([c for c in TEXT if ord(c) != argument])
        case "ANY":
            return rng.choice(TEXT.replace("\n", ""))
        case "IN":
            return member(rng, argument)
        case "BRANCH":
            return sample(rng, rng.choice(argument[1]))
        case "SUBPATTERN":
            return sample(rng, argument[3])
        case "ATOMIC_GROUP":
            return sample(rng, argument)
        case "MAX_REPEAT" | "MIN_REPEAT" | "POSSESSIVE_REPEAT":
            low, high, tree = argument
            times = rng.randint(low, min(high, low + 3))
            return "".join(sample(rng, tree) for _ in range(times))
        case _:
            return ""


def member(rng: random.Random, items: list[Any]) -> str:
    """One of a class of characters."""
    negated = str(items[0][0]) == "NEGATE"
    if negated:
        fitting = [c for c in TEXT if not any(holds(c, *item) for item in items[1:])]
        return rng.choice(fitting or [" "])
    code, argument = rng.choice(items)
    match str(code):
        case "LITERAL":
            return chr(argument)
        case "RANGE":
            return chr(rng.randint(argument[0], min(argument[1], argument[0] + 200)))
        case _:
            fitting = [c for c in TEXT if holds(c, code, argument)]
            return rng.choice(fitting or [" "])


def holds(c: str, code: Any, argument: Any) -> bool:
    match str(code):
        case "LITERAL":
            return bool(ord(c) == argument)
        case "RANGE":
            return bool(argument[0] <= ord(c) <= argument[1])
        case _:
            classes = {"SPACE": r"\s", "DIGIT": r"\d", "WORD": r"\w"}
            name = str(argument).removeprefix("CATEGORY_").removeprefix("NOT_")
            found = re.match(classes[name], c) is not None
            return found != ("NOT_" in str(argument))
