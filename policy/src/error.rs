//! What is wrong with a policy or an action.

/// One thing that is wrong. The message is complete.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A policy cannot be loaded: its place, what is wrong, what to write instead.
    #[error(transparent)]
    File(#[from] yaml::Error),
    /// An action is not what it claims to be, and is denied unjudged.
    #[error("this action cannot be judged: {what}")]
    Action {
        /// What is wrong with it.
        what: String,
    },
}

impl Error {
    pub(crate) fn action(what: impl Into<String>) -> Self {
        Error::Action { what: what.into() }
    }

    /// The offending line of `source` with a caret under the place, for terminals.
    #[must_use]
    pub fn excerpt(&self, source: &str) -> Option<String> {
        match self {
            Error::File(error) => error.excerpt(source),
            Error::Action { .. } => None,
        }
    }
}
