//! Single commands of an agent in rings of their own: its tools (EXEC), or one that needs a ring of more
//! rights (ELEVATE).
//!
//! A live process gains no rights: a worker is a run of its own, from the same agent.yaml, with the one
//! command and for a limited time. It dies with the run that asked for it, and with the supervisor.

use std::collections::VecDeque;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags};
use serde_json::{Map, Value, json};

use super::governor::object;
use super::{AgentFile, Parent};

/// At once.
const LIVE_MAX: usize = 4;
/// Ended ones whose outcome can still be asked for; the oldest are forgotten first.
const ENDED_MAX: usize = 32;
/// Bytes of each of a worker's outputs that are kept, within one answer's bounds.
const OUTPUT_MAX: usize = 16 * 1024;
/// What fits into a frame, and some more.
const ANSWER_MAX: usize = 60_000;

/// Where a run's workers come from.
#[derive(Clone, Debug)]
pub(crate) struct Source {
    /// The agent.yaml.
    pub(crate) file: AgentFile,
    /// What its relative paths are relative to.
    pub(crate) base: PathBuf,
    /// Whom the agent runs as, where the supervisor is root: a worker writes the same files.
    pub(crate) ids: Option<(u32, u32)>,
}

/// One command.
#[derive(Clone, Debug)]
pub(crate) struct Wish {
    pub(crate) ring: String,
    pub(crate) argv: Vec<String>,
    pub(crate) most: Duration,
    /// Whether its ring has more rights than the agent's own.
    pub(crate) lifted: bool,
}

#[derive(Debug)]
struct Output {
    pipe: Option<OwnedFd>,
    kept: Vec<u8>,
    cut: bool,
}

#[derive(Debug)]
struct Worker {
    id: String,
    lifted: bool,
    child: Child,
    outputs: [Output; 2],
    since: Instant,
}

/// One that has ended.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) id: String,
    pub(crate) code: i64,
    pub(crate) lasted: Duration,
    outputs: [(String, bool); 2],
}

/// A run's workers.
#[derive(Debug, Default)]
pub(crate) struct Workers {
    live: Vec<Worker>,
    ended: VecDeque<Ended>,
    count: u64,
}

impl Workers {
    /// Whether one of more rights lives.
    pub(crate) fn has_lifted(&self) -> bool {
        self.live.iter().any(|worker| worker.lifted)
    }

    pub(crate) fn is_full(&self) -> bool {
        self.live.len() >= LIVE_MAX
    }

