//! Agents beside each other: what one of them cannot do to another, to its own end, or to the log.

use std::fs;
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::Child;
use std::time::{Duration, Instant};

use outside::{Place, Ran, Who, alive, everybody, signal, until};
use rustix::process::Signal;
use serde_json::Value;

const SOON: Duration = Duration::from_secs(20);

fn place(who: Who) -> Place {
    let place = Place::new(who);
    place.dir("ws");
    let sources = outside::sources();
    let program = fs::read(sources.join("programs/apart.py")).unwrap();
    place.file("apart.py", program);
    let client = fs::read(sources.join("../clients/python/agt/__init__.py")).unwrap();
    place.file("client/agt/__init__.py", client);
    place
}

fn yaml(name: &str, arguments: &str) -> String {
    format!(
        "version: 1\nname: {name}\nring: standard\nworkspace: ./ws\nhome: none\n\
         on_loop: {{count: 10000, within: 1s, do: freeze}}\n\
         files: {{read: [./apart.py, ./client]}}\n\
         env: {{set: {{CLIENT: ../client, PYTHONDONTWRITEBYTECODE: \"1\"}}}}\n\
         command: [/usr/bin/python3, ../apart.py, {arguments}]\n"
    )
}

/// Another agent, at work, with something in its arguments that only it and its supervisor know.
struct Victim {
    place: Place,
    child: Child,
    secret: String,
}

impl Victim {
    fn start(who: Who) -> Self {
        let place = place(who);
        let secret = format!(
            "VICTIM-{}-{:x}",
            std::process::id(),
            std::ptr::from_ref(&place).addr()
        );
        place.file("ws/secret", &secret);
        let child = place
            .start(&yaml("works", "works").replace("{CLIENT", &format!("{{KEY: {secret}, CLIENT")));
        until("the victim", SOON, || place.dir.join("ws/up").exists());
        Self {
            place,
            child,
            secret,
        }
    }

    /// How often it asked, and the seconds that the slowest answer took.
    fn stop(self) -> (u64, f64, Place) {
        self.place.file("ws/stop", "");
        let ran = Ran::wait(self.child, SOON);
        let (asked, slowest) = ran.expect_code(0).stdout.trim().split_once(' ').unwrap();
        (asked.parse().unwrap(), slowest.parse().unwrap(), self.place)
    }
}

