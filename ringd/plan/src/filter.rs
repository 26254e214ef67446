//! The seccomp filter of a ring: from a set of calls and the argument rules to BPF (seccomp(2)).
//!
//! The order is fixed: architecture, then the x32 bit, then a balanced search over runs of numbers
//! with the same answer, then the argument rules of the one call. Arguments are compared by their
//! low 32 bits, as the kernel reads an `int`, so that a set high bit changes nothing.

mod assemble;
mod rules;

pub use jail::Insn;
pub use rules::{ArgumentRule, Clause, Test, Within, argument_rules};

use crate::syscalls::{self, Nr, SyscallSet};
use assemble::Assembler;

/// How often the ring may become another program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exec {
    /// As often as it likes.
    Any,
    /// Once: only the call that carries the secret which the jail draws.
    Once,
}

/// Which sockets the ring may make. Pairs without a name (`socketpair`) are always possible.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sockets {
    /// Unix sockets.
    pub unix: bool,
    /// TCP and UDP, version 4 and 6.
    pub inet: bool,
    /// Reading routes and addresses.
    pub netlink_route: bool,
}

/// What a ring's filter is made from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FilterSpec {
    /// Calls that are answered by the kernel, the argument rules permitting. What no ring has is
    /// taken out here again, whoever wrote the set.
    pub allowed: SyscallSet,
    /// How often it may exec.
    pub exec: Exec,
    /// Which sockets it may make.
    pub sockets: Sockets,
}

/// What a filter answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The kernel goes on.
    Allow,
    /// The call fails with this number.
    Errno(u16),
    /// The process is killed.
    Kill,
}

pub(crate) const EPERM: Verdict = Verdict::Errno(1);
pub(crate) const EINVAL: Verdict = Verdict::Errno(22);
pub(crate) const ENOSYS: Verdict = Verdict::Errno(38);
pub(crate) const EAFNOSUPPORT: Verdict = Verdict::Errno(97);

/// A compiled filter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Program {
    /// Instructions, ready for the kernel.
    pub insns: Vec<Insn>,
    /// Where the jail writes the low and the high half of its secret.
    pub secret_at: Option<(usize, usize)>,
}

/// Stands where the jail's secret goes; a filter that still holds it is never installed.
const NO_SECRET: [u32; 2] = [0x5ec2_e70f, 0xa97c_0de5];

/// How one number is answered.
#[derive(Clone, PartialEq)]
enum Answer {
    Plain(Verdict),
    ByArguments(ArgumentRule),
    Secret,
}

fn answer(spec: &FilterSpec, nr: Nr) -> Answer {
    let Some(name) = syscalls::name(nr) else {
        return Answer::Plain(ENOSYS);
    };
    if syscalls::UNSEEN.contains(&name) {
        return Answer::Plain(ENOSYS);
    }
    if syscalls::always_refused().contains(nr) {
        return Answer::Plain(EPERM);
    }
    match (spec.exec, name) {
        (Exec::Once, "execve") => return Answer::Plain(EPERM),
        (Exec::Once, "execveat") => return Answer::Secret,
        _ => {}
    }
    if !spec.allowed.contains(nr) {
        return Answer::Plain(EPERM);
    }
    match rules::rule(name, spec.sockets) {
        Some(rule) => Answer::ByArguments(rule),
        None => Answer::Plain(Verdict::Allow),
    }
}

/// The answer to one call, worked out plainly: the specification that [`compile`] is held to, and
/// what `explain` says. The secret of a single exec is not known to it: such a call is refused.
#[must_use]
pub fn verdict(spec: &FilterSpec, nr: Nr, args: [u64; 6]) -> Verdict {
    match answer(spec, nr) {
        Answer::Plain(verdict) => verdict,
        Answer::ByArguments(rule) => rule.verdict(args),
        Answer::Secret => EPERM,
    }
}

const AUDIT_ARCH_X86_64: u32 = 0xc000_003e;
const X32_BIT: u32 = 0x4000_0000;

/// Compiles a ring's filter.
#[must_use]
pub fn compile(spec: &FilterSpec) -> Program {
    let runs = runs(|nr| answer(spec, nr));
    let mut asm = Assembler::default();
    let mut secret = None;
    let mut starts = Vec::new();
    for (first, answer) in runs {
        let label = match answer {
            Answer::Plain(verdict) => asm.leaf(verdict),
            Answer::ByArguments(rule) => asm.rule(&rule),
            Answer::Secret => {
                let (label, at) = asm.secret(NO_SECRET);
                secret = Some(at);
                label
            }
        };
        starts.push((first, label));
    }
    let root = asm.search(&starts);
    asm.prologue(root, AUDIT_ARCH_X86_64, X32_BIT);
    let length = asm.len();
    // Counted from the end while assembling.
    let from_start = |at: usize| length - 1 - at;
    let secret_at = secret.map(|(low, high)| (from_start(low), from_start(high)));
    Program {
        insns: asm.finish(),
        secret_at,
    }
}

/// Neighbouring numbers with the same answer, each run by its first number. Beyond the table the
/// answer is that of an unknown call.
fn runs(answer: impl Fn(Nr) -> Answer) -> Vec<(u16, Answer)> {
    let mut runs: Vec<(u16, Answer)> = Vec::new();
    for number in 0..syscalls::NUMBERS {
        let next = answer(Nr(number));
        if runs.last().is_none_or(|(_, last)| *last != next) {
            runs.push((number, next));
        }
    }
    runs
}

/// What the ring's init needs once it stands: a dozen calls, and death for any other.
const INIT: [&str; 14] = [
    "read",
    "write",
    "close",
    "poll",
    "ppoll",
    "wait4",
    "waitid",
    "kill",
    "exit",
    "exit_group",
    "rt_sigreturn",
    "restart_syscall",
    "rt_sigprocmask",
    "sched_yield",
];

/// The filter of the ring's init.
#[must_use]
pub fn init_filter() -> Program {
    let allowed: SyscallSet = INIT
        .iter()
        .filter_map(|name| syscalls::by_name(name))
        .collect();
    let runs = runs(|nr| {
        Answer::Plain(if allowed.contains(nr) {
            Verdict::Allow
        } else {
            Verdict::Kill
        })
    });
    let mut asm = Assembler::default();
    let mut starts = Vec::new();
    for (first, answer) in runs {
        if let Answer::Plain(verdict) = answer {
            starts.push((first, asm.leaf(verdict)));
        }
    }
    let root = asm.search(&starts);
    asm.prologue(root, AUDIT_ARCH_X86_64, X32_BIT);
    Program {
        insns: asm.finish(),
        secret_at: None,
    }
}

#[cfg(test)]
mod tests;
