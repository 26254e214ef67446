//! What comes in at the door: frames that nobody honest sends, and more descriptors than there are.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::Duration;

use outside::{Place, Ran, Who, alive, everybody, until};

fn place(who: Who, program: &str) -> Place {
    let place = Place::new(who);
    place.dir("ws");
    let source = outside::sources().join("programs").join(program);
    place.file(program, fs::read(source).unwrap());
    let client = outside::sources().join("../clients/python/agt/__init__.py");
    place.file("client/agt/__init__.py", fs::read(client).unwrap());
    place.file("policy.yaml", outside::acts::POLICY);
    place
}

fn yaml(name: &str, program: &str, argument: &str) -> String {
    format!(
        "version: 1\nname: {name}\nring: standard\nworkspace: ./ws\nhome: none\n\
         on_loop: {{count: 10000, within: 1s, do: freeze}}\n\
         files: {{read: [./{program}, ./client]}}\npolicy: [policy.yaml]\n\
         env: {{set: {{CLIENT: ../client, PYTHONDONTWRITEBYTECODE: \"1\"}}}}\n\
         command: [/usr/bin/python3, ../{program}, {argument}]\n"
    )
}

/// Kilobytes of memory that a process has.
fn resident(pid: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let number = line.unwrap().trim().trim_end_matches(" kB");
    number.parse().unwrap()
}

fn descriptors(pid: u32) -> usize {
    fs::read_dir(format!("/proc/{pid}/fd")).unwrap().count()
}

/// Hundredths of a second of processor time that a process took.
fn ticks(pid: u32) -> u64 {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let fields: Vec<&str> = stat.rsplit(") ").next().unwrap().split(' ').collect();
    fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap()
}

fn line(reader: &mut BufReader<ChildStdout>) -> String {
    let mut line = String::new();
    reader.read_line(&mut line).unwrap();
    line.trim().to_owned()
}

#[test]
fn frames_that_nobody_sends_harm_nobody() {
    let long = std::env::var_os("AGT_LONG").is_some();
    let count = if long { "1000000" } else { "20000" };
    for who in everybody() {
        // Another agent of the same host, in the same folder of logs.
        let place = place(who, "frames.py");
        let secret = format!("SECRET-{}", std::process::id());
        let tag = format!("TAG-other-{}-{who:?}", std::process::id());
        let other = yaml("other", "frames.py", "x")
            .replace(
                "[/usr/bin/python3, ../frames.py, x]",
                &format!("[sh, -c, 'sleep 7200; :', {tag}]"),
            )
            .replace("{CLIENT", &format!("{{KEY: {secret}, CLIENT"));
        let mut other = place.start(&other);
        until("the other agent", Duration::from_secs(20), || {
            !alive(&tag).is_empty()
        });
        let mut child = place.start(&yaml("frames", "frames.py", count));
        let mut reader = BufReader::new(child.stdout.take().unwrap());
        let mut memory = Vec::new();
        let over = loop {
            let line = line(&mut reader);
            if !line.starts_with("at ") {
                break line;
            }
            memory.push(resident(child.id()));
        };
        let ran = Ran::wait(child, Duration::from_secs(60));
        assert_eq!(over, "over True True True", "{ran:?}");
        ran.expect_code(0);
        println!(
            "{count} frames as {who:?}: kilobytes of the supervisor at each tenth: {memory:?}"
        );
        let (early, late) = (memory[1], memory[memory.len() - 1]);
        assert!(late < early + 2048, "{memory:?}");
        let answers = fs::read(place.dir.join("ws/answers")).unwrap();
        for leak in [secret.as_bytes(), b"other"] {
            assert!(!answers.windows(leak.len()).any(|part| part == leak));
        }
        outside::signal(&other, rustix::process::Signal::TERM);
        other.wait().unwrap();
        place.finish(&["audit", "verify"]).expect_code(0);
    }
}

