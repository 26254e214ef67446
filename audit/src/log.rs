//! The log of one running supervisor. Read `append` first, then `write`, `commit` and `sign`.
//!
//! What allows something is written before it is allowed: an effect asks for a [`Recorded`], and
//! only the log makes one. Nothing else waits for the log.

use std::fs::File;
use std::io::{self, Write};
use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use rustix::fs::OFlags;
use rustix::io::Errno;

use crate::args::ArgsKey;
use crate::clock::{Calendar, Moment};
use crate::entry::{Action, Entry, Kind, Value};
use crate::error::Error;
use crate::folder::Folder;
use crate::history::{History, LATEST};
use crate::keys::Keys;
use crate::ledger::{Event, Ledger};
use crate::line::{Stamp, encode};
use crate::note::Head;
use crate::reserve::Reserve;
use crate::segment::name_of;
use crate::text::hex;
use crate::tile::Tiles;
use crate::tree::{Hash, Tree, leaf_hash};

/// Leaves that wait for their place in the tree; the commit comes long before, as a rule.
const FRESH_MAX: usize = 16 * 1024;

/// Whether [`Recorded`] means written, or on disk.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Durability {
    /// Written; on disk within [`Options::group`]. It survives the death of the supervisor, and of
    /// the machine all but the last moment does.
    #[default]
    Group,
    /// On disk.
    Strict,
}

/// How a log is kept.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// What [`Recorded`] means.
    pub durability: Durability,
    /// How long what was written may wait for the disk.
    pub group: Duration,
    /// How often the head is signed, even when nothing happens.
    pub checkpoint: Duration,
    /// A segment ends at this size, or with the day.
    pub segment_bytes: u64,
    /// What is kept free for the end when the disk is full.
    pub reserve_bytes: u64,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            durability: Durability::Group,
            group: Duration::from_millis(20),
            checkpoint: Duration::from_secs(60),
            segment_bytes: 64 << 20,
            reserve_bytes: 1 << 20,
        }
    }
}

/// A record that was written. Only the log makes one, and what it allows takes it.
#[derive(Debug)]
#[must_use]
pub struct Recorded {
    seq: u64,
    leaf: Hash,
}

impl Recorded {
    /// Its number.
    #[must_use]
    pub const fn seq(&self) -> u64 {
        self.seq
    }

    /// Its hash.
    #[must_use]
    pub const fn leaf(&self) -> &Hash {
        &self.leaf
    }
}

/// A record that waits to be written with others. It allows nothing.
#[derive(Debug)]
#[must_use]
pub struct Queued {
    round: Round,
    seq: u64,
    leaf: Hash,
}

/// What was queued before was written.
#[derive(Clone, Copy, Debug)]
#[must_use]
pub struct Written {
    round: Round,
    before: u64,
}

/// Numbers are given again after a failed write: which log, and how many failed before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Round {
    log: u64,
    failed: u64,
}

impl Queued {
    /// The record, when this is the write that wrote it.
    ///
    /// # Errors
    /// Gives itself back when it is not.
    pub fn recorded(self, written: &Written) -> Result<Recorded, Self> {
        if self.round == written.round && self.seq < written.before {
            Ok(Recorded {
                seq: self.seq,
                leaf: self.leaf,
            })
        } else {
            Err(self)
        }
    }
}

/// The end of the chain: the next number, and the hash of the record before.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Chain {
    pub(crate) seq: u64,
    pub(crate) prev: Hash,
}

/// The file that is written.
#[derive(Debug)]
pub(crate) struct Segment {
    pub(crate) file: File,
    pub(crate) bytes: u64,
    pub(crate) day: i64,
}

/// What waits to be written, in one piece.
#[derive(Debug, Default)]
struct Queue {
    bytes: Vec<u8>,
    leaves: Vec<Hash>,
    /// Records of ours among them, about missed ones, and how many they tell of.
    gaps: u64,
    told: u64,
    /// Something in it is not of a closing kind.
    opens: bool,
}

/// A log that is written. Dropping it without [`Log::close`] is what a crash is.
#[derive(Debug)]
pub struct Log {
    pub(crate) audit: Folder,
    pub(crate) folder: Folder,
    pub(crate) name: String,
    pub(crate) keys: Keys,
    pub(crate) args: ArgsKey,
    pub(crate) options: Options,
    pub(crate) boot: Vec<u8>,
    pub(crate) history: History,
    pub(crate) reserve: Reserve,
    pub(crate) segment: Segment,
    pub(crate) tree: Tree,
    pub(crate) tiles: Tiles,
    pub(crate) parts: Parts,
    /// Held for as long as it is written.
    pub(crate) _lock: OwnedFd,
}

