//! Opening a log: a new one is made aside and moved into place, one that is there is read back to
//! where it ended. There is no other way back after a crash.

use std::io;
use std::ops::Range;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::Path;

use rustix::fs::{FlockOperation, OFlags, flock};
use rustix::io::Errno;
use sha2::{Digest, Sha256};

use crate::args::ArgsKey;
use crate::clock::Moment;
use crate::entry::Kind;
use crate::error::Error;
use crate::folder::Folder;
use crate::history::History;
use crate::keys::Keys;
use crate::ledger::{Event, Ledger};
use crate::line::prefix;
use crate::log::{Chain, Log, Options, Parts, Segment, new_segment, origin};
use crate::note::Head;
use crate::reserve::Reserve;
use crate::segment::{Lines, firsts, name_of};
use crate::tile::{self, Nodes, Tiles};
use crate::tree::{Hash, Tree, leaf_hash, peaks};

pub(crate) const LOCK: &str = "lock";

/// A folder that is being made.
pub(crate) const NEW: &str = ".new-";

pub(crate) fn open(audit: Folder, name: &str, keys: Keys, options: Options) -> Result<Log, Error> {
    check(name)?;
    let mut ledger = Ledger::lock(&audit)?;
    let staged = format!("{NEW}{name}");
    let there = match audit.sub(name) {
        Ok(folder) => Some(folder),
        // Made and listed, and then the machine died.
        Err(error) if is_absent(&error) => match listed(&audit, name, &keys)? {
            true => {
                audit.rename(&staged, name)?;
                Some(audit.sub(name)?)
            }
            false => None,
        },
        Err(error) => return Err(error),
    };
    let is_new = there.is_none();
    let mut log = match there {
        Some(folder) => reopen(audit, folder, name, keys, options, ledger.head())?,
        None => create(audit, &staged, name, keys, options, ledger.head())?,
    };
    let (_, note) = log.sign()?;
    ledger.add(Event::Open, name, &note, &log.keys)?;
    if is_new {
        log.audit.rename(&staged, name)?;
        log.audit.sync()?;
    }
    Ok(log)
}

/// Closes the logs that were left open by processes that are gone.
///
/// # Errors
/// When the folder cannot be read. What cannot be closed is told to `failed`, and left.
pub fn sweep(
    dir: &Path,
    keys: impl Fn() -> Result<Keys, Error>,
    mut failed: impl FnMut(&str, Error),
) -> Result<(), Error> {
    let audit = Folder::private(dir)?;
    for name in crate::ledger::left_open(&audit, keys()?.all())? {
        match Log::open(dir, &name, keys()?, Options::default()).and_then(Log::close) {
            Ok(_) | Err(Error::Busy { .. }) => {}
            Err(error) => failed(&name, error),
        }
    }
    Ok(())
}

/// Whether there is a log of this name, or one that is being made or was not finished.
#[must_use]
pub fn is_begun(dir: &Path, name: &str) -> bool {
    dir.join(name).is_dir() || dir.join(format!("{NEW}{name}")).is_dir()
}

/// The folder of a log that is there: one plain name leads to it, and to nothing outside.
pub(crate) fn there(dir: &Path, name: &str) -> Result<Folder, Error> {
    check(name)?;
    Folder::open(dir)?.sub(name)
}

fn check(name: &str) -> Result<(), Error> {
    let plain =
        |byte: u8| matches!(byte, b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.');
    let well = (1..=64).contains(&name.len()) && !name.starts_with('.') && name.bytes().all(plain);
    let taken = name == crate::ledger::LEDGER;
    if well && !taken {
        return Ok(());
    }
    Err(Error::Name {
        name: crate::shown(name.as_bytes()),
    })
}

fn is_absent(error: &Error) -> bool {
    matches!(error, Error::Io { error, .. } if error.kind() == io::ErrorKind::NotFound)
}

fn listed(audit: &Folder, name: &str, keys: &Keys) -> Result<bool, Error> {
    let staged = audit.sub(&format!("{NEW}{name}")).is_ok();
    Ok(staged && crate::ledger::is_listed(audit, name, keys.all())?)
}

pub(crate) fn lock(folder: &Folder, name: &str) -> Result<OwnedFd, Error> {
    let file = folder.file(LOCK, OFlags::RDWR | OFlags::CREATE)?;
    match flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(file.into()),
        Err(Errno::WOULDBLOCK) => Err(Error::Busy { log: name.into() }),
        Err(errno) => Err(Error::io(folder.path_of(LOCK))(errno.into())),
    }
}

