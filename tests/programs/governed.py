"""Asks before it acts, in the words of its first argument; prints what it was told."""

import fcntl
import hashlib
import json
import os
import socket
import struct
import sys
import threading
import time

sys.path.insert(0, os.environ["CLIENT"])
import agt  # noqa: E402


def tool(asked, query, **more):
    try:
        with asked.act("tool.call", tool="sql.run", args={"query": query}, **more) as action:
            print("allowed", action.decision["seq"])
    except agt.Denied as no:
        print("denied", no.rule, "|", no.reason, "|", no.retry_after_ms is not None)


def raw():
    if "AGT_FD" in os.environ:
        return socket.socket(fileno=os.dup(int(os.environ["AGT_FD"])))
    sock = socket.socket(socket.AF_UNIX)
    sock.connect(os.environ["AGT_SOCKET"])
    return sock


def frame(number, body, length=None, ident=7):
    payload = body if isinstance(body, bytes) else json.dumps(body).encode()
    return struct.pack("<IHHQ", len(payload) if length is None else length, number, 0, ident) + payload


def answer(sock):
    head = b""
    while len(head) < 16:
        some = sock.recv(16 - len(head))
        if not some:
            return "closed"
        head += some
    length = struct.unpack("<IHHQ", head)[0]
    body = b""
    while len(body) < length:
        body += sock.recv(length - len(body))
    return json.loads(body)


def signals(agent):
    """Asks for what each line of its input names, and prints what it was told; events too."""
    agent.on_signal(lambda event: print("event", event["signal"], event["source"], flush=True))
    print("up", flush=True)
    while True:
        try:
            order = open("order").read().split()
        except OSError:
            order = []
        if not order:
            time.sleep(0.05)
            if "AGT_FD" in os.environ:
                agent.heartbeat()
            continue
        os.remove("order")
        what, *rest = order
        try:
            if what == "ask":
                kind, wait = rest[0], float(rest[1])
                with agent.act("tool.call", tool=kind, args={"to": rest[2]}, wait=wait) as action:
                    print("allowed", action.verdict, flush=True)
            elif what == "spend":
                agent.act("model.call", tool="m", args={"n": time.monotonic()}).done(tokens=int(rest[0]), cost=float(rest[1]))
                print("spent", flush=True)
            elif what == "hold":
                agent.act("tool.call", tool="held-open")
                print("open", flush=True)
            elif what == "mask":
                print("masked", ",".join(agent.mask(*rest)), flush=True)
            elif what == "raise":
                agent.raise_signal(rest[0], "of its own")
                print("raised", flush=True)
        except agt.Denied as no:
            print(type(no).__name__, no.errno, no.reason, flush=True)


