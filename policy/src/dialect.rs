//! The toolkit's two languages, as they are. What would change a decision and is not kept is
//! refused; what was never the policy's to enforce is noted.

use serde_json::Value as Json;
use yaml::{Node, Span, Value, is_null, shorten};

use crate::condition::Condition;
use crate::document::{Keys, Read, Source, name, once};
use crate::limit::Limit;
use crate::rule::Kinds;
use crate::toolkit::{Compare, Operator, Test, from_python, regex};
use crate::{Combine, Dialect, Policy, Rule, Verdict, expression};

const NATIVE: &str = "write it in the native language, see docs/policy.md";

/// The toolkit's v4 PolicyDocument.
pub(crate) fn policy_document(source: &Source<'_>, root: &Node) -> Read<Policy> {
    let keys = source.keys(
        root,
        &[
            "version",
            "name",
            "description",
            "disclaimer",
            "rules",
            "defaults",
            "inherit",
            "scope",
        ],
    )?;
    everywhere(source, &keys)?;
    let mut notes = Vec::new();
    let default = match keys.get("defaults") {
        Some(node) => defaults(source, node, &mut notes)?,
        None => Verdict::Deny,
    };
    let mut rules = Vec::new();
    for node in source.list(keys.need(source, "rules")?)? {
        let keys = source.keys(
            node,
            &[
                "name",
                "condition",
                "action",
                "priority",
                "message",
                "description",
                "override",
            ],
        )?;
        let action = keys.need(source, "action")?;
        let verdict = source
            .word(action, &ACTIONS)
            .or_else(|_| other_action(source, action))?;
        let test = condition(source, keys.need(source, "condition")?)?;
        if let Some(node) = keys.get("override").filter(|node| !is_word(node, "false")) {
            return source.wrong(node.span, "a chain of documents is not kept", NATIVE);
        }
        rules.push(Rule {
            reason: source
                .boxed(keys.get("message"))?
                .filter(|text| !text.is_empty()),
            ..rule(source, node, &keys, test, verdict)?
        });
    }
    finish(
        source,
        &keys,
        Dialect::PolicyDocument,
        default,
        rules,
        notes,
    )
}

const ACTIONS: [(&str, Verdict); 4] = [
    ("allow", Verdict::Allow),
    ("audit", Verdict::Audit),
    ("deny", Verdict::Deny),
    ("block", Verdict::Deny),
];

fn other_action<T>(source: &Source<'_>, node: &Node) -> Read<T> {
    let what = format!(
        "a PolicyDocument has the actions allow, audit, deny and block, not `{}`",
        shorten(source.text(node)?)
    );
    source.wrong(node.span, what, NATIVE)
}

fn is_word(node: &Node, word: &str) -> bool {
    matches!(&node.value, Value::Scalar { text, plain: true } if text.eq_ignore_ascii_case(word))
}

/// Documents that hold only somewhere would hold everywhere here.
fn everywhere(source: &Source<'_>, keys: &Keys<'_>) -> Read<()> {
    if let Some(node) = keys
        .get("scope")
        .filter(|n| !is_word(n, "global") && n.kind() != "empty")
    {
        return source.wrong(
            node.span,
            "a scope is not kept",
            "load the document where it applies",
        );
    }
    match keys.get("inherit").filter(|node| !is_word(node, "true")) {
        Some(node) => source.wrong(node.span, "a chain of documents is not kept", NATIVE),
        None => Ok(()),
    }
}

fn defaults(source: &Source<'_>, node: &Node, notes: &mut Vec<(Span, String)>) -> Read<Verdict> {
    let elsewhere = [
        "action",
        "max_tokens",
        "max_tool_calls",
        "confidence_threshold",
        "max_cpu",
        "max_memory_mb",
        "timeout_seconds",
        "network_default",
    ];
    let keys = source.keys(node, &elsewhere)?;
    for entry in keys.entries.iter().filter(|entry| entry.key != "action") {
        notes.push((
            entry.span,
            format!("defaults.{} is not enforced by policy", entry.key),
        ));
    }
    keys.get("action")
        .map_or(Ok(Verdict::Deny), |node| source.word(node, &ACTIONS))
}

