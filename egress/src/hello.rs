//! Whether a client's first bytes agree with the name it asked for.
//!
//! The parser is a library's; what is refused here is everything that two parsers could read in two
//! ways: an extension twice, more than one name, bytes left over, records of no length.

use names::HostName;
use tls_parser::{
    SNIType, TlsExtension, TlsRecordType, parse_tls_client_hello_extension,
    parse_tls_handshake_client_hello, parse_tls_raw_record,
};

use crate::tell::Refusal;
use crate::wire::Kind;

/// The longest beginning that is waited for.
pub(crate) const MOST: usize = 16 * 1024;
const CLIENT_HELLO: u8 = 1;
const SERVER_NAME: [u8; 2] = [0, 0];
/// encrypted_client_hello, its drafts, and the encrypted server name before it.
const ENCRYPTED: [[u8; 2]; 5] = [
    [0xfe, 0x0d],
    [0xfe, 0x0c],
    [0xfe, 0x0b],
    [0xfe, 0x0a],
    [0xff, 0xce],
];

/// What can be said of the bytes so far.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    More,
    /// No TLS. The caller knows whether that will do.
    Other,
    Agrees,
    Refused(Refusal),
}

/// Judges the first bytes of a connection to a name.
pub(crate) fn judge(bytes: &[u8], name: &HostName) -> Verdict {
    match bytes {
        [] | [0x16] => return more(bytes),
        [0x16, 0x03, ..] => {}
        _ => return Verdict::Other,
    }
    let hello = match reassemble(bytes) {
        Ok(Some(hello)) => hello,
        Ok(None) => return more(bytes),
        Err(what) => return Verdict::Refused(not_tls(what)),
    };
    match agrees(&hello, name) {
        Ok(()) => Verdict::Agrees,
        Err(refusal) => Verdict::Refused(refusal),
    }
}

fn more(bytes: &[u8]) -> Verdict {
    if bytes.len() < MOST {
        return Verdict::More;
    }
    Verdict::Refused(not_tls("its first message is longer than 16 KiB"))
}

pub(crate) fn not_tls(what: &str) -> Refusal {
    Refusal::new(
        Kind::NotTls,
        format!(
            "the connection does not begin with a TLS ClientHello that can be read: {what}; use TLS there"
        ),
    )
}

/// The body of the ClientHello, whose message may lie in several records.
fn reassemble(mut bytes: &[u8]) -> Result<Option<Vec<u8>>, &'static str> {
    let mut message = Vec::new();
    loop {
        let (rest, record) = match parse_tls_raw_record(bytes) {
            Ok(parsed) => parsed,
            Err(error) if error.is_incomplete() => return Ok(None),
            Err(_) => return Err("a record is too long"),
        };
        if record.hdr.record_type != TlsRecordType::Handshake || record.hdr.version.0 >> 8 != 3 {
            return Err("another record comes before its end");
        }
        if record.data.is_empty() {
            return Err("a record is empty");
        }
        message.extend_from_slice(record.data);
        bytes = rest;
        let [kind, a, b, c, body @ ..] = message.as_slice() else {
            continue;
        };
        if *kind != CLIENT_HELLO {
            return Err("another message comes first");
        }
        let length = usize::from(*a) << 16 | usize::from(*b) << 8 | usize::from(*c);
        if length > MOST {
            return Err("its first message is longer than 16 KiB");
        }
        if body.len() > length {
            return Err("another message follows in its record");
        }
        if body.len() == length {
            return Ok(Some(body.to_vec()));
        }
    }
}

fn agrees(hello: &[u8], name: &HostName) -> Result<(), Refusal> {
    let Ok((rest, hello)) = parse_tls_handshake_client_hello(hello) else {
        return Err(not_tls("it is malformed"));
    };
    if !rest.is_empty() {
        return Err(not_tls("bytes follow its extensions"));
    }
    let mut extensions = hello.ext.unwrap_or_default();
    let mut seen: Vec<[u8; 2]> = Vec::new();
    let mut found = None;
    while let [a, b, ..] = *extensions {
        let kind = [a, b];
        if seen.contains(&kind) {
            return Err(not_tls("an extension comes twice"));
        }
        if ENCRYPTED.contains(&kind) {
            return Err(Refusal::new(
                Kind::Ech,
                format!(
                    "the server name is encrypted (ECH), so nobody can see that it is {name}; switch ECH off in the client"
                ),
            ));
        }
        seen.push(kind);
        let Ok((rest, extension)) = parse_tls_client_hello_extension(extensions) else {
            return Err(not_tls("an extension is malformed"));
        };
        if kind == SERVER_NAME {
            let length = extensions.len().saturating_sub(rest.len());
            found = Some(server_name(&extension, length)?);
        }
        extensions = rest;
    }
    if !extensions.is_empty() {
        return Err(not_tls("an extension is cut off"));
    }
    let Some(found) = found else {
        return Err(Refusal::new(
            Kind::SniMissing,
            format!("TLS without a server name; the client has to send {name} (SNI)"),
        ));
    };
    if found == *name {
        return Ok(());
    }
    Err(Refusal::new(
        Kind::SniDiffers,
        format!(
            "TLS for {found} over a connection to {name}; connect to {found} itself, if it is allowed"
        ),
    ))
}

/// Exactly one name that fills its extension: headers of 4, 2 and 3 bytes.
fn server_name(extension: &TlsExtension<'_>, length: usize) -> Result<HostName, Refusal> {
    let differs = |what: &str| {
        Refusal::new(
            Kind::SniDiffers,
            format!("the TLS server name {what}; send one host name"),
        )
    };
    let TlsExtension::SNI(list) = extension else {
        return Err(not_tls("its server name is malformed"));
    };
    let [(SNIType::HostName, bytes)] = list.as_slice() else {
        return Err(differs("is not exactly one host name"));
    };
    if length != bytes.len().saturating_add(9) {
        return Err(differs("is followed by other bytes"));
    }
    let text = std::str::from_utf8(bytes).map_err(|_| differs("is not text"))?;
    HostName::parse(text).map_err(|error| differs(&format!("is refused: {error}")))
}
