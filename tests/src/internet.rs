//! A hermetic internet: a network namespace where the supervisor runs, and another where every address
//! of the world answers.
//!
//! What arrives there is written down packet by packet, so that a test can say that nothing else did.

use std::ffi::OsStr;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use crate::{USER, Who, sources, until};

static COUNT: AtomicU32 = AtomicU32::new(0);
const PATH: &str = "/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin";
const NETNS: &str = "/run/netns";

/// Two namespaces and what serves in them; gone when dropped.
#[derive(Debug)]
pub struct Internet {
    /// Certificates, what the web server shows, and the log.
    pub dir: PathBuf,
    names: [String; 2],
    servers: Vec<Child>,
}

impl Internet {
    /// Builds one. Only root can: a caller who is not is told that it was not tried, which is a
    /// failure in CI.
    #[must_use]
    pub fn new() -> Option<Self> {
        if !rustix::process::geteuid().is_root() {
            assert!(std::env::var_os("CI").is_none(), "only root makes networks");
            eprintln!("not tried, since only root makes networks");
            return None;
        }
        sweep();
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let tag = format!("agt-{}-{number}", std::process::id());
        let dir = std::env::temp_dir().join(format!("{tag}-net"));
        fs::create_dir_all(dir.join("www")).expect("a folder");
        let mut net = Self {
            dir,
            names: [format!("{tag}-host"), format!("{tag}-world")],
            servers: Vec::new(),
        };
        net.wire();
        net.certificates();
        net.files();
        for (side, name) in ["host", "world"].into_iter().zip(net.names.clone()) {
            let mut server = Command::new("setpriv");
            server.args(["--pdeathsig", "KILL", "nsenter"]);
            server.arg(format!("--net={NETNS}/{name}"));
            server.args(["python3", "-I"]);
            server.arg(sources().join("programs/net/internet.py"));
            server.args([side.as_ref(), net.dir.as_os_str()]);
            server.env("PATH", PATH);
            net.servers
                .push(server.stdin(Stdio::null()).spawn().expect("python3"));
        }
        until("the internet is up", Duration::from_secs(20), || {
            let log = net.log();
            log.contains("ready host") && log.contains("ready world")
        });
        Some(net)
    }

    /// The host has two addresses of each kind; the world answers at every other one.
    fn wire(&self) {
        let [host, world] = &self.names;
        let lines = [
            format!("netns add {host}"),
            format!("netns add {world}"),
            format!("link add wan netns {host} type veth peer name out netns {world}"),
        ];
        ip(&[], &lines.join("\n"));
        let (here, there) = (
            "link set lo up\nlink set wan up\n\
             addr add 192.0.2.2/24 dev wan\naddr add 192.0.2.3/24 dev wan\n\
             addr add 2001:db8:1::2/64 dev wan nodad\naddr add 2001:db8:1::3/64 dev wan nodad\n\
             route add default via 192.0.2.1\n-6 route add default via 2001:db8:1::1\n",
            "link set lo up\nlink set out up\n\
             addr add 192.0.2.1/24 dev out\naddr add 2001:db8:1::1/64 dev out nodad\n\
             route add local 0.0.0.0/0 dev lo table main\n\
             -6 route add local ::/0 dev lo table main\n",
        );
        for (name, lines) in [(host, here), (world, there)] {
            let (four, six): (Vec<&str>, Vec<&str>) =
                lines.lines().partition(|line| !line.starts_with("-6 "));
            ip(&["-n", name], &four.join("\n"));
            let six: Vec<&str> = six.iter().map(|line| &line[3..]).collect();
            ip(&["-6", "-n", name], &six.join("\n"));
        }
    }

    fn certificates(&self) {
        let names = ["ok", "other", "six", "tc", "*.wild", "mixed"]
            .map(|name| format!("DNS:{name}.test"))
            .join(",");
        let script = format!(
            "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 \
               -subj /CN=ca -keyout ca.key -out ca.pem \
               -addext keyUsage=keyCertSign -addext basicConstraints=critical,CA:TRUE && \
             openssl req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj /CN=ok.test \
               -keyout leaf.key -out leaf.csr && \
             printf 'subjectAltName={names}\\n' > ext && \
             openssl x509 -req -in leaf.csr -CA ca.pem -CAkey ca.key -days 2 -extfile ext -out leaf.pem"
        );
        let made = Command::new("sh")
            .args(["-ec", &script])
            .current_dir(&self.dir)
            .output()
            .expect("sh");
        let said = String::from_utf8_lossy(&made.stderr);
        assert!(made.status.success(), "openssl: {said}");
    }

