//! `agt-supervisor`: reads what an agent may do, builds the plan of its ring, runs it in the
//! foreground, and says how it ended.
//!
//! **Invariant:** nothing is started before everything that can be refused was refused, and every
//! start and end of an agent goes through [`run`].
#![forbid(unsafe_code)]

mod approvals;
mod audit_cli;
mod banner;
mod cgroup;
mod cli;
mod closing;
mod control;
mod doctor;
mod door;
mod error;
mod explain;
mod hook;
mod init;
mod link;
mod live;
mod logs;
mod places;
mod policies;
mod reference;
mod rings;
mod run;
mod ship;
mod signal;
mod who;
mod witness;
mod words;

#[cfg(fuzzing)]
pub use run::fuzz;

use std::process::ExitCode;

/// The whole program.
#[must_use]
pub fn main() -> ExitCode {
    // One binary, four parts: under these names it is another one.
    match std::env::args_os().next() {
        Some(name) if name == link::RINGD_NAME => ringd::run(),
        Some(name) if name == run::EGRESS_NAME => egress::run(),
        Some(name) if name == hook::NAME => hook::main(),
        Some(_) | None => cli::main(),
    }
}
