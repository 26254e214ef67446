"""attack.py [NAME...]: tries ways out and prints `NAME open|shut WHAT` for each.

`open` means that something beyond the ring answered. Run outside every ring the same attempts have
to be open; that is the control."""
import ctypes
import fcntl
import os
import socket
import ssl
import struct
import subprocess
import sys

PROXY = ("198.18.0.1", 3128)
TRIES = {}
SOCKETS = os.environ.get("CANARY_DIR", "/nowhere")


def attempt(name):
    def keep(function):
        TRIES[name] = function
    return keep


def tcp(address, port, data=b"GET / HTTP/1.0\r\n\r\n"):
    with socket.create_connection((address, port), 3) as stream:
        stream.sendall(data)
        return stream.recv(4096)


def udp(address, port, data=b"x"):
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with socket.socket(family, socket.SOCK_DGRAM) as sock:
        sock.settimeout(0.5)
        sock.sendto(data, (address, port))
        return sock.recv(4096)


def question(name, kind=1):
    labels = b"".join(bytes([len(part)]) + part.encode() for part in name.split("."))
    return b"\x12\x34\1\0\0\1\0\0\0\0\0\0" + labels + struct.pack(">BHH", 0, kind, 1)


def framed(data):
    return struct.pack(">H", len(data)) + data


def hello(name):
    """The bytes of a ClientHello."""
    context = ssl.create_default_context()
    context.check_hostname = name is not None
    context.verify_mode = ssl.CERT_NONE if name is None else ssl.CERT_REQUIRED
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    side = context.wrap_bio(incoming, outgoing, server_hostname=name)
    try:
        side.do_handshake()
    except ssl.SSLWantReadError:
        pass
    return outgoing.read()


def with_extension(data, kind, body):
    """A ClientHello with one extension more: its three lengths are made to agree."""
    body = struct.pack(">HH", kind, len(body)) + body
    at = 5 + 4 + 2 + 32
    at += 1 + data[at]
    at += 2 + struct.unpack(">H", data[at:at + 2])[0]
    at += 1 + data[at]
    extensions = struct.unpack(">H", data[at:at + 2])[0] + len(body)
    record = struct.unpack(">H", data[3:5])[0] + len(body)
    return (data[:3] + struct.pack(">H", record) + data[5:6] + (record - 4).to_bytes(3, "big")
            + data[9:at] + struct.pack(">H", extensions) + data[at + 2:] + body)


def connect(authority, after=b"", headers=b"", version=b"HTTP/1.1"):
    """What the proxy answers, and what comes after it."""
    if isinstance(authority, str):
        authority = authority.encode()
    with socket.create_connection(PROXY, 5) as stream:
        stream.sendall(b"CONNECT " + authority + b" " + version + b"\r\n" + headers + b"\r\n")
        reply = stream.recv(4096)
        if b" 200" not in reply.split(b"\r\n")[0]:
            raise ConnectionRefusedError(reply.split(b"\r\n")[0].decode() or "nothing")
        stream.sendall(after or b"GET / HTTP/1.0\r\n\r\n")
        return stream.recv(4096)


def socks(request, after=b"GET / HTTP/1.0\r\n\r\n", methods=b"\5\1\0"):
    with socket.create_connection(PROXY, 5) as stream:
        stream.sendall(methods)
        if stream.recv(2) != b"\5\0":
            raise ConnectionRefusedError("method")
        stream.sendall(request)
        reply = stream.recv(10)
        if reply[1:2] != b"\0":
            raise ConnectionRefusedError(f"reply {reply[1:2].hex()}")
        stream.sendall(after)
        return stream.recv(4096)


def named(name, port):
    return b"\5\1\0\3" + bytes([len(name)]) + name + struct.pack(">H", port)


