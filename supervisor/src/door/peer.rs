//! Who is at the other end of a connection: a process of the ring, or one of the host that found the way in
//! (by `/proc/PID/root`, which its own user may walk).

use std::fs;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, pidfd_open};

/// Parents that are looked at, one above the other.
const DEPTH_MAX: usize = 128;

/// The process that connected, if it lives and descends from `top`. Who was made in a ring stays below its
/// init, whatever it forks, and init below ringd (pid_namespaces(7)).
pub(super) fn below(pid: Pid, top: u32) -> bool {
    let Ok(held) = pidfd_open(pid, PidfdFlags::empty()) else {
        return false;
    };
    let top = i32::try_from(top).unwrap_or(0);
    let mut at = pid.as_raw_nonzero().get();
    for _ in 0..DEPTH_MAX {
        match parent(at) {
            // The number is still its own: it was the same process all the time.
            Some(found) if found == top => return lives(&held),
            Some(found) if found > 1 => at = found,
            Some(_) | None => return false,
        }
    }
    false
}

/// The fourth field of proc_pid_stat(5); the second may hold anything, and ends with the last `)`.
fn parent(pid: i32) -> Option<i32> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let (_, rest) = stat.rsplit_once(')')?;
    rest.split_ascii_whitespace().nth(1)?.parse().ok()
}

fn lives(pidfd: &impl std::os::fd::AsFd) -> bool {
    let at_once = Timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    poll(&mut [PollFd::new(pidfd, PollFlags::IN)], Some(&at_once)) == Ok(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn children_are_below_and_others_are_not() {
        let own = std::process::id();
        #[expect(clippy::disallowed_methods, reason = "any child will do")]
        let mut child = std::process::Command::new("sleep")
            .arg("60")
            .spawn()
            .unwrap();
        let pid = Pid::from_raw(i32::try_from(child.id()).unwrap()).unwrap();
        assert!(below(pid, own));
        assert!(!below(pid, own + 1));
        assert!(!below(rustix::process::getpid(), own));
        child.kill().unwrap();
        // Dead, and not yet collected.
        rustix::process::waitid(
            rustix::process::WaitId::Pid(pid),
            rustix::process::WaitIdOptions::EXITED | rustix::process::WaitIdOptions::NOWAIT,
        )
        .unwrap();
        assert!(!below(pid, own));
        child.wait().unwrap();
        assert!(!below(pid, own));
    }
}
