//! The door and all that is behind it, for fuzzing: a client's bytes go in, the answers come out.

use std::io::{self, IoSlice, Read, Write};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;

use rustix::fs::{MemfdFlags, SealFlags, fcntl_add_seals, memfd_create};
use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};

use super::governor::{Budget, Conduct, Governor, Lift, Subject};
use super::policies::Loaded;
use crate::closing::Foreign;
use crate::door::Door;

/// One ring's door, with its policies and its log.
#[derive(Debug)]
pub struct Room {
    door: Option<Door>,
    governor: Governor,
}

impl Room {
    /// A room whose log and socket are in an empty folder.
    ///
    /// # Errors
    /// When something of it cannot be made.
    pub fn new(dir: &Path, policy: &str) -> io::Result<Self> {
        let keys = audit::Keys::open_or_create(&dir.join("keys")).map_err(io::Error::other)?;
        let log = audit::Log::open(&dir.join("audit"), "run", keys, audit::Options::default());
        let variables = policy::Variables::default();
        let policy = policy::Policy::parse("policy.yaml", policy.as_bytes(), &variables);
        let subject = Subject {
            agent: "agent".into(),
            ring: "standard".into(),
            run: "run".into(),
            place: "/workspace".into(),
            of: None,
            conduct: Conduct::new(None, None, Budget::default()),
            lift: Lift::default(),
        };
        let loaded = Loaded {
            policies: vec![policy.map_err(|error| io::Error::other(error.to_string()))?],
            hash: "0".into(),
            shared: "0".into(),
        };
        let listener = UnixListener::bind(dir.join("door"))?;
        Ok(Self {
            door: Some(Door::new(listener.into(), std::process::id())?),
            governor: Governor::new(subject, loaded, log.map_err(io::Error::other)?),
        })
    }

    /// What a client that says this, and then no more, is answered. What comes along lies in a sealed memfd.
    ///
    /// # Errors
    /// When there is no socket.
    pub fn say(&mut self, bytes: &[u8], along: Option<&[u8]>) -> io::Result<Vec<u8>> {
        // Clients of a real ring do not come and go faster than a thread can close.
        while Foreign::waiting() > 0 {
            std::thread::yield_now();
        }
        let (ours, mut client) = UnixStream::pair()?;
        client.set_nonblocking(true)?;
        let door = self.door.take().ok_or(io::ErrorKind::NotConnected)?;
        let mut door = door.with(ours.into())?;
        let (mut rest, mut answers, mut chunk) = (bytes, Vec::new(), [0; 1 << 16]);
        if let Some(along) = along {
            let sent = send(&client, rest, &sealed(along)?)?;
            rest = rest.get(sent..).unwrap_or_default();
        }
        loop {
            let said = client.write(rest).unwrap_or(0);
            rest = rest.get(said..).unwrap_or_default();
            door.step(&[true], &mut self.governor);
            let heard = client.read(&mut chunk).unwrap_or(0);
            answers.extend_from_slice(chunk.get(..heard).unwrap_or_default());
            if said == 0 && heard == 0 && !door.more() {
                break;
            }
        }
        drop(client);
        door.step(&[true], &mut self.governor);
        self.door = Some(door);
        // What the loop would carry out, and forget.
        drop((self.governor.take_raised(), self.governor.take_asks()));
        Ok(answers)
    }
}

fn sealed(bytes: &[u8]) -> io::Result<OwnedFd> {
    let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
    let fd = memfd_create("args", flags)?;
    rustix::io::write(&fd, bytes)?;
    fcntl_add_seals(&fd, SealFlags::WRITE | SealFlags::SHRINK | SealFlags::GROW)?;
    Ok(fd)
}

fn send(socket: &UnixStream, bytes: &[u8], fd: &OwnedFd) -> io::Result<usize> {
    let fds = [fd.as_fd()];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    control.push(SendAncillaryMessage::ScmRights(&fds));
    let parts = [IoSlice::new(bytes)];
    Ok(sendmsg(socket, &parts, &mut control, SendFlags::DONTWAIT)?)
}
