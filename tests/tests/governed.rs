//! Actions that are asked about: decided, recorded, then answered; and the record itself.

use std::fs;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use outside::{Internet, Place, Ran, Who, everybody, until};
use serde_json::Value;

const POLICY: &str = "version: 1\nname: research\ndefault: allow\nrules:\n  - name: no-drop\n    \
    match: {action: tool.call, tool: [\"sql.*\"]}\n    when: 'args.query.matches(\"(?i)\\\\bdrop\\\\b\")'\n    \
    verdict: deny\n    reason: Dropping tables needs a person.\n";

fn clients() -> PathBuf {
    outside::sources()
        .join("../clients/python")
        .canonicalize()
        .unwrap()
}

/// A place with the program, the client library and a policy in it.
fn place(who: Who) -> Place {
    let place = Place::new(who);
    place.dir("ws");
    place.file(
        "agent.py",
        fs::read(outside::sources().join("programs/governed.py")).unwrap(),
    );
    place.file(
        "client/agt/__init__.py",
        fs::read(clients().join("agt/__init__.py")).unwrap(),
    );
    place.file("policy.yaml", POLICY);
    place
}

fn yaml(ring: &str, what: &str, policy: &str) -> String {
    format!(
        "version: 1\nname: gov\nring: {ring}\nworkspace: ./ws\nhome: none\nfiles: {{read: [./agent.py, ./client]}}\n\
         env: {{set: {{CLIENT: ../client, PYTHONDONTWRITEBYTECODE: \"1\"}}}}\npolicy: [{policy}]\n\
         command: [/usr/bin/python3, ../agent.py, {what}]\n"
    )
}

