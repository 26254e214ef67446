//! Bytes both ways, within bounds.
//!
//! Each direction is a pipe that the kernel moves pages through (`splice`), so no byte is copied here.

use std::cell::{Cell, RefCell};
use std::io;
use std::os::fd::OwnedFd;
use std::rc::Rc;
use std::time::Duration;

use names::HostName;
use rustix::net::Shutdown;
use rustix::pipe::{PipeFlags, SpliceFlags, fcntl_setpipe_size, pipe_with, splice};
use tokio::io::Interest;
use tokio::net::TcpStream;
use tokio::sync::Notify;
use tokio::task::yield_now;
use tokio::time::{Instant, sleep, sleep_until, timeout};

use crate::hello::{self, Verdict};
use crate::tell::Refusal;
use crate::wire::{Kind, Why};

const PIPE: usize = 256 * 1024;
const PATIENCE: Duration = Duration::from_secs(10);
/// What a rate lets through at once.
const BURST: Duration = Duration::from_millis(250);

/// What one name has used, over all its connections.
pub(crate) struct Usage {
    total: Cell<u64>,
    most: Option<u64>,
    rate: Option<u64>,
    /// When what was sent so far is paid for.
    paid: Cell<Instant>,
}

impl Usage {
    pub(crate) fn new(most: Option<u64>, rate: Option<u64>) -> Rc<Self> {
        Rc::new(Self {
            total: Cell::new(0),
            most,
            rate,
            paid: Cell::new(Instant::now()),
        })
    }

    pub(crate) fn is_used_up(&self) -> bool {
        self.left() == 0
    }

    fn left(&self) -> u64 {
        self.most
            .map_or(u64::MAX, |most| most.saturating_sub(self.total.get()))
    }

    /// How many bytes may be read now, once the rate permits any.
    async fn allowance(&self) -> usize {
        let mut most = PIPE;
        if let Some(rate) = self.rate {
            loop {
                let ahead = self.paid.get().saturating_duration_since(Instant::now());
                if ahead <= BURST {
                    break;
                }
                sleep(ahead.saturating_sub(BURST)).await;
            }
            most = most.min(usize::try_from(rate / 4).unwrap_or(PIPE).max(1));
        }
        most.min(usize::try_from(self.left()).unwrap_or(PIPE))
    }

    fn count(&self, bytes: usize) {
        let bytes = u64::try_from(bytes).unwrap_or(u64::MAX);
        self.total.set(self.total.get().saturating_add(bytes));
        if let Some(rate) = self.rate {
            let nanos = bytes
                .saturating_mul(1_000_000_000)
                .checked_div(rate)
                .unwrap_or(u64::MAX);
            let from = self.paid.get().max(Instant::now());
            let paid = from.checked_add(Duration::from_nanos(nanos));
            self.paid.set(paid.unwrap_or(from));
        }
    }
}

/// The bounds on time.
#[derive(Clone, Copy)]
pub(crate) struct Times<'a> {
    pub(crate) idle: Duration,
    pub(crate) total: Option<Duration>,
    /// When the run is.
    pub(crate) over: &'a Notify,
}

/// How a connection went.
pub(crate) struct Flow {
    pub(crate) up: u64,
    pub(crate) down: u64,
    pub(crate) why: Why,
    pub(crate) refusal: Option<Refusal>,
}

enum Stop {
    Broken,
    Bytes,
    Refused(Refusal),
}

impl From<io::Error> for Stop {
    fn from(_: io::Error) -> Self {
        Stop::Broken
    }
}

/// One connection while it is relayed.
struct Relay<'a> {
    client: &'a TcpStream,
    server: &'a TcpStream,
    usage: &'a Usage,
    last: Cell<Instant>,
    up: Cell<u64>,
    down: Cell<u64>,
    pipes: &'a Pipes,
}

