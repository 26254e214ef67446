"""Cascading failures: one agent's trouble becomes everybody's."""

import os
import subprocess
import sys
import time

from door import run
from web import fetch


def workers(count):
    """Never more than this many, whether or not anything holds it."""
    code, started = "import sys, time; time.sleep(float(sys.argv[2]))", []
    for _ in range(count):
        try:
            started.append(subprocess.Popen([sys.executable, "-S", "-c", code, f"worker-{os.environ['TOKEN']}", "30"]))
        except OSError:
            break
    time.sleep(1)
    for one in started:
        one.kill()
        one.wait()
    print("workers", len(started))


def hold(size):
    block = bytearray(size << 20)
    for at in range(0, len(block), 4096):
        block[at] = 1
    time.sleep(1.5)
    print("held", len(block) >> 20)


def ask(times):
    answers = 0
    for _ in range(times):
        try:
            answers += fetch(f"http://{os.environ['API_NAME']}/hello.txt") == "hello\n"
        except OSError:
            pass
    print("answers", answers)


run(
    {
        "fork-storm attack": lambda: workers(200),
        "fork-storm benign": lambda: workers(10),
        "memory attack": lambda: hold(500),
        "memory benign": lambda: hold(40),
        "retry-storm attack": lambda: ask(60),
        "retry-storm benign": lambda: ask(3),
    }
)
