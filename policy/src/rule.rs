//! A policy: rules in the order of their file, and how they are combined.

use yaml::Span;

use crate::condition::{Answer, Condition};
use crate::limit::Limit;
use crate::pattern::{FieldMatch, Unreadable};
use crate::{Action, ActionKind};

/// What is done with an action. Each is stricter than the one before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Verdict {
    /// It goes ahead.
    Allow,
    /// It goes ahead and is flagged.
    Audit,
    /// It is held until a person approves it.
    Escalate,
    /// It does not happen.
    Deny,
}

impl Verdict {
    /// All of them.
    pub const ALL: [Verdict; 4] = [Self::Allow, Self::Audit, Self::Escalate, Self::Deny];

    /// Its name, as policies write it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Allow => "allow",
            Self::Audit => "audit",
            Self::Escalate => "escalate",
            Self::Deny => "deny",
        }
    }

    /// Whether it lets an action go ahead.
    #[must_use]
    pub fn allows(self) -> bool {
        matches!(self, Self::Allow | Self::Audit)
    }
}

/// Which rule of one document speaks for it when several fit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Combine {
    /// The strictest verdict.
    DenyOverrides,
    /// The first in the file.
    FirstMatch,
    /// The highest priority, then the first in the file.
    Priority,
    /// The one that pins down most, then the strictest, then the first in the file.
    MostSpecific,
}

/// In which language a document was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dialect {
    /// Ours.
    Native,
    /// The toolkit's v4 PolicyDocument.
    PolicyDocument,
    /// The toolkit's `governance.toolkit/v1`.
    ToolkitV1,
}

/// One rule.
#[derive(Clone, Debug)]
pub struct Rule {
    /// Its name, once in its document.
    pub name: Box<str>,
    /// Where it begins.
    pub span: Span,
    /// The kinds of action that it is about.
    pub kinds: Kinds,
    /// All of these hold.
    pub matches: Vec<FieldMatch>,
    /// And all of these.
    pub conditions: Vec<Condition>,
    /// What it says; nothing when it only limits or labels.
    pub verdict: Option<Verdict>,
    /// The author's words.
    pub reason: Option<Box<str>>,
    /// For [`Combine::Priority`].
    pub priority: i64,
    /// Labels that the agent carries from then on.
    pub labels: Vec<Box<str>>,
    /// How often.
    pub limit: Option<Limit>,
    /// Who may approve.
    pub approvers: Vec<Box<str>>,
}

/// A set of kinds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Kinds(pub(crate) u16);

impl Kinds {
    /// Every kind.
    pub const ALL: Kinds = Kinds(u16::MAX);

    /// Whether it holds this one.
    #[must_use]
    pub fn contains(self, kind: ActionKind) -> bool {
        self.0 & kind.bit() != 0
    }

    /// Whether it holds all of the other's.
    #[must_use]
    pub fn covers(self, other: Kinds) -> bool {
        self.0 & other.0 == other.0
    }

    /// The kinds in it.
    pub fn iter(self) -> impl Iterator<Item = ActionKind> {
        ActionKind::ALL
            .iter()
            .copied()
            .filter(move |kind| self.contains(*kind))
    }
}

/// Whether a rule speaks about an action.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Fit {
    No,
    Yes,
    /// It does, and denies, because this kept it from being read to its end.
    Denies(String),
}

impl Rule {
    pub(crate) fn fits(&self, action: &Action) -> Fit {
        if !self.kinds.contains(action.kind) {
            return Fit::No;
        }
        // Whatever the order: a field that does not match settles it.
        let mut unreadable = None;
        for field in &self.matches {
            match field.matches(action) {
                Ok(true) => {}
                Ok(false) => return Fit::No,
                Err(Unreadable) => unreadable = Some(field),
            }
        }
        match unreadable {
            Some(field) => Fit::Denies(format!("{}: an object is no value to match", field.field)),
            None => self.holds(action),
        }
    }

    /// What its conditions come to, once it matched. What is missing makes a rule that would let
    /// the action go ahead not fit, a limit count, and any other deny.
    pub(crate) fn holds(&self, action: &Action) -> Fit {
        let mut missing = None;
        for condition in &self.conditions {
            match condition.ask(action, self.verdict) {
                Answer::Yes => {}
                Answer::No => return Fit::No,
                Answer::Errs(what) => return Fit::Denies(what),
                Answer::Missing(what) => missing = Some(what),
            }
        }
        match (missing, self.verdict) {
            (None, _) => Fit::Yes,
            (Some(_), None) if self.limit.is_some() => Fit::Yes,
            (Some(_), None | Some(Verdict::Allow | Verdict::Audit)) => Fit::No,
            (Some(what), Some(Verdict::Deny | Verdict::Escalate)) => Fit::Denies(what),
        }
    }

    /// How much of an action it pins down.
    pub(crate) fn specificity(&self) -> u64 {
        let narrowest = |field: &FieldMatch| {
            let all = field
                .any
                .iter()
                .map(|pattern| u64::from(pattern.specificity()));
            all.min().unwrap_or(0)
        };
        let fields: u64 = self.matches.iter().map(narrowest).sum();
        let conditions = self.conditions.len() as u64;
        fields + conditions * 1_000 + u64::from(self.kinds != Kinds::ALL)
    }
}

/// One document.
#[derive(Clone, Debug)]
pub struct Policy {
    /// The file, as it was named.
    pub file: Box<str>,
    /// Its own name.
    pub name: Box<str>,
    /// Its language.
    pub dialect: Dialect,
    /// What it says when no rule of it fits.
    pub default: Verdict,
    /// Which rule speaks for it.
    pub combine: Combine,
    /// Its rules, in the order of the file.
    pub rules: Vec<Rule>,
    /// What the document says that is enforced elsewhere or nowhere, for the reader of `check`.
    pub notes: Vec<(Span, String)>,
    /// What it grants, which is a document of its own.
    pub grants: Option<Box<Policy>>,
}

impl Policy {
    /// The document, and that of its grants when it has any.
    pub fn parts(mut self) -> impl Iterator<Item = Policy> {
        let grants = self.grants.take().map(|grants| *grants);
        std::iter::once(self).chain(grants)
    }
}
