//! A decision that borrows nothing, and what the agent is told of it.

use std::time::Instant;

use audit::Recorded;
use policy::{Action, Verdict};
use serde_json::{Map, Value, json};

use super::{Bench, object};
use crate::words;

/// What was decided.
#[derive(Debug)]
pub(super) struct Said {
    pub(super) verdict: Verdict,
    pub(super) rule: Option<String>,
    pub(super) reason: Option<String>,
    pub(super) labels: Vec<String>,
    pub(super) retry_after_ms: Option<u64>,
    pub(super) approvers: Vec<String>,
    pub(super) approval: Option<Approval>,
    /// Microseconds.
    pub(super) took: u64,
}

/// The approval that a decision waits for, or was made by.
#[derive(Clone, Debug)]
pub(super) struct Approval {
    pub(super) id: String,
    pub(super) by: Option<u32>,
    /// Milliseconds until it is no more.
    pub(super) left: u64,
}

impl Said {
    /// Decides with what only the supervisor can say added.
    pub(super) fn of(
        bench: &mut Bench,
        action: Action,
        agent: &str,
        ring: &str,
        labels: &[String],
    ) -> Option<Self> {
        let since = Instant::now();
        let action = action.by(agent, ring).at(bench.now()?, labels);
        if bench.engine.policies().next().is_none() {
            // Nothing but agent.yaml itself speaks about it.
            return Some(Self::plain(Verdict::Allow));
        }
        let decision = bench.decide(&action);
        let reason = decision.reason.map(str::to_owned);
        let errors = (!decision.errors.is_empty()).then(|| decision.errors.join("; "));
        let own = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect();
        let approvers: Vec<&str> = decision.approvers.iter().map(|one| &**one).collect();
        Some(Self {
            verdict: decision.verdict,
            rule: decision.rule.map(str::to_owned),
            reason: reason.or(errors),
            labels: own(&decision.labels_add),
            retry_after_ms: decision.retry_after_ms,
            approvers: own(&approvers),
            approval: None,
            took: u64::try_from(since.elapsed().as_micros()).unwrap_or(u64::MAX),
        })
    }

    fn plain(verdict: Verdict) -> Self {
        Self {
            verdict,
            rule: None,
            reason: None,
            labels: Vec::new(),
            retry_after_ms: None,
            approvers: Vec::new(),
            approval: None,
            took: 0,
        }
    }

    /// Denied by the supervisor itself.
    pub(super) fn denied(reason: impl Into<String>) -> Self {
        Self {
            reason: Some(reason.into()),
            ..Self::plain(Verdict::Deny)
        }
    }

    /// Denied for now; no violation.
    pub(super) fn not_now(reason: impl Into<String>) -> Self {
        Self {
            retry_after_ms: Some(1000),
            ..Self::denied(reason)
        }
    }

    pub(super) fn unjudged() -> Self {
        Self::denied("the clock of this host cannot be read")
    }

    pub(super) fn goes(&self) -> bool {
        matches!(self.verdict, Verdict::Allow | Verdict::Audit)
    }

    pub(super) fn reason_or(&self, other: &str) -> String {
        let rule = self
            .rule
            .as_ref()
            .map_or(String::new(), |rule| format!(" (rule {rule})"));
        words::escape(&format!(
            "{}{rule}",
            self.reason.as_deref().unwrap_or(other)
        ))
    }

    pub(super) fn answer(&self, recorded: Option<(&str, &Recorded)>) -> Map<String, Value> {
        let errno = match self.verdict {
            Verdict::Allow | Verdict::Audit => None,
            Verdict::Deny if self.retry_after_ms.is_some() => Some("EAGAIN"),
            Verdict::Deny | Verdict::Escalate => Some("EACCES"),
        };
        let reason = match self.verdict {
            Verdict::Escalate => Some(format!(
                "{}; somebody has to approve it",
                self.reason.as_deref().unwrap_or("it is held")
            )),
            Verdict::Allow | Verdict::Audit => self.reason.clone(),
            Verdict::Deny => Some(
                self.reason
                    .clone()
                    .unwrap_or_else(|| "no rule allows it".into()),
            ),
        };
        let decision = recorded.map(|(log, recorded)| json!({"log": log, "seq": recorded.seq()}));
        let mut answer = object(json!({
            "errno": errno, "verdict": self.verdict.name(), "rule": self.rule, "reason": reason,
            "decision": decision, "retry_after_ms": self.retry_after_ms,
        }));
        if let Some(approval) = &self.approval {
            answer.insert(
                "approval".into(),
                json!({"id": approval.id, "left_ms": approval.left}),
            );
        }
        answer
    }
}
