//! What happens between `clone3` and `exec`: the child builds the ring round itself, forks the
//! agent, and becomes the ring's init.
//!
//! **Invariant:** no allocator runs here. The crate is `no_std` without `alloc`, so a `Vec` or a
//! `format!` does not compile; everything it needs was prepared by `ringd` before the clone and is
//! borrowed through [`Plan`]. Every failure ends the ring and is reported as twelve bytes
//! ([`Failure`]) on a pipe that an `exec` closes.
//!
//! Order of steps (why it is this one is argued at each call):
//! `init`: close the life pipe's writer → wait for the id maps → take the ids → death signal →
//! cgroups → network → mounts → terminal → fork. `agent`: session → streams → limits → capabilities →
//! no_new_privs → close fds → Landlock → seccomp → self-test → exec.
#![no_std]

mod agent;
mod call;
mod init;
mod mounts;
mod network;
mod selftest;
mod terminal;

use core::ffi::{CStr, c_char};

pub use mounts::{EMPTY, Source, Step};
pub use network::DOOR;
pub use selftest::{Expect, Trial};

/// One BPF instruction, laid out as the kernel's `struct sock_filter`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct Insn {
    /// Operation.
    pub code: u16,
    /// Instructions to skip when the test holds.
    pub jt: u8,
    /// Instructions to skip when it does not.
    pub jf: u8,
    /// Operand.
    pub k: u32,
}

/// A raw descriptor that the child inherited by the clone and that stays open until it is used.
pub type Fd = i32;

/// The ids of the agent, the same number inside and outside the user namespace, and never 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ids {
    /// User.
    pub uid: u32,
    /// Group.
    pub gid: u32,
}

/// What a standard stream of the agent is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stream {
    /// The ring's own `/dev/null`.
    Null,
    /// The ring's own terminal.
    Terminal,
    /// This pipe, which belongs to the agent.
    Pipe(Fd),
}

/// What Landlock governs in this ring; zero everywhere means that the layer is off.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Handled {
    /// `LANDLOCK_ACCESS_FS_*`.
    pub fs: u64,
    /// `LANDLOCK_ACCESS_NET_*`.
    pub net: u64,
    /// `LANDLOCK_SCOPE_*`.
    pub scoped: u64,
}

/// Rights beneath one path of the new root.
#[derive(Clone, Copy, Debug)]
pub struct Rule<'a> {
    /// Absolute path in the new root.
    pub path: &'a CStr,
    /// `LANDLOCK_ACCESS_FS_*`, each of them in [`Handled::fs`].
    pub rights: u64,
}

/// One `setrlimit`: soft and hard limit are the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rlimit {
    /// `RLIMIT_*`.
    pub resource: u32,
    /// In the resource's own unit.
    pub value: u64,
}

/// The agent's filter, and where a ring with a single exec wants its secret.
#[derive(Debug)]
pub struct Filter<'a> {
    /// The program. The child patches its own copy of it.
    pub insns: &'a mut [Insn],
    /// Indexes of the instructions that compare the low and the high half of `execveat`'s unused
    /// sixth argument, when the ring allows one exec only.
    pub secret_at: Option<(usize, usize)>,
}

/// An address and a port in the ring's network namespace.
pub type Place = ([u8; 4], u16);

/// A socket of the ring's network namespace that is handed out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Socket {
    /// Listens there.
    Tcp(Place),
    /// Bound there.
    Udp(Place),
    /// Not connected to anything: whoever holds it can reach into the ring with it.
    Free,
}

/// The network that the ring is in.
#[derive(Clone, Copy, Debug)]
pub enum Network<'a> {
    /// Its own, with a loopback only. Where sockets are asked for, 198.18.0.0/15 is local too.
    Own {
        /// Handed out in this order, one message each.
        sockets: &'a [Socket],
    },
    /// The host's: for the one program of ours that carries bytes out.
    Host,
}

/// The pipes between ringd and the ring.
#[derive(Clone, Copy, Debug)]
pub struct Pipes {
    /// Read end of the life pipe: commands, and end-of-file when ringd is gone.
    pub life: Fd,
    /// Its write end, which the child inherited and must close at once.
    pub life_writer: Fd,
    /// Write end: the main process's wait status, four bytes.
    pub status: Fd,
    /// Write end, close-on-exec: a [`Failure`].
    pub errors: Fd,
    /// A Unix socket on which the ring's terminal is handed out; -1 when there is none.
    pub terminal: Fd,
    /// A Unix socket on which the ring's network sockets are handed out; -1 when there are none.
    pub sockets: Fd,
}

