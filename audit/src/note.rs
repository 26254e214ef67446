//! Signed heads: C2SP checkpoints in C2SP signed notes, with Ed25519.

use ed25519_dalek::{Signature, Signer, SigningKey, VerifyingKey};

use crate::error::Error;
use crate::text::{base64, hex, unbase64, unhex};
use crate::tree::{Hash, sha256};

/// The signature type of Ed25519 in C2SP's registry.
const ED25519: u8 = 1;

/// A public key with its name, written `name+id+base64` (C2SP's vkey).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PublicKey {
    pub(crate) name: String,
    pub(crate) id: [u8; 4],
    key: VerifyingKey,
}

impl PublicKey {
    pub(crate) fn new(name: &str, key: VerifyingKey) -> Self {
        let mut named = name.as_bytes().to_vec();
        named.extend_from_slice(&[b'\n', ED25519]);
        named.extend_from_slice(key.as_bytes());
        let [a, b, c, d, ..] = sha256(&named);
        Self {
            name: name.to_owned(),
            id: [a, b, c, d],
            key,
        }
    }

    /// Reads a vkey.
    ///
    /// # Errors
    /// When it is none of Ed25519, or its id is not that of the key.
    pub fn parse(text: &str) -> Result<Self, Error> {
        let parse = || {
            let (name, rest) = text.split_once('+')?;
            let (id, key) = rest.split_once('+')?;
            let bytes = unbase64(key)?;
            let (&ED25519, key) = bytes.split_first()? else {
                return None;
            };
            let key = VerifyingKey::from_bytes(key.try_into().ok()?).ok()?;
            let made = Self::new(name, key);
            let well = !name.is_empty() && !name.contains(char::is_whitespace);
            (well && unhex(id.as_bytes()) == Some(made.id)).then_some(made)
        };
        let what = "a public key is written name+id+base64 (C2SP vkey, Ed25519)";
        parse().ok_or(Error::Malformed { what })
    }

    /// Whether this is a signature of ours: the key's id, then Ed25519.
    pub(crate) fn verifies(&self, message: &[u8], signature: &str) -> bool {
        let check = || {
            let bytes = unbase64(signature)?;
            let (id, signature) = bytes.split_first_chunk::<4>()?;
            let signature = Signature::from_slice(signature).ok()?;
            // Strict: one message has one signature that anybody accepts.
            let holds = self.key.verify_strict(message, &signature).is_ok();
            Some(*id == self.id && holds)
        };
        check().unwrap_or(false)
    }
}

impl std::fmt::Display for PublicKey {
    fn fmt(&self, to: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut key = vec![ED25519];
        key.extend_from_slice(self.key.as_bytes());
        write!(to, "{}+{}+{}", self.name, hex(&self.id), base64(&key))
    }
}

/// The key's id and its signature, in base64.
pub(crate) fn sign(key: &SigningKey, public: &PublicKey, message: &[u8]) -> String {
    let mut bytes = public.id.to_vec();
    bytes.extend_from_slice(&key.sign(message).to_bytes());
    base64(&bytes)
}

/// What a checkpoint says: this log had so many records, with this root.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Head {
    /// Which log, among all.
    pub origin: String,
    /// How many records.
    pub size: u64,
    /// The root over them.
    pub root: Hash,
}

impl Head {
    /// The text that is signed.
    pub(crate) fn text(&self) -> String {
        format!("{}\n{}\n{}\n", self.origin, self.size, base64(&self.root))
    }

    /// Reads a checkpoint and looks for a signature by one of these keys; other signatures, of
    /// witnesses say, are passed over.
    ///
    /// # Errors
    /// When it is no checkpoint, or none of these keys signed it.
    pub fn verified(note: &str, keys: &[PublicKey]) -> Result<Self, Error> {
        let head = Self::parse(note)?;
        let text = head.text();
        let signed = signatures(note).any(|(name, signature)| {
            let mut named = keys.iter().filter(|key| key.name == name);
            named.any(|key| key.verifies(text.as_bytes(), signature))
        });
        let what = "the checkpoint is signed by none of the known keys";
        if signed {
            Ok(head)
        } else {
            Err(Error::Malformed { what })
        }
    }

    fn parse(note: &str) -> Result<Self, Error> {
        let parse = || {
            let (text, _) = note.split_once("\n\n")?;
            let mut lines = text.split('\n');
            let (origin, size, root) = (lines.next()?, lines.next()?, lines.next()?);
            let head = Self {
                origin: origin.to_owned(),
                size: size.parse().ok()?,
                root: unbase64(root)?.try_into().ok()?,
            };
            // One spelling, and no extension lines: ours have none.
            (head.text().trim_end() == text && !origin.is_empty()).then_some(head)
        };
        let what = "no C2SP checkpoint: origin, size and root, a blank line, signatures";
        parse().ok_or(Error::Malformed { what })
    }
}

/// Names and signatures of a note.
fn signatures(note: &str) -> impl Iterator<Item = (&str, &str)> {
    let lines = note.split_once("\n\n").map_or("", |(_, lines)| lines);
    lines
        .split('\n')
        .filter_map(|line| line.strip_prefix("— ")?.split_once(' '))
}

/// A checkpoint with one signature.
pub(crate) fn signed(head: &Head, key: &SigningKey, public: &PublicKey) -> String {
    let text = head.text();
    let signature = sign(key, public, text.as_bytes());
    format!("{text}\n— {} {signature}\n", public.name)
}
