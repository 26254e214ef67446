//! A site's own rings, in a folder that only root (or the owner named) can write. What is checked is
//! the descriptor that is then read, from `/` down, so that nothing can be exchanged in between.

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::OwnedFd;
use std::path::{Component, Path, PathBuf};

use rustix::fs::{Dir, FileType, Mode, OFlags, Stat, fstat, openat};

use crate::error::Error;
use crate::node::FILE_BYTES_MAX;
use crate::ring::{RingProfile, Rings, parent_of};

/// A ring descends from another through at most so many.
const CHAIN_MAX: usize = 8;

/// The built-in rings and those of `dir`, whose whole chain of folders must belong to `owner` (or
/// root) and be writable by nobody else. An absent folder is no error; one bad file is.
///
/// # Errors
/// When a folder or file cannot be trusted, read or understood.
pub fn load(dir: &Path, owner: u32) -> Result<Rings, Error> {
    let mut rings = Rings::built_in()?;
    let Some(folder) = open_chain(dir, owner)? else {
        return Ok(rings);
    };
    let mut waiting = Vec::new();
    for name in names(dir, &folder)? {
        let path = dir.join(&name);
        let bytes = read(&folder, &name, &path, owner)?;
        let file = path.to_string_lossy().into_owned();
        let (ring, parent) = parent_of(&file, &bytes)?;
        if rings.all.iter().any(|known| known.name == ring)
            || waiting.iter().any(|(known, _, _, _)| *known == ring)
        {
            let what = format!("the name `{ring}` is already taken");
            return Err(Error::File {
                file,
                what,
                remedy: "choose another".into(),
            });
        }
        waiting.push((ring, parent, file, bytes));
    }
    for _ in 0..CHAIN_MAX {
        let (ready, later): (Vec<_>, Vec<_>) = waiting
            .into_iter()
            .partition(|(_, parent, _, _)| rings.find(&parent.value).is_ok());
        waiting = later;
        for (_, parent, file, bytes) in ready {
            let parent = rings.find(&parent.value)?.clone();
            rings
                .all
                .push(RingProfile::parse(&file, &bytes, Some(&parent))?);
        }
    }
    match waiting.first() {
        None => Ok(rings),
        Some((_, parent, file, _)) => {
            let what = format!(
                "`extends` names `{}`, which leads to no built-in ring",
                parent.value
            );
            Err(Error::wrong(
                file,
                parent.span,
                what,
                "name a ring that exists",
            ))
        }
    }
}

fn open_chain(dir: &Path, owner: u32) -> Result<Option<OwnedFd>, Error> {
    let flags = OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::RDONLY;
    let io_at = |path: &Path, errno: rustix::io::Errno| Error::SiteIo {
        path: path.to_owned(),
        error: io::Error::from(errno),
    };
    let mut walked = PathBuf::from("/");
    let mut folder =
        rustix::fs::open("/", flags, Mode::empty()).map_err(|errno| io_at(&walked, errno))?;
    trusted(&walked, &folder, owner, FileType::Directory)?;
    if !dir.is_absolute() || dir.components().any(|part| part == Component::ParentDir) {
        let what = "it is not a path from `/` down without `..`".into();
        let path = dir.to_owned();
        return Err(Error::Site { path, what });
    }
    for part in dir.components() {
        let Component::Normal(name) = part else {
            continue;
        };
        walked.push(name);
        folder = match openat(&folder, name, flags, Mode::empty()) {
            Ok(next) => next,
            Err(rustix::io::Errno::NOENT) => return Ok(None),
            Err(rustix::io::Errno::LOOP | rustix::io::Errno::NOTDIR) => {
                let what = "it is not a folder (links are not followed)".into();
                return Err(Error::Site { path: walked, what });
            }
            Err(errno) => return Err(io_at(&walked, errno)),
        };
        trusted(&walked, &folder, owner, FileType::Directory)?;
    }
    Ok(Some(folder))
}

/// Owned by root or the owner, writable by nobody else; a sticky folder counts as writable.
fn trusted(path: &Path, fd: &OwnedFd, owner: u32, kind: FileType) -> Result<Stat, Error> {
    let refuse = |what: String| {
        Err(Error::Site {
            path: path.to_owned(),
            what,
        })
    };
    let stat = fstat(fd).map_err(|errno| Error::SiteIo {
        path: path.to_owned(),
        error: errno.into(),
    })?;
    if FileType::from_raw_mode(stat.st_mode) != kind {
        return refuse("it is not of the right kind".into());
    }
    if stat.st_uid != 0 && stat.st_uid != owner {
        return refuse(format!("it belongs to uid {}, not to root", stat.st_uid));
    }
    if stat.st_mode & 0o022 != 0 {
        return refuse(format!(
            "others may write it (mode {:o})",
            stat.st_mode & 0o7777
        ));
    }
    Ok(stat)
}

fn names(dir: &Path, folder: &OwnedFd) -> Result<Vec<String>, Error> {
    let failed = |errno: rustix::io::Errno| Error::SiteIo {
        path: dir.to_owned(),
        error: errno.into(),
    };
    let mut found = Vec::new();
    for entry in Dir::read_from(folder).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        let name = entry.file_name().to_string_lossy().into_owned();
        // An operator who has written a narrower ring must not find that it was never read.
        if name.ends_with(".yml") && !name.starts_with('.') {
            let what = "profiles end in `.yaml`: rename it, or remove it".into();
            let path = dir.join(name);
            return Err(Error::Site { path, what });
        }
        if name.ends_with(".yaml") && !name.starts_with('.') {
            found.push(name);
        }
    }
    found.sort();
    Ok(found)
}

fn read(folder: &OwnedFd, name: &str, path: &Path, owner: u32) -> Result<Vec<u8>, Error> {
    let failed = |error: io::Error| Error::SiteIo {
        path: path.to_owned(),
        error,
    };
    // Without blocking, should somebody have put a FIFO there.
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let fd = openat(folder, name, flags, Mode::empty()).map_err(|errno| failed(errno.into()))?;
    trusted(path, &fd, owner, FileType::RegularFile)?;
    let mut bytes = Vec::new();
    let most = FILE_BYTES_MAX as u64 + 1;
    File::from(fd)
        .take(most)
        .read_to_end(&mut bytes)
        .map_err(failed)?;
    Ok(bytes)
}
