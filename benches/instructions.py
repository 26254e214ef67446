#!/usr/bin/env python3
"""instructions.py COUNT [--set]: instructions of one decision and of one record, held to instructions.json.

COUNT is the release build of the program `count` with the feature rustix/use-libc-auxv (what rustix asks the kernel for
itself names a vDSO that is not there under valgrind). The instructions of so many and of twice as many are counted by
valgrind, and the difference is theirs: the same on every machine but for seeds of hashes, and for SHA-256, which valgrind
does in plain instructions. More than 10 % above what is written down fails; --set writes down what is counted now.
"""

import json
import pathlib
import re
import subprocess
import sys

EXPECTED = pathlib.Path(__file__).with_name("instructions.json")
TIMES = {"decide-10": 4096, "decide-100": 4096, "decide-1000": 4096, "append": 1000, "queue": 1000}
MORE = 1.10


def counted(program: str, what: str, times: int) -> int:
    """Instructions of the whole program."""
    command = ["valgrind", "--tool=cachegrind", "--cache-sim=no", "--cachegrind-out-file=/dev/null", program, what, str(times)]
    said = subprocess.run(command, capture_output=True, text=True, check=True).stderr
    found = re.search(r"I\s+refs:\s+([\d,]+)", said)
    if found is None:
        raise SystemExit(f"instructions.py: valgrind counts nothing:\n{said}")
    return int(found[1].replace(",", ""))


def main() -> int:
    program = sys.argv[1]
    each = {what: round((counted(program, what, 2 * n) - counted(program, what, n)) / n) for what, n in TIMES.items()}
    if "--set" in sys.argv:
        EXPECTED.write_text(json.dumps(each, indent=2) + "\n")
        return 0
    expected = json.loads(EXPECTED.read_text())
    worse = [what for what, count in each.items() if count > expected[what] * MORE]
    for what, count in each.items():
        print(f"{what:12} {count:6} instructions, {expected[what]} expected{'  TOO MANY' if what in worse else ''}")
    return 1 if worse else 0


if __name__ == "__main__":
    sys.exit(main())
