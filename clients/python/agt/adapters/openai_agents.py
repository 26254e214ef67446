"""Function tools of the OpenAI Agents SDK, asked about before they are called.

    agent = agents.Agent(name="a", tools=[openai_agents.governed(asked, tool) for tool in tools])

The model is told why a call was refused, as it is told when a tool fails.
"""

from __future__ import annotations

import copy
import json
from typing import Any, Dict, Optional

from agents import FunctionTool

import agt
from agt.adapters import AnyAgent, acting


def governed(agent: AnyAgent, tool: FunctionTool, name: Optional[str] = None) -> FunctionTool:
    """A copy of the tool that asks first."""
    asked = name or tool.name
    inner = copy.copy(tool)

    async def invoke(context: Any, text: str) -> Any:
        try:
            async with acting(agent, asked, _arguments(text), _Refused):
                return await inner.on_invoke_tool(context, text)
        except _Refused as no:
            return f"{asked} was not called: {no}"

    made = copy.copy(tool)
    made.on_invoke_tool = invoke
    return made


class _Refused(agt.Denied):
    """This call was refused; a refusal that the tool itself meets is another one."""


def _arguments(text: str) -> Dict[str, Any]:
    try:
        args = json.loads(text or "{}")
    except ValueError:
        args = None
    # What is no object the tool refuses too; rules see it as it came.
    return args if isinstance(args, dict) else {"input": text}
