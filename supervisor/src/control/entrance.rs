//! One of a run's sockets, and those who came to it.

use std::fs;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixListener;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags};
use rustix::net::{SendFlags, SocketFlags};
use serde_json::Value;

use super::{Name, Order, receive, refusal};
use crate::approvals::Person;
use crate::closing::Foreign;

/// The longest order.
const LINE_MAX: usize = 4096;
/// Connections taken in one turn of the loop.
const TURN: usize = 32;
/// More that wait to be closed than this, and somebody makes them wait: nobody else is let in.
const CLOSING_MAX: usize = 64;

/// What holds for those who come.
#[derive(Clone, Copy, Debug)]
pub(super) struct Terms {
    /// Of the socket.
    pub(super) mode: u32,
    /// Connections at once, and of one user.
    pub(super) places: usize,
    pub(super) each: usize,
    /// Connections that wait to be taken.
    pub(super) backlog: i32,
    /// A connection that has not said its line by then, or not taken its answer, is closed.
    pub(super) patience: Duration,
    /// How long nobody is looked after when somebody was, and the orders taken at once.
    pub(super) rest: Duration,
    pub(super) orders: usize,
}

#[derive(Debug)]
pub(super) struct Entrance {
    // Its name goes before the listener does: no name is left at which nobody answers.
    _name: Name,
    listener: Foreign,
    terms: Terms,
    clients: Vec<Client>,
    leaving: Vec<Leaving>,
    rests_until: Option<Instant>,
}

#[derive(Debug)]
struct Client {
    socket: Foreign,
    peer: Person,
    came: Vec<u8>,
    until: Instant,
}

/// An answer on its way out.
#[derive(Debug)]
struct Leaving {
    socket: Foreign,
    peer: Person,
    goes: Vec<u8>,
    until: Instant,
}

/// One order and the connection that waits for its answer.
#[derive(Debug)]
pub(crate) struct Asked {
    /// Which entrance.
    pub(super) at: usize,
    pub(super) socket: Foreign,
    pub(crate) peer: Person,
    pub(crate) order: Order,
}

impl Entrance {
    pub(super) fn open(path: PathBuf, terms: Terms) -> io::Result<Self> {
        // It has its name once somebody listens: whoever starts a run takes away those where nobody does.
        let staged = path.with_file_name(format!(
            ".{}",
            path.file_name().unwrap_or_default().display()
        ));
        let listener = UnixListener::bind(&staged)?;
        let staged = Name(staged);
        listener.set_nonblocking(true)?;
        fs::set_permissions(&staged.0, fs::Permissions::from_mode(terms.mode))?;
        // Once more, and so with a queue as short as we want it.
        rustix::net::listen(&listener, terms.backlog)?;
        fs::rename(&staged.0, &path)?;
        let name = Name(path);
        Ok(Self {
            _name: name,
            listener: OwnedFd::from(listener).into(),
            terms,
            clients: Vec::new(),
            leaving: Vec::new(),
            rests_until: None,
        })
    }

    fn has_room(&self) -> bool {
        self.clients.len() + self.leaving.len() < self.terms.places
    }

    /// Whether nobody is looked after now.
    fn rests(&self) -> bool {
        self.rests_until.is_some_and(|until| Instant::now() < until)
    }

