//! The network of a run: agt-egress in its own ring, the sockets of the agent's namespace that it
//! serves, what it tells, and its restart when it is gone.
//!
//! The sockets stay here too, so that a new agt-egress finds them as the old one left them; while
//! there is none, connections wait in their backlogs and nothing is carried.

use std::io;
use std::net::{Ipv4Addr, TcpListener};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use egress::wire::{self, Config, Event, Order, Role};
use plan::{Report, Socket};
use profiles::Network;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::net::{AddressFamily, RecvFlags, SendFlags, Shutdown, SocketFlags, SocketType};

use super::carrier;
use super::governor::Governor;
use super::ids::Identity;
use super::probe::Layers;
use super::relay::now;
use super::resolv as host;
use super::traffic::Traffic;
use crate::error::Failed;
use crate::link::Link;

/// Where programs that look for a proxy find one inside: CONNECT and SOCKS5 on one port.
const PROXY_PORT: u16 = 3128;
/// Sockets for each port that the agent serves to the host: as many connections at once.
const SERVED_AT_ONCE: usize = 16;
/// A live agt-egress is asked for a sign of life so often, and must give it within this.
const PING_EVERY: Duration = Duration::from_secs(5);
const PONG_WITHIN: Duration = Duration::from_secs(3);
/// A new one is up within this, or is given up.
const START_WITHIN: Duration = Duration::from_secs(10);
/// A live one says within this what it carried last.
const LAST_WORDS_WITHIN: Duration = Duration::from_secs(2);
/// Packets taken at a time, so that one talker does not keep the loop.
const PACKETS_AT_ONCE: usize = 64;

/// The sockets that a ring with this network hands out, and what each is for.
pub(crate) fn sockets(network: &Network) -> Vec<(Role, Socket)> {
    const ANY: [u8; 4] = [0; 4];
    const LOOPBACK: [u8; 4] = [127, 0, 0, 1];
    let names = super::etc::RESOLVER;
    let tcp = |address, port| Socket::Tcp { address, port };
    let mut sockets = Vec::new();
    if !network.allow.is_empty() {
        let udp = Socket::Udp {
            address: names,
            port: 53,
        };
        sockets.push((Role::DnsUdp, udp));
        sockets.push((Role::DnsTcp, tcp(names, 53)));
        sockets.push((Role::Proxy, tcp(names, PROXY_PORT)));
    }
    let mut ports: Vec<u16> = network
        .allow
        .iter()
        .filter_map(|at| at.value.port.one())
        .collect();
    ports.sort_unstable();
    ports.dedup();
    sockets.extend(
        ports
            .into_iter()
            .map(|port| (Role::Port { port }, tcp(ANY, port))),
    );
    for at in &network.host_ports {
        let port = at.value;
        sockets.push((Role::HostPort { port }, tcp(LOOPBACK, port)));
    }
    let inner = network.listen.len() * SERVED_AT_ONCE;
    sockets.extend((0..inner).map(|_| (Role::Inner, Socket::Free)));
    sockets
}

enum State {
    /// Its ring is being built, since then.
    Starting(Link, OwnedFd, Duration),
    Serving(Serving),
    /// The next one is started then.
    Gone(Duration),
}

struct Serving {
    link: Link,
    socket: OwnedFd,
    /// When it is asked again, or given up: an answer is awaited in the latter case.
    at: Duration,
    asked: bool,
}

/// The carrier of one run.
pub(crate) struct Egress<'a> {
    identity: &'a Identity,
    layers: &'a Layers,
    network: &'a Network,
    /// The host's side of `listen`.
    served: Vec<(Role, OwnedFd)>,
    /// The ring's sockets.
    sockets: Vec<(Role, OwnedFd)>,
    state: State,
    generation: u32,
    failures: u32,
    host: host::Known,
    pub(crate) traffic: Traffic,
}

