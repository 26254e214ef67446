"""What an agent imports to ask agt-supervisor before it acts. Standard library only.

    import agt

    agent = agt.Agent.connect()
    agent.ready()
    with agent.act("tool.call", tool="sql.run", args={"query": "select 1"}):
        run_it()                      # not reached when the answer is no

An action is decided and recorded before `act` returns. `Denied` carries the rule, the author's reason, and
when to try again. Outside of a ring there is nobody to ask: `connect` raises `NotInARing`.

`agt.aio` is the same for asyncio; `agt.adapters` wraps the tools of LangChain, the OpenAI Agents SDK and MCP.
"""

from __future__ import annotations

import fcntl
import functools
import hashlib
import inspect
import json
import os
import socket
import struct
import threading
import time
from types import TracebackType
from typing import IO, Any, Callable, Dict, List, Mapping, Optional, Type, TypeVar

__all__ = ["Agent", "Action", "AgtError", "Denied", "Held", "NotInARing", "Lost"]

HEAD = struct.Struct("<IHHQ")
PAYLOAD_MAX = 65536
ARGS_MAX = 1 << 20
WAIT, EXEC, SIGNAL, SIGACTION, SIGPROCMASK = 2, 3, 15, 16, 17
GETPOLICY, CHECKPOLICY, HELLO, READY, HEARTBEAT, ACT, DONE = 18, 19, 64, 65, 66, 67, 68
EXPLAIN, ELEVATE, APPROVAL = 69, 70, 71

_Function = TypeVar("_Function", bound=Callable[..., Any])


class AgtError(Exception):
    """Something between the agent and its supervisor."""


class NotInARing(AgtError):
    """Neither AGT_SOCKET nor AGT_FD leads to a supervisor."""


class Lost(AgtError):
    """The supervisor is gone; nothing is allowed any more."""


class Denied(AgtError):
    """The action must not be done."""

    def __init__(self, reply: Mapping[str, Any]) -> None:
        self.reply = reply
        self.verdict: str = reply.get("verdict") or "deny"
        self.rule: Optional[str] = reply.get("rule")
        self.reason: str = reply.get("reason") or ""
        self.errno: Optional[str] = reply.get("errno")
        self.decision: Optional[Dict[str, Any]] = reply.get("decision")
        self.retry_after_ms: Optional[int] = reply.get("retry_after_ms")
        super().__init__(f"{self.reason or 'denied'}" + (f" (rule {self.rule})" if self.rule else ""))

    def __reduce__(self) -> Any:
        return type(self), (self.reply,)


class Held(Denied):
    """The action waits for a person; it was not allowed."""

    @property
    def approval(self) -> Optional[str]:
        """The name under which `agt-supervisor approve` answers it."""
        return (self.reply.get("approval") or {}).get("id")


class Action:
    """An allowed action. As a context manager it tells how it went; else call `done`."""

    def __init__(self, agent: Agent, reply: Mapping[str, Any]) -> None:
        self.agent = agent
        self.decision: Dict[str, Any] = reply["decision"]
        self.verdict: str = reply["verdict"]
        self.rule: Optional[str] = reply.get("rule")
        self._told = False

    def done(self, ok: bool = True, **facts: Any) -> bool:
        """Records the outcome, once; true when it was recorded now."""
        if self._told:
            return False
        self._told = True
        return not self.agent._call(DONE, {**facts, "decision": self.decision, "ok": ok}).get("errno")

    def __enter__(self) -> Action:
        return self

    def __exit__(
        self, kind: Optional[Type[BaseException]], error: Optional[BaseException], trace: Optional[TracebackType]
    ) -> None:
        try:
            self.done(kind is None, **({} if kind is None else {"error": kind.__name__}))
        except Lost:
            # What went wrong inside says more than that it could not be told.
            if kind is None:
                raise


