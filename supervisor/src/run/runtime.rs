//! `runtime: auto`: from a command to what it is installed as, so that the ring sees that and no
//! more of the user's home. Nothing is executed to find out.
//!
//! An agent may have written what lies where agents write: a link, a script, `pyvenv.cfg` or a
//! version file there can choose among recognised runtimes, and can show the ring nothing else.

mod error;
mod files;
mod host;
mod layout;
mod shim;
#[cfg(test)]
mod tests;
mod walk;

pub(crate) use error::RuntimeError;
pub(crate) use layout::Why;

use std::path::{Path, PathBuf};

use crate::places;
use host::Host;
use walk::{Via, Walk};

/// What a command needs beside the system and its workspace.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Runtime {
    /// What is executed: absolute, its folder canonical, past all shims. It may be a link, since a
    /// virtual environment is found by its link's place.
    pub(crate) program: PathBuf,
    /// The first word as given, where the program is the system's; else its path, since a name
    /// alone would be looked up again.
    pub(crate) argv0: String,
    /// Canonical paths to show read-only; none lies in another, in the system or in the workspace.
    pub(crate) prefixes: Vec<Prefix>,
    /// Links on the way that lie in none of these.
    pub(crate) links: Vec<Link>,
    /// Folders that come first on PATH.
    pub(crate) path_entries: Vec<PathBuf>,
    /// What the runtime's own activation would have set.
    pub(crate) variables: Vec<(String, String)>,
}

/// One path that must be visible.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Prefix {
    pub(crate) path: PathBuf,
    pub(crate) why: Why,
}

/// A symbolic link as it is on the host.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Link {
    pub(crate) path: PathBuf,
    pub(crate) to: PathBuf,
}

/// Finds the runtime of `command`. `search` is the caller's PATH, `system` what every ring sees,
/// `home` the caller's home, `writable` where agents write; `cwd`, the workspace, is canonical and
/// counts as one of these.
pub(crate) fn discover(
    command: &[String],
    cwd: &Path,
    search: &[PathBuf],
    system: &[PathBuf],
    home: Option<&Path>,
    writable: &[PathBuf],
) -> Result<Runtime, RuntimeError> {
    let variable = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
    let host = Host {
        cwd,
        search,
        system,
        home: home.map(host::real),
        writable,
        // Other agents' homes lie there.
        ours: places::ours()
            .iter()
            .map(|path| host::real(path))
            .filter(|path| path.is_dir())
            .collect(),
        variable: &variable,
    };
    discover_on(&host, command)
}

fn discover_on(host: &Host<'_>, command: &[String]) -> Result<Runtime, RuntimeError> {
    let name = command.first().map_or("", String::as_str);
    let not_found = || RuntimeError::NotFound {
        name: name.to_owned(),
    };
    let entry = if name.contains('/') {
        // Without `.` in the middle; `..` may cross a link and stays.
        host.cwd.join(name).components().collect()
    } else {
        host.look_up(name, None).ok_or_else(not_found)?
    };
    let mut walk = Walk::new(host);
    let program = walk.follow(&entry, false, Via::Command)?.program;
    let own = |path: &Path| path.to_str().map(str::to_owned);
    let argv0 = if host.in_system(&program) {
        None
    } else {
        own(&program)
    };
    Ok(walk.finish(program, argv0.unwrap_or_else(|| name.to_owned())))
}
