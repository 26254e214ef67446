//! The wall clock goes where it wants.

use std::sync::atomic::{AtomicI64, Ordering};

use super::world::{World, fill};
use crate::State;
use crate::clock::Moment;

static OFFSET: AtomicI64 = AtomicI64::new(0);

fn shifted() -> Moment {
    let now = Moment::now();
    Moment {
        seconds: now.seconds + OFFSET.load(Ordering::Relaxed),
        ..now
    }
}

#[test]
fn the_clock_jumps_and_the_log_goes_on() {
    const DAY: i64 = 86_400;
    let world = World::new();
    let mut log = world.open("run");
    log.parts.clock = shifted;
    for offset in [0, -1, -3600, -3650 * DAY, 3600, 50 * 365 * DAY, 0] {
        OFFSET.store(offset, Ordering::Relaxed);
        fill(&mut log, 3);
    }
    log.close().unwrap();
    assert_eq!(world.only().state, State::Intact);
    let text: String = ["00000000000000000000.jsonl", "00000000000000000016.jsonl"]
        .iter()
        .map(|name| std::fs::read_to_string(world.audit().join("run").join(name)).unwrap())
        .collect();
    let mono: Vec<u64> = text
        .lines()
        .map(|line| {
            let value: serde_json::Value = serde_json::from_str(line).unwrap();
            value["mono_ns"].as_u64().unwrap()
        })
        .collect();
    assert_eq!(mono.len(), 23);
    assert!(mono.is_sorted());
}

#[test]
fn a_commit_is_due_when_something_waits_and_a_head_in_any_case() {
    let world = World::new();
    let mut log = world.open("run");
    let far = log.due();
    fill(&mut log, 1);
    assert!(log.due() < far);
    let _ = log.commit().unwrap();
    assert_eq!(log.due(), far);
    log.options.checkpoint = std::time::Duration::ZERO;
    let records = log.next_seq();
    let _ = log.commit().unwrap();
    assert_eq!(log.next_seq(), records + 1);
    drop(log);
    assert!(matches!(world.only().state, State::Intact));
}
