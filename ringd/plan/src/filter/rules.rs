//! The argument rules: calls that are allowed or refused by what they ask for. One table feeds the
//! filter, `explain` and the tests.

use super::{EAFNOSUPPORT, EINVAL, EPERM, Sockets, Verdict};

/// A test of one argument's low 32 bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Test {
    /// It is this number.
    Is(u32),
    /// At least one of these bits is set.
    AnyOf(u32),
    /// Under this mask it is this number.
    Masked(u32, u32),
}

/// A test and the argument (0–5) it looks at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Within {
    /// Which argument.
    pub arg: u8,
    /// What is asked of it.
    pub test: Test,
}

/// When all tests hold, this is the answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Clause {
    /// All of them must hold.
    pub when: Vec<Within>,
    /// Then.
    pub then: Verdict,
}

/// The rule of one call: its first clause that holds, otherwise `otherwise`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ArgumentRule {
    /// The call.
    pub call: &'static str,
    /// In order.
    pub clauses: Vec<Clause>,
    /// When no clause holds.
    pub otherwise: Verdict,
    /// Why there is such a rule.
    pub reason: &'static str,
}

impl ArgumentRule {
    /// The answer for these arguments.
    #[must_use]
    pub fn verdict(&self, args: [u64; 6]) -> Verdict {
        let holds = |within: &Within| {
            let arg = args.get(usize::from(within.arg)).copied().unwrap_or(0);
            let low = u32::try_from(arg & 0xffff_ffff).unwrap_or(0);
            match within.test {
                Test::Is(value) => low == value,
                Test::AnyOf(bits) => low & bits != 0,
                Test::Masked(mask, value) => low & mask == value,
            }
        };
        let clause = self
            .clauses
            .iter()
            .find(|clause| clause.when.iter().all(holds));
        clause.map_or(self.otherwise, |clause| clause.then)
    }
}

fn is(arg: u8, value: u32) -> Within {
    Within {
        arg,
        test: Test::Is(value),
    }
}

fn any(arg: u8, bits: u32) -> Within {
    Within {
        arg,
        test: Test::AnyOf(bits),
    }
}

fn masked(arg: u8, mask: u32, value: u32) -> Within {
    Within {
        arg,
        test: Test::Masked(mask, value),
    }
}

fn refuse(when: &[Within]) -> Clause {
    Clause {
        when: when.to_vec(),
        then: EPERM,
    }
}

fn allow(when: &[Within]) -> Clause {
    Clause {
        when: when.to_vec(),
        then: Verdict::Allow,
    }
}

/// Every call that has a rule, for rings that may make every kind of socket.
#[must_use]
pub fn argument_rules() -> Vec<ArgumentRule> {
    let sockets = Sockets {
        unix: true,
        inet: true,
        netlink_route: true,
    };
    RULED
        .iter()
        .filter_map(|call| rule(call, sockets))
        .collect()
}

const RULED: [&str; 28] = [
    "chmod",
    "fchmod",
    "fchmodat",
    "fchmodat2",
    "open",
    "openat",
    "creat",
    "mkdir",
    "mkdirat",
    "mknod",
    "mknodat",
    "socket",
    "socketpair",
    "sendto",
    "sendmsg",
    "sendmmsg",
    "setsockopt",
    "ioctl",
    "fcntl",
    "prctl",
    "clone",
    "personality",
    "prlimit64",
    "setpriority",
    "sched_setaffinity",
    "sched_setparam",
    "sched_setscheduler",
    "execveat",
];

const SET_ID: u32 = 0o6000;
const SET_ID_REASON: &str = "a set-id program on the host would outlive the ring";
/// O_CREAT and the bit of O_TMPFILE: only then is there a mode.
const CREATING: u32 = 0o100 | 0o20_000_000;