for name, address, port in [
    ("raw-v4", "203.0.113.66", 80), ("raw-v4-of-allowed", "203.0.113.10", 80),
    ("raw-v6", "2001:db8::66", 80), ("raw-metadata", "169.254.169.254", 80),
    ("raw-azure", "168.63.129.16", 80), ("raw-own", "192.0.2.2", 80),
    ("raw-own-2", "192.0.2.3", 80), ("raw-own-v6", "2001:db8:1::2", 80),
    ("raw-loopback", "127.0.0.1", 80), ("raw-loopback-v6", "::1", 80),
    ("raw-mapped", "::ffff:203.0.113.66", 80), ("raw-zero", "0.0.0.0", 80),
    ("raw-private", "10.0.0.10", 80), ("name-evil", "evil.test", 80),
    ("name-suffix", "ok.test.evil.test", 80), ("name-prefix", "evilok.test", 80),
    ("name-doh", "doh.test", 443), ("name-parent", "wild.test", 80),
    ("port-of-another", "ok.test", 8080), ("port-unlistened", "ok.test", 9999),
    ("synthetic-nobodys", "198.18.7.7", 80), ("synthetic-wild-nobodys", "198.19.0.77", 80),
]:
    attempt(name)(lambda address=address, port=port: tcp(address, port))

for name in ("loop", "zero", "meta", "azure", "ten", "own", "own2", "own6", "loop6", "mapped", "nat64",
             "ula", "cname", "synth"):
    attempt(f"leads-{name}")(lambda name=name: tcp(f"{name}.test", 80))
    attempt(f"connect-leads-{name}")(lambda name=name: connect(f"{name}.test:80"))

attempt("dns-udp-there")(lambda: udp("203.0.113.53", 53, question("udp-there.evil.test")))
attempt("dns-udp-elsewhere")(lambda: udp("203.0.113.54", 53, question("udp.evil.test")))
attempt("dns-udp-loopback")(lambda: udp("127.0.0.1", 53, question("lo.evil.test")))
attempt("dns-tcp-there")(lambda: tcp("203.0.113.53", 53, framed(question("tcp-there.evil.test"))))
attempt("dns-tcp-elsewhere")(lambda: tcp("203.0.113.54", 53, framed(question("tcp.evil.test"))))
attempt("udp-out")(lambda: udp("203.0.113.66", 9))
attempt("udp-own")(lambda: udp("192.0.2.2", 9))
attempt("udp-synthetic")(lambda: udp(socket.gethostbyname("ok.test"), 80))
attempt("udp-v6")(lambda: udp("2001:db8::66", 9))

attempt("sni-forged")(lambda: tcp("ok.test", 443, hello("evil.test")))
attempt("sni-none")(lambda: tcp("ok.test", 443, hello(None)))
attempt("sni-ech")(lambda: tcp("ok.test", 443, with_extension(hello("ok.test"), 0xFE0D, b"\0" * 32)))
attempt("sni-esni")(lambda: tcp("ok.test", 443, with_extension(hello("ok.test"), 0xFFCE, b"\0" * 32)))
attempt("sni-twice")(lambda: tcp("ok.test", 443, with_extension(
    hello("ok.test"), 0, b"\0\x0c\0\0\x09evil.test")))
attempt("sni-forged-on-80")(lambda: tcp("other.test", 80, hello("evil.test")))
attempt("plain-on-443")(lambda: tcp("ok.test", 443))
attempt("connect-sni")(lambda: connect("ok.test:443", hello("other.test")))
attempt("connect-plain-443")(lambda: connect("ok.test:443"))

for name, authority in [
    ("evil", "evil.test:80"), ("address", "203.0.113.66:80"), ("address-allowed", "203.0.113.10:80"),
    ("port", "ok.test:9999"), ("user", "ok.test@evil.test:80"), ("password", "a:b@ok.test:80"),
    ("nul", "ok.test\0.evil.test:80"), ("percent", "ok.test%00.evil.test:80"),
    ("idn", "b\u00fccher.test:80"), ("idn-dot", "ok\u3002test:80"), ("octal", "0313.0.0161.0102:80"),
    ("hex", "0xcb007142:80"), ("decimal", "3405803842:80"), ("short", "127.1:80"),
    ("loopback", "127.0.0.1:80"), ("localhost", "localhost:80"), ("v6", "[2001:db8::66]:80"),
    ("mapped", "[::ffff:203.0.113.66]:80"), ("zone", "[fe80::1%25lo]:80"), ("zone-raw", "[fe80::1%lo]:80"),
    ("suffix", "ok.test.evil.test:80"), ("prefix", "evilok.test:80"), ("no-port", "ok.test"),
    ("port-zero", "ok.test:0"), ("port-huge", "ok.test:65616"), ("port-plus", "ok.test:+80"),
    ("empty", ":80"), ("underscore", "ok_.test:80"), ("two-dots", "ok..test:80"),
    ("dots-last", "ok.test..:80"), ("url", "http://evil.test/:80"), ("crlf", "ok.test\r\n.evil.test:80"),
    ("space", "ok.test .evil.test:80"), ("slash", "evil.test/.ok.test:80"), ("star", "*.wild.test:80"),
    ("metadata", "169.254.169.254:80"),
]:
    attempt(f"connect-{name}")(lambda authority=authority: connect(authority))

