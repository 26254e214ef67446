//! From a name to a connection: resolved once, every answer judged, and what was judged is dialled.

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::time::Duration;

use hickory_resolver::TokioResolver;
use hickory_resolver::config::{
    ConnectionConfig, LookupIpStrategy, NameServerConfig, ResolveHosts, ResolverConfig,
};
use hickory_resolver::net::NetError;
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::proto::rr::Name;
use names::{Cidr, HostName, Range};
use rustix::io::Errno;
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout, timeout_at};

use crate::Error;
use crate::tell::Refusal;
use crate::wire::{self, Kind};

const EACH: Duration = Duration::from_secs(5);
const ALL: Duration = Duration::from_secs(15);
const CACHED: u64 = 256;
const LONGEST_TTL: Duration = Duration::from_secs(60);

/// Who knows addresses: a table, then nameservers.
pub(crate) struct Upstream {
    hosts: HashMap<HostName, Vec<IpAddr>>,
    resolver: Option<TokioResolver>,
}

impl Upstream {
    pub(crate) fn new(config: &wire::Resolver) -> Result<Self, Error> {
        let mut hosts: HashMap<HostName, Vec<IpAddr>> = HashMap::new();
        for host in &config.hosts {
            // A hosts file also has names that are none; nobody can ask for them.
            if let Ok(name) = HostName::parse(&host.name) {
                hosts.entry(name).or_default().extend(&host.addresses);
            }
        }
        let servers: Vec<_> = config
            .nameservers
            .iter()
            .map(|at| nameserver(*at))
            .collect();
        if servers.is_empty() {
            return Ok(Self {
                hosts,
                resolver: None,
            });
        }
        let config = ResolverConfig::from_name_servers(servers);
        let mut builder =
            TokioResolver::builder_with_config(config, TokioRuntimeProvider::default());
        let options = builder.options_mut();
        options.use_hosts_file = ResolveHosts::Never;
        options.ip_strategy = LookupIpStrategy::Ipv4AndIpv6;
        options.timeout = EACH;
        options.attempts = 2;
        options.cache_size = CACHED;
        options.positive_max_ttl = Some(LONGEST_TTL);
        options.negative_max_ttl = Some(LONGEST_TTL);
        let resolver = builder
            .build()
            .map_err(|error| Error::Resolver(error.to_string()))?;
        Ok(Self {
            hosts,
            resolver: Some(resolver),
        })
    }

    pub(crate) async fn addresses(&self, name: &HostName) -> Result<Vec<IpAddr>, Refusal> {
        if let Some(addresses) = self.hosts.get(name) {
            return Ok(addresses.clone());
        }
        let unreachable = |what: &str| {
            Refusal::new(
                Kind::Unreachable,
                format!("{name} cannot be resolved: {what}; check the host's nameservers"),
            )
        };
        let resolver = self
            .resolver
            .as_ref()
            .ok_or_else(|| unreachable("there is no nameserver"))?;
        // With its last dot no search list applies.
        let full = Name::from_ascii(format!("{name}."))
            .map_err(|error| unreachable(&error.to_string()))?;
        match timeout(ALL, resolver.lookup_ip(full)).await {
            Ok(Ok(found)) => Ok(found.iter().collect()),
            Ok(Err(error)) => {
                Err(not_found(name, &error).unwrap_or_else(|| unreachable(&error.to_string())))
            }
            Err(_) => Err(unreachable("no nameserver answers")),
        }
    }
}

fn nameserver(at: SocketAddr) -> NameServerConfig {
    let (mut udp, mut tcp) = (ConnectionConfig::udp(), ConnectionConfig::tcp());
    udp.port = at.port();
    tcp.port = at.port();
    NameServerConfig::new(at.ip(), true, vec![udp, tcp])
}

fn not_found(name: &HostName, error: &NetError) -> Option<Refusal> {
    let what = if error.is_nx_domain() {
        format!("the nameserver knows no {name}; check its spelling")
    } else if error.is_no_records_found() {
        format!("the nameserver knows no address of {name}; check its spelling")
    } else {
        return None;
    };
    Some(Refusal::new(Kind::NoSuchName, what))
}

