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
use crate::shape::shorten;
use crate::value::At;

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
    let mut sources = Vec::new();
    for name in names(dir, &folder)? {
        let path = dir.join(&name);
        let bytes = read(&folder, &name, &path, owner)?;
        sources.push((path.to_string_lossy().into_owned(), bytes));
    }
    match rings.add(&sources).into_iter().next() {
        Some((_, error)) => Err(error),
        None => Ok(rings),
    }
}

impl Rings {
    /// Adds profiles, file names and texts, in whatever order they come; returns the files that
    /// could not be added, each with what is wrong with it.
    pub fn add(&mut self, sources: &[(String, Vec<u8>)]) -> Vec<(String, Error)> {
        let (mut waiting, mut wrong) = (Vec::new(), Vec::new());
        for (file, bytes) in sources {
            match self.name_of(file, bytes, &waiting) {
                Ok((ring, parent)) => waiting.push((ring, parent, file, bytes)),
                Err(error) => wrong.push((file.clone(), error)),
            }
        }
        for _ in 0..CHAIN_MAX {
            let (ready, later): (Vec<_>, Vec<_>) = waiting
                .into_iter()
                .partition(|(_, parent, _, _)| self.find(&parent.value).is_ok());
            waiting = later;
            for (_, parent, file, bytes) in ready {
                let parent = self.find(&parent.value).cloned();
                match parent.and_then(|parent| RingProfile::parse(file, bytes, Some(&parent))) {
                    Ok(ring) => self.all.push(ring),
                    Err(error) => wrong.push((file.clone(), error)),
                }
            }
        }
        wrong.extend(waiting.into_iter().map(|(_, parent, file, _)| {
            let what = format!(
                "`extends` names `{}`, which leads to no built-in ring",
                shorten(&parent.value)
            );
            let error = Error::wrong(file, parent.span, what, "name a ring that exists");
            (file.clone(), error)
        }));
        wrong
    }

    /// The name of a profile and of its parent, which nobody has yet.
    fn name_of(
        &self,
        file: &str,
        bytes: &[u8],
        waiting: &[Waiting<'_>],
    ) -> Result<(String, At<String>), Error> {
        let (ring, parent) = parent_of(file, bytes)?;
        let known = self.all.iter().any(|known| known.name == ring);
        if known || waiting.iter().any(|(known, ..)| *known == ring) {
            return Err(Error::File {
                file: file.into(),
                what: format!("the name `{ring}` is already taken"),
                remedy: "choose another".into(),
            });
        }
        Ok((ring, parent))
    }
}

/// A profile whose parent is not read yet: its name, its parent's, its file and text.
type Waiting<'a> = (String, At<String>, &'a String, &'a Vec<u8>);

/// Name and bytes of each file of a site's folder, checked as [`load`] checks profiles. An absent folder
/// has none.
///
/// # Errors
/// When a folder or file cannot be trusted or read.
pub fn site_files(dir: &Path, owner: u32) -> Result<Vec<(String, Vec<u8>)>, Error> {
    let Some(folder) = open_chain(dir, owner)? else {
        return Ok(Vec::new());
    };
    let file = |name: String| {
        let path = dir.join(&name);
        let bytes = read(&folder, &name, &path, owner)?;
        Ok((path.to_string_lossy().into_owned(), bytes))
    };
    names(dir, &folder)?.into_iter().map(file).collect()
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
