//! Single commands of an agent in rings of their own: its tools, and one that is lifted.

use std::fs;
use std::process::Child;
use std::time::Duration;

use outside::{Place, Ran, Who, alive, everybody, until};
use serde_json::Value;

const SOON: Duration = Duration::from_secs(20);

/// A run whose agent is this Python, with the client as `agt` and its agent as `a`.
fn start(who: Who, more: &str, policy: &str, python: &str) -> (Place, Child) {
    let place = Place::new(who);
    place.dir("ws");
    let client = outside::sources().join("../clients/python/agt/__init__.py");
    place.file("client/agt/__init__.py", fs::read(client).unwrap());
    let head = "import sys, time\nsys.path.insert(0, '../client')\nimport agt\na = agt.Agent.connect()\n\
                def t(f):\n    try:\n        r = f()\n        print(r['exit_code'], r['stdout'].strip(), r['stderr'].strip())\n    \
                except agt.Denied as no:\n        print(type(no).__name__, no.reply.get('denial'), no.reason)\n    sys.stdout.flush()\n";
    place.file("client/agent.py", format!("{head}{python}"));
    place.file(
        "policy.yaml",
        format!("version: 1\nname: p\ndefault: allow\nrules: {policy}\n"),
    );
    // A name of its own, as that of its folder is.
    let name = place.dir.file_name().unwrap().to_string_lossy();
    let yaml = format!(
        "version: 1\nname: {name}\nworkspace: ./ws\nhome: none\nfiles: {{read: [./client]}}\nenv: {{set: {{PYTHONDONTWRITEBYTECODE: \"1\"}}}}\n\
         policy: [policy.yaml]\ncommand: [/usr/bin/python3, ../client/agent.py]\n{more}"
    );
    let child = place.start(&yaml);
    (place, child)
}

fn ran(who: Who, more: &str, policy: &str, python: &str) -> (Place, Ran) {
    let (place, child) = start(who, more, policy, python);
    let ran = Ran::wait(child, SOON);
    (place, ran)
}

fn ps(place: &Place, child: &Child) -> Value {
    let all = place.finish(&["ps", "--json"]);
    let all: Value = serde_json::from_str(&all.stdout).unwrap();
    let mine = |one: &&Value| one["pid"] == child.id();
    let mine = all.as_array().unwrap().iter().find(mine);
    mine.cloned().unwrap_or(Value::Null)
}

fn runs(place: &Place) -> Vec<Value> {
    let logs = fs::read_dir(place.dir.join("state/audit"))
        .unwrap()
        .flatten();
    let logs = logs.filter(|one| one.path().is_dir());
    logs.flat_map(|log| {
        let name = log.file_name().to_string_lossy().into_owned();
        let shown = place.finish(&["audit", "show", &name, "--json"]);
        let lines = shown
            .stdout
            .lines()
            .map(|line| serde_json::from_str::<Value>(line).unwrap());
        lines.collect::<Vec<_>>()
    })
    .collect()
}

