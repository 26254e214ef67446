//! Grants: what an agent holds. An action of a kind that a document grants at all needs one of its grants.
//!
//! They are a document beside the document that names them, so that nothing decides in a second way: a rule that
//! allows for each grant, one for the kinds that are not granted, and one that denies the rest. Since every document has
//! to let an action go ahead, a grant takes nothing away from what the rules say, and adds nothing to it.

use yaml::{Node, Span, shorten};

use crate::condition::{Cel, Condition};
use crate::document::{Read, Source};
use crate::native::{actions, pattern};
use crate::pattern::{Field, FieldMatch};
use crate::rule::Kinds;
use crate::{ActionKind, Combine, Dialect, Policy, Rule, Verdict};

const GRANT: [&str; 4] = ["to", "action", "scope", "expires"];

/// The document that a list of grants is.
pub(crate) fn document(source: &Source<'_>, policy: &str, node: &Node) -> Read<Policy> {
    let (mut rules, mut granted) = (Vec::new(), 0);
    for (number, node) in source.list(node)?.iter().enumerate() {
        let of_one = grant(source, number + 1, node)?;
        granted |= of_one.iter().fold(0, |bits, rule| bits | rule.kinds.0);
        rules.extend(of_one);
    }
    if rules.is_empty() {
        return source.wrong(node.span, "there is no grant", "leave `grants` out");
    }
    let all: u16 = ActionKind::ALL.iter().map(|kind| kind.bit()).sum();
    let others = Kinds(all & !granted);
    if others.0 != 0 {
        rules.push(rule("not granted here", node.span, others, Verdict::Allow));
    }
    rules.push(Rule {
        reason: Some("no grant covers it".into()),
        ..rule("grants", node.span, Kinds(granted), Verdict::Deny)
    });
    Ok(Policy {
        file: source.file.into(),
        name: format!("{policy} (grants)").into(),
        dialect: Dialect::Native,
        default: Verdict::Deny,
        combine: Combine::FirstMatch,
        rules,
        notes: Vec::new(),
        grants: None,
    })
}

fn rule(name: &str, span: Span, kinds: Kinds, verdict: Verdict) -> Rule {
    Rule {
        name: name.into(),
        span,
        kinds,
        matches: Vec::new(),
        conditions: Vec::new(),
        verdict: Some(verdict),
        reason: None,
        priority: 0,
        labels: Vec::new(),
        limit: None,
        approvers: Vec::new(),
    }
}

/// One grant: a rule for each field that its kinds are scoped by.
fn grant(source: &Source<'_>, number: usize, node: &Node) -> Read<Vec<Rule>> {
    let keys = source.keys(node, &GRANT)?;
    let to = patterns(source, Field::Agent, keys.need(source, "to")?)?;
    let kinds = actions(source, keys.need(source, "action")?)?;
    let mut conditions = Vec::new();
    if let Some(node) = keys.get("expires") {
        let text = source.text(node)?;
        let Some(at) = moment(text) else {
            let what = format!("`{}` is no moment", shorten(text));
            let remedy = "write one such as 2026-12-31T18:00:00Z, in UTC";
            return source.wrong(node.span, what, remedy);
        };
        match Cel::parse(&format!("time < {at}")) {
            Ok(cel) => conditions.push(Condition::When(cel.into())),
            Err(what) => return source.wrong(node.span, what, "write another moment"),
        }
    }
    let mut rules = Vec::new();
    for kind in kinds.iter() {
        let mut matches = vec![to.clone()];
        if let Some(node) = keys.get("scope") {
            let Some(field) = scoped_by(kind) else {
                let what = format!("`{}` has no scope", kind.name());
                return source.wrong(node.span, what, "leave `scope` out, or grant it apart");
            };
            matches.push(patterns(source, field, node)?);
        }
        rules.push(Rule {
            matches,
            conditions: conditions.clone(),
            ..rule(
                &format!("grant {number} {}", kind.name()),
                node.span,
                Kinds(kind.bit()),
                Verdict::Allow,
            )
        });
    }
    Ok(rules)
}

fn patterns(source: &Source<'_>, field: Field, node: &Node) -> Read<FieldMatch> {
    let texts = source.texts(node)?.into_iter();
    let any = texts.map(|(text, span)| pattern(source, &field, text, span));
    let any = any.collect::<Read<Vec<_>>>()?;
    Ok(FieldMatch { field, any })
}

/// What an action of this kind is done to. One that lacks it is covered by no grant with a scope.
fn scoped_by(kind: ActionKind) -> Option<Field> {
    use ActionKind as K;
    match kind {
        K::ToolCall => Some(Field::Tool),
        K::FsRead | K::FsWrite | K::FsDelete => Some(Field::Path),
        K::Exec => Some(Field::Program),
        K::NetConnect | K::NetListen => Some(Field::Host),
        K::ModelCall | K::AgentSpawn | K::AgentMessage | K::MemoryWrite | K::RingElevate => None,
    }
}

/// Milliseconds since 1970 of `2026-12-31T18:00:00Z` (RFC 3339, in UTC and whole seconds), by Howard Hinnant's
/// `days_from_civil`.
fn moment(text: &str) -> Option<i64> {
    let text = text.strip_suffix('Z')?;
    let (date, clock) = text.split_once('T')?;
    let part = |text: &str, digits: usize, range: std::ops::RangeInclusive<i64>| {
        let plain = text.len() == digits && text.bytes().all(|byte| byte.is_ascii_digit());
        let number: i64 = plain.then(|| text.parse().ok()).flatten()?;
        range.contains(&number).then_some(number)
    };
    let [year, month, day] = three(date, '-')?;
    let [hour, minute, second] = three(clock, ':')?;
    let (year, month) = (part(year, 4, 1970..=9999)?, part(month, 2, 1..=12)?);
    let leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    let days = match month {
        2 if leap => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    };
    let day = part(day, 2, 1..=days)?;
    let (hour, minute) = (part(hour, 2, 0..=23)?, part(minute, 2, 0..=59)?);
    let second = part(second, 2, 0..=59)?;
    let (years, months) = if month > 2 {
        (year, month - 3)
    } else {
        (year - 1, month + 9)
    };
    let of_year = years % 400;
    let day_of_year = (153 * months + 2) / 5 + day - 1;
    let day_of_era = of_year * 365 + of_year / 4 - of_year / 100 + day_of_year;
    let days = years / 400 * 146_097 + day_of_era - 719_468;
    Some(((days * 24 + hour) * 60 + minute) * 60_000 + second * 1000)
}

fn three(text: &str, by: char) -> Option<[&str; 3]> {
    let parts: Vec<&str> = text.split(by).collect();
    parts.try_into().ok()
}

#[cfg(test)]
mod tests {
    use super::moment;

    #[test]
    fn moments_are_those_of_the_calendar() {
        assert_eq!(moment("1970-01-01T00:00:00Z"), Some(0));
        assert_eq!(moment("2000-02-29T12:34:56Z"), Some(951_827_696_000));
        assert_eq!(moment("2026-12-31T23:59:59Z"), Some(1_798_761_599_000));
        for wrong in [
            "2026-02-29T00:00:00Z",
            "2026-13-01T00:00:00Z",
            "2026-12-31",
            "2026-12-31T24:00:00Z",
            "2026-12-31T00:00:00+02:00",
            "+026-12-31T00:00:00Z",
            "2026-12-31T00:00Z",
            "",
        ] {
            assert_eq!(moment(wrong), None, "{wrong}");
        }
    }
}
