//! What is not wrong with a profile and yet not what its author wants.

use plan::filter::{self, Exec, FilterSpec, Sockets, Verdict};
use plan::syscalls;

use crate::applies::Accounts;
use crate::diff::{Direction, diff};
use crate::error::Error;
use crate::explain::limit_texts;
use crate::node::{self, Span};
use crate::probe::{Probe, Target};
use crate::ring::{Access, Programs, RingProfile, Rings, Socket};
use crate::shape::{Object, RING};
use crate::value::{At, Layer};

/// Something to look at again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Warning {
    /// The key.
    pub key: String,
    /// `file:line`.
    pub origin: String,
    /// What, and what to do about it.
    pub what: String,
}

/// Looks at a profile that parses. `rings` holds its parent and itself.
///
/// # Errors
/// When it does not parse after all.
pub fn lint(
    file: &str,
    bytes: &[u8],
    rings: &Rings,
    accounts: &Accounts,
) -> Result<Vec<Warning>, Error> {
    let root = node::parse(file, bytes)?;
    let object = Object::open(file, &root, RING, "")?;
    let name = object.text("name")?.map_or(String::new(), |at| at.value);
    let ring = rings.find(&name)?;
    let parent = match &ring.extends {
        Some(at) => rings.find(&at.value)?,
        None => return Ok(Vec::new()),
    };
    let mut found = Lint {
        file,
        object: &object,
        ring,
        parent,
        warnings: Vec::new(),
    };
    found.untested();
    found.contradictions();
    found.unchanged()?;
    found.unknown(accounts);
    found.weak();
    let mut warnings = found.warnings;
    // A stable sort: of one line in the order of the checks.
    warnings.sort_by_key(|warning| {
        let (file, line) = warning.origin.rsplit_once(':').unwrap_or(("", ""));
        (file.to_owned(), line.parse::<usize>().unwrap_or(0))
    });
    Ok(warnings)
}

/// The filter of a ring's agents.
fn spec(ring: &RingProfile) -> FilterSpec {
    let has = |kind| ring.sockets.contains(&kind);
    FilterSpec {
        allowed: ring.syscalls,
        exec: match ring.programs {
            Programs::Any => Exec::Any,
            Programs::Once => Exec::Once,
        },
        sockets: Sockets {
            unix: has(Socket::Unix),
            inet: has(Socket::Inet),
            netlink_route: has(Socket::NetlinkRoute),
        },
    }
}

struct Lint<'a> {
    file: &'a str,
    object: &'a Object<'a>,
    ring: &'a RingProfile,
    parent: &'a RingProfile,
    warnings: Vec<Warning>,
}

