"""internet.py SIDE DIR: what answers in a test's internet, or beside the supervisor (SIDE is `host`).

Every address answers. Those of SERVERS are what tests may reach; any other is a canary, and so is
everything on the host. DIR/log gets one line for each thing that was seen, in the order of its arrival:
packets that came in (`packet tcp 203.0.113.66:80`), names that were asked for (`dns evil.test`),
requests at the company's proxy (`proxy ok.test:80`)."""
import http.server
import os
import random
import socket
import ssl
import struct
import sys
import threading
import time

SIDE, DIR = sys.argv[1:3]
SERVERS = ("203.0.113.10", "203.0.113.11", "2001:db8::10")
LOG = os.open(f"{DIR}/log", os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)

A, CNAME, AAAA = 1, 5, 28
NAMES = {
    "ok.test": [(A, "203.0.113.10")],
    "other.test": [(A, "203.0.113.11")],
    "six.test": [(AAAA, "2001:db8::10")],
    "evil.test": [(A, "203.0.113.66")],
    "doh.test": [(A, "203.0.113.66")],
    "evilok.test": [(A, "203.0.113.66")],
    "ok.test.evil.test": [(A, "203.0.113.66")],
    "tc.test": [(A, "203.0.113.10")],
    "proxy.test": [(A, "198.51.100.7")],
    "mixed.test": [(A, "10.0.0.10"), (A, "203.0.113.10")],
    "loop.test": [(A, "127.0.0.1")],
    "zero.test": [(A, "0.0.0.0")],
    "meta.test": [(A, "169.254.169.254")],
    "azure.test": [(A, "168.63.129.16")],
    "ten.test": [(A, "10.0.0.10")],
    "own.test": [(A, "192.0.2.2")],
    "own2.test": [(A, "192.0.2.3")],
    "own6.test": [(AAAA, "2001:db8:1::2")],
    "loop6.test": [(AAAA, "::1")],
    "mapped.test": [(AAAA, "::ffff:127.0.0.1")],
    "nat64.test": [(AAAA, "64:ff9b::7f00:1")],
    "ula.test": [(AAAA, "fd00:ec2::254")],
    "cname.test": [(CNAME, "ten.test"), (A, "10.0.0.10")],
    "synth.test": [(A, "198.18.1.0")],
}
REBIND = ["203.0.113.10", "127.0.0.1"]


def log(*words):
    os.write(LOG, (" ".join(map(str, words)) + "\n").encode())


def packed(name):
    return b"".join(bytes([len(part)]) + part.encode() for part in name.split(".")) + b"\0"


def records(name):
    if name == "rebind.test":
        return [(A, random.choice(REBIND))]
    if name.endswith(".wild.test"):
        return [(A, "203.0.113.10")]
    return NAMES.get(name)


def answer(question, tcp):
    """Whatever was asked is logged before it is answered."""
    place, labels = 12, []
    while question[place]:
        labels.append(question[place + 1:place + 1 + question[place]].decode("latin1").lower())
        place += 1 + question[place]
    kind = struct.unpack(">H", question[place + 1:place + 3])[0]
    name = ".".join(labels)
    log("dns", name)
    known = records(name) if kind == A or name != "rebind.test" else []
    flags = 0x8180 | (3 if known is None else 0)
    out = []
    for one, value in known or []:
        if one == CNAME:
            data = packed(value)
        else:
            data = socket.inet_pton(socket.AF_INET if one == A else socket.AF_INET6, value)
        if one in (kind, CNAME):
            owner = b"\xc0\x0c" if one == CNAME or known[0][0] != CNAME else packed(known[0][1])
            out.append(owner + struct.pack(">HHIH", one, 1, int(name != "rebind.test"), len(data)) + data)
    if name == "tc.test" and not tcp:
        flags, out = flags | 0x200, []
    head = question[:2] + struct.pack(">HHHHH", flags, 1, len(out), 0, 0)
    return head + question[12:place + 5] + b"".join(out)


def dns_udp(family, any_address):
    """Answers from the address that was asked; `.53` is the nameserver and others are canaries alike."""
    server = socket.socket(family, socket.SOCK_DGRAM)
    server.setsockopt(socket.IPPROTO_IP, 8, 1)  # IP_PKTINFO
    server.bind((any_address, 53))
    while True:
        question, control, _, peer = server.recvmsg(4096, 256)
        info = next(data for level, kind, data in control if (level, kind) == (0, 8))
        try:
            reply = answer(question, False)
        except (IndexError, struct.error):
            reply = b"canary"
        control = [(socket.IPPROTO_IP, 8, struct.pack("=I4s4s", 0, info[8:12], b"\0" * 4))]
        server.sendmsg([reply], control, 0, peer)


def udp_echo(port):
    server = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    server.setsockopt(socket.IPPROTO_IP, 8, 1)
    server.bind(("0.0.0.0", port))
    while True:
        data, control, _, peer = server.recvmsg(4096, 256)
        if data.startswith(b"mark-"):
            continue
        info = next(data for level, kind, data in control if (level, kind) == (0, 8))
        source = struct.pack("=I4s4s", 0, info[8:12], b"\0" * 4)
        server.sendmsg([b"canary"], [(socket.IPPROTO_IP, 8, source)], 0, peer)


