//! Limits, and bytes in bulk.

use std::io::{Read, Write};
use std::net::Shutdown;
use std::thread;
use std::time::{Duration, Instant};

use super::*;
use crate::wire::{Kind, Why};

#[test]
fn connections_at_once() {
    let world = World::with(|config, _| config.limits.connections = 2);
    let one = world.connect(0, world.plain);
    let two = world.connect(0, world.plain);
    read_exactly(&one, 3);
    read_exactly(&two, 3);
    world.opened();
    world.opened();
    assert!(rest(&world.connect(0, world.plain)).1);
    world.refused(Kind::Limit);
    drop(one);
    world.closed();
    let three = world.connect(0, world.plain);
    read_exactly(&three, 3);
    world.opened();
}

#[test]
fn bytes_of_a_name() {
    let world = World::with(|config, _| config.limits.bytes_per_host = Some(1000));
    let mut client = world.connect(0, world.plain);
    read_exactly(&client, 11);
    world.opened();
    client.write_all(&[b'x'; 4000]).unwrap();
    assert!(rest(&client).0.len() < 1000);
    let closed = world.closed();
    assert_eq!(closed.why, Why::Bytes);
    assert!(closed.up + closed.down <= 1000, "{closed:?}");
    assert!(rest(&world.connect(0, world.plain)).1);
    world.refused(Kind::Limit);
}

#[test]
fn time_of_a_connection() {
    let world = World::with(|config, _| config.limits.idle_ms = 300);
    let client = world.connect(0, world.plain);
    assert_eq!(rest(&client), (b"220 ready\r\n".to_vec(), true));
    world.opened();
    assert_eq!(world.closed().why, Why::Idle);
    let world = World::with(|config, _| config.limits.total_ms = Some(300));
    let mut client = world.connect(0, world.plain);
    let start = Instant::now();
    while client.write_all(b"x").is_ok() && start.elapsed() < Duration::from_secs(5) {
        thread::sleep(Duration::from_millis(20));
    }
    world.opened();
    assert_eq!(world.closed().why, Why::Total);
}

#[test]
fn rate_of_a_name() {
    let world = World::with(|config, _| config.limits.rate_per_host = Some(100_000));
    let mut client = world.connect(0, world.plain);
    let start = Instant::now();
    let mut writer = client.try_clone().unwrap();
    let write = thread::spawn(move || writer.write_all(&[1; 50_000]).unwrap());
    let mut space = vec![0; 50_011];
    client.read_exact(&mut space).unwrap();
    let took = start.elapsed();
    write.join().unwrap();
    // 100 kB both ways, a quarter of a second of it at once.
    assert!(
        took > Duration::from_millis(500) && took < Duration::from_secs(4),
        "{took:?}"
    );
}

#[test]
fn bulk_arrives_whole_and_half_closed() {
    const SIZE: usize = 32 << 20;
    let world = World::new();
    let client = world.connect(0, world.plain);
    let mut writer = client.try_clone().unwrap();
    let pattern = |at: usize| u8::try_from(at % 251).unwrap();
    let write = thread::spawn(move || {
        let bytes: Vec<u8> = (0..SIZE).map(pattern).collect();
        writer.write_all(&bytes).unwrap();
        writer.shutdown(Shutdown::Write).unwrap();
    });
    let (all, reset) = rest(&client);
    write.join().unwrap();
    assert!(!reset && all.len() == SIZE + 11);
    assert!(
        all[11..]
            .iter()
            .enumerate()
            .all(|(at, byte)| *byte == pattern(at))
    );
    world.opened();
    let closed = world.closed();
    assert_eq!(
        (closed.up, closed.why),
        (u64::try_from(SIZE).unwrap(), Why::Done)
    );
}
