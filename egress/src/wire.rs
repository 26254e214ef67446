//! What the supervisor and egress say to each other: one JSON message per packet.
//!
//! The calls here are synchronous; the supervisor uses them as they are.

use std::io::{IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, recvmsg, sendmsg,
};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::Error;

/// The version of this protocol.
pub const VERSION: u32 = 1;
/// The longest packet.
pub const MOST_BYTES: usize = 64 * 1024;
/// The most descriptors that one packet carries.
pub const MOST_FDS: usize = 250;

/// The first packet, with its descriptors.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// [`VERSION`].
    pub version: u32,
    /// Who may be reached. An exact name's place in this list is its synthetic address.
    pub allow: Vec<Allow>,
    /// Private ranges that allowed names may resolve to.
    #[serde(default)]
    pub private: Vec<String>,
    /// Ports of the host's loopback that the agent may reach.
    #[serde(default)]
    pub host_ports: Vec<u16>,
    /// Ports of the ring that the host may reach.
    #[serde(default)]
    pub listen: Vec<u16>,
    /// The proxy that everything has to go through.
    #[serde(default)]
    pub upstream_proxy: Option<Proxy>,
    /// Bounds.
    #[serde(default)]
    pub limits: Limits,
    /// How names are resolved.
    pub resolver: Resolver,
    /// Whether each connection waits for [`Order::Verdict`] after it was told as opened.
    #[serde(default)]
    pub ask: bool,
    /// Counts restarts, so that a name under a wildcard does not get another's old address.
    #[serde(default)]
    pub generation: u32,
    /// What each descriptor of the packet is, in order.
    pub fds: Vec<Role>,
}

/// One rule.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Allow {
    /// `api.example.com`, `*.example.org` or `*`.
    pub name: String,
    /// The port; none means every port.
    pub port: Option<u16>,
}

/// Where a proxy is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Proxy {
    /// A name or an address.
    pub host: String,
    /// Its port.
    pub port: u16,
    /// Whether the ring itself says so. An agent's own wish does not reach the host by it.
    #[serde(default)]
    pub given: bool,
}

/// Bounds on what goes out; none means no bound.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Limits {
    /// Connections at once.
    pub connections: usize,
    /// A connection without a byte either way for so long is closed.
    pub idle_ms: u64,
    /// A connection is closed after so long.
    pub total_ms: Option<u64>,
    /// Bytes of a run, both ways, per name.
    pub bytes_per_host: Option<u64>,
    /// Bytes per second, both ways, per name.
    pub rate_per_host: Option<u64>,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: 256,
            idle_ms: 600_000,
            total_ms: None,
            bytes_per_host: None,
            rate_per_host: None,
        }
    }
}

/// How names are resolved. Egress itself reads no file.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Resolver {
    /// Whom to ask.
    pub nameservers: Vec<SocketAddr>,
    /// Names that nobody is asked about.
    pub hosts: Vec<Host>,
}

/// One name and its addresses.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Host {
    /// The name.
    pub name: String,
    /// Where it is.
    pub addresses: Vec<IpAddr>,
}

/// What a descriptor is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "role", rename_all = "snake_case", deny_unknown_fields)]
pub enum Role {
    /// UDP socket inside the ring that DNS questions reach.
    DnsUdp,
    /// Listener inside the ring for DNS over TCP.
    DnsTcp,
    /// Listener inside the ring for programs that look for a proxy.
    Proxy,
    /// Listener inside the ring on every synthetic address.
    Port {
        /// Its port.
        port: u16,
    },
    /// Listener inside the ring for a port of the host's loopback.
    HostPort {
        /// The port.
        port: u16,
    },
    /// Listener on the host's loopback for a port of the ring.
    Listen {
        /// The port.
        port: u16,
    },
    /// Unconnected TCP socket made inside the ring, for [`Role::Listen`].
    Inner,
}

/// Later packets of the supervisor.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Order {
    /// Replaces how names are resolved.
    Resolver(Resolver),
    /// Answered by [`Event::Pong`], after everything that was not told yet.
    Ping(u64),
    /// Whether a connection may carry bytes.
    Verdict(Verdict),
}

/// The supervisor's word on one connection.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Verdict {
    /// The connection's number.
    pub id: u64,
    /// Why not; none lets it go ahead.
    pub refused: Option<String>,
}

/// What egress tells.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Event {
    /// Everything listens.
    Ready(bool),
    /// Answers [`Order::Ping`].
    Pong(u64),
    /// A connection is about to carry bytes.
    Opened(Opened),
    /// It is over; exactly once for each opened one.
    Closed(Closed),
    /// Something was not done.
    Refused(Refused),
}

/// How a connection was asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Via {
    /// By connecting to the name's synthetic address.
    Name,
    /// HTTP CONNECT.
    Connect,
    /// SOCKS5.
    Socks,
    /// A port of the host's loopback.
    HostPort,
    /// From the host into the ring.
    Listen,
}

