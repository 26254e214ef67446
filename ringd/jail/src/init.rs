//! The ring's init: pid 1 inside. It builds the ring, forks the agent, reaps, and by its own death
//! ends every process of the ring (pid_namespaces(7)).

use libc::{c_int, c_long};

use crate::call::{self, Errno};
use crate::{Failure, Fd, Plan, Stage, agent, mounts, network, terminal};

/// Ends the ring with its last words.
pub(crate) fn fail(errors: Fd, stage: Stage, index: usize, errno: Errno) -> ! {
    let index = u16::try_from(index).unwrap_or(u16::MAX);
    // When even this cannot be written, ringd sees the ring end before its agent began.
    let _unheard = call::write(
        errors,
        &Failure {
            stage,
            index,
            errno,
        }
        .to_bytes(),
    );
    die()
}

pub(crate) fn die() -> ! {
    // SAFETY: _exit ends the process at once and runs nothing of it.
    unsafe { libc::_exit(127) }
}

pub(crate) fn enter(plan: &mut Plan<'_>) -> ! {
    let errors = plan.pipes.errors;
    let need = |stage, result: Result<(), Errno>| {
        if let Err(errno) = result {
            fail(errors, stage, 0, errno);
        }
    };
    // Our copy of the writer would keep the life pipe open after ringd is gone.
    call::close(plan.pipes.life_writer);
    // ringd writes the id maps and then one byte; end-of-file means that it is gone.
    match call::read_byte(plan.pipes.life) {
        Ok(Some(_)) => {}
        Ok(None) => die(),
        Err(errno) => fail(errors, Stage::Maps, 0, errno),
    }
    need(Stage::Ids, take_ids(plan));
    // After the last change of ids, which would clear it (prctl(2)).
    need(Stage::DeathSignal, die_with_ringd(plan.pipes.life));
    for (index, tasks) in plan.tasks.iter().enumerate() {
        // A task that moves itself needs no lock of the whole group: 0.1 ms, not 10.
        if let Err(errno) = call::write(*tasks, b"0") {
            fail(errors, Stage::Cgroup, index, errno);
        }
    }
    // Only now: the namespace shows the groups that its maker is in as its root.
    let own = libc::c_long::from(libc::CLONE_NEWCGROUP);
    need(
        Stage::Cgroup,
        call::plain(libc::SYS_unshare, [own, 0, 0, 0, 0]).map(drop),
    );
    need(Stage::Hostname, set_hostname(plan.hostname));
    if let Err((stage, index, errno)) = network::build(plan.network, plan.pipes.sockets) {
        fail(errors, stage, index, errno);
    }
    if let Err((stage, index, errno)) = mounts::build(plan.steps) {
        fail(errors, stage, index, errno);
    }
    if plan.door {
        need(Stage::Door, network::door(plan.pipes.sockets));
    }
    if plan.pipes.sockets >= 0 {
        call::close(plan.pipes.sockets);
    }
    let slave = match terminal::open(plan.pipes.terminal) {
        Ok(slave) => slave,
        Err(errno) => fail(errors, Stage::Terminal, 0, errno),
    };
    // Before the fork: both processes of it want it empty, and what they still hold is dropped after.
    need(Stage::Capabilities, call::drop_bounding());
    need(Stage::Fork, block_child_signal());
    match fork() {
        Ok(0) => agent::enter(plan, slave),
        Ok(main) => stay(plan, main),
        Err(errno) => fail(errors, Stage::Fork, 0, errno),
    }
}

fn take_ids(plan: &Plan<'_>) -> Result<(), Errno> {
    let (uid, gid) = (c_long::from(plan.ids.uid), c_long::from(plan.ids.gid));
    call::plain(libc::SYS_setresgid, [gid, gid, gid, 0, 0])?;
    call::plain(libc::SYS_setresuid, [uid, uid, uid, 0, 0])?;
    Ok(())
}

fn die_with_ringd(life: Fd) -> Result<(), Errno> {
    call::prctl(libc::PR_SET_PDEATHSIG, [libc::SIGKILL.into(), 0, 0, 0])?;
    // ringd may have died before the signal was asked for: then the pipe has hung up.
    let mut poll = libc::pollfd {
        fd: life,
        events: 0,
        revents: 0,
    };
    // SAFETY: one pollfd is readable and writable for the call.
    call::check_int(unsafe { libc::poll(&raw mut poll, 1, 0) })?;
    if poll.revents & libc::POLLHUP != 0 {
        die();
    }
    Ok(())
}

fn set_hostname(name: &core::ffi::CStr) -> Result<(), Errno> {
    // SAFETY: the pointer is readable for the length given.
    call::check_int(unsafe { libc::sethostname(name.as_ptr(), name.count_bytes()) }).map(drop)
}

fn block_child_signal() -> Result<(), Errno> {
    let mask: u64 = 1 << (libc::SIGCHLD - 1);
    set_mask(mask)
}

