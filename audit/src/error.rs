//! Why the log could not be opened, written or read.

use std::io;

/// What went wrong. Whoever meets one of these while appending freezes what it governs.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A file or folder of the log.
    #[error("{path}: {error}")]
    Io {
        /// Which.
        path: String,
        /// What the kernel said.
        error: io::Error,
    },
    /// A folder that others may write, or that is not a folder.
    #[error("{path} must be a folder of this user that nobody else may read or write (0700)")]
    NotOurs {
        /// Which.
        path: String,
    },
    /// A name that could leave the folder.
    #[error(
        "`{name}` is no name of a log; write up to 64 of a-z, 0-9, `-`, `_` and `.`, not beginning with a dot"
    )]
    Name {
        /// What was given.
        name: String,
    },
    /// Another process writes this log.
    #[error("log `{log}` is being written by another process")]
    Busy {
        /// Which.
        log: String,
    },
    /// A signed part of the log does not hold; it is never written on.
    #[error("log `{log}` was altered at record {at}; keep it as evidence and begin another")]
    Altered {
        /// Which.
        log: String,
        /// The first record that does not hold.
        at: u64,
    },
    /// Records that were signed are gone.
    #[error(
        "log `{log}` has {found} records, and {signed} were signed; keep it as evidence and begin another"
    )]
    Truncated {
        /// Which.
        log: String,
        /// Records found.
        found: u64,
        /// Records signed.
        signed: u64,
    },
    /// The ledger does not hold.
    #[error("the ledger was altered at line {at}; keep the folder as evidence and begin another")]
    Ledger {
        /// The first line that does not hold.
        at: u64,
    },
    /// A key file.
    #[error("{path}: {what}")]
    Key {
        /// Which.
        path: String,
        /// What is wrong with it.
        what: &'static str,
    },
    /// The record was not written. It is counted, and a gap is recorded as soon as that is possible.
    #[error("the audit log cannot be written: {error}")]
    Unwritten {
        /// What the kernel said.
        error: io::Error,
    },
    /// What is on disk is unknown since a sync failed: only opening the log again helps.
    #[error("the audit log is broken since a sync failed; open it again")]
    Broken,
    /// No shortening makes this entry fit.
    #[error("the record has more than {} bytes", crate::LINE_BYTES_MAX)]
    TooLong,
    /// No such record below the signed head.
    #[error("log `{log}` has no record {seq} below its signed head of {size}")]
    NoRecord {
        /// Which log.
        log: String,
        /// What was asked for.
        seq: u64,
        /// Records signed.
        size: u64,
    },
    /// No proof leads from what was seen of a log to its head.
    #[error(
        "the hashes of log `{log}` do not lead from {old} records to its head of {size}; `audit verify` tells what was altered"
    )]
    Inconsistent {
        /// Which log.
        log: String,
        /// Records seen.
        old: u64,
        /// Records signed.
        size: u64,
    },
    /// A witness does not cosign a head.
    #[error("{0}")]
    Refused(#[from] crate::witness::Refusal),
    /// Something that is no checkpoint, no key or no record.
    #[error("{what}")]
    Malformed {
        /// What was expected.
        what: &'static str,
    },
}

impl Error {
    pub(crate) fn io(path: impl Into<String>) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |error| Self::Io { path, error }
    }
}
