//! What a ring looks like from inside: nothing of the caller's, and real programs at work.

#![expect(clippy::disallowed_methods, reason = "drives a terminal from outside")]

use std::io::Write;
use std::time::Duration;

use outside::{Place, Ran, Who, everybody};

fn standard(command: &str, more: &str) -> String {
    format!("version: 1\nname: inside\nring: standard\nworkspace: ./ws\ncommand: {command}\n{more}")
}

fn sandbox(command: &str, more: &str) -> String {
    format!("version: 1\nname: inside\nworkspace: ./ws\ncommand: {command}\n{more}")
}

#[test]
fn nothing_of_the_callers_environment_is_inside() {
    for who in everybody() {
        let place = Place::new(who);
        place.dir("ws");
        let ran = place.run(&standard(
            "[env]",
            "env: {set: {A: b}, pass: ['NOT_THERE?']}\n",
        ));
        ran.expect_code(0);
        assert!(!ran.stdout.contains("do-not-leak"), "{}", ran.stdout);
        assert!(
            ran.stdout.contains("A=b\n") && !ran.stdout.contains("NOT_THERE"),
            "{}",
            ran.stdout
        );
        let passed = place.run(&standard("[env]", "env: {pass: [AGT_SOMETHING]}\n"));
        passed.expect_code(2);
    }
}

#[test]
fn descriptors_groups_tmp_and_processes_are_its_own() {
    for who in everybody() {
        let place = Place::new(who);
        place.dir("ws");
        let script =
            "ls /proc/self/fd | tr '\\n' ' '; echo; ls /tmp; ls /dev/shm; id -u; ps -e | wc -l";
        let ran = place.run(&standard(&format!("[sh, -c, \"{script}\"]"), ""));
        let lines: Vec<&str> = ran.expect_code(0).stdout.lines().collect();
        assert_eq!(lines.first(), Some(&"0 1 2 3 "), "{ran:?}");
        let ours = place
            .dir
            .strip_prefix("/tmp")
            .unwrap()
            .to_string_lossy()
            .into_owned();
        let rest: Vec<&&str> = lines[1..].iter().filter(|line| **line != ours).collect();
        assert_ne!(*rest[0], "0", "the agent is root: {ran:?}");
        assert!(rest[1].trim().parse::<u32>().unwrap() < 8, "{ran:?}");
    }
}

#[test]
fn input_goes_in_and_output_comes_out() {
    for who in everybody() {
        let place = Place::new(who);
        place.dir("ws");
        place.file("agent.yaml", standard("[sh, -c, 'cat; echo err >&2']", ""));
        let mut command = place.agt(&["run", "--quiet", "agent.yaml"]);
        let mut child = command
            .stdin(std::process::Stdio::piped())
            .spawn()
            .expect("a start");
        let text: String = (0..200_000_u32).map(|n| format!("{n}\n")).collect();
        // More than a pipe holds, both ways at once.
        let mut stdin = child.stdin.take().expect("a pipe");
        let bytes = text.clone().into_bytes();
        let writer = std::thread::spawn(move || stdin.write_all(&bytes));
        let ran = Ran::wait(child, Duration::from_secs(60));
        writer.join().expect("the writer").expect("all of it");
        ran.expect_code(0);
        assert_eq!(ran.stderr, "err\n");
        assert!(ran.stdout == text, "{} bytes came back", ran.stdout.len());
    }
}

/// Whether a program is on this host. In CI an absent one is a failure; elsewhere it is said.
fn present(name: &str) -> bool {
    let there = ["/usr/bin", "/usr/local/bin", "/bin"]
        .iter()
        .any(|dir| std::path::Path::new(dir).join(name).exists());
    assert!(
        there || std::env::var_os("CI").is_none(),
        "{name} is not installed"
    );
    if !there {
        eprintln!("not tried, since {name} is not installed");
    }
    there
}

#[test]
fn real_programs_work_in_ring_2() {
    for who in everybody() {
        let place = Place::new(who);
        place.dir("ws");
        for (what, needs, script) in PROGRAMS {
            if !present(needs) {
                continue;
            }
            place.file("ws/try.sh", script);
            let ran = place.run(&standard("[bash, -eu, try.sh]", ""));
            assert_eq!(
                ran.code, 0,
                "{what} as {who:?}:\n{}\n{}",
                ran.stdout, ran.stderr
            );
        }
    }
}

