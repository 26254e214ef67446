//! One loop for each socket that was passed in.

use std::future::Future;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::fd::{AsFd, OwnedFd};
use std::rc::Rc;
use std::time::Duration;

use rustix::net::sockopt::set_tcp_congestion;
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::task::spawn_local;

use crate::inner::Inner;
use crate::relay::{beginning, reset};
use crate::session::{Ask, Egress, Found, Place};
use crate::tell::Refusal;
use crate::wire::{Config, Role, Via};
use crate::{Error, dns, proxy, resolve};

/// How long a listener rests when the kernel gives no descriptor.
const REST: Duration = Duration::from_millis(50);

/// Starts every loop; the descriptors are in the order of their roles.
pub(crate) fn start(egress: &Rc<Egress>, config: &Config, fds: Vec<OwnedFd>) -> Result<(), Error> {
    if fds.len() != config.fds.len() {
        return Err(Error::Descriptors {
            fds: fds.len(),
            roles: config.fds.len(),
        });
    }
    let inner = Inner::new();
    for (role, fd) in config.fds.iter().zip(fds) {
        let egress = Rc::clone(egress);
        match *role {
            Role::DnsUdp => drop(spawn_local(dns::udp(egress, udp(fd)?))),
            Role::DnsTcp => drop(spawn_local(dns::tcp(egress, tcp(fd)?))),
            Role::Proxy => drop(spawn_local(accept(egress, tcp(fd)?, proxy::serve))),
            Role::Port { port } => {
                let serve = move |egress, client, place| by_name(egress, client, place, port);
                drop(spawn_local(accept(egress, tcp(fd)?, serve)));
            }
            Role::HostPort { port } => {
                known(&config.host_ports, port)?;
                let serve = move |egress, client, place| host_port(egress, client, place, port);
                drop(spawn_local(accept(egress, tcp(fd)?, serve)));
            }
            Role::Listen { port } => {
                known(&config.listen, port)?;
                let inner = Rc::clone(&inner);
                let serve = move |egress, client, place| {
                    listen(egress, client, place, port, Rc::clone(&inner))
                };
                drop(spawn_local(accept(egress, tcp(fd)?, serve)));
            }
            Role::Inner => inner.give(fd),
        }
    }
    Ok(())
}

fn known(ports: &[u16], port: u16) -> Result<(), Error> {
    if ports.contains(&port) {
        Ok(())
    } else {
        Err(Error::Role(port))
    }
}

fn tcp(fd: OwnedFd) -> Result<TcpListener, Error> {
    let listener = std::net::TcpListener::from(fd);
    listener.set_nonblocking(true).map_err(Error::Runtime)?;
    unpaced(&listener);
    TcpListener::from_std(listener).map_err(Error::Runtime)
}

/// A loopback has no congestion, and where the host's choice is BBR its pacing sets a timer for
/// each packet: a sixth of what egress costs. Whatever a listener accepts inherits this.
pub(crate) fn unpaced(socket: impl AsFd) {
    // The kernel always has Reno and lets everybody choose it.
    let _ = set_tcp_congestion(socket, "reno");
}

fn udp(fd: OwnedFd) -> Result<UdpSocket, Error> {
    let socket = std::net::UdpSocket::from(fd);
    socket.set_nonblocking(true).map_err(Error::Runtime)?;
    UdpSocket::from_std(socket).map_err(Error::Runtime)
}

/// The next connection. Whatever fails is this connection's or passes.
pub(crate) async fn next(listener: &TcpListener) -> TcpStream {
    loop {
        match listener.accept().await {
            Ok((client, _)) => return client,
            Err(_) => tokio::time::sleep(REST).await,
        }
    }
}

async fn accept<F>(
    egress: Rc<Egress>,
    listener: TcpListener,
    serve: impl Fn(Rc<Egress>, TcpStream, Place) -> F,
) where
    F: Future<Output = ()> + 'static,
{
    let port = listener.local_addr().map_or(0, |address| address.port());
    loop {
        let client = next(&listener).await;
        match egress.place() {
            Ok(place) => drop(spawn_local(serve(Rc::clone(&egress), client, place))),
            Err(refusal) => egress.refuse(&client, "", port, &refusal),
        }
    }
}

/// A program that knows no proxy: the address it connected to says which name it meant.
async fn by_name(egress: Rc<Egress>, client: TcpStream, place: Place, port: u16) {
    let Ok(address) = client.local_addr() else {
        return;
    };
    let name = match egress.name_of(address.ip()) {
        Ok(name) => name,
        Err(refusal) => return egress.refuse(&client, &address.ip().to_string(), port, &refusal),
    };
    let ask = Ask {
        name,
        port,
        via: Via::Name,
    };
    if let Err(refusal) = outgoing(&egress, &client, &ask).await {
        egress.refuse(&client, ask.name.as_str(), port, &refusal);
    }
    drop(place);
}

async fn outgoing(egress: &Egress, client: &TcpStream, ask: &Ask) -> Result<(), Refusal> {
    egress.check(ask)?;
    let tls = egress.is_tls(ask);
    let early = if tls {
        beginning(client, Vec::new(), &ask.name, true).await?
    } else {
        Vec::new()
    };
    let found = egress.dial(ask).await?;
    egress.carry(client, found, ask, (early, tls)).await
}

/// A port of the host's loopback.
async fn host_port(egress: Rc<Egress>, client: TcpStream, place: Place, port: u16) {
    let loopback = [
        IpAddr::V4(Ipv4Addr::LOCALHOST),
        IpAddr::V6(Ipv6Addr::LOCALHOST),
    ];
    let done = async {
        let found = resolve::dial("localhost", &loopback, port).await?;
        egress
            .carry_local(&client, Found::new(found), port, Via::HostPort)
            .await
    };
    if let Err(refusal) = done.await {
        egress.refuse(&client, "localhost", port, &refusal);
    }
    drop(place);
}

/// From the host into the ring, over a socket that was made there.
async fn listen(egress: Rc<Egress>, client: TcpStream, place: Place, port: u16, inner: Rc<Inner>) {
    match inner.dial(port).await {
        Ok((found, kept)) => {
            let done = egress.carry_local(&client, found, port, Via::Listen).await;
            if let Err(refusal) = done {
                egress.refuse(&client, "localhost", port, &refusal);
            }
            drop(place);
            inner.again(kept).await;
        }
        Err(refusal) => {
            egress.teller.refused("localhost", Some(port), &refusal);
            reset(&client);
        }
    }
}
