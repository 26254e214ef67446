//! Holds one ring: takes a launch plan, builds the ring, forks the agent into it, passes signals
//! on, and sees to it that the ring is empty before it says so.
//!
//! One thread, one poll loop, no async. It reads nothing but plan frames from the supervisor that
//! started it, and opens nothing but `/proc/PID/{uid_map,gid_map,setgroups}` of its own child and,
//! where no cgroup counts memory, the `/proc` entries of the ring.
//!
//! What may be asked, and when:
//!
//! | phase | `Launch` | `Signal` | `Kill` | supervisor gone |
//! |---|---|---|---|---|
//! | waiting | taken, once | refused | refused | leave |
//! | building | refused | kept for init | kills | kills |
//! | running | refused | passed to every process | kills | kills |
//!
//! Why each is safe though the asker be hostile: a plan cannot make an agent root (the decoder
//! refuses uid and gid 0, and the namespace maps only that one id); its filter is compiled here
//! from a set of calls, with the argument rules and the calls that no ring has always applied; a
//! signal reaches only the ring; refusals end the run, and the end of ringd is the end of the ring.
//!
//! **Invariant:** the death of this process, at any instant and for any reason, is the death of
//! every process of the ring (the init's parent-death signal and the life pipe).
#![deny(unsafe_code)]

mod launch;
mod link;
mod memory;
mod ring;

use std::os::fd::AsFd;
use std::process::ExitCode;

use plan::{Command, Report};

use crate::link::{Link, Received};

/// Serves the supervisor on standard input until the ring has ended.
#[must_use]
pub fn run() -> ExitCode {
    // A supervisor that is killed cannot close its ring; this process's death does.
    let kill = rustix::process::Signal::KILL;
    if rustix::process::set_parent_process_death_signal(Some(kill)).is_err() {
        return ExitCode::from(125);
    }
    let Ok(socket) = std::io::stdin().as_fd().try_clone_to_owned() else {
        return ExitCode::from(125);
    };
    match serve(&mut Link::new(socket)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failed) => {
            // Nobody is left to tell when this fails too, and there is nothing to undo.
            eprintln!("agt-ringd: {failed}");
            ExitCode::from(125)
        }
    }
}

/// Why ringd gave up. The ring, if there is one, ends with the process.
#[derive(Debug)]
enum RingdError {
    /// The socket to the supervisor failed.
    Link(std::io::Error),
    /// The supervisor sent what is not a frame of this version.
    Frame(plan::WireError),
    /// A command came in a phase that does not take it.
    Phase,
    /// The descriptors that came along are not those that the plan names.
    Descriptors,
    /// A call of ringd itself failed.
    Call(&'static str, std::io::Error),
}

impl std::fmt::Display for RingdError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            RingdError::Link(error) => write!(f, "socket to the supervisor: {error}"),
            RingdError::Frame(error) => write!(f, "frame refused: {error}"),
            RingdError::Phase => write!(f, "command refused in this phase"),
            RingdError::Descriptors => write!(f, "descriptors do not match the plan"),
            RingdError::Call(what, error) => write!(f, "{what}: {error}"),
        }
    }
}

fn serve(link: &mut Link) -> Result<(), RingdError> {
    let (launch, fds) = match link.receive()? {
        Received::Command(Command::Launch(launch), fds) => (launch, fds),
        Received::Command(Command::Signal(_) | Command::Kill, _) => return Err(RingdError::Phase),
        Received::Gone => return Ok(()),
    };
    match launch::launch(&launch, fds) {
        Ok(born) => ring::hold(link, born, launch.watched_memory, launch.last_call_ms),
        Err(RingdError::Call(_, error)) => {
            let errno = error.raw_os_error().unwrap_or(0);
            link.report(
                &Report::Failed {
                    stage: 0,
                    index: 0,
                    errno,
                },
                &[],
            )
        }
        Err(other) => Err(other),
    }
}
