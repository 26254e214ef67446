//! Frames on the socket between the supervisor and ringd: a twelve-byte header and a payload.
//!
//! | at | type | field |
//! |---|---|---|
//! | 0 | 4 bytes | `AGTP` |
//! | 4 | u16 | [`VERSION`] |
//! | 6 | u16 | kind |
//! | 8 | u32 | payload length, at most [`FRAME_BYTES_MAX`] |
//!
//! A change of any field's meaning or order raises [`VERSION`]; the two halves must agree exactly.

use crate::launch::Launch;
use crate::wire::{Reader, WireError, Writer};

/// The protocol's version. Both halves come from one build, so there is no range to negotiate.
pub const VERSION: u16 = 1;

/// A larger plan is refused unread: arguments and environment share the kernel's own bound of a few
/// hundred KiB, and nothing else in a plan is large.
pub const FRAME_BYTES_MAX: usize = 1024 * 1024;

const MAGIC: [u8; 4] = *b"AGTP";

/// What stands before each payload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// What the payload is; its meaning depends on the direction.
    pub kind: u16,
    /// Bytes of payload, within [`FRAME_BYTES_MAX`].
    pub length: usize,
}

impl Header {
    /// Bytes of a header.
    pub const LEN: usize = 12;

    /// Reads a header.
    ///
    /// # Errors
    /// When the magic, the version or the length is not ours.
    pub fn decode(bytes: [u8; Self::LEN]) -> Result<Self, WireError> {
        let mut reader = Reader::new(&bytes);
        let magic = reader.array::<4>()?;
        if magic != MAGIC {
            let value = u32::from_le_bytes(magic).into();
            return Err(WireError::Unknown {
                field: "magic",
                value,
            });
        }
        let version = reader.u16()?;
        if version != VERSION {
            return Err(WireError::Unknown {
                field: "version",
                value: version.into(),
            });
        }
        let kind = reader.u16()?;
        let length = usize::try_from(reader.u32()?).unwrap_or(usize::MAX);
        if length > FRAME_BYTES_MAX {
            return Err(WireError::Bound {
                field: "payload",
                max: FRAME_BYTES_MAX,
            });
        }
        Ok(Self { kind, length })
    }
}

/// Header and payload as one run of bytes.
pub(crate) fn frame(kind: u16, payload: &[u8]) -> Vec<u8> {
    let mut writer = Writer::default();
    writer.put(&MAGIC);
    writer.u16(VERSION);
    writer.u16(kind);
    writer.u32(u32::try_from(payload.len()).unwrap_or(u32::MAX));
    writer.put(payload);
    writer.bytes
}

/// What the supervisor may ask. `Launch` is taken once and only before anything runs; the others
/// only after it.
#[derive(Clone, Debug, PartialEq)]
pub enum Command {
    /// Build the ring and start the agent in it.
    Launch(Box<Launch>),
    /// Send this signal (1–64) to every process of the ring.
    Signal(u8),
    /// Kill the ring now.
    Kill,
}

impl Command {
    /// The whole frame.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        match self {
            Command::Launch(launch) => {
                let mut writer = Writer::default();
                launch.write(&mut writer);
                frame(1, &writer.bytes)
            }
            Command::Signal(signal) => frame(2, &[*signal]),
            Command::Kill => frame(3, &[]),
        }
    }

    /// Reads a payload of this kind.
    ///
    /// # Errors
    /// When it is not exactly one command of this version.
    pub fn decode(kind: u16, payload: &[u8]) -> Result<Self, WireError> {
        let mut reader = Reader::new(payload);
        let command = match kind {
            1 => Command::Launch(Box::new(Launch::read(&mut reader)?)),
            2 => match reader.u8()? {
                signal @ 1..=64 => Command::Signal(signal),
                other => {
                    return Err(WireError::Unknown {
                        field: "signal",
                        value: other.into(),
                    });
                }
            },
            3 => Command::Kill,
            other => {
                return Err(WireError::Unknown {
                    field: "command",
                    value: other.into(),
                });
            }
        };
        reader.end()?;
        Ok(command)
    }
}
