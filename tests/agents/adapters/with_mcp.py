"""An MCP server and its client in one program: a tool that blocks and one that does not, each allowed and denied once."""

import asyncio

from mcp import Client
from mcp.server.mcpserver import Context, MCPServer

import agt
from agt.adapters import mcp

RAN = []
server = MCPServer("tried")
agent = agt.Agent.connect()


@server.tool()
@mcp.governed(agent)
def query(sql: str) -> str:
    """Asks the database."""
    RAN.append(sql)
    return f"rows of {sql}"


@server.tool(name="later")
@mcp.governed(agent, tool="query")
async def later(sql: str, context: Context) -> str:
    """Asks the database."""
    assert isinstance(context, Context)
    RAN.append(sql)
    return f"rows of {sql}"


async def main():
    async with Client(server) as client:
        tools = {tool.name: tool for tool in (await client.list_tools()).tools}
        assert list(tools["later"].input_schema["properties"]) == ["sql"], tools
        for name in ("query", "later"):
            said = await client.call_tool(name, {"sql": "select 1"})
            assert not said.is_error and said.content[0].text == "rows of select 1", said
            said = await client.call_tool(name, {"sql": "drop table users"})
            assert said.is_error and "needs a person" in said.content[0].text, said
    assert RAN == ["select 1"] * 2, RAN
    print("fine: 2 allowed, 2 denied")


asyncio.run(main())