fn records(place: &Place) -> Vec<Value> {
    let shown = place.finish(&["audit", "show", "--json"]);
    let lines = shown.expect_code(0).stdout.lines();
    lines
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

#[test]
fn one_agent_does_not_speak_as_another() {
    for who in everybody() {
        let victim = Victim::start(who);
        let thief = place(who);
        let ran = thief.run(&yaml("thief", "speaks"));
        assert_eq!(ran.expect_code(0).stdout, "['allow', 'thief']\n", "{who:?}");
        let stolen = |one: &&Value| one["action"]["tool"] == "stolen";
        let mine = records(&thief);
        assert!(mine.iter().filter(stolen).count() > 0);
        assert!(
            mine.iter()
                .filter(stolen)
                .all(|one| one["agent"] == "thief")
        );
        let (asked, _, place) = victim.stop();
        let theirs = records(&place);
        assert!(
            asked > 0 && theirs.iter().filter(stolen).count() == 0,
            "{who:?}"
        );
        assert!(
            theirs
                .iter()
                .skip(1)
                .all(|one| one["agent"] == "works" || one["agent"].is_null())
        );
    }
}

/// From outside, the door of a ring is found below `/proc`.
#[test]
fn the_host_does_not_speak_as_an_agent() {
    for who in everybody() {
        let victim = Victim::start(who);
        let inside = |pid: &String| {
            let environ = fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
            String::from_utf8_lossy(&environ).contains(&victim.secret)
        };
        let pids = fs::read_dir("/proc").unwrap();
        let pids = pids.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
        let pid = pids.filter(|name| name.parse::<u32>().is_ok()).find(inside);
        let door = format!("/proc/{}/root/run/agt/agent.sock", pid.unwrap());
        let mut stream = UnixStream::connect(door).unwrap();
        stream.set_read_timeout(Some(SOON)).unwrap();
        let body = br#"{"action":"tool.call","tool":"stolen"}"#;
        let head = [
            &[u8::try_from(body.len()).unwrap(), 0, 0, 0, 67][..],
            &[0; 11],
        ]
        .concat();
        // Closed before or after it was said, and never answered.
        let _said = stream.write_all(&[&head, &body[..]].concat());
        assert!(!matches!(stream.read(&mut [0; 16]), Ok(1..)), "{who:?}");
        let (asked, _, place) = victim.stop();
        let stolen = |one: &Value| one["action"]["tool"] == "stolen";
        assert!(asked > 0 && !records(&place).iter().any(stolen), "{who:?}");
    }
}

#[test]
fn one_agent_does_not_starve_another() {
    for who in everybody() {
        let victim = Victim::start(who);
        let flood = place(who);
        flood.file("ws/secret", "nothing");
        let child = flood.start(&yaml("floods", "floods"));
        until("the flood", SOON, || flood.dir.join("ws/up").exists());
        std::thread::sleep(Duration::from_secs(4));
        let (asked, slowest, _) = victim.stop();
        assert!(
            asked > 40 && slowest < 2.0,
            "{who:?}: {asked} asked, the slowest took {slowest} s"
        );
        // Nor those that share its ring and speak more quietly.
        flood.file("ws/stop", "");
        let ran = Ran::wait(child, SOON);
        let (asked, slowest) = ran.stdout.trim().split_once(' ').unwrap();
        let slowest: f64 = slowest.parse().unwrap();
        println!("{who:?} beside the flood: {asked} asked, the slowest took {slowest} s");
        assert!(
            asked.parse::<u64>().unwrap() > 10 && slowest < 2.0,
            "{who:?}: {ran:?}"
        );
    }
}

#[test]
fn no_agent_outlives_its_kill() {
    for who in everybody() {
        let place = place(who);
        let tag = format!("TAG-stays-{}-{who:?}", std::process::id());
        let child =
            place.start(&(yaml("stays", &format!("stays, {tag}")) + "kill: {grace: 200ms}\n"));
        let effects = place.dir.join("ws/effects");
        let lines = || fs::read_to_string(&effects).unwrap_or_default();
        until("its daemons at work", SOON, || lines().lines().count() > 50);
        signal(&child, Signal::TERM);
        let since = Instant::now();
        let ran = Ran::wait(child, SOON);
        assert!(
            alive(&tag).is_empty() && since.elapsed() < Duration::from_secs(3),
            "{ran:?}"
        );
        let done = lines();
        std::thread::sleep(Duration::from_millis(300));
        assert_eq!(done, lines(), "somebody still writes");
        assert!(!done.contains("after"), "somebody saw the door closed");
        let all = records(&place);
        let ends: Vec<&str> = all
            .iter()
            .rev()
            .take(2)
            .filter_map(|one| one["kind"].as_str())
            .collect();
        assert_eq!(ends, ["close", "ended"]);
        assert_eq!(all[all.len() - 2]["action"]["verified_empty"], true);
        let allowed = |seq: u64| {
            all.iter()
                .any(|one| one["seq"] == seq && one["verdict"] == "allow")
        };
        assert!(done.lines().all(|seq| allowed(seq.parse().unwrap())));
    }
}

/// Every name below a folder, relative to it.
fn below(top: &Path, dir: &Path, names: &mut Vec<String>) {
    for entry in fs::read_dir(dir).unwrap().flatten() {
        names.push(
            entry
                .path()
                .strip_prefix(top)
                .unwrap()
                .to_string_lossy()
                .into_owned(),
        );
        if entry.path().is_dir() {
            below(top, &entry.path(), names);
        }
    }
}

#[test]
fn no_agent_reads_or_writes_the_log() {
    for who in everybody() {
        let place = place(who);
        place.run(&yaml("before", "looks")).expect_code(0);
        let (state, mut names) = (place.dir.join("state"), Vec::new());
        below(&state, &state, &mut names);
        assert!(names.iter().any(|name| name.ends_with("audit.key")));
        let arguments = format!("tampers, {}, {}", state.display(), names.join(", "));
        let ran = place.run(&yaml("tampers", &arguments));
        assert_eq!(ran.expect_code(0).stdout, "[]\n", "{who:?}");
        let verified = place.finish(&["audit", "verify"]);
        let stdout = &verified.expect_code(0).stdout;
        assert_eq!(stdout.matches(" intact · ").count(), 2, "{stdout}");
        // Not even when it is asked for, or lies where the agent works.
        for wish in [
            "files: {read: [./state/audit]}",
            "files: {write: [./state]}",
        ] {
            let asks = yaml("asks", "looks").replace("files: {read: [./apart.py, ./client]}", wish);
            let refused = place.run(&asks);
            assert!(
                refused.code != 0 && refused.stdout.is_empty(),
                "{wish} {who:?}: {refused:?}"
            );
        }
        let inside = yaml("inside", &arguments).replace("workspace: ./ws", "workspace: .");
        let ran = place.run(&inside.replace("../", ""));
        assert!(ran.code != 0 || ran.stdout == "[]\n", "{who:?}: {ran:?}");
    }
}

#[test]
fn one_agent_does_not_see_anothers_arguments() {
    for who in everybody() {
        let victim = Victim::start(who);
        let state = victim.place.dir.join("state");
        let looks = place(who);
        let arguments = format!("looks, {}, {}", victim.place.dir.display(), state.display());
        let ran = looks.run(&yaml("looks", &arguments));
        assert_eq!(ran.expect_code(0).stdout, "[]\n", "{who:?}");
        let secret = victim.secret.clone();
        let (_, _, place) = victim.stop();
        // Nor does the log tell whoever may read it.
        let (mut names, top) = (Vec::new(), place.dir.join("state/audit"));
        below(&top, &top, &mut names);
        for name in names
            .iter()
            .map(|name| top.join(name))
            .filter(|path| path.is_file())
        {
            let bytes = fs::read(&name).unwrap();
            assert!(
                !bytes
                    .windows(secret.len())
                    .any(|part| part == secret.as_bytes()),
                "{name:?}"
            );
        }
    }
}
