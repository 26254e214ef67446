#!/usr/bin/env python3
"""run-ringed.py AGT INSTALL_DIR [AGENT ...]: each agent in ring 2, as root and as uid 1001.

Needs root. The model server stands in a network namespace of its own, behind a cable, and is reached by
its name over TLS: `model.test:443`, nothing else is allowed. Each agent first does work.json (edit, run,
commit), and then attack.json, of which nothing but its own work may succeed and nothing may stay alive. Claude
Code and Codex then do tools.json, held to tools.yaml by their hooks: what it denies has no effect, the model is
told why, and all of it is in the log, though their own settings turn hooks off; once more on a host that has hooks of its own for them, which run too.
Prints a line for each and fails when one is not as it must be.
"""

import json
import os
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile
import time

HERE = pathlib.Path(__file__).resolve().parent
USER = 1001
MODEL, OTHER = "203.0.113.10", "203.0.113.11"


def sh(*words, **more):
    return subprocess.run(words, check=True, **more)


class World:
    """Two namespaces and a cable: `host`, where the supervisor runs, and `net`, where servers are."""

    def __init__(self, top):
        tag = f"agt{os.getpid()}"
        self.host, self.net, self.top, self.servers = tag + "h", tag + "n", top, []
        for name in (self.host, self.net):
            sh("ip", "netns", "add", name)
            sh("ip", "-n", name, "link", "set", "lo", "up")
        sh("ip", "link", "add", "v0", "netns", self.host, "type", "veth", "peer", "name", "v0", "netns", self.net)
        for name, addresses in ((self.host, ["203.0.113.1"]), (self.net, [MODEL, OTHER])):
            for address in addresses:
                sh("ip", "-n", name, "addr", "add", address + "/24", "dev", "v0")
            sh("ip", "-n", name, "link", "set", "v0", "up")
        (top / "hosts").write_text(f"127.0.0.1 localhost\n{MODEL} model.test\n{OTHER} other.test\n")

    def serve(self, *words):
        child = subprocess.Popen(["ip", "netns", "exec", self.net, *words], stdout=subprocess.PIPE, text=True)
        self.servers.append(child)
        return child.stdout.readline().strip()

    def run(self, uid, words, etc=None, **more):
        """Runs as this user in `host`, with this world's list of hosts and the machine's cgroups, and with what
        `etc` holds besides the machine's own /etc."""
        inner = f"mount --bind {self.top}/hosts /etc/hosts && exec \"$@\""
        if etc:
            inner = f"mount -t overlay overlay -o lowerdir={etc}:/etc /etc && {inner}"
        become = [] if uid == 0 else ["setpriv", "--reuid", str(uid), "--regid", str(uid), "--clear-groups", "--"]
        outer = ["nsenter", f"--net=/run/netns/{self.host}", "unshare", "-m", "sh", "-c", inner, "sh"]
        return subprocess.run(outer + become + words, stdin=subprocess.DEVNULL, text=True, timeout=180,
                              stdout=subprocess.PIPE, stderr=subprocess.PIPE, **more)

    def close(self):
        for child in self.servers:
            child.kill()
            child.wait()
        for name in (self.host, self.net):
            subprocess.run(["ip", "netns", "del", name], check=False)


def certificate(top):
    """A CA and a certificate of its own: Codex refuses a CA that is used as the server's."""
    new = ["openssl", "req", "-newkey", "rsa:2048", "-nodes", "-days", "2"]
    quiet = {"stderr": subprocess.DEVNULL, "cwd": top}
    sh(*new, "-x509", "-subj", "/CN=test-ca", "-keyout", "ca-key.pem", "-out", "ca.pem", **quiet)
    sh(*new, "-x509", "-CA", "ca.pem", "-CAkey", "ca-key.pem", "-subj", "/CN=model.test",
       "-addext", "subjectAltName=DNS:model.test", "-addext", "basicConstraints=critical,CA:FALSE",
       "-keyout", "key.pem", "-out", "cert.pem", **quiet)


def agent_file(agent, install, programs, ca):
    """The agent.yaml of each, as README.md explains their words."""
    url = "https://model.test"
    allow = {"allow": ["model.test:443"]}
    read = [str(ca), str(programs)]
    if agent == "claude":
        return {"preset": "claude-code", "network": allow, "files": {"read": read},
                "command": [f"{install}/bin/claude", "-p", "Do the work.", "--dangerously-skip-permissions"],
                "env": {"set": {"ANTHROPIC_BASE_URL": url, "ANTHROPIC_API_KEY": "none", "SSL_CERT_FILE": str(ca)}}}
    if agent == "codex":
        provider = f'{{name="scripted", base_url="{url}/v1", wire_api="responses", env_key="MODEL_KEY"}}'
        options = ["-m", "gpt-5.5", "-c", "model_provider=scripted", "-c", f"model_providers.scripted={provider}",
                   "-c", "analytics.enabled=false", "-c", "check_for_update_on_startup=false", "--disable", "plugins"]
        return {"preset": "codex", "network": allow, "files": {"read": read},
                "command": [f"{install}/bin/codex", "exec", "--dangerously-bypass-approvals-and-sandbox",
                            "--skip-git-repo-check", *options, "Do the work."],
                "env": {"set": {"MODEL_KEY": "none", "SSL_CERT_FILE": str(ca)}}}
    program = {"smolagents": "smol.py", "langchain": "chain.py"}[agent]
    return {"preset": "python-agent", "network": allow, "files": {"read": read},
            "command": [f"{install}/venv/bin/python3", f"{programs}/{program}"],
            "env": {"set": {"MODEL_URL": url, "SSL_CERT_FILE": str(ca)}}}