/// Whether somebody writes this log now.
pub(crate) fn is_live(folder: &Folder) -> bool {
    let file = folder.file(LOCK, OFlags::RDONLY);
    file.is_ok_and(|file| {
        flock(&file, FlockOperation::NonBlockingLockShared) == Err(Errno::WOULDBLOCK)
    })
}

fn boot() -> Result<Vec<u8>, Error> {
    let path = "/proc/sys/kernel/random/boot_id";
    let text = std::fs::read_to_string(path).map_err(Error::io(path))?;
    Ok(crate::line::boot(text.trim()))
}

fn create(
    audit: Folder,
    staged: &str,
    name: &str,
    keys: Keys,
    options: Options,
    ledger: &Hash,
) -> Result<Log, Error> {
    if let Ok(left) = audit.sub(staged) {
        // It was never listed: nobody was told of anything in it.
        tile::clear(&left)?;
        left.remove_dir(tile::TILES)?;
        for file in left.names()? {
            left.remove(&file)?;
        }
    }
    let folder = audit.make(staged)?;
    let lock = lock(&folder, name)?;
    let args = ArgsKey::create(&folder)?;
    let (history, _) = History::open(&folder, keys.all())?;
    let file = new_segment(&folder, &name_of(0))?;
    let mut log = Log {
        audit,
        name: name.to_owned(),
        keys,
        args,
        options,
        boot: boot()?,
        history,
        reserve: Reserve::new(options.reserve_bytes),
        segment: Segment {
            file,
            bytes: 0,
            day: Moment::now().day(),
        },
        tree: Tree::default(),
        tiles: Tiles::default(),
        parts: Parts::new(Chain::default()),
        folder,
        _lock: lock,
    };
    log.begin(None, ledger)?;
    log.folder.sync()?;
    Ok(log)
}

fn reopen(
    audit: Folder,
    folder: Folder,
    name: &str,
    keys: Keys,
    options: Options,
    ledger: &Hash,
) -> Result<Log, Error> {
    let lock = lock(&folder, name)?;
    let args = ArgsKey::read(&folder)?;
    let (history, signed) = History::open(&folder, keys.all())?;
    let signed = signed.filter(|head| head.origin == origin(&keys, name));
    let signed = signed.ok_or_else(|| altered(name, 0))?;
    let mut end = read_back(&folder, name, &signed)?;
    let segment = firsts(&folder)?.last().copied().unwrap_or(0);
    let file = folder.file(&name_of(segment), OFlags::RDWR | OFlags::APPEND)?;
    let path = folder.path_of(&name_of(segment));
    let meta = file.metadata().map_err(Error::io(&path))?;
    let offset = if end.segment == segment {
        end.offset
    } else {
        0
    };
    if meta.len() < offset || (end.segment != segment && end.cut.0 > 0) {
        // Only the last segment may have an unsigned end.
        return Err(altered(name, end.chain.seq));
    }
    file.set_len(offset).map_err(Error::io(&path))?;
    if end.segment == segment {
        rewrite(&folder, &name_of(segment), end.signed..offset).map_err(Error::io(&path))?;
    }
    file.sync_all().map_err(Error::io(&path))?;
    end.tiles.write_full(&folder);
    let mut log = Log {
        audit,
        name: name.to_owned(),
        keys,
        args,
        options,
        boot: boot()?,
        history,
        reserve: Reserve::new(options.reserve_bytes),
        segment: Segment {
            file,
            bytes: offset,
            day: meta.mtime().div_euclid(86_400),
        },
        tree: end.tree,
        tiles: end.tiles,
        parts: Parts::new(end.chain),
        folder,
        _lock: lock,
    };
    let cut = (!end.closed).then_some(end.cut);
    log.begin(cut, ledger)?;
    Ok(log)
}

/// Writes what no head covers once more. A sync that fails is told once, and the cache goes on showing what
/// never came to the disk: the next sync would not say so again, and it would be signed.
fn rewrite(folder: &Folder, name: &str, unsigned: Range<u64>) -> io::Result<()> {
    let file = folder.file(name, OFlags::RDWR).map_err(io::Error::other)?;
    let mut chunk = vec![0; 1 << 16];
    let mut at = unsigned.start;
    while at < unsigned.end {
        let left = usize::try_from(unsigned.end - at).unwrap_or(usize::MAX);
        let most = left.min(chunk.len());
        let part = chunk.get_mut(..most).unwrap_or_default();
        file.read_exact_at(part, at)?;
        file.write_all_at(part, at)?;
        at += most as u64;
    }
    Ok(())
}

