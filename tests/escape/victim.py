#!/usr/bin/env python3
"""The process outside the ring that the attempts aim at. Standard library only.

usage: victim.py FOLDER

Prints one KEY=VALUE line per target and then "ready"; lives until standard input ends; removes what it made.
FOLDER must not be visible inside the ring, except FOLDER/ro and FOLDER/ws, when the test grants them.
"""
import ctypes
import os
import pathlib
import signal
import socket
import sys

IPC_CREAT, IPC_EXCL, IPC_RMID = 0o1000, 0o2000, 0
LIBC = ctypes.CDLL(None, use_errno=True)


def listen(family, kind, address):
    """A socket that is bound to the address, and listens when it is a stream."""
    made = socket.socket(family, kind)
    made.bind(address)
    if kind == socket.SOCK_STREAM:
        made.listen(128)
    return made


def shared_memory():
    """The key and id of a new SysV segment."""
    for key in range(0x41475400, 0x41475500):
        segment = LIBC.shmget(key, 4096, IPC_CREAT | IPC_EXCL | 0o600)
        if segment >= 0:
            return key, segment
    raise OSError(ctypes.get_errno(), "no free SysV key")


def addresses():
    """This host's own addresses, loopback aside."""
    found = set()
    for family, target in ((socket.AF_INET, "192.0.2.1"), (socket.AF_INET6, "2001:db8::1")):
        try:
            with socket.socket(family, socket.SOCK_DGRAM) as probe:
                probe.connect((target, 9))  # sends nothing: chooses a source address
                found.add(probe.getsockname()[0])
        except OSError:
            pass
    try:
        found.update(info[4][0] for info in socket.getaddrinfo(socket.gethostname(), None))
    except OSError:
        pass
    return sorted(ip for ip in found if not ip.startswith("127.") and ip != "::1" and "%" not in ip)


def put(path, text, made):
    """Writes a file of ours."""
    path.write_text(text)
    os.chmod(path, 0o644)
    made.append(path)
    return path


def main():
    folder = pathlib.Path(sys.argv[1]).absolute()
    for name in (".ssh", "ro", "ws"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    made, tag = [], f"agt-probe-{os.getpid()}"
    tcp = listen(socket.AF_INET, socket.SOCK_STREAM, ("127.0.0.1", 0))
    everywhere = listen(socket.AF_INET, socket.SOCK_STREAM, ("0.0.0.0", 0))
    udp = listen(socket.AF_INET, socket.SOCK_DGRAM, ("127.0.0.1", 0))
    paths = {
        "PROBE_SOCK": (folder / "stream.sock", socket.SOCK_STREAM),
        "PROBE_DGRAM": (folder / "dgram.sock", socket.SOCK_DGRAM),
        "PROBE_WS_SOCK": (folder / "ws" / "stream.sock", socket.SOCK_STREAM),
        "PROBE_WS_DGRAM": (folder / "ws" / "dgram.sock", socket.SOCK_DGRAM),
    }
    sockets = [tcp, everywhere, udp, listen(socket.AF_UNIX, socket.SOCK_STREAM, "\0" + tag)]
    for path, kind in paths.values():
        path.unlink(missing_ok=True)
        sockets.append(listen(socket.AF_UNIX, kind, str(path)))
        made.append(path)
    key, segment = shared_memory()
    group_file = put(folder / "group-only", "for the group\n", made)
    os.chmod(group_file, 0o040)
    try:
        machine = pathlib.Path("/etc/machine-id").read_text().strip() or "none"
    except OSError:
        machine = "none"
    targets = {
        "PROBE_VICTIM_PID": os.getpid(),
        "PROBE_VICTIM_PORT": tcp.getsockname()[1],
        "PROBE_VICTIM_UDP": udp.getsockname()[1],
        "PROBE_HOST_PORT": everywhere.getsockname()[1],
        "PROBE_HOST_IP": ",".join(addresses()) or "192.0.2.1",
        "PROBE_ABSTRACT": tag,
        **{name: path for name, (path, _) in paths.items()},
        "PROBE_SHM_KEY": key,
        "PROBE_SECRET": put(folder / ".ssh" / "id_rsa", "a secret\n", made),
        "PROBE_RO": put(folder / "ro" / "file", "read me\n", made),
        "PROBE_GROUP_FILE": group_file,
        "PROBE_TMP_MARKER": put(pathlib.Path("/tmp") / tag, "tmp\n", made),
        "PROBE_SHM_MARKER": put(pathlib.Path("/dev/shm") / tag, "shm\n", made),
        "PROBE_HOSTNAME": socket.gethostname(),
        "PROBE_MACHINE_ID": machine,
    }
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    try:
        for name, value in targets.items():
            print(f"{name}={value}")
        print("ready", flush=True)
        sys.stdin.read()
    finally:
        LIBC.shmctl(segment, IPC_RMID, None)
        for one in sockets:
            one.close()
        for path in made:
            path.unlink(missing_ok=True)


if __name__ == "__main__":
    main()
