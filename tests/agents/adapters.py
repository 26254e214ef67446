#!/usr/bin/env python3
"""adapters.py AGT INSTALL_DIR: the clients, and their adapters to frameworks, in rings 2 and 3 as root and as uid 1001.

Each program of adapters/ makes calls that its policy allows and calls that it denies, says how many, and the log has
to say the same. INSTALL_DIR is install.sh's; INSTALL_DIR/adapters is made here, with packages in pinned versions.
"""

import json
import os
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile

HERE = pathlib.Path(__file__).resolve().parent
CLIENTS = HERE.parent.parent / "clients"
USER = 1001
PROGRAMS = {
    "node client": "with_node.mjs", "asyncio client": "with_asyncio.py", "langchain adapter": "with_langchain.py",
    "openai-agents adapter": "with_openai_agents.py", "mcp adapter": "with_mcp.py",
}


def install(root):
    """A virtual environment of the frameworks that the agents under test do not use."""
    want, place = HERE / "adapters" / "requirements.txt", root / "adapters"
    stamp = place / ".stamp"
    if not stamp.exists() or stamp.read_bytes() != want.read_bytes():
        shutil.rmtree(place, ignore_errors=True)
        # The Python of install.sh: one that others may run.
        python = (root / "venv/bin/python3").resolve()
        subprocess.run([python, "-m", "venv", "--without-pip", place], check=True)
        subprocess.run([sys.executable, "-m", "pip", "--python", place / "bin/python3", "install", "--quiet", "--no-deps",
                        "--disable-pip-version-check", "--root-user-action=ignore", "--only-binary", ":all:",
                        "-r", want], check=True)
        stamp.write_bytes(want.read_bytes())
        subprocess.run(["chmod", "-R", "a+rX", place], check=True)
    return place


def command(root, program):
    if program.endswith(".mjs"):
        return ["node", f"../programs/{program}"]
    venv = "venv" if "langchain" in program else "adapters"
    return [f"{root}/{venv}/bin/python3", f"../programs/{program}"]


def one(agt, root, top, uid, ring, name, program):
    """One program in one ring; what is wrong, or nothing."""
    place = top / f"{program.split('.')[0]}-{ring}-{uid}"
    (place / "ws").mkdir(parents=True)
    shutil.copytree(HERE / "adapters", place / "programs")
    shutil.copytree(CLIENTS, place / "clients", ignore=shutil.ignore_patterns("node_modules", "__pycache__"))
    clients = str(place / "clients")
    env = {"PYTHONPATH": f"{clients}/python", "CLIENTS": clients, "PYTHONDONTWRITEBYTECODE": "1",
           "OPENAI_AGENTS_DISABLE_TRACING": "1", "LANGSMITH_TRACING": "false"}
    file = {"version": 1, "name": "tried", "ring": ring, "workspace": "./ws", "home": "none", "env": {"set": env},
            "files": {"read": ["./programs", "./clients"]}, "policy": ["./programs/policy.yaml"],
            "command": command(root, program), "limits": {"wall": "2m", "memory": "1G"}}
    (place / "agent.yaml").write_text(json.dumps(file))
    subprocess.run(["chown", "-R", f"{USER}:{USER}", str(place)], check=True)
    ran = agt_does(agt, place, uid, "run", "agent.yaml")
    fine = re.search(r"fine: (\d+) allowed, (\d+) denied", ran.stdout)
    wrong = "" if ran.returncode == 0 and fine else f"exit code {ran.returncode}"
    if fine:
        # Commands in rings of their own have logs of their own.
        log = re.findall(r"log (run-\S+)", ran.stderr)[-1]
        wrong = wrong or log_says(agt, place, uid, log, int(fine[1]), int(fine[2]))
    if wrong:
        print(ran.stdout[-3000:], ran.stderr[-3000:], sep="\n---\n")
    return wrong


def agt_does(agt, place, uid, *words):
    become = [] if uid == 0 else ["setpriv", "--reuid", str(uid), "--regid", str(uid), "--clear-groups", "--"]
    env = {"PATH": "/usr/local/bin:/usr/bin:/bin", "HOME": str(place), "AGT_STATE_DIR": str(place / "state")}
    return subprocess.run(become + [str(agt), *words], cwd=place, env=env, text=True, timeout=180,
                          stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE)


def log_says(agt, place, uid, log, allowed, denied):
    """Every decision is in the log, and every action that was allowed has its outcome there."""
    shown = agt_does(agt, place, uid, "audit", "show", log, "--json")
    records = [json.loads(line) for line in shown.stdout.splitlines()]
    kinds = [(record["kind"], record.get("verdict")) for record in records]
    found = kinds.count(("decision", "allow")), kinds.count(("decision", "deny"))
    outcomes = sum(kind == "outcome" for kind, _ in kinds)
    if found != (allowed, denied) or outcomes != allowed:
        return f"the log has {found[0]} allowed, {found[1]} denied, {outcomes} outcomes"
    return ""


def own_tests():
    """The clients' own tests, which need no ring."""
    quiet = dict(os.environ, PYTHONDONTWRITEBYTECODE="1")
    failed = False
    for name, folder, words in (
        ("python client tests", "python", [sys.executable, "-m", "unittest", "discover", "-s", "tests", "-t", "."]),
        ("node client tests", "typescript", ["node", "--test", "test/client.test.js"]),
    ):
        ran = subprocess.run(words, cwd=CLIENTS / folder, env=quiet, text=True, timeout=120,
                             stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        print(f"{name} {'FAILED' if ran.returncode else 'ok'}", flush=True)
        if ran.returncode:
            print(ran.stdout[-3000:])
        failed |= ran.returncode != 0
    return failed


def main():
    agt, root = (pathlib.Path(word).resolve() for word in sys.argv[1:3])
    install(root)
    # Not below /tmp: every ring has its own.
    top = pathlib.Path(tempfile.mkdtemp(prefix="adapters.", dir="/var/tmp"))
    top.chmod(0o755)
    binary = top / "agt-supervisor"
    shutil.copy(agt, binary)
    binary.chmod(0o755)
    failed = own_tests()
    try:
        for name, program in PROGRAMS.items():
            wrong = {f"ring {number} as {'root' if uid == 0 else 'user'}": one(binary, root, top, uid, ring, name, program)
                     for number, ring in ((2, "standard"), (3, "sandbox")) for uid in (0, USER)}
            wrong = [f"{where}: {what}" for where, what in wrong.items() if what]
            print(f"{name} {'FAILED: ' + '; '.join(wrong) if wrong else 'ok'}", flush=True)
            failed |= bool(wrong)
    finally:
        if "KEEP" not in os.environ:
            shutil.rmtree(top, ignore_errors=True)
    return failed


if __name__ == "__main__":
    sys.exit(main())
