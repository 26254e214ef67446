//! One pass over the records of a log: the chain, the tree, and every head that was signed of it.

use rustix::fs::OFlags;

use crate::entry::Kind;
use crate::error::Error;
use crate::folder::Folder;
use crate::history::{self, HISTORY};
use crate::line::{Prefix, prefix};
use crate::note::{Head, PublicKey};
use crate::recover::is_live;
use crate::segment::{Lines, Reader};
use crate::text::unhex;
use crate::tile;
use crate::tree::{Hash, Tree, leaf_hash};
use crate::verify::{LogVerdict, Part, State};

/// A head from elsewhere than the log's own list.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Anchor {
    size: u64,
    root: Hash,
    listed: bool,
}

impl Anchor {
    /// Out of the ledger: then the log's own list has it too.
    pub(crate) const fn listed(head: &Head) -> Self {
        Self {
            size: head.size,
            root: head.root,
            listed: true,
        }
    }

    /// Kept by somebody else.
    pub(crate) const fn outside(head: &Head) -> Self {
        Self {
            size: head.size,
            root: head.root,
            listed: false,
        }
    }
}

/// What a pass found.
pub(crate) struct Walked {
    pub(crate) verdict: LogVerdict,
    /// Where the ledger stood whenever the log was opened.
    pub(crate) ledgers: Vec<Hash>,
    /// The time of the last record.
    pub(crate) time: String,
}

/// The log's own list of heads, as long as it was at the start.
struct Heads<'a> {
    reader: Option<Reader>,
    end: u64,
    keys: &'a [PublicKey],
    origin_end: String,
    line: u64,
    next: Option<Head>,
    altered: Option<u64>,
}

impl<'a> Heads<'a> {
    fn open(log: &Folder, name: &str, keys: &'a [PublicKey]) -> Result<Self, Error> {
        let file = log.file(HISTORY, OFlags::RDONLY).ok();
        let end = file
            .and_then(|file| file.metadata().ok())
            .map_or(0, |meta| meta.len());
        let mut heads = Self {
            reader: Reader::open(log, HISTORY, 0).ok(),
            end,
            keys,
            origin_end: format!("/{name}"),
            line: 0,
            next: None,
            altered: None,
        };
        heads.advance()?;
        Ok(heads)
    }

    fn advance(&mut self) -> Result<(), Error> {
        self.next = None;
        let Some(reader) = self
            .reader
            .as_mut()
            .filter(|reader| reader.offset < self.end)
        else {
            return Ok(());
        };
        // A line without an end is what a crash leaves; what it was to hold, the ledger may know.
        if let Some(line) = reader.next()?.filter(|line| line.whole) {
            match history::parse(line.bytes, self.keys) {
                Ok(head) if head.origin.ends_with(&self.origin_end) => self.next = Some(head),
                _ => self.altered = self.altered.or(Some(self.line)),
            }
            self.line += 1;
        }
        Ok(())
    }
}

/// The leaves that the lowest tiles say there are.
struct Row<'a> {
    log: &'a Folder,
    index: Option<u64>,
    hashes: Vec<u8>,
}

impl Row<'_> {
    fn leaf(&mut self, seq: u64) -> Option<Hash> {
        let index = seq / 256;
        if self.index != Some(index) {
            self.index = Some(index);
            // Of a partial tile, the widest.
            self.hashes = tile::read(self.log, 0, index, 0).unwrap_or_default();
        }
        let at = usize::try_from(seq % 256).ok()?;
        self.hashes.as_chunks::<32>().0.get(at).copied()
    }
}

struct Walk<'a> {
    tree: Tree,
    prev: Hash,
    heads: Heads<'a>,
    anchors: std::iter::Peekable<std::vec::IntoIter<Anchor>>,
    row: Row<'a>,
    /// The first record since the last head that is not what its tile says.
    odd: Option<u64>,
    /// The same, where a head then said that the record is right.
    tile: Option<u64>,
    /// As many records as the last head that matched had, and when the last of them was written.
    signed: u64,
    since: String,
    /// The first head that did not match.
    against: Option<u64>,
    fault: Option<State>,
    gaps: u64,
    gap: u64,
    closed: bool,
    time: String,
    ledgers: Vec<Hash>,
}

pub(crate) fn walk(
    log: &Folder,
    name: &str,
    keys: &[PublicKey],
    mut anchors: Vec<Anchor>,
) -> Result<Walked, Error> {
    let live = is_live(log);
    anchors.sort_unstable();
    let mut walk = Walk {
        tree: Tree::default(),
        prev: [0; 32],
        heads: Heads::open(log, name, keys)?,
        anchors: anchors.into_iter().peekable(),
        row: Row {
            log,
            index: None,
            hashes: Vec::new(),
        },
        odd: None,
        tile: None,
        signed: 0,
        since: String::new(),
        against: None,
        fault: None,
        gaps: 0,
        gap: 0,
        closed: false,
        time: String::new(),
        ledgers: Vec::new(),
    };
    let mut lines = Lines::from(log, 0)?;
    let mut torn = false;
    while let Some((line, starts)) = lines.next()? {
        let at = walk.tree.size();
        if let Some(first) = starts.filter(|first| *first != at) {
            let (at, to) = (at.min(first), at.max(first));
            walk.fault = Some(altered(Part::Record, at, to));
            break;
        }
        let leaf = leaf_hash(line.bytes);
        let read = prefix(line.bytes).filter(|read| line.whole && read.seq == at);
        let Some(read) = read.filter(|read| read.prev == walk.prev) else {
            let prev = read.map(|read| read.prev);
            let bytes = line.bytes.to_vec();
            let whole = line.whole;
            let next = lines.next()?.map(|(line, _)| line.bytes.to_vec());
            if !whole && next.is_none() && !walk.ends_wrong(&bytes) {
                torn = true;
                break;
            }
            let next = next.as_deref().and_then(prefix);
            walk.fault = Some(walk.blame(at, leaf, prev.and(next.as_ref())));
            break;
        };
        walk.take(&read, line.bytes, leaf)?;
        if walk.fault.is_some() {
            break;
        }
    }
    Ok(walk.finish(name, live, torn && !live))
}

