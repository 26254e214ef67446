//! What people see before and after a run, on standard error.

use std::io::{IsTerminal, Write};

use profiles::{Access, At, Ring};

use crate::cgroup::{Groups, Means};
use crate::error::Failed;
use crate::run::{Ground, Identity, Layers, Origin, Place};
use crate::words;

/// The banner: ring, layers in force, limits and by what means they are kept.
pub(crate) fn lines(
    ring: &Ring,
    ground: &Ground,
    layers: &Layers,
    identity: &Identity,
    groups: &Groups,
) -> Vec<String> {
    let access = match ring.access {
        Access::Read => "reads",
        Access::Write => "writes",
    };
    let landlock = match layers.handled.fs {
        0 => "no landlock".to_owned(),
        _ => format!("landlock abi {}", layers.landlock_abi),
    };
    let mut line = format!(
        "{} · ring {} {} · namespaces, {landlock}, seccomp {} calls · {access} {} · memory {} {} · pids {} {}",
        ring.name,
        ring.number,
        ring.ring,
        ring.syscalls.len(),
        words::escape(&ground.workspace.to_string_lossy()),
        words::bytes(ring.memory.value.0),
        paren(groups.memory_means()),
        ring.pids.value,
        paren(groups.pids_means()),
    );
    if let Some(cpu) = &ring.cpu {
        let whole = f64::from(cpu.value.0) / 1000.0;
        line += &format!(" · cpu {whole} {}", paren(groups.cpu_means()));
    }
    if let Some(wall) = &ring.wall {
        line += &format!(" · wall {}", words::duration(wall.value.into()));
    }
    line += &match identity.origin {
        Origin::Requester => format!(" · your uid {}", identity.uid),
        Origin::Sudo | Origin::Dynamic(_) => format!(" · uid {}", identity.uid),
    };
    let mut lines = vec![line];
    lines.extend(granted(ground));
    lines.extend(ground.narrowed.iter().map(|line| words::escape(line)));
    lines.extend(network(ring));
    if matches!(identity.origin, Origin::Requester) {
        lines.extend(groups_kept());
    }
    if !layers.missing.is_empty() {
        let names: Vec<&str> = layers.missing.iter().map(|layer| layer.name()).collect();
        lines.push(format!(
            "NOT IN FORCE, as `degrade` permits: {}",
            names.join(", ")
        ));
    }
    lines
}

/// Where the agent gets to, by name.
fn network(ring: &Ring) -> Option<String> {
    const SHOWN: usize = 6;
    let network = &ring.network;
    let mut parts = Vec::new();
    let mut part = |what: &str, items: Vec<String>| {
        let more = items.len().saturating_sub(SHOWN);
        let mut text = items.into_iter().take(SHOWN).collect::<Vec<_>>().join(" ");
        if more > 0 {
            text += &format!(" and {more} more");
        }
        if !text.is_empty() {
            parts.push(format!("{what}{text}"));
        }
    };
    let texts = |ports: &[At<u16>]| ports.iter().map(|at| at.value.to_string()).collect();
    part(
        "",
        network
            .allow
            .iter()
            .map(|at| at.value.to_string())
            .collect(),
    );
    part("this host's ports ", texts(&network.host_ports));
    part("serves ", texts(&network.listen));
    let private: Vec<String> = network.private.iter().map(ToString::to_string).collect();
    part("private ranges ", private);
    let proxy = network.upstream_proxy.as_ref();
    part(
        "by way of ",
        proxy
            .map(|at| at.value.host.to_string())
            .into_iter()
            .collect(),
    );
    (!parts.is_empty()).then(|| format!("network {}", parts.join(" · ")))
}

/// What the ring sees besides its workspace, as it was resolved.
fn granted(ground: &Ground) -> Option<String> {
    let list = |write: bool| -> Vec<String> {
        let grants = ground.grants.iter().filter(|grant| grant.write == write);
        let others =
            grants.filter(|grant| grant.path != ground.workspace && grant.runtime.is_none());
        others
            .map(|grant| words::escape(&grant.path.to_string_lossy()))
            .collect()
    };
    let mut parts: Vec<String> = [("reads", list(false)), ("writes", list(true))]
        .into_iter()
        .filter(|(_, paths)| !paths.is_empty())
        .map(|(what, paths)| format!("{what} {}", paths.join(" ")))
        .collect();
    let runtimes: Vec<String> = ground
        .grants
        .iter()
        .filter_map(|grant| {
            let why = grant.runtime?;
            Some(format!(
                "{} ({why})",
                words::escape(&grant.path.to_string_lossy())
            ))
        })
        .collect();
    if !runtimes.is_empty() {
        parts.push(format!("runs from {}", runtimes.join(" ")));
    }
    let hidden = ground.hidden.iter();
    let hidden: Vec<_> = hidden
        .map(|path| words::escape(&path.to_string_lossy()))
        .collect();
    if !hidden.is_empty() {
        parts.push(format!("hides {}", hidden.join(" ")));
    }
    match &ground.home {
        Place::Kept(_) => parts.push("a home that is kept".into()),
        Place::Temporary => parts.push("an empty home".into()),
        Place::Scratch => {}
    }
    (!parts.is_empty()).then(|| format!("also {}", parts.join(" · ")))
}

fn paren(means: Means) -> String {
    format!("({})", means.words())
}

/// The kernel keeps an ordinary user's supplementary groups; that is worth a line.
fn groups_kept() -> Option<String> {
    let own = rustix::process::getegid();
    let groups = rustix::process::getgroups().unwrap_or_default();
    let kept = groups.into_iter().filter(|group| *group != own).count();
    (kept > 0).then(|| {
        format!(
            "{} of yours stay in force on files that are granted",
            words::count(kept, "supplementary group")
        )
    })
}

/// The same while an agent runs: what nobody takes now is not waited for, or whoever stops the terminal would
/// stop us.
pub(crate) fn tell(lines: &[String]) {
    use rustix::event::{PollFd, PollFlags, Timespec, poll};
    let at_once = Timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    for line in lines {
        let stderr = std::io::stderr();
        let mut fds = [PollFd::new(&stderr, PollFlags::OUT)];
        // A pipe that is ready takes 4096 bytes (pipe(7)).
        if poll(&mut fds, Some(&at_once)) == Ok(1) {
            print(&[line.chars().take(TOLD_MAX).collect()]);
        }
    }
}

/// Characters of a line that is told while an agent runs.
const TOLD_MAX: usize = 900;

/// Prints lines of ours, told apart from the agent's.
pub(crate) fn print(lines: &[String]) {
    let colour = colour();
    let mut out = std::io::stderr().lock();
    for line in lines {
        let text = if colour {
            format!("\x1b[2magt │\x1b[0m {line}\n")
        } else {
            format!("agt-supervisor: {line}\n")
        };
        // Nobody to tell when standard error is gone.
        let _unheard = out.write_all(text.as_bytes());
    }
}

/// Prints why a verb failed.
pub(crate) fn error(failed: &Failed) {
    let (on, off) = if colour() {
        ("\x1b[1;31m", "\x1b[0m")
    } else {
        ("", "")
    };
    let mut out = std::io::stderr().lock();
    let _unheard = writeln!(
        out,
        "{on}agt-supervisor:{off} {}",
        words::escape(&failed.to_string())
    );
    if let Some(excerpt) = failed.excerpt() {
        let _unheard = writeln!(out, "{excerpt}");
    }
}

fn colour() -> bool {
    std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|v| v.is_empty())
}
