//! What ends egress, or keeps it from starting.

use rustix::io::Errno;

/// Everything that can go wrong outside a connection. Egress then ends, and with it the way out.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The socket to the supervisor.
    #[error("the socket to the supervisor: {0}")]
    Socket(Errno),
    /// The socket to the supervisor cannot be watched.
    #[error("the runtime: {0}")]
    Runtime(std::io::Error),
    /// A packet longer than the receiver's bound.
    #[error("a packet was cut short")]
    CutShort,
    /// A message beyond the bounds.
    #[error("a message of {bytes} bytes and {fds} descriptors is beyond the bounds")]
    TooBig {
        /// Its length.
        bytes: usize,
        /// Its descriptors.
        fds: usize,
    },
    /// A packet that is no message.
    #[error("no message: {0}")]
    Json(serde_json::Error),
    /// The supervisor was gone before it said anything.
    #[error("the supervisor went away before the first packet")]
    NoConfig,
    /// Another version of the protocol.
    #[error("protocol version {0} is not spoken here")]
    Version(u32),
    /// A rule that is none.
    #[error("rule `{rule}`: {error}")]
    Rule {
        /// As it came.
        rule: String,
        /// What is wrong with it.
        error: names::Error,
    },
    /// More names or rules than there are synthetic addresses.
    #[error("more than {0} rules")]
    TooMany(usize),
    /// Descriptors and their roles differ in number.
    #[error("{fds} descriptors came with {roles} roles")]
    Descriptors {
        /// How many came.
        fds: usize,
        /// How many were announced.
        roles: usize,
    },
    /// A role whose port the configuration does not name.
    #[error("a descriptor for port {0}, which is not configured")]
    Role(u16),
    /// A resolver that cannot be made.
    #[error("the resolver: {0}")]
    Resolver(String),
}

impl Error {
    /// Whether the socket is only full for now, or has nothing for now.
    #[must_use]
    pub fn is_full(&self) -> bool {
        matches!(self, Error::Socket(errno) if *errno == Errno::AGAIN)
    }
}