class Agent:
    """A connection to the supervisor. Threads may share it: one call at a time."""

    def __init__(self, sock: socket.socket) -> None:
        self._socket = sock
        self._lock = threading.Lock()
        self._next = 1
        self._lost = ""
        self._handler: Optional[Callable[[Dict[str, Any]], None]] = None
        self._pid = os.getpid()
        hello = self._call(HELLO, {})
        self.name: str = hello.get("agent", "")
        self.ring: str = hello.get("ring", "")
        self.log: str = hello.get("log", "")

    @classmethod
    def connect(cls) -> Agent:
        """The connection that this ring has: AGT_FD, inherited, or AGT_SOCKET.

        AGT_FD is one connection: who connects again gets the same agent."""
        if os.environ.get("AGT_FD"):
            with _inheriting:
                inherited: Agent = _inherit(cls, cls)
                return inherited
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            sock.connect(_path())
        except OSError as error:
            sock.close()
            raise NotInARing(f"AGT_SOCKET: {error}") from None
        except NotInARing:
            sock.close()
            raise
        return cls(sock)

    def ready(self) -> None:
        """The agent is up."""
        self._call(READY, {})

    def heartbeat(self) -> None:
        """The agent is alive."""
        self._call(HEARTBEAT, {})

    def policy(self) -> Dict[str, Any]:
        """Names and files of the policies in force, and the hash of them all."""
        return self._call(GETPOLICY, {})

    def ask(self, kind: str, **fields: Any) -> Dict[str, Any]:
        """What would be decided; nothing is recorded as done and nothing may be done upon it."""
        return self._call(CHECKPOLICY, {**fields, "action": kind})

    def explain(self, kind: str, **fields: Any) -> Dict[str, Any]:
        """As `ask`, with `source`: file and line of the rule, and who enforces it."""
        return self._call(EXPLAIN, {**fields, "action": kind})

    def act(self, kind: str, *, wait: float = 0, **fields: Any) -> Action:
        """Decides and records one action; returns when it may be done.

        Raises Denied, or Held when a person has to say so; with `wait`, after so many seconds without an
        answer."""
        return Action(self, self._asked(ACT, {**fields, "action": kind}, wait))

    def open(self, path: Any, mode: str = "r", *, wait: float = 0, **options: Any) -> IO[Any]:
        """A file, opened when policies let it be read (`fs.read`), written (`fs.write`) or both.

        What is asked about is what the path leads to now, and that is what is opened, with this agent's own rights:
        the ring holds them, whatever is asked."""
        real = os.path.realpath(path)
        writes, both = set(mode) & set("wax+"), "+" in mode
        actions = []
        for kind in ["fs.read"] * (both or not writes) + ["fs.write"] * bool(writes):
            actions.append(self.act(kind, wait=wait, path=real))
        try:
            file = open(real, mode, opener=_opened, **options)
        except BaseException as error:
            for action in actions:
                action.done(False, error=type(error).__name__)
            raise
        for action in actions:
            action.done()
        return file

    def _asked(self, call: int, body: Mapping[str, Any], wait: float) -> Dict[str, Any]:
        until = time.monotonic() + wait
        while True:
            try:
                return _allowed(self._call(call, body))
            except Held as held:
                while held.approval and time.monotonic() < until:
                    time.sleep(0.25)
                    if self.approval(held.approval)["state"] != "waits":
                        break
                else:
                    raise

    def approval(self, ident: str) -> Dict[str, Any]:
        """How a held action stands: `state` is waits, approved, denied (with `reason`) or gone."""
        reply = self._call(APPROVAL, {"id": ident})
        # Nothing that is not known lets anything wait for ever.
        return reply if isinstance(reply.get("state"), str) else {"state": "gone", **reply}

    def on_signal(self, handler: Callable[[Dict[str, Any]], None]) -> None:
        """Calls `handler` with each governance signal: its `signal`, `source` and `reason`.

        In a thread of its own; where the ring has one connection only, between the agent's own calls."""
        if os.environ.get("AGT_FD"):
            self._handler = handler
            self._call(SIGACTION, {"events": True})
            return
        watcher = Agent.connect()
        watcher._handler = handler
        watcher._call(SIGACTION, {"events": True})
        threading.Thread(target=watcher._watch, name="agt-signals", daemon=True).start()

    def mask(self, how: str, *signals: str) -> List[str]:
        """Keeps events of INT, TERM, USR1 or USR2 away (`block`), or lets them through (`unblock`, `set`).

        What they do is done all the same."""
        reply = self._call(SIGPROCMASK, {"how": how, "signals": list(signals)})
        if reply.get("errno"):
            raise Denied(reply)
        return list(reply.get("masked") or [])

    def run(self, *argv: str, ring: Any = None, wait: float = 0, ttl: float = 300) -> Dict[str, Any]:
        """Runs one command in a ring of its own, this agent's or one of fewer rights, and returns how it ended:
        `exit_code`, `stdout`, `stderr`. Raises Denied, or Held as `act` does."""
        body: Dict[str, Any] = {"argv": list(argv), "ttl_s": int(ttl)}
        return self._work(EXEC, body if ring is None else {**body, "ring": ring}, wait)

    def elevate(self, ring: Any, *argv: str, wait: float = 0, ttl: float = 300) -> Dict[str, Any]:
        """The same in a ring of more rights, up to the one that agent.yaml names under `elevate`."""
        return self._work(ELEVATE, {"argv": list(argv), "ttl_s": int(ttl), "ring": ring}, wait)

    def _work(self, call: int, body: Mapping[str, Any], wait: float) -> Dict[str, Any]:
        worker = self._asked(call, body, wait).get("worker")
        while True:
            state = self._call(WAIT, {"worker": worker})
            if state.get("state") != "runs":
                return state
            time.sleep(0.02)

    def raise_signal(self, signal: str, reason: str = "") -> None:
        """Stops this agent: STOP, INT, TERM or KILL."""
        reply = self._call(SIGNAL, {"signal": signal, "reason": reason})
        if reply.get("errno"):
            raise Denied(reply)

    def governed(self, tool: Optional[str] = None, kind: str = "tool.call") -> Callable[[_Function], _Function]:
        """Decorates a function: each call of it is an action, its arguments by name the action's `args`."""

        def wrap(function: _Function) -> _Function:
            if _later(function):
                raise TypeError(f"{function.__name__} runs later than it is called; agt.aio decorates `async def`")
            name = tool or function.__name__

            @functools.wraps(function)
            def inner(*args: Any, **kwargs: Any) -> Any:
                with self.act(kind, tool=name, args=_shown(function, args, kwargs)):
                    return function(*args, **kwargs)

            return inner  # type: ignore[return-value]

        return wrap

    def close(self) -> None:
        self._lost = self._lost or "closed"
        self._socket.close()
        _release(self, whole=self._lost == "closed")

    def __enter__(self) -> Agent:
        return self

    def __exit__(self, *_: Any) -> None:
        self.close()

    def _call(self, number: int, body: Mapping[str, Any]) -> Dict[str, Any]:
        with self._lock:
            _ours(self)
            ident, self._next = self._next, self._next + 1
            data, fds = _frame(number, ident, body)
            try:
                _send(self._socket, data, fds)
                while True:
                    length, flags, came = _head(self._read(HEAD.size))
                    reply = self._read(length)
                    if flags & 2 and self._handler:
                        self._handler(_body(reply))
                    elif flags & 1 and came == ident:
                        return _body(reply)
            except BaseException as error:
                # Half a frame may be under way (also after Ctrl-C): the next answer could be another's.
                self._lost = str(error) or type(error).__name__
                self._socket.close()
                if isinstance(error, OSError):
                    raise Lost(self._lost) from None
                raise

    def _watch(self) -> None:
        try:
            while True:
                length, flags, _ = _head(self._read(HEAD.size))
                event = self._read(length)
                if flags & 2 and self._handler:
                    self._handler(_body(event))
        except (OSError, AgtError):
            # The supervisor is gone, and so is this ring.
            self._lost = self._lost or "the supervisor is gone"

    def _read(self, count: int) -> bytes:
        data = b""
        while len(data) < count:
            some = self._socket.recv(count - len(data))
            if not some:
                raise Lost("the supervisor closed the connection")
            data += some
        return data


