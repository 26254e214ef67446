//! The network of an agent and the ceiling that its ring sets: names and ports, each a list that an
//! agent can only narrow.

use std::num::NonZeroU16;

use names::{Cidr, HostName, HostRule, NamePattern, PortRule};

use crate::error::Error;
use crate::node::Span;
use crate::shape::{Object, shorten};
use crate::value::{At, Bytes, Milliseconds, decimal};

/// Listeners of a ring all go out in one message of at most 253 descriptors.
const PORTS_MAX: usize = 64;
/// Exact names have an address each, 198.18.1.0 and up.
const RULES_MAX: usize = 1024;

/// A proxy by which everything goes out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Proxy {
    /// Its name.
    pub host: HostName,
    /// Its port.
    pub port: NonZeroU16,
}

/// What an agent wishes.
#[derive(Clone, Debug, Default)]
pub struct NetworkWish {
    /// Hosts that are reached.
    pub allow: Vec<At<HostRule>>,
    /// Ports of the host's loopback.
    pub host_ports: Vec<At<u16>>,
    /// Ports served to the host.
    pub listen: Vec<At<u16>>,
    /// Private ranges that names may lead to.
    pub private: Vec<At<Cidr>>,
    /// By way of this proxy.
    pub upstream_proxy: Option<At<Proxy>>,
    /// Limits of connections.
    pub limits: ConnectionWishes,
}

/// Limits as they were written.
#[derive(Clone, Copy, Debug, Default)]
pub struct ConnectionWishes {
    connections: Option<u64>,
    idle: Option<Milliseconds>,
    total: Option<Option<Milliseconds>>,
    bytes: Option<Option<Bytes>>,
    rate: Option<Option<Bytes>>,
}

impl ConnectionWishes {
    fn over(self, under: Self) -> Self {
        Self {
            connections: self.connections.or(under.connections),
            idle: self.idle.or(under.idle),
            total: self.total.or(under.total),
            bytes: self.bytes.or(under.bytes),
            rate: self.rate.or(under.rate),
        }
    }

    fn filled(self) -> ConnectionLimits {
        let default = ConnectionLimits::default();
        ConnectionLimits {
            connections: self.connections.unwrap_or(default.connections),
            idle: self.idle.unwrap_or(default.idle),
            total: self.total.flatten(),
            bytes: self.bytes.flatten(),
            rate: self.rate.flatten(),
        }
    }
}

/// Limits of an agent's connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ConnectionLimits {
    /// At once.
    pub connections: u64,
    /// Without a byte either way.
    pub idle: Milliseconds,
    /// In all.
    pub total: Option<Milliseconds>,
    /// From and to one host, in the whole run.
    pub bytes: Option<Bytes>,
    /// From and to one host, each second.
    pub rate: Option<Bytes>,
}

impl Default for ConnectionLimits {
    fn default() -> Self {
        Self {
            connections: 256,
            idle: Milliseconds(600_000),
            total: None,
            bytes: None,
            rate: None,
        }
    }
}

/// Ports that agents may ask for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ports {
    /// All of them.
    Any,
    /// These.
    Only(Vec<u16>),
}

impl Ports {
    fn has(&self, port: u16) -> bool {
        match self {
            Ports::Any => true,
            Ports::Only(ports) => ports.contains(&port),
        }
    }

    /// Whether everything of the other is here too.
    #[must_use]
    pub fn covers(&self, other: &Ports) -> bool {
        match (self, other) {
            (Ports::Any, _) => true,
            (Ports::Only(_), Ports::Any) => false,
            (Ports::Only(_), Ports::Only(ports)) => ports.iter().all(|port| self.has(*port)),
        }
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        matches!(self, Ports::Only(ports) if ports.is_empty())
    }
}

/// What a ring permits.
#[derive(Clone, Debug)]
pub struct NetworkCeiling {
    /// Hosts.
    pub max: Vec<At<HostRule>>,
    /// Ports of the host's loopback.
    pub host_ports: Ports,
    /// Ports served to the host.
    pub listen: Ports,
    /// Private ranges.
    pub private: Vec<Cidr>,
    /// The proxy of every agent.
    pub upstream_proxy: Option<At<Proxy>>,
    /// `file:line` of what was said last.
    pub origin: String,
}

