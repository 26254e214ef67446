//! What the toolkit's two dialects ask: one field against one value, and words between.

use std::borrow::Cow;
use std::cmp::Ordering;
use std::fmt;

use regex_automata::meta::Regex;
use regex_automata::nfa::thompson::WhichCaptures;
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

/// One field against one value. A field that is missing, or null, fits nothing; a value that cannot
/// be compared errs.
#[derive(Clone)]
pub struct Compare {
    pub(crate) field: Vec<String>,
    pub(crate) operator: Operator,
    pub(crate) value: Value,
    /// What rules that deny take for a field that is missing.
    pub(crate) missing: Option<Value>,
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

/// Why two values cannot be compared.
pub(crate) type Compared = Result<bool, String>;

impl Test {
    /// Whether it holds. `denies`: for a rule that denies. An error counts where the other tests do
    /// not settle it, whatever their order.
    pub(crate) fn holds(&self, action: &Action, denies: bool) -> Compared {
        match self {
            Self::One(compare) => compare.holds(action, denies),
            Self::All(tests) => joined(tests, false, action, denies),
            Self::Any(tests) => joined(tests, true, action, denies),
            Self::Not(test) => test.holds(action, denies).map(|holds| !holds),
        }
    }
}

/// `settles`: the answer of one that is the answer of all.
fn joined(tests: &[Test], settles: bool, action: &Action, denies: bool) -> Compared {
    let mut all = Ok(!settles);
    for test in tests {
        match test.holds(action, denies) {
            Ok(holds) if holds == settles => return Ok(settles),
            Ok(_) => {}
            Err(what) => all = Err(what),
        }
    }
    all
}

impl Compare {
    fn holds(&self, action: &Action, denies: bool) -> Compared {
        let fits = match find(action, &self.field, denies) {
            Some(Found::Own(text)) => self.fits(&Value::from(text)),
            Some(Found::Given(value)) => self.fits(value),
            None => match self.missing.as_ref().filter(|_| denies) {
                Some(value) => self.fits(value),
                None => Some(false),
            },
        };
        fits.ok_or_else(|| format!("`{}` is not of a type to compare", self.field.join(".")))
    }

    /// `None` when the two cannot be compared.
    fn fits(&self, found: &Value) -> Option<bool> {
        let order = || order(found, &self.value);
        match self.operator {
            Operator::Eq => Some(equal(found, &self.value)),
            Operator::Ne => Some(!equal(found, &self.value)),
            Operator::Gt => order().map(Ordering::is_gt),
            Operator::Lt => order().map(Ordering::is_lt),
            Operator::Gte => order().map(Ordering::is_ge),
            Operator::Lte => order().map(Ordering::is_le),
            Operator::In => contains(&self.value, found),
            Operator::Contains => contains(found, &self.value),
            Operator::Matches => {
                let regex = self.regex.as_ref();
                Some(regex.is_some_and(|(_, regex)| with_text(found, |text| regex.is_match(text))))
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
    let given = dig(&action.given, field).filter(|value| !value.is_null());
    let value = given.or_else(|| denies.then(|| dig(&action.args, field)).flatten());
    value.filter(|value| !value.is_null()).map(Found::Given)
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

/// As Python has it: true is 1, and lists and objects are equal when all in them is.
fn equal(a: &Value, b: &Value) -> bool {
    match (a, b) {
        (Value::Array(a), Value::Array(b)) => {
            a.len() == b.len() && a.iter().zip(b).all(|(a, b)| equal(a, b))
        }
        (Value::Object(a), Value::Object(b)) => {
            let same = |(key, a)| b.get(key).is_some_and(|b| equal(a, b));
            a.len() == b.len() && a.iter().all(same)
        }
        (Value::Number(_) | Value::Bool(_), Value::Number(_) | Value::Bool(_)) => {
            order(a, b) == Some(Ordering::Equal)
        }
        _ => a == b,
    }
}

/// Numbers among each other, and texts.
fn order(a: &Value, b: &Value) -> Option<Ordering> {
    if let (Value::String(a), Value::String(b)) = (a, b) {
        return Some(a.cmp(b));
    }
    match (whole(a), whole(b)) {
        (Some(a), Some(b)) => Some(a.cmp(&b)),
        _ => float(a)?.partial_cmp(&float(b)?),
    }
}

fn whole(value: &Value) -> Option<i64> {
    value.as_bool().map(i64::from).or_else(|| value.as_i64())
}

fn float(value: &Value) -> Option<f64> {
    let truth = value.as_bool().map(|yes| f64::from(u8::from(yes)));
    truth.or_else(|| value.as_f64())
}

/// A text in a text, a value in a list, a key in an object; nothing else holds anything.
fn contains(whole: &Value, part: &Value) -> Option<bool> {
    match (whole, part) {
        (Value::Array(items), part) => Some(items.iter().any(|item| equal(item, part))),
        (Value::String(whole), Value::String(part)) => Some(whole.contains(part.as_str())),
        (Value::Object(whole), Value::String(part)) => Some(whole.contains_key(part)),
        _ => None,
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
                // Nobody asks where it was found, and room for that would be for every state and group.
                .which_captures(WhichCaptures::None)
                .nfa_size_limit(Some(1 << 22))
                .hybrid_cache_capacity(1 << 20),
        )
        .syntax(syntax::Config::new().nest_limit(64))
        .build(pattern);
    built.map_err(|error| {
        let why = error.syntax_error().map(ToString::to_string);
        let last = why.as_deref().and_then(|why| why.lines().last());
        let why = match (last, error.size_limit()) {
            (Some(line), _) => line.replace("error: ", ""),
            (None, Some(_)) => "it is larger than 4 MiB once compiled, so repeat less".to_owned(),
            (None, None) => error.to_string(),
        };
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
