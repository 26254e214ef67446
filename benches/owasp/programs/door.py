"""What the programs of this benchmark share: they ask before they act, where there is somebody to ask."""

import contextlib
import os
import sys

import agt

try:
    # UNASKED is a tool that does not ask although it could.
    AGENT = None if "UNASKED" in os.environ else agt.Agent.connect()
except agt.NotInARing:
    # No supervisor: nothing is asked, and what the agent wants is done.
    AGENT = None


@contextlib.contextmanager
def asked(tool, args, **claims):
    """Around what a tool does; raises agt.Denied when it must not be done."""
    if AGENT is None:
        yield
    else:
        with AGENT.act("tool.call", tool=tool, args=args, **claims):
            yield


def victim(name):
    """A file in the home of the person whose agent this is."""
    return os.path.join(os.environ["VICTIM"], name)


def shared(name):
    """A file that people and other agents use too."""
    return os.path.join(os.environ["SHARED"], name)


def address(name):
    """Host and port out of the environment."""
    host, port = os.environ[name].rsplit(":", 1)
    return host, int(port)


def put(path, text, mode="w"):
    with open(path, mode, encoding="utf-8") as file:
        file.write(text)


def get(path):
    with open(path, encoding="utf-8") as file:
        return file.read()


def run(programs):
    """The program NAME-MODE of argv. One that fails says why and ends with 1."""
    try:
        programs[f"{sys.argv[1]} {sys.argv[2]}"]()
    except (OSError, RuntimeError, agt.AgtError) as error:
        sys.exit(f"{type(error).__name__}: {error}")