impl NetworkCeiling {
    pub(crate) fn nothing(file: &str) -> Self {
        Self {
            max: Vec::new(),
            host_ports: Ports::Only(Vec::new()),
            listen: Ports::Only(Vec::new()),
            private: Vec::new(),
            upstream_proxy: None,
            origin: file.to_owned(),
        }
    }

    /// Whether agents of the ring can be given any network.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.max.is_empty() && self.host_ports.is_empty() && self.listen.is_empty()
    }

    /// Whether an agent may be given this host.
    #[must_use]
    pub fn covers_rule(&self, rule: &HostRule) -> bool {
        self.max.iter().any(|max| max.value.covers(rule))
    }

    /// A rule that an agent may have by which this name is answered.
    #[must_use]
    pub fn rule_for(&self, name: &str) -> Option<HostRule> {
        let name = HostName::parse(name).ok()?;
        let max = self.max.iter().find(|at| at.value.pattern.matches(&name))?;
        let port = match max.value.port {
            PortRule::One(port) => port,
            PortRule::Any => NonZeroU16::new(443)?,
        };
        Some(HostRule {
            pattern: NamePattern::Exact(name),
            port: PortRule::One(port),
        })
    }

    /// Reads what a profile says; a parent's is only narrowed.
    pub(crate) fn fill(
        &mut self,
        object: &Object<'_>,
        parent: Option<(&str, &NetworkCeiling)>,
    ) -> Result<(), Error> {
        self.origin = object.origin();
        let wider = |name: &'static str, span: Span, what: String| {
            let ring = parent.map_or("", |(name, _)| name);
            Err(object.wrong(
                name,
                span,
                &format!("names {what}, which ring {ring} has not"),
            ))
        };
        if object.has("max") {
            self.max = rules(object, "max")?;
            for at in &self.max {
                if parent.is_some_and(|(_, parent)| !parent.covers_rule(&at.value)) {
                    return wider("max", at.span, format!("`{}`", at.value));
                }
            }
        }
        for (name, own) in [
            ("host_ports", &mut self.host_ports),
            ("listen", &mut self.listen),
        ] {
            let Some((said, span)) = ports_or_any(object, name)? else {
                continue;
            };
            let within = parent.is_none_or(|(_, parent)| {
                let theirs = if name == "listen" {
                    &parent.listen
                } else {
                    &parent.host_ports
                };
                theirs.covers(&said)
            });
            if !within {
                return wider(name, span, "ports".into());
            }
            *own = said;
        }
        if object.has("private") {
            let ranges = ranges(object)?;
            for at in &ranges {
                let theirs = parent.map(|(_, parent)| &parent.private);
                if theirs.is_some_and(|theirs| !theirs.iter().any(|one| one.covers(&at.value))) {
                    return wider("private", at.span, format!("`{}`", at.value));
                }
            }
            self.private = ranges.into_iter().map(|at| at.value).collect();
        }
        if let Some(at) = proxy(object)? {
            if let Some(theirs) = parent.and_then(|(_, parent)| parent.upstream_proxy.as_ref())
                && theirs.value != at.value
            {
                let what = format!("is another than the parent's, {}", theirs.origin);
                return Err(object.wrong("upstream_proxy", at.span, &what));
            }
            self.upstream_proxy = Some(at);
        }
        Ok(())
    }
}

/// The network that a ring has.
#[derive(Clone, Debug, Default)]
pub struct Network {
    /// Hosts that are reached.
    pub allow: Vec<At<HostRule>>,
    /// Ports of the host's loopback.
    pub host_ports: Vec<At<u16>>,
    /// Ports served to the host.
    pub listen: Vec<At<u16>>,
    /// Private ranges that names may lead to.
    pub private: Vec<Cidr>,
    /// By way of this proxy.
    pub upstream_proxy: Option<At<Proxy>>,
    /// Whether the ring names it.
    pub is_proxy_given: bool,
    /// Limits of connections.
    pub limits: ConnectionLimits,
}

impl Network {
    /// Whether there is only the ring's own loopback.
    #[must_use]
    pub fn is_none(&self) -> bool {
        self.allow.is_empty() && self.host_ports.is_empty() && self.listen.is_empty()
    }
}

