//! What a rule says about one field.

use std::fmt;

use names::{Cidr, NamePattern};
use serde_json::Value;

use crate::Action;
use crate::action::Host;
use crate::glob::{Glob, Piece};

/// A field that rules match.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Field {
    /// The agent's name.
    Agent,
    /// The ring's name.
    Ring,
    /// The session.
    Session,
    /// The tool.
    Tool,
    /// The file.
    Path,
    /// The other end.
    Host,
    /// Its port, or the one listened on.
    Port,
    /// The program that is run.
    Program,
    /// Each of its arguments.
    Argv,
    /// Each label of the agent.
    Labels,
    /// An argument of the tool, by its path of keys.
    Args(Vec<String>),
    /// A field kept as given, by its path of keys.
    Given(Vec<String>),
}

impl fmt::Display for Field {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Agent => f.write_str("agent"),
            Self::Ring => f.write_str("ring"),
            Self::Session => f.write_str("session"),
            Self::Tool => f.write_str("tool"),
            Self::Path => f.write_str("path"),
            Self::Host => f.write_str("host"),
            Self::Port => f.write_str("port"),
            Self::Program => f.write_str("program"),
            Self::Argv => f.write_str("argv"),
            Self::Labels => f.write_str("labels"),
            Self::Args(keys) => write!(f, "args.{}", keys.join(".")),
            Self::Given(keys) => write!(f, "given.{}", keys.join(".")),
        }
    }
}

/// Values that one alternative of a rule means.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Pattern {
    /// This text.
    Exact(Box<str>),
    /// Texts of this form.
    Glob(Glob),
    /// Programs of this name, wherever they lie.
    Base(Box<Pattern>),
    /// Hosts of these names.
    Name(NamePattern),
    /// Hosts of these addresses.
    Range(Cidr),
    /// Every host, by name or address.
    AnyHost,
    /// Ports from one to another.
    Ports(u16, u16),
}

impl Pattern {
    pub(crate) fn text(&self, text: &str) -> bool {
        match self {
            Self::Exact(exact) => **exact == *text,
            Self::Glob(glob) => glob.matches(text),
            Self::Base(pattern) => pattern.text(base(text)),
            Self::Name(_) | Self::Range(_) | Self::AnyHost | Self::Ports(..) => false,
        }
    }

    pub(crate) fn host(&self, host: &Host) -> bool {
        match (self, host) {
            (Self::AnyHost, _) => true,
            (Self::Name(pattern), Host::Name(name)) => pattern.matches(name),
            (Self::Range(range), Host::Address(address)) => range.contains(*address),
            (_, Host::Name(_) | Host::Address(_)) => false,
        }
    }

    pub(crate) fn port(&self, port: u16) -> bool {
        matches!(self, Self::Ports(from, to) if (*from..=*to).contains(&port))
    }

    /// Whether it means everything that the other means. `false` when unsure.
    #[must_use]
    pub fn covers(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::AnyHost, _) => true,
            (Self::Name(wide), Self::Name(narrow)) => wide.covers(narrow),
            (Self::Range(wide), Self::Range(narrow)) => wide.covers(narrow),
            (Self::Ports(a, b), Self::Ports(c, d)) => a <= c && d <= b,
            (Self::Base(wide), Self::Base(narrow)) => wide.covers(narrow),
            (_, Self::Exact(text)) => self.text(text),
            (Self::Glob(wide), Self::Glob(narrow)) => wide == narrow || covers(wide, narrow),
            _ => self == other,
        }
    }

    /// How much of a value it pins down: everything, or so many characters.
    #[must_use]
    pub fn specificity(&self) -> u32 {
        let characters = |text: &str| u32::try_from(text.len()).unwrap_or(u32::MAX);
        match self {
            Self::Exact(_) | Self::Name(NamePattern::Exact(_)) => 100_000,
            Self::Glob(glob) => {
                let literal = |piece: &Piece| match piece {
                    Piece::Text(text) => characters(text),
                    Piece::Segment | Piece::Any | Piece::Folders | Piece::Tree => 0,
                };
                glob.pieces()
                    .iter()
                    .map(literal)
                    .fold(1, u32::saturating_add)
            }
            Self::Base(pattern) => pattern.specificity().saturating_sub(1),
            Self::Name(pattern) => characters(&pattern.to_string()),
            Self::Range(_) => 1_000,
            Self::AnyHost => 1,
            Self::Ports(from, to) => 100_000 - u32::from(to.saturating_sub(*from)),
        }
    }
}

