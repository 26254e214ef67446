"""listener.py LOG PAGES NAME=ADDRESS ...: what listens outside of every ring, and notes each byte that arrives.

ADDRESS is HOST:PORT (port 0: any), udp:HOST:PORT, @ABSTRACT or /PATH of a Unix socket. Prints the ports as JSON when
all of them listen. LOG gets a line of JSON for each connection and each message. A server whose name begins with
`evil` speaks first, a shell command; the others answer, HTTP with the files of PAGES.
"""

import json
import os
import pathlib
import socket
import sys
import threading

LOG = os.open(sys.argv[1], os.O_WRONLY | os.O_APPEND)
PAGES = pathlib.Path(sys.argv[2])


def note(name, data):
    os.write(LOG, (json.dumps({"name": name, "data": data.decode("latin1")}) + "\n").encode())


def answer(data):
    """Of HTTP what this benchmark needs; of anything else that it arrived."""
    words = data.split(b" ", 2)
    if words[0] not in (b"GET", b"POST"):
        return b"done\n"
    page = PAGES / words[1].decode("latin1").rsplit("/", 1)[-1]
    body = page.read_bytes() if words[0] == b"GET" and page.is_file() else b"ok\n"
    return b"HTTP/1.0 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body)


def whole(data):
    """Whether nothing more is to come of this request."""
    head, end, body = data.partition(b"\r\n\r\n")
    if not data.startswith((b"GET ", b"POST ")):
        return b"\n" in data
    size = [int(line.split(b":")[1]) for line in head.split(b"\r\n") if line.lower().startswith(b"content-length:")]
    return bool(end) and len(body) >= sum(size)


def serve(name, sock):
    note(name, b"")
    sock.settimeout(3)
    try:
        if name.startswith("evil"):
            sock.sendall(b"echo owned-$((6*7))\n")
        data = b""
        while not whole(data):
            some = sock.recv(65536)
            if not some:
                break
            note(name, some)
            data += some
        sock.sendall(answer(data))
    except OSError:
        pass
    sock.close()


def accept(name, sock):
    while True:
        client, _ = sock.accept()
        threading.Thread(target=serve, args=(name, client), daemon=True).start()


def receive(name, sock):
    while True:
        note(name, sock.recv(65536))


def listen(name, address):
    """A socket and who looks after it; the port, where it has one."""
    kind = socket.SOCK_DGRAM if address.startswith("udp:") else socket.SOCK_STREAM
    address = address.removeprefix("udp:")
    family = socket.AF_UNIX if address[0] in "@/" else socket.AF_INET
    sock = socket.socket(family, kind)
    if family == socket.AF_UNIX:
        sock.bind("\0" + address[1:] if address[0] == "@" else address)
    else:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        host, port = address.rsplit(":", 1)
        sock.bind((host, int(port)))
    if kind == socket.SOCK_STREAM:
        sock.listen(128)
    work = accept if kind == socket.SOCK_STREAM else receive
    thread = threading.Thread(target=work, args=(name, sock))
    thread.start()
    return sock.getsockname()[1] if family == socket.AF_INET else None


print(
    json.dumps({name: listen(name, address) for name, address in (word.split("=", 1) for word in sys.argv[3:])}),
    flush=True,
)
