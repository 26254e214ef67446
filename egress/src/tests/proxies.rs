//! Programs that look for a proxy.

use std::io::Write;
use std::net::TcpStream;

use super::*;
use crate::wire::{Kind, Proxy, Via, Why};

fn http(world: &World, request: &str) -> (TcpStream, String) {
    let mut client = world.to_proxy();
    client.write_all(request.as_bytes()).unwrap();
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        head.push(char::from(read_exactly(&client, 1)[0]));
    }
    (client, head)
}

#[test]
fn connect_reaches_what_is_allowed() {
    let world = World::new();
    let port = world.banner.port;
    let request =
        format!("CONNECT API.example.com:{port} HTTP/1.1\r\nHost: api.example.com:{port}\r\n\r\n");
    let (mut client, head) = http(&world, &request);
    let head = head.to_lowercase();
    assert!(head.starts_with("http/1.1 200"), "{head}");
    assert!(
        !head.contains("connection:") && !head.contains("length:"),
        "{head}"
    );
    let opened = world.opened();
    assert_eq!(
        (opened.name.as_str(), opened.via),
        ("api.example.com", Via::Connect)
    );
    assert_eq!(read_exactly(&client, 11), b"220 ready\r\n");
    client.write_all(b"hi").unwrap();
    assert_eq!(read_exactly(&client, 2), b"hi");
    client.shutdown(std::net::Shutdown::Write).unwrap();
    assert_eq!(rest(&client), (Vec::new(), false));
    let closed = world.closed();
    assert_eq!((closed.up, closed.down, closed.why), (2, 13, Why::Done));
}

#[test]
fn connect_on_the_tls_port_wants_tls_for_the_same_name() {
    let world = World::new();
    let request = format!(
        "CONNECT api.example.com:{} HTTP/1.1\r\n\r\n",
        world.echo.port
    );
    let early = [request.as_bytes(), &hello(&[sni("api.example.com")], 99)].concat();
    let mut client = world.to_proxy();
    client.write_all(&early).unwrap();
    assert_eq!(read_exactly(&client, 12), b"HTTP/1.1 200");
    world.opened();
    for (bytes, kind) in [
        (hello(&[sni("evil.example.com")], 99), Kind::SniDiffers),
        (b"SSH-2.0-x\r\n".to_vec(), Kind::NotTls),
    ] {
        let (mut client, head) = http(&world, &request);
        assert!(head.starts_with("HTTP/1.1 200"), "{head}");
        client.write_all(&bytes).unwrap();
        assert!(rest(&client).1);
        world.refused(kind);
    }
}

#[test]
fn connect_says_why_not() {
    let world = World::new();
    let port = world.banner.port;
    for (target, extra, status, kind) in [
        (
            format!("evil.example.com:{port}"),
            "",
            403,
            Kind::NotAllowed,
        ),
        ("api.example.com:22".to_owned(), "", 403, Kind::NotAllowed),
        (format!("own.example.com:{port}"), "", 403, Kind::OwnAddress),
        (
            format!("private.example.com:{port}"),
            "",
            403,
            Kind::PrivateAddress,
        ),
        (
            format!("metadata.example.com:{port}"),
            "",
            403,
            Kind::PrivateAddress,
        ),
        (
            format!("gone.example.com:{port}"),
            "",
            502,
            Kind::NoSuchName,
        ),
        (format!("8.8.8.8:{port}"), "", 403, Kind::RawAddress),
        (format!("2130706433:{port}"), "", 403, Kind::RawAddress),
        (format!("0x7f.1:{port}"), "", 403, Kind::RawAddress),
        (format!("[::1]:{port}"), "", 403, Kind::RawAddress),
        (format!("127.18.9.9:{port}"), "", 403, Kind::UnknownAddress),
        ("api.example.com".to_owned(), "", 403, Kind::Authority),
        (
            format!("me@api.example.com:{port}"),
            "",
            403,
            Kind::Authority,
        ),
        (format!("a_b.example.com:{port}"), "", 403, Kind::Authority),
        (
            format!("api.example.com:{port}"),
            "Host: evil.example.com\r\n",
            403,
            Kind::Authority,
        ),
    ] {
        let request = format!("CONNECT {target} HTTP/1.1\r\n{extra}\r\n");
        let (client, head) = http(&world, &request);
        assert!(
            head.starts_with(&format!("HTTP/1.1 {status}")),
            "{target}: {head}"
        );
        assert!(head.contains("text/plain"), "{head}");
        let body = String::from_utf8(rest(&client).0).unwrap();
        assert_eq!(body.trim_end(), world.refused(kind).reason, "{target}");
    }
    for request in [
        "GET http://api.example.com/ HTTP/1.1\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: a\r\n\r\n",
    ] {
        let (_, head) = http(&world, request);
        assert!(head.starts_with("HTTP/1.1 405"), "{head}");
    }
    world.refused(Kind::Authority);
}

