//! Standard streams: what the caller gave us never reaches the agent itself.
//!
//! A terminal becomes the ring's own; files, pipes and sockets are relayed by pipes that belong to
//! the agent (a file opened for reading can still be `fchmod`ed, and a folder walked out of);
//! `/dev/null` becomes the ring's; other devices and folders are refused.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use plan::Stream;
use rustix::fs::FileType;
use rustix::pipe::PipeFlags;

/// One of the three, as the supervisor and as the agent see it.
#[derive(Debug)]
pub(crate) struct Pair {
    pub(crate) stream: Stream,
    /// The supervisor's end of the pipe.
    pub(crate) ours: Option<OwnedFd>,
    /// The agent's end, to be sent to ringd.
    pub(crate) theirs: Option<OwnedFd>,
}

/// What a stream must not be.
#[derive(Debug, thiserror::Error)]
#[error("standard {name} is a {kind}; redirect it to a file, a pipe or /dev/null")]
pub(crate) struct Refused {
    name: &'static str,
    kind: &'static str,
}

const NAMES: [&str; 3] = ["input", "output", "error"];

/// Looks at the three streams and makes the agent's side of them. Without `tty` a terminal is relayed
/// by a pipe like anything else.
pub(crate) fn open(uid: u32, gid: u32, tty: bool) -> io::Result<[Pair; 3]> {
    let (stdin, stdout, stderr) = (io::stdin(), io::stdout(), io::stderr());
    Ok([
        pair(0, stdin.as_fd(), uid, gid, tty)?,
        pair(1, stdout.as_fd(), uid, gid, tty)?,
        pair(2, stderr.as_fd(), uid, gid, tty)?,
    ])
}

fn pair(number: usize, fd: BorrowedFd<'_>, uid: u32, gid: u32, tty: bool) -> io::Result<Pair> {
    let plain = |stream| {
        Ok(Pair {
            stream,
            ours: None,
            theirs: None,
        })
    };
    let stat = match rustix::fs::fstat(fd) {
        Ok(stat) => stat,
        // Closed: nothing to read, nowhere to write.
        Err(rustix::io::Errno::BADF) => return plain(Stream::Null),
        Err(errno) => return Err(errno.into()),
    };
    let refuse = |kind| {
        let name = NAMES.get(number).copied().unwrap_or("stream");
        Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            Refused { name, kind },
        ))
    };
    match FileType::from_raw_mode(stat.st_mode) {
        FileType::CharacterDevice if rustix::termios::isatty(fd) => {
            if tty {
                plain(Stream::Terminal)
            } else {
                piped(number, uid, gid)
            }
        }
        FileType::CharacterDevice if is_null(stat.st_rdev) => plain(Stream::Null),
        FileType::CharacterDevice | FileType::BlockDevice => refuse("device"),
        FileType::Directory => refuse("folder"),
        FileType::RegularFile | FileType::Fifo | FileType::Socket => piped(number, uid, gid),
        FileType::Symlink | FileType::Unknown => refuse("thing of unknown kind"),
    }
}

fn is_null(device: u64) -> bool {
    (rustix::fs::major(device), rustix::fs::minor(device)) == (1, 3)
}

fn piped(number: usize, uid: u32, gid: u32) -> io::Result<Pair> {
    let (reader, writer) = rustix::pipe::pipe_with(PipeFlags::CLOEXEC)?;
    let (ours, theirs) = if number == 0 {
        (writer, reader)
    } else {
        (reader, writer)
    };
    if rustix::process::geteuid().as_raw() != uid {
        // Reopening it by /dev/stdout needs to own it.
        let (uid, gid) = (
            rustix::fs::Uid::from_raw(uid),
            rustix::fs::Gid::from_raw(gid),
        );
        rustix::fs::fchown(&theirs, Some(uid), Some(gid))?;
    }
    if number == 0 {
        // An agent that does not read must not stop us; the flag is on our end only.
        rustix::io::ioctl_fionbio(&ours, true)?;
    }
    Ok(Pair {
        stream: Stream::Pipe,
        ours: Some(ours),
        theirs: Some(theirs),
    })
}