fn rule(
    source: &Source<'_>,
    node: &Node,
    keys: &Keys<'_>,
    test: Test,
    verdict: Verdict,
) -> Read<Rule> {
    Ok(Rule {
        name: name(source, keys.need(source, "name")?)?,
        span: node.span,
        kinds: Kinds::ALL,
        matches: Vec::new(),
        conditions: vec![Condition::Toolkit(test)],
        verdict: Some(verdict),
        reason: None,
        priority: keys
            .get("priority")
            .map_or(Ok(0), |node| source.whole(node))?,
        labels: Vec::new(),
        limit: None,
        approvers: Vec::new(),
    })
}

fn finish(
    source: &Source<'_>,
    keys: &Keys<'_>,
    dialect: Dialect,
    default: Verdict,
    rules: Vec<Rule>,
    notes: Vec<(Span, String)>,
) -> Read<Policy> {
    once(source, &rules)?;
    Ok(Policy {
        file: source.file.into(),
        name: keys
            .get("name")
            .map_or(Ok("unnamed".into()), |node| name(source, node))?,
        dialect,
        default,
        combine: Combine::Priority,
        rules,
        notes,
        grants: None,
    })
}

fn condition(source: &Source<'_>, node: &Node) -> Read<Test> {
    let keys = source.keys(node, &["field", "operator", "value"])?;
    let operator = keys.need(source, "operator")?;
    let text = source.text(operator)?;
    let Some(known) = Operator::parse(text) else {
        let what = format!(
            "a PolicyDocument has the operators eq, ne, gt, lt, gte, lte, in, contains and matches, not `{}`",
            shorten(text)
        );
        return source.wrong(operator.span, what, NATIVE);
    };
    let field = keys.need(source, "field")?;
    let path: Vec<String> = source.text(field)?.split('.').map(str::to_owned).collect();
    let value = keys.need(source, "value")?;
    compare(path, known, json(value), None).or_else(|what| source.wrong(value.span, what, NATIVE))
}

/// One comparison, its pattern compiled.
pub(crate) fn compare(
    field: Vec<String>,
    operator: Operator,
    value: Json,
    missing: Option<Json>,
) -> Result<Test, String> {
    let regex = match (operator, &value) {
        (Operator::Matches, Json::String(pattern)) => {
            let pattern = from_python(pattern);
            let compiled = regex(&pattern)?;
            Some((pattern.into(), compiled))
        }
        (Operator::Matches, _) => return Err("a pattern is text".to_owned()),
        (Operator::In, Json::Array(_) | Json::String(_)) => None,
        (Operator::In, _) => return Err("`in` takes a list".to_owned()),
        _ => None,
    };
    Ok(Test::One(Box::new(Compare {
        field,
        operator,
        value,
        missing,
        regex,
    })))
}

/// A value with the type that YAML gives it.
pub(crate) fn json(node: &Node) -> Json {
    match &node.value {
        Value::Scalar { text, plain: true } => scalar(text),
        Value::Scalar { text, plain: false } => Json::from(text.as_str()),
        Value::List(items) => items.iter().map(json).collect(),
        Value::Map(entries) => {
            let pairs = entries
                .iter()
                .map(|entry| (entry.key.clone(), json(&entry.node)));
            Json::Object(pairs.collect())
        }
    }
}

