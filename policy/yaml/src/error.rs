//! What is wrong with a file: place, what, and what to write instead.

use crate::Span;

/// One thing that is wrong. The message is complete.
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
}

impl Error {
    /// Something at a place in a file.
    pub fn wrong(
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
