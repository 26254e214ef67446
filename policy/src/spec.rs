//! The specification of a decision: every rule is asked, in the plainest way. What decides in
//! earnest ([`crate::Engine`]) is held to this by tests, on generated policies and actions.

use std::cmp::Reverse;

use crate::limit::Counters;
use crate::rule::Fit;
use crate::{Action, Combine, Decision, Policy, Rule, Verdict};

/// What one document says.
struct Said<'p> {
    policy: &'p Policy,
    verdict: Verdict,
    rule: Option<&'p Rule>,
    /// The rules whose limits and labels count.
    count: Vec<(&'p Policy, &'p Rule)>,
}

fn say<'p>(policy: &'p Policy, action: &Action, errors: &mut Vec<String>) -> Said<'p> {
    let mut fit: Vec<(usize, &Rule, Option<Verdict>)> = Vec::new();
    for (index, rule) in policy.rules.iter().enumerate() {
        match rule.fits(action) {
            Fit::No => {}
            Fit::Yes => fit.push((index, rule, rule.verdict)),
            // A rule that errs denies.
            Fit::Denies(what) => {
                errors.push(format!("{}: {what}", rule.name));
                fit.push((index, rule, Some(Verdict::Deny)));
            }
        }
    }
    let winner = fit
        .iter()
        .filter_map(|(index, rule, verdict)| Some((*index, *rule, (*verdict)?)))
        .min_by_key(|(index, rule, verdict)| match policy.combine {
            Combine::DenyOverrides => (Reverse(0), Reverse(0), Reverse(Some(*verdict)), *index),
            Combine::FirstMatch => (Reverse(0), Reverse(0), Reverse(None), *index),
            Combine::Priority => (Reverse(rule.priority), Reverse(0), Reverse(None), *index),
            Combine::MostSpecific => {
                let specificity = Reverse(rule.specificity());
                (Reverse(0), specificity, Reverse(Some(*verdict)), *index)
            }
        });
    // A rule without a verdict always counts; another when it speaks.
    let counts = |index: usize, rule: &Rule| {
        let speaks = winner.is_some_and(|(winner, ..)| winner == index);
        rule.verdict.is_none() || policy.combine == Combine::DenyOverrides || speaks
    };
    let count = fit.iter().filter(|(index, rule, _)| counts(*index, rule));
    Said {
        policy,
        verdict: winner.map_or(policy.default, |(.., verdict)| verdict),
        rule: winner.map(|(_, rule, _)| rule),
        count: count.map(|(_, rule, _)| (policy, *rule)).collect(),
    }
}

/// Decides: every document has to let the action go ahead, and the strictest speaks.
pub fn decide<'p>(
    policies: &[&'p Policy],
    action: &Action,
    counters: &mut dyn Counters,
) -> Decision<'p> {
    let mut errors = Vec::new();
    let said: Vec<Said> = policies
        .iter()
        .map(|policy| say(policy, action, &mut errors))
        .collect();
    // The strictest; among equals one that a rule said, then the first.
    let rank = |said: &&Said| (Reverse(said.verdict), said.rule.is_none());
    let strictest = said.iter().min_by_key(rank);
    let verdict = strictest.map_or(Verdict::Deny, |said| said.verdict);
    let rule = strictest.and_then(|said| said.rule);
    let mut decision = Decision::by(verdict, strictest.map(|said| said.policy), rule);
    if verdict == Verdict::Deny {
        return Decision { errors, ..decision };
    }
    let counting = || said.iter().flat_map(|said| &said.count);
    let (agent, now) = (action.agent().unwrap_or(""), action.time());
    let wait = |limit| now.map_or(u64::MAX, |now| counters.wait(&limit, agent, now));
    let waits = counting().map(|(policy, rule)| (rule.limit.map_or(0, wait), policy, rule));
    // The longest wait, which is without end when there is no time; the first among equals.
    if let Some((wait, policy, rule)) = waits.min_by_key(|(wait, ..)| Reverse(*wait))
        && wait > 0
    {
        return Decision {
            errors,
            ..Decision::limited(policy, rule, wait)
        };
    }
    for (_, rule) in counting() {
        if let (Some(limit), Some(now)) = (rule.limit, now) {
            counters.take(&limit, agent, now);
        }
        let labels = rule.labels.iter().map(|label| &**label);
        decision.labels_add.extend(labels);
    }
    Decision { errors, ..decision }
}
