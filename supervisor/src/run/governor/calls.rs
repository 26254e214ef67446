//! The calls of the action protocol (DESIGN section 9), answered.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Instant;

use audit::{Kind, Value as Fact};
use policy::{Action, ActionKind, Verdict};
use profiles::Stop;
use serde_json::{Map, Value, json};

use super::said::{Approval, Said};
use super::{AWAITED_MAX, FACT_MAX, Governor, OURS, Raised, now_ms, object};
use crate::approvals::{self, Held, Question, State};
use crate::door::{Answer, Call, error};
use crate::signal::Signal;

impl Governor {
    fn act(&mut self, mut body: Map<String, Value>, pid: Option<i32>) -> Map<String, Value> {
        for key in OURS {
            body.remove(key);
        }
        let action = match Action::from_object(body.clone()) {
            Ok(action) => action,
            Err(wrong) => return error("EINVAL", &wrong.to_string()),
        };
        let kind = action.kind();
        let said = self.judge(action, &body);
        let args = body.get("args").map(Value::to_string);
        let hmac = args.map(|args| self.log.args_hmac(args.as_bytes()));
        let texts = ["tool", "path", "host", "program"].map(|name| {
            let text = body.get(name).and_then(Value::as_str);
            let short = text.map(|text| text.chars().take(FACT_MAX).collect::<String>());
            (name, short)
        });
        let mut facts: Vec<(&str, Fact<'_>)> = texts
            .iter()
            .filter_map(|(name, text)| Some((*name, Fact::Text(text.as_deref()?))))
            .collect();
        let port = body.get("port").and_then(Value::as_u64);
        facts.extend(port.map(|port| ("port", Fact::Number(port))));
        if let Some(Approval { id, by, .. }) = &said.approval {
            facts.push(("approval", Fact::Text(id)));
            facts.extend(by.map(|uid| ("by_uid", Fact::Number(uid.into()))));
        }
        let Some(recorded) = self.record(Kind::Decision, kind.name(), &facts, hmac, &said, pid)
        else {
            return error("EIO", "it cannot be recorded, so it is not allowed");
        };
        if said.goes() {
            self.take_labels(&said);
            if is_call(kind) {
                self.conduct.called();
            }
            self.awaited.insert(recorded.seq());
            if self.awaited.len() > AWAITED_MAX {
                self.awaited.pop_first();
            }
        }
        said.answer(Some((self.log.name(), &recorded)))
    }

    /// Labels of an action that goes ahead are the agent's from now on.
    pub(super) fn take_labels(&mut self, said: &Said) {
        for label in &said.labels {
            // Once is enough, or each action would make the next one dearer.
            if !self.labels.contains(label) {
                self.labels.push(label.clone());
            }
        }
    }

    /// What the policies say, what the agent's conduct adds, and what a person said.
    fn judge(&mut self, action: Action, body: &Map<String, Value>) -> Said {
        if self.closing {
            return Said::denied("it was told to end, and begins nothing new");
        }
        if self.of.is_some() {
            // Loops, budgets and limits are counted where the agent is.
            return Said::denied(
                "a command of an agent asks for nothing: the agent that started it does",
            );
        }
        if !self.raised.is_empty() {
            return Said::not_now("it is being stopped");
        }
        let kind = action.kind();
        let said = Said::of(
            &mut self.actions,
            action,
            &self.agent,
            &self.ring,
            &self.labels,
        );
        let said = said.unwrap_or_else(Said::unjudged);
        if is_call(kind) {
            let digest = audit::leaf_hash(canonical(body).as_bytes());
            let looped = self.conduct.asked(digest, Instant::now());
            let raised = looped.or_else(|| {
                let goes = said.verdict != Verdict::Deny;
                goes.then(|| self.conduct.afford()).flatten()
            });
            if let Some(raised) = raised {
                let reason = raised.reason.clone();
                self.raise(raised, "supervisor");
                return Said::not_now(reason);
            }
        }
        match said.verdict {
            Verdict::Escalate => self.hold(said, body),
            Verdict::Allow | Verdict::Audit | Verdict::Deny => said,
        }
    }

    /// What a person said about this very action, or that it waits for one.
    pub(super) fn hold(&mut self, said: Said, body: &Map<String, Value>) -> Said {
        let Some(now) = now_ms() else {
            return Said::unjudged();
        };
        let exact = canonical(body);
        // Whoever said yes said it to this rule, and of an agent that carried these labels.
        let labels: BTreeSet<&String> = self.labels.iter().collect();
        let bound = json!([
            self.agent,
            self.ring,
            self.place,
            self.hash,
            said.rule,
            said.approvers,
            labels,
            exact
        ]);
        let digest = audit::leaf_hash(bound.to_string().as_bytes());
        let found = self.found(&digest, now).and_then(|held| match held {
            Some(held) => Ok(held),
            None => {
                let question = Question {
                    agent: self.agent.clone(),
                    ring: self.ring.clone(),
                    run: self.run.clone(),
                    place: self.place.clone(),
                    action: body.clone(),
                    rule: said.rule.clone(),
                    reason: said.reason.clone(),
                    approvers: said.approvers.clone(),
                    digest,
                };
                let held = approvals::ask(question.clone(), now)?;
                self.asks.push(question);
                Ok(held)
            }
        });
        let taken = found.and_then(|held| {
            if matches!(held.state, State::Approved { .. }) {
                approvals::take(&held)?;
            }
            Ok(held)
        });
        match taken {
            Ok(held) => answered(said, &held, now),
            Err(error) => Said {
                rule: said.rule,
                ..Said::denied(format!(
                    "it would have to be approved, and cannot be: {error}"
                ))
            },
        }
    }

    fn done(&mut self, body: &Map<String, Value>) -> Map<String, Value> {
        let seq = body
            .get("decision")
            .and_then(|decision| decision.get("seq"))
            .and_then(Value::as_u64);
        let Some(seq) = seq.filter(|seq| self.awaited.remove(seq)) else {
            return error(
                "EINVAL",
                "`decision` names no action that waits for its outcome",
            );
        };
        let ok = body.get("ok").and_then(Value::as_bool).unwrap_or(false);
        let why = body.get("error").and_then(Value::as_str).unwrap_or("");
        let tokens = body.get("tokens").and_then(Value::as_u64);
        let cost = body.get("cost").and_then(Value::as_f64).map(millionths);
        let mut facts = vec![("of", Fact::Number(seq)), ("ok", Fact::Flag(ok))];
        facts.extend(tokens.map(|tokens| ("tokens", Fact::Number(tokens))));
        facts.extend(cost.map(|cost| ("cost_millionths", Fact::Number(cost))));
        if !why.is_empty() {
            facts.push(("error", Fact::Text(why)));
        }
        self.note(Kind::Outcome, "done", &facts);
        let raised = self
            .conduct
            .reported(tokens.unwrap_or(0), cost.unwrap_or(0));
        if let Some(raised) = raised {
            self.raise(raised, "supervisor");
        }
        fine()
    }

    fn check(&mut self, mut body: Map<String, Value>) -> Map<String, Value> {
        for key in OURS {
            body.remove(key);
        }
        let action = match Action::from_object(body) {
            Ok(action) => action,
            Err(wrong) => return error("EINVAL", &wrong.to_string()),
        };
        // A clock that was set is told once: before the copy.
        let _judged_below = self.actions.now();
        // What is only asked takes nothing from a limit.
        let before = self.actions.limits.clone();
        let said = Said::of(
            &mut self.actions,
            action,
            &self.agent,
            &self.ring,
            &self.labels,
        );
        self.actions.limits = before;
        said.unwrap_or_else(Said::unjudged).answer(None)
    }

    /// As [`Self::check`], with the place of the rule and who enforces it.
    fn explain(&mut self, body: Map<String, Value>) -> Map<String, Value> {
        let mut answer = self.check(body);
        let named = answer.get("rule").and_then(Value::as_str);
        let policies = self.actions.engine.policies();
        let mut found = policies.filter_map(|policy| {
            let rule = policy
                .rules
                .iter()
                .find(|rule| Some(&*rule.name) == named)?;
            let enforced = policy::enforced_by(rule).to_string();
            Some(json!({"file": policy.file, "line": rule.span.line, "enforced_by": enforced}))
        });
        // Two rules of one name: nobody could say which.
        let one = found.next().filter(|_| found.next().is_none());
        answer.insert("source".into(), one.unwrap_or(Value::Null));
        answer
    }

    /// How an action of this agent that was held stands.
    fn approval(&mut self, body: &Map<String, Value>) -> Map<String, Value> {
        let Some(id) = body.get("id").and_then(Value::as_str) else {
            return error("EINVAL", "`id` is missing");
        };
        let held = now_ms().map(|now| approvals::get(id, now));
        let held = match held {
            Some(Ok(held)) => held,
            Some(Err(_)) | None => None,
        };
        // Another agent's is nobody's here.
        let mine = held.filter(|held| {
            let asked = &held.question;
            asked.agent == self.agent && asked.ring == self.ring && asked.place == self.place
        });
        let (state, reason) = match mine.map(|held| held.state) {
            Some(State::Waits) => ("waits", None),
            Some(State::Approved { .. }) => ("approved", None),
            Some(State::Denied { reason, .. }) => ("denied", Some(reason)),
            None => (
                "gone",
                Some("nobody answered in time, or it was used".to_owned()),
            ),
        };
        object(json!({"errno": null, "state": state, "reason": reason}))
    }

    /// An agent may signal itself, and only to stop.
    fn signal_itself(&mut self, body: &Map<String, Value>) -> Map<String, Value> {
        let named = body.get("signal").and_then(Value::as_str);
        let signal = named.and_then(Signal::parse);
        let stop = match signal {
            Some(Signal::Stop) => Stop::Freeze,
            Some(Signal::Term | Signal::Int) => Stop::Term,
            Some(Signal::Kill) => Stop::Kill,
            Some(_) => return error("EPERM", "an agent sends itself STOP, INT, TERM or KILL"),
            None => return error("EINVAL", "`signal` names no signal"),
        };
        let reason = body.get("reason").and_then(Value::as_str).unwrap_or("");
        let raised = Raised {
            signal: signal.unwrap_or(Signal::Kill),
            stop,
            reason: reason.chars().take(FACT_MAX).collect(),
        };
        self.raise(raised, "agent");
        fine()
    }

    /// Keeps events of maskable signals away, or lets them through again.
    fn mask(&mut self, body: &Map<String, Value>) -> Map<String, Value> {
        let names = body.get("signals").and_then(Value::as_array);
        let parsed: Option<Vec<Signal>> = names.and_then(|names| {
            let each = names.iter().map(|name| Signal::parse(name.as_str()?));
            each.collect()
        });
        let Some(signals) = parsed else {
            return error("EINVAL", "`signals` is to be a list of signals");
        };
        if let Some(signal) = signals.iter().find(|signal| !signal.maskable()) {
            return error("EPERM", &format!("{} cannot be masked", signal.name()));
        }
        match body.get("how").and_then(Value::as_str) {
            Some("block") => self.masked.extend(signals),
            Some("unblock") => self.masked.retain(|signal| !signals.contains(signal)),
            Some("set") => self.masked = signals.into_iter().collect(),
            Some(_) | None => return error("EINVAL", "`how` is block, unblock or set"),
        }
        let names: Vec<&str> = self.masked.iter().map(|signal| signal.name()).collect();
        object(json!({"errno": null, "masked": names}))
    }
}

impl Answer for Governor {
    fn answer(
        &mut self,
        call: Call,
        body: Map<String, Value>,
        pid: Option<i32>,
    ) -> Map<String, Value> {
        match call {
            Call::Hello => {
                object(json!({"agent": self.agent, "ring": self.ring, "log": self.log.name()}))
            }
            Call::Ready | Call::Heartbeat | Call::SigAction => fine(),
            Call::Act => self.paced(|governor| governor.act(body, pid)),
            Call::Done => self.paced(|governor| governor.done(&body)),
            Call::CheckPolicy => self.check(body),
            Call::Explain => self.explain(body),
            Call::Approval => self.paced(|governor| governor.approval(&body)),
            Call::Exec => self.paced(|governor| governor.exec(&body, pid)),
            Call::Elevate => self.paced(|governor| governor.elevate(&body, pid)),
            Call::Wait => self.wait_for(&body),
            Call::Signal => self.paced(|governor| governor.signal_itself(&body)),
            Call::SigProcMask => self.mask(&body),
            Call::GetPolicy => {
                let policies = self.actions.engine.policies();
                let list: Vec<Value> = policies
                    .map(|policy| json!({"name": policy.name, "file": policy.file}))
                    .collect();
                object(json!({"policies": list, "hash": self.hash}))
            }
            Call::Elsewhere(name) => error(
                "ENOSYS",
                &format!("{name} is the kernel's own in this version: the ring holds it by itself"),
            ),
        }
    }

