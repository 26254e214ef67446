//! Probes: what a ring's own tests try inside it.

use std::fmt;
use std::net::IpAddr;
use std::num::NonZeroU16;
use std::path::{Component, Path};

use names::{HostName, HostRule, NamePattern, PortRule};
use plan::syscalls;

use crate::error::Error;
use crate::shape::{Object, shorten};
use crate::value::decimal;

/// Something that is tried inside a ring.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Probe {
    /// `read`, `write`, `exec`, `syscall`, `connect` or `resolve`.
    pub action: String,
    /// A path, the name of a call, a host and port, or a host.
    pub subject: String,
    /// `file:line` of it.
    pub origin: String,
}

/// Where a `connect` probe goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// A host by its name.
    Name(HostName, NonZeroU16),
    /// An address, which no rule ever allows.
    Address(IpAddr, NonZeroU16),
}

impl Target {
    /// `host:port`, `1.2.3.4:80` or `[::1]:80`; nothing when it is none of these.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let (host, port) = text.rsplit_once(':')?;
        let port = u16::try_from(decimal(port)?).ok()?;
        let port = NonZeroU16::new(port)?;
        let bare = host
            .strip_prefix('[')
            .and_then(|host| host.strip_suffix(']'));
        match (bare.unwrap_or(host).parse::<IpAddr>(), bare) {
            (Ok(address), Some(_)) if address.is_ipv6() => Some(Self::Address(address, port)),
            (Ok(address), None) if address.is_ipv4() => Some(Self::Address(address, port)),
            (Ok(_), _) | (Err(_), Some(_)) => None,
            (Err(_), None) => Some(Self::Name(HostName::parse(host).ok()?, port)),
        }
    }
}

impl Probe {
    /// The rule that an agent needs for a `connect` probe to a name.
    #[must_use]
    pub fn rule(&self) -> Option<HostRule> {
        match (self.action.as_str(), Target::parse(&self.subject)?) {
            ("connect", Target::Name(host, port)) => Some(HostRule {
                pattern: NamePattern::Exact(host),
                port: PortRule::One(port),
            }),
            _ => None,
        }
    }

    /// What is wrong with it.
    fn fault(&self) -> Option<&'static str> {
        let path = Path::new(&self.subject);
        let plain =
            || path.is_absolute() && !path.components().any(|part| part == Component::ParentDir);
        match self.action.as_str() {
            "syscall" if syscalls::by_name(&self.subject).is_none() => Some("no system call"),
            "connect" if Target::parse(&self.subject).is_none() => Some("no host and port"),
            "resolve" if HostName::parse(&self.subject).is_err() => Some("no host name"),
            "read" | "write" | "exec" if !plain() => Some("no path from `/` down without `..`"),
            _ => None,
        }
    }
}

impl fmt::Display for Probe {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.action, shorten(&self.subject))
    }
}

/// Reads a list of probes.
pub(crate) fn read(object: &Object<'_>, name: &'static str) -> Result<Vec<Probe>, Error> {
    let mut probes = Vec::new();
    for at in object.probes(name)? {
        let (action, subject) = at.value;
        let probe = Probe {
            action,
            subject,
            origin: at.origin,
        };
        if let Some(fault) = probe.fault() {
            let what = format!("holds `{probe}`, and that is {fault}");
            return Err(object.wrong(name, at.span, &what));
        }
        probes.push(probe);
    }
    Ok(probes)
}
