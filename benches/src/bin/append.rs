//! The audit log against its floors: a record against bare SHA-256 of its line, a group commit
//! against write and fdatasync of the same bytes, and whether anything grows with the log.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::Path;
use std::time::{Duration, Instant};

use audit::{Keys, Kind, Log, Options, verify};
use measure::workload::{FIELDS, entry};
use measure::{Summary, folder, machine, summary};
use sha2::{Digest, Sha256};

const LINES: usize = 1000;

fn open(dir: &Path, name: &str) -> Log {
    let keys = Keys::open_or_create(&dir.join("keys")).expect("keys");
    Log::open(&dir.join("audit"), name, keys, Options::default()).expect("a log")
}

fn timed(series: &mut Vec<Duration>, what: impl FnOnce()) {
    let since = Instant::now();
    what();
    series.push(since.elapsed());
}

/// So many lines as they are in a log.
fn lines(dir: &Path) -> Vec<Vec<u8>> {
    let path = dir.join("audit/lines/00000000000000000000.jsonl");
    let text = std::fs::read(path).expect("the lines");
    let lines = text.split(|byte| *byte == b'\n').skip(1).take(LINES);
    lines.map(<[u8]>::to_vec).collect()
}

fn record(dir: &Path) {
    let mut log = open(dir, "lines");
    let entry = entry(Kind::Decision, &FIELDS);
    for _ in 0..LINES {
        drop(log.append(&entry).expect("a record"));
    }
    drop(log);
    let lines = lines(dir);
    let mut log = open(dir, "records");
    let names = [
        "bare SHA-256",
        "encode, chain, queue",
        "the same, written in batches of 100",
        "append, one write each",
    ];
    let mut series: [Vec<Duration>; 4] = Default::default();
    let [hash, queue, batch, single] = &mut series;
    for _ in 0..200 {
        timed(hash, || {
            for line in &lines {
                std::hint::black_box(Sha256::digest(line));
            }
        });
        timed(queue, || {
            for _ in 0..LINES {
                drop(log.queue(&entry).expect("a record"));
            }
        });
        let _ = log.write().expect("written");
        let _ = log.commit().expect("on disk");
        timed(batch, || {
            for _ in 0..LINES / 100 {
                for _ in 0..100 {
                    drop(log.queue(&entry).expect("a record"));
                }
                let _ = log.write().expect("written");
            }
        });
        let _ = log.commit().expect("on disk");
        timed(single, || {
            for _ in 0..LINES {
                drop(log.append(&entry).expect("a record"));
            }
        });
        let _ = log.commit().expect("on disk");
    }
    let bytes = lines.iter().map(Vec::len).sum::<usize>() / lines.len();
    println!("| a record of {bytes} bytes | ns, p50 | × SHA-256 |\n|---|---|---|");
    let found: Vec<Summary> = series.into_iter().map(summary).collect();
    for (name, each) in names.iter().zip(&found) {
        let ns = each.p50.as_nanos() / LINES as u128;
        let ratio = each.p50.as_secs_f64() / found[0].p50.as_secs_f64();
        println!("| {name} | {ns} | {ratio:.2} |");
    }
}

fn commit(dir: &Path) {
    println!(
        "\n| group commit, batch | raw write + fdatasync, records/s | with SHA-256, records/s | ours, records/s | × raw | × with SHA-256 |\n|---|---|---|---|---|---|"
    );
    let lines = lines(dir);
    let entry = entry(Kind::Decision, &FIELDS);
    for count in [10, 100, 1000] {
        let mut log = open(dir, &format!("commit{count}"));
        let raw: Vec<u8> = lines
            .iter()
            .take(count)
            .flat_map(|line| [line, &b"\n"[..]].concat())
            .collect();
        let mut file: File = OpenOptions::new()
            .append(true)
            .create(true)
            .open(dir.join("raw"))
            .expect("a file");
        let (mut floor, mut hashed, mut ours) = (Vec::new(), Vec::new(), Vec::new());
        for _ in 0..200 {
            timed(&mut floor, || {
                file.write_all(&raw).expect("written");
                file.sync_data().expect("on disk");
            });
            timed(&mut hashed, || {
                for line in lines.iter().take(count) {
                    std::hint::black_box(Sha256::digest(line));
                }
                file.write_all(&raw).expect("written");
                file.sync_data().expect("on disk");
            });
            timed(&mut ours, || {
                for _ in 0..count {
                    drop(log.queue(&entry).expect("a record"));
                }
                let _ = log.commit().expect("on disk");
            });
        }
        let rate = |series: Vec<Duration>| count as f64 / summary(series).p50.as_secs_f64();
        let (floor, hashed, ours) = (rate(floor), rate(hashed), rate(ours));
        println!(
            "| {count} | {floor:.0} | {hashed:.0} | {ours:.0} | {:.2} | {:.2} |",
            ours / floor,
            ours / hashed
        );
    }
}

fn memory() -> String {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find(|line| line.starts_with("VmRSS"));
    line.unwrap_or("").replace("VmRSS:", "").trim().to_owned()
}

fn million(dir: &Path) {
    let mut log = open(dir, "million");
    let entry = entry(Kind::Decision, &FIELDS);
    let mut blocks = Vec::new();
    let before = memory();
    for _ in 0..1000 {
        timed(&mut blocks, || {
            for _ in 0..10 {
                for _ in 0..100 {
                    drop(log.queue(&entry).expect("a record"));
                }
                let _ = log.write().expect("written");
            }
            if Instant::now() >= log.due() {
                let _ = log.commit().expect("on disk");
            }
        });
    }
    let part = |range: std::ops::Range<usize>| summary(blocks[range].to_vec()).p50.as_micros();
    println!(
        "\n1,000 records at the beginning of a million: {} µs; in the middle: {}; at the end: {}; the slowest block: {}",
        part(0..100),
        part(450..550),
        part(900..1000),
        blocks.iter().max().map_or(0, Duration::as_micros)
    );
    println!("memory before: {before}, after: {}", memory());
    let since = Instant::now();
    drop(log.checkpoint().expect("signed"));
    println!(
        "signing the head of a million: {} µs",
        since.elapsed().as_micros()
    );
    for _ in 0..1000 {
        drop(log.append(&entry).expect("a record"));
    }
    drop(log);
    let since = Instant::now();
    let log = open(dir, "million");
    println!(
        "opening it again after a crash: {} ms",
        since.elapsed().as_millis()
    );
    log.close().expect("closed");
    let keys = audit::read_list(&dir.join("keys")).expect("keys");
    let since = Instant::now();
    let report = verify(&dir.join("audit"), &keys, &[]).expect("verified");
    let records: u64 = report.logs.iter().map(|log| log.records).sum();
    println!(
        "verify: {:.0} records/s ({})",
        records as f64 / since.elapsed().as_secs_f64(),
        report.worst()
    );
    let since = Instant::now();
    let proof = audit::prove(&dir.join("audit"), "million", 500_000, &keys).expect("a proof");
    println!(
        "prove: {} ms, {} hashes",
        since.elapsed().as_millis(),
        proof.path.len()
    );
}

fn main() {
    let dir = folder("append");
    println!("{}\n", machine());
    record(&dir);
    if std::env::args().nth(1).as_deref() != Some("record") {
        commit(&dir);
        million(&dir);
    }
    std::fs::remove_dir_all(dir).expect("removing the folder");
}
