//! Our own language.

use names::{Cidr, NamePattern};
use yaml::{Entry, Node, Span, Value, nearest, shorten};

use crate::action::ring_name;
use crate::condition::{Cel, Condition};
use crate::document::{COMBINES, Keys, Read, Source, VERDICTS, name, once};
use crate::glob::{Glob, Over, Piece};
use crate::grants;
use crate::limit::Limit;
use crate::pattern::{Field, FieldMatch, Pattern};
use crate::rule::Kinds;
use crate::{ActionKind, Combine, Dialect, Enforcer, Policy, Rule, Verdict, enforced_by};

const POLICY: [&str; 6] = ["version", "name", "default", "combine", "rules", "grants"];
const RULE: [&str; 10] = [
    "name",
    "match",
    "when",
    "unless",
    "verdict",
    "reason",
    "priority",
    "labels",
    "limit",
    "approvers",
];
const MATCH: [&str; 13] = [
    "action",
    "agent",
    "ring",
    "session",
    "tool",
    "path",
    "host",
    "port",
    "program",
    "argv",
    "labels",
    "args.FIELD",
    "given.FIELD",
];
/// Each is a place to come back to while matching.
const WILDCARDS_MAX: usize = 16;
const PATTERN_MAX: usize = 4096;

pub(crate) fn policy(source: &Source<'_>, root: &Node) -> Read<Policy> {
    let keys = source.keys(root, &POLICY)?;
    let version = keys.need(source, "version")?;
    if source.text(version)? != "1" {
        return source.wrong(
            version.span,
            "this version is not known",
            "write version: 1",
        );
    }
    let policy = name(source, keys.need(source, "name")?)?;
    let default = keys
        .get("default")
        .map(|node| source.word(node, &VERDICTS))
        .transpose()?;
    let combine = keys
        .get("combine")
        .map(|node| source.word(node, &COMBINES))
        .transpose()?;
    let rules = keys.need(source, "rules")?;
    let rules = source
        .list(rules)?
        .iter()
        .map(|node| rule(source, &policy, node));
    let rules = rules.collect::<Read<Vec<Rule>>>()?;
    once(source, &rules)?;
    let grants = keys
        .get("grants")
        .map(|node| grants::document(source, &policy, node))
        .transpose()?;
    Ok(Policy {
        file: source.file.into(),
        name: policy,
        dialect: Dialect::Native,
        default: default.unwrap_or(Verdict::Deny),
        combine: combine.unwrap_or(Combine::DenyOverrides),
        rules,
        notes: Vec::new(),
        grants: grants.map(Box::new),
    })
}

fn rule(source: &Source<'_>, policy: &str, node: &Node) -> Read<Rule> {
    let keys = source.keys(node, &RULE)?;
    let own = name(source, keys.need(source, "name")?)?;
    let (kinds, matches) = match keys.get("match") {
        Some(node) => matching(source, node)?,
        None => (Kinds::ALL, Vec::new()),
    };
    let verdict = keys
        .get("verdict")
        .map(|node| source.word(node, &VERDICTS))
        .transpose()?;
    let labels = match keys.get("labels") {
        Some(node) => boxed(source, source.keys(node, &["add"])?.need(source, "add")?)?,
        None => Vec::new(),
    };
    let limit = keys
        .get("limit")
        .map(|node| limit(source, node, &[policy, &own]))
        .transpose()?;
    let approvers = keys.get("approvers");
    if let (Some(node), true) = (approvers, verdict != Some(Verdict::Escalate)) {
        return source.wrong(
            node.span,
            "only `escalate` asks approvers",
            "write verdict: escalate",
        );
    }
    if verdict.is_none() && limit.is_none() && labels.is_empty() {
        return source.wrong(
            node.span,
            "this rule does nothing",
            "write a verdict, a limit or labels",
        );
    }
    let rule = Rule {
        name: own,
        span: node.span,
        kinds,
        matches,
        conditions: conditions(source, &keys)?,
        verdict,
        reason: source.boxed(keys.get("reason"))?,
        priority: keys
            .get("priority")
            .map_or(Ok(0), |node| source.whole(node))?,
        labels,
        limit,
        approvers: approvers.map_or(Ok(Vec::new()), |node| boxed(source, node))?,
    };
    if enforced_by(&rule) == Enforcer::Nothing {
        let what =
            "nothing would enforce this rule: no action that it is about has all of its fields";
        return source.wrong(
            node.span,
            what,
            "see the fields of each action in docs/policy.md",
        );
    }
    Ok(rule)
}

fn boxed(source: &Source<'_>, node: &Node) -> Read<Vec<Box<str>>> {
    let texts = source.texts(node)?;
    Ok(texts.into_iter().map(|(text, _)| text.into()).collect())
}