def main():
    what = sys.argv[1]
    agent = agt.Agent.connect()
    agent.ready()
    if what == "ask":
        tool(agent, "select 1")
        tool(agent, "DROP TABLE users")
        # What an agent says of itself is not believed.
        tool(agent, "select 2", agent="somebody-else", ring="privileged", labels=["trusted"])
        print(agent.ask("tool.call", tool="sql.run", args={"query": "drop"})["verdict"])
        why = agent.explain("tool.call", tool="sql.run", args={"query": "drop"})
        print(why["verdict"], why["source"]["line"], why["source"]["enforced_by"])
        try:
            agent.act("no.such")
        except agt.Denied as no:
            print(no.errno)
    elif what == "drops":
        for number in range(100):
            tool(agent, f"DROP TABLE users{number}")
            time.sleep(0.02)
        print("survived")
    elif what == "often":
        told = []
        for number in range(200):
            try:
                agent.act("tool.call", tool="sql.run", args={"query": f"select {number}"}).done()
                told.append(0)
            except agt.Denied as no:
                told.append(no.retry_after_ms or -1)
        print("paced" if any(wait > 0 for wait in told) else "free", "bad" if -1 in told else "fine")
    elif what == "fills":
        # As much of the log as it may at once, by records that are as long as can be.
        act = frame(67, {"action": "fs.read", "path": "/" + "\U0001f4be" * 511})
        sock, served, told = raw(), 0, {}
        while told.get("errno") != "EAGAIN" and served < 40_000:
            sock.sendall(act * 20)
            for _ in range(20):
                told = answer(sock)
                served += told["errno"] is None
        print(served, told["errno"], told.get("retry_after_ms"))
        time.sleep(0.5)
        sock.sendall(act)
        print(answer(sock)["errno"])
    elif what == "signals":
        signals(agent)
    elif what == "garbage":
        for number, body in [(999, {}), (67, b"{"), (67, b"[]"), (67, b"\xff"), (67, b'{"action": "fs.read", "path": "/a", "path": "/b"}'), (4, {}), (68, {"decision": {"seq": 1 << 60}})]:
            sock = raw()
            sock.sendall(frame(number, body))
            print(answer(sock)["errno"])
            sock.sendall(frame(64, {}))
            print(answer(sock)["agent"])
            sock.close()
        sock = raw()
        sock.sendall(frame(67, b"", length=1 << 30))
        print(answer(sock))
        # One that never reads, and many that say half a frame: the others are served.
        deaf = raw()
        deaf.setblocking(False)
        sent = 0
        try:
            while sent < 8 << 20:
                sent += deaf.send(frame(64, {}) * 100)
        except BlockingIOError:
            pass
        half = [raw() for _ in range(40)]
        for one in half:
            one.sendall(b"\x10\x00")
        tool(agent, "select 3")
        left, right = socket.socketpair()
        sock = raw()
        socket.send_fds(sock, [frame(64, {})], [left.fileno()])
        print(answer(sock)["agent"])
        left.close()
        right.settimeout(2)
        print("closed" if right.recv(1) == b"" else "kept")
    elif what == "large":
        for query in ["select 1 -- " + "x" * 1_000_000, "y" * 1_000_000 + " drop table users"]:
            tool(agent, query)
        # A memfd that can still be changed, one that is not what was said, and none at all.
        def along(data, seals, digest):
            fd = os.memfd_create("x", os.MFD_ALLOW_SEALING)
            os.write(fd, data)
            fcntl.fcntl(fd, 1033, seals)
            payload = json.dumps({"action": "tool.call", "tool": "t", "args_sha256": digest}).encode()
            sock = raw()
            socket.send_fds(sock, [struct.pack("<IHHQ", len(payload), 67, 4, 7) + payload], [fd])
            os.close(fd)
            print(answer(sock)["reason"])

        good = b'{"a": 1}'
        digest = hashlib.sha256(good).hexdigest()
        along(good, 2 | 4, digest)
        along(good, 14, digest[:-1] + "x")
        along(b'{"a": 1, "a": 2}', 14, hashlib.sha256(b'{"a": 1, "a": 2}').hexdigest())
        along(b"x" * ((1 << 20) + 1), 14, digest)
        sock = raw()
        sock.sendall(struct.pack("<IHHQ", 2, 67, 4, 7) + b"{}")
        print(answer(sock)["reason"])
    elif what == "lingers":
        # Sockets that take a minute to close, handed over so that whoever gets them closes them.
        listener = socket.create_server(("127.0.0.1", 0))
        door, kept = raw(), []
        for _ in range(8):
            sock = socket.create_connection(listener.getsockname())
            kept.append(listener.accept())
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 60))
            sock.setblocking(False)
            try:
                while sock.send(b"x" * 65536):
                    pass
            except BlockingIOError:
                pass
            # Kept until the frame is whole: then ours is not the last one that is closed.
            socket.send_fds(door, [struct.pack("<IHHQ", 2, 67, 4, 7)], [sock.fileno()])
            time.sleep(0.1)
            sock.close()
            door.sendall(b"{}")
        print("up", flush=True)
        time.sleep(60)
    elif what == "flood":
        # Never a moment in which nothing waits to be answered, and every answer is read.
        sock, some = raw(), frame(64, {}) * 2000
        print("up", flush=True)

        def read():
            while sock.recv(1 << 20):
                pass

        threading.Thread(target=read, daemon=True).start()
        while True:
            sock.sendall(some)


main()
