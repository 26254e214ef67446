//! Nanoseconds per decision at 10 to 10,000 rules, beside a matcher written by hand for the very
//! same rules, and the allocations of a decision. Beside other engines: `tests/oracles`.

use std::alloc::System;
use std::time::Instant;

use measure::workload::{ACTIONS, ByHand, Plain, actions, median, per_action, plain, rules};
use policy::{Action, Engine, Limits, Policy, Variables};
use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

const ROUNDS: usize = 15;

fn main() {
    println!("| rules | ns per decision | by hand | ratio | allocations | ready in |");
    println!("|---:|---:|---:|---:|---:|---:|");
    for count in [10, 100, 1_000, 10_000] {
        let since = Instant::now();
        let text = rules(count);
        let policy = Policy::parse("bench", text.as_bytes(), &Variables::default());
        let policy = match policy {
            Ok(policy) => policy,
            Err(error) => return eprintln!("{error}"),
        };
        let engine = Engine::new(vec![policy]);
        let ready = since.elapsed();
        let by_hand = ByHand::new(count);
        let json = actions(count);
        let actions: Vec<Action> = json
            .iter()
            .flat_map(|json| Action::from_json(json))
            .collect();
        let plains: Vec<Plain> = json.iter().map(|json| plain(json)).collect();
        let (mut scratch, mut limits) = (engine.scratch(), Limits::default());
        for (action, plain) in actions.iter().zip(&plains) {
            let decided = engine.decide(action, &mut limits, &mut scratch).verdict;
            assert_eq!(decided, by_hand.decide(plain), "{action:?}");
        }
        let region = Region::new(ALLOCATOR);
        for action in &actions {
            std::hint::black_box(engine.decide(action, &mut limits, &mut scratch));
        }
        let allocations = region.change().allocations;
        let (mut ours, mut hand) = (Vec::new(), Vec::new());
        for _ in 0..ROUNDS {
            ours.push(per_action(ACTIONS, 50, || {
                for action in &actions {
                    std::hint::black_box(engine.decide(action, &mut limits, &mut scratch));
                }
            }));
            hand.push(per_action(ACTIONS, 50, || {
                for plain in &plains {
                    std::hint::black_box(by_hand.decide(plain));
                }
            }));
        }
        let (ours, hand) = (median(ours), median(hand));
        let ratio = ours / hand;
        println!("| {count} | {ours:.1} | {hand:.1} | {ratio:.2} | {allocations} | {ready:.1?} |");
    }
}
