//! What a decision and a record allocate: a number that no machine changes.

use std::alloc::System;

use audit::{Keys, Kind, Log, Options};
use measure::{folder, workload};
use policy::{Action, Engine, Limits, Policy, Variables};
use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

/// One test: another one's thread would be counted with it.
#[test]
fn decisions_and_records_allocate_nothing() {
    for rules in [10, 1_000] {
        let text = workload::rules(rules);
        let policy = Policy::parse("test", text.as_bytes(), &Variables::default());
        let engine = Engine::new(vec![policy.expect("a policy")]);
        let texts = workload::actions(rules);
        let actions: Vec<Action> = texts
            .iter()
            .flat_map(|text| Action::from_json(text))
            .collect();
        let (mut scratch, mut limits) = (engine.scratch(), Limits::default());
        let region = Region::new(ALLOCATOR);
        for action in &actions {
            std::hint::black_box(engine.decide(action, &mut limits, &mut scratch));
        }
        assert_eq!(region.change().allocations, 0, "{rules} rules");
    }
    let dir = folder("allocations");
    let keys = Keys::open_or_create(&dir.join("keys")).expect("keys");
    let mut log = Log::open(&dir.join("audit"), "test", keys, Options::default()).expect("a log");
    let entry = workload::entry(Kind::Decision, &workload::FIELDS);
    drop(log.append(&entry).expect("a record"));
    let region = Region::new(ALLOCATOR);
    for _ in 0..1000 {
        drop(log.append(&entry).expect("a record"));
    }
    let allocations = region.change().allocations;
    std::fs::remove_dir_all(dir).expect("removing the folder");
    // The list of hashes that wait for the tree grows by doubling, and nothing else.
    assert!(allocations <= 8, "{allocations} for 1000 records");
}
