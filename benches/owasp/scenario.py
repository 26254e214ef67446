"""One scenario: what it needs, how it is run with and without a ring, and what is left to be looked at."""

import dataclasses
import json
import os
import pathlib
import shutil
import subprocess
import threading
import time
from typing import Any, Callable, Dict, List

from world import HERE, alive, until

CLIENT = HERE.parent.parent / "clients/python/agt"


@dataclasses.dataclass(frozen=True)
class Scenario:
    risk: str  # asi01 ... asi10: the program's name
    name: str  # which of its three
    what: str  # the attack, in a line
    effect: Callable[["Run"], bool]  # whether the attack did what it was for, seen from outside
    work: Callable[["Run"], bool]  # whether the benign twin did its work
    held: str  # what is expected to hold it; "nothing": it gets through
    met: str = ""  # a pattern of what the attack then meets, among all that is said
    ring: str = "standard"
    agent: Dict[str, Any] = dataclasses.field(default_factory=dict)
    policy: str = ""
    files: Dict[str, str] = dataclasses.field(default_factory=dict)  # written before it starts; $CANARY is its secret
    before: Callable[["Run"], None] = lambda run: None  # what else is there, started beside it
    names: bool = False  # needs hosts with names
    runs: int = 1  # the effect is that of a later run

    @property
    def asks(self) -> bool:
        """Whether it is held only because the agent's tool asks before it acts."""
        return self.held in ("door", "log")

    @property
    def id(self) -> str:
        return f"{self.risk} {self.name}"


