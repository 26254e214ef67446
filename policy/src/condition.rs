//! What a rule asks beyond its fields: `when` and `unless` in CEL, or a condition of the toolkit.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, OnceLock};

use cel::common::ast::{EntryExpr, Expr, LiteralValue};
use cel::extractors::This;
use cel::{Context, Env, ExecutionError, IdedExpr, Program, Value};
use regex_automata::meta::Regex;
use serde_json::Map;

use crate::toolkit::Test;
use crate::{Action, Verdict};

/// A condition of a rule.
#[derive(Clone)]
pub enum Condition {
    /// It holds.
    When(Arc<Cel>),
    /// It does not.
    Unless(Arc<Cel>),
    /// The toolkit's.
    Toolkit(Test),
}

impl fmt::Debug for Condition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::When(cel) => write!(f, "when {:?}", cel.source),
            Self::Unless(cel) => write!(f, "unless {:?}", cel.source),
            Self::Toolkit(test) => write!(f, "{test:?}"),
        }
    }
}

/// What a condition comes to.
#[derive(Debug)]
pub(crate) enum Answer {
    Yes,
    No,
    Missing(String),
    Errs(String),
}

impl Condition {
    pub(crate) fn ask(&self, action: &Action, verdict: Option<Verdict>) -> Answer {
        let (cel, wanted) = match self {
            Self::When(cel) => (cel, true),
            Self::Unless(cel) => (cel, false),
            Self::Toolkit(test) => {
                let denies = verdict.is_some_and(|verdict| !verdict.allows());
                return match test.holds(action, denies) {
                    Ok(true) => Answer::Yes,
                    Ok(false) => Answer::No,
                    Err(what) => Answer::Errs(what),
                };
            }
        };
        match cel.ask(action) {
            Ok(answer) if answer == wanted => Answer::Yes,
            Ok(_) => Answer::No,
            Err(answer) => answer,
        }
    }
}

/// Longer ones cannot be read by people either.
const SOURCE_MAX: usize = 1024;
/// Each may copy a text as long as the action.
const ADDITIONS_MAX: usize = 8;

/// Names that a condition may use.
pub(crate) const VARIABLES: [&str; 15] = [
    "action", "agent", "ring", "session", "tool", "path", "host", "port", "program", "argv",
    "args", "bytes", "labels", "time", "given",
];
const FUNCTIONS: [&str; 8] = [
    "matches",
    "startsWith",
    "endsWith",
    "contains",
    "size",
    "string",
    "int",
    "double",
];
/// These may be as long as the action, and a condition that walks over one must not hold another
/// against each of its values.
const LONG: [&str; 4] = ["args", "given", "argv", "labels"];

/// One expression, checked for what it may take.
pub struct Cel {
    source: Box<str>,
    program: Program,
    patterns: Arc<HashMap<String, Regex>>,
    variables: Vec<&'static str>,
}

fn environment() -> &'static Arc<Env> {
    static ENVIRONMENT: OnceLock<Arc<Env>> = OnceLock::new();
    ENVIRONMENT.get_or_init(|| Arc::new(Env::stdlib()))
}

impl Cel {
    /// Reads an expression.
    pub(crate) fn parse(source: &str) -> Result<Self, String> {
        if source.len() > SOURCE_MAX {
            return Err(format!("a condition has at most {SOURCE_MAX} characters"));
        }
        shallow(source)?;
        let program = environment().compile(source).map_err(|errors| {
            let first = errors.errors.first();
            first.map_or_else(
                || "this is not CEL".to_owned(),
                |e| format!("not CEL: {}", e.msg),
            )
        })?;
        let mut check = Check::default();
        check.walk(program.expression(), &mut Vec::new())?;
        Ok(Self {
            source: source.into(),
            variables: check.variables,
            patterns: Arc::new(check.patterns),
            program,
        })
    }

    /// The names that it uses.
    #[must_use]
    pub fn variables(&self) -> &[&'static str] {
        &self.variables
    }

