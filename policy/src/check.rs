//! What the command line shows of policies: `policy check`, `policy test`, `policy eval`.

use std::fmt;

use yaml::Span;

use crate::decision::unjudged;
use crate::dialect::json;
use crate::document::{BOUNDS, Source, VERDICTS};
use crate::{
    Action, Counters, Dialect, Enforcer, Engine, Error, Limits, Policy, Scratch, Variables,
    Verdict, Warning, enforced_by, lint,
};

/// What there is to say about one file.
#[derive(Debug)]
pub struct Report {
    /// The policy.
    pub policy: Policy,
    /// Rules to look at.
    pub warnings: Vec<Warning>,
    /// Who enforces each rule, in their order.
    pub enforced: Vec<Enforcer>,
}

/// Reads a file and looks at it. `${workspace}` stands for `/workspace` where it has no value.
///
/// # Errors
/// As [`Policy::parse`].
pub fn check(file: &str, bytes: &[u8], variables: &Variables) -> Result<Report, Error> {
    let mut variables = variables.clone();
    variables
        .workspace
        .get_or_insert_with(|| "/workspace".to_owned());
    let policy = Policy::parse(file, bytes, &variables)?;
    Ok(Report {
        warnings: lint(&policy),
        enforced: policy.rules.iter().map(enforced_by).collect(),
        policy,
    })
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let policy = &self.policy;
        let dialect = match policy.dialect {
            Dialect::Native => "native",
            Dialect::PolicyDocument => "PolicyDocument",
            Dialect::ToolkitV1 => "governance.toolkit/v1",
        };
        let (rules, default) = (policy.rules.len(), policy.default.name());
        let rules = format!("{rules} rule{}", if rules == 1 { "" } else { "s" });
        writeln!(
            f,
            "{}: {} ({dialect}), {rules}, default {default}",
            policy.file, policy.name
        )?;
        let width = policy
            .rules
            .iter()
            .map(|rule| rule.name.chars().count())
            .max();
        let width = width.unwrap_or(0).min(40);
        for (rule, enforcer) in policy.rules.iter().zip(&self.enforced) {
            let verdict = rule.verdict.map_or("-", Verdict::name);
            writeln!(f, "  {:width$}  {verdict:8}  {enforcer}", rule.name)?;
        }
        for rule in policy.grants.iter().flat_map(|grants| &grants.rules) {
            if rule.name.starts_with("grant ") {
                writeln!(f, "  {:width$}  {}", rule.name, enforced_by(rule))?;
            }
        }
        for (span, note) in &policy.notes {
            writeln!(f, "{}:{span}: {note}", policy.file)?;
        }
        self.warnings
            .iter()
            .try_for_each(|warning| writeln!(f, "{warning}"))
    }
}

/// One line of a table of tests.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// The table, as it was named.
    pub file: String,
    /// The test's place.
    pub span: Span,
    /// What was expected.
    pub expected: (Verdict, Option<String>),
    /// What was decided, and by which rule.
    pub got: (Verdict, Option<String>),
    /// Rules that could not be read to their end.
    pub errors: Vec<String>,
}

impl Outcome {
    /// Whether it is as expected; a rule that was not named may be any.
    #[must_use]
    pub fn passed(&self) -> bool {
        let rule = self.expected.1.is_none() || self.expected.1 == self.got.1;
        self.expected.0 == self.got.0 && rule
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let show = |(verdict, rule): &(Verdict, Option<String>)| match rule {
            Some(rule) => format!("{} by `{rule}`", verdict.name()),
            None => verdict.name().to_owned(),
        };
        let said = if self.passed() { "ok" } else { "FAILED" };
        write!(
            f,
            "{}:{}: {said}: {}",
            self.file,
            self.span,
            show(&self.got)
        )?;
        if !self.passed() {
            write!(f, ", expected {}", show(&self.expected))?;
        }
        self.errors
            .iter()
            .try_for_each(|error| write!(f, "; {error}"))
    }
}

/// Runs a table of tests: `version: 1` and `tests`, a list of `{action: {…}, verdict, rule}`. Limits
/// start full at each test; an action without a time is at 0.
///
/// # Errors
/// What is wrong with the table, with its place.
pub fn test(engine: &Engine, file: &str, bytes: &[u8]) -> Result<Vec<Outcome>, Error> {
    let root = yaml::parse(file, bytes, &BOUNDS)?;
    let source = Source {
        file,
        variables: &Variables::default(),
    };
    let keys = source.keys(&root, &["version", "tests"])?;
    source.word(keys.need(&source, "version")?, &[("1", ())])?;
    let (mut outcomes, mut scratch) = (Vec::new(), engine.scratch());
    for node in source.list(keys.need(&source, "tests")?)? {
        let keys = source.keys(node, &["name", "action", "verdict", "rule"])?;
        let asked = keys.need(&source, "action")?;
        let pairs = source.map(asked)?.iter();
        let object = pairs
            .map(|entry| (entry.key.clone(), json(&entry.node)))
            .collect();
        let action = match Action::from_object(object) {
            Ok(action) => action.or_at(0),
            Err(error) => {
                return Ok(source.wrong(asked.span, error.to_string(), "see docs/policy.md")?);
            }
        };
        let expected = source.word(keys.need(&source, "verdict")?, &VERDICTS)?;
        let rule = keys.get("rule").map(|node| source.text(node)).transpose()?;
        let decision = engine.decide(&action, &mut Limits::default(), &mut scratch);
        outcomes.push(Outcome {
            file: file.to_owned(),
            span: node.span,
            expected: (expected, rule.map(str::to_owned)),
            got: (decision.verdict, decision.rule.map(str::to_owned)),
            errors: decision.errors,
        });
    }
    Ok(outcomes)
}

/// Decides one action given as a line of JSON; the decision is one too. What is no action is denied.
/// `now` is the time of an action that has none, in milliseconds since 1970.
#[must_use]
pub fn eval_line(
    engine: &Engine,
    counters: &mut dyn Counters,
    scratch: &mut Scratch,
    now: u64,
    line: &str,
) -> String {
    match Action::from_json(line) {
        Ok(action) => engine
            .decide(&action.or_at(now), counters, scratch)
            .to_json(),
        Err(error) => unjudged(&error).to_json(),
    }
}
