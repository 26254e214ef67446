//! Tried by the agent's process itself, with every layer on, right before it becomes the program:
//! what the ring forbids must fail, or nothing starts.

use core::ffi::CStr;

use libc::c_long;

use crate::call::{self, Errno};

/// One thing that must not be possible in this ring.
#[derive(Clone, Copy, Debug)]
pub enum Trial<'a> {
    /// Opening this path for reading.
    Read(&'a CStr, Expect),
    /// Creating this file.
    Create(&'a CStr, Expect),
    /// This system call with these five numbers.
    Call(u16, [u64; 5], Expect),
    /// Having a capability, a bounding set, privileges to gain, or uid 0.
    Privilege,
}

/// How it must fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expect {
    /// With any error.
    Fail,
    /// With this errno, which names the layer under test.
    Errno(i32),
}

/// `Ok` when the ring held; otherwise the wrong errno, or 0 when the attempt succeeded.
pub(crate) fn run(trial: &Trial<'_>) -> Result<(), Errno> {
    match *trial {
        Trial::Read(path, expect) => judge(opened(path, libc::O_RDONLY), expect),
        Trial::Create(path, expect) => judge(
            opened(path, libc::O_WRONLY | libc::O_CREAT | libc::O_EXCL),
            expect,
        ),
        Trial::Call(nr, args, expect) => {
            let args = args.map(|arg| arg as c_long);
            judge(call::plain(c_long::from(nr), args), expect)
        }
        Trial::Privilege => privilege(),
    }
}

fn opened(path: &CStr, flags: i32) -> Result<c_long, Errno> {
    let fd = call::open(path, flags, 0o600)?;
    call::close(fd);
    Ok(0)
}

fn judge(result: Result<c_long, Errno>, expect: Expect) -> Result<(), Errno> {
    match (result, expect) {
        (Ok(_), _) => Err(0),
        (Err(_), Expect::Fail) => Ok(()),
        (Err(errno), Expect::Errno(wanted)) if errno == wanted => Ok(()),
        (Err(errno), Expect::Errno(_)) => Err(errno),
    }
}

fn privilege() -> Result<(), Errno> {
    let header = [0x2008_0522_u32, 0];
    let mut sets = [u32::MAX; 6];
    // SAFETY: capget of version 3 reads the header and writes six words.
    call::check(unsafe { libc::syscall(libc::SYS_capget, header.as_ptr(), sets.as_mut_ptr()) })?;
    let bounding = call::prctl(libc::PR_CAPBSET_READ, [0, 0, 0, 0])?;
    let no_new_privs = call::prctl(libc::PR_GET_NO_NEW_PRIVS, [0, 0, 0, 0])?;
    // SAFETY: geteuid cannot fail and touches no memory.
    let uid = unsafe { libc::geteuid() };
    if sets == [0; 6] && bounding == 0 && no_new_privs == 1 && uid != 0 {
        Ok(())
    } else {
        Err(0)
    }
}