def hosts_own(etc):
    """A host with managed settings of its own: a hook of both agents that leaves a mark in the workspace."""
    mark = "echo $PWD >>hosts.txt"
    (etc / "claude-code").mkdir(parents=True, exist_ok=True)
    (etc / "codex").mkdir(exist_ok=True)
    settings = {"hooks": {"PreToolUse": [{"matcher": "Bash", "hooks": [{"type": "command", "command": mark}]}]}}
    (etc / "claude-code" / "managed-settings.json").write_text(json.dumps(settings))
    (etc / "codex" / "requirements.toml").write_text(
        f'[features]\nhooks = true\n[hooks]\nmanaged_dir = "/usr"\n[[hooks.PreToolUse]]\nmatcher = "Bash"\n'
        f'[[hooks.PreToolUse.hooks]]\ntype = "command"\ncommand = "{mark}"\n')
    return etc


def turn_off(agent, place, command):
    """Settings by which an agent would do without hooks."""
    if agent == "claude":
        (place / ".claude").mkdir()
        (place / ".claude" / "settings.json").write_text('{"disableAllHooks": true}')
    else:
        command[-1:-1] = ["--disable", "hooks"]


def workspace(place):
    place.mkdir(parents=True)
    git = ["git", "-C", str(place)]
    sh(*git, "-c", "init.defaultBranch=main", "init", "-q")
    sh(*git, "config", "user.name", "Agent")
    sh(*git, "config", "user.email", "agent@localhost")


def own(place):
    sh("chown", "-R", f"{USER}:{USER}", str(place))


def log_of(place):
    try:
        return subprocess.run(["git", "-c", "safe.directory=*", "-C", str(place), "log", "--oneline"],
                              capture_output=True, text=True, check=True).stdout
    except subprocess.CalledProcessError:
        return ""


def did_work(ran, place):
    ok = ran.returncode == 0 and "done" in ran.stdout
    made = place / "made.py"
    ok = ok and made.exists() and made.read_text() == "print(6 * 7)\n"
    return ok and "2nd line" in (place / "notes.txt").read_text() and "Agent: notes" in log_of(place)


# Agents whose own tool calls are asked about by hooks.
HOOKED = ("claude", "codex")
SCRIPT = {"hosts": "tools"}
REFUSED = {"other-home", "host-key", "outside", "forbidden-direct", "forbidden-proxy"}


def held(ran, place, log, outside, daemon):
    """The seven attempts: five refused, the daemon dead, its own work done."""
    said = dict(re.findall(r"ATTEMPT ([a-z-]+) rc=(\d+)", log))
    alive = subprocess.run(["pgrep", "-fx", f"sleep {daemon}"], capture_output=True, check=False).returncode == 0
    wrong = [name for name in REFUSED if said.get(name, "0") == "0"]
    wrong += ["daemon alive"] if alive else []
    wrong += ["daemon never started"] if said.get("daemon") != "0" else []
    wrong += ["own work"] if said.get("own-work") != "0" or "still here" not in log_of(place) else []
    wrong += ["exit code"] if ran.returncode != 0 else []
    wrong += ["outside written"] if (outside / "x").exists() else []
    wrong += ["secret seen"] if "-secret" in log else []
    return wrong


def governed(ran, place, log, shown):
    """The three calls of tools.json: two denied without an effect, one done, each recorded."""
    wrong = [f"{name} was written" for name in ("dropped.txt", "secret.txt") if (place / name).exists()]
    wrong += [] if (place / "kept.txt").exists() else ["what is allowed was not done"]
    wrong += [f"the model was not told: {reason}" for reason in ("Dropping needs a person.", "Secrets are written by hand.")
              if reason not in log]
    calls = re.findall(r"tool\.call tool=(\w+) .*?· (\w+)(?: · ([\w-]+))?", shown)
    verdicts = [(tool, verdict, rule) for tool, verdict, rule in calls]
    wanted = [("Bash", "deny", "no-drop"), ("Bash", "allow", "")]
    wrong += [] if [call for call in verdicts if call[0] == "Bash"] == wanted else [f"recorded: {verdicts}"]
    denied = [call for call in verdicts if call[2].startswith("no-secret")]
    wrong += [] if denied in ([("Write", "deny", "no-secret")], [("apply_patch", "deny", "no-secret-patch")]) \
        else [f"recorded: {verdicts}"]
    wrong += [] if shown.count("done of=") == 1 and "ok=true" in shown else ["the outcome is not recorded, once"]
    return wrong + ([] if ran.returncode == 0 else ["exit code"])


