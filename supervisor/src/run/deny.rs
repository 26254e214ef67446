//! `files.deny`: hidden under an empty file or folder, and watched, since a name that is given to
//! something else on the host takes the mask off with it. So are the agent's own files where it may write: they
//! are read-only by a mount, which goes with a file that is replaced.

use std::fs;
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use profiles::Ring;
use rustix::fs::inotify::{self, CreateFlags, Reader, WatchFlags};

use super::grant::Grant;
use super::ground::expand;
use crate::error::Failed;

/// What is to be hidden, canonical, each with the line that says so.
pub(crate) fn find(
    ring: &Ring,
    base: &Path,
    grants: &[Grant],
) -> Result<Vec<(PathBuf, String)>, Failed> {
    let mut hidden = Vec::new();
    for wish in &ring.deny {
        let named = expand(base, wish)?;
        let refuse = |why| {
            Err(Failed::Deny {
                path: named.clone(),
                origin: wish.origin.clone(),
                why,
            })
        };
        let meta = match fs::symlink_metadata(&named) {
            Ok(meta) => meta,
            Err(_) if wish.value.optional => continue,
            Err(_) => return refuse("it does not exist; write `?` at its end if it may be absent"),
        };
        if meta.is_symlink() {
            return refuse("it is a link, which leads elsewhere tomorrow; name what it leads to");
        }
        if meta.is_file() && meta.nlink() > 1 {
            return refuse("it has other hard links, by which it stays readable; remove them");
        }
        let Ok(real) = named.canonicalize() else {
            return refuse("it cannot be looked at");
        };
        if grants.iter().any(|grant| grant.path.starts_with(&real)) {
            return refuse("it holds something that is granted; deny less, or grant less");
        }
        if !grants.iter().any(|grant| real.starts_with(&grant.path)) {
            return refuse("nothing that is granted holds it, so it is not seen anyway; remove it");
        }
        hidden.push((real, format!("`files.deny` ({})", wish.origin)));
    }
    Ok(hidden)
}

/// Watches every folder by whose change a mask could come off.
#[derive(Debug)]
pub(crate) struct Watch {
    inotify: OwnedFd,
    /// Folder watched, and the name in it that must stay what it is.
    names: Vec<(i32, PathBuf)>,
    /// Files that must stay the same, as device and inode.
    pinned: Vec<(PathBuf, Option<(u64, u64)>)>,
}

/// What something else was put in place of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Replaced {
    /// Something that is hidden.
    Hidden,
    /// agent.yaml or a policy, where the agent may write.
    Pinned,
}

fn identity(path: &Path) -> Option<(u64, u64)> {
    let meta = fs::symlink_metadata(path).ok()?;
    Some((meta.dev(), meta.ino()))
}

impl Watch {
    /// Starts before the ring is built, so that nothing is missed. `None` when there is nothing to watch.
    pub(crate) fn start(
        hidden: &[PathBuf],
        pinned: &[PathBuf],
        grants: &[Grant],
    ) -> io::Result<Option<Self>> {
        if hidden.is_empty() && pinned.is_empty() {
            return Ok(None);
        }
        let inotify = inotify::init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK)?;
        let mut names = Vec::new();
        let watch = |folder: &Path| {
            let flags = WatchFlags::MOVED_FROM
                | WatchFlags::MOVED_TO
                | WatchFlags::CREATE
                | WatchFlags::DELETE
                | WatchFlags::ONLYDIR;
            inotify::add_watch(&inotify, folder, flags)
        };
        let within = |one: &&Path| grants.iter().any(|grant| one.starts_with(&grant.path));
        for path in hidden {
            for part in path.ancestors().take_while(within) {
                let Some(folder) = part.parent() else { break };
                names.push((watch(folder)?, part.to_owned()));
            }
        }
        for path in pinned {
            for part in path.ancestors().take_while(within) {
                let Some(folder) = part.parent() else { break };
                watch(folder)?;
            }
        }
        let pinned = pinned.iter().map(|path| (path.clone(), identity(path)));
        let pinned = pinned.collect();
        Ok(Some(Self {
            inotify,
            names,
            pinned,
        }))
    }

    pub(crate) fn fd(&self) -> &OwnedFd {
        &self.inotify
    }

    /// Whether something that is hidden, a folder above it, or a file of the agent's own was given to
    /// something else.
    pub(crate) fn replaced(&self) -> io::Result<Option<Replaced>> {
        let mut space = [MaybeUninit::uninit(); 8192];
        let mut reader = Reader::new(&self.inotify, &mut space);
        let mut any = false;
        loop {
            let event = match reader.next() {
                Ok(event) => event,
                Err(rustix::io::Errno::AGAIN) => break,
                Err(rustix::io::Errno::INTR) => continue,
                Err(errno) => return Err(errno.into()),
            };
            any = true;
            // Lost events may have been about us.
            let lost = event
                .events()
                .contains(rustix::fs::inotify::ReadFlags::QUEUE_OVERFLOW);
            let name = event.file_name().map(|name| name.to_bytes().to_vec());
            let ours = |(id, path): &(i32, PathBuf)| {
                let own = path.file_name().map(std::os::unix::ffi::OsStrExt::as_bytes);
                lost || *id == event.wd() && own == name.as_deref()
            };
            if self.names.iter().any(ours) {
                return Ok(Some(Replaced::Hidden));
            }
        }
        let other = |(path, was): &(PathBuf, Option<(u64, u64)>)| identity(path) != *was;
        let replaced = any && self.pinned.iter().any(other);
        Ok(replaced.then_some(Replaced::Pinned))
    }
}
