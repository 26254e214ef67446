//! What an agent's conduct adds up to: denials, repetitions, budgets. Pure: the time is an input.

use std::collections::{HashMap, VecDeque};
use std::time::{Duration, Instant};

use profiles::{Milliseconds, Reaction, Ring, Stop};

use crate::signal::Signal;

/// One action five times in a minute is a loop, unless somebody says otherwise (DESIGN section 12).
const LOOP: Reaction = Reaction {
    count: 5,
    within: Milliseconds(60_000),
    stop: Stop::Freeze,
};
/// Different actions that are remembered at once; who asks more of them is in no loop.
const SEEN_MAX: usize = 1024;

/// Attempts to get more rights are scored over this time, from so many on, and freeze from such a score on:
/// one may be a mistake, and says nothing about how fast more would come.
const BREACH_WITHIN: Milliseconds = Milliseconds(60_000);
const BREACH_SAMPLE: u64 = 5;
const BREACH_FREEZES: u64 = 20;

/// An attempt to get more rights than agent.yaml gives.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Breach {
    /// So many within a minute.
    pub(crate) attempts: u64,
    /// Attempts times rings, once there are enough of them.
    pub(crate) score: Option<u64>,
    pub(crate) raised: Option<Raised>,
}

/// A signal that follows from what the agent did, and what it does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Raised {
    pub(crate) signal: Signal,
    pub(crate) stop: Stop,
    pub(crate) reason: String,
}

/// How much may be spent; `None` is without end.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Budget {
    pub(crate) calls: Option<u64>,
    pub(crate) tokens: Option<u64>,
    /// Millionths.
    pub(crate) cost: Option<u64>,
}

impl Budget {
    pub(crate) fn of(ring: &Ring) -> Self {
        Self {
            calls: ring.calls.as_ref().map(|limit| limit.value),
            tokens: ring.tokens.as_ref().map(|limit| limit.value),
            cost: ring.cost.as_ref().map(|limit| limit.value.0),
        }
    }
}

/// What was spent since somebody last said go.
#[derive(Clone, Copy, Debug, Default)]
struct Spent {
    calls: u64,
    tokens: u64,
    cost: u64,
}

/// The book that is kept of one agent.
#[derive(Debug)]
pub(crate) struct Conduct {
    on_violation: Option<Reaction>,
    on_loop: Reaction,
    budget: Budget,
    spent: Spent,
    violations: VecDeque<Instant>,
    breaches: VecDeque<Instant>,
    seen: HashMap<[u8; 32], VecDeque<Instant>>,
}

impl Conduct {
    pub(crate) fn new(
        on_violation: Option<Reaction>,
        on_loop: Option<Reaction>,
        budget: Budget,
    ) -> Self {
        Self {
            on_violation,
            on_loop: on_loop.unwrap_or(LOOP),
            budget,
            spent: Spent::default(),
            violations: VecDeque::new(),
            breaches: VecDeque::new(),
            seen: HashMap::new(),
        }
    }

    /// A policy denied something.
    pub(crate) fn denied(&mut self, now: Instant) -> Option<Raised> {
        let wanted = self.on_violation?;
        if !reached(&mut self.violations, wanted, now) {
            return None;
        }
        self.violations.clear();
        let within = within(wanted);
        Some(Raised {
            signal: Signal::Policy,
            stop: wanted.stop,
            reason: format!(
                "{} of its actions were denied within {within}",
                wanted.count
            ),
        })
    }

    /// It asked for a ring so many above its own, and must not have it.
    pub(crate) fn over_ring(&mut self, rings: u8, now: Instant) -> Breach {
        let wanted = Reaction {
            count: BREACH_SAMPLE,
            within: BREACH_WITHIN,
            stop: Stop::Freeze,
        };
        let enough = reached(&mut self.breaches, wanted, now);
        let attempts = u64::try_from(self.breaches.len()).unwrap_or(u64::MAX);
        let score = enough.then(|| attempts.saturating_mul(rings.max(1).into()));
        let freezes = score.is_some_and(|score| score >= BREACH_FREEZES);
        let raised = freezes.then(|| Raised {
            signal: Signal::Policy,
            stop: wanted.stop,
            reason: format!(
                "it tried {attempts} times within {} to get a ring of more rights",
                within(wanted)
            ),
        });
        if raised.is_some() {
            self.breaches.clear();
        }
        Breach {
            attempts,
            score,
            raised,
        }
    }

    /// A call with this digest is asked for.
    pub(crate) fn asked(&mut self, digest: [u8; 32], now: Instant) -> Option<Raised> {
        let wanted = self.on_loop;
        if self.seen.len() >= SEEN_MAX && !self.seen.contains_key(&digest) {
            let fresh = |times: &VecDeque<Instant>| {
                let last = times.back();
                last.is_some_and(|last| now.duration_since(*last) <= Duration::from(wanted.within))
            };
            self.seen.retain(|_, times| fresh(times));
            if self.seen.len() >= SEEN_MAX {
                self.seen.clear();
            }
        }
        let times = self.seen.entry(digest).or_default();
        if !reached(times, wanted, now) {
            return None;
        }
        self.seen.remove(&digest);
        Some(Raised {
            signal: Signal::Loop,
            stop: wanted.stop,
            reason: format!(
                "it asked for one and the same call {} times within {}",
                wanted.count,
                within(wanted)
            ),
        })
    }

