//! Calls by their numbers: 0 to 19 as the toolkit has them, from 64 our own.

use serde_json::{Map, Value, json};

/// What a client may ask for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Call {
    /// One that the kernel answers itself, or that this version has not.
    Elsewhere(&'static str),
    /// One command in a ring of its own, of no more rights.
    Exec,
    /// How such a command stands.
    Wait,
    /// One command in a ring of more rights.
    Elevate,
    /// The policies in force.
    GetPolicy,
    /// A decision that is not acted upon.
    CheckPolicy,
    /// Says who speaks; answered with who it is known as.
    Hello,
    /// The agent is up.
    Ready,
    /// The agent is alive.
    Heartbeat,
    /// A decision that is not acted upon, and where it comes from.
    Explain,
    /// Decide and record one action.
    Act,
    /// The outcome of an action.
    Done,
    /// How a held action stands.
    Approval,
    /// A signal of the agent to itself.
    Signal,
    /// Whether this connection is told of signals.
    SigAction,
    /// Of which signals the agent does not want to be told now.
    SigProcMask,
}

/// Calls 0 to 14 by number.
const TOOLKIT: [&str; 15] = [
    "FORK", "EXIT", "WAIT", "EXEC", "OPEN", "CLOSE", "READ", "WRITE", "STAT", "MMAP", "MUNMAP",
    "BRK", "PIPE", "SEND", "RECV",
];

impl Call {
    pub(super) fn of(number: u16) -> Option<Self> {
        Some(match number {
            2 => Call::Wait,
            3 => Call::Exec,
            15 => Call::Signal,
            16 => Call::SigAction,
            17 => Call::SigProcMask,
            18 => Call::GetPolicy,
            19 => Call::CheckPolicy,
            64 => Call::Hello,
            65 => Call::Ready,
            66 => Call::Heartbeat,
            67 => Call::Act,
            68 => Call::Done,
            69 => Call::Explain,
            70 => Call::Elevate,
            71 => Call::Approval,
            other => Call::Elsewhere(TOOLKIT.get(usize::from(other))?),
        })
    }
}

/// An answer that says no.
pub(crate) fn error(errno: &str, reason: &str) -> Map<String, Value> {
    let mut map = Map::new();
    map.insert("errno".into(), json!(errno));
    map.insert("verdict".into(), json!("deny"));
    map.insert("reason".into(), json!(reason));
    map
}
