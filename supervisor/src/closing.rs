//! Closing what others gave us, on a thread of its own.
//!
//! Closing the last descriptor of a socket may wait for as long as whoever made it said (SO_LINGER in socket(7));
//! so may closing a socket with descriptors in it that nobody took. The loop that kills must never wait for that.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Sender, channel};

/// Given to the thread, and not closed yet.
static WAITING: AtomicUsize = AtomicUsize::new(0);

/// A descriptor that was made by somebody else, or may have such in it.
#[derive(Debug)]
pub(crate) struct Foreign(Option<OwnedFd>);

impl From<OwnedFd> for Foreign {
    fn from(fd: OwnedFd) -> Self {
        Self(Some(fd))
    }
}

impl Foreign {
    /// How many wait to be closed: many only when somebody makes them wait.
    pub(crate) fn waiting() -> usize {
        WAITING.load(Ordering::Relaxed)
    }
}

impl AsFd for Foreign {
    fn as_fd(&self) -> BorrowedFd<'_> {
        // It is there until it is dropped.
        match &self.0 {
            Some(fd) => fd.as_fd(),
            None => rustix::stdio::stdin(),
        }
    }
}

impl Drop for Foreign {
    fn drop(&mut self) {
        if let Some(fd) = self.0.take() {
            close(fd);
        }
    }
}

fn close(fd: OwnedFd) {
    static THREAD: OnceLock<Option<Sender<OwnedFd>>> = OnceLock::new();
    let thread = THREAD.get_or_init(|| {
        let (give, take) = channel::<OwnedFd>();
        let named = std::thread::Builder::new().name("closing".into());
        let closes = move || {
            for fd in take {
                drop(fd);
                WAITING.fetch_sub(1, Ordering::Relaxed);
            }
        };
        named.spawn(closes).ok().map(|_| give)
    });
    WAITING.fetch_add(1, Ordering::Relaxed);
    let given = match thread {
        Some(give) => give.send(fd).map_err(|refused| refused.0),
        None => Err(fd),
    };
    if let Err(fd) = given {
        // Without the thread it stays open until we end: that is never waited for.
        std::mem::forget(fd);
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::{TcpListener, TcpStream};
    use std::time::{Duration, Instant};

    use super::*;

    #[test]
    fn whoever_lingers_holds_nobody_up() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut stream = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (mut peer, _) = listener.accept().unwrap();
        rustix::net::sockopt::set_socket_linger(&stream, Some(Duration::from_mins(1))).unwrap();
        stream.set_nonblocking(true).unwrap();
        while stream.write(&[0; 1 << 16]).is_ok() {}
        let since = Instant::now();
        drop(Foreign::from(OwnedFd::from(stream)));
        assert!(since.elapsed() < Duration::from_secs(10));
        assert!(Foreign::waiting() > 0);
        let _all = peer.read_to_end(&mut Vec::new()).unwrap();
        while Foreign::waiting() > 0 {
            std::thread::sleep(Duration::from_millis(1));
        }
    }
}