impl<'a> Egress<'a> {
    /// Starts agt-egress; `None` when the ring has only its own loopback.
    pub(crate) fn start(
        network: &'a Network,
        identity: &'a Identity,
        layers: &'a Layers,
    ) -> Result<Option<Self>, Failed> {
        if network.is_none() {
            return Ok(None);
        }
        let mut served = Vec::new();
        for at in &network.listen {
            let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, at.value))
                .and_then(|listener| {
                    listener.set_nonblocking(true)?;
                    Ok(listener)
                })
                .map_err(|error| Failed::Port {
                    port: at.value,
                    origin: at.origin.clone(),
                    error,
                })?;
            served.push((Role::Listen { port: at.value }, OwnedFd::from(listener)));
        }
        let (link, socket) = begin(identity, layers).map_err(Failed::call("agt-egress"))?;
        Ok(Some(Self {
            identity,
            layers,
            network,
            served,
            sockets: Vec::new(),
            state: State::Starting(link, socket, now()),
            generation: 0,
            failures: 0,
            host: host::Known::default(),
            traffic: Traffic::default(),
        }))
    }

    /// Waits for the first one, before the agent is started: an agent whose network cannot be had does
    /// not begin.
    pub(crate) fn wait(&mut self) -> Result<(), Failed> {
        let State::Starting(link, ..) = &self.state else {
            return Ok(());
        };
        match link.receive().map_err(Failed::call("agt-egress"))? {
            Some((Report::Started { .. }, _)) => {}
            Some((
                Report::Failed {
                    stage,
                    index,
                    errno,
                },
                _,
            )) => {
                return Err(Failed::Egress {
                    why: why(stage, index, errno),
                });
            }
            Some((Report::Ended(_), _)) | None => {
                return Err(Failed::Egress {
                    why: "it ended at once".into(),
                });
            }
        }
        let gone = State::Gone(Duration::ZERO);
        if let State::Starting(link, socket, _) = std::mem::replace(&mut self.state, gone) {
            self.state = State::Serving(Serving {
                link,
                socket,
                at: now() + PING_EVERY,
                asked: false,
            });
        }
        Ok(())
    }

    /// Hands it the sockets of the agent's ring, in the order of [`sockets`].
    pub(crate) fn serve(&mut self, fds: Vec<OwnedFd>) -> Result<(), Failed> {
        let roles = sockets(self.network);
        if roles.len() != fds.len() {
            return Err(Failed::Egress {
                why: "the ring's sockets are not those that it was to have".into(),
            });
        }
        self.sockets = roles.into_iter().map(|(role, _)| role).zip(fds).collect();
        self.configure().map_err(Failed::call("agt-egress"))
    }

    fn configure(&mut self) -> io::Result<()> {
        self.host = host::Known::read();
        let State::Serving(serving) = &self.state else {
            return Ok(());
        };
        let all = self.sockets.iter().chain(&self.served);
        let (roles, fds): (Vec<Role>, Vec<BorrowedFd<'_>>) =
            all.map(|(role, fd)| (*role, fd.as_fd())).unzip();
        let config = config(self.network, &self.host, self.generation, roles);
        send(&serving.socket, &config, &fds)
    }

    /// What the loop waits for.
    pub(crate) fn fds(&self) -> Vec<BorrowedFd<'_>> {
        match &self.state {
            State::Starting(link, ..) => vec![link.as_fd()],
            State::Serving(serving) => vec![serving.link.as_fd(), serving.socket.as_fd()],
            State::Gone(_) => Vec::new(),
        }
    }

    /// When [`Self::step`] is due though nothing is ready.
    pub(crate) fn deadline(&self) -> Duration {
        match &self.state {
            State::Starting(_, _, since) => *since + START_WITHIN,
            State::Serving(serving) => serving.at,
            State::Gone(at) => *at,
        }
    }

    /// Takes what it tells, looks whether it lives, and starts another when it does not.
    pub(crate) fn step(&mut self, governor: &mut Governor) {
        let now = now();
        let gone = State::Gone(now);
        self.state = match std::mem::replace(&mut self.state, gone) {
            State::Starting(link, socket, since) => self.starting(link, socket, since, now),
            State::Serving(serving) => self.serving(serving, now, governor),
            State::Gone(at) if now >= at => match begin(self.identity, self.layers) {
                Ok((link, socket)) => State::Starting(link, socket, now),
                Err(_) => self.fail(now),
            },
            State::Gone(at) => State::Gone(at),
        };
        if matches!(&self.state, State::Serving(serving) if serving.at == Duration::ZERO) {
            self.state = self.take_up(now);
        }
    }

    fn starting(&mut self, link: Link, socket: OwnedFd, since: Duration, now: Duration) -> State {
        match link.ready().and_then(|ready| {
            if ready {
                link.receive().map(Some)
            } else {
                Ok(None)
            }
        }) {
            Ok(None) if now < since + START_WITHIN => State::Starting(link, socket, since),
            Ok(Some(Some((Report::Started { .. }, _)))) => State::Serving(Serving {
                link,
                socket,
                at: Duration::ZERO,
                asked: false,
            }),
            Ok(_) | Err(_) => {
                end(link);
                self.fail(now)
            }
        }
    }

    /// A new one has come up: it is told what the old one knew.
    fn take_up(&mut self, now: Duration) -> State {
        self.generation += 1;
        let told = self.configure();
        let gone = State::Gone(now);
        match (std::mem::replace(&mut self.state, gone), told) {
            (State::Serving(serving), Ok(())) => {
                self.traffic.restarted();
                State::Serving(Serving {
                    at: now + PING_EVERY,
                    ..serving
                })
            }
            (State::Serving(serving), Err(_)) => {
                end(serving.link);
                self.fail(now)
            }
            (other, _) => other,
        }
    }

    fn serving(&mut self, mut serving: Serving, now: Duration, governor: &mut Governor) -> State {
        let alive = self.take(&mut serving, now, governor);
        let ended = serving.link.ready().unwrap_or(true);
        let silent = serving.asked && now >= serving.at;
        if !alive || ended || silent {
            // Stopped or dead: what it carried is gone, and the next one starts from nothing.
            end(serving.link);
            self.traffic.lost();
            return self.fail(now);
        }
        if !serving.asked && now >= serving.at {
            let mut told = send(
                &serving.socket,
                &Order::Ping(u64::from(self.generation)),
                &[],
            );
            if told.is_ok() && self.host.changed() {
                self.host = host::Known::read();
                let resolver = self.host.resolver(self.network);
                told = send(&serving.socket, &Order::Resolver(resolver), &[]);
            }
            if told.is_err() {
                end(serving.link);
                self.traffic.lost();
                return self.fail(now);
            }
            serving.asked = true;
            serving.at = now + PONG_WITHIN;
        }
        State::Serving(serving)
    }

    /// Reads its packets; false when it is gone or talks nonsense.
    fn take(&mut self, serving: &mut Serving, now: Duration, governor: &mut Governor) -> bool {
        for _ in 0..PACKETS_AT_ONCE {
            match wire::receive(&serving.socket, RecvFlags::DONTWAIT) {
                Ok(Some((Event::Pong(_), _))) => {
                    serving.asked = false;
                    serving.at = now + PING_EVERY;
                    self.failures = 0;
                }
                Ok(Some((Event::Opened(opened), _))) => {
                    let refused = governor.connection(&opened);
                    let id = opened.id;
                    if refused.is_none() {
                        self.traffic.told(Event::Opened(opened));
                    }
                    let verdict = Order::Verdict(wire::Verdict { id, refused });
                    if send(&serving.socket, &verdict, &[]).is_err() {
                        return false;
                    }
                }
                Ok(Some((event, _))) => {
                    match &event {
                        Event::Closed(closed) => governor.closed(closed),
                        Event::Refused(refused) => governor.refused(refused),
                        Event::Opened(_) | Event::Ready(_) | Event::Pong(_) => {}
                    }
                    self.traffic.told(event);
                }
                Err(error) if error.is_full() => return true,
                Ok(None) | Err(_) => return false,
            }
        }
        true
    }

    /// The wait before the next one grows to five seconds.
    fn fail(&mut self, now: Duration) -> State {
        let wait = Duration::from_millis(50) * 2_u32.pow(self.failures.min(7));
        self.failures += 1;
        State::Gone(now + wait.min(Duration::from_secs(5)))
    }

    /// The run is over.
    pub(crate) fn close(mut self, governor: &mut Governor) -> Traffic {
        let gone = State::Gone(Duration::MAX);
        match std::mem::replace(&mut self.state, gone) {
            State::Starting(link, ..) => end(link),
            State::Serving(mut serving) => {
                self.last(&mut serving, governor);
                end(serving.link);
            }
            State::Gone(_) => {}
        }
        self.traffic
    }

    /// Hears of connections that were open to the end what was carried on them.
    fn last(&mut self, serving: &mut Serving, governor: &mut Governor) {
        let until = now() + LAST_WORDS_WITHIN;
        // One that is gone says nothing, and shows at the first packet.
        let _gone = rustix::net::shutdown(&serving.socket, Shutdown::Write);
        while self.take(serving, now(), governor) && now() < until {
            let left = until.saturating_sub(now());
            let timeout = Timespec {
                tv_sec: i64::try_from(left.as_secs()).unwrap_or(0),
                tv_nsec: left.subsec_nanos().into(),
            };
            let mut fds = [PollFd::new(&serving.socket, PollFlags::IN)];
            if poll(&mut fds, Some(&timeout)).is_err() {
                return;
            }
        }
    }
}

