//! Bounded little-endian reading and writing of a frame's fields.

use std::ffi::CString;
use std::fmt;

/// Why a frame was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WireError {
    /// The frame ends inside a field.
    Short,
    /// Bytes are left over after the last field.
    Long {
        /// How many.
        left: usize,
    },
    /// A length or count is beyond its bound.
    Bound {
        /// The field.
        field: &'static str,
        /// The largest value taken.
        max: usize,
    },
    /// A number that stands for nothing.
    Unknown {
        /// The field.
        field: &'static str,
        /// What was found.
        value: u64,
    },
    /// A text with a NUL byte inside.
    Nul {
        /// The field.
        field: &'static str,
    },
}

impl fmt::Display for WireError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            WireError::Short => write!(f, "frame ends inside a field"),
            WireError::Long { left } => write!(f, "frame has {left} bytes too many"),
            WireError::Bound { field, max } => write!(f, "{field} is beyond its bound, {max}"),
            WireError::Unknown { field, value } => write!(f, "{field} {value} is unknown"),
            WireError::Nul { field } => write!(f, "{field} holds a NUL byte"),
        }
    }
}

impl std::error::Error for WireError {}

/// A text longer than this is no path, argument or file that we make; also the kernel's own bound
/// for one argument (MAX_ARG_STRLEN).
const TEXT_BYTES_MAX: usize = 128 * 1024;

pub(crate) struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    pub(crate) fn take(&mut self, count: usize) -> Result<&'a [u8], WireError> {
        let (head, rest) = self.rest.split_at_checked(count).ok_or(WireError::Short)?;
        self.rest = rest;
        Ok(head)
    }

    pub(crate) fn array<const N: usize>(&mut self) -> Result<[u8; N], WireError> {
        let (head, rest) = self.rest.split_first_chunk::<N>().ok_or(WireError::Short)?;
        self.rest = rest;
        Ok(*head)
    }

    pub(crate) fn u8(&mut self) -> Result<u8, WireError> {
        self.array::<1>().map(u8::from_le_bytes)
    }

    pub(crate) fn u16(&mut self) -> Result<u16, WireError> {
        self.array().map(u16::from_le_bytes)
    }

    pub(crate) fn u32(&mut self) -> Result<u32, WireError> {
        self.array().map(u32::from_le_bytes)
    }

    pub(crate) fn i32(&mut self) -> Result<i32, WireError> {
        self.array().map(i32::from_le_bytes)
    }

    pub(crate) fn u64(&mut self) -> Result<u64, WireError> {
        self.array().map(u64::from_le_bytes)
    }

    pub(crate) fn flag(&mut self, field: &'static str) -> Result<bool, WireError> {
        match self.u8()? {
            0 => Ok(false),
            1 => Ok(true),
            other => Err(WireError::Unknown {
                field,
                value: other.into(),
            }),
        }
    }

    /// A count of items, at most `max`; checked before anything is allocated.
    pub(crate) fn count(&mut self, field: &'static str, max: usize) -> Result<usize, WireError> {
        let count = usize::from(self.u16()?);
        if count > max {
            Err(WireError::Bound { field, max })
        } else {
            Ok(count)
        }
    }

    pub(crate) fn bytes(&mut self, field: &'static str) -> Result<Vec<u8>, WireError> {
        let count = usize::try_from(self.u32()?).unwrap_or(usize::MAX);
        if count > TEXT_BYTES_MAX {
            return Err(WireError::Bound {
                field,
                max: TEXT_BYTES_MAX,
            });
        }
        self.take(count).map(<[u8]>::to_vec)
    }

    pub(crate) fn text(&mut self, field: &'static str) -> Result<CString, WireError> {
        CString::new(self.bytes(field)?).map_err(|_| WireError::Nul { field })
    }

    pub(crate) fn list<T>(
        &mut self,
        field: &'static str,
        max: usize,
        mut item: impl FnMut(&mut Self) -> Result<T, WireError>,
    ) -> Result<Vec<T>, WireError> {
        let count = self.count(field, max)?;
        (0..count).map(|_| item(self)).collect()
    }

    pub(crate) fn end(self) -> Result<(), WireError> {
        match self.rest.len() {
            0 => Ok(()),
            left => Err(WireError::Long { left }),
        }
    }
}

/// Writing cannot fail: what is beyond a bound is refused by the reader.
#[derive(Default)]
pub(crate) struct Writer {
    pub(crate) bytes: Vec<u8>,
}

impl Writer {
    pub(crate) fn put(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
    }

    pub(crate) fn u8(&mut self, value: u8) {
        self.put(&[value]);
    }

    pub(crate) fn u16(&mut self, value: u16) {
        self.put(&value.to_le_bytes());
    }

    pub(crate) fn u32(&mut self, value: u32) {
        self.put(&value.to_le_bytes());
    }

    pub(crate) fn i32(&mut self, value: i32) {
        self.put(&value.to_le_bytes());
    }

    pub(crate) fn u64(&mut self, value: u64) {
        self.put(&value.to_le_bytes());
    }

    pub(crate) fn text(&mut self, value: &[u8]) {
        self.u32(u32::try_from(value.len()).unwrap_or(u32::MAX));
        self.put(value);
    }

    pub(crate) fn list<T>(&mut self, items: &[T], mut item: impl FnMut(&mut Self, &T)) {
        self.u16(u16::try_from(items.len()).unwrap_or(u16::MAX));
        for one in items {
            item(self, one);
        }
    }
}