/// The rule of a call, if it has one.
pub(super) fn rule(call: &str, sockets: Sockets) -> Option<ArgumentRule> {
    let set_id = |call, arg| denied(call, vec![refuse(&[any(arg, SET_ID)])], SET_ID_REASON);
    Some(match call {
        "chmod" => set_id("chmod", 1),
        "fchmod" => set_id("fchmod", 1),
        "fchmodat" => set_id("fchmodat", 2),
        "fchmodat2" => set_id("fchmodat2", 2),
        "creat" => set_id("creat", 1),
        "mkdir" => set_id("mkdir", 1),
        "mkdirat" => set_id("mkdirat", 2),
        "open" => denied(
            "open",
            vec![refuse(&[any(1, CREATING), any(2, SET_ID)])],
            SET_ID_REASON,
        ),
        "openat" => denied(
            "openat",
            vec![refuse(&[any(2, CREATING), any(3, SET_ID)])],
            SET_ID_REASON,
        ),
        "mknod" => mknod("mknod", 1),
        "mknodat" => mknod("mknodat", 2),
        "socket" => socket(sockets),
        "socketpair" => socketpair(sockets),
        "sendto" => fast_open("sendto", 3),
        "sendmsg" => fast_open("sendmsg", 2),
        "sendmmsg" => fast_open("sendmmsg", 3),
        "setsockopt" => setsockopt(),
        "ioctl" => {
            // TIOCSTI, TIOCLINUX, TIOCCONS, TIOCSETD; FIOSETOWN and SIOCSPGRP, which are F_SETOWN.
            let requests = [0x5412, 0x541c, 0x541d, 0x5423, 0x8901, 0x8902];
            let clauses = requests.map(|request| refuse(&[is(1, request)])).to_vec();
            denied(
                "ioctl",
                clauses,
                "typing into terminals, line disciplines, and signals sent by the kernel",
            )
        }
        "fcntl" => {
            // F_SETOWN, F_SETSIG, F_SETOWN_EX; F_SETLEASE stalls whoever opens the file on the host.
            let commands = [8, 10, 15, 1024];
            let clauses = commands.map(|command| refuse(&[is(1, command)])).to_vec();
            denied(
                "fcntl",
                clauses,
                "signals to a process of one's choice, and leases on files of the host",
            )
        }
        "prctl" => prctl(),
        "clone" => denied(
            "clone",
            vec![refuse(&[any(0, 0x7e02_0000)])],
            "new namespaces",
        ),
        "personality" => ArgumentRule {
            call: "personality",
            clauses: vec![allow(&[is(0, 0)]), allow(&[is(0, u32::MAX)])],
            otherwise: EPERM,
            reason: "executable data and fixed addresses make bugs easy to use",
        },
        "prlimit64" => ArgumentRule {
            call: "prlimit64",
            clauses: vec![allow(&[is(0, 0)])],
            otherwise: EPERM,
            reason: "limits of other processes, the ring's init among them",
        },
        "setpriority" => ArgumentRule {
            call: "setpriority",
            clauses: vec![allow(&[is(0, 0), is(1, 0)])],
            otherwise: EPERM,
            reason: "priority of other processes, the ring's init among them",
        },
        "sched_setaffinity" => not_init("sched_setaffinity"),
        "sched_setparam" => not_init("sched_setparam"),
        "sched_setscheduler" => scheduler(),
        "execveat" => denied(
            "execveat",
            vec![refuse(&[any(4, 0x1000)])],
            "running a file that has no name, past every path",
        ),
        _ => return None,
    })
}

fn denied(call: &'static str, clauses: Vec<Clause>, reason: &'static str) -> ArgumentRule {
    ArgumentRule {
        call,
        clauses,
        otherwise: Verdict::Allow,
        reason,
    }
}

fn mknod(call: &'static str, arg: u8) -> ArgumentRule {
    const FORMAT: u32 = 0o170_000;
    let clauses = vec![
        refuse(&[any(arg, SET_ID)]),
        refuse(&[masked(arg, FORMAT, 0o020_000)]),
        refuse(&[masked(arg, FORMAT, 0o060_000)]),
    ];
    denied(call, clauses, "devices, and set-id bits on what is made")
}

const AF_UNIX: u32 = 1;
const AF_INET: u32 = 2;
const AF_INET6: u32 = 10;
const AF_NETLINK: u32 = 16;
const SOCK_STREAM: u32 = 1;
const SOCK_DGRAM: u32 = 2;
const SOCK_RAW: u32 = 3;
const SOCK_SEQPACKET: u32 = 5;