attempt("connect-other-host")(lambda: connect("ok.test:80", headers=b"Host: evil.test\r\n"))
attempt("connect-two-hosts")(lambda: connect(
    "ok.test:80", headers=b"Host: ok.test\r\nHost: evil.test\r\n"))
attempt("connect-inside")(lambda: evil_only(connect(
    "ok.test:80", b"CONNECT evil.test:80 HTTP/1.1\r\nHost: evil.test\r\n\r\n")))
attempt("absolute-get")(lambda: through(b"GET http://evil.test/ HTTP/1.1\r\nHost: evil.test\r\n\r\n"))
attempt("absolute-get-allowed")(lambda: through(b"GET http://ok.test/ HTTP/1.1\r\nHost: ok.test\r\n\r\n"))
attempt("get-post-smuggle")(lambda: through(
    b"POST http://ok.test/ HTTP/1.1\r\nHost: ok.test\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\r\n"
    b"\r\n0\r\n\r\nCONNECT evil.test:80 HTTP/1.1\r\nHost: evil.test:80\r\n\r\n"))
attempt("http2-proxy")(lambda: through(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\4\0\0\0\0\0"))


def through(data):
    """Something else than CONNECT at the proxy: a refusal by it is not an answer from outside."""
    with socket.create_connection(PROXY, 5) as stream:
        stream.sendall(data)
        reply = stream.recv(4096)
    if b"welcome" in reply or b"canary" in reply or reply.startswith(b"HTTP/1.1 200"):
        return reply
    raise ConnectionRefusedError(reply.split(b"\r\n")[0][:60].decode("latin1") or "nothing")


def evil_only(reply):
    """An answer of the allowed server itself is no way to another one."""
    if b"canary" in reply or reply.startswith(b"HTTP/1.1 200"):
        return reply
    raise ConnectionRefusedError(reply.split(b"\r\n")[0].decode("latin1"))


attempt("socks-evil")(lambda: socks(named(b"evil.test", 80)))
attempt("socks-nul")(lambda: socks(named(b"ok.test\0.evil.test", 80)))
attempt("socks-port")(lambda: socks(named(b"ok.test", 9999)))
attempt("socks-empty")(lambda: socks(named(b"", 80)))
attempt("socks-text-address")(lambda: socks(named(b"203.0.113.66", 80)))
attempt("socks-sni")(lambda: socks(named(b"ok.test", 443), hello("evil.test")))
attempt("socks-v4")(lambda: socks(b"\5\1\0\1" + socket.inet_aton("203.0.113.66") + b"\0P"))
attempt("socks-v6")(lambda: socks(
    b"\5\1\0\4" + socket.inet_pton(socket.AF_INET6, "2001:db8::66") + b"\0P"))
attempt("socks-bind")(lambda: socks(b"\5\2\0\3\7ok.test\0P"))
attempt("socks-udp")(lambda: socks(b"\5\3\0\3\7ok.test\0P"))
attempt("socks-password")(lambda: socks(named(b"ok.test", 80), methods=b"\5\1\2"))
attempt("socks-4")(lambda: through(b"\4\1\0P" + socket.inet_aton("203.0.113.66") + b"x\0"))


@attempt("icmp-raw")
def _():
    with socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP) as sock:
        return ping(sock)


@attempt("icmp-datagram")
def _():
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM, socket.IPPROTO_ICMP) as sock:
        return ping(sock)


