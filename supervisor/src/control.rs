//! The sockets by which people reach a live run: its state, signals, approvals, reloading its policies.
//!
//! One line of JSON in, one out, and the connection is closed. Who asks is what the kernel says of the
//! peer; no ring has the folders in which these sockets lie. Root's runs have two: one for root, and one for
//! everybody else, who so cannot take root's places.

mod ask;
mod entrance;
mod order;

use std::fs;
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::AsFd;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use rustix::event::PollFd;
use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags};
use serde_json::Value;

pub(crate) use ask::{Socket, Unreachable, everywhere, one, sweep};
pub(crate) use entrance::Asked;
use entrance::{Entrance, Terms};
pub(crate) use order::{Order, refusal};

use crate::closing::Foreign;
use crate::places;

/// For who started the run, and root.
const OWNER: Terms = Terms {
    mode: 0o600,
    places: 16,
    each: 16,
    backlog: 128,
    patience: Duration::from_secs(5),
    rest: Duration::ZERO,
    orders: 16,
};
/// For everybody else, where root runs it: few places, of which nobody has all, and no more of the loop's time
/// than people need.
const OTHERS: Terms = Terms {
    mode: 0o666,
    places: 8,
    each: 2,
    backlog: 16,
    patience: Duration::from_secs(3),
    rest: Duration::from_millis(20),
    orders: 1,
};
/// As many descriptors as one message may carry (SCM_MAX_FD in unix(7)).
const FDS_SENT: usize = 253;

/// The listeners of one run; their names go with them.
#[derive(Debug)]
pub(crate) struct Control {
    entrances: Vec<Entrance>,
}

impl Control {
    /// Makes the sockets of this run.
    pub(crate) fn open(run: &str) -> io::Result<Self> {
        let mut entrances = vec![Entrance::open(places::control_dir()?.join(run), OWNER)?];
        if rustix::process::geteuid().is_root() {
            let others = places::approvers_dir()?.join(run);
            entrances.push(Entrance::open(others, OTHERS)?);
        }
        Ok(Self { entrances })
    }

    /// What the loop waits for.
    pub(crate) fn polls(&self) -> Vec<PollFd<'_>> {
        self.entrances.iter().flat_map(Entrance::polls).collect()
    }

    /// When something is due though nothing is ready.
    pub(crate) fn due(&self) -> Option<Duration> {
        let first = self.entrances.iter().filter_map(Entrance::due).min();
        first.map(|until| until.saturating_duration_since(Instant::now()))
    }

    /// Takes the orders that are whole. `ready` says whether any of [`Self::polls`] is: to ask the kernel for
    /// somebody who is not there costs as much as an agent's whole call.
    pub(crate) fn step(&mut self, ready: bool) -> Vec<Asked> {
        let mut asked = Vec::new();
        for (at, entrance) in self.entrances.iter_mut().enumerate() {
            entrance.step(at, ready, &mut asked);
        }
        asked
    }

    /// Answers. A peer that takes nothing is not waited for.
    pub(crate) fn answer(&mut self, asked: Asked, said: &Value) {
        if let Some(entrance) = self.entrances.get_mut(asked.at) {
            entrance.send(asked.socket, asked.peer, said);
        }
    }
}

/// Reads without waiting. What comes along is nobody's here, and is not closed on this thread.
fn receive(socket: &impl AsFd, chunk: &mut [u8]) -> rustix::io::Result<usize> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(FDS_SENT))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let flags = RecvFlags::DONTWAIT | RecvFlags::CMSG_CLOEXEC;
    let mut parts = [io::IoSliceMut::new(chunk)];
    let got = rustix::net::recvmsg(socket, &mut parts, &mut control, flags);
    for message in control.drain() {
        if let RecvAncillaryMessage::ScmRights(rights) = message {
            rights.map(Foreign::from).for_each(drop);
        }
    }
    got.map(|got| got.bytes)
}

/// A name that is there, as long as its listener is.
#[derive(Debug)]
struct Name(PathBuf);

impl Drop for Name {
    fn drop(&mut self) {
        // The next start takes away what is left.
        let _left = fs::remove_file(&self.0);
    }
}
