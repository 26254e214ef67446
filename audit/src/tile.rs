//! The hashes of the tree as C2SP tiles: 256 to a file, so that any part of a proof is a few reads.
//!
//! They follow from the records and are never trusted: a root made of them is compared with a
//! signed one. When they cannot be written the log goes on, and opening it again makes them anew.

use crate::error::Error;
use crate::folder::Folder;
use crate::tree::{Hash, node_hash};

/// The folder they are in.
pub(crate) const TILES: &str = "tile";

/// A tile's height, and how many hashes a full one has.
const HEIGHT: u32 = 8;
const WIDTH: u64 = 1 << HEIGHT;

/// The tiles that are not full yet, one per level.
#[derive(Debug, Default)]
pub(crate) struct Tiles {
    levels: Vec<Edge>,
    full: Vec<(usize, u64, Vec<u8>)>,
}

#[derive(Debug, Default)]
struct Edge {
    index: u64,
    hashes: Vec<u8>,
    /// The width of the partial tile on disk.
    written: Option<usize>,
    /// Where the last tile was put: the next is there too, as a rule.
    folder: Option<(Vec<String>, Folder)>,
}

impl Tiles {
    /// Takes a hash that the tree completed.
    pub(crate) fn add(&mut self, height: u32, hash: &Hash) {
        if !height.is_multiple_of(HEIGHT) {
            return;
        }
        let level = usize::try_from(height / HEIGHT).unwrap_or(usize::MAX);
        if self.levels.len() <= level {
            self.levels.resize_with(level + 1, Edge::default);
        }
        let Some(edge) = self.levels.get_mut(level) else {
            return;
        };
        edge.hashes.extend_from_slice(hash);
        if edge.hashes.len() as u64 == WIDTH * 32 {
            let hashes = std::mem::take(&mut edge.hashes);
            self.full.push((level, edge.index, hashes));
            edge.index += 1;
        }
    }

    /// Writes the tiles that are full.
    pub(crate) fn write_full(&mut self, log: &Folder) {
        for (level, index, hashes) in std::mem::take(&mut self.full) {
            let Some(edge) = self.levels.get_mut(level) else {
                continue;
            };
            let _lacking = edge.put(log, level, index, None, &hashes);
            if let Some(width) = edge.written.take() {
                let _stays = drop_partial(log, level, index, width);
            }
        }
    }

    /// Writes the others as far as they are, in the place of what was there of them.
    pub(crate) fn write_partial(&mut self, log: &Folder) {
        self.write_full(log);
        for (level, edge) in self.levels.iter_mut().enumerate() {
            let width = edge.hashes.len() / 32;
            if width == 0 || edge.written == Some(width) {
                continue;
            }
            let hashes = std::mem::take(&mut edge.hashes);
            let put = edge.put(log, level, edge.index, Some(width), &hashes);
            edge.hashes = hashes;
            if put.is_ok()
                && let Some(old) = edge.written.replace(width)
            {
                let _stays = drop_partial(log, level, edge.index, old);
            }
        }
    }

    /// The edge of a tree of this size, read back.
    pub(crate) fn load(log: &Folder, size: u64) -> Result<Self, Error> {
        let mut tiles = Self::default();
        let (mut level, mut hashes) = (0, size);
        while hashes > 0 {
            let width = hashes % WIDTH;
            let bytes = match width {
                0 => Vec::new(),
                _ => read(log, level, hashes / WIDTH, width)?,
            };
            tiles.levels.push(Edge {
                index: hashes / WIDTH,
                hashes: bytes,
                written: usize::try_from(width).ok().filter(|width| *width > 0),
                folder: None,
            });
            level += 1;
            hashes /= WIDTH;
        }
        Ok(tiles)
    }
}

/// Nodes of the tree, out of tiles; the last tile is kept.
#[derive(Debug)]
pub(crate) struct Nodes<'a> {
    log: &'a Folder,
    size: u64,
    last: Option<(u32, u64, Vec<u8>)>,
}

impl<'a> Nodes<'a> {
    /// Of a tree of this size, whose partial tiles were written.
    pub(crate) const fn new(log: &'a Folder, size: u64) -> Self {
        Self {
            log,
            size,
            last: None,
        }
    }

    /// The root of a complete subtree.
    pub(crate) fn node(&mut self, height: u32, index: u64) -> Result<Hash, Error> {
        let (level, above) = (height / HEIGHT, height % HEIGHT);
        let first = index << above;
        let tile = first / WIDTH;
        if self.last.as_ref().map(|(level, tile, _)| (*level, *tile)) != Some((level, tile)) {
            let hashes = self.size >> (level * HEIGHT);
            let width = WIDTH.min(hashes.saturating_sub(tile * WIDTH));
            let bytes = read(self.log, level as usize, tile, width)?;
            self.last = Some((level, tile, bytes));
        }
        let bytes = self.last.as_ref().map_or(&[][..], |(_, _, bytes)| bytes);
        let at = |index: u64| {
            usize::try_from(index)
                .unwrap_or(usize::MAX)
                .saturating_mul(32)
        };
        let range = at(first % WIDTH)..at(first % WIDTH + (1 << above));
        let short = Error::Malformed {
            what: "a tile is too short",
        };
        fold(bytes.get(range).ok_or(short)?)
    }
}

