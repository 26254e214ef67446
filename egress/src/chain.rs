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
use crate::resolve::{self, Upstream};
use crate::session::{Ask, Found};
use crate::tell::Refusal;
use crate::wire::{self, Kind};

const PATIENCE: Duration = Duration::from_secs(15);

/// Where the proxy is. It was declared, so it may be anywhere.
pub(crate) struct Proxy {
    host: Host,
    port: u16,
}

enum Host {
    Name(HostName),
    Address(IpAddr),
}

impl Proxy {
    pub(crate) fn new(proxy: &wire::Proxy) -> Result<Self, Error> {
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
        match &self.host {
            Host::Address(address) => {
                resolve::dial("the upstream proxy", &[*address], self.port).await
            }
            Host::Name(name) => {
                let addresses = upstream.addresses(name).await?;
                resolve::dial(name.as_str(), &addresses, self.port).await
            }
        }
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