/// The answers that may be dialled, IPv6 and IPv4 in turn.
pub(crate) fn vet(
    name: &HostName,
    addresses: &[IpAddr],
    declared: &[Cidr],
    own: Owns,
) -> Result<Vec<IpAddr>, Refusal> {
    let mut refusal = None;
    let (mut six, mut four) = (Vec::new(), Vec::new());
    for address in addresses.iter().map(IpAddr::to_canonical) {
        let refused = match (own(address), names::judge(address, declared)) {
            (Ok(true), _) => own_address(name, address),
            (Ok(false), Err(range)) => private(name, address, range),
            (Err(errno), _) => unknown(name, address, errno),
            (Ok(false), Ok(())) => {
                let list = if address.is_ipv6() {
                    &mut six
                } else {
                    &mut four
                };
                list.push(address);
                continue;
            }
        };
        refusal.get_or_insert(refused);
    }
    let mut fine = Vec::new();
    let (mut six, mut four) = (six.into_iter(), four.into_iter());
    loop {
        let pair = [six.next(), four.next()];
        if pair == [None, None] {
            break;
        }
        fine.extend(pair.into_iter().flatten());
    }
    if fine.is_empty() {
        return Err(refusal.unwrap_or_else(|| {
            Refusal::new(
                Kind::NoSuchName,
                format!("the nameserver knows no address of {name}; check its spelling"),
            )
        }));
    }
    Ok(fine)
}

fn unknown(name: &HostName, address: IpAddr, errno: Errno) -> Refusal {
    Refusal::new(
        Kind::Unreachable,
        format!(
            "whether {address}, which {name} resolves to, is this host cannot be told ({errno}); close some connections"
        ),
    )
}

fn own_address(name: &HostName, address: IpAddr) -> Refusal {
    Refusal::new(
        Kind::OwnAddress,
        format!(
            "{name} resolves to {address}, which is this host; a port of the host's loopback is opened with `network.host_ports`"
        ),
    )
}

fn private(name: &HostName, address: IpAddr, range: Range) -> Refusal {
    let what = match range {
        Range::Metadata => format!(
            "{name} resolves to {address}, the cloud's metadata service; only `network.private` with exactly {address} opens it"
        ),
        Range::Private(range) => format!(
            "{name} resolves to {address}, which is not public ({range}); declare its range in `network.private` if that is meant"
        ),
        Range::Public => format!("{name} resolves to {address}, which is refused"),
    };
    Refusal::new(Kind::PrivateAddress, what)
}

/// Connects to the first address that answers.
pub(crate) async fn dial(
    name: &str,
    addresses: &[IpAddr],
    port: u16,
) -> Result<(TcpStream, SocketAddr), Refusal> {
    let end = Instant::now() + ALL;
    let mut last = "no address was tried".to_owned();
    for address in addresses {
        let address = SocketAddr::new(*address, port);
        let until = end.min(Instant::now() + EACH);
        match timeout_at(until, TcpStream::connect(address)).await {
            Ok(Ok(stream)) => return Ok((stream, address)),
            Ok(Err(error)) => last = format!("{address}: {error}"),
            Err(_) => last = format!("{address} does not answer"),
        }
        if Instant::now() >= end {
            break;
        }
    }
    Err(Refusal::new(
        Kind::Unreachable,
        format!(
            "{name}:{port} cannot be reached ({last}); check that it is up and the port is right"
        ),
    ))
}

/// Tells whether an address is this host's.
pub(crate) type Owns = fn(IpAddr) -> Result<bool, Errno>;

/// Whether an address is this host's. The loopback always is, whatever was declared.
///
/// Asked of the kernel: a socket connected to an own address has that address itself, and only an own
/// address can be bound, unless the host binds any (`ip_nonlocal_bind`). An error when there is no room
/// to ask: that must not look like a no.
pub(crate) fn is_own(address: IpAddr) -> Result<bool, Errno> {
    if address.is_loopback() || address.is_unspecified() {
        return Ok(true);
    }
    Ok(connects_to_itself(address)? || (binds(address)? && !binds(nobodys(address))?))
}

