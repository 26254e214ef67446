//! What the toolkit's two dialects ask: one field against one value, and words between.

use std::borrow::Cow;
use std::fmt;

use regex_automata::meta::Regex;
use regex_automata::util::syntax;
use serde_json::Value;

use crate::Action;
use crate::action::ActionKind;
use crate::pattern::dig;

/// One condition.
#[derive(Clone, Debug)]
pub enum Test {
    /// One field against one value.
    One(Box<Compare>),
    /// All of them.
    All(Vec<Test>),
    /// One of them.
    Any(Vec<Test>),
    /// Not this.
    Not(Box<Test>),
}

/// One field against one value. A field that is missing fits nothing, and so does a value of
/// another type: the toolkit's conditions never err.
#[derive(Clone)]
pub struct Compare {
    pub(crate) field: Vec<String>,
    pub(crate) operator: Operator,
    pub(crate) value: Value,
    /// The pattern as it was translated, and compiled.
    pub(crate) regex: Option<(Box<str>, Regex)>,
}

/// What was written: an automaton would fill pages, and lint compares conditions by this.
impl fmt::Debug for Compare {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let field = self.field.join(".");
        write!(f, "{field} {:?} {}", self.operator, self.value)
    }
}

/// How they are compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operator {
    /// Equal.
    Eq,
    /// There and not equal.
    Ne,
    /// Greater.
    Gt,
    /// Less.
    Lt,
    /// Greater or equal.
    Gte,
    /// Less or equal.
    Lte,
    /// One of a list.
    In,
    /// Holds this.
    Contains,
    /// A regular expression is found in it.
    Matches,
}

impl Operator {
    /// The operator of a PolicyDocument.
    pub(crate) fn parse(name: &str) -> Option<Self> {
        Some(match name {
            "eq" => Self::Eq,
            "ne" => Self::Ne,
            "gt" => Self::Gt,
            "lt" => Self::Lt,
            "gte" => Self::Gte,
            "lte" => Self::Lte,
            "in" => Self::In,
            "contains" => Self::Contains,
            "matches" => Self::Matches,
            _ => return None,
        })
    }
}

impl Test {
    /// Whether it holds. `denies`: for a rule that denies.
    pub(crate) fn holds(&self, action: &Action, denies: bool) -> bool {
        match self {
            Self::One(compare) => compare.holds(action, denies),
            Self::All(tests) => tests.iter().all(|test| test.holds(action, denies)),
            Self::Any(tests) => tests.iter().any(|test| test.holds(action, denies)),
            Self::Not(test) => !test.holds(action, denies),
        }
    }
}

impl Compare {
    fn holds(&self, action: &Action, denies: bool) -> bool {
        match find(action, &self.field, denies) {
            Some(Found::Own(text)) => self.fits(&Value::from(text)),
            Some(Found::Given(value)) => self.fits(value),
            None => false,
        }
    }

    fn fits(&self, found: &Value) -> bool {
        use std::cmp::Ordering as O;
        match self.operator {
            Operator::Eq => equal(found, &self.value),
            Operator::Ne => !equal(found, &self.value),
            Operator::Gt => order(found, &self.value) == Some(O::Greater),
            Operator::Lt => order(found, &self.value) == Some(O::Less),
            Operator::Gte => matches!(order(found, &self.value), Some(O::Greater | O::Equal)),
            Operator::Lte => matches!(order(found, &self.value), Some(O::Less | O::Equal)),
            Operator::In => contains(&self.value, found),
            Operator::Contains => contains(found, &self.value),
            Operator::Matches => {
                let regex = self.regex.as_ref();
                regex.is_some_and(|(_, regex)| with_text(found, |text| regex.is_match(text)))
            }
        }
    }
}

/// The value of a field.
pub(crate) enum Found<'a> {
    /// One of those that we know ourselves.
    Own(Cow<'a, str>),
    /// One that came along.
    Given(&'a Value),
}

/// Arguments are the agent's own words: they may make a rule deny, never allow.
pub(crate) fn find<'a>(action: &'a Action, field: &[String], denies: bool) -> Option<Found<'a>> {
    if let Some(text) = own(action, field) {
        return Some(Found::Own(text));
    }
    let given = dig(&action.given, field);
    let value = given.or_else(|| denies.then(|| dig(&action.args, field)).flatten());
    value.map(Found::Given)
}

/// The names that the toolkit has for what we know ourselves.
fn own<'a>(action: &'a Action, field: &[String]) -> Option<Cow<'a, str>> {
    let [field] = field else { return None };
    match field.as_str() {
        "action" | "action_type" => Some(action_name(action).into()),
        "tool_name" | "tool" => action.tool.as_deref().map(Into::into),
        "agent_id" | "agent_name" | "agent" => action.agent.as_deref().map(Into::into),
        "path" | "file_path" => action.path.as_deref().map(Into::into),
        "host" => action.host.as_ref().map(|host| host.text().into()),
        "ring" => action.ring.as_deref().map(Into::into),
        "session_id" => action.session.as_deref().map(Into::into),
        _ => None,
    }
}

