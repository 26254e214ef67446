//! What an agent may do in one ring and not in another.

use std::path::Path;

use names::HostRule;
use plan::syscalls::{self, SyscallSet};

use crate::agent::{Limits, PathWish};
use crate::explain;
use crate::network::Ports;
use crate::probe::Probe;
use crate::ring::{RingProfile, Socket};
use crate::value::{At, Reaction};

/// Which way a difference goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// An agent of the second ring may do more.
    More,
    /// It may do less.
    Less,
    /// Neither: what it is called, what it gets unasked, what is tested.
    Other,
}

/// One difference.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// The key of the profile.
    pub key: String,
    /// Which way it goes.
    pub direction: Direction,
    /// In words.
    pub text: String,
}

use Direction::{Less, More, Other};

/// What an agent of `b` may do more or less than one of `a`.
#[must_use]
pub fn diff(a: &RingProfile, b: &RingProfile) -> Vec<Change> {
    let mut found = Found(Vec::new());
    found.who(a, b);
    found.words(a, b);
    found.paths("read", &a.read, &b.read);
    found.paths("write", &a.write, &b.write);
    found.network(a, b);
    found.calls(a.syscalls, b.syscalls);
    found.limits(a, b);
    found.lists(a, b);
    found.probes("must_allow", &a.must_allow, &b.must_allow);
    found.probes("must_deny", &a.must_deny, &b.must_deny);
    found.0
}

struct Found(Vec<Change>);

impl Found {
    fn add(&mut self, key: &str, direction: Direction, text: impl Into<String>) {
        self.0.push(Change {
            key: key.into(),
            direction,
            text: text.into(),
        });
    }

    /// One value for another; `wider` says whether the second is more.
    fn swap(&mut self, key: &str, wider: bool, from: &str, to: &str) {
        let direction = if wider { More } else { Less };
        self.add(key, direction, format!("{to} (was: {from})"));
    }

    fn who(&mut self, a: &RingProfile, b: &RingProfile) {
        let rules = |ring: &RingProfile| -> Vec<String> {
            ring.applies.iter().map(ToString::to_string).collect()
        };
        let (ours, theirs) = (rules(a), rules(b));
        // Each rule takes people out; of two different ones neither is in general wider.
        let within = |few: &[String], many: &[String]| few.iter().all(|one| many.contains(one));
        let direction = match (within(&theirs, &ours), within(&ours, &theirs)) {
            (true, true) => None,
            (true, false) => Some(More),
            (false, true) => Some(Less),
            (false, false) => Some(Other),
        };
        if let Some(direction) = direction {
            let text = format!("for {} (was: {})", explain::who(b), explain::who(a));
            self.add("applies", direction, text);
        }
        let presets = |ring: &RingProfile| ring.presets.as_ref().map(|at| at.value.clone());
        match (presets(a), presets(b)) {
            (None, Some(now)) => self.add("presets", Less, format!("only {}", named(&now))),
            (Some(was), None) => self.add("presets", More, format!("any (was: {})", named(&was))),
            (Some(was), Some(now)) => self.sets("presets", &was, &now),
            (None, None) => {}
        }
    }

    fn words(&mut self, a: &RingProfile, b: &RingProfile) {
        use crate::ring::{Access, Proc, Programs};
        if a.number != b.number {
            let text = format!("descends from ring {} (was: {})", b.number, a.number);
            self.add("extends", Other, text);
        }
        if a.workspace != b.workspace {
            let text = explain::workspace;
            let wider = b.workspace == Access::Write;
            self.swap("workspace", wider, text(a.workspace), text(b.workspace));
        }
        if a.home.value != b.home.value {
            let wider = b.home.value > a.home.value;
            let text = explain::home;
            self.swap("home", wider, text(a.home.value), text(b.home.value));
        }
        if a.runtime.value != b.runtime.value {
            let text = explain::runtime;
            self.swap(
                "runtime",
                b.runtime.value,
                text(a.runtime.value),
                text(b.runtime.value),
            );
        }
        if a.proc != b.proc {
            let wider = b.proc == Proc::Masked;
            self.swap("proc", wider, explain::proc(a.proc), explain::proc(b.proc));
        }
        if a.programs != b.programs {
            let text = explain::programs;
            let wider = b.programs == Programs::Any;
            self.swap("programs", wider, text(a.programs), text(b.programs));
        }
    }

