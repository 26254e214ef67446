//! How exposed the host is to an agent in a ring.

use names::{HostRule, NamePattern, PortRule};

use crate::network::Ports;
use crate::ring::{Access, Proc, Programs, RingProfile, Socket};
use crate::value::Home;

/// Something that an attacker in the ring would find.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// What is exposed.
    pub what: &'static str,
    /// Tenths of a point.
    pub weight: u32,
    /// Why it counts.
    pub because: &'static str,
}

/// How exposed the host is, after the manner of `systemd-analyze security`: 0 is nothing, 10 is a
/// process without a sandbox.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Score {
    /// Tenths of a point.
    pub tenths: u32,
    /// What it is made of.
    pub findings: Vec<Finding>,
}

/// Scores a ring by what it permits an agent to ask for.
#[must_use]
pub fn score(ring: &RingProfile) -> Score {
    let findings: Vec<Finding> = kernel(ring)
        .into_iter()
        .chain(host(ring))
        .chain(network(ring))
        .filter(|(holds, ..)| *holds)
        .map(|(_, what, weight, because)| Finding {
            what,
            weight,
            because,
        })
        .collect();
    Score {
        tenths: findings.iter().map(|finding| finding.weight).sum(),
        findings,
    }
}

/// Whether it holds, what, tenths, why. Together they stay below 100, a process without a sandbox.
type Row = (bool, &'static str, u32, &'static str);

fn kernel(ring: &RingProfile) -> [Row; 7] {
    let calls = ring.syscalls.len();
    let has = |kind| ring.sockets.contains(&kind);
    [
        (
            true,
            "the host's kernel",
            5,
            "a kernel bug within reach of the permitted calls ends the ring",
        ),
        (
            calls > 200,
            "more than 200 system calls",
            3,
            "each is kernel code that the agent can reach",
        ),
        (
            calls > 300,
            "more than 300 system calls",
            4,
            "rare calls have been tested least",
        ),
        (
            has(Socket::Unix),
            "unix sockets",
            3,
            "a socket in a granted folder leads to whoever listens there",
        ),
        (
            has(Socket::Inet),
            "network code of the kernel",
            3,
            "all of TCP and UDP, on the ring's own loopback",
        ),
        (
            has(Socket::NetlinkRoute),
            "netlink",
            1,
            "reads of the ring's own routes",
        ),
        (
            ring.proc == Proc::Masked,
            "facts about the host in /proc",
            2,
            "processor, memory and load are visible",
        ),
    ]
}

fn host(ring: &RingProfile) -> [Row; 8] {
    [
        (
            ring.programs == Programs::Any,
            "any program",
            4,
            "tools of the system can be turned to other ends",
        ),
        (
            ring.workspace == Access::Write,
            "a writable workspace",
            8,
            "hooks and scripts left there run outside when somebody uses them",
        ),
        (
            ring.home.value == Home::Private,
            "a home that is kept",
            3,
            "what one run leaves there, such as settings that run code, the next one obeys",
        ),
        (
            ring.runtime.value,
            "the agent's own installation",
            1,
            "what lies beside its program is readable, such as tokens of a package manager",
        ),
        (
            !ring.write.is_empty(),
            "shared writable paths",
            8,
            "agents of the ring can reach each other's files",
        ),
        (
            ring.max.memory.is_none(),
            "no ceiling on memory",
            6,
            "agent.yaml may ask for all of it",
        ),
        (
            ring.max.pids.is_none(),
            "no ceiling on processes",
            4,
            "agent.yaml may ask for any number",
        ),
        (
            !ring.degrade.is_empty(),
            "layers that may be missing",
            2,
            "agent.yaml can start without them on older hosts",
        ),
    ]
}

fn network(ring: &RingProfile) -> [Row; 7] {
    let most = &ring.network;
    let any_host = |rule: &HostRule| rule.pattern == NamePattern::Any;
    let any_port = |rule: &HostRule| rule.port == PortRule::Any;
    let wide = |is: &dyn Fn(&HostRule) -> bool| most.max.iter().any(|at| is(&at.value));
    [
        (
            !most.max.is_empty(),
            "hosts of the network",
            4,
            "whatever the agent reads can be sent to a host that it may reach",
        ),
        (
            wide(&any_host),
            "any host",
            12,
            "agent.yaml may name any, also one that nobody at the site answers for",
        ),
        (
            wide(&any_port),
            "any port",
            3,
            "mail, databases and remote shells as well as the web",
        ),
        (
            !most.private.is_empty(),
            "private networks",
            10,
            "agent.yaml may ask for hosts behind the firewall",
        ),
        (
            most.host_ports == Ports::Any,
            "every service on this host's loopback",
            8,
            "many trust whoever comes from there",
        ),
        (
            matches!(&most.host_ports, Ports::Only(ports) if !ports.is_empty()),
            "some services on this host's loopback",
            3,
            "many trust whoever comes from there",
        ),
        (
            !most.listen.is_empty(),
            "ports served to this host",
            3,
            "programs and browsers of this host may take it for something else",
        ),
    ]
}
