//! A witness: it cosigns a head only when that continues what it has seen of the log, and keeps what it
//! cosigned before it answers. It belongs where whoever runs the log cannot write.

use std::path::Path;

use ed25519_dalek::SigningKey;

use crate::clock::Moment;
use crate::consistency::is_consistent;
use crate::cosign::{Cosigned, Cosigner, cosign};
use crate::error::Error;
use crate::folder::Folder;
use crate::keys::{fresh, random};
use crate::note::{Head, PublicKey};
use crate::request::Request;
use crate::text::{base64, hex, unbase64};
use crate::tree::sha256;

/// Its key, with its name; and the folder of the latest head of each log, cosigned.
const KEY: &str = "witness.key";
const SEEN: &str = "seen";

/// Why a head was not cosigned, in the order in which C2SP's `tlog-witness` looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// 404: the origin is not below the name of a known key.
    #[error(
        "this log is not one of those that are witnessed here: its name begins with that of no known key"
    )]
    Unknown,
    /// 403: none of the known keys signed it.
    #[error("the head is signed by none of the known keys")]
    Unsigned,
    /// 400: the head has less records than the request begins with.
    #[error("the head has {size} records, less than the {old} that the request begins with")]
    Smaller {
        /// The request's.
        old: u64,
        /// The head's.
        size: u64,
    },
    /// 409: the request begins elsewhere than the witness is.
    #[error(
        "the witness knows {known} records of this log, and the request begins with {old}: `audit offer --old {known}`"
    )]
    Conflict {
        /// The witness's.
        known: u64,
        /// The request's.
        old: u64,
    },
    /// 409: as many records, and another root.
    #[error("FORKED: the witness knows another log of {size} records under this name")]
    Forked {
        /// How many.
        size: u64,
    },
    /// 422: the proof does not lead from what was seen to the head.
    #[error(
        "NOT CONSISTENT: it is not shown that the {old} records that the witness knows are the first of these {size}"
    )]
    Inconsistent {
        /// The witness's.
        old: u64,
        /// The head's.
        size: u64,
    },
}

/// A witness's folder.
#[derive(Debug)]
pub struct Witness {
    seen: Folder,
    secret: SigningKey,
    own: Cosigner,
}

impl Witness {
    /// The witness of this folder (0700), whose key is made when there is none.
    ///
    /// # Errors
    /// When the folder is not ours alone, or what is in it is not whole.
    pub fn open_or_create(dir: &Path) -> Result<Self, Error> {
        let folder = Folder::private(dir)?;
        let _alone = folder.lock()?;
        let Some(text) = folder.read(KEY)? else {
            return Self::create(&folder);
        };
        let wrong = |what| Error::Key {
            path: folder.path_of(KEY),
            what,
        };
        let parse = || {
            let text = std::str::from_utf8(&text).ok()?.trim_end();
            let (name, seed) = text.split_once(' ')?;
            Some((
                name,
                SigningKey::from_bytes(&unbase64(seed)?.try_into().ok()?),
            ))
        };
        let what = "is no key of a witness: a name and 32 bytes in base64";
        let (name, secret) = parse().ok_or_else(|| wrong(what))?;
        // Under the same key it would contradict itself.
        let what = "has a key, and the heads that it cosigned are gone: put `seen` back, or begin a witness with a new key in another folder";
        let seen = folder.sub(SEEN).map_err(|_| wrong(what))?;
        let own = Cosigner::new(name, secret.verifying_key());
        Ok(Self { seen, secret, own })
    }

    fn create(folder: &Folder) -> Result<Self, Error> {
        let mut label = [0; 8];
        random(&mut label)?;
        let name = format!("agt-witness/{}", hex(&label));
        let secret = fresh()?;
        let seen = folder.make(SEEN)?;
        if !seen.names()?.is_empty() {
            return Err(Error::Key {
                path: folder.path_of(KEY),
                what: "is gone, and the heads that were cosigned with it are there: put it back, or begin in another folder",
            });
        }
        folder.sync()?;
        let text = format!("{name} {}\n", base64(secret.as_bytes()));
        folder.replace(KEY, text.as_bytes(), true)?;
        let own = Cosigner::new(&name, secret.verifying_key());
        Ok(Self { seen, secret, own })
    }

    /// Its public key.
    #[must_use]
    pub const fn key(&self) -> &Cosigner {
        &self.own
    }

