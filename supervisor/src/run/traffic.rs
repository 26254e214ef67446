//! What went out of a run and what was refused, as agt-egress told it.

use std::collections::BTreeMap;
use std::collections::HashMap;

use egress::wire::{Closed, Event, Kind, Opened, Refused, Via};
use serde_json::{Value, json};

use crate::words;

/// An agent can make up names without end: so many are told apart, the rest is counted together.
const KEPT_MAX: usize = 1000;
/// Refusals that are said while the agent runs; the others are summed up at the end.
const SAID_MAX: usize = 20;

/// Connections to one place.
#[derive(Debug, Default)]
struct Place {
    connections: u64,
    up: u64,
    down: u64,
}

/// Everything of one run.
#[derive(Debug, Default)]
pub(crate) struct Traffic {
    places: BTreeMap<(String, u16), Place>,
    open: HashMap<u64, (String, u16)>,
    refused: BTreeMap<(String, Option<u16>, &'static str), (u64, String)>,
    more_refused: u64,
    restarts: u64,
    said: usize,
    lines: Vec<String>,
}

impl Traffic {
    pub(crate) fn told(&mut self, event: Event) {
        match event {
            Event::Opened(opened) => self.opened(opened),
            Event::Closed(closed) => self.closed(&closed),
            Event::Refused(refused) => self.refused(refused),
            Event::Ready(_) | Event::Pong(_) => {}
        }
    }

    fn opened(&mut self, opened: Opened) {
        let name = match opened.via {
            Via::HostPort => "this host".to_owned(),
            Via::Listen => "served".to_owned(),
            Via::Name | Via::Connect | Via::Socks => opened.name,
        };
        let key = (name, opened.port);
        let known = self.places.len() < KEPT_MAX || self.places.contains_key(&key);
        let key = if known { key } else { ("others".into(), 0) };
        self.places.entry(key.clone()).or_default().connections += 1;
        self.open.insert(opened.id, key);
    }

    fn closed(&mut self, closed: &Closed) {
        let place = self.open.remove(&closed.id);
        if let Some(place) = place.and_then(|key| self.places.get_mut(&key)) {
            place.up = place.up.saturating_add(closed.up);
            place.down = place.down.saturating_add(closed.down);
        }
    }

    fn refused(&mut self, refused: Refused) {
        let key = (refused.name, refused.port, kind(refused.kind));
        if let Some((count, _)) = self.refused.get_mut(&key) {
            *count = count.saturating_add(refused.count);
            return;
        }
        if self.refused.len() >= KEPT_MAX {
            self.more_refused = self.more_refused.saturating_add(refused.count);
            return;
        }
        if self.said < SAID_MAX {
            self.said += 1;
            let what = target(&key.0, key.1);
            let how = verb(key.2);
            self.lines
                .push(format!("{how}: {what}: {}", words::escape(&refused.reason)));
        }
        self.refused.insert(key, (refused.count, refused.reason));
    }

    /// agt-egress is gone, and with it every connection.
    pub(crate) fn lost(&mut self) {
        self.open.clear();
        self.lines
            .push("agt-egress is gone: there is no network until it is back".into());
    }

    pub(crate) fn restarted(&mut self) {
        self.restarts += 1;
        self.lines.push("agt-egress is back".into());
    }

    /// What is to be said now.
    pub(crate) fn take_lines(&mut self) -> Vec<String> {
        std::mem::take(&mut self.lines)
    }

    /// The closing lines.
    pub(crate) fn summary(&self) -> Vec<String> {
        const SHOWN: usize = 4;
        let mut lines = Vec::new();
        if !self.places.is_empty() {
            let mut places: Vec<(&(String, u16), &Place)> = self.places.iter().collect();
            places.sort_by_key(|(_, place)| std::cmp::Reverse(place.up.saturating_add(place.down)));
            let shown = places.iter().take(SHOWN).map(|((name, port), place)| {
                format!(
                    "{} {}× ({} in, {} out)",
                    target(name, Some(*port)),
                    place.connections,
                    words::bytes(place.down),
                    words::bytes(place.up)
                )
            });
            lines.push(format!("network: {}", list(shown, places.len(), SHOWN)));
        }
        for how in [REFUSED, NOT_REACHED] {
            let these = || {
                self.refused
                    .iter()
                    .filter(|((_, _, kind), _)| verb(kind) == how)
            };
            let shown = these().take(SHOWN).map(|((name, port, kind), (count, _))| {
                format!("{} {count}× ({kind})", target(name, *port))
            });
            let all = these().count();
            if all > 0 {
                lines.push(format!("{how}: {}", list(shown, all, SHOWN)));
            }
        }
        if self.restarts > 0 {
            let times = words::count(usize::try_from(self.restarts).unwrap_or(usize::MAX), "time");
            lines.push(format!("agt-egress was lost and came back {times}"));
        }
        lines
    }

    /// The same for `--report`.
    pub(crate) fn report(&self) -> Value {
        let connections: Vec<Value> = self
            .places
            .iter()
            .map(|((name, port), place)| {
                json!({"name": name, "port": port, "connections": place.connections,
                       "bytes_out": place.up, "bytes_in": place.down})
            })
            .collect();
        let refused: Vec<Value> = self
            .refused
            .iter()
            .map(|((name, port, kind), (count, reason))| {
                json!({"name": name, "port": port, "kind": kind, "count": count, "reason": reason})
            })
            .collect();
        json!({"connections": connections, "refused": refused,
               "more_refused": self.more_refused, "egress_restarts": self.restarts})
    }
}

fn list(shown: impl Iterator<Item = String>, all: usize, most: usize) -> String {
    let mut text = shown.collect::<Vec<_>>().join(" · ");
    if all > most {
        text += &format!(" · and {} more; --report lists them", all - most);
    }
    text
}

fn target(name: &str, port: Option<u16>) -> String {
    // A request that names nothing that can be read.
    let name = if name.is_empty() {
        "no name".to_owned()
    } else {
        words::escape(name)
    };
    match port {
        Some(port) if port > 0 => format!("{name}:{port}"),
        Some(_) | None => name,
    }
}

const REFUSED: &str = "refused";
const NOT_REACHED: &str = "not reached";
const NO_SUCH_NAME: &str = "no such name";
const UNREACHABLE: &str = "not reachable";

/// A name that does not exist and a host that is down were not refused by anybody.
fn verb(kind: &str) -> &'static str {
    if kind == NO_SUCH_NAME || kind == UNREACHABLE {
        NOT_REACHED
    } else {
        REFUSED
    }
}

fn kind(kind: Kind) -> &'static str {
    match kind {
        Kind::NotAllowed => "not in network.allow",
        Kind::NoSuchName => NO_SUCH_NAME,
        Kind::PrivateAddress => "a private address",
        Kind::OwnAddress => "this host's own address",
        Kind::SniMissing => "TLS without a server name",
        Kind::SniDiffers => "TLS for another name",
        Kind::NotTls => "not TLS",
        Kind::Ech => "an encrypted server name",
        Kind::Authority => "not a proxy request",
        Kind::RawAddress => "an address, not a name",
        Kind::UnknownAddress => "an address that stands for no name",
        Kind::Unreachable => UNREACHABLE,
        Kind::Limit => "a limit",
        Kind::DnsName => "not a name",
        Kind::Policy => "a policy",
        Kind::Untold => "the supervisor was not told",
    }
}
