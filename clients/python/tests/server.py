"""A supervisor that follows a script: enough of the door to try clients without a ring."""

import json
import os
import socket
import struct
import tempfile
import threading

HEAD = struct.Struct("<IHHQ")
NAMES = {
    2: "wait", 3: "exec", 15: "signal", 16: "sigaction", 17: "sigprocmask", 18: "getpolicy", 19: "checkpolicy",
    64: "hello", 65: "ready", 66: "heartbeat", 67: "act", 68: "done", 70: "elevate", 71: "approval",
}
NO_DROP = {"errno": "EACCES", "verdict": "deny", "rule": "no-drop", "reason": "Needs a person.", "retry_after_ms": None}
HELD = {"errno": "EACCES", "verdict": "escalate", "rule": "held", "reason": "Somebody has to say so."}
ASKED = {**HELD, "approval": {"id": "ap-1", "left_ms": 1000}}
PACED = {"errno": "EAGAIN", "verdict": "deny", "rule": "pace", "reason": "Too often.", "retry_after_ms": 250}


class Server:
    """Listens; `came` has each call. A tool's name or words decide the answer, as `act` shows."""

    def __init__(self):
        self.folder = tempfile.TemporaryDirectory()
        self.path = os.path.join(self.folder.name, "agent.sock")
        self.came, self.sockets, self.late = [], [], threading.Event()
        self.listener = socket.socket(socket.AF_UNIX)
        self.listener.bind(self.path)
        self.listener.listen()
        threading.Thread(target=self.accept, daemon=True).start()

    def close(self):
        for sock in [self.listener, *self.sockets]:
            sock.close()
        self.folder.cleanup()

    def accept(self):
        while True:
            try:
                sock, _ = self.listener.accept()
            except OSError:
                return
            self.serve(sock)

    def serve(self, sock):
        self.sockets.append(sock)
        threading.Thread(target=self.speak, args=(sock,), daemon=True).start()

    def pair(self):
        """A connection from the start, as a ring without sockets has it."""
        mine, theirs = socket.socketpair()
        self.serve(mine)
        return theirs

    def speak(self, sock):
        stream = sock.makefile("rb")
        while len(head := stream.read(HEAD.size)) == HEAD.size:
            length, number, _, ident = HEAD.unpack(head)
            body = json.loads(stream.read(length))
            self.came.append((NAMES[number], body))
            try:
                self.answer(sock, number, ident, body)
            except OSError:
                return

    def answer(self, sock, number, ident, body):
        tool = body.get("tool")
        if tool == "gone":
            return sock.shutdown(socket.SHUT_RDWR)
        if tool == "huge":
            return sock.sendall(HEAD.pack(1 << 30, number, 1, ident))
        if tool == "list":
            return self.put(sock, number, 1, ident, [])
        if tool == "late":
            threading.Thread(target=lambda: (self.late.wait(5), self.put(sock, number, 1, ident, self.act(body)))).start()
            return None
        # Events and other people's answers are passed over; an answer comes in pieces.
        self.put(sock, 15, 2, ident, {"event": True})
        self.put(sock, number, 1, ident + 1000, NO_DROP)
        reply = {
            "hello": {"agent": "tried", "ring": "standard", "log": "run-1"},
            "getpolicy": {"policies": [{"name": "research", "file": "policy.yaml"}], "hash": "00"},
            "approval": {"state": "approved"},
            "sigprocmask": {"masked": body.get("signals")},
            "signal": {"errno": "EPERM", "reason": "not that one"},
            "wait": {"errno": None, "state": "ended", "exit_code": 7, "stdout": "x", "stderr": ""},
        }.get(NAMES[number], {"errno": None})
        return self.put(sock, number, 1, ident, self.act(body) if number in (3, 19, 67, 70) else reply)

    def act(self, body):
        seq = len(self.came)
        if body.get("tool") == "asked" and not any(call == "approval" for call, _ in self.came):
            return {**ASKED, "decision": {"log": "run-1", "seq": seq}}
        if "argv" in body:
            said = NO_DROP if "drop" in body["argv"] else {"errno": None, "verdict": "allow", "worker": "w1"}
            return {**said, "decision": {"log": "run-1", "seq": seq}}
        if body["action"] == "no.such":
            return {"errno": "EINVAL", "verdict": "deny", "reason": "there is no action `no.such`"}
        words = json.dumps(body.get("args", {}))
        said = {"held": HELD, "paced": PACED, "silent": {}, "odd": {"errno": None, "verdict": "maybe"}}.get(body.get("tool"))
        if said is None:
            said = NO_DROP if "drop" in words.lower() else {"errno": None, "verdict": "allow", "rule": None}
        return {**said, "decision": {"log": "run-1", "seq": seq}} if said else {}

    @staticmethod
    def put(sock, number, flags, ident, body):
        payload = json.dumps(body).encode()
        whole = HEAD.pack(len(payload), number, flags, ident) + payload
        for at in range(0, len(whole), 7):
            sock.sendall(whole[at:at + 7])
