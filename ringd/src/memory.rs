//! Counting a ring's memory where no cgroup does: what its processes hold for themselves, what they
//! map of shared memory, and the memfds that they keep open without mapping them.
//!
//! The tmpfs mounts of a ring have sizes of their own and are not counted here. What is counted
//! twice (shared memory mapped by several processes) errs on the side of the limit.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::time::Duration;

pub(crate) struct Watch {
    init: u32,
    limit: u64,
    peak: u64,
    blind: u32,
}

impl Watch {
    pub(crate) fn new(init: u32, limit: u64) -> Self {
        Self {
            init,
            limit,
            peak: 0,
            blind: 0,
        }
    }

    /// How long to wait before the next count: what a ring can take in between is the overshoot, so
    /// one that has used half of its memory is looked at more often.
    pub(crate) fn pause(&self) -> Duration {
        Duration::from_millis(if self.peak > self.limit / 2 { 10 } else { 50 })
    }

    pub(crate) fn peak(&self) -> u64 {
        self.peak
    }

    /// Counts once. A ring always has a process besides its init; where none is to be seen several
    /// times running (an unusual /proc), nothing is known, and that is not nothing used.
    pub(crate) fn count(&mut self) -> Seen {
        let mut used = 0;
        let mut memfds = BTreeSet::new();
        let processes = descendants(self.init);
        self.blind = if processes.is_empty() {
            self.blind + 1
        } else {
            0
        };
        if self.blind > BLIND_MAX {
            return Seen::Nothing;
        }
        for pid in processes {
            used += resident(pid);
            memfds.extend(open_memfds(pid));
        }
        used += memfds.into_iter().map(|(_, _, bytes)| bytes).sum::<u64>();
        self.peak = self.peak.max(used);
        if used > self.limit {
            Seen::Over(used)
        } else {
            Seen::Within
        }
    }
}

/// What a count came to.
pub(crate) enum Seen {
    Within,
    /// Bytes in use beyond the limit.
    Over(u64),
    /// The ring's processes are not to be seen.
    Nothing,
}

/// Empty counts in a row that may be a ring that is just ending.
const BLIND_MAX: u32 = 10;

/// Every process below the ring's init: orphans become its children, so this is all of the ring.
fn descendants(init: u32) -> Vec<u32> {
    let mut found = Vec::new();
    let mut open = vec![init];
    while let Some(pid) = open.pop() {
        let Ok(tasks) = fs::read_dir(format!("/proc/{pid}/task")) else {
            continue;
        };
        for task in tasks.flatten() {
            let children = fs::read_to_string(task.path().join("children")).unwrap_or_default();
            let children = children
                .split_whitespace()
                .filter_map(|pid| pid.parse::<u32>().ok());
            for child in children {
                found.push(child);
                open.push(child);
            }
        }
    }
    found
}

/// Bytes that this process holds: its resident pages but for those of mapped files.
fn resident(pid: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let kib = |name: &str| -> u64 {
        let line = status.lines().find_map(|line| line.strip_prefix(name));
        line.and_then(|rest| rest.split_whitespace().next())
            .and_then(|number| number.parse().ok())
            .unwrap_or(0)
    };
    let pages = kib("VmPTE:");
    (kib("RssAnon:") + kib("RssShmem:") + pages) * 1024
}

/// Device, inode and bytes in use of the memfds that a process has open or mapped.
fn open_memfds(pid: u32) -> Vec<(u64, u64, u64)> {
    let Ok(fds) = fs::read_dir(format!("/proc/{pid}/fd")) else {
        return Vec::new();
    };
    let memfd = |path: PathBuf| {
        let target = fs::read_link(&path).ok()?;
        // memfds, and shared memory without a name, are files of an internal tmpfs.
        let name = target.to_str()?;
        if !name.starts_with("/memfd:") && !name.starts_with("/SYSV") {
            return None;
        }
        let meta = fs::metadata(&path).ok()?;
        Some((meta.dev(), meta.ino(), meta.blocks().saturating_mul(512)))
    };
    fds.flatten().filter_map(|fd| memfd(fd.path())).collect()
}
