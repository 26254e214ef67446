//! Decides what an agent asks to do, and records it before it is answered.
//!
//! What is decided is held against the site's policies, the ring's and the agent's own; each must let it
//! go ahead. A log that cannot be written denies from then on, and ends the run.

mod calls;
mod conduct;
mod held;
mod lift;
mod said;

use std::collections::BTreeSet;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use audit::{Entry, Kind, Log, Recorded, Value as Fact};
use egress::wire::{Closed, Opened, Refused, Via};
use policy::{Action, ActionKind, Counters, Decision, Engine, Limits, Policy, Scratch, Verdict};
use rustix::event::PollFd;
use serde_json::{Map, Value, json};

use crate::approvals::Question;
use crate::signal::Signal;
pub(crate) use conduct::{Budget, Conduct, Raised};
use held::People;
pub(crate) use lift::Lift;
use said::Said;

use super::Parent;
use super::clock::WallClock;
use super::policies::Loaded;
use super::relay;
use super::workers::Workers;

/// Actions whose outcome is awaited; the oldest are forgotten first.
const AWAITED_MAX: usize = 4096;
/// Bytes of log a second that an agent can cause at its door, and how many at once: what is asked faster is
/// not decided, and so not recorded, but counted. Bytes are what fills a disk; a program that asks much for a
/// moment is not held up for it. Whoever fuzzes it wants to get past that.
const PACE: f64 = if cfg!(fuzzing) {
    f64::MAX
} else {
    128.0 * 1024.0
};
const BURST: f64 = if cfg!(fuzzing) {
    f64::MAX
} else {
    16.0 * 1024.0 * 1024.0
};
/// A call that leaves less than this, or nothing, counts as much: it takes time all the same.
const CALL_LEAST: u64 = 512;
/// Records of one run; then it is ended, as with a log that cannot be written.
const RECORDS_MAX: u64 = 2_000_000;
/// Characters of one fact that come from an agent.
const FACT_MAX: usize = 512;
/// Events that wait for somebody who reads them; the oldest are forgotten first.
const EVENTS_MAX: usize = 64;

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
    /// The workspace: agents of one name in two folders are two.
    place: String,
    actions: Bench,
    /// Of these only documents that say anything about the network: the others leave it to
    /// `network.allow`.
    network: Bench,
    hash: String,
    /// The hash of those that hold in every ring of the agent.
    shared: String,
    /// The run whose agent asked for this one.
    of: Option<String>,
    labels: Vec<String>,
    log: Log,
    broken: Option<String>,
    awaited: BTreeSet<u64>,
    conduct: Conduct,
    /// What the loop has yet to do.
    raised: Vec<Raised>,
    /// What the agent has yet to be told, and the signals of which it wants to hear later.
    events: Vec<(Signal, Map<String, Value>)>,
    masked: BTreeSet<Signal>,
    /// Held since the loop last looked.
    asks: Vec<Question>,
    people: People,
    lift: Lift,
    workers: Workers,
    /// It was told to end: nothing new begins.
    closing: bool,
    /// It stands still: nothing is carried for it.
    frozen: bool,
    /// Bytes of log that may still be caused now, and since when that is so. The last record may go below.
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
    clock: WallClock,
    /// Whether limits are counted here.
    counts: bool,
}

impl Bench {
    fn new(policies: Vec<Policy>, counts: bool) -> Self {
        let engine = Engine::new(policies);
        let scratch = engine.scratch();
        Self {
            engine,
            scratch,
            limits: Limits::default(),
            clock: WallClock::default(),
            counts,
        }
    }

    /// Now, for the rules; limits go with a clock that was set.
    fn now(&mut self) -> Option<u64> {
        let now = now_ms()?;
        match self.clock.jump(now, relay::now()) {
            0 => {}
            by => self.limits.shift(by),
        }
        Some(now)
    }

    fn decide(&mut self, action: &Action) -> Decision<'_> {
        let counters: &mut dyn Counters = if self.counts {
            &mut self.limits
        } else {
            &mut Elsewhere
        };
        self.engine.decide(action, counters, &mut self.scratch)
    }
}

/// For a command of an agent: what is limited is the agent's to do, where it is counted.
struct Elsewhere;

impl Counters for Elsewhere {
    fn wait(&self, _limit: &policy::Limit, _agent: &str, _now: u64) -> u64 {
        60_000
    }

    fn take(&mut self, _limit: &policy::Limit, _agent: &str, _now: u64) {}
}

