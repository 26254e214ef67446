//! Which addresses are nobody's public ones.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::Error;

/// Where an address belongs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Range {
    /// The internet. The documentation ranges count too: test networks use them as such.
    Public,
    /// Not the internet; by its usual name.
    Private(&'static str),
    /// A cloud's metadata service, which hands out the machine's credentials.
    Metadata,
}

const METADATA_V4: [Ipv4Addr; 3] = [
    Ipv4Addr::new(169, 254, 169, 254),
    Ipv4Addr::new(168, 63, 129, 16),
    Ipv4Addr::new(100, 100, 100, 200),
];
const METADATA_V6: Ipv6Addr = Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254);

/// The range of an address; one that carries an IPv4 address is judged by that.
#[must_use]
pub fn range(address: IpAddr) -> Range {
    match address {
        IpAddr::V4(v4) => range_v4(v4),
        IpAddr::V6(v6) => range_v6(v6),
    }
}

fn range_v4(address: Ipv4Addr) -> Range {
    if METADATA_V4.contains(&address) {
        return Range::Metadata;
    }
    let name = match address.octets() {
        [0, ..] => "unspecified",
        [10, ..] | [172, 16..=31, ..] | [192, 168, ..] => "private",
        [100, 64..=127, ..] => "shared (carrier NAT)",
        [127, ..] => "loopback",
        [169, 254, ..] => "link-local",
        [192, 0, 0, _] => "protocol assignments",
        [192, 88, 99, _] => "6to4 relays",
        [198, 18..=19, ..] => "benchmarks",
        [224..=239, ..] => "multicast",
        [255, 255, 255, 255] => "broadcast",
        [240..=255, ..] => "reserved",
        _ => return Range::Public,
    };
    Range::Private(name)
}

fn range_v6(address: Ipv6Addr) -> Range {
    if address == METADATA_V6 {
        return Range::Metadata;
    }
    let [a, b, c, d, e, f, g, h] = address.segments();
    let name = match [a, b, c, d, e, f] {
        [0, 0, 0, 0, 0, 0] if g == 0 && h == 0 => "unspecified",
        [0, 0, 0, 0, 0, 0] if g == 0 && h == 1 => "loopback",
        [0, 0, 0, 0, 0, 0 | 0xffff] | [0x64, 0xff9b, 0, 0, 0, 0] => return range_v4(v4(g, h)),
        [0x2002, ..] => return range_v4(v4(b, c)),
        [0x2001, 0, ..] => return worse(range_v4(v4(c, d)), range_v4(v4(!g, !h))),
        [0x64, 0xff9b, 1, ..] => "local NAT64",
        [0x100, 0, 0, 0, ..] => "discard",
        [0x2001, 2, 0, ..] => "benchmarks",
        [0xfc00..=0xfdff, ..] => "unique local",
        [0xfe80..=0xfebf, ..] => "link-local",
        [0xfec0..=0xfeff, ..] => "site-local",
        [0xff00..=0xffff, ..] => "multicast",
        [0x2000..=0x3fff, ..] => return Range::Public,
        _ => "reserved",
    };
    Range::Private(name)
}

fn v4(high: u16, low: u16) -> Ipv4Addr {
    Ipv4Addr::from_bits(u32::from(high) << 16 | u32::from(low))
}

fn worse(one: Range, other: Range) -> Range {
    match (one, other) {
        (Range::Metadata, _) | (_, Range::Metadata) => Range::Metadata,
        (Range::Public, other) => other,
        (Range::Private(_), _) => one,
    }
}

/// Whether an address may be dialled, given the private ranges that were declared.
///
/// # Errors
/// The range that forbids it. A metadata service is reached only by a declaration of it alone.
pub fn judge(address: IpAddr, declared: &[Cidr]) -> Result<(), Range> {
    match range(address) {
        Range::Public => Ok(()),
        Range::Private(_) if declared.iter().any(|cidr| cidr.contains(address)) => Ok(()),
        Range::Metadata if declared.iter().any(|cidr| cidr.is_just(address)) => Ok(()),
        refused @ (Range::Private(_) | Range::Metadata) => Err(refused),
    }
}

/// An address range.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Cidr {
    base: IpAddr,
    length: u8,
}

impl Cidr {
    /// `10.0.0.0/8`; an address alone is a range of one.
    ///
    /// # Errors
    /// No address, a length beyond it, or bits set after the length.
    pub fn parse(text: &str) -> Result<Self, Error> {
        let (address, length) = match text.split_once('/') {
            Some((address, length)) => (address, Some(length)),
            None => (text, None),
        };
        let base: IpAddr = address.parse().map_err(|_| Error::Cidr)?;
        let most = if base.is_ipv4() { 32 } else { 128 };
        let length = match length {
            None => most,
            Some(digits) if digits.bytes().all(|b| b.is_ascii_digit()) => {
                digits.parse().map_err(|_| Error::Cidr)?
            }
            Some(_) => return Err(Error::Cidr),
        };
        let cidr = Self { base, length };
        if length > most || cidr.prefix(base) != Some(bits(base)) {
            return Err(Error::Cidr);
        }
        Ok(cidr)
    }

    /// Whether an address is in it. A mapped IPv4 address is the IPv4 address.
    #[must_use]
    pub fn contains(&self, address: IpAddr) -> bool {
        self.prefix(address.to_canonical()) == Some(bits(self.base))
    }

    /// Whether every address of the other is in it.
    #[must_use]
    pub fn covers(&self, other: &Self) -> bool {
        self.length <= other.length && self.prefix(other.base) == Some(bits(self.base))
    }

    fn is_just(&self, address: IpAddr) -> bool {
        let most = if self.base.is_ipv4() { 32 } else { 128 };
        self.length == most && self.base == address.to_canonical()
    }

    /// The first `length` bits of an address of the same kind.
    fn prefix(&self, address: IpAddr) -> Option<u128> {
        let width: u32 = match (self.base, address) {
            (IpAddr::V4(_), IpAddr::V4(_)) => 32,
            (IpAddr::V6(_), IpAddr::V6(_)) => 128,
            (IpAddr::V4(_), IpAddr::V6(_)) | (IpAddr::V6(_), IpAddr::V4(_)) => return None,
        };
        let free = width.saturating_sub(u32::from(self.length));
        Some(
            bits(address)
                .checked_shr(free)
                .unwrap_or(0)
                .checked_shl(free)
                .unwrap_or(0),
        )
    }
}

fn bits(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(v4) => u128::from(v4.to_bits()),
        IpAddr::V6(v6) => v6.to_bits(),
    }
}

impl fmt::Display for Cidr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.base, self.length)
    }
}
