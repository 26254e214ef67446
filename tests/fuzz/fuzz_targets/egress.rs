//! Any bytes from an agent to the proxy, to SOCKS, as DNS and as the beginning of TLS: nothing panics,
//! nothing is opened, and the supervisor is still answered.
#![no_main]

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream, UdpSocket};
use std::os::fd::{AsFd, OwnedFd};
use std::sync::LazyLock;

use egress::wire::{self, Allow, Config, Event, Limits, Order, Resolver, Role};
use libfuzzer_sys::fuzz_target;
use names::HostName;
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, socketpair};

struct World {
    supervisor: OwnedFd,
    proxy: std::net::SocketAddr,
    dns: std::net::SocketAddr,
    name: HostName,
}

static WORLD: LazyLock<World> = LazyLock::new(|| {
    let proxy = TcpListener::bind("127.0.0.1:0").expect("a listener");
    let dns = UdpSocket::bind("127.0.0.1:0").expect("a socket");
    let (at_proxy, at_dns) = (proxy.local_addr().unwrap(), dns.local_addr().unwrap());
    let config = Config {
        version: wire::VERSION,
        allow: vec![Allow { name: "api.example.com".into(), port: Some(443) }],
        private: Vec::new(),
        host_ports: Vec::new(),
        listen: Vec::new(),
        upstream_proxy: None,
        limits: Limits::default(),
        resolver: Resolver::default(),
        generation: 0,
        fds: vec![Role::Proxy, Role::DnsUdp],
    };
    let (supervisor, theirs) =
        socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None).unwrap();
    let fds = [proxy.as_fd(), dns.as_fd()];
    wire::send(&supervisor, &config, &fds, SendFlags::empty()).expect("sent");
    std::thread::spawn(move || egress::serve_on(theirs).expect("egress"));
    let name = HostName::parse("api.example.com").unwrap();
    World { supervisor, proxy: at_proxy, dns: at_dns, name }
});

fuzz_target!(|bytes: &[u8]| {
    let world = &*WORLD;
    let _ = egress::agrees(bytes, &world.name);
    UdpSocket::bind("127.0.0.1:0").unwrap().send_to(bytes, world.dns).ok();
    let mut client = TcpStream::connect(world.proxy).unwrap();
    client.write_all(bytes).ok();
    client.shutdown(Shutdown::Write).ok();
    client.read_to_end(&mut Vec::new()).ok();
    wire::send(&world.supervisor, &Order::Ping(1), &[], SendFlags::empty()).expect("alive");
    loop {
        let (event, _) = wire::receive::<Event>(&world.supervisor, RecvFlags::empty()).unwrap().expect("alive");
        assert!(!matches!(event, Event::Opened(_)), "{event:?}");
        if event == Event::Pong(1) {
            break;
        }
    }
});
