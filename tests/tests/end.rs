//! The kill contract: however an agent ends, everything that it started is dead, and its own exit
//! status is kept.

use std::io::{BufRead, BufReader};
use std::process::Child;
use std::time::{Duration, Instant};

use outside::{Place, Ran, Who, alive, compile, everybody, leftovers, signal, sources, until};
use rustix::process::Signal;

/// From the kill step to the last process: the contract's own figure, with room for a busy machine
/// in the tests (benches measure it).
const DEAD_WITHIN: Duration = Duration::from_secs(2);

fn hostile(place: &Place) {
    compile(
        &[sources().join("programs/hostile.c")],
        &place.dir("ws").join("hostile"),
    );
}

fn yaml(command: &str, more: &str) -> String {
    format!(
        "version: 1\nname: kill-test\nring: standard\nworkspace: ./ws\ncommand: {command}\n{more}"
    )
}

fn tag(place: &Place, what: &str) -> String {
    let name = place
        .dir
        .file_name()
        .unwrap()
        .to_string_lossy()
        .into_owned();
    format!("TAG-{what}-{name}")
}

/// Waits for the agent's `ready` line; the rest of its output stays in the pipe.
fn ready(child: &mut Child) {
    let mut line = String::new();
    let stdout = child.stdout.as_mut().expect("a pipe");
    BufReader::new(stdout).read_line(&mut line).expect("a line");
    assert!(line.starts_with("ready"), "{line}");
}

#[test]
fn the_main_process_ends_and_its_daemons_with_it() {
    for who in everybody() {
        let place = Place::new(who);
        hostile(&place);
        let tag = tag(&place, "exit");
        let ran = place.run(&yaml(
            &format!("[./hostile, '50', --tag, {tag}, --exit, '7']"),
            "",
        ));
        ran.expect_code(7);
        assert_eq!(alive(&tag), [0_u32; 0], "{who:?}");
    }
}

#[test]
fn a_signal_that_ended_the_agent_is_its_exit_code() {
    for who in everybody() {
        let place = Place::new(who);
        place.dir("ws");
        place
            .run(&yaml("[sh, -c, 'kill -SEGV $$']", ""))
            .expect_code(128 + 11);
        place.run(&yaml("[sh, -c, 'exit 42']", "")).expect_code(42);
    }
}

#[test]
fn sigterm_and_sigint_end_everything() {
    for who in everybody() {
        for what in [Signal::TERM, Signal::INT, Signal::HUP] {
            let place = Place::new(who);
            hostile(&place);
            let tag = tag(&place, "term");
            let command = format!("[./hostile, '50', --tag, {tag}]");
            let mut child = place.start(&yaml(&command, "kill: {grace: 200ms}\n"));
            ready(&mut child);
            assert!(alive(&tag).len() >= 50, "{who:?}");
            signal(&child, what);
            Ran::wait(child, Duration::from_secs(20)).expect_code(137);
            assert_eq!(alive(&tag), [0_u32; 0], "{who:?} {what:?}");
        }
    }
}

#[test]
fn an_agent_that_heeds_sigterm_keeps_its_own_status() {
    for who in everybody() {
        let place = Place::new(who);
        place.dir("ws");
        let command = "[sh, -c, \"trap 'exit 9' TERM; echo ready; while :; do sleep 0.05; done\"]";
        let mut child = place.start(&yaml(command, ""));
        ready(&mut child);
        let since = Instant::now();
        signal(&child, Signal::TERM);
        Ran::wait(child, Duration::from_secs(20)).expect_code(9);
        assert!(
            since.elapsed() < Duration::from_secs(4),
            "the grace period was waited out"
        );
    }
}

#[test]
fn sigkill_to_the_supervisor_ends_everything() {
    for who in everybody() {
        let place = Place::new(who);
        hostile(&place);
        let tag = tag(&place, "super");
        let mut child = place.start(&yaml(&format!("[./hostile, '50', --tag, {tag}]"), ""));
        ready(&mut child);
        signal(&child, Signal::KILL);
        until("the ring's end", DEAD_WITHIN, || alive(&tag).is_empty());
        drop(child.wait());
    }
}

#[test]
fn sigkill_to_ringd_ends_everything_and_is_reported() {
    for who in everybody() {
        let place = Place::new(who);
        hostile(&place);
        let tag = tag(&place, "ringd");
        let mut child = place.start(&yaml(&format!("[./hostile, '50', --tag, {tag}]"), ""));
        ready(&mut child);
        let ringd = ringd_of(child.id());
        rustix::process::kill_process(ringd, Signal::KILL).expect("kill");
        until("the ring's end", DEAD_WITHIN, || alive(&tag).is_empty());
        Ran::wait(child, Duration::from_secs(20))
            .expect_code(123)
            .expect_said("lost");
    }
}

