//! The kernel's calls as this crate uses them: errno as a value, no allocation.

use core::ffi::{CStr, c_long};

use libc::c_int;

use crate::Fd;

/// A kernel error number.
pub(crate) type Errno = i32;

pub(crate) fn last() -> Errno {
    // SAFETY: __errno_location returns the calling thread's own errno cell, which is always mapped.
    let cell = unsafe { libc::__errno_location() };
    // SAFETY: as above; reading an int that only this thread writes.
    unsafe { *cell }
}

pub(crate) fn check(rc: c_long) -> Result<c_long, Errno> {
    if rc < 0 { Err(last()) } else { Ok(rc) }
}

pub(crate) fn check_int(rc: c_int) -> Result<c_int, Errno> {
    if rc < 0 { Err(last()) } else { Ok(rc) }
}

/// A raw system call with plain numbers as arguments (none of them a pointer).
pub(crate) fn plain(nr: c_long, args: [c_long; 5]) -> Result<c_long, Errno> {
    let [a, b, c, d, e] = args;
    // SAFETY: the callers pass numbers and descriptors only, so the kernel reads and writes no
    // memory of ours.
    check(unsafe { libc::syscall(nr, a, b, c, d, e) })
}

pub(crate) fn close(fd: Fd) {
    // A failed close leaves nothing to do: the number is free either way (close(2)).
    // SAFETY: closing a number touches no memory; the plan says the fd is ours.
    unsafe { libc::close(fd) };
}

pub(crate) fn prctl(option: c_int, args: [c_long; 4]) -> Result<c_long, Errno> {
    let [a, b, c, d] = args;
    plain(libc::SYS_prctl, [c_long::from(option), a, b, c, d])
}

pub(crate) fn open(path: &CStr, flags: c_int, mode: u32) -> Result<Fd, Errno> {
    // SAFETY: path is NUL-terminated by its type and lives across the call.
    check_int(unsafe { libc::open(path.as_ptr(), flags | libc::O_CLOEXEC, mode) })
}

pub(crate) fn write(fd: Fd, bytes: &[u8]) -> Result<(), Errno> {
    // SAFETY: the slice is readable for its whole length.
    let sent = unsafe { libc::write(fd, bytes.as_ptr().cast(), bytes.len()) };
    match usize::try_from(sent) {
        Ok(sent) if sent == bytes.len() => Ok(()),
        Ok(_) => Err(libc::EIO),
        Err(_) => Err(last()),
    }
}

/// Reads one byte; `None` at end of file.
pub(crate) fn read_byte(fd: Fd) -> Result<Option<u8>, Errno> {
    let mut byte = 0_u8;
    // SAFETY: one byte is writable at that address.
    match unsafe { libc::read(fd, (&raw mut byte).cast(), 1) } {
        1 => Ok(Some(byte)),
        0 => Ok(None),
        _ => Err(last()),
    }
}

pub(crate) fn dup_to(fd: Fd, to: Fd) -> Result<(), Errno> {
    if fd == to {
        // dup3 refuses equal numbers; what is wanted is the number without close-on-exec.
        plain(libc::SYS_fcntl, [fd.into(), libc::F_SETFD.into(), 0, 0, 0])?;
        return Ok(());
    }
    plain(libc::SYS_dup2, [fd.into(), to.into(), 0, 0, 0]).map(drop)
}

pub(crate) fn close_from(first: u32, flags: u32) -> Result<(), Errno> {
    let args = [first.into(), u32::MAX.into(), flags.into(), 0, 0];
    plain(libc::SYS_close_range, args).map(drop)
}

/// Empties the bounding set; what is forked later has it empty too.
pub(crate) fn drop_bounding() -> Result<(), Errno> {
    for capability in 0.. {
        match prctl(libc::PR_CAPBSET_DROP, [capability, 0, 0, 0]) {
            Ok(_) => {}
            // The first number that the kernel does not know ends the list.
            Err(libc::EINVAL) if capability > 0 => break,
            Err(errno) => return Err(errno),
        }
    }
    Ok(())
}

/// Drops every capability from the other sets.
pub(crate) fn drop_capabilities() -> Result<(), Errno> {
    prctl(
        libc::PR_CAP_AMBIENT,
        [libc::PR_CAP_AMBIENT_CLEAR_ALL.into(), 0, 0, 0],
    )?;
    // _LINUX_CAPABILITY_VERSION_3, this process; two words of effective, permitted, inheritable.
    let header = [0x2008_0522_u32, 0];
    let sets = [0_u32; 6];
    // SAFETY: header and sets have the layouts that capset(2) of version 3 reads.
    check(unsafe { libc::syscall(libc::SYS_capset, header.as_ptr(), sets.as_ptr()) }).map(drop)
}

pub(crate) fn no_new_privs() -> Result<(), Errno> {
    prctl(libc::PR_SET_NO_NEW_PRIVS, [1, 0, 0, 0]).map(drop)
}

/// Installs a filter on the calling thread.
pub(crate) fn seccomp(insns: &[crate::Insn]) -> Result<(), Errno> {
    #[repr(C)]
    struct Program {
        len: u16,
        insns: *const crate::Insn,
    }
    let len = u16::try_from(insns.len()).map_err(|_| libc::EINVAL)?;
    let program = Program {
        len,
        insns: insns.as_ptr(),
    };
    const SECCOMP_SET_MODE_FILTER: c_long = 1;
    // SAFETY: Program has the layout of struct sock_fprog and points at `len` instructions.
    let rc = unsafe {
        libc::syscall(
            libc::SYS_seccomp,
            SECCOMP_SET_MODE_FILTER,
            0,
            &raw const program,
        )
    };
    check(rc).map(drop)
}

/// Creates a Landlock ruleset; its fd is close-on-exec.
pub(crate) fn landlock_ruleset(handled: crate::Handled) -> Result<Fd, Errno> {
    let attr = [handled.fs, handled.net, handled.scoped];
    // A kernel that does not know the later fields accepts a longer struct when they are zero.
    // SAFETY: attr has the layout of struct landlock_ruleset_attr of ABI 6.
    let rc = unsafe {
        libc::syscall(
            libc::SYS_landlock_create_ruleset,
            attr.as_ptr(),
            size_of_val(&attr),
            0,
        )
    };
    check(rc).and_then(|fd| Fd::try_from(fd).map_err(|_| libc::EBADF))
}

pub(crate) fn landlock_rule(ruleset: Fd, beneath: Fd, rights: u64) -> Result<(), Errno> {
    #[repr(C, packed)]
    struct PathBeneath {
        rights: u64,
        parent: Fd,
    }
    let attr = PathBeneath {
        rights,
        parent: beneath,
    };
    const LANDLOCK_RULE_PATH_BENEATH: c_long = 1;
    // SAFETY: attr has the packed layout of struct landlock_path_beneath_attr.
    let rc = unsafe {
        libc::syscall(
            libc::SYS_landlock_add_rule,
            ruleset,
            LANDLOCK_RULE_PATH_BENEATH,
            &raw const attr,
            0,
        )
    };
    check(rc).map(drop)
}

pub(crate) fn landlock_enforce(ruleset: Fd) -> Result<(), Errno> {
    plain(
        libc::SYS_landlock_restrict_self,
        [ruleset.into(), 0, 0, 0, 0],
    )
    .map(drop)
}
