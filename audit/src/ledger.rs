//! The ledger of a folder of logs: who was opened and closed, with which head. It is chained and
//! each line signed, so that a whole log that is missing is found.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{ErrorKind, Write};

use rustix::fs::{FlockOperation, OFlags, flock};
use serde_json::Value;

use crate::clock;
use crate::error::Error;
use crate::folder::Folder;
use crate::keys::Keys;
use crate::note::{Head, PublicKey};
use crate::segment::{Reader, last_line};
use crate::text::{hex, push_escaped, unhex};
use crate::tree::{Hash, leaf_hash};

pub(crate) const LEDGER: &str = "ledger.jsonl";

/// What is signed is this and the line up to its signature.
const CONTEXT: &[u8] = b"agt-audit ledger\n";

/// No line of it is longer.
pub(crate) const LINE_MAX: u64 = 16 * 1024;

/// What happened to a log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Event {
    Open,
    Close,
    /// It was old, and removed.
    Prune,
}

impl Event {
    const fn name(self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::Close => "close",
            Self::Prune => "prune",
        }
    }

    fn of(line: &Value) -> Option<Self> {
        match line.get("event")?.as_str()? {
            "open" => Some(Self::Open),
            "close" => Some(Self::Close),
            "prune" => Some(Self::Prune),
            _ => None,
        }
    }
}

/// A line of the ledger.
#[derive(Debug)]
pub(crate) struct Line {
    pub(crate) seq: u64,
    pub(crate) prev: Hash,
    pub(crate) event: Event,
    /// RFC 3339 in UTC, always of one length.
    pub(crate) time: String,
    pub(crate) log: String,
    pub(crate) head: Head,
}

impl Line {
    /// Reads a line that one of these keys signed.
    pub(crate) fn parse(line: &[u8], keys: &[PublicKey]) -> Option<Self> {
        let text = std::str::from_utf8(line).ok()?;
        let (body, signature) = text.rsplit_once(",\"sig\":\"")?;
        let signature = signature.strip_suffix("\"}")?;
        let message = [CONTEXT, body.as_bytes()].concat();
        keys.iter().find(|key| key.verifies(&message, signature))?;
        let value: Value = serde_json::from_slice(line).ok()?;
        let text = |key: &str| value.get(key)?.as_str();
        let event = Event::of(&value)?;
        Some(Self {
            seq: value.get("seq")?.as_u64()?,
            prev: unhex(text("prev")?.as_bytes())?,
            event,
            time: text("time")?.to_owned(),
            log: text("log")?.to_owned(),
            head: Head::verified(text("note")?, keys).ok()?,
        })
    }
}

/// The ledger, locked for as long as this lives.
#[derive(Debug)]
pub(crate) struct Ledger {
    file: File,
    path: String,
    seq: u64,
    head: Hash,
    bytes: u64,
}

impl Ledger {
    /// Waits for the lock; takes away a line that was cut short.
    pub(crate) fn lock(audit: &Folder) -> Result<Self, Error> {
        let path = audit.path_of(LEDGER);
        let mut file = audit.file(LEDGER, OFlags::RDWR | OFlags::CREATE | OFlags::APPEND)?;
        flock(&file, FlockOperation::LockExclusive)
            .map_err(|errno| Error::io(&path)(errno.into()))?;
        let found = last_line(&mut file, LINE_MAX).map_err(Error::io(&path))?;
        let (last, bytes) = found.unwrap_or_default();
        file.set_len(bytes).map_err(Error::io(&path))?;
        let (seq, head) = if bytes == 0 {
            (0, [0; 32])
        } else {
            let value: Option<Value> = serde_json::from_slice(&last).ok();
            let seq = value.and_then(|value| value.get("seq")?.as_u64());
            (seq.ok_or(Error::Ledger { at: 0 })? + 1, leaf_hash(&last))
        };
        Ok(Self {
            file,
            path,
            seq,
            head,
            bytes,
        })
    }

    /// The hash of its last line.
    pub(crate) const fn head(&self) -> &Hash {
        &self.head
    }

