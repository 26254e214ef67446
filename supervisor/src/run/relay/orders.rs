//! What people order and what follows from an agent's conduct, carried out.

use std::io;

use profiles::Stop;
use serde_json::{Value, json};

use super::{Beside, Phase, Run, Stopped, now};
use crate::approvals::{self, Person};
use crate::control::{Asked, Order, refusal};
use crate::run::governor::Raised;
use crate::signal::Signal as Governance;
use crate::words;

impl Stopped {
    /// What a governance signal makes of the end.
    const fn by(signal: Governance) -> Self {
        match signal {
            Governance::Budget => Self::Budget,
            Governance::Loop => Self::Loop,
            Governance::Policy => Self::Violations,
            Governance::Stop
            | Governance::Cont
            | Governance::Int
            | Governance::Kill
            | Governance::Term
            | Governance::Usr1
            | Governance::Usr2 => Self::Told(signal),
        }
    }
}

impl Run<'_> {
    /// Does what somebody at the control socket asks for, as far as they may.
    pub(super) fn obey(&mut self, asked: &Asked, beside: &mut Beside<'_>) -> io::Result<Value> {
        let peer = asked.peer;
        let owner = rustix::process::geteuid().as_raw();
        let rules = peer.uid == 0 || peer.uid == owner;
        // Root speaks for whom it says, and so can be somebody less.
        let person = |of: &Option<Person>| of.filter(|_| peer.uid == 0).unwrap_or(peer);
        match &asked.order {
            Order::Approvals { id, of } => Ok(beside.governor.waiting(person(of), id.as_deref())),
            Order::Answer { digest, word, of } => {
                let held = beside.governor.approve(digest, person(of), word.clone());
                Ok(answer(held))
            }
            _ if !rules => Ok(refusal(1, &format!("it is not uid {}'s run", peer.uid))),
            Order::Status => Ok(self.state(beside)),
            Order::Reload => Ok(match (beside.policies)() {
                Ok(loaded) => {
                    let hash = loaded.hash.clone();
                    beside.governor.reload(loaded);
                    beside.say(&["its policies were read again and are in force".to_owned()]);
                    json!({"ok": true, "policy": hash})
                }
                Err(failed) => {
                    let why = failed.to_string();
                    let facts = [("why", audit::Value::Text(&why))];
                    let note = "reload-refused";
                    beside.governor.note(audit::Kind::Signal, note, &facts);
                    refusal(failed.code(), &format!("{why}; the policies in force stay"))
                }
            }),
            Order::Signal { signal, reason } => self.order(*signal, reason, peer, beside),
        }
    }

    /// A governance signal of a person.
    fn order(
        &mut self,
        signal: Governance,
        reason: &str,
        peer: Person,
        beside: &mut Beside<'_>,
    ) -> io::Result<Value> {
        let source = format!("uid {}", peer.uid);
        if signal == Governance::Cont && self.frozen.is_none() {
            return Ok(refusal(1, "it does not stand still"));
        }
        beside.governor.signal(signal, &source, reason);
        if let Some(door) = beside.door.as_mut().filter(|_| self.frozen.is_none()) {
            door.tell(beside.governor);
        }
        match signal {
            Governance::Stop | Governance::Budget | Governance::Loop => {
                self.freeze(Stopped::by(signal), &format!("{source} said so"), beside)?;
            }
            Governance::Cont => self.thaw(beside)?,
            Governance::Int => {
                beside.governor.close_door();
                self.ends_by = Some(now() + self.limits.grace);
            }
            Governance::Term if matches!(self.phase, Phase::Running) => {
                beside.governor.close_door();
                self.stop(Stopped::Told(signal))?;
            }
            Governance::Kill if !matches!(self.phase, Phase::Killing(_)) => {
                beside.governor.close_door();
                self.stopped = Some(match self.frozen {
                    Some(why @ (Stopped::Budget | Stopped::Loop | Stopped::Violations)) => why,
                    Some(_) | None => Stopped::Told(signal),
                });
                self.kill()?;
            }
            Governance::Term | Governance::Kill => {}
            Governance::Usr1 => beside.say(&[self.state(beside).to_string()]),
            Governance::Usr2 => beside.governor.sign(),
            Governance::Policy => beside.governor.accused(),
        }
        Ok(self.state(beside))
    }

    /// What follows from the agent's own conduct.
    pub(super) fn carry_out(&mut self, raised: &Raised, beside: &mut Beside<'_>) -> io::Result<()> {
        if !matches!(self.phase, Phase::Running) {
            return Ok(());
        }
        let why = Stopped::by(raised.signal);
        if let Some(door) = &mut beside.door {
            door.tell(beside.governor);
        }
        match raised.stop {
            Stop::Freeze => self.freeze(why, &raised.reason, beside),
            Stop::Term => {
                beside.governor.close_door();
                self.stop(why)
            }
            Stop::Kill => {
                beside.governor.close_door();
                self.stopped = Some(why);
                self.kill()
            }
        }
    }

    fn freeze(&mut self, why: Stopped, reason: &str, beside: &mut Beside<'_>) -> io::Result<()> {
        if !matches!(self.phase, Phase::Running) || self.frozen.is_some() {
            return Ok(());
        }
        let still = self.freezer.freeze(self.link)?;
        self.frozen = Some(why);
        self.still = still;
        beside.governor.freeze();
        let facts = [
            ("means", audit::Value::Text(self.freezer.words())),
            ("still", audit::Value::Flag(still)),
        ];
        beside.governor.note(audit::Kind::Signal, "frozen", &facts);
        let state = beside.governor.state();
        let agent = state.get("agent").and_then(Value::as_str).unwrap_or("");
        let stands = if still {
            "stands still"
        } else {
            "was told to stand still, and some of it may still run"
        };
        beside.say(&[format!(
            "{agent} {stands} ({}): {}. `agt-supervisor thaw {agent}` lets it go on, `agt-supervisor kill {agent}` ends it",
            self.freezer.words(),
            words::escape(reason)
        )]);
        Ok(())
    }

    fn thaw(&mut self, beside: &mut Beside<'_>) -> io::Result<()> {
        if self.frozen.take().is_none() || !matches!(self.phase, Phase::Running) {
            return Ok(());
        }
        beside.governor.thaw();
        self.freezer.thaw(self.link)?;
        beside.say(&["it goes on".to_owned()]);
        Ok(())
    }

    /// How the run stands.
    fn state(&self, beside: &Beside<'_>) -> Value {
        let mut state = beside.governor.state();
        if let Value::Object(map) = &mut state {
            let lasted = now().saturating_sub(self.started);
            let lasted = u64::try_from(lasted.as_millis()).unwrap_or(u64::MAX);
            map.insert("ok".into(), json!(true));
            map.insert("pid".into(), json!(std::process::id()));
            map.insert("lasted_ms".into(), json!(lasted));
            let ending = !matches!(self.phase, Phase::Running);
            map.insert("ending".into(), json!(ending));
            let still = self.frozen.is_some() && self.still;
            map.insert("still".into(), json!(still));
        }
        state
    }
}

/// What a person's word came to.
fn answer(held: Result<approvals::Held, approvals::Error>) -> Value {
    match held {
        Ok(held) => json!({"ok": true, "approval": approvals::to_json(&held)}),
        Err(error @ approvals::Error::Nothing(_)) => refusal(3, &error.to_string()),
        Err(error) => refusal(1, &error.to_string()),
    }
}
