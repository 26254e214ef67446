//! Holding a ring from its birth to its verified end.

use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use jail::Failure;
use plan::{Cause, Command, Ended, Report};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Signal, pidfd_send_signal};

use crate::RingdError;
use crate::launch::Born;
use crate::link::{Link, Received};
use crate::memory::{Seen, Watch};

/// Longest wait for the kernel to say that the cgroup of a collected ring is empty.
const EMPTY_WITHIN: Duration = Duration::from_secs(2);

enum Phase {
    /// The child has not become the program yet.
    Building,
    Running,
}

struct Ring {
    born: Born,
    phase: Phase,
    cause: Cause,
    watch: Option<Watch>,
    /// When memory is counted next.
    count_at: Instant,
    /// When the ring is killed whatever the supervisor says.
    last_call: Option<Instant>,
}

/// Serves a ring until it is empty, and reports how it ended.
pub(crate) fn hold(
    link: &mut Link,
    born: Born,
    watched_memory: u64,
    last_call_ms: u64,
) -> Result<(), RingdError> {
    let watch = (watched_memory > 0).then(|| Watch::new(born.init.pid, watched_memory));
    let mut ring = Ring {
        born,
        phase: Phase::Building,
        cause: Cause::Exited,
        watch,
        count_at: Instant::now(),
        last_call: (last_call_ms > 0).then(|| Instant::now() + Duration::from_millis(last_call_ms)),
    };
    loop {
        let ready = ring.wait(link)?;
        if ready.supervisor {
            match link.receive()? {
                Received::Command(Command::Signal(signal), _) => ring.signal(signal)?,
                Received::Command(Command::Kill, _) => ring.kill(Cause::Killed)?,
                Received::Command(Command::Launch(_), _) => return Err(RingdError::Phase),
                Received::Gone => return ring.end_unheard(),
            }
        }
        if ready.errors && matches!(ring.phase, Phase::Building) {
            if let Some(failure) = ring.failure()? {
                return link.report(&failure, &[]);
            }
            ring.phase = Phase::Running;
            let mut handed = ring.terminal_master()?;
            handed.extend(ring.network_sockets()?);
            let started = Report::Started {
                init: ring.born.init.pid,
            };
            let handed: Vec<BorrowedFd<'_>> = handed.iter().map(AsFd::as_fd).collect();
            link.report(&started, &handed)?;
        }
        if ready.tick && matches!(ring.phase, Phase::Running) {
            ring.count_memory()?;
        }
        if ring.last_call.is_some_and(|at| Instant::now() >= at) {
            ring.last_call = None;
            ring.kill(Cause::Killed)?;
        }
        if ready.init {
            let ended = ring.finish()?;
            return link.report(&Report::Ended(ended), &[]);
        }
    }
}

struct Ready {
    supervisor: bool,
    errors: bool,
    init: bool,
    tick: bool,
}

