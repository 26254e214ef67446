//! A record as one line of JSON, keys in a fixed order. The bytes of the line are what is hashed.

use crate::clock::{Calendar, Moment};
use crate::entry::{Action, Entry, Kind, Value};
use crate::error::Error;
use crate::text::{push_escaped, push_hex, push_number, unhex};
use crate::tree::{Hash, sha256};

/// No record is longer, newline aside.
pub const LINE_BYTES_MAX: usize = 64 * 1024;

/// What one mostly has.
const LINE_USUAL: usize = 1024;

/// The first try leaves a value this long; each next one an eighth of it.
const VALUE_BYTES_MAX: usize = 16 * 1024;
const VALUE_BYTES_MIN: usize = 32;

/// Fields of an action, counters, and texts of a list that are written.
const FIELDS_MAX: usize = 64;

/// What the log adds to an entry.
#[derive(Debug)]
pub(crate) struct Stamp<'a> {
    pub(crate) seq: u64,
    pub(crate) moment: Moment,
    pub(crate) calendar: &'a mut Calendar,
    /// The boot, as [`boot`] writes it once.
    pub(crate) boot: &'a [u8],
    pub(crate) prev: &'a Hash,
}

/// What stands between the times and the hash before.
pub(crate) fn boot(id: &str) -> Vec<u8> {
    let mut out = b",\"boot\":\"".to_vec();
    push_escaped(&mut out, id);
    out.extend_from_slice(b"\",\"prev\":\"");
    out
}

/// Adds the line of an entry, without a newline. When it fails, `out` is as it was.
pub(crate) fn encode(out: &mut Vec<u8>, stamp: Stamp<'_>, entry: &Entry<'_>) -> Result<(), Error> {
    let start = out.len();
    out.reserve(LINE_USUAL);
    out.extend_from_slice(b"{\"seq\":");
    push_number(out, stamp.seq);
    out.extend_from_slice(b",\"time\":\"");
    stamp.calendar.push(out, stamp.moment);
    out.extend_from_slice(b"\",\"mono_ns\":");
    push_number(out, stamp.moment.mono_ns);
    out.extend_from_slice(stamp.boot);
    push_hex(out, stamp.prev);
    out.extend_from_slice(b"\",\"kind\":\"");
    out.extend_from_slice(entry.kind.name().as_bytes());
    out.push(b'"');
    let body = out.len();
    let mut max = VALUE_BYTES_MAX;
    while max >= VALUE_BYTES_MIN {
        push_body(out, entry, max);
        if out.len() - start <= LINE_BYTES_MAX {
            return Ok(());
        }
        out.truncate(body);
        max /= 8;
    }
    out.truncate(start);
    Err(Error::TooLong)
}

fn push_body(out: &mut Vec<u8>, entry: &Entry<'_>, max: usize) {
    let text = |out: &mut Vec<u8>, key: &[u8], text: Option<&str>| {
        if let Some(text) = text {
            out.extend_from_slice(key);
            push_quoted(out, text, max);
        }
    };
    text(out, b",\"agent\":\"", entry.agent);
    text(out, b",\"ring\":\"", entry.ring);
    text(out, b",\"run\":\"", entry.run);
    if let Some(pid) = entry.pid {
        out.extend_from_slice(b",\"pid\":");
        push_number(out, u64::from(pid));
    }
    if let Some(exe) = entry.exe {
        out.extend_from_slice(b",\"exe\":");
        push_value(out, exe, max);
    }
    text(out, b",\"session\":\"", entry.session);
    if let Some(action) = &entry.action {
        push_action(out, action, max);
    }
    text(out, b",\"verdict\":\"", entry.verdict);
    text(out, b",\"rule\":\"", entry.rule);
    text(out, b",\"reason\":\"", entry.reason);
    text(out, b",\"policy\":\"", entry.policy);
    if !entry.counters.is_empty() {
        out.extend_from_slice(b",\"counters\":{");
        for (at, (name, count)) in entry.counters.iter().take(FIELDS_MAX).enumerate() {
            if at > 0 {
                out.push(b',');
            }
            push_text(out, name, max);
            out.push(b':');
            push_number(out, *count);
        }
        out.push(b'}');
    }
    if let Some(latency) = entry.latency_us {
        out.extend_from_slice(b",\"latency_us\":");
        push_number(out, latency);
    }
    out.push(b'}');
}

