//! What an agent wishes (agent.yaml) and what its ring permits (ring profiles), and the one step
//! that makes a ring out of both.
//!
//! **Invariant:** data only narrows. A wish is met with its ceiling or refused; nothing here is
//! looked up on the host but the site's own profiles, and those only through checked descriptors.
#![forbid(unsafe_code)]

mod agent;
mod applies;
mod diff;
mod error;
mod explain;
mod lint;
mod narrow;
mod network;
mod node;
mod preset;
mod probe;
mod reference;
mod resolve;
mod ring;
mod runtime;
mod score;
mod shape;
mod site;
mod skeleton;
mod value;

pub use agent::{Agent, EnvWish, Limits, PathWish};
pub use applies::{Accounts, Applies, Asker};
pub use diff::{Change, Direction, diff};
pub use error::Error;
pub use explain::show;
pub use lint::{Warning, lint};
pub use network::{ConnectionLimits, Network, NetworkCeiling, NetworkWish, Ports, Proxy};
pub use node::{FILE_BYTES_MAX, Span};
pub use preset::presets;
pub use probe::{Probe, Target};
pub use reference::{agent_markdown, agent_schema, ring_markdown, ring_schema};
pub use resolve::{Ring, resolve};
pub use ring::ring_policy;
pub use ring::{Access, Proc, Programs, RingProfile, Rings, Socket, name_of};
pub use runtime::Runtime;
pub use score::{Finding, Score, score};
pub use site::{load, site_files};
pub use skeleton::skeleton;
pub use value::{At, Bytes, CpuMillis, Home, Layer, Millionths, Milliseconds, Reaction, Stop};

/// Reads an agent.yaml. `file` is its name in messages.
///
/// # Errors
/// The first thing that is wrong with it, with its place and what to write instead.
pub fn parse_agent(file: &str, bytes: &[u8]) -> Result<Agent, Error> {
    Agent::parse(file, bytes)
}
