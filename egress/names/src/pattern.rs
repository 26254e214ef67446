//! The names that a rule means.

use std::fmt;

use crate::{Error, HostName};

/// One name, all names below a suffix, or every name.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum NamePattern {
    /// This name.
    Exact(HostName),
    /// Every name with one or more labels before this suffix; not the suffix itself.
    Below(HostName),
    /// Every name.
    Any,
}

impl NamePattern {
    /// `api.example.com`, `*.example.com` or `*`.
    ///
    /// # Errors
    /// What is no name, and wildcards elsewhere or over a whole top-level domain.
    pub fn parse(text: &str) -> Result<Self, Error> {
        if text == "*" {
            return Ok(Self::Any);
        }
        let Some(suffix) = text.strip_prefix("*.") else {
            if text.contains('*') {
                return Err(Error::WildcardPlace);
            }
            return HostName::parse(text).map(Self::Exact);
        };
        if suffix.contains('*') {
            return Err(Error::WildcardPlace);
        }
        let suffix = HostName::parse(suffix)?;
        if suffix.labels() < 2 {
            return Err(Error::WildcardWide);
        }
        Ok(Self::Below(suffix))
    }

    /// Whether it means this name.
    #[must_use]
    pub fn matches(&self, name: &HostName) -> bool {
        match self {
            Self::Exact(exact) => exact == name,
            Self::Below(suffix) => is_below(name, suffix),
            Self::Any => true,
        }
    }

    /// Whether it means every name that the other means: a ceiling over it.
    #[must_use]
    pub fn covers(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Any, _) => true,
            (_, Self::Exact(name)) => self.matches(name),
            (Self::Below(wide), Self::Below(narrow)) => wide == narrow || is_below(narrow, wide),
            (Self::Exact(_), Self::Below(_)) | (_, Self::Any) => false,
        }
    }
}

/// On a label's boundary: `evilexample.com` is not below `example.com`.
fn is_below(name: &HostName, suffix: &HostName) -> bool {
    name.as_str()
        .strip_suffix(suffix.as_str())
        .and_then(|head| head.strip_suffix('.'))
        .is_some_and(|head| !head.is_empty())
}

impl fmt::Display for NamePattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exact(name) => write!(f, "{name}"),
            Self::Below(suffix) => write!(f, "*.{suffix}"),
            Self::Any => f.write_str("*"),
        }
    }
}
