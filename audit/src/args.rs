//! The key of a log's argument digests. A plain hash of something that can be guessed gives it away;
//! whoever may verify is given the key.

use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

use crate::error::Error;
use crate::folder::Folder;
use crate::keys::random;
use crate::text::{hex, unhex};
use crate::tree::{Hash, sha256};

const ARGS: &str = "args.key";

#[derive(Debug)]
pub(crate) struct ArgsKey([u8; 32]);

impl ArgsKey {
    pub(crate) fn create(log: &Folder) -> Result<Self, Error> {
        let mut key = [0; 32];
        random(&mut key)?;
        log.replace(ARGS, format!("{}\n", hex(&key)).as_bytes(), true)?;
        Ok(Self(key))
    }

    pub(crate) fn read(log: &Folder) -> Result<Self, Error> {
        let text = log.read(ARGS)?.unwrap_or_default();
        let key = unhex(text.trim_ascii_end()).ok_or_else(|| Error::Key {
            path: log.path_of(ARGS),
            what: "is no key: 32 bytes in hex",
        })?;
        Ok(Self(key))
    }

    pub(crate) fn hmac(&self, args: &[u8]) -> [u8; 32] {
        match Hmac::<Sha256>::new_from_slice(&self.0) {
            Ok(mut mac) => {
                mac.update(args);
                mac.finalize().into_bytes().into()
            }
            // HMAC takes keys of every length.
            Err(_) => [0; 32],
        }
    }

    /// What the log says about it, so that the one that is disclosed can be checked.
    pub(crate) fn digest(&self) -> Hash {
        sha256(&self.0)
    }

    pub(crate) fn text(&self) -> String {
        hex(&self.0)
    }
}