    fn files(&self) {
        let write = |name: &str, text: &[u8]| fs::write(self.dir.join(name), text).expect("a file");
        write("resolv.conf", b"nameserver 203.0.113.53\n");
        write("hosts", b"127.0.0.1 localhost\n203.0.113.10 listed.test\n");
        write("www/index.html", b"welcome\n");
        let big: Vec<u8> = (0..8_000_000_u32)
            .map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8)
            .collect();
        write("www/big", &big);
    }

    /// A command as it is, but run beside the world: with the host's network and its nameserver.
    #[must_use]
    pub fn beside(&self, command: &Command) -> Command {
        let script = "mount --bind \"$1/resolv.conf\" /etc/resolv.conf && \
                      mount --bind \"$1/hosts\" /etc/hosts && shift && exec \"$@\"";
        let mut outer = Command::new("nsenter");
        outer.arg(format!("--net={NETNS}/{}", self.names[0]));
        outer.args(["unshare", "--mount", "--propagation", "private"]);
        outer.args(["sh", "-c", script, "sh"]).arg(&self.dir);
        outer.arg(command.get_program()).args(command.get_args());
        if let Some(dir) = command.get_current_dir() {
            outer.current_dir(dir);
        }
        outer.env_clear();
        for (name, value) in command.get_envs() {
            outer.env(name, value.unwrap_or_default());
        }
        outer
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        outer
    }

    /// A program beside the world and outside every ring, as root or as the user of the tests.
    #[must_use]
    pub fn outside<S: AsRef<OsStr>>(&self, who: Who, program: &[S]) -> Command {
        let mut command = Command::new("setpriv");
        if who == Who::User {
            let user = USER.to_string();
            command.args(["--reuid", &user, "--regid", &user, "--clear-groups"]);
        }
        command.arg("--").args(program);
        command.env("PATH", PATH);
        command.env("HOME", "/nonexistent").current_dir("/tmp");
        self.beside(&command)
    }

    fn log(&self) -> String {
        fs::read_to_string(self.dir.join("log")).unwrap_or_default()
    }

    /// Everything that was seen since the last time, in its order.
    ///
    /// A marked packet is sent to both places; when it is in the log, what came before is too.
    #[must_use]
    pub fn seen(&self) -> Vec<String> {
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let mark = format!("mark-{number}");
        let script = "import socket, sys
for to in ('127.0.0.1', '203.0.113.1'):
    socket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(sys.argv[1].encode(), (to, 9))";
        let program = ["python3", "-c", script, &mark];
        let sent = self.outside(Who::Root, &program).status();
        assert!(sent.is_ok_and(|sent| sent.success()), "the mark");
        let end = format!(" {mark}");
        let mut log = String::new();
        until("the mark arrives", Duration::from_secs(20), || {
            log = self.log();
            log.lines().filter(|line| line.ends_with(&end)).count() == 2
        });
        let mut lines: Vec<&str> = log.lines().collect();
        // Two places write it: what lies between the two marks belongs to now as well.
        let last = lines.iter().rposition(|line| line.ends_with(&end));
        lines.truncate(last.map_or(0, |last| last + 1));
        let before = lines
            .iter()
            .rposition(|line| line.contains(" mark-") && !line.ends_with(&end))
            .map_or(0, |place| place + 1);
        let new = lines.split_off(before).into_iter();
        new.filter(|line| !line.contains(" mark-") && !line.starts_with("ready "))
            .map(str::to_owned)
            .collect()
    }
}

impl Drop for Internet {
    fn drop(&mut self) {
        for server in &mut self.servers {
            let _dead = server.kill();
            let _collected = server.wait();
        }
        for name in &self.names {
            remove(name);
        }
        let _kept = fs::remove_dir_all(&self.dir);
    }
}

/// Takes away the namespaces of tests that are dead.
fn sweep() {
    let Ok(entries) = fs::read_dir(NETNS) else {
        return;
    };
    for entry in entries.flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let pid = name
            .strip_prefix("agt-")
            .and_then(|rest| rest.split('-').next());
        if pid.is_some_and(|pid| !Path::new("/proc").join(pid).exists()) {
            remove(&name);
        }
    }
}

fn remove(name: &str) {
    // Another test's sweep may have been faster.
    let _gone = Command::new("ip").args(["netns", "del", name]).output();
}

#[track_caller]
fn ip(args: &[&str], lines: &str) {
    let mut child = Command::new("ip")
        .args(args)
        .args(["-batch", "-"])
        .stdin(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("iproute2");
    let mut stdin = child.stdin.take().expect("a pipe");
    stdin.write_all(lines.as_bytes()).expect("ip reads");
    drop(stdin);
    let done = child.wait_with_output().expect("its end");
    let said = String::from_utf8_lossy(&done.stderr);
    assert!(done.status.success(), "ip: {said}\n{lines}");
}
