//! One record, and what somebody else needs to see that it is in the log that was signed.

use std::path::Path;

use crate::args::ArgsKey;
use crate::error::Error;
use crate::folder::Folder;
use crate::history::{self, HISTORY};
use crate::note::{Head, PublicKey};
use crate::segment::Lines;
use crate::text::{hex, push_escaped};
use crate::tile::Nodes;
use crate::tree::{Hash, leaf_hash, path, root_of};

/// That a record is in a signed log. Its JSON is what `clients/python/agt_verify.py` checks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Proof {
    /// The log's name.
    pub log: String,
    /// The record's number.
    pub index: u64,
    /// Its line.
    pub line: Vec<u8>,
    /// The hashes from its leaf to the root, the deepest first.
    pub path: Vec<Hash>,
    /// The head, as it was signed.
    pub head: Head,
    /// The checkpoint with its signatures.
    pub note: String,
    /// The key that signed it.
    pub key: PublicKey,
}

impl Proof {
    /// As one line of JSON.
    #[must_use]
    pub fn json(&self) -> String {
        let mut out = format!(
            "{{\"format\":\"agt-proof/1\",\"log\":\"{}\",\"index\":{},\"size\":{},\"line\":\"",
            self.log, self.index, self.head.size
        )
        .into_bytes();
        push_escaped(&mut out, &String::from_utf8_lossy(&self.line));
        let path: Vec<String> = self.path.iter().map(|hash| hex(hash)).collect();
        let quoted = |hash: &String| format!("\"{hash}\"");
        let path = path.iter().map(quoted).collect::<Vec<_>>().join(",");
        out.extend_from_slice(format!("\",\"path\":[{path}],\"checkpoint\":\"").as_bytes());
        push_escaped(&mut out, &self.note);
        out.extend_from_slice(format!("\",\"key\":\"{}\"}}", self.key).as_bytes());
        String::from_utf8(out).unwrap_or_default()
    }

    /// Whether it proves what it says, by one of these keys.
    #[must_use]
    pub fn holds(&self, keys: &[PublicKey]) -> bool {
        let head = Head::verified(&self.note, keys);
        let root = root_of(
            leaf_hash(&self.line),
            self.index,
            self.head.size,
            &self.path,
        );
        head.is_ok_and(|head| head == self.head && Some(head.root) == root)
    }
}

/// Proves that a record is in a log, below its latest head. Works while the log is written.
///
/// # Errors
/// When there is no such record below a signed head, or what is there does not prove it.
pub fn prove(dir: &Path, log: &str, seq: u64, keys: &[PublicKey]) -> Result<Proof, Error> {
    let folder = crate::recover::there(dir, log)?;
    let (head, note, key) = last_head(&folder, keys)?;
    if seq >= head.size {
        return Err(Error::NoRecord {
            log: log.to_owned(),
            seq,
            size: head.size,
        });
    }
    let mut nodes = Nodes::new(&folder, head.size);
    let path = path(seq, head.size, &mut |height, index| {
        nodes.node(height, index)
    })?;
    let proof = Proof {
        log: log.to_owned(),
        index: seq,
        line: record(&folder, seq)?,
        path,
        head,
        note,
        key,
    };
    if proof.holds(keys) {
        Ok(proof)
    } else {
        Err(Error::Altered {
            log: log.to_owned(),
            at: seq,
        })
    }
}

/// The latest head of a log, to be kept or witnessed elsewhere: a C2SP checkpoint.
///
/// # Errors
/// When there is none that one of these keys signed.
pub fn latest(dir: &Path, log: &str, keys: &[PublicKey]) -> Result<(Head, String), Error> {
    let folder = crate::recover::there(dir, log)?;
    let (head, note, _) = last_head(&folder, keys)?;
    Ok((head, note))
}

/// The key of the digests of arguments, for whoever may check them: HMAC-SHA-256 of an action's
/// arguments under it is `args_hmac`, and its own SHA-256 is in the log's first record.
///
/// # Errors
/// When it cannot be read.
pub fn args_key(dir: &Path, log: &str) -> Result<String, Error> {
    let folder = crate::recover::there(dir, log)?;
    Ok(ArgsKey::read(&folder)?.text())
}

pub(crate) fn last_head(
    log: &Folder,
    keys: &[PublicKey],
) -> Result<(Head, String, PublicKey), Error> {
    let mut file = log.file(HISTORY, rustix::fs::OFlags::RDONLY)?;
    let last = crate::segment::last_line(&mut file, history::LINE_MAX);
    let last = last.map_err(Error::io(log.path_of(HISTORY)))?;
    let what = "nothing was signed yet";
    let (line, _) = last.ok_or(Error::Malformed { what })?;
    let (_, note) = history::note(&line).ok_or(Error::Malformed { what })?;
    let mut found = keys.iter().filter_map(|key| {
        let head = Head::verified(&note, std::slice::from_ref(key)).ok()?;
        Some((head, key.clone()))
    });
    let what = "the last head is signed by none of the known keys";
    let (head, key) = found.next().ok_or(Error::Malformed { what })?;
    Ok((head, note, key))
}

fn record(log: &Folder, seq: u64) -> Result<Vec<u8>, Error> {
    let mut lines = Lines::from(log, seq)?;
    let mut at = None;
    while let Some((line, starts)) = lines.next()? {
        let this = starts.or(at).unwrap_or(0);
        if this == seq {
            return Ok(line.bytes.to_vec());
        }
        at = Some(this + 1);
    }
    let what = "the record is not in its segment";
    Err(Error::Malformed { what })
}
