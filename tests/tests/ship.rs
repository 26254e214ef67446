//! Records to a sink as they are written: killed in the middle, a sink that goes away, logs that come and go.

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::process::Child;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use audit::{Action, Entry, Keys, Kind, Log, Options, Value};
use outside::{Place, Who, everybody, until};

/// A place of whoever runs the tests: they write its logs themselves.
fn place() -> Place {
    let who = everybody()[0];
    let place = Place::new(who);
    if who == Who::Root {
        fs::create_dir_all(place.dir.join("state")).unwrap();
    }
    place
}

fn open(place: &Place, name: &str) -> Log {
    let state = place.dir.join("state");
    let keys = Keys::open_or_create(&state.join("keys")).unwrap();
    let options = Options {
        segment_bytes: 100_000,
        ..Options::default()
    };
    Log::open(&state.join("audit"), name, keys, options).unwrap()
}

fn fill(log: &mut Log, count: u64) {
    for number in 0..count {
        let fields = [("number", Value::Number(number))];
        let action = Action::new("connect").fields(&fields);
        drop(
            log.append(&Entry::new(Kind::Decision).action(action))
                .unwrap(),
        );
    }
}

/// The lines of a log, as they are.
fn lines(place: &Place, log: &str) -> Vec<String> {
    let dir = place.dir.join("state/audit");
    let shown = audit::show(&dir, log, audit::Filter::default()).unwrap();
    let text = |record: Result<audit::Shown, _>| String::from_utf8(record.unwrap().line).unwrap();
    shown.map(text).collect()
}

/// How often a line of the log came again, when all of them came in order. What came more than once did so
/// from some line on, as after a start from where it stood.
fn again(log: &[String], came: &[String]) -> usize {
    let at: BTreeMap<&str, usize> = log.iter().map(String::as_str).zip(0..).collect();
    let mut next = 0;
    let mut again = 0;
    for line in came.iter().filter_map(|line| at.get(line.as_str())) {
        assert!(*line <= next, "{next} to {line} are missing");
        again += usize::from(*line < next);
        next = *line + 1;
    }
    assert_eq!(next, log.len(), "the end is missing");
    again
}

fn read(path: &Path) -> Vec<String> {
    let text = fs::read_to_string(path).unwrap();
    assert!(text.ends_with('\n'));
    text.lines().map(str::to_owned).collect()
}

/// Waits until it is known that the sink has so many records of a log.
fn kept(place: &Place, log: &str, records: usize) {
    until(
        "what the sink has is known",
        Duration::from_secs(20),
        || {
            let files = fs::read_dir(place.dir.join("state/ship"));
            let files = files
                .into_iter()
                .flatten()
                .flatten()
                .map(|file| file.path());
            // Not one that is not in its place yet.
            let mut texts = files
                .filter(|path| path.extension().is_some_and(|end| end == "json"))
                .filter_map(|path| fs::read_to_string(path).ok());
            texts.any(|text| text.contains(&format!("\"{log}\":{{\"next\":{records},")))
        },
    );
}

fn started(place: &Place, to: &str) -> Child {
    place
        .agt(&["audit", "ship", "--all", "--to", to])
        .spawn()
        .unwrap()
}

fn killed(mut child: Child) -> String {
    child.kill().unwrap();
    let mut said = String::new();
    child
        .stderr
        .take()
        .unwrap()
        .read_to_string(&mut said)
        .unwrap();
    child.wait().unwrap();
    said
}

#[test]
fn killed_in_the_middle_it_goes_on_and_nothing_is_missing() {
    let place = place();
    let done = AtomicBool::new(false);
    let to = place.dir.join("out.jsonl");
    thread::scope(|scope| {
        for name in ["one", "two"] {
            let (place, done) = (&place, &done);
            scope.spawn(move || {
                let mut log = open(place, name);
                // Not for ever when the test fails meanwhile.
                let since = Instant::now();
                while !done.load(Ordering::Relaxed) && since.elapsed() < Duration::from_secs(90) {
                    fill(&mut log, 200);
                    let _written = log.commit().unwrap();
                    thread::sleep(Duration::from_millis(5));
                }
                log.close().unwrap();
            });
        }
        for most in 0..12 {
            let child = started(&place, "out.jsonl");
            let before = fs::metadata(&to).map_or(0, |meta| meta.len());
            until("something", Duration::from_secs(30), || {
                fs::metadata(&to).is_ok_and(|meta| meta.len() > before)
            });
            thread::sleep(Duration::from_millis(most * 31 % 200));
            killed(child);
        }
        done.store(true, Ordering::Relaxed);
    });
    let once = ["audit", "ship", "--all", "--once", "--to", "out.jsonl"];
    place.finish(&once).expect_code(0);
    let came = read(&to);
    for name in ["one", "two"] {
        let log = lines(&place, name);
        assert!(log.len() > 1_000, "{}", log.len());
        let again = again(&log, &came);
        assert!(again < came.len() / 2, "{again} of {}", came.len());
    }
    // All of it is there: nothing is sent again.
    place.finish(&once).expect_code(0);
    assert_eq!(read(&to).len(), came.len());
}

