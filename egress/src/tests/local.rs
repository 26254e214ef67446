//! The host's loopback from the ring, and the ring's from the host.

use std::io::Write;
use std::net::{Shutdown, TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::time::Duration;

use rustix::net::{AddressFamily, SocketFlags, SocketType, socket_with};

use super::*;
use crate::wire::{Kind, Role, Via, Why};

#[test]
fn a_declared_port_of_the_host() {
    let server = Server::start("127.0.0.1", Does::Banner);
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let at = listener.local_addr().unwrap();
    let world = World::with(|config, fds| {
        config.host_ports = vec![server.port];
        config.fds.push(Role::HostPort { port: server.port });
        fds.push(OwnedFd::from(listener));
    });
    let client = patient(TcpStream::connect(at).unwrap());
    assert_eq!(read_exactly(&client, 3), b"220");
    let opened = world.opened();
    assert_eq!(
        (opened.name.as_str(), opened.port, opened.via),
        ("localhost", server.port, Via::HostPort)
    );
}

#[test]
fn one_inner_socket_serves_again_and_again() {
    let server = Server::start("127.0.0.1", Does::Banner);
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let at = listener.local_addr().unwrap();
    let inner = socket_with(
        AddressFamily::INET,
        SocketType::STREAM,
        SocketFlags::CLOEXEC,
        None,
    )
    .unwrap();
    let world = World::with(|config, fds| {
        config.listen = vec![server.port];
        config
            .fds
            .extend([Role::Listen { port: server.port }, Role::Inner]);
        fds.extend([OwnedFd::from(listener), inner]);
    });
    for round in 0..3 {
        let mut client = patient(TcpStream::connect(at).unwrap());
        assert_eq!(read_exactly(&client, 11), b"220 ready\r\n", "round {round}");
        let opened = world.opened();
        assert_eq!(
            (opened.name.as_str(), opened.via),
            ("localhost", Via::Listen)
        );
        if round == 0 {
            let other = patient(TcpStream::connect(at).unwrap());
            assert!(rest(&other).1, "the only socket is in use");
            world.refused(Kind::Limit);
        }
        if round == 1 {
            drop(client);
        } else {
            client.write_all(b"bye").unwrap();
            client.shutdown(Shutdown::Write).unwrap();
            assert_eq!(rest(&client), (b"bye".to_vec(), false));
        }
        let why = world.closed().why;
        assert!(why == Why::Done || round == 1, "{why:?}");
        std::thread::sleep(Duration::from_millis(1300));
    }
}

#[test]
fn nobody_listens_in_the_ring() {
    let free = TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap()
        .port();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let at = listener.local_addr().unwrap();
    let inner = socket_with(
        AddressFamily::INET,
        SocketType::STREAM,
        SocketFlags::CLOEXEC,
        None,
    )
    .unwrap();
    let world = World::with(|config, fds| {
        config.listen = vec![free];
        config
            .fds
            .extend([Role::Listen { port: free }, Role::Inner]);
        fds.extend([OwnedFd::from(listener), inner]);
    });
    assert!(rest(&patient(TcpStream::connect(at).unwrap())).1);
    world.refused(Kind::Unreachable);
    let server = TcpListener::bind(("127.0.0.1", free)).unwrap();
    let _client = TcpStream::connect(at).unwrap();
    assert!(
        server.accept().is_ok(),
        "the socket is not lost by a failure"
    );
    world.opened();
}
