//! The socket to the supervisor: whole frames, with the descriptors that come along.

use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use plan::{Command, Header, Report};
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags,
};

use crate::RingdError;

/// The most descriptors that one message carries (SCM_MAX_FD).
const FDS_MAX: usize = 253;

pub(crate) struct Link {
    socket: OwnedFd,
}

pub(crate) enum Received {
    Command(Command, Vec<OwnedFd>),
    /// The supervisor closed its end or died.
    Gone,
}

impl Link {
    pub(crate) fn new(socket: OwnedFd) -> Self {
        Self { socket }
    }

    /// Waits for one command.
    pub(crate) fn receive(&mut self) -> Result<Received, RingdError> {
        let mut head = [0_u8; Header::LEN];
        let mut fds = Vec::new();
        let mut filled = 0;
        while let Some(rest) = head.get_mut(filled..).filter(|rest| !rest.is_empty()) {
            match self
                .receive_some(rest, &mut fds)
                .map_err(RingdError::Link)?
            {
                0 if filled == 0 => return Ok(Received::Gone),
                0 => return Err(RingdError::Link(io::ErrorKind::UnexpectedEof.into())),
                count => filled += count,
            }
        }
        let header = Header::decode(head).map_err(RingdError::Frame)?;
        let mut payload = vec![0; header.length];
        let mut filled = 0;
        while let Some(rest) = payload.get_mut(filled..).filter(|rest| !rest.is_empty()) {
            match rustix::io::retry_on_intr(|| rustix::io::read(&self.socket, &mut *rest)) {
                Ok(0) => return Err(RingdError::Link(io::ErrorKind::UnexpectedEof.into())),
                Ok(count) => filled += count,
                Err(errno) => return Err(RingdError::Link(errno.into())),
            }
        }
        let command = Command::decode(header.kind, &payload).map_err(RingdError::Frame)?;
        Ok(Received::Command(command, fds))
    }

    fn receive_some(&self, bytes: &mut [u8], fds: &mut Vec<OwnedFd>) -> io::Result<usize> {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(FDS_MAX))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let flags = RecvFlags::CMSG_CLOEXEC;
        let mut parts = [IoSliceMut::new(bytes)];
        let received = rustix::net::recvmsg(&self.socket, &mut parts, &mut control, flags)?;
        for message in control.drain() {
            if let RecvAncillaryMessage::ScmRights(rights) = message {
                fds.extend(rights);
            }
        }
        Ok(received.bytes)
    }

    /// Sends one report, with the descriptors that are handed over.
    pub(crate) fn report(
        &mut self,
        report: &Report,
        fds: &[BorrowedFd<'_>],
    ) -> Result<(), RingdError> {
        let bytes = report.encode();
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(FDS_MAX))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        if !fds.is_empty() && !control.push(SendAncillaryMessage::ScmRights(fds)) {
            return Err(RingdError::Descriptors);
        }
        let parts = [IoSlice::new(&bytes)];
        // Reports are a few dozen bytes: the socket's buffer takes them whole.
        rustix::net::sendmsg(&self.socket, &parts, &mut control, SendFlags::NOSIGNAL)
            .map(drop)
            .map_err(|errno| RingdError::Link(errno.into()))
    }
}

impl AsFd for Link {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}
