//! What is wrong costs one message: exit 2, no process, nothing left behind.

use std::fs;

use outside::{Place, alive, everybody};

const GOOD: &str =
    "version: 1\nname: wrong\nring: 2\nworkspace: ./new-ws\ncommand: [sleep, '300']\n";

/// The agent.yaml of each case is refused with exit code 2 and this text.
#[test]
fn a_wrong_file_starts_nothing_and_leaves_nothing() {
    let cases: [(&str, String, &str); 10] = [
        (
            "mistyped",
            format!("{GOOD}limts: {{}}\n"),
            "did you mean `limits`?",
        ),
        ("type", format!("{GOOD}limits: [1]\n"), "must be a map"),
        (
            "ceiling",
            format!("{GOOD}limits: {{memory: 99T}}\n"),
            "beyond the ceiling",
        ),
        (
            "missing read",
            format!("{GOOD}files: {{read: [./no-such]}}\n"),
            "does not exist",
        ),
        ("large", "#".repeat(10 << 20), "larger than 64 KiB"),
        ("bomb", "a: &a [1]\nb: [*a, *a]\n".to_owned(), "anchors"),
        (
            "unset",
            format!("{GOOD}env: {{pass: [NOT_SET_AT_ALL]}}\n"),
            "is not set",
        ),
        ("ring", GOOD.replace("ring: 2", "ring: 0"), "never an agent"),
        (
            "special",
            format!("{GOOD}files: {{read: [/proc]}}\n"),
            "part of the ring itself",
        ),
        ("empty", String::new(), "empty"),
    ];
    for who in everybody() {
        for (what, yaml, text) in &cases {
            let place = Place::new(who);
            let before = names(&place);
            let ran = place.run(yaml);
            ran.expect_code(2).expect_said(text);
            let lines = ran
                .stderr
                .lines()
                .filter(|line| line.starts_with("agt-supervisor:"))
                .count();
            assert_eq!(lines, 1, "{what}: one message: {}", ran.stderr);
            let mut after = names(&place);
            after.retain(|name| name != "agent.yaml");
            assert_eq!(after, before, "{what} left something");
            place.finish(&["check", "agent.yaml"]).expect_code(2);
        }
    }
}

fn names(place: &Place) -> Vec<String> {
    let entries = fs::read_dir(&place.dir).unwrap().flatten();
    let mut names: Vec<String> = entries
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .collect();
    names.sort();
    names
}

#[test]
fn not_utf8_and_absent_files() {
    for who in everybody() {
        let place = Place::new(who);
        place.file("agent.yaml", b"version: 1\nname: \xff\xfe\n");
        place
            .finish(&["run", "agent.yaml"])
            .expect_code(2)
            .expect_said("not UTF-8");
        place
            .finish(&["run", "no-such.yaml"])
            .expect_code(2)
            .expect_said("no-such.yaml");
        place
            .finish(&["run", "."])
            .expect_code(2)
            .expect_said("not a file");
        let fifo = place.dir.join("fifo.yaml");
        rustix::fs::mknodat(
            rustix::fs::CWD,
            &fifo,
            rustix::fs::FileType::Fifo,
            rustix::fs::Mode::from_raw_mode(0o644),
            0,
        )
        .unwrap();
        place
            .finish(&["run", "fifo.yaml"])
            .expect_code(2)
            .expect_said("not a file");
    }
}

#[test]
fn commands_that_cannot_be_run() {
    for who in everybody() {
        let place = Place::new(who);
        place.dir("ws");
        let data = place.file("ws/data", "not a program");
        fs::set_permissions(&data, std::os::unix::fs::PermissionsExt::from_mode(0o644)).unwrap();
        let run = |command: &str| {
            place.run(&format!(
                "version: 1\nname: cmd\nring: 2\nworkspace: ./ws\ncommand: [{command}]\n"
            ))
        };
        run("no-such-program-anywhere")
            .expect_code(127)
            .expect_said("agent.yaml:5");
        run("./no-such").expect_code(127);
        run("./data").expect_code(126).expect_said("chmod +x");
        run("/").expect_code(126);
        let secret = place.file("outside.sh", "#!/bin/sh\n");
        let outside = format!(
            "version: 1\nname: cmd\nring: 2\nworkspace: ./ws\nruntime: none\ncommand: [{}]\n",
            secret.display()
        );
        place
            .run(&outside)
            .expect_code(126)
            .expect_said("does not see it");
    }
}

#[test]
fn explain_names_layer_and_line() {
    for who in everybody() {
        let place = Place::new(who);
        place.dir("ws");
        let yaml = "version: 1\nname: why\nring: 2\nworkspace: ./ws\ncommand: ['true']\n";
        place.file("agent.yaml", yaml);
        let ask = |what: &str| place.finish(&["explain", "agent.yaml", what]);
        assert!(ask("x").expect_code(0).stdout.contains("read and written"));
        assert!(
            ask("/home")
                .expect_code(1)
                .stdout
                .contains("files: {read: [/home]}")
        );
        assert!(
            ask("/usr/bin/env")
                .expect_code(0)
                .stdout
                .contains("system runtime")
        );
        assert!(
            ask("syscall:bpf")
                .expect_code(1)
                .stdout
                .contains("in every ring")
        );
        assert!(
            ask("syscall:read")
                .expect_code(0)
                .stdout
                .contains("allowed")
        );
        ask("syscall:nope").expect_code(3);
    }
}

