//! What every connection goes through, whichever way it was asked for: a place, a rule, an address,
//! being told, being relayed, being told again.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::rc::Rc;
use std::time::{Duration, Instant};

use names::{Cidr, HostName, HostRule, NamePattern, PortRule};
use tokio::net::TcpStream;
use tokio::sync::Notify;

use crate::relay::{Pipes, Times, Usage, relay, reset, used_up};
use crate::resolve::{self, Upstream};
use crate::table::{self, Table};
use crate::tell::{Refusal, Teller};
use crate::wire::{Allow, Closed, Config, Kind, Limits, Opened, VERSION, Via};
use crate::{Error, chain};

/// What tests set and no configuration can.
#[derive(Clone, Copy)]
pub(crate) struct Ground {
    pub(crate) base: Ipv4Addr,
    pub(crate) own: resolve::Owns,
    /// The port where nothing but TLS is let through.
    pub(crate) tls: u16,
}

impl Ground {
    pub(crate) const REAL: Ground = Ground {
        base: table::BASE,
        own: resolve::is_own,
        tls: 443,
    };
}

/// One run's way out.
pub(crate) struct Egress {
    pub(crate) teller: Rc<Teller>,
    pub(crate) table: RefCell<Table>,
    pub(crate) upstream: RefCell<Rc<Upstream>>,
    rules: Vec<HostRule>,
    private: Vec<Cidr>,
    ground: Ground,
    proxy: Option<chain::Proxy>,
    limits: Limits,
    live: Rc<Cell<usize>>,
    usage: RefCell<HashMap<HostName, Rc<Usage>>>,
    pipes: Pipes,
    /// The run is over: every connection ends and is told.
    over: Notify,
    /// Connections whose end was not told yet.
    untold: Cell<usize>,
}

/// A place among the connections at once.
pub(crate) struct Place(Rc<Cell<usize>>);

impl Drop for Place {
    fn drop(&mut self) {
        self.0.set(self.0.get().saturating_sub(1));
    }
}

/// What a client wants to reach.
#[derive(Clone, Debug)]
pub(crate) struct Ask {
    pub(crate) name: HostName,
    pub(crate) port: u16,
    pub(crate) via: Via,
}

/// The other end, once there is one.
pub(crate) struct Found {
    pub(crate) stream: TcpStream,
    pub(crate) address: SocketAddr,
    /// What it said before anybody listened.
    pub(crate) early: Vec<u8>,
}

impl Found {
    pub(crate) fn new((stream, address): (TcpStream, SocketAddr)) -> Self {
        Self {
            stream,
            address,
            early: Vec::new(),
        }
    }
}

impl Egress {
    pub(crate) fn new(
        config: &Config,
        teller: Rc<Teller>,
        ground: Ground,
    ) -> Result<Rc<Self>, Error> {
        if config.version != VERSION {
            return Err(Error::Version(config.version));
        }
        if config.allow.len() > table::MOST_RULES {
            return Err(Error::TooMany(table::MOST_RULES));
        }
        let rules = config
            .allow
            .iter()
            .map(rule)
            .collect::<Result<Vec<_>, _>>()?;
        let private = config.private.iter().map(|text| {
            Cidr::parse(text).map_err(|error| Error::Rule {
                rule: text.clone(),
                error,
            })
        });
        let patterns = rules.iter().map(|rule| &rule.pattern);
        Ok(Rc::new(Self {
            teller,
            table: RefCell::new(Table::new(ground.base, config.generation, patterns)),
            upstream: RefCell::new(Rc::new(Upstream::new(&config.resolver)?)),
            private: private.collect::<Result<_, _>>()?,
            rules,
            ground,
            proxy: config
                .upstream_proxy
                .as_ref()
                .map(|proxy| chain::Proxy::new(proxy, ground.own, &config.host_ports))
                .transpose()?,
            limits: config.limits.clone(),
            live: Rc::new(Cell::new(0)),
            usage: RefCell::new(HashMap::new()),
            pipes: Pipes::default(),
            over: Notify::new(),
            untold: Cell::new(0),
        }))
    }

    /// Whether nothing but TLS is let through there.
    pub(crate) fn is_tls(&self, ask: &Ask) -> bool {
        ask.port == self.ground.tls
    }

    pub(crate) fn place(&self) -> Result<Place, Refusal> {
        if self.live.get() >= self.limits.connections {
            return Err(Refusal::new(
                Kind::Limit,
                format!(
                    "{} connections are open, which is the limit; close some or raise it",
                    self.limits.connections
                ),
            ));
        }
        self.live.set(self.live.get().saturating_add(1));
        Ok(Place(Rc::clone(&self.live)))
    }

    /// Whether a rule allows it and there are bytes left for it.
    pub(crate) fn check(&self, ask: &Ask) -> Result<(), Refusal> {
        let Ask { name, port, .. } = ask;
        if !self.rules.iter().any(|rule| rule.matches(name, *port)) {
            return Err(Refusal::new(
                Kind::NotAllowed,
                format!(
                    "no rule allows {name}:{port}; add `{name}:{port}` to `network.allow` if that is meant"
                ),
            ));
        }
        if self.usage(name).is_used_up() {
            return Err(used_up(name));
        }
        Ok(())
    }

    /// The name behind a synthetic address.
    pub(crate) fn name_of(&self, address: IpAddr) -> Result<HostName, Refusal> {
        let table = self.table.borrow();
        let IpAddr::V4(v4) = address.to_canonical() else {
            return Err(raw_address(address));
        };
        match table.name(v4) {
            Some(name) => Ok(name.clone()),
            None if table.is_synthetic(v4) => Err(Refusal::new(
                Kind::UnknownAddress,
                format!("{address} stands for no name of this run; resolve the name again"),
            )),
            None => Err(raw_address(address)),
        }
    }

