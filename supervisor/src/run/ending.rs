//! How a run ended: the exit code (DESIGN section 7), one line for people, and a report for tools.

use std::path::{Path, PathBuf};
use std::time::Duration;

use plan::Cause;
use serde_json::{Value, json};

use super::deny::Replaced;
use super::governor::Counts;
use super::relay::{Outcome, Stopped};
use super::surface::Surface;
use super::traffic::Traffic;
use crate::cgroup::Counted;
use crate::signal::Signal;
use crate::words;

/// Exit codes of a foreground run.
pub(crate) mod code {
    /// A file or a flag is wrong.
    pub(crate) const WRONG: u8 = 2;
    /// Killed by policy.
    pub(crate) const POLICY: u8 = 121;
    /// Killed for a budget.
    pub(crate) const BUDGET: u8 = 122;
    /// Supervision was lost.
    pub(crate) const LOST: u8 = 123;
    /// Wall time is over.
    pub(crate) const WALL: u8 = 124;
    /// The supervisor failed, or a layer cannot be applied.
    pub(crate) const FAILED: u8 = 125;
    /// The command cannot be run.
    pub(crate) const NOT_RUNNABLE: u8 = 126;
    /// The command is not found.
    pub(crate) const NOT_FOUND: u8 = 127;
}

/// Everything that is known about a finished run.
#[derive(Debug)]
pub(crate) struct Ending {
    pub(crate) agent: String,
    pub(crate) ring: String,
    pub(crate) outcome: Outcome,
    pub(crate) counted: Counted,
    pub(crate) lasted: Duration,
    pub(crate) memory_limit: u64,
    /// Where the memory limit was set, `file:line`.
    pub(crate) memory_line: String,
    pub(crate) wall: Option<Duration>,
    pub(crate) output: Option<u64>,
    pub(crate) surface: Surface,
    /// `None` when the ring had only its own loopback.
    pub(crate) traffic: Option<Traffic>,
    pub(crate) counts: Counts,
    /// The name of the run's log.
    pub(crate) log: String,
}

/// Why it ended, as one of the words that `--report` gives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Reason {
    Exited(u8),
    Signalled(i32),
    OutOfMemory,
    Interrupted(i32),
    Wall,
    Output,
    Unmasked(Replaced),
    Unrecorded,
    Violations,
    Loop,
    Budget,
    Told(Signal),
    Blind,
    Lost,
}

impl Ending {
    fn reason(&self) -> Reason {
        let Some(ended) = self.outcome.ended else {
            return Reason::Lost;
        };
        match self.outcome.stopped {
            Some(Stopped::Wall) => return Reason::Wall,
            Some(Stopped::Output) => return Reason::Output,
            Some(Stopped::Unmasked(what)) => return Reason::Unmasked(what),
            Some(Stopped::Unrecorded) => return Reason::Unrecorded,
            Some(Stopped::Violations) => return Reason::Violations,
            Some(Stopped::Loop) => return Reason::Loop,
            Some(Stopped::Budget) => return Reason::Budget,
            Some(Stopped::Told(signal)) => return Reason::Told(signal),
            Some(Stopped::Signal(_)) | None => {}
        }
        if matches!(ended.cause, Cause::Memory { .. }) {
            return Reason::OutOfMemory;
        }
        if ended.cause == Cause::Blind {
            return Reason::Blind;
        }
        let status = ended.status.map(decode);
        match (status, self.outcome.stopped) {
            (Some(Status::Signal(9)), None) if self.counted.oom_kills > 0 => Reason::OutOfMemory,
            (None, None) if self.counted.oom_kills > 0 => Reason::OutOfMemory,
            (Some(Status::Code(code)), None) => Reason::Exited(code),
            (Some(Status::Signal(signal)), None) => Reason::Signalled(signal),
            (_, Some(Stopped::Signal(signal))) => Reason::Interrupted(signal),
            (_, Some(Stopped::Wall)) => Reason::Wall,
            (_, Some(Stopped::Loop)) => Reason::Loop,
            (_, Some(Stopped::Budget)) => Reason::Budget,
            (_, Some(Stopped::Told(signal))) => Reason::Told(signal),
            (_, Some(Stopped::Output)) => Reason::Output,
            (_, Some(Stopped::Unmasked(what))) => Reason::Unmasked(what),
            (_, Some(Stopped::Unrecorded)) => Reason::Unrecorded,
            (_, Some(Stopped::Violations)) => Reason::Violations,
            (None, None) => Reason::Signalled(9),
        }
    }