fn records(place: &Place) -> Vec<Value> {
    let shown = place.finish(&["audit", "show", "--json"]);
    let lines = shown.expect_code(0).stdout.lines();
    lines
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

#[test]
fn what_is_asked_is_decided_recorded_and_then_answered() {
    for who in everybody() {
        for ring in ["standard", "sandbox"] {
            let place = place(who);
            let ran = place.run(&yaml(ring, "ask", "policy.yaml"));
            ran.expect_code(0)
                .expect_said("decisions: 2 allowed, 1 denied");
            let no = "denied no-drop | Dropping tables needs a person. | False";
            assert_eq!(
                ran.stdout,
                format!("allowed 2\n{no}\nallowed 5\ndeny\ndeny 5 socket only\nEINVAL\n"),
                "{who:?} {ring}"
            );
            let all = records(&place);
            let kinds: Vec<&str> = all.iter().filter_map(|one| one["kind"].as_str()).collect();
            assert_eq!(
                kinds,
                [
                    "open", "launch", "decision", "outcome", "decision", "decision", "outcome",
                    "ended", "close"
                ]
            );
            assert_eq!(all[4]["verdict"], "deny");
            // A connection that is inherited says nothing of who speaks there, and that is not us.
            assert_eq!(all[4]["pid"].is_null(), ring == "sandbox");
            assert_eq!(all[4]["rule"], "no-drop");
            // Who acts is the supervisor's to say.
            assert!(
                all.iter()
                    .skip(1)
                    .take(7)
                    .all(|one| one["agent"] == "gov" && one["ring"] == ring)
            );
            // Arguments are not in it, only their digest under a key of the log.
            assert!(
                !all.iter()
                    .any(|one| one.to_string().to_lowercase().contains("drop table"))
            );
            let ask = |what: &str| place.finish(&["explain", "agent.yaml", what]);
            let no = ask("tool:sql.run {\"query\": \"drop x\"}");
            assert!(
                no.expect_code(1).stdout.contains("rule `no-drop` (/"),
                "{}",
                no.stdout
            );
            ask("tool:sql.run {\"query\": \"select 1\"}").expect_code(0);
            place.finish(&["audit", "verify"]).expect_code(0);
            // A name leads to a log, and not to whatever else is on this machine.
            place.file("else/00000000000000000000.jsonl", "not a log\n");
            for name in [
                "../../else",
                &place.dir.join("else").to_string_lossy(),
                "..",
                "",
            ] {
                let no = place.finish(&["audit", "show", name]);
                assert!(no.code != 0 && no.stdout.is_empty(), "{no:?}");
                no.expect_said("no name of a log");
            }
            let proof = place.finish(&["audit", "prove", "4"]);
            place.file("proof.json", &proof.expect_code(0).stdout);
            let keys = place.finish(&["keys"]);
            let key = keys.expect_code(0).stdout.trim();
            let verifier = clients().join("agt_verify.py");
            let checked = outside::tool(
                "python3",
                &[&verifier.to_string_lossy(), "proof.json", key],
                &place,
            );
            assert!(checked.0, "{}", checked.1);
            let text = fs::read_to_string(place.dir.join("proof.json")).unwrap();
            place.file("proof.json", text.replace("no-drop", "no-drip"));
            assert!(
                !outside::tool(
                    "python3",
                    &[&verifier.to_string_lossy(), "proof.json", key],
                    &place
                )
                .0
            );
        }
    }
}

#[test]
fn large_arguments_come_sealed_and_are_judged_to_their_end() {
    for who in everybody() {
        let place = place(who);
        let ran = place.run(&yaml("standard", "large", "policy.yaml"));
        let lines: Vec<&str> = ran.expect_code(0).stdout.lines().collect();
        assert!(lines[0].starts_with("allowed"), "{ran:?}");
        assert!(lines[1].starts_with("denied no-drop"), "{ran:?}");
        let why = [
            "not sealed",
            "not the SHA-256",
            "cannot be read",
            "more than",
            "no descriptor",
        ];
        for (line, why) in lines[2..].iter().zip(why) {
            assert!(line.contains(why), "{line}: {why}");
        }
        assert_eq!(lines.len(), 7);
    }
}

#[test]
fn an_agent_fills_the_log_only_so_fast() {
    for who in everybody() {
        let place = place(who);
        let ran = place.run(&yaml("standard", "fills", "policy.yaml"));
        let mut lines = ran.expect_code(0).stdout.lines();
        let first = lines.next().unwrap();
        let served = first.strip_suffix(" EAGAIN 100");
        let served: u64 = served.unwrap_or_else(|| panic!("{ran:?}")).parse().unwrap();
        assert_eq!(lines.next(), Some("None"), "{ran:?}");
        let log = place.finish(&["audit", "show", "--json"]).stdout;
        assert!(log.contains("\"too-fast\""), "{who:?}: not counted");
        let most = 16 << 20;
        assert!(
            (most..most + most / 4).contains(&log.len()),
            "{who:?}: {} bytes, {served} served",
            log.len()
        );
    }
}

#[test]
fn a_ring_sets_the_pace_and_garbage_harms_nobody() {
    for who in everybody() {
        let place = place(who);
        let often = place.run(&yaml("standard", "often", "policy.yaml"));
        assert_eq!(often.expect_code(0).stdout, "paced fine\n");
        let ran = place.run(&yaml("standard", "garbage", "policy.yaml"));
        let each = [
            "EINVAL", "EINVAL", "EINVAL", "EINVAL", "EINVAL", "ENOSYS", "EINVAL",
        ];
        let lines: Vec<String> = each.iter().map(|errno| format!("{errno}\ngov\n")).collect();
        let rest = ran
            .expect_code(0)
            .stdout
            .strip_prefix(&lines.concat())
            .unwrap_or_else(|| panic!("{ran:?}"));
        let rest: Vec<&str> = rest.lines().collect();
        assert!(
            matches!(rest[..], ["closed", allowed, "gov", "closed"] if allowed.starts_with("allowed")),
            "{rest:?}"
        );
    }
}

#[test]
fn an_agent_that_is_denied_again_and_again_is_ended() {
    for who in everybody() {
        let place = place(who);
        let drops = |rest: &str| {
            place.run(&format!(
                "{}{rest}\n",
                yaml("standard", "drops", "policy.yaml")
            ))
        };
        let ended = drops("on_violation: {count: 3, within: 60s, do: kill}");
        ended.expect_code(121).expect_said("on_violation");
        assert!(!ended.stdout.contains("survived"));
        let signal = records(&place)
            .into_iter()
            .find(|one| one["kind"] == "signal")
            .unwrap();
        assert_eq!(signal["action"]["kind"], "POLICY");
        // Spread out far enough it does not add up, and what is not asked for is not done.
        drops("on_violation: {count: 50, within: 100ms, do: kill}").expect_code(0);
        assert!(drops("").expect_code(0).stdout.contains("survived"));
    }
}

#[test]
fn who_never_stops_talking_is_stopped_all_the_same() {
    for who in everybody() {
        for ring in ["standard", "sandbox"] {
            let place = place(who);
            let yaml = yaml(ring, "flood", "policy.yaml");
            let since = Instant::now();
            let wall = place.run(&format!("{yaml}limits: {{wall: 2s}}\n"));
            wall.expect_said("its wall time of 2.0 s was over");
            assert!(since.elapsed() < Duration::from_secs(5), "{wall:?}");
            let child = place.start(&yaml);
            std::thread::sleep(Duration::from_secs(2));
            let pid = rustix::process::Pid::from_raw(child.id() as i32).unwrap();
            rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
            Ran::wait(child, Duration::from_secs(4)).expect_said("stopped by SIGTERM");
        }
    }
}

#[test]
fn a_connection_is_decided_and_recorded_before_it_carries() {
    let Some(net) = Internet::new() else { return };
    for who in everybody() {
        let place = outside::networked::place(who, &net);
        place.file(
            "policy.yaml",
            "version: 1\nname: net\ndefault: allow\nrules:\n  - name: not-there\n    \
             match: {action: net.connect, host: other.test}\n    verdict: deny\n    reason: Nobody goes there.\n",
        );
        let script = "curl -sS http://ok.test/; curl -sS http://other.test/ || echo refused";
        let network = "{allow: ['ok.test:80', 'other.test:80']}";
        let yaml = outside::networked::yaml(network, &format!("[sh, -c, '{script}']"))
            + "policy: [policy.yaml]\n";
        let (ran, report) = outside::networked::run(&place, &net, &yaml);
        assert_eq!(ran.expect_code(0).stdout, "welcome\nrefused\n", "{ran:?}");
        ran.expect_said("Nobody goes there. (rule not-there)");
        assert_eq!(
            outside::networked::refused(&report, "other.test", 80, "a policy"),
            1,
            "{report:#}"
        );
        let all = records(&place);
        let connections: Vec<(&Value, &Value)> = all
            .iter()
            .filter(|one| one["kind"] == "connection" && !one["verdict"].is_null())
            .map(|one| (&one["action"]["host"], &one["verdict"]))
            .collect();
        assert_eq!(connections.len(), 2, "{connections:?}");
        assert!(
            connections
                .iter()
                .any(|(host, verdict)| *host == "ok.test" && *verdict == "allow")
        );
        assert!(
            connections
                .iter()
                .any(|(host, verdict)| *host == "other.test" && *verdict == "deny")
        );
    }
}

#[test]
fn what_is_done_to_a_log_is_found() {
    for who in everybody() {
        let place = place(who);
        place
            .run(&yaml("standard", "ask", "policy.yaml"))
            .expect_code(0);
        let audit = place.dir.join("state/audit");
        let log = fs::read_dir(&audit)
            .unwrap()
            .flatten()
            .find(|one| one.path().is_dir())
            .unwrap();
        let segment = log.path().join("00000000000000000000.jsonl");
        let bytes = fs::read(&segment).unwrap();
        let at = String::from_utf8_lossy(&bytes).find("no-drop").unwrap();
        let file = fs::File::options().write(true).open(&segment).unwrap();
        file.write_all_at(b"x", at as u64).unwrap();
        let altered = place.finish(&["audit", "verify"]);
        assert!(
            altered
                .expect_code(1)
                .stdout
                .contains("altered at record 4"),
            "{}",
            altered.stdout
        );
        fs::write(&segment, &bytes[..at]).unwrap();
        let cut = place.finish(&["audit", "verify"]);
        assert!(
            cut.expect_code(1).stdout.contains("truncated"),
            "{}",
            cut.stdout
        );
        let (keys, aside) = (place.dir.join("state/keys"), place.dir.join("aside"));
        fs::rename(&keys, &aside).unwrap();
        place
            .run(&yaml("standard", "ask", "policy.yaml"))
            .expect_code(0)
            .expect_said("the keys that signed the logs so far are gone");
        fs::remove_dir_all(&keys).unwrap();
        fs::rename(&aside, &keys).unwrap();
        fs::remove_dir_all(log.path()).unwrap();
        let gone = place.finish(&["audit", "verify"]);
        assert!(
            gone.expect_code(1).stdout.contains("missing"),
            "{}",
            gone.stdout
        );
    }
}

#[test]
fn a_supervisor_that_is_killed_leaves_a_log_that_holds() {
    for who in everybody() {
        let place = place(who);
        let sleeps = yaml("standard", "ask", "policy.yaml").replace(
            "command: [/usr/bin/python3, ../agent.py, ask]",
            "command: [sh, -c, 'touch up; sleep 60']",
        );
        let mut child = place.start(&sleeps);
        until("up", Duration::from_secs(20), || {
            place.dir.join("ws/up").exists()
        });
        child.kill().unwrap();
        child.wait().unwrap();
        let killed = place.finish(&["audit", "verify"]);
        assert!(
            killed.expect_code(0).stdout.contains("not closed"),
            "{}",
            killed.stdout
        );
        place
            .run(&yaml("standard", "ask", "policy.yaml"))
            .expect_code(0);
        let swept = place.finish(&["audit", "verify"]);
        assert!(
            !swept.expect_code(0).stdout.contains("not closed"),
            "{}",
            swept.stdout
        );
    }
}

#[test]
fn a_wrong_policy_and_a_log_that_cannot_be_written_start_nothing() {
    for who in everybody() {
        let place = place(who);
        place.file(
            "policy.yaml",
            POLICY.replace("verdict: deny", "verdict: never"),
        );
        let wrong = place.run(&yaml("standard", "ask", "policy.yaml"));
        wrong.expect_code(2).expect_said("policy.yaml:8:14");
        assert!(wrong.stdout.is_empty());
        place
            .finish(&["check", "agent.yaml"])
            .expect_code(2)
            .expect_said("policy.yaml:8:14");
        let absent = place.run(&yaml("standard", "ask", "other.yaml"));
        absent.expect_code(2).expect_said("agent.yaml:8");
        place.file("policy.yaml", POLICY);
        fs::create_dir_all(place.dir.join("state")).unwrap();
        fs::write(place.dir.join("state/audit"), "in the way").unwrap();
        let blocked = place.run(&yaml("standard", "ask", "policy.yaml"));
        blocked.expect_code(125).expect_said("audit");
        assert!(blocked.stdout.is_empty());
    }
}

#[test]
fn a_policy_stays_as_it_is_and_the_log_is_out_of_reach() {
    for who in everybody() {
        let place = place(who);
        place.file("ws/policy.yaml", POLICY);
        let state = place.dir.join("state");
        let script = format!(
            "echo x >> policy.yaml; mv policy.yaml p; ls -A {0} /var/lib/agt 2>/dev/null | wc -l; ls /run/agt; \
             rm -f /run/agt/agent.sock; ln -s x /run/agt/y; test -S /run/agt/agent.sock && echo stands",
            state.display()
        );
        let yaml = format!(
            "version: 1\nname: gov\nring: standard\nworkspace: ./ws\npolicy: [./ws/policy.yaml]\ncommand: [sh, -c, '{script}']\n"
        );
        let ran: Ran = place.run(&yaml);
        assert_eq!(
            ran.expect_code(0).stdout,
            "0\nagent.sock\nstands\n",
            "{}",
            ran.stderr
        );
        assert_eq!(
            fs::read_to_string(place.dir.join("ws/policy.yaml")).unwrap(),
            POLICY
        );
    }
}

#[test]
fn what_policies_say_of_files_is_mounted() {
    for who in everybody() {
        let place = place(who);
        for file in [
            "ws/a/x",
            "ws/b/x",
            "ws/secret",
            "ws/locked/x",
            "data/x",
            "data/in/x",
            "other/x",
        ] {
            place.file(file, "old\n");
        }
        let root = place.dir.display();
        let files = format!(
            "version: 1\nname: files\ndefault: deny\nrules:\n  \
             - {{name: read, match: {{action: fs.read, path: '${{workspace}}/**'}}, verdict: allow}}\n  \
             - {{name: write, match: {{action: fs.write, path: '${{workspace}}/**'}}, verdict: allow}}\n  \
             - {{name: in, match: {{action: fs.read, path: '{root}/data/in/**'}}, verdict: allow}}\n  \
             - {{name: no-secret, match: {{action: fs.read, path: '${{workspace}}/secret'}}, verdict: deny}}\n  \
             - {{name: locked, match: {{action: fs.write, path: ['${{workspace}}/locked/**', '${{workspace}}/b/**']}}, verdict: deny}}\n  \
             - {{name: when-labelled, match: {{action: fs.read, path: '${{workspace}}/a/**'}}, when: '\"x\" in labels', verdict: deny}}\n"
        );
        place.file("policy.yaml", &files);
        let script = "for f in a/x b/x secret locked/x ../data/x ../data/in/x ../other/x; do \
                      printf \"$f \"; cat $f 2>/dev/null || printf \"no \"; (echo new > $f) 2>/dev/null && echo w || echo r; done; \
                      (mv locked l2; mv b b2; rm -rf locked b) 2>/dev/null; ls";
        let yaml = format!(
            "version: 1\nname: gov\nring: standard\nworkspace: ./ws\nhome: none\nfiles: {{read: [./other], write: [./data]}}\n\
             policy: [policy.yaml]\ncommand: [sh, -c, '{script}']\n"
        );
        let ran = place.run(&yaml);
        let lines: Vec<&str> = ran.expect_code(0).stdout.lines().collect();
        let expected = [
            "a/x old",
            "w",
            "b/x old",
            "r",
            "secret r",
            "locked/x old",
            "r",
            "../data/x no w",
            "../data/in/x old",
            "r",
            "../other/x no r",
            "a",
            "b",
            "locked",
            "secret",
        ];
        assert_eq!(lines, expected, "{ran:?}");
        ran.expect_said("other is not seen: the default of policy files")
            .expect_said("locked is read-only: rule locked of policy files");
        assert_eq!(
            fs::read_to_string(place.dir.join("ws/locked/x")).unwrap(),
            "old\n"
        );
        assert_eq!(
            fs::read_to_string(place.dir.join("ws/a/x")).unwrap(),
            "new\n"
        );
        place
            .finish(&["explain", "agent.yaml", "secret"])
            .expect_code(1);
        let check = place.finish(&["policy", "check", "policy.yaml"]);
        for (rule, by) in [
            ("no-secret", "kernel"),
            ("locked", "kernel"),
            ("when-labelled", "socket only"),
        ] {
            let line = check
                .stdout
                .lines()
                .find(|line| line.contains(rule))
                .unwrap();
            assert!(line.ends_with(by), "{line}");
        }
        // What is granted is all there is, whatever the rules allow.
        place.file(
            "policy.yaml",
            "version: 1\nname: granted\ndefault: allow\nrules: []\ngrants:\n  \
             - {to: gov, action: fs.read, scope: '${workspace}/**'}\n  \
             - {to: gov, action: fs.write, scope: '${workspace}/a/**'}\n",
        );
        let granted = place.run(&yaml);
        let lines: Vec<&str> = granted.expect_code(0).stdout.lines().collect();
        let expected = [
            "a/x new",
            "w",
            "b/x old",
            "r",
            "secret old",
            "r",
            "locked/x old",
            "r",
            "../data/x no r",
            "../data/in/x no r",
            "../other/x no r",
        ];
        assert_eq!(lines.get(..11), Some(&expected[..]), "{granted:?}");
        granted.expect_said("other is not seen: rule grants of policy granted (grants)");
        // What a mount could not keep is said, or refused.
        place.file(
            "policy.yaml",
            format!(
                "version: 1\nname: files\ndefault: allow\nrules:\n  \
                 - {{name: no, match: {{action: fs.read, path: ['${{workspace}}/later', '{root}/data/in/**']}}, verdict: deny}}\n  \
                 - {{name: fixed, match: {{action: fs.write, path: '${{workspace}}/secret'}}, verdict: deny}}\n"
            ),
        );
        fs::hard_link(place.dir.join("data/in/x"), place.dir.join("data/y")).unwrap();
        let said = place.run(&yaml);
        said.expect_code(0)
            .expect_said("ws/later is not held: it does not exist")
            .expect_said("data/in/x has other hard links");
        fs::hard_link(place.dir.join("ws/secret"), place.dir.join("ws/other-name")).unwrap();
        place
            .run(&yaml)
            .expect_code(2)
            .expect_said("ws/secret")
            .expect_said("other hard links");
        place.file(
            "policy.yaml",
            files.replace(
                "name: read, match: {action: fs.read",
                "name: read, match: {action: fs.delete",
            ),
        );
        place
            .run(&yaml)
            .expect_code(2)
            .expect_said("may not be read");
    }
}
