"""apart.py VERB…: what one agent tries against another, and the other one. Each verb says how far it came."""

import json
import os
import re
import socket
import stat
import struct
import sys
import threading
import time

sys.path.insert(0, os.environ["CLIENT"])
import agt  # noqa: E402

HEAD = struct.Struct("<IHHQ")
# In pieces, so that we do not find ourselves.
SECRET = re.compile(b"VIC" + rb"TIM-[0-9]+-[0-9a-f]+")


def walk(top="/"):
    for folder, _, names in os.walk(top):
        if not folder.startswith(("/proc", "/sys")):
            yield from (os.path.join(folder, name) for name in names)


def said(sock, call, body):
    data = json.dumps(body).encode()
    sock.settimeout(5)
    sock.sendall(HEAD.pack(len(data), call, 0, 1) + data)
    length = HEAD.unpack(sock.recv(16, socket.MSG_WAITALL))[0]
    return json.loads(sock.recv(length, socket.MSG_WAITALL))


def works():
    """Asks fifty times a second, with something that nobody else is to see, until there is a file `stop`."""
    secret = open("secret").read()
    agent, slowest, asked = agt.Agent.connect(), 0.0, 0
    while not os.path.exists("stop"):
        since = time.monotonic()
        try:
            agent.act("tool.call", tool="mail.send", args={"text": secret}).done()
        except agt.Denied as no:
            assert no.retry_after_ms, no
        slowest, asked = max(slowest, time.monotonic() - since), asked + 1
        if asked == 1:
            open("up", "w").close()
        time.sleep(0.02)
    print(f"{asked} {slowest:.3f}", flush=True)


def speaks():
    """Speaks at every door there is, under another name, and looks for doors that are not its own."""
    doors = {path for path in walk() if stat.S_ISSOCK(os.lstat(path).st_mode)}
    doors |= {f"/proc/{pid}/root/run/agt/agent.sock" for pid in os.listdir("/proc") if pid.isdigit()}
    doors |= {"\0" + line.split("@")[1].strip() for line in open("/proc/net/unix") if "@" in line}
    names = set()
    for door in doors:
        try:
            sock = socket.socket(socket.AF_UNIX)
            sock.connect(door)
            names.add(said(sock, 64, {"agent": "works", "ring": "privileged", "pid": 1})["agent"])
            act = {"action": "tool.call", "tool": "stolen", "agent": "works", "run": "x", "session": "works"}
            names.add(said(sock, 67, act)["verdict"])
        except (OSError, struct.error):
            pass
    print(sorted(names))


def floods():
    """Keeps the door, the processors and the log as busy as it can."""
    frame = HEAD.pack(2, 64, 0, 1) + b"{}"
    body = json.dumps({"action": "tool.call", "tool": "flood", "args": {"x": "y" * 1000}}).encode()
    frames = (frame * 10 + HEAD.pack(len(body), 67, 0, 2) + body) * 20

    def flood():
        sock = socket.socket(socket.AF_UNIX)
        sock.connect(os.environ["AGT_SOCKET"])
        threading.Thread(target=lambda: [0 for _ in iter(lambda: sock.recv(1 << 16), b"")], daemon=True).start()
        while True:
            sock.sendall(frames)

    for _ in range(4):
        if os.fork() == 0:
            for _ in range(4):
                threading.Thread(target=flood, daemon=True).start()
            time.sleep(60)
    works()
    os.kill(0, 9)


def stays():
    """Daemons that ignore everything, ask, and write a line for each answer that lets them."""
    import signal

    for _ in range(5):
        if os.fork() == 0:
            os.setsid()
            if os.fork() == 0:
                for number in set(signal.Signals) - {signal.SIGKILL, signal.SIGSTOP}:
                    signal.signal(number, signal.SIG_IGN)
                agent = agt.Agent.connect()
                out = open("effects", "a", buffering=1)
                while True:
                    try:
                        out.write(f"{agent.act('tool.call', tool='t', args={}).decision['seq']}\n")
                    except agt.Denied:
                        time.sleep(0.01)
                    except agt.AgtError:
                        out.write("after\n")
                        time.sleep(0.01)
            os._exit(0)
    time.sleep(60)


def tampers():
    """Reads and writes the log: by its name, by descriptors, by links, by other processes."""
    state, told = sys.argv[2], []

    def attempt(what, call):
        try:
            if call() is not False:
                told.append(what)
        except (OSError, FileNotFoundError):
            pass

    names = [state] + [f"{state}/{name}" for name in sys.argv[3:]]
    pids = [pid for pid in os.listdir("/proc") if pid.isdigit()] + ["self", "thread-self"]
    names += [f"/proc/{pid}/{way}{name}" for pid in pids for way in ("root", "cwd/..") for name in names]
    for name in names:
        attempt(f"list {name}", lambda: os.listdir(name))
        attempt(f"read {name}", lambda: open(name).read())
        if name.endswith(state):
            # Nothing is there, and what it makes of that name in its own /tmp is its own.
            continue
        attempt(f"write {name}", lambda: open(name, "r+"))
        attempt(f"append {name}", lambda: open(name, "a"))
        attempt(f"truncate {name}", lambda: os.truncate(name, 0))
        attempt(f"remove {name}", lambda: os.unlink(name))
        attempt(f"move {name}", lambda: os.rename(name, name + "x"))
        attempt(f"mode {name}", lambda: os.chmod(name, 0o777))
        attempt(f"hard link {name}", lambda: os.link(name, "hard"))
        attempt(f"link {name}", lambda: os.symlink(name, "soft") or open("soft").read())
        if os.path.lexists("soft"):
            os.unlink("soft")
    for number in range(3, 1024):
        attempt(f"descriptor {number}", lambda: state in os.readlink(f"/proc/self/fd/{number}"))
    attempt("mount", lambda: any(state in line for line in open("/proc/self/mountinfo")))
    print(told)


def looks():
    """Whatever can be read: processes, files, what the door says. Says which secrets of others it found."""
    found = set()

    def read(path, most=1 << 20):
        try:
            with open(path, "rb") as file:
                found.update(SECRET.findall(file.read(most)))
        except OSError:
            pass

    for pid in filter(str.isdigit, os.listdir("/proc")):
        for name in ("cmdline", "environ", "maps", "status", "comm", "mountinfo"):
            read(f"/proc/{pid}/{name}")
    for top in ("/tmp", "/run", "/dev/shm", "/var", "/home", "/root", *sys.argv[2:]):
        for path in walk(top):
            if stat.S_ISREG(os.lstat(path).st_mode):
                read(path)
    sock = socket.socket(socket.AF_UNIX)
    sock.connect(os.environ["AGT_SOCKET"])
    for call in [*range(20), *range(64, 70)]:
        try:
            found.update(SECRET.findall(json.dumps(said(sock, call, {})).encode()))
        except (OSError, struct.error):
            pass
    print(sorted(found))


{"works": works, "speaks": speaks, "floods": floods, "stays": stays, "tampers": tampers, "looks": looks}[sys.argv[1]]()
