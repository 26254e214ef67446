//! Reading a log: what matches, as it comes, safe to print.

use std::path::Path;
use std::time::Duration;

use serde_json::Value;

use crate::entry::Kind;
use crate::error::Error;
use crate::folder::Folder;
use crate::line::prefix;
use crate::segment::{Reader, firsts, name_of};
use crate::text::{hex, push_escaped, shown};
use crate::tree::{Hash, leaf_hash};

/// What is shown: whatever matches all that is set.
#[derive(Clone, Debug, Default)]
pub struct Filter {
    /// One of these kinds; none set is every kind.
    pub kinds: Vec<Kind>,
    /// This agent's.
    pub agent: Option<String>,
    /// This run's.
    pub run: Option<String>,
    /// This session's.
    pub session: Option<String>,
    /// With this verdict.
    pub verdict: Option<String>,
    /// By this rule.
    pub rule: Option<String>,
    /// From this number on.
    pub from: u64,
    /// Not before this time, as RFC 3339 in UTC or the beginning of it.
    pub since: Option<String>,
    /// Before this time.
    pub until: Option<String>,
}

impl Filter {
    fn matches(&self, seq: u64, time: &str, kind: Kind, line: &[u8]) -> bool {
        let cheap = seq >= self.from
            && (self.kinds.is_empty() || self.kinds.contains(&kind))
            && self.since.as_deref().is_none_or(|since| time >= since)
            && self.until.as_deref().is_none_or(|until| time < until);
        let texts = [
            ("agent", &self.agent),
            ("run", &self.run),
            ("session", &self.session),
            ("verdict", &self.verdict),
            ("rule", &self.rule),
        ];
        if !cheap || texts.iter().all(|(_, wanted)| wanted.is_none()) {
            return cheap;
        }
        let Ok(value) = serde_json::from_slice::<Value>(line) else {
            return false;
        };
        texts.iter().all(|(key, wanted)| {
            let there = value.get(*key).and_then(Value::as_str);
            wanted.as_deref().is_none_or(|wanted| there == Some(wanted))
        })
    }
}

/// A record that is shown.
#[derive(Clone, Debug)]
pub struct Shown {
    /// Its number; `None` for a line that is no record.
    pub seq: Option<u64>,
    /// What it is about.
    pub kind: Option<Kind>,
    /// Its line, as it is.
    pub line: Vec<u8>,
    /// Its hash.
    pub leaf: Hash,
}

impl Shown {
    /// The line as a terminal may have it, whoever wrote it.
    #[must_use]
    pub fn text(&self) -> String {
        shown(&self.line)
    }
}

/// The records of a log that match. After the end it may be asked again: a log that is being
/// written goes on.
#[derive(Debug)]
pub struct Show {
    log: Folder,
    filter: Filter,
    segment: u64,
    offset: u64,
    reader: Option<Reader>,
}

/// Shows a log.
///
/// # Errors
/// When it cannot be opened.
pub fn show(dir: &Path, log: &str, filter: Filter) -> Result<Show, Error> {
    let log = crate::recover::there(dir, log)?;
    let firsts = firsts(&log)?;
    let before = firsts.partition_point(|first| *first <= filter.from).max(1) - 1;
    let segment = firsts.get(before).copied().unwrap_or(0);
    Ok(Show {
        log,
        filter,
        segment,
        offset: 0,
        reader: None,
    })
}

impl Iterator for Show {
    type Item = Result<Shown, Error>;

    fn next(&mut self) -> Option<Self::Item> {
        self.step().transpose()
    }
}

impl Show {
    /// The next one, and when there is none yet, waits for it.
    ///
    /// # Errors
    /// When the log cannot be read.
    pub fn follow(&mut self, pause: Duration) -> Result<Shown, Error> {
        loop {
            match self.step()? {
                Some(shown) => return Ok(shown),
                None => std::thread::sleep(pause),
            }
        }
    }

    fn step(&mut self) -> Result<Option<Shown>, Error> {
        let mut over = None;
        loop {
            let mut reader = match self.reader.take() {
                Some(reader) => reader,
                None => Reader::open(&self.log, &name_of(self.segment), self.offset)?,
            };
            let Some(line) = reader.next()? else {
                if let Some(next) = over.take() {
                    (self.segment, self.offset) = (next, 0);
                    continue;
                }
                let mut firsts = firsts(&self.log)?.into_iter();
                over = firsts.find(|first| *first > self.segment);
                if over.is_none() {
                    return Ok(None);
                }
                // There is a next one, so this one is whole now: between its end and that look it may have grown.
                continue;
            };
            over = None;
            if !line.whole {
                // It may be in the middle of being written: it is read again.
                return Ok(None);
            }
            let found = self.judge(line.bytes);
            self.offset = reader.offset;
            self.reader = Some(reader);
            if found.is_some() {
                return Ok(found);
            }
        }
    }

    fn judge(&self, line: &[u8]) -> Option<Shown> {
        let read = prefix(line);
        // What is no record is never kept back.
        let matches =
            read.is_none_or(|read| self.filter.matches(read.seq, read.time, read.kind, line));
        matches.then(|| Shown {
            seq: read.map(|read| read.seq),
            kind: read.map(|read| read.kind),
            line: line.to_vec(),
            leaf: leaf_hash(line),
        })
    }
}

/// A record as a CloudEvents 1.0 event, one line of JSON; `None` for a line that is no record.
#[must_use]
pub fn cloud_event(log: &str, record: &Shown) -> Option<String> {
    let read = prefix(&record.line)?;
    let data = std::str::from_utf8(&record.line).ok()?;
    let value: Value = serde_json::from_str(data).ok()?;
    let agent = value.get("agent").and_then(Value::as_str);
    let mut out = b"{\"specversion\":\"1.0\",\"id\":\"".to_vec();
    push_escaped(&mut out, log);
    out.extend_from_slice(format!("/{}\",\"source\":\"/agt/audit/", read.seq).as_bytes());
    push_escaped(&mut out, log);
    let kind = read.kind.name();
    out.extend_from_slice(format!("\",\"type\":\"agt.audit.{kind}\",\"time\":\"").as_bytes());
    push_escaped(&mut out, read.time);
    out.push(b'"');
    if let Some(agent) = agent {
        out.extend_from_slice(b",\"subject\":\"");
        push_escaped(&mut out, agent);
        out.push(b'"');
    }
    let (leaf, prev) = (hex(&record.leaf), hex(&read.prev));
    out.extend_from_slice(
        format!(
            ",\"datacontenttype\":\"application/json\",\"agtleaf\":\"{leaf}\",\"agtprev\":\"{prev}\",\"data\":{data}}}"
        )
        .as_bytes(),
    );
    String::from_utf8(out).ok()
}
