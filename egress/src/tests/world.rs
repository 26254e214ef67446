//! A supervisor, a nameserver and servers to reach.

use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use hickory_proto::op::{Message, OpCode, ResponseCode};
use hickory_proto::rr::rdata::A;
use hickory_proto::rr::{RData, Record, RecordType};
use rustix::net::sockopt::{Timeout, set_socket_timeout};
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, socketpair};

use crate::session::Ground;
use crate::wire::{
    self, Allow, Closed, Config, Event, Kind, Limits, Opened, Order, Refused, Resolver, Role,
};

pub(crate) const SERVER: &str = "127.50.0.1";
pub(crate) const OWN: Ipv4Addr = Ipv4Addr::new(127, 66, 0, 1);

/// Every name that the nameserver of the tests knows.
const ZONE: [(&str, &[&str]); 6] = [
    ("api.example.com.", &[SERVER]),
    ("a.wild.example.org.", &[SERVER]),
    ("own.example.com.", &["127.66.0.1"]),
    ("private.example.com.", &["10.9.8.7"]),
    ("metadata.example.com.", &["169.254.169.254"]),
    ("mixed.example.com.", &["10.9.8.7", SERVER]),
];

/// What a server does with a connection.
#[derive(Clone, Copy)]
pub(crate) enum Does {
    Echo,
    Banner,
    Proxy,
}

pub(crate) struct Server {
    pub(crate) port: u16,
    pub(crate) bytes: Arc<AtomicUsize>,
    pub(crate) seen: Arc<AtomicUsize>,
}

impl Server {
    pub(crate) fn start(address: &str, does: Does) -> Self {
        let listener = TcpListener::bind((address, 0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        let (bytes, seen) = (Arc::default(), Arc::default());
        let server = Self {
            port,
            bytes: Arc::clone(&bytes),
            seen: Arc::clone(&seen),
        };
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                seen.fetch_add(1, Ordering::SeqCst);
                let bytes = Arc::clone(&bytes);
                thread::spawn(move || converse(stream, does, &bytes));
            }
        });
        server
    }
}

fn converse(mut stream: TcpStream, does: Does, bytes: &AtomicUsize) {
    match does {
        Does::Banner => stream.write_all(b"220 ready\r\n").unwrap(),
        Does::Proxy => {
            let mut head = Vec::new();
            while !head.ends_with(b"\r\n\r\n") {
                let mut one = [0];
                if stream.read(&mut one).unwrap_or(0) == 0 {
                    return;
                }
                head.push(one[0]);
            }
            let good = head.starts_with(b"CONNECT api.example.com:");
            // The tunnel's first bytes come with the answer, as some proxies send them.
            let answer: &[u8] = if good {
                b"HTTP/1.1 200 OK\r\n\r\nbanner\n"
            } else {
                b"HTTP/1.1 407 No\r\n\r\n"
            };
            stream.write_all(answer).unwrap();
        }
        Does::Echo => {}
    }
    let mut space = vec![0; 65536];
    while let Ok(got @ 1..) = stream.read(&mut space) {
        bytes.fetch_add(got, Ordering::SeqCst);
        if stream.write_all(&space[..got]).is_err() {
            return;
        }
    }
    drop(stream.shutdown(Shutdown::Write));
}

fn nameserver() -> (SocketAddr, Arc<AtomicUsize>) {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let at = socket.local_addr().unwrap();
    let asked = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&asked);
    thread::spawn(move || {
        let mut space = [0; 2048];
        while let Ok((length, from)) = socket.recv_from(&mut space) {
            count.fetch_add(1, Ordering::SeqCst);
            let question = Message::from_vec(&space[..length]).unwrap();
            let query = question.queries[0].clone();
            let mut answer = Message::response(question.metadata.id, OpCode::Query);
            answer.metadata.recursion_available = true;
            let name = query.name().to_ascii().to_lowercase();
            match ZONE.iter().find(|(known, _)| *known == name) {
                Some((_, addresses)) if query.query_type() == RecordType::A => {
                    for address in *addresses {
                        let data = RData::A(A(address.parse().unwrap()));
                        answer.add_answer(Record::from_rdata(query.name().clone(), 60, data));
                    }
                }
                Some(_) => {}
                None => answer.metadata.response_code = ResponseCode::NXDomain,
            }
            answer.add_query(query);
            drop(socket.send_to(&answer.to_vec().unwrap(), from));
        }
    });
    (at, asked)
}

