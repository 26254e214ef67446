//! What a log's owner keeps of its witness: cosigned heads, beside the log. They show others how much was
//! seen. Whoever rewrites the log can take them away too: what the witness itself knows is what counts.

use std::collections::BTreeMap;
use std::io::{ErrorKind, Seek, SeekFrom, Write};
use std::path::Path;

use rustix::fs::{FlockOperation, OFlags, flock};

use crate::consistency::{consistency, is_consistent};
use crate::cosign::{Cosigned, Cosigner};
use crate::error::Error;
use crate::folder::Folder;
use crate::history::{self, HISTORY, LINE_MAX};
use crate::note::{Head, PublicKey, signature_lines};
use crate::prove::last_head;
use crate::recover::there;
use crate::request::Request;
use crate::segment::{Reader, last_line};
use crate::text::push_escaped;
use crate::tile::Nodes;
use crate::tree::{Hash, range};

/// Cosigned heads, one to a line, as the log's own are in `checkpoints.jsonl`.
const WITNESS: &str = "witness.jsonl";

/// The request for a witness to cosign the latest head of a log: C2SP's `add-checkpoint`. It begins with
/// `old` records, else with as many as this witness cosigned last, else with as many as any did.
///
/// # Errors
/// When there is no such log, no such head of it, or the hashes do not lead there.
pub fn offer(
    dir: &Path,
    log: &str,
    keys: &[PublicKey],
    witness: Option<&Cosigner>,
    old: Option<u64>,
) -> Result<String, Error> {
    let folder = there(dir, log)?;
    let (head, note, _) = last_head(&folder, keys)?;
    let kept = kept(&folder)?;
    let cosigned = witness.and_then(|witness| latest(&kept, log, witness));
    let known = match witness {
        Some(_) => cosigned.map(|cosigned| cosigned.head.size),
        None => kept.iter().map(|(size, _)| *size).max(),
    };
    let old = old.or(known).unwrap_or(0);
    let inconsistent = || Error::Inconsistent {
        log: log.to_owned(),
        old,
        size: head.size,
    };
    if old > head.size {
        return Err(inconsistent());
    }
    let mut nodes = Nodes::new(&folder, head.size);
    let mut node = |height, index| nodes.node(height, index);
    let proof = consistency(old, head.size, &mut node).map_err(|_| inconsistent())?;
    let root: Hash = match old {
        0 => Hash::default(),
        _ if old == head.size => head.root,
        _ => range(0, old, &mut node).map_err(|_| inconsistent())?,
    };
    // Tiles are never trusted.
    if !is_consistent((old, &root), (head.size, &head.root), &proof) {
        return Err(inconsistent());
    }
    let note = &note;
    Ok(Request { old, proof, note }.to_string())
}

/// Keeps a witness's answer to an offer: the lines that cosign a head of this log, the latest or an earlier
/// one.
///
/// # Errors
/// When none of the lines is this witness's about a head of this log, or it cannot be kept.
pub fn keep(
    dir: &Path,
    log: &str,
    keys: &[PublicKey],
    witness: &Cosigner,
    answer: &str,
) -> Result<Cosigned, Error> {
    let folder = there(dir, log)?;
    let mut heads = lines(&folder, HISTORY)?;
    // Mostly it is the last one.
    heads.reverse();
    let mut found = heads.iter().filter_map(|(_, note)| {
        let head = Head::parse(note).ok()?;
        let (seconds, line) = witness.line(&head, signature_lines(answer))?;
        let (head, signed) = Head::by(note, keys).ok()?;
        let note = format!("{}\n{signed}\n{line}\n", head.text());
        Some((Cosigned { head, seconds }, note))
    });
    let what = "that is no cosignature of this witness on a head of this log";
    let (cosigned, note) = found.next().ok_or(Error::Malformed { what })?;
    add(&folder, cosigned.head.size, &note)?;
    Ok(cosigned)
}

/// What this witness cosigned of each log of a folder, as far as it is kept there: the largest head.
///
/// # Errors
/// When the folder cannot be read.
pub fn witnessed(dir: &Path, witness: &Cosigner) -> Result<BTreeMap<String, Cosigned>, Error> {
    let audit = Folder::open(dir)?;
    let mut found = BTreeMap::new();
    for name in audit
        .names()?
        .into_iter()
        .filter(|name| !name.starts_with('.'))
    {
        let Ok(folder) = audit.sub(&name) else {
            continue;
        };
        if let Some(cosigned) = latest(&kept(&folder)?, &name, witness) {
            found.insert(name, cosigned);
        }
    }
    Ok(found)
}

fn kept(log: &Folder) -> Result<Vec<(u64, String)>, Error> {
    lines(log, WITNESS)
}

/// The largest head of this log that the witness cosigned, and of several times the last.
fn latest(kept: &[(u64, String)], log: &str, witness: &Cosigner) -> Option<Cosigned> {
    let mut kept: Vec<_> = kept.iter().enumerate().collect();
    // The largest first, and the last of those: most signatures need not be looked at.
    kept.sort_by_key(|(at, (size, _))| std::cmp::Reverse((*size, *at)));
    kept.into_iter().find_map(|(_, (size, note))| {
        let cosigned = Cosigned::verified(note, witness).ok()?;
        let own = cosigned.head.origin.rsplit('/').next() == Some(log);
        (own && cosigned.head.size == *size).then_some(cosigned)
    })
}

/// Sizes and notes of a list of heads; a line that is none is passed over.
fn lines(log: &Folder, name: &str) -> Result<Vec<(u64, String)>, Error> {
    let mut reader = match Reader::open(log, name, 0) {
        Ok(reader) => reader,
        Err(Error::Io { error, .. }) if error.kind() == ErrorKind::NotFound => {
            return Ok(Vec::new());
        }
        Err(error) => return Err(error),
    };
    let mut found = Vec::new();
    while let Some(line) = reader.next()?.filter(|line| line.whole) {
        found.extend(history::note(line.bytes));
    }
    Ok(found)
}

fn add(log: &Folder, size: u64, note: &str) -> Result<(), Error> {
    let path = log.path_of(WITNESS);
    let mut file = log.file(WITNESS, OFlags::RDWR | OFlags::CREATE | OFlags::APPEND)?;
    flock(&file, FlockOperation::LockExclusive).map_err(|errno| Error::io(&path)(errno.into()))?;
    let mut line = format!("{{\"size\":{size},\"note\":\"").into_bytes();
    push_escaped(&mut line, note);
    line.extend_from_slice(b"\"}\n");
    let mut put = || {
        let bytes = file.seek(SeekFrom::End(0))?;
        let whole = last_line(&mut file, LINE_MAX)?.map_or(0, |(_, end)| end);
        if whole < bytes {
            // One that was cut short ends here, and is passed over.
            line.insert(0, b'\n');
        }
        file.write_all(&line)?;
        file.sync_all()
    };
    put().map_err(Error::io(path))?;
    log.sync()
}
