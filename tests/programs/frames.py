"""frames.py COUNT: so many frames that no honest client sends, on one connection after another, while another
connection of the same ring acts. Every answer has to be one object that answers what was asked and tells nothing
of the other connection. Distinct answers go to the file `answers`."""

import json
import os
import random
import socket
import struct
import sys
import threading

HEAD = struct.Struct("<IHHQ")
CALLS = [*range(20), *range(64, 70), 999, 65535]
ACT = 67
BODIES = [
    b"", b"{}", b"[]", b"null", b'"x"', b"1e999", b"{" * 3000, b"[" * 60000, b'{"a":' * 2000, b"\xff\xfe",
    b'{"action":"tool.call","tool":"sql.run","args":{"query":"select 1"}}',
    b'{"action":"tool.call","tool":"sql.run","args":{"query":"drop table x"},"agent":"root","ring":"privileged"}',
    b'{"action":"fs.read","path":"/a/../../etc/shadow"}',
    b'{"action":"net.connect","host":"api.example.com","port":443}',
    b'{"action":"exec","program":"git","argv":["push","--force"]}',
    b'{"action":"fs.read","path":"/a","path":"/b"}',
    b'{"decision":{"log":"run-1","seq":3},"ok":true}',
    b'{"decision":{"seq":18446744073709551615},"ok":"yes","error":"\\u202e\\u0000"}',
    b'{"action":"tool.call","tool":"' + b"x" * 60000 + b'"}',
    b'{"action":"tool.call","tool":"t","labels":["a"],"time":0,"session":"s","args":{"a":[1,2,{"b":null}]}}',
]
BITS = [b'"', b"{", b"}", b"\\", b"\0", b"\\ud800", b"-0", b"1e400", b"\xc3", b",", b":", b'"args":', b"[[[["]


def connect():
    sock = socket.socket(socket.AF_UNIX)
    sock.settimeout(30)
    sock.connect(os.environ["AGT_SOCKET"])
    return sock


def frame():
    call, body = random.choice(CALLS), mutated()
    # Who asks twenty times in a minute for a ring of more rights is frozen, and sends no more frames.
    return ACT if b"privileged" in body else call, random.getrandbits(64), body


def mutated():
    body = bytearray(random.choice(BODIES))
    for _ in range(random.choice([0, 1, 1, 2, 5])):
        at = random.randrange(len(body) + 1)
        what = random.randrange(4)
        if what == 0 and body:
            body[at % len(body)] ^= 1 << random.randrange(8)
        elif what == 1:
            body[at:at] = random.choice(BITS)
        elif what == 2:
            del body[at : at + random.randrange(12)]
        else:
            body[at:at] = random.choice(BODIES)[:200]
    return bytes(body[:65536])


def read(sock, count):
    data = b""
    while len(data) < count:
        some = sock.recv(count - len(data))
        if not some:
            raise EOFError
        data += some
    return data


def answer(sock):
    length, call, flags, ident = HEAD.unpack(read(sock, HEAD.size))
    assert flags == 1 and length <= 65536, (flags, length)
    body = read(sock, length)
    assert isinstance(json.loads(body), dict), body
    return call, ident, body


class Neighbour(threading.Thread):
    """Acts like an honest client, with something that nobody else is to see."""

    def __init__(self):
        super().__init__(daemon=True)
        self.secret, self.served, self.over = os.urandom(12).hex(), 0, False

    def run(self):
        sock = connect()
        while not self.over:
            body = {"action": "tool.call", "tool": "t." + self.secret, "args": {"key": self.secret}}
            data = json.dumps(body).encode()
            sock.sendall(HEAD.pack(len(data), 67, 0, 1) + data)
            assert answer(sock)[:2] == (67, 1)
            self.served += 1
            threading.Event().wait(0.02)


def main():
    count, neighbour, seen = int(sys.argv[1]), Neighbour(), set()
    random.seed(7)
    neighbour.start()
    sock, sent, broken = connect(), 0, 0
    tenth = count // 10
    with open("answers", "wb") as out:
        while sent < count:
            batch = [frame() for _ in range(20)]
            sock.sendall(b"".join(HEAD.pack(len(b), c, random.getrandbits(16), i) + b for c, i, b in batch))
            for call, ident, _ in batch:
                told = answer(sock)
                assert told[:2] == (call, ident), (told, call, ident)
                if told[2] not in seen and len(seen) < 100000:
                    seen.add(told[2])
                    out.write(told[2] + b"\n")
                assert neighbour.secret.encode() not in told[2], told
            if sent // tenth != (sent + 20) // tenth:
                print("at", (sent + 20) // tenth, flush=True)
            sent += 20
            if random.randrange(10) == 0:
                # A head that lies about its length, or half a frame: nothing after it can be understood.
                length = random.choice([0xFFFFFFFF, 65537, 1 << 20, 60000, 3])
                sock.sendall(HEAD.pack(length, 67, 0, 0) + mutated()[:100])
                sock.close()
                sock, broken = connect(), broken + 1
                sent += 1
    neighbour.over = True
    neighbour.join()
    print("over", sent >= count, broken > 0, neighbour.served > 0, flush=True)


main()