/// One egress and everything around it.
pub(crate) struct World {
    pub(crate) supervisor: OwnedFd,
    pub(crate) echo: Server,
    pub(crate) banner: Server,
    /// Where the ring's listeners are.
    pub(crate) proxy: SocketAddr,
    pub(crate) dns: SocketAddr,
    pub(crate) dns_tcp: SocketAddr,
    pub(crate) tls: u16,
    pub(crate) plain: u16,
    pub(crate) asked: Arc<AtomicUsize>,
    pub(crate) thread: Option<thread::JoinHandle<Result<(), crate::Error>>>,
}

fn allow(name: &str, port: u16) -> Allow {
    Allow {
        name: name.to_owned(),
        port: Some(port),
    }
}

impl World {
    pub(crate) fn new() -> Self {
        Self::with(|_, _| {})
    }

    /// The TLS port of the tests is the echo server's; the plain port the banner server's.
    pub(crate) fn with(change: impl FnOnce(&mut Config, &mut Vec<OwnedFd>)) -> Self {
        let echo = Server::start(SERVER, Does::Echo);
        let banner = Server::start(SERVER, Does::Banner);
        let (nameserver, asked) = nameserver();
        let ring = || TcpListener::bind("0.0.0.0:0").unwrap();
        let (proxy, dns_tcp, tls, plain) = (ring(), ring(), ring(), ring());
        let dns = UdpSocket::bind("127.0.0.1:0").unwrap();
        let port = |listener: &TcpListener| listener.local_addr().unwrap().port();
        let at = |listener: &TcpListener| SocketAddr::from(([127, 0, 0, 1], port(listener)));
        let mut world = Self {
            supervisor: dns.as_fd().try_clone_to_owned().unwrap(),
            proxy: at(&proxy),
            dns: dns.local_addr().unwrap(),
            dns_tcp: at(&dns_tcp),
            tls: port(&tls),
            plain: port(&plain),
            echo,
            banner,
            asked,
            thread: None,
        };
        let names = [
            "api.example.com",
            "own.example.com",
            "private.example.com",
            "metadata.example.com",
            "mixed.example.com",
            "gone.example.com",
            "*.wild.example.org",
        ];
        let ports = [world.echo.port, world.banner.port];
        let mut allowed: Vec<Allow> = names.iter().map(|name| allow(name, ports[0])).collect();
        allowed.extend(names.iter().map(|name| allow(name, ports[1])));
        let mut config = Config {
            version: 1,
            allow: allowed,
            private: vec!["127.0.0.0/8".to_owned()],
            host_ports: Vec::new(),
            listen: Vec::new(),
            upstream_proxy: None,
            limits: Limits::default(),
            resolver: Resolver {
                nameservers: vec![nameserver],
                hosts: Vec::new(),
            },
            ask: false,
            generation: 0,
            fds: vec![
                Role::DnsUdp,
                Role::DnsTcp,
                Role::Proxy,
                Role::Port { port: ports[0] },
                Role::Port { port: ports[1] },
            ],
        };
        let mut fds: Vec<OwnedFd> = vec![
            dns.into(),
            dns_tcp.into(),
            proxy.into(),
            tls.into(),
            plain.into(),
        ];
        change(&mut config, &mut fds);
        let (ours, theirs) = socketpair(
            AddressFamily::UNIX,
            SocketType::SEQPACKET,
            SocketFlags::CLOEXEC,
            None,
        )
        .unwrap();
        set_socket_timeout(&ours, Timeout::Recv, Some(Duration::from_secs(20))).unwrap();
        world.supervisor = ours;
        let borrowed: Vec<_> = fds.iter().map(AsFd::as_fd).collect();
        wire::send(&world.supervisor, &config, &borrowed, SendFlags::empty()).unwrap();
        let ground = Ground {
            base: Ipv4Addr::new(127, 18, 0, 0),
            own: |address| Ok(address == IpAddr::V4(OWN)),
            tls: world.echo.port,
        };
        world.thread = Some(thread::spawn(move || crate::serve(theirs, ground)));
        assert_eq!(world.event(), Event::Ready(true));
        world
    }

