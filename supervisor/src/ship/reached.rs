//! How far a sink has each log: a small file for each destination, replaced after the sink took the bytes.

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use serde_json::{Map, Value, json};

use super::sink::Destination;
use crate::error::Failed;
use crate::places::{self, Lock};

/// The record after the last one that was shipped, and the hash of that one: a log that was written anew
/// has another.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Mark {
    pub(crate) next: u64,
    pub(crate) leaf: String,
}

/// What is known of one destination. Nobody else ships there meanwhile.
#[derive(Debug)]
pub(crate) struct Reached {
    path: PathBuf,
    to: String,
    logs: BTreeMap<String, Mark>,
    _alone: Lock,
}

impl Reached {
    pub(crate) fn open(to: &Destination) -> Result<Self, Failed> {
        let dir = places::state_dir().join("ship");
        let to = to.to_string();
        let name = audit::hex(&audit::sha256(to.as_bytes()));
        let lock = dir.join(format!("{name}.lock"));
        let taken = places::private_dir(&dir).and_then(|()| Lock::try_take(&lock));
        let alone = taken.map_err(Failed::call("the state of `audit ship`"))?;
        let why = format!("another `audit ship` sends to {to}");
        let mut reached = Self {
            path: dir.join(format!("{name}.json")),
            to,
            logs: BTreeMap::new(),
            _alone: alone.ok_or(Failed::Order { why, code: 1 })?,
        };
        reached.back()?;
        Ok(reached)
    }

    /// To what is kept. A file that cannot be understood is as none: all is sent again.
    pub(crate) fn back(&mut self) -> Result<(), Failed> {
        self.logs = match fs::read(&self.path) {
            Ok(bytes) => parse(&bytes).unwrap_or_default(),
            Err(error) if error.kind() == io::ErrorKind::NotFound => BTreeMap::new(),
            Err(error) => return Err(Failed::call("the state of `audit ship`")(error)),
        };
        Ok(())
    }

    pub(crate) fn of(&self, log: &str) -> Option<&Mark> {
        self.logs.get(log)
    }

    pub(crate) fn set(&mut self, log: &str, mark: &Mark) {
        self.logs.insert(log.to_owned(), mark.clone());
    }

    /// Forgets logs that are gone.
    pub(crate) fn retain(&mut self, mut there: impl FnMut(&str) -> bool) {
        self.logs.retain(|log, _| there(log));
    }

    /// On disk, all or nothing.
    pub(crate) fn keep(&self) -> Result<(), Failed> {
        let logs: Map<String, Value> = self
            .logs
            .iter()
            .map(|(log, mark)| {
                let mark = json!({"next": mark.next, "leaf": mark.leaf});
                (log.clone(), mark)
            })
            .collect();
        let text = format!("{}\n", json!({"to": self.to, "logs": logs}));
        replace(&self.path, text.as_bytes()).map_err(Failed::call("the state of `audit ship`"))
    }
}

fn parse(bytes: &[u8]) -> Option<BTreeMap<String, Mark>> {
    let value: Value = serde_json::from_slice(bytes).ok()?;
    let logs = value.get("logs")?.as_object()?.iter();
    logs.map(|(log, mark)| {
        let next = mark.get("next")?.as_u64()?;
        let leaf = mark.get("leaf")?.as_str()?.to_owned();
        Some((log.clone(), Mark { next, leaf }))
    })
    .collect()
}

fn replace(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let staged = path.with_extension("new");
    let mut options = fs::OpenOptions::new();
    options.write(true).create(true).truncate(true).mode(0o600);
    let mut file = options.open(&staged)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    fs::rename(&staged, path)
}
