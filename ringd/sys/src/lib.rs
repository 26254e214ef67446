//! Safe, thin doors to the calls that `rustix` does not wrap. One kernel noun per file.
//!
//! **Invariant:** every function here is safe to call with any arguments; what can go wrong comes
//! back as an `io::Error`.

use std::io;

pub mod landlock;
pub mod mount;
pub mod process;
pub mod signals;
pub mod socket;

/// Turns a negative return into the thread's errno.
fn check(rc: libc::c_long) -> io::Result<libc::c_long> {
    if rc < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(rc)
    }
}
