//! What a run may leave behind if everything of it is killed at once, written down before it
//! exists, so that the next start can take it away.
//!
//! A run's file is locked by the supervisor and by ringd for as long as either lives: the lock says
//! who is alive, never a pid. Groups are removed only when boot and inode still match.

use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use crate::cgroup;
use crate::places::{self, Lock};

/// The record of one live run.
#[derive(Debug)]
pub(crate) struct Record {
    pub(crate) lock: Lock,
}

impl Record {
    /// Opens the record of a new run of this name.
    pub(crate) fn open(id: &str) -> io::Result<Self> {
        let runs = runs_dir();
        places::private_dir(&runs)?;
        let path = runs.join(id);
        let lock = Lock::make(&path, &places::run_dir().join("starting"))?;
        writeln!(&lock.file, "boot {}", boot_id()?)?;
        Ok(Self { lock })
    }

    /// Writes down a group that is about to be made: until its inode is known it is only removed
    /// when it is empty.
    pub(crate) fn planned(&self, path: &Path) -> io::Result<()> {
        writeln!(&self.lock.file, "planned {}", path.display())
    }

    /// Writes down a group that was just made.
    pub(crate) fn group(&self, path: &Path) -> io::Result<()> {
        let inode = fs::symlink_metadata(path)?.ino();
        writeln!(&self.lock.file, "cgroup {inode} {}", path.display())
    }

    /// Everything is gone: so is the record.
    pub(crate) fn close(self) -> io::Result<()> {
        fs::remove_file(&self.lock.path)
    }
}

/// Takes away what dead runs left. Live ones hold their locks and are not touched.
pub(crate) fn sweep() -> io::Result<()> {
    each_dead(&runs_dir(), |path| sweep_run(&fs::read_to_string(path)?))?;
    each_dead(&places::run_dir().join("uids"), |_| Ok(()))
}

/// Does something about each file whose holder is gone, and removes it.
fn each_dead(dir: &Path, take_away: impl Fn(&Path) -> io::Result<()>) -> io::Result<()> {
    let entries = match fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
    };
    for entry in entries {
        let path = entry?.path();
        if let Some(lock) = Lock::try_take(&path)? {
            take_away(&path)?;
            fs::remove_file(&lock.path)?;
        }
    }
    Ok(())
}

fn sweep_run(record: &str) -> io::Result<()> {
    let mut lines = record.lines();
    let this_boot = format!("boot {}", boot_id()?);
    if lines.next() != Some(this_boot.as_str()) {
        // Nothing of another boot is left but the file.
        return Ok(());
    }
    for line in lines {
        if let Some(path) = line.strip_prefix("planned ") {
            // Never made, or listed again below with its inode.
            let _elsewhere = fs::remove_dir(path);
        }
        let parsed = line
            .strip_prefix("cgroup ")
            .and_then(|rest| rest.split_once(' '));
        let Some((inode, path)) = parsed else {
            continue;
        };
        if let Ok(inode) = inode.parse() {
            cgroup::sweep(Path::new(path), inode)?;
        }
    }
    Ok(())
}

fn runs_dir() -> PathBuf {
    places::run_dir().join("runs")
}

fn boot_id() -> io::Result<String> {
    Ok(fs::read_to_string("/proc/sys/kernel/random/boot_id")?
        .trim()
        .to_owned())
}
