"""Functions that an MCP server offers as tools, asked about before they are called.

    @server.tool()
    @mcp.governed(agent)
    def query(sql: str) -> str: ...

A refusal is a `ToolError`: the client gets a result that is an error and says why.
"""

from __future__ import annotations

import functools
import inspect
from typing import Any, Callable, Dict, Mapping, Optional, TypeVar

try:
    from mcp.server.mcpserver import Context
    from mcp.server.mcpserver.exceptions import ToolError
except ModuleNotFoundError:  # mcp 1
    from mcp.server.fastmcp import Context  # type: ignore
    from mcp.server.fastmcp.exceptions import ToolError  # type: ignore

import agt
from agt.adapters import AnyAgent, acting

_Function = TypeVar("_Function", bound=Callable[..., Any])


class Refused(agt.Denied, ToolError):
    """The tool was not called."""


def governed(agent: AnyAgent, tool: Optional[str] = None) -> Callable[[_Function], _Function]:
    """Decorates a tool's function, below `@server.tool()`. Its Context is no argument of the call."""

    def wrap(function: _Function) -> _Function:
        name = tool or function.__name__

        @functools.wraps(function)
        async def later(*args: Any, **kwargs: Any) -> Any:
            async with acting(agent, name, _shown(function, args, kwargs), Refused):
                return await function(*args, **kwargs)

        @functools.wraps(function)
        def now(*args: Any, **kwargs: Any) -> Any:
            try:
                action = blocking.act("tool.call", tool=name, args=_shown(function, args, kwargs))
            except agt.Denied as no:
                raise Refused(no.reply) from None
            with action:
                return function(*args, **kwargs)

        if inspect.iscoroutinefunction(function):
            return later  # type: ignore[return-value]
        if not isinstance(agent, agt.Agent):
            raise TypeError(f"{name} blocks and agt.aio.Agent asks in coroutines; give agt.Agent, or make it `async def`")
        blocking = agent
        return now  # type: ignore[return-value]

    return wrap


def _shown(function: Callable[..., Any], args: Any, kwargs: Mapping[str, Any]) -> Dict[str, Any]:
    shown = agt._shown(function, args, kwargs)
    return {key: value for key, value in shown.items() if not isinstance(value, Context)}