    fn ask(&self, action: &Action) -> Result<bool, Answer> {
        let mut context = Context::with_env(Arc::clone(environment()));
        for name in &self.variables {
            if let Some(value) = variable(action, name) {
                context.add_variable_from_value(*name, value);
            }
        }
        let patterns = Arc::clone(&self.patterns);
        let matches = move |This(text): This<Arc<String>>, pattern: Arc<String>| {
            patterns
                .get(&*pattern)
                .is_some_and(|regex| regex.is_match(text.as_bytes()))
        };
        context
            .add_function("matches", matches)
            .map_err(|error| Answer::Errs(error.to_string()))?;
        match self.program.execute(&context) {
            Ok(Value::Bool(answer)) => Ok(answer),
            Ok(_) => Err(Answer::Errs(format!(
                "`{}` is neither true nor false",
                self.source
            ))),
            Err(ExecutionError::NoSuchKey(name) | ExecutionError::UndeclaredReference(name)) => {
                let name = yaml::shorten(&name);
                Err(Answer::Missing(format!(
                    "`{name}` is missing, which `{}` asks for",
                    self.source
                )))
            }
            // Its text would show values of the action.
            Err(_) => Err(Answer::Errs(format!(
                "`{}` cannot be worked out for these values",
                self.source
            ))),
        }
    }
}

/// Brackets within brackets.
const DEPTH_MAX: usize = 12;
/// Operators of every kind, each of which may be a level of the parser's recursion.
const OPERATORS_MAX: usize = 64;

/// The parser recurses; what would take it deep is refused before it is asked.
fn shallow(source: &str) -> Result<(), String> {
    let (mut depth, mut operators, mut quote, mut raw) = (0_usize, 0_usize, None, false);
    let (mut last, mut before) = (' ', ' ');
    let mut chars = source.chars().peekable();
    while let Some(c) = chars.next() {
        match (quote, c) {
            (Some(_), '\\') if !raw => {
                chars.next();
            }
            (Some(open), _) if open == c => quote = None,
            (Some(_), _) => {}
            (None, '\'' | '"') if last == c => return Err("write a text in single quotes".into()),
            (None, '\'' | '"') => {
                quote = Some(c);
                raw = matches!(last, 'r' | 'R') && !before.is_alphanumeric();
            }
            (None, '(' | '[' | '{') => {
                depth += 1;
                operators += 1;
            }
            (None, ')' | ']' | '}') => depth = depth.saturating_sub(1),
            (None, c) if c.is_ascii_punctuation() && !matches!(c, '_' | ',') => operators += 1,
            (None, _) => {}
        }
        if depth > DEPTH_MAX || operators > OPERATORS_MAX {
            return Err("this condition is longer than anybody can follow".to_owned());
        }
        (before, last) = (last, c);
    }
    Ok(())
}

/// What an expression uses, and whether it stays within bounds.
#[derive(Default)]
struct Check {
    variables: Vec<&'static str>,
    patterns: HashMap<String, Regex>,
    additions: usize,
}

