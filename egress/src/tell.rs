//! Everything that egress tells its supervisor.
//!
//! A supervisor that does not read must not stop egress for ever, and nothing may happen untold: so
//! `opened` is waited for a short while and a connection denied without it, `closed` keeps its
//! connection's place until it is sent, and refusals are counted until they can be.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::io;
use std::os::fd::OwnedFd;
use std::rc::Rc;
use std::time::{Duration, Instant};

use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags};
use tokio::io::Interest;
use tokio::net::UnixStream;
use tokio::sync::oneshot;
use tokio::time::timeout;

use crate::Error;
use crate::wire::{self, Closed, Event, Kind, Opened, Order, Refused};

const PATIENCE: Duration = Duration::from_secs(2);
/// A name that a client made up may be long.
const LONGEST: usize = 255;
const REMEMBERED: usize = 1000;
const FORGET: Duration = Duration::from_secs(60);
const INTERVAL: Duration = Duration::from_secs(1);

/// A refusal before it is told: the kind, and a sentence with the remedy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Refusal {
    pub(crate) kind: Kind,
    pub(crate) reason: String,
}

impl Refusal {
    pub(crate) fn new(kind: Kind, reason: impl Into<String>) -> Self {
        let reason = reason.into();
        Self { kind, reason }
    }
}

struct Remembered {
    reason: String,
    untold: u64,
    told: Option<Instant>,
}

type Key = (String, Option<u16>, Kind);

pub(crate) struct Teller {
    /// Of packets, not a stream: only its readiness is tokio's business.
    socket: UnixStream,
    refusals: RefCell<HashMap<Key, Remembered>>,
    next: Cell<u64>,
    /// Connections that wait for a verdict; `None` when nobody gives any.
    waiting: Option<RefCell<HashMap<u64, oneshot::Sender<Option<String>>>>>,
}

impl Teller {
    pub(crate) fn new(socket: OwnedFd, ask: bool) -> Result<Rc<Self>, Error> {
        let socket = std::os::unix::net::UnixStream::from(socket);
        socket.set_nonblocking(true).map_err(Error::Runtime)?;
        Ok(Rc::new(Self {
            socket: UnixStream::from_std(socket).map_err(Error::Runtime)?,
            refusals: RefCell::new(HashMap::new()),
            next: Cell::new(1),
            waiting: ask.then(RefCell::default),
        }))
    }

    /// The next order; `None` when the supervisor is gone.
    pub(crate) async fn order(&self) -> Result<Option<Order>, Error> {
        loop {
            self.socket.readable().await.map_err(Error::Runtime)?;
            let got = self.now(Interest::READABLE, || {
                wire::receive(&self.socket, RecvFlags::DONTWAIT)
            });
            match got {
                Err(error) if error.is_full() => {}
                got => return Ok(got?.map(|(order, _)| order)),
            }
        }
    }

    pub(crate) async fn send(&self, event: &Event) -> Result<(), Error> {
        loop {
            self.socket.writable().await.map_err(Error::Runtime)?;
            match self.try_send(event) {
                Err(error) if error.is_full() => {}
                sent => return sent,
            }
        }
    }

    fn try_send(&self, event: &Event) -> Result<(), Error> {
        self.now(Interest::WRITABLE, || {
            wire::send(&self.socket, event, &[], SendFlags::DONTWAIT)
        })
    }

    /// Tries a call; when the socket is not ready, tokio learns that and the error is a full socket.
    fn now<T>(
        &self,
        interest: Interest,
        call: impl FnOnce() -> Result<T, Error>,
    ) -> Result<T, Error> {
        let tried = self.socket.try_io(interest, || match call() {
            Err(error) if error.is_full() => Err(io::ErrorKind::WouldBlock.into()),
            done => Ok(done),
        });
        tried.unwrap_or(Err(Error::Socket(Errno::AGAIN)))
    }

    /// A number for a connection that is about to be told.
    pub(crate) fn number(&self) -> u64 {
        self.next.replace(self.next.get().wrapping_add(1))
    }

    /// Nothing is carried unless this succeeds.
    pub(crate) async fn opened(&self, opened: Opened) -> Result<(), Refusal> {
        let verdict = self.waiting.as_ref().map(|waiting| {
            let (sender, verdict) = oneshot::channel();
            waiting.borrow_mut().insert(opened.id, sender);
            verdict
        });
        let id = opened.id;
        let event = Event::Opened(opened);
        let told = async {
            self.send(&event).await.ok()?;
            match verdict {
                Some(verdict) => verdict.await.ok(),
                None => Some(None),
            }
        };
        let told = timeout(PATIENCE, told).await;
        if let Some(waiting) = &self.waiting {
            waiting.borrow_mut().remove(&id);
        }
        match told {
            Ok(Some(None)) => Ok(()),
            Ok(Some(Some(reason))) => Err(Refusal::new(Kind::Policy, reason)),
            Ok(None) | Err(_) => Err(Refusal::new(
                Kind::Untold,
                "the supervisor does not take messages, and nothing is let through untold; try again",
            )),
        }
    }

    /// The supervisor's word on a connection; one that waits no more was denied already.
    pub(crate) fn verdict(&self, verdict: wire::Verdict) {
        let waiting = self.waiting.as_ref();
        if let Some(sender) = waiting.and_then(|all| all.borrow_mut().remove(&verdict.id)) {
            drop(sender.send(verdict.refused));
        }
    }

    pub(crate) async fn closed(&self, closed: Closed) {
        // A failure means that the supervisor is gone, and egress goes with it.
        drop(self.send(&Event::Closed(closed)).await);
    }

    /// Told now if it is new, counted if it was told within the last second.
    pub(crate) fn refused(&self, name: &str, port: Option<u16>, refusal: &Refusal) {
        let mut all = self.refusals.borrow_mut();
        let name: String = name.chars().take(LONGEST).collect();
        let key = (name, port, refusal.kind);
        let full = all.len() >= REMEMBERED && !all.contains_key(&key);
        let key = if full {
            (String::new(), None, refusal.kind)
        } else {
            key
        };
        let reason = if full {
            "many more were refused than are told one by one"
        } else {
            &refusal.reason
        };
        let entry = all.entry(key.clone()).or_insert_with(|| Remembered {
            reason: String::new(),
            untold: 0,
            told: None,
        });
        reason.clone_into(&mut entry.reason);
        entry.untold = entry.untold.saturating_add(1);
        if entry.told.is_none() {
            self.tell(&key, entry);
        }
    }

    /// Whether there was room for it.
    fn tell(&self, key: &Key, refusal: &mut Remembered) -> bool {
        let (name, port, kind) = key.clone();
        let told = self.try_send(&Event::Refused(Refused {
            name,
            port,
            reason: refusal.reason.clone(),
            kind,
            count: refusal.untold,
        }));
        if told.is_ok() {
            refusal.untold = 0;
            refusal.told = Some(Instant::now());
        }
        told.is_ok()
    }

    /// Tells what was counted, once a second, and forgets what did not happen again.
    pub(crate) async fn tell_refusals(&self) {
        loop {
            tokio::time::sleep(INTERVAL).await;
            self.tell_counted();
        }
    }

    /// Tells what was counted since it was last told.
    pub(crate) fn tell_counted(&self) {
        let mut room = true;
        self.refusals.borrow_mut().retain(|key, refusal| {
            if refusal.untold > 0 {
                room = room && self.tell(key, refusal);
                return true;
            }
            refusal.told.is_none_or(|told| told.elapsed() < FORGET)
        });
    }
}