/// Where a log ended.
struct End {
    tree: Tree,
    tiles: Tiles,
    chain: Chain,
    segment: u64,
    /// Where in that segment what was signed ends, and what holds.
    signed: u64,
    offset: u64,
    closed: bool,
    cut: (u64, Hash),
}

fn altered(log: &str, at: u64) -> Error {
    let log = log.to_owned();
    Error::Altered { log, at }
}

/// The tree as it was signed, out of its tiles, or else out of the records.
fn signed_tree(folder: &Folder, name: &str, signed: &Head) -> Result<(Tree, Tiles), Error> {
    let size = signed.size;
    let from_tiles = || {
        let mut nodes = Nodes::new(folder, size);
        let peaks = peaks(size, &mut |height, index| nodes.node(height, index)).ok()?;
        let tree = Tree::from_peaks(size, peaks).filter(|tree| tree.root() == signed.root)?;
        Some((tree, Tiles::load(folder, size).ok()?))
    };
    if let Some(found) = from_tiles() {
        return Ok(found);
    }
    rebuilt(folder, name, signed)
}

/// The tree as it was signed, out of the records, and its tiles anew.
fn rebuilt(folder: &Folder, name: &str, signed: &Head) -> Result<(Tree, Tiles), Error> {
    let size = signed.size;
    tile::clear(folder)?;
    let (mut tree, mut tiles) = (Tree::default(), Tiles::default());
    let mut lines = Lines::from(folder, 0)?;
    while tree.size() < size {
        let Some((line, _)) = lines.next()? else {
            let log = name.to_owned();
            return Err(Error::Truncated {
                log,
                found: tree.size(),
                signed: size,
            });
        };
        tree.push(leaf_hash(line.bytes), |height, hash| {
            tiles.add(height, hash);
        });
        if tree.size().is_multiple_of(4096) {
            tiles.write_full(folder);
        }
    }
    if tree.root() == signed.root {
        tiles.write_partial(folder);
        Ok((tree, tiles))
    } else {
        Err(altered(name, 0))
    }
}

/// Reads the last signed segment and what is after it. What was signed has to hold; of the rest,
/// whatever follows a line that does not is what a crash left.
fn read_back(folder: &Folder, name: &str, signed: &Head) -> Result<End, Error> {
    let (mut tree, mut tiles) = signed_tree(folder, name, signed)?;
    let (mut chain, mut closed) = (Chain::default(), false);
    let (mut segment, mut offset, mut signed_to) = (0, 0, 0);
    let (mut cut, mut cut_bytes) = (Sha256::new(), 0);
    let mut lines = Lines::from(folder, signed.size.saturating_sub(1))?;
    let (mut first, mut again) = (true, false);
    let mut nodes = Nodes::new(folder, signed.size);
    while let Some((line, starts)) = lines.next()? {
        let read = prefix(line.bytes).filter(|_| line.whole && cut_bytes == 0);
        if let (true, Some(read)) = (first, read) {
            chain = Chain {
                seq: starts.unwrap_or(0),
                prev: read.prev,
            };
            first = false;
        }
        let follows = read.filter(|read| read.seq == chain.seq && read.prev == chain.prev);
        let Some(read) = follows else {
            if chain.seq < signed.size {
                return Err(altered(name, chain.seq));
            }
            cut.update(line.bytes);
            cut_bytes += line.bytes.len() as u64;
            if line.whole {
                cut.update(b"\n");
                cut_bytes += 1;
            }
            continue;
        };
        let leaf = leaf_hash(line.bytes);
        if chain.seq >= signed.size {
            tree.push(leaf, |height, hash| tiles.add(height, hash));
        } else if !again && nodes.node(0, chain.seq).ok() != Some(leaf) {
            // The record or the tile: a tree of the records alone tells.
            let made = rebuilt(folder, name, signed);
            (tree, tiles) = made.map_err(|_| altered(name, chain.seq))?;
            again = true;
        }
        chain = Chain {
            seq: chain.seq + 1,
            prev: leaf,
        };
        closed = read.kind == Kind::Close;
        if lines.segment != segment {
            signed_to = 0;
        }
        (segment, offset) = (lines.segment, lines.offset());
        if chain.seq <= signed.size {
            signed_to = offset;
        }
    }
    if chain.seq < signed.size {
        let (log, found) = (name.to_owned(), chain.seq);
        return Err(Error::Truncated {
            log,
            found,
            signed: signed.size,
        });
    }
    Ok(End {
        tree,
        tiles,
        chain,
        segment,
        signed: signed_to,
        offset,
        closed: closed && cut_bytes == 0,
        cut: (cut_bytes, cut.finalize().into()),
    })
}
