//! Where what is held lies: one file each, named by what it answers and by who asks.
//!
//! Names and times alone say how much waits, so that one more question costs the same however much does.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::PathBuf;

use serde_json::json;

use super::{Error, Held, Question, STEERED_MS, State, WAITS_MS, id, parse, to_json};
use crate::places;

/// Actions that wait at once, or whose answer does, in all and of one agent in one place; the next is denied.
pub(super) const WAITING_MAX: usize = 64;
pub(super) const WAITING_EACH: usize = 16;
/// More than this no person reads.
const FILE_BYTES_MAX: usize = 256 * 1024;
/// Names that are looked at.
const NAMES_MAX: usize = 1024;

/// Changes with what is in a file: it is replaced, never written anew.
type Stamp = (u64, i64, i64, u64);

/// A file by its name and times.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Entry {
    name: String,
    stamp: Stamp,
}

impl Entry {
    /// Whether it is what this name stands for.
    fn is(&self, id: &str) -> bool {
        self.name.split('.').next() == Some(id)
    }

    /// Whether this agent asks, in this place.
    fn is_of(&self, who: &str) -> bool {
        self.name.rsplit('.').next() == Some(who)
    }
}

/// Everything that is held, as it was last read: what has not changed is not read again.
#[derive(Debug, Default)]
pub(crate) struct Shelf {
    known: BTreeMap<String, (Stamp, Held)>,
}

impl Shelf {
    /// What is open now, the oldest first.
    pub(crate) fn look(&mut self, now: u64) -> Result<Vec<&Held>, Error> {
        let mut before = std::mem::take(&mut self.known);
        for entry in entries(now)? {
            let same = before.remove(&entry.name);
            let held = match same.filter(|(stamp, _)| *stamp == entry.stamp) {
                Some((_, held)) => Some(held),
                None => read(&entry.name, now)?,
            };
            if let Some(held) = held {
                self.known.insert(entry.name, (entry.stamp, held));
            }
        }
        let all = self.known.values().map(|(_, held)| held);
        let mut open: Vec<&Held> = all.filter(|held| held.is_open(now)).collect();
        open.sort_by_key(|held| held.until);
        Ok(open)
    }
}

fn dir() -> PathBuf {
    places::state_dir().join("approvals")
}

/// The agent and the place, in a name: the names of both are theirs to choose.
fn who(question: &Question) -> String {
    let both = json!([question.agent, question.place]).to_string();
    let hex = audit::hex(&audit::leaf_hash(both.as_bytes()));
    hex.get(..16).unwrap_or(&hex).to_owned()
}

fn name(question: &Question) -> String {
    format!("{}.{}", id(&question.digest), who(question))
}

/// What lies there and may still count; what surely does not is taken away.
fn entries(now: u64) -> Result<Vec<Entry>, Error> {
    let entries = match fs::read_dir(dir()) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error.into()),
    };
    let mut all = Vec::new();
    for (count, entry) in entries.enumerate() {
        if count >= NAMES_MAX {
            return Err(Error::Crowded);
        }
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        if !name.trim_start_matches('.').starts_with("ap-") {
            continue;
        }
        // One that was answered or used meanwhile is another, or none.
        let Ok(meta) = entry.metadata() else { continue };
        if is_over(&meta, now) {
            let _others_did = fs::remove_file(entry.path());
        } else if is_ours(&name) {
            let stamp = (meta.ino(), meta.mtime(), meta.mtime_nsec(), meta.len());
            all.push(Entry { name, stamp });
        }
    }
    all.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(all)
}

/// Longer ago than anything waits, or written by a clock that was set back since.
fn is_over(meta: &fs::Metadata, now: u64) -> bool {
    let millis = meta.mtime().saturating_mul(1000) + meta.mtime_nsec() / 1_000_000;
    let written = u64::try_from(millis).unwrap_or(0);
    now > written + WAITS_MS + 2 * STEERED_MS || written > now + 2 * STEERED_MS
}

fn is_ours(name: &str) -> bool {
    let hex = |text: &str, digits| {
        text.len() == digits && text.bytes().all(|byte| byte.is_ascii_hexdigit())
    };
    let parts = name
        .strip_prefix("ap-")
        .and_then(|name| name.split_once('.'));
    parts.is_some_and(|(digest, who)| hex(digest, 32) && hex(who, 16))
}

