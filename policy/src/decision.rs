//! What is decided, with the reasons.

use serde_json::{Map, Value, json};

use crate::{Policy, Rule, Verdict};

/// The answer to one action. It borrows from the policies that gave it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decision<'p> {
    /// What is done.
    pub verdict: Verdict,
    /// The policy that spoke.
    pub policy: Option<&'p str>,
    /// Its rule, unless it was its default.
    pub rule: Option<&'p str>,
    /// The author's words, or ours where there are none.
    pub reason: Option<&'p str>,
    /// Who may approve, when it is held.
    pub approvers: &'p [Box<str>],
    /// Labels that the agent carries from now on.
    pub labels_add: Vec<&'p str>,
    /// When to try again, where a limit denied it.
    pub retry_after_ms: Option<u64>,
    /// Rules that could not be read to their end.
    pub errors: Vec<String>,
}

impl<'p> Decision<'p> {
    /// What a rule says, or a policy's default, or nobody.
    pub(crate) fn by(verdict: Verdict, policy: Option<&'p Policy>, rule: Option<&'p Rule>) -> Self {
        Self {
            verdict,
            policy: policy.map(|policy| &*policy.name),
            rule: rule.map(|rule| &*rule.name),
            reason: rule.and_then(|rule| rule.reason.as_deref()),
            approvers: rule.map_or(&[], |rule| &rule.approvers),
            labels_add: Vec::new(),
            retry_after_ms: None,
            errors: Vec::new(),
        }
    }

    /// A limit's denial. A wait that cannot be told is none that ends.
    pub(crate) fn limited(policy: &'p Policy, rule: &'p Rule, wait: u64) -> Self {
        Self {
            approvers: &[],
            retry_after_ms: (wait < u64::MAX).then_some(wait),
            ..Self::by(Verdict::Deny, Some(policy), Some(rule))
        }
    }

    /// One JSON object in one line.
    #[must_use]
    pub fn to_json(&self) -> String {
        let mut object = Map::new();
        let mut put = |key: &str, value: Value| object.insert(key.to_owned(), value);
        put("verdict", self.verdict.name().into());
        put("rule", self.rule.into());
        put("reason", self.reason.into());
        put("policy", self.policy.into());
        if self.verdict == Verdict::Escalate {
            put("approvers", json!(self.approvers));
        }
        if !self.labels_add.is_empty() {
            put("labels_add", json!(self.labels_add));
        }
        if let Some(wait) = self.retry_after_ms {
            put("retry_after_ms", wait.into());
        }
        if !self.errors.is_empty() {
            put("errors", json!(self.errors));
        }
        Value::Object(object).to_string()
    }
}

/// The decision about something that is no action.
pub(crate) fn unjudged(error: &crate::Error) -> Decision<'static> {
    Decision {
        reason: Some("what cannot be judged is denied"),
        errors: vec![error.to_string()],
        ..Decision::by(Verdict::Deny, None, None)
    }
}
