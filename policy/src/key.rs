//! By what a rule is filed in the index.

use names::NamePattern;
use serde_json::Value;

use crate::Verdict;
use crate::condition::Condition;
use crate::glob::Piece;
use crate::pattern::{Field, FieldMatch, Pattern};
use crate::rule::Rule;
use crate::toolkit::{Compare, Operator, Test};

/// The value that a rule is filed by.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Slot {
    Path,
    Host,
    Tool,
    Program,
    Base,
    Session,
    Agent,
    Ring,
    /// A field of the toolkit, for rules that deny or others.
    Toolkit(Vec<String>, bool),
}

/// How a rule is found by a value of its slot. From the best to the worst.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Key {
    Exact(Box<str>),
    /// The value begins so, up to and with a separator.
    Prefix(Box<str>),
    /// The value ends so, from a `.` on.
    Suffix(Box<str>),
    /// This is somewhere in the value.
    Literal(Box<str>),
    /// So is this.
    Regex(Box<str>),
}

impl Key {
    fn rank(&self) -> u8 {
        match self {
            Self::Exact(_) => 0,
            Self::Prefix(_) | Self::Suffix(_) => 1,
            Self::Literal(_) => 2,
            Self::Regex(_) => 3,
        }
    }
}

/// Whether being found is as good as fitting: there is but one field, and its keys say all of it.
pub(crate) fn is_proof(rule: &Rule) -> bool {
    let ([field], []) = (&*rule.matches, &*rule.conditions) else {
        return false;
    };
    let path = matches!(field.field, Field::Path | Field::Program);
    field.any.iter().all(|pattern| says_all(pattern, path))
}

fn says_all(pattern: &Pattern, path: bool) -> bool {
    match pattern {
        Pattern::Exact(_) | Pattern::Name(NamePattern::Exact(_) | NamePattern::Below(_)) => true,
        Pattern::Glob(glob) => match glob.pieces() {
            [Piece::Text(_), Piece::Tree] => true,
            [Piece::Text(head), Piece::Any] => {
                head.len() > 1 && head.ends_with(if path { '/' } else { '.' })
            }
            _ => false,
        },
        Pattern::Base(inner) => says_all(inner, false),
        Pattern::Name(NamePattern::Any) | Pattern::Range(_) => false,
        Pattern::AnyHost | Pattern::Ports(..) => false,
    }
}

/// The field by which a rule is found with the least to ask afterwards.
pub(crate) fn best(rule: &Rule) -> Option<(Slot, Vec<Key>)> {
    let denies = rule.verdict == Some(Verdict::Deny) || rule.verdict == Some(Verdict::Escalate);
    let fields = rule.matches.iter().filter_map(field);
    let tests = rule
        .conditions
        .iter()
        .filter_map(|condition| match condition {
            Condition::Toolkit(test) => toolkit(test, denies),
            Condition::When(_) | Condition::Unless(_) => None,
        });
    let worst = |keys: &[Key]| keys.iter().map(Key::rank).max();
    fields
        .chain(tests)
        .min_by_key(|(slot, keys)| (worst(keys), slot.clone()))
}

fn field(field: &FieldMatch) -> Option<(Slot, Vec<Key>)> {
    let bases = field
        .any
        .iter()
        .all(|pattern| matches!(pattern, Pattern::Base(_)));
    let slot = match field.field {
        Field::Path => Slot::Path,
        Field::Host => Slot::Host,
        Field::Tool => Slot::Tool,
        Field::Program if bases => Slot::Base,
        Field::Program => Slot::Program,
        Field::Session => Slot::Session,
        Field::Agent => Slot::Agent,
        Field::Ring => Slot::Ring,
        Field::Port | Field::Argv | Field::Labels | Field::Args(_) | Field::Given(_) => {
            return None;
        }
    };
    let separator = if matches!(slot, Slot::Path | Slot::Program) {
        '/'
    } else {
        '.'
    };
    let mut keys = Vec::new();
    for pattern in &field.any {
        let pattern = if let (Pattern::Base(inner), Slot::Base) = (pattern, &slot) {
            inner
        } else {
            pattern
        };
        keys.extend(key(pattern, separator)?);
    }
    Some((slot, keys))
}

/// Shorter ones are everywhere.
const LITERAL_MIN: usize = 3;

fn key(pattern: &Pattern, separator: char) -> Option<Vec<Key>> {
    let glob = match pattern {
        Pattern::Exact(text) => return Some(vec![Key::Exact(text.clone())]),
        Pattern::Name(NamePattern::Exact(name)) => {
            return Some(vec![Key::Exact(name.as_str().into())]);
        }
        Pattern::Name(NamePattern::Below(suffix)) => {
            return Some(vec![Key::Suffix(format!(".{suffix}").into())]);
        }
        Pattern::Glob(glob) => glob,
        Pattern::Base(_) | Pattern::Name(NamePattern::Any) | Pattern::Range(_) => return None,
        Pattern::AnyHost | Pattern::Ports(..) => return None,
    };
    if let [Piece::Text(head), Piece::Tree] = glob.pieces() {
        let inside = format!("{head}/").into();
        return Some(vec![Key::Exact(head.clone()), Key::Prefix(inside)]);
    }
    if let Some(Piece::Text(head)) = glob.pieces().first() {
        let cut = head.rfind(separator).map_or(0, |at| at + 1);
        if cut > 1 {
            return Some(vec![Key::Prefix(head.get(..cut)?.into())]);
        }
    }
    let literals = glob.pieces().iter().filter_map(|piece| match piece {
        Piece::Text(text) if text.len() >= LITERAL_MIN => Some(text),
        Piece::Text(_) | Piece::Segment | Piece::Any | Piece::Folders | Piece::Tree => None,
    });
    let longest = literals.max_by_key(|text| text.len())?;
    Some(vec![Key::Literal(longest.clone())])
}

fn toolkit(test: &Test, denies: bool) -> Option<(Slot, Vec<Key>)> {
    match test {
        Test::One(compare) => Some((
            Slot::Toolkit(compare.field.clone(), denies),
            compared(compare)?,
        )),
        Test::All(tests) => tests
            .iter()
            .filter_map(|test| toolkit(test, denies))
            .min_by_key(|(_, keys)| keys.iter().map(Key::rank).max()),
        Test::Any(tests) => {
            let mut all: Option<(Slot, Vec<Key>)> = None;
            for test in tests {
                let (slot, keys) = toolkit(test, denies)?;
                match &mut all {
                    None => all = Some((slot, keys)),
                    Some((same, more)) if *same == slot => more.extend(keys),
                    Some(_) => return None,
                }
            }
            all
        }
        Test::Not(_) => None,
    }
}

fn compared(compare: &Compare) -> Option<Vec<Key>> {
    match (compare.operator, &compare.value) {
        (Operator::Eq, Value::String(text)) => Some(vec![Key::Exact(text.as_str().into())]),
        (Operator::Contains, Value::String(text)) if text.len() >= LITERAL_MIN => {
            Some(vec![Key::Literal(text.as_str().into())])
        }
        (Operator::In, Value::Array(items)) => {
            let exact = |item: &Value| item.as_str().map(|text| Key::Exact(text.into()));
            items.iter().map(exact).collect()
        }
        (Operator::Matches, _) => {
            let (pattern, _) = compare.regex.as_ref()?;
            Some(vec![Key::Regex(pattern.clone())])
        }
        _ => None,
    }
}
