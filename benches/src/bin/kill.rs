//! From the kill step to the last of 1,000 hostile processes: each ignores every signal that can be
//! ignored, leads its own session, some spin, some have stopped themselves.

use std::io::{BufRead, BufReader};
use std::process::Stdio;
use std::time::{Duration, Instant};

use measure::{command, folder, machine, ms, summary, supervisor};
use rustix::process::{Pid, Signal, kill_process};

fn main() {
    let dir = folder("kill");
    let hostile = dir.join("ws/hostile");
    std::fs::create_dir_all(dir.join("ws")).expect("a folder");
    let source = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/programs/hostile.c");
    let built = command("cc")
        .args(["-O1", "-o"])
        .arg(&hostile)
        .arg(source)
        .status();
    assert!(built.expect("cc").success());
    let file = dir.join("agent.yaml");
    let yaml = "version: 1\nname: storm\nring: 2\nhome: temporary\nworkspace: ./ws\ncommand: [./hostile, '1000', --tag, BENCHKILL]\n\
                limits: {pids: 2000}\nkill: {grace: 0s}\n";
    std::fs::write(&file, yaml).expect("a file");
    std::os::unix::fs::chown(dir.join("ws"), Some(1001), Some(1001)).ok();
    let (mut by_supervisor, mut by_ringd) = (Vec::new(), Vec::new());
    for round in 0..10 {
        let mut child = command(supervisor())
            .args(["run", "--quiet"])
            .arg(&file)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .expect("a start");
        let mut line = String::new();
        BufReader::new(child.stdout.take().expect("a pipe"))
            .read_line(&mut line)
            .expect("a line");
        assert_eq!(line, "ready 1000\n");
        let since = Instant::now();
        let raw = i32::try_from(child.id()).expect("a pid");
        // SIGTERM with no grace is the kill step; SIGKILL takes the kernel's own way.
        let signal = if round % 2 == 0 {
            Signal::TERM
        } else {
            Signal::KILL
        };
        kill_process(Pid::from_raw(raw).expect("a pid"), signal).expect("kill");
        child.wait().expect("its end");
        while alive() {
            std::thread::sleep(Duration::from_micros(200));
        }
        let series = if round % 2 == 0 {
            &mut by_supervisor
        } else {
            &mut by_ringd
        };
        series.push(since.elapsed());
    }
    println!("{}\n", machine());
    println!("| 1,000 hostile processes, ms to none alive | p50 | worst |\n|---|---|---|");
    for (name, series) in [
        ("SIGTERM, no grace, verified", by_supervisor),
        ("SIGKILL to the supervisor", by_ringd),
    ] {
        let worst = series.iter().max().copied().unwrap_or_default();
        println!("| {name} | {} | {} |", ms(summary(series).p50), ms(worst));
    }
    std::fs::remove_dir_all(dir).expect("removing the folder");
}

/// Whether any process of the storm is left.
fn alive() -> bool {
    let processes = std::fs::read_dir("/proc").expect("/proc").flatten();
    processes.into_iter().any(|entry| {
        let line = std::fs::read(entry.path().join("cmdline")).unwrap_or_default();
        line.starts_with(b"./hostile")
    })
}
