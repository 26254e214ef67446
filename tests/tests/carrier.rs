//! agt-egress as a victim, and what there is to take from it.

#![expect(
    clippy::disallowed_methods,
    reason = "starts a supervisor with few descriptors"
)]

use std::fs;
use std::process::Command;
use std::time::Duration;

use outside::networked::{DNS, SOON, only, place, refused, report, said, start, steady, ups, yaml};
use outside::{Internet, Ran, Who, everybody, until};

/// The processes of agt-egress that this supervisor has, seen from the host.
fn carriers(supervisor: u32) -> Vec<u32> {
    let named = outside::alive("agt-egress").into_iter();
    named.filter(|pid| is_below(*pid, supervisor)).collect()
}

fn status(pid: u32, key: &str) -> String {
    let text = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix(key)?.strip_prefix(':'));
    line.unwrap_or_default().trim().to_owned()
}

fn is_below(mut pid: u32, top: u32) -> bool {
    while pid > 1 {
        if pid == top {
            return true;
        }
        pid = status(pid, "PPid").parse().unwrap_or(0);
    }
    false
}

/// agt-egress itself, not its ring's init.
fn carrier(supervisor: u32) -> u32 {
    let mut found = None;
    until("agt-egress", SOON, || {
        found = carriers(supervisor).into_iter().find(|pid| {
            let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            line == b"agt-egress\0" && status(*pid, "Seccomp") == "2"
        });
        found.is_some()
    });
    found.unwrap()
}

fn send(pid: u32, signal: rustix::process::Signal) {
    let pid = rustix::process::Pid::from_raw(i32::try_from(pid).unwrap()).unwrap();
    rustix::process::kill_process(pid, signal).expect("kill");
}

/// A process that is not there, or a corpse.
fn is_gone(pid: u32) -> bool {
    let state = status(pid, "State");
    state.is_empty() || state.starts_with('Z')
}

#[test]
fn a_lost_carrier_comes_back_and_the_agent_lives_on() {
    use rustix::process::Signal;
    let Some(net) = Internet::new() else { return };
    for who in everybody() {
        let place = place(who, &net);
        let _before = net.seen();
        let child = steady(&place, &net);
        let mut all = Vec::new();
        let parent = |pid: u32| status(pid, "PPid").parse::<u32>().unwrap();
        // Itself, the init of its ring, and the ringd that holds it; and one that stands still.
        let victims = [
            ("agt-egress", Signal::KILL, 0),
            ("its init", Signal::KILL, 1),
            ("its ringd", Signal::KILL, 2),
            ("agt-egress stopped", Signal::STOP, 0),
        ];
        for (what, signal, above) in victims {
            let pid = carrier(child.id());
            all.push(pid);
            send((0..above).fold(pid, |pid, _| parent(pid)), signal);
            until(what, Duration::from_secs(15), || is_gone(pid));
            let before = ups(&place);
            until(what, Duration::from_secs(15), || ups(&place) > before + 1);
        }
        all.push(carrier(child.id()));
        place.file("ws/stop", "");
        let ran = Ran::wait(child, SOON);
        ran.expect_code(7)
            .expect_said("agt-egress is gone: there is no network until it is back")
            .expect_said("agt-egress is back")
            .expect_said("net ended with exit code 7")
            .expect_said("agt-egress was lost and came back 4 times");
        assert_eq!(report(&place)["network"]["egress_restarts"], 4);
        until("nothing is left", SOON, || {
            all.iter().all(|pid| is_gone(*pid))
        });
        only(&net, &[DNS, "dns ok.test", "packet tcp 203.0.113.10:80"]);
    }
}

#[test]
fn the_death_of_the_supervisor_is_that_of_its_carrier() {
    let Some(net) = Internet::new() else { return };
    for who in everybody() {
        let place = place(who, &net);
        let mut child = steady(&place, &net);
        let top = child.id();
        let pids = fs::read_dir("/proc").unwrap().flatten();
        let pids = pids.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
        let all: Vec<u32> = pids.filter(|pid| is_below(*pid, top)).collect();
        assert!(all.contains(&carrier(top)) && all.len() >= 6, "{all:?}");
        child.kill().unwrap();
        child.wait().unwrap();
        until("all of it is gone", SOON, || {
            all.iter().all(|pid| is_gone(*pid))
        });
    }
}

