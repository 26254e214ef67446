#!/usr/bin/env python3
"""packages.py AGT: pip, npm and git in ring 2, as root and as uid 1001, from the registries that this machine
uses. Only the hosts of the one registry are allowed each time; the other one is refused."""

import json
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile
from urllib.parse import urlsplit

USER = 1001


def host_of(url):
    parts = urlsplit(url)
    return parts.hostname, parts.port or (443 if parts.scheme == "https" else 80)


def registries():
    """What pip and npm themselves say: the index, where it keeps files, and the registry."""
    from pip._internal.models.index import PyPI  # its own constants, whatever this machine's pip.conf says
    pip = [host_of(PyPI.simple_url), (PyPI.file_storage_domain, 443)]
    said = subprocess.run(["npm", "config", "get", "registry"], capture_output=True, text=True, check=True).stdout
    return pip, [host_of(said.strip())]


PIP = """
python3 -m venv --without-pip v && python3 -m pip --python v/bin/python3 install -q --no-cache-dir six 2>pip.err \
  || { cat pip.err; exit 1; }
v/bin/python3 -c 'import six; print("six", six.__version__)'
if curl -sS -m 5 -o /dev/null https://OTHER/; then echo REACHED; else echo refused; fi
"""
NPM = """
npm install --silent --no-audit --no-fund is-number >npm.out 2>&1 || { cat npm.out; exit 1; }
node -e 'console.log("is-number", require("is-number")(5))'
if curl -sS -m 5 -o /dev/null https://OTHER/; then echo REACHED; else echo refused; fi
"""


def one(agt, top, uid, name, script, hosts, other, want):
    place = top / f"{name}-{uid}"
    (place / "ws").mkdir(parents=True)
    file = {"version": 1, "name": f"{name}-{uid}", "ring": "standard", "workspace": "./ws", "home": "temporary",
            "command": ["sh", "-c", script.replace("OTHER", other[0])],
            "network": {"allow": [f"{host}:{port}" for host, port in hosts]}}
    (place / "agent.yaml").write_text(json.dumps(file))
    subprocess.run(["chown", "-R", f"{USER}:{USER}", str(place)], check=True)
    become = [] if uid == 0 else ["setpriv", "--reuid", str(uid), "--regid", str(uid), "--clear-groups", "--"]
    # The system's own python3: another user cannot run one that is kept in a private home.
    env = dict(os.environ, HOME=str(place), AGT_STATE_DIR=str(place / "state"), PATH="/usr/local/bin:/usr/bin:/bin")
    ran = subprocess.run(become + [str(agt), "run", "agent.yaml"], cwd=place, env=env, text=True, timeout=300,
                         stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    ok = ran.returncode == 0 and want in ran.stdout and "refused" in ran.stdout and "REACHED" not in ran.stdout
    print(f"{name} as {'root' if uid == 0 else 'user'}: {'ok' if ok else 'FAILED'}", flush=True)
    if not ok:
        print(ran.stdout[-3000:], ran.stderr[-3000:], sep="\n---\n")
    return not ok


def main():
    top = pathlib.Path(tempfile.mkdtemp(prefix="packages.", dir="/var/tmp"))
    top.chmod(0o755)
    agt = top / "agt-supervisor"
    shutil.copy(pathlib.Path(sys.argv[1]).resolve(), agt)
    agt.chmod(0o755)
    pip, npm = registries()
    failed = False
    try:
        for uid in (0, USER):
            failed |= one(agt, top, uid, "pip", PIP, pip, npm[0], "six")
            failed |= one(agt, top, uid, "npm", NPM, npm, pip[0], "is-number true")
    finally:
        shutil.rmtree(top, ignore_errors=True)
    return failed


if __name__ == "__main__":
    sys.exit(main())