/// Who is governed.
pub(crate) struct Subject {
    pub(crate) agent: String,
    pub(crate) ring: String,
    pub(crate) run: String,
    pub(crate) place: String,
    pub(crate) conduct: Conduct,
    pub(crate) lift: Lift,
    pub(crate) of: Option<Parent>,
}

impl Governor {
    pub(crate) fn new(subject: Subject, loaded: Loaded, log: Log) -> Self {
        let (network, actions) = benches(loaded.policies, subject.of.is_none());
        Self {
            agent: subject.agent,
            ring: subject.ring,
            run: subject.run,
            place: subject.place,
            network,
            actions,
            hash: loaded.hash,
            shared: loaded.shared,
            of: subject.of.as_ref().map(|of| of.run.clone()),
            labels: subject.of.map(|of| of.labels).unwrap_or_default(),
            log,
            broken: None,
            awaited: BTreeSet::new(),
            conduct: subject.conduct,
            raised: Vec::new(),
            events: Vec::new(),
            masked: BTreeSet::new(),
            asks: Vec::new(),
            people: People::default(),
            lift: subject.lift,
            workers: Workers::default(),
            closing: false,
            frozen: false,
            room: BURST,
            since: Instant::now(),
            too_fast: 0,
            counts: Counts::default(),
        }
    }

    /// Goes on with other policies; counts of limits begin anew.
    pub(crate) fn reload(&mut self, loaded: Loaded) {
        (self.network, self.actions) = benches(loaded.policies, self.of.is_none());
        self.hash = loaded.hash;
        if self.shared != loaded.shared {
            // They are held to the others.
            self.end_workers();
        }
        self.shared = loaded.shared;
        let count = self.actions.engine.policies().count();
        let facts = [("policies", Fact::Number(u64::try_from(count).unwrap_or(0)))];
        self.note(Kind::Signal, "reload", &facts);
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

    /// A denial by a policy; one by a limit is not held against the agent.
    fn violation(&mut self, said: &Said) {
        if said.verdict == Verdict::Deny
            && said.retry_after_ms.is_none()
            && let Some(raised) = self.conduct.denied(Instant::now())
        {
            self.raise(raised, "supervisor");
        }
    }

    /// A signal that follows from what the agent does; the loop carries it out.
    fn raise(&mut self, raised: Raised, source: &str) {
        self.signal(raised.signal, source, &raised.reason);
        self.raised.push(raised);
    }

    /// Records a signal and tells the agent. Neither keeps anybody from carrying it out.
    pub(crate) fn signal(&mut self, signal: Signal, source: &str, reason: &str) {
        let facts = [
            ("number", Fact::Number(signal.number().into())),
            ("source", Fact::Text(source)),
            ("reason", Fact::Text(reason)),
        ];
        self.note(Kind::Signal, signal.name(), &facts);
        let event = json!({"signal": signal.name(), "number": signal.number(), "source": source, "reason": reason});
        // Of one that is masked, one is kept.
        let masked = self.masked.contains(&signal);
        if masked && self.events.iter().any(|(waits, _)| *waits == signal) {
            return;
        }
        self.events.push((signal, object(event)));
        if self.events.len() > EVENTS_MAX {
            self.events.remove(0);
        }
    }

    /// A violation that somebody else saw.
    pub(crate) fn accused(&mut self) {
        if let Some(raised) = self.conduct.denied(Instant::now()) {
            self.raise(raised, "supervisor");
        }
    }

    /// What is to be carried out.
    pub(crate) fn take_raised(&mut self) -> Vec<Raised> {
        std::mem::take(&mut self.raised)
    }

    /// What began to wait for a person.
    pub(crate) fn take_asks(&mut self) -> Vec<Question> {
        std::mem::take(&mut self.asks)
    }

    /// From now on nothing new begins.
    pub(crate) fn close_door(&mut self) {
        self.closing = true;
    }

    /// Whether an action that went ahead has not told its outcome.
    pub(crate) fn is_busy(&self) -> bool {
        !self.awaited.is_empty()
    }

    /// Nothing is carried for it, and its workers end: rights are not kept for who stands still.
    pub(crate) fn freeze(&mut self) {
        self.frozen = true;
        self.end_workers();
    }

    /// Whether it stands still.
    pub(crate) const fn is_frozen(&self) -> bool {
        self.frozen
    }

    /// Its workers end with it.
    pub(crate) fn end_workers(&mut self) {
        let count = self.workers.kill();
        if count > 0 {
            let facts = [("count", Fact::Number(u64::try_from(count).unwrap_or(0)))];
            self.note(Kind::Kill, "workers", &facts);
        }
    }

    /// What its workers wrote, and those that ended.
    pub(crate) fn look_after_workers(&mut self) {
        for (id, code, lasted) in self.workers.step() {
            let facts = [
                ("worker", Fact::Text(&id)),
                (
                    "exit_code",
                    Fact::Number(u64::try_from(code).unwrap_or(u64::MAX)),
                ),
                (
                    "ms",
                    Fact::Number(u64::try_from(lasted.as_millis()).unwrap_or(u64::MAX)),
                ),
            ];
            self.note(Kind::Outcome, "worker", &facts);
        }
    }

    /// Its workers' outputs.
    pub(crate) fn polls(&self) -> Vec<PollFd<'_>> {
        self.workers.polls()
    }