const fn altered(what: Part, at: u64, to: u64) -> State {
    State::Altered { what, at, to }
}

impl Walk<'_> {
    fn take(&mut self, read: &Prefix<'_>, line: &[u8], leaf: Hash) -> Result<(), Error> {
        let at = self.tree.size();
        if self.odd.is_none() && self.row.leaf(at).is_some_and(|tile| tile != leaf) {
            self.odd = Some(at);
        }
        self.tree.push(leaf, |_, _| {});
        self.prev = leaf;
        self.time.clear();
        self.time.push_str(read.time);
        self.closed = read.kind == Kind::Close;
        if read.kind == Kind::Gap {
            self.gap = if self.gaps == 0 { at } else { self.gap };
            self.gaps += 1;
        }
        if read.kind == Kind::Open {
            self.ledgers.extend(ledger_of(line));
        }
        self.compare()
    }

    /// Compares the tree with each head of this size.
    fn compare(&mut self) -> Result<(), Error> {
        let size = self.tree.size();
        let mut own = false;
        while let Some(head) = self.heads.next.take_if(|head| head.size <= size) {
            own = head.size == size;
            if !own {
                // Heads only grow.
                self.heads.altered = self.heads.altered.or(Some(self.heads.line));
            } else if self.judge(&head.root) {
                break;
            }
            self.heads.advance()?;
        }
        while let Some(anchor) = self.anchors.next_if(|anchor| anchor.size <= size) {
            if anchor.size == size {
                let _stop = self.judge(&anchor.root);
            }
            if anchor.listed && !own {
                self.heads.altered = self.heads.altered.or(Some(self.heads.line));
            }
        }
        Ok(())
    }

    /// Whether that was the end of it.
    fn judge(&mut self, root: &Hash) -> bool {
        let size = self.tree.size();
        if self.tree.root() == *root {
            if let Some(at) = self.against {
                self.fault = Some(State::Forked { at });
            }
            self.tile = self.tile.or(self.odd.take());
            self.signed = size;
            self.since.clone_from(&self.time);
        } else if self.signed == size {
            self.fault = Some(State::Forked { at: size });
        } else {
            self.against = self.against.or(Some(size));
        }
        self.fault.is_some()
    }

    /// Whether a last line without an end is one whose newline became something else.
    fn ends_wrong(&mut self, line: &[u8]) -> bool {
        let body = line.split_last().map(|(_, body)| leaf_hash(body));
        self.row.leaf(self.tree.size()) == body && body.is_some()
    }

    /// Which record it is when `at` does not follow: itself or the one before. The tiles know; where
    /// there are none, the record after it does.
    fn blame(&mut self, at: u64, leaf: Hash, next: Option<&Prefix<'_>>) -> State {
        let one = |at| altered(Part::Record, at, at + 1);
        if let Some(odd) = self.odd {
            return one(odd);
        }
        let before = at.checked_sub(1);
        match (self.row.leaf(at), before) {
            (None, Some(before)) if next.is_some_and(|next| next.prev == leaf) => one(before),
            _ => one(at),
        }
    }

    /// What is the worst that was found.
    fn finish(mut self, name: &str, live: bool, torn: bool) -> Walked {
        let records = self.tree.size();
        let mut notes = Vec::new();
        // What a writer signed since we began is not ours to miss.
        let own = self.heads.next.as_ref().map_or(0, |head| head.size);
        let signed = self
            .anchors
            .map(|anchor| anchor.size)
            .max()
            .unwrap_or(0)
            .max(own);
        let state = if let Some(fault) = self.fault.take() {
            fault
        } else if let Some(to) = self.against {
            match self.odd {
                Some(odd) => altered(Part::Record, odd, odd + 1),
                None => altered(Part::Record, self.signed, to),
            }
        } else if let Some(odd) = self.odd.filter(|_| signed > records) {
            altered(Part::Record, odd, odd + 1)
        } else if signed > records {
            State::Truncated {
                found: records,
                signed,
            }
        } else if let Some(line) = self.heads.altered {
            altered(Part::Checkpoint, line, line + 1)
        } else if let Some(at) = self.tile {
            altered(Part::Tile, at, at + 1)
        } else if self.gaps > 0 {
            State::Gap {
                at: self.gap,
                gaps: self.gaps,
            }
        } else if self.signed < records || torn {
            State::Unanchored {
                since: self.since.clone(),
                signed: self.signed,
            }
        } else {
            State::Intact
        };
        if torn {
            notes.push(format!("record {records} was cut short"));
        }
        if self.gaps > 0 && self.signed < records {
            notes.push(format!("unanchored since {}", self.since));
        }
        let verdict = LogVerdict {
            log: name.to_owned(),
            state,
            records,
            signed: self.signed,
            live,
            closed: self.closed,
            notes,
        };
        Walked {
            verdict,
            ledgers: self.ledgers,
            time: self.time,
        }
    }
}

fn ledger_of(line: &[u8]) -> Option<Hash> {
    let value: serde_json::Value = serde_json::from_slice(line).ok()?;
    unhex(value.get("action")?.get("ledger")?.as_str()?.as_bytes())
}
