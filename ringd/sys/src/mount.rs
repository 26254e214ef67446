//! Detached mount trees (open_tree(2), mount_setattr(2)).

use std::ffi::CStr;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use crate::check;

/// Read-only.
pub const RDONLY: u64 = 0x1;
/// Set-id bits and file capabilities have no effect.
pub const NOSUID: u64 = 0x2;
/// Device nodes have no effect.
pub const NODEV: u64 = 0x4;
/// Nothing in it can be executed.
pub const NOEXEC: u64 = 0x8;
/// Owners are shown and stored as a user namespace maps them.
pub const IDMAP: u64 = 0x0010_0000;

/// Copies the mount at `fd`, and all mounts beneath it, as a detached tree.
///
/// # Errors
/// `EPERM` without CAP_SYS_ADMIN over the caller's mount namespace.
pub fn clone_tree(fd: BorrowedFd<'_>) -> io::Result<OwnedFd> {
    const OPEN_TREE_CLONE: i32 = 1;
    let flags = OPEN_TREE_CLONE | libc::O_CLOEXEC | libc::AT_RECURSIVE | libc::AT_EMPTY_PATH;
    // SAFETY: the path is a NUL-terminated literal and the descriptor is borrowed for the call.
    let rc = unsafe {
        libc::syscall(
            libc::SYS_open_tree,
            fd.as_raw_fd(),
            CStr::as_ptr(c""),
            flags,
        )
    };
    let raw = i32::try_from(check(rc)?).map_err(io::Error::other)?;
    // SAFETY: the kernel just returned this descriptor and nothing else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(raw) })
}

/// Sets attributes on a detached tree and everything beneath it; `userns` gives the map for
/// [`IDMAP`].
///
/// # Errors
/// `EINVAL` where a file system in the tree cannot be mapped, `EPERM` without the right to it.
pub fn set_attributes(
    tree: BorrowedFd<'_>,
    set: u64,
    userns: Option<BorrowedFd<'_>>,
) -> io::Result<()> {
    let userns = userns.map_or(0, |fd| u64::from(fd.as_raw_fd().unsigned_abs()));
    // struct mount_attr: set, clear, propagation, userns_fd.
    let attr = [set, 0, 0, userns];
    // SAFETY: attr has the layout of struct mount_attr, its size is given, the path is a literal.
    let rc = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            tree.as_raw_fd(),
            CStr::as_ptr(c""),
            libc::AT_EMPTY_PATH | libc::AT_RECURSIVE,
            attr.as_ptr(),
            size_of_val(&attr),
        )
    };
    check(rc).map(drop)
}
