//! The ring's own terminal: a pair from the ring's private devpts, whose master goes out to
//! whoever holds the user's terminal.

use core::mem::MaybeUninit;

use crate::Fd;
use crate::call::{self, Errno};

/// Opens a pair, sends the master over `socket` and returns the slave; -1 when no terminal was
/// asked for.
pub(crate) fn open(socket: Fd) -> Result<Fd, Errno> {
    if socket < 0 {
        return Ok(-1);
    }
    let master = call::open(c"/dev/pts/ptmx", libc::O_RDWR | libc::O_NOCTTY, 0)?;
    let unlocked: libc::c_int = 0;
    // SAFETY: TIOCSPTLCK reads one int.
    call::check_int(unsafe { libc::ioctl(master, libc::TIOCSPTLCK, &raw const unlocked) })?;
    let flags = libc::O_RDWR | libc::O_NOCTTY | libc::O_CLOEXEC;
    // SAFETY: TIOCGPTPEER takes flags by value and returns a new descriptor.
    let slave = call::check_int(unsafe { libc::ioctl(master, libc::TIOCGPTPEER, flags) })?;
    send(socket, master)?;
    call::close(master);
    call::close(socket);
    Ok(slave)
}

/// Sends one descriptor with one byte (unix(7), SCM_RIGHTS).
pub(crate) fn send(socket: Fd, fd: Fd) -> Result<(), Errno> {
    #[repr(C)]
    struct Control {
        header: libc::cmsghdr,
        fd: Fd,
        pad: Fd,
    }
    let mut byte = 0_u8;
    let mut part = libc::iovec {
        iov_base: (&raw mut byte).cast(),
        iov_len: 1,
    };
    let mut control = Control {
        header: libc::cmsghdr {
            cmsg_len: size_of::<libc::cmsghdr>() + size_of::<Fd>(),
            cmsg_level: libc::SOL_SOCKET,
            cmsg_type: libc::SCM_RIGHTS,
        },
        fd,
        pad: 0,
    };
    // SAFETY: msghdr is a plain struct for which all-zero is a valid value.
    let mut message: libc::msghdr = unsafe { MaybeUninit::zeroed().assume_init() };
    message.msg_iov = &raw mut part;
    message.msg_iovlen = 1;
    message.msg_control = (&raw mut control).cast();
    message.msg_controllen = size_of::<Control>();
    // SAFETY: the message points at live buffers of the lengths it states.
    call::check(unsafe { libc::sendmsg(socket, &raw const message, libc::MSG_NOSIGNAL) } as i64)
        .map(drop)
}