/// The supervisor's child that holds the ring.
fn ringd_of(supervisor: u32) -> rustix::process::Pid {
    let path = format!("/proc/{supervisor}/task/{supervisor}/children");
    let mut found = None;
    until("ringd", Duration::from_secs(10), || {
        let children = std::fs::read_to_string(&path).expect("children");
        let mut pids = children.split_whitespace();
        found = pids
            .find(|pid| {
                let line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
                line.starts_with(b"agt-ringd")
            })
            .map(str::to_owned);
        found.is_some()
    });
    let pid = found.expect("ringd").parse().expect("a pid");
    rustix::process::Pid::from_raw(pid).expect("a pid")
}

#[test]
fn a_ringd_that_hangs_does_not_keep_its_ring() {
    for who in everybody() {
        let place = Place::new(who);
        hostile(&place);
        let tag = tag(&place, "hung");
        let more = "kill: {grace: 100ms}\n";
        let mut child = place.start(&yaml(&format!("[./hostile, '20', --tag, {tag}]"), more));
        ready(&mut child);
        rustix::process::kill_process(ringd_of(child.id()), Signal::STOP).expect("stop");
        signal(&child, Signal::TERM);
        Ran::wait(child, Duration::from_secs(20)).expect_code(123);
        until("the ring's end", DEAD_WITHIN, || alive(&tag).is_empty());
    }
}

#[test]
fn ringd_killed_at_any_instant_of_a_start_leaves_nothing() {
    for who in everybody() {
        for delay_us in (0..12_000).step_by(600) {
            let place = Place::new(who);
            place.dir("ws");
            let tag = tag(&place, "early");
            let command = format!("[sh, -c, 'sleep 300; true', {tag}]");
            let child = place.start(&yaml(&command, ""));
            let ringd = ringd_of(child.id());
            std::thread::sleep(Duration::from_micros(delay_us));
            rustix::process::kill_process(ringd, Signal::KILL).expect("kill");
            let ran = Ran::wait(child, Duration::from_secs(20));
            assert!([123, 125].contains(&ran.code), "{who:?} {delay_us} {ran:?}");
            until("the ring's end", DEAD_WITHIN, || alive(&tag).is_empty());
        }
    }
}

#[test]
fn a_thousand_hostile_processes() {
    for who in everybody() {
        let place = Place::new(who);
        hostile(&place);
        let tag = tag(&place, "storm");
        let limits = "limits: {pids: 2000}\nkill: {grace: 0s}\n";
        let mut child = place.start(&yaml(&format!("[./hostile, '1000', --tag, {tag}]"), limits));
        ready(&mut child);
        signal(&child, Signal::TERM);
        Ran::wait(child, Duration::from_secs(60)).expect_code(137);
        assert_eq!(alive(&tag), [0_u32; 0], "{who:?}");
    }
}

#[test]
fn wall_time_is_over() {
    for who in everybody() {
        let place = Place::new(who);
        place.dir("ws");
        let limits = "limits: {wall: 300ms}\nkill: {grace: 100ms}\n";
        let ran = place.run(&yaml("[sh, -c, \"trap '' TERM; sleep 60\"]", limits));
        ran.expect_code(124).expect_said("wall time");
    }
}

#[test]
fn a_stopped_supervisor_does_not_stop_the_clock() {
    for who in everybody() {
        let place = Place::new(who);
        hostile(&place);
        let tag = tag(&place, "stopped");
        let more = "limits: {wall: 500ms}\nkill: {grace: 100ms}\n";
        let mut child = place.start(&yaml(&format!("[./hostile, '5', --tag, {tag}]"), more));
        ready(&mut child);
        signal(&child, Signal::STOP);
        until("the ring's end", Duration::from_secs(10), || {
            // The supervisor's own command line does not hold the tag.
            alive(&tag).is_empty()
        });
        signal(&child, Signal::KILL);
        drop(child.wait());
    }
}

#[test]
fn output_is_limited() {
    for who in everybody() {
        let place = Place::new(who);
        place.dir("ws");
        let limits = "limits: {output: 100K}\nkill: {grace: 100ms}\n";
        let ran = place.run(&yaml("[sh, -c, 'yes']", limits));
        ran.expect_code(122).expect_said("output limit");
        assert!(ran.stdout.len() < 4 << 20, "{}", ran.stdout.len());
    }
}

