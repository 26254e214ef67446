//! Who takes records: a file that is appended to, or a Unix stream socket.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::thread::sleep;
use std::time::Duration;

use rustix::fs::OFlags;

use crate::error::Failed;

/// Where records go, by its absolute path.
#[derive(Clone, Debug)]
pub(crate) enum Destination {
    File(PathBuf),
    Socket(PathBuf),
}

impl Destination {
    /// `PATH` or `unix:PATH`.
    pub(crate) fn parse(to: &str) -> Result<Self, Failed> {
        let wrong = |why: String| Failed::Order { why, code: 2 };
        let absolute = |path: &str| {
            std::path::absolute(path).map_err(|error| wrong(format!("--to `{to}`: {error}")))
        };
        if to.contains("://") {
            let why = "--to takes a file or unix:PATH; for the network let a shipper listen there, or give it `audit show --follow --json`";
            return Err(wrong(why.to_owned()));
        }
        if let Some(path) = to.strip_prefix("unix:") {
            return Ok(Self::Socket(absolute(path)?));
        }
        let path = absolute(to)?;
        if fs::metadata(&path).is_ok_and(|meta| !meta.is_file()) {
            return Err(wrong(format!("--to `{to}` is no file")));
        }
        Ok(Self::File(path))
    }
}

impl std::fmt::Display for Destination {
    fn fmt(&self, to: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::File(path) => write!(to, "{}", path.display()),
            Self::Socket(path) => write!(to, "unix:{}", path.display()),
        }
    }
}

/// A destination that takes something.
#[derive(Debug)]
pub(crate) enum Sink {
    File { file: File, path: PathBuf },
    Socket(UnixStream),
}

impl Sink {
    pub(crate) fn open(to: &Destination) -> io::Result<Self> {
        match to {
            Destination::File(path) => Self::file(path),
            Destination::Socket(path) => Ok(Self::Socket(UnixStream::connect(path)?)),
        }
    }

    fn file(path: &Path) -> io::Result<Self> {
        // A pipe in its place must not be waited for.
        let flags = i32::try_from((OFlags::NOFOLLOW | OFlags::NONBLOCK).bits()).unwrap_or(0);
        let mut options = OpenOptions::new();
        options.read(true).append(true).create(true).mode(0o600);
        let mut file = options.custom_flags(flags).open(path)?;
        let meta = file.metadata()?;
        if !meta.is_file() {
            return Err(io::Error::other("it is no file"));
        }
        match meta.len().checked_sub(1) {
            // Its name has to survive a power cut as well.
            None => path
                .parent()
                .map_or(Ok(()), |dir| File::open(dir)?.sync_all())?,
            Some(last) => {
                let mut byte = [0];
                file.read_exact_at(&mut byte, last)?;
                if byte != *b"\n" {
                    // A line that was cut short ends here, and comes whole after it: what others may have
                    // written is never taken away.
                    file.write_all(b"\n")?;
                }
            }
        }
        let path = path.to_owned();
        Ok(Self::File { file, path })
    }

    /// Gives it whole lines.
    pub(crate) fn write(&mut self, lines: &[u8]) -> io::Result<()> {
        match self {
            Self::Socket(socket) => socket.write_all(lines),
            Self::File { file, path } => {
                let open = file.metadata()?;
                let moved = match fs::symlink_metadata(&*path) {
                    Ok(named) => (named.dev(), named.ino()) != (open.dev(), open.ino()),
                    Err(_) => true,
                };
                if moved {
                    // Rotated: on with the new one.
                    file.sync_data()?;
                    *self = Self::file(&path.clone())?;
                    return self.write(lines);
                }
                file.write_all(lines)
            }
        }
    }

    /// Returns when all of that was taken: it is on disk, or was read at the other end.
    pub(crate) fn settle(&mut self) -> io::Result<()> {
        match self {
            Self::File { file, .. } => file.sync_data(),
            Self::Socket(socket) => {
                let mut pause = Duration::from_millis(1);
                while !sys::socket::is_drained(&*socket)? {
                    sleep(pause);
                    pause = Duration::from_millis(20).min(pause * 2);
                }
                // Nobody will read what was waiting when the other end went: then there is an error.
                socket.take_error()?.map_or(Ok(()), Err)
            }
        }
    }
}