#[test]
fn garbage_and_crowds_end_no_carrier() {
    let Some(net) = Internet::new() else { return };
    let long = std::env::var_os("AGT_LONG").is_some();
    let count = if long { "1000000" } else { "10000" };
    for who in everybody() {
        let place = place(who, &net);
        let source = outside::sources().join("programs/net/garbage.py");
        place.file("ws/garbage.py", fs::read(source).unwrap());
        let _before = net.seen();
        let allow = "{allow: ['ok.test:80', 'ok.test:443', 'ok.test:9000']}";
        let child = start(
            &place,
            &net,
            &yaml(allow, &format!("[python3, garbage.py, '{count}']")),
        );
        let ran = Ran::wait(
            child,
            if long {
                Duration::from_secs(7200)
            } else {
                Duration::from_secs(120)
            },
        );
        let want = "before True\nafter garbage True\nafter a crowd True\n";
        assert_eq!(ran.expect_code(0).stdout, want, "{ran:?}");
        let report = report(&place);
        assert_eq!(report["network"]["egress_restarts"], 0, "{}", ran.stderr);
        assert!(
            refused(&report, "", 3128, "a limit") > 0,
            "{:#}",
            report["network"]
        );
        only(
            &net,
            &[
                DNS,
                "dns ok.test",
                "packet tcp 203.0.113.10:80",
                "packet tcp 203.0.113.10:443",
                "packet tcp 203.0.113.10:9000",
            ],
        );
    }
}

const NEIGHBOUR: &str = "import ctypes, os, socket, time
while not os.path.exists('pid'): time.sleep(0.05)
time.sleep(0.1)
pid = int(open('pid').read())
names = [open(f'/proc/{p}/cmdline').read() for p in os.listdir('/proc') if p.isdigit()]
print('seen', any('agt-egress' in name for name in names), os.path.exists(f'/proc/{pid}'))
def errno(what, *args):
    try: what(*args)
    except OSError as error: return type(error).__name__
    return 'done'
print('signal', errno(os.kill, pid, 0), errno(os.kill, pid, 9))
libc = ctypes.CDLL(None, use_errno=True)
print('ptrace', libc.ptrace(16, pid, 0, 0), 'pidfd', libc.syscall(434, pid, 0))
print('memory', libc.syscall(310, pid, 0, 0, 0, 0, 0))
lines = open('/proc/net/unix').read().splitlines()[1:] if os.access('/proc/net/unix', os.R_OK) else []
print('named sockets', [line for line in lines if len(line.split()) > 7])
";

