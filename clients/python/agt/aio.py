"""The client for asyncio: what `agt` has, awaited. Calls of one agent may be under way at once.

    from agt import aio

    agent = await aio.Agent.connect()
    await agent.ready()
    async with agent.act("tool.call", tool="sql.run", args={"query": "select 1"}):
        await run_it()

An agent belongs to the event loop that it was connected in.
"""

from __future__ import annotations

import asyncio
import functools
import inspect
import os
import socket
from types import TracebackType
from typing import Any, Awaitable, Callable, Dict, Generator, List, Mapping, Optional, Set, Type, TypeVar

import agt
from agt import AgtError, Denied, Held, Lost, NotInARing

__all__ = ["Agent", "Action", "AgtError", "Denied", "Held", "NotInARing", "Lost"]

_Coroutine = TypeVar("_Coroutine", bound=Callable[..., Awaitable[Any]])


class Action:
    """An allowed action: call `done`, or hold it in `async with`."""

    def __init__(self, agent: Agent, reply: Mapping[str, Any]) -> None:
        self.agent = agent
        self.decision: Dict[str, Any] = reply["decision"]
        self.verdict: str = reply["verdict"]
        self.rule: Optional[str] = reply.get("rule")
        self._told = False

    async def done(self, ok: bool = True, **facts: Any) -> bool:
        """Records the outcome, once; true when it was recorded now."""
        if self._told:
            return False
        self._told = True
        return not (await self.agent._call(agt.DONE, {**facts, "decision": self.decision, "ok": ok})).get("errno")

    async def __aenter__(self) -> Action:
        return self

    async def __aexit__(
        self, kind: Optional[Type[BaseException]], error: Optional[BaseException], trace: Optional[TracebackType]
    ) -> None:
        try:
            await self.done(kind is None, **({} if kind is None else {"error": kind.__name__}))
        except Lost:
            # What went wrong inside says more than that it could not be told.
            if kind is None:
                raise


class Acting:
    """What `act` gives: `await` it for the Action, or enter it with `async with`."""

    def __init__(self, agent: Agent, body: Mapping[str, Any], wait: float) -> None:
        self._agent, self._body, self._wait = agent, body, wait
        self._action: Optional[Action] = None

    def __await__(self) -> Generator[Any, None, Action]:
        return self._agent._act(self._body, self._wait).__await__()

    async def __aenter__(self) -> Action:
        self._action = await self
        return self._action

    async def __aexit__(
        self, kind: Optional[Type[BaseException]], error: Optional[BaseException], trace: Optional[TracebackType]
    ) -> None:
        if self._action is not None:
            await self._action.__aexit__(kind, error, trace)