fn scalar(text: &str) -> Json {
    match text {
        _ if is_null(text) => return Json::Null,
        "true" | "True" | "TRUE" => return Json::Bool(true),
        "false" | "False" | "FALSE" => return Json::Bool(false),
        _ => {}
    }
    let digits = text.strip_prefix('-').unwrap_or(text);
    let number = digits.starts_with(|c: char| c.is_ascii_digit() || c == '.')
        && digits
            .bytes()
            .all(|b| b.is_ascii_digit() || matches!(b, b'.' | b'e' | b'E' | b'-' | b'+'));
    let float = || {
        text.parse()
            .ok()
            .and_then(serde_json::Number::from_f64)
            .map(Json::Number)
    };
    match text.parse::<i64>() {
        Ok(int) if number => int.into(),
        _ if number => float().unwrap_or_else(|| Json::from(text)),
        _ => Json::from(text),
    }
}

/// `apiVersion: governance.toolkit/v1`.
pub(crate) fn toolkit_v1(source: &Source<'_>, root: &Node) -> Read<Policy> {
    let keys = source.keys(
        root,
        &[
            "apiVersion",
            "version",
            "name",
            "description",
            "scope",
            "default_action",
            "rules",
        ],
    )?;
    if let Some(node) = keys.get("apiVersion") {
        source.word(node, &[("governance.toolkit/v1", ())])?;
    }
    everywhere(source, &keys)?;
    let default = match keys.get("default_action") {
        Some(node) => source.word(node, &[("allow", Verdict::Allow), ("deny", Verdict::Deny)])?,
        None => Verdict::Deny,
    };
    let mut rules = Vec::new();
    for node in source.list(keys.need(source, "rules")?)? {
        rules.push(v1_rule(source, &keys, node)?);
    }
    finish(
        source,
        &keys,
        Dialect::ToolkitV1,
        default,
        rules,
        Vec::new(),
    )
}

const V1_ACTIONS: [(&str, (Verdict, bool)); 7] = [
    ("allow", (Verdict::Allow, false)),
    ("deny", (Verdict::Deny, false)),
    ("block", (Verdict::Deny, false)),
    ("audit", (Verdict::Audit, false)),
    ("warn", (Verdict::Audit, false)),
    ("require_approval", (Verdict::Escalate, false)),
    ("rate_limit", (Verdict::Allow, true)),
];

fn v1_rule(source: &Source<'_>, document: &Keys<'_>, node: &Node) -> Read<Rule> {
    let keys = source.keys(
        node,
        &[
            "name",
            "description",
            "condition",
            "action",
            "priority",
            "limit",
            "approvers",
            "message",
            "enabled",
        ],
    )?;
    if let Some(node) = keys.get("enabled").filter(|node| !is_word(node, "true")) {
        return source.wrong(
            node.span,
            "a rule that is off is not kept",
            "remove the rule",
        );
    }
    let (verdict, limits) = source.word(keys.need(source, "action")?, &V1_ACTIONS)?;
    let asked = keys.need(source, "condition")?;
    let test = match expression::parse(source.text(asked)?) {
        Ok(test) => test,
        Err(what) => return source.wrong(asked.span, what, NATIVE),
    };
    let mut rule = rule(source, node, &keys, test, verdict)?;
    rule.reason = source.boxed(keys.get("message"))?;
    if limits {
        let node = keys.need(source, "limit")?;
        let owner = document
            .get("name")
            .map_or(Ok("unnamed"), |node| source.text(node))?;
        let limit = Limit::rate(source.text(node)?)
            .and_then(|(count, unit)| Limit::new(count, unit, count, &[owner, &rule.name]));
        let Some(limit) = limit else {
            return source.wrong(node.span, "this is no rate", "write one such as 5/minute");
        };
        rule.limit = Some(limit);
    } else if let Some(node) = keys.get("limit") {
        return source.wrong(
            node.span,
            "only `rate_limit` has a limit",
            "write action: rate_limit",
        );
    }
    if let Some(node) = keys.get("approvers") {
        rule.approvers = source
            .texts(node)?
            .into_iter()
            .map(|(text, _)| text.into())
            .collect();
    }
    Ok(rule)
}
