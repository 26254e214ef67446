//! One host name, in the one form everything compares.

use std::fmt;
use std::net::Ipv6Addr;
use std::str::FromStr;

use idna::uts46::{AsciiDenyList, DnsLength, Hyphens, Uts46};

use crate::Error;

/// A host name: ASCII, lower case, no trailing dot, never anything that reads as an address.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct HostName(Box<str>);

impl HostName {
    /// Any spelling of a host name, to its one form.
    ///
    /// # Errors
    /// Whatever is no host name, or would mean an address to anybody's resolver.
    pub fn parse(text: &str) -> Result<Self, Error> {
        let bare = text.strip_suffix('.').unwrap_or(text);
        if bare.is_empty() {
            return Err(Error::Empty);
        }
        if looks_like_v6(bare) {
            return Err(Error::Address);
        }
        refuse_characters(bare)?;
        let ascii = Uts46::new()
            .to_ascii(
                bare.as_bytes(),
                AsciiDenyList::STD3,
                Hyphens::CheckFirstLast,
                DnsLength::Verify,
            )
            .map_err(|_| Error::Name)?;
        if ends_in_a_number(&ascii) {
            return Err(Error::Address);
        }
        Ok(Self(ascii.into_owned().into_boxed_str()))
    }

    /// Its ASCII form.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// How many labels it has.
    #[must_use]
    pub fn labels(&self) -> usize {
        self.0.split('.').count()
    }
}

fn looks_like_v6(text: &str) -> bool {
    let inner = text.strip_prefix('[').unwrap_or(text);
    let inner = inner.split(['%', ']']).next().unwrap_or(inner);
    inner.contains(':') && inner.parse::<Ipv6Addr>().is_ok()
}

fn refuse_characters(text: &str) -> Result<(), Error> {
    if text.contains("://") || text.contains(['/', '?', '#']) {
        return Err(Error::Url);
    }
    if text.contains('@') {
        return Err(Error::UserInfo);
    }
    let bad = |c: &char| c.is_control() || c.is_whitespace() || matches!(c, ':' | '%' | '\\' | '_');
    text.chars()
        .find(bad)
        .map_or(Ok(()), |c| Err(Error::Character(c)))
}

/// The test of the URL standard: what ends so is an IPv4 address or a broken one, never a name.
fn ends_in_a_number(ascii: &str) -> bool {
    let last = ascii.rsplit('.').next().unwrap_or(ascii);
    let hex = last.strip_prefix("0x");
    last.bytes().all(|b| b.is_ascii_digit())
        || hex.is_some_and(|digits| digits.bytes().all(|b| b.is_ascii_hexdigit()))
}

impl fmt::Display for HostName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for HostName {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        Self::parse(text)
    }
}