impl Ring {
    fn wait(&self, link: &Link) -> Result<Ready, RingdError> {
        let mut fds = [
            PollFd::new(link, PollFlags::IN),
            PollFd::new(&self.born.init.pidfd, PollFlags::IN),
            PollFd::new(&self.born.errors, PollFlags::IN),
        ];
        // The error pipe stays readable once it has hung up: it is asked for while building only.
        let asked = match self.phase {
            Phase::Building => fds.len(),
            Phase::Running => 2,
        };
        let now = Instant::now();
        let until_last = self.last_call.map(|at| at.saturating_duration_since(now));
        let until_count = self.watch.as_ref().map(Watch::pause);
        let timeout = until_last
            .into_iter()
            .chain(until_count)
            .min()
            .map(|left| Timespec {
                tv_sec: i64::try_from(left.as_secs()).unwrap_or(i64::MAX),
                tv_nsec: left.subsec_nanos().into(),
            });
        let polled = fds.get_mut(..asked).unwrap_or_default();
        match poll(polled, timeout.as_ref()) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(errno) => return Err(RingdError::Call("poll", errno.into())),
        }
        let [supervisor, init, errors] = fds.map(|fd| !fd.revents().is_empty());
        Ok(Ready {
            supervisor,
            errors,
            init,
            tick: self.watch.is_some() && Instant::now() >= self.count_at,
        })
    }

    /// What the child said before it gave up; `None` when it became the program.
    fn failure(&mut self) -> Result<Option<Report>, RingdError> {
        let mut words = [0_u8; Failure::LEN];
        let read = rustix::io::retry_on_intr(|| rustix::io::read(&self.born.errors, &mut words))
            .map_err(|errno| RingdError::Call("error pipe", errno.into()))?;
        let report = match (read, Failure::from_bytes(words)) {
            (0, _) if self.alive() => return Ok(None),
            // Main may already be through: then init has left its status before dying.
            (0, _) if self.status_waits() => return Ok(None),
            (Failure::LEN, Some(failure)) => Report::Failed {
                stage: failure.stage as u16,
                index: failure.index,
                errno: failure.errno,
            },
            _ => Report::Failed {
                stage: 0,
                index: 0,
                errno: 0,
            },
        };
        self.kill(Cause::Killed)?;
        self.finish()?;
        Ok(Some(report))
    }

    fn alive(&self) -> bool {
        let mut fds = [PollFd::new(&self.born.init.pidfd, PollFlags::IN)];
        poll(
            &mut fds,
            Some(&Timespec {
                tv_sec: 0,
                tv_nsec: 0,
            }),
        ) == Ok(0)
    }

    fn status_waits(&self) -> bool {
        let mut fds = [PollFd::new(&self.born.status, PollFlags::IN)];
        poll(
            &mut fds,
            Some(&Timespec {
                tv_sec: 0,
                tv_nsec: 0,
            }),
        )
        .is_ok()
            && fds.iter().any(|fd| fd.revents().contains(PollFlags::IN))
    }

    /// Passes a signal to every process of the ring, by way of its init.
    fn signal(&self, signal: u8) -> Result<(), RingdError> {
        match rustix::io::write(&self.born.life, &[signal]) {
            // An init that is gone has nobody left to signal.
            Ok(_) | Err(rustix::io::Errno::PIPE) => Ok(()),
            Err(errno) => Err(RingdError::Call("life pipe", errno.into())),
        }
    }

    /// Kills the whole ring: the cgroup at one stroke where there is one, and init, whose death
    /// takes everything in its pid namespace with it.
    fn kill(&mut self, cause: Cause) -> Result<(), RingdError> {
        if matches!(self.cause, Cause::Exited) {
            self.cause = cause;
        }
        if let Some(kill) = &self.born.cgroup_kill {
            rustix::io::write(kill, b"1")
                .map_err(|errno| RingdError::Call("cgroup.kill", errno.into()))?;
        }
        match pidfd_send_signal(&self.born.init.pidfd, Signal::KILL) {
            Ok(()) | Err(rustix::io::Errno::SRCH) => Ok(()),
            Err(errno) => Err(RingdError::Call("kill", errno.into())),
        }
    }

    fn count_memory(&mut self) -> Result<(), RingdError> {
        let seen = self.watch.as_mut().map(Watch::count);
        self.count_at = Instant::now() + self.watch.as_ref().map_or(Duration::ZERO, Watch::pause);
        match seen {
            Some(Seen::Over(used)) => self.kill(Cause::Memory { used }),
            Some(Seen::Nothing) => self.kill(Cause::Blind),
            Some(Seen::Within) | None => Ok(()),
        }
    }

    /// Collects the init and makes sure that nothing is left. The kernel lets a pid namespace's
    /// init be collected only after every other process in it is gone (pid_namespaces(7)).
    fn finish(&mut self) -> Result<Ended, RingdError> {
        let usage = sys::process::collect(self.born.init.pid)
            .map_err(|error| RingdError::Call("wait", error))?;
        self.verify_empty()?;
        let mut status = [0_u8; 4];
        let told = self.status_waits()
            && rustix::io::read(&self.born.status, &mut status) == Ok(status.len());
        Ok(Ended {
            status: told.then(|| i32::from_le_bytes(status)),
            cause: self.cause,
            cpu_us: usage.cpu_us,
            largest_rss: usage.largest_rss,
            watched_peak: self.watch.as_ref().map(Watch::peak),
        })
    }

    fn verify_empty(&self) -> Result<(), RingdError> {
        let Some(events) = &self.born.cgroup_events else {
            return Ok(());
        };
        let until = Instant::now() + EMPTY_WITHIN;
        while populated(events).map_err(|e| RingdError::Call("cgroup.events", e))? {
            if Instant::now() > until {
                return Err(RingdError::Call(
                    "cgroup",
                    io::ErrorKind::ResourceBusy.into(),
                ));
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        Ok(())
    }

    /// The supervisor is gone: end the ring, with nobody left to tell.
    fn end_unheard(&mut self) -> Result<(), RingdError> {
        self.kill(Cause::Killed)?;
        self.finish().map(drop)
    }

    /// The sockets of the ring's network namespace; ringd keeps none of them.
    fn network_sockets(&mut self) -> Result<Vec<OwnedFd>, RingdError> {
        let Some((socket, count)) = self.born.sockets.take() else {
            return Ok(Vec::new());
        };
        (0..count)
            .map(|_| receive_fd(&socket).map_err(|e| RingdError::Call("network sockets", e)))
            .collect()
    }

    fn terminal_master(&mut self) -> Result<Vec<OwnedFd>, RingdError> {
        let Some((socket, (columns, rows))) = self.born.terminal.take() else {
            return Ok(Vec::new());
        };
        let master = receive_fd(&socket).map_err(|e| RingdError::Call("terminal", e))?;
        let window = rustix::termios::Winsize {
            ws_row: rows,
            ws_col: columns,
            ws_xpixel: 0,
            ws_ypixel: 0,
        };
        rustix::termios::tcsetwinsize(&master, window)
            .map_err(|errno| RingdError::Call("window size", errno.into()))?;
        Ok(vec![master])
    }
}

fn populated(events: &OwnedFd) -> io::Result<bool> {
    let mut text = [0_u8; 256];
    let count = rustix::io::pread(events, &mut text, 0)?;
    let text = text.get(..count).unwrap_or_default();
    Ok(text
        .split(|byte| *byte == b'\n')
        .any(|line| line == b"populated 1"))
}

fn receive_fd(socket: &OwnedFd) -> io::Result<OwnedFd> {
    use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recvmsg};
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let mut byte = [0_u8; 1];
    let mut parts = [io::IoSliceMut::new(&mut byte)];
    recvmsg(socket, &mut parts, &mut control, RecvFlags::CMSG_CLOEXEC)?;
    let fd = control.drain().find_map(|message| match message {
        RecvAncillaryMessage::ScmRights(mut rights) => rights.next(),
        RecvAncillaryMessage::ScmCredentials(_) | _ => None,
    });
    fd.ok_or_else(|| io::ErrorKind::UnexpectedEof.into())
}
