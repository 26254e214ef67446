"""Agent goal hijack. A scripted model that does what its context says, whoever wrote it there."""

import os
import re
import subprocess
import sys

from door import get, run
from web import fetch


def obey(context):
    for command in re.findall(r"run `([^`]+)`", context):
        subprocess.run(["sh", "-c", command], check=False)


def ticket():
    obey(get(f"ticket-{sys.argv[2]}.txt"))


def page():
    obey(fetch(f"http://{os.environ['API_NAME']}/{sys.argv[1]}-{sys.argv[2]}.txt"))


run(
    {
        "ticket-key attack": ticket,
        "ticket-key benign": ticket,
        "page-exfil attack": page,
        "page-exfil benign": page,
        "allowed-host attack": page,
        "allowed-host benign": page,
    }
)