/// Sets the signal mask by the raw call, whose set is one 64-bit word.
pub(crate) fn set_mask(mask: u64) -> Result<(), Errno> {
    // SAFETY: the kernel reads eight bytes at the first pointer and writes nothing.
    let rc = unsafe {
        libc::syscall(
            libc::SYS_rt_sigprocmask,
            libc::SIG_SETMASK,
            &raw const mask,
            core::ptr::null_mut::<u64>(),
            size_of::<u64>(),
        )
    };
    call::check(rc).map(drop)
}

fn fork() -> Result<c_long, Errno> {
    // Not libc's fork: that runs handlers and takes locks.
    // SAFETY: without CLONE_VM the child has its own copy of this single-threaded process.
    let rc = unsafe { libc::syscall(libc::SYS_clone, c_long::from(libc::SIGCHLD), 0, 0, 0, 0) };
    call::check(rc)
}

const LIFE: Fd = 3;
const STATUS: Fd = 4;
const CHILD: Fd = 5;

/// Life after the fork: reap, pass signals on, end with the main process or with ringd.
fn stay(plan: &Plan<'_>, main: c_long) -> ! {
    if let Err(errno) = harden(plan) {
        fail(plan.pipes.errors, Stage::InitSetup, 0, errno);
    }
    loop {
        let mut polls = [
            libc::pollfd {
                fd: LIFE,
                events: libc::POLLIN,
                revents: 0,
            },
            libc::pollfd {
                fd: CHILD,
                events: libc::POLLIN,
                revents: 0,
            },
        ];
        // SAFETY: two pollfds are readable and writable for the call.
        if unsafe { libc::poll(polls.as_mut_ptr(), 2, -1) } < 0 {
            continue;
        }
        let [life, child] = polls;
        if life.revents != 0 {
            match call::read_byte(LIFE) {
                Ok(Some(signal)) => {
                    // SAFETY: kill(2) takes numbers only; -1 is everything here but ourselves.
                    unsafe { libc::kill(-1, c_int::from(signal)) };
                }
                // ringd is gone, and the ring goes with it.
                Ok(None) => die(),
                Err(libc::EINTR | libc::EAGAIN) => {}
                Err(_) => die(),
            }
        }
        if child.revents != 0 {
            reap(main);
        }
    }
}

fn reap(main: c_long) {
    let mut drained = [0_u8; 128];
    // SAFETY: signalfd_siginfo is 128 bytes, and so many are writable.
    unsafe { libc::read(CHILD, drained.as_mut_ptr().cast(), drained.len()) };
    loop {
        let mut status: c_int = 0;
        // SAFETY: status is a writable int; rusage is not asked for.
        let pid = unsafe { libc::waitpid(-1, &raw mut status, libc::WNOHANG) };
        if pid <= 0 {
            return;
        }
        if c_long::from(pid) == main {
            // When ringd cannot be told it is gone, and dying is right all the same.
            let _unheard = call::write(STATUS, &status.to_le_bytes());
            die();
        }
    }
}

/// Nothing of the ring may use its init: no fds but three, no core or ptrace, no capability, a
/// Landlock domain beside the agent's, and a filter of a dozen calls.
fn harden(plan: &Plan<'_>) -> Result<(), Errno> {
    let mask: u64 = 1 << (libc::SIGCHLD - 1);
    // SAFETY: the kernel reads eight bytes of mask.
    let child = call::check(unsafe {
        libc::syscall(
            libc::SYS_signalfd4,
            -1,
            &raw const mask,
            size_of::<u64>(),
            libc::SFD_CLOEXEC | libc::SFD_NONBLOCK,
        )
    })?;
    let child = Fd::try_from(child).map_err(|_| libc::EBADF)?;
    // Far above first, so that no dup2 lands on a number that is still needed.
    let lift = |fd: Fd| {
        let rc = call::plain(libc::SYS_fcntl, [fd.into(), libc::F_DUPFD.into(), 64, 0, 0])?;
        Fd::try_from(rc).map_err(|_| libc::EBADF)
    };
    let (life, status, child) = (
        lift(plan.pipes.life)?,
        lift(plan.pipes.status)?,
        lift(child)?,
    );
    call::dup_to(life, LIFE)?;
    call::dup_to(status, STATUS)?;
    call::dup_to(child, CHILD)?;
    call::close_from(6, 0)?;
    for stream in 0..3 {
        call::close(stream);
    }
    call::prctl(libc::PR_SET_DUMPABLE, [0, 0, 0, 0])?;
    call::drop_capabilities()?;
    call::no_new_privs()?;
    if plan.handled.fs != 0 {
        // Without the scopes: passing signals on to the agent's domain is what init is for.
        let handled = crate::Handled {
            scoped: 0,
            ..plan.handled
        };
        let ruleset = call::landlock_ruleset(handled)?;
        call::landlock_enforce(ruleset)?;
        call::close(ruleset);
    }
    call::seccomp(plan.init_filter)
}