impl Check {
    /// `bound` are the names of values being walked over.
    fn walk<'e>(&mut self, at: &'e IdedExpr, bound: &mut Vec<&'e str>) -> Result<(), String> {
        match &at.expr {
            Expr::Unspecified | Expr::Literal(_) => Ok(()),
            Expr::Ident(name) => self.name(name, bound),
            Expr::Select(select) => self.walk(&select.operand, bound),
            Expr::List(list) => list.elements.iter().try_for_each(|e| self.walk(e, bound)),
            Expr::Struct(_) => Err("there are no messages here".to_owned()),
            Expr::Map(map) => map.entries.iter().try_for_each(|entry| match &entry.expr {
                EntryExpr::MapEntry(entry) => {
                    self.walk(&entry.key, bound)?;
                    self.walk(&entry.value, bound)
                }
                EntryExpr::StructField(_) => Err("there are no messages here".to_owned()),
            }),
            Expr::Call(call) => {
                self.call(call, bound)?;
                call.target
                    .iter()
                    .try_for_each(|target| self.walk(target, bound))?;
                call.args.iter().try_for_each(|arg| self.walk(arg, bound))
            }
            Expr::Comprehension(each) => {
                if !matches!(each.accu_init.expr, Expr::Literal(LiteralValue::Boolean(_))) {
                    return Err("only `exists` and `all` walk over values".to_owned());
                }
                self.walk(&each.iter_range, bound)?;
                let before = bound.len();
                bound.push(&each.iter_var);
                bound.push(&each.accu_var);
                bound.extend(each.iter_var2.as_deref());
                self.walk(&each.loop_cond, bound)?;
                self.walk(&each.loop_step, bound)?;
                self.walk(&each.result, bound)?;
                bound.truncate(before);
                Ok(())
            }
        }
    }

    fn name(&mut self, name: &str, bound: &[&str]) -> Result<(), String> {
        if bound.contains(&name) {
            return Ok(());
        }
        let Some(known) = VARIABLES.iter().find(|known| **known == name) else {
            let near = yaml::nearest(name, &VARIABLES);
            let hint = near.map_or_else(
                || format!("there are {}", VARIABLES.join(", ")),
                |near| format!("did you mean `{near}`?"),
            );
            return Err(format!("there is no `{}`; {hint}", yaml::shorten(name)));
        };
        if !bound.is_empty() && LONG.contains(known) {
            return Err(format!("`{name}` cannot be asked inside `exists` or `all`"));
        }
        if !self.variables.contains(known) {
            self.variables.push(known);
        }
        Ok(())
    }

    fn call(&mut self, call: &cel::common::ast::CallExpr, bound: &[&str]) -> Result<(), String> {
        let name = call.func_name.as_str();
        if name.starts_with(|c: char| c.is_ascii_alphabetic()) && !FUNCTIONS.contains(&name) {
            let known = FUNCTIONS.join(", ");
            return Err(format!(
                "there is no `{}()`; there are {known}",
                yaml::shorten(name)
            ));
        }
        if name == "_+_" {
            self.additions += 1;
            if self.additions > ADDITIONS_MAX || !bound.is_empty() {
                return Err("`+` more often than eight times, or inside `exists` or `all`".into());
            }
        }
        if name == "matches" {
            let Some(IdedExpr {
                expr: Expr::Literal(LiteralValue::String(pattern)),
                ..
            }) = call.args.last()
            else {
                return Err("`matches` takes a pattern in quotes".to_owned());
            };
            let pattern: &str = pattern.inner();
            let regex = crate::toolkit::regex(pattern)?;
            self.patterns.insert(pattern.to_owned(), regex);
        }
        Ok(())
    }
}

fn variable(action: &Action, name: &str) -> Option<Value> {
    let text = |text: &Option<Box<str>>| text.as_deref().map(Value::from);
    let texts = |texts: &[Box<str>]| {
        Value::from(texts.iter().map(|t| Value::from(&**t)).collect::<Vec<_>>())
    };
    match name {
        "action" => Some(action.kind.name().into()),
        "agent" => text(&action.agent),
        "ring" => text(&action.ring),
        "session" => text(&action.session),
        "tool" => text(&action.tool),
        "path" => text(&action.path),
        "host" => action.host.as_ref().map(|host| host.text().into()),
        "port" => action.port.map(|port| Value::Int(port.into())),
        "program" => text(&action.program),
        "argv" => action.argv.as_deref().map(texts),
        "args" => Some(object(&action.args)),
        "bytes" => action.bytes.map(whole),
        "labels" => Some(texts(&action.labels)),
        "time" => action.time.map(whole),
        "given" => Some(object(&action.given)),
        _ => None,
    }
}

fn whole(number: u64) -> Value {
    i64::try_from(number).map_or(Value::UInt(number), Value::Int)
}

fn object(map: &Map<String, serde_json::Value>) -> Value {
    let map: HashMap<String, Value> = map.iter().map(|(k, v)| (k.clone(), value(v))).collect();
    map.into()
}

fn value(json: &serde_json::Value) -> Value {
    use serde_json::Value as Json;
    match json {
        Json::Null => Value::Null,
        Json::Bool(yes) => Value::Bool(*yes),
        Json::Number(number) => match (number.as_i64(), number.as_u64(), number.as_f64()) {
            (Some(int), _, _) => Value::Int(int),
            (None, Some(int), _) => Value::UInt(int),
            (None, None, float) => Value::Float(float.unwrap_or(f64::NAN)),
        },
        Json::String(text) => text.as_str().into(),
        Json::Array(items) => items.iter().map(value).collect::<Vec<_>>().into(),
        Json::Object(map) => object(map),
    }
}