fn conditions(source: &Source<'_>, keys: &Keys<'_>) -> Read<Vec<Condition>> {
    let mut conditions = Vec::new();
    for key in ["when", "unless"] {
        let Some(node) = keys.get(key) else { continue };
        let cel = match Cel::parse(source.text(node)?) {
            Ok(cel) => cel.into(),
            Err(what) => return source.wrong(node.span, what, "see `when` in docs/policy.md"),
        };
        let when = key == "when";
        conditions.push(if when {
            Condition::When(cel)
        } else {
            Condition::Unless(cel)
        });
    }
    Ok(conditions)
}

fn limit(source: &Source<'_>, node: &Node, owner: &[&str]) -> Read<Limit> {
    let keys = source.keys(node, &["rate", "burst"])?;
    let rate = keys.need(source, "rate")?;
    let text = source.text(rate)?;
    let Some((count, unit)) = Limit::rate(text) else {
        let what = format!("`{}` is no rate", shorten(text));
        return source.wrong(
            rate.span,
            what,
            "write one such as 20/h; units are s, m, h and d",
        );
    };
    let burst = match keys.get("burst") {
        None => Some(count),
        Some(node) => u32::try_from(source.whole(node)?).ok(),
    };
    match burst.and_then(|burst| Limit::new(count, unit, burst, owner)) {
        Some(limit) => Ok(limit),
        None => source.wrong(
            node.span,
            "this limit lets nothing through",
            "write burst: 1 or more",
        ),
    }
}

fn matching(source: &Source<'_>, node: &Node) -> Read<(Kinds, Vec<FieldMatch>)> {
    let (mut kinds, mut matches) = (Kinds::ALL, Vec::new());
    for entry in source.map(node)? {
        if entry.key == "action" {
            kinds = actions(source, &entry.node)?;
        } else if entry.key == "argv" {
            matches.extend(argv(source, &entry.node)?);
        } else {
            let field = field(source, entry)?;
            matches.push(alternatives(source, field, &entry.node)?);
        }
    }
    Ok((kinds, matches))
}

pub(crate) fn actions(source: &Source<'_>, node: &Node) -> Read<Kinds> {
    let names: Vec<&str> = ActionKind::ALL.iter().map(|kind| kind.name()).collect();
    let mut bits = 0;
    for (text, span) in source.texts(node)? {
        // `fs.*` is the family.
        let family = text.strip_suffix('*').filter(|start| start.ends_with('.'));
        let meant = |kind: &&ActionKind| {
            kind.name() == text || family.is_some_and(|start| kind.name().starts_with(start))
        };
        let meant: u16 = ActionKind::ALL
            .iter()
            .filter(meant)
            .map(|kind| kind.bit())
            .sum();
        bits |= meant;
        if meant == 0 {
            let what = format!("there is no action `{}`", shorten(text));
            let remedy = nearest(text, &names).map_or_else(
                || format!("there are {}", names.join(", ")),
                |near| format!("did you mean `{near}`?"),
            );
            return source.wrong(span, what, remedy);
        }
    }
    Ok(Kinds(bits))
}

fn field(source: &Source<'_>, entry: &Entry) -> Read<Field> {
    let keys = |rest: &str| rest.split('.').map(str::to_owned).collect::<Vec<_>>();
    let nested = entry
        .key
        .split_once('.')
        .filter(|(_, rest)| rest.split('.').all(|key| !key.is_empty()));
    Ok(match (entry.key.as_str(), nested) {
        ("agent", _) => Field::Agent,
        ("ring", _) => Field::Ring,
        ("session", _) => Field::Session,
        ("tool", _) => Field::Tool,
        ("path", _) => Field::Path,
        ("host", _) => Field::Host,
        ("port", _) => Field::Port,
        ("program", _) => Field::Program,
        ("labels", _) => Field::Labels,
        (_, Some(("args", rest))) => Field::Args(keys(rest)),
        (_, Some(("given", rest))) => Field::Given(keys(rest)),
        (key, _) => {
            let remedy = match nearest(key, &MATCH) {
                Some(near) => format!("did you mean `{near}`?"),
                None => format!("there are {}", MATCH.join(", ")),
            };
            return source.wrong(
                entry.span,
                format!("there is no field `{}`", shorten(key)),
                remedy,
            );
        }
    })
}

/// `has` wants each of its patterns among the arguments, `any` one of them.
fn argv(source: &Source<'_>, node: &Node) -> Read<Vec<FieldMatch>> {
    let keys = source.keys(node, &["has", "any"])?;
    if keys.entries.is_empty() {
        return source.wrong(
            node.span,
            "this says nothing",
            "write has: [\"push\"] or any: […]",
        );
    }
    let mut all = Vec::new();
    if let Some(node) = keys.get("has") {
        for (text, span) in source.texts(node)? {
            let any = vec![pattern(source, &Field::Argv, text, span)?];
            all.push(FieldMatch {
                field: Field::Argv,
                any,
            });
        }
    }
    if let Some(node) = keys.get("any") {
        all.push(alternatives(source, Field::Argv, node)?);
    }
    Ok(all)
}

