//! Decides as [`crate::spec`] does, asking only the rules that could speak.

use std::cmp::Reverse;

use regex_automata::PatternSet;

use crate::index::Index;
use crate::limit::Counters;
use crate::rule::Fit;
use crate::{Action, Combine, Decision, Policy, Rule, Verdict};

/// Documents ready to decide.
#[derive(Debug)]
pub struct Engine {
    documents: Vec<Document>,
}

#[derive(Debug)]
struct Document {
    policy: Policy,
    index: Index,
    specificity: Vec<u64>,
}

/// Memory that decisions use again, so that they need none of their own.
#[derive(Debug)]
pub struct Scratch {
    found: Vec<u32>,
    patterns: PatternSet,
    /// Rules that fit and have a limit or labels: document and rule.
    counting: Vec<(u32, u32)>,
}

/// What one document says.
#[derive(Clone, Copy)]
struct Said<'e> {
    verdict: Verdict,
    policy: &'e Policy,
    rule: Option<&'e Rule>,
}

type Rank = (Reverse<i64>, Reverse<u64>, Reverse<Option<Verdict>>, u32);

impl Document {
    fn new(policy: Policy) -> Self {
        let index = Index::new(&policy.rules);
        let specificity = match policy.combine {
            Combine::MostSpecific => policy.rules.iter().map(Rule::specificity).collect(),
            Combine::DenyOverrides | Combine::FirstMatch | Combine::Priority => Vec::new(),
        };
        Self {
            policy,
            index,
            specificity,
        }
    }

    /// The rule with the least rank speaks.
    fn rank(&self, number: u32, rule: &Rule, verdict: Verdict) -> Rank {
        let (none, plain) = (Reverse(0), Reverse(None));
        match self.policy.combine {
            Combine::DenyOverrides => (none, Reverse(0), Reverse(Some(verdict)), number),
            Combine::FirstMatch => (none, Reverse(0), plain, number),
            Combine::Priority => (Reverse(rule.priority), Reverse(0), plain, number),
            Combine::MostSpecific => {
                let specificity = self.specificity.get(number as usize).copied();
                (
                    none,
                    Reverse(specificity.unwrap_or(0)),
                    Reverse(Some(verdict)),
                    number,
                )
            }
        }
    }

    fn say<'e>(
        &'e self,
        action: &Action,
        own: u32,
        scratch: &mut Scratch,
        errors: &mut Vec<String>,
    ) -> Said<'e> {
        self.index
            .find(action, &mut scratch.found, &mut scratch.patterns);
        let start = scratch.counting.len();
        let mut winner: Option<(Rank, &Rule, Verdict)> = None;
        for found in &scratch.found {
            let (number, ask) = (*found >> 1, *found & 1 == 1);
            let Some(rule) = self.policy.rules.get(number as usize) else {
                continue;
            };
            let fit = if ask { rule.fits(action) } else { Fit::Yes };
            let verdict = match fit {
                Fit::No => continue,
                Fit::Yes => rule.verdict,
                Fit::Denies(what) => {
                    errors.push(format!("{}: {what}", rule.name));
                    Some(Verdict::Deny)
                }
            };
            if rule.limit.is_some() || !rule.labels.is_empty() {
                scratch.counting.push((own, number));
            }
            if let Some(verdict) = verdict {
                let rank = self.rank(number, rule, verdict);
                if winner.as_ref().is_none_or(|(best, ..)| rank < *best) {
                    winner = Some((rank, rule, verdict));
                }
            }
        }
        if self.policy.combine != Combine::DenyOverrides {
            self.keep(
                winner.as_ref().map(|(rank, ..)| rank.3),
                start,
                &mut scratch.counting,
            );
        }
        Said {
            verdict: winner
                .as_ref()
                .map_or(self.policy.default, |(.., verdict)| *verdict),
            policy: &self.policy,
            rule: winner.map(|(_, rule, _)| rule),
        }
    }

    /// A rule without a verdict always counts; another when it speaks.
    fn keep(&self, winner: Option<u32>, start: usize, counting: &mut Vec<(u32, u32)>) {
        let mut at = 0;
        counting.retain(|(_, number)| {
            at += 1;
            let rule = self.policy.rules.get(*number as usize);
            at <= start
                || Some(*number) == winner
                || rule.is_some_and(|rule| rule.verdict.is_none())
        });
    }
}

impl Engine {
    /// Makes documents ready. Every one of them has to let an action go ahead.
    #[must_use]
    pub fn new(policies: Vec<Policy>) -> Self {
        Self {
            documents: policies
                .into_iter()
                .flat_map(Policy::parts)
                .map(Document::new)
                .collect(),
        }
    }

    /// Its documents.
    pub fn policies(&self) -> impl Iterator<Item = &Policy> {
        self.documents.iter().map(|document| &document.policy)
    }

    /// Memory for its decisions.
    #[must_use]
    pub fn scratch(&self) -> Scratch {
        let most = self
            .documents
            .iter()
            .map(|document| document.index.patterns)
            .max();
        Scratch {
            found: Vec::with_capacity(64),
            patterns: PatternSet::new(most.unwrap_or(0)),
            counting: Vec::with_capacity(16),
        }
    }

    /// Decides. `scratch` is this engine's own.
    pub fn decide<'e>(
        &'e self,
        action: &Action,
        counters: &mut dyn Counters,
        scratch: &mut Scratch,
    ) -> Decision<'e> {
        scratch.counting.clear();
        let mut errors = Vec::new();
        let mut strictest: Option<Said> = None;
        for (document, own) in self.documents.iter().zip(0..) {
            let said = document.say(action, own, scratch, &mut errors);
            let rank = |said: &Said| (Reverse(said.verdict), said.rule.is_none());
            if strictest.is_none_or(|best| rank(&said) < rank(&best)) {
                strictest = Some(said);
            }
        }
        let rule = strictest.and_then(|said| said.rule);
        let verdict = strictest.map_or(Verdict::Deny, |said| said.verdict);
        let mut decision = Decision::by(verdict, strictest.map(|said| said.policy), rule);
        decision.errors = errors;
        if decision.verdict != Verdict::Deny && !scratch.counting.is_empty() {
            self.count(action, counters, &scratch.counting, &mut decision);
        }
        decision
    }

    /// Limits may still deny; when none does, each is taken from.
    fn count<'e>(
        &'e self,
        action: &Action,
        counters: &mut dyn Counters,
        counting: &[(u32, u32)],
        decision: &mut Decision<'e>,
    ) {
        let rules = || {
            counting.iter().filter_map(|(document, rule)| {
                let policy = &self.documents.get(*document as usize)?.policy;
                Some((policy, policy.rules.get(*rule as usize)?))
            })
        };
        let agent = action.agent().unwrap_or("");
        let mut longest = 0;
        for (policy, rule) in rules() {
            let Some(limit) = rule.limit else { continue };
            // Without a time nothing can be let through.
            let wait = action
                .time()
                .map_or(u64::MAX, |now| counters.wait(&limit, agent, now));
            if wait > longest {
                longest = wait;
                let errors = std::mem::take(&mut decision.errors);
                *decision = Decision {
                    errors,
                    ..Decision::limited(policy, rule, wait)
                };
            }
        }
        if longest > 0 {
            return;
        }
        for (_, rule) in rules() {
            if let (Some(limit), Some(now)) = (rule.limit, action.time()) {
                counters.take(&limit, agent, now);
            }
            decision
                .labels_add
                .extend(rule.labels.iter().map(|label| &**label));
        }
    }
}
