//! Which synthetic address stands for which name.
//!
//! An address is never given to a second name: a program that kept it reaches what it asked for, or
//! nothing.

use std::collections::HashMap;
use std::net::Ipv4Addr;

use names::{HostName, NamePattern};

/// 198.18.0.0/15, which nobody routes.
pub(crate) const BASE: Ipv4Addr = Ipv4Addr::new(198, 18, 0, 0);
const WIDTH: u32 = 15;
const FIRST_EXACT: u32 = 0x100;
const FIRST_BELOW: u32 = 0x1_0000;
const GENERATIONS: u32 = 16;
const PER_GENERATION: u32 = 4096;
/// How many rules there may be: each has an address.
pub(crate) const MOST_RULES: usize = 0xff00;

/// What a table says of a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Given {
    Address(Ipv4Addr),
    NotAllowed,
    /// Every address of this generation has its name.
    Full,
}

pub(crate) struct Table {
    base: u32,
    next: u32,
    last: u32,
    patterns: Vec<NamePattern>,
    by_name: HashMap<HostName, Ipv4Addr>,
    by_address: HashMap<Ipv4Addr, HostName>,
}

impl Table {
    pub(crate) fn new<'a>(
        base: Ipv4Addr,
        generation: u32,
        patterns: impl Iterator<Item = &'a NamePattern>,
    ) -> Self {
        let base = base.to_bits();
        let first =
            FIRST_BELOW.saturating_add((generation % GENERATIONS).saturating_mul(PER_GENERATION));
        let mut table = Self {
            base,
            next: first,
            last: first.saturating_add(PER_GENERATION),
            patterns: Vec::new(),
            by_name: HashMap::new(),
            by_address: HashMap::new(),
        };
        for (place, pattern) in (FIRST_EXACT..FIRST_BELOW).zip(patterns) {
            match pattern {
                NamePattern::Exact(name) if !table.by_name.contains_key(name) => {
                    table.give(name.clone(), place);
                }
                NamePattern::Exact(_) => {}
                NamePattern::Below(_) | NamePattern::Any => table.patterns.push(pattern.clone()),
            }
        }
        table
    }

    fn give(&mut self, name: HostName, place: u32) -> Ipv4Addr {
        let address = Ipv4Addr::from_bits(self.base.saturating_add(place));
        self.by_name.insert(name.clone(), address);
        self.by_address.insert(address, name);
        address
    }

    /// The address of a name, given out at its first use.
    pub(crate) fn address(&mut self, name: &HostName) -> Given {
        if let Some(address) = self.by_name.get(name) {
            return Given::Address(*address);
        }
        if !self.patterns.iter().any(|pattern| pattern.matches(name)) {
            return Given::NotAllowed;
        }
        if self.next >= self.last {
            return Given::Full;
        }
        let place = self.next;
        self.next = place.saturating_add(1);
        Given::Address(self.give(name.clone(), place))
    }

    /// The name of an address.
    pub(crate) fn name(&self, address: Ipv4Addr) -> Option<&HostName> {
        self.by_address.get(&address)
    }

    /// Whether an address is of the kind that stands for names.
    pub(crate) fn is_synthetic(&self, address: Ipv4Addr) -> bool {
        (address.to_bits() ^ self.base) >> (32 - WIDTH) == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> HostName {
        HostName::parse(text).unwrap()
    }

    #[test]
    fn names_keep_their_addresses_and_no_two_share_one() {
        let patterns = ["a.example", "*.b.example", "c.example", "a.example"]
            .map(|text| NamePattern::parse(text).unwrap());
        let mut table = Table::new(BASE, 3, patterns.iter());
        let at = |a, b, c, d| Given::Address(Ipv4Addr::new(a, b, c, d));
        assert_eq!(table.address(&name("a.example")), at(198, 18, 1, 0));
        assert_eq!(table.address(&name("c.example")), at(198, 18, 1, 2));
        assert_eq!(table.address(&name("x.b.example")), at(198, 19, 48, 0));
        assert_eq!(table.address(&name("y.b.example")), at(198, 19, 48, 1));
        assert_eq!(table.address(&name("x.b.example")), at(198, 19, 48, 0));
        assert_eq!(table.address(&name("b.example")), Given::NotAllowed);
        assert_eq!(
            table.name(Ipv4Addr::new(198, 19, 48, 1)),
            Some(&name("y.b.example"))
        );
        for more in 2..PER_GENERATION {
            let given = table.address(&name(&format!("n{more}.b.example")));
            assert!(matches!(given, Given::Address(_)), "{more}");
        }
        assert_eq!(table.address(&name("late.b.example")), Given::Full);
        assert_eq!(table.address(&name("y.b.example")), at(198, 19, 48, 1));
        assert!(table.is_synthetic(Ipv4Addr::new(198, 19, 255, 255)));
        assert!(!table.is_synthetic(Ipv4Addr::new(198, 20, 0, 0)));
    }
}
