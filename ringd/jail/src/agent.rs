//! The agent's own last steps: each takes something away, and then it becomes the program.

use core::ffi::c_long;

use crate::call::{self, Errno};
use crate::init::{fail, set_mask};
use crate::{Fd, Plan, Stage, Stream, selftest};

/// Where a program finds its connected socket.
const CONNECTED: Fd = 3;

pub(crate) fn enter(plan: &mut Plan<'_>, slave: Fd) -> ! {
    let errors = plan.pipes.errors;
    let need = |stage, result: Result<(), Errno>| {
        if let Err(errno) = result {
            fail(errors, stage, 0, errno);
        }
    };
    need(Stage::Session, session(slave));
    need(Stage::Streams, streams(plan, slave));
    for (index, limit) in plan.rlimits.iter().enumerate() {
        let value = libc::rlimit {
            rlim_cur: limit.value,
            rlim_max: limit.value,
        };
        // SAFETY: setrlimit reads one rlimit.
        if unsafe { libc::setrlimit(limit.resource, &raw const value) } < 0 {
            fail(errors, Stage::Rlimit, index, call::last());
        }
    }
    need(Stage::Capabilities, call::drop_capabilities());
    need(Stage::NoNewPrivs, call::no_new_privs());
    need(
        Stage::CloseFds,
        call::close_from(3, libc::CLOSE_RANGE_CLOEXEC),
    );
    if plan.connected >= 0 {
        // Every other descriptor from here on is closed by the exec.
        need(Stage::CloseFds, call::dup_to(plan.connected, CONNECTED));
    }
    landlock(plan);
    // After Landlock, so that a working directory outside the grants is found now.
    // SAFETY: the path is NUL-terminated by its type.
    need(
        Stage::WorkingDirectory,
        call::check_int(unsafe { libc::chdir(plan.cwd.as_ptr()) }).map(drop),
    );
    let secret = match secret(plan) {
        Ok(secret) => secret,
        Err(errno) => fail(errors, Stage::Secret, 0, errno),
    };
    need(Stage::Seccomp, call::seccomp(plan.filter.insns));
    for (index, trial) in plan.trials.iter().enumerate() {
        if let Err(errno) = selftest::run(trial) {
            fail(errors, Stage::SelfTest, index, errno);
        }
    }
    fail(errors, Stage::Exec, 0, exec(plan, secret))
}

/// An own session, the ring's terminal as its terminal, and signals as a new program expects them.
fn session(slave: Fd) -> Result<(), Errno> {
    call::plain(libc::SYS_setsid, [0; 5])?;
    if slave >= 0 {
        // SAFETY: TIOCSCTTY takes a number.
        call::check_int(unsafe { libc::ioctl(slave, libc::TIOCSCTTY, 0) })?;
    }
    for signal in 1..=64 {
        // KILL and STOP refuse, and so do the two numbers that libc keeps; nothing to undo there.
        // SAFETY: SIG_DFL installs no handler of ours.
        unsafe { libc::signal(signal, libc::SIG_DFL) };
    }
    // SAFETY: umask takes a number and cannot fail.
    unsafe { libc::umask(0o022) };
    set_mask(0)
}

fn streams(plan: &Plan<'_>, slave: Fd) -> Result<(), Errno> {
    let null = call::open(c"/dev/null", libc::O_RDWR, 0)?;
    // Out of the way of 0, 1 and 2, which are overwritten one after the other.
    let lift = |fd: Fd| {
        let rc = call::plain(
            libc::SYS_fcntl,
            [fd.into(), libc::F_DUPFD_CLOEXEC.into(), 10, 0, 0],
        )?;
        Fd::try_from(rc).map_err(|_| libc::EBADF)
    };
    let mut lifted: [Fd; 3] = [-1; 3];
    for (stream, slot) in plan.streams.iter().zip(&mut lifted) {
        *slot = lift(match stream {
            Stream::Null => null,
            Stream::Terminal => slave,
            Stream::Pipe(fd) => *fd,
        })?;
    }
    for (number, fd) in (0..).zip(lifted) {
        call::dup_to(fd, number)?;
    }
    Ok(())
}

fn landlock(plan: &Plan<'_>) {
    let errors = plan.pipes.errors;
    if plan.handled.fs == 0 {
        return;
    }
    let ruleset = match call::landlock_ruleset(plan.handled) {
        Ok(ruleset) => ruleset,
        Err(errno) => fail(errors, Stage::LandlockRuleset, 0, errno),
    };
    for (index, rule) in plan.rules.iter().enumerate() {
        let added = call::open(rule.path, libc::O_PATH, 0).and_then(|fd| {
            let added = call::landlock_rule(ruleset, fd, rule.rights);
            call::close(fd);
            added
        });
        if let Err(errno) = added {
            fail(errors, Stage::LandlockRule, index, errno);
        }
    }
    if let Err(errno) = call::landlock_enforce(ruleset) {
        fail(errors, Stage::LandlockEnforce, 0, errno);
    }
    call::close(ruleset);
}

/// Draws the number that makes the one allowed exec ours, and writes it into the filter.
///
/// The program that comes after cannot learn it: exec clears the registers, the filter cannot be
/// read without CAP_SYS_ADMIN, and this memory is gone.
fn secret(plan: &mut Plan<'_>) -> Result<u64, Errno> {
    let Some((low, high)) = plan.filter.secret_at else {
        return Ok(0);
    };
    let mut words = [0_u32; 2];
    // SAFETY: eight bytes are writable at that address.
    let drawn = unsafe { libc::getrandom(words.as_mut_ptr().cast(), size_of_val(&words), 0) };
    if drawn != 8 {
        return Err(call::last());
    }
    for (index, word) in [low, high].into_iter().zip(words) {
        plan.filter.insns.get_mut(index).ok_or(libc::EINVAL)?.k = word;
    }
    let [low, high] = words.map(u64::from);
    Ok(high << 32 | low)
}

fn exec(plan: &Plan<'_>, secret: u64) -> Errno {
    // SAFETY: program is NUL-terminated, argv and envp end in NULL (contract of `enter`); on
    // success the call does not return.
    unsafe {
        libc::syscall(
            libc::SYS_execveat,
            c_long::from(libc::AT_FDCWD),
            plan.program.as_ptr(),
            plan.argv.as_ptr(),
            plan.envp.as_ptr(),
            0_i64,
            secret,
        )
    };
    call::last()
}