/// Meets a wish with the ceiling of its ring.
pub(crate) fn meet(
    wish: &NetworkWish,
    ring: &str,
    ceiling: &NetworkCeiling,
) -> Result<Network, Error> {
    let mut ports: Vec<u16> = wish
        .allow
        .iter()
        .filter_map(|at| at.value.port.one())
        .collect();
    ports.sort_unstable();
    ports.dedup();
    if let Some(last) = wish.allow.last().filter(|_| ports.len() > PORTS_MAX) {
        let what = format!("network.allow: {} ports; at most {PORTS_MAX}", ports.len());
        return Err(Error::wrong(last.file(), last.span, what, "name fewer"));
    }
    // Both would listen on the same place inside.
    if let Some(at) = wish.host_ports.iter().find(|at| ports.contains(&at.value)) {
        let what = format!(
            "network.host_ports: {} is a port of network.allow too",
            at.value
        );
        return Err(Error::wrong(
            at.file(),
            at.span,
            what,
            "name one or the other",
        ));
    }
    let beyond = |file: &str, span: Span, key: &str, what: String| {
        let mut text = format!("network.{key}: {what} is beyond the ceiling of ring {ring}");
        // A ring without the key has no line to point at.
        if ceiling.origin != format!("ring {ring}") {
            text += &format!(" ({})", ceiling.origin);
        }
        let ring_key = if key == "allow" { "max" } else { key };
        let remedy = format!("remove it, or ask for a ring whose `network.{ring_key}` has it");
        Err(Error::wrong(file, span, text, remedy))
    };
    for at in &wish.allow {
        if !ceiling.covers_rule(&at.value) {
            return beyond(at.file(), at.span, "allow", format!("`{}`", at.value));
        }
    }
    for (key, wishes, most) in [
        ("host_ports", &wish.host_ports, &ceiling.host_ports),
        ("listen", &wish.listen, &ceiling.listen),
    ] {
        if let Some(at) = wishes.iter().find(|at| !most.has(at.value)) {
            return beyond(at.file(), at.span, key, at.value.to_string());
        }
    }
    for at in &wish.private {
        if !ceiling.private.iter().any(|one| one.covers(&at.value)) {
            return beyond(at.file(), at.span, "private", format!("`{}`", at.value));
        }
    }
    let upstream_proxy = match (&wish.upstream_proxy, &ceiling.upstream_proxy) {
        (None, theirs) => theirs.clone(),
        (Some(own), Some(theirs)) if own.value == theirs.value => Some(theirs.clone()),
        (Some(own), Some(_)) => {
            return beyond(
                own.file(),
                own.span,
                "upstream_proxy",
                "another proxy".into(),
            );
        }
        (Some(own), None) => {
            let as_rule = HostRule {
                pattern: NamePattern::Exact(own.value.host.clone()),
                port: PortRule::One(own.value.port),
            };
            if !ceiling.covers_rule(&as_rule) {
                return beyond(own.file(), own.span, "upstream_proxy", "the proxy".into());
            }
            Some(own.clone())
        }
    };
    Ok(Network {
        allow: wish.allow.clone(),
        host_ports: wish.host_ports.clone(),
        listen: wish.listen.clone(),
        private: wish.private.iter().map(|at| at.value).collect(),
        upstream_proxy,
        is_proxy_given: ceiling.upstream_proxy.is_some(),
        limits: wish.limits.filled(),
    })
}

impl NetworkWish {
    /// Lists hold what both say; of single values these go first.
    pub(crate) fn over(self, under: Self) -> Self {
        fn both<T: PartialEq>(mut under: Vec<At<T>>, own: Vec<At<T>>) -> Vec<At<T>> {
            under.retain(|at| !own.iter().any(|one| one.value == at.value));
            under.extend(own);
            under
        }
        Self {
            allow: both(under.allow, self.allow),
            host_ports: both(under.host_ports, self.host_ports),
            listen: both(under.listen, self.listen),
            private: both(under.private, self.private),
            upstream_proxy: self.upstream_proxy.or(under.upstream_proxy),
            limits: self.limits.over(under.limits),
        }
    }

    pub(crate) fn read(object: Option<Object<'_>>) -> Result<Self, Error> {
        let Some(object) = object else {
            return Ok(Self::default());
        };
        let allow = rules(&object, "allow")?;
        if let Some(at) = allow.iter().find(|at| at.value.port == PortRule::Any) {
            let what = format!("holds `{}`; an agent names its ports", at.value);
            return Err(object.wrong("allow", at.span, &what));
        }
        Ok(Self {
            allow,
            host_ports: port_list(&object, "host_ports")?,
            listen: port_list(&object, "listen")?,
            private: ranges(&object)?,
            upstream_proxy: proxy(&object)?,
            limits: limits(object.object("limits")?)?,
        })
    }
}

