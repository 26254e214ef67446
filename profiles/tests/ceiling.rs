//! Whatever a site and an agent write: what comes out is within every ceiling, and no ring is wider
//! than the one that it extends. What "wider" means is written here once more, by trying values
//! instead of comparing rules.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]

use std::cell::Cell;
use std::collections::BTreeMap;
use std::net::IpAddr;

use profiles::{
    Access, Accounts, Agent, Asker, At, Direction, Home, Limits, Ports, Proc, Programs, Ring,
    RingProfile, Rings, diff, parse_agent, resolve,
};
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};

/// Keys of a profile and texts that lie near each other, so that both outcomes are common.
const RING_KEYS: &[(&str, &[&str])] = &[
    ("workspace", &["read", "write"]),
    ("proc", &["pid", "masked"]),
    ("programs", &["once", "any"]),
    (
        "sockets",
        &[
            "[]",
            "[unix]",
            "[inet]",
            "[unix, inet]",
            "[unix, inet, netlink-route]",
        ],
    ),
    ("read", &["[/srv/a]", "[\"/srv/b?\"]"]),
    ("write", &["[/srv/w]", "[]"]),
    ("home", &["none", "temporary", "private"]),
    ("runtime", &["auto", "none"]),
    (
        "network.max",
        &[
            "[]",
            "[\"*:*\"]",
            "[\"*:443\"]",
            "[\"*.bank.example:443\"]",
            "[\"*.bank.example:*\"]",
            "[\"api.bank.example:443\", \"x.org:80\"]",
            "[\"*.api.bank.example:443\"]",
        ],
    ),
    (
        "network.host_ports",
        &["[]", "[any]", "[11434]", "[11434, 5432]"],
    ),
    ("network.listen", &["[]", "[any]", "[3000]", "[3000, 8080]"]),
    (
        "network.private",
        &[
            "[]",
            "[10.0.0.0/8]",
            "[10.1.0.0/16]",
            "[10.1.2.3]",
            "[\"fc00::/7\"]",
        ],
    ),
    (
        "network.upstream_proxy",
        &["proxy.bank.example:3128", "other.example:3128"],
    ),
    (
        "syscalls.allow",
        &[
            "[\"@known\"]",
            "[\"@system-service\"]",
            "[read, write, bpf, mount]",
        ],
    ),
    (
        "syscalls.deny",
        &["[\"@debug\"]", "[\"@chown\", \"@setuid\"]", "[connect]"],
    ),
    (
        "limits.max.memory",
        &["256M", "512M", "1G", "2G", "16G", "17G"],
    ),
    ("limits.max.cpu", &["none", "1", "2", "4"]),
    ("limits.max.pids", &["32", "64", "256", "4096", "5000"]),
    ("limits.max.files", &["1024", "16384", "65536", "65537"]),
    ("limits.max.file_size", &["1G", "10G", "1T", "2T"]),
    ("limits.max.tmp", &["64M", "256M", "2G", "16G", "17G"]),
    ("limits.max.output", &["none", "10M", "100M"]),
    ("limits.max.wall", &["none", "10m", "1h", "8h"]),
    ("limits.default.memory", &["256M", "1G", "32G"]),
    ("limits.default.wall", &["none", "1h", "9h"]),
    ("limits.default.cpu", &["none", "1", "8"]),
    ("limits.default.output", &["none", "20M", "1G"]),
    (
        "degrade",
        &[
            "[]",
            "[cpu-limit]",
            "[landlock-tcp, cpu-limit]",
            "[landlock]",
        ],
    ),
    (
        "applies.users",
        &[
            "[alice]",
            "[bob]",
            "['1000']",
            "[nobody-here]",
            "[alice, bob]",
        ],
    ),
    (
        "applies.groups",
        &["[payments]", "[research, payments]", "['500']"],
    ),
    (
        "presets",
        &[
            "[]",
            "[shell]",
            "[python-agent]",
            "[shell, python-agent, codex]",
        ],
    ),
];