impl Lint<'_> {
    fn at(&mut self, key: &str, span: Span, what: impl Into<String>) {
        self.said(key, format!("{}:{}", self.file, span.line), what);
    }

    fn said(&mut self, key: &str, origin: String, what: impl Into<String>) {
        self.warnings.push(Warning {
            key: key.into(),
            origin,
            what: what.into(),
        });
    }

    /// The place of a key of the file itself.
    fn place(&self, key: &str) -> Option<Span> {
        self.object.node(key).map(|node| node.span)
    }

    fn untested(&mut self) {
        for (key, empty, what) in [
            (
                "must_allow",
                self.ring.must_allow.is_empty(),
                "nothing is tested to work: add what agents of this ring need",
            ),
            (
                "must_deny",
                self.ring.must_deny.is_empty(),
                "nothing is tested to fail: add what they must never reach",
            ),
        ] {
            if empty {
                let span = self.place(key).unwrap_or(Span { line: 1, column: 1 });
                self.at(key, span, what);
            }
        }
    }

    /// Probes that cannot come out as they must.
    fn contradictions(&mut self) {
        let ring = self.ring;
        for probe in &ring.must_allow {
            let same =
                |other: &&Probe| (&other.action, &other.subject) == (&probe.action, &probe.subject);
            if let Some(other) = ring.must_deny.iter().find(same) {
                let what = format!("{probe} must fail too ({})", other.origin);
                self.said("must_allow", probe.origin.clone(), what);
            } else if let Some(why) = cannot_work(ring, probe) {
                self.said(
                    "must_allow",
                    probe.origin.clone(),
                    format!("{probe}: {why}"),
                );
            }
        }
        for probe in &ring.must_deny {
            if let Some(why) = cannot_fail(ring, probe) {
                self.said("must_deny", probe.origin.clone(), format!("{probe}: {why}"));
            }
        }
    }

    /// Keys that say what the parent says.
    fn unchanged(&mut self) -> Result<(), Error> {
        let changes = diff(self.parent, self.ring);
        let changed = |key: &str| {
            let below = format!("{key}.");
            let of =
                |change: &&crate::diff::Change| change.key == key || change.key.starts_with(&below);
            changes.iter().any(|change| of(&change))
        };
        let keys = [
            "applies",
            "presets",
            "workspace",
            "proc",
            "programs",
            "sockets",
            "read",
            "write",
            "home",
            "runtime",
            "syscalls",
            "degrade",
        ];
        let mut same: Vec<(String, Span)> = Vec::new();
        for key in keys {
            same.extend(self.place(key).map(|span| (key.to_owned(), span)));
        }
        for (outer, inner) in [
            (
                "network",
                vec!["max", "host_ports", "listen", "private", "upstream_proxy"],
            ),
            ("limits", vec!["default", "max"]),
        ] {
            let Some(object) = self.object.object(outer)? else {
                continue;
            };
            for key in inner {
                let Some(node) = object.node(key) else {
                    continue;
                };
                let path = format!("{outer}.{key}");
                if outer == "network" {
                    same.push((path, node.span));
                } else if let crate::node::Value::Map(entries) = &node.value {
                    let entry = |one: &node::Entry| (format!("{path}.{}", one.key), one.span);
                    same.extend(entries.iter().map(entry));
                }
            }
        }
        for (key, span) in same {
            if !changed(&key) {
                let what = format!("says what ring {} says: leave it out", self.parent.name);
                self.at(&key, span, what);
            }
        }
        Ok(())
    }

    fn unknown(&mut self, accounts: &Accounts) {
        let own = self.ring.applies.iter().skip(self.parent.applies.len());
        for rule in own {
            for at in rule
                .users
                .iter()
                .filter(|at| accounts.uid(&at.value).is_none())
            {
                let what = format!(
                    "this host has no user `{}`: nobody is meant by it here",
                    at.value
                );
                self.said("applies.users", at.origin.clone(), what);
            }
            for at in rule
                .groups
                .iter()
                .filter(|at| accounts.gid(&at.value).is_none())
            {
                let what = format!(
                    "this host has no group `{}`: nobody is meant by it here",
                    at.value
                );
                self.said("applies.groups", at.origin.clone(), what);
            }
        }
    }

    /// What opens more than it seems to.
    fn weak(&mut self) {
        let (file, ring, parent) = (self.file, self.ring, self.parent);
        for at in ring.write.iter().filter(|at| at.file() == file) {
            let what = format!(
                "{}: every agent of the ring may change it, and reads there what others left",
                at.value
            );
            self.said("write", at.origin.clone(), what);
        }
        const SECRET: [&str; 6] = ["/", "/root", "/home", "/etc", "/var", "/run"];
        for at in ring.read.iter().filter(|at| at.file() == file) {
            if SECRET
                .iter()
                .any(|secret| at.value.path == std::path::Path::new(secret))
            {
                let what = format!(
                    "{}: holds secrets of others and sockets of services; name what is needed",
                    at.value
                );
                self.said("read", at.origin.clone(), what);
            }
        }
        let layers = [Layer::Landlock, Layer::LandlockTcp, Layer::LandlockScopes];
        let lacking = layers
            .into_iter()
            .filter(|layer| ring.degrade.contains(layer));
        let lacking: Vec<&str> = lacking.map(Layer::name).collect();
        if let Some(span) = self.place("degrade").filter(|_| !lacking.is_empty()) {
            let what = format!(
                "agents start without {} on older kernels",
                lacking.join(", ")
            );
            self.at("degrade", span, what);
        }
        let wide = ring
            .network
            .max
            .iter()
            .find(|at| at.value.to_string() == "*:*");
        if let Some(at) = wide.filter(|at| at.file() == file) {
            self.said("network.max", at.origin.clone(), "is any host on any port");
        }
        self.capped(parent);
    }

    /// A default that no agent ever gets.
    fn capped(&mut self, parent: &RingProfile) {
        let changes = diff(
            &maxima(&self.ring.max, parent),
            &maxima(&self.ring.default, parent),
        );
        let own = |name: &str| {
            let limits = self.object.object("limits").ok()??;
            let default = limits.object("default").ok()??;
            default.node(name).map(|node| node.span)
        };
        let over: Vec<(String, Span)> = changes
            .iter()
            .filter(|change| change.direction == Direction::More)
            .filter_map(|change| {
                let name = change.key.strip_prefix("limits.max.")?;
                Some((name.to_owned(), own(name)?))
            })
            .collect();
        let most = limit_texts(&self.ring.max);
        for (name, span) in over {
            let text = most.iter().find(|(known, _)| *known == name);
            let text = text.and_then(|(_, text)| text.clone()).unwrap_or_default();
            let what = format!("is above the maximum: agents get {text}");
            self.at(&format!("limits.default.{name}"), span, what);
        }
    }
}

