//! What the benches share: paired, interleaved timing against a floor in the same run, since
//! machines are noisy and ratios are what carries over.
#![forbid(unsafe_code)]
#![expect(
    clippy::disallowed_methods,
    reason = "benches start programs from outside"
)]

pub mod talk;
pub mod workload;

use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// The middle and the best tenth of a series.
#[derive(Clone, Copy, Debug)]
pub struct Summary {
    /// Median.
    pub p50: Duration,
    /// Tenth percentile.
    pub p10: Duration,
    /// Ninetieth percentile.
    pub p90: Duration,
}

/// Sums a series up.
#[must_use]
pub fn summary(mut series: Vec<Duration>) -> Summary {
    series.sort();
    let at = |percent: usize| {
        let index = series.len() * percent / 100;
        series
            .get(index.min(series.len().saturating_sub(1)))
            .copied()
            .unwrap_or_default()
    };
    Summary {
        p50: at(50),
        p10: at(10),
        p90: at(90),
    }
}

/// Times each of `what` in turn, `rounds` times over.
pub fn interleaved(rounds: usize, what: &mut [(&str, &mut dyn FnMut())]) -> Vec<Summary> {
    let mut series: Vec<Vec<Duration>> = what.iter().map(|_| Vec::new()).collect();
    for round in 0..=rounds {
        for ((_, run), series) in what.iter_mut().zip(&mut series) {
            let since = Instant::now();
            run();
            // The first round warms caches.
            if round > 0 {
                series.push(since.elapsed());
            }
        }
    }
    series.into_iter().map(summary).collect()
}

/// The release build of the supervisor, beside this program.
#[must_use]
pub fn supervisor() -> PathBuf {
    let own = std::env::current_exe().expect("our own path");
    let binary = own.with_file_name("agt-supervisor");
    assert!(
        binary.exists(),
        "build it first: cargo build --release --workspace"
    );
    binary
}

/// A folder of this bench's own.
#[must_use]
pub fn folder(name: &str) -> PathBuf {
    let dir = std::env::temp_dir().join(format!("agt-bench-{name}-{}", std::process::id()));
    std::fs::create_dir_all(&dir).expect("a folder");
    dir
}

/// Runs a command to its end with nothing attached.
pub fn run(command: &mut Command) {
    let status = command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .expect("a start");
    assert!(status.success(), "{command:?}: {status}");
}

/// A program to be run.
#[must_use]
pub fn command(program: impl AsRef<std::ffi::OsStr>) -> Command {
    Command::new(program)
}

/// Milliseconds with two places.
#[must_use]
pub fn ms(time: Duration) -> String {
    format!("{:.2}", time.as_secs_f64() * 1000.0)
}

/// One line about the machine, for the page that the figures go to.
#[must_use]
pub fn machine() -> String {
    let read = |path: &str| {
        std::fs::read_to_string(path)
            .unwrap_or_default()
            .trim()
            .to_owned()
    };
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    let load = read("/proc/loadavg")
        .split(' ')
        .next()
        .unwrap_or("?")
        .to_owned();
    format!(
        "Linux {}, {cores} cores, load {load}",
        read("/proc/sys/kernel/osrelease")
    )
}
