//! Files of ours as trees, within the bounds that agents and rings need.

use crate::error::Error;

pub use yaml::Span;
pub(crate) use yaml::{Entry, Node, Value, is_null};

/// A longer file is refused unread.
pub const FILE_BYTES_MAX: usize = 64 * 1024;

const BOUNDS: yaml::Bounds = yaml::Bounds {
    bytes: FILE_BYTES_MAX,
    size: "64 KiB",
    depth: 16,
    nodes: 16 * 1024,
    keys: 8 * 1024,
    empty: "write at least version, name and command",
    example: "see the example in docs/agent-yaml.md",
};

/// Parses one document.
pub(crate) fn parse(file: &str, bytes: &[u8]) -> Result<Node, Error> {
    Ok(yaml::parse(file, bytes, &BOUNDS)?)
}
