//! Frames of the action protocol (DESIGN section 9), little-endian:
//!
//! | at | type | field |
//! |---|---|---|
//! | 0 | u32 | payload length, at most [`PAYLOAD_MAX`] |
//! | 4 | u16 | call |
//! | 6 | u16 | flags: 1 reply, 2 event, 4 a descriptor comes along |
//! | 8 | u64 | id, chosen by the caller, echoed |
//! | 16 | | payload: one JSON object |

/// Bytes before the payload.
pub(crate) const HEAD: usize = 16;
/// The longest payload.
pub(crate) const PAYLOAD_MAX: usize = 65_536;
/// This frame answers another.
pub(crate) const REPLY: u16 = 1;
/// This frame answers nothing: something happened.
pub(crate) const EVENT: u16 = 2;
/// A descriptor comes along: the arguments, in a sealed memfd.
pub(crate) const WITH_FD: u16 = 4;

/// One frame that came in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Frame {
    pub(crate) call: u16,
    pub(crate) flags: u16,
    pub(crate) id: u64,
    pub(crate) payload: Vec<u8>,
}

/// A client that does not speak this protocol: there is no next frame to be found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct TooLong;

impl Frame {
    /// Whether [`Self::take`] has something to say of what came in.
    pub(crate) fn waits(bytes: &[u8]) -> bool {
        let Some((&[a, b, c, d, ..], rest)) = bytes.split_first_chunk::<HEAD>() else {
            return false;
        };
        let length = usize::try_from(u32::from_le_bytes([a, b, c, d])).unwrap_or(usize::MAX);
        length > PAYLOAD_MAX || length <= rest.len()
    }

    /// Whether it answers this call.
    pub(crate) const fn answers(&self, id: u64) -> bool {
        self.flags & REPLY != 0 && self.id == id
    }

    /// Whether arguments come along with the first frame.
    pub(crate) fn is_large(bytes: &[u8]) -> bool {
        let flags = bytes.get(6..8).and_then(|flags| flags.try_into().ok());
        flags.is_some_and(|flags| u16::from_le_bytes(flags) & WITH_FD != 0)
    }

    /// Takes the first whole frame off the front of what came in; `None` while it is not all there.
    pub(crate) fn take(bytes: &mut Vec<u8>) -> Result<Option<Self>, TooLong> {
        let Some((head, rest)) = bytes.split_first_chunk::<HEAD>() else {
            return Ok(None);
        };
        let [a, b, c, d, e, f, g, h, id @ ..] = *head;
        let length = usize::try_from(u32::from_le_bytes([a, b, c, d])).map_err(|_| TooLong)?;
        if length > PAYLOAD_MAX {
            return Err(TooLong);
        }
        let Some(payload) = rest.get(..length) else {
            return Ok(None);
        };
        let frame = Self {
            call: u16::from_le_bytes([e, f]),
            flags: u16::from_le_bytes([g, h]),
            id: u64::from_le_bytes(id),
            payload: payload.to_vec(),
        };
        bytes.drain(..HEAD + length);
        Ok(Some(frame))
    }

    /// Appends the frame to what goes out. A payload that is too long is the caller's mistake and is cut
    /// to an empty object.
    pub(crate) fn put(&self, out: &mut Vec<u8>) {
        let payload: &[u8] = match u32::try_from(self.payload.len()) {
            Ok(_) if self.payload.len() <= PAYLOAD_MAX => &self.payload,
            Ok(_) | Err(_) => b"{}",
        };
        let length = u32::try_from(payload.len()).unwrap_or(0);
        out.extend_from_slice(&length.to_le_bytes());
        out.extend_from_slice(&self.call.to_le_bytes());
        out.extend_from_slice(&self.flags.to_le_bytes());
        out.extend_from_slice(&self.id.to_le_bytes());
        out.extend_from_slice(payload);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn frames_come_through_in_any_pieces(
            calls in prop::collection::vec((any::<u16>(), any::<u64>(), prop::collection::vec(any::<u8>(), 0..300)), 1..6),
            cut in 1_usize..40,
        ) {
            let frames: Vec<Frame> = calls
                .into_iter()
                .map(|(call, id, payload)| Frame { call, flags: REPLY, id, payload })
                .collect();
            let mut bytes = Vec::new();
            for frame in &frames {
                frame.put(&mut bytes);
            }
            let (mut came, mut found) = (Vec::new(), Vec::new());
            for piece in bytes.chunks(cut) {
                came.extend_from_slice(piece);
                while let Ok(Some(frame)) = Frame::take(&mut came) {
                    found.push(frame);
                }
            }
            prop_assert_eq!(found, frames);
            prop_assert!(came.is_empty());
        }

        #[test]
        fn any_bytes_are_taken_without_a_crash(mut bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            loop {
                let waits = Frame::waits(&bytes);
                let taken = Frame::take(&mut bytes);
                prop_assert_eq!(waits, !matches!(taken, Ok(None)));
                if !matches!(taken, Ok(Some(_))) {
                    break;
                }
            }
        }
    }
}
