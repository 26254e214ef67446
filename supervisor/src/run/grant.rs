//! Grants: paths of agent.yaml that have become objects.

use std::ffi::CString;
use std::fs::{self, Metadata};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Component, Path, PathBuf};

use jail::Ids;
use plan::Source;
use rustix::fs::{Mode, OFlags};

use super::program::View;
use super::runtime::Link;

/// One path that the ring sees.
#[derive(Debug)]
pub(crate) struct Grant {
    /// Canonical, on the host and inside.
    pub(crate) path: PathBuf,
    pub(crate) write: bool,
    pub(crate) is_dir: bool,
    pub(crate) owner: Ids,
    /// What was written below `~/`: it is seen there in the agent's home too.
    pub(crate) below_home: Option<PathBuf>,
    /// What kind of installation of the agent's program it is, where it is one.
    pub(crate) runtime: Option<&'static str>,
    /// Device and inode of what was found.
    object: (u64, u64),
    source: Source,
}

/// Why a path cannot be granted.
#[derive(Debug, thiserror::Error)]
pub(crate) enum GrantError {
    #[error("`{}` does not exist; create it, or write it with a `?` at its end", path.display())]
    Missing { path: PathBuf },
    #[error("`{}` cannot be looked at: {error}", path.display())]
    Unreadable { path: PathBuf, error: io::Error },
    #[error("`{}` is a {kind}; only files and folders can be granted", path.display())]
    Kind { path: PathBuf, kind: &'static str },
    #[error("`{}` is part of the ring itself ({what}); grant something below another folder", path.display())]
    Special { path: PathBuf, what: &'static str },
    #[error("`{}` is reached through the link `{}`, which lies where an agent may write and may be its work; name what it leads to, or remove the link", path.display(), link.display())]
    Planted { path: PathBuf, link: PathBuf },
    #[error("`{}` changed while it was looked at; start again", path.display())]
    Changed { path: PathBuf },
    #[error("`{}` holds {}, which an agent must never write; grant a folder beside it", path.display(), ours.display())]
    Ours { path: PathBuf, ours: PathBuf },
    #[error("`{}` lies in {}, where agents' homes with their logins are; no other agent reads them", path.display(), ours.display())]
    Home { path: PathBuf, ours: PathBuf },
}

/// Walks a path as it was written, from a canonical folder, and refuses a symbolic link in a folder
/// that an agent may write: an earlier run may have put it there so that this one is granted more
/// than was meant. Returns where the path leads.
pub(crate) fn walk(path: &Path, writable: &[PathBuf]) -> Result<PathBuf, GrantError> {
    let mut at = PathBuf::from("/");
    for part in path.components() {
        match part {
            Component::ParentDir => drop(at.pop()),
            Component::Normal(name) => {
                let next = at.join(name);
                let is_link = fs::symlink_metadata(&next).is_ok_and(|meta| meta.is_symlink());
                if is_link && writable.iter().any(|place| at.starts_with(place)) {
                    return Err(GrantError::Planted {
                        path: path.to_owned(),
                        link: next,
                    });
                }
                at = if is_link {
                    next.canonicalize().unwrap_or(next)
                } else {
                    next
                };
            }
            Component::RootDir | Component::CurDir | Component::Prefix(_) => {}
        }
    }
    Ok(at)
}

impl Grant {
    /// Refuses a path that is reached through a link which an agent may have planted.
    pub(crate) fn refuse_planted(
        &self,
        path: &Path,
        writable: &[PathBuf],
    ) -> Result<(), GrantError> {
        if walk(path, writable)? == self.path {
            Ok(())
        } else {
            Err(GrantError::Changed {
                path: path.to_owned(),
            })
        }
    }

    /// Looks a path up, once: what it is now is what the ring gets, or the ring does not start.
    pub(crate) fn find(path: &Path, write: bool) -> Result<Self, GrantError> {
        let absent = |error: &io::Error| {
            matches!(
                error.kind(),
                io::ErrorKind::NotFound | io::ErrorKind::NotADirectory
            )
        };
        let real = path.canonicalize().map_err(|error| {
            let path = path.to_owned();
            if absent(&error) {
                GrantError::Missing { path }
            } else {
                GrantError::Unreadable { path, error }
            }
        })?;
        let unreadable = |error| GrantError::Unreadable {
            path: real.clone(),
            error,
        };
        let meta = fs::symlink_metadata(&real).map_err(unreadable)?;
        if !meta.is_dir() && !meta.is_file() {
            return Err(GrantError::Kind {
                path: real,
                kind: kind(&meta),
            });
        }
        refuse_special(&real, write)?;
        let source = Self::identify(&real, &meta).map_err(unreadable)?;
        Ok(Self {
            write,
            is_dir: meta.is_dir(),
            owner: Ids {
                uid: meta.uid(),
                gid: meta.gid(),
            },
            below_home: None,
            runtime: None,
            object: (meta.dev(), meta.ino()),
            source,
            path: real,
        })
    }

    /// The source of a path as it is at this moment.
    pub(crate) fn identify(path: &Path, meta: &Metadata) -> io::Result<Source> {
        let name = CString::new(path.as_os_str().as_bytes()).map_err(io::Error::other)?;
        Ok(Source::Path {
            path: name,
            dev: meta.dev(),
            ino: meta.ino(),
        })
    }

    pub(crate) fn source(&self) -> Source {
        self.source.clone()
    }

    /// Opens the object itself for making a detached tree of it; only what was found before.
    pub(crate) fn open(&self) -> io::Result<OwnedFd> {
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let fd = rustix::fs::open(&self.path, flags, Mode::empty())?;
        let stat = rustix::fs::fstat(&fd)?;
        if self.object == (stat.st_dev, stat.st_ino) {
            Ok(fd)
        } else {
            Err(rustix::io::Errno::STALE.into())
        }
    }

    /// From now on the tree comes as the n-th descriptor.
    pub(crate) fn detached(&mut self, index: u16) {
        self.source = Source::Detached(index);
    }

    fn covers(&self, path: &Path) -> bool {
        path.starts_with(&self.path)
    }

    /// Refuses a grant of what was trusted to an agent in its home.
    pub(crate) fn refuse_homes(&self, homes: &Path) -> Result<(), GrantError> {
        let real = homes.canonicalize().unwrap_or_else(|_| homes.to_owned());
        if self.path.starts_with(&real) {
            return Err(GrantError::Home {
                path: self.path.clone(),
                ours: real,
            });
        }
        Ok(())
    }

    /// Refuses a writable grant that reaches anything of ours.
    pub(crate) fn refuse_ours(&self, ours: &[PathBuf]) -> Result<(), GrantError> {
        for one in ours.iter().filter(|_| self.write) {
            let real = one.canonicalize().unwrap_or_else(|_| one.clone());
            if self.covers(&real) || self.path.starts_with(&real) {
                return Err(GrantError::Ours {
                    path: self.path.clone(),
                    ours: real,
                });
            }
        }
        Ok(())
    }
}

fn kind(meta: &Metadata) -> &'static str {
    use std::os::unix::fs::FileTypeExt;
    let kind = meta.file_type();
    if kind.is_socket() {
        "socket"
    } else if kind.is_fifo() {
        "FIFO"
    } else {
        "device"
    }
}

/// Places that the ring makes itself.
const SPECIAL: [(&str, &str); 4] = [
    ("/proc", "its own /proc"),
    ("/dev", "its own devices"),
    ("/sys", "a subset of /sys"),
    ("/etc/agt", "the supervisor's configuration"),
];

fn refuse_special(path: &Path, write: bool) -> Result<(), GrantError> {
    let special = |what| {
        Err(GrantError::Special {
            path: path.to_owned(),
            what,
        })
    };
    if path == Path::new("/") {
        return special("its root");
    }
    if let Some((_, what)) = SPECIAL.iter().find(|(place, _)| path.starts_with(place)) {
        return special(what);
    }
    let whole = [
        "/tmp", "/etc", "/usr", "/lib", "/lib64", "/bin", "/sbin", "/run", "/var", "/home",
    ];
    match whole.iter().find(|place| path == Path::new(place)) {
        Some(_)
            if write
                || ["/tmp", "/run"]
                    .iter()
                    .any(|shared| path == Path::new(shared)) =>
        {
            special("a folder that the system shares")
        }
        _ => Ok(()),
    }
}

/// What the ring sees: the system runtime and the grants.
#[derive(Debug)]
pub(crate) struct Sight<'a> {
    pub(crate) system: &'a [PathBuf],
    pub(crate) grants: &'a [Grant],
    /// Links that are made again inside.
    pub(crate) links: &'a [Link],
}

impl View for Sight<'_> {
    fn sees(&self, path: &Path) -> bool {
        self.grants.iter().any(|grant| grant.covers(path))
            || self.system.iter().any(|place| path.starts_with(place))
            || self.links.iter().any(|link| path == link.path)
    }
}
