"""Holds so many connections that agt-egress has no descriptor left, and asks for forbidden places
meanwhile. Prints how many answered, and whether the network is usable afterwards."""
import socket
import time

PROXY = ("198.18.0.1", 3128)


def held():
    sock = socket.socket()
    sock.setblocking(False)
    sock.connect_ex(("ok.test", 9000))
    return sock


def forbidden(name):
    try:
        with socket.create_connection(PROXY, 2) as sock:
            sock.settimeout(0.3)
            sock.sendall(f"CONNECT {name}:80 HTTP/1.1\r\n\r\n".encode())
            return b" 200" in sock.recv(100)
    except OSError:
        return False


def banner():
    try:
        with socket.create_connection(("ok.test", 9000), 3) as sock:
            sock.settimeout(3)
            return sock.recv(7) == b"banner\n"
    except OSError:
        return False


print("before", banner())
crowd = [held() for _ in range(120)]
time.sleep(1)
print("in the crowd", banner())
open_ones = 0
for number in range(20):
    crowd.pop().close()
    open_ones += forbidden(("own.test", "own2.test", "loop.test", "evil.test")[number % 4])
    crowd.append(held())
print("forbidden", open_ones)
del crowd
end = time.monotonic() + 15
while not banner() and time.monotonic() < end:
    time.sleep(0.1)
print("after", banner())
