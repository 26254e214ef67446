//! What a client begins with.

use std::io::Write;
use std::sync::atomic::Ordering;

use super::*;
use crate::hello::{Verdict, judge};
use crate::wire::{Kind, Via, Why};
use names::HostName;

const OPENSSL: &[u8] = include_bytes!("openssl.hello");

fn name() -> HostName {
    HostName::parse("api.example.com").unwrap()
}

fn kind(bytes: &[u8]) -> Kind {
    let verdict = judge(bytes, &name());
    let Verdict::Refused(refusal) = verdict else {
        panic!("{verdict:?}");
    };
    refusal.kind
}

#[test]
fn what_agrees() {
    assert_eq!(judge(OPENSSL, &name()), Verdict::Agrees);
    for size in [1, 5, 40, 16000] {
        let hello = hello(
            &[sni("API.example.com"), (16, vec![0, 3, 2, 104, 50])],
            size,
        );
        assert_eq!(judge(&hello, &name()), Verdict::Agrees, "{size}");
        for length in 0..hello.len() {
            assert_eq!(
                judge(&hello[..length], &name()),
                Verdict::More,
                "{length} of {size}"
            );
        }
    }
}

#[test]
fn what_does_not() {
    let good = sni("api.example.com");
    assert_eq!(
        kind(&hello(&[sni("evil.example.com")], 999)),
        Kind::SniDiffers
    );
    assert_eq!(kind(&hello(&[sni("127.0.0.1")], 999)), Kind::SniDiffers);
    assert_eq!(
        kind(&hello(&[sni("api.example.com\0")], 999)),
        Kind::SniDiffers
    );
    assert_eq!(kind(&hello(&[], 999)), Kind::SniMissing);
    for ech in [0xfe0d, 0xffce] {
        assert_eq!(
            kind(&hello(&[good.clone(), (ech, vec![0; 9])], 999)),
            Kind::Ech
        );
    }
    assert_eq!(
        kind(&hello(&[good.clone(), good.clone()], 999)),
        Kind::NotTls
    );
    let mut two = good.1.clone();
    two.extend([0, 0, 4]);
    two.extend(b"evil");
    two[1] = u8::try_from(two.len() - 2).unwrap();
    assert_eq!(kind(&hello(&[(0, two)], 999)), Kind::SniDiffers);
    let mut trailing = good.1.clone();
    trailing.push(0);
    assert_eq!(kind(&hello(&[(0, trailing)], 999)), Kind::SniDiffers);
    assert_eq!(kind(&hello(&[(0, Vec::new())], 999)), Kind::SniDiffers);
    let mut followed = hello(std::slice::from_ref(&good), 999);
    followed[4] += 1;
    followed.push(0);
    assert_eq!(kind(&followed), Kind::NotTls);
    let mut padded = vec![0x16, 3, 1, 0, 0];
    padded.extend(hello(std::slice::from_ref(&good), 999));
    assert_eq!(kind(&padded), Kind::NotTls);
    let mut alert = hello(&[good], 10);
    alert[15] = 0x15;
    assert_eq!(kind(&alert), Kind::NotTls);
    let mut server = hello(&[], 999);
    server[5] = 2;
    assert_eq!(kind(&server), Kind::NotTls);
    let mut long = hello(&[], 999);
    long[6] = 1;
    assert_eq!(kind(&long), Kind::NotTls);
    assert_eq!(judge(b"GET / HTTP/1.1", &name()), Verdict::Other);
}

#[test]
fn on_the_tls_port_nothing_else_is_dialled() {
    let world = World::new();
    for (bytes, kind) in [
        (hello(&[sni("evil.example.com")], 99), Kind::SniDiffers),
        (hello(&[], 99), Kind::SniMissing),
        (
            hello(&[sni("api.example.com"), (0xfe0d, vec![1])], 99),
            Kind::Ech,
        ),
        (b"GET / HTTP/1.1\r\n\r\n".to_vec(), Kind::NotTls),
    ] {
        let mut client = world.connect(0, world.tls);
        client.write_all(&bytes).unwrap();
        assert!(rest(&client).1, "{kind:?} is a reset");
        assert_eq!(world.refused(kind).name, "api.example.com");
    }
    assert_eq!(world.echo.seen.load(Ordering::SeqCst), 0);
    let mut client = world.connect(0, world.tls);
    for part in OPENSSL.chunks(100) {
        client.write_all(part).unwrap();
        std::thread::sleep(std::time::Duration::from_millis(2));
    }
    assert_eq!(read_exactly(&client, OPENSSL.len()), OPENSSL);
    let opened = world.opened();
    assert_eq!(
        (opened.name.as_str(), opened.via),
        ("api.example.com", Via::Name)
    );
    client.shutdown(std::net::Shutdown::Write).unwrap();
    assert_eq!(rest(&client), (Vec::new(), false));
    let closed = world.closed();
    assert_eq!(
        (closed.id, closed.up, closed.down, closed.why),
        (opened.id, 517, 517, Why::Done)
    );
    world.quiet();
}

#[test]
fn elsewhere_servers_speak_first_and_tls_is_judged_all_the_same() {
    let world = World::new();
    let mut client = world.connect(0, world.plain);
    assert_eq!(read_exactly(&client, 11), b"220 ready\r\n");
    client.write_all(b"EHLO\r\n").unwrap();
    assert_eq!(read_exactly(&client, 6), b"EHLO\r\n");
    world.opened();
    drop(client);
    assert_eq!(world.closed().up, 6);
    let before = world.banner.bytes.load(Ordering::SeqCst);
    for (bytes, kind) in [
        (hello(&[sni("evil.example.com")], 99), Kind::SniDiffers),
        (hello(&[], 99), Kind::SniMissing),
        (
            hello(&[sni("api.example.com"), (0xfe0d, vec![1])], 99),
            Kind::Ech,
        ),
    ] {
        let mut client = world.connect(0, world.plain);
        client.write_all(&bytes).unwrap();
        world.opened();
        assert_eq!((world.closed().why, rest(&client).1), (Why::Refused, true));
        world.refused(kind);
    }
    assert_eq!(
        world.banner.bytes.load(Ordering::SeqCst),
        before,
        "nothing of it was forwarded"
    );
    let mut client = world.connect(0, world.plain);
    client
        .write_all(&hello(&[sni("api.example.com")], 99))
        .unwrap();
    world.opened();
    assert_eq!(&read_exactly(&client, 14)[11..], [0x16, 3, 1]);
}
