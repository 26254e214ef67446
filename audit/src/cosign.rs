//! Cosignatures: what a witness says of a head, as C2SP's `tlog-cosignature` has it with Ed25519. A line of
//! the note, with the time at which it was said.

use ed25519_dalek::{Signature, Signer, SigningKey, VerifyingKey};

use crate::clock;
use crate::error::Error;
use crate::note::{Head, key_id, parse_vkey, signatures, vkey};
use crate::text::{base64, unbase64};

/// The signature type of `cosignature/v1` in C2SP's registry.
const COSIGNATURE: u8 = 4;

/// The public key of a witness, written `name+id+base64` (C2SP's vkey, of type 4).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cosigner {
    pub(crate) name: String,
    id: [u8; 4],
    key: VerifyingKey,
}

impl Cosigner {
    pub(crate) fn new(name: &str, key: VerifyingKey) -> Self {
        Self {
            name: name.to_owned(),
            id: key_id(name, COSIGNATURE, &key),
            key,
        }
    }

    /// Reads the vkey of a witness.
    ///
    /// # Errors
    /// When it is none of type 4, or its id is not that of the key.
    pub fn parse(text: &str) -> Result<Self, Error> {
        let what =
            "a witness's key is written name+id+base64 (C2SP vkey of type 4, cosignature/v1)";
        let (name, key) = parse_vkey(text, COSIGNATURE).ok_or(Error::Malformed { what })?;
        Ok(Self::new(name, key))
    }

    /// When it cosigned this head, by this line of a note.
    fn time(&self, head: &Head, name: &str, signature: &str) -> Option<u64> {
        let bytes = unbase64(signature)?;
        let (id, rest) = bytes.split_first_chunk::<4>()?;
        let (time, signature) = rest.split_first_chunk::<8>()?;
        let signature = Signature::from_slice(signature).ok()?;
        let time = u64::from_be_bytes(*time);
        let known = name == self.name && *id == self.id && i64::try_from(time).is_ok();
        let holds = || {
            let message = message(head, time);
            self.key.verify_strict(message.as_bytes(), &signature)
        };
        (known && holds().is_ok()).then_some(time)
    }

    /// The line among these by which it cosigned this head, and when; the latest.
    pub(crate) fn line<'a>(
        &self,
        head: &Head,
        lines: impl Iterator<Item = (&'a str, &'a str)>,
    ) -> Option<(u64, String)> {
        let timed = lines.filter_map(|(name, signature)| {
            let time = self.time(head, name, signature)?;
            Some((time, format!("— {name} {signature}")))
        });
        timed.max()
    }
}

impl std::fmt::Display for Cosigner {
    fn fmt(&self, to: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        to.write_str(&vkey(&self.name, self.id, COSIGNATURE, &self.key))
    }
}

/// A head that a witness has seen, and when it last said that none larger was.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cosigned {
    /// What was seen.
    pub head: Head,
    /// Seconds since 1970, by the witness's clock.
    pub seconds: u64,
}

impl Cosigned {
    /// Reads a checkpoint that this witness cosigned. Who else signed it is not asked.
    ///
    /// # Errors
    /// When it is no checkpoint, or the witness did not cosign it.
    pub fn verified(note: &str, witness: &Cosigner) -> Result<Self, Error> {
        let head = Head::parse(note)?;
        let what = "the checkpoint is not cosigned by that witness";
        let line = witness.line(&head, signatures(note));
        let (seconds, _) = line.ok_or(Error::Malformed { what })?;
        Ok(Self { head, seconds })
    }

    /// The time as RFC 3339, in UTC.
    #[must_use]
    pub fn time(&self) -> String {
        clock::at(i64::try_from(self.seconds).unwrap_or(i64::MAX))
    }
}

/// What is signed: which statement this is, when it is made, and the checkpoint's text.
fn message(head: &Head, time: u64) -> String {
    format!("cosignature/v1\ntime {time}\n{}", head.text())
}

/// The line of a note by which this key cosigns a head.
pub(crate) fn cosign(secret: &SigningKey, own: &Cosigner, head: &Head, time: u64) -> String {
    let mut bytes = own.id.to_vec();
    bytes.extend_from_slice(&time.to_be_bytes());
    let signature = secret.sign(message(head, time).as_bytes());
    bytes.extend_from_slice(&signature.to_bytes());
    format!("— {} {}", own.name, base64(&bytes))
}