    /// Answers an `add-checkpoint` request about a log of these keys: with the line that cosigns its head,
    /// when that continues what was seen. It is kept on disk then.
    ///
    /// # Errors
    /// [`Error::Refused`] says why not.
    pub fn add_checkpoint(&self, request: &str, keys: &[PublicKey]) -> Result<String, Error> {
        let request = Request::parse(request)?;
        let claimed = Head::parse(request.note)?;
        if !is_of(&claimed, keys) {
            return Err(Refusal::Unknown.into());
        }
        // Whoever else may sign here speaks for its own logs only.
        let own = |key: &&PublicKey| is_of(&claimed, std::slice::from_ref(*key));
        let own: Vec<PublicKey> = keys.iter().filter(own).cloned().collect();
        let (head, signed) = Head::by(request.note, &own).map_err(|_| Refusal::Unsigned)?;
        // From looking at what was seen to keeping what is cosigned nobody else may.
        let _alone = self.seen.lock()?;
        let seen = self.seen(&file_of(&head.origin))?;
        admit(&request, &head, seen.as_ref())?;
        let now = u64::try_from(Moment::now().seconds).unwrap_or(0);
        // Clocks go back; what it says of a log has an order.
        let time = seen.map_or(now, |seen| seen.seconds.max(now));
        let line = cosign(&self.secret, &self.own, &head, time);
        let note = format!("{}\n{signed}\n{line}\n", head.text());
        let file = file_of(&head.origin);
        self.seen.replace(&file, note.as_bytes(), true)?;
        Ok(format!("{line}\n"))
    }

    /// The latest head of each log that it cosigned, as notes; of logs of these keys, when there are any.
    ///
    /// # Errors
    /// When one cannot be read, or is not what was kept.
    pub fn heads(&self, keys: &[PublicKey]) -> Result<Vec<String>, Error> {
        let _alone = self.seen.lock()?;
        let mut notes = Vec::new();
        for file in self
            .seen
            .names()?
            .iter()
            .filter(|file| !file.ends_with(".new"))
        {
            let (note, seen) = self.kept(file)?.ok_or_else(|| self.damaged(file))?;
            if keys.is_empty() || is_of(&seen.head, keys) {
                notes.push(note);
            }
        }
        Ok(notes)
    }

    fn seen(&self, file: &str) -> Result<Option<Cosigned>, Error> {
        Ok(self.kept(file)?.map(|(_, seen)| seen))
    }

    /// What was kept in a file. One that is damaged is an error, and never the same as none.
    fn kept(&self, file: &str) -> Result<Option<(String, Cosigned)>, Error> {
        let Some(bytes) = self.seen.read(file)? else {
            return Ok(None);
        };
        let read = || {
            let note = String::from_utf8(bytes).ok()?;
            let seen = Cosigned::verified(&note, &self.own).ok()?;
            (file_of(&seen.head.origin) == file).then_some((note, seen))
        };
        read().map(Some).ok_or_else(|| self.damaged(file))
    }

    fn damaged(&self, file: &str) -> Error {
        Error::Key {
            path: self.seen.path_of(file),
            what: "is not a head that this witness cosigned: put it back as it was",
        }
    }
}

/// Whether a log is one of these keys': its name begins with theirs.
fn is_of(head: &Head, keys: &[PublicKey]) -> bool {
    let below = |key: &PublicKey| {
        let log = head.origin.strip_prefix(&key.name)?.strip_prefix('/')?;
        Some(!log.is_empty())
    };
    keys.iter().any(|key| below(key) == Some(true))
}

/// The file of a log: an origin is no name of a file.
fn file_of(origin: &str) -> String {
    hex(&sha256(origin.as_bytes()))
}

fn admit(request: &Request<'_>, head: &Head, seen: Option<&Cosigned>) -> Result<(), Refusal> {
    let (old, size) = (request.old, head.size);
    if old > size {
        return Err(Refusal::Smaller { old, size });
    }
    let known = seen.map_or(0, |seen| seen.head.size);
    if known != old {
        return Err(Refusal::Conflict { known, old });
    }
    // Of no records there is one root.
    let root = seen.map_or_else(|| sha256(b""), |seen| seen.head.root);
    if old == size && root != head.root {
        return Err(Refusal::Forked { size });
    }
    if is_consistent((old, &root), (size, &head.root), &request.proof) {
        Ok(())
    } else {
        Err(Refusal::Inconsistent { old, size })
    }
}