    /// The exit code of the supervisor.
    pub(crate) fn code(&self) -> u8 {
        let own = self
            .outcome
            .ended
            .and_then(|ended| ended.status)
            .map(decode);
        let own = own.map_or(128 + 9, Status::exit_code);
        match self.reason() {
            Reason::Exited(code) => code,
            Reason::Signalled(_) | Reason::Interrupted(_) | Reason::Told(_) => own,
            Reason::OutOfMemory => 128 + 9,
            Reason::Wall => code::WALL,
            Reason::Output | Reason::Budget => code::BUDGET,
            Reason::Unmasked(_) | Reason::Violations | Reason::Loop => code::POLICY,
            Reason::Lost | Reason::Blind | Reason::Unrecorded => code::LOST,
        }
    }

    fn memory_peak(&self) -> (Option<u64>, &'static str) {
        let ended = self.outcome.ended;
        if let Some(peak) = self.counted.memory_peak {
            return (Some(peak), "peak memory");
        }
        if let Some(peak) = ended
            .and_then(|ended| ended.watched_peak)
            .filter(|peak| *peak > 0)
        {
            return (Some(peak), "peak memory seen");
        }
        (ended.map(|ended| ended.largest_rss), "largest process")
    }

    fn cpu(&self) -> Duration {
        let own = self.outcome.ended.map_or(0, |ended| ended.cpu_us);
        Duration::from_micros(self.counted.cpu_us.unwrap_or(own))
    }

    /// The lines for people: how it ended, and what to look at.
    pub(crate) fn lines(&self) -> Vec<String> {
        let how = match self.reason() {
            Reason::Exited(code) => format!("ended with exit code {code}"),
            Reason::Signalled(signal) => format!("ended by {}", words::signal(signal)),
            Reason::OutOfMemory => "killed: out of memory".to_owned(),
            Reason::Interrupted(signal) => format!("stopped by {}", words::signal(signal)),
            Reason::Wall => {
                let wall = self.wall.unwrap_or_default();
                format!(
                    "killed: its wall time of {} was over",
                    words::duration(wall)
                )
            }
            Reason::Output => {
                let most = words::bytes(self.output.unwrap_or(0));
                format!("killed: it wrote more than its output limit of {most}")
            }
            Reason::Unmasked(Replaced::Hidden) => {
                "killed: something that `files.deny` hides was replaced on this host".to_owned()
            }
            Reason::Unmasked(Replaced::Pinned) => {
                "killed: agent.yaml or a policy was replaced where the agent may write, and what is there now was no \
                 longer read-only: look at it; write into such a file, or keep it elsewhere"
                    .to_owned()
            }
            Reason::Violations => {
                "killed: too many of its actions were denied (`on_violation`)".to_owned()
            }
            Reason::Loop => {
                "killed: it asked for one and the same call again and again (`on_loop`)".to_owned()
            }
            Reason::Budget => "killed: its budget was used up".to_owned(),
            Reason::Told(signal) => format!("ended by the governance signal {}", signal.name()),
            Reason::Unrecorded => {
                "killed: its audit log could not be written, and nothing goes on unrecorded"
                    .to_owned()
            }
            Reason::Blind => {
                "killed: its memory was to be watched, and its processes cannot be seen in /proc"
                    .to_owned()
            }
            Reason::Lost => "lost: agt-ringd is gone, and the kernel has ended the ring".to_owned(),
        };
        let (peak, what) = self.memory_peak();
        let mut line = format!(
            "{} {how} after {}",
            self.agent,
            words::duration(self.lasted)
        );
        if let Some(peak) = peak {
            line += &format!(" · {what} {}", words::bytes(peak));
        }
        line += &format!(" · cpu {}", words::duration(self.cpu()));
        let mut lines = vec![line];
        lines.extend(self.memory_advice());
        lines.extend(self.traffic.iter().flat_map(Traffic::summary));
        lines.extend(self.decisions());
        lines.extend(self.surface_lines());
        lines
    }

    /// What was decided, when anything was asked.
    fn decisions(&self) -> Option<String> {
        let Counts {
            allowed,
            denied,
            held,
        } = self.counts;
        (allowed + denied + held > 0).then(|| {
            let held = if held > 0 {
                format!(", {held} held")
            } else {
                String::new()
            };
            format!(
                "decisions: {allowed} allowed, {denied} denied{held} · log {}",
                self.log
            )
        })
    }