fn alternatives(source: &Source<'_>, field: Field, node: &Node) -> Read<FieldMatch> {
    if let (Value::Map(_), Field::Labels | Field::Args(_)) = (&node.value, &field) {
        return source.wrong(
            node.span,
            "this is a map",
            "write one text or a list of them",
        );
    }
    let texts = source.texts(node)?.into_iter();
    let any = texts
        .map(|(text, span)| pattern(source, &field, text, span))
        .collect::<Read<_>>()?;
    Ok(FieldMatch { field, any })
}

pub(crate) fn pattern(source: &Source<'_>, field: &Field, text: &str, span: Span) -> Read<Pattern> {
    if text.is_empty() || text.len() > PATTERN_MAX {
        return source.wrong(
            span,
            "this pattern is empty, or longer than 4096",
            "write what is meant",
        );
    }
    match field {
        Field::Host => host(source, text, span),
        Field::Port => port(source, text, span),
        Field::Path => path(source, text, span),
        Field::Program if text.contains('/') => path(source, text, span),
        Field::Program => Ok(Pattern::Base(Box::new(glob(
            source,
            text,
            Over::Text,
            span,
        )?))),
        Field::Ring => glob(source, ring_name(text).unwrap_or(text), Over::Text, span),
        Field::Agent
        | Field::Session
        | Field::Tool
        | Field::Argv
        | Field::Labels
        | Field::Args(_)
        | Field::Given(_) => glob(source, text, Over::Text, span),
    }
}

fn glob(source: &Source<'_>, text: &str, over: Over, span: Span) -> Read<Pattern> {
    let glob = Glob::parse(text, over);
    let wild = |piece: &&Piece| !matches!(piece, Piece::Text(_));
    match glob.pieces().iter().filter(wild).count() {
        0 => Ok(Pattern::Exact(text.into())),
        1..=WILDCARDS_MAX => Ok(Pattern::Glob(glob)),
        _ => source.wrong(
            span,
            "this pattern has more than 16 wildcards",
            "write fewer",
        ),
    }
}

fn path(source: &Source<'_>, text: &str, span: Span) -> Read<Pattern> {
    let mut whole = text.to_owned();
    if let Some(rest) = text.strip_prefix("${workspace}") {
        let Some(workspace) = &source.variables.workspace else {
            return source.wrong(span, "no workspace is known here", "write the path out");
        };
        if workspace.contains('*') {
            return source.wrong(
                span,
                "the workspace's own path holds a `*`",
                "move the workspace",
            );
        }
        whole = format!("{}{rest}", workspace.trim_end_matches('/'));
    }
    if whole.contains("${") {
        let what = format!("`{}` holds an unknown variable", shorten(text));
        return source.wrong(span, what, "${workspace} at the beginning is the only one");
    }
    let parts = || whole.split('/');
    let dots = parts().any(|part| matches!(part, "." | ".."));
    let empty = whole != "/" && parts().skip(1).any(str::is_empty);
    if !(whole.starts_with('/') || whole.starts_with("**")) || dots || empty {
        let what = format!(
            "`{}` is not an absolute path without `.`, `..` and `//`",
            shorten(text)
        );
        return source.wrong(
            span,
            what,
            "write it from /, or begin with ${workspace}/ or **/",
        );
    }
    glob(source, &whole, Over::Path, span)
}

fn host(source: &Source<'_>, text: &str, span: Span) -> Read<Pattern> {
    if text == "*" {
        return Ok(Pattern::AnyHost);
    }
    if let Ok(range) = Cidr::parse(text) {
        return Ok(Pattern::Range(range));
    }
    match NamePattern::parse(text) {
        Ok(pattern) => Ok(Pattern::Name(pattern)),
        Err(error) => {
            let what = format!("`{}` names no host", shorten(text));
            source.wrong(span, what, error.to_string())
        }
    }
}

fn port(source: &Source<'_>, text: &str, span: Span) -> Read<Pattern> {
    let (from, to) = text.split_once('-').unwrap_or((text, text));
    let number = |text: &str| {
        let digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
        digits
            .then(|| text.parse::<u16>().ok())
            .flatten()
            .filter(|port| *port > 0)
    };
    match (number(from), number(to)) {
        (Some(from), Some(to)) if from <= to => Ok(Pattern::Ports(from, to)),
        _ => {
            let what = format!("`{}` is no port", shorten(text));
            source.wrong(
                span,
                what,
                "write one from 1 to 65535, or a range such as 8000-8999",
            )
        }
    }
}
