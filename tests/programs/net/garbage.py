"""garbage.py COUNT: what no honest client sends, to every place that agt-egress listens at; then more
connections than it may hold. Ends when the network is usable again, within 15 s or with an error."""
import os
import random
import socket
import struct
import sys
import time

PLACES = [("198.18.0.1", 3128), ("198.18.0.1", 53), ("198.18.1.0", 80), ("198.18.1.0", 443),
          ("198.18.1.0", 9000), ("198.18.200.7", 80)]
NAME = b"\2ok\4test\0"
SEEDS = [
    b"CONNECT ok.test:443 HTTP/1.1\r\nHost: ok.test:443\r\n\r\n",
    b"\5\1\0\5\1\0\3\7ok.test\0P",
    b"\0\x1f\x12\x34\1\0\0\1\0\0\0\0\0\0" + NAME + b"\0\1\0\1",
    b"\x16\3\1\0\x4e\1\0\0\x4a\3\3" + bytes(32) + b"\0\0\2\x13\1\1\0\0\x1f\0\0\0\x0c\0\x0a\0\0\7ok.test"
    + b"\0\x0a\0\4\0\2\0\x1d\xfe\x0d\0\3\0\0\0",
    b"GET / HTTP/1.1\r\nHost: ok.test\r\nTransfer-Encoding: chunked\r\n\r\nffffffffffffffff\r\n",
    b"",
]


def mutated():
    data = bytearray(random.choice(SEEDS))
    for _ in range(random.randrange(6)):
        place = random.randrange(len(data) + 1)
        what = random.randrange(4)
        if what == 0:
            data[place:place + 1] = os.urandom(1)
        elif what == 1:
            data[place:place] = os.urandom(random.randrange(40))
        elif what == 2:
            del data[place:place + random.randrange(10)]
        else:
            data[place:place] = random.choice(SEEDS)
    return bytes(data)


def garbage(count):
    udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    for number in range(count):
        try:
            udp.sendto(mutated()[2:600], ("198.18.0.1", 53))
            with socket.socket() as sock:
                sock.settimeout(5)
                sock.connect(random.choice(PLACES))
                if number % 3 == 0:  # reset, not closed
                    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                sock.sendall(mutated())
                if number % 50 == 0:
                    sock.settimeout(0.05)
                    sock.recv(100)
        except OSError:
            pass


def crowd():
    held = []
    for number in range(800):
        sock = socket.socket()
        sock.setblocking(False)
        sock.connect_ex(PLACES[number % len(PLACES)])
        held.append(sock)
    time.sleep(1.5)


def usable():
    end = time.monotonic() + 15
    while time.monotonic() < end:
        try:
            with socket.create_connection(("ok.test", 9000), 5) as sock:
                sock.settimeout(5)
                if sock.recv(7) == b"banner\n":
                    return True
        except OSError:
            time.sleep(0.1)
    return False


def several(what, *args):
    children = []
    for _ in range(4):
        pid = os.fork()
        if pid == 0:
            what(*args)
            os._exit(0)
        children.append(pid)
    for pid in children:
        os.waitpid(pid, 0)


print("before", usable())
several(garbage, int(sys.argv[1]) // 4)
print("after garbage", usable())
several(crowd)
print("after a crowd", usable())
