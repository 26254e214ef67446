import os
import pickle
import tempfile
import threading
import unittest
from unittest import mock

import agt
from tests.server import Server


class Blocking(unittest.TestCase):
    def setUp(self):
        self.server = Server()
        self.addCleanup(self.server.close)
        env = mock.patch.dict(os.environ, {"AGT_SOCKET": self.server.path})
        env.start()
        self.addCleanup(env.stop)
        os.environ.pop("AGT_FD", None)
        self.agent = agt.Agent.connect()
        self.addCleanup(self.agent.close)

    def told(self, name):
        return [body for call, body in self.server.came if call == name]

    def test_an_allowed_action_is_told_once(self):
        self.assertEqual((self.agent.name, self.agent.ring), ("tried", "standard"))
        self.agent.ready()
        self.agent.heartbeat()
        with self.agent.act("tool.call", tool="sql.run", args={"query": "select 1"}) as action:
            self.assertTrue(action.done(True))
        self.assertFalse(action.done(False))
        self.assertEqual(self.told("done"), [{"decision": action.decision, "ok": True}])
        self.assertEqual(self.told("act"), [{"tool": "sql.run", "args": {"query": "select 1"}, "action": "tool.call"}])

    def test_a_refusal_says_why(self):
        with self.assertRaises(agt.Denied) as denied:
            self.agent.act("tool.call", tool="sql.run", args={"query": "DROP"})
        no = denied.exception
        self.assertEqual((no.rule, no.reason, no.retry_after_ms), ("no-drop", "Needs a person.", None))
        self.assertEqual(str(pickle.loads(pickle.dumps(no))), "Needs a person. (rule no-drop)")
        with self.assertRaises(agt.Held):
            self.agent.act("tool.call", tool="held")
        with self.assertRaises(agt.Denied) as paced:
            self.agent.act("tool.call", tool="paced")
        self.assertEqual((paced.exception.errno, paced.exception.retry_after_ms), ("EAGAIN", 250))
        for kind, tool in [("no.such", None), ("tool.call", "silent"), ("tool.call", "odd")]:
            with self.assertRaises(agt.Denied):
                self.agent.act(kind, tool=tool)
        self.assertEqual(self.agent.ask("tool.call", tool="a", args={"q": "drop"})["verdict"], "deny")
        self.assertEqual(self.agent.policy()["hash"], "00")

    def test_what_goes_wrong_is_told_and_goes_on(self):
        with self.assertRaises(KeyError):
            with self.agent.act("tool.call", tool="a"):
                raise KeyError("x")
        self.assertEqual(self.told("done")[0]["error"], "KeyError")

    def test_a_file_is_asked_about_by_what_it_is(self):
        with tempfile.TemporaryDirectory() as folder:
            real = os.path.join(os.path.realpath(folder), "file")
            with self.agent.open(real, "w") as file:
                file.write("x")
            os.symlink(real, real + ".link")
            with self.agent.open(real + ".link", "r+b") as file:
                self.assertEqual(file.read(), b"x")
            asked = [(body["action"], body["path"]) for body in self.told("act")]
            self.assertEqual(asked, [(kind, real) for kind in ("fs.write", "fs.read", "fs.write")])
            with self.assertRaises(FileNotFoundError):
                self.agent.open(real + ".gone")
            self.assertEqual(self.told("done")[-1]["error"], "FileNotFoundError")
            # What was asked about is moved away, and a link put in its place.
            with mock.patch("os.path.realpath", return_value=real + ".link"), self.assertRaises(OSError):
                self.agent.open(real + ".link")
            with mock.patch("os.path.realpath", return_value=folder + "/./file"), self.assertRaises(agt.Denied):
                self.agent.open(real)

    def test_fields_cannot_pass_for_others(self):
        self.agent.act("tool.call", tool="a", action="fs.read").done(decision={"seq": 99})
        self.assertEqual(self.told("act")[0]["action"], "tool.call")
        self.assertNotEqual(self.told("done")[0]["decision"], {"seq": 99})

    def test_arguments_go_by_their_names(self):
        ran = []

        @self.agent.governed(tool="sql.run")
        def run(query, limit=10, **more):
            ran.append(query)
            return limit

        self.assertEqual(run("select 1", deep=object()), 10)
        args = self.told("act")[0]["args"]
        self.assertEqual((args["query"], args["limit"]), ("select 1", 10))
        self.assertIn("<object object", args["deep"])
        with self.assertRaises(agt.Denied):
            run("drop it")
        self.assertEqual(ran, ["select 1"])
        for later in (Blocking.coroutine, Blocking.generator):
            with self.assertRaises(TypeError):
                self.agent.governed()(later)

    async def coroutine(self):
        pass

    def generator(self):
        yield

    def test_lost_stays_lost(self):
        for tool in ("gone", "huge", "list"):
            agent = agt.Agent.connect()
            with self.assertRaises(agt.Lost):
                agent.act("tool.call", tool=tool)
            with self.assertRaises(agt.Lost):
                agent.act("tool.call", tool="a")
            agent.close()

    def test_what_is_too_long_is_not_sent(self):
        for fields in ({"args": {"q": "x" * (1 << 20)}}, {"note": "x" * 65536}):
            with self.assertRaises(agt.AgtError):
                self.agent.act("tool.call", tool="a", **fields)
        self.agent.act("tool.call", tool="a", args={"q": "x" * 65536}).done()
        self.agent.act("tool.call", tool="a").done()

    def test_threads_get_their_own_answers(self):
        wrong = []

        def one(number):
            for _ in range(50):
                try:
                    self.agent.act("tool.call", tool="a", args={"q": "drop" if number % 2 else "keep"}).done()
                    allowed = True
                except agt.Denied:
                    allowed = False
                if allowed == bool(number % 2):
                    wrong.append(number)

        threads = [threading.Thread(target=one, args=(number,)) for number in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        self.assertEqual(wrong, [])

    def test_an_inherited_connection_is_one(self):
        with self.server.pair() as sock, mock.patch.dict(os.environ, {"AGT_FD": str(sock.fileno())}):
            with agt.Agent.connect() as first:
                self.assertIs(agt.Agent.connect(), first)
            with agt.Agent.connect() as second:
                self.assertIsNot(second, first)
                second.ready()

    def test_a_fork_does_not_share_it(self):
        child = os.fork()
        if child == 0:
            try:
                self.agent.ready()
            except agt.AgtError:
                os._exit(7)
            os._exit(0)
        self.assertEqual(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), 7)
        self.agent.ready()

    def test_outside_of_a_ring(self):
        for env in ({}, {"AGT_SOCKET": "/no/such"}, {"AGT_FD": "999"}, {"AGT_FD": "x"}):
            with mock.patch.dict(os.environ, env, clear=True), self.assertRaises(agt.NotInARing):
                agt.Agent.connect()


if __name__ == "__main__":
    unittest.main()
