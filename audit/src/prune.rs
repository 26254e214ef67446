//! Old logs taken away: the ledger keeps their last heads, and says who signed that they went.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use crate::clock;
use crate::error::Error;
use crate::folder::Folder;
use crate::keys::Keys;
use crate::ledger::{self, Event, Ledger, Line};
use crate::recover::{LOCK, lock};
use crate::tile;

/// A folder that is being removed.
pub(crate) const OLD: &str = ".old-";

/// Removes the logs that were closed longer ago than this, and names them; with `dry` only names them.
///
/// Each gets a line in the ledger first, so that one that is missing without such a line was removed by
/// somebody else. What is open, or being written, stays.
///
/// # Errors
/// When the ledger does not hold, or a log cannot be removed; those before it are.
pub fn prune(dir: &Path, keys: &Keys, age: Duration, dry: bool) -> Result<Vec<String>, Error> {
    let audit = Folder::private(dir)?;
    let mut ledger = Ledger::lock(&audit)?;
    let read = ledger::read(&audit, keys.all())?;
    if let Some(at) = read.altered {
        return Err(Error::Ledger { at });
    }
    let mut last: BTreeMap<String, Line> = BTreeMap::new();
    for line in read.lines {
        last.insert(line.log.clone(), line);
    }
    let before = clock::ago(age);
    let mut pruned = Vec::new();
    for (name, line) in last {
        match line.event {
            // The process that removed it was killed meanwhile.
            // Where that is not possible it stays, and keeps nothing else from being removed.
            Event::Prune if !dry => drop(clear(&audit, &name)),
            Event::Close if line.time < before && audit.sub(&name).is_ok() => {
                if !dry && !remove(&audit, &mut ledger, &line, keys)? {
                    continue;
                }
                pruned.push(name);
            }
            Event::Open | Event::Close | Event::Prune => {}
        }
    }
    Ok(pruned)
}

/// Whether it could be removed: not while somebody writes it.
fn remove(audit: &Folder, ledger: &mut Ledger, line: &Line, keys: &Keys) -> Result<bool, Error> {
    let name = &line.log;
    let _held = match lock(&audit.sub(name)?, name) {
        Ok(held) => held,
        Err(Error::Busy { .. }) => return Ok(false),
        Err(error) => return Err(error),
    };
    ledger.add(Event::Prune, name, &keys.checkpoint(&line.head), keys)?;
    clear(audit, name)?;
    Ok(true)
}

/// Takes it out of sight in one step, and then away.
fn clear(audit: &Folder, name: &str) -> Result<(), Error> {
    let old = format!("{OLD}{name}");
    if audit.sub(name).is_ok() {
        audit.rename(name, &old)?;
    }
    let Ok(folder) = audit.sub(&old) else {
        return Ok(());
    };
    tile::clear(&folder)?;
    folder.remove_dir(tile::TILES)?;
    for file in folder.names()?.iter().filter(|file| *file != LOCK) {
        folder.remove(file)?;
    }
    folder.remove(LOCK)?;
    audit.remove_dir(&old)?;
    audit.sync()
}
