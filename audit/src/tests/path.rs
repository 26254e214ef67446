//! The everyday path: append, close, open again, verify, prove, show.

use std::time::Duration;

use super::world::{World, fill};
use crate::{Filter, Kind, Options, State, cloud_event, prove, show};

#[test]
fn what_is_closed_is_intact() {
    let world = World::new();
    let mut log = world.open("run");
    fill(&mut log, 700);
    let head = log.close().unwrap();
    assert_eq!(head.size, 702);
    let report = world.verify();
    assert_eq!(report.ledger, State::Intact);
    let verdict = world.only();
    assert_eq!(
        (verdict.state, verdict.records, verdict.signed),
        (State::Intact, 702, 702)
    );
    assert!(verdict.closed && !verdict.live);
    assert!(verdict.notes.is_empty());
}

#[test]
fn a_crash_is_a_gap_and_loses_nothing_that_was_written() {
    let world = World::new();
    let mut log = world.open("daemon");
    fill(&mut log, 300);
    drop(log);
    let State::Unanchored { signed: 1, .. } = world.only().state else {
        panic!("{:?}", world.only());
    };
    let mut log = world.open("daemon");
    fill(&mut log, 10);
    log.close().unwrap();
    assert_eq!(world.only().state, State::Gap { at: 301, gaps: 1 });
    let mut log = world.open("daemon");
    fill(&mut log, 10);
    log.close().unwrap();
    assert_eq!(world.only().state, State::Gap { at: 301, gaps: 1 });
    assert_eq!(world.verify().ledger, State::Intact);
}

#[test]
fn every_record_is_proved() {
    let world = World::new();
    let mut log = world.open("run");
    fill(&mut log, 600);
    let head = log.checkpoint().unwrap();
    for seq in 0..head.size {
        let proof = prove(&world.audit(), "run", seq, &world.public()).unwrap();
        assert!(proof.holds(&world.public()), "{seq}");
        let mut other = proof.clone();
        other.line.push(b' ');
        assert!(!other.holds(&world.public()));
    }
    assert!(prove(&world.audit(), "run", head.size, &world.public()).is_err());
}

#[test]
fn a_log_is_shown_and_followed() {
    let world = World::new();
    let mut log = world.open("run");
    fill(&mut log, 5);
    let filter = Filter {
        kinds: vec![Kind::Decision],
        agent: Some("researcher".into()),
        ..Filter::default()
    };
    let mut shown = show(&world.audit(), "run", filter).unwrap();
    assert_eq!(shown.by_ref().count(), 5);
    fill(&mut log, 2);
    let more: Vec<_> = shown.by_ref().map(Result::unwrap).collect();
    assert_eq!(
        more.iter().map(|record| record.seq).collect::<Vec<_>>(),
        [Some(6), Some(7)]
    );
    let event: serde_json::Value =
        serde_json::from_str(&cloud_event("run", &more[0]).unwrap()).unwrap();
    assert_eq!(event["type"], "agt.audit.decision");
    assert_eq!(event["data"]["seq"], 6);
}

#[test]
fn who_follows_sees_every_record_across_segments() {
    let world = World::new();
    let options = Options {
        segment_bytes: 2_000,
        ..Options::default()
    };
    let mut log = world.open_with("run", options);
    let mut shown = show(&world.audit(), "run", Filter::default()).unwrap();
    let writer = std::thread::spawn(move || {
        fill(&mut log, 2_000);
        log.close().unwrap().size
    });
    let mut next = 0;
    loop {
        let record = shown.follow(Duration::from_micros(10)).unwrap();
        assert_eq!(record.seq, Some(next));
        next += 1;
        if record.kind == Some(Kind::Close) {
            break;
        }
    }
    assert_eq!(writer.join().unwrap(), next);
}
