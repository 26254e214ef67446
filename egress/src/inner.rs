//! Sockets that were made inside the ring, so that what they connect to is the ring's loopback.
//!
//! Egress cannot make one: it lives outside. Each is dissolved after use (`connect` to no family) and
//! used again, so a small pool lasts for the whole run.

use std::cell::RefCell;
use std::net::{Ipv4Addr, SocketAddr, TcpStream as Plain};
use std::os::fd::OwnedFd;
use std::rc::Rc;
use std::time::Duration;

use rustix::net::connect_unspec;
use rustix::net::sockopt::set_socket_linger;
use tokio::net::TcpSocket;
use tokio::time::{sleep, timeout};

use crate::listeners::unpaced;
use crate::session::Found;
use crate::tell::Refusal;
use crate::wire::Kind;

const PATIENCE: Duration = Duration::from_secs(5);
/// Dissolving drops what the other side has not taken yet.
const GRACE: Duration = Duration::from_secs(1);

#[derive(Default)]
pub(crate) struct Inner(RefCell<Vec<OwnedFd>>);

impl Inner {
    pub(crate) fn new() -> Rc<Self> {
        Rc::new(Self::default())
    }

    pub(crate) fn give(&self, fd: OwnedFd) {
        self.0.borrow_mut().push(fd);
    }

    /// A connection to a port of the ring, and the socket to keep for the next one.
    pub(crate) async fn dial(&self, port: u16) -> Result<(Found, OwnedFd), Refusal> {
        let Some(kept) = self.0.borrow_mut().pop() else {
            return Err(Refusal::new(
                Kind::Limit,
                format!(
                    "as many connections to port {port} of the ring are open as there are sockets; close some"
                ),
            ));
        };
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        let connected = match socket(&kept) {
            Ok(socket) => timeout(PATIENCE, socket.connect(address)).await,
            Err(error) => Ok(Err(error)),
        };
        if let Ok(Ok(stream)) = connected {
            return Ok((Found::new((stream, address)), kept));
        }
        self.dissolve(kept);
        Err(Refusal::new(
            Kind::Unreachable,
            format!(
                "nothing in the ring listens at port {port}; start the server there, on 127.0.0.1"
            ),
        ))
    }

    /// After the connection is over and its stream closed.
    pub(crate) async fn again(&self, kept: OwnedFd) {
        sleep(GRACE).await;
        self.dissolve(kept);
    }

    fn dissolve(&self, kept: OwnedFd) {
        // One that cannot be dissolved is dropped: the pool is smaller, never wrong.
        if connect_unspec(&kept).is_ok() && set_socket_linger(&kept, None).is_ok() {
            self.give(kept);
        }
    }
}

fn socket(kept: &OwnedFd) -> std::io::Result<TcpSocket> {
    let plain = Plain::from(kept.try_clone()?);
    plain.set_nonblocking(true)?;
    unpaced(&plain);
    Ok(TcpSocket::from_std_stream(plain))
}