/// Relays until both sides are done or a bound is reached. `early` was read from the client already;
/// with `guard` nothing of the client is forwarded before its beginning was judged. `answered` was read
/// from the server already.
pub(crate) async fn relay(
    (client, server): (&TcpStream, &TcpStream),
    (early, guard): (Vec<u8>, Option<&HostName>),
    answered: &[u8],
    times: Times<'_>,
    usage: &Usage,
    pipes: &Pipes,
) -> Flow {
    for stream in [client, server] {
        // A side that is gone already shows at its first byte.
        drop(stream.set_nodelay(true));
    }
    let relay = Relay {
        client,
        server,
        usage,
        last: Cell::new(Instant::now()),
        up: Cell::new(0),
        down: Cell::new(0),
        pipes,
    };
    let both = async { tokio::try_join!(relay.upward(early, guard), relay.downward(answered)) };
    let end = Instant::now().checked_add(times.total.unwrap_or(Duration::MAX));
    let over = async {
        match end {
            Some(end) => sleep_until(end).await,
            None => std::future::pending().await,
        }
    };
    let (why, refusal) = tokio::select! {
        done = both => match done {
            Ok(_) => (Why::Done, None),
            Err(Stop::Broken) => (Why::Broken, None),
            Err(Stop::Bytes) => (Why::Bytes, None),
            Err(Stop::Refused(refusal)) => (Why::Refused, Some(refusal)),
        },
        () = relay.idle(times.idle) => (Why::Idle, None),
        () = over => (Why::Total, None),
        () = times.over.notified() => (Why::Broken, None),
    };
    if why != Why::Done {
        reset(client);
        reset(server);
    }
    Flow {
        up: relay.up.get(),
        down: relay.down.get(),
        why,
        refusal,
    }
}

/// Closing it will be a reset: what was not allowed must not look as if it had ended well.
pub(crate) fn reset(stream: &TcpStream) {
    // A socket that refuses this is closed already.
    let _ = rustix::net::sockopt::set_socket_linger(stream, Some(Duration::ZERO));
}

