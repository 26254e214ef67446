//! The new root, built step by step in the ring's own mount namespace.
//!
//! Targets are relative to the new root and are opened with `openat2` without following any
//! symbolic link, since a granted tree may hold hostile ones.

use core::ffi::CStr;
use core::mem::MaybeUninit;

use crate::call::{self, Errno};
use crate::{Fd, Stage};

/// Where a mounted tree comes from.
#[derive(Clone, Copy, Debug)]
pub enum Source<'a> {
    /// A detached tree that a privileged parent made (needed for paths that only root can walk, and
    /// for trees with mapped owners).
    Detached(Fd),
    /// A host path, opened here, after the new namespaces were entered (an earlier fd cannot be
    /// bound), and refused unless it still is the object that was resolved.
    Path {
        /// Absolute, without symbolic links.
        path: &'a CStr,
        /// Device number as `fstat` gives it.
        dev: u64,
        /// Inode number.
        ino: u64,
    },
}

/// One step of building the new root. Targets are relative to it.
#[derive(Clone, Copy, Debug)]
#[expect(missing_docs, reason = "target, mode and the like say what they are")]
pub enum Step<'a> {
    /// Make a folder, if there is none.
    Dir { target: &'a CStr, mode: u32 },
    /// Make a file with this content.
    File {
        target: &'a CStr,
        content: &'a [u8],
        mode: u32,
    },
    /// Make a symbolic link.
    Symlink { target: &'a CStr, to: &'a CStr },
    /// Mount a tree with these `MOUNT_ATTR_*` flags set, all mounts beneath it too.
    Tree {
        target: &'a CStr,
        source: Source<'a>,
        attributes: u64,
    },
    /// Mount an empty tmpfs; `options` as for mount(8).
    Tmpfs {
        target: &'a CStr,
        options: &'a CStr,
        flags: u64,
    },
    /// Mount an own instance of devpts.
    Devpts { target: &'a CStr, options: &'a CStr },
    /// Mount proc for the ring's pid namespace.
    Proc { target: &'a CStr, options: &'a CStr },
    /// Hide what is there under an empty folder or [`EMPTY`]; absent names are no error.
    Mask { target: &'a CStr },
    /// Make the mount at this place read-only (the new root itself: ".").
    ReadOnly { target: &'a CStr },
}

/// An empty file of the new root, which the steps must have made before the first mask.
pub const EMPTY: &CStr = c".empty";

/// Where the new root is put together. It hides nothing that is needed: no grant lies in /proc.
const SITE: &CStr = c"/proc";

type Failed = (Stage, usize, Errno);

/// Builds the new root, makes it the root, and detaches the old one.
pub(crate) fn build(steps: &[Step<'_>]) -> Result<(), Failed> {
    let pivot = |result: Result<(), Errno>| result.map_err(|errno| (Stage::Pivot, 0, errno));
    // Nothing that happens in here may reach the host, nor the other way round.
    pivot(mount(
        c"none",
        c"/",
        None,
        libc::MS_REC | libc::MS_PRIVATE,
        None,
    ))?;
    pivot(mount(
        c"tmpfs",
        SITE,
        Some(c"tmpfs"),
        libc::MS_NOSUID | libc::MS_NODEV,
        Some(c"mode=0755,size=4m,nr_inodes=4096"),
    ))?;
    pivot(change_directory(SITE))?;
    // Modes are given exactly; the mask is set again for the agent.
    // SAFETY: umask takes a number and cannot fail.
    unsafe { libc::umask(0) };
    for (index, step) in steps.iter().enumerate() {
        take(step).map_err(|errno| (Stage::Mount, index, errno))?;
    }
    // The old root ends up stacked on the new one and is then let go (pivot_root(2), NOTES).
    let here = c".".as_ptr();
    // SAFETY: both paths are a NUL-terminated literal.
    let pivoted = unsafe { libc::syscall(libc::SYS_pivot_root, here, here) };
    pivot(call::check(pivoted).map(drop))?;
    // SAFETY: the path is a NUL-terminated literal.
    let detached = unsafe { libc::umount2(here, libc::MNT_DETACH) };
    pivot(call::check_int(detached).map(drop))?;
    pivot(change_directory(c"/"))
}

fn take(step: &Step<'_>) -> Result<(), Errno> {
    match *step {
        Step::Dir { target, mode } => make_directory(target, mode),
        Step::File {
            target,
            content,
            mode,
        } => make_file(target, content, mode),
        Step::Symlink { target, to } => make_link(target, to),
        Step::Tree {
            target,
            source,
            attributes,
        } => tree(target, source, attributes),
        Step::Tmpfs {
            target,
            options,
            flags,
        } => over(target, c"tmpfs", flags, options),
        Step::Devpts { target, options } => over(
            target,
            c"devpts",
            libc::MS_NOSUID | libc::MS_NOEXEC,
            options,
        ),
        Step::Proc { target, options } => over(
            target,
            c"proc",
            libc::MS_NOSUID | libc::MS_NOEXEC | libc::MS_NODEV | libc::MS_RDONLY,
            options,
        ),
        Step::Mask { target } => mask(target),
        Step::ReadOnly { target } => read_only(target),
    }
}

pub(crate) fn read_only(target: &CStr) -> Result<(), Errno> {
    let fd = open_target(target)?;
    let done = set_attributes(fd, MOUNT_ATTR_RDONLY, 0);
    call::close(fd);
    done
}

fn make_directory(target: &CStr, mode: u32) -> Result<(), Errno> {
    let (parent, name) = open_parent(target)?;
    // SAFETY: the name is NUL-terminated by its type.
    let made = call::check_int(unsafe { libc::mkdirat(parent, name.as_ptr(), mode) });
    call::close(parent);
    match made {
        Ok(_) | Err(libc::EEXIST) => Ok(()),
        Err(errno) => Err(errno),
    }
}

fn make_file(target: &CStr, content: &[u8], mode: u32) -> Result<(), Errno> {
    let flags = libc::O_WRONLY | libc::O_CREAT | libc::O_EXCL | libc::O_NOFOLLOW | libc::O_CLOEXEC;
    let (parent, name) = open_parent(target)?;
    // SAFETY: the name is NUL-terminated by its type.
    let made = call::check_int(unsafe {
        libc::openat(parent, name.as_ptr(), flags, mode as libc::c_uint)
    });
    call::close(parent);
    let fd = match made {
        Ok(fd) => fd,
        // A mount point that a granted tree already holds.
        Err(libc::EEXIST | libc::EROFS) if content.is_empty() => return Ok(()),
        Err(errno) => return Err(errno),
    };
    let written = if content.is_empty() {
        Ok(())
    } else {
        call::write(fd, content)
    };
    call::close(fd);
    written
}

/// The same link from an earlier run, in a home that is kept, is as good.
fn make_link(target: &CStr, to: &CStr) -> Result<(), Errno> {
    let (parent, name) = open_parent(target)?;
    // SAFETY: both paths are NUL-terminated by their type.
    let made =
        call::check_int(unsafe { libc::symlinkat(to.as_ptr(), parent, name.as_ptr()) }).map(drop);
    let made = match made {
        Err(libc::EEXIST) if leads_to(parent, name, to) => Ok(()),
        other => other,
    };
    call::close(parent);
    made
}

fn leads_to(parent: Fd, name: &CStr, to: &CStr) -> bool {
    let mut found = [0_u8; libc::PATH_MAX as usize];
    // SAFETY: the name is NUL-terminated by its type; readlinkat writes no more than the length given.
    let length = unsafe {
        libc::readlinkat(
            parent,
            name.as_ptr(),
            found.as_mut_ptr().cast(),
            found.len(),
        )
    };
    let length = usize::try_from(length).ok();
    length.and_then(|length| found.get(..length)) == Some(to.to_bytes())
}

/// The folder that a target lies in, and its name there. A granted tree may hold links that lead
/// out of the new root, so the way is walked as in [`open_target`].
fn open_parent(target: &CStr) -> Result<(Fd, &CStr), Errno> {
    let bytes = target.to_bytes_with_nul();
    let Some(slash) = bytes.iter().rposition(|byte| *byte == b'/') else {
        return open_target(c".").map(|fd| (fd, target));
    };
    let mut parent = [0_u8; libc::PATH_MAX as usize];
    let (Some(head), Some(tail)) = (bytes.get(..slash), bytes.get(slash + 1..)) else {
        return Err(libc::EINVAL);
    };
    // One byte less, so that a NUL is left at the end.
    let Some(room) = parent
        .get_mut(..head.len())
        .filter(|_| head.len() < libc::PATH_MAX as usize)
    else {
        return Err(libc::ENAMETOOLONG);
    };
    room.copy_from_slice(head);
    let parent = CStr::from_bytes_until_nul(&parent).map_err(|_| libc::EINVAL)?;
    let name = CStr::from_bytes_with_nul(tail).map_err(|_| libc::EINVAL)?;
    open_target(parent).map(|fd| (fd, name))
}

const MOUNT_ATTR_RDONLY: u64 = 1;

fn tree(target: &CStr, source: Source<'_>, attributes: u64) -> Result<(), Errno> {
    let tree = match source {
        Source::Detached(fd) => fd,
        Source::Path { path, dev, ino } => {
            let fd = open_tree(path)?;
            if identity(fd)? != (dev, ino) {
                // The name was given to something else since it was resolved.
                return Err(libc::ESTALE);
            }
            fd
        }
    };
    attach(target, tree, attributes)
}

/// Puts a detached tree in its place. Letting one go that was never moved costs a grace period of
/// the kernel's.
fn attach(target: &CStr, tree: Fd, attributes: u64) -> Result<(), Errno> {
    set_attributes(tree, attributes, libc::AT_RECURSIVE)?;
    let place = open_target(target)?;
    const MOVE_MOUNT_F_EMPTY_PATH: i64 = 0x4;
    const MOVE_MOUNT_T_EMPTY_PATH: i64 = 0x40;
    // SAFETY: both paths are the empty literal; the descriptors are ours.
    let moved = unsafe {
        libc::syscall(
            libc::SYS_move_mount,
            tree,
            c"".as_ptr(),
            place,
            c"".as_ptr(),
            MOVE_MOUNT_F_EMPTY_PATH | MOVE_MOUNT_T_EMPTY_PATH,
        )
    };
    let moved = call::check(moved).map(drop);
    call::close(place);
    call::close(tree);
    moved
}

fn open_tree(path: &CStr) -> Result<Fd, Errno> {
    const OPEN_TREE_CLONE: i32 = 1;
    let flags = OPEN_TREE_CLONE | libc::O_CLOEXEC | libc::AT_RECURSIVE | libc::AT_SYMLINK_NOFOLLOW;
    // SAFETY: the path is NUL-terminated by its type.
    let rc = unsafe { libc::syscall(libc::SYS_open_tree, libc::AT_FDCWD, path.as_ptr(), flags) };
    call::check(rc).and_then(|fd| Fd::try_from(fd).map_err(|_| libc::EBADF))
}

fn identity(fd: Fd) -> Result<(u64, u64), Errno> {
    let mut stat = MaybeUninit::<libc::stat>::uninit();
    // SAFETY: fstat writes one stat at the address given.
    call::check_int(unsafe { libc::fstat(fd, stat.as_mut_ptr()) })?;
    // SAFETY: fstat succeeded, so the whole struct was written.
    let stat = unsafe { stat.assume_init() };
    Ok((stat.st_dev, stat.st_ino))
}

fn set_attributes(fd: Fd, set: u64, flags: i32) -> Result<(), Errno> {
    // struct mount_attr: set, clear, propagation, userns_fd.
    let attr = [set, 0, 0, 0];
    // SAFETY: attr has the layout of struct mount_attr and its size is given; the path is empty.
    let rc = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            fd,
            c"".as_ptr(),
            libc::AT_EMPTY_PATH | flags,
            attr.as_ptr(),
            size_of_val(&attr),
        )
    };
    call::check(rc).map(drop)
}

/// Opens a place in the new root, following no symbolic link and never leaving it.
fn open_target(target: &CStr) -> Result<Fd, Errno> {
    const RESOLVE_NO_MAGICLINKS: u64 = 0x02;
    const RESOLVE_NO_SYMLINKS: u64 = 0x04;
    const RESOLVE_BENEATH: u64 = 0x08;
    // struct open_how: flags, mode, resolve.
    let how = [
        (libc::O_PATH | libc::O_CLOEXEC) as u64,
        0,
        RESOLVE_NO_MAGICLINKS | RESOLVE_NO_SYMLINKS | RESOLVE_BENEATH,
    ];
    // SAFETY: how has the layout of struct open_how and its size is given.
    let rc = unsafe {
        libc::syscall(
            libc::SYS_openat2,
            libc::AT_FDCWD,
            target.as_ptr(),
            how.as_ptr(),
            size_of_val(&how),
        )
    };
    call::check(rc).and_then(|fd| Fd::try_from(fd).map_err(|_| libc::EBADF))
}

/// Mounts a new file system over `target`, by way of it as working directory so that no path is
/// walked a second time.
fn over(target: &CStr, kind: &CStr, flags: u64, options: &CStr) -> Result<(), Errno> {
    let root = open_target(c".")?;
    let place = open_target(target)?;
    enter_fd(place)?;
    let mounted = mount(kind, c".", Some(kind), flags, Some(options));
    enter_fd(root)?;
    call::close(place);
    call::close(root);
    mounted
}

fn mask(target: &CStr) -> Result<(), Errno> {
    let place = match open_target(target) {
        Ok(fd) => fd,
        Err(libc::ENOENT) => return Ok(()),
        Err(errno) => return Err(errno),
    };
    let mut stat = MaybeUninit::<libc::stat>::uninit();
    // SAFETY: fstat writes one stat at the address given.
    call::check_int(unsafe { libc::fstat(place, stat.as_mut_ptr()) })?;
    // SAFETY: fstat succeeded, so the whole struct was written.
    let stat = unsafe { stat.assume_init() };
    call::close(place);
    if stat.st_mode & libc::S_IFMT == libc::S_IFDIR {
        let flags = libc::MS_RDONLY | libc::MS_NOSUID | libc::MS_NODEV | libc::MS_NOEXEC;
        return over(target, c"tmpfs", flags, c"mode=0555,size=4k,nr_inodes=2");
    }
    // Not /dev/null, which takes what is written to it.
    attach(target, open_tree(EMPTY)?, MOUNT_ATTR_RDONLY)
}

fn mount(
    source: &CStr,
    target: &CStr,
    kind: Option<&CStr>,
    flags: u64,
    options: Option<&CStr>,
) -> Result<(), Errno> {
    let or_null = |text: Option<&CStr>| text.map_or(core::ptr::null(), CStr::as_ptr);
    // SAFETY: each pointer is NULL or a NUL-terminated string that lives across the call.
    let rc = unsafe {
        libc::mount(
            source.as_ptr(),
            target.as_ptr(),
            or_null(kind),
            flags,
            or_null(options).cast(),
        )
    };
    call::check_int(rc).map(drop)
}

fn change_directory(path: &CStr) -> Result<(), Errno> {
    // SAFETY: the path is NUL-terminated by its type.
    call::check_int(unsafe { libc::chdir(path.as_ptr()) }).map(drop)
}

fn enter_fd(fd: Fd) -> Result<(), Errno> {
    call::plain(libc::SYS_fchdir, [fd.into(), 0, 0, 0, 0]).map(drop)
}
