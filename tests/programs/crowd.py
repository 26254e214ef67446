"""crowd.py: more connections than anybody needs, and descriptors that nobody asked for, while the first connection is
served. Says `held` and waits for a line; then all of them go, and another one is let in."""

import os
import resource
import socket
import sys

sys.path.insert(0, os.environ["CLIENT"])
import agt  # noqa: E402

hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
first = agt.Agent.connect()
crowd = []
for _ in range(300):
    sock = socket.socket(socket.AF_UNIX)
    sock.setblocking(False)
    try:
        sock.connect(os.environ["AGT_SOCKET"])
    except OSError:
        sock.close()
        break
    crowd.append(sock)
gift = [crowd[0].fileno()] * 200
for sock in crowd[:30]:
    try:
        for _ in range(20):
            socket.send_fds(sock, [b"\0"], gift)
    except OSError:
        pass
first.act("tool.call", tool="t", args={}).done()
print("held", len(crowd) > 60, flush=True)
sys.stdin.readline()
first.act("tool.call", tool="t", args={}).done()
for sock in crowd:
    sock.close()
print("again", agt.Agent.connect().name, flush=True)
sys.stdin.readline()
