"""What an agent imports to ask agt-supervisor before it acts. Standard library only.

    import agt

    agent = agt.Agent.connect()
    agent.ready()
    with agent.act("tool.call", tool="sql.run", args={"query": "select 1"}):
        run_it()                      # not reached when the answer is no

An action is decided and recorded before `act` returns. `Denied` carries the rule, the author's reason, and
when to try again. Outside of a ring there is nobody to ask: `connect` raises `NotInARing`.
"""

import functools
import json
import os
import socket
import struct
import threading

__all__ = ["Agent", "Action", "AgtError", "Denied", "Held", "NotInARing", "Lost"]

HEAD = struct.Struct("<IHHQ")
PAYLOAD_MAX = 65536
GETPOLICY, CHECKPOLICY, HELLO, READY, HEARTBEAT, ACT, DONE = 18, 19, 64, 65, 66, 67, 68


class AgtError(Exception):
    """Something between the agent and its supervisor."""


class NotInARing(AgtError):
    """Neither AGT_SOCKET nor AGT_FD leads to a supervisor."""


class Lost(AgtError):
    """The supervisor is gone; nothing is allowed any more."""


class Denied(AgtError):
    """The action must not be done."""

    def __init__(self, reply):
        self.verdict = reply.get("verdict", "deny")
        self.rule = reply.get("rule")
        self.reason = reply.get("reason", "")
        self.errno = reply.get("errno")
        self.decision = reply.get("decision")
        self.retry_after_ms = reply.get("retry_after_ms")
        super().__init__(f"{self.reason or 'denied'}" + (f" (rule {self.rule})" if self.rule else ""))


class Held(Denied):
    """The action waits for a person; it was not allowed."""


class Action:
    """An allowed action. As a context manager it tells how it went; else call `done`."""

    def __init__(self, agent, reply):
        self.agent = agent
        self.decision = reply.get("decision")
        self.verdict = reply.get("verdict")
        self.rule = reply.get("rule")
        self._told = False

    def done(self, ok=True, **facts):
        """Records the outcome, once."""
        if not self._told:
            self._told = True
            self.agent._call(DONE, {"decision": self.decision, "ok": ok, **facts})

    def __enter__(self):
        return self

    def __exit__(self, kind, error, trace):
        self.done(kind is None, **({} if kind is None else {"error": kind.__name__}))
        return False


class Agent:
    """A connection to the supervisor. Threads may share it: one call at a time."""

    def __init__(self, sock):
        self._socket = sock
        self._lock = threading.Lock()
        self._next = 1
        hello = self._call(HELLO, {})
        self.name, self.ring = hello.get("agent"), hello.get("ring")

    @classmethod
    def connect(cls):
        """The connection that this ring has: AGT_FD, inherited, or AGT_SOCKET."""
        number = os.environ.get("AGT_FD")
        if number:
            try:
                return cls(socket.socket(fileno=os.dup(int(number))))
            except (OSError, ValueError) as error:
                raise NotInARing(f"AGT_FD={number}: {error}") from None
        path = os.environ.get("AGT_SOCKET")
        if not path:
            raise NotInARing("AGT_SOCKET is not set: this program was not started by agt-supervisor")
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            sock.connect(path)
        except OSError as error:
            sock.close()
            raise NotInARing(f"{path}: {error}") from None
        return cls(sock)

    def ready(self):
        """The agent is up."""
        self._call(READY, {})

    def heartbeat(self):
        """The agent is alive."""
        self._call(HEARTBEAT, {})

    def policy(self):
        """Names and hashes of the policies in force."""
        return self._call(GETPOLICY, {})

    def ask(self, kind, **fields):
        """What would be decided; nothing is recorded as done and nothing may be done upon it."""
        return self._call(CHECKPOLICY, {"action": kind, **fields})

    def act(self, kind, **fields):
        """Decides and records one action; returns when it may be done.

        Raises Denied, or Held when a person has to say so."""
        reply = self._call(ACT, {"action": kind, **fields})
        verdict = reply.get("verdict")
        if verdict in ("allow", "audit") and not reply.get("errno"):
            return Action(self, reply)
        raise (Held if verdict == "escalate" else Denied)(reply)

    def governed(self, tool=None, kind="tool.call"):
        """Decorates a function: each call of it is an action, its keyword arguments the action's `args`."""

        def wrap(function):
            name = tool or function.__name__

            @functools.wraps(function)
            def inner(*args, **kwargs):
                shown = dict(kwargs)
                if args:
                    shown["positional"] = [repr(arg) for arg in args]
                with self.act(kind, tool=name, args=shown):
                    return function(*args, **kwargs)

            return inner

        return wrap

    def close(self):
        self._socket.close()

    def _call(self, number, body):
        payload = json.dumps(body, separators=(",", ":"), default=repr).encode()
        if len(payload) > PAYLOAD_MAX:
            raise AgtError(f"the action is {len(payload)} bytes of JSON; at most {PAYLOAD_MAX}")
        with self._lock:
            ident, self._next = self._next, self._next + 1
            try:
                self._socket.sendall(HEAD.pack(len(payload), number, 0, ident) + payload)
                while True:
                    length, _, flags, came = HEAD.unpack(self._read(HEAD.size))
                    reply = self._read(length)
                    if flags & 1 and came == ident:
                        return json.loads(reply)
            except OSError as error:
                raise Lost(str(error)) from None

    def _read(self, count):
        data = b""
        while len(data) < count:
            some = self._socket.recv(count - len(data))
            if not some:
                raise Lost("the supervisor closed the connection")
            data += some
        return data
