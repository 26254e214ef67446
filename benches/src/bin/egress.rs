//! What a ring's way out costs: the same client, the same server, directly and through the ring, in
//! turn in one run. The server is in a network namespace of its own behind a veth pair, and all of it
//! in namespaces of the bench, so that nothing of the host's network is touched or used. Needs root.

use std::io::{BufRead, BufReader, Lines, Write};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Stdio};
use std::time::Duration;

use measure::{command, folder, machine, run, summary, supervisor, talk};

const ROUNDS: usize = 5;
const MIB: usize = 1 << 20;
const HELD: usize = 200;

/// A program that answers each line with a line.
struct Talker {
    child: Child,
    to: ChildStdin,
    from: Lines<BufReader<ChildStdout>>,
}

impl Talker {
    fn start(program: &mut std::process::Command) -> Self {
        let mut child = program
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("a start");
        let to = child.stdin.take().expect("a pipe");
        let from = BufReader::new(child.stdout.take().expect("a pipe")).lines();
        Self { child, to, from }
    }

    fn hear(&mut self) -> String {
        let line = self.from.next().expect("an answer");
        line.expect("an answer")
    }

    fn ask(&mut self, what: &str) -> String {
        writeln!(self.to, "{what}").expect("a question");
        self.hear()
    }

    fn times(&mut self, what: &str) -> Vec<Duration> {
        let line = self.ask(what);
        let ns = line.split_whitespace().map(|ns| ns.parse().expect("ns"));
        ns.map(Duration::from_nanos).collect()
    }
}

fn main() {
    let own = std::env::current_exe().expect("our own path");
    match std::env::args().nth(1).as_deref() {
        Some("serve") => serve(),
        Some("client") => talk::client().expect("a conversation"),
        Some("inside") => inside(&own),
        _ => {
            let mut again = command("unshare");
            let error = again
                .args(["--mount", "--net"])
                .arg(&own)
                .arg("inside")
                .exec();
            panic!("unshare: {error}");
        }
    }
}

fn ip(words: &str) {
    run(command("ip").args(words.split(' ')));
}

/// The far end: waits for its cable, then serves and sets the cable's speed.
fn serve() {
    println!("born");
    for line in std::io::stdin().lines() {
        match line.expect("a line").as_str() {
            "begin" => {
                ip("link set lo up");
                ip(&format!("address add {}/24 dev far", talk::SERVER));
                ip("link set far up");
                talk::serve().expect("a server");
            }
            "unlimited" => run(command("tc").args("qdisc del dev far root".split(' '))),
            rate => {
                let words =
                    format!("qdisc add dev far root tbf rate {rate} burst 4mb latency 20ms");
                run(command("tc").args(words.split(' ')));
            }
        }
        println!("done");
    }
}

/// In namespaces of our own.
fn inside(own: &Path) {
    let dir = folder("egress");
    ip("link set lo up");
    let mut server = Talker::start(command("unshare").arg("--net").arg(own).arg("serve"));
    assert_eq!(server.hear(), "born");
    ip("link add near type veth peer name far");
    ip(&format!("link set far netns {}", server.child.id()));
    ip(&format!("address add {}/24 dev near", talk::NEAR));
    ip("link set near up");
    server.ask("begin");
    let resolv = dir.join("resolv.conf");
    std::fs::write(&resolv, format!("nameserver {}\n", talk::SERVER)).expect("a file");
    run(command("mount")
        .arg("--bind")
        .arg(&resolv)
        .arg("/etc/resolv.conf"));
    std::fs::create_dir_all(dir.join("ws")).expect("a folder");
    std::fs::copy(own, dir.join("ws/client")).expect("a copy");
    std::os::unix::fs::chown(dir.join("ws"), Some(1001), Some(1001)).ok();
    let file = dir.join("agent.yaml");
    let yaml = format!(
        "version: 1\nname: caller\nring: 2\nhome: temporary\nworkspace: ./ws\ncommand: [./client, client]\n\
         network: {{allow: ['{}:{}']}}\n",
        talk::NAME,
        talk::PORT
    );
    std::fs::write(&file, yaml).expect("a file");
    let mut bare = Talker::start(command(own).arg("client"));
    let mut ringed = Talker::start(command(supervisor()).args(["run", "-q"]).arg(&file));
    println!("{}\n", machine());
    // An answer means that its ring is up.
    ringed.ask("hold 0");
    let egress = descendant(ringed.child.id(), "agt-egress").expect("agt-egress");
    latency(&mut bare, &mut ringed);
    println!(
        "\n| download | direct, MB/s | through the ring, MB/s | ratio | the process egress, CPU s/GB |\n|---|---|---|---|---|"
    );
    download((&mut bare, &mut ringed), egress, "no limit", 1024 * MIB);
    for (rate, size) in [("10gbit", 512 * MIB), ("1gbit", 64 * MIB)] {
        server.ask(rate);
        download((&mut bare, &mut ringed), egress, rate, size);
        server.ask("unlimited");
    }
    memory(&mut ringed, egress);
    drop(ringed.to);
    let ended = ringed.child.wait().expect("its end");
    assert!(ended.success(), "{ended}");
    for mut one in [bare.child, server.child] {
        one.kill().and_then(|()| one.wait()).expect("its end");
    }
    std::fs::remove_dir_all(dir).expect("removing the folder");
}

