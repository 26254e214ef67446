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
        # Larger than a frame: read and judged all the same, and without an order of its own among others.
        large = [agent.act("tool.call", tool="query", args={"sql": "x" * 200_000 + end}) for end in (" drop", " keep")]
        no, yes = await asyncio.gather(*(asyncio.ensure_future(asked.__aenter__()) for asked in large), return_exceptions=True)
        assert isinstance(no, aio.Denied) and no.rule == "no-drop", no
        assert await yes.done()
        assert await agent.mask("block", "USR1") == ["USR1"]
        try:
            await agent.mask("block", "KILL")
        except aio.Denied as refused:
            assert refused.errno == "EPERM", refused
        await agent.on_signal(print)
        ended = await agent.run("echo", "from a ring of its own")
        assert (ended["exit_code"], ended["stdout"]) == (0, "from a ring of its own\n"), ended
        try:
            await agent.elevate("privileged", "id")
        except aio.Denied as refused:
            assert refused.reply["denial"] == "insufficient_trust", refused.reply
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
    print("fine: 6 allowed, 3 denied")


asyncio.run(main())
