//! Runs of agents beside an [`Internet`], and what their reports say of it.

use std::collections::BTreeSet;
use std::fs;
use std::process::Child;
use std::time::Duration;

use serde_json::Value;

use crate::{Internet, Place, Ran, Who, sources, until};

const MOST: Duration = Duration::from_secs(120);
/// What takes longer did not happen.
pub const SOON: Duration = Duration::from_secs(20);
/// A question to the nameserver, in what an internet has seen.
pub const DNS: &str = "packet udp 203.0.113.53:53";

/// An agent.yaml of ring 2 with this network.
#[must_use]
pub fn yaml(network: &str, command: &str) -> String {
    format!(
        "version: 1\nname: net\nring: standard\nworkspace: ./ws\ncommand: {command}\nnetwork: {network}\n"
    )
}

/// A place whose workspace has the programs of these tests.
#[must_use]
pub fn place(who: Who, net: &Internet) -> Place {
    let place = Place::new(who);
    place.dir("ws");
    if who == Who::User {
        place.dir("state");
    }
    let source = sources().join("programs/net");
    for name in ["attack.py", "reach.sh"] {
        place.file(&format!("ws/{name}"), fs::read(source.join(name)).unwrap());
    }
    place.file("ws/ca.pem", fs::read(net.dir.join("ca.pem")).unwrap());
    place
}

/// Starts an agent beside the world.
#[must_use]
pub fn start(place: &Place, net: &Internet, yaml: &str) -> Child {
    place.file("agent.yaml", yaml);
    let agt = place.agt(&["run", "--report", "state/report.json", "agent.yaml"]);
    net.beside(&agt).spawn().expect("a start")
}

/// Runs an agent beside the world, and returns its report as well.
#[must_use]
pub fn run(place: &Place, net: &Internet, yaml: &str) -> (Ran, Value) {
    let ran = Ran::wait(start(place, net, yaml), MOST);
    (ran, report(place))
}

/// The last run's report.
#[must_use]
pub fn report(place: &Place) -> Value {
    let report = fs::read(place.dir.join("state/report.json")).unwrap_or_default();
    serde_json::from_slice(&report).unwrap_or_default()
}

/// How often something was refused of this name, port (0 for none) and kind.
#[must_use]
pub fn refused(report: &Value, name: &str, port: u64, kind: &str) -> u64 {
    let all = report["network"]["refused"].as_array();
    let mut all = all.into_iter().flatten();
    let found = all.find(|one| {
        one["name"] == name && one["port"].as_u64().unwrap_or(0) == port && one["kind"] == kind
    });
    found.and_then(|one| one["count"].as_u64()).unwrap_or(0)
}

/// Fails unless everything that arrived anywhere is one of these. Names of DNS questions are compared
/// too, so a name that only carries data is found.
#[track_caller]
pub fn only(net: &Internet, allowed: &[&str]) {
    let seen: BTreeSet<String> = net.seen().into_iter().collect();
    let strange: Vec<&String> = seen
        .iter()
        .filter(|line| !allowed.contains(&line.as_str()))
        .collect();
    assert!(strange.is_empty(), "these arrived too: {strange:#?}");
}

/// What a program beside the world says.
#[must_use]
pub fn said(net: &Internet, who: Who, args: &[&str]) -> String {
    let done = net.outside(who, args).output().expect("a program");
    String::from_utf8_lossy(&done.stdout).into_owned()
}

const STEADY: &str = "import os, socket, sys, time
while not os.path.exists('stop'):
    try:
        with socket.create_connection(('ok.test', 80), 5) as s:
            s.settimeout(5)
            s.sendall(b'GET / HTTP/1.0\\r\\n\\r\\n')
            up = b'200 OK' in s.recv(4096)
    except OSError: up = False
    with open('log', 'a') as log: log.write('up\\n' if up else 'down\\n')
    time.sleep(0.1)
sys.exit(7)
";

/// How often an agent that runs STEADY reached its host so far.
#[must_use]
pub fn ups(place: &Place) -> usize {
    let log = fs::read_to_string(place.dir.join("ws/log")).unwrap_or_default();
    log.lines().filter(|line| *line == "up").count()
}

/// Starts STEADY and waits until it reaches its host.
#[must_use]
pub fn steady(place: &Place, net: &Internet) -> Child {
    place.file("ws/steady.py", STEADY);
    let _none = fs::remove_file(place.dir.join("ws/stop"));
    let _none = fs::remove_file(place.dir.join("ws/log"));
    let child = start(
        place,
        net,
        &yaml("{allow: ['ok.test:80']}", "[python3, steady.py]"),
    );
    until("its network", SOON, || ups(place) > 2);
    child
}
