//! What an agent is about to do, held against what its site, its ring and its own files say.
//!
//! **Invariant:** pure. No clock, file, socket or lock: time and the state of limits are inputs, and
//! the same inputs give the same decision. Whatever cannot be judged is denied.
#![forbid(unsafe_code)]

mod action;
mod check;
mod condition;
mod decision;
mod dialect;
mod document;
mod enforce;
mod engine;
mod error;
mod expression;
mod files;
mod glob;
mod grants;
mod index;
mod json;
mod key;
mod limit;
mod lint;
mod native;
mod pattern;
mod rule;
pub mod spec;
mod toolkit;

pub use action::{Action, ActionKind, Draft, Host};
pub use check::{Outcome, Report, check, eval_line, test};
pub use condition::{Cel, Condition};
pub use decision::Decision;
pub use document::{FILE_BYTES_MAX, Variables};
pub use enforce::{Enforcer, enforced_by};
pub use engine::{Engine, Scratch};
pub use error::Error;
pub use files::{FilePlace, file_places, speaks_of_files};
pub use glob::{Glob, Over, Piece};
pub use json::object;
pub use limit::{Counters, Limit, Limits};
pub use lint::{Oddity, Warning, lint};
pub use pattern::{Field, FieldMatch, Pattern};
pub use rule::{Combine, Dialect, Kinds, Policy, Rule, Verdict};
pub use toolkit::{Compare, Operator, Test};
pub use yaml::Span;
