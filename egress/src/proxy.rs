//! HTTP CONNECT and SOCKS5 on one listener, for programs that look for a proxy.

use std::cell::RefCell;
use std::convert::Infallible;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::header::{ALLOW, CONNECTION, CONTENT_TYPE, HOST, HeaderValue};
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::relay::{beginning, reset};
use crate::session::{Ask, Egress, Found, Place};
use crate::tell::Refusal;
use crate::wire::{Kind, Via};

const PATIENCE: Duration = Duration::from_secs(10);
const MOST_HEAD: usize = 16 * 1024;
const SOCKS: u8 = 5;

/// One connection to the proxy.
pub(crate) async fn serve(egress: Rc<Egress>, client: TcpStream, place: Place) {
    let mut first = [0];
    match timeout(PATIENCE, client.peek(&mut first)).await {
        Ok(Ok(1)) if first == [SOCKS] => socks(&egress, client).await,
        Ok(Ok(1)) => http(&egress, client).await,
        Ok(Ok(_) | Err(_)) | Err(_) => {}
    }
    drop(place);
}

/// Inside the tunnel: on 443 the beginning is judged before a connection counts as opened.
async fn tunnel(egress: &Egress, client: &TcpStream, found: Found, ask: &Ask, early: Vec<u8>) {
    let tls = egress.is_tls(ask);
    let carried = async {
        let early = if tls {
            beginning(client, early, &ask.name, true).await?
        } else {
            early
        };
        egress.carry(client, found, ask, (early, tls)).await
    };
    if let Err(refusal) = carried.await {
        egress.refuse(client, ask.name.as_str(), ask.port, &refusal);
    }
}

type Slot = RefCell<Option<(Ask, Found)>>;

async fn http(egress: &Egress, client: TcpStream) {
    let slot: Slot = RefCell::new(None);
    let service =
        service_fn(async |request| Ok::<_, Infallible>(connect(egress, &request, &slot).await));
    let connection = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(PATIENCE)
        .max_buf_size(MOST_HEAD)
        .serve_connection(TokioIo::new(client), service);
    let parts = match connection.without_shutdown().await {
        Ok(parts) => parts,
        Err(error) => {
            if error.is_parse() {
                let reason =
                    "the proxy understands HTTP/1 CONNECT and SOCKS5 only; use one of them";
                egress
                    .teller
                    .refused("", None, &Refusal::new(Kind::Authority, reason));
            }
            return;
        }
    };
    let client = parts.io.into_inner();
    let early = parts.read_buf.to_vec();
    // Only a 200 leaves something there.
    let Some((ask, found)) = slot.take() else {
        return;
    };
    tunnel(egress, &client, found, &ask, early).await;
}

async fn connect(
    egress: &Egress,
    request: &Request<Incoming>,
    slot: &Slot,
) -> Response<Full<Bytes>> {
    if request.method() != Method::CONNECT {
        let reason = "this proxy tunnels with CONNECT only; use an https:// URL, or connect to the host directly";
        egress
            .teller
            .refused("", None, &Refusal::new(Kind::Authority, reason));
        let mut response = sentence(StatusCode::METHOD_NOT_ALLOWED, reason);
        response
            .headers_mut()
            .insert(ALLOW, HeaderValue::from_static("CONNECT"));
        return response;
    }
    let (host, port) = match authority(request) {
        Ok(authority) => authority,
        Err(refusal) => {
            let asked = request.uri().authority().map_or("", |asked| asked.as_str());
            return denied(egress, asked, None, &refusal);
        }
    };
    let opened = async {
        let ask = Ask {
            name: egress.target(&host)?,
            port,
            via: Via::Connect,
        };
        let found = egress.dial(&ask).await?;
        Ok((ask, found))
    };
    match opened.await {
        Ok(opened) => {
            slot.replace(Some(opened));
            Response::new(Full::default())
        }
        Err(refusal) => denied(egress, &host, Some(port), &refusal),
    }
}

/// The one host and port of a request: what it names twice has to agree.
fn authority(request: &Request<Incoming>) -> Result<(String, u16), Refusal> {
    let wrong = |what: &str| {
        Refusal::new(
            Kind::Authority,
            format!("the CONNECT request {what}; send `CONNECT host:port HTTP/1.1`"),
        )
    };
    let authority = request
        .uri()
        .authority()
        .ok_or_else(|| wrong("names no host"))?;
    if authority.as_str().contains('@') {
        return Err(wrong("carries a user"));
    }
    // Rust's numbers may begin with a plus, a port may not.
    let digits = authority
        .port()
        .filter(|port| port.as_str().bytes().all(|byte| byte.is_ascii_digit()));
    let port = digits
        .map(|port| port.as_u16())
        .filter(|port| *port != 0)
        .ok_or_else(|| wrong("names no port"))?;
    let host = authority.host();
    let mut headers = request.headers().get_all(HOST).iter();
    if let Some(header) = headers.next() {
        let same = header.to_str().is_ok_and(|text| {
            text.eq_ignore_ascii_case(authority.as_str()) || text.eq_ignore_ascii_case(host)
        });
        if !same || headers.next().is_some() {
            return Err(wrong("has a Host header for another host"));
        }
    }
    Ok((host.to_owned(), port))
}

