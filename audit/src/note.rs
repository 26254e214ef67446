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
        Self {
            name: name.to_owned(),
            id: key_id(name, ED25519, &key),
            key,
        }
    }

    /// Reads a vkey.
    ///
    /// # Errors
    /// When it is none of Ed25519, or its id is not that of the key.
    pub fn parse(text: &str) -> Result<Self, Error> {
        let what = "a public key is written name+id+base64 (C2SP vkey, Ed25519)";
        let (name, key) = parse_vkey(text, ED25519).ok_or(Error::Malformed { what })?;
        Ok(Self::new(name, key))
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
        to.write_str(&vkey(&self.name, self.id, ED25519, &self.key))
    }
}

/// The id of a key: of its name, what it signs, and itself.
pub(crate) fn key_id(name: &str, kind: u8, key: &VerifyingKey) -> [u8; 4] {
    let mut named = name.as_bytes().to_vec();
    named.extend_from_slice(&[b'\n', kind]);
    named.extend_from_slice(key.as_bytes());
    let [a, b, c, d, ..] = sha256(&named);
    [a, b, c, d]
}

/// The name and key of a vkey of this kind, when its id is theirs.
pub(crate) fn parse_vkey(text: &str, kind: u8) -> Option<(&str, VerifyingKey)> {
    let (name, rest) = text.split_once('+')?;
    let (id, key) = rest.split_once('+')?;
    let bytes = unbase64(key)?;
    let (_, key) = bytes.split_first().filter(|(first, _)| **first == kind)?;
    let key = VerifyingKey::from_bytes(key.try_into().ok()?).ok()?;
    let well = !name.is_empty() && !name.contains(char::is_whitespace);
    (well && unhex(id.as_bytes()) == Some(key_id(name, kind, &key))).then_some((name, key))
}

pub(crate) fn vkey(name: &str, id: [u8; 4], kind: u8, key: &VerifyingKey) -> String {
    let mut bytes = vec![kind];
    bytes.extend_from_slice(key.as_bytes());
    format!("{name}+{}+{}", hex(&id), base64(&bytes))
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
        Self::by(note, keys).map(|(head, _)| head)
    }

    /// The same, and the line that signed it.
    pub(crate) fn by(note: &str, keys: &[PublicKey]) -> Result<(Self, String), Error> {
        let head = Self::parse(note)?;
        let text = head.text();
        let signed = signatures(note).find(|(name, signature)| {
            let mut named = keys.iter().filter(|key| key.name == *name);
            named.any(|key| key.verifies(text.as_bytes(), signature))
        });
        let what = "the checkpoint is signed by none of the known keys";
        match signed {
            Some((name, signature)) => Ok((head, format!("— {name} {signature}"))),
            None => Err(Error::Malformed { what }),
        }
    }

    /// Reads a checkpoint, whoever signed it.
    pub(crate) fn parse(note: &str) -> Result<Self, Error> {
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
pub(crate) fn signatures(note: &str) -> impl Iterator<Item = (&str, &str)> {
    signature_lines(note.split_once("\n\n").map_or("", |(_, lines)| lines))
}

/// Names and signatures, without the text.
pub(crate) fn signature_lines(lines: &str) -> impl Iterator<Item = (&str, &str)> {
    lines
        .split('\n')
        .filter_map(|line| line.strip_prefix("— ")?.split_once(' '))
}

/// The notes of a text: each is its own text, a blank line, its signatures; a blank line is between two.
#[must_use]
pub fn notes(text: &str) -> Vec<String> {
    let parts: Vec<&str> = text.trim_end().split("\n\n").collect();
    let whole = |pair: &[&str]| format!("{}\n", pair.join("\n\n"));
    parts.chunks(2).map(whole).collect()
}

/// A checkpoint with one signature.
pub(crate) fn signed(head: &Head, key: &SigningKey, public: &PublicKey) -> String {
    let text = head.text();
    let signature = sign(key, public, text.as_bytes());
    format!("{text}\n— {} {signature}\n", public.name)
}
