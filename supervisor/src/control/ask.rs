//! The asking side: finds live runs and gives them orders.
//!
//! What others' sockets say is what others say: each must be answered by whoever its folder belongs to, each
//! folder is reached by no link, and each user has only so long for all that is asked of them.

use std::ffi::OsStr;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{Dir, Mode, OFlags, fstat, open, openat};
use rustix::io::Errno;
use rustix::net::{AddressFamily, SendFlags, SocketAddrUnix, SocketFlags, SocketType};
use serde_json::Value;

use super::{Order, receive};
use crate::closing::Foreign;
use crate::places;

/// A run answers within this, or is given up; so are all runs of another user together.
const ANSWERS_WITHIN: Duration = Duration::from_secs(2);
/// More than a run says at once.
const ANSWER_MAX: usize = 4 << 20;
/// Sockets of one folder that are looked at.
const SOCKETS_MAX: usize = 256;
/// A socket that has no name after this never gets one.
const STAGED: Duration = Duration::from_secs(60);
/// Until it is tried again where more people ask than are let in.
const RETRY: Duration = Duration::from_millis(2);

/// Why a run could not be asked.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Unreachable {
    #[error(
        "no run named `{name}` is to be reached: there is none, or it does not answer; `agt-supervisor ps` lists those that do"
    )]
    None { name: String },
    #[error("several runs are named `{name}`: give one of {}", runs.join(", "))]
    Several { name: String, runs: Vec<String> },
}

/// A folder of sockets, and the user who alone answers there.
#[derive(Debug)]
struct Folder {
    fd: OwnedFd,
    owner: u32,
    /// Not the one of whoever asks.
    foreign: bool,
}

/// Where one run may be reached.
#[derive(Clone, Debug)]
pub(crate) struct Socket {
    folder: Arc<Folder>,
    path: PathBuf,
}

impl Socket {
    /// Who answers there.
    pub(crate) fn owner(&self) -> u32 {
        self.folder.owner
    }

    /// Gives it an order.
    pub(crate) fn ask(&self, order: &Order) -> io::Result<Value> {
        self.ask_until(order, Instant::now() + ANSWERS_WITHIN)
    }

    fn ask_until(&self, order: &Order, until: Instant) -> io::Result<Value> {
        let socket = connect(&self.path, until)?;
        if rustix::net::sockopt::socket_peercred(&socket)?.uid.as_raw() != self.folder.owner {
            let why = "somebody else answers there than whose folder it is";
            return Err(io::Error::new(io::ErrorKind::PermissionDenied, why));
        }
        say(&socket, format!("{}\n", order.to_json()).as_bytes(), until)?;
        let line = hear(&socket, until)?;
        serde_json::from_slice(&line).map_err(io::Error::other)
    }
}

/// Asks every run that can be reached, one's own first; those that cannot are left out.
pub(crate) fn everywhere(order: &Order) -> Vec<(Socket, Value)> {
    let folders: Vec<Folder> = own().into_iter().chain(others()).collect();
    asked(folders, order)
}

/// The one run of this name: its agent's, or the run's own; with how it stands. A worker has the name of the
/// agent that wants it, and is found by its run's.
pub(crate) fn one(name: &str) -> Result<(Socket, Value), Unreachable> {
    let of = |value: &Value, key: &str| {
        let text = value.get(key).and_then(Value::as_str);
        text.unwrap_or_default().to_owned()
    };
    let named = |folders: Vec<Folder>| -> Vec<(Socket, Value)> {
        let live = asked(folders, &Order::Status).into_iter();
        live.filter(|(_, state)| {
            let worker = !of(state, "of").is_empty();
            of(state, "run") == name || (of(state, "agent") == name && !worker)
        })
        .collect()
    };
    // What others say their runs are named does not stand before one's own.
    let mut live = named(own().into_iter().collect());
    if live.is_empty() {
        live = named(others());
    }
    match live.as_slice() {
        [one] => Ok(one.clone()),
        [] => Err(Unreachable::None { name: name.into() }),
        several => Err(Unreachable::Several {
            name: name.into(),
            runs: several.iter().map(|(_, state)| of(state, "run")).collect(),
        }),
    }
}

/// Asks all of these folders at once: none waits for another.
fn asked(folders: Vec<Folder>, order: &Order) -> Vec<(Socket, Value)> {
    std::thread::scope(|scope| {
        let each = folders.into_iter();
        let each = each.map(|folder| scope.spawn(move || folder.asked(order)));
        let all: Vec<_> = each.collect();
        let said = all.into_iter().filter_map(|one| one.join().ok());
        said.flatten().collect()
    })
}

