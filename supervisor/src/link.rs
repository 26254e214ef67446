//! The one place that starts ringd, and the socket to it.

use std::ffi::OsStr;
use std::io::{self, IoSlice, IoSliceMut, Read};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};

use plan::{Header, Launch, Report};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags,
};

/// A running ringd.
#[derive(Debug)]
pub(crate) struct Link {
    socket: UnixStream,
    child: Child,
}

/// A separate, smaller ringd, where the one who built this names it; otherwise this very program
/// takes the part, so that the two halves are always of one build.
const RINGD: &str = match option_env!("AGT_RINGD_PATH") {
    Some(path) => path,
    None => "/proc/self/exe",
};

/// The name under which [`crate::main`] becomes ringd.
pub(crate) const RINGD_NAME: &str = "agt-ringd";

impl Link {
    /// Starts ringd with its socket as standard input and nothing else of ours.
    pub(crate) fn start() -> io::Result<Self> {
        let (socket, theirs) = UnixStream::pair()?;
        #[expect(clippy::disallowed_methods, reason = "the one spawn of ringd")]
        let mut command = Command::new(OsStr::new(RINGD));
        let child = command
            .arg0(RINGD_NAME)
            .env_clear()
            // Terminal signals go to the group of the supervisor, which decides what they mean.
            .process_group(0)
            .stdin(Stdio::from(OwnedFd::from(theirs)))
            .stdout(Stdio::null())
            .spawn()?;
        Ok(Self { socket, child })
    }

    /// Sends the plan with its descriptors, in the order of [`Launch::fds`].
    pub(crate) fn launch(&self, launch: Launch, fds: &[BorrowedFd<'_>]) -> io::Result<()> {
        let frame = plan::Command::Launch(Box::new(launch)).encode();
        let mut space = vec![MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(253))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        if !fds.is_empty() && !control.push(SendAncillaryMessage::ScmRights(fds)) {
            return Err(io::Error::from(io::ErrorKind::InvalidInput));
        }
        let parts = [IoSlice::new(&frame)];
        let sent = rustix::net::sendmsg(&self.socket, &parts, &mut control, SendFlags::NOSIGNAL)?;
        // The descriptors went with the first byte; the rest is plain bytes.
        io::Write::write_all(&mut &self.socket, frame.get(sent..).unwrap_or_default())
    }

    pub(crate) fn signal(&self, signal: u8) -> io::Result<()> {
        self.send(&plan::Command::Signal(signal))
    }

    pub(crate) fn kill(&self) -> io::Result<()> {
        self.send(&plan::Command::Kill)
    }

    /// The process of ringd.
    pub(crate) fn ringd(&self) -> u32 {
        self.child.id()
    }

    /// Kills ringd: its death is the death of the ring.
    pub(crate) fn abort(&self) -> io::Result<()> {
        let pid = i32::try_from(self.child.id()).map_err(io::Error::other)?;
        let pid = rustix::process::Pid::from_raw(pid).ok_or(io::ErrorKind::NotFound)?;
        // Not collected yet, so the number is still its own.
        rustix::process::kill_process(pid, rustix::process::Signal::KILL).map_err(io::Error::from)
    }

    /// A ringd that takes nothing is not waited for: who kills it in its place must not stand here.
    fn send(&self, command: &plan::Command) -> io::Result<()> {
        let mut fds = [PollFd::new(&self.socket, PollFlags::OUT)];
        let at_once = Timespec {
            tv_sec: 0,
            tv_nsec: 0,
        };
        if poll(&mut fds, Some(&at_once))? == 0 {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        io::Write::write_all(&mut &self.socket, &command.encode())
    }

    /// Whether [`Self::receive`] would not wait.
    pub(crate) fn ready(&self) -> io::Result<bool> {
        let mut fds = [PollFd::new(&self.socket, PollFlags::IN)];
        let at_once = Timespec {
            tv_sec: 0,
            tv_nsec: 0,
        };
        match poll(&mut fds, Some(&at_once)) {
            Ok(count) => Ok(count > 0),
            Err(rustix::io::Errno::INTR) => Ok(false),
            Err(errno) => Err(errno.into()),
        }
    }

    /// Waits for the next report and what comes along; `None` when ringd is gone.
    pub(crate) fn receive(&self) -> io::Result<Option<(Report, Vec<OwnedFd>)>> {
        let mut head = [0_u8; Header::LEN];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(253))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let mut parts = [IoSliceMut::new(&mut head)];
        let flags = RecvFlags::CMSG_CLOEXEC;
        let got = match rustix::net::recvmsg(&self.socket, &mut parts, &mut control, flags) {
            Ok(received) => received.bytes,
            Err(rustix::io::Errno::CONNRESET) => 0,
            Err(errno) => return Err(errno.into()),
        };
        if got == 0 {
            return Ok(None);
        }
        let mut fds = Vec::new();
        for message in control.drain() {
            if let RecvAncillaryMessage::ScmRights(rights) = message {
                fds.extend(rights);
            }
        }
        (&self.socket).read_exact(head.get_mut(got..).unwrap_or_default())?;
        let header = Header::decode(head).map_err(io::Error::other)?;
        let mut payload = vec![0; header.length];
        (&self.socket).read_exact(&mut payload)?;
        let report = Report::decode(header.kind, &payload).map_err(io::Error::other)?;
        Ok(Some((report, fds)))
    }

    /// Collects ringd. It has ended, or ends at once because its socket is closed.
    pub(crate) fn close(mut self) -> io::Result<()> {
        drop(self.socket);
        self.child.wait().map(drop)
    }
}

impl AsFd for Link {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}