    fn events(&mut self) -> Vec<Map<String, Value>> {
        let masked = &self.masked;
        let due = self
            .events
            .extract_if(.., |(signal, _)| !masked.contains(signal));
        due.map(|(_, event)| event).collect()
    }
}

/// What rates, loops and budgets count (DESIGN section 6).
const fn is_call(kind: ActionKind) -> bool {
    matches!(
        kind,
        ActionKind::ToolCall
            | ActionKind::ModelCall
            | ActionKind::AgentMessage
            | ActionKind::AgentSpawn
    )
}

/// What a person's answer makes of a held action.
fn answered(said: Said, held: &Held, now: u64) -> Said {
    let id = approvals::id(&held.question.digest);
    let approval = |by| {
        Some(Approval {
            id,
            by,
            left: held.until.saturating_sub(now),
        })
    };
    match &held.state {
        State::Waits => Said {
            approval: approval(None),
            ..said
        },
        State::Approved { by } => Said {
            verdict: Verdict::Allow,
            approval: approval(*by),
            ..said
        },
        State::Denied { by, reason } => Said {
            verdict: Verdict::Deny,
            reason: Some(format!("it was not approved: {reason}")),
            labels: Vec::new(),
            approval: approval(*by),
            ..said
        },
    }
}

/// JSON with its keys sorted: the same action is the same text.
fn canonical(body: &Map<String, Value>) -> String {
    fn sorted_object(map: &Map<String, Value>) -> Value {
        let by_key: BTreeMap<&String, &Value> = map.iter().collect();
        let each = by_key.into_iter();
        Value::Object(
            each.map(|(key, value)| (key.clone(), sorted(value)))
                .collect(),
        )
    }
    fn sorted(value: &Value) -> Value {
        match value {
            Value::Object(map) => sorted_object(map),
            Value::Array(all) => Value::Array(all.iter().map(sorted).collect()),
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => value.clone(),
        }
    }
    sorted_object(body).to_string()
}

/// A cost as it is counted; what is no amount counts as nothing, what is too large as all there is.
fn millionths(cost: f64) -> u64 {
    let scaled = (cost * 1e6).round();
    if scaled.is_nan() || scaled <= 0.0 {
        return 0;
    }
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "positive, and `as` stops at the largest"
    )]
    let counted = scaled as u64;
    counted
}

pub(super) fn too_fast() -> Map<String, Value> {
    let mut no = error(
        "EAGAIN",
        "more is asked in a second than is decided; ask again",
    );
    no.insert("retry_after_ms".into(), json!(100));
    no
}

fn fine() -> Map<String, Value> {
    object(json!({"errno": null}))
}
