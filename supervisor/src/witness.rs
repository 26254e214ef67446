//! `audit offer|witness|cosigned`: heads of logs, cosigned by somebody whom their owner cannot change. All
//! of it goes by standard input and output, so that any way there will do: ssh, a pipe to another user.

use std::io::Read;
use std::path::PathBuf;

use audit::{Cosigner, PublicKey, REQUEST_BYTES_MAX, Witness};

use crate::error::Failed;
use crate::logs::{keys, named};
use crate::places;
use crate::reference::print;
use crate::words;

/// What a flag says that is no key.
fn no_key(error: audit::Error) -> Failed {
    Failed::Order {
        why: error.to_string(),
        code: 2,
    }
}

/// The key of a witness, as it was given.
pub(crate) fn cosigner(vkey: &str) -> Result<Cosigner, Failed> {
    Cosigner::parse(vkey).map_err(no_key)
}

fn log_keys(vkeys: &[String]) -> Result<Vec<PublicKey>, Failed> {
    // As `keys` prints them: more than one where the key was changed.
    let keys = vkeys.iter().flat_map(|vkeys| vkeys.split_whitespace());
    keys.map(PublicKey::parse)
        .collect::<Result<_, _>>()
        .map_err(no_key)
}

/// A no, whatever the reason, is exit code 1 and one line.
fn answered<T>(answer: Result<T, audit::Error>) -> Result<T, Failed> {
    answer.map_err(|error| Failed::Order {
        why: error.to_string(),
        code: 1,
    })
}

/// Standard input, as long as a request may be.
fn input() -> Result<String, Failed> {
    let mut text = String::new();
    let most = REQUEST_BYTES_MAX as u64 + 1;
    let read = std::io::stdin().lock().take(most).read_to_string(&mut text);
    read.map_err(Failed::call("standard input"))?;
    Ok(text)
}

/// The request for a witness to cosign the latest head.
pub(crate) fn offer(
    log: Option<&str>,
    witness: Option<&str>,
    old: Option<u64>,
) -> Result<u8, Failed> {
    let witness = witness.map(cosigner).transpose()?;
    let (dir, log, keys) = (places::audit_dir(), named(log)?, keys()?);
    let request = audit::offer(&dir, &log, &keys, witness.as_ref(), old);
    print(&answered(request)?)
}

/// Keeps what a witness answered.
pub(crate) fn cosigned(log: Option<&str>, witness: &str) -> Result<u8, Failed> {
    let witness = cosigner(witness)?;
    let (dir, log, keys) = (places::audit_dir(), named(log)?, keys()?);
    let cosigned = answered(audit::keep(&dir, &log, &keys, &witness, &input()?))?;
    eprintln!(
        "{}: {} records witnessed {}",
        words::escape(&log),
        cosigned.head.size,
        cosigned.time()
    );
    Ok(0)
}

fn open(dir: Option<PathBuf>) -> Result<Witness, Failed> {
    let dir = dir.unwrap_or_else(|| places::state_dir().join("witness"));
    places::private_dir(&dir).map_err(Failed::call("the folder of the witness"))?;
    answered(Witness::open_or_create(&dir))
}

/// Answers one request.
pub(crate) fn witness(dir: Option<PathBuf>, vkeys: &[String]) -> Result<u8, Failed> {
    let keys = log_keys(vkeys)?;
    let request = input()?;
    let line = answered(open(dir)?.add_checkpoint(&request, &keys))?;
    print(&line)
}

/// The public key of a witness.
pub(crate) fn key(dir: Option<PathBuf>) -> Result<u8, Failed> {
    print(&format!("{}\n", open(dir)?.key()))
}

/// What a witness knows of the logs of these keys, or of all.
pub(crate) fn heads(dir: Option<PathBuf>, vkeys: &[String]) -> Result<u8, Failed> {
    let keys = log_keys(vkeys)?;
    print(&answered(open(dir)?.heads(&keys))?.join("\n"))
}