class Agent:
    """A connection to the supervisor. Tasks may share it."""

    def __init__(self, sock: socket.socket) -> None:
        self.name = self.ring = self.log = ""
        self._socket = sock
        self._next = 1
        self._lost = ""
        self._pid = os.getpid()
        self._waiting: Dict[int, asyncio.Future[Dict[str, Any]]] = {}
        self._writer: Optional[asyncio.StreamWriter] = None
        self._started: Optional[asyncio.Future[None]] = None
        self._handler: Optional[Callable[[Dict[str, Any]], Any]] = None
        self._handling: Set[asyncio.Future[Any]] = set()
        self._loop = asyncio.get_running_loop()

    @classmethod
    async def connect(cls) -> Agent:
        """The connection that this ring has: AGT_FD, inherited, or AGT_SOCKET.

        AGT_FD is one connection: who connects again gets the same agent."""
        if os.environ.get("AGT_FD"):
            with agt._inheriting:
                agent: Agent = agt._inherit(cls, cls)
            if agent._loop is not asyncio.get_running_loop():
                raise AgtError("AGT_FD is one connection, and an agent of another event loop has it")
        else:
            path = agt._path()
            sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            sock.setblocking(False)
            try:
                await asyncio.get_running_loop().sock_connect(sock, path)
            except BaseException as error:
                sock.close()
                if isinstance(error, OSError):
                    raise NotInARing(f"AGT_SOCKET: {error}") from None
                raise
            agent = cls(sock)
        if agent._started is None:
            agent._started = asyncio.ensure_future(agent._start())
        await asyncio.shield(agent._started)
        return agent

    async def ready(self) -> None:
        """The agent is up."""
        await self._call(agt.READY, {})

    async def heartbeat(self) -> None:
        """The agent is alive."""
        await self._call(agt.HEARTBEAT, {})

    async def policy(self) -> Dict[str, Any]:
        """Names and files of the policies in force, and the hash of them all."""
        return await self._call(agt.GETPOLICY, {})

    async def ask(self, kind: str, **fields: Any) -> Dict[str, Any]:
        """What would be decided; nothing is recorded as done and nothing may be done upon it."""
        return await self._call(agt.CHECKPOLICY, {**fields, "action": kind})

    def act(self, kind: str, *, wait: float = 0, **fields: Any) -> Acting:
        """Decides and records one action; awaited, it returns when it may be done.

        Raises Denied, or Held when a person has to say so; with `wait`, after so many seconds without an
        answer."""
        return Acting(self, {**fields, "action": kind}, wait)

    async def approval(self, ident: str) -> Dict[str, Any]:
        """How a held action stands: `state` is waits, approved, denied (with `reason`) or gone."""
        reply = await self._call(agt.APPROVAL, {"id": ident})
        # Nothing that is not known lets anything wait for ever.
        return reply if isinstance(reply.get("state"), str) else {"state": "gone", **reply}

    async def on_signal(self, handler: Callable[[Dict[str, Any]], Any]) -> None:
        """Calls `handler`, a function or an `async def`, with each governance signal: its `signal`, `source` and
        `reason`."""
        self._handler = handler
        await self._call(agt.SIGACTION, {"events": True})

    async def mask(self, how: str, *signals: str) -> List[str]:
        """Keeps events of INT, TERM, USR1 or USR2 away (`block`), or lets them through (`unblock`, `set`).

        What they do is done all the same."""
        reply = await self._fine(agt.SIGPROCMASK, {"how": how, "signals": list(signals)})
        return list(reply.get("masked") or [])

    async def run(self, *argv: str, ring: Any = None, wait: float = 0, ttl: float = 300) -> Dict[str, Any]:
        """Runs one command in a ring of its own, this agent's or one of fewer rights, and returns how it ended:
        `exit_code`, `stdout`, `stderr`. Raises Denied, or Held as `act` does."""
        body: Dict[str, Any] = {"argv": list(argv), "ttl_s": int(ttl)}
        return await self._work(agt.EXEC, body if ring is None else {**body, "ring": ring}, wait)

    async def elevate(self, ring: Any, *argv: str, wait: float = 0, ttl: float = 300) -> Dict[str, Any]:
        """The same in a ring of more rights, up to the one that agent.yaml names under `elevate`."""
        return await self._work(agt.ELEVATE, {"argv": list(argv), "ttl_s": int(ttl), "ring": ring}, wait)

    async def _work(self, call: int, body: Mapping[str, Any], wait: float) -> Dict[str, Any]:
        worker = (await self._asked(call, body, wait)).get("worker")
        while True:
            state = await self._call(agt.WAIT, {"worker": worker})
            if state.get("state") != "runs":
                return state
            await asyncio.sleep(0.02)

    async def raise_signal(self, signal: str, reason: str = "") -> None:
        """Stops this agent: STOP, INT, TERM or KILL."""
        await self._fine(agt.SIGNAL, {"signal": signal, "reason": reason})

    def governed(self, tool: Optional[str] = None, kind: str = "tool.call") -> Callable[[_Coroutine], _Coroutine]:
        """Decorates an `async def`: each call of it is an action, its arguments by name the action's `args`."""

        def wrap(function: _Coroutine) -> _Coroutine:
            if not inspect.iscoroutinefunction(function):
                raise TypeError(f"{function.__name__} is not `async def`; agt.Agent decorates other functions")
            name = tool or function.__name__

            @functools.wraps(function)
            async def inner(*args: Any, **kwargs: Any) -> Any:
                async with self.act(kind, tool=name, args=agt._shown(function, args, kwargs)):
                    return await function(*args, **kwargs)

            return inner  # type: ignore[return-value]

        return wrap

    async def close(self) -> None:
        whole = not self._lost and not self._waiting
        self._end("closed")
        if self._writer is not None:
            try:
                await self._writer.wait_closed()
            except OSError:
                pass
        agt._release(self, whole)

    async def __aenter__(self) -> Agent:
        return self

    async def __aexit__(self, *_: Any) -> None:
        await self.close()

    async def _start(self) -> None:
        reader, self._writer = await asyncio.open_unix_connection(sock=self._socket)
        self._reading = asyncio.ensure_future(self._read(reader))
        hello = await self._call(agt.HELLO, {})
        self.name, self.ring, self.log = (hello.get(key, "") for key in ("agent", "ring", "log"))

    async def _read(self, reader: asyncio.StreamReader) -> None:
        """Hands out answers until there are no more; then nothing that waits is allowed."""
        why = "the supervisor closed the connection"
        try:
            while True:
                length, flags, ident = agt._head(await reader.readexactly(agt.HEAD.size))
                body = agt._body(await reader.readexactly(length))
                if flags & 2 and self._handler:
                    # Later and apart, so that what it does wrong ends no call.
                    self._loop.call_soon(self._handle, self._handler, body)
                waits = self._waiting.pop(ident, None) if flags & 1 else None
                if waits is not None and not waits.done():
                    waits.set_result(body)
        except asyncio.IncompleteReadError:
            pass
        except (OSError, Lost) as error:
            why = str(error)
        finally:
            self._end(why)

    def _handle(self, handler: Callable[[Dict[str, Any]], Any], event: Dict[str, Any]) -> None:
        doing = handler(event)
        if inspect.isawaitable(doing):
            task = asyncio.ensure_future(doing)
            self._handling.add(task)
            task.add_done_callback(self._handling.discard)

    def _end(self, why: str) -> None:
        self._lost = self._lost or why
        waiting, self._waiting = self._waiting, {}
        for waits in waiting.values():
            if not waits.done():
                waits.set_exception(Lost(self._lost))
        if self._writer is not None:
            self._writer.close()

    def _frame(self, number: int, body: Mapping[str, Any]) -> tuple[int, bytes, List[int]]:
        agt._ours(self)
        if self._writer is None:
            raise Lost("not connected")
        ident, self._next = self._next, self._next + 1
        return ident, *agt._frame(number, ident, body)

    def _put(self, ident: int, data: bytes) -> asyncio.Future[Dict[str, Any]]:
        """Sends the rest of a frame; the answer is what it gives."""
        agt._ours(self)
        assert self._writer is not None
        waits: asyncio.Future[Dict[str, Any]] = self._loop.create_future()
        self._waiting[ident] = waits
        self._writer.write(data)
        return waits

    async def _send(self, number: int, body: Mapping[str, Any]) -> asyncio.Future[Dict[str, Any]]:
        """Sends one call, whole, when this returns."""
        ident, data, fds = self._frame(number, body)
        try:
            sent = await self._send_fds(data, fds) if fds else 0
        except OSError as error:
            self._end(str(error))
            raise Lost(self._lost) from None
        finally:
            for fd in fds:
                os.close(fd)
        # Nothing else can come between the two parts: nothing was awaited since the first.
        return self._put(ident, data[sent:])

    async def _send_fds(self, data: bytes, fds: List[int]) -> int:
        """Begins a frame by ourselves, since asyncio sends no descriptors: when it has nothing left to send."""
        while True:
            agt._ours(self)
            if self._writer is not None and self._writer.transport.get_write_buffer_size() == 0:
                try:
                    return socket.send_fds(self._socket, [data], fds)
                except BlockingIOError:
                    pass
            await asyncio.sleep(0.002)

    async def _call(self, number: int, body: Mapping[str, Any]) -> Dict[str, Any]:
        return await (await self._send(number, body))

    async def _fine(self, number: int, body: Mapping[str, Any]) -> Dict[str, Any]:
        reply = await self._call(number, body)
        if reply.get("errno"):
            raise Denied(reply)
        return reply

    async def _act(self, body: Mapping[str, Any], wait: float = 0) -> Action:
        return Action(self, await self._asked(agt.ACT, body, wait))

    async def _asked(self, call: int, body: Mapping[str, Any], wait: float) -> Dict[str, Any]:
        until = self._loop.time() + wait
        while True:
            try:
                return agt._allowed(await self._decided(call, body))
            except Held as held:
                while held.approval and self._loop.time() < until:
                    await asyncio.sleep(0.25)
                    if (await self.approval(held.approval))["state"] != "waits":
                        break
                else:
                    raise

    async def _decided(self, call: int, body: Mapping[str, Any]) -> Dict[str, Any]:
        waits = await self._send(call, body)
        try:
            return await asyncio.shield(waits)
        except asyncio.CancelledError:
            # It may be allowed all the same: the record then says that it was not done.
            waits.add_done_callback(self._abandoned)
            raise

    def _abandoned(self, waits: asyncio.Future[Dict[str, Any]]) -> None:
        try:
            decision = agt._allowed(waits.result())["decision"]
            ident, data, _ = self._frame(agt.DONE, {"decision": decision, "ok": False, "error": "CancelledError"})
            told = self._put(ident, data)
            told.add_done_callback(lambda done: done.cancelled() or done.exception())
        except (AgtError, asyncio.CancelledError):
            pass
