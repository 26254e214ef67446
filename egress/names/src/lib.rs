//! Host names parsed once into a type, the rules that name them, the ranges addresses belong to.
//!
//! Pure: no socket, no file, no clock. Who writes a rule and who enforces it share these parsers, so
//! there is no second reading of a name to differ from the first.
#![forbid(unsafe_code)]

mod error;
mod host;
mod pattern;
mod range;
mod rule;

pub use error::Error;
pub use host::HostName;
pub use pattern::NamePattern;
pub use range::{Cidr, Range, judge, range};
pub use rule::{HostRule, PortRule};
