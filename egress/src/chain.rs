//! A company's proxy: it resolves and dials, and what it reaches is out of our sight.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::Empty;
use hyper::{Method, Request};
use hyper_util::rt::TokioIo;
use names::HostName;
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::Error;
use crate::resolve::{self, Owns, Upstream};
use crate::session::{Ask, Found};
use crate::tell::Refusal;
use crate::wire::{self, Kind};

const PATIENCE: Duration = Duration::from_secs(15);

/// Where the proxy is. It was declared, so it may be anywhere but on this host, which its ring has to say.
pub(crate) struct Proxy {
    host: Host,
    port: u16,
    /// Addresses are refused that this calls the host's own.
    own: Option<Owns>,
}

enum Host {
    Name(HostName),
    Address(IpAddr),
}

impl Proxy {
    /// `own` tells the host's addresses, `open` are ports of its loopback that the agent has anyway.
    pub(crate) fn new(proxy: &wire::Proxy, own: Owns, open: &[u16]) -> Result<Self, Error> {
        let host = match proxy.host.parse() {
            Ok(address) => Host::Address(address),
            Err(_) => Host::Name(HostName::parse(&proxy.host).map_err(|error| Error::Rule {
                rule: proxy.host.clone(),
                error,
            })?),
        };
        Ok(Self {
            host,
            port: proxy.port,
            own: (!proxy.given && !open.contains(&proxy.port)).then_some(own),
        })
    }

    /// A tunnel to what was asked for.
    pub(crate) async fn dial(&self, upstream: &Upstream, ask: &Ask) -> Result<Found, Refusal> {
        let (stream, address) = self.reach(upstream).await?;
        match timeout(PATIENCE, tunnel(stream, ask)).await {
            Ok(Ok((stream, early))) => Ok(Found {
                stream,
                address,
                early,
            }),
            Ok(Err(what)) => Err(failed(ask, &what)),
            Err(_) => Err(failed(ask, "it does not answer")),
        }
    }

    async fn reach(&self, upstream: &Upstream) -> Result<(TcpStream, SocketAddr), Refusal> {
        let (name, addresses) = match &self.host {
            Host::Address(address) => ("the upstream proxy", vec![*address]),
            Host::Name(name) => (name.as_str(), upstream.addresses(name).await?),
        };
        let fine: Vec<IpAddr> = addresses
            .iter()
            .map(IpAddr::to_canonical)
            .filter(|address| !self.is_closed(*address))
            .collect();
        if fine.is_empty() {
            let what = format!(
                "the upstream proxy {name} is this host or a metadata service; list its port in `network.host_ports`, or have the ring name it"
            );
            return Err(Refusal::new(Kind::OwnAddress, what));
        }
        resolve::dial(name, &fine, self.port).await
    }

    fn is_closed(&self, address: IpAddr) -> bool {
        self.own
            // An address that cannot be judged is not dialled.
            .is_some_and(|own| {
                own(address) != Ok(false) || names::range(address) == names::Range::Metadata
            })
    }
}

fn failed(ask: &Ask, what: &str) -> Refusal {
    Refusal::new(
        Kind::Unreachable,
        format!(
            "the upstream proxy gives no tunnel to {}:{}: {what}; ask who runs it",
            ask.name, ask.port
        ),
    )
}

async fn tunnel(stream: TcpStream, ask: &Ask) -> Result<(TcpStream, Vec<u8>), String> {
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake::<_, Empty<Bytes>>(TokioIo::new(stream))
            .await
            .map_err(|error| error.to_string())?;
    let authority = format!("{}:{}", ask.name, ask.port);
    let request = Request::builder()
        .method(Method::CONNECT)
        .uri(&authority)
        .header(hyper::header::HOST, &authority)
        .body(Empty::new())
        .map_err(|error| error.to_string())?;
    // The sender ends with its one answer, so the connection does too.
    let asked = async move {
        sender
            .send_request(request)
            .await
            .map(|answer| answer.status())
    };
    let (status, parts) = tokio::join!(asked, connection.without_shutdown());
    let status = status.map_err(|error| error.to_string())?;
    if !status.is_success() {
        return Err(format!("it answers {status}"));
    }
    let parts = parts.map_err(|error| error.to_string())?;
    Ok((parts.io.into_inner(), parts.read_buf.to_vec()))
}
