//! Decides what an agent asks to do, and records it before it is answered.
//!
//! What is decided is held against the site's policies, the ring's and the agent's own; each must let it
//! go ahead. A log that cannot be written denies from then on, and ends the run.

use std::collections::{BTreeSet, VecDeque};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use audit::{Entry, Kind, Log, Recorded, Value as Fact};
use egress::wire::{Closed, Opened, Refused, Via};
use policy::{Action, ActionKind, Decision, Engine, Limits, Policy, Scratch, Verdict};
use profiles::{OnViolation, Stop};
use serde_json::{Map, Value, json};

use crate::door::{Answer, Call, error};
use crate::words;

/// Actions whose outcome is awaited; the oldest are forgotten first.
const AWAITED_MAX: usize = 4096;
/// Records a second that an agent can cause at its door, and how many at once: what is asked faster is not
/// decided, and so not recorded, but counted.
const PACE: f64 = 200.0;
const BURST: f64 = 400.0;
/// Records of one run; then it is ended, as with a log that cannot be written.
const RECORDS_MAX: u64 = 2_000_000;
/// Characters of one fact that come from an agent.
const FACT_MAX: usize = 512;

/// The supervisor's own to say, whatever an agent writes there.
const OURS: [&str; 5] = ["agent", "ring", "session", "time", "labels"];

/// How much was decided which way.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Counts {
    pub(crate) allowed: u64,
    pub(crate) denied: u64,
    pub(crate) held: u64,
}

/// The judge and clerk of one run.
#[derive(Debug)]
pub(crate) struct Governor {
    agent: String,
    ring: String,
    run: String,
    actions: Bench,
    /// Of these only documents that say anything about the network: the others leave it to
    /// `network.allow`.
    network: Bench,
    hash: String,
    labels: Vec<String>,
    log: Log,
    broken: Option<String>,
    awaited: BTreeSet<u64>,
    on_violation: Option<OnViolation>,
    /// When each denial that still counts was given.
    violations: VecDeque<Instant>,
    violated: bool,
    /// Records that may still be caused now, and since when that is so.
    room: f64,
    since: Instant,
    too_fast: u64,
    pub(crate) counts: Counts,
}

/// Policies ready to decide, and the state of their limits.
#[derive(Debug)]
struct Bench {
    engine: Engine,
    scratch: Scratch,
    limits: Limits,
}

impl Bench {
    fn new(policies: Vec<Policy>) -> Self {
        let engine = Engine::new(policies);
        let scratch = engine.scratch();
        Self {
            engine,
            scratch,
            limits: Limits::default(),
        }
    }

    fn decide(&mut self, action: &Action) -> Decision<'_> {
        self.engine
            .decide(action, &mut self.limits, &mut self.scratch)
    }
}

/// Who is governed.
pub(crate) struct Subject {
    pub(crate) agent: String,
    pub(crate) ring: String,
    pub(crate) run: String,
    pub(crate) on_violation: Option<OnViolation>,
}

impl Governor {
    pub(crate) fn new(subject: Subject, policies: Vec<Policy>, hash: String, log: Log) -> Self {
        let about_network = |policy: &Policy| {
            let kinds = [ActionKind::NetConnect, ActionKind::NetListen];
            let mut rules = policy.rules.iter();
            rules.any(|rule| kinds.iter().any(|kind| rule.kinds.contains(*kind)))
        };
        let network = policies.iter().filter(|policy| about_network(policy));
        Self {
            agent: subject.agent,
            ring: subject.ring,
            run: subject.run,
            network: Bench::new(network.cloned().collect()),
            actions: Bench::new(policies),
            hash,
            labels: Vec::new(),
            log,
            broken: None,
            awaited: BTreeSet::new(),
            on_violation: subject.on_violation,
            violations: VecDeque::new(),
            violated: false,
            room: BURST,
            since: Instant::now(),
            too_fast: 0,
            counts: Counts::default(),
        }
    }