/// What is held of this action; what is over is taken away.
pub(crate) fn find(digest: &[u8; 32], now: u64) -> Result<Option<Held>, Error> {
    let mut taken = false;
    for held in named(&id(digest), now)? {
        if held.question.digest == *digest {
            return Ok(Some(held));
        }
        taken = true;
    }
    if taken { Err(Error::Taken) } else { Ok(None) }
}

/// What is held under this name.
pub(crate) fn get(id: &str, now: u64) -> Result<Option<Held>, Error> {
    Ok(named(id, now)?.into_iter().next())
}

fn named(id: &str, now: u64) -> Result<Vec<Held>, Error> {
    let entries = entries(now)?.into_iter();
    let named = entries.filter(|entry| entry.is(id));
    let held = named.map(|entry| read(&entry.name, now));
    held.filter_map(Result::transpose).collect()
}

/// Lets it wait; on disk before this returns.
pub(crate) fn ask(question: Question, now: u64) -> Result<Held, Error> {
    let entries = entries(now)?;
    let who = who(&question);
    if entries.iter().filter(|one| one.is_of(&who)).count() >= WAITING_EACH {
        return Err(Error::Many);
    }
    if entries.len() >= WAITING_MAX {
        return Err(Error::Full);
    }
    let held = Held {
        question,
        state: State::Waits,
        owner: crate::who::requester(),
        until: now + WAITS_MS,
    };
    write(&held)?;
    Ok(held)
}

/// Uses an approval up: it is gone from disk before what it allows is done.
pub(crate) fn take(held: &Held) -> Result<(), Error> {
    fs::remove_file(dir().join(name(&held.question)))?;
    sync_dir()?;
    Ok(())
}

/// Everything that is held, the oldest first.
pub(crate) fn list(now: u64) -> Result<Vec<Held>, Error> {
    let mut shelf = Shelf::default();
    Ok(shelf.look(now)?.into_iter().cloned().collect())
}

fn read(name: &str, now: u64) -> Result<Option<Held>, Error> {
    let path = dir().join(name);
    let mut bytes = Vec::new();
    let flags = i32::try_from(rustix::fs::OFlags::NOFOLLOW.bits()).unwrap_or(0);
    match File::options().read(true).custom_flags(flags).open(&path) {
        Ok(file) => drop(file.take(FILE_BYTES_MAX as u64).read_to_end(&mut bytes)?),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error.into()),
    }
    let held = serde_json::from_slice(&bytes)
        .ok()
        .and_then(|value| parse(&value));
    // What nobody can read, or lies under another's name, allows nothing and keeps nothing waiting.
    let held = held.filter(|held| held.is_open(now) && self::name(&held.question) == name);
    if held.is_none() {
        let _others_did = fs::remove_file(&path);
    }
    Ok(held)
}

pub(super) fn write(held: &Held) -> Result<(), Error> {
    let text = to_json(held).to_string();
    if text.len() > FILE_BYTES_MAX {
        return Err(Error::Large);
    }
    let dir = dir();
    places::private_dir(&dir)?;
    let name = name(&held.question);
    let staged = dir.join(format!(".{name}"));
    let mut options = File::options();
    options.write(true).create(true).truncate(true).mode(0o600);
    let mut file = options.open(&staged)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()?;
    fs::rename(&staged, dir.join(name))?;
    sync_dir()?;
    Ok(())
}

fn sync_dir() -> io::Result<()> {
    File::open(dir())?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_leads_nowhere_else() {
        for name in [
            "",
            "ap-",
            "ap-0123456789abcdef0123456789abcdef",
            "ap-0123456789abcdef0123456789abcdef.",
            "ap-../../../../../x.0123456789abcdef",
            "ap-0123456789abcdef0123456789abcdef.0123456789abcde/",
            "ap-0123456789abcdef0123456789abcdef.0123456789abcdef.0",
            ".ap-0123456789abcdef0123456789abcdef.0123456789abcdef",
        ] {
            assert!(!is_ours(name), "{name}");
        }
        assert!(is_ours(
            "ap-0123456789abcdef0123456789abcdef.fedcba9876543210"
        ));
    }
}