#[test]
fn a_tool_has_a_ring_of_its_own() {
    for who in everybody() {
        let python = "t(lambda: a.run('sh', '-c', 'echo made > f; cat f'))\n\
            t(lambda: a.run('sh', '-c', 'echo x > g', ring='sandbox'))\n\
            t(lambda: a.run('sh', '-c', 'exit 7', ring=3))\n\
            t(lambda: a.run('id', ring=1))\n\
            t(lambda: a.run('git', 'push'))\n\
            t(lambda: a.run('sh', '-c', 'sleep 77', ttl=1))\n\
            t(lambda: a.run('no-such-program'))\n\
            t(lambda: a.run('sh', '-c', 'yes | head -c 100000'))\n";
        let policy = "[{name: no-push, match: {action: exec, program: git}, verdict: deny, reason: Not from here.}]";
        let (place, ran) = ran(who, "ring: standard\n", policy, python);
        let lines: Vec<&str> = ran.expect_code(0).stdout.lines().collect();
        assert_eq!(lines[0], "0 made ", "{ran:?}");
        assert!(
            lines[1].starts_with("2 ") && lines[1].contains("Read-only"),
            "{}",
            lines[1]
        );
        assert_eq!(lines[2], "7  ");
        assert!(
            lines[3].starts_with("Denied None that is a ring of more rights"),
            "{}",
            lines[3]
        );
        assert_eq!(lines[4], "Denied None Not from here.");
        assert!(lines[5].starts_with("124 "), "{}", lines[5]);
        assert!(
            lines[6].starts_with("127 ") && lines[6].contains("no-such-program"),
            "{}",
            lines[6]
        );
        assert!(lines[7].starts_with("0 y"), "{}", &lines[7]);
        assert!(ran.stdout.len() < 40_000);
        // Each is a run of its own, with the run that asked in its first record.
        let all = runs(&place);
        let of: Vec<&Value> = all
            .iter()
            .filter(|one| one["kind"] == "launch" && one["action"]["of"].is_string())
            .collect();
        assert_eq!(of.len(), 5, "{of:?}");
        assert!(of.iter().any(|one| one["ring"] == "sandbox"));
        place.finish(&["audit", "verify"]).expect_code(0);
    }
}

#[test]
fn who_runs_one_program_runs_no_other_unless_a_rule_says_so() {
    for who in everybody() {
        let python = "t(lambda: a.run('id'))\nt(lambda: a.run('true'))\n";
        let policy =
            "[{name: true-is-fine, match: {action: exec, program: 'true'}, verdict: allow}]";
        let (_place, ran) = ran(who, "ring: sandbox\n", policy, python);
        let lines: Vec<&str> = ran.expect_code(0).stdout.lines().collect();
        assert!(
            lines[0].starts_with("Denied None its ring runs one program only"),
            "{ran:?}"
        );
        assert_eq!(lines[1], "0  ");
    }
}

#[test]
fn a_command_is_lifted_as_far_as_agent_yaml_says_and_ring_1_by_a_person() {
    for who in everybody() {
        let python = "t(lambda: a.elevate(0, 'id'))\nt(lambda: a.elevate(3, 'id'))\nt(lambda: a.elevate(1, 'id'))\n\
            t(lambda: a.elevate('standard', 'sh', '-c', 'echo made > f; cat f'))\nt(lambda: a.elevate(2, 'rm', '-r', '.'))\n";
        let policy = "[{name: no-rm, match: {action: ring.elevate, program: rm}, verdict: deny}]";
        let (place, first) = ran(who, "ring: sandbox\nelevate: standard\n", policy, python);
        let lines: Vec<&str> = first.expect_code(0).stdout.lines().collect();
        let denials: Vec<&str> = lines
            .iter()
            .filter_map(|line| line.strip_prefix("Denied ")?.split(' ').next())
            .collect();
        assert_eq!(
            denials,
            [
                "ring_0_forbidden",
                "invalid_target",
                "insufficient_trust",
                "None"
            ],
            "{first:?}"
        );
        assert_eq!(lines[3], "0 made ");
        assert_eq!(
            fs::read_to_string(place.dir.join("ws/f")).unwrap(),
            "made\n"
        );
        let (_place, none) = ran(
            who,
            "ring: sandbox\n",
            "[]",
            "t(lambda: a.elevate(2, 'id'))\n",
        );
        assert!(
            none.stdout.starts_with("Denied insufficient_trust"),
            "{none:?}"
        );
        // Ring 1: whatever the policies say, somebody has to.
        let python = "t(lambda: a.elevate(1, 'sh', '-c', 'echo up'))\nt(lambda: a.elevate(1, 'sh', '-c', 'echo up', wait=15))\n";
        let (place, child) = start(who, "ring: standard\nelevate: privileged\n", "[]", python);
        let mut id = String::new();
        until("it waits", SOON, || {
            let list = place.finish(&["approvals", "--json"]);
            let list: Value = serde_json::from_str(&list.stdout).unwrap_or_default();
            let own = place.dir.join("ws").to_string_lossy().into_owned();
            let one = list
                .as_array()
                .into_iter()
                .flatten()
                .find(|one| one["workspace"] == own);
            id = one.map_or(String::new(), |one| one["id"].as_str().unwrap().to_owned());
            !id.is_empty()
        });
        place.finish(&["approve", &id]).expect_code(0);
        let lifted = Ran::wait(child, SOON);
        let lines: Vec<&str> = lifted.expect_code(0).stdout.lines().collect();
        assert!(lines[0].starts_with("Held no_sponsorship"), "{lifted:?}");
        assert_eq!(lines[1], "0 up ");
        let wrong =
            place.run("version: 1\nname: w\nring: standard\nelevate: sandbox\ncommand: [id]\n");
        wrong.expect_code(2).expect_said("agent.yaml:4");
    }
}