/// Everything the child needs, prepared before the clone.
#[derive(Debug)]
pub struct Plan<'a> {
    /// Whom the agent runs as.
    pub ids: Ids,
    /// Host name inside.
    pub hostname: &'a CStr,
    /// cgroup v1 `tasks` files, open for writing.
    pub tasks: &'a [Fd],
    /// The network that it is in.
    pub network: Network<'a>,
    /// Whether a Unix socket is bound at [`DOOR`] when the root stands, and handed out after the
    /// network's; the mount that holds it, which the steps must have made, is then closed.
    pub door: bool,
    /// How the new root is built.
    pub steps: &'a [Step<'a>],
    /// What Landlock governs.
    pub handled: Handled,
    /// What it allows.
    pub rules: &'a [Rule<'a>],
    /// The agent's system-call filter.
    pub filter: Filter<'a>,
    /// The filter of the ring's init.
    pub init_filter: &'a [Insn],
    /// Resource limits.
    pub rlimits: &'a [Rlimit],
    /// Standard input, output, error.
    pub streams: [Stream; 3],
    /// A connected socket that the program finds as descriptor 3; -1 when there is none.
    pub connected: Fd,
    /// Working directory, absolute in the new root.
    pub cwd: &'a CStr,
    /// Program, absolute in the new root.
    pub program: &'a CStr,
    /// NULL-terminated.
    pub argv: &'a [*const c_char],
    /// NULL-terminated.
    pub envp: &'a [*const c_char],
    /// What must fail before the agent may start.
    pub trials: &'a [Trial<'a>],
    /// The pipes to ringd.
    pub pipes: Pipes,
}

/// Where the child was when it failed. The numbers travel on the error pipe.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u16)]
#[expect(missing_docs, reason = "each name is the step itself")]
pub enum Stage {
    Maps = 1,
    Ids,
    DeathSignal,
    Cgroup,
    Hostname,
    Loopback,
    Mount,
    Pivot,
    Terminal,
    Fork,
    Session,
    Streams,
    Rlimit,
    Capabilities,
    NoNewPrivs,
    CloseFds,
    LandlockRuleset,
    LandlockRule,
    LandlockEnforce,
    WorkingDirectory,
    Secret,
    Seccomp,
    SelfTest,
    Exec,
    InitSetup,
    Socket,
    Door,
}

impl Stage {
    /// All stages, in the order of their numbers.
    pub const ALL: [Stage; 27] = [
        Stage::Maps,
        Stage::Ids,
        Stage::DeathSignal,
        Stage::Cgroup,
        Stage::Hostname,
        Stage::Loopback,
        Stage::Mount,
        Stage::Pivot,
        Stage::Terminal,
        Stage::Fork,
        Stage::Session,
        Stage::Streams,
        Stage::Rlimit,
        Stage::Capabilities,
        Stage::NoNewPrivs,
        Stage::CloseFds,
        Stage::LandlockRuleset,
        Stage::LandlockRule,
        Stage::LandlockEnforce,
        Stage::WorkingDirectory,
        Stage::Secret,
        Stage::Seccomp,
        Stage::SelfTest,
        Stage::Exec,
        Stage::InitSetup,
        Stage::Socket,
        Stage::Door,
    ];
}

/// The last words of a child that could not build its ring.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Failure {
    /// Where.
    pub stage: Stage,
    /// Which of the stage's items (mount step, rule, rlimit, trial), counted from 0.
    pub index: u16,
    /// The kernel's reason; 0 where a self-test found something possible that must not be.
    pub errno: i32,
}

impl Failure {
    /// Bytes on the pipe: stage, index (both u16) and errno (i32), little-endian.
    pub const LEN: usize = 8;

    pub(crate) fn to_bytes(self) -> [u8; Self::LEN] {
        let [a, b] = (self.stage as u16).to_le_bytes();
        let [c, d] = self.index.to_le_bytes();
        let [e, f, g, h] = self.errno.to_le_bytes();
        [a, b, c, d, e, f, g, h]
    }

    /// Reads what [`enter`] wrote; `None` when it is not a failure of this version.
    #[must_use]
    pub fn from_bytes([a, b, c, d, e, f, g, h]: [u8; Self::LEN]) -> Option<Self> {
        let number = u16::from_le_bytes([a, b]);
        let stage = Stage::ALL
            .into_iter()
            .find(|stage| *stage as u16 == number)?;
        let index = u16::from_le_bytes([c, d]);
        Some(Self {
            stage,
            index,
            errno: i32::from_le_bytes([e, f, g, h]),
        })
    }
}

/// Build the ring, fork the agent into it, and stay as the ring's init. Never returns.
///
/// # Safety
///
/// The caller is a freshly cloned child: one thread, in new user, mount, pid, network, ipc, uts and
/// cgroup namespaces, as the first process of its pid namespace. `argv` and `envp` end in NULL and
/// point to NUL-terminated strings; the descriptors of the plan are open and owned by nobody else.
pub unsafe fn enter(plan: &mut Plan<'_>) -> ! {
    init::enter(plan)
}
