//! YAML to a tree whose every node knows its place, for every file that people write for us.
//!
//! **Invariant:** what a file can make us do is bounded before it is done.
#![forbid(unsafe_code)]

mod error;
mod node;
mod words;

pub use error::Error;
pub use node::{Bounds, Entry, Node, Span, Value, is_null, parse};
pub use words::{nearest, shorten};