#[test]
fn the_other_verbs_answer() {
    for who in everybody() {
        let place = Place::new(who);
        for ring in ["1", "2", "3", "sandbox"] {
            let tested = place.finish(&["ring", "test", ring]);
            assert_eq!(tested.code, 0, "{ring}: {}{}", tested.stdout, tested.stderr);
            assert!(!tested.stdout.contains("WRONG"), "{}", tested.stdout);
            place.finish(&["ring", "score", ring]).expect_code(0);
            place
                .finish(&["ring", "show", ring, "--effective"])
                .expect_code(0);
            let json = place.finish(&["ring", "show", ring, "--json"]);
            serde_json::from_str::<serde_json::Value>(&json.stdout).expect("JSON");
        }
        place.finish(&["ring", "show", "nine"]).expect_code(3);
        let doctor = place.finish(&["doctor", "--json"]);
        let said: serde_json::Value = serde_json::from_str(&doctor.expect_code(0).stdout).unwrap();
        assert_eq!(said["rings_stand"], true);
        for verb in [
            &["schema"][..],
            &["schema", "--ring"],
            &["man"],
            &["completions", "bash"],
        ] {
            assert!(
                place.finish(verb).expect_code(0).stdout.len() > 500,
                "{verb:?}"
            );
        }
        place.finish(&["--help"]).expect_code(0);
        place.finish(&["frobnicate"]).expect_code(2);
    }
}

#[test]
fn the_report_says_the_cause() {
    for who in everybody() {
        let place = Place::new(who);
        place.dir("ws");
        let yaml = "version: 1\nname: why\nring: 2\nworkspace: ./ws\ncommand: [sh, -c, 'exit 3']\n";
        place.file("agent.yaml", yaml);
        place
            .finish(&["run", "--report", "r.json", "-q", "agent.yaml"])
            .expect_code(3);
        let text = fs::read_to_string(place.dir.join("r.json")).unwrap();
        let said: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!(
            (&said["cause"], &said["exit_code"]),
            (&"exited".into(), &3.into())
        );
        assert_eq!(said["verified_empty"], true);
        assert!(alive("AGT_NEVER").is_empty());
    }
}

#[test]
fn what_an_agent_left_does_not_harm_the_supervisor() {
    for who in everybody() {
        let place = Place::new(who);
        place.dir("ws");
        place.file("precious", "keep me");
        // A FIFO and an endless file under names that are read, and a report that leads elsewhere.
        let script = "mkdir .git sub sub/.git; mkfifo .git/config; truncate -s 100G package.json; \
                      ln -s /dev/zero sub/.git/config; rm -f report && ln -s ../precious report || true";
        let yaml = format!(
            "version: 1\nname: traps\nring: 2\nworkspace: ./ws\ncommand: [sh, -c, \"{script}\"]\n\
             limits: {{file_size: 200G}}\n"
        );
        place.file("agent.yaml", yaml);
        place
            .finish(&["run", "--report", "ws/report", "agent.yaml"])
            .expect_code(0);
        assert_eq!(
            fs::read_to_string(place.dir.join("precious")).unwrap(),
            "keep me"
        );
    }
}

#[test]
fn an_agent_cannot_widen_its_next_run() {
    for who in everybody() {
        let place = Place::new(who);
        place.dir("ws");
        place.dir("ws/sub");
        place.file("ws/sub/data", "mine");
        place.dir("private");
        place.file("private/key", "secret");
        let head = "version: 1\nname: twice\nring: 2\nworkspace: ./ws\n";
        let first = "ln -s ../private cfg; mv sub old; mkdir sub; ln -s ../../private/key sub/data";
        place
            .run(&format!("{head}command: [sh, -c, '{first}']\n"))
            .expect_code(0);
        for wish in [
            "write: [\"./ws/cfg?\"]",
            "read: [./ws/cfg]",
            "read: [./ws/sub/data]",
        ] {
            let ran = place.run(&format!(
                "{head}command: [cat, sub/data]\nfiles: {{{wish}}}\n"
            ));
            ran.expect_code(2)
                .expect_said("lies where an agent may write");
            assert!(!ran.stdout.contains("secret"));
        }
        // Its own file behind a link that it could replace.
        let yaml = format!("{head}command: ['true']\n").replace("./ws", ".");
        place.file("ws/real.yaml", yaml);
        std::os::unix::fs::symlink("real.yaml", place.dir.join("ws/link.yaml")).unwrap();
        let ran = place.finish(&["run", "ws/link.yaml"]);
        assert_ne!(ran.code, 0);
        ran.expect_said("lies where an agent may write");
        // And a report under a name that it made.
        std::os::unix::fs::symlink("../private/key", place.dir.join("ws/r.json")).unwrap();
        place.file("agent.yaml", format!("{head}command: ['true']\n"));
        place
            .finish(&["run", "--report", "ws/r.json", "agent.yaml"])
            .expect_code(125);
        assert_eq!(
            fs::read_to_string(place.dir.join("private/key")).unwrap(),
            "secret"
        );
    }
}