fn limits(object: Option<Object<'_>>) -> Result<ConnectionWishes, Error> {
    let Some(object) = object else {
        return Ok(ConnectionWishes::default());
    };
    Ok(ConnectionWishes {
        connections: object.count("connections")?.and_then(|at| at.value),
        idle: object.duration("idle")?.and_then(|at| at.value),
        total: object.duration("total")?.map(|at| at.value),
        bytes: object.size("bytes")?.map(|at| at.value),
        rate: object.size("rate")?.map(|at| at.value),
    })
}

fn rules(object: &Object<'_>, name: &'static str) -> Result<Vec<At<HostRule>>, Error> {
    let texts = object.texts(name)?;
    if let Some(at) = texts.get(RULES_MAX) {
        let what = format!("has more than {RULES_MAX} hosts");
        return Err(object.wrong(name, at.span, &what));
    }
    let one = |at: At<String>| match HostRule::parse(&at.value) {
        Ok(rule) => Ok(at.map(|_| rule)),
        Err(error) => {
            let what = format!("holds `{}`: {error}", shorten(&at.value));
            Err(object.wrong(name, at.span, &what))
        }
    };
    texts.into_iter().map(one).collect()
}

fn port_list(object: &Object<'_>, name: &'static str) -> Result<Vec<At<u16>>, Error> {
    let texts = object.texts(name)?;
    if let Some(at) = texts.get(PORTS_MAX) {
        let what = format!("has more than {PORTS_MAX} ports");
        return Err(object.wrong(name, at.span, &what));
    }
    let mut ports: Vec<At<u16>> = Vec::new();
    for at in texts {
        let Some(port) = port(&at.value) else {
            let what = format!("holds `{}`, which is no port", shorten(&at.value));
            return Err(object.wrong(name, at.span, &what));
        };
        if ports.iter().any(|known| known.value == port) {
            return Err(object.wrong(name, at.span, &format!("names {port} twice")));
        }
        ports.push(at.map(|_| port));
    }
    Ok(ports)
}

fn port(text: &str) -> Option<u16> {
    decimal(text)
        .and_then(|port| u16::try_from(port).ok())
        .filter(|port| *port > 0)
}

/// `any`, alone or as the only item, or ports.
fn ports_or_any(object: &Object<'_>, name: &'static str) -> Result<Option<(Ports, Span)>, Error> {
    if !object.has(name) {
        return Ok(None);
    }
    let texts = object.texts(name)?;
    let span = texts.first().map_or(object.span(), |at| at.span);
    if let [only] = texts.as_slice()
        && only.value == "any"
    {
        return Ok(Some((Ports::Any, span)));
    }
    let ports = port_list(object, name)?;
    let ports = ports.into_iter().map(|at| at.value).collect();
    Ok(Some((Ports::Only(ports), span)))
}

fn ranges(object: &Object<'_>) -> Result<Vec<At<Cidr>>, Error> {
    let one = |at: At<String>| match Cidr::parse(&at.value) {
        Ok(range) => Ok(at.map(|_| range)),
        Err(error) => {
            let what = format!("holds `{}`: {error}", shorten(&at.value));
            Err(object.wrong("private", at.span, &what))
        }
    };
    object.texts("private")?.into_iter().map(one).collect()
}

fn proxy(object: &Object<'_>) -> Result<Option<At<Proxy>>, Error> {
    let Some(at) = object.text("upstream_proxy")? else {
        return Ok(None);
    };
    let text = at.value.strip_prefix("http://").unwrap_or(&at.value);
    let text = text.strip_suffix('/').unwrap_or(text);
    let parsed = text.rsplit_once(':').and_then(|(host, number)| {
        Some((HostName::parse(host).ok()?, NonZeroU16::new(port(number)?)?))
    });
    match parsed {
        Some((host, port)) => Ok(Some(at.map(|_| Proxy { host, port }))),
        None => {
            let what = format!("is `{}`, which is no name and port", shorten(&at.value));
            Err(object.wrong("upstream_proxy", at.span, &what))
        }
    }
}