/// Ends one and its ring for certain.
fn end(link: Link) {
    // It is our child and not collected: killing it cannot go wrong in a way that leaves it alive.
    let _dead = link.abort();
    let _collected = link.close();
}

/// Starts a ring with agt-egress in it, without waiting for it.
fn begin(identity: &Identity, layers: &Layers) -> io::Result<(Link, OwnedFd)> {
    let (ours, theirs) = rustix::net::socketpair(
        AddressFamily::UNIX,
        SocketType::SEQPACKET,
        SocketFlags::CLOEXEC,
        None,
    )?;
    let (launch, tree) = carrier::plan(identity, layers)?;
    let link = Link::start()?;
    link.launch(launch, &carrier::descriptors(&theirs, tree.as_ref()))?;
    Ok((link, ours))
}

fn send<T: serde::Serialize>(socket: &OwnedFd, what: &T, fds: &[BorrowedFd<'_>]) -> io::Result<()> {
    wire::send(socket, what, fds, SendFlags::DONTWAIT).map_err(io::Error::other)
}

/// What agt-egress is told of the run.
fn config(network: &Network, host: &host::Known, generation: u32, fds: Vec<Role>) -> Config {
    let limits = &network.limits;
    let ports = |list: &[profiles::At<u16>]| list.iter().map(|at| at.value).collect();
    Config {
        version: wire::VERSION,
        allow: network
            .allow
            .iter()
            .map(|at| wire::Allow {
                name: at.value.pattern.to_string(),
                port: at.value.port.one(),
            })
            .collect(),
        private: network.private.iter().map(ToString::to_string).collect(),
        host_ports: ports(&network.host_ports),
        listen: ports(&network.listen),
        upstream_proxy: network.upstream_proxy.as_ref().map(|at| wire::Proxy {
            host: at.value.host.to_string(),
            port: at.value.port.get(),
            given: network.is_proxy_given,
        }),
        limits: wire::Limits {
            connections: usize::try_from(limits.connections).unwrap_or(usize::MAX),
            idle_ms: limits.idle.0,
            total_ms: limits.total.map(|total| total.0),
            bytes_per_host: limits.bytes.map(|bytes| bytes.0),
            rate_per_host: limits.rate.map(|rate| rate.0),
        },
        resolver: host.resolver(network),
        ask: true,
        generation,
        fds,
    }
}

fn why(stage: u16, index: u16, errno: i32) -> String {
    let stage = jail::Stage::ALL
        .into_iter()
        .find(|one| *one as u16 == stage);
    let what = stage.map_or("cloning it".to_owned(), |stage| {
        format!("{stage:?} {index}")
    });
    format!(
        "its ring could not be built: {what}: {}",
        crate::words::errno(errno)
    )
}
