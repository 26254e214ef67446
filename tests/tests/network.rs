//! The network of a ring: what was allowed is reached, by every program, and as it was meant.

#![expect(clippy::disallowed_methods, reason = "looks from outside")]

use std::fs;
use std::process::{Child, Command};

use outside::networked::{DNS, SOON, only, place, refused, run, said, start, yaml};
use outside::{Internet, Ran, Who, everybody, until};

/// A server on the host's loopback, ended when dropped.
struct Server(Child);

impl Server {
    fn start(net: &Internet, port: &str) -> Self {
        let www = net.dir.join("own");
        fs::create_dir_all(&www).unwrap();
        fs::write(www.join("index.html"), "from the host\n").unwrap();
        let www = www.to_str().unwrap();
        let args = [
            "python3",
            "-m",
            "http.server",
            port,
            "--bind",
            "127.0.0.1",
            "-d",
            www,
        ];
        let server = Self(net.outside(Who::Root, &args).spawn().expect("python3"));
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
    assert!(
        made.status.success(),
        "{}",
        String::from_utf8_lossy(&made.stderr)
    );
}

fn checksum(net: &Internet) -> String {
    let done = Command::new("sha256sum")
        .arg(net.dir.join("www/big"))
        .output();
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
        assert!(
            wrong.is_empty() && lines.len() == 33,
            "{who:?} {wrong:#?} {ran:#?}"
        );
        let connections = report["network"]["connections"].as_array().unwrap();
        let of = |name: &str, port: u64| {
            let mut all = connections.iter();
            all.find(|one| one["name"] == name && one["port"] == port)
        };
        let big = of("ok.test", 80).and_then(|one| one["bytes_in"].as_u64());
        assert!(big.is_some_and(|bytes| bytes > 8_000_000), "{report:#}");
        assert!(of("this host", 18080).is_some(), "{report:#}");
        ran.expect_said("network: ok.test:443 ");
        let names = ["ok", "other", "a.b.wild", "six", "tc", "mixed"]
            .map(|name| format!("dns {name}.test"));
        let mut allowed = vec![
            DNS,
            "packet tcp 203.0.113.53:53",
            "packet tcp 203.0.113.10:80",
            "packet tcp 203.0.113.10:443",
            "packet tcp 203.0.113.10:9000",
            "packet tcp 203.0.113.10:8080",
            "packet tcp 203.0.113.11:80",
            "packet tcp [2001:db8::10]:80",
            "packet tcp 127.0.0.1:18080",
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
        let child = start(
            &place,
            &net,
            &yaml("{listen: [3000, 3001]}", &format!("[sh, -c, '{serve}']")),
        );
        for (port, text) in [(3000, "one"), (3001, "two")] {
            let url = format!("http://127.0.0.1:{port}/x");
            until("a served port", SOON, || {
                said(&net, who, &["curl", "-s", &url]).contains(text)
            });
        }
        // Several at once, more than there are sockets in one moment.
        let many = "for n in $(seq 40); do curl -s --retry 5 --retry-all-errors http://127.0.0.1:3000/x & done; wait";
        let got = said(&net, who, &["sh", "-c", many]);
        assert!(
            got.lines().filter(|line| *line == "one").count() >= 30,
            "{got}"
        );
        // Only the loopback of the host, not its other addresses.
        assert_eq!(
            said(&net, who, &["curl", "-s", "http://192.0.2.2:3000/x"]),
            ""
        );
        let second = outside::networked::place(who, &net);
        let (ran, _) = run(&second, &net, &yaml("{listen: [3000]}", "['true']"));
        ran.expect_code(2)
            .expect_said("agent.yaml:6")
            .expect_said("3000");
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
        let (ran, report) = run(
            &place,
            &net,
            &yaml(network, &format!("[bash, -c, '{script}']")),
        );
        assert_eq!(
            ran.expect_code(0).stdout,
            "welcome\nwelcome\nwelcome\nwelcome\nrefused\n",
            "{ran:?}"
        );
        assert_eq!(
            refused(&report, "denied.test", 80, "not reachable"),
            1,
            "{report:#}"
        );
        let proxy = [
            "ok.test:80",
            "nowhere.test:80",
            "nowhere.test:443",
            "loop.test:80",
            "denied.test:80",
        ]
        .map(|name| format!("proxy {name}"));
        let mut allowed = vec![
            DNS,
            "dns proxy.test",
            "packet tcp 198.51.100.7:3128",
            "packet tcp 203.0.113.10:80",
            "packet tcp 203.0.113.10:443",
        ];
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

const SLOW: &str = "import socket, time
since = time.monotonic()
s = socket.create_connection(('ok.test', 80), 20)
s.sendall(b'GET /big HTTP/1.0\\r\\n\\r\\n')
got = 0
try:
    while data := s.recv(65536): got += len(data)
    print('ended')
except OSError as error: print(type(error).__name__)
took = time.monotonic() - since
print(1.5 < took < 8, 1e6 < got < 4.5e6)
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
        assert!(
            refused(&report, "other.test", 80, "a limit") > 0,
            "{report:#}"
        );
        place.file("ws/slow.py", SLOW);
        let network = "{allow: ['ok.test:80'], limits: {total: 2s, rate: 1M}}";
        let (ran, _) = run(&place, &net, &yaml(network, "[python3, slow.py]"));
        let want = "ConnectionResetError\nTrue True\n";
        assert_eq!(ran.expect_code(0).stdout, want, "{ran:?}");
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
        ran.expect_code(2)
            .expect_said("agent.yaml:6")
            .expect_said("network.private");
        let _before = net.seen();
        let (ran, report) = run(&place, &net, &two.replace("standard", "privileged"));
        assert_eq!(
            ran.expect_code(0).stdout,
            "ten canary\nmeta\nown\nloop\n",
            "{ran:?}"
        );
        assert_eq!(
            refused(&report, "meta.test", 80, "a private address"),
            1,
            "{report:#}"
        );
        only(
            &net,
            &[
                DNS,
                "dns ten.test",
                "dns meta.test",
                "dns own.test",
                "dns loop.test",
                "packet tcp 10.0.0.10:80",
            ],
        );
    }
}
