//! Everything that can be wrong with a file, each with its place and the remedy.

use std::io;
use std::path::PathBuf;

use crate::node::Span;

/// One thing that is wrong. The message is complete: place, what, and what to write instead.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Something at a place in a file.
    #[error("{file}:{span}: {what}; {remedy}")]
    Wrong {
        /// The file as it was named.
        file: String,
        /// Where.
        span: Span,
        /// What is wrong there.
        what: String,
        /// What to write instead.
        remedy: String,
    },
    /// Something about the file as a whole.
    #[error("{file}: {what}; {remedy}")]
    File {
        /// The file as it was named.
        file: String,
        /// What is wrong with it.
        what: String,
        /// What to do.
        remedy: String,
    },
    /// The site's profiles cannot be trusted or read.
    #[error("{}: {what}; no ring starts until this is mended", path.display())]
    Site {
        /// The folder or file.
        path: PathBuf,
        /// What is wrong with it.
        what: String,
    },
    /// The site's profiles cannot be read.
    #[error("{}: {error}; no ring starts until this is mended", path.display())]
    SiteIo {
        /// The folder or file.
        path: PathBuf,
        /// The kernel's reason.
        error: io::Error,
    },
    /// There is no such ring.
    #[error("there is no ring `{name}`; this host has {known}")]
    NoRing {
        /// What was asked for.
        name: String,
        /// What there is.
        known: String,
    },
}

impl Error {
    pub(crate) fn wrong(
        file: &str,
        span: Span,
        what: impl Into<String>,
        remedy: impl Into<String>,
    ) -> Self {
        Error::Wrong {
            file: file.into(),
            span,
            what: what.into(),
            remedy: remedy.into(),
        }
    }

    /// The offending line of `source` with a caret under the place, for terminals.
    #[must_use]
    pub fn excerpt(&self, source: &str) -> Option<String> {
        let Error::Wrong { span, .. } = self else {
            return None;
        };
        let line = source.lines().nth(span.line.checked_sub(1)?)?;
        let line: String = line
            .chars()
            .take(160)
            .map(|c| if c.is_control() { ' ' } else { c })
            .collect();
        let margin = span.line.to_string();
        let pad = " ".repeat(margin.len());
        let caret = " ".repeat(span.column.saturating_sub(1).min(160));
        Some(format!("{pad} |\n{margin} | {line}\n{pad} | {caret}^"))
    }
}

impl From<yaml::Error> for Error {
    fn from(error: yaml::Error) -> Self {
        match error {
            yaml::Error::Wrong {
                file,
                span,
                what,
                remedy,
            } => Error::Wrong {
                file,
                span,
                what,
                remedy,
            },
            yaml::Error::File { file, what, remedy } => Error::File { file, what, remedy },
        }
    }
}
