//! Space that is kept for the end of a log: when the disk is full, how it ended still fits.

use std::io::{self, Write};

use rustix::fs::{FallocateFlags, OFlags, fallocate};
use rustix::io::Errno;

use crate::folder::Folder;

const RESERVE: &str = "reserve";

#[derive(Debug)]
pub(crate) struct Reserve {
    bytes: u64,
    kept: bool,
}

impl Reserve {
    pub(crate) const fn new(bytes: u64) -> Self {
        Self { bytes, kept: false }
    }

    /// Takes the space unless it is taken.
    pub(crate) fn keep(&mut self, log: &Folder) -> io::Result<()> {
        if self.kept || self.bytes == 0 {
            return Ok(());
        }
        let taken = self.take(log);
        if taken.is_err() {
            // Half of it would only be in the way.
            self.release(log);
        }
        self.kept = taken.is_ok();
        taken
    }

    fn take(&self, log: &Folder) -> io::Result<()> {
        let mut file = log.try_file(RESERVE, OFlags::WRONLY | OFlags::CREATE)?;
        match fallocate(&file, FallocateFlags::empty(), 0, self.bytes) {
            Ok(()) => Ok(()),
            Err(Errno::OPNOTSUPP) => {
                let zeros = vec![0; usize::try_from(self.bytes).unwrap_or(1 << 20)];
                file.write_all(&zeros)
            }
            Err(errno) => Err(errno.into()),
        }
    }

    /// Gives the space back, to whoever writes next.
    pub(crate) fn release(&mut self, log: &Folder) {
        self.kept = false;
        if let Ok(file) = log.file(RESERVE, OFlags::WRONLY) {
            // Removing it would need no less, and may fail where this does not.
            let _kept = file.set_len(0);
        }
    }
}
