//! Runs the real `agt-supervisor` as root and as an ordinary user, from outside.
//!
//! Each test makes a folder of its own, writes an agent.yaml into it, and looks at what happened:
//! exit code, output, and what is left on the host. A kernel feature that is missing is a failure.

#![forbid(unsafe_code)]
#![expect(
    clippy::disallowed_methods,
    reason = "tests start the supervisor from outside"
)]

pub mod acts;
pub mod disk;
mod internet;
pub mod live;
pub mod networked;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

pub use internet::Internet;

/// Who starts the supervisor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Who {
    /// uid 0.
    Root,
    /// An ordinary user without a cgroup of their own.
    User,
}

/// The ordinary user that tests run as when they are started by root.
pub const USER: u32 = 1001;

/// Everybody whom this machine lets us be: root and an ordinary user when started by root.
#[must_use]
pub fn everybody() -> Vec<Who> {
    if rustix::process::geteuid().is_root() {
        vec![Who::Root, Who::User]
    } else {
        vec![Who::User]
    }
}

/// A folder for one test, removed at its end.
#[derive(Debug)]
pub struct Place {
    /// Absolute.
    pub dir: PathBuf,
    /// Who owns it and starts the supervisor in it.
    pub who: Who,
}

static COUNT: AtomicU32 = AtomicU32::new(0);

impl Place {
    /// Makes an empty folder that belongs to `who`.
    #[must_use]
    pub fn new(who: Who) -> Self {
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let dir = std::env::temp_dir().join(format!("agt-{}-{number}", std::process::id()));
        fs::create_dir_all(&dir).expect("a temporary folder");
        let dir = dir.canonicalize().expect("its path");
        let place = Self { dir, who };
        place.give(&place.dir);
        if who == Who::User {
            place.dir("state");
        }
        place
    }

    fn give(&self, path: &Path) {
        fs::set_permissions(path, fs::Permissions::from_mode(0o755)).expect("chmod");
        // As root too: what an agent writes never belongs to root.
        if rustix::process::geteuid().is_root() {
            std::os::unix::fs::chown(path, Some(USER), Some(USER)).expect("chown");
        }
    }

    /// Writes a file that belongs to whoever starts the supervisor.
    pub fn file(&self, name: &str, text: impl AsRef<[u8]>) -> PathBuf {
        let path = self.dir.join(name);
        if let Some(parent) = path.parent().filter(|parent| !parent.exists()) {
            fs::create_dir_all(parent).expect("a folder");
            self.give(parent);
        }
        fs::write(&path, text).expect("a file");
        self.give(&path);
        path
    }

    /// Makes a folder that belongs to whoever starts the supervisor.
    pub fn dir(&self, name: &str) -> PathBuf {
        let path = self.dir.join(name);
        fs::create_dir_all(&path).expect("a folder");
        self.give(&path);
        path
    }

    /// A supervisor command in this place, with an environment of its own.
    #[must_use]
    pub fn agt(&self, args: &[&str]) -> Command {
        let mut command = match self.who {
            Who::User if rustix::process::geteuid().is_root() => {
                let mut command = Command::new("setpriv");
                let user = USER.to_string();
                command.args(["--reuid", &user, "--regid", &user, "--clear-groups", "--"]);
                command.arg(binary());
                command
            }
            Who::User | Who::Root => Command::new(binary()),
        };
        command
            .args(args)
            .current_dir(&self.dir)
            .env_clear()
            .env("PATH", "/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin")
            .env("HOME", &self.dir)
            .env("AGT_STATE_DIR", self.dir.join("state"))
            .env("AGT_TEST_SECRET", "do-not-leak")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        command
    }

    /// The same with a terminal of its own, by script(1).
    #[must_use]
    pub fn on_a_terminal(&self, args: &[&str]) -> Command {
        let inner = self.agt(args);
        let words = std::iter::once(inner.get_program()).chain(inner.get_args());
        let words: Vec<String> = words
            .map(|word| format!("'{}'", word.to_string_lossy()))
            .collect();
        let mut command = Command::new("script");
        command
            .args(["-qec", &words.join(" "), "/dev/null"])
            .current_dir(&self.dir)
            .env_clear()
            .envs(
                inner
                    .get_envs()
                    .filter_map(|(name, value)| Some((name, value?))),
            )
            .stdin(Stdio::null());
        command
    }

