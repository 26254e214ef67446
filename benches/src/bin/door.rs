//! A decision over the ring's door, recorded, beside a bare echo on a socket of the same kind in the same ring:
//! one client, then 64 at once. The program runs itself inside the ring, as client and as echo.

use std::io::{self, Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::sync::{Arc, Barrier};
use std::thread;
use std::time::{Duration, Instant};

use measure::{command, folder, machine, supervisor, workload};

/// Runs, each with its own supervisor and log.
const RUNS: usize = 5;
/// Turns of one run, and calls of each turn on either side.
const TURNS: usize = 10;
const CALLS: usize = 300;
const CROWD: usize = 64;
/// How long the crowd calls.
const CROWDED: Duration = Duration::from_millis(250);
const RULES: usize = 100;
const ECHO: &str = "/tmp/echo.sock";

fn main() -> io::Result<()> {
    match std::env::args().nth(1).as_deref() {
        Some("client") => client(),
        Some("echo") => echo(),
        _ => {
            report();
            Ok(())
        }
    }
}

/// ACT on a file that the policy lets be removed.
fn request() -> Vec<u8> {
    let body = br#"{"action":"fs.delete","path":"/home/u1/notes/today.txt"}"#;
    let length = u32::try_from(body.len()).unwrap_or(0);
    let head = [
        &length.to_le_bytes()[..],
        &67_u16.to_le_bytes(),
        &[0; 2],
        &7_u64.to_le_bytes(),
    ];
    [&head.concat()[..], body].concat()
}

/// Every connection is a thread that writes what it read.
fn echo() -> io::Result<()> {
    for stream in UnixListener::bind(ECHO)?.incoming() {
        let mut stream = stream?;
        thread::spawn(move || -> io::Result<()> {
            let mut space = [0; 4096];
            loop {
                match stream.read(&mut space)? {
                    0 => return Ok(()),
                    got => stream.write_all(space.get(..got).unwrap_or_default())?,
                }
            }
        });
    }
    Ok(())
}

fn connect(path: &str) -> io::Result<UnixStream> {
    let until = Instant::now() + Duration::from_secs(5);
    loop {
        match UnixStream::connect(path) {
            Err(_) if Instant::now() < until => thread::sleep(Duration::from_millis(5)),
            connected => return connected,
        }
    }
}

/// One call; the answer comes in one piece, being small.
fn call(stream: &mut UnixStream, request: &[u8]) -> io::Result<()> {
    let mut space = [0; 4096];
    stream.write_all(request)?;
    let got = stream.read(&mut space)?;
    let answer = space.get(16..got).unwrap_or_default();
    let said = |what: &[u8]| answer.windows(what.len()).any(|window| window == what);
    if answer == request.get(16..).unwrap_or_default() || said(br#""verdict":"allow""#) {
        return Ok(());
    }
    Err(io::Error::other(
        String::from_utf8_lossy(answer).into_owned(),
    ))
}

fn client() -> io::Result<()> {
    let door = std::env::var("AGT_SOCKET").map_err(io::Error::other)?;
    let mut server = command(std::env::current_exe()?).arg("echo").spawn()?;
    let request = request();
    let (mut bare, mut asked) = (connect(ECHO)?, connect(&door)?);
    let mut out = [Vec::new(), Vec::new()];
    for turn in 0..=TURNS {
        for (stream, times) in [&mut bare, &mut asked].into_iter().zip(&mut out) {
            for _ in 0..CALLS {
                let since = Instant::now();
                call(stream, &request)?;
                if turn > 0 {
                    times.push(since.elapsed().as_nanos().to_string());
                }
            }
        }
    }
    let [bare_times, asked_times] = out;
    drop((bare, asked));
    let crowds = [crowd(ECHO, &request)?, crowd(&door, &request)?];
    let [bare_crowd, asked_crowd] = crowds.map(|each| each.join(" "));
    println!(
        "{}\n{}\n{bare_crowd}\n{asked_crowd}",
        bare_times.join(" "),
        asked_times.join(" ")
    );
    server.kill()?;
    server.wait().map(drop)
}

/// How often each of 64 clients was answered.
fn crowd(path: &str, request: &[u8]) -> io::Result<Vec<String>> {
    let start = Arc::new(Barrier::new(CROWD));
    let clients: io::Result<Vec<UnixStream>> = (0..CROWD).map(|_| connect(path)).collect();
    let each = clients?.into_iter().map(|mut stream| {
        let (start, request) = (Arc::clone(&start), request.to_vec());
        thread::spawn(move || -> io::Result<u64> {
            start.wait();
            let (until, mut count) = (Instant::now() + CROWDED, 0);
            while Instant::now() < until {
                call(&mut stream, &request)?;
                count += 1;
            }
            Ok(count)
        })
    });
    let each: Vec<_> = each.collect();
    let joined = each
        .into_iter()
        .map(|thread| thread.join().map_err(|_| io::Error::other("a thread"))?);
    joined
        .map(|count| count.map(|count| count.to_string()))
        .collect()
}

fn report() {
    println!("{}\n", machine());
    let dir = folder("door");
    let own = std::env::current_exe().expect("our own path");
    std::fs::create_dir_all(dir.join("ws")).expect("a folder");
    std::fs::copy(own, dir.join("ws/client")).expect("a copy");
    std::os::unix::fs::chown(dir.join("ws"), Some(1001), Some(1001)).ok();
    // What a policy says about reading is mounted, and this is about the door.
    let rules = workload::rules(RULES).replace("fs.read", "fs.delete");
    std::fs::write(dir.join("policy.yaml"), rules).expect("a file");
    let file = dir.join("agent.yaml");
    let yaml = "version: 1\nname: asker\nring: 2\nhome: temporary\nworkspace: ./ws\ncommand: [./client, client]\npolicy: [policy.yaml]\n";
    std::fs::write(&file, yaml).expect("a file");
    println!("| | echo, µs | door, µs | × |\n|---|---|---|---|");
    let (mut times, mut crowds) = ([Vec::new(), Vec::new()], [Vec::new(), Vec::new()]);
    for _ in 0..RUNS {
        let [bare, asked, bare_crowd, asked_crowd] = run(&file, &dir);
        times[0].extend(bare);
        times[1].extend(asked);
        crowds[0].push(bare_crowd);
        crowds[1].push(asked_crowd);
    }
    for times in &mut times {
        times.sort_unstable();
    }
    for (name, percent) in [("p10", 10), ("p50", 50), ("p90", 90), ("p99", 99)] {
        let [bare, asked] =
            [&times[0], &times[1]].map(|times| times[times.len() * percent / 100] as f64 / 1e3);
        println!("| {name} | {bare:.1} | {asked:.1} | {:.2} |", asked / bare);
    }
    println!("\n| 64 clients, {CROWDED:?}, median of {RUNS} runs | echo | door |\n|---|---|---|");
    let of = |what: fn(&[u64]) -> f64| {
        let [bare, asked] = [&crowds[0], &crowds[1]]
            .map(|runs| workload::median(runs.iter().map(|run| what(run)).collect()));
        format!("{bare:.2} | {asked:.2}")
    };
    println!(
        "| answers a second | {} |",
        of(|run| run.iter().sum::<u64>() as f64 / CROWDED.as_secs_f64())
    );
    println!(
        "| most to the median | {} |",
        of(|run| at(run, run.len() - 1) / at(run, run.len() / 2))
    );
    println!(
        "| most to the least | {} |",
        of(|run| at(run, run.len() - 1) / at(run, 0))
    );
    std::fs::remove_dir_all(dir).expect("removing the folder");
}

/// The number at this place of the sorted counts.
fn at(run: &[u64], place: usize) -> f64 {
    let mut run = run.to_vec();
    run.sort_unstable();
    run.get(place).copied().unwrap_or(0) as f64
}

fn run(file: &Path, dir: &Path) -> [Vec<u64>; 4] {
    let mut child = command(supervisor());
    let output = child
        .args(["run", "-q"])
        .arg(file)
        .env("AGT_STATE_DIR", dir.join("state"))
        .output()
        .expect("a start");
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(
        output.status.success(),
        "{said}{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let mut lines = said
        .lines()
        .map(|line| line.split(' ').flat_map(str::parse).collect());
    std::array::from_fn(|_| lines.next().unwrap_or_default())
}
