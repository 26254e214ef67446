//! A thousand agents at once: time to start them, memory of each beyond the agent itself, time to
//! stop them all.

use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use measure::{command, folder, machine, supervisor};
use rustix::process::{Pid, Signal, kill_process};

fn main() {
    let count: usize = std::env::args()
        .nth(1)
        .and_then(|n| n.parse().ok())
        .unwrap_or(1000);
    let dir = folder("hold");
    let file = dir.join("agent.yaml");
    std::fs::create_dir_all(dir.join("ws")).expect("a folder");
    let yaml = "version: 1\nname: held\nring: 3\nworkspace: ./ws\ncommand: [sleep, '3600']\nkill: {grace: 0s}\n";
    std::fs::write(&file, yaml).expect("a file");
    let before = available();
    let since = Instant::now();
    let mut children: Vec<Child> = (0..count)
        .map(|_| {
            command(supervisor())
                .args(["run", "--quiet"])
                .arg(&file)
                .stdin(Stdio::null())
                .stdout(Stdio::null())
                .spawn()
                .expect("a start")
        })
        .collect();
    while agents() < count {
        std::thread::sleep(Duration::from_millis(20));
    }
    let started = since.elapsed();
    std::thread::sleep(Duration::from_secs(1));
    let held = before.saturating_sub(available());
    let (supervisors, ringds, agents_pss) = (pss("agt-supervisor"), pss("agt-ringd"), pss("sleep"));
    let since = Instant::now();
    for child in &children {
        let raw = i32::try_from(child.id()).expect("a pid");
        kill_process(Pid::from_raw(raw).expect("a pid"), Signal::TERM).expect("kill");
    }
    for child in &mut children {
        child.wait().expect("its end");
    }
    let stopped = since.elapsed();
    assert_eq!(agents(), 0);
    let each = |kib: u64| kib / count as u64;
    println!("{}\n", machine());
    println!("| {count} agents (`sleep` in ring 3) | |\n|---|---|");
    println!("| start all | {:.1} s |", started.as_secs_f64());
    println!(
        "| stop all, each seen empty | {:.1} s |",
        stopped.as_secs_f64()
    );
    println!(
        "| memory of the host, each, the agent included | {} KiB |",
        each(held)
    );
    println!("| of which supervisor, PSS | {} KiB |", each(supervisors));
    println!("| ringd and the ring's init, PSS | {} KiB |", each(ringds));
    println!("| the agent itself, PSS | {} KiB |", each(agents_pss));
    std::fs::remove_dir_all(dir).expect("removing the folder");
}

/// MemAvailable in KiB.
fn available() -> u64 {
    let text = std::fs::read_to_string("/proc/meminfo").expect("meminfo");
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix("MemAvailable:"));
    line.and_then(|rest| rest.split_whitespace().next()?.parse().ok())
        .unwrap_or(0)
}

fn processes(name: &str) -> Vec<std::path::PathBuf> {
    let entries = std::fs::read_dir("/proc").expect("/proc").flatten();
    let named = |path: &std::path::PathBuf| {
        let line = std::fs::read(path.join("cmdline")).unwrap_or_default();
        let first = line.split(|byte| *byte == 0).next().unwrap_or_default();
        String::from_utf8_lossy(first).ends_with(name)
    };
    entries.map(|entry| entry.path()).filter(named).collect()
}

fn agents() -> usize {
    processes("sleep").len()
}

/// Proportional set size of all processes of this name, in KiB.
fn pss(name: &str) -> u64 {
    let of = |path: std::path::PathBuf| {
        let text = std::fs::read_to_string(path.join("smaps_rollup")).unwrap_or_default();
        let line = text.lines().find_map(|line| line.strip_prefix("Pss:"));
        line.and_then(|rest| rest.split_whitespace().next()?.parse::<u64>().ok())
            .unwrap_or(0)
    };
    processes(name).into_iter().map(of).sum()
}
