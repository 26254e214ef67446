import asyncio
import os
import unittest
from unittest import mock

import agt
from agt import aio
from tests.server import Server


class Awaited(unittest.IsolatedAsyncioTestCase):
    async def asyncSetUp(self):
        self.server = Server()
        self.addCleanup(self.server.close)
        env = mock.patch.dict(os.environ, {"AGT_SOCKET": self.server.path})
        env.start()
        self.addCleanup(env.stop)
        os.environ.pop("AGT_FD", None)
        self.agent = await aio.Agent.connect()

    async def asyncTearDown(self):
        await self.agent.close()

    def told(self, name):
        return [body for call, body in self.server.came if call == name]

    async def until(self, name, count):
        for _ in range(200):
            if len(self.told(name)) >= count:
                return
            await asyncio.sleep(0.01)
        self.fail(f"{name} did not come {count} times: {self.server.came}")

    async def test_an_allowed_action_is_told_once(self):
        self.assertEqual((self.agent.name, self.agent.ring), ("tried", "standard"))
        await self.agent.ready()
        await self.agent.heartbeat()
        async with self.agent.act("tool.call", tool="a") as action:
            pass
        self.assertFalse(await action.done())
        other = await self.agent.act("tool.call", tool="a")
        self.assertTrue(await other.done(False, error="x"))
        self.assertEqual([body["ok"] for body in self.told("done")], [True, False])

    async def test_a_refusal_says_why(self):
        with self.assertRaises(agt.Denied) as denied:
            await self.agent.act("tool.call", tool="a", args={"q": "drop"})
        self.assertEqual(denied.exception.rule, "no-drop")
        with self.assertRaises(aio.Held):
            async with self.agent.act("tool.call", tool="held"):
                self.fail("not reached")
        self.assertEqual((await self.agent.ask("tool.call", tool="paced"))["retry_after_ms"], 250)
        self.assertEqual((await self.agent.policy())["hash"], "00")

    async def test_calls_are_under_way_at_once(self):
        late = asyncio.ensure_future(self.agent._act({"action": "tool.call", "tool": "late"}))
        await (await self.agent.act("tool.call", tool="a")).done()
        self.assertFalse(late.done())
        self.server.late.set()
        await (await late).done()

    async def test_an_action_given_up_is_told_as_not_done(self):
        late = asyncio.ensure_future(self.agent._act({"action": "tool.call", "tool": "late"}))
        await self.until("act", 1)
        late.cancel()
        with self.assertRaises(asyncio.CancelledError):
            await late
        self.server.late.set()
        await self.until("done", 1)
        self.assertEqual((self.told("done")[0]["ok"], self.told("done")[0]["error"]), (False, "CancelledError"))

    async def test_what_is_held_waits_for_somebody(self):
        with self.assertRaises(aio.Held):
            await self.agent.act("tool.call", tool="held", wait=1)
        async with self.agent.act("tool.call", tool="asked", wait=5):
            pass
        self.assertEqual(self.told("approval"), [{"id": "ap-1"}])
        self.assertEqual(len(self.told("act")), 3)

    async def test_signals_come_to_functions_and_coroutines(self):
        came = asyncio.Queue()
        await self.agent.on_signal(came.put)
        self.assertEqual(self.told("sigaction"), [{"events": True}])
        self.assertEqual(await asyncio.wait_for(came.get(), 5), {"event": True})
        await self.agent.on_signal(came.put_nowait)
        await self.agent.ready()
        self.assertEqual(await asyncio.wait_for(came.get(), 5), {"event": True})
        self.assertEqual(await self.agent.mask("block", "INT", "USR1"), ["INT", "USR1"])
        with self.assertRaises(agt.Denied):
            await self.agent.raise_signal("USR1")

    async def test_commands_run_in_rings_of_their_own(self):
        self.assertEqual((await self.agent.run("ls", "-l", ring=3))["exit_code"], 7)
        self.assertEqual((await self.agent.elevate("standard", "id", ttl=5))["stdout"], "x")
        self.assertEqual(self.told("exec"), [{"argv": ["ls", "-l"], "ttl_s": 300, "ring": 3}])
        self.assertEqual(self.told("elevate"), [{"argv": ["id"], "ttl_s": 5, "ring": "standard"}])
        with self.assertRaises(agt.Denied):
            await self.agent.run("drop")

    async def test_large_arguments_go_between_other_calls(self):
        async def one(number):
            size = 200_000 if number % 3 == 0 else 10
            await (await self.agent.act("tool.call", tool="a", args={"n": number, "q": "x" * size})).done()

        await asyncio.gather(*(one(number) for number in range(60)))
        large = [body for body in self.told("act") if "args_sha256" in body]
        self.assertEqual((len(large), len(self.told("act"))), (20, 60))
        with self.assertRaises(agt.AgtError):
            await self.agent.act("tool.call", tool="a", args={"q": "x" * (2 << 20)})

    async def test_decorated(self):
        @self.agent.governed(tool="sql.run")
        async def run(query, limit=10):
            await asyncio.sleep(0)
            return limit

        self.assertEqual(await run("select 1"), 10)
        self.assertEqual(self.told("act")[0]["args"], {"query": "select 1", "limit": 10})
        with self.assertRaises(agt.Denied):
            await run("drop it")
        with self.assertRaises(TypeError):
            self.agent.governed()(lambda: 1)

    async def test_lost_stays_lost(self):
        for tool in ("gone", "huge", "list"):
            agent = await aio.Agent.connect()
            late = asyncio.ensure_future(agent._act({"action": "tool.call", "tool": "late"}))
            await asyncio.sleep(0)
            with self.assertRaises(agt.Lost):
                await agent.act("tool.call", tool=tool)
            with self.assertRaises(agt.Lost):
                await late
            with self.assertRaises(agt.Lost):
                await agent.ready()
            await agent.close()

    async def test_an_inherited_connection_is_one(self):
        with self.server.pair() as sock, mock.patch.dict(os.environ, {"AGT_FD": str(sock.fileno())}):
            first, again = await asyncio.gather(aio.Agent.connect(), aio.Agent.connect())
            self.assertIs(first, again)
            self.assertEqual(first.name, "tried")
            with self.assertRaises(agt.AgtError):
                agt.Agent.connect()
            await first.close()
            with agt.Agent.connect() as blocking:
                blocking.ready()

    async def test_outside_of_a_ring(self):
        for env in ({}, {"AGT_SOCKET": "/no/such"}, {"AGT_FD": "999"}):
            with mock.patch.dict(os.environ, env, clear=True), self.assertRaises(agt.NotInARing):
                await aio.Agent.connect()


if __name__ == "__main__":
    unittest.main()