fn socks(world: &World, request: &[u8]) -> (TcpStream, u8) {
    let mut client = world.to_proxy();
    client.write_all(&[5, 2, 2, 0]).unwrap();
    assert_eq!(read_exactly(&client, 2), [5, 0]);
    client.write_all(request).unwrap();
    let reply = read_exactly(&client, 10);
    (client, reply[1])
}

fn by_domain(name: &str, port: u16) -> Vec<u8> {
    let length = u8::try_from(name.len()).unwrap();
    [&[5, 1, 0, 3, length], name.as_bytes(), &port.to_be_bytes()].concat()
}

#[test]
fn socks_reaches_names_and_nothing_else() {
    let world = World::new();
    let port = world.banner.port;
    let synthetic = [&[5, 1, 0, 1, 127, 18, 1, 0][..], &port.to_be_bytes()].concat();
    for good in [
        by_domain("api.example.com", port),
        by_domain("127.18.1.0", port),
        synthetic,
    ] {
        let (client, reply) = socks(&world, &good);
        assert_eq!(reply, 0);
        assert_eq!(read_exactly(&client, 3), b"220");
        let opened = world.opened();
        assert_eq!(
            (opened.name.as_str(), opened.via),
            ("api.example.com", Via::Socks)
        );
        drop(client);
        world.closed();
    }
    let raw = [&[5, 1, 0, 1, 8, 8, 8, 8][..], &port.to_be_bytes()].concat();
    let six = [&[5, 1, 0, 4][..], &[0; 15], &[1], &port.to_be_bytes()].concat();
    for (bad, reply, kind) in [
        (by_domain("evil.example.com", port), 2, Kind::NotAllowed),
        (by_domain("api.example.com\0", port), 2, Kind::Authority),
        (by_domain("127.1", port), 2, Kind::RawAddress),
        (by_domain("gone.example.com", port), 4, Kind::NoSuchName),
        (raw, 2, Kind::RawAddress),
        (six, 2, Kind::RawAddress),
        (vec![5, 2, 0, 1, 0, 0, 0, 0, 0, 0], 7, Kind::Authority),
    ] {
        assert_eq!(socks(&world, &bad).1, reply, "{kind:?}");
        world.refused(kind);
    }
    let mut client = world.to_proxy();
    client.write_all(&[5, 1, 2]).unwrap();
    assert_eq!(rest(&client).0, [5, 0xff], "no password");
}

#[test]
fn a_companys_proxy_is_gone_through() {
    let upstream = Server::start("127.50.0.2", Does::Proxy);
    let world = World::with(|config, _| {
        config.upstream_proxy = Some(Proxy {
            host: "127.50.0.2".into(),
            port: upstream.port,
            given: false,
        });
    });
    let mut client = world.connect(0, world.plain);
    assert_eq!(read_exactly(&client, 7), b"banner\n");
    client.write_all(b"through").unwrap();
    assert_eq!(read_exactly(&client, 7), b"through");
    assert_eq!(world.opened().address.port(), upstream.port);
    assert!(
        rest(&world.connect(4, world.plain)).1,
        "the proxy refuses this one"
    );
    assert!(world.refused(Kind::Unreachable).reason.contains("407"));
}

#[test]
fn an_agents_own_proxy_is_not_this_host() {
    let upstream = Server::start(&OWN.to_string(), Does::Proxy);
    let with = |host: &str, given, open: bool| {
        World::with(|config, _| {
            config.host_ports.extend(open.then_some(upstream.port));
            config.upstream_proxy = Some(Proxy {
                host: host.into(),
                port: upstream.port,
                given,
            });
        })
    };
    for host in ["own.example.com", "metadata.example.com"] {
        let world = with(host, false, false);
        assert!(rest(&world.connect(0, world.plain)).1, "{host}");
        assert!(world.refused(Kind::OwnAddress).reason.contains(host));
    }
    for (given, open) in [(true, false), (false, true)] {
        let world = with("own.example.com", given, open);
        let client = world.connect(0, world.plain);
        assert_eq!(read_exactly(&client, 7), b"banner\n");
    }
}
