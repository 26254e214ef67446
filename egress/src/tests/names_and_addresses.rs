//! DNS, synthetic addresses, and what names resolve to.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpStream, UdpSocket};
use std::sync::atomic::Ordering;
use std::time::Duration;

use hickory_proto::op::{Edns, Message, OpCode, Query, ResponseCode};
use hickory_proto::rr::{Name, RData, RecordType};

use super::*;
use crate::wire::{Host, Kind, Order, Resolver};

fn question(name: &str, kind: RecordType) -> Vec<u8> {
    let mut message = Message::query();
    message.add_query(Query::query(Name::from_ascii(name).unwrap(), kind));
    let mut edns = Edns::new();
    edns.set_max_payload(4096);
    message.set_edns(edns);
    message.to_vec().unwrap()
}

fn ask(world: &World, bytes: &[u8]) -> Message {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket
        .set_read_timeout(Some(Duration::from_secs(10)))
        .unwrap();
    socket.send_to(bytes, world.dns).unwrap();
    let mut space = [0; 4096];
    let length = socket.recv(&mut space).unwrap();
    Message::from_vec(&space[..length]).unwrap()
}

fn lookup(world: &World, name: &str, kind: RecordType) -> (ResponseCode, Vec<Ipv4Addr>) {
    let answer = ask(world, &question(name, kind));
    let addresses = answer.answers.iter().map(|record| {
        let RData::A(a) = &record.data else {
            panic!("{record}");
        };
        a.0
    });
    (answer.metadata.response_code, addresses.collect())
}

#[test]
fn allowed_names_have_addresses_and_nobody_else_is_asked() {
    let world = World::new();
    let at = |c, d| vec![Ipv4Addr::new(127, c, 1 - (c - 18), d)];
    assert_eq!(
        lookup(&world, "API.example.com.", RecordType::A),
        (ResponseCode::NoError, at(18, 0))
    );
    for kind in [RecordType::AAAA, RecordType::HTTPS, RecordType::TXT] {
        assert_eq!(
            lookup(&world, "api.example.com.", kind),
            (ResponseCode::NoError, Vec::new())
        );
    }
    let first = lookup(&world, "x.wild.example.org.", RecordType::A);
    assert_eq!(first, (ResponseCode::NoError, at(19, 0)));
    assert_eq!(
        lookup(&world, "y.wild.example.org.", RecordType::A).1,
        at(19, 1)
    );
    assert_eq!(lookup(&world, "x.wild.example.org.", RecordType::A), first);
    for silent in ["localhost.", "buildhost."] {
        assert_eq!(
            lookup(&world, silent, RecordType::A).0,
            ResponseCode::NXDomain
        );
    }
    world.quiet();
    assert_eq!(
        lookup(&world, "secret.evil.example.", RecordType::A).0,
        ResponseCode::NXDomain
    );
    let refused = world.refused(Kind::NotAllowed);
    assert_eq!(
        (refused.name.as_str(), refused.port),
        ("secret.evil.example", None)
    );
    assert_eq!(
        lookup(&world, "a_b.example.com.", RecordType::A).0,
        ResponseCode::NXDomain
    );
    world.refused(Kind::DnsName);
    assert_eq!(
        lookup(&world, "api\\.example.com.", RecordType::A).0,
        ResponseCode::NXDomain
    );
    world.refused(Kind::DnsName);
    assert_eq!(world.asked.load(Ordering::SeqCst), 0);
}

#[test]
fn odd_questions_have_plain_answers() {
    let world = World::new();
    let answer = ask(&world, &question("api.example.com.", RecordType::A));
    assert!(answer.edns.is_some() && answer.answers[0].ttl == 30);
    let broken = [&[9, 9, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0][..], &[0xff; 9]].concat();
    let answer = ask(&world, &broken);
    assert_eq!(
        (answer.metadata.response_code, answer.metadata.id),
        (ResponseCode::FormErr, 0x909)
    );
    let mut status = Message::new(5, hickory_proto::op::MessageType::Query, OpCode::Status);
    status.add_query(Query::query(
        Name::from_ascii("api.example.com.").unwrap(),
        RecordType::A,
    ));
    assert_eq!(
        ask(&world, &status.to_vec().unwrap())
            .metadata
            .response_code,
        ResponseCode::NotImp
    );
    let mut stream = patient(TcpStream::connect(world.dns_tcp).unwrap());
    for _ in 0..3 {
        let question = question("api.example.com.", RecordType::A);
        stream
            .write_all(&u16::try_from(question.len()).unwrap().to_be_bytes())
            .unwrap();
        stream.write_all(&question).unwrap();
        let length = read_exactly(&stream, 2);
        let answer = read_exactly(
            &stream,
            usize::from(length[0]) << 8 | usize::from(length[1]),
        );
        assert_eq!(Message::from_vec(&answer).unwrap().answers.len(), 1);
    }
    stream.write_all(&[0xff, 0xff]).unwrap();
    assert_eq!(stream.read(&mut [0]).unwrap_or(0), 0, "too long a question");
}

#[test]
fn addresses_that_stand_for_no_name() {
    let world = World::new();
    for (address, kind) in [
        ("127.18.77.7", Kind::UnknownAddress),
        ("127.19.0.9", Kind::UnknownAddress),
        ("127.0.0.1", Kind::RawAddress),
    ] {
        let client = patient(TcpStream::connect((address, world.plain)).unwrap());
        assert!(rest(&client).1);
        assert_eq!(world.refused(kind).name, address);
    }
}

#[test]
fn what_a_name_resolves_to_is_judged() {
    let world = World::new();
    for (place, kind) in [
        (1, Kind::OwnAddress),
        (2, Kind::PrivateAddress),
        (3, Kind::PrivateAddress),
        (5, Kind::NoSuchName),
    ] {
        assert!(rest(&world.connect(place, world.plain)).1);
        world.refused(kind);
    }
    let mixed = world.connect(4, world.plain);
    assert_eq!(read_exactly(&mixed, 3), b"220");
    assert_eq!(world.opened().address.ip().to_string(), SERVER);
}

#[test]
fn the_resolver_can_be_replaced_and_its_table_comes_first() {
    let world = World::new();
    let hosts = vec![Host {
        name: "GONE.example.com".into(),
        addresses: vec![SERVER.parse().unwrap()],
    }];
    world.order(&Order::Resolver(Resolver {
        nameservers: Vec::new(),
        hosts,
    }));
    world.quiet();
    let client = world.connect(5, world.plain);
    assert_eq!(read_exactly(&client, 3), b"220");
    assert_eq!(world.opened().name, "gone.example.com");
    assert!(rest(&world.connect(0, world.plain)).1);
    world.refused(Kind::Unreachable);
}