    /// Adds a line; it is on disk afterwards.
    pub(crate) fn add(
        &mut self,
        event: Event,
        log: &str,
        note: &str,
        keys: &Keys,
    ) -> Result<(), Error> {
        let mut line = format!(
            "{{\"seq\":{},\"time\":\"{}\",\"prev\":\"{}\",\"event\":\"{}\",\"log\":\"{log}\",\"note\":\"",
            self.seq,
            clock::now(),
            hex(&self.head),
            event.name()
        )
        .into_bytes();
        push_escaped(&mut line, note);
        line.push(b'"');
        let signature = keys.sign(&[CONTEXT, &line].concat());
        line.extend_from_slice(format!(",\"sig\":\"{signature}\"}}").as_bytes());
        let leaf = leaf_hash(&line);
        line.push(b'\n');
        if let Err(error) = self.file.write_all(&line) {
            self.file
                .set_len(self.bytes)
                .map_err(Error::io(&self.path))?;
            return Err(Error::io(&self.path)(error));
        }
        self.file.sync_data().map_err(Error::io(&self.path))?;
        self.bytes += line.len() as u64;
        self.seq += 1;
        self.head = leaf;
        Ok(())
    }
}

/// What the ledger says, as far as it holds.
#[derive(Debug, Default)]
pub(crate) struct Read {
    pub(crate) lines: Vec<Line>,
    /// The hash of each, and what the first has before it.
    pub(crate) leaves: BTreeSet<Hash>,
    /// The first line that does not hold.
    pub(crate) altered: Option<u64>,
    /// The last line has no end.
    pub(crate) torn: bool,
}

fn reader(audit: &Folder) -> Result<Option<Reader>, Error> {
    match Reader::open(audit, LEDGER, 0) {
        Ok(reader) => Ok(Some(reader)),
        Err(Error::Io { error, .. }) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

pub(crate) fn read(audit: &Folder, keys: &[PublicKey]) -> Result<Read, Error> {
    let mut found = Read::default();
    let mut prev = [0; 32];
    found.leaves.insert(prev);
    let Some(mut reader) = reader(audit)? else {
        return Ok(found);
    };
    while let Some(line) = reader.next()? {
        if !line.whole {
            found.torn = true;
            break;
        }
        let at = found.lines.len() as u64;
        let parsed = Line::parse(line.bytes, keys);
        let Some(parsed) = parsed.filter(|line| line.seq == at && line.prev == prev) else {
            found.altered = Some(at);
            break;
        };
        prev = leaf_hash(line.bytes);
        found.leaves.insert(prev);
        found.lines.push(parsed);
    }
    Ok(found)
}

/// The logs that were opened and not closed. Every start asks this: a signature is looked at only where
/// something follows from it, for a line that is not signed can hide a log here, and `verify` tells that.
pub(crate) fn left_open(audit: &Folder, keys: &[PublicKey]) -> Result<BTreeSet<String>, Error> {
    let mut open: BTreeMap<String, Vec<u8>> = BTreeMap::new();
    let Some(mut reader) = reader(audit)? else {
        return Ok(BTreeSet::new());
    };
    while let Some(line) = reader.next()?.filter(|line| line.whole) {
        let said = serde_json::from_slice(line.bytes).ok();
        let said = said.and_then(|value: Value| {
            let log = value.get("log")?.as_str()?.to_owned();
            Some((Event::of(&value)?, log))
        });
        match said {
            Some((Event::Open, log)) => drop(open.insert(log, line.bytes.to_vec())),
            Some((Event::Close | Event::Prune, log)) => drop(open.remove(&log)),
            None => break,
        }
    }
    open.retain(|_, line| Line::parse(line, keys).is_some());
    Ok(open.into_keys().collect())
}

/// Whether a log was opened ever.
pub(crate) fn is_listed(audit: &Folder, log: &str, keys: &[PublicKey]) -> Result<bool, Error> {
    let lines = read(audit, keys)?.lines;
    Ok(lines.iter().any(|line| line.log == log))
}