/// A ring with these maxima, to be compared.
fn maxima(limits: &crate::agent::Limits, like: &RingProfile) -> RingProfile {
    RingProfile {
        max: limits.clone(),
        ..like.clone()
    }
}

fn below(path: &str, all: &[At<crate::agent::PathWish>]) -> bool {
    let path = std::path::Path::new(path);
    all.iter().any(|at| path.starts_with(&at.value.path))
}

/// Whether the filter answers a call that is made without arguments.
fn answered(ring: &RingProfile, call: &str) -> bool {
    let nr = syscalls::by_name(call);
    nr.is_some_and(|nr| filter::verdict(&spec(ring), nr, [0; 6]) == Verdict::Allow)
}

/// Why a probe that must work cannot.
fn cannot_work(ring: &RingProfile, probe: &Probe) -> Option<&'static str> {
    let network = &ring.network;
    match probe.action.as_str() {
        "syscall" if !answered(ring, &probe.subject) => Some("the filter refuses it"),
        "exec" if ring.programs == Programs::Once => Some("agents run one program, once"),
        "write"
            if ring.workspace == Access::Read
                && !["/tmp/", "/dev/shm/"]
                    .iter()
                    .any(|own| probe.subject.starts_with(own)) =>
        {
            Some("agents write nothing but their own /tmp")
        }
        "connect" => match (Target::parse(&probe.subject), probe.rule()) {
            (Some(Target::Address(..)), _) => Some("rules are about names, never addresses"),
            (_, Some(rule)) if !network.covers_rule(&rule) => Some("`network.max` has it not"),
            _ => None,
        },
        "resolve" if network.rule_for(&probe.subject).is_none() => {
            Some("only names that `network.max` has are answered")
        }
        _ => None,
    }
}

/// Why a probe that must fail cannot.
fn cannot_fail(ring: &RingProfile, probe: &Probe) -> Option<&'static str> {
    match probe.action.as_str() {
        "syscall" if answered(ring, &probe.subject) => Some("the filter answers it"),
        "read" if below(&probe.subject, &ring.read) || below(&probe.subject, &ring.write) => {
            Some("the ring's own paths hold it")
        }
        "write" if below(&probe.subject, &ring.write) || probe.subject.starts_with("/tmp/") => {
            Some("agents may write there")
        }
        "connect"
            if probe
                .rule()
                .is_some_and(|rule| ring.network.covers_rule(&rule)) =>
        {
            Some("`network.max` has it: an agent may ask for it")
        }
        "resolve" if ring.network.rule_for(&probe.subject).is_some() => {
            Some("`network.max` has it: an agent may ask for it")
        }
        _ => None,
    }
}