    fn sets(&mut self, key: &str, was: &[String], now: &[String]) {
        for one in now.iter().filter(|one| !was.contains(one)) {
            self.add(key, More, one);
        }
        for one in was.iter().filter(|one| !now.contains(one)) {
            self.add(key, Less, one);
        }
    }

    /// A path below one that is there already is no difference.
    fn paths(&mut self, key: &str, was: &[At<PathWish>], now: &[At<PathWish>]) {
        let below = |path: &Path, all: &[At<PathWish>]| {
            all.iter().any(|at| path.starts_with(&at.value.path))
        };
        for at in now.iter().filter(|at| !below(&at.value.path, was)) {
            self.add(key, More, at.value.to_string());
        }
        for at in was.iter().filter(|at| !below(&at.value.path, now)) {
            self.add(key, Less, at.value.to_string());
        }
    }

    fn network(&mut self, a: &RingProfile, b: &RingProfile) {
        let (was, now) = (&a.network, &b.network);
        for at in now.max.iter().filter(|at| !was.covers_rule(&at.value)) {
            self.add("network.max", More, but_for(&at.value, &was.max));
        }
        for at in was.max.iter().filter(|at| !now.covers_rule(&at.value)) {
            self.add("network.max", Less, but_for(&at.value, &now.max));
        }
        for (key, was, now) in [
            ("network.host_ports", &was.host_ports, &now.host_ports),
            ("network.listen", &was.listen, &now.listen),
        ] {
            self.ports(key, was, now);
        }
        let within = |one: &names::Cidr, all: &[names::Cidr]| all.iter().any(|x| x.covers(one));
        for range in now.private.iter().filter(|one| !within(one, &was.private)) {
            self.add("network.private", More, range.to_string());
        }
        for range in was.private.iter().filter(|one| !within(one, &now.private)) {
            self.add("network.private", Less, range.to_string());
        }
        let proxy = |at: &At<crate::network::Proxy>| format!("{}:{}", at.value.host, at.value.port);
        let proxies = [&was.upstream_proxy, &now.upstream_proxy].map(|at| at.as_ref().map(proxy));
        if was.is_empty() || now.is_empty() {
            // Nothing goes out that could go by it.
            return;
        }
        let key = "network.upstream_proxy";
        match proxies {
            [None, Some(now)] => self.add(key, Less, format!("all goes out by {now}")),
            [Some(was), None] => self.add(key, More, format!("no longer all by {was}")),
            [Some(was), Some(now)] if was != now => {
                self.add(key, Other, format!("{now} (was: {was})"));
            }
            [Some(_), Some(_)] | [None, None] => {}
        }
    }

    fn ports(&mut self, key: &str, was: &Ports, now: &Ports) {
        if was == now {
            return;
        }
        if let (Ports::Only(was), Ports::Only(now)) = (was, now) {
            let texts = |ports: &[u16]| ports.iter().map(u16::to_string).collect::<Vec<_>>();
            return self.sets(key, &texts(was), &texts(now));
        }
        let wider = *now == Ports::Any;
        self.swap(key, wider, &explain::ports(was), &explain::ports(now));
    }

    fn calls(&mut self, was: SyscallSet, now: SyscallSet) {
        for (direction, set) in [(More, now.difference(was)), (Less, was.difference(now))] {
            if !set.is_empty() {
                let names: Vec<&str> = set.iter().filter_map(syscalls::name).collect();
                self.add("syscalls", direction, names.join(" "));
            }
        }
    }

    fn limits(&mut self, a: &RingProfile, b: &RingProfile) {
        for (part, was, now, wider) in [
            ("max", &a.max, &b.max, None),
            ("default", &a.default, &b.default, Some(Other)),
        ] {
            let texts = explain::limit_texts(was).into_iter();
            let texts = texts.zip(explain::limit_texts(now)).zip(orders(was, now));
            for (((name, from), (_, to)), more) in texts {
                // A missing maximum and `none` are the same.
                let plain = |text: Option<String>| text.unwrap_or_else(|| "none".into());
                let (from, to) = (plain(from), plain(to));
                if from != to {
                    let direction = wider.unwrap_or(if more { More } else { Less });
                    let key = format!("limits.{part}.{name}");
                    self.add(&key, direction, format!("{to} (was: {from})"));
                }
            }
        }
    }