/// `lit/**` over anything that begins so, `lit*` over texts (one literal, then everything).
fn covers(wide: &Glob, narrow: &Glob) -> bool {
    let start = |glob: &Glob| match glob.pieces().first() {
        Some(Piece::Text(text)) => text.clone(),
        _ => "".into(),
    };
    let narrow_start = start(narrow);
    match wide.pieces() {
        [Piece::Any] => true,
        [Piece::Text(text), Piece::Any] => narrow_start.starts_with(&**text),
        [Piece::Text(text), Piece::Tree] => {
            let whole = matches!(narrow.pieces(), [Piece::Text(_), Piece::Tree]);
            let rest = narrow_start.strip_prefix(&**text);
            rest.is_some_and(|rest| rest.starts_with('/') || rest.is_empty() && whole)
        }
        _ => false,
    }
}

pub(crate) fn base(program: &str) -> &str {
    program.rsplit('/').next().unwrap_or(program)
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exact(text) => f.write_str(text),
            Self::Glob(glob) => write!(f, "{glob}"),
            Self::Base(pattern) => write!(f, "{pattern}"),
            Self::Name(name) => write!(f, "{name}"),
            Self::Range(range) => write!(f, "{range}"),
            Self::AnyHost => f.write_str("*"),
            Self::Ports(from, to) if from == to => write!(f, "{from}"),
            Self::Ports(from, to) => write!(f, "{from}-{to}"),
        }
    }
}

/// One field and its alternatives.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FieldMatch {
    /// Which.
    pub field: Field,
    /// Any of these. For [`Field::Argv`] and [`Field::Labels`], any value may be the one.
    pub any: Vec<Pattern>,
}

/// A value that no pattern can be held against: whoever sent it may be hiding something in it.
#[derive(Debug)]
pub(crate) struct Unreadable;

impl FieldMatch {
    /// Whether the action's value is one of these; a field that it lacks is none.
    pub(crate) fn matches(&self, action: &Action) -> Result<bool, Unreadable> {
        let any = |text: &str| self.any.iter().any(|pattern| pattern.text(text));
        let text = |text: &Option<Box<str>>| Ok(text.as_deref().is_some_and(any));
        match &self.field {
            Field::Agent => text(&action.agent),
            Field::Ring => text(&action.ring),
            Field::Session => text(&action.session),
            Field::Tool => text(&action.tool),
            Field::Path => text(&action.path),
            Field::Program => text(&action.program),
            Field::Argv => Ok(action.argv.iter().flatten().any(|word| any(word))),
            Field::Labels => Ok(action.labels.iter().any(|label| any(label))),
            Field::Host => Ok(action
                .host
                .as_ref()
                .is_some_and(|host| self.any.iter().any(|pattern| pattern.host(host)))),
            Field::Port => Ok(action
                .port
                .is_some_and(|port| self.any.iter().any(|pattern| pattern.port(port)))),
            Field::Args(keys) => json(dig(&action.args, keys), &any),
            Field::Given(keys) => json(dig(&action.given, keys), &any),
        }
    }
}

pub(crate) fn dig<'a>(
    map: &'a serde_json::Map<String, Value>,
    keys: &[String],
) -> Option<&'a Value> {
    let (first, rest) = keys.split_first()?;
    let start = map.get(first)?;
    rest.iter().try_fold(start, |value, key| value.get(key))
}

/// A list is any of its values.
fn json(value: Option<&Value>, any: &dyn Fn(&str) -> bool) -> Result<bool, Unreadable> {
    match value {
        None | Some(Value::Null) => Ok(false),
        Some(Value::String(text)) => Ok(any(text)),
        Some(Value::Bool(yes)) => Ok(any(if *yes { "true" } else { "false" })),
        Some(Value::Number(number)) => Ok(any(&number.to_string())),
        Some(Value::Array(items)) => {
            let mut found = false;
            for item in items {
                found |= json(Some(item), any)?;
            }
            Ok(found)
        }
        Some(Value::Object(_)) => Err(Unreadable),
    }
}
