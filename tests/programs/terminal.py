"""Starts a supervisor on a terminal of its own and looks at what the agent sees of it.

usage: terminal.py COMMAND…
"""
import fcntl
import os
import pty
import select
import struct
import sys
import termios
import time

master, slave = pty.openpty()
fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 30, 100, 0, 0))
before = termios.tcgetattr(slave)
outer = os.ttyname(slave)
pid = os.fork()
if pid == 0:
    os.setsid()
    fcntl.ioctl(slave, termios.TIOCSCTTY, 0)
    for stream in range(3):
        os.dup2(slave, stream)
    os.execvp(sys.argv[1], sys.argv[1:])


def until(text, seconds=20):
    """Reads until the text came."""
    seen, end = "", time.time() + seconds
    while text not in seen:
        left = end - time.time()
        if left <= 0 or not select.select([master], [], [], left)[0]:
            sys.exit(f"no {text!r} in {seen!r}")
        seen += os.read(master, 4096).decode(errors="replace")
    return seen


seen = until("ready")
assert "/dev/pts/0" in seen, seen
assert "30 100" in seen, seen
os.write(master, b"hello\n")
until("got hello")
fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 40, 120, 0, 0))
os.kill(pid, 28)
until("resized 40 120")
os.write(master, b"\x03")
until("interrupted")
_, status = os.waitpid(pid, 0)
assert os.waitstatus_to_exitcode(status) == 5, status
assert termios.tcgetattr(slave) == before, "the terminal was not put back"
print("fine", outer)