impl Relay<'_> {
    async fn idle(&self, most: Duration) {
        while let Some(left) = most.checked_sub(self.last.get().elapsed()) {
            if left.is_zero() {
                return;
            }
            sleep(left).await;
        }
    }

    async fn upward(&self, early: Vec<u8>, guard: Option<&HostName>) -> Result<(), Stop> {
        let early = match guard {
            Some(name) => beginning(self.client, early, name, false)
                .await
                .map_err(Stop::Refused)?,
            None => early,
        };
        self.forward(&early, self.server, &self.up).await?;
        self.pump(self.client, self.server, &self.up).await
    }

    async fn downward(&self, answered: &[u8]) -> Result<(), Stop> {
        self.forward(answered, self.client, &self.down).await?;
        self.pump(self.server, self.client, &self.down).await
    }

    /// Bytes that are in a buffer of ours.
    async fn forward(
        &self,
        mut bytes: &[u8],
        to: &TcpStream,
        count: &Cell<u64>,
    ) -> Result<(), Stop> {
        while !bytes.is_empty() {
            to.writable().await?;
            // Nothing is waited for between asking and counting, so no bound is overrun.
            let most = self.usage.allowance().await.min(bytes.len());
            if most == 0 {
                return Err(Stop::Bytes);
            }
            match to.try_write(bytes.get(..most).unwrap_or(bytes)) {
                Ok(sent) => {
                    self.usage.count(sent);
                    self.moved(sent, count);
                    bytes = bytes.get(sent..).unwrap_or_default();
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }

    fn moved(&self, bytes: usize, count: &Cell<u64>) {
        let bytes = u64::try_from(bytes).unwrap_or(u64::MAX);
        count.set(count.get().saturating_add(bytes));
        self.last.set(Instant::now());
    }

    async fn pump(&self, from: &TcpStream, to: &TcpStream, count: &Cell<u64>) -> Result<(), Stop> {
        let mut since_rest = 0;
        loop {
            if since_rest >= PIPE {
                // Two sides that are always ready would never give the thread to anybody else.
                since_rest = 0;
                yield_now().await;
            }
            from.readable().await?;
            let most = self.usage.allowance().await;
            if most == 0 {
                return Err(Stop::Bytes);
            }
            // A pipe only while bytes are in it: an idle connection holds no descriptors but its own.
            let pipe = self.pipes.take()?;
            let moved = move_on(from, &pipe.1, most);
            let mut left = match moved {
                Ok(0) => {
                    self.pipes.give(pipe);
                    // The other side may be closed as a whole by now.
                    let _ = rustix::net::shutdown(to, Shutdown::Write);
                    return Ok(());
                }
                Ok(bytes) => bytes,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    self.pipes.give(pipe);
                    continue;
                }
                Err(error) => return Err(error.into()),
            };
            self.usage.count(left);
            since_rest = since_rest.saturating_add(left);
            while left > 0 {
                to.writable().await?;
                match move_out(&pipe.0, to, left) {
                    Ok(0) => return Err(Stop::Broken),
                    Ok(sent) => {
                        left = left.saturating_sub(sent);
                        self.moved(sent, count);
                    }
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                    Err(error) => return Err(error.into()),
                }
            }
            self.pipes.give(pipe);
        }
    }
}

fn move_on(from: &TcpStream, pipe: &OwnedFd, most: usize) -> io::Result<usize> {
    let flags = SpliceFlags::MOVE | SpliceFlags::NONBLOCK;
    from.try_io(Interest::READABLE, || {
        Ok(splice(from, None, pipe, None, most, flags)?)
    })
}

fn move_out(pipe: &OwnedFd, to: &TcpStream, most: usize) -> io::Result<usize> {
    let flags = SpliceFlags::MOVE | SpliceFlags::NONBLOCK;
    to.try_io(Interest::WRITABLE, || {
        Ok(splice(pipe, None, to, None, most, flags)?)
    })
}

/// Empty pipes, to be used again.
#[derive(Default)]
pub(crate) struct Pipes(RefCell<Vec<(OwnedFd, OwnedFd)>>);

impl Pipes {
    const KEPT: usize = 16;

    fn take(&self) -> io::Result<(OwnedFd, OwnedFd)> {
        if let Some(pipe) = self.0.borrow_mut().pop() {
            return Ok(pipe);
        }
        let pipe = pipe_with(PipeFlags::NONBLOCK | PipeFlags::CLOEXEC)?;
        // Over the host's bound the default size has to do.
        let _ = fcntl_setpipe_size(&pipe.1, PIPE);
        Ok(pipe)
    }

    fn give(&self, pipe: (OwnedFd, OwnedFd)) {
        let mut kept = self.0.borrow_mut();
        if kept.len() < Self::KEPT {
            kept.push(pipe);
        }
    }
}

/// Reads a client's beginning until it is known whether it agrees with the name, and returns it.
/// Nothing limits the wait for the first byte here: a client of a server-first protocol may be silent.
pub(crate) async fn beginning(
    client: &TcpStream,
    mut bytes: Vec<u8>,
    name: &HostName,
    has_to_be_tls: bool,
) -> Result<Vec<u8>, Refusal> {
    if bytes.is_empty() && !has_to_be_tls && !read_some(client, &mut bytes).await {
        return Ok(bytes);
    }
    let judged = async {
        loop {
            match hello::judge(&bytes, name) {
                Verdict::Agrees => return Ok(()),
                Verdict::Other if !has_to_be_tls => return Ok(()),
                Verdict::Other => return Err(hello::not_tls("it begins with something else")),
                Verdict::Refused(refusal) => return Err(refusal),
                Verdict::More => {}
            }
            if !read_some(client, &mut bytes).await {
                return Err(hello::not_tls("it ends before"));
            }
        }
    };
    match timeout(PATIENCE, judged).await {
        Ok(Ok(())) => Ok(bytes),
        Ok(Err(refusal)) => Err(refusal),
        Err(_) => Err(hello::not_tls("it does not come within 10 s")),
    }
}

/// Whether there was anything.
pub(crate) async fn read_some(client: &TcpStream, bytes: &mut Vec<u8>) -> bool {
    let mut space = [0; 4096];
    loop {
        if client.readable().await.is_err() {
            return false;
        }
        match client.try_read(&mut space) {
            Ok(got) => {
                bytes.extend_from_slice(space.get(..got).unwrap_or_default());
                return got > 0;
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(_) => return false,
        }
    }
}

/// A name that has used up its bytes.
pub(crate) fn used_up(name: &HostName) -> Refusal {
    Refusal::new(
        Kind::Limit,
        format!("{name} has used up `bytes_per_host` of this run; raise it or start another run"),
    )
}