/// A supervisor that may hold so many descriptors; what it starts may raise that again.
#[expect(clippy::disallowed_methods, reason = "looks from outside")]
fn limited(place: &Place, most: u32, args: &[&str]) -> Command {
    let inner = place.agt(args);
    let mut command = Command::new("prlimit");
    command
        .arg(format!("--nofile={most}:4096"))
        .arg("--")
        .arg(inner.get_program())
        .args(inner.get_args())
        .current_dir(&place.dir)
        .env_clear()
        .envs(
            inner
                .get_envs()
                .filter_map(|(name, value)| Some((name, value?))),
        )
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    command
}

struct Crowd {
    child: Child,
    stdin: ChildStdin,
    reader: BufReader<ChildStdout>,
}

fn crowd(place: &Place, most: u32) -> Crowd {
    place.file("agent.yaml", yaml("crowd", "crowd.py", "x"));
    let mut child = limited(place, most, &["run", "agent.yaml"])
        .spawn()
        .unwrap();
    let reader = BufReader::new(child.stdout.take().unwrap());
    let stdin = child.stdin.take().unwrap();
    Crowd {
        child,
        stdin,
        reader,
    }
}

#[test]
fn a_crowd_at_the_door_neither_shuts_it_nor_keeps_the_supervisor_busy() {
    for who in everybody() {
        // With room for all that are let in, and with less than that.
        for most in [1024, 80] {
            let place = place(who, "crowd.py");
            let mut crowd = crowd(&place, most);
            let pid = crowd.child.id();
            let held = line(&mut crowd.reader);
            if held != "held True" {
                panic!(
                    "{held} with {most} descriptors: {:?}",
                    crowd.child.wait_with_output()
                );
            }
            let (held, before) = (descriptors(pid), ticks(pid));
            std::thread::sleep(Duration::from_secs(1));
            let busy = ticks(pid) - before;
            assert!(
                busy < 30,
                "{busy}0 ms of a second, with {most} descriptors as {who:?}"
            );
            // The tests' own runner may have left us one above the limit.
            assert!(held <= usize::try_from(most).unwrap() + 8, "{held}");
            crowd.stdin.write_all(b"\n").unwrap();
            assert_eq!(line(&mut crowd.reader), "again crowd", "{most} {who:?}");
            until("its descriptors back", Duration::from_secs(5), || {
                descriptors(pid) < 48
            });
            drop(crowd.stdin);
            Ran::wait(crowd.child, Duration::from_secs(20)).expect_code(0);
            place.finish(&["audit", "verify"]).expect_code(0);
        }
    }
}

#[test]
fn without_descriptors_a_run_is_refused_whole_or_goes_as_ever() {
    for who in everybody() {
        let place = place(who, "crowd.py");
        let (mut refused, mut went) = (0, 0);
        for most in (4..100).step_by(8) {
            let tag = format!("TAG-few-{}-{most}-{who:?}", std::process::id());
            let command = format!("[sh, -c, 'echo up; exit 7', {tag}]");
            let yaml = yaml("few", "crowd.py", "x");
            let yaml = yaml.replace("[/usr/bin/python3, ../crowd.py, x]", &command);
            place.file("agent.yaml", yaml);
            let child = limited(&place, most, &["run", "agent.yaml"])
                .spawn()
                .unwrap();
            let ran = Ran::wait(child, Duration::from_secs(20));
            match (ran.code, ran.stdout.as_str()) {
                (7, "up\n") => went += 1,
                (2 | 125 | 126, "") => refused += 1,
                _ => panic!("{most} descriptors as {who:?}: {ran:?}"),
            }
            assert!(alive(&tag).is_empty(), "{most} descriptors as {who:?}");
        }
        assert!(refused > 0 && went > 0, "{refused} refused, {went} went");
        let last =
            yaml("few", "crowd.py", "x").replace("[/usr/bin/python3, ../crowd.py, x]", "['true']");
        place.run(&last).expect_code(0);
        place.finish(&["audit", "verify"]).expect_code(0);
    }
}
