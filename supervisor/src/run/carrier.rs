//! The ring of agt-egress: this very program under another name, in the host's network and with
//! nothing else. It holds no file, no key and no other socket, and can start no other program.

use std::ffi::CString;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;

use plan::filter::{Exec, FilterSpec, Sockets};
use plan::syscalls::{SyscallSet, by_name};
use plan::{FdRole, Launch, Network, Rule, Source, Step, Stream, Trial};
use sys::landlock::fs as right;
use sys::mount::{NODEV, NOEXEC, NOSUID, RDONLY};

use super::grant::Grant;
use super::ids::Identity;
use super::probe::Layers;
use super::root::CANARY;

/// The name under which [`crate::main`] becomes agt-egress.
pub(crate) const EGRESS_NAME: &str = "agt-egress";
const PROGRAM: &str = "/agt-egress";

/// A static program draws its random numbers from the last two.
const DEVICES: [&str; 3] = ["null", "random", "urandom"];

/// What it may ask of the kernel: sockets, time, memory for its buffers, and what the self-test needs
/// (files are Landlock's to refuse).
const CALLS: &[&str] = &[
    "accept4",
    "arch_prctl",
    "bind",
    "brk",
    "capget",
    "clock_gettime",
    "clock_nanosleep",
    "close",
    "connect",
    "dup",
    "epoll_create1",
    "epoll_ctl",
    "epoll_pwait",
    "epoll_wait",
    "eventfd2",
    "execveat",
    "exit",
    "exit_group",
    "fcntl",
    "fstat",
    "futex",
    "geteuid",
    "getpeername",
    "getpid",
    "getrandom",
    "getsockname",
    "getsockopt",
    "gettid",
    "ioctl",
    "listen",
    "madvise",
    "mmap",
    "mprotect",
    "mremap",
    "munmap",
    "nanosleep",
    "newfstatat",
    "open",
    "openat",
    "pipe2",
    "poll",
    "prctl",
    "prlimit64",
    "read",
    "readv",
    "recvfrom",
    "recvmsg",
    "rseq",
    "rt_sigaction",
    "rt_sigprocmask",
    "rt_sigreturn",
    "sched_getaffinity",
    "sched_yield",
    "sendmsg",
    "sendto",
    "set_robust_list",
    "set_tid_address",
    "setsockopt",
    "shutdown",
    "sigaltstack",
    "socket",
    "splice",
    "tgkill",
    "timerfd_create",
    "write",
    "writev",
];

/// Its memory: buffers of at most 1,024 connections. Kept by the kernel on all data of the process.
const DATA_BYTES: u64 = 512 << 20;
/// Two ends of each connection and the pipes between them.
const FILES: u64 = 8192;

/// The plan of its ring, and the tree of its program where only root can walk to it.
pub(crate) fn plan(identity: &Identity, layers: &Layers) -> io::Result<(Launch, Option<OwnedFd>)> {
    let exe = std::env::current_exe()?.canonicalize()?;
    let (source, tree) = program(&exe)?;
    let text = |text: &str| CString::new(text).map_err(io::Error::other);
    let empty_file = |target: CString| Step::File {
        target,
        content: Vec::new(),
        mode: 0o444,
    };
    let mut steps = vec![
        empty_file(text(CANARY.trim_start_matches('/'))?),
        empty_file(text("agt-egress")?),
        Step::Tree {
            target: text("agt-egress")?,
            source,
            attributes: RDONLY | NOSUID | NODEV,
        },
        Step::Dir {
            target: text("dev")?,
            mode: 0o755,
        },
    ];
    let mut rules = vec![Rule {
        path: text(PROGRAM)?,
        rights: right::EXECUTE | right::READ_FILE,
    }];
    for name in DEVICES {
        let path = Path::new("/dev").join(name);
        let source = Grant::identify(&path, &path.symlink_metadata()?)?;
        let target = text(&format!("dev/{name}"))?;
        steps.push(empty_file(target.clone()));
        steps.push(Step::Tree {
            target,
            source,
            attributes: RDONLY | NOSUID | NOEXEC,
        });
        rules.push(Rule {
            path: text(&format!("/dev/{name}"))?,
            rights: right::READ_FILE | right::WRITE_FILE,
        });
    }
    steps.push(Step::ReadOnly { target: text(".")? });
    let mut fds = vec![FdRole::Stream(0)];
    fds.extend(tree.as_ref().map(|_| FdRole::Tree));
    let launch = Launch {
        fds,
        uid: identity.uid,
        gid: identity.gid,
        hostname: text(EGRESS_NAME)?,
        network: Network::Host,
        door: false,
        steps,
        // Which addresses it may connect to is its own to decide; files are not.
        handled: [layers.handled.fs, 0, layers.handled.scoped],
        rules,
        filter: filter(),
        rlimits: rlimits(),
        streams: [Stream::Pipe, Stream::Null, Stream::Null],
        window: (0, 0),
        cwd: text("/")?,
        program: text(PROGRAM)?,
        argv: vec![text(EGRESS_NAME)?],
        envp: Vec::new(),
        trials: trials(layers)?,
        watched_memory: 0,
        last_call_ms: 0,
    };
    Ok((launch, tree))
}