/// What of a log is the same however it was opened.
#[derive(Debug)]
pub(crate) struct Parts {
    round: Round,
    chain: Chain,
    written: Chain,
    queue: Queue,
    calendar: Calendar,
    pub(crate) clock: fn() -> Moment,
    moment: Option<Moment>,
    /// Written, and not in the tree yet.
    fresh: Vec<Hash>,
    dirty: Option<Instant>,
    signed: Instant,
    missed: u64,
    bytes: u64,
    broken: bool,
}

impl Parts {
    pub(crate) fn new(chain: Chain) -> Self {
        static LOGS: AtomicU64 = AtomicU64::new(0);
        Self {
            round: Round {
                log: LOGS.fetch_add(1, Ordering::Relaxed),
                failed: 0,
            },
            chain,
            written: chain,
            queue: Queue::default(),
            calendar: Calendar::default(),
            clock: Moment::now,
            moment: None,
            fresh: Vec::new(),
            dirty: None,
            signed: Instant::now(),
            missed: 0,
            bytes: 0,
            broken: false,
        }
    }
}

impl Log {
    /// Opens the log of this name in a folder of logs, and makes both when they are absent. One
    /// that ended without being closed is mended: what was cut short is cut off, and a gap says so.
    ///
    /// # Errors
    /// When somebody else writes it, or what was signed does not hold.
    pub fn open(dir: &Path, name: &str, keys: Keys, options: Options) -> Result<Self, Error> {
        crate::recover::open(Folder::private(dir)?, name, keys, options)
    }

    /// Writes a record. In [`Durability::Strict`] it is on disk then.
    ///
    /// # Errors
    /// It was not written: what it would have allowed is denied, and what is governed is frozen.
    pub fn append(&mut self, entry: &Entry<'_>) -> Result<Recorded, Error> {
        let queued = self.queue(entry)?;
        let written = self.write()?;
        queued.recorded(&written).map_err(|_| Error::Broken)
    }

    /// Chains a record that [`Log::write`] will write with others.
    ///
    /// # Errors
    /// As for [`Log::append`].
    pub fn queue(&mut self, entry: &Entry<'_>) -> Result<Queued, Error> {
        let queued = self.admit(entry).and_then(|()| self.chain(entry));
        if queued.is_err() {
            self.parts.missed += 1;
        }
        queued
    }

    /// Something happened that could not be recorded: the next record is a gap that counts it.
    pub const fn missed(&mut self) {
        self.parts.missed += 1;
    }

    fn admit(&mut self, entry: &Entry<'_>) -> Result<(), Error> {
        if self.parts.broken {
            return Err(Error::Broken);
        }
        if !entry.kind.closing() {
            // The space for the end comes first.
            self.reserve.keep(&self.folder).map_err(unwritten)?;
            self.parts.queue.opens = true;
        }
        let missed = self.parts.missed - self.parts.queue.told;
        if missed > 0 {
            let fields = [
                ("why", Value::Text("not written")),
                ("records", Value::Number(missed)),
            ];
            let gap = Entry::new(Kind::Gap).action(Action::new("gap").fields(&fields));
            drop(self.chain(&gap)?);
            self.parts.queue.gaps += 1;
            self.parts.queue.told += missed;
        }
        Ok(())
    }

    fn chain(&mut self, entry: &Entry<'_>) -> Result<Queued, Error> {
        let parts = &mut self.parts;
        let moment = (parts.clock)();
        let start = parts.queue.bytes.len();
        let stamp = Stamp {
            seq: parts.chain.seq,
            moment,
            calendar: &mut parts.calendar,
            boot: &self.boot,
            prev: &parts.chain.prev,
        };
        encode(&mut parts.queue.bytes, stamp, entry)?;
        let leaf = leaf_hash(parts.queue.bytes.get(start..).unwrap_or_default());
        parts.queue.bytes.push(b'\n');
        parts.queue.leaves.push(leaf);
        parts.moment = Some(moment);
        let queued = Queued {
            round: parts.round,
            seq: parts.chain.seq,
            leaf,
        };
        parts.chain = Chain {
            seq: parts.chain.seq + 1,
            prev: leaf,
        };
        Ok(queued)
    }

