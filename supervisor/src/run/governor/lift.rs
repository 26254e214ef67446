//! EXEC, ELEVATE and WAIT: commands of the agent in rings of their own.

use std::time::{Duration, Instant};

use audit::{Kind, Value as Fact};
use policy::{Action, ActionKind, Verdict};
use serde_json::{Map, Value, json};

use super::said::Said;
use super::{FACT_MAX, Governor, object};
use crate::door::error;
use crate::run::Parent;
use crate::run::workers::{Source, Wish};

/// How long a lifted command runs, and at most (DESIGN section 12).
const TTL: Duration = Duration::from_secs(300);
const TTL_MAX: Duration = Duration::from_secs(3600);
const ARGS_MAX: usize = 256;
/// Bytes of disk that a command takes for its log, tiles and lines of the ledger.
const START_COST: f64 = 65_536.0;

/// What the run's agent.yaml says about workers.
#[derive(Clone, Debug, Default)]
pub(crate) struct Lift {
    /// `None` for a command without a file: there is nothing to make a worker of.
    pub(crate) source: Option<Source>,
    /// Number and name of its own ring.
    pub(crate) own: (u8, String),
    /// Whether its ring runs one program and no other.
    pub(crate) once: bool,
    /// Number and name of the ring up to which it may be lifted.
    pub(crate) most: Option<(u8, String)>,
    /// Numbers and names of all rings.
    pub(crate) rings: Vec<(u8, String)>,
}

impl Governor {
    /// Runs one command in the agent's own ring, or in one of fewer rights.
    pub(super) fn exec(
        &mut self,
        body: &Map<String, Value>,
        pid: Option<i32>,
    ) -> Map<String, Value> {
        let own = self.lift.own.clone();
        let named = body
            .get("ring")
            .map_or(Some(own.clone()), |name| self.ring(name));
        match named {
            Some((number, ring)) if number < own.0 => {
                self.over_ring(number, &ring, "not elevated");
                error(
                    "EPERM",
                    "that is a ring of more rights: ask for it with ELEVATE",
                )
            }
            Some((_, ring)) => self.work(body, ring, false, pid),
            None => error("EINVAL", "there is no such ring"),
        }
    }

    /// Runs one command in a ring of more rights. The reasons to say no come in the toolkit's order.
    pub(super) fn elevate(
        &mut self,
        body: &Map<String, Value>,
        pid: Option<i32>,
    ) -> Map<String, Value> {
        let own = self.lift.own.0;
        let asked = body.get("ring").cloned().unwrap_or(Value::Null);
        if matches!(asked.as_str(), Some("0" | "kernel")) || asked == 0 {
            self.over_ring(0, "kernel", "ring_0_forbidden");
            return refused("ring_0_forbidden", "ring 0 is the operator, never an agent");
        }
        let Some((number, ring)) = self.ring(&asked).filter(|(number, _)| *number < own) else {
            return refused(
                "invalid_target",
                "that is no ring of more rights than its own",
            );
        };
        if self.workers.has_lifted() {
            return refused("duplicate_elevation", "one elevated command lives already");
        }
        match &self.lift.most {
            Some((most, _)) if number >= *most => {}
            most => {
                let said = most.as_ref().map_or_else(
                    || "nothing of `elevate`".into(),
                    |(_, most)| format!("`elevate: {most}`"),
                );
                self.over_ring(number, &ring, "insufficient_trust");
                return refused("insufficient_trust", &format!("agent.yaml says {said}"));
            }
        }
        let mut answer = self.work(body, ring, true, pid);
        if number == 1 && answer.get("approval").is_some() {
            answer.insert("denial".into(), json!("no_sponsorship"));
        }
        answer
    }

    /// An attempt to get more rights than there are is an event of its own, however it was refused, and a
    /// violation; many of them stop the agent.
    fn over_ring(&mut self, number: u8, ring: &str, why: &str) {
        let rings = self.lift.own.0.saturating_sub(number);
        let breach = self.conduct.over_ring(rings, Instant::now());
        let mut facts = vec![
            ("to", Fact::Text(ring)),
            ("denial", Fact::Text(why)),
            ("attempts", Fact::Number(breach.attempts)),
        ];
        facts.extend(breach.score.map(|score| ("score", Fact::Number(score))));
        self.note(Kind::Signal, "breach", &facts);
        match breach.raised {
            Some(raised) => self.raise(raised, "supervisor"),
            None => self.accused(),
        }
    }

