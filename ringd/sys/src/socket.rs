//! Sockets.

use std::io;
use std::os::fd::{AsFd, AsRawFd};

/// Whether the other end of a Unix stream socket has read all that was written to it.
///
/// # Errors
/// When it is no socket.
pub fn is_drained(socket: impl AsFd) -> io::Result<bool> {
    let mut waiting: libc::c_int = 0;
    // SIOCOUTQ has the number of TIOCOUTQ.
    // SAFETY: the kernel writes one int, to a place that is ours.
    let rc = unsafe { libc::ioctl(socket.as_fd().as_raw_fd(), libc::TIOCOUTQ, &raw mut waiting) };
    crate::check(rc.into())?;
    Ok(waiting == 0)
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::os::unix::net::UnixStream;

    use super::is_drained;

    #[test]
    fn what_was_not_read_is_told() {
        let (mut ours, mut theirs) = UnixStream::pair().unwrap();
        assert!(is_drained(&ours).unwrap());
        ours.write_all(b"abc").unwrap();
        assert!(!is_drained(&ours).unwrap());
        theirs.read_exact(&mut [0; 2]).unwrap();
        assert!(!is_drained(&ours).unwrap());
        theirs.read_exact(&mut [0; 1]).unwrap();
        assert!(is_drained(&ours).unwrap());
        ours.write_all(b"d").unwrap();
        drop(theirs);
        // Nobody will read it, and the kernel says that as an error of the socket.
        assert!(is_drained(&ours).unwrap());
        assert!(ours.take_error().unwrap().is_some());
        assert!(is_drained(std::fs::File::open("/dev/null").unwrap()).is_err());
    }
}