/// Families, types and protocols that are named; everything else is an unknown family. Multipath
/// TCP, raw and the rest go past Landlock's rules, and vsock past every network namespace.
fn socket(sockets: Sockets) -> ArgumentRule {
    let kind = |kind| masked(1, 0xf, kind);
    let mut clauses = Vec::new();
    let mut permit = |family, of, protocol| {
        clauses.push(allow(&[is(0, family), kind(of), is(2, protocol)]));
    };
    if sockets.unix {
        for of in [SOCK_STREAM, SOCK_DGRAM, SOCK_SEQPACKET] {
            permit(AF_UNIX, of, 0);
        }
        permit(AF_UNIX, SOCK_STREAM, 1);
    }
    if sockets.inet {
        for family in [AF_INET, AF_INET6] {
            permit(family, SOCK_STREAM, 0);
            permit(family, SOCK_STREAM, 6);
            permit(family, SOCK_DGRAM, 0);
            permit(family, SOCK_DGRAM, 17);
        }
    }
    if sockets.netlink_route {
        permit(AF_NETLINK, SOCK_RAW, 0);
        permit(AF_NETLINK, SOCK_DGRAM, 0);
    }
    let none = !sockets.unix && !sockets.inet && !sockets.netlink_route;
    ArgumentRule {
        call: "socket",
        clauses,
        otherwise: if none { EPERM } else { EAFNOSUPPORT },
        reason: "families, types and protocols that the ring has",
    }
}

/// One end of a datagram pair can still send to any socket by its path, without `connect`; the ends of
/// the other types cannot. (`SOCK_RAW` is a datagram socket here too.)
fn socketpair(sockets: Sockets) -> ArgumentRule {
    let pair = |kind| allow(&[is(0, AF_UNIX), masked(1, 0xf, kind)]);
    let mut clauses = vec![pair(SOCK_STREAM), pair(SOCK_SEQPACKET)];
    if sockets.unix {
        clauses.push(pair(SOCK_DGRAM));
    }
    ArgumentRule {
        call: "socketpair",
        clauses,
        otherwise: EAFNOSUPPORT,
        reason: "pairs are for talking inside the ring",
    }
}

fn fast_open(call: &'static str, arg: u8) -> ArgumentRule {
    const MSG_FASTOPEN: u32 = 0x2000_0000;
    denied(
        call,
        vec![refuse(&[any(arg, MSG_FASTOPEN)])],
        "connecting without connect",
    )
}

fn setsockopt() -> ArgumentRule {
    const SOL_IP: u32 = 0;
    const SOL_IPV6: u32 = 41;
    let options = [
        (SOL_IP, 4),
        (SOL_IP, 64),
        (SOL_IPV6, 6),
        (SOL_IPV6, 54),
        (SOL_IPV6, 55),
        (SOL_IPV6, 57),
        (SOL_IPV6, 59),
        (SOL_IPV6, 64),
    ];
    let clauses = options
        .map(|(level, option)| refuse(&[is(1, level), is(2, option)]))
        .to_vec();
    denied(
        "setsockopt",
        clauses,
        "source routes, extension headers and packet filters",
    )
}

/// What ordinary programs ask of prctl(2).
const PRCTL: [u32; 38] = [
    1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 19, 21, 23, 24, 25, 26, 27, 29, 30, 34,
    36, 37, 38, 39, 40, 41, 42, 47, 52, 53, 65, 66,
];
const PRCTL_NAMED: [u32; 5] = [67, 68, 0x5356_4d41, 0x5961_6d61, 0x4155_5856];

fn prctl() -> ArgumentRule {
    // PR_SET_SECCOMP, PR_SET_SECUREBITS, PR_SET_MM.
    let mut clauses = [22, 28, 35].map(|option| refuse(&[is(0, option)])).to_vec();
    clauses.extend(
        PRCTL
            .iter()
            .chain(&PRCTL_NAMED)
            .map(|option| allow(&[is(0, *option)])),
    );
    ArgumentRule {
        call: "prctl",
        clauses,
        otherwise: EINVAL,
        reason: "options that ordinary programs use; no filter, no securebits, no memory map",
    }
}

fn not_init(call: &'static str) -> ArgumentRule {
    denied(
        call,
        vec![refuse(&[is(0, 1)])],
        "the ring's init is not the agent's",
    )
}

fn scheduler() -> ArgumentRule {
    const RESET_ON_FORK: u32 = 0x4000_0000;
    let policies = [0, 3, 5];
    let mut clauses = vec![refuse(&[is(0, 1)])];
    clauses.extend(policies.map(|policy| allow(&[masked(1, !RESET_ON_FORK, policy)])));
    ArgumentRule {
        call: "sched_setscheduler",
        clauses,
        otherwise: EPERM,
        reason: "real-time classes starve the host",
    }
}