fn latency(bare: &mut Talker, ringed: &mut Talker) {
    println!("| µs | direct p50 | p90 | through p50 | p90 | × (p50) |\n|---|---|---|---|---|---|");
    for (name, what) in [
        ("question, connect, first byte", "first"),
        ("connect, first byte", "known"),
        ("request of 64 bytes on one connection", "ask"),
    ] {
        let question = format!("{what} 100");
        let (mut direct, mut through) = (Vec::new(), Vec::new());
        for round in 0..=ROUNDS {
            let (one, other) = (bare.times(&question), ringed.times(&question));
            if round > 0 {
                direct.extend(one);
                through.extend(other);
            }
        }
        let (direct, through) = (summary(direct), summary(through));
        let us = |time: Duration| format!("{:.0}", time.as_secs_f64() * 1e6);
        println!(
            "| {name} | {} | {} | {} | {} | {:.2} |",
            us(direct.p50),
            us(direct.p90),
            us(through.p50),
            us(through.p90),
            through.p50.as_secs_f64() / direct.p50.as_secs_f64()
        );
    }
}

fn download((bare, ringed): (&mut Talker, &mut Talker), egress: u32, name: &str, size: usize) {
    let question = format!("download {size}");
    let (mut direct, mut through) = (Vec::new(), Vec::new());
    let mut busy = Duration::ZERO;
    for round in 0..=ROUNDS {
        let one = bare.times(&question);
        let before = processor(egress);
        let other = ringed.times(&question);
        if round > 0 {
            busy += processor(egress).saturating_sub(before);
            direct.extend(one);
            through.extend(other);
        }
    }
    let gigabytes = size as f64 / 1e9;
    let rate = |time: Duration| gigabytes * 1000.0 / time.as_secs_f64();
    let (direct, through) = (rate(summary(direct).p50), rate(summary(through).p50));
    println!(
        "| {name} | {direct:.0} | {through:.0} | {:.2} | {:.2} |",
        through / direct,
        busy.as_secs_f64() / gigabytes / ROUNDS as f64
    );
}

fn memory(ringed: &mut Talker, egress: u32) {
    let seen = || (pss(egress), descriptors(egress));
    let (idle, files) = seen();
    ringed.ask(&format!("hold {HELD}"));
    let (held, held_files) = seen();
    println!("\n| memory of the process egress | |\n|---|---|");
    println!("| with no connection, PSS | {idle} KiB |");
    println!(
        "| each of {HELD} idle connections, PSS | {:.1} KiB |",
        (held.saturating_sub(idle)) as f64 / HELD as f64
    );
    println!(
        "| descriptors of each | {:.1} |",
        (held_files.saturating_sub(files)) as f64 / HELD as f64
    );
}

fn stat(pid: u32) -> Option<Vec<String>> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name, in parentheses, may hold spaces.
    let (_, rest) = text.rsplit_once(") ")?;
    Some(rest.split(' ').map(str::to_owned).collect())
}

/// A process below this one that was started under this name.
fn descendant(of: u32, name: &str) -> Option<u32> {
    let entries = std::fs::read_dir("/proc").expect("/proc").flatten();
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    let is_below = |pid: u32| {
        let parent = |pid| stat(pid)?.get(1)?.parse::<u32>().ok();
        std::iter::successors(Some(pid), |pid| parent(*pid))
            .take_while(|pid| *pid > 1)
            .any(|pid| pid == of)
    };
    let named = |pid: u32| {
        let line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        line.split(|byte| *byte == 0).next() == Some(name.as_bytes())
    };
    pids.filter(|pid| named(*pid)).find(|pid| is_below(*pid))
}

/// Time on a processor so far, by the kernel's hundredths of a second.
fn processor(pid: u32) -> Duration {
    let fields = stat(pid).expect("a live process");
    let ticks: u64 = fields[11..13]
        .iter()
        .map(|field| field.parse::<u64>().expect("a number"))
        .sum();
    Duration::from_millis(ticks * 10)
}

fn pss(pid: u32) -> u64 {
    let text = std::fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).expect("smaps");
    let line = text.lines().find_map(|line| line.strip_prefix("Pss:"));
    line.and_then(|rest| rest.split_whitespace().next()?.parse().ok())
        .unwrap_or(0)
}

fn descriptors(pid: u32) -> usize {
    std::fs::read_dir(format!("/proc/{pid}/fd")).map_or(0, Iterator::count)
}