/// The toolkit's `action` is the tool's name where there is one.
fn action_name(action: &Action) -> &str {
    match (action.kind, &action.tool) {
        (ActionKind::ToolCall, Some(tool)) => tool,
        (ActionKind::FsRead, _) => "file.read",
        (ActionKind::FsWrite, _) => "file.write",
        (ActionKind::FsDelete, _) => "file.delete",
        (ActionKind::Exec, _) => "shell.execute",
        (ActionKind::NetConnect, _) => "network.egress",
        (kind, _) => kind.name(),
    }
}

fn equal(a: &Value, b: &Value) -> bool {
    match (a, b) {
        (Value::Number(_), Value::Number(_)) => order(a, b) == Some(std::cmp::Ordering::Equal),
        _ => a == b,
    }
}

fn order(a: &Value, b: &Value) -> Option<std::cmp::Ordering> {
    match (a, b) {
        (Value::Number(a), Value::Number(b)) => match (a.as_i64(), b.as_i64()) {
            (Some(a), Some(b)) => Some(a.cmp(&b)),
            _ => a.as_f64()?.partial_cmp(&b.as_f64()?),
        },
        (Value::String(a), Value::String(b)) => Some(a.cmp(b)),
        _ => None,
    }
}

fn contains(whole: &Value, part: &Value) -> bool {
    match (whole, part) {
        (Value::Array(items), part) => items.iter().any(|item| equal(item, part)),
        (Value::String(whole), Value::String(part)) => whole.contains(part.as_str()),
        _ => false,
    }
}

/// Everything can be searched as text.
fn with_text(value: &Value, search: impl Fn(&str) -> bool) -> bool {
    match value {
        Value::String(text) => search(text),
        Value::Bool(true) => search("True"),
        Value::Bool(false) => search("False"),
        Value::Null => search("None"),
        Value::Number(_) | Value::Array(_) | Value::Object(_) => search(&value.to_string()),
    }
}

/// A regular expression whose search takes time linear in the text.
pub(crate) fn regex(pattern: &str) -> Result<Regex, String> {
    let built = Regex::builder()
        .configure(
            Regex::config()
                .nfa_size_limit(Some(1 << 22))
                .hybrid_cache_capacity(1 << 20),
        )
        .syntax(syntax::Config::new().nest_limit(64))
        .build(pattern);
    built.map_err(|error| {
        let why = error.syntax_error().map(ToString::to_string);
        let last = why.as_deref().and_then(|why| why.lines().last());
        let why = last.map_or_else(|| error.to_string(), |line| line.replace("error: ", ""));
        format!("`{}` is no pattern here: {why}", yaml::shorten(pattern))
    })
}

/// Python's spelling of a pattern in ours: what both read, but differently.
pub(crate) fn from_python(pattern: &str) -> String {
    let (mut out, mut class) = (String::with_capacity(pattern.len()), false);
    let multiline = pattern.contains("(?m") || pattern.contains("(?im");
    let mut chars = pattern.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            '\\' => match chars.next() {
                // Ours would be the edges of words.
                Some(c @ ('<' | '>')) => out.push(c),
                Some('Z') => out.push_str("\\z"),
                Some(next) => out.extend(['\\', next]),
                None => out.push('\\'),
            },
            '[' if class => out.push_str("\\["),
            '[' => {
                class = true;
                out.push('[');
                if chars.next_if_eq(&'^').is_some() {
                    out.push('^');
                }
                if chars.next_if_eq(&']').is_some() {
                    out.push_str("\\]");
                }
            }
            ']' if class => {
                class = false;
                out.push(']');
            }
            // Ours would be set operations.
            '&' | '~' if class => out.extend(['\\', c]),
            '-' if class && chars.peek() == Some(&'-') => out.push_str("\\-"),
            '{' if !class && !is_count(chars.clone()) => out.push_str("\\{"),
            '$' if !class && !multiline => out.push_str("(?:\\n?\\z)"),
            c => out.push(c),
        }
    }
    out
}

/// Whether `{` begins `n}`, `n,}`, `n,m}` or `,m}`; to Python it is itself otherwise.
fn is_count(rest: impl Iterator<Item = char>) -> bool {
    let inner: String = rest.take(16).collect();
    let Some((inner, _)) = inner.split_once('}') else {
        return false;
    };
    let digits = |text: &str| text.bytes().all(|b| b.is_ascii_digit());
    match inner.split_once(',') {
        Some((from, to)) => digits(from) && digits(to) && inner.len() > 1,
        None => digits(inner) && !inner.is_empty(),
    }
}