const AGENT_KEYS: &[(&str, &[&str])] = &[
    (
        "preset",
        &[
            "shell",
            "python-agent",
            "codex",
            "claude-code",
            "node-agent",
        ],
    ),
    ("home", &["none", "temporary", "private"]),
    ("runtime", &["auto", "none"]),
    ("tty", &["auto", "none"]),
    ("workspace", &["./ws"]),
    ("files.read", &["[./data]", "[\"~/x?\"]"]),
    ("files.write", &["[./out]"]),
    ("files.deny", &["[./ws/.env]"]),
    (
        "network.allow",
        &[
            "[\"api.bank.example:443\"]",
            "[\"*.bank.example:443\"]",
            "[\"x.org:80\"]",
            "[\"*:443\"]",
            "[\"v2.api.bank.example:443\"]",
            "[\"*.x.org:443\"]",
            "[]",
        ],
    ),
    ("network.host_ports", &["[11434]", "[5432, 11434]", "[1]"]),
    ("network.listen", &["[3000]", "[8080, 3000]", "[9]"]),
    (
        "network.private",
        &[
            "[10.1.2.3]",
            "[10.1.0.0/16]",
            "[10.0.0.0/8]",
            "[192.168.0.0/16]",
        ],
    ),
    (
        "network.upstream_proxy",
        &["proxy.bank.example:3128", "other.example:3128"],
    ),
    ("network.limits.connections", &["8"]),
    ("env.set", &["{A: b}"]),
    ("env.pass", &["[\"TOKEN?\"]"]),
    ("limits.memory", &["256M", "512M", "2G", "3G", "16G", "64G"]),
    ("limits.cpu", &["none", "1", "2", "3"]),
    ("limits.pids", &["32", "64", "256", "257", "4096", "9000"]),
    ("limits.files", &["1024", "16384", "65536", "70000"]),
    ("limits.file_size", &["1G", "10G", "1T", "3T"]),
    ("limits.tmp", &["64M", "256M", "2G", "16G", "99G"]),
    ("limits.output", &["none", "10M", "50M", "200M"]),
    ("limits.wall", &["none", "10m", "2h", "9h"]),
    ("kill.grace", &["1s"]),
    (
        "degrade",
        &["[cpu-limit]", "[landlock-tcp]", "[landlock]", "[]"],
    ),
];

const PASSWD: &str =
    "root:x:0:0::/root:/bin/sh\nalice:x:1000:1000::/:/bin/sh\nbob:x:1001:1001::/:/bin/sh\n";
const GROUP: &str = "payments:x:500:alice,bob\nresearch:x:501:bob\n";

type Choice = Vec<(usize, usize)>;

fn choice(keys: usize, most: usize) -> impl Strategy<Value = Choice> {
    proptest::collection::vec((0..keys, 0_usize..8), 0..=most)
}

/// One map out of dotted keys; a key that comes twice counts once.
fn yaml(head: &str, keys: &[(&str, &[&str])], choice: &Choice) -> String {
    #[derive(Default)]
    struct Tree(BTreeMap<String, Tree>, String);
    fn text(tree: &Tree) -> String {
        if tree.0.is_empty() {
            return tree.1.clone();
        }
        let parts: Vec<String> = tree
            .0
            .iter()
            .map(|(key, tree)| format!("{key}: {}", text(tree)))
            .collect();
        format!("{{{}}}", parts.join(", "))
    }
    let mut root = Tree::default();
    for (key, value) in choice {
        let (path, values) = keys[*key];
        let mut at = &mut root;
        for part in path.split('.') {
            at = at.0.entry(part.to_owned()).or_default();
        }
        at.1 = values[value % values.len()].to_owned();
    }
    let lines = root
        .0
        .iter()
        .map(|(key, tree)| format!("{key}: {}\n", text(tree)));
    head.to_owned() + &lines.collect::<String>()
}

/// Whether a rule, as it is written, lets a connection to this host and port through.
fn lets(rule: &str, host: &str, port: u16) -> bool {
    let (name, rule_port) = rule.rsplit_once(':').unwrap();
    let by_name = match name.strip_prefix('*') {
        Some("") => true,
        Some(tail) => host.ends_with(tail) && host.len() > tail.len(),
        None => host == name,
    };
    by_name && (rule_port == "*" || rule_port == port.to_string())
}

const HOSTS: &[&str] = &[
    "bank.example",
    "api.bank.example",
    "v2.api.bank.example",
    "other.bank.example",
    "notbank.example",
    "x.org",
    "y.x.org",
    "proxy.bank.example",
    "other.example",
    "evil.test",
    "api.openai.com",
    "api.anthropic.com",
];
const PORTS: &[u16] = &[1, 22, 80, 443, 3000, 3128, 5432, 8080, 11434, 65535];
const ADDRESSES: &[&str] = &[
    "10.1.2.3",
    "10.1.2.4",
    "10.1.255.255",
    "10.2.0.1",
    "192.168.1.1",
    "172.16.0.1",
    "100.64.0.1",
    "fc00::1",
    "fdff::2",
    "fe80::1",
    "127.0.0.1",
];