    /// Writes what was queued: all of it, or none.
    ///
    /// # Errors
    /// As for [`Log::append`], for everything that was queued.
    pub fn write(&mut self) -> Result<Written, Error> {
        if self.parts.broken {
            return Err(Error::Broken);
        }
        if !self.parts.queue.bytes.is_empty() {
            let mut done = self.put();
            if done.as_ref().is_err_and(is_full) && !self.parts.queue.opens {
                self.reserve.release(&self.folder);
                done = self.put();
            }
            match done {
                Ok(()) => self.take_in(),
                Err(error) => {
                    self.roll_back();
                    return Err(error);
                }
            }
            if self.options.durability == Durability::Strict {
                self.sync()?;
            }
        }
        Ok(Written {
            round: self.parts.round,
            before: self.parts.written.seq,
        })
    }

    /// Puts the queue at the end of the segment, or leaves the segment as it was.
    fn put(&mut self) -> Result<(), Error> {
        self.turn_over()?;
        match self.segment.file.write_all(&self.parts.queue.bytes) {
            Ok(()) => Ok(()),
            Err(error) => {
                // A line cut short in the middle of the file could never be mended.
                if self.segment.file.set_len(self.segment.bytes).is_err() {
                    self.parts.broken = true;
                }
                Err(unwritten(error))
            }
        }
    }

    fn take_in(&mut self) {
        let parts = &mut self.parts;
        self.segment.bytes += parts.queue.bytes.len() as u64;
        parts.bytes += parts.queue.bytes.len() as u64;
        parts.fresh.append(&mut parts.queue.leaves);
        parts.missed -= parts.queue.told;
        parts.queue.bytes.clear();
        (parts.queue.gaps, parts.queue.told, parts.queue.opens) = (0, 0, false);
        parts.written = parts.chain;
        parts.dirty.get_or_insert_with(Instant::now);
        if parts.fresh.len() >= FRESH_MAX {
            self.grow();
        }
    }

    fn roll_back(&mut self) {
        let parts = &mut self.parts;
        let queue = std::mem::take(&mut parts.queue);
        parts.missed += queue.leaves.len() as u64 - queue.gaps;
        parts.chain = parts.written;
        parts.round.failed += 1;
    }

    /// Begins a new segment when this one is full, or of another day. The wall clock may go back:
    /// a day never does.
    fn turn_over(&mut self) -> Result<(), Error> {
        let day = self.parts.moment.map_or(self.segment.day, Moment::day);
        let more = self.segment.bytes + self.parts.queue.bytes.len() as u64;
        let over = day > self.segment.day || more > self.options.segment_bytes;
        if self.segment.bytes == 0 || !over {
            self.segment.day = self.segment.day.max(day);
            return Ok(());
        }
        // Only the last segment may have an unsigned end.
        self.sign()?;
        let name = name_of(self.parts.written.seq);
        let file = new_segment(&self.folder, &name).map_err(full)?;
        self.folder.sync()?;
        self.segment = Segment {
            file,
            bytes: 0,
            day,
        };
        Ok(())
    }

    fn sync(&mut self) -> Result<(), Error> {
        if self.parts.dirty.is_some() {
            if self.segment.file.sync_data().is_err() {
                // The kernel may have dropped what it could not write, and told it once.
                self.parts.broken = true;
                return Err(Error::Broken);
            }
            self.parts.dirty = None;
        }
        Ok(())
    }

    /// Adds what was written to the tree.
    fn grow(&mut self) {
        let tiles = &mut self.tiles;
        for leaf in self.parts.fresh.drain(..) {
            self.tree.push(leaf, |height, hash| tiles.add(height, hash));
        }
        self.tiles.write_full(&self.folder);
    }

    /// When [`Log::commit`] has to be called.
    #[must_use]
    pub fn due(&self) -> Instant {
        let signed = self.parts.signed + self.options.checkpoint;
        match self.parts.dirty {
            Some(dirty) => signed.min(dirty + self.options.group),
            None => signed,
        }
    }

    /// Brings what was written to disk, and signs the head when that is due.
    ///
    /// # Errors
    /// As for [`Log::append`]; after a failed sync only opening the log again helps.
    pub fn commit(&mut self) -> Result<Written, Error> {
        let written = self.write()?;
        self.sync()?;
        self.grow();
        if self.parts.signed.elapsed() >= self.options.checkpoint {
            self.checkpoint()?;
        }
        Ok(written)
    }

    /// Signs the head now.
    ///
    /// # Errors
    /// As for [`Log::commit`].
    pub fn checkpoint(&mut self) -> Result<Head, Error> {
        drop(self.append(&Entry::new(Kind::Checkpoint))?);
        self.sign().map(|(head, _)| head)
    }

