//! The ring's door: the Unix socket at which an agent asks before it acts.
//!
//! It lies in a mount that only this ring has, so who speaks there is known by construction; which of
//! its processes connected is recorded. Each client is served a few frames in turn, and one that does
//! not read its answers is not read from: nobody waits for another, and the loop for nobody.

mod call;
mod frame;
mod large;
mod peer;

use std::collections::VecDeque;
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags};
use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendFlags, SocketFlags};
use serde_json::{Map, Value};

use crate::closing::Foreign;
pub(crate) use call::{Call, error};
use frame::{EVENT, REPLY};
pub(crate) use frame::{Frame, HEAD, PAYLOAD_MAX, WITH_FD};
pub(crate) use large::BYTES_MAX as LARGE_MAX;

/// Connections of one ring at once.
const CLIENTS_MAX: usize = 64;
/// Frames of one client before the next one's turn.
const TURN: usize = 8;
/// How long signals and orders wait for the door, but for the turn that has begun.
const STEP: Duration = Duration::from_millis(20);
/// Answers that wait to be read; above that nothing more is taken from the client.
const WAITING_MAX: usize = 256 * 1024;
const CHUNK: usize = 16 * 1024;
/// Descriptors of one client that wait for their frame; nothing more is read before it came.
const FDS_MAX: usize = 2;
/// The most in one message (SCM_MAX_FD in unix(7)). With room for fewer the kernel would close the others, here.
const FDS_SENT: usize = 253;
/// Descriptors that wait to be closed; above that nothing is taken from anybody, until they are.
const CLOSING_MAX: usize = 128;
/// Descriptors that are open at once while somebody is let in: theirs, their process and what is said of it.
const LETTING_IN: usize = 3;
/// So long it rests when more waits to be closed than may, or no descriptor is left.
const REST: Duration = Duration::from_millis(20);

/// Who answers.
pub(crate) trait Answer {
    /// Answers one call of the process `pid`.
    fn answer(
        &mut self,
        call: Call,
        body: Map<String, Value>,
        pid: Option<i32>,
    ) -> Map<String, Value>;

    /// What happened that clients want to be told.
    fn events(&mut self) -> Vec<Map<String, Value>>;
}

/// The call whose number events have.
const SIGNAL: u16 = 15;

/// One connection.
#[derive(Debug)]
struct Client {
    socket: Foreign,
    pid: Option<i32>,
    came: Vec<u8>,
    goes: Vec<u8>,
    open: bool,
    /// Whether it is told of events (SIGACTION).
    listens: bool,
    /// Descriptors that came, until the frame that names them is there.
    fds: VecDeque<Foreign>,
    /// Frames came in that were not served in its turn.
    more: bool,
}

/// The listener and everybody who came in.
#[derive(Debug)]
pub(crate) struct Door {
    /// Those who wait there go with it.
    listener: Foreign,
    /// Whoever comes in descends from this process.
    top: u32,
    clients: Vec<Client>,
    /// What is read goes through here: clearing it for every call would cost as much as the call.
    chunk: Vec<u8>,
    /// Nobody more can be let in now: there is no descriptor left. Who waits is asked about after a while, or
    /// the loop would never rest.
    full: bool,
    /// More waits to be closed than may.
    rests: bool,
}

/// Whether somebody in there hands over more than can be closed. It is not told from a crowd that goes away at
/// once, so nobody loses a connection for it.
fn is_behind() -> bool {
    Foreign::waiting() > CLOSING_MAX
}

impl Door {
    /// The door of the ring whose ringd is the process `top`.
    pub(crate) fn new(listener: OwnedFd, top: u32) -> io::Result<Self> {
        rustix::io::ioctl_fionbio(&listener, true)?;
        Ok(Self {
            listener: listener.into(),
            top,
            clients: Vec::new(),
            chunk: vec![0; CHUNK],
            full: false,
            rests: false,
        })
    }

    /// When it is to be looked at again though no socket tells: at once where somebody has more to say. It never
    /// stays here for that, or one that never stops would hold signals and deadlines up.
    pub(crate) fn due(&self) -> Option<Duration> {
        if self.more() {
            return Some(Duration::ZERO);
        }
        (self.rests || self.full).then_some(REST)
    }

    /// Whether somebody has more to say that no socket tells of.
    pub(crate) fn more(&self) -> bool {
        self.clients.iter().any(|client| client.more)
    }

    /// A ring that may make no socket has its one connection from the start.
    pub(crate) fn with(mut self, connected: OwnedFd) -> io::Result<Self> {
        rustix::io::ioctl_fionbio(&connected, true)?;
        // Whom it was made by is us, and which of the ring's processes speaks there nobody can say.
        self.clients.push(Client::new(connected, None));
        Ok(self)
    }