fn reaches(rules: &[String]) -> Vec<(&'static str, u16)> {
    let all = HOSTS
        .iter()
        .flat_map(|host| PORTS.iter().map(move |port| (*host, *port)));
    all.filter(|(host, port)| rules.iter().any(|rule| lets(rule, host, *port)))
        .collect()
}

fn texts<T: ToString>(all: &[At<T>]) -> Vec<String> {
    all.iter().map(|at| at.value.to_string()).collect()
}

fn opens(ports: &Ports) -> Vec<u16> {
    let has = |port: &u16| match ports {
        Ports::Any => true,
        Ports::Only(only) => only.contains(port),
    };
    PORTS.iter().copied().filter(has).collect()
}

fn ranges<T: ToString>(all: &[T]) -> Vec<&'static str> {
    let bits = |address: IpAddr| match address {
        IpAddr::V4(v4) => (u128::from(v4.to_bits()) << 96, true),
        IpAddr::V6(v6) => (v6.to_bits(), false),
    };
    let within = |range: &str, address: IpAddr| {
        let (base, length) = range.split_once('/').unwrap();
        let (base, v4) = bits(base.parse().unwrap());
        let (own, own_v4) = bits(address);
        let length: u32 = length.parse().unwrap();
        v4 == own_v4 && (base ^ own).leading_zeros() >= length
    };
    let texts: Vec<String> = all.iter().map(ToString::to_string).collect();
    let has = |one: &&&str| {
        texts
            .iter()
            .any(|range| within(range, one.parse().unwrap()))
    };
    ADDRESSES.iter().filter(has).copied().collect()
}

fn within<T: PartialEq + std::fmt::Debug>(what: &str, few: &[T], many: &[T]) {
    for one in few {
        assert!(many.contains(one), "{what}: {one:?} is not in {many:?}");
    }
}

/// Numbers, `u64::MAX` for none.
fn numbers(limits: &Limits) -> [u64; 8] {
    let most = u64::MAX;
    let flat = |value: Option<Option<u64>>| value.flatten().unwrap_or(most);
    [
        limits.memory.as_ref().map_or(most, |at| at.value.0),
        limits.pids.as_ref().map_or(most, |at| at.value),
        limits.files.as_ref().map_or(most, |at| at.value),
        limits.file_size.as_ref().map_or(most, |at| at.value.0),
        limits.tmp.as_ref().map_or(most, |at| at.value.0),
        flat(
            limits
                .cpu
                .as_ref()
                .map(|at| at.value.map(|cpu| u64::from(cpu.0))),
        ),
        flat(
            limits
                .output
                .as_ref()
                .map(|at| at.value.map(|bytes| bytes.0)),
        ),
        flat(limits.wall.as_ref().map(|at| at.value.map(|time| time.0))),
    ]
}

fn lasting(home: Home) -> u8 {
    match home {
        Home::None => 0,
        Home::Temporary => 1,
        Home::Private => 2,
    }
}

/// Who may ask, by names and numbers as the profile spells them.
fn may_ask(ring: &RingProfile, user: &str) -> bool {
    let (names, groups): (&[&str], &[&str]) = match user {
        "root" => return true,
        "alice" => (&["alice", "1000"], &["payments", "500"]),
        "bob" => (&["bob", "1001"], &["payments", "500", "research", "501"]),
        _ => (&[], &[]),
    };
    ring.applies.iter().all(|rule| {
        rule.users
            .iter()
            .any(|at| names.contains(&at.value.as_str()))
            || rule
                .groups
                .iter()
                .any(|at| groups.contains(&at.value.as_str()))
    })
}

fn asker(user: &str) -> Asker {
    let accounts = Accounts::parse(PASSWD, GROUP);
    let (uid, gids) = match user {
        "root" => return Asker::Root,
        "alice" => (1000, vec![1000, 500]),
        "bob" => (1001, accounts.groups_of(1001)),
        _ => return Asker::Unknown,
    };
    Asker::User {
        uid,
        gids,
        accounts,
    }
}

