//! Rings by name, or by the file of one that is not installed yet.

use std::path::{Path, PathBuf};

use profiles::{RingProfile, Rings};

use super::load;
use crate::cli::read_bounded;
use crate::error::Failed;
use crate::places;

/// Whether a word on the command line means a file.
fn is_file(word: &str) -> bool {
    word.contains('/') || word.ends_with(".yaml")
}

/// The ring of this name, number or file, and all rings that it is one of.
pub(super) fn open(word: &str) -> Result<(Rings, RingProfile), Failed> {
    if !is_file(word) {
        let rings = load()?;
        let ring = rings.find(word).cloned();
        return Ok((
            rings,
            ring.map_err(|error| Failed::NotFound(error.to_string()))?,
        ));
    }
    let path = Path::new(word);
    let real = path.canonicalize().map_err(|error| Failed::File {
        path: path.to_owned(),
        error,
    })?;
    if real.parent() == Some(&places::rings_dir()) {
        let rings = load()?;
        let ring = rings.iter().find(|ring| Path::new(&ring.file) == real);
        let none = || Failed::NotFound(format!("{word} holds no ring"));
        let ring = ring.cloned().ok_or_else(none)?;
        return Ok((rings, ring));
    }
    not_installed(path)
}

/// The user's own file goes before an installed ring of its name. Others in its folder count as far
/// as it descends from them.
fn not_installed(path: &Path) -> Result<(Rings, RingProfile), Failed> {
    let mut sources = vec![source(path)?];
    for sibling in profiles_in(folder_of(path))? {
        if sibling.file_name() != path.file_name() {
            sources.extend(source(&sibling).ok());
        }
    }
    let names: Vec<String> = sources
        .iter()
        .filter_map(|(file, bytes)| profiles::name_of(file, bytes).ok())
        .collect();
    let mut rings = load()?.without(&names);
    let wrong = rings.add(&sources);
    let file = path.to_string_lossy();
    if let Some((_, error)) = wrong.into_iter().find(|(wrong, _)| *wrong == file) {
        return Err(error.into());
    }
    let ring = rings.iter().find(|ring| ring.file == file).cloned();
    let none = || Failed::NotFound(format!("{file} holds no ring"));
    Ok((rings, ring.ok_or_else(none)?))
}

fn folder_of(path: &Path) -> &Path {
    let parent = path
        .parent()
        .filter(|parent| !parent.as_os_str().is_empty());
    parent.unwrap_or(Path::new("."))
}

/// Name and text of a profile.
pub(super) fn source(path: &Path) -> Result<(String, Vec<u8>), Failed> {
    Ok((path.to_string_lossy().into_owned(), read_bounded(path)?))
}

/// The files of a folder that would be read if it were the installed one.
pub(super) fn profiles_in(dir: &Path) -> Result<Vec<PathBuf>, Failed> {
    let failed = |error| Failed::File {
        path: dir.to_owned(),
        error,
    };
    let mut found = Vec::new();
    for entry in std::fs::read_dir(dir).map_err(failed)? {
        let name = entry.map_err(failed)?.file_name();
        let text = name.to_string_lossy();
        if text.ends_with(".yaml") && !text.starts_with('.') {
            found.push(dir.join(&name));
        }
    }
    found.sort();
    Ok(found)
}
