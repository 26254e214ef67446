//! Governance signals, approvals and budgets, from outside: what people order and what agents get.

use std::fs;
use std::time::{Duration, Instant};

use outside::live::{Live, POLICY, SOON};
use outside::{Place, Who, everybody, until};

#[test]
fn a_run_stands_still_and_goes_on() {
    for who in everybody() {
        for ring in ["standard", "privileged"] {
            let live = Live::start(who, ring, "");
            let run = live.run();
            live.agt(&["thaw", &run])
                .expect_code(1)
                .expect_said("does not stand still");
            live.agt(&["freeze", &run, "--reason", "let me look"])
                .expect_code(0);
            assert_eq!(live.state()["frozen"], true);
            live.order("ask x 0 1");
            let beats = || fs::metadata(live.place.dir.join("ws/beat")).unwrap().len();
            let before = beats();
            std::thread::sleep(Duration::from_millis(400));
            assert!(!live.said().contains("allowed"), "{}", live.said());
            // Nor do the processes that it left in the background.
            assert_eq!(beats(), before);
            live.agt(&["thaw", &run]).expect_code(0);
            until("all of it goes on", SOON, || beats() > before);
            live.until_said("allowed allow");
            live.until_said("event STOP uid");
            live.until_said("event CONT uid");
            // Whatever stands still can be killed.
            live.agt(&["freeze", &run]).expect_code(0);
            live.agt(&["kill", &run]).expect_code(0);
            let signals: Vec<String> = live
                .records()
                .iter()
                .filter(|one| one["kind"] == "signal")
                .map(|one| one["action"]["kind"].as_str().unwrap().to_owned())
                .collect();
            assert_eq!(
                signals,
                ["STOP", "frozen", "CONT", "STOP", "frozen", "KILL"]
            );
            live.end().1.expect_code(137).expect_said("stands still");
        }
    }
}

/// User and system time of a process so far, in ticks of 10 ms (proc_pid_stat(5)).
fn ticks(pid: u32) -> u64 {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let (_, rest) = stat.rsplit_once(')').unwrap();
    let fields: Vec<&str> = rest.split_ascii_whitespace().collect();
    let [user, system] = [11, 12].map(|at: usize| fields[at].parse::<u64>().unwrap());
    user + system
}

#[test]
fn who_stands_still_while_it_had_more_to_say_costs_nothing() {
    for who in everybody() {
        let live = Live::doing("flood", who, "standard", "");
        let run = live.run();
        live.agt(&["freeze", &run]).expect_code(0);
        let before = ticks(live.child.id());
        std::thread::sleep(Duration::from_secs(2));
        // A loop that never rests takes as much as it gets, even on a busy machine.
        let took = ticks(live.child.id()) - before;
        assert!(took < 10, "{took}0 ms within 2 s");
        live.agt(&["kill", &run]).expect_code(0);
        live.end().1.expect_code(137);
    }
}

#[test]
fn what_takes_long_to_close_holds_no_signal_up() {
    for who in everybody() {
        let live = Live::doing("lingers", who, "standard", "");
        let run = live.run();
        let since = Instant::now();
        live.agt(&["freeze", &run]).expect_code(0);
        live.agt(&["kill", &run]).expect_code(0);
        live.end().1.expect_code(137);
        assert!(since.elapsed() < Duration::from_secs(30));
    }
}

#[test]
fn a_ringd_that_hangs_keeps_nobody_from_killing() {
    for who in everybody() {
        let live = Live::start(who, "standard", "");
        let run = live.run();
        let pid = live.child.id();
        let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap();
        let ringd = children.split(' ').find(|pid| {
            let name = fs::read_to_string(format!("/proc/{pid}/cmdline"));
            name.is_ok_and(|name| name.starts_with("agt-ringd"))
        });
        let ringd = rustix::process::Pid::from_raw(ringd.unwrap().parse().unwrap());
        live.agt(&["freeze", &run]).expect_code(0);
        rustix::process::kill_process(ringd.unwrap(), rustix::process::Signal::STOP).unwrap();
        // Longer than it takes to fill a socket with what is said again and again.
        std::thread::sleep(Duration::from_secs(10));
        live.agt(&["kill", &run]).expect_code(0);
        assert_ne!(live.end().1.code, 0);
    }
}

#[test]
fn loops_and_budgets_stop_until_somebody_says_go() {
    for who in everybody() {
        let more = "limits: {tokens: 100, calls: 8, wall: 60s}\non_loop: {count: 3, within: 60s, do: freeze}\n";
        let live = Live::start(who, "standard", more);
        for _ in 0..3 {
            live.order("ask same 0 x");
        }
        until("the loop is seen", SOON, || live.state()["frozen"] == true);
        live.agt(&["thaw", &live.run()]).expect_code(0);
        live.until_said("Denied EAGAIN it asked for one and the same call 3 times");
        live.order("spend 99 0.5");
        live.until_said("spent");
        live.order("spend 1 0");
        until("tokens are spent", SOON, || live.state()["frozen"] == true);
        live.agt(&["thaw", &live.run()]).expect_code(0);
        // The budget began anew.
        live.order("spend 99 0");
        until("goes on", SOON, || {
            live.said().matches("spent").count() == 3
        });
        for number in 0..8 {
            live.order(&format!("ask t 0 {number}"));
        }
        until("calls are spent", SOON, || live.state()["frozen"] == true);
        live.agt(&["kill", &live.run()]).expect_code(0);
        live.end()
            .1
            .expect_code(122)
            .expect_said("its budget was used up");
    }
}