const USERS: [&str; 4] = ["root", "alice", "bob", "unknown"];

/// A ring that extends another is no wider in any key.
fn no_wider(child: &RingProfile, parent: &RingProfile) {
    assert!(child.workspace == parent.workspace || child.workspace == Access::Read);
    assert!(child.proc == parent.proc || child.proc == Proc::Pid);
    assert!(child.programs == parent.programs || child.programs == Programs::Once);
    assert!(child.write.is_empty() || child.workspace == Access::Write);
    within("sockets", &child.sockets, &parent.sockets);
    assert!(lasting(child.home.value) <= lasting(parent.home.value));
    assert!(parent.runtime.value || !child.runtime.value);
    let (few, many) = (&child.network, &parent.network);
    within(
        "max",
        &reaches(&texts(&few.max)),
        &reaches(&texts(&many.max)),
    );
    within(
        "host_ports",
        &opens(&few.host_ports),
        &opens(&many.host_ports),
    );
    within("listen", &opens(&few.listen), &opens(&many.listen));
    within("private", &ranges(&few.private), &ranges(&many.private));
    if let Some(proxy) = many.upstream_proxy.as_ref().filter(|_| !few.is_empty()) {
        assert_eq!(
            few.upstream_proxy.as_ref().expect("the proxy").value,
            proxy.value
        );
    }
    let calls: Vec<_> = child.syscalls.iter().collect();
    within(
        "syscalls",
        &calls,
        &parent.syscalls.iter().collect::<Vec<_>>(),
    );
    for (few, many) in numbers(&child.max).into_iter().zip(numbers(&parent.max)) {
        assert!(few <= many, "limits: {few} > {many}");
    }
    within("degrade", &child.degrade, &parent.degrade);
    for user in USERS {
        assert!(!may_ask(child, user) || may_ask(parent, user), "{user}");
    }
    match (&child.presets, &parent.presets) {
        (_, None) => {}
        (None, Some(_)) => panic!("presets: any"),
        (Some(few), Some(many)) => within("presets", &few.value, &many.value),
    }
}

/// A resolved ring is within its profile.
fn no_wider_than(ring: &Ring, agent: &Agent, most: &RingProfile, user: &str) {
    assert!(may_ask(most, user), "{user}");
    assert_eq!(ring.access, most.workspace);
    assert_eq!((ring.proc, ring.programs), (most.proc, most.programs));
    assert!(ring.write.is_empty() || most.workspace == Access::Write);
    within("sockets", &ring.sockets, &most.sockets);
    assert!(lasting(ring.home) <= lasting(most.home.value));
    assert!(most.runtime.value || !ring.runtime_auto);
    let calls: Vec<_> = ring.syscalls.iter().collect();
    within(
        "syscalls",
        &calls,
        &most.syscalls.iter().collect::<Vec<_>>(),
    );
    within("degrade", &ring.degrade, &most.degrade);
    let (few, many) = (&ring.network, &most.network);
    within(
        "allow",
        &reaches(&texts(&few.allow)),
        &reaches(&texts(&many.max)),
    );
    let ports = |all: &[At<u16>]| all.iter().map(|at| at.value).collect::<Vec<_>>();
    within(
        "host_ports",
        &opens(&Ports::Only(ports(&few.host_ports))),
        &opens(&many.host_ports),
    );
    within(
        "listen",
        &opens(&Ports::Only(ports(&few.listen))),
        &opens(&many.listen),
    );
    within("private", &ranges(&few.private), &ranges(&many.private));
    match (&few.upstream_proxy, &many.upstream_proxy) {
        (own, Some(theirs)) => assert_eq!(own.as_ref().unwrap().value, theirs.value),
        (Some(own), None) => {
            let (host, port) = (own.value.host.to_string(), own.value.port.get());
            assert!(texts(&many.max).iter().any(|rule| lets(rule, &host, port)));
        }
        (None, None) => {}
    }
    let got = [
        ring.memory.value.0,
        ring.pids.value,
        ring.files.value,
        ring.file_size.value.0,
        ring.tmp.value.0,
        ring.cpu
            .as_ref()
            .map_or(u64::MAX, |cpu| u64::from(cpu.value.0)),
        ring.output
            .as_ref()
            .map_or(u64::MAX, |output| output.value.0),
        ring.wall.as_ref().map_or(u64::MAX, |wall| wall.value.0),
    ];
    for (few, many) in got.into_iter().zip(numbers(&most.max)) {
        assert!(few <= many, "limits: {few} > {many}");
    }
    if let (Some(preset), Some(presets)) = (&agent.preset, &most.presets) {
        assert!(presets.value.contains(&preset.value));
    }
}