#[test]
fn a_socket_that_goes_away_gets_what_it_did_not_read() {
    let place = place();
    let path = place.dir.join("sink");
    let child = started(&place, "unix:sink");
    let mut log = open(&place, "run");
    let mut came = Vec::new();
    for round in 0..5 {
        fill(&mut log, 3_000);
        let listener = UnixListener::bind(&path).unwrap();
        let (stream, _) = listener.accept().unwrap();
        // Some of it is read; what waits in the socket is lost with it.
        let reader = BufReader::with_capacity(64, stream);
        came.extend(reader.lines().take(1_000 + round * 700).map(Result::unwrap));
        fs::remove_file(&path).unwrap();
    }
    log.close().unwrap();
    let listener = UnixListener::bind(&path).unwrap();
    let (stream, _) = listener.accept().unwrap();
    let all = lines(&place, "run");
    for line in BufReader::new(&stream).lines().map(Result::unwrap) {
        let last = Some(&line) == all.last();
        came.push(line);
        if last {
            break;
        }
    }
    let again = again(&all, &came);
    assert!(again > 0, "what was not read came again");
    kept(&place, "run", all.len());
    let said = killed(child);
    assert!(said.contains("waiting for it"), "{said}");
    assert!(said.contains("takes records again"), "{said}");
}

#[test]
fn logs_that_come_go_and_change_are_followed() {
    let place = place();
    let to = place.dir.join("out.jsonl");
    let child = started(&place, "out.jsonl");
    open(&place, "one").close().unwrap();
    kept(&place, "one", 2);
    // Opened again after it was seen to be closed.
    thread::sleep(Duration::from_millis(1_500));
    let mut log = open(&place, "one");
    fill(&mut log, 3);
    log.close().unwrap();
    open(&place, "two").close().unwrap();
    kept(&place, "one", 7);
    kept(&place, "two", 2);
    let second = ["audit", "ship", "--all", "--once", "--to", "out.jsonl"];
    place.finish(&second).expect_code(1).expect_said("another");
    // Rotated, as log files are.
    fs::rename(&to, place.dir.join("out.1")).unwrap();
    fs::remove_dir_all(place.dir.join("state/audit/two")).unwrap();
    open(&place, "three").close().unwrap();
    kept(&place, "three", 2);
    assert_eq!(killed(child), "");
    assert_eq!(read(&to), lines(&place, "three"));
    let came = read(&place.dir.join("out.1"));
    assert_eq!(again(&lines(&place, "one"), &came), 0);

    // A line that was cut short is ended; a log that was written anew comes whole.
    let torn = fs::read_to_string(&to).unwrap() + "{\"seq\"";
    fs::write(&to, torn).unwrap();
    fs::remove_dir_all(place.dir.join("state/audit")).unwrap();
    let mut log = open(&place, "three");
    fill(&mut log, 5);
    log.close().unwrap();
    place
        .finish(&second)
        .expect_code(0)
        .expect_said("three is not what was shipped");
    let came = read(&to);
    assert_eq!(came[2], "{\"seq\"");
    assert_eq!(came[3..], lines(&place, "three"));
}

#[test]
fn one_log_goes_as_cloudevents_and_what_is_no_sink_is_said() {
    for who in everybody() {
        let place = Place::new(who);
        place.dir("ws");
        let ran = place.finish(&[
            "run",
            "-q",
            "--ring",
            "3",
            "--workspace",
            "ws",
            "--",
            "true",
        ]);
        ran.expect_code(0);
        let ship = ["audit", "ship", "--once", "--cloudevents", "--to", "out"];
        place.finish(&ship).expect_code(0);
        let exported = place.finish(&["audit", "export", "--cloudevents"]);
        let out = fs::read_to_string(place.dir.join("out")).unwrap();
        assert_eq!(out, exported.expect_code(0).stdout);
        for (to, code, says) in [
            ("https://example.com/", 2, "shipper"),
            ("ws", 2, "no file"),
            ("unix:nobody", 1, "does not take records"),
            ("none/out", 1, "does not take records"),
        ] {
            let no = place.finish(&["audit", "ship", "--once", "--to", to]);
            no.expect_code(code).expect_said(says);
        }
    }
}