    /// Records that something happened; what it says is already so, and nothing waits for it.
    pub(crate) fn note(&mut self, kind: Kind, what: &str, facts: &[(&str, Fact<'_>)]) {
        let (agent, ring, run) = (self.agent.clone(), self.ring.clone(), self.run.clone());
        let entry = Entry::new(kind)
            .agent(&agent)
            .ring(&ring)
            .run(&run)
            .policy(&self.hash)
            .action(audit::Action::new(what).fields(facts));
        if let Err(error) = self.log.append(&entry) {
            self.log.missed();
            self.broken.get_or_insert_with(|| error.to_string());
        }
    }

    /// The name of the run's log.
    pub(crate) fn log_name(&self) -> &str {
        self.log.name()
    }

    /// Why nothing can be recorded any more, and so nothing allowed.
    pub(crate) fn broken(&self) -> Option<&str> {
        self.broken.as_deref()
    }

    /// How the run is to be stopped because too much of it was denied; said once.
    pub(crate) fn take_violation(&mut self) -> Option<Stop> {
        let wanted = self.on_violation.filter(|_| self.violated)?;
        self.violated = false;
        self.violations.clear();
        let facts = [
            ("count", Fact::Number(wanted.count)),
            ("within_ms", Fact::Number(wanted.within.0)),
        ];
        self.note(Kind::Signal, "POLICY", &facts);
        Some(wanted.stop)
    }

    /// A denial by a policy; one by a limit is not held against the agent.
    fn violation(&mut self, said: &Said) {
        let Some(wanted) = self.on_violation else {
            return;
        };
        if said.verdict != Verdict::Deny || said.retry_after_ms.is_some() {
            return;
        }
        let now = Instant::now();
        let within = Duration::from(wanted.within);
        self.violations.push_back(now);
        while self
            .violations
            .front()
            .is_some_and(|first| now.duration_since(*first) > within)
        {
            self.violations.pop_front();
        }
        let count = u64::try_from(self.violations.len()).unwrap_or(u64::MAX);
        self.violated |= count >= wanted.count;
    }

    /// When [`Self::tick`] is due.
    pub(crate) fn due(&self) -> Duration {
        self.log.due().saturating_duration_since(Instant::now())
    }

    /// Brings what was written to disk when it is time.
    pub(crate) fn tick(&mut self) {
        if self.broken.is_none()
            && self.due().is_zero()
            && let Err(error) = self.log.commit()
        {
            self.broken = Some(error.to_string());
        }
    }

    /// The last record and head.
    pub(crate) fn close(self) -> Result<(), audit::Error> {
        self.log.close().map(drop)
    }

    /// A connection that was made and waits: `None` lets it carry, else why not.
    pub(crate) fn connection(&mut self, opened: &Opened) -> Option<String> {
        let (kind, host) = match opened.via {
            Via::Listen => (ActionKind::NetListen, "localhost"),
            Via::HostPort => (ActionKind::NetConnect, "localhost"),
            Via::Name | Via::Connect | Via::Socks => (ActionKind::NetConnect, opened.name.as_str()),
        };
        let draft = Action::draft(kind)
            .with("host", host)
            .with("port", opened.port);
        let address = opened.address.to_string();
        let facts = [
            ("host", Fact::Text(host)),
            ("port", Fact::Number(opened.port.into())),
            ("address", Fact::Text(&address)),
            ("id", Fact::Number(opened.id)),
        ];
        let action = match draft.build() {
            Ok(action) => action,
            Err(error) => return Some(error.to_string()),
        };
        let said = Said::of(
            &mut self.network,
            action,
            &self.agent,
            &self.ring,
            &self.labels,
        );
        let said = said.unwrap_or_else(Said::unjudged);
        match self.record(Kind::Connection, kind.name(), &facts, None, &said, None) {
            Some(_) if said.goes() => None,
            Some(_) => Some(said.reason_or("a policy says no")),
            None => Some("it cannot be recorded, so it is not allowed".into()),
        }
    }

    pub(crate) fn closed(&mut self, closed: &Closed) {
        let facts = [
            ("id", Fact::Number(closed.id)),
            ("bytes_out", Fact::Number(closed.up)),
            ("bytes_in", Fact::Number(closed.down)),
            ("ms", Fact::Number(closed.ms)),
        ];
        self.note(Kind::Outcome, "net.closed", &facts);
    }

    pub(crate) fn refused(&mut self, refused: &Refused) {
        let facts = [
            ("host", Fact::Text(&refused.name)),
            ("port", Fact::Number(refused.port.unwrap_or(0).into())),
            ("count", Fact::Number(refused.count)),
            ("why", Fact::Text(&refused.reason)),
        ];
        self.note(Kind::Connection, "net.refused", &facts);
    }

    fn record(
        &mut self,
        kind: Kind,
        action: &str,
        facts: &[(&str, Fact<'_>)],
        args: Option<[u8; 32]>,
        said: &Said,
        pid: Option<i32>,
    ) -> Option<Recorded> {
        self.violation(said);
        match said.verdict {
            Verdict::Allow | Verdict::Audit => self.counts.allowed += 1,
            Verdict::Deny => self.counts.denied += 1,
            Verdict::Escalate => self.counts.held += 1,
        }
        let mut what = audit::Action::new(action).fields(facts);
        if let Some(hmac) = args {
            what = what.args_hmac(hmac);
        }
        let mut entry = Entry::new(kind)
            .agent(&self.agent)
            .ring(&self.ring)
            .run(&self.run)
            .action(what)
            .verdict(said.verdict.name())
            .policy(&self.hash)
            .latency_us(said.took);
        if let Some(rule) = &said.rule {
            entry = entry.rule(rule);
        }
        if let Some(reason) = &said.reason {
            entry = entry.reason(reason);
        }
        if let Some(pid) = pid.and_then(|pid| u32::try_from(pid).ok()) {
            entry = entry.pid(pid);
        }
        if self.broken.is_some() {
            return None;
        }
        match self.log.append(&entry) {
            Ok(recorded) => Some(recorded),
            Err(error) => {
                self.log.missed();
                self.broken = Some(error.to_string());
                None
            }
        }
    }

    /// Whether an agent may cause one more record now.
    fn has_room(&mut self) -> bool {
        let now = Instant::now();
        let passed = now.duration_since(self.since).as_secs_f64();
        self.since = now;
        self.room = (self.room + passed * PACE).min(BURST);
        if self.room < 1.0 {
            self.too_fast = self.too_fast.saturating_add(1);
            return false;
        }
        self.room -= 1.0;
        if self.log.next_seq() >= RECORDS_MAX {
            self.broken = Some(format!("it has {RECORDS_MAX} records"));
            return false;
        }
        if self.too_fast > 0 {
            let count = std::mem::take(&mut self.too_fast);
            self.note(
                Kind::Decision,
                "too-fast",
                &[("count", Fact::Number(count))],
            );
        }
        true
    }

    fn act(&mut self, mut body: Map<String, Value>, pid: Option<i32>) -> Map<String, Value> {
        if !self.has_room() {
            return too_fast();
        }
        for key in OURS {
            body.remove(key);
        }
        let args = body.get("args").map(Value::to_string);
        let hmac = args.map(|args| self.log.args_hmac(args.as_bytes()));
        let texts = ["tool", "path", "host", "program"].map(|name| {
            let text = body.get(name).and_then(Value::as_str);
            (
                name,
                text.map(|text| text.chars().take(FACT_MAX).collect::<String>()),
            )
        });
        let port = body.get("port").and_then(Value::as_u64);
        let action = match Action::from_object(body) {
            Ok(action) => action,
            Err(wrong) => return error("EINVAL", &wrong.to_string()),
        };
        let kind = action.kind();
        let said = Said::of(
            &mut self.actions,
            action,
            &self.agent,
            &self.ring,
            &self.labels,
        );
        let said = said.unwrap_or_else(Said::unjudged);
        let mut facts: Vec<(&str, Fact<'_>)> = texts
            .iter()
            .filter_map(|(name, text)| Some((*name, Fact::Text(text.as_deref()?))))
            .collect();
        facts.extend(port.map(|port| ("port", Fact::Number(port))));
        let Some(recorded) = self.record(Kind::Decision, kind.name(), &facts, hmac, &said, pid)
        else {
            return error("EIO", "it cannot be recorded, so it is not allowed");
        };
        if said.goes() {
            for label in &said.labels {
                // Once is enough, or each action would make the next one dearer.
                if !self.labels.contains(label) {
                    self.labels.push(label.clone());
                }
            }
            self.awaited.insert(recorded.seq());
            if self.awaited.len() > AWAITED_MAX {
                self.awaited.pop_first();
            }
        }
        said.answer(Some((self.log.name(), &recorded)))
    }

    fn done(&mut self, body: &Map<String, Value>) -> Map<String, Value> {
        if !self.has_room() {
            return too_fast();
        }
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
        let facts = [
            ("of", Fact::Number(seq)),
            ("ok", Fact::Flag(ok)),
            ("error", Fact::Text(why)),
        ];
        let facts = if why.is_empty() {
            facts.get(..2)
        } else {
            facts.get(..)
        };
        self.note(Kind::Outcome, "done", facts.unwrap_or_default());
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
            Call::Ready | Call::Heartbeat => fine(),
            Call::Act => self.act(body, pid),
            Call::Done => self.done(&body),
            Call::CheckPolicy => self.check(body),
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
}

/// A decision that borrows nothing.
struct Said {
    verdict: Verdict,
    rule: Option<String>,
    reason: Option<String>,
    labels: Vec<String>,
    retry_after_ms: Option<u64>,
    took: u64,
}

impl Said {
    /// Decides with what only the supervisor can say added.
    fn of(
        bench: &mut Bench,
        action: Action,
        agent: &str,
        ring: &str,
        labels: &[String],
    ) -> Option<Self> {
        let since = Instant::now();
        let action = action.by(agent, ring).at(now_ms()?, labels);
        if bench.engine.policies().next().is_none() {
            // Nothing but agent.yaml itself speaks about it.
            return Some(Self::plain(Verdict::Allow));
        }
        let decision = bench.decide(&action);
        let reason = decision.reason.map(str::to_owned);
        let errors = (!decision.errors.is_empty()).then(|| decision.errors.join("; "));
        Some(Self {
            verdict: decision.verdict,
            rule: decision.rule.map(str::to_owned),
            reason: reason.or(errors),
            labels: decision
                .labels_add
                .iter()
                .map(|label| (*label).to_owned())
                .collect(),
            retry_after_ms: decision.retry_after_ms,
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
            took: 0,
        }
    }

    fn unjudged() -> Self {
        Self {
            reason: Some("the clock of this host cannot be read".into()),
            ..Self::plain(Verdict::Deny)
        }
    }

    fn goes(&self) -> bool {
        matches!(self.verdict, Verdict::Allow | Verdict::Audit)
    }

    fn reason_or(&self, other: &str) -> String {
        let rule = self
            .rule
            .as_ref()
            .map_or(String::new(), |rule| format!(" (rule {rule})"));
        words::escape(&format!(
            "{}{rule}",
            self.reason.as_deref().unwrap_or(other)
        ))
    }

    fn answer(&self, recorded: Option<(&str, &Recorded)>) -> Map<String, Value> {
        let errno = match self.verdict {
            Verdict::Allow | Verdict::Audit => None,
            Verdict::Deny if self.retry_after_ms.is_some() => Some("EAGAIN"),
            Verdict::Deny | Verdict::Escalate => Some("EACCES"),
        };
        let reason = match self.verdict {
            Verdict::Escalate => Some(format!(
                "{}; it needs somebody's approval, and nobody can give it in this version",
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
        object(json!({
            "errno": errno, "verdict": self.verdict.name(), "rule": self.rule, "reason": reason,
            "decision": decision, "retry_after_ms": self.retry_after_ms,
        }))
    }
}

fn too_fast() -> Map<String, Value> {
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

fn object(value: Value) -> Map<String, Value> {
    match value {
        Value::Object(map) => map,
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Array(_) => {
            Map::new()
        }
    }
}

/// Milliseconds since 1970; a clock before that judges nothing.
fn now_ms() -> Option<u64> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).ok()?;
    u64::try_from(now.as_millis()).ok()
}