#[test]
fn workers_die_with_the_run_however_it_ends() {
    for who in everybody() {
        for end in ["kill -9", "freeze", "exit"] {
            let tag = format!(
                "66{}",
                fs::metadata("/proc/self").map_or(0, |_| std::process::id())
            );
            let tail = if end == "exit" {
                "time.sleep(2)\n"
            } else {
                "time.sleep(60)\n"
            };
            let python = format!(
                "import threading\nb = agt.Agent.connect()\nthreading.Thread(target=lambda: b.run('sleep', '{tag}'), daemon=True).start()\n{tail}"
            );
            let (place, mut child) = start(who, "ring: standard\n", "[]", &python);
            until("the worker lives", SOON, || !alive(&tag).is_empty());
            match end {
                "kill -9" => {
                    child.kill().unwrap();
                    child.wait().unwrap();
                }
                "exit" => drop(Ran::wait(child, SOON)),
                _ => {
                    let mine = ps(&place, &child);
                    let (run, agent) = (mine["run"].as_str().unwrap(), mine["agent"].as_str());
                    // The worker has the same name; it is the agent that is meant. It is listed below it.
                    let below = format!("  {}", agent.unwrap());
                    until("both are listed", SOON, || {
                        let list = place.finish(&["ps"]).stdout;
                        let mut lines = list.lines().skip_while(|line| !line.ends_with(run));
                        lines.nth(1).is_some_and(|line| line.starts_with(&below))
                    });
                    place.finish(&["freeze", agent.unwrap()]).expect_code(0);
                    until("rights are not kept", SOON, || alive(&tag).is_empty());
                    place.finish(&["kill", run]).expect_code(0);
                    child.wait().unwrap();
                }
            }
            until(end, Duration::from_secs(2), || alive(&tag).is_empty());
        }
    }
}

#[test]
fn who_tries_again_and_again_to_get_more_is_stopped() {
    for who in everybody() {
        let python = "for n in range(9):\n    t(lambda: a.elevate(n % 2, 'id'))\n";
        let (place, child) = start(who, "ring: sandbox\n", "[]", python);
        until("it is stopped", SOON, || {
            ps(&place, &child)["frozen"] == true
        });
        let run = ps(&place, &child)["run"].as_str().unwrap().to_owned();
        place.finish(&["kill", &run]).expect_code(0);
        Ran::wait(child, SOON)
            .expect_code(121)
            .expect_said("to get a ring of more rights");
        let all = runs(&place);
        let breaches: Vec<&Value> = all
            .iter()
            .filter(|one| one["action"]["kind"] == "breach")
            .map(|one| &one["action"])
            .collect();
        let scores: Vec<&Value> = breaches.iter().map(|one| &one["score"]).collect();
        // Attempts times the rings of the last one, from five on: 3 for ring 0, 2 for ring 1.
        let few = Value::Null;
        let expected: Vec<Value> = [15, 12, 21].map(Value::from).into();
        let expected: Vec<&Value> = std::iter::repeat_n(&few, 4).chain(&expected).collect();
        assert_eq!(scores, expected, "{breaches:?}");
        assert_eq!(breaches[0]["denial"], "ring_0_forbidden");
        assert_eq!(breaches[1]["denial"], "insufficient_trust");
    }
}

