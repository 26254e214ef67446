//! kill -9 of a writer at any moment: what it was told is recorded is there.

#![expect(
    clippy::disallowed_methods,
    reason = "the writer is a process of the test's own"
)]

use std::io::{BufRead, BufReader, Write};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use super::world::World;
use crate::{Action, Entry, Filter, Keys, Kind, Log, Options, State, Value, hex, show};

const ROOT: &str = "AGT_AUDIT_TEST_WRITER";

fn options() -> Options {
    Options {
        group: Duration::from_millis(2),
        checkpoint: Duration::from_millis(5),
        segment_bytes: 64 << 10,
        ..Options::default()
    }
}

/// Writes until it is killed, and says what was recorded.
#[test]
#[ignore = "a process of another test"]
fn writer() {
    let Some(root) = std::env::var_os(ROOT).map(PathBuf::from) else {
        return;
    };
    let keys = Keys::open_or_create(&root.join("keys")).unwrap();
    let mut log = Log::open(&root.join("audit"), "daemon", keys, options()).unwrap();
    let mut out = std::io::stderr().lock();
    for number in 0_u64.. {
        let fields = [("number", Value::Number(number))];
        let entry = Entry::new(Kind::Decision).action(Action::new("call").fields(&fields));
        let recorded = log.append(&entry).unwrap();
        writeln!(out, "recorded {} {}", recorded.seq(), hex(recorded.leaf())).unwrap();
        if Instant::now() >= log.due() {
            let _ = log.commit().unwrap();
        }
    }
}

#[test]
fn what_was_recorded_survives_every_kill() {
    let mut random = 0x9e37_79b9_7f4a_7c15_u64;
    let mut seen = 0;
    for _ in 0..20 {
        // A new one now and then: the first opening is killed as well.
        let world = World::new();
        drop(world.keys());
        for kill in 0..10 {
            random ^= random << 13;
            random ^= random >> 7;
            random ^= random << 17;
            let told = kill_a_writer(&world, Duration::from_micros(random % 20_000));
            drop(world.open_with("daemon", options()));
            let verdict = world.only();
            assert!(verdict.state.holds(), "kill {kill}: {verdict:?}");
            let Some((seq, leaf)) = told else { continue };
            let filter = Filter {
                from: seq,
                ..Filter::default()
            };
            let mut shown = show(&world.audit(), "daemon", filter).unwrap();
            let record = shown.next().unwrap().unwrap();
            assert_eq!(
                (record.seq, hex(&record.leaf)),
                (Some(seq), leaf),
                "kill {kill}"
            );
            seen += 1;
        }
        world.open_with("daemon", options()).close().unwrap();
        let report = world.verify();
        assert_eq!(report.ledger, State::Intact);
        assert!(matches!(report.logs[0].state, State::Gap { .. }));
    }
    assert!(seen > 20, "only {seen} of 200 writers came to write");
}

/// The last record that it said was recorded.
fn kill_a_writer(world: &World, after: Duration) -> Option<(u64, String)> {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args([
            "--ignored",
            "--exact",
            "--nocapture",
            "tests::crash::writer",
        ])
        .env(ROOT, &world.root)
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let pipe = child.stderr.take().unwrap();
    let reader = std::thread::spawn(move || last_told(pipe));
    std::thread::sleep(after);
    child.kill().unwrap();
    child.wait().unwrap();
    reader.join().unwrap()
}

fn last_told(pipe: impl std::io::Read) -> Option<(u64, String)> {
    let mut last = None;
    let mut reader = BufReader::new(pipe);
    let mut line = String::new();
    while reader.read_line(&mut line).unwrap() > 0 {
        if let Some(told) = line
            .strip_prefix("recorded ")
            .and_then(|told| told.strip_suffix('\n'))
        {
            let (seq, leaf) = told.split_once(' ').unwrap();
            last = Some((seq.parse().unwrap(), leaf.to_owned()));
        }
        line.clear();
    }
    last
}