# Who has the connection of AGT_FD: two that read from it would take each other's answers.
_inheriting = threading.Lock()
_owner: Any = None


def _inherit(kind: Type[Any], make: Callable[[socket.socket], Any]) -> Any:
    """The one agent of AGT_FD, made when nobody has it yet."""
    global _owner
    if _owner is not None:
        if type(_owner) is kind and not _owner._lost:
            return _owner
        raise AgtError("AGT_FD is one connection, and another agent of this program has it or left it half-read")
    number = os.environ["AGT_FD"]
    try:
        sock = socket.socket(fileno=os.dup(int(number)))
    except (OSError, ValueError) as error:
        raise NotInARing(f"AGT_FD={number}: {error}") from None
    sock.setblocking(True)
    _owner = make(sock)
    return _owner


def _release(agent: Any, whole: bool) -> None:
    """Another one may take AGT_FD, unless frames are left in it."""
    global _owner
    if _owner is agent and whole:
        _owner = None


def _ours(agent: Any) -> None:
    """A fork shares the connection: parent and child would take each other's answers."""
    if agent._lost:
        raise Lost(agent._lost)
    if os.getpid() != agent._pid:
        raise AgtError("this agent belongs to the process that connected it; connect again after a fork")


def _path() -> str:
    path = os.environ.get("AGT_SOCKET")
    if not path:
        raise NotInARing("AGT_SOCKET is not set: this program was not started by agt-supervisor")
    return path