    pub(super) fn polls(&self) -> Vec<PollFd<'_>> {
        let mut polls = Vec::new();
        if self.rests() {
            return polls;
        }
        if self.has_room() && !self.is_choked() {
            polls.push(PollFd::new(&self.listener, PollFlags::IN));
        }
        let clients = self.clients.iter();
        polls.extend(clients.map(|client| PollFd::new(&client.socket, PollFlags::IN)));
        let leaving = self.leaving.iter();
        polls.extend(leaving.map(|one| PollFd::new(&one.socket, PollFlags::OUT)));
        polls
    }

    /// Somebody hands over what cannot be closed.
    fn is_choked(&self) -> bool {
        !self.terms.rest.is_zero() && Foreign::waiting() > CLOSING_MAX
    }

    pub(super) fn due(&self) -> Option<Instant> {
        let clients = self.clients.iter().map(|client| client.until);
        let leaving = self.leaving.iter().map(|one| one.until);
        let first = clients.chain(leaving).min();
        match self.rests_until {
            Some(until) if self.rests() => Some(until),
            Some(_) | None => first,
        }
    }

    /// Takes the orders that are whole.
    pub(super) fn step(&mut self, at: usize, ready: bool, asked: &mut Vec<Asked>) {
        if self.rests() {
            return;
        }
        let mut some = ready && self.admit();
        let mut left = self.terms.orders;
        for mut client in std::mem::take(&mut self.clients) {
            if left == 0 {
                self.clients.push(client);
                continue;
            }
            let before = client.came.len();
            let line = client.read();
            some |= line.is_some() || client.came.len() != before;
            match line.map(|line| Order::parse(&line)) {
                Some(Ok(order)) => {
                    left -= 1;
                    asked.push(Asked {
                        at,
                        socket: client.socket,
                        peer: client.peer,
                        order,
                    });
                }
                Some(Err(why)) => {
                    left -= 1;
                    self.send(client.socket, client.peer, &refusal(2, &why));
                }
                None if client.waits() => self.clients.push(client),
                None => {}
            }
        }
        self.leaving.retain_mut(Leaving::write);
        let rests = some && !self.terms.rest.is_zero();
        self.rests_until = rests.then(|| Instant::now() + self.terms.rest);
    }

    /// Lets in who waits, and turns away who has as many places as one may; whether anybody came.
    fn admit(&mut self) -> bool {
        let mut some = false;
        for _ in 0..TURN {
            if !self.has_room() || self.is_choked() {
                break;
            }
            let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
            let Ok(socket) = rustix::net::accept_with(&self.listener, flags) else {
                break;
            };
            some = true;
            let socket = Foreign::from(socket);
            let Ok(peer) = rustix::net::sockopt::socket_peercred(&socket) else {
                continue;
            };
            let peer = Person {
                uid: peer.uid.as_raw(),
                gid: peer.gid.as_raw(),
            };
            if self.places_of(peer.uid) >= self.terms.each {
                continue;
            }
            self.clients.push(Client {
                socket,
                peer,
                came: Vec::new(),
                until: Instant::now() + self.terms.patience,
            });
        }
        some
    }

    fn places_of(&self, uid: u32) -> usize {
        let clients = self.clients.iter().map(|client| client.peer.uid);
        let leaving = self.leaving.iter().map(|one| one.peer.uid);
        clients.chain(leaving).filter(|one| *one == uid).count()
    }

    /// Answers. A peer that takes nothing is not waited for.
    pub(super) fn send(&mut self, socket: Foreign, peer: Person, said: &Value) {
        let mut leaving = Leaving {
            socket,
            peer,
            goes: format!("{said}\n").into_bytes(),
            until: Instant::now() + self.terms.patience,
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
        match receive(&self.socket, &mut chunk) {
            Ok(0) => self.until = Instant::now(),
            Ok(count) => self
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
}

#[cfg(test)]
mod tests {
    use std::io::{BufRead, BufReader, Write};
    use std::os::unix::net::UnixStream;

    use serde_json::json;

    use super::super::{Control, OTHERS, OWNER};
    use super::*;

    /// A folder, and both entrances of a run in it.
    fn open(name: &str) -> (PathBuf, Control) {
        let dir = std::env::temp_dir().join(format!("agt-{name}-{}", std::process::id()));
        fs::create_dir_all(&dir).unwrap();
        let entrances = [("owner", OWNER), ("others", OTHERS)];
        let entrances = entrances.map(|(name, terms)| Entrance::open(dir.join(name), terms));
        let entrances = entrances.into_iter().collect::<io::Result<Vec<_>>>();
        let entrances = entrances.unwrap();
        (dir, Control { entrances })
    }

    fn turns(control: &mut Control, count: usize) -> usize {
        let mut taken = 0;
        for _ in 0..count {
            for asked in control.step(true) {
                taken += 1;
                control.answer(asked, &json!({"ok": true}));
            }
            std::thread::sleep(Duration::from_millis(2));
        }
        taken
    }

    fn ask(path: PathBuf) -> UnixStream {
        let mut socket = UnixStream::connect(path).unwrap();
        socket.write_all(b"{\"order\":\"status\"}\n").unwrap();
        socket
    }

    fn answered(socket: UnixStream) -> bool {
        socket.set_nonblocking(true).unwrap();
        let mut line = String::new();
        let read = BufReader::new(socket).read_line(&mut line);
        read.is_ok() && line == "{\"ok\":true}\n"
    }

    #[test]
    fn who_fills_the_others_entrance_keeps_nobody_from_the_owners() {
        let (dir, mut control) = open("filled");
        let idle: Vec<UnixStream> = (0..8)
            .map(|_| UnixStream::connect(dir.join("others")).unwrap())
            .collect();
        turns(&mut control, 3);
        // Of one user there are only so many, idle or not.
        assert_eq!(control.entrances[1].clients.len(), OTHERS.each);
        let owner = ask(dir.join("owner"));
        assert_eq!(turns(&mut control, 1), 1);
        assert!(answered(owner));
        // Who says nothing is let go, and the next one is answered.
        let patient = control.entrances[1].clients.iter_mut();
        patient.for_each(|client| client.until = Instant::now());
        turns(&mut control, 20);
        assert!(control.entrances[1].clients.is_empty());
        let other = ask(dir.join("others"));
        assert_eq!(turns(&mut control, 20), 1);
        assert!(answered(other));
        drop((idle, control));
        // The names go with the run.
        fs::remove_dir(dir).unwrap();
    }

    #[test]
    fn others_have_no_more_of_the_loop_than_people_need() {
        let (dir, mut control) = open("paced");
        let since = Instant::now();
        let mut taken = 0;
        while since.elapsed() < Duration::from_millis(300) {
            if let Ok(mut socket) = UnixStream::connect(dir.join("others")) {
                let _closed = socket.write_all(b"{\"order\":\"approvals\"}\n");
            }
            taken += turns(&mut control, 1);
        }
        let most = since.elapsed().as_millis() / OTHERS.rest.as_millis() + 1;
        assert!(taken > 0 && taken as u128 <= most, "{taken} of {most}");
        drop(control);
        fs::remove_dir(dir).unwrap();
    }

    #[test]
    fn answers_that_nobody_takes_hold_their_places_and_no_more() {
        let (dir, mut control) = open("untaken");
        let large = json!({"text": "x".repeat(1 << 20)});
        let peers: Vec<UnixStream> = (0..OTHERS.each + 1)
            .map(|_| ask(dir.join("others")))
            .collect();
        for _ in 0..100 {
            for asked in control.step(true) {
                control.answer(asked, &large);
            }
            std::thread::sleep(Duration::from_millis(2));
        }
        assert_eq!(control.entrances[1].leaving.len(), OTHERS.each);
        drop((peers, control));
        fs::remove_dir(dir).unwrap();
    }
}
