//! The words that the supervisor and ringd share: launch plans, the frames that carry them, and the
//! one table of system calls that feeds filters, documentation and tests.
//!
//! **Invariant:** pure data. No file, socket, clock or process; every length is bounded before
//! anything is allocated for it.
#![forbid(unsafe_code)]

#[cfg(not(target_arch = "x86_64"))]
compile_error!("agt-supervisor's filters are written for x86_64");

pub mod filter;
pub mod frame;
pub mod launch;
pub mod report;
pub mod syscalls;

mod wire;

pub use frame::{Command, FRAME_BYTES_MAX, Header, VERSION};
pub use launch::{FdRole, Launch, Network, Rule, Socket, Source, Step, Stream, Trial};
pub use report::{Cause, Ended, Report};
pub use wire::WireError;