#[test]
fn commands_have_what_the_agent_was_started_with_and_ask_for_nothing() {
    for who in everybody() {
        let inner = "import sys; sys.path.insert(0, '../client'); import agt; a = agt.Agent.connect()\n\
                     for f in (lambda: a.act('tool.call', tool='x'), lambda: a.run('id')):\n    \
                         try:\n        f(); print('went ahead')\n    \
                         except agt.Denied as no:\n        print(no.errno)\n";
        let python = format!(
            "t(lambda: a.run('/usr/bin/python3', '-c', {inner:?}))\n\
             t(lambda: a.act('tool.call', tool='mail') and {{'exit_code': 'sent', 'stdout': '', 'stderr': ''}})\n\
             import os\nopen('asked', 'w').close()\nwhile not os.path.exists('changed'): time.sleep(0.05)\n\
             t(lambda: a.run('id'))\n"
        );
        let policy = "[{name: taints, match: {action: exec}, verdict: allow, labels: {add: [ran]}}, \
                       {name: no-mail, match: {action: tool.call, tool: mail}, when: '\"ran\" in labels', verdict: deny}]";
        let (place, child) = start(who, "ring: standard\n", policy, &python);
        until("it asked", SOON, || place.dir.join("ws/asked").exists());
        let yaml = fs::read_to_string(place.dir.join("agent.yaml")).unwrap();
        place.file("agent.yaml", yaml + "env: {set: {MORE: x}}\n");
        place.file("ws/changed", "");
        let ran = Ran::wait(child, SOON);
        let lines: Vec<&str> = ran.expect_code(0).stdout.lines().collect();
        assert_eq!(lines[0], "0 EACCES", "{ran:?}");
        assert_eq!(lines[1], "ENOSYS ", "{ran:?}");
        assert!(lines[2].starts_with("Denied None"), "{ran:?}");
        assert!(
            lines[3].starts_with("2 ") && lines[3].contains("agent.yaml was changed since"),
            "{ran:?}"
        );
    }
}

/// An editor that saves by renaming takes the mount off that kept the file as it is.
#[test]
fn a_file_of_its_own_that_is_replaced_where_it_may_write_ends_the_run() {
    for who in everybody() {
        for own in ["agent.yaml", "policy.yaml"] {
            let place = Place::new(who);
            place.dir("ws");
            place.file(
                "ws/policy.yaml",
                "version: 1\nname: p\ndefault: allow\nrules: []\n",
            );
            place.file(
                "ws/agent.yaml",
                "version: 1\nname: own\nring: standard\nworkspace: .\nhome: none\npolicy: [policy.yaml]\n\
                 command: [sh, -c, 'touch up; while :; do echo mine >> agent.yaml; echo mine >> policy.yaml; sleep 0.01; done 2> /dev/null']\n",
            );
            let child = place.agt(&["run", "ws/agent.yaml"]).spawn().unwrap();
            until("it runs", SOON, || place.dir.join("ws/up").exists());
            let path = place.dir.join("ws").join(own);
            let before = fs::read_to_string(&path).unwrap();
            assert!(!before.contains("mine\n"), "{before}");
            // In place, it stays as it is inside.
            fs::write(&path, &before).unwrap();
            std::thread::sleep(Duration::from_millis(200));
            assert_eq!(fs::read_to_string(&path).unwrap(), before);
            place.file("ws/.new", &before);
            fs::rename(place.dir.join("ws/.new"), &path).unwrap();
            Ran::wait(child, SOON)
                .expect_code(121)
                .expect_said("was replaced where the agent may write");
        }
    }
}

#[test]
fn whatever_a_command_writes_its_end_is_told() {
    for who in everybody() {
        let python = "r = a.run('sh', '-c', 'head -c 40000 /dev/zero; exit 3')\nprint(r['exit_code'], r['stdout_cut'])\n";
        let (_place, ran) = ran(who, "ring: standard\n", "[]", python);
        assert_eq!(ran.expect_code(0).stdout, "3 True\n", "{ran:?}");
    }
}