class Web(http.server.SimpleHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def __init__(self, *args):
        super().__init__(*args, directory=f"{DIR}/www")

    def log_message(self, *_):
        pass


def web(client, peer):
    Web(client, peer, None)


def echo(client, _):
    """Speaks first; counts after the client's end."""
    client.sendall(b"banner\n")
    count = 0
    while data := client.recv(65536):
        count += len(data)
        client.sendall(data)
    client.sendall(b"end %d\n" % count)


def dns_tcp(client, _):
    while len(head := client.recv(2, socket.MSG_WAITALL)) == 2:
        question = client.recv(struct.unpack(">H", head)[0], socket.MSG_WAITALL)
        reply = answer(question, True)
        client.sendall(struct.pack(">H", len(reply)) + reply)


def upgrade(client, _):
    """HTTP/1 that becomes something else."""
    head = b""
    while b"\r\n\r\n" not in head:
        data = client.recv(4096)
        if not data:
            return
        head += data
    if head.startswith(b"PRI * HTTP/2.0"):
        client.sendall(b"\0\0\0\4\0\0\0\0\0")
        return
    client.sendall(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: echo\r\nConnection: Upgrade\r\n\r\n")
    echo(client, None)


def company_proxy(client, _):
    """Tunnels to the one server there is, whatever name is asked for."""
    head = b""
    while b"\r\n\r\n" not in head:
        data = client.recv(4096)
        if not data:
            return
        head += data
    method, authority = head.split()[:2]
    log("proxy", authority.decode())
    port = int(authority.rsplit(b":", 1)[1])
    if method != b"CONNECT" or authority.startswith(b"denied."):
        client.sendall(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n")
        return
    server = socket.create_connection(("203.0.113.10", port))
    client.sendall(b"HTTP/1.1 200 OK\r\n\r\n")

    def pump(one, other):
        try:
            while data := one.recv(65536):
                other.sendall(data)
            other.shutdown(socket.SHUT_WR)
        except OSError:
            pass
    back = threading.Thread(target=pump, args=(server, client))
    back.start()
    pump(client, server)
    back.join()


SERVICES = {80: web, 443: web, 8080: upgrade, 9000: echo, 53: dns_tcp, 3128: company_proxy}


def serve(client, peer, port, context):
    address = client.getsockname()[0].removeprefix("::ffff:")
    try:
        real = address in SERVERS or (port == 53 and address == "203.0.113.53") \
            or (port == 3128 and address == "198.51.100.7")
        if SIDE == "host" or not real:
            client.sendall(b"canary\n")
            client.settimeout(2)
            client.recv(4096)
            return
        if port == 443:
            client = context.wrap_socket(client, server_side=True)
        SERVICES[port](client, peer)
    except (OSError, ValueError, IndexError):
        pass  # What random bytes do to Python's own server is no matter here.
    finally:
        client.close()


def listen(port, context):
    server = socket.socket(socket.AF_INET6)
    server.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
    server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    server.bind(("::", port))
    server.listen(1024)

    def loop():
        while True:
            client, peer = server.accept()
            threading.Thread(target=serve, args=(client, peer, port, context), daemon=True).start()
    threading.Thread(target=loop, daemon=True).start()


def unix(name):
    server = socket.socket(socket.AF_UNIX)
    server.bind(name)
    if not name.startswith("\0"):
        os.chmod(name, 0o777)
    server.listen()
    while True:
        client = server.accept()[0]
        log("unix", name.strip("\0"))
        client.sendall(b"canary\n")
        client.close()


def sniff(interface):
    """Packets that arrive: the first of a TCP connection, every other kind, neighbour discovery aside."""
    tap = socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, socket.htons(3))
    tap.setsockopt(socket.SOL_SOCKET, 33, 64 << 20)  # SO_RCVBUFFORCE
    tap.bind((interface, 0))
    threading.Thread(target=packets, args=(tap,), daemon=True).start()


def packets(tap):
    while True:
        data, (_, protocol, kind, *_) = tap.recvfrom(65536)
        if kind == 4 or protocol not in (0x800, 0x86dd):  # PACKET_OUTGOING
            continue
        if protocol == 0x800:
            length, number = (data[0] & 15) * 4, data[9]
            to, options = socket.inet_ntoa(data[16:20]), " options" * (length > 20)
        else:
            length, number = 40, data[6]
            to, options = f"[{socket.inet_ntop(socket.AF_INET6, data[24:40])}]", ""
        body = data[length:]
        port = struct.unpack(">H", body[2:4])[0] if number in (6, 17) and len(body) >= 4 else 0
        if number == 6 and len(body) > 13 and body[13] & 0x12 == 2:
            log("packet", "tcp", f"{to}:{port}{options}")
        elif number == 17:
            mark = " " + body[8:].decode() if port == 9 and body[8:13] == b"mark-" else ""
            log("packet", "udp", f"{to}:{port}{options}{mark}")
        elif (number, body[:1]) in ((1, b"\x08"), (58, b"\x80")):
            log("packet", "icmp", f"{to}{options}")
        elif number not in (0, 1, 2, 6, 58):
            log("packet", f"protocol-{number}", f"{to}{options}")


def main():
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(f"{DIR}/leaf.pem", f"{DIR}/leaf.key")
    if SIDE == "host":
        sniff("lo")
        ports = (80, 443)
        for name in (f"\0{DIR}", f"{DIR}/canary.sock"):
            threading.Thread(target=unix, args=(name,), daemon=True).start()
    else:
        sniff("out")
        ports = SERVICES
        threading.Thread(target=dns_udp, args=(socket.AF_INET, "0.0.0.0"), daemon=True).start()
    threading.Thread(target=udp_echo, args=(9,), daemon=True).start()
    for port in ports:
        listen(port, context)
    time.sleep(0.05)
    log("ready", SIDE)
    threading.Event().wait()


main()