fn denied(
    egress: &Egress,
    host: &str,
    port: Option<u16>,
    refusal: &Refusal,
) -> Response<Full<Bytes>> {
    egress.teller.refused(host, port, refusal);
    let status = match refusal.kind {
        Kind::Unreachable | Kind::NoSuchName => StatusCode::BAD_GATEWAY,
        Kind::NotAllowed
        | Kind::Policy
        | Kind::PrivateAddress
        | Kind::OwnAddress
        | Kind::SniMissing
        | Kind::SniDiffers
        | Kind::NotTls
        | Kind::Ech
        | Kind::Authority
        | Kind::RawAddress
        | Kind::UnknownAddress
        | Kind::Limit
        | Kind::DnsName
        | Kind::Untold => StatusCode::FORBIDDEN,
    };
    sentence(status, &refusal.reason)
}

/// A refusal ends the connection; a tunnel must not be announced with an end.
fn sentence(status: StatusCode, reason: &str) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::from(format!("{reason}\n")));
    *response.status_mut() = status;
    let plain = HeaderValue::from_static("text/plain; charset=utf-8");
    response.headers_mut().insert(CONTENT_TYPE, plain);
    let close = HeaderValue::from_static("close");
    response.headers_mut().insert(CONNECTION, close);
    response
}

/// The answers of RFC 1928.
#[derive(Clone, Copy)]
enum Reply {
    Done,
    NotAllowed,
    Unreachable,
    Command,
    AddressKind,
}

impl Reply {
    fn bytes(self) -> [u8; 10] {
        let code = match self {
            Reply::Done => 0,
            Reply::NotAllowed => 2,
            Reply::Unreachable => 4,
            Reply::Command => 7,
            Reply::AddressKind => 8,
        };
        [SOCKS, code, 0, 1, 0, 0, 0, 0, 0, 0]
    }
}

async fn socks(egress: &Egress, mut client: TcpStream) {
    let (host, port) = match timeout(PATIENCE, socks_request(&mut client)).await {
        Ok(Ok(target)) => target,
        Ok(Err(reply)) => {
            let reason = "the proxy understands SOCKS5 CONNECT without a password only; use that";
            egress
                .teller
                .refused("", None, &Refusal::new(Kind::Authority, reason));
            if let Some(reply) = reply {
                socks_answer(&mut client, reply).await;
            }
            return;
        }
        Err(_) => return reset(&client),
    };
    let opened = async {
        let ask = Ask {
            name: egress.target(&host)?,
            port,
            via: Via::Socks,
        };
        let found = egress.dial(&ask).await?;
        Ok::<_, Refusal>((ask, found))
    };
    match opened.await {
        Ok((ask, found)) => {
            socks_answer(&mut client, Reply::Done).await;
            tunnel(egress, &client, found, &ask, Vec::new()).await;
        }
        Err(refusal) => {
            egress.teller.refused(&host, Some(port), &refusal);
            let gone = matches!(refusal.kind, Kind::Unreachable | Kind::NoSuchName);
            let reply = if gone {
                Reply::Unreachable
            } else {
                Reply::NotAllowed
            };
            socks_answer(&mut client, reply).await;
        }
    }
}

async fn socks_answer(client: &mut TcpStream, reply: Reply) {
    // A client that is gone shows at the next read.
    drop(timeout(PATIENCE, client.write_all(&reply.bytes())).await);
}

/// Whom a client wants to reach, or what it is told.
async fn socks_request(client: &mut TcpStream) -> Result<(String, u16), Option<Reply>> {
    let gone = |_| None;
    let mut head = [0; 2];
    client.read_exact(&mut head).await.map_err(gone)?;
    let mut methods = vec![0; usize::from(head[1])];
    client.read_exact(&mut methods).await.map_err(gone)?;
    if !methods.contains(&0) {
        client.write_all(&[SOCKS, 0xff]).await.map_err(gone)?;
        return Err(None);
    }
    client.write_all(&[SOCKS, 0]).await.map_err(gone)?;
    let mut request = [0; 4];
    client.read_exact(&mut request).await.map_err(gone)?;
    let kind = match request {
        [SOCKS, 1, 0, kind] => kind,
        [SOCKS, _, 0, _] => return Err(Some(Reply::Command)),
        _ => return Err(None),
    };
    let host = match kind {
        1 => IpAddr::V4(Ipv4Addr::from_bits(client.read_u32().await.map_err(gone)?)).to_string(),
        4 => IpAddr::V6(Ipv6Addr::from_bits(client.read_u128().await.map_err(gone)?)).to_string(),
        3 => {
            let mut name = vec![0; usize::from(client.read_u8().await.map_err(gone)?)];
            client.read_exact(&mut name).await.map_err(gone)?;
            String::from_utf8(name).map_err(|_| Some(Reply::NotAllowed))?
        }
        _ => return Err(Some(Reply::AddressKind)),
    };
    let port = client.read_u16().await.map_err(gone)?;
    Ok((host, port))
}
