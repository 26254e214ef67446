//! One log, from where the sink has it.

use std::time::SystemTime;

use audit::{Filter, Kind, Show, Shown};

use super::reached::Mark;
use crate::places;
use crate::words;

/// A batch ends with the record that makes it longer than this.
const BATCH: usize = 256 * 1024;

#[derive(Debug)]
pub(crate) struct Follower {
    name: String,
    show: Show,
    mark: Option<Mark>,
    closed: bool,
    /// When its folder last changed, for a log that was closed: nothing comes before that changes again.
    rests: Option<SystemTime>,
}

impl Follower {
    /// From the record after the one that was shipped last, when that is still there; else from the beginning.
    pub(crate) fn open(name: &str, mark: Option<&Mark>) -> Result<Self, audit::Error> {
        let dir = places::audit_dir();
        let new = |show, mark| Self {
            name: name.to_owned(),
            show,
            mark,
            closed: false,
            rests: None,
        };
        if let Some(mark) = mark {
            let from = mark.next.saturating_sub(1);
            let filter = Filter {
                from,
                ..Filter::default()
            };
            let mut show = audit::show(&dir, name, filter)?;
            let mut last = show.next().transpose()?;
            // Lines that are no records are shown whatever is asked for.
            while last.as_ref().is_some_and(|last| last.seq.is_none()) {
                last = show.next().transpose()?;
            }
            if let Some(last) = last.filter(|last| mark.is_of(last)) {
                let mut follower = new(show, Some(mark.clone()));
                follower.closed = last.kind == Some(Kind::Close);
                return Ok(follower);
            }
            eprintln!(
                "agt-supervisor: {} is not what was shipped of it: all of it is sent",
                words::escape(name)
            );
        }
        Ok(new(audit::show(&dir, name, Filter::default())?, None))
    }

    /// Where it stands; `None` before the first record.
    pub(crate) fn mark(&self) -> Option<&Mark> {
        self.mark.as_ref()
    }

    /// Looks at a log that was closed: it may have been opened again.
    pub(crate) fn wake(&mut self) {
        if self.rests.is_some() && self.rests != self.changed() {
            self.rests = None;
        }
    }

    fn changed(&self) -> Option<SystemTime> {
        let meta = std::fs::metadata(places::audit_dir().join(&self.name));
        meta.and_then(|meta| meta.modified()).ok()
    }

    /// Adds what has come, as lines: the records as they are, or as CloudEvents of this log.
    pub(crate) fn batch(
        &mut self,
        out: &mut Vec<u8>,
        cloud: Option<&str>,
    ) -> Result<(), audit::Error> {
        if self.rests.is_some() {
            return Ok(());
        }
        let changed = self.changed();
        let mut last = None;
        while out.len() < BATCH {
            let Some(record) = self.show.next().transpose()? else {
                break;
            };
            match cloud {
                None => push(out, &record.line),
                Some(log) => {
                    if let Some(event) = audit::cloud_event(log, &record) {
                        push(out, event.as_bytes());
                    }
                }
            }
            last = Some(record).filter(|record| record.seq.is_some()).or(last);
        }
        match last {
            Some(last) => {
                self.closed = last.kind == Some(Kind::Close);
                self.mark = Mark::of(&last).or(self.mark.take());
            }
            None if self.closed && out.is_empty() => self.rests = changed,
            None => {}
        }
        Ok(())
    }
}

fn push(out: &mut Vec<u8>, line: &[u8]) {
    out.extend_from_slice(line);
    out.push(b'\n');
}

impl Mark {
    fn of(record: &Shown) -> Option<Self> {
        let next = record.seq? + 1;
        let leaf = audit::hex(&record.leaf);
        Some(Self { next, leaf })
    }

    fn is_of(&self, record: &Shown) -> bool {
        Self::of(record).as_ref() == Some(self)
    }
}