    /// Whether one more call is within the budget.
    pub(crate) fn afford(&self) -> Option<Raised> {
        let over = |spent: u64, most: Option<u64>| most.is_some_and(|most| spent >= most);
        let what = if over(self.spent.calls, self.budget.calls) {
            "calls"
        } else if over(self.spent.tokens, self.budget.tokens) {
            "tokens"
        } else if over(self.spent.cost, self.budget.cost) {
            "cost"
        } else {
            return None;
        };
        Some(Raised {
            signal: Signal::Budget,
            stop: Stop::Freeze,
            reason: format!("its budget of {what} (`limits.{what}`) is used up"),
        })
    }

    /// A call goes ahead.
    pub(crate) fn called(&mut self) {
        self.spent.calls = self.spent.calls.saturating_add(1);
    }

    /// It says what a call took. Only what it says itself is known: nothing is subtracted.
    pub(crate) fn reported(&mut self, tokens: u64, cost: u64) -> Option<Raised> {
        let afforded = self.afford().is_none();
        self.spent.tokens = self.spent.tokens.saturating_add(tokens);
        self.spent.cost = self.spent.cost.saturating_add(cost);
        self.afford().filter(|_| afforded)
    }

    /// Somebody said go: what led here is forgiven, and the budget begins anew.
    pub(crate) fn forgive(&mut self) {
        self.spent = Spent::default();
        self.violations.clear();
        self.breaches.clear();
        self.seen.clear();
    }
}

/// Notes that it happened again; whether that is as often as is waited for.
fn reached(times: &mut VecDeque<Instant>, wanted: Reaction, now: Instant) -> bool {
    times.push_back(now);
    let within = Duration::from(wanted.within);
    let old = |first: &Instant| now.duration_since(*first) > within;
    while times.front().is_some_and(old) {
        times.pop_front();
    }
    u64::try_from(times.len()).unwrap_or(u64::MAX) >= wanted.count
}

fn within(wanted: Reaction) -> String {
    crate::words::duration(wanted.within.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_loop_is_one_action_often_enough_in_time() {
        let mut conduct = Conduct::new(None, None, Budget::default());
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        for second in 0..4 {
            assert_eq!(conduct.asked([1; 32], at(second)), None);
            assert_eq!(
                conduct.asked([u8::try_from(second).unwrap() + 2; 32], at(second)),
                None
            );
        }
        let raised = conduct.asked([1; 32], at(59)).unwrap();
        assert_eq!((raised.signal, raised.stop), (Signal::Loop, Stop::Freeze));
        // Forgotten then, and slowly enough it is none.
        for second in 0..20 {
            assert_eq!(conduct.asked([1; 32], at(100 + second * 16)), None);
        }
    }

    #[test]
    fn attempts_to_get_more_are_scored_when_there_are_enough() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut conduct = Conduct::new(None, None, Budget::default());
        for second in 0..4 {
            assert_eq!(conduct.over_ring(3, at(second)).score, None);
        }
        let fifth = conduct.over_ring(1, at(4));
        assert_eq!(
            (fifth.attempts, fifth.score, fifth.raised),
            (5, Some(5), None)
        );
        let sixth = conduct.over_ring(3, at(5));
        assert_eq!((sixth.score, sixth.raised), (Some(18), None));
        let seventh = conduct.over_ring(3, at(6)).raised.unwrap();
        assert_eq!(
            (seventh.signal, seventh.stop),
            (Signal::Policy, Stop::Freeze)
        );
        // Slowly enough, each stays one attempt.
        for minute in 2..60 {
            assert_eq!(conduct.over_ring(3, at(minute * 61)).score, None);
        }
    }

    #[test]
    fn a_budget_holds_until_somebody_says_go() {
        let budget = Budget {
            calls: Some(2),
            tokens: Some(10),
            cost: None,
        };
        let mut conduct = Conduct::new(None, None, budget);
        conduct.called();
        assert_eq!(conduct.reported(9, u64::MAX), None);
        assert!(conduct.reported(1, 0).unwrap().reason.contains("tokens"));
        // Said once; asked for, each time.
        assert_eq!(conduct.reported(1, 0), None);
        assert!(conduct.afford().is_some());
        conduct.forgive();
        assert_eq!(conduct.afford(), None);
        conduct.called();
        conduct.called();
        assert!(conduct.afford().unwrap().reason.contains("limits.calls"));
    }

    #[test]
    fn many_different_actions_take_no_memory_and_are_no_loop() {
        let mut conduct = Conduct::new(None, None, Budget::default());
        let now = Instant::now();
        for number in 0..10_000_u64 {
            let mut digest = [0; 32];
            digest[..8].copy_from_slice(&number.to_le_bytes());
            assert_eq!(conduct.asked(digest, now), None);
            assert!(conduct.seen.len() <= SEEN_MAX);
        }
    }
}
