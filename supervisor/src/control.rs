//! The socket by which people reach a live run: its state, signals, approvals, reloading its policies.
//!
//! One line of JSON in, one out, and the connection is closed. Who asks is what the kernel says of the
//! peer; no ring has the folder in which these sockets lie.

mod ask;
mod order;

use std::fs;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixListener;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags};
use rustix::net::{RecvFlags, SendFlags, SocketFlags};
use serde_json::Value;

pub(crate) use ask::{Unreachable, everywhere, one};
pub(crate) use order::{Order, refusal};

use crate::approvals::Person;
use crate::places;

/// Connections at once.
const CLIENTS_MAX: usize = 16;
/// The longest order.
const LINE_MAX: usize = 4096;
/// A connection that has not said its line by then is closed.
const PATIENCE: Duration = Duration::from_secs(5);

/// The listener of one run; its name goes with it.
#[derive(Debug)]
pub(crate) struct Control {
    listener: OwnedFd,
    path: PathBuf,
    clients: Vec<Client>,
    leaving: Vec<Leaving>,
}

/// An answer on its way out.
#[derive(Debug)]
struct Leaving {
    socket: OwnedFd,
    goes: Vec<u8>,
    until: Instant,
}

#[derive(Debug)]
struct Client {
    socket: OwnedFd,
    peer: Person,
    came: Vec<u8>,
    until: Instant,
}

/// One order and the connection that waits for its answer.
#[derive(Debug)]
pub(crate) struct Asked {
    socket: OwnedFd,
    pub(crate) peer: Person,
    pub(crate) order: Order,
}

impl Control {
    /// Makes the socket of this run.
    pub(crate) fn open(run: &str) -> io::Result<Self> {
        let dir = places::control_dir()?;
        let path = dir.join(run);
        let listener = UnixListener::bind(&path)?;
        listener.set_nonblocking(true)?;
        if rustix::process::geteuid().is_root() {
            // Whoever may approve reaches it; what each may do is decided by who they are.
            fs::set_permissions(&path, fs::Permissions::from_mode(0o666))?;
        }
        Ok(Self {
            listener: listener.into(),
            path,
            clients: Vec::new(),
            leaving: Vec::new(),
        })
    }

    /// What the loop waits for.
    pub(crate) fn polls(&self) -> Vec<PollFd<'_>> {
        let mut polls = Vec::new();
        if self.clients.len() < CLIENTS_MAX {
            polls.push(PollFd::new(&self.listener, PollFlags::IN));
        }
        let clients = self.clients.iter();
        polls.extend(clients.map(|client| PollFd::new(&client.socket, PollFlags::IN)));
        let leaving = self.leaving.iter();
        polls.extend(leaving.map(|one| PollFd::new(&one.socket, PollFlags::OUT)));
        polls
    }

    /// When a connection has to be given up.
    pub(crate) fn due(&self) -> Option<Duration> {
        let clients = self.clients.iter().map(|client| client.until);
        let leaving = self.leaving.iter().map(|one| one.until);
        let first = clients.chain(leaving).min();
        first.map(|until| until.saturating_duration_since(Instant::now()))
    }

    /// Takes the orders that are whole. `ready` says whether any of [`Self::polls`] is: to ask the kernel for
    /// somebody who is not there costs as much as an agent's whole call.
    pub(crate) fn step(&mut self, ready: bool) -> Vec<Asked> {
        while ready && self.clients.len() < CLIENTS_MAX {
            let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
            let Ok(socket) = rustix::net::accept_with(&self.listener, flags) else {
                break;
            };
            let Ok(peer) = rustix::net::sockopt::socket_peercred(&socket) else {
                continue;
            };
            self.clients.push(Client {
                socket,
                peer: Person {
                    uid: peer.uid.as_raw(),
                    gid: peer.gid.as_raw(),
                },
                came: Vec::new(),
                until: Instant::now() + PATIENCE,
            });
        }
        let mut asked = Vec::new();
        for mut client in std::mem::take(&mut self.clients) {
            match client.read() {
                Some(line) => match Order::parse(&line) {
                    Ok(order) => asked.push(client.asks(order)),
                    Err(why) => {
                        let wrong = client.asks(Order::Status);
                        self.answer(wrong, &refusal(2, &why));
                    }
                },
                None if client.waits() => self.clients.push(client),
                None => {}
            }
        }
        self.leaving.retain_mut(Leaving::write);
        asked
    }

    /// Answers. A peer that takes nothing is not waited for.
    pub(crate) fn answer(&mut self, asked: Asked, said: &Value) {
        let mut leaving = Leaving {
            socket: asked.socket,
            goes: format!("{said}\n").into_bytes(),
            until: Instant::now() + PATIENCE,
        };
        if leaving.write() {
            self.leaving.push(leaving);
        }
    }
}

impl Leaving {
    /// Sends what can be sent; whether there is more.
    fn write(&mut self) -> bool {
        let flags = SendFlags::DONTWAIT | SendFlags::NOSIGNAL;
        loop {
            match rustix::net::send(&self.socket, &self.goes, flags) {
                Ok(count) if count < self.goes.len() => drop(self.goes.drain(..count)),
                Err(rustix::io::Errno::INTR) => {}
                Err(rustix::io::Errno::AGAIN) => return Instant::now() < self.until,
                Ok(_) | Err(_) => return false,
            }
        }
    }
}

impl Client {
    /// The line, once it is there.
    fn read(&mut self) -> Option<Vec<u8>> {
        let mut chunk = [0_u8; LINE_MAX];
        match rustix::net::recv(&self.socket, &mut chunk[..], RecvFlags::DONTWAIT) {
            Ok((0, _)) => self.until = Instant::now(),
            Ok((count, _)) => self
                .came
                .extend_from_slice(chunk.get(..count).unwrap_or_default()),
            Err(rustix::io::Errno::AGAIN | rustix::io::Errno::INTR) => {}
            Err(_) => self.until = Instant::now(),
        }
        let end = self.came.iter().position(|byte| *byte == b'\n')?;
        self.came.truncate(end);
        Some(std::mem::take(&mut self.came))
    }

    fn waits(&self) -> bool {
        self.came.len() < LINE_MAX && Instant::now() < self.until
    }

    fn asks(self, order: Order) -> Asked {
        Asked {
            socket: self.socket,
            peer: self.peer,
            order,
        }
    }
}

impl AsFd for Control {
    fn as_fd(&self) -> std::os::fd::BorrowedFd<'_> {
        self.listener.as_fd()
    }
}

impl Drop for Control {
    fn drop(&mut self) {
        // The next start takes away what is left.
        let _left = fs::remove_file(&self.path);
    }
}

/// Takes away the sockets of runs that are dead: nobody listens there.
pub(crate) fn sweep() {
    let Ok(dir) = places::control_dir() else {
        return;
    };
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        let refused = std::os::unix::net::UnixStream::connect(entry.path())
            .is_err_and(|error| error.kind() == io::ErrorKind::ConnectionRefused);
        if refused {
            let _others_did = fs::remove_file(entry.path());
        }
    }
}