#[test]
fn memory_runs_out_and_the_line_to_change_is_named() {
    for who in everybody() {
        let place = Place::new(who);
        place.dir("ws");
        let code = "b = []\nwhile True: b.append(bytearray(1 << 20))";
        place.file("ws/eat.py", code);
        let ran = place.run(&yaml("[python3, eat.py]", "limits: {memory: 96M}\n"));
        ran.expect_code(137)
            .expect_said("out of memory")
            .expect_said("limit 96M");
        ran.expect_said("agent.yaml:6");
    }
}

#[test]
fn memfds_count_as_memory() {
    for who in everybody() {
        let place = Place::new(who);
        place.dir("ws");
        let code = "import os\nfds = []\nwhile True:\n  fd = os.memfd_create('x')\n  \
                    os.write(fd, b'x' * (1 << 20))\n  fds.append(fd)";
        place.file("ws/eat.py", code);
        let ran = place.run(&yaml("[python3, eat.py]", "limits: {memory: 96M}\n"));
        ran.expect_code(137).expect_said("out of memory");
    }
}

#[test]
fn processes_are_limited() {
    for who in everybody() {
        let place = Place::new(who);
        place.dir("ws");
        let code = "import os, time\nn = 0\ntry:\n  while n < 200:\n    pid = os.fork()\n    \
                    if pid == 0: time.sleep(60)\n    n += 1\nexcept OSError: print(n)";
        place.file("ws/fork.py", code);
        let ran = place.run(&yaml("[python3, fork.py]", "limits: {pids: 30}\n"));
        let forked: u32 = ran.expect_code(0).stdout.trim().parse().expect("a number");
        assert!((25..=30).contains(&forked), "{who:?} {forked}");
    }
}

#[test]
fn a_run_leaves_nothing_and_the_next_start_sweeps_beside_a_live_one() {
    for who in everybody().into_iter().filter(|who| *who == Who::Root) {
        let place = Place::new(who);
        // Other tests run beside this one: only groups of this name count.
        let name = format!("swept-{}", std::process::id());
        let yaml = |command: &str| yaml(command, "").replace("kill-test", &name);
        hostile(&place);
        let (tag, live) = (tag(&place, "swept"), tag(&place, "live"));
        let mut running = place.start(&yaml(&format!("[./hostile, '5', --tag, {live}]")));
        ready(&mut running);
        let before = leftovers(&name).len();
        let mut child = place.start(&yaml(&format!("[./hostile, '5', --tag, {tag}]")));
        ready(&mut child);
        let ringd = ringd_of(child.id());
        signal(&child, Signal::KILL);
        // It may have gone by itself already.
        let _gone = rustix::process::kill_process(ringd, Signal::KILL);
        drop(child.wait());
        until("the ring's end", DEAD_WITHIN, || alive(&tag).is_empty());
        place.run(&yaml("['true']")).expect_code(0);
        assert_eq!(leftovers(&name).len(), before, "{:?}", leftovers(&name));
        assert!(alive(&live).len() >= 5, "the live run was touched");
        signal(&running, Signal::TERM);
        drop(running.wait());
        place.run(&yaml("['true']")).expect_code(0);
    }
}

#[test]
fn a_reader_that_leaves_is_seen_by_the_agent() {
    for who in everybody() {
        let place = Place::new(who);
        place.dir("ws");
        let mut child = place.start(&yaml("['yes']", ""));
        ready_line(&mut child, "y");
        drop(child.stdout.take());
        Ran::wait(child, Duration::from_secs(20)).expect_code(128 + 13);
    }
}

fn ready_line(child: &mut Child, wanted: &str) {
    let mut line = String::new();
    let stdout = child.stdout.as_mut().expect("a pipe");
    BufReader::new(stdout).read_line(&mut line).expect("a line");
    assert_eq!(line.trim(), wanted);
}

#[test]
fn shared_memory_counts_too() {
    for who in everybody() {
        let place = Place::new(who);
        place.dir("ws");
        let code = "import mmap, time\nm = mmap.mmap(-1, 600 << 20)\n\
                    for at in range(0, len(m), 4096): m[at] = 1\ntime.sleep(1)";
        place.file("ws/eat.py", code);
        let ran = place.run(&yaml("[python3, eat.py]", "limits: {memory: 96M}\n"));
        ran.expect_code(137).expect_said("out of memory");
    }
}