#[test]
fn the_carrier_holds_nothing_and_cannot_be_seen_from_inside() {
    let Some(net) = Internet::new() else { return };
    for who in everybody() {
        let place = place(who, &net);
        place.file("ws/neighbour.py", NEIGHBOUR);
        let _none = fs::remove_file(place.dir.join("ws/pid"));
        let network = "{allow: ['ok.test:80'], listen: [3000], host_ports: [4000]}";
        let child = start(&place, &net, &yaml(network, "[python3, neighbour.py]"));
        let pid = carrier(child.id());
        let link = |name: &str| fs::read_link(format!("/proc/{pid}/{name}")).unwrap();
        until("its sockets are there", SOON, || {
            fs::read_dir(format!("/proc/{pid}/fd")).is_ok_and(|fds| fds.count() > 26)
        });
        for (key, value) in [
            ("Seccomp", "2"),
            ("NoNewPrivs", "1"),
            ("Groups", ""),
            ("Threads", "1"),
        ] {
            assert_eq!(status(pid, key), value, "{key}");
        }
        for key in ["CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"] {
            assert_eq!(status(pid, key), "0000000000000000", "{key}");
        }
        let agent = fs::metadata(place.dir.join("ws")).unwrap();
        let uid: u32 = status(pid, "Uid")
            .split_whitespace()
            .next()
            .unwrap()
            .parse()
            .unwrap();
        match who {
            Who::Root => assert!(
                uid != 0 && uid != std::os::unix::fs::MetadataExt::uid(&agent),
                "{uid}"
            ),
            Who::User => assert_eq!(uid, outside::USER),
        }
        // The host's network, and nothing else of the host.
        let net_of = |pid: u32| fs::read_link(format!("/proc/{pid}/ns/net")).unwrap();
        assert_eq!(net_of(pid), net_of(child.id()));
        for name in [
            "ns/mnt",
            "ns/pid",
            "ns/user",
            "ns/ipc",
            "ns/uts",
            "ns/cgroup",
        ] {
            let host = fs::read_link(format!("/proc/{}/{name}", child.id())).unwrap();
            assert_ne!(link(name), host, "{name}");
        }
        let mut files = Vec::new();
        for dir in ["", "dev"] {
            let entries = fs::read_dir(format!("/proc/{pid}/root/{dir}"))
                .unwrap()
                .flatten();
            files.extend(entries.map(|entry| entry.file_name().into_string().unwrap()));
        }
        files.sort();
        assert_eq!(
            files,
            [".empty", "agt-egress", "dev", "null", "random", "urandom"]
        );
        assert_eq!(fs::read(format!("/proc/{pid}/environ")).unwrap(), b"");
        let sockets = fs::read_to_string(format!("/proc/{pid}/net/unix")).unwrap();
        let control = link("fd/0");
        let mut inets = 0;
        for entry in fs::read_dir(format!("/proc/{pid}/fd")).unwrap().flatten() {
            let to = fs::read_link(entry.path()).unwrap();
            let to = to.to_str().unwrap();
            let inode = to
                .strip_prefix("socket:[")
                .and_then(|rest| rest.strip_suffix(']'));
            let known = inode.is_some_and(|inode| sockets.contains(&format!(" {inode}")));
            let is_control = Some(to) == control.to_str();
            inets += usize::from(inode.is_some() && !known);
            // The readiness of its own signals is a pair of its own.
            let files = [
                "/dev/null",
                "/dev/urandom",
                "anon_inode:[eventpoll]",
                "anon_inode:[eventfd]",
            ];
            assert!(
                is_control || (inode.is_some() && !known) || files.contains(&to),
                "{to}\n{sockets}"
            );
        }
        assert!(inets >= 5 + 16, "{inets}");
        // Another user of the host gets none of its sockets. (Who starts a ring as themselves can.)
        let look = format!("ls /proc/{pid}/fd");
        let seen = said(&net, Who::User, &["sh", "-c", &look]);
        assert_eq!(seen.is_empty(), who == Who::Root, "{seen}");
        // A message to the ring: the number of that process on the host.
        place.file("ws/pid", pid.to_string());
        let ran = Ran::wait(child, SOON);
        let want = "seen False False\nsignal ProcessLookupError ProcessLookupError\nptrace -1 pidfd -1\n\
            memory -1\nnamed sockets [";
        assert!(ran.expect_code(0).stdout.starts_with(want), "{ran:?}");
        // The ring's own door and nothing else.
        let sockets = ran.stdout.matches("0000").count();
        assert!(
            sockets == 0 || ran.stdout.contains(" /run/agt/agent.sock']\n"),
            "{ran:?}"
        );
        assert_eq!(ran.stdout.matches(", '").count(), 0, "{ran:?}");
        assert_eq!(report(&place)["network"]["egress_restarts"], 0);
    }
}

#[test]
fn without_a_descriptor_left_nothing_more_is_open() {
    let Some(net) = Internet::new() else { return };
    for who in everybody() {
        let place = place(who, &net);
        let source = outside::sources().join("programs/net/exhaust.py");
        place.file("ws/exhaust.py", fs::read(source).unwrap());
        let allow = "{allow: ['ok.test:9000', 'own.test:80', 'own2.test:80', 'loop.test:80']}";
        place.file("agent.yaml", yaml(allow, "[python3, exhaust.py]"));
        let agt = place.agt(&["run", "--report", "state/report.json", "agent.yaml"]);
        let mut few = Command::new("prlimit");
        few.arg("--nofile=160:160").arg(agt.get_program());
        few.args(agt.get_args()).current_dir(&place.dir);
        for (name, value) in agt.get_envs() {
            few.env(name, value.unwrap_or_default());
        }
        let _before = net.seen();
        let ran = Ran::wait(net.beside(&few).spawn().unwrap(), Duration::from_secs(120));
        let want = "before True\nin the crowd False\nforbidden 0\nafter True\n";
        assert_eq!(ran.expect_code(0).stdout, want, "{ran:?}");
        let report = report(&place);
        assert!(
            refused(&report, "ok.test", 9000, "not reachable") > 0,
            "{report:#}"
        );
        assert_eq!(report["network"]["egress_restarts"], 0);
        let names = ["ok", "own", "own2", "loop"].map(|name| format!("dns {name}.test"));
        let mut allowed = vec![
            DNS,
            "packet tcp 203.0.113.53:53",
            "packet tcp 203.0.113.10:9000",
        ];
        allowed.extend(names.iter().map(String::as_str));
        only(&net, &allowed);
    }
}
