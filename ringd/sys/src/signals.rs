//! Signals as a descriptor to poll (signalfd(2)).

use std::io;
use std::os::fd::{AsFd, FromRawFd, OwnedFd};

use crate::check;

/// Blocks these signals for this process (call it before any thread is made) and returns a
/// descriptor that reads them.
///
/// # Errors
/// `EINVAL` for a number that is no signal.
pub fn watch(signals: &[i32]) -> io::Result<OwnedFd> {
    let mut mask = 0_u64;
    for signal in signals {
        match u32::try_from(signal - 1) {
            Ok(bit @ 0..64) => mask |= 1 << bit,
            _ => return Err(io::Error::from_raw_os_error(libc::EINVAL)),
        }
    }
    let size = size_of::<u64>();
    let none = std::ptr::null_mut::<u64>();
    // SAFETY: the kernel reads eight bytes of mask and writes nothing.
    check(unsafe {
        libc::syscall(
            libc::SYS_rt_sigprocmask,
            libc::SIG_BLOCK,
            &raw const mask,
            none,
            size,
        )
    })?;
    let flags = libc::SFD_CLOEXEC | libc::SFD_NONBLOCK;
    // SAFETY: the kernel reads eight bytes of mask.
    let rc = unsafe { libc::syscall(libc::SYS_signalfd4, -1, &raw const mask, size, flags) };
    let raw = i32::try_from(check(rc)?).map_err(io::Error::other)?;
    // SAFETY: the kernel just returned this descriptor and nothing else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(raw) })
}

/// The next signal that came, if one did.
#[must_use]
pub fn next(watch: impl AsFd) -> Option<i32> {
    let mut info = [0_u8; 128];
    match rustix::io::read(watch, &mut info) {
        // struct signalfd_siginfo begins with the number.
        Ok(128) => info
            .first_chunk::<4>()
            .map(|number| i32::from_ne_bytes(*number)),
        _ => None,
    }
}
