"""Tools of agent frameworks, asked about before they are called. Each module needs its framework, nothing else does."""

from __future__ import annotations

import asyncio
import contextlib
from typing import Any, AsyncIterator, Dict, Type, Union

import agt
from agt import aio

AnyAgent = Union[agt.Agent, aio.Agent]


@contextlib.asynccontextmanager
async def acting(agent: AnyAgent, tool: str, args: Dict[str, Any], refused: Type[agt.Denied]) -> AsyncIterator[None]:
    """One tool call, from a coroutine: the event loop goes on while an agent that blocks is asked."""
    try:
        if isinstance(agent, aio.Agent):
            action: Any = await agent.act("tool.call", tool=tool, args=args)
        else:
            action = await _in_thread(agent, tool, args)
    except agt.Denied as no:
        raise refused(no.reply) from None
    if isinstance(action, aio.Action):
        async with action:
            yield
        return
    try:
        yield
    except BaseException as error:
        await asyncio.to_thread(action.__exit__, type(error), error, None)
        raise
    await asyncio.to_thread(action.done)


async def _in_thread(agent: agt.Agent, tool: str, args: Dict[str, Any]) -> agt.Action:
    asked = asyncio.ensure_future(asyncio.to_thread(agent.act, "tool.call", tool=tool, args=args))
    try:
        return await asyncio.shield(asked)
    except asyncio.CancelledError:
        # It may be allowed all the same: the record then says that it was not done.
        asked.add_done_callback(_abandoned)
        raise


def _abandoned(asked: asyncio.Future[agt.Action]) -> None:
    if not asked.cancelled() and asked.exception() is None:
        asyncio.get_running_loop().run_in_executor(None, lambda: asked.result().done(False, error="CancelledError"))