def _frame(number: int, ident: int, body: Mapping[str, Any]) -> tuple[bytes, List[int]]:
    """The frame, and the sealed memfd that goes along when its arguments are larger than a frame."""
    payload = _json(body)
    fds: List[int] = []
    if len(payload) > PAYLOAD_MAX and isinstance(body.get("args"), dict):
        args = _json(body["args"])
        if len(args) > ARGS_MAX:
            raise AgtError(f"the arguments are {len(args)} bytes of JSON; at most {ARGS_MAX}")
        fds.append(_sealed(args))
        rest = {key: value for key, value in body.items() if key != "args"}
        payload = _json({**rest, "args_sha256": hashlib.sha256(args).hexdigest()})
    if len(payload) > PAYLOAD_MAX:
        raise AgtError(f"the action is {len(payload)} bytes of JSON without its arguments; at most {PAYLOAD_MAX}")
    return HEAD.pack(len(payload), number, 4 if fds else 0, ident) + payload, fds


def _opened(path: str, flags: int) -> int:
    """Of the very path that was asked about: a link in it may have been made since."""
    fd = os.open(path, flags | os.O_NOFOLLOW | os.O_CLOEXEC, 0o666)
    if os.readlink(f"/proc/self/fd/{fd}") == path:
        return fd
    os.close(fd)
    raise Denied({"errno": "EACCES", "reason": f"{path} leads elsewhere since it was asked about"})


def _json(value: Any) -> bytes:
    return json.dumps(value, separators=(",", ":"), default=repr).encode()


def _sealed(data: bytes) -> int:
    fd = os.memfd_create("agt-args", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    with open(os.dup(fd), "wb") as file:
        file.write(data)
    # F_ADD_SEALS, and F_SEAL_SEAL | F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE (fcntl(2)).
    fcntl.fcntl(fd, 1033, 1 | 2 | 4 | 8)
    return fd


def _send(sock: socket.socket, data: bytes, fds: List[int]) -> None:
    try:
        sent = socket.send_fds(sock, [data], fds) if fds else 0
        sock.sendall(data[sent:])
    finally:
        for fd in fds:
            os.close(fd)


def _head(data: bytes) -> tuple[int, int, int]:
    length, _, flags, ident = HEAD.unpack(data)
    if length > PAYLOAD_MAX:
        raise Lost(f"a frame of {length} bytes: this is no supervisor")
    return length, flags, ident


def _body(data: bytes) -> Dict[str, Any]:
    try:
        body = json.loads(data)
    except ValueError:
        body = None
    if not isinstance(body, dict):
        raise Lost("an answer that is no JSON object: this is no supervisor")
    return body


def _allowed(reply: Dict[str, Any]) -> Dict[str, Any]:
    """An answer that lets the action be done; everything else raises."""
    verdict = reply.get("verdict")
    if verdict in ("allow", "audit") and not reply.get("errno") and isinstance(reply.get("decision"), dict):
        return reply
    raise (Held if verdict == "escalate" else Denied)(reply)


def _later(function: Callable[..., Any]) -> bool:
    """Whether the body runs after the call has returned: its outcome would be told too early."""
    kinds = (inspect.iscoroutinefunction, inspect.isasyncgenfunction, inspect.isgeneratorfunction)
    return any(kind(function) for kind in kinds)


def _shown(function: Callable[..., Any], args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Dict[str, Any]:
    """The arguments by their names, defaults included: a rule finds them however they were passed."""
    try:
        signature = inspect.signature(function)
    except ValueError:
        # A builtin that does not say its names.
        return {**kwargs, **({"positional": list(args)} if args else {})}
    bound = signature.bind(*args, **kwargs)
    bound.apply_defaults()
    shown: Dict[str, Any] = {}
    for name, value in bound.arguments.items():
        if signature.parameters[name].kind is inspect.Parameter.VAR_KEYWORD:
            shown.update(value)
        else:
            shown[name] = value
    return shown
