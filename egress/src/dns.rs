//! DNS for the ring: allowed names have synthetic addresses, all other names do not exist.
//!
//! A question never leaves the machine, so no data does with it; a name is resolved when it is dialled.

use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;

use hickory_proto::op::{Edns, Message, MessageType, OpCode, Query, ResponseCode};
use hickory_proto::rr::rdata::A;
use hickory_proto::rr::{DNSClass, Name, RData, Record, RecordType};
use names::HostName;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::task::spawn_local;
use tokio::time::timeout;

use crate::listeners::next;
use crate::session::Egress;
use crate::table::Given;
use crate::tell::Refusal;
use crate::wire::Kind;

const TTL: u32 = 30;
const PORT: u16 = 53;
const MOST: usize = 4096;
const PAYLOAD: u16 = 1232;
const STREAMS: usize = 16;
const PATIENCE: Duration = Duration::from_secs(10);

pub(crate) async fn udp(egress: Rc<Egress>, socket: UdpSocket) {
    let mut bytes = [0; MOST];
    loop {
        match socket.recv_from(&mut bytes).await {
            Ok((length, from)) => {
                let answer = answer(&egress, bytes.get(..length).unwrap_or_default());
                if let Some(answer) = answer {
                    // A lost answer is asked for again.
                    drop(socket.send_to(&answer, from).await);
                }
            }
            Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
        }
    }
}

pub(crate) async fn tcp(egress: Rc<Egress>, listener: TcpListener) {
    let live = Rc::new(Cell::new(0_usize));
    loop {
        let stream = next(&listener).await;
        if live.get() >= STREAMS {
            continue;
        }
        live.set(live.get().saturating_add(1));
        let (egress, live) = (Rc::clone(&egress), Rc::clone(&live));
        drop(spawn_local(async move {
            questions(&egress, stream).await;
            live.set(live.get().saturating_sub(1));
        }));
    }
}

async fn questions(egress: &Egress, mut stream: TcpStream) {
    while let Ok(Some(bytes)) = timeout(PATIENCE, question(&mut stream)).await {
        let Some(answer) = answer(egress, &bytes) else {
            return;
        };
        let Ok(length) = u16::try_from(answer.len()) else {
            return;
        };
        let mut framed = length.to_be_bytes().to_vec();
        framed.extend(answer);
        if !matches!(
            timeout(PATIENCE, stream.write_all(&framed)).await,
            Ok(Ok(()))
        ) {
            return;
        }
    }
}

async fn question(stream: &mut TcpStream) -> Option<Vec<u8>> {
    let length = usize::from(stream.read_u16().await.ok()?);
    if length > MOST {
        return None;
    }
    let mut bytes = vec![0; length];
    stream.read_exact(&mut bytes).await.ok()?;
    Some(bytes)
}

/// The answer to one message; none when it is no question.
pub(crate) fn answer(egress: &Egress, bytes: &[u8]) -> Option<Vec<u8>> {
    let asked = match Message::from_vec(bytes) {
        Ok(asked) if asked.metadata.message_type == MessageType::Query => asked,
        Ok(_) => return None,
        Err(_) => return malformed(bytes),
    };
    let id = asked.metadata.id;
    let mut reply = Message::response(id, asked.metadata.op_code);
    reply.metadata.recursion_desired = asked.metadata.recursion_desired;
    reply.metadata.recursion_available = true;
    if asked.edns.is_some() {
        let mut edns = Edns::new();
        edns.set_max_payload(PAYLOAD);
        reply.set_edns(edns);
    }
    let code = match asked.queries.as_slice() {
        _ if asked.metadata.op_code != OpCode::Query => ResponseCode::NotImp,
        [query] => {
            reply.add_query(query.clone());
            resolve(egress, query, &mut reply)
        }
        _ => ResponseCode::FormErr,
    };
    reply.metadata.response_code = code;
    reply.to_vec().ok()
}

/// FORMERR needs the number of the question, and no more than that is believed.
fn malformed(bytes: &[u8]) -> Option<Vec<u8>> {
    let [a, b, flags, ..] = *bytes else {
        return None;
    };
    if bytes.len() < 12 || flags & 0x80 != 0 {
        return None;
    }
    let id = u16::from_be_bytes([a, b]);
    Message::error_msg(id, OpCode::Query, ResponseCode::FormErr)
        .to_vec()
        .ok()
}

fn resolve(egress: &Egress, query: &Query, reply: &mut Message) -> ResponseCode {
    if query.query_class() != DNSClass::IN {
        return ResponseCode::Refused;
    }
    let kind = query.query_type();
    let wanted = matches!(kind, RecordType::A | RecordType::AAAA);
    let name = match host_name(query.name()) {
        Ok(name) => name,
        Err(error) => {
            if wanted {
                let text = query.name().to_ascii();
                let reason = format!("a DNS question for no host name: {error}");
                egress
                    .teller
                    .refused(&text, Some(PORT), &Refusal::new(Kind::DnsName, reason));
            }
            return ResponseCode::NXDomain;
        }
    };
    match egress.table.borrow_mut().address(&name) {
        Given::Address(address) => {
            if kind == RecordType::A {
                let data = RData::A(A(address));
                reply.add_answer(Record::from_rdata(query.name().clone(), TTL, data));
            }
            ResponseCode::NoError
        }
        Given::NotAllowed => {
            // What a program asks for by habit: its own host's name, a bare label.
            if name.labels() > 1 {
                let reason = format!(
                    "no rule allows {name}; add `{name}:443`, or its port, to `network.allow` if that is meant"
                );
                egress
                    .teller
                    .refused(name.as_str(), None, &Refusal::new(Kind::NotAllowed, reason));
            }
            ResponseCode::NXDomain
        }
        Given::Full => {
            let reason =
                "all addresses for names under wildcards are given out; name the hosts one by one";
            egress
                .teller
                .refused(name.as_str(), None, &Refusal::new(Kind::Limit, reason));
            ResponseCode::ServFail
        }
    }
}

/// Label by label: a dot inside a label must not become a boundary.
fn host_name(name: &Name) -> Result<HostName, names::Error> {
    let mut text = String::new();
    for label in name.iter() {
        let plain = |byte: &u8| byte.is_ascii_alphanumeric() || *byte == b'-';
        if let Some(odd) = label.iter().find(|byte| !plain(byte)) {
            return Err(names::Error::Character(char::from(*odd)));
        }
        if !text.is_empty() {
            text.push('.');
        }
        text.extend(label.iter().map(|byte| char::from(*byte)));
    }
    HostName::parse(&text)
}