    fn lists(&mut self, a: &RingProfile, b: &RingProfile) {
        let sockets = |all: &[Socket]| all.iter().map(|one| one.name().to_owned()).collect();
        let (was, now): (Vec<String>, Vec<String>) = (sockets(&a.sockets), sockets(&b.sockets));
        self.sets("sockets", &was, &now);
        let layers = |ring: &RingProfile| -> Vec<String> {
            ring.degrade
                .iter()
                .map(|one| one.name().to_owned())
                .collect()
        };
        self.sets("degrade", &layers(a), &layers(b));
        self.reaction("on_violation", &a.on_violation, &b.on_violation);
        self.reaction("on_loop", &a.on_loop, &b.on_loop);
    }

    fn reaction(&mut self, key: &str, was: &Option<At<Reaction>>, now: &Option<At<Reaction>>) {
        let text = |at: &Option<At<Reaction>>| match at {
            Some(at) => at.value.to_string(),
            None => "nothing".into(),
        };
        let stricter = match (was, now) {
            (None, _) => true,
            (Some(_), None) => false,
            (Some(was), Some(now)) => now.value.is_as_strict_as(&was.value),
        };
        if was.as_ref().map(|at| at.value) != now.as_ref().map(|at| at.value) {
            let direction = if stricter { Less } else { More };
            self.add(
                key,
                direction,
                format!("{} (was: {})", text(now), text(was)),
            );
        }
    }

    fn probes(&mut self, key: &str, was: &[Probe], now: &[Probe]) {
        let texts = |all: &[Probe]| all.iter().map(ToString::to_string).collect::<Vec<_>>();
        let (was, now) = (texts(was), texts(now));
        for one in now.iter().filter(|one| !was.contains(one)) {
            self.add(key, Other, format!("{one} is tested"));
        }
        for one in was.iter().filter(|one| !now.contains(one)) {
            self.add(key, Other, format!("{one} is no longer tested"));
        }
    }
}

/// A rule and what of it the other side has too.
fn but_for(rule: &HostRule, other: &[At<HostRule>]) -> String {
    let within = other.iter().filter(|at| rule.covers(&at.value));
    let within: Vec<String> = within.map(|at| at.value.to_string()).collect();
    if within.is_empty() {
        rule.to_string()
    } else {
        format!("{rule}, but for {}", within.join(" "))
    }
}

fn named(names: &[String]) -> String {
    if names.is_empty() {
        "none".into()
    } else {
        names.join(" ")
    }
}

/// For each limit, in the order of [`explain::limit_texts`], whether the second is the wider one.
fn orders(was: &Limits, now: &Limits) -> [bool; 11] {
    fn wider<T: PartialOrd + Copy>(was: &Option<At<T>>, now: &Option<At<T>>) -> bool {
        more(
            was.as_ref().map(|at| at.value),
            now.as_ref().map(|at| at.value),
        )
    }
    fn wider_or_none<T: PartialOrd + Copy>(
        was: &Option<At<Option<T>>>,
        now: &Option<At<Option<T>>>,
    ) -> bool {
        let value = |at: &Option<At<Option<T>>>| at.as_ref().and_then(|at| at.value);
        more(value(was), value(now))
    }
    /// None is no ceiling.
    fn more<T: PartialOrd>(was: Option<T>, now: Option<T>) -> bool {
        match (was, now) {
            (Some(was), Some(now)) => now > was,
            (Some(_), None) => true,
            (None, _) => false,
        }
    }
    [
        wider(&was.memory, &now.memory),
        wider_or_none(&was.cpu, &now.cpu),
        wider(&was.pids, &now.pids),
        wider(&was.files, &now.files),
        wider(&was.file_size, &now.file_size),
        wider(&was.tmp, &now.tmp),
        wider_or_none(&was.output, &now.output),
        wider_or_none(&was.wall, &now.wall),
        wider_or_none(&was.calls, &now.calls),
        wider_or_none(&was.tokens, &now.tokens),
        wider_or_none(&was.cost, &now.cost),
    ]
}
