//! Rings in words, and how exposed the host is to an agent in one.

use crate::agent::Limits;
use crate::ring::{Access, Proc, Programs, RingProfile, Socket};
use crate::value::bytes_text;

/// What an agent may do in this ring, for people.
#[must_use]
pub fn show(ring: &RingProfile) -> String {
    let mut lines = vec![format!(
        "ring {} ({}): {}",
        ring.name, ring.number, ring.summary
    )];
    let mut line = |what: &str, text: String| lines.push(format!("  {what:<11}{text}"));
    let workspace = match ring.workspace {
        Access::Read => "may be read",
        Access::Write => "may be read and changed",
    };
    line("workspace", workspace.into());
    line(
        "system",
        "/usr, /lib and a curated /etc, read-only (profiles/runtime/system.yaml)".into(),
    );
    for (what, paths) in [("read", &ring.read), ("write", &ring.write)] {
        if !paths.is_empty() {
            let paths: Vec<String> = paths
                .iter()
                .map(|at| at.value.path.display().to_string())
                .collect();
            line(what, paths.join(" "));
        }
    }
    line(
        "/proc",
        match ring.proc {
            Proc::Pid => "its own processes only".into(),
            Proc::Masked => {
                "its own processes, and meminfo, cpuinfo and the like; read-only".into()
            }
        },
    );
    line(
        "programs",
        match ring.programs {
            Programs::Any => "any that it can read".into(),
            Programs::Once => "the command itself, once; threads and forks are fine".into(),
        },
    );
    let kinds: Vec<&str> = ring.sockets.iter().map(|kind| kind.name()).collect();
    line(
        "sockets",
        if kinds.is_empty() {
            "none".into()
        } else {
            kinds.join(" ")
        },
    );
    line("network", "none but the ring's own loopback".into());
    line(
        "calls",
        format!(
            "{} of {} system calls",
            ring.syscalls.len(),
            plan::syscalls::all().count()
        ),
    );
    line("limits", limits(&ring.default));
    line("at most", limits(&ring.max));
    let layers: Vec<&str> = ring.degrade.iter().map(|layer| layer.name()).collect();
    line(
        "may lack",
        if layers.is_empty() {
            "nothing".into()
        } else {
            layers.join(" ")
        },
    );
    lines.join("\n") + "\n"
}

fn limits(limits: &Limits) -> String {
    let mut parts = Vec::new();
    let mut add = |name: &str, value: Option<String>| {
        parts.extend(value.map(|value| format!("{name} {value}")));
    };
    add(
        "memory",
        limits.memory.as_ref().map(|at| bytes_text(at.value)),
    );
    add("pids", limits.pids.as_ref().map(|at| at.value.to_string()));
    add(
        "files",
        limits.files.as_ref().map(|at| at.value.to_string()),
    );
    add(
        "file_size",
        limits.file_size.as_ref().map(|at| bytes_text(at.value)),
    );
    add("tmp", limits.tmp.as_ref().map(|at| bytes_text(at.value)));
    if parts.is_empty() {
        "no ceiling".into()
    } else {
        parts.join(" · ")
    }
}

/// Something that an attacker in the ring would find.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// What is exposed.
    pub what: &'static str,
    /// Tenths of a point.
    pub weight: u32,
    /// Why it counts.
    pub because: &'static str,
}

/// How exposed the host is, after the manner of `systemd-analyze security`: 0 is nothing, 10 is a
/// process without a sandbox.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Score {
    /// Tenths of a point.
    pub tenths: u32,
    /// What it is made of.
    pub findings: Vec<Finding>,
}

/// Scores a ring by what it permits.
#[must_use]
pub fn score(ring: &RingProfile) -> Score {
    let calls = ring.syscalls.len();
    let has = |kind| ring.sockets.contains(&kind);
    let all = [
        (
            true,
            "the host's kernel",
            5,
            "a kernel bug within reach of the permitted calls ends the ring",
        ),
        (
            calls > 200,
            "more than 200 system calls",
            3,
            "each is kernel code that the agent can reach",
        ),
        (
            calls > 300,
            "more than 300 system calls",
            4,
            "rare calls have been tested least",
        ),
        (
            ring.programs == Programs::Any,
            "any program",
            3,
            "tools of the system can be turned to other ends",
        ),
        (
            ring.workspace == Access::Write,
            "a writable workspace",
            4,
            "hooks and scripts left there run outside when somebody uses them",
        ),
        (
            has(Socket::Unix),
            "unix sockets",
            2,
            "a socket in a granted folder leads to whoever listens there",
        ),
        (
            has(Socket::Inet),
            "network code of the kernel",
            2,
            "loopback only, but all of TCP and UDP",
        ),
        (
            has(Socket::NetlinkRoute),
            "netlink",
            1,
            "reads of the ring's own routes",
        ),
        (
            ring.proc == Proc::Masked,
            "facts about the host in /proc",
            1,
            "processor, memory and load are visible",
        ),
        (
            ring.max.memory.is_none(),
            "no ceiling on memory",
            3,
            "agent.yaml may ask for all of it",
        ),
        (
            ring.max.pids.is_none(),
            "no ceiling on processes",
            2,
            "agent.yaml may ask for any number",
        ),
        (
            !ring.write.is_empty(),
            "shared writable paths",
            4,
            "agents of the ring can reach each other's files",
        ),
        (
            !ring.degrade.is_empty(),
            "layers that may be missing",
            1,
            "agent.yaml can start without them on older hosts",
        ),
    ];
    let findings: Vec<Finding> = all
        .into_iter()
        .filter(|(holds, ..)| *holds)
        .map(|(_, what, weight, because)| Finding {
            what,
            weight,
            because,
        })
        .collect();
    Score {
        tenths: findings.iter().map(|finding| finding.weight).sum(),
        findings,
    }
}