/// Everything that goes along with the plan, in its order.
pub(crate) fn descriptors<'a>(
    socket: &'a OwnedFd,
    tree: Option<&'a OwnedFd>,
) -> Vec<BorrowedFd<'a>> {
    [Some(socket), tree]
        .into_iter()
        .flatten()
        .map(AsFd::as_fd)
        .collect()
}

fn program(exe: &Path) -> io::Result<(Source, Option<OwnedFd>)> {
    let grant = Grant::find(exe, false).map_err(io::Error::other)?;
    if !rustix::process::geteuid().is_root() {
        return Ok((grant.source(), None));
    }
    let meta = exe.metadata()?;
    if meta.permissions().mode() & 0o005 != 0o005 {
        let what = format!(
            "{} must be readable and executable for everybody (it has mode {:o})",
            exe.display(),
            meta.mode() & 0o7777
        );
        return Err(io::Error::other(what));
    }
    let tree = sys::mount::clone_tree(grant.open()?.as_fd())?;
    Ok((Source::Detached(0), Some(tree)))
}

fn filter() -> FilterSpec {
    let allowed: SyscallSet = CALLS.iter().filter_map(|name| by_name(name)).collect();
    FilterSpec {
        allowed,
        exec: Exec::Once,
        sockets: Sockets {
            unix: false,
            inet: true,
            netlink_route: false,
        },
    }
}

/// The kernel's numbers (asm-generic/resource.h).
fn rlimits() -> Vec<(u32, u64)> {
    use rustix::process::{Resource, getrlimit};
    let most = getrlimit(Resource::Nofile).maximum.unwrap_or(FILES);
    vec![
        (1, 0),
        (2, DATA_BYTES),
        (4, 0),
        // Its init is one of them.
        (6, 2),
        (7, FILES.min(most)),
        (8, 0),
    ]
}

/// What must fail before it may begin.
fn trials(layers: &Layers) -> io::Result<Vec<Trial>> {
    const EPERM: i32 = 1;
    const EACCES: i32 = 13;
    const EROFS: i32 = 30;
    let path = |path: &str| CString::new(path.as_bytes()).map_err(io::Error::other);
    let call =
        |name: &str, args: [u64; 5]| by_name(name).map(|nr| Trial::Call(nr.0, args, Some(EPERM)));
    let mut trials = vec![
        Trial::Privilege,
        Trial::Create(path("/agt-self-test")?, Some(EROFS)),
        Trial::Read(path("/etc/shadow")?, None),
    ];
    if layers.handled.fs != 0 {
        trials.push(Trial::Read(path(CANARY)?, Some(EACCES)));
    }
    // A Unix socket, another program, another process.
    let unix = by_name("socket").map(|nr| Trial::Call(nr.0, [1, 1, 0, 0, 0], None));
    trials.extend(unix);
    trials.extend(call("execve", [0; 5]));
    trials.extend(call("clone", [17, 0, 0, 0, 0]));
    Ok(trials)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_call_is_one() {
        for name in CALLS {
            assert!(by_name(name).is_some(), "{name}");
        }
    }
}
