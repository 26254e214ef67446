//! `explain FILE 'tool:NAME {…}'`: what the policies in force say of one action.

use policy::{Action, Engine, Limits, Verdict};
use serde_json::{Map, Value};

use super::answer;
use crate::error::Failed;
use crate::run::{Request, policies_of};
use crate::words;

/// `NAME`, or `NAME {"query": "…"}` with the arguments of the call.
pub(super) fn tool(request: &Request, what: &str) -> Result<u8, Failed> {
    let (name, args) = what.split_once(' ').unwrap_or((what, ""));
    let args = match args.trim() {
        "" => Value::Object(Map::new()),
        text => serde_json::from_str(text).map_err(|error| {
            Failed::NotFound(format!(
                "the arguments after the tool are not JSON: {error}"
            ))
        })?,
    };
    let ring = &request.ring;
    let action = Action::draft(policy::ActionKind::ToolCall)
        .with("tool", name)
        .with("args", args)
        .build()
        .map_err(|error| Failed::NotFound(error.to_string()))?
        .by(&ring.name, &ring.ring)
        .or_at(0);
    let engine = Engine::new(policies_of(request)?);
    let decision = engine.decide(&action, &mut Limits::default(), &mut engine.scratch());
    let policy = engine
        .policies()
        .find(|policy| Some(&*policy.name) == decision.policy);
    let place = policy.map_or_else(String::new, |policy| {
        let rules = policy.rules.iter();
        let rule = decision
            .rule
            .and_then(|name| rules.clone().find(|rule| &*rule.name == name));
        match rule {
            Some(rule) => format!(
                ", by rule `{}` ({}:{})",
                rule.name, policy.file, rule.span.line
            ),
            None => format!(", by the default of `{}` ({})", policy.name, policy.file),
        }
    });
    let verdict = match decision.verdict {
        Verdict::Allow | Verdict::Audit => "allowed",
        Verdict::Deny => "denied",
        Verdict::Escalate => "held until somebody approves it",
    };
    let mut text = format!(
        "tool {}: {verdict}{}\n",
        words::escape(name),
        words::escape(&place)
    );
    if let Some(reason) = decision.reason {
        text += &format!("{}\n", words::escape(reason));
    }
    for error in &decision.errors {
        text += &format!(
            "a rule could not be read to its end: {}\n",
            words::escape(error)
        );
    }
    text += "asked at the ring's door only: a tool that does not ask is held by the ring alone\n";
    answer(decision.verdict.allows(), &text)
}