    /// Somebody said go.
    pub(crate) fn thaw(&mut self) {
        self.frozen = false;
        self.conduct.forgive();
    }

    /// As `ps` shows it.
    pub(crate) fn state(&self) -> Value {
        let Counts {
            allowed,
            denied,
            held,
        } = self.counts;
        json!({
            "run": self.run, "of": self.of, "agent": self.agent, "ring": self.ring,
            "workspace": self.place, "frozen": self.frozen, "closing": self.closing, "policy": self.hash,
            "decisions": {"allowed": allowed, "denied": denied, "held": held},
            "busy": self.awaited.len(),
        })
    }

    /// When [`Self::tick`] is due.
    pub(crate) fn due(&self) -> Duration {
        let log = self.log.due().saturating_duration_since(Instant::now());
        self.workers.due().map_or(log, |due| due.min(log))
    }

    /// Brings what was written to disk when it is time.
    pub(crate) fn tick(&mut self) {
        if self.broken.is_none()
            && self.log.due() <= Instant::now()
            && let Err(error) = self.log.commit()
        {
            self.broken = Some(error.to_string());
        }
    }

    /// Signs the head of what there is.
    pub(crate) fn sign(&mut self) {
        if self.broken.is_none()
            && let Err(error) = self.log.checkpoint()
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
        if self.frozen || self.closing {
            return Some("the agent is stopped".into());
        }
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

    /// Answers unless the agent caused too much lately, and holds what this causes against it.
    fn paced(
        &mut self,
        answer: impl FnOnce(&mut Self) -> Map<String, Value>,
    ) -> Map<String, Value> {
        let now = Instant::now();
        let passed = now.duration_since(self.since).as_secs_f64();
        self.since = now;
        self.room = (self.room + passed * PACE).min(BURST);
        if self.room <= 0.0 {
            self.too_fast = self.too_fast.saturating_add(1);
            return calls::too_fast();
        }
        if self.log.next_seq() >= RECORDS_MAX {
            self.broken = Some(format!("it has {RECORDS_MAX} records"));
            return calls::too_fast();
        }
        let before = self.log.bytes_written();
        if self.too_fast > 0 {
            let count = std::mem::take(&mut self.too_fast);
            self.note(
                Kind::Decision,
                "too-fast",
                &[("count", Fact::Number(count))],
            );
        }
        let answer = answer(self);
        let caused = self.log.bytes_written().saturating_sub(before);
        self.room -= caused.max(CALL_LEAST) as f64;
        answer
    }
}

/// Policies that speak about the network, and all of them.
fn benches(policies: Vec<Policy>, counts: bool) -> (Bench, Bench) {
    let about_network = |policy: &Policy| {
        let kinds = [ActionKind::NetConnect, ActionKind::NetListen];
        let mut rules = policy.rules.iter();
        rules.any(|rule| kinds.iter().any(|kind| rule.kinds.contains(*kind)))
    };
    let network = policies.iter().filter(|policy| about_network(policy));
    (
        Bench::new(network.cloned().collect(), counts),
        Bench::new(policies, counts),
    )
}

pub(super) fn object(value: Value) -> Map<String, Value> {
    match value {
        Value::Object(map) => map,
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Array(_) => {
            Map::new()
        }
    }
}

/// Milliseconds since 1970; a clock before that judges nothing.
pub(crate) fn now_ms() -> Option<u64> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).ok()?;
    u64::try_from(now.as_millis()).ok()
}
