//! What the supervisor hears, and what happens when it does not listen.

use std::io::Write;
use std::net::TcpStream;
use std::thread;
use std::time::Duration;

use rustix::net::{RecvFlags, SendFlags};

use super::*;
use crate::wire::{self, Config, Event, Kind, Order};

#[test]
fn refusals_are_told_at_once_and_then_counted() {
    let world = World::new();
    for _ in 0..50 {
        assert!(rest(&TcpStream::connect(("127.18.77.7", world.plain)).unwrap()).1);
    }
    assert_eq!(world.refused(Kind::UnknownAddress).count, 1);
    assert_eq!(world.refused(Kind::UnknownAddress).count, 49);
    world.quiet();
}

#[test]
fn nothing_is_let_through_untold() {
    let world = World::new();
    // Nobody reads: answers to pings fill the socket.
    let mut pings = 0;
    while wire::send(&world.supervisor, &Order::Ping(1), &[], SendFlags::DONTWAIT).is_ok() {
        pings += 1;
        thread::sleep(Duration::from_micros(200));
    }
    let client = world.connect(0, world.plain);
    assert_eq!(rest(&client), (Vec::new(), true));
    let mut untold = false;
    while !untold || pings > 0 {
        match world.event() {
            Event::Pong(_) => pings -= 1,
            Event::Refused(refused) => untold = refused.kind == Kind::Untold,
            event @ (Event::Ready(_) | Event::Opened(_) | Event::Closed(_)) => panic!("{event:?}"),
        }
    }
    let client = world.connect(0, world.plain);
    read_exactly(&client, 3);
    while !matches!(world.event(), Event::Opened(_)) {}
}

#[test]
fn nothing_is_carried_before_the_verdict() {
    let world = World::with(|config, _| config.ask = true);
    for refused in [None, Some("not today; ask again tomorrow".to_owned()), None] {
        let client = world.connect(0, world.plain);
        let id = world.opened().id;
        client
            .set_read_timeout(Some(Duration::from_millis(100)))
            .unwrap();
        assert!(
            std::io::Read::read(&mut &client, &mut [0]).is_err(),
            "before the verdict"
        );
        client
            .set_read_timeout(Some(Duration::from_secs(20)))
            .unwrap();
        let no = refused.is_some();
        world.order(&Order::Verdict(wire::Verdict { id, refused }));
        if no {
            assert_eq!(rest(&client), (Vec::new(), true));
            assert!(world.refused(Kind::Policy).reason.contains("not today"));
        } else {
            read_exactly(&client, 3);
            drop(client);
            world.closed();
        }
    }
    // Silence is no verdict.
    let client = world.connect(0, world.plain);
    world.opened();
    assert_eq!(rest(&client), (Vec::new(), true));
    world.refused(Kind::Untold);
}

#[test]
fn it_ends_with_its_supervisor() {
    let mut world = World::new();
    let _open = world.connect(0, world.plain);
    world.opened();
    let thread = world.thread.take().unwrap();
    drop(world);
    assert!(thread.join().unwrap().is_ok());
}

#[test]
fn a_connection_that_is_open_to_the_end_is_told() {
    let mut world = World::new();
    let mut client = world.connect(0, world.plain);
    world.opened();
    read_exactly(&client, 11);
    client.write_all(b"hi").unwrap();
    read_exactly(&client, 2);
    rustix::net::shutdown(&world.supervisor, rustix::net::Shutdown::Write).unwrap();
    let closed = world.closed();
    assert_eq!((closed.up, closed.down), (2, 13));
    assert!(world.thread.take().unwrap().join().unwrap().is_ok());
}

#[test]
fn what_is_unclear_does_not_start() {
    let good = r#"{"version":1,"allow":[{"name":"a.example","port":443}],"resolver":{"nameservers":["10.0.0.53:53"]},"fds":[]}"#;
    for (from, to) in [
        ("", ""),
        (r#""version":1"#, r#""version":2"#),
        ("a.example", "1.2.3.4"),
        ("443", "0"),
        (r#""fds":[]"#, r#""fds":[{"role":"proxy"}]"#),
        (r#""fds":[]"#, r#""fds":[],"unknown":1"#),
        (r#""fds":[]"#, r#""fds":[],"private":["10.0.0.1/8"]"#),
    ] {
        let (ours, theirs) = rustix::net::socketpair(
            rustix::net::AddressFamily::UNIX,
            rustix::net::SocketType::SEQPACKET,
            rustix::net::SocketFlags::CLOEXEC,
            None,
        )
        .unwrap();
        let text = good.replacen(from, to, 1);
        rustix::net::send(&ours, text.as_bytes(), SendFlags::empty()).unwrap();
        let thread = thread::spawn(move || crate::serve_on(theirs));
        let first = wire::receive::<Event>(&ours, RecvFlags::empty()).unwrap();
        assert_eq!(first.is_some(), from.is_empty(), "{text}");
        drop(ours);
        assert_eq!(thread.join().unwrap().is_ok(), from.is_empty(), "{text}");
    }
    let config: Config = serde_json::from_str(good).unwrap();
    let again = serde_json::to_string(&config).unwrap();
    assert_eq!(serde_json::from_str::<Config>(&again).unwrap(), config);
}