fn push_action(out: &mut Vec<u8>, action: &Action<'_>, max: usize) {
    out.extend_from_slice(b",\"action\":{\"kind\":\"");
    push_quoted(out, action.kind, max);
    for (name, value) in action.fields.iter().take(FIELDS_MAX) {
        out.push(b',');
        push_text(out, name, max);
        out.push(b':');
        match value {
            Value::Text(text) => push_text(out, text, max),
            Value::Bytes(bytes) => push_value(out, bytes, max),
            Value::Number(number) => push_number(out, *number),
            Value::Flag(flag) => out.extend_from_slice(if *flag { b"true" } else { b"false" }),
            Value::List(texts) => {
                out.push(b'[');
                for (at, text) in texts.iter().take(FIELDS_MAX).enumerate() {
                    if at > 0 {
                        out.push(b',');
                    }
                    push_text(out, text, max);
                }
                out.push(b']');
            }
        }
    }
    if let Some(hmac) = &action.args_hmac {
        out.extend_from_slice(b",\"args_hmac\":\"");
        push_hex(out, hmac);
        out.push(b'"');
    }
    out.push(b'}');
}

fn push_text(out: &mut Vec<u8>, text: &str, max: usize) {
    out.push(b'"');
    push_quoted(out, text, max);
}

/// A value after its first quote.
#[inline]
fn push_quoted(out: &mut Vec<u8>, text: &str, max: usize) {
    if text.len() <= max {
        push_escaped(out, text);
    } else {
        push_digested(out, text.as_bytes(), max);
    }
    out.push(b'"');
}

fn push_value(out: &mut Vec<u8>, bytes: &[u8], max: usize) {
    out.push(b'"');
    match std::str::from_utf8(bytes) {
        Ok(text) => push_quoted(out, text, max),
        Err(_) => {
            push_digested(out, bytes, max);
            out.push(b'"');
        }
    }
}

/// A value that cannot be shown as it is, too long or no text, ends in the digest of its bytes and
/// their number.
#[cold]
fn push_digested(out: &mut Vec<u8>, bytes: &[u8], max: usize) {
    let (head, _) = bytes.split_at(max.min(bytes.len()));
    for chunk in head.utf8_chunks() {
        push_escaped(out, chunk.valid());
        if !chunk.invalid().is_empty() {
            push_escaped(out, "\u{fffd}");
        }
    }
    out.extend_from_slice(b" [sha256:");
    push_hex(out, &sha256(bytes));
    out.push(b' ');
    push_number(out, bytes.len() as u64);
    out.extend_from_slice(b" bytes]");
}

/// What every line begins with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Prefix<'a> {
    pub(crate) seq: u64,
    pub(crate) time: &'a str,
    pub(crate) prev: Hash,
    pub(crate) kind: Kind,
}

/// Reads the beginning of a line, in the one spelling that is written.
pub(crate) fn prefix(line: &[u8]) -> Option<Prefix<'_>> {
    let (seq, rest) = number(line.strip_prefix(b"{\"seq\":")?)?;
    let (time, rest) = until_quote(rest.strip_prefix(b",\"time\":\"")?)?;
    let (_, rest) = number(rest.strip_prefix(b",\"mono_ns\":")?)?;
    let (_, rest) = until_quote(rest.strip_prefix(b",\"boot\":\"")?)?;
    let (prev, rest) = until_quote(rest.strip_prefix(b",\"prev\":\"")?)?;
    let (kind, rest) = until_quote(rest.strip_prefix(b",\"kind\":\"")?)?;
    let ends = line.len() <= LINE_BYTES_MAX && rest.ends_with(b"}");
    Some(Prefix {
        seq,
        time: std::str::from_utf8(time).ok()?,
        prev: unhex(prev)?,
        kind: Kind::parse(kind)?,
    })
    .filter(|_| ends)
}

fn number(text: &[u8]) -> Option<(u64, &[u8])> {
    let end = text.iter().position(|byte| !byte.is_ascii_digit())?;
    let (digits, rest) = text.split_at(end);
    let spelled = digits.len() == 1 || !digits.starts_with(b"0");
    let number = std::str::from_utf8(digits).ok()?.parse().ok()?;
    spelled.then_some((number, rest))
}

fn until_quote(text: &[u8]) -> Option<(&[u8], &[u8])> {
    let end = text.iter().position(|byte| *byte == b'"')?;
    let (inside, rest) = text.split_at(end);
    Some((inside, rest.get(1..)?))
}