def ping(sock):
    sock.settimeout(0.5)
    head = struct.pack(">BBHHH", 8, 0, 0, 1, 1)
    total = ~(8 << 8 | 2) & 0xFFFF
    sock.sendto(head[:2] + struct.pack(">H", total) + head[4:], ("203.0.113.66", 0))
    return sock.recv(4096)


@attempt("ip-options")
def _():
    with socket.socket() as sock:
        sock.settimeout(3)
        route = b"\x83\x07\x04" + socket.inet_aton("203.0.113.66") + b"\0"
        sock.setsockopt(socket.IPPROTO_IP, 4, route)
        sock.connect((socket.gethostbyname("ok.test"), 80))
        sock.sendall(b"GET / HTTP/1.0\r\n\r\n")
        return evil_only(sock.recv(4096))


@attempt("bind-to-device")
def _():
    with socket.socket() as sock:
        sock.settimeout(3)
        sock.setsockopt(socket.SOL_SOCKET, 25, b"wan\0")
        sock.connect(("203.0.113.66", 80))
        return sock.recv(4096)


attempt("packet-socket")(lambda: made(socket.AF_PACKET, socket.SOCK_RAW))
attempt("tun")(lambda: fcntl.ioctl(
    os.open("/dev/net/tun", os.O_RDWR), 0x400454CA, struct.pack("16sH22x", b"agt-test%d", 1)))
attempt("fuse")(lambda: bytes([os.open("/dev/fuse", os.O_RDWR) >= 0]))
attempt("namespace-user")(lambda: namespace(0x10000000))
attempt("namespace-net")(lambda: namespace(0x40000000))
attempt("link")(lambda: ran("ip", "link", "add", "agt-dummy", "type", "dummy"))
attempt("address")(lambda: ran("ip", "address", "add", "203.0.113.66/32", "dev", "lo"))
attempt("route")(lambda: ran("ip", "route", "add", "203.0.113.66/32", "via", "198.18.0.1"))
attempt("netfilter")(lambda: made(socket.AF_NETLINK, socket.SOCK_RAW, 12))
attempt("unix-abstract")(lambda: unix("\0" + SOCKETS))
attempt("unix-path")(lambda: unix(f"{SOCKETS}/canary.sock"))
attempt("unix-docker")(lambda: unix("/var/run/docker.sock"))
attempt("unix-ssh-agent")(lambda: unix(os.environ["SSH_AUTH_SOCK"]))
attempt("vsock")(lambda: vsock())
attempt("sctp")(lambda: kind(socket.AF_INET, socket.SOCK_STREAM, 132))
attempt("mptcp")(lambda: kind(socket.AF_INET, socket.SOCK_STREAM, 262))


def made(*args):
    with socket.socket(*args) as sock:
        return bytes([sock.fileno() > 0])


def vsock():
    with socket.socket(40, socket.SOCK_STREAM) as sock:
        sock.settimeout(1)
        sock.connect((2, 80))
        return b"connected"


def kind(*args):
    with socket.socket(*args) as sock:
        sock.settimeout(3)
        sock.connect(("203.0.113.66", 80))
        return sock.recv(100)


def namespace(flag):
    if ctypes.CDLL(None, use_errno=True).unshare(flag):
        raise OSError(ctypes.get_errno(), "unshare")
    return b"another namespace"


def ran(*command):
    subprocess.run(command, check=True, capture_output=True)
    return b"it was done"


def unix(path):
    with socket.socket(socket.AF_UNIX) as sock:
        sock.settimeout(2)
        sock.connect(path)
        return sock.recv(100)


def main():
    for name in sys.argv[1:] or TRIES:
        # In a process of its own: some change what comes after.
        sys.stdout.flush()
        if os.fork() == 0:
            try:
                got = TRIES[name]()
                print(name, "open" if got else "shut", got[:40] if got else "nothing came")
            except (OSError, KeyError, UnicodeError, subprocess.SubprocessError) as error:
                print(name, "shut", type(error).__name__, str(error)[:90])
            sys.stdout.flush()
            os._exit(0)
        os.wait()


main()
