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
