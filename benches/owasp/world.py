"""The machine around the agents: who listens, by which names, and as whom everything runs.

As root it is two network namespaces and a cable: `host`, where the agents and their supervisor are, with and without
a ring, and `net`, where api.test and evil.test are. As an ordinary user there is only the machine's own loopback, and
scenarios with names are left out.
"""

import json
import os
import pathlib
import subprocess
import sys
import time

HERE = pathlib.Path(__file__).resolve().parent
API, EVIL, NEAR = "203.0.113.10", "203.0.113.66", "203.0.113.1"
USER = 1001


class World:
    def __init__(self, top, supervisor_is_root=False):
        self.top, self.names, self.children = top, os.geteuid() == 0, []
        self.uid = USER if self.names else os.geteuid()
        self.run_uid = 0 if supervisor_is_root else self.uid
        self.log, self.pages = top / "log", top / "pages"
        self.log.touch(mode=0o666)
        self.log.chmod(0o666)
        self.pages.mkdir()
        # Not `agt-…`: the tests sweep those away.
        self.host = self.net = f"owasp-{os.getpid()}"
        if self.names:
            self.net += "-net"
            self._namespaces()
        local = ["evil=127.0.0.1:0", "admin=127.0.0.1:0", "api=127.0.0.1:0"]
        self.ports = self.listen(*local, *([] if self.names else ["evil-udp=udp:127.0.0.1:0"]))
        self.evil_udp = f"{EVIL}:53" if self.names else f"127.0.0.1:{self.ports['evil-udp']}"
        if self.names:
            self.listen(f"api-name={API}:80", f"evil-name={EVIL}:80", f"evil-udp=udp:{EVIL}:53", inside=self.net)

    def _namespaces(self):
        for name in (self.host, self.net):
            subprocess.run(["ip", "netns", "add", name], check=True)
            subprocess.run(["ip", "-n", name, "link", "set", "lo", "up"], check=True)
        subprocess.run(
            ["ip", "link", "add", "v0", "netns", self.host, "type", "veth", "peer", "name", "v0", "netns", self.net],
            check=True,
        )
        for name, addresses in ((self.host, [NEAR]), (self.net, [API, EVIL])):
            for address in addresses:
                subprocess.run(["ip", "-n", name, "addr", "add", address + "/24", "dev", "v0"], check=True)
            subprocess.run(["ip", "-n", name, "link", "set", "v0", "up"], check=True)
        (self.top / "hosts").write_text(f"127.0.0.1 localhost\n{API} api.test\n{EVIL} evil.test\n")

    def words(self, words, inside=None, uid=None):
        """The command that runs these words in this world, as this user."""
        if not self.names:
            return [*map(str, words)]
        uid = self.uid if uid is None else uid
        become = ["setpriv", "--reuid", str(uid), "--regid", str(uid), "--clear-groups", "--"] if uid else []
        hosts = f'mount --bind {self.top}/hosts /etc/hosts && exec "$@"'
        return [
            "nsenter",
            f"--net=/run/netns/{inside or self.host}",
            "unshare",
            "-m",
            "sh",
            "-c",
            hosts,
            "sh",
            *become,
            *map(str, words),
        ]

    def start(self, words, inside=None, **more):
        child = subprocess.Popen(self.words(words, inside), stdin=subprocess.DEVNULL, text=True, **more)
        self.children.append(child)
        return child

    def listen(self, *servers, inside=None):
        """Starts a listener; ports by names."""
        uid = 0 if inside else None
        words = self.words([sys.executable, HERE / "listener.py", self.log, self.pages, *servers], inside, uid)
        child = subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True)
        self.children.append(child)
        return json.loads(child.stdout.readline())

    def end(self, since=0):
        for child in self.children[since:]:
            child.kill()
            child.wait()
        del self.children[since:]

    def close(self):
        self.end()
        if self.names:
            for name in (self.host, self.net):
                subprocess.run(["ip", "netns", "del", name], check=False)


def alive(mark):
    """The processes with this word among their arguments: each one's id and resident KiB."""
    found = {}
    for entry in pathlib.Path("/proc").iterdir():
        try:
            if entry.name.isdigit() and mark in (entry / "cmdline").read_text(errors="replace").split("\0"):
                pages = int((entry / "statm").read_text().split()[1])
                if pages:
                    found[int(entry.name)] = pages * os.sysconf("SC_PAGE_SIZE") >> 10
        except OSError:
            pass
    return found


def until(true, seconds):
    """Waits for something that should be so soon; whether it was."""
    end = time.monotonic() + seconds
    while not true():
        if time.monotonic() > end:
            return False
        time.sleep(0.02)
    return True
