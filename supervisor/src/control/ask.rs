//! The asking side: finds live runs and gives them orders.

use std::fs;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::Value;

use super::Order;
use crate::places;

/// A run answers within this, or is given up.
const ANSWERS_WITHIN: Duration = Duration::from_secs(2);
/// More than all that can wait for approval.
const ANSWER_MAX: u64 = 32 << 20;

/// Why a run could not be asked.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Unreachable {
    #[error("no run named `{name}` is to be reached; `agt-supervisor ps` lists them")]
    None { name: String },
    #[error("several runs are named `{name}`: give one of {}", runs.join(", "))]
    Several { name: String, runs: Vec<String> },
    #[error("run {run}: {error}")]
    Io { run: String, error: io::Error },
}

/// Asks every run that can be reached; those that cannot are left out.
pub(crate) fn everywhere(order: &Order) -> Vec<(PathBuf, Value)> {
    let all = sockets().into_iter();
    all.filter_map(|path| Some((path.clone(), ask(&path, order).ok()?)))
        .collect()
}

/// Asks the one run of this name: its agent's, or the run's own.
pub(crate) fn one(name: &str, order: &Order) -> Result<Value, Unreachable> {
    let status = |path: &Path| ask(path, &Order::Status).ok();
    let of = |value: &Value, key: &str| {
        let text = value.get(key).and_then(Value::as_str);
        text.unwrap_or_default().to_owned()
    };
    let named = |paths: Vec<PathBuf>| -> Vec<(PathBuf, Value)> {
        let live = paths.into_iter();
        live.filter_map(|path| Some((path.clone(), status(&path)?)))
            .filter(|(_, state)| of(state, "agent") == name || of(state, "run") == name)
            .collect()
    };
    // What others say their runs are named does not stand before one's own.
    let mut live = named(entries(
        &places::control_dir().into_iter().collect::<Vec<_>>(),
    ));
    if live.is_empty() {
        live = named(sockets());
    }
    match live.as_slice() {
        [(path, state)] => ask(path, order).map_err(|error| Unreachable::Io {
            run: of(state, "run"),
            error,
        }),
        [] => Err(Unreachable::None { name: name.into() }),
        several => Err(Unreachable::Several {
            name: name.into(),
            runs: several.iter().map(|(_, state)| of(state, "run")).collect(),
        }),
    }
}

fn ask(path: &Path, order: &Order) -> io::Result<Value> {
    let mut socket = UnixStream::connect(path)?;
    socket.set_read_timeout(Some(ANSWERS_WITHIN))?;
    socket.set_write_timeout(Some(ANSWERS_WITHIN))?;
    socket.write_all(format!("{}\n", order.to_json()).as_bytes())?;
    let mut line = String::new();
    BufReader::new(socket.take(ANSWER_MAX)).read_line(&mut line)?;
    serde_json::from_str(&line).map_err(io::Error::other)
}

/// The sockets of this user, of root, and for root those of everybody who is logged in.
fn sockets() -> Vec<PathBuf> {
    let mut dirs: Vec<PathBuf> = places::control_dir().into_iter().collect();
    dirs.push("/run/agt/control".into());
    if rustix::process::geteuid().is_root() {
        let users = fs::read_dir("/run/user").into_iter().flatten().flatten();
        dirs.extend(users.map(|user| user.path().join("agt/control")));
    }
    dirs.sort();
    dirs.dedup();
    entries(&dirs)
}

fn entries(dirs: &[PathBuf]) -> Vec<PathBuf> {
    let entries = dirs
        .iter()
        .flat_map(|dir| fs::read_dir(dir).into_iter().flatten().flatten());
    let mut found: Vec<PathBuf> = entries.map(|entry| entry.path()).collect();
    found.sort();
    found
}
