//! Every head that was signed, one to a line.

use std::fs::File;
use std::io::Write;

use rustix::fs::OFlags;
use serde_json::Value;

use crate::error::Error;
use crate::folder::Folder;
use crate::note::{Head, PublicKey};
use crate::segment::last_line;
use crate::text::push_escaped;

/// The file of all heads, and that of the latest, as it is published.
pub(crate) const HISTORY: &str = "checkpoints.jsonl";
pub(crate) const LATEST: &str = "checkpoint";

/// No line of it is longer.
pub(crate) const LINE_MAX: u64 = 16 * 1024;

/// The history of a log that is written.
#[derive(Debug)]
pub(crate) struct History {
    file: File,
    path: String,
    bytes: u64,
}

impl History {
    /// Opens it, takes away a line that was cut short, and gives the last head.
    pub(crate) fn open(log: &Folder, keys: &[PublicKey]) -> Result<(Self, Option<Head>), Error> {
        let path = log.path_of(HISTORY);
        let mut file = log.file(HISTORY, OFlags::RDWR | OFlags::CREATE | OFlags::APPEND)?;
        let found = last_line(&mut file, LINE_MAX).map_err(Error::io(&path))?;
        let (last, bytes) = found.unwrap_or_default();
        file.set_len(bytes).map_err(Error::io(&path))?;
        let head = match last.is_empty() {
            true => None,
            false => Some(parse(&last, keys)?),
        };
        Ok((Self { file, path, bytes }, head))
    }

    /// Adds a head; it is on disk afterwards.
    pub(crate) fn add(&mut self, head: &Head, note: &str) -> Result<(), Error> {
        let mut line = format!("{{\"size\":{},\"note\":\"", head.size).into_bytes();
        push_escaped(&mut line, note);
        line.extend_from_slice(b"\"}\n");
        if let Err(error) = self.file.write_all(&line) {
            self.file
                .set_len(self.bytes)
                .map_err(Error::io(&self.path))?;
            return Err(Error::io(&self.path)(error));
        }
        self.bytes += line.len() as u64;
        self.file.sync_data().map_err(Error::io(&self.path))
    }
}

/// The note of a line.
pub(crate) fn note(line: &[u8]) -> Option<(u64, String)> {
    let value: Value = serde_json::from_slice(line).ok()?;
    let size = value.get("size")?.as_u64()?;
    Some((size, value.get("note")?.as_str()?.to_owned()))
}

/// The head of a line, when one of these keys signed it.
pub(crate) fn parse(line: &[u8], keys: &[PublicKey]) -> Result<Head, Error> {
    let what = "a line of checkpoints.jsonl is damaged";
    let (size, note) = note(line).ok_or(Error::Malformed { what })?;
    let head = Head::verified(&note, keys)?;
    if head.size == size {
        Ok(head)
    } else {
        Err(Error::Malformed { what })
    }
}
