//! What a record says. It borrows all of it, so that appending allocates nothing.

/// What happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// The log was opened.
    Open,
    /// An agent was launched.
    Launch,
    /// Something was allowed or denied.
    Decision,
    /// What came of a decision.
    Outcome,
    /// A connection began or ended.
    Connection,
    /// A governance signal.
    Signal,
    /// A person's word on a held action.
    Approval,
    /// An agent was killed.
    Kill,
    /// An agent ended.
    Ended,
    /// Records are missing here, and why.
    Gap,
    /// The head was signed after this.
    Checkpoint,
    /// The log was closed.
    Close,
}

impl Kind {
    pub(crate) const ALL: [Self; 12] = [
        Self::Open,
        Self::Launch,
        Self::Decision,
        Self::Outcome,
        Self::Connection,
        Self::Signal,
        Self::Approval,
        Self::Kill,
        Self::Ended,
        Self::Gap,
        Self::Checkpoint,
        Self::Close,
    ];

    /// As it is written.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::Launch => "launch",
            Self::Decision => "decision",
            Self::Outcome => "outcome",
            Self::Connection => "connection",
            Self::Signal => "signal",
            Self::Approval => "approval",
            Self::Kill => "kill",
            Self::Ended => "ended",
            Self::Gap => "gap",
            Self::Checkpoint => "checkpoint",
            Self::Close => "close",
        }
    }

    /// The kind of this name.
    #[must_use]
    pub fn parse(name: &[u8]) -> Option<Self> {
        let mut all = Self::ALL.into_iter();
        all.find(|kind| kind.name().as_bytes() == name)
    }

    /// What may use the space that is kept for the end: it allows nothing.
    pub(crate) const fn closing(self) -> bool {
        match self {
            Self::Signal
            | Self::Kill
            | Self::Ended
            | Self::Gap
            | Self::Checkpoint
            | Self::Close => true,
            Self::Open
            | Self::Launch
            | Self::Decision
            | Self::Outcome
            | Self::Connection
            | Self::Approval => false,
        }
    }
}

/// A value of an action or a counter.
#[derive(Clone, Copy, Debug)]
pub enum Value<'a> {
    /// Text.
    Text(&'a str),
    /// Bytes that are meant to be text: a path, an argument.
    Bytes(&'a [u8]),
    /// A number.
    Number(u64),
    /// Yes or no.
    Flag(bool),
    /// Several texts.
    List(&'a [&'a str]),
}

/// What was attempted: its kind, its facts, and its arguments as an HMAC.
#[derive(Clone, Copy, Debug)]
pub struct Action<'a> {
    pub(crate) kind: &'a str,
    pub(crate) fields: &'a [(&'a str, Value<'a>)],
    pub(crate) args_hmac: Option<[u8; 32]>,
}

impl<'a> Action<'a> {
    /// An action of this kind.
    #[must_use]
    pub const fn new(kind: &'a str) -> Self {
        Self {
            kind,
            fields: &[],
            args_hmac: None,
        }
    }

    /// Its facts, in the order in which they are written. At most 64 are.
    #[must_use]
    pub const fn fields(mut self, fields: &'a [(&'a str, Value<'a>)]) -> Self {
        self.fields = fields;
        self
    }

    /// Its arguments, by [`Log::args_hmac`](crate::Log::args_hmac).
    #[must_use]
    pub const fn args_hmac(mut self, hmac: [u8; 32]) -> Self {
        self.args_hmac = Some(hmac);
        self
    }
}

/// A record to be.
#[derive(Clone, Copy, Debug)]
#[must_use]
pub struct Entry<'a> {
    pub(crate) kind: Kind,
    pub(crate) agent: Option<&'a str>,
    pub(crate) ring: Option<&'a str>,
    pub(crate) run: Option<&'a str>,
    pub(crate) pid: Option<u32>,
    pub(crate) exe: Option<&'a [u8]>,
    pub(crate) session: Option<&'a str>,
    pub(crate) action: Option<Action<'a>>,
    pub(crate) verdict: Option<&'a str>,
    pub(crate) rule: Option<&'a str>,
    pub(crate) reason: Option<&'a str>,
    pub(crate) policy: Option<&'a str>,
    pub(crate) counters: &'a [(&'a str, u64)],
    pub(crate) latency_us: Option<u64>,
}

impl<'a> Entry<'a> {
    /// An entry of this kind that says nothing yet.
    pub const fn new(kind: Kind) -> Self {
        Self {
            kind,
            agent: None,
            ring: None,
            run: None,
            pid: None,
            exe: None,
            session: None,
            action: None,
            verdict: None,
            rule: None,
            reason: None,
            policy: None,
            counters: &[],
            latency_us: None,
        }
    }

    /// The name of the agent.
    pub const fn agent(mut self, agent: &'a str) -> Self {
        self.agent = Some(agent);
        self
    }

    /// Its ring.
    pub const fn ring(mut self, ring: &'a str) -> Self {
        self.ring = Some(ring);
        self
    }

    /// The run.
    pub const fn run(mut self, run: &'a str) -> Self {
        self.run = Some(run);
        self
    }

    /// Its process, as the host numbers it.
    pub const fn pid(mut self, pid: u32) -> Self {
        self.pid = Some(pid);
        self
    }

    /// The program of that process.
    pub const fn exe(mut self, exe: &'a [u8]) -> Self {
        self.exe = Some(exe);
        self
    }

    /// Its session.
    pub const fn session(mut self, session: &'a str) -> Self {
        self.session = Some(session);
        self
    }

    /// What was attempted.
    pub const fn action(mut self, action: Action<'a>) -> Self {
        self.action = Some(action);
        self
    }

    /// What was decided.
    pub const fn verdict(mut self, verdict: &'a str) -> Self {
        self.verdict = Some(verdict);
        self
    }

    /// The rule that decided.
    pub const fn rule(mut self, rule: &'a str) -> Self {
        self.rule = Some(rule);
        self
    }

    /// Why, in words.
    pub const fn reason(mut self, reason: &'a str) -> Self {
        self.reason = Some(reason);
        self
    }

    /// The hash of the policy in force.
    pub const fn policy(mut self, policy: &'a str) -> Self {
        self.policy = Some(policy);
        self
    }

    /// The counters as they stood. At most 64 are written.
    pub const fn counters(mut self, counters: &'a [(&'a str, u64)]) -> Self {
        self.counters = counters;
        self
    }

    /// How long it took to decide.
    pub const fn latency_us(mut self, latency_us: u64) -> Self {
        self.latency_us = Some(latency_us);
        self
    }
}