impl Folder {
    /// Asks all that listen here.
    fn asked(self, order: &Order) -> Vec<(Socket, Value)> {
        let folder = Arc::new(self);
        let until = Instant::now() + ANSWERS_WITHIN;
        let sockets = folder.names().into_iter().map(|name| Socket {
            path: folder.path(&name),
            folder: Arc::clone(&folder),
        });
        let said = sockets.filter_map(|socket| {
            let said = if folder.foreign {
                socket.ask_until(order, until)
            } else {
                socket.ask(order)
            };
            Some((socket, said.ok()?))
        });
        said.collect()
    }

    fn names(&self) -> Vec<Vec<u8>> {
        let entries = Dir::read_from(&self.fd).into_iter().flatten().flatten();
        let names = entries.map(|entry| entry.file_name().to_bytes().to_vec());
        let mut names: Vec<Vec<u8>> = names
            .filter(|name| !name.starts_with(b"."))
            .take(SOCKETS_MAX)
            .collect();
        names.sort();
        names
    }

    /// Through the descriptor: nobody changes under it which folder it is.
    fn path(&self, name: &[u8]) -> PathBuf {
        let folder = format!("/proc/self/fd/{}", self.fd.as_raw_fd());
        Path::new(&folder).join(OsStr::from_bytes(name))
    }
}

/// The folder of whoever asks.
fn own() -> Option<Folder> {
    let dir = places::control_dir().ok()?;
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    Some(Folder {
        fd: open(dir, flags, Mode::empty()).ok()?,
        owner: rustix::process::geteuid().as_raw(),
        foreign: false,
    })
}

/// Root's, for who is not; for root those of everybody who is logged in.
fn others() -> Vec<Folder> {
    if !rustix::process::geteuid().is_root() {
        return folder(Path::new(places::APPROVERS_DIR), "", 0)
            .into_iter()
            .collect();
    }
    let users = std::fs::read_dir("/run/user")
        .into_iter()
        .flatten()
        .flatten();
    let uids = users.filter_map(|user| user.file_name().to_str()?.parse::<u32>().ok());
    uids.filter_map(|uid| {
        folder(
            &Path::new("/run/user").join(uid.to_string()),
            "agt/control",
            uid,
        )
    })
    .collect()
}

/// A folder of this user's, by no link below `base`.
fn folder(base: &Path, below: &str, owner: u32) -> Option<Folder> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let mut fd = open(base, flags, Mode::empty()).ok()?;
    for part in below.split('/').filter(|part| !part.is_empty()) {
        fd = openat(&fd, part, flags, Mode::empty()).ok()?;
    }
    let stat = fstat(&fd).ok()?;
    (stat.st_uid == owner && stat.st_mode & 0o022 == 0).then_some(Folder {
        fd,
        owner,
        foreign: true,
    })
}

/// Connects without waiting for a place for longer than this.
fn connect(path: &Path, until: Instant) -> io::Result<Foreign> {
    let address = SocketAddrUnix::new(path)?;
    loop {
        match attempt(&address) {
            // Full: it is tried again.
            Err(Errno::AGAIN) if Instant::now() < until => std::thread::sleep(RETRY),
            Err(Errno::INTR) => {}
            other => return Ok(other?),
        }
    }
}

fn attempt(address: &SocketAddrUnix) -> rustix::io::Result<Foreign> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = rustix::net::socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
    rustix::net::connect(&socket, address)?;
    Ok(socket.into())
}

fn say(socket: &Foreign, mut text: &[u8], until: Instant) -> io::Result<()> {
    while !text.is_empty() {
        let flags = SendFlags::DONTWAIT | SendFlags::NOSIGNAL;
        match rustix::net::send(socket, text, flags) {
            Ok(count) => text = text.get(count..).unwrap_or_default(),
            Err(Errno::AGAIN) => wait(socket, PollFlags::OUT, until)?,
            Err(Errno::INTR) => {}
            Err(errno) => return Err(errno.into()),
        }
    }
    Ok(())
}

/// One line.
fn hear(socket: &Foreign, until: Instant) -> io::Result<Vec<u8>> {
    let mut line = Vec::new();
    let mut chunk = vec![0; 64 * 1024];
    loop {
        match receive(socket, &mut chunk) {
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(count) => {
                let came = chunk.get(..count).unwrap_or_default();
                let end = came.iter().position(|byte| *byte == b'\n');
                line.extend_from_slice(came.get(..end.unwrap_or(count)).unwrap_or_default());
                if end.is_some() {
                    return Ok(line);
                }
                if line.len() > ANSWER_MAX {
                    return Err(io::Error::other("its answer has no end"));
                }
                // Who drips is not waited for either.
                if Instant::now() >= until {
                    return Err(io::ErrorKind::TimedOut.into());
                }
            }
            Err(Errno::AGAIN) => wait(socket, PollFlags::IN, until)?,
            Err(Errno::INTR) => {}
            Err(errno) => return Err(errno.into()),
        }
    }
}