    /// Writes `agent.yaml` and runs it to its end.
    #[must_use]
    pub fn run(&self, yaml: &str) -> Ran {
        self.file("agent.yaml", yaml);
        self.finish(&["run", "agent.yaml"])
    }

    /// Runs the supervisor to its end; longer than two minutes is a failure.
    #[must_use]
    pub fn finish(&self, args: &[&str]) -> Ran {
        let child = self.agt(args).spawn().expect("agt-supervisor");
        Ran::wait(child, Duration::from_secs(120))
    }

    /// The same with more in its environment.
    #[must_use]
    pub fn finish_as(&self, args: &[&str], envs: &[(&str, &str)]) -> Ran {
        let mut command = self.agt(args);
        let child = command.envs(envs.iter().copied()).spawn();
        Ran::wait(child.expect("agt-supervisor"), Duration::from_secs(120))
    }

    /// Starts `agent.yaml` and returns while it runs.
    #[must_use]
    pub fn start(&self, yaml: &str) -> Child {
        self.file("agent.yaml", yaml);
        self.agt(&["run", "agent.yaml"])
            .spawn()
            .expect("agt-supervisor")
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        // Left behind when a test failed in the middle of a run: the next run of the machine's
        // temporary folder takes it.
        let _kept = fs::remove_dir_all(&self.dir);
    }
}

/// A finished supervisor.
#[derive(Debug)]
pub struct Ran {
    /// Its exit code.
    pub code: i32,
    /// What the agent wrote.
    pub stdout: String,
    /// What the agent and the supervisor said.
    pub stderr: String,
}

impl Ran {
    /// Waits for a started supervisor.
    #[must_use]
    pub fn wait(mut child: Child, most: Duration) -> Self {
        let since = Instant::now();
        let pid = child.id();
        let watchdog = std::thread::spawn(move || {
            while since.elapsed() < most {
                std::thread::sleep(Duration::from_millis(20));
                if !Path::new(&format!("/proc/{pid}/stat")).exists() {
                    return false;
                }
            }
            let pid = rustix::process::Pid::from_raw(pid as i32).expect("a pid");
            rustix::process::kill_process(pid, rustix::process::Signal::KILL).is_ok()
        });
        drop(child.stdin.take());
        let Output {
            status,
            stdout,
            stderr,
        } = child.wait_with_output().expect("its end");
        assert!(
            !watchdog.join().expect("the watchdog"),
            "it did not end in {most:?}"
        );
        Self {
            code: std::os::unix::process::ExitStatusExt::signal(&status)
                .map_or_else(|| status.code().unwrap_or(-1), |signal| -signal),
            stdout: String::from_utf8_lossy(&stdout).into_owned(),
            stderr: String::from_utf8_lossy(&stderr).into_owned(),
        }
    }

    /// Fails the test unless the exit code is this one.
    #[track_caller]
    pub fn expect_code(&self, code: i32) -> &Self {
        assert_eq!(
            self.code, code,
            "stdout:\n{}\nstderr:\n{}",
            self.stdout, self.stderr
        );
        self
    }

    /// Fails the test unless it wrote this.
    #[track_caller]
    pub fn expect_shown(&self, text: &str) -> &Self {
        assert!(
            self.stdout.contains(text),
            "`{text}` is not in stdout:\n{}",
            self.stdout
        );
        self
    }

    /// Fails the test unless the supervisor or the agent said this.
    #[track_caller]
    pub fn expect_said(&self, text: &str) -> &Self {
        assert!(
            self.stderr.contains(text),
            "`{text}` is not in stderr:\n{}",
            self.stderr
        );
        self
    }
}