    /// Signs what was written: records on disk, then tiles, then the head.
    pub(crate) fn sign(&mut self) -> Result<(Head, String), Error> {
        self.sync()?;
        self.grow();
        self.tiles.write_partial(&self.folder);
        let head = Head {
            origin: origin(&self.keys, &self.name),
            size: self.tree.size(),
            root: self.tree.root(),
        };
        let note = self.keys.checkpoint(&head);
        self.history.add(&head, &note).map_err(full)?;
        self.parts.signed = Instant::now();
        // A copy for others to fetch; the history is what counts.
        let _stale = self.folder.replace(LATEST, note.as_bytes(), false);
        Ok((head, note))
    }

    /// Goes on with a new key, after the old one signed the head a last time.
    ///
    /// # Errors
    /// When the head cannot be signed or the key cannot be written.
    pub fn rotate_key(&mut self) -> Result<(), Error> {
        self.checkpoint()?;
        self.keys.rotate()?;
        let name = self.keys.public().to_string();
        let fields = [("key", Value::Text(&name))];
        let entry = Entry::new(Kind::Checkpoint).action(Action::new("new-key").fields(&fields));
        drop(self.append(&entry)?);
        self.sign().map(drop)
    }

    /// Closes the log: a last record, a last head, and both in the ledger.
    ///
    /// # Errors
    /// When something of that cannot be written. The log is then one that was not closed.
    pub fn close(mut self) -> Result<Head, Error> {
        self.reserve.release(&self.folder);
        drop(self.append(&Entry::new(Kind::Close))?);
        let (head, note) = self.sign()?;
        Ledger::lock(&self.audit)?.add(Event::Close, &self.name, &note, &self.keys)?;
        Ok(head)
    }

    /// The HMAC of an action's arguments, by this log's own key: what can be guessed cannot be
    /// checked without it.
    #[must_use]
    pub fn args_hmac(&self, args: &[u8]) -> [u8; 32] {
        self.args.hmac(args)
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The number of the next record.
    #[must_use]
    pub const fn next_seq(&self) -> u64 {
        self.parts.chain.seq
    }

    /// How much was written since it was opened.
    #[must_use]
    pub const fn bytes_written(&self) -> u64 {
        self.parts.bytes
    }

    /// The keys that sign it.
    #[must_use]
    pub const fn keys(&self) -> &Keys {
        &self.keys
    }

    /// The first records of a log that was opened: how it ended before, that it was opened, and
    /// where the ledger stood.
    pub(crate) fn begin(&mut self, cut: Option<(u64, Hash)>, ledger: &Hash) -> Result<(), Error> {
        if let Some((bytes, digest)) = cut {
            let digest = hex(&digest);
            let fields = [
                ("why", Value::Text("not closed")),
                ("cut_bytes", Value::Number(bytes)),
                ("cut_sha256", Value::Text(&digest)),
            ];
            let gap = Entry::new(Kind::Gap).action(Action::new("gap").fields(&fields));
            drop(self.chain(&gap)?);
        }
        let (key, args) = (self.keys.public().to_string(), hex(&self.args.digest()));
        let (ledger, name) = (hex(ledger), self.name.clone());
        let fields = [
            ("log", Value::Text(&name)),
            ("ledger", Value::Text(&ledger)),
            ("key", Value::Text(&key)),
            ("args_key_sha256", Value::Text(&args)),
            ("format", Value::Number(1)),
        ];
        let open = Entry::new(Kind::Open).action(Action::new("open").fields(&fields));
        drop(self.append(&open)?);
        Ok(())
    }
}

/// Which log, among all: the name of the key's folder, and that of the log.
pub(crate) fn origin(keys: &Keys, name: &str) -> String {
    format!("{}/{name}", keys.public().name)
}

pub(crate) fn new_segment(log: &Folder, name: &str) -> Result<File, Error> {
    let file = log.file(name, OFlags::RDWR | OFlags::CREATE | OFlags::APPEND)?;
    // One that could not be used before is empty.
    match file.metadata().map(|meta| meta.len()) {
        Ok(0) => Ok(file),
        Ok(_) => Err(Error::io(log.path_of(name))(
            io::ErrorKind::AlreadyExists.into(),
        )),
        Err(error) => Err(Error::io(log.path_of(name))(error)),
    }
}

fn unwritten(error: io::Error) -> Error {
    Error::Unwritten { error }
}

/// A file beside the records: as bad as if they could not be written.
fn full(error: Error) -> Error {
    if let Error::Io { error, .. } = error {
        Error::Unwritten { error }
    } else {
        error
    }
}

fn is_full(error: &Error) -> bool {
    let Error::Unwritten { error } = error else {
        return false;
    };
    let full = [Errno::NOSPC.raw_os_error(), Errno::DQUOT.raw_os_error()];
    error
        .raw_os_error()
        .is_some_and(|code| full.contains(&code))
}
