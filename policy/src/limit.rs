//! How often: a bucket of tokens for each rule and agent, with time as an input.

use std::hash::{DefaultHasher, Hash, Hasher};

use hashbrown::HashMap;

/// So many at once, so many in a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limit {
    /// Which buckets are its own.
    pub(crate) id: u64,
    /// Microseconds until one more is let through.
    pub(crate) interval: u64,
    /// How many at once.
    pub(crate) burst: u32,
}

impl Limit {
    /// `count` in `unit` milliseconds, `burst` at once; `owner` is whose buckets they are.
    #[must_use]
    pub(crate) fn new(count: u32, unit: u64, burst: u32, owner: &[&str]) -> Option<Self> {
        let interval = unit.checked_mul(1_000)?.checked_div(u64::from(count))?;
        // Its seed is fixed: a policy that is loaded again finds its buckets as they were.
        let mut hasher = DefaultHasher::new();
        owner.hash(&mut hasher);
        (interval > 0 && burst > 0).then_some(Self {
            id: hasher.finish(),
            interval,
            burst,
        })
    }

    /// Reads `20/h`; the count and the unit's milliseconds.
    #[must_use]
    pub(crate) fn rate(text: &str) -> Option<(u32, u64)> {
        let (count, unit) = text.split_once('/')?;
        let unit = match unit.trim() {
            "s" | "second" => 1_000,
            "m" | "minute" => 60_000,
            "h" | "hour" => 3_600_000,
            "d" | "day" => 86_400_000,
            _ => return None,
        };
        let digits = count.trim();
        if !digits.bytes().all(|b| b.is_ascii_digit()) {
            return None;
        }
        let count = digits.parse().ok()?;
        (1..=1_000_000).contains(&count).then_some((count, unit))
    }
}

/// The state of limits, which the decision only asks and tells.
pub trait Counters {
    /// Milliseconds until this agent may under this limit; 0 when it may now.
    fn wait(&self, limit: &Limit, agent: &str, now: u64) -> u64;
    /// Takes one.
    fn take(&mut self, limit: &Limit, agent: &str, now: u64);
}

/// More buckets than agents and limits of any host; beyond it every new one waits.
const BUCKETS_MAX: usize = 65_536;

/// Limits in memory. For each bucket the time at which it is full again, in microseconds: all that
/// a bucket of tokens has to remember.
#[derive(Clone, Debug, Default)]
pub struct Limits {
    full_at: HashMap<u64, HashMap<Box<str>, u64>>,
    buckets: usize,
}

impl Counters for Limits {
    fn wait(&self, limit: &Limit, agent: &str, now: u64) -> u64 {
        let now = now.saturating_mul(1_000);
        let room = limit.interval.saturating_mul(u64::from(limit.burst) - 1);
        match self.full_at.get(&limit.id).and_then(|of| of.get(agent)) {
            Some(full_at) => full_at
                .saturating_sub(now.saturating_add(room))
                .div_ceil(1_000),
            None if self.buckets >= BUCKETS_MAX && !self.has_room(now) => 1_000,
            None => 0,
        }
    }

    fn take(&mut self, limit: &Limit, agent: &str, now: u64) {
        let now = now.saturating_mul(1_000);
        if self.buckets >= BUCKETS_MAX {
            self.forget(now);
        }
        let of = self.full_at.entry(limit.id).or_default();
        if let Some(full_at) = of.get_mut(agent) {
            *full_at = (*full_at).max(now).saturating_add(limit.interval);
            return;
        }
        of.insert(agent.into(), now.saturating_add(limit.interval));
        self.buckets += 1;
    }
}

impl Limits {
    /// The wall clock was set: by so many milliseconds, and every bucket goes with it. Else a limit would hold
    /// for as long as a clock was put back, or be forgotten when it is put forward.
    pub fn shift(&mut self, by: i64) {
        let by = by.saturating_mul(1_000);
        for full_at in self.full_at.values_mut().flat_map(HashMap::values_mut) {
            *full_at = full_at.saturating_add_signed(by);
        }
    }

    fn has_room(&self, now: u64) -> bool {
        let mut all = self.full_at.values().flat_map(HashMap::values);
        all.any(|full_at| *full_at <= now)
    }

    /// A full bucket is as good as none.
    fn forget(&mut self, now: u64) {
        for of in self.full_at.values_mut() {
            of.retain(|_, full_at| *full_at > now);
        }
        self.full_at.retain(|_, of| !of.is_empty());
        self.buckets = self.full_at.values().map(HashMap::len).sum();
    }
}