fn connects_to_itself(address: IpAddr) -> Result<bool, Errno> {
    let any = if address.is_ipv4() {
        IpAddr::V4(Ipv4Addr::UNSPECIFIED)
    } else {
        IpAddr::V6(Ipv6Addr::UNSPECIFIED)
    };
    let source = UdpSocket::bind((any, 0)).and_then(|socket| {
        socket
            .connect((address, 9))
            .and_then(|()| socket.local_addr())
    });
    answered(source.map(|source| source.ip() == address))
}

fn binds(address: IpAddr) -> Result<bool, Errno> {
    answered(UdpSocket::bind((address, 0)).map(|_| true))
}

/// An error is the kernel's no, unless it only says that there is no room to ask.
fn answered(said: io::Result<bool>) -> Result<bool, Errno> {
    said.or_else(|error| match Errno::from_io_error(&error) {
        Some(errno @ (Errno::MFILE | Errno::NFILE | Errno::NOBUFS | Errno::NOMEM)) => Err(errno),
        Some(_) | None => Ok(false),
    })
}

/// Reserved and discarded, so never an address of a host.
fn nobodys(like: IpAddr) -> IpAddr {
    if like.is_ipv4() {
        IpAddr::V4(Ipv4Addr::new(240, 0, 0, 1))
    } else {
        IpAddr::V6(Ipv6Addr::new(0x100, 0, 0, 0, 0, 0, 0, 1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_host_is_known_by_its_addresses() {
        for own in ["127.0.0.1", "127.9.9.9", "::1", "0.0.0.0"] {
            assert_eq!(is_own(own.parse().unwrap()), Ok(true), "{own}");
        }
        for other in ["192.0.2.7", "8.8.8.8", "2001:db8::7"] {
            assert_eq!(is_own(other.parse().unwrap()), Ok(false), "{other}");
        }
        let out = UdpSocket::bind("0.0.0.0:0").and_then(|socket| {
            socket.connect("192.0.2.7:9")?;
            socket.local_addr()
        });
        if let Ok(out) = out {
            assert_eq!(is_own(out.ip()), Ok(true), "{out}");
        }
    }

    #[test]
    fn no_room_to_ask_is_no_answer() {
        let said = |errno: Errno| answered(Err(errno.into()));
        assert_eq!(said(Errno::MFILE), Err(Errno::MFILE));
        assert_eq!(said(Errno::ADDRNOTAVAIL), Ok(false));
        assert_eq!(answered(Ok(true)), Ok(true));
    }

    #[test]
    fn only_fine_answers_are_dialled_and_in_turn() {
        let name = HostName::parse("a.example").unwrap();
        let parse = |list: &[&str]| -> Vec<IpAddr> {
            list.iter().map(|text| text.parse().unwrap()).collect()
        };
        let nobody: Owns = |_| Ok(false);
        let full: Owns = |_| Err(Errno::MFILE);
        let refusal = vet(&name, &parse(&["8.8.8.8"]), &[], full).unwrap_err();
        assert_eq!(refusal.kind, Kind::Unreachable);
        let mixed = parse(&[
            "8.8.8.8",
            "10.0.0.1",
            "9.9.9.9",
            "2606:4700::1",
            "fd00:ec2::254",
        ]);
        let fine = vet(&name, &mixed, &[], nobody).unwrap();
        assert_eq!(fine, parse(&["2606:4700::1", "8.8.8.8", "9.9.9.9"]));
        for (bad, kind) in [
            ("10.0.0.1", Kind::PrivateAddress),
            ("::ffff:10.0.0.1", Kind::PrivateAddress),
            ("169.254.169.254", Kind::PrivateAddress),
        ] {
            let refusal = vet(&name, &parse(&[bad]), &[], nobody).unwrap_err();
            assert_eq!(refusal.kind, kind);
            assert!(
                refusal.reason.contains("network.private"),
                "{}",
                refusal.reason
            );
        }
        let declared = [
            Cidr::parse("127.0.0.0/8").unwrap(),
            Cidr::parse("0.0.0.0/0").unwrap(),
        ];
        for own in ["127.0.0.1", "::ffff:127.0.0.1"] {
            let refusal = vet(&name, &parse(&[own]), &declared, is_own).unwrap_err();
            assert_eq!(refusal.kind, Kind::OwnAddress);
        }
    }
}
