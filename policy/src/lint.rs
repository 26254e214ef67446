//! Rules that never speak, and rules that contradict each other.

use std::cmp::Reverse;
use std::collections::HashMap;
use std::fmt;

use yaml::Span;

use crate::pattern::FieldMatch;
use crate::{Combine, Condition, Policy, Rule, Verdict};

/// What is odd about a rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Oddity {
    /// Another rule speaks wherever this one would.
    Shadowed,
    /// Another rule is about the same and says the opposite; it is that one which speaks.
    Conflicting,
    /// Its verdict is the default's: without it nothing would change.
    Unneeded,
}

/// One thing to look at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Warning {
    /// The file as it was named.
    pub file: Box<str>,
    /// The rule's place.
    pub span: Span,
    /// The rule.
    pub rule: Box<str>,
    /// What is odd.
    pub oddity: Oddity,
    /// The rule that speaks instead, and its line.
    pub other: Option<(Box<str>, usize)>,
}

impl fmt::Display for Warning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: rule `{}` ", self.file, self.span, self.rule)?;
        let what = match self.oddity {
            Oddity::Shadowed => "never speaks: wherever it fits,",
            Oddity::Conflicting => "says the opposite about the same actions, and never speaks:",
            Oddity::Unneeded => {
                return f.write_str("changes nothing: its verdict is the default's");
            }
        };
        match &self.other {
            Some((rule, line)) => write!(f, "{what} `{rule}` in line {line} does"),
            None => f.write_str(what),
        }
    }
}

/// A rule with what is compared again and again.
struct Seen<'p> {
    rule: &'p Rule,
    /// Conditions that read the same have the same number; 0 is none.
    conditions: usize,
    specificity: u64,
}

/// Everything that is odd about a document, in the order of its rules.
#[must_use]
pub fn lint(policy: &Policy) -> Vec<Warning> {
    let mut numbers: HashMap<String, usize> = HashMap::new();
    let mut see = |rule: &Rule| {
        if rule.conditions.is_empty() {
            return 0;
        }
        let next = numbers.len() + 1;
        *numbers
            .entry(format!("{:?}", rule.conditions))
            .or_insert(next)
    };
    let rules: Vec<Seen> = policy
        .rules
        .iter()
        .map(|rule| Seen {
            rule,
            conditions: see(rule),
            specificity: rule.specificity(),
        })
        .collect();
    let mut warnings = Vec::new();
    for (at, seen) in rules.iter().enumerate() {
        let instead = rules.iter().enumerate().find(|(other, wide)| {
            *other != at
                && speaks_before(policy.combine, (wide, *other), (seen, at))
                && covers(wide, seen)
        });
        if let Some((_, other)) = instead {
            let opposite = covers(seen, other) && allows(seen.rule) != allows(other.rule);
            warnings.push(Warning {
                file: policy.file.clone(),
                span: seen.rule.span,
                rule: seen.rule.name.clone(),
                oddity: if opposite {
                    Oddity::Conflicting
                } else {
                    Oddity::Shadowed
                },
                other: Some((other.rule.name.clone(), other.rule.span.line)),
            });
        } else if is_unneeded(policy, seen.rule) {
            warnings.push(Warning {
                file: policy.file.clone(),
                span: seen.rule.span,
                rule: seen.rule.name.clone(),
                oddity: Oddity::Unneeded,
                other: None,
            });
        }
    }
    warnings
}

fn allows(rule: &Rule) -> Option<bool> {
    rule.verdict.map(Verdict::allows)
}

/// Only an `allow` among strictest-wins documents that allow by default is certain to change nothing.
fn is_unneeded(policy: &Policy, rule: &Rule) -> bool {
    policy.combine == Combine::DenyOverrides
        && policy.default == Verdict::Allow
        && rule.verdict == Some(Verdict::Allow)
        && rule.limit.is_none()
        && rule.labels.is_empty()
        && rule.conditions.is_empty()
}

/// Whether the first speaks whenever both fit, and the second is then as if it were not there.
fn speaks_before(combine: Combine, a: (&Seen<'_>, usize), b: (&Seen<'_>, usize)) -> bool {
    let ((a, a_at), (b, b_at)) = (a, b);
    let (Some(a_verdict), Some(b_verdict)) = (a.rule.verdict, b.rule.verdict) else {
        return false;
    };
    let rank = |seen: &Seen<'_>, verdict: Verdict, at: usize| match combine {
        Combine::DenyOverrides => (Reverse(0), Reverse(0), Reverse(Some(verdict)), at),
        Combine::FirstMatch => (Reverse(0), Reverse(0), Reverse(None), at),
        Combine::Priority => (Reverse(seen.rule.priority), Reverse(0), Reverse(None), at),
        Combine::MostSpecific => (
            Reverse(0),
            Reverse(seen.specificity),
            Reverse(Some(verdict)),
            at,
        ),
    };
    // Where the strictest speaks, limits and labels count beside it.
    let counts =
        combine == Combine::DenyOverrides && (b.rule.limit.is_some() || !b.rule.labels.is_empty());
    // A rule that errs denies, even one that would allow.
    let may_deny = !b.rule.conditions.is_empty()
        && !b
            .rule
            .conditions
            .iter()
            .all(|c| matches!(c, Condition::Toolkit(_)))
        && a_verdict != Verdict::Deny
        && matches!(combine, Combine::DenyOverrides | Combine::MostSpecific);
    !counts && !may_deny && rank(a, a_verdict, a_at) < rank(b, b_verdict, b_at)
}

/// Whether the first fits wherever the second does. `false` when unsure.
fn covers(wide: &Seen<'_>, narrow: &Seen<'_>) -> bool {
    // A missing field makes the one false and the other deny.
    let same_when_missing = allows(wide.rule) == allows(narrow.rule)
        || wide
            .rule
            .conditions
            .iter()
            .all(|c| matches!(c, Condition::Toolkit(_)));
    let conditions =
        wide.conditions == 0 || wide.conditions == narrow.conditions && same_when_missing;
    let field = |wide: &FieldMatch| {
        let same = narrow
            .rule
            .matches
            .iter()
            .filter(|narrow| narrow.field == wide.field);
        let mut same = same;
        same.any(|narrow| {
            let covered = |narrow| wide.any.iter().any(|wide| wide.covers(narrow));
            narrow.any.iter().all(covered)
        })
    };
    conditions && wide.rule.kinds.covers(narrow.rule.kinds) && wide.rule.matches.iter().all(field)
}