    /// What the loop waits for; [`Self::step`] is told which of them are ready.
    pub(crate) fn polls(&self) -> Vec<PollFd<'_>> {
        if self.rests {
            return Vec::new();
        }
        let mut polls = Vec::with_capacity(self.clients.len() + 1);
        for client in &self.clients {
            let mut wanted = PollFlags::empty();
            if client.goes.len() < WAITING_MAX {
                wanted |= PollFlags::IN;
            }
            if !client.goes.is_empty() {
                wanted |= PollFlags::OUT;
            }
            polls.push(PollFd::new(&client.socket, wanted));
        }
        if self.clients.len() < CLIENTS_MAX && !self.full {
            polls.push(PollFd::new(&self.listener, PollFlags::IN));
        }
        polls
    }

    /// Takes what there is, one turn for each who has something, and lets in whom it can: nobody pays for those
    /// who are silent.
    pub(crate) fn step(&mut self, ready: &[bool], who: &mut impl Answer) {
        let knocks = ready.get(self.clients.len()) == Some(&true);
        let (until, mut large, mut turns) = (Instant::now() + STEP, 1, 0);
        for (at, client) in self.clients.iter_mut().enumerate() {
            if Instant::now() >= until {
                break;
            }
            turns += 1;
            if ready.get(at) == Some(&true) || client.more {
                client.more = client.turn(&mut self.chunk, &mut large, who);
            }
        }
        // Whoever had no turn, or was last with large arguments, comes first.
        if turns < self.clients.len() {
            self.clients.rotate_left(turns);
        } else if large == 0 {
            self.clients.rotate_left(1);
        }
        self.tell(who);
        self.clients.retain(|client| client.open);
        // Who waits where there was no descriptor left is let in as soon as there is one.
        if knocks || self.full {
            self.let_in(until);
        }
        self.rests = is_behind();
    }

    /// Whether there are as many as letting in takes.
    fn has_descriptors(&self) -> bool {
        let copies = (0..LETTING_IN).map(|_| self.listener.as_fd().try_clone_to_owned());
        copies.collect::<io::Result<Vec<_>>>().is_ok()
    }

    fn let_in(&mut self, until: Instant) {
        self.full = false;
        // No more than that at once, whoever knocks how often.
        let before = self.clients.len();
        for _ in before..CLIENTS_MAX {
            // One of them always, however long the round took.
            let late = self.clients.len() > before && Instant::now() >= until;
            if is_behind() || late {
                break;
            }
            // To see who it is takes more of them, and whom we cannot see we would send away.
            if !self.has_descriptors() {
                self.full = true;
                break;
            }
            let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
            match rustix::net::accept_with(&self.listener, flags) {
                // Of others the connection is closed.
                Ok(socket) => {
                    let peer = rustix::net::sockopt::socket_peercred(&socket);
                    let pid = peer.map(|peer| peer.pid);
                    if let Ok(pid) = pid
                        && peer::below(pid, self.top)
                    {
                        let pid = pid.as_raw_nonzero().get();
                        self.clients.push(Client::new(socket, Some(pid)));
                    } else {
                        drop(Foreign::from(socket));
                    }
                }
                Err(errno) => {
                    use rustix::io::Errno;
                    self.full = !matches!(errno, Errno::AGAIN | Errno::INTR | Errno::CONNABORTED);
                    break;
                }
            }
        }
    }
}

impl Door {
    /// Tells those who listen what happened. While nobody does, it waits.
    pub(crate) fn tell(&mut self, who: &mut impl Answer) {
        let listens = |client: &Client| client.listens && client.goes.len() < WAITING_MAX;
        if !self.clients.iter().any(listens) {
            return;
        }
        for event in who.events() {
            let payload = serde_json::to_vec(&event).unwrap_or_else(|_| b"{}".to_vec());
            for client in self.clients.iter_mut().filter(|client| listens(client)) {
                let payload = payload.clone();
                let (call, flags, id) = (SIGNAL, EVENT, 0);
                Frame {
                    call,
                    flags,
                    id,
                    payload,
                }
                .put(&mut client.goes);
                client.write();
            }
        }
    }
}

impl AsFd for Door {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.listener.as_fd()
    }
}

impl Client {
    fn new(socket: OwnedFd, pid: Option<i32>) -> Self {
        Self {
            socket: socket.into(),
            pid,
            came: Vec::new(),
            goes: Vec::new(),
            open: true,
            listens: false,
            fds: VecDeque::new(),
            more: false,
        }
    }