#[test]
fn told_to_end_it_begins_nothing_new() {
    for who in everybody() {
        let live = Live::start(who, "standard", "kill: {grace: 2s}\n");
        let run = live.run();
        live.order("mask block INT USR1");
        live.until_said("masked INT,USR1");
        live.order("mask block KILL");
        live.until_said("Denied EPERM KILL cannot be masked");
        live.order("hold");
        live.until_said("open\n");
        live.agt(&["signal", &run, "USR1"]).expect_code(0);
        let since = Instant::now();
        live.agt(&["signal", &run, "INT"]).expect_code(0);
        live.order("ask x 0 1");
        live.until_said("Denied EACCES it was told to end");
        let said = live.said();
        // The one that is under way is waited for, as long as `kill.grace` says.
        let (_place, ran) = live.end();
        ran.expect_code(143).expect_said("governance signal INT");
        assert!(
            since.elapsed() > Duration::from_millis(1500),
            "{:?}",
            since.elapsed()
        );
        assert!(!said.contains("event"), "{said}");
        let live = Live::start(who, "standard", "");
        live.order("raise STOP");
        until("it stopped itself", SOON, || live.state()["frozen"] == true);
        live.agt(&["signal", &live.run(), "TRUST"])
            .expect_code(2)
            .expect_said("signals in force");
        live.agt(&["signal", "nobody-is-named-so", "STOP"])
            .expect_code(3);
        live.agt(&["signal", &live.run(), "TERM"]).expect_code(0);
        live.end().1.expect_code(137);
    }
}

#[test]
fn policies_are_read_again_or_stay_as_they_are() {
    for who in everybody() {
        let live = Live::start(who, "standard", "");
        live.place.file(
            "policy.yaml",
            POLICY.replace("verdict: deny", "verdict: maybe"),
        );
        live.agt(&["reload", &live.run()])
            .expect_code(2)
            .expect_said("policy.yaml:8")
            .expect_said("stay");
        live.order("ask never 0 1");
        live.until_said("Denied EACCES");
        live.place.file(
            "policy.yaml",
            POLICY.replace("verdict: deny", "verdict: allow"),
        );
        live.agt(&["reload", &live.run()]).expect_code(0);
        live.order("ask never 0 2");
        live.until_said("allowed allow");
        live.agt(&["kill", &live.run()]).expect_code(0);
        live.end().1.expect_code(137);
    }
}

#[test]
fn nobody_else_rules_a_run() {
    let both = everybody();
    let (Some(root), Some(user)) = (
        both.iter().find(|who| matches!(who, Who::Root)),
        both.iter().find(|who| matches!(who, Who::User)),
    ) else {
        return;
    };
    let live = Live::start(*root, "standard", "");
    let run = live.run();
    let other = Place::new(*user);
    assert!(!other.finish(&["ps"]).stdout.contains(&run));
    for args in [["freeze", &run], ["kill", &run], ["reload", &run]] {
        other.finish(&args).expect_code(3);
    }
    // Nor does anything of the ring reach the socket.
    for dir in ["/run/agt/control", "/run/agt/approvers"] {
        let mut sockets = fs::read_dir(dir).unwrap().flatten();
        assert!(sockets.any(|one| *one.file_name() == *run), "{dir}");
    }
    // Whoever fills the entrance for others keeps nobody from root's own.
    let flood = format!(
        "import socket, time\nend, held = time.time() + 3, []\nwhile time.time() < end:\n  \
         s = socket.socket(socket.AF_UNIX)\n  s.setblocking(False)\n  try:\n    \
         s.connect('/run/agt/approvers/{run}')\n    held.append(s)\n  except BlockingIOError:\n    time.sleep(0.001)\n  \
         del held[:-500]\nopen('flooded', 'w')\n"
    );
    let flooded = other.dir.join("flooded");
    let user = outside::USER.to_string();
    let flooder = std::thread::spawn(move || {
        let args = [
            "--reuid",
            &user,
            "--regid",
            &user,
            "--clear-groups",
            "/usr/bin/python3",
            "-c",
            &flood,
        ];
        let (fine, said) = outside::tool("setpriv", &args, &other);
        assert!(fine, "{said}");
        other
    });
    while !flooded.exists() && !flooder.is_finished() {
        let since = Instant::now();
        assert_eq!(live.run(), run);
        assert!(since.elapsed() < Duration::from_secs(5));
    }
    drop(flooder.join().unwrap());
    live.agt(&["kill", &run]).expect_code(0);
    live.end().1.expect_code(137);
    assert!(!fs::exists(format!("/run/agt/control/{run}")).unwrap());
}