    /// One word for the record.
    pub(crate) fn cause(&self) -> &'static str {
        match self.reason() {
            Reason::Exited(_) => "exited",
            Reason::Signalled(_) => "signalled",
            Reason::OutOfMemory => "out-of-memory",
            Reason::Interrupted(_) => "interrupted",
            Reason::Wall => "wall-time",
            Reason::Output => "output",
            Reason::Unmasked(_) => "unmasked",
            Reason::Unrecorded => "unrecorded",
            Reason::Violations => "violations",
            Reason::Loop => "loop",
            Reason::Budget => "budget",
            Reason::Told(_) => "told",
            Reason::Blind => "unwatched",
            Reason::Lost => "lost",
        }
    }

    fn memory_advice(&self) -> Option<String> {
        let over = self.reason() == Reason::OutOfMemory || self.counted.oom_kills > 0;
        if !over {
            return None;
        }
        let limit = words::bytes(self.memory_limit);
        let (peak, _) = self.memory_peak();
        let peak = peak.map_or_else(String::new, |peak| format!(", peak {}", words::bytes(peak)));
        Some(format!(
            "out of memory: limit {limit}{peak}; it is set at {}: raise `limits.memory` there",
            self.memory_line
        ))
    }

    fn surface_lines(&self) -> Vec<String> {
        const SHOWN: usize = 8;
        let mut lines: Vec<String> = Vec::new();
        let found = &self.surface.found;
        if !found.is_empty() {
            lines.push(format!(
                "{} new or changed in writable folders would run code outside the ring; look before you use them:",
                words::count(found.len(), "file")
            ));
        }
        for (path, why) in found.iter().take(SHOWN) {
            lines.push(format!(
                "  {} ({why})",
                words::escape(&path.to_string_lossy())
            ));
        }
        if found.len() > SHOWN {
            lines.push(format!(
                "  and {} more; --report lists them",
                found.len() - SHOWN
            ));
        }
        if self.surface.incomplete {
            lines.push("the writable folders are too large to be looked through to the end".into());
        }
        lines
    }

    /// The same as JSON, for `--report`.
    pub(crate) fn report(&self) -> Value {
        let (reason, detail) = match self.reason() {
            Reason::Exited(code) => ("exited", json!(code)),
            Reason::Signalled(signal) => ("signalled", json!(words::signal(signal))),
            Reason::OutOfMemory => ("out-of-memory", json!(self.memory_limit)),
            Reason::Interrupted(signal) => ("interrupted", json!(words::signal(signal))),
            Reason::Wall => (
                "wall-time",
                json!(self.wall.map(|wall| u64::try_from(wall.as_millis()).ok())),
            ),
            Reason::Output => ("output", json!(self.output)),
            Reason::Unmasked(_) => ("unmasked", Value::Null),
            Reason::Unrecorded => ("unrecorded", Value::Null),
            Reason::Violations => ("violations", Value::Null),
            Reason::Loop => ("loop", Value::Null),
            Reason::Budget => ("budget", Value::Null),
            Reason::Told(signal) => ("told", json!(signal.name())),
            Reason::Blind => ("unwatched", Value::Null),
            Reason::Lost => ("lost", Value::Null),
        };
        let status = self
            .outcome
            .ended
            .and_then(|ended| ended.status)
            .map(decode);
        let surface: Vec<Value> = self
            .surface
            .found
            .iter()
            .map(|(path, why)| json!({"path": path_text(path), "why": why}))
            .collect();
        json!({
            "version": 1,
            "agent": self.agent,
            "ring": self.ring,
            "cause": reason,
            "detail": detail,
            "exit_code": self.code(),
            "main_status": status.map(|status| match status {
                Status::Code(code) => json!({"exit": code}),
                Status::Signal(signal) => json!({"signal": words::signal(signal)}),
            }),
            "verified_empty": self.outcome.ended.is_some(),
            "wall_ms": u64::try_from(self.lasted.as_millis()).unwrap_or(u64::MAX),
            "cpu_us": u64::try_from(self.cpu().as_micros()).unwrap_or(u64::MAX),
            "memory": {"limit": self.memory_limit, "peak": self.memory_peak().0,
                       "peak_is": self.memory_peak().1, "oom_kills": self.counted.oom_kills},
            "log": self.log,
            "decisions": {"allowed": self.counts.allowed, "denied": self.counts.denied,
                          "held": self.counts.held},
            "network": self.traffic.as_ref().map(Traffic::report),
            "runs_outside": surface,
            "runs_outside_complete": !self.surface.incomplete,
        })
    }
}

fn path_text(path: &Path) -> String {
    PathBuf::from(path).to_string_lossy().into_owned()
}

/// A wait status, taken apart (wait(2)).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Status {
    Code(u8),
    Signal(i32),
}

impl Status {
    fn exit_code(self) -> u8 {
        match self {
            Status::Code(code) => code,
            Status::Signal(signal) => u8::try_from(128 + signal).unwrap_or(u8::MAX),
        }
    }
}

fn decode(status: i32) -> Status {
    match status & 0x7f {
        0 => Status::Code(u8::try_from(status >> 8 & 0xff).unwrap_or(u8::MAX)),
        signal => Status::Signal(signal),
    }
}
