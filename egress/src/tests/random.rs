//! Any bytes on any way in: refused or dropped, and the next client is served.

use std::io::Write;
use std::net::{Shutdown, UdpSocket};
use std::sync::LazyLock;
use std::sync::Mutex;

use names::HostName;
use proptest::prelude::*;

use super::*;
use crate::wire::{Event, Order};

static WORLD: LazyLock<Mutex<World>> = LazyLock::new(|| Mutex::new(World::new()));

fn beginnings() -> impl Strategy<Value = Vec<u8>> {
    let start = prop_oneof![
        Just(Vec::new()),
        Just(vec![5, 1, 0]),
        Just(vec![5, 1, 0, 5, 1, 0, 3]),
        Just(b"CONNECT ".to_vec()),
        Just(hello(&[sni("api.example.com")], 20)),
        Just(vec![0x16, 3, 1]),
    ];
    (start, prop::collection::vec(any::<u8>(), 0..300))
        .prop_map(|(start, rest)| [start, rest].concat())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn on_sockets(bytes in beginnings()) {
        let world = WORLD.lock().unwrap();
        let dns = UdpSocket::bind("127.0.0.1:0").unwrap();
        dns.send_to(&bytes, world.dns).unwrap();
        for mut client in [world.to_proxy(), world.connect(0, world.tls), world.connect(0, world.plain)] {
            drop(client.write_all(&bytes));
            drop(client.shutdown(Shutdown::Write));
            rest(&client);
        }
        world.order(&Order::Ping(3));
        while world.event() != Event::Pong(3) {}
    }
}

proptest! {
    #[test]
    fn on_a_hello(at in 0usize..600, byte in any::<u8>(), cut in 0usize..600) {
        let name = HostName::parse("api.example.com").unwrap();
        let mut bytes = include_bytes!("openssl.hello").to_vec();
        if let Some(place) = bytes.get_mut(at) {
            *place = byte;
        }
        bytes.truncate(cut);
        prop_assert!(!crate::agrees(&bytes, &HostName::parse("other.example.com").unwrap()));
        let _ = crate::agrees(&bytes, &name);
    }
}