    /// One turn, in which so many frames with large arguments may be served. Whether there is more that no
    /// socket tells of.
    fn turn(&mut self, chunk: &mut [u8], large: &mut u32, who: &mut impl Answer) -> bool {
        self.write();
        self.read(chunk);
        let mut left = TURN;
        while left > 0 && self.goes.len() < WAITING_MAX {
            if Frame::is_large(&self.came) && Frame::waits(&self.came) {
                match large.checked_sub(1) {
                    Some(rest) => *large = rest,
                    None => break,
                }
            }
            match Frame::take(&mut self.came) {
                Ok(Some(frame)) => self.serve(frame, who),
                Ok(None) => break,
                Err(frame::TooLong) => {
                    self.open = false;
                    return false;
                }
            }
            left -= 1;
        }
        if self.came.is_empty() {
            // No frame has named them.
            self.fds.clear();
        }
        self.write();
        self.open && self.goes.len() < WAITING_MAX && Frame::waits(&self.came)
    }

    fn read(&mut self, chunk: &mut [u8]) {
        let full = self.came.len() >= frame::HEAD + frame::PAYLOAD_MAX;
        if full || self.goes.len() >= WAITING_MAX || is_behind() {
            return;
        }
        if self.fds.len() >= FDS_MAX {
            // Without a whole frame there is none that names them.
            self.open = Frame::waits(&self.came);
            return;
        }
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(FDS_SENT))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let flags = RecvFlags::DONTWAIT | RecvFlags::CMSG_CLOEXEC;
        let got = {
            let mut parts = [io::IoSliceMut::new(chunk)];
            rustix::net::recvmsg(&self.socket, &mut parts, &mut control, flags)
        };
        for message in control.drain() {
            if let RecvAncillaryMessage::ScmRights(rights) = message {
                self.fds.extend(rights.map(Foreign::from));
            }
        }
        // A frame names one: a message with more is none that any client of ours sends.
        self.fds.truncate(FDS_MAX);
        match got {
            Ok(got) if got.bytes > 0 => {
                let bytes = chunk.get(..got.bytes).unwrap_or_default();
                self.came.extend_from_slice(bytes);
            }
            Err(rustix::io::Errno::AGAIN | rustix::io::Errno::INTR) => {}
            Ok(_) | Err(_) => self.open = false,
        }
    }

    /// What a frame says, with the arguments that came along.
    fn said(&mut self, frame: &Frame) -> Result<Map<String, Value>, String> {
        let with_fd = frame.flags & WITH_FD != 0;
        // Taken whatever the rest is like, or the next frame would get it.
        let fd = with_fd.then(|| self.fds.pop_front()).flatten();
        let mut body = body(&frame.payload)?;
        if with_fd {
            let fd = fd.ok_or_else(|| "no descriptor came along".to_owned())?;
            if body.contains_key("args") {
                return Err("there are two `args`: in the frame and along with it".into());
            }
            let digest = body.remove("args_sha256");
            let args = large::args(&fd, digest.as_ref().and_then(Value::as_str))?;
            body.insert("args".into(), Value::Object(args));
        }
        Ok(body)
    }

    fn serve(&mut self, frame: Frame, who: &mut impl Answer) {
        let reply = match (Call::of(frame.call), self.said(&frame)) {
            (Some(call), Ok(body)) => {
                if call == Call::SigAction {
                    self.listens = body.get("events") != Some(&Value::Bool(false));
                }
                who.answer(call, body, self.pid)
            }
            (None, _) => call::error("EINVAL", &format!("there is no call {}", frame.call)),
            (_, Err(why)) => call::error("EINVAL", &why),
        };
        let payload = serde_json::to_vec(&reply).unwrap_or_else(|_| b"{}".to_vec());
        Frame {
            call: frame.call,
            flags: REPLY,
            id: frame.id,
            payload,
        }
        .put(&mut self.goes);
    }

    fn write(&mut self) {
        while self.open && !self.goes.is_empty() {
            let flags = SendFlags::DONTWAIT | SendFlags::NOSIGNAL;
            match rustix::net::send(&self.socket, &self.goes, flags) {
                Ok(count) => drop(self.goes.drain(..count)),
                Err(rustix::io::Errno::AGAIN) => return,
                Err(rustix::io::Errno::INTR) => {}
                Err(_) => self.open = false,
            }
        }
    }
}

/// One JSON object, or why it is none.
fn body(payload: &[u8]) -> Result<Map<String, Value>, String> {
    if payload.is_empty() {
        return Ok(Map::new());
    }
    let text = std::str::from_utf8(payload).map_err(|_| "the payload is not UTF-8".to_owned())?;
    // Read as strictly as a policy's own examples: what is decided and what is done are the same.
    policy::object(text).map_err(|error| format!("the payload cannot be read: {error}"))
}
