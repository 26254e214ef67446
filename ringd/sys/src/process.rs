//! Birth of a ring: `clone3` into new namespaces.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use jail::Plan;

use crate::check;

/// A cloned ring: its init.
#[derive(Debug)]
pub struct Cloned {
    /// Pid as the caller's namespace sees it.
    pub pid: u32,
    /// Refers to that very process, whatever becomes of the number.
    pub pidfd: OwnedFd,
}

const NAMESPACES: i32 = libc::CLONE_NEWUSER
    | libc::CLONE_NEWNS
    | libc::CLONE_NEWPID
    | libc::CLONE_NEWIPC
    | libc::CLONE_NEWUTS;

/// struct clone_args of Linux 5.7 (clone(2)).
#[repr(C)]
#[derive(Default)]
struct CloneArgs {
    flags: u64,
    pidfd: u64,
    child_tid: u64,
    parent_tid: u64,
    exit_signal: u64,
    stack: u64,
    stack_size: u64,
    tls: u64,
    set_tid: u64,
    set_tid_size: u64,
    cgroup: u64,
}

/// Clones the first process of a ring, which builds it as `plan` says (`jail::enter`).
///
/// # Safety
/// The calling process has exactly one thread, and `plan` fulfils the contract of `jail::enter`.
///
/// # Errors
/// What `clone3` says: `EPERM` or `ENOSPC` where user namespaces are not to be had, `EAGAIN` at a
/// process limit.
pub unsafe fn clone_ring(
    plan: &mut Plan<'_>,
    cgroup: Option<BorrowedFd<'_>>,
) -> io::Result<Cloned> {
    let mut pidfd: i32 = -1;
    let network = match plan.network {
        jail::Network::Own { .. } => libc::CLONE_NEWNET,
        jail::Network::Host => 0,
    };
    let mut flags = u64::from((NAMESPACES | network | libc::CLONE_PIDFD).unsigned_abs());
    let mut args = CloneArgs {
        pidfd: (&raw mut pidfd).addr() as u64,
        exit_signal: u64::from(libc::SIGCHLD.unsigned_abs()),
        ..CloneArgs::default()
    };
    if let Some(cgroup) = cgroup {
        const CLONE_INTO_CGROUP: u64 = 0x2_0000_0000;
        flags |= CLONE_INTO_CGROUP;
        args.cgroup = u64::from(cgroup.as_raw_fd().unsigned_abs());
    }
    args.flags = flags;
    (&raw mut pidfd).expose_provenance();
    // SAFETY: args has the layout and size of struct clone_args; without CLONE_VM the child gets
    // its own copy of this process, and the kernel writes one int at `pidfd` in the parent.
    let rc = unsafe { libc::syscall(libc::SYS_clone3, &raw const args, size_of::<CloneArgs>()) };
    let pid = u32::try_from(check(rc)?).map_err(io::Error::other)?;
    if pid == 0 {
        // SAFETY: this is the fresh child, and the caller vouches for the plan.
        unsafe { jail::enter(plan) }
    }
    // SAFETY: the kernel just stored this descriptor and nothing else owns it.
    let pidfd = unsafe { OwnedFd::from_raw_fd(pidfd) };
    Ok(Cloned { pid, pidfd })
}

/// What a collected process used, its own collected children included (getrusage(2)).
#[derive(Clone, Copy, Debug, Default)]
pub struct Usage {
    /// Processor time in microseconds.
    pub cpu_us: u64,
    /// Largest resident set of any of them, in bytes.
    pub largest_rss: u64,
}

/// Collects an ended child and what it used. Blocks until it has ended.
///
/// # Errors
/// `ECHILD` when it is not a child of this process or was collected already.
pub fn collect(pid: u32) -> io::Result<Usage> {
    let pid = libc::pid_t::try_from(pid).map_err(io::Error::other)?;
    // SAFETY: rusage is a plain struct for which all-zero is a valid value.
    let mut usage: libc::rusage = unsafe { std::mem::zeroed() };
    loop {
        // SAFETY: status may be null; usage is writable.
        let rc = unsafe { libc::wait4(pid, std::ptr::null_mut(), 0, &raw mut usage) };
        match check(rc.into()) {
            Ok(_) => break,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    let micros = |time: libc::timeval| {
        u64::try_from(time.tv_sec).unwrap_or(0) * 1_000_000
            + u64::try_from(time.tv_usec).unwrap_or(0)
    };
    Ok(Usage {
        cpu_us: micros(usage.ru_utime) + micros(usage.ru_stime),
        largest_rss: u64::try_from(usage.ru_maxrss).unwrap_or(0) * 1024,
    })
}

/// A user namespace in which one host user and group go by other numbers: `from` inside is `to`
/// outside. It is what an id-mapped mount takes (mount_setattr(2)).
///
/// # Errors
/// What `clone3` or the writing of the maps says.
pub fn mapped_namespace(from: jail::Ids, to: jail::Ids) -> io::Result<OwnedFd> {
    let args = CloneArgs {
        flags: u64::from(libc::CLONE_NEWUSER.unsigned_abs()),
        exit_signal: u64::from(libc::SIGCHLD.unsigned_abs()),
        ..CloneArgs::default()
    };
    // SAFETY: args has the layout and size of struct clone_args; the child gets its own copy of
    // this process and only makes the two raw calls below, so other threads' locks do not matter.
    let rc = unsafe { libc::syscall(libc::SYS_clone3, &raw const args, size_of::<CloneArgs>()) };
    let pid = u32::try_from(check(rc)?).map_err(io::Error::other)?;
    if pid == 0 {
        // SAFETY: takes numbers only. The parent may die before it kills us, hence the signal.
        unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) };
        loop {
            // SAFETY: pause takes no argument.
            unsafe { libc::pause() };
        }
    }
    let child = libc::pid_t::try_from(pid).map_err(io::Error::other)?;
    let write = |name: &str, from: u32, to: u32| {
        std::fs::write(format!("/proc/{pid}/{name}"), format!("{from} {to} 1"))
    };
    let namespace = write("uid_map", from.uid, to.uid)
        .and_then(|()| write("gid_map", from.gid, to.gid))
        .and_then(|()| std::fs::File::open(format!("/proc/{pid}/ns/user")));
    // SAFETY: kill takes numbers only; the pid is our uncollected child's.
    unsafe { libc::kill(child, libc::SIGKILL) };
    collect(pid)?;
    namespace.map(OwnedFd::from)
}