    /// Starts one and returns its name.
    pub(crate) fn start(
        &mut self,
        source: &Source,
        in_force: &Parent,
        wish: &Wish,
    ) -> io::Result<String> {
        let most = wish.most.as_millis().to_string();
        let parent = std::process::id().to_string();
        #[expect(
            clippy::disallowed_methods,
            reason = "another supervisor, which builds the ring as always"
        )]
        let mut command = Command::new("/proc/self/exe");
        command
            .arg("work")
            .arg(&source.file.path)
            .arg("--base")
            .arg(&source.base)
            .args(["--digest", &source.file.digest])
            .args(["--policies", &in_force.policies])
            .args(
                in_force
                    .labels
                    .iter()
                    .map(|label| format!("--label={label}")),
            )
            .args(["--ring", &wish.ring, "--most-ms", &most])
            .args(["--of", &in_force.run, "--parent", &parent, "--"])
            .args(&wish.argv)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .process_group(0);
        if let Some((uid, gid)) = source.ids {
            command
                .env("SUDO_UID", uid.to_string())
                .env("SUDO_GID", gid.to_string());
        }
        let mut child = command.spawn()?;
        let output = |pipe: Option<OwnedFd>| {
            if let Some(pipe) = &pipe {
                rustix::io::ioctl_fionbio(pipe, true)?;
            }
            io::Result::Ok(Output {
                pipe,
                kept: Vec::new(),
                cut: false,
            })
        };
        let outputs = [
            output(child.stdout.take().map(OwnedFd::from))?,
            output(child.stderr.take().map(OwnedFd::from))?,
        ];
        self.count += 1;
        let id = format!("w{}", self.count);
        self.live.push(Worker {
            id: id.clone(),
            lifted: wish.lifted,
            child,
            outputs,
            since: Instant::now(),
        });
        Ok(id)
    }

    /// What the loop waits for.
    pub(crate) fn polls(&self) -> Vec<PollFd<'_>> {
        let outputs = self.live.iter().flat_map(|worker| &worker.outputs);
        let pipes = outputs.filter_map(|output| output.pipe.as_ref());
        pipes.map(|pipe| PollFd::new(pipe, PollFlags::IN)).collect()
    }

    /// When it is to be looked at again: one whose outputs are closed may still live for a moment.
    pub(crate) fn due(&self) -> Option<Duration> {
        let quiet = |worker: &Worker| worker.outputs.iter().all(|output| output.pipe.is_none());
        let some = self.live.iter().any(quiet);
        some.then_some(Duration::from_millis(5))
    }

    /// Takes what they wrote, and those that ended.
    pub(crate) fn step(&mut self) -> Vec<(String, i64, Duration)> {
        let mut over = Vec::new();
        for mut worker in std::mem::take(&mut self.live) {
            worker.outputs.iter_mut().for_each(Output::read);
            let open = worker.outputs.iter().any(|output| output.pipe.is_some());
            match worker.child.try_wait() {
                Ok(Some(status)) if !open => over.push(worker.ended(status)),
                Ok(Some(_) | None) | Err(_) => self.live.push(worker),
            }
        }
        let told = over
            .iter()
            .map(|ended| (ended.id.clone(), ended.code, ended.lasted))
            .collect();
        self.ended.extend(over);
        while self.ended.len() > ENDED_MAX {
            self.ended.pop_front();
        }
        told
    }

    /// Ends all of them now. Their supervisors' death is that of their rings.
    pub(crate) fn kill(&mut self) -> usize {
        for worker in &mut self.live {
            // One that has ended is collected below all the same.
            let _gone = worker.child.kill();
        }
        let mut count = 0;
        for mut worker in std::mem::take(&mut self.live) {
            if let Ok(status) = worker.child.wait() {
                worker.outputs.iter_mut().for_each(Output::read);
                self.ended.push_back(worker.ended(status));
            }
            count += 1;
        }
        count
    }

    /// How one stands.
    pub(crate) fn state(&self, id: &str) -> Option<Map<String, Value>> {
        if self.live.iter().any(|worker| worker.id == id) {
            return Some(object(json!({"errno": null, "state": "runs"})));
        }
        let ended = self.ended.iter().find(|ended| ended.id == id)?;
        let [(out, out_cut), (err, err_cut)] = &ended.outputs;
        let lasted = u64::try_from(ended.lasted.as_millis()).unwrap_or(u64::MAX);
        let mut most = OUTPUT_MAX;
        loop {
            let (out, out_less) = beginning(out, most);
            let (err, err_less) = beginning(err, most);
            let state = json!({
                "errno": null, "state": "ended", "exit_code": ended.code, "lasted_ms": lasted,
                "stdout": out, "stdout_cut": *out_cut || out_less,
                "stderr": err, "stderr_cut": *err_cut || err_less,
            });
            // Written as JSON a byte may be six.
            if most == 0 || state.to_string().len() <= ANSWER_MAX {
                return Some(object(state));
            }
            most /= 2;
        }
    }
}

impl Drop for Workers {
    fn drop(&mut self) {
        self.kill();
    }
}

impl Worker {
    fn ended(self, status: ExitStatus) -> Ended {
        use std::os::unix::process::ExitStatusExt;
        let signalled = || status.signal().map(|signal| 128 + signal);
        let code = status.code().or_else(signalled).unwrap_or(-1);
        let text = |output: Output| {
            let text = String::from_utf8_lossy(&output.kept).into_owned();
            (text, output.cut)
        };
        Ended {
            id: self.id,
            code: code.into(),
            lasted: self.since.elapsed(),
            outputs: self.outputs.map(text),
        }
    }
}

/// So many bytes of a text at most, and whether that is not all of it.
fn beginning(text: &str, most: usize) -> (&str, bool) {
    let ends = 0..=most.min(text.len());
    let end = ends
        .rev()
        .find(|at| text.is_char_boundary(*at))
        .unwrap_or(0);
    (text.get(..end).unwrap_or_default(), end < text.len())
}

impl Output {
    fn read(&mut self) {
        let mut chunk = [0_u8; 16 * 1024];
        // As much as a pipe holds at most; one that never stops does not keep the loop here.
        for _ in 0..8 {
            let Some(pipe) = &self.pipe else { return };
            match rustix::io::read(pipe, &mut chunk) {
                Ok(count @ 1..) => {
                    let room = OUTPUT_MAX - self.kept.len();
                    self.cut |= count > room;
                    let bytes = chunk.get(..count.min(room)).unwrap_or_default();
                    self.kept.extend_from_slice(bytes);
                }
                Err(rustix::io::Errno::AGAIN) => return,
                Err(rustix::io::Errno::INTR) => {}
                Ok(_) | Err(_) => self.pipe = None,
            }
        }
    }
}
