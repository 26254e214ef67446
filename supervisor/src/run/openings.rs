//! Logs that were opened and not closed, by name: what a supervisor that was killed left is found without
//! reading what all runs before it wrote.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use audit::{Error, Keys, Log, Options};

use crate::banner;
use crate::places;
use crate::words;

fn dir() -> PathBuf {
    places::state_dir().join("open-logs")
}

/// Before a log is opened.
pub(super) fn note(log: &str) -> io::Result<()> {
    places::private_dir(&dir())?;
    fs::write(dir().join(log), "")
}

/// After it was closed.
pub(super) fn forget(log: &str) {
    // The next start finds it closed and takes the note away.
    let _left = fs::remove_file(dir().join(log));
}

/// Closes what dead runs left open. One that cannot be closed is told and left.
pub(super) fn sweep(audit: &Path, keys: &impl Fn() -> Result<Keys, Error>) {
    let Ok(entries) = fs::read_dir(dir()) else {
        return;
    };
    for entry in entries.flatten() {
        let log = entry.file_name().to_string_lossy().into_owned();
        // One whose maker was killed may be known to the ledger already, and is to be closed.
        if !audit::is_begun(audit, &log) {
            // It never came to be, or is about to.
            let age = entry.metadata().and_then(|meta| meta.modified()).ok();
            let age = age.and_then(|since| since.elapsed().ok());
            if age.is_some_and(|age| age > Duration::from_secs(60)) {
                forget(&log);
            }
            continue;
        }
        let closed = keys().and_then(|keys| Log::open(audit, &log, keys, Options::default()));
        match closed.and_then(Log::close) {
            Ok(_) => forget(&log),
            Err(Error::Busy { .. }) => {}
            Err(error) => {
                let log = words::escape(&log);
                banner::print(&[format!(
                    "the log {log} of a dead run cannot be closed: {error}"
                )]);
            }
        }
    }
}
