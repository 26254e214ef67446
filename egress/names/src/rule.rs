//! `name:port`, as agent.yaml and ring profiles write it.

use std::fmt;
use std::net::Ipv6Addr;
use std::num::NonZeroU16;

use crate::{Error, HostName, NamePattern};

/// The ports that a rule means.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum PortRule {
    /// This port.
    One(NonZeroU16),
    /// Every port.
    Any,
}

impl PortRule {
    /// The port, where it is a single one.
    #[must_use]
    pub fn one(self) -> Option<u16> {
        match self {
            Self::One(port) => Some(port.get()),
            Self::Any => None,
        }
    }

    /// Whether it means this port.
    #[must_use]
    pub fn matches(self, port: u16) -> bool {
        match self {
            Self::One(one) => one.get() == port,
            Self::Any => port != 0,
        }
    }

    fn covers(self, other: Self) -> bool {
        self == Self::Any || self == other
    }

    fn parse(text: &str) -> Result<Self, Error> {
        if text == "*" {
            return Ok(Self::Any);
        }
        if !text.bytes().all(|b| b.is_ascii_digit()) {
            return Err(Error::Port);
        }
        text.parse().map(Self::One).map_err(|_| Error::Port)
    }
}

/// Who may be reached, at which port.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct HostRule {
    /// The names.
    pub pattern: NamePattern,
    /// The ports.
    pub port: PortRule,
}

impl HostRule {
    /// `api.example.com:443`, `*.example.org:443`, `*:443`, `*:*`.
    ///
    /// # Errors
    /// Anything else, each with its remedy.
    pub fn parse(text: &str) -> Result<Self, Error> {
        if text.is_empty() {
            return Err(Error::Empty);
        }
        if text.contains(['/', '?', '#']) {
            return Err(Error::Url);
        }
        if text.contains('@') {
            return Err(Error::UserInfo);
        }
        if text.starts_with('[') || text.parse::<Ipv6Addr>().is_ok() {
            return Err(Error::Address);
        }
        let Some((name, port)) = text.rsplit_once(':') else {
            return Err(NamePattern::parse(text).err().unwrap_or(Error::NoPort));
        };
        Ok(Self {
            pattern: NamePattern::parse(name)?,
            port: PortRule::parse(port)?,
        })
    }

    /// Whether it lets this name be reached at this port.
    #[must_use]
    pub fn matches(&self, name: &HostName, port: u16) -> bool {
        self.port.matches(port) && self.pattern.matches(name)
    }

    /// Whether it permits everything that the other permits.
    #[must_use]
    pub fn covers(&self, other: &Self) -> bool {
        self.port.covers(other.port) && self.pattern.covers(&other.pattern)
    }
}

impl fmt::Display for HostRule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.port {
            PortRule::One(port) => write!(f, "{}:{port}", self.pattern),
            PortRule::Any => write!(f, "{}:*", self.pattern),
        }
    }
}