/// The supervisor's binary, where anybody may execute it.
#[must_use]
pub fn binary() -> &'static Path {
    static BINARY: OnceLock<PathBuf> = OnceLock::new();
    BINARY.get_or_init(|| {
        let own = std::env::current_exe().expect("our own path");
        let built = own
            .ancestors()
            .nth(2)
            .expect("the target folder")
            .join("agt-supervisor");
        assert!(built.exists(), "build the supervisor first: cargo build");
        sweep();
        let dir = std::env::temp_dir().join(format!("agt-bin-{}", std::process::id()));
        fs::create_dir_all(&dir).expect("a folder");
        fs::set_permissions(&dir, fs::Permissions::from_mode(0o755)).expect("chmod");
        let copy = dir.join("agt-supervisor");
        // By another process: a descriptor of ours that is open for writing would be inherited by what
        // other threads start meanwhile, and the copy be busy.
        let copied = Command::new("cp").arg(&built).arg(&copy).status();
        assert!(copied.expect("cp").success(), "a copy of the supervisor");
        fs::set_permissions(&copy, fs::Permissions::from_mode(0o755)).expect("chmod");
        copy
    })
}

/// Removes the copies of test processes that are gone: nobody does at the end of one.
fn sweep() {
    let all = fs::read_dir(std::env::temp_dir()).into_iter().flatten();
    for entry in all.flatten() {
        let name = entry.file_name();
        let pid = name.to_str().and_then(|name| name.strip_prefix("agt-bin-"));
        if pid.is_some_and(|pid| !Path::new("/proc").join(pid).exists()) {
            let _others = fs::remove_dir_all(entry.path());
        }
    }
}

/// The folder of this crate, where the programs that run inside rings lie.
#[must_use]
pub fn sources() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Compiles C sources into one program.
pub fn compile(sources: &[PathBuf], to: &Path) {
    cc(&["-O1", "-Wall", "-o"], sources, to);
}

/// Compiles C sources into one program that needs no library.
pub fn compile_static(sources: &[PathBuf], to: &Path) {
    // It says that a static program still loads libraries of the system to find names, which is so.
    cc(&["-O1", "-w", "-static", "-o"], sources, to);
}

fn cc(flags: &[&str], sources: &[PathBuf], to: &Path) {
    let output = Command::new("cc")
        .args(flags)
        .arg(to)
        .args(sources)
        .arg("-lpthread")
        .output()
        .expect("a C compiler");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "cc: {said}");
    fs::set_permissions(to, fs::Permissions::from_mode(0o755)).expect("chmod");
}

/// Runs a tool of the host in a place: whether it succeeded, and what it said.
#[must_use]
pub fn tool(name: &str, args: &[&str], place: &Place) -> (bool, String) {
    let output = Command::new(name)
        .args(args)
        .current_dir(&place.dir)
        .output()
        .expect("a tool of the host");
    let said = [output.stdout, output.stderr].concat();
    (
        output.status.success(),
        String::from_utf8_lossy(&said).into_owned(),
    )
}

/// Host pids of processes that have `tag` in their command line or environment, zombies aside.
#[must_use]
pub fn alive(tag: &str) -> Vec<u32> {
    let own = std::process::id();
    let processes = fs::read_dir("/proc").expect("/proc").flatten();
    let pids = processes.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    pids.filter(|pid| *pid != own)
        .filter(|pid| {
            let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
            let zombie = stat
                .rsplit(") ")
                .next()
                .is_some_and(|rest| rest.starts_with('Z'));
            !zombie && line.windows(tag.len()).any(|part| part == tag.as_bytes())
        })
        .collect()
}

/// Waits until `done` holds, for at most `most`.
#[track_caller]
pub fn until(what: &str, most: Duration, mut done: impl FnMut() -> bool) {
    let since = Instant::now();
    while !done() {
        assert!(since.elapsed() < most, "{what}: not within {most:?}");
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// The cgroups on the host that carry the name of this agent.
#[must_use]
pub fn leftovers(agent: &str) -> Vec<String> {
    let prefix = format!("agt-{agent}-");
    let mut found = Vec::new();
    let mut open = vec![PathBuf::from("/sys/fs/cgroup")];
    while let Some(dir) = open.pop() {
        let Ok(entries) = fs::read_dir(&dir) else {
            continue;
        };
        for entry in entries.flatten() {
            if !entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                continue;
            }
            let path = entry.path();
            if entry.file_name().to_string_lossy().starts_with(&prefix) {
                found.push(path.display().to_string());
            }
            open.push(path);
        }
    }
    found
}

/// Sends a signal to a supervisor.
pub fn signal(child: &Child, signal: rustix::process::Signal) {
    let pid = rustix::process::Pid::from_raw(child.id() as i32).expect("a pid");
    rustix::process::kill_process(pid, signal).expect("kill");
}