fn wait(socket: &Foreign, what: PollFlags, until: Instant) -> io::Result<()> {
    let left = until.saturating_duration_since(Instant::now());
    if left.is_zero() {
        return Err(io::ErrorKind::TimedOut.into());
    }
    let left = Timespec {
        tv_sec: i64::try_from(left.as_secs()).unwrap_or(i64::MAX),
        tv_nsec: left.subsec_nanos().into(),
    };
    match poll(&mut [PollFd::new(socket, what)], Some(&left)) {
        Ok(_) | Err(Errno::INTR) => Ok(()),
        Err(errno) => Err(errno.into()),
    }
}

/// Takes away the sockets of our own runs that are dead: nobody listens there.
pub(crate) fn sweep() {
    let mut dirs: Vec<PathBuf> = places::control_dir().into_iter().collect();
    if rustix::process::geteuid().is_root() {
        dirs.extend(places::approvers_dir());
    }
    let entries = dirs.iter().flat_map(std::fs::read_dir).flatten().flatten();
    for entry in entries {
        let path = entry.path();
        // Its supervisor is about to give it its name.
        let young = |meta: std::fs::Metadata| {
            let age = meta.modified().ok().and_then(|made| made.elapsed().ok());
            age.is_none_or(|age| age < STAGED)
        };
        let staged = entry.file_name().as_bytes().starts_with(b".");
        if staged && entry.metadata().is_ok_and(young) {
            continue;
        }
        // One that is full lives.
        let tried = SocketAddrUnix::new(&path).and_then(|address| attempt(&address));
        if matches!(tried, Err(Errno::CONNREFUSED)) {
            let _others_did = std::fs::remove_file(&path);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::os::unix::net::UnixListener;

    use super::*;

    /// A folder of ours with one socket, and the uid that is to answer there.
    fn there(name: &str, owner: u32) -> (PathBuf, UnixListener, Socket) {
        let dir = std::env::temp_dir().join(format!("agt-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&dir).unwrap();
        let listener = UnixListener::bind(dir.join("run")).unwrap();
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let fd = open(&dir, flags, Mode::empty()).unwrap();
        let folder = Arc::new(Folder {
            fd,
            owner,
            foreign: true,
        });
        let path = folder.path(b"run");
        (dir, listener, Socket { folder, path })
    }

    fn me() -> u32 {
        rustix::process::geteuid().as_raw()
    }

    #[test]
    fn who_drips_or_says_nothing_is_given_up() {
        for drips in [true, false] {
            let (dir, listener, socket) = there(&format!("drips-{drips}"), me());
            let server = std::thread::spawn(move || {
                let (mut peer, _) = listener.accept().unwrap();
                while drips && peer.write_all(b" ").is_ok() {
                    std::thread::sleep(Duration::from_millis(20));
                }
                (listener, peer)
            });
            let since = Instant::now();
            let until = since + Duration::from_millis(200);
            let error = socket.ask_until(&Order::Status, until).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::TimedOut, "{error}");
            assert!(since.elapsed() < Duration::from_secs(10));
            drop(server.join());
            std::fs::remove_dir_all(dir).unwrap();
        }
    }

    #[test]
    fn a_place_that_is_full_is_not_waited_for_forever_and_does_not_count_as_gone() {
        let (dir, listener, socket) = there("full", me());
        rustix::net::listen(&listener, 0).unwrap();
        let _first = attempt(&SocketAddrUnix::new(&socket.path).unwrap()).unwrap();
        let until = Instant::now() + Duration::from_millis(50);
        let error = socket.ask_until(&Order::Status, until).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::WouldBlock, "{error}");
        drop(listener);
        let error = socket.ask(&Order::Status).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::ConnectionRefused, "{error}");
        std::fs::remove_dir_all(dir).unwrap();
    }

    #[test]
    fn nobody_answers_for_somebody_else() {
        let (dir, listener, socket) = there("else", me() + 1);
        let error = socket.ask(&Order::Status).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::PermissionDenied);
        // It was told nothing.
        let (mut peer, _) = listener.accept().unwrap();
        assert_eq!(io::Read::read(&mut peer, &mut [0]).unwrap(), 0);
        // A folder that belongs to somebody else, or is a link, is none.
        assert!(folder(&dir, "", me() + 1).is_none());
        std::fs::create_dir(dir.join("real")).unwrap();
        std::os::unix::fs::symlink("real", dir.join("link")).unwrap();
        assert!(folder(&dir, "real", me()).is_some());
        assert!(folder(&dir, "link", me()).is_none());
        std::fs::remove_dir_all(dir).unwrap();
    }
}
