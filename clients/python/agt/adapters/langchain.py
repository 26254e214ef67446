"""LangChain tools, asked about before they are called.

    tools = [langchain.governed(agent, tool) for tool in tools]

A refusal is a `ToolException`: with the tool's `handle_tool_error=True` the model reads why; else it is raised.
"""

from __future__ import annotations

import functools
from typing import Any, Dict, Mapping, Optional, Sequence

from langchain_core.tools import BaseTool, ToolException

import agt
from agt.adapters import AnyAgent, acting

# What LangChain itself hands to a tool; no argument of the call.
_OURS = ("config", "run_manager", "callbacks")


class Refused(agt.Denied, ToolException):
    """The tool was not called."""


def governed(agent: AnyAgent, tool: BaseTool, name: Optional[str] = None) -> BaseTool:
    """A copy of the tool that asks first. An `agt.aio.Agent` can only ask for `ainvoke`."""
    kind, asked = type(tool), name or tool.name
    # A tool that has no coroutine runs `_run` in a thread, and that asks.
    later = kind._arun is not BaseTool._arun and getattr(tool, "coroutine", True) is not None

    @functools.wraps(kind._run)
    def run(self: Any, *args: Any, **kwargs: Any) -> Any:
        if not isinstance(agent, agt.Agent):
            raise TypeError("agt.aio.Agent asks in coroutines; give agt.Agent to tools that block")
        try:
            action = agent.act("tool.call", tool=asked, args=_shown(self, args, kwargs))
        except agt.Denied as no:
            raise Refused(no.reply) from None
        with action:
            return kind._run(self, *args, **kwargs)

    @functools.wraps(kind._arun)
    async def arun(self: Any, *args: Any, **kwargs: Any) -> Any:
        async with acting(agent, asked, _shown(self, args, kwargs), Refused):
            return await kind._arun(self, *args, **kwargs)

    body = {"_run": run, "__module__": kind.__module__, **({"_arun": arun} if later else {})}
    made = type(kind.__name__, (kind,), body)
    copy = tool.model_copy()
    copy.__class__ = made
    return copy


def _shown(tool: BaseTool, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Dict[str, Any]:
    """The call's arguments by the names of the tool's schema."""
    shown = {key: value for key, value in kwargs.items() if key not in _OURS}
    names = list(tool.args)
    for at, value in enumerate(args):
        shown[names[at] if at < len(names) else f"positional-{at}"] = value
    return shown