/// The root over hashes whose number is a power of two.
fn fold(hashes: &[u8]) -> Result<Hash, Error> {
    let mut row: Vec<Hash> = hashes.as_chunks::<32>().0.to_vec();
    while row.len() > 1 {
        let pairs = row.as_chunks::<2>().0.iter();
        row = pairs.map(|[left, right]| node_hash(left, right)).collect();
    }
    let none = Error::Malformed {
        what: "a tile is empty",
    };
    row.first().copied().ok_or(none)
}

/// The folders to a tile, and its file: `x001`, `x234`, `067`.
fn place(index: u64) -> Vec<String> {
    let mut parts = vec![format!("{:03}", index % 1000)];
    let mut rest = index / 1000;
    while rest > 0 {
        parts.push(format!("x{:03}", rest % 1000));
        rest /= 1000;
    }
    parts.reverse();
    parts
}

impl Edge {
    fn put(
        &mut self,
        log: &Folder,
        level: usize,
        index: u64,
        width: Option<usize>,
        hashes: &[u8],
    ) -> Result<(), Error> {
        let mut parts = place(index);
        let name = parts.pop().unwrap_or_default();
        if self
            .folder
            .as_ref()
            .is_none_or(|(there, _)| *there != parts)
        {
            let mut folder = log.make(TILES)?.make(&level.to_string())?;
            for part in &parts {
                folder = folder.make(part)?;
            }
            self.folder = Some((parts, folder));
        }
        let Some((_, folder)) = &self.folder else {
            return Ok(());
        };
        match width {
            None => folder.replace(&name, hashes, false),
            Some(width) => {
                let partial = folder.make(&format!("{name}.p"))?;
                partial.replace(&width.to_string(), hashes, false)
            }
        }
    }
}

fn open(log: &Folder, level: usize, parts: &[String]) -> Result<Folder, Error> {
    let mut folder = log.sub(TILES)?.sub(&level.to_string())?;
    for part in parts {
        folder = folder.sub(part)?;
    }
    Ok(folder)
}

fn drop_partial(log: &Folder, level: usize, index: u64, width: usize) -> Result<(), Error> {
    let mut parts = place(index);
    let name = parts.pop().unwrap_or_default();
    let folder = open(log, level, &parts)?;
    let partial = format!("{name}.p");
    folder.sub(&partial)?.remove(&width.to_string())?;
    // Not empty while a wider one is there.
    folder.remove_dir(&partial)
}

/// The first `width` hashes of a tile, out of the full one or the partial one; 0 asks for all that
/// there are.
pub(crate) fn read(log: &Folder, level: usize, index: u64, width: u64) -> Result<Vec<u8>, Error> {
    let mut parts = place(index);
    let name = parts.pop().unwrap_or_default();
    let folder = open(log, level, &parts)?;
    let path = folder.path_of(&name);
    let full = folder.read(&name)?;
    let bytes = match full {
        Some(bytes) => Some(bytes),
        None => {
            let partial = folder.sub(&format!("{name}.p"))?;
            match partial.read(&width.to_string())? {
                Some(bytes) => Some(bytes),
                // A newer head has a wider one.
                None => match widest(&partial)? {
                    Some(name) => partial.read(&name)?,
                    None => None,
                },
            }
        }
    };
    let wanted = usize::try_from(width * 32).unwrap_or(usize::MAX);
    let mut bytes = bytes.ok_or_else(|| Error::io(path)(std::io::ErrorKind::NotFound.into()))?;
    if bytes.len() < wanted {
        let what = "a tile is too short";
        return Err(Error::Malformed { what });
    }
    if width > 0 {
        bytes.truncate(wanted);
    }
    Ok(bytes)
}

fn widest(partial: &Folder) -> Result<Option<String>, Error> {
    let mut names = partial.names()?;
    names.retain(|name| name.parse::<u64>().is_ok());
    Ok(names
        .into_iter()
        .max_by_key(|name| name.parse::<u64>().ok()))
}

/// Takes all tiles away, before they are made anew.
pub(crate) fn clear(log: &Folder) -> Result<(), Error> {
    fn empty(folder: &Folder) -> Result<(), Error> {
        for name in folder.names()? {
            match folder.sub(&name) {
                Ok(sub) => {
                    empty(&sub)?;
                    folder.remove_dir(&name)?;
                }
                Err(_) => folder.remove(&name)?,
            }
        }
        Ok(())
    }
    empty(&log.make(TILES)?)
}

#[cfg(test)]
mod tests {
    use super::place;

    #[test]
    fn places_are_those_of_the_specification() {
        assert_eq!(place(1_234_067), ["x001", "x234", "067"]);
        assert_eq!(place(0), ["000"]);
        assert_eq!(place(255), ["255"]);
    }
}