    /// The name that a proxy request means.
    pub(crate) fn target(&self, host: &str) -> Result<HostName, Refusal> {
        let bare = host
            .strip_prefix('[')
            .and_then(|host| host.strip_suffix(']'))
            .unwrap_or(host);
        if let Ok(address) = bare.parse() {
            return self.name_of(address);
        }
        HostName::parse(host).map_err(|error| {
            let kind = if error == names::Error::Address {
                Kind::RawAddress
            } else {
                Kind::Authority
            };
            Refusal::new(
                kind,
                format!("the proxy is asked for no host it can judge: {error}"),
            )
        })
    }

    /// Resolves and dials what was checked.
    pub(crate) async fn dial(&self, ask: &Ask) -> Result<Found, Refusal> {
        self.check(ask)?;
        let upstream = Rc::clone(&self.upstream.borrow());
        if let Some(proxy) = &self.proxy {
            return proxy.dial(&upstream, ask).await;
        }
        let addresses = upstream.addresses(&ask.name).await?;
        let fine = resolve::vet(&ask.name, &addresses, &self.private, self.ground.own)?;
        resolve::dial(ask.name.as_str(), &fine, ask.port)
            .await
            .map(Found::new)
    }

    /// Tells of a connection, relays it, tells of its end. `early` was read from the client; the
    /// beginning is judged here unless it was judged already.
    pub(crate) async fn carry(
        &self,
        client: &TcpStream,
        found: Found,
        ask: &Ask,
        (early, judged): (Vec<u8>, bool),
    ) -> Result<(), Refusal> {
        let guard = (!judged).then_some(&ask.name);
        let usage = self.usage(&ask.name);
        self.tell_and_relay(
            (client, &found),
            (ask.name.as_str(), ask.port, ask.via),
            (early, guard),
            &usage,
        )
        .await
    }

    /// As [`Self::carry`], between this host's loopback and the ring, where no name is judged.
    pub(crate) async fn carry_local(
        &self,
        client: &TcpStream,
        found: Found,
        port: u16,
        via: Via,
    ) -> Result<(), Refusal> {
        let usage = Usage::new(None, None);
        self.tell_and_relay(
            (client, &found),
            ("localhost", port, via),
            (Vec::new(), None),
            &usage,
        )
        .await
    }

    async fn tell_and_relay(
        &self,
        (client, found): (&TcpStream, &Found),
        (name, port, via): (&str, u16, Via),
        (early, guard): (Vec<u8>, Option<&HostName>),
        usage: &Usage,
    ) -> Result<(), Refusal> {
        let id = self.teller.number();
        let (name, address) = (name.to_owned(), found.address);
        self.teller
            .opened(Opened {
                id,
                name,
                port,
                address,
                via,
            })
            .await?;
        self.untold.set(self.untold.get().saturating_add(1));
        let start = Instant::now();
        let times = Times {
            idle: Duration::from_millis(self.limits.idle_ms),
            total: self.limits.total_ms.map(Duration::from_millis),
            over: &self.over,
        };
        let flow = relay(
            (client, &found.stream),
            (early, guard),
            &found.early,
            times,
            usage,
            &self.pipes,
        )
        .await;
        let ms = u64::try_from(start.elapsed().as_millis()).unwrap_or(u64::MAX);
        let (up, down, why) = (flow.up, flow.down, flow.why);
        self.teller
            .closed(Closed {
                id,
                up,
                down,
                ms,
                why,
            })
            .await;
        self.untold.set(self.untold.get().saturating_sub(1));
        flow.refusal.map_or(Ok(()), Err)
    }

    /// Ends every connection, after a moment for what is on its way, until all of them were told.
    pub(crate) async fn end(&self) {
        const STEP: Duration = Duration::from_millis(5);
        const ON_ITS_WAY: Duration = Duration::from_millis(100);
        const WITHIN: Duration = Duration::from_secs(1);
        let start = Instant::now();
        while self.untold.get() > 0 && start.elapsed() < WITHIN {
            if start.elapsed() > ON_ITS_WAY {
                self.over.notify_waiters();
            }
            tokio::time::sleep(STEP).await;
        }
    }

    fn usage(&self, name: &HostName) -> Rc<Usage> {
        let (most, rate) = (self.limits.bytes_per_host, self.limits.rate_per_host);
        if most.is_none() && rate.is_none() {
            return Usage::new(None, None);
        }
        let mut all = self.usage.borrow_mut();
        let usage = all
            .entry(name.clone())
            .or_insert_with(|| Usage::new(most, rate));
        Rc::clone(usage)
    }

    /// Refuses a connection: told, and a reset for the client.
    pub(crate) fn refuse(&self, client: &TcpStream, name: &str, port: u16, refusal: &Refusal) {
        self.teller.refused(name, Some(port), refusal);
        reset(client);
    }
}

fn rule(allow: &Allow) -> Result<HostRule, Error> {
    let wrong = |error| Error::Rule {
        rule: allow.name.clone(),
        error,
    };
    let port = match allow.port {
        None => PortRule::Any,
        Some(port) => PortRule::One(port.try_into().map_err(|_| wrong(names::Error::Port))?),
    };
    let pattern = NamePattern::parse(&allow.name).map_err(wrong)?;
    Ok(HostRule { pattern, port })
}

pub(crate) fn raw_address(address: IpAddr) -> Refusal {
    Refusal::new(
        Kind::RawAddress,
        format!(
            "{address} is an address, and rules are about names; connect to the host by its name"
        ),
    )
}