def main():
    agt, install = (pathlib.Path(word).resolve() for word in sys.argv[1:3])
    agents = sys.argv[3:] or ["claude", "codex", "smolagents", "langchain"]
    # Not below /tmp: every ring has its own.
    top = pathlib.Path(tempfile.mkdtemp(prefix="ringed.", dir="/var/tmp"))
    top.chmod(0o755)
    world, failed = World(top), False
    try:
        certificate(top)
        shutil.copytree(HERE / "programs", top / "programs")
        binary = top / "agt-supervisor"
        shutil.copy(agt, binary)
        sh("chmod", "-R", "a+rX", str(top))
        outside = top / "outside"
        outside.mkdir()
        outside.chmod(0o777)
        (top / "host.key").write_text("host-secret\n")
        for uid in (0, USER):
            # Beside the homes of the agents that try to read it.
            other = top / f"state-{uid}" / "homes" / "other" / "home"
            other.mkdir(parents=True)
            (other / "secret").write_text("other-secret\n")
        own(top / f"state-{USER}")
        daemon = f"98{os.getpid() % 90000 + 10000}"
        tls = ["--bind", MODEL, "--cert", str(top / "cert.pem"), "--key", str(top / "key.pem"), "--port", "443"]
        model = [sys.executable, "-u", str(HERE / "model.py"), *tls]
        places = {"HOST_KEY": top / "host.key", "OUTSIDE": outside, "FORBIDDEN": "other.test", "DAEMON": daemon}
        world.serve(sys.executable, "-u", "-c",
                    "import http.server as h; s = h.HTTPServer(('%s', 80), h.SimpleHTTPRequestHandler); "
                    "print('up', flush=True); s.serve_forever()" % OTHER)
        for job, uid in ((job, uid) for job in ("work", "attack", "tools", "hosts") for uid in (0, USER)):
            log = top / f"{job}-{uid}.jsonl"
            places["OTHER_HOME"] = top / f"state-{uid}" / "homes" / "other" / "home"
            sets = [word for name, value in places.items() for word in ("--set", f"{name}={value}")]
            world.serve(*model, "--script", str(HERE / f"{SCRIPT.get(job, job)}.json"), "--log", str(log), *sets)
            for agent in agents if job not in ("tools", "hosts") else [agent for agent in agents if agent in HOOKED]:
                failed |= one(world, binary, install, top, agent, job, uid, log, outside, daemon)
            world.servers[-1].kill()
            world.servers[-1].wait()
    finally:
        world.close()
        if "KEEP" not in os.environ:
            shutil.rmtree(top, ignore_errors=True)
    return failed


def one(world, binary, install, top, agent, job, uid, log, outside, daemon):
    place = top / f"{agent}-{job}-{uid}"
    workspace(place / "ws")
    whole = {"version": 1, "name": f"{agent}-{uid}", "workspace": "./ws",
             **agent_file(agent, install, top / "programs", top / "ca.pem")}
    if job in ("tools", "hosts"):
        shutil.copy(HERE / "tools.yaml", place / "tools.yaml")
        whole["policy"] = ["tools.yaml"]
    if job == "tools":
        turn_off(agent, place / "ws", whole["command"])
    # JSON is YAML.
    (place / "agent.yaml").write_text(json.dumps(whole, indent=1))
    own(place)
    state = top / f"state-{uid}"
    log.write_text("")
    env = {"PATH": "/usr/local/bin:/usr/bin:/bin", "HOME": str(place), "AGT_STATE_DIR": str(state)}
    since = time.monotonic()
    command = [str(binary), "run", "--share-home", "--report", str(place / "report.json"), str(place / "agent.yaml")]
    etc = hosts_own(top / "etc") if job == "hosts" else None
    ran = world.run(uid, command, etc, env=env, cwd=place)
    took = time.monotonic() - since
    if job == "work":
        wrong = [] if did_work(ran, place / "ws") else ["work not done"]
    elif job in ("tools", "hosts"):
        log_name = re.findall(r"log (run-\S+)", ran.stderr)[-1:]
        shown = world.run(uid, [str(binary), "audit", "show", *log_name], env=env, cwd=place).stdout
        wrong = governed(ran, place / "ws", log.read_text(), shown)
        if job == "hosts" and not (place / "ws" / "hosts.txt").exists():
            wrong.append("the host's own hook did not run")
    else:
        wrong = held(ran, place / "ws", log.read_text(), outside, daemon)
    who = "root" if uid == 0 else "user"
    print(f"{agent} {job} as {who}: {'ok' if not wrong else 'FAILED: ' + ', '.join(wrong)} ({took:.1f} s)", flush=True)
    if wrong:
        print(ran.stdout[-3000:], ran.stderr[-3000:], log.read_text()[-2000:], sep="\n---\n")
    return bool(wrong)


if __name__ == "__main__":
    sys.exit(main())