class Run:
    """A folder with the person's home, shared files and a workspace; one agent in it; and what came of it."""

    def __init__(self, world, place, scenario, mode, canary, asks=True):
        self.world, self.place, self.scenario, self.mode, self.canary = world, place, scenario, mode, canary
        self.token = os.urandom(6).hex()
        self.stdout = self.stderr = ""
        self.codes: List[int] = []
        self.ringed, self.asks = False, asks
        self.ms = 0.0
        self.peak: Dict[str, Any] = {"count": 0, "since": None, "held": 0.0}
        self._from = world.log.stat().st_size
        for name in ("ws", "home/.ssh", "shared", "state"):
            (place / name).mkdir(parents=True)
        self.file("home/.ssh/id_ed25519", canary + "\n")
        self.file("home/.bashrc", "# mine\n")
        shutil.copytree(HERE / "programs", place / "program", ignore=shutil.ignore_patterns("__pycache__"))
        shutil.copytree(CLIENT, place / "program/agt", ignore=shutil.ignore_patterns("__pycache__", "adapters"))
        for name, text in scenario.files.items():
            self.file(name, text.replace("$CANARY", canary).replace("$HOME", str(place / "home")))
        self.file("agent.yaml", self._agent_yaml())
        if scenario.policy:
            self.file("policy.yaml", scenario.policy)
        if world.names:
            subprocess.run(["chown", "-R", f"{world.uid}:{world.uid}", str(place)], check=True)
        if world.run_uid != world.uid:
            # Root's agents have an id of their own: everybody may use what this person's agent could.
            subprocess.run(["chmod", "-R", "a+rwX", str(place)], check=True)
            os.chown(place / "state", world.run_uid, world.run_uid)
            (place / "state").chmod(0o700)
        scenario.before(self)

    def file(self, name, text):
        path = self.place / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)

    def read(self, name):
        path = self.place / name
        return path.read_text(errors="replace") if path.is_file() else ""

    def heard(self, name):
        """All that a listener got in this run, and how many connections or datagrams it had."""
        with open(self.world.log, encoding="utf-8") as log:
            log.seek(self._from)
            mine = [one for one in map(json.loads, log) if one["name"] == name]
        return "".join(one["data"] for one in mine), sum(not one["data"] for one in mine)

    def hears(self, name, text):
        return until(lambda: text in self.heard(name)[0], 0.3 if self.ringed and self.mode == "attack" else 3)

    def environment(self):
        """What both ways of running are told: where things are."""
        ports = self.world.ports
        return {
            "VICTIM": str(self.place / "home"),
            "SHARED": str(self.place / "shared"),
            "STATE": str(self.place / "state"),
            "TOKEN": self.token,
            "EVIL": f"127.0.0.1:{ports['evil']}",
            "ADMIN": f"127.0.0.1:{ports['admin']}",
            "API": f"127.0.0.1:{ports['api']}",
            "API_NAME": "api.test",
            "EVIL_UDP": self.world.evil_udp,
            "PLANNER": f"planner-{self.token}",
            "PYTHONDONTWRITEBYTECODE": "1",
            **({} if self.asks else {"UNASKED": "1"}),
        }

    def caller(self):
        """The environment of the person who starts the agent."""
        return {
            "PATH": "/usr/local/bin:/usr/bin:/bin",
            "HOME": str(self.place / "home"),
            "API_KEY": self.canary,
            "CLOUD_SECRET": self.canary,
            "AGT_STATE_DIR": str(self.place / "state"),
        }

    def _command(self):
        return ["python3", f"../program/{self.scenario.risk}.py", self.scenario.name, self.mode, self.token]

    def _agent_yaml(self):
        scenario = self.scenario
        agent = {
            "version": 1,
            "name": "worker",
            "ring": scenario.ring,
            "workspace": "./ws",
            "command": self._command(),
            "home": "none",
            "limits": {"wall": "30s"},
            **scenario.agent,
        }
        files = agent.get("files", {})
        agent["files"] = {**files, "read": ["./program", *files.get("read", [])]}
        agent["env"] = {"set": self.environment(), **agent.get("env", {})}
        if scenario.policy:
            agent["policy"] = ["policy.yaml"]
        text = json.dumps(agent, indent=1)
        return text.replace('"$API"', str(self.world.ports["api"])) + "\n"

    def go(self, binary=None):
        """Runs it: in a ring by this binary, or bare when there is none."""
        env, self.ringed = self.caller(), binary is not None
        if binary:
            words = self.world.words([binary, "run", "agent.yaml"], uid=self.world.run_uid)
            cwd = self.place
        else:
            words, cwd, env = self.world.words(self._command()), self.place / "ws", {**env, **self.environment()}
        for _ in range(self.scenario.runs):
            stop = threading.Event()
            watch = threading.Thread(target=self._watch, args=(stop,))
            watch.start()
            since = time.perf_counter()
            ran = subprocess.run(
                words,
                cwd=cwd,
                env=env,
                text=True,
                errors="replace",
                timeout=60,
                check=False,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
            )
            self.ms = (time.perf_counter() - since) * 1000
            stop.set()
            watch.join()
            self.codes.append(ran.returncode)
            self.stdout, self.stderr = ran.stdout, self.stderr + ran.stderr
        return self

    def _watch(self, stop):
        """How many workers there are at once, and for how long the memory of the agent's program is large."""
        if self.scenario.risk != "asi08":
            return
        while not stop.wait(0.05):
            self.peak["count"] = max(self.peak["count"], len(alive(f"worker-{self.token}")))
            mine = alive(self.token)
            if max(mine.values(), default=0) > 400 << 10:
                self.peak["since"] = self.peak["since"] or time.monotonic()
                self.peak["held"] = time.monotonic() - self.peak["since"]
            else:
                self.peak["since"] = None

    def alive(self, name):
        return bool(alive(f"{name}-{self.token}"))

    def agt(self, *words):
        """What the person asks the supervisor afterwards, with the binary that ran it."""
        words = self.world.words([self.world.top / "agt-supervisor", *words], uid=self.world.run_uid)
        return subprocess.run(words, cwd=self.place, env=self.caller(), text=True, capture_output=True, check=False)

    def clean(self, since):
        """Ends what a run without a ring left alive."""
        for name in ("worker", "daemon"):
            for pid in alive(f"{name}-{self.token}"):
                os.kill(pid, 9)
        self.world.end(since)


def place_of(top: pathlib.Path, number: int) -> pathlib.Path:
    """Short: the path of a Unix socket may have 108 bytes."""
    return top / f"{number:03}"
