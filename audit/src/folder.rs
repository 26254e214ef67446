//! Folders held open: everything in them is opened beneath the descriptor, by one plain name, and
//! no link is followed.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::OwnedFd;
use std::path::Path;

use rustix::fs::{
    AtFlags, CWD, Dir, FileType, FlockOperation, Mode, OFlags, flock, fstat, fsync, mkdirat,
    openat, renameat, unlinkat,
};
use rustix::io::Errno;

use crate::error::Error;

/// No small file (a tile, a key, a checkpoint) has more.
const SMALL_MAX: u64 = 1 << 20;

#[derive(Debug)]
pub(crate) struct Folder {
    fd: OwnedFd,
    path: String,
}

impl Folder {
    /// Any folder, to read from.
    pub(crate) fn open(path: &Path) -> Result<Self, Error> {
        let path = path.to_string_lossy().into_owned();
        let fd = open_dir(CWD, &path).map_err(|errno| Error::io(&path)(errno.into()))?;
        Ok(Self { fd, path })
    }

    /// A folder that is this user's alone; it is made when it is absent.
    pub(crate) fn private(path: &Path) -> Result<Self, Error> {
        let shown = path.to_string_lossy().into_owned();
        match mkdirat(CWD, path, Mode::RWXU) {
            Ok(()) | Err(Errno::EXIST) => {}
            Err(errno) => return Err(Error::io(shown)(errno.into())),
        }
        Self::open(path)?.ours()
    }

    fn ours(self) -> Result<Self, Error> {
        let stat = fstat(&self.fd).map_err(|errno| Error::io(&self.path)(errno.into()))?;
        let mine = stat.st_uid == rustix::process::geteuid().as_raw();
        if mine && stat.st_mode & 0o077 == 0 {
            Ok(self)
        } else {
            Err(Error::NotOurs { path: self.path })
        }
    }

    /// A folder in this one.
    pub(crate) fn sub(&self, name: &str) -> Result<Self, Error> {
        let path = self.path_of(name);
        let fd = open_dir(&self.fd, name).map_err(|errno| Error::io(&path)(errno.into()))?;
        Ok(Self { fd, path })
    }

    /// A folder in this one, made when it is absent.
    pub(crate) fn make(&self, name: &str) -> Result<Self, Error> {
        match mkdirat(&self.fd, name, Mode::RWXU) {
            Ok(()) | Err(Errno::EXIST) => self.sub(name)?.ours(),
            Err(errno) => Err(Error::io(self.path_of(name))(errno.into())),
        }
    }

    /// A regular file in this folder.
    pub(crate) fn file(&self, name: &str, flags: OFlags) -> Result<File, Error> {
        self.try_file(name, flags)
            .map_err(Error::io(self.path_of(name)))
    }

    pub(crate) fn try_file(&self, name: &str, flags: OFlags) -> io::Result<File> {
        // A pipe in its place must not be waited for.
        let flags = flags | OFlags::CLOEXEC | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY;
        let file = File::from(openat(&self.fd, name, flags, Mode::RUSR | Mode::WUSR)?);
        if FileType::from_raw_mode(fstat(&file)?.st_mode) == FileType::RegularFile {
            Ok(file)
        } else {
            Err(io::Error::other("is no regular file"))
        }
    }

    /// The whole of a small file; `None` when it is absent.
    pub(crate) fn read(&self, name: &str) -> Result<Option<Vec<u8>>, Error> {
        let file = match self.try_file(name, OFlags::RDONLY) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(Error::io(self.path_of(name))(error)),
        };
        let mut bytes = Vec::new();
        let read = file.take(SMALL_MAX).read_to_end(&mut bytes);
        read.map_err(Error::io(self.path_of(name)))?;
        Ok(Some(bytes))
    }

    /// Puts a whole small file in its place: before, the old one is there, and then the new one.
    pub(crate) fn replace(&self, name: &str, bytes: &[u8], sync: bool) -> Result<(), Error> {
        let staged = format!("{name}.new");
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::TRUNC;
        let mut file = self.file(&staged, flags)?;
        let mut put = || {
            file.write_all(bytes)?;
            if sync {
                file.sync_all()?;
            }
            renameat(&self.fd, &staged, &self.fd, name)?;
            if sync { Ok(fsync(&self.fd)?) } else { Ok(()) }
        };
        put().map_err(Error::io(self.path_of(name)))
    }

    /// The names in this folder, in order.
    pub(crate) fn names(&self) -> Result<Vec<String>, Error> {
        let list = || -> io::Result<Vec<String>> {
            let mut names = Vec::new();
            for entry in Dir::read_from(&self.fd)? {
                let name = entry?.file_name().to_string_lossy().into_owned();
                if name != "." && name != ".." {
                    names.push(name);
                }
            }
            names.sort_unstable();
            Ok(names)
        };
        list().map_err(Error::io(&self.path))
    }

    pub(crate) fn rename(&self, from: &str, to: &str) -> Result<(), Error> {
        renameat(&self.fd, from, &self.fd, to)
            .map_err(|errno| Error::io(self.path_of(to))(errno.into()))
    }

    pub(crate) fn remove(&self, name: &str) -> Result<(), Error> {
        self.unlink(name, AtFlags::empty())
    }

    pub(crate) fn remove_dir(&self, name: &str) -> Result<(), Error> {
        self.unlink(name, AtFlags::REMOVEDIR)
    }

    fn unlink(&self, name: &str, flags: AtFlags) -> Result<(), Error> {
        match unlinkat(&self.fd, name, flags) {
            Ok(()) | Err(Errno::NOENT) => Ok(()),
            Err(errno) => Err(Error::io(self.path_of(name))(errno.into())),
        }
    }

    /// Makes what was renamed and made here survive a power cut.
    pub(crate) fn sync(&self) -> Result<(), Error> {
        fsync(&self.fd).map_err(|errno| Error::io(&self.path)(errno.into()))
    }

    /// Waits until nobody else holds this folder locked, and holds it until the lock is dropped.
    pub(crate) fn lock(&self) -> Result<OwnedFd, Error> {
        let lock = || {
            // A description of its own: a lock on ours would be held as long as we are.
            let fd = open_dir(&self.fd, ".")?;
            flock(&fd, FlockOperation::LockExclusive)?;
            Ok(fd)
        };
        lock().map_err(|errno: Errno| Error::io(&self.path)(errno.into()))
    }

    pub(crate) fn path_of(&self, name: &str) -> String {
        format!("{}/{name}", self.path)
    }
}

fn open_dir(at: impl std::os::fd::AsFd, name: &str) -> rustix::io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    openat(at, name, flags, Mode::empty())
}