/// A connection is about to carry bytes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Opened {
    /// Its number.
    pub id: u64,
    /// Whom it reaches.
    pub name: String,
    /// At which port.
    pub port: u16,
    /// The address that was dialled.
    pub address: SocketAddr,
    /// How it was asked for.
    pub via: Via,
}

/// A connection is over.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Closed {
    /// Its number.
    pub id: u64,
    /// Bytes from the one who connected.
    pub up: u64,
    /// Bytes to the one who connected.
    pub down: u64,
    /// How long it lasted.
    pub ms: u64,
    /// Why it ended.
    pub why: Why,
}

/// Why a connection ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Why {
    /// Both sides were done.
    Done,
    /// A side broke it off.
    Broken,
    /// No byte either way for `idle_ms`.
    Idle,
    /// `total_ms` are over.
    Total,
    /// `bytes_per_host` are used up.
    Bytes,
    /// What the client began is not allowed; the refusal says more.
    Refused,
}

/// Something was not done, `count` times since it was last told.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refused {
    /// What was asked for, as far as it could be read.
    pub name: String,
    /// At which port, where there is one.
    pub port: Option<u16>,
    /// One sentence for people that names the remedy.
    pub reason: String,
    /// What kind of refusal it is.
    pub kind: Kind,
    /// How often.
    pub count: u64,
}

/// The kinds of refusal.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// No rule allows it.
    NotAllowed,
    /// The nameserver says there is no such name.
    NoSuchName,
    /// It resolves to a private address that was not declared.
    PrivateAddress,
    /// It resolves to this host.
    OwnAddress,
    /// TLS without a server name.
    SniMissing,
    /// TLS for another name.
    SniDiffers,
    /// No TLS where TLS has to be.
    NotTls,
    /// The server name is encrypted.
    Ech,
    /// The proxy request does not name one host and port, or is none.
    Authority,
    /// An address instead of a name.
    RawAddress,
    /// A synthetic address that no name has.
    UnknownAddress,
    /// Nobody answers there, or no nameserver does.
    Unreachable,
    /// A bound was reached.
    Limit,
    /// A DNS question that no host name can be read from.
    DnsName,
    /// The supervisor could not be told.
    Untold,
    /// A policy of the supervisor's says no.
    Policy,
}

/// Sends one message, and descriptors with it. With [`SendFlags::DONTWAIT`] a full socket is an error
/// that [`Error::is_full`] knows.
///
/// # Errors
/// A message beyond the bounds, or the kernel's reason.
pub fn send<T: Serialize>(
    socket: impl AsFd,
    message: &T,
    fds: &[BorrowedFd<'_>],
    flags: SendFlags,
) -> Result<(), Error> {
    let bytes = serde_json::to_vec(message).map_err(Error::Json)?;
    if bytes.len() > MOST_BYTES || fds.len() > MOST_FDS {
        return Err(Error::TooBig {
            bytes: bytes.len(),
            fds: fds.len(),
        });
    }
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MOST_FDS))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if !fds.is_empty() && !control.push(SendAncillaryMessage::ScmRights(fds)) {
        return Err(Error::TooBig {
            bytes: bytes.len(),
            fds: fds.len(),
        });
    }
    let flags = flags | SendFlags::NOSIGNAL;
    loop {
        match sendmsg(&socket, &[IoSlice::new(&bytes)], &mut control, flags) {
            Ok(_) => return Ok(()),
            Err(rustix::io::Errno::INTR) => {}
            Err(errno) => return Err(Error::Socket(errno)),
        }
    }
}

/// Receives one message and its descriptors; `None` when the other side is gone.
///
/// # Errors
/// A packet that was cut short, no such message, or the kernel's reason.
pub fn receive<T: DeserializeOwned>(
    socket: impl AsFd,
    flags: RecvFlags,
) -> Result<Option<(T, Vec<OwnedFd>)>, Error> {
    let mut bytes = vec![0; MOST_BYTES];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MOST_FDS))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let flags = flags | RecvFlags::CMSG_CLOEXEC;
    let got = loop {
        let mut parts = [IoSliceMut::new(&mut bytes)];
        match recvmsg(&socket, &mut parts, &mut control, flags) {
            Ok(got) => break got,
            Err(rustix::io::Errno::INTR) => {}
            Err(rustix::io::Errno::CONNRESET) => return Ok(None),
            Err(errno) => return Err(Error::Socket(errno)),
        }
    };
    let mut fds = Vec::new();
    for message in control.drain() {
        if let RecvAncillaryMessage::ScmRights(some) = message {
            fds.extend(some);
        }
    }
    if got
        .flags
        .intersects(ReturnFlags::TRUNC | ReturnFlags::CTRUNC)
    {
        return Err(Error::CutShort);
    }
    if got.bytes == 0 {
        return Ok(None);
    }
    let packet = bytes.get(..got.bytes).ok_or(Error::CutShort)?;
    let message = serde_json::from_slice(packet).map_err(Error::Json)?;
    Ok(Some((message, fds)))
}
