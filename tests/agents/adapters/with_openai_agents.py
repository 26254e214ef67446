"""The SDK's own loop with a scripted model that calls a tool twice: once as it may, once as it may not."""

import asyncio

from agents import Agent, Model, ModelResponse, Runner, Usage, function_tool, set_tracing_disabled
from openai.types.responses import ResponseFunctionToolCall, ResponseOutputMessage, ResponseOutputText

from agt import aio
from agt.adapters import openai_agents

RAN = []


@function_tool
def query(sql: str) -> str:
    """Asks the database."""
    RAN.append(sql)
    return f"rows of {sql}"


def call(number, sql):
    text = '{"sql": "%s"}' % sql
    return ResponseFunctionToolCall(type="function_call", name="query", arguments=text, call_id=str(number))


class Scripted(Model):
    def __init__(self):
        text = ResponseOutputText(type="output_text", text="done", annotations=[])
        said = ResponseOutputMessage(id="1", type="message", role="assistant", status="completed", content=[text])
        self.script = [call(1, "select 1"), call(2, "drop table users"), said]

    async def get_response(self, *_, **__):
        return ModelResponse(output=[self.script.pop(0)], usage=Usage(), response_id=None)

    def stream_response(self, *_, **__):
        raise NotImplementedError


async def main():
    set_tracing_disabled(True)
    async with await aio.Agent.connect() as asked:
        agent = Agent(name="tried", model=Scripted(), tools=[openai_agents.governed(asked, query)])
        ran = await Runner.run(agent, "Do the work.")
    told = [item.output for item in ran.new_items if item.type == "tool_call_output_item"]
    assert ran.final_output == "done" and RAN == ["select 1"], (ran, RAN)
    assert told[0] == "rows of select 1" and "needs a person" in told[1], told
    print("fine: 1 allowed, 1 denied")


asyncio.run(main())
