//! Decision → Recorded: the audit log.
//!
//! A record is a line of JSON. Each line holds the hash of the one before it; the hashes are the
//! leaves of an RFC 6962 tree whose head is signed at least once a minute, as a C2SP checkpoint. A
//! ledger beside the logs tells when a whole log is missing. `docs/audit-format.md` says all that a
//! verifier has to know. Read `log.rs` first; `recover.rs` is how a log begins again after a crash,
//! `verify.rs` and `prove.rs` are for those who do not trust it, `witness.rs` for one of them who says so.
#![forbid(unsafe_code)]

mod args;
mod clock;
mod consistency;
mod cosign;
mod entry;
mod error;
mod folder;
mod history;
mod keys;
mod ledger;
mod line;
mod log;
mod note;
mod prove;
mod prune;
mod recover;
mod request;
mod reserve;
mod segment;
mod show;
mod text;
mod tile;
mod tree;
mod verify;
mod walk;
mod witness;
mod witnessed;

#[cfg(test)]
mod tests;

pub use cosign::{Cosigned, Cosigner};
pub use entry::{Action, Entry, Kind, Value};
pub use error::Error;
pub use keys::{Keys, parse_list, read_list};
pub use line::LINE_BYTES_MAX;
pub use log::{Durability, Log, Options, Queued, Recorded, Written};
pub use note::{Head, PublicKey, notes};
pub use prove::{Proof, args_key, latest, prove};
pub use prune::prune;
pub use recover::{is_begun, sweep};
pub use request::REQUEST_BYTES_MAX;
pub use show::{Filter, Show, Shown, cloud_event, show};
pub use text::{hex, hidden, shown};
pub use tree::{Hash, Tree, leaf_hash, node_hash, root_of, sha256};
pub use verify::{LogVerdict, Part, Report, State, verify};
pub use witness::{Refusal, Witness};
pub use witnessed::{keep, offer, witnessed};
