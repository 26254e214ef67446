//! Rules that our language, Cedar and Rego can all say, written in each of them, and each engine asked.
#![forbid(unsafe_code)]

pub mod engines;

use std::fmt::Write;

/// How the field of a rule is tested.
#[derive(Clone, Debug)]
pub enum Test {
    /// The whole value.
    Exact(String),
    /// The value begins so.
    Start(String),
    /// A folder and all in it.
    Tree(String),
    /// Files right in a folder whose names end so.
    Files(String, String),
    /// Host names below this one.
    Below(String),
}

/// One rule: deny overrides, and what no rule allows is denied.
#[derive(Clone, Debug)]
pub struct Rule {
    /// The kind of action.
    pub action: &'static str,
    /// The field that is tested.
    pub field: &'static str,
    /// How.
    pub test: Test,
    /// Whose actions only.
    pub agent: Option<String>,
    /// Whether it allows.
    pub allows: bool,
}

/// The rules of `measure::workload`.
#[must_use]
pub fn workload(count: usize) -> Vec<Rule> {
    let rule = |i: usize| {
        let (action, field, test) = match i % measure::workload::FORMS {
            0 => (
                "fs.read",
                "path",
                Test::Files(format!("/srv/data/p{i}"), ".secret".into()),
            ),
            1 => ("fs.read", "path", Test::Tree(format!("/home/u{i}"))),
            2 => ("tool.call", "tool", Test::Exact(format!("tool-{i}"))),
            3 => (
                "net.connect",
                "host",
                Test::Below(format!("api-{i}.example.com")),
            ),
            _ => ("tool.call", "tool", Test::Start(format!("group-{i}."))),
        };
        Rule {
            action,
            field,
            test,
            agent: None,
            allows: !i.is_multiple_of(2),
        }
    };
    (0..count).map(rule).collect()
}

/// In our language.
#[must_use]
pub fn ours(rules: &[Rule]) -> String {
    let mut text = "version: 1\nname: oracle\nrules: []\n".to_owned();
    if !rules.is_empty() {
        text = text.replace(" []", "");
    }
    for (i, rule) in rules.iter().enumerate() {
        let pattern = match &rule.test {
            Test::Exact(value) => value.clone(),
            Test::Start(start) => format!("{start}*"),
            Test::Tree(folder) => format!("{folder}/**"),
            Test::Files(folder, end) => format!("{folder}/*{end}"),
            Test::Below(host) => format!("*.{host}"),
        };
        let agent = rule
            .agent
            .as_ref()
            .map_or(String::new(), |agent| format!(", agent: \"{agent}\""));
        let (action, field, verdict) = (
            rule.action,
            rule.field,
            if rule.allows { "allow" } else { "deny" },
        );
        let _ = writeln!(
            text,
            "  - {{name: r{i}, match: {{action: {action}, {field}: \"{pattern}\"{agent}}}, verdict: {verdict}}}"
        );
    }
    text
}

/// In Cedar, whose `*` passes every separator.
#[must_use]
pub fn cedar(rules: &[Rule]) -> String {
    let mut text = String::new();
    for rule in rules {
        let field = format!("context.{}", rule.field);
        let test = match &rule.test {
            Test::Exact(value) => format!("{field} == \"{value}\""),
            Test::Start(start) => format!("{field} like \"{start}*\""),
            Test::Tree(folder) => format!("{field} == \"{folder}\" || {field} like \"{folder}/*\""),
            Test::Files(folder, end) => {
                format!("{field} like \"{folder}/*{end}\" && !({field} like \"{folder}/*/*\")")
            }
            Test::Below(host) => format!("{field} like \"*.{host}\""),
        };
        let effect = if rule.allows { "permit" } else { "forbid" };
        let principal = rule
            .agent
            .as_ref()
            .map_or(String::new(), |agent| format!(" == Agent::\"{agent}\""));
        let _ = writeln!(
            text,
            "{effect}(principal{principal}, action == Action::\"{}\", resource) when {{ {test} }};",
            rule.action
        );
    }
    text
}

/// In Rego.
#[must_use]
pub fn rego(rules: &[Rule]) -> String {
    let mut text = "package oracle\nimport rego.v1\ndefault verdict := false\nverdict if { allows; not denies }\n\
                    default allows := false\ndefault denies := false\n"
        .to_owned();
    for rule in rules {
        let field = format!("input.{}", rule.field);
        let test = match &rule.test {
            Test::Exact(value) => format!("{field} == \"{value}\""),
            Test::Start(start) => format!("startswith({field}, \"{start}\")"),
            Test::Tree(folder) => {
                format!("startswith(concat(\"\", [{field}, \"/\"]), \"{folder}/\")")
            }
            Test::Files(folder, end) => format!(
                "startswith({field}, \"{folder}/\"); endswith({field}, \"{end}\"); count(split({field}, \"/\")) == {}",
                folder.split('/').count() + 1
            ),
            Test::Below(host) => format!("endswith({field}, \".{host}\")"),
        };
        let head = if rule.allows { "allows" } else { "denies" };
        let agent = rule.agent.as_ref().map_or(String::new(), |agent| {
            format!("input.agent == \"{agent}\"; ")
        });
        let _ = writeln!(
            text,
            "{head} if {{ {agent}input.action == \"{}\"; {test} }}",
            rule.action
        );
    }
    text
}