    fn work(
        &mut self,
        body: &Map<String, Value>,
        ring: String,
        lifted: bool,
        pid: Option<i32>,
    ) -> Map<String, Value> {
        let Some(source) = self.lift.source.clone() else {
            return error(
                "ENOSYS",
                "only an agent with an agent.yaml starts commands, and these start no others",
            );
        };
        let argv = match argv(body) {
            Ok(argv) => argv,
            Err(why) => return error("EINVAL", why),
        };
        if self.workers.is_full() {
            return error("EAGAIN", "as many commands run already as may at once");
        }
        let ttl = body
            .get("ttl_s")
            .and_then(Value::as_u64)
            .filter(|ttl| *ttl > 0);
        let most = ttl.map_or(TTL, Duration::from_secs).min(TTL_MAX);
        let said = self.may_work(&argv, &ring, lifted, most);
        let line = argv.join(" ");
        let short: String = line.chars().take(FACT_MAX).collect();
        let hmac = self.log.args_hmac(json!(argv).to_string().as_bytes());
        let mut facts = vec![("argv", Fact::Text(&short)), ("to", Fact::Text(&ring))];
        if let Some(approval) = &said.approval {
            facts.push(("approval", Fact::Text(&approval.id)));
            facts.extend(approval.by.map(|uid| ("by_uid", Fact::Number(uid.into()))));
        }
        let kind = if lifted {
            ActionKind::RingElevate
        } else {
            ActionKind::Exec
        };
        let Some(recorded) =
            self.record(Kind::Decision, kind.name(), &facts, Some(hmac), &said, pid)
        else {
            return error("EIO", "it cannot be recorded, so it is not allowed");
        };
        let mut answer = said.answer(Some((self.log.name(), &recorded)));
        if said.goes() {
            let wish = Wish {
                ring,
                argv,
                most,
                lifted,
            };
            self.take_labels(&said);
            let in_force = Parent {
                run: self.run.clone(),
                policies: self.shared.clone(),
                labels: self.labels.clone(),
            };
            match self.workers.start(&source, &in_force, &wish) {
                Ok(id) => {
                    self.room -= START_COST;
                    answer.insert("worker".into(), json!(id));
                }
                Err(failed) => {
                    let why = failed.to_string();
                    let facts = [
                        ("of", Fact::Number(recorded.seq())),
                        ("ok", Fact::Flag(false)),
                        ("error", Fact::Text(&why)),
                    ];
                    self.note(Kind::Outcome, "worker", &facts);
                    return error("EIO", &format!("it cannot be started: {why}"));
                }
            }
        }
        answer
    }

    /// Whether it may: as a command, and when it is lifted, as that too. A person has to say so for ring 1
    /// (the toolkit's attestation), whatever the policies say.
    fn may_work(&mut self, argv: &[String], ring: &str, lifted: bool, most: Duration) -> Said {
        let program = argv.first().map_or("", String::as_str);
        let ttl = u64::try_from(most.as_millis()).unwrap_or(u64::MAX);
        let body = |kind: ActionKind| {
            object(json!({
                "action": kind.name(), "program": program, "argv": argv,
                "args": {"to": ring, "ttl_ms": ttl},
            }))
        };
        let exec = self.judged(body(ActionKind::Exec));
        if self.lift.once && !lifted && exec.goes() && exec.rule.is_none() {
            return Said::denied(
                "its ring runs one program only, and no rule of a policy allows this one",
            );
        }
        if !lifted || exec.verdict == Verdict::Deny {
            return self.held_or(exec, &body(ActionKind::Exec));
        }
        let mut said = self.judged(body(ActionKind::RingElevate));
        if said.verdict != Verdict::Deny && exec.verdict == Verdict::Escalate {
            let both = said.verdict == Verdict::Escalate;
            if both && said.approvers != exec.approvers {
                return Said::denied(
                    "as a command and as a lifted one others would have to approve it, and one answer is not both",
                );
            }
            said = exec;
        }
        let first = self
            .lift
            .rings
            .iter()
            .any(|(number, name)| *number == 1 && name == ring);
        if first && said.goes() {
            said.verdict = Verdict::Escalate;
            said.reason
                .get_or_insert_with(|| "ring 1 needs a person".to_owned());
        }
        self.held_or(said, &body(ActionKind::RingElevate))
    }

    fn held_or(&mut self, said: Said, body: &Map<String, Value>) -> Said {
        match said.verdict {
            Verdict::Escalate => self.hold(said, body),
            Verdict::Allow | Verdict::Audit | Verdict::Deny => said,
        }
    }

    fn judged(&mut self, body: Map<String, Value>) -> Said {
        if self.closing {
            return Said::denied("it was told to end, and begins nothing new");
        }
        let action = match Action::from_object(body) {
            Ok(action) => action,
            Err(wrong) => return Said::denied(wrong.to_string()),
        };
        let said = Said::of(
            &mut self.actions,
            action,
            &self.agent,
            &self.ring,
            &self.labels,
        );
        said.unwrap_or_else(Said::unjudged)
    }

    /// How a worker stands, with what it wrote once it has ended.
    pub(super) fn wait_for(&mut self, body: &Map<String, Value>) -> Map<String, Value> {
        let id = body.get("worker").and_then(Value::as_str).unwrap_or("");
        self.workers
            .state(id)
            .unwrap_or_else(|| error("ECHILD", "`worker` names none, or one of long ago"))
    }

    /// A ring by number or name.
    fn ring(&self, asked: &Value) -> Option<(u8, String)> {
        let number = asked.as_u64().map(|number| number.to_string());
        let text = asked.as_str().or(number.as_deref())?;
        let named = |(number, name): &&(u8, String)| name == text || number.to_string() == text;
        self.lift.rings.iter().find(named).cloned()
    }
}

fn argv(body: &Map<String, Value>) -> Result<Vec<String>, &'static str> {
    let list = body.get("argv").and_then(Value::as_array);
    let texts: Option<Vec<String>> = list.and_then(|list| {
        let each = list.iter().map(|one| one.as_str().map(str::to_owned));
        each.collect()
    });
    match texts {
        Some(argv) if argv.len() > ARGS_MAX => Err("`argv` is too long"),
        Some(argv) if argv.iter().any(|arg| arg.contains('\0')) => Err("`argv` holds a NUL"),
        Some(argv) if argv.first().is_some_and(|program| !program.is_empty()) => Ok(argv),
        Some(_) | None => Err("`argv` is to be a list of texts, a program first"),
    }
}

/// One of the toolkit's reasons.
fn refused(denial: &str, why: &str) -> Map<String, Value> {
    let mut no = error("EACCES", why);
    no.insert("denial".into(), json!(denial));
    no
}