#[test]
fn a_rust_build_runs_what_it_built() {
    let rustc = std::process::Command::new("rustc")
        .args(["--print", "sysroot"])
        .output();
    let rustc = rustc.expect("rustc");
    let sysroot = String::from_utf8(rustc.stdout).unwrap().trim().to_owned();
    // Root reads it wherever it lies; an ordinary user only where they can.
    for who in everybody() {
        let place = Place::new(who);
        place.dir("ws");
        place.file(
            "ws/main.rs",
            "fn main() { println!(\"{}\", (1..=10).sum::<i32>()); }",
        );
        let command = format!("[sh, -c, '{sysroot}/bin/rustc main.rs && ./main']");
        let ran = place.run(&standard(
            &command,
            &format!("files: {{read: [\"{sysroot}\"]}}\n"),
        ));
        if who == Who::User && ran.stderr.contains("Permission denied") && ran.code == 2 {
            eprintln!("not tried as a user, who cannot read {sysroot}");
            continue;
        }
        assert_eq!(ran.expect_code(0).stdout, "55\n", "{ran:?}");
    }
}

const PROGRAMS: [(&str, &str, &str); 10] = [
    (
        "shell pipelines",
        "awk",
        "seq 1000 | sort -rn | head -5 | awk '{s += $1} END {exit s != 4990}'",
    ),
    (
        "a venv",
        "python3",
        "python3 -m venv --without-pip v && v/bin/python -c 'import sys; assert sys.prefix != sys.base_prefix'",
    ),
    (
        "python processes",
        "python3",
        "python3 - <<'END'
import subprocess, multiprocessing, threading, sqlite3, ctypes, mmap, tempfile, asyncio, socket
assert subprocess.check_output(['echo', 'x']) == b'x\\n'
def main():
    with multiprocessing.Pool(3) as pool:
        assert pool.map(abs, [-1, -2]) == [1, 2]
    ts = [threading.Thread(target=lambda: sum(range(1000))) for _ in range(20)]
    [t.start() for t in ts]; [t.join() for t in ts]
    db = sqlite3.connect('x.db'); db.execute('pragma journal_mode=wal')
    db.execute('create table t (a)'); db.execute('insert into t values (1)'); db.commit()
    s = socket.create_server(('127.0.0.1', 0)); c = socket.create_connection(s.getsockname())
    async def go():
        p = await asyncio.create_subprocess_exec('true'); assert await p.wait() == 0
    asyncio.run(go())
main()
END",
    ),
    (
        "node",
        "node",
        "node -e \"const {Worker} = require('worker_threads'); const os = require('os'); if (os.cpus().length < 1) process.exit(3); new Worker('process.exit(0)', {eval: true}).on('exit', c => process.exit(c)); require('child_process').execSync('true'); require('http').createServer().listen(0, '127.0.0.1').unref()\"",
    ),
    (
        "git",
        "git",
        "git init -q g && cd g && git config user.email a@b && git config user.name n && echo x > f && git add f && git commit -qm m && git log --oneline | grep -q m && mkdir d && git mv f d/f && git status --porcelain | grep -q R",
    ),
    (
        "a C build",
        "cc",
        "echo 'int main(void){return 0;}' > m.c && cc -o m m.c && ./m",
    ),
    (
        "sqlite",
        "sqlite3",
        "sqlite3 s.db 'create table t(a); insert into t values(5); select a from t' | grep -q 5",
    ),
    (
        "perl and a jit",
        "node",
        "perl -e 'my $p = fork; exit 0 unless $p; waitpid $p, 0; exit $? >> 8' && node -e 'let s = 0; for (let i = 0; i < 3e6; i++) s += i % 7; if (s < 1) process.exit(1)'",
    ),
    (
        "files across folders",
        "bash",
        "mkdir -p a b && echo x > a/f && mv a/f b/g && ln b/g a/h && ln -s ../b/g a/l && cat a/l && chmod 600 b/g && truncate -s 0 b/g && rm -r a b",
    ),
    (
        "terminals of its own",
        "python3",
        "python3 -c \"import pty, os; pid, fd = pty.fork(); os._exit(0) if pid == 0 else os.waitpid(pid, 0)\"",
    ),
];

#[test]
fn ring_3_reads_and_computes_and_does_nothing_else() {
    for who in everybody() {
        let place = Place::new(who);
        place.dir("ws");
        place.file("ws/data", "42");
        place.file(
            "ws/agent.py",
            "import os, socket, threading
assert open('data').read() == '42'
open('/tmp/x', 'w').write('y')
def refused(what, *args):
    try: what(*args)
    except (OSError, PermissionError): return
    raise SystemExit(f'{what} {args} was possible')
refused(open, 'new', 'w')
refused(open, 'data', 'a')
refused(socket.socket)
refused(socket.socket, socket.AF_UNIX)
refused(os.execv, '/bin/true', ['true'])
refused(os.posix_spawn, '/bin/true', ['true'], {})
refused(os.listdir, '/home')
t = threading.Thread(target=lambda: None); t.start(); t.join()
if os.fork() == 0: os._exit(0)
assert os.wait()[1] == 0
",
        );
        place
            .run(&sandbox("[python3, agent.py]", ""))
            .expect_code(0);
        place.file("ws/tool", "#!/usr/bin/env python3\nprint('from env')\n");
        let tool = place.dir.join("ws/tool");
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
        std::fs::set_permissions(&tool, mode).unwrap();
        let ran = place.run(&sandbox("[./tool]", ""));
        assert_eq!(ran.expect_code(0).stdout, "from env\n");
    }
}

