"""The asyncio client against a real supervisor."""

import asyncio

from agt import aio


async def main():
    async with await aio.Agent.connect() as agent:
        await agent.ready()
        ran = []

        @agent.governed(tool="query")
        async def query(sql):
            ran.append(sql)

        said = await asyncio.gather(query("select 1"), query("drop it"), query("select 2"), return_exceptions=True)
        assert isinstance(said[1], aio.Denied) and said[1].rule == "no-drop", said
        assert sorted(ran) == ["select 1", "select 2"], ran
        async with agent.act("fs.read", path="/x") as action:
            assert await action.done()
        try:
            await agent.act("tool.call", tool="held")
        except aio.Held as no:
            assert no.rule == "ask-somebody", no
        await (await agent.act("tool.call", tool="seldom")).done()
        try:
            await agent.act("tool.call", tool="seldom")
        except aio.Denied as no:
            assert no.retry_after_ms > 0, no
    print("fine: 4 allowed, 2 denied")


asyncio.run(main())