    pub(crate) fn event(&self) -> Event {
        wire::receive(&self.supervisor, RecvFlags::empty())
            .unwrap()
            .expect("an event")
            .0
    }

    pub(crate) fn order(&self, order: &Order) {
        wire::send(&self.supervisor, order, &[], SendFlags::empty()).unwrap();
    }

    pub(crate) fn opened(&self) -> Opened {
        let event = self.event();
        let Event::Opened(opened) = event else {
            panic!("{event:?}");
        };
        opened
    }

    pub(crate) fn closed(&self) -> Closed {
        let event = self.event();
        let Event::Closed(closed) = event else {
            panic!("{event:?}");
        };
        closed
    }

    pub(crate) fn refused(&self, kind: Kind) -> Refused {
        let event = self.event();
        let Event::Refused(refused) = event else {
            panic!("{event:?} where {kind:?} was expected");
        };
        assert_eq!(refused.kind, kind, "{refused:?}");
        assert!(refused.reason.len() > 20, "{refused:?}");
        refused
    }

    /// Nothing else was told.
    pub(crate) fn quiet(&self) {
        self.order(&Order::Ping(7));
        assert_eq!(self.event(), Event::Pong(7));
    }

    /// The synthetic address of the place in the list of rules.
    pub(crate) fn connect(&self, place: u8, port: u16) -> TcpStream {
        patient(TcpStream::connect((Ipv4Addr::new(127, 18, 1, place), port)).unwrap())
    }

    pub(crate) fn to_proxy(&self) -> TcpStream {
        patient(TcpStream::connect(self.proxy).unwrap())
    }
}

pub(crate) fn patient(stream: TcpStream) -> TcpStream {
    stream
        .set_read_timeout(Some(Duration::from_secs(20)))
        .unwrap();
    stream
}

/// Everything until the end; a reset is an end with a mark.
pub(crate) fn rest(mut stream: &TcpStream) -> (Vec<u8>, bool) {
    let mut all = Vec::new();
    let reset = match stream.read_to_end(&mut all) {
        Ok(_) => false,
        Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => true,
        Err(error) => panic!("{error}"),
    };
    (all, reset)
}

pub(crate) fn read_exactly(mut stream: &TcpStream, length: usize) -> Vec<u8> {
    let mut bytes = vec![0; length];
    stream.read_exact(&mut bytes).unwrap();
    bytes
}

/// A ClientHello with these extensions, in records of at most so many bytes.
pub(crate) fn hello(extensions: &[(u16, Vec<u8>)], record: usize) -> Vec<u8> {
    let prefixed = |bytes: &[u8]| {
        let mut all = u16::try_from(bytes.len()).unwrap().to_be_bytes().to_vec();
        all.extend(bytes);
        all
    };
    let mut body = vec![3, 3];
    body.extend([7; 32]);
    body.extend([0, 0, 2, 0x13, 0x01, 1, 0]);
    let mut list = Vec::new();
    for (kind, data) in extensions {
        list.extend(kind.to_be_bytes());
        list.extend(prefixed(data));
    }
    body.extend(prefixed(&list));
    let mut message = vec![1];
    message.extend(&u32::try_from(body.len()).unwrap().to_be_bytes()[1..]);
    message.extend(body);
    message
        .chunks(record)
        .flat_map(|part| [vec![0x16, 3, 1], prefixed(part)].concat())
        .collect()
}

pub(crate) fn sni(name: &str) -> (u16, Vec<u8>) {
    let length = u8::try_from(name.len()).unwrap();
    let mut data = vec![0, length + 3, 0, 0, length];
    data.extend(name.as_bytes());
    (0, data)
}