#[test]
fn its_own_agent_yaml_stays_as_it_is() {
    for who in everybody() {
        let place = Place::new(who);
        place.dir("ws");
        place.dir("ws/conf");
        let yaml = "version: 1\nname: pinned\nring: standard\nworkspace: ..\n\
                    command: [sh, -c, 'echo x >> conf/agent.yaml; rm -f conf/agent.yaml; mv conf/agent.yaml y; mv conf old; true']\n";
        place.file("ws/conf/agent.yaml", yaml);
        place.finish(&["run", "ws/conf/agent.yaml"]).expect_code(0);
        let after = std::fs::read_to_string(place.dir.join("ws/conf/agent.yaml"));
        assert_eq!(after.ok().as_deref(), Some(yaml), "{who:?}");
    }
}

#[test]
fn files_that_would_run_code_outside_are_named() {
    for who in everybody() {
        let place = Place::new(who);
        place.dir("ws");
        let script = "mkdir -p .git/hooks; echo x > .git/hooks/pre-commit; echo x > harmless";
        let ran = place.run(&standard(&format!("[sh, -c, '{script}']"), ""));
        ran.expect_code(0).expect_said("pre-commit (git hook)");
        assert!(!ran.stderr.contains("harmless"), "{}", ran.stderr);
    }
}

#[test]
fn folders_as_standard_streams_are_refused() {
    for who in everybody() {
        let place = Place::new(who);
        place.dir("ws");
        place.file("agent.yaml", standard("['true']", ""));
        let folder = std::fs::File::open(&place.dir).unwrap();
        let mut command = place.agt(&["run", "agent.yaml"]);
        let child = command.stdin(folder).spawn().expect("a start");
        Ran::wait(child, Duration::from_secs(20))
            .expect_code(2)
            .expect_said("folder");
    }
}

#[test]
fn a_writable_grant_that_holds_something_of_ours_is_refused() {
    for who in everybody() {
        let place = Place::new(who);
        place.dir("ws");
        let yaml = "version: 1\nname: ours\nring: standard\nworkspace: .\ncommand: ['true']\n";
        place
            .run(yaml)
            .expect_code(2)
            .expect_said("must never write");
    }
}

#[test]
fn a_root_owned_workspace_is_read_and_never_written() {
    for who in everybody().into_iter().filter(|who| *who == Who::Root) {
        let place = Place::new(who);
        place.file("there/data", "x");
        std::os::unix::fs::chown(place.dir.join("there"), Some(0), Some(0)).unwrap();
        let read = "version: 1\nname: rooted\nworkspace: ./there\ncommand: [cat, data]\n";
        assert_eq!(place.run(read).expect_code(0).stdout, "x");
        let write = "version: 1\nname: rooted\nring: 2\nworkspace: ./there\ncommand: ['true']\n";
        place
            .run(write)
            .expect_code(2)
            .expect_said("belongs to root");
    }
}

const TERMINAL: &str = "import signal, os, time
def say(*words): os.write(1, (' '.join(map(str, words)) + '\\n').encode())
def resized(*_): say('resized', *reversed(os.get_terminal_size()))
def interrupted(*_): say('interrupted'); os._exit(5)
signal.signal(signal.SIGWINCH, resized); signal.signal(signal.SIGINT, interrupted)
say(os.ttyname(0), *reversed(os.get_terminal_size()), open('/dev/tty') and 'ready')
say('got', os.read(0, 100).decode().strip())
while True: time.sleep(0.1)
";

#[test]
fn a_terminal_becomes_the_rings_own() {
    for who in everybody() {
        let place = Place::new(who);
        place.dir("ws");
        place.file("ws/tty.py", TERMINAL);
        place.file("agent.yaml", standard("[python3, tty.py]", ""));
        let agt = place.agt(&["run", "agent.yaml"]);
        let mut command = std::process::Command::new("python3");
        command.arg(outside::sources().join("programs/terminal.py"));
        command
            .arg(agt.get_program())
            .args(agt.get_args())
            .current_dir(&place.dir)
            .env_clear();
        for (name, value) in agt.get_envs() {
            command.env(name, value.unwrap_or_default());
        }
        command
            .stdout(std::process::Stdio::piped())
            .stderr(std::process::Stdio::piped());
        let child = command.env("TERM", "xterm").spawn().expect("python3");
        let ran = Ran::wait(child, Duration::from_secs(60));
        ran.expect_code(0);
        assert!(ran.stdout.starts_with("fine"), "{ran:?}");
    }
}