#[derive(Debug)]
struct Case {
    base: usize,
    rings: Vec<Choice>,
    agent: Option<Choice>,
    user: usize,
}

fn case() -> impl Strategy<Value = Case> {
    let rings = proptest::collection::vec(choice(RING_KEYS.len(), 4), 1..=3);
    // Without one it is a command with `--ring` and `--workspace`.
    let agent = proptest::option::weighted(0.9, choice(AGENT_KEYS.len(), 4));
    (0_usize..3, rings, agent, 0_usize..8).prop_map(|(base, rings, agent, user)| Case {
        base,
        rings,
        agent,
        // Root most often: `applies` would hide the rest.
        user: user.saturating_sub(4),
    })
}

fn agent_of(case: &Case, ring: &str) -> Agent {
    let Some(choice) = &case.agent else {
        return Agent::from_command(vec!["true".into()], ring, "/ws".into()).unwrap();
    };
    let head = format!("version: 1\nname: bot\ncommand: [x]\nring: {ring}\n");
    let text = yaml(&head, AGENT_KEYS, choice);
    parse_agent("a.yaml", text.as_bytes()).unwrap_or_else(|error| {
        // A port that is named twice over is wrong whatever the ring.
        panic!("{error}\n{text}")
    })
}

#[test]
fn nothing_is_wider_than_its_ceiling() {
    let built_in = Rings::built_in().unwrap();
    let (narrowed, widened) = (Cell::new(0), Cell::new(0));
    let (granted, refused) = (Cell::new(0), Cell::new(0));
    let count = |cell: &Cell<u32>| cell.set(cell.get() + 1);
    let config = Config {
        cases: 4000,
        failure_persistence: None,
        ..Config::default()
    };
    let one = |case: Case| {
        let mut rings = built_in.clone().asked_by(asker(USERS[case.user]));
        let mut leaf = ["privileged", "standard", "sandbox"][case.base].to_owned();
        let mut chain = vec![rings.find(&leaf).unwrap().clone()];
        for (number, choice) in case.rings.iter().enumerate() {
            let name = format!("site-{number}");
            let head = format!("version: 1\nname: {name}\nextends: {leaf}\n");
            let text = yaml(&head, RING_KEYS, choice);
            let file = (format!("{name}.yaml"), text.into_bytes());
            if let Some((_, error)) = rings.add(&[file]).first() {
                assert!(error.to_string().starts_with(&name), "{error}");
                count(&widened);
                continue;
            }
            let child = rings.find(&name).unwrap().clone();
            chain.iter().for_each(|parent| no_wider(&child, parent));
            // What `ring diff` says agrees: nothing is more but paths, which are no ceiling.
            let more = |change: &profiles::Change| {
                change.direction == Direction::More
                    && !["read", "write"].contains(&change.key.as_str())
            };
            let changes = chain.iter().flat_map(|parent| diff(parent, &child));
            let wider: Vec<_> = changes.filter(more).collect();
            assert!(wider.is_empty(), "{wider:?}");
            chain.push(child);
            leaf = name;
            count(&narrowed);
        }
        let agent = agent_of(&case, &leaf);
        match resolve(&agent, &rings) {
            Ok(ring) => {
                let user = USERS[case.user];
                chain.iter().for_each(|most| {
                    // Its own words are the leaf's; those of its ancestors were compared above.
                    if most.name == leaf {
                        no_wider_than(&ring, &agent, most, user);
                    }
                    assert!(may_ask(most, user));
                });
                count(&granted);
            }
            Err(error) => {
                assert!(matches!(error, profiles::Error::Wrong { .. }), "{error}");
                count(&refused);
            }
        }
        Ok(())
    };
    TestRunner::new(config).run(&case(), one).unwrap();
    for (what, cell) in [
        ("rings narrowed", &narrowed),
        ("rings refused", &widened),
        ("agents granted", &granted),
        ("agents refused", &refused),
    ] {
        println!("{what}: {}", cell.get());
        assert!(cell.get() > 500, "{what}: {}", cell.get());
    }
}
