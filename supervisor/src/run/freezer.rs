//! Standing still and going on again: all of a ring at one stroke.
//!
//! By the cgroup's freezer where there is one (cgroup v2, Linux 5.2): the tasks stop wherever they are and
//! see nothing of it. Elsewhere the ring's init sends SIGSTOP to everything in its pid namespace, which
//! kill(2) does for all of them while nothing can fork past it, and nothing is left running there that could
//! send SIGCONT. But the kernel may, for who arranged it before (timer_create(2), F_SETSIG in fcntl(2), an exit signal in
//! clone(2)): so it is sent again and again, and such a process has the moments in between.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::process::Signal;

use crate::link::Link;

/// A task in the kernel stops when it comes out of it; longer than this nobody waits to be told so.
const WAITS: Duration = Duration::from_millis(200);

/// The longest moment that a process has which has itself woken.
const AGAIN: Duration = Duration::from_millis(10);

/// What stops a ring.
#[derive(Debug)]
pub(crate) enum Freezer {
    /// The folder of its cgroup.
    Group(PathBuf),
    /// SIGSTOP by its init.
    Init,
}

impl Freezer {
    /// The best that this ring has.
    pub(crate) fn of(group: Option<&Path>) -> Self {
        let writable = |group: &&Path| {
            let path = group.join("cgroup.freeze");
            File::options().write(true).open(path).is_ok()
        };
        match group.filter(writable) {
            Some(group) => Self::Group(group.to_owned()),
            None => Self::Init,
        }
    }

    pub(crate) const fn words(&self) -> &'static str {
        match self {
            Self::Group(_) => "by its cgroup",
            Self::Init => "by SIGSTOP",
        }
    }

    /// Stops all of it; whether the kernel has said that it stands still.
    pub(crate) fn freeze(&self, link: &Link) -> io::Result<bool> {
        match self {
            Self::Group(group) => {
                set(group, b"1")?;
                let step = Duration::from_millis(2);
                let mut waited = Duration::ZERO;
                while !is_frozen(group)? {
                    if waited >= WAITS {
                        return Ok(false);
                    }
                    std::thread::sleep(step);
                    waited += step;
                }
                Ok(true)
            }
            Self::Init => match send(link, Signal::STOP) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(false),
                sent => sent.map(|()| true),
            },
        }
    }

    /// When what stands still is to be told so again.
    pub(crate) const fn again(&self) -> Option<Duration> {
        match self {
            Self::Group(_) => None,
            Self::Init => Some(AGAIN),
        }
    }

    /// Lets it go on.
    pub(crate) fn thaw(&self, link: &Link) -> io::Result<()> {
        match self {
            Self::Group(group) => set(group, b"0"),
            Self::Init => send(link, Signal::CONT),
        }
    }
}

fn set(group: &Path, value: &[u8]) -> io::Result<()> {
    let mut file = File::options()
        .write(true)
        .open(group.join("cgroup.freeze"))?;
    file.write_all(value)
}

fn is_frozen(group: &Path) -> io::Result<bool> {
    let events = fs::read_to_string(group.join("cgroup.events"))?;
    Ok(events.lines().any(|line| line == "frozen 1"))
}

fn send(link: &Link, signal: Signal) -> io::Result<()> {
    link.signal(u8::try_from(signal.as_raw()).unwrap_or(0))
}
