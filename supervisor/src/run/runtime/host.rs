//! The host as the caller sees it: PATH, home, links, and where agents write.

use std::collections::VecDeque;
use std::ffi::OsString;
use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Component, Path, PathBuf};

use super::Link;
use super::error::RuntimeError;

/// Folders of a home that a runtime must not bring along.
const PRIVATE: [&str; 10] = [
    ".ssh",
    ".aws",
    ".config",
    ".gnupg",
    ".claude",
    ".codex",
    ".kube",
    ".docker",
    ".netrc",
    ".local/share",
];

/// Everything that discovery knows.
pub(super) struct Host<'a> {
    pub(super) cwd: &'a Path,
    pub(super) search: &'a [PathBuf],
    pub(super) system: &'a [PathBuf],
    /// Canonical.
    pub(super) home: Option<PathBuf>,
    pub(super) writable: &'a [PathBuf],
    /// Folders of the supervisor, canonical.
    pub(super) ours: Vec<PathBuf>,
    pub(super) variable: &'a dyn Fn(&str) -> Option<String>,
}

/// A path followed through its links.
pub(super) struct Chase {
    /// Where the last part of the path lay, link after link; the last one is the object. Their
    /// folders are canonical.
    pub(super) stations: Vec<PathBuf>,
    pub(super) links: Vec<Link>,
    /// How many of the links come before the first station.
    pub(super) before: usize,
}

impl Chase {
    /// Whether a link on the way may be an agent's work.
    pub(super) fn is_led_by(&self, host: &Host<'_>) -> bool {
        self.links.iter().any(|link| host.is_writable(&link.path))
    }
}

impl Host<'_> {
    pub(super) fn in_system(&self, path: &Path) -> bool {
        self.system.iter().any(|place| path.starts_with(place))
    }

    /// Whether the ring sees it anyway.
    pub(super) fn is_visible(&self, path: &Path) -> bool {
        path.starts_with(self.cwd) || self.in_system(path)
    }

    /// Whether an agent may have made it.
    pub(super) fn is_writable(&self, path: &Path) -> bool {
        path.starts_with(self.cwd) || self.writable.iter().any(|place| path.starts_with(place))
    }

    /// A folder that a variable names, or the usual one below home.
    pub(super) fn root(&self, variable: &str, usual: &str) -> Option<PathBuf> {
        let named = (self.variable)(variable)
            .map(PathBuf::from)
            .filter(|path| path.is_absolute());
        let usual = || self.home.as_ref().map(|home| home.join(usual));
        let root = named.or_else(usual)?;
        root.canonicalize().ok()
    }

    /// A bare name on PATH, past one folder. A broken find is better than none: it gets explained.
    pub(super) fn look_up(&self, name: &str, past: Option<&Path>) -> Option<PathBuf> {
        if name.is_empty() || name == "." || name == ".." || name.contains('/') {
            return None;
        }
        // A relative entry of PATH would let the workspace answer for any name.
        let folders = self.search.iter().filter(|folder| {
            let is_past = |past| folder.canonicalize().is_ok_and(|real| real == past);
            folder.is_absolute() && !past.is_some_and(is_past)
        });
        let candidates: Vec<PathBuf> = folders.map(|folder| folder.join(name)).collect();
        let runs = candidates.iter().find(|path| is_executable(path));
        let is_link = |path: &&PathBuf| fs::symlink_metadata(path).is_ok_and(|m| m.is_symlink());
        runs.or_else(|| candidates.iter().find(is_link)).cloned()
    }

    /// Follows every link of an absolute path.
    pub(super) fn chase(&self, path: &Path, links_max: usize) -> Result<Chase, RuntimeError> {
        let mut chase = Chase {
            stations: Vec::new(),
            links: Vec::new(),
            before: 0,
        };
        let mut at = PathBuf::from("/");
        let mut pending = parts(path);
        while let Some(part) = pending.pop_front() {
            if part == ".." {
                at.pop();
                continue;
            }
            let next = at.join(part);
            if pending.is_empty() {
                if chase.stations.is_empty() {
                    chase.before = chase.links.len();
                }
                chase.stations.push(next.clone());
            }
            refuse_kernel(&next)?;
            let meta = fs::symlink_metadata(&next).map_err(|error| gone(path, &next, error))?;
            if !meta.is_symlink() {
                at = next;
                continue;
            }
            let to = fs::read_link(&next).map_err(|error| gone(path, &next, error))?;
            if to.is_absolute() {
                at = PathBuf::from("/");
            }
            let mut ahead = parts(&to);
            ahead.append(&mut pending);
            pending = ahead;
            chase.links.push(Link { path: next, to });
            if chase.links.len() > links_max {
                return Err(RuntimeError::Loop {
                    path: path.to_owned(),
                });
            }
        }
        // A path that ends in `..`, also behind a link, is a folder.
        if chase.stations.last() != Some(&at) {
            chase.stations.clear();
        }
        Ok(chase)
    }

    /// Why a folder cannot be shown as a whole.
    pub(super) fn is_too_wide(&self, prefix: &Path) -> Option<&'static str> {
        let var = Path::new("/var");
        if prefix.components().count() < 3
            || prefix.parent() == Some(var)
            || prefix.starts_with("/etc")
        {
            return Some("it is a folder that the system shares");
        }
        if prefix.parent() == Some(Path::new("/home")) {
            return Some("it is a home");
        }
        if self.cwd.starts_with(prefix) {
            return Some("it holds the workspace");
        }
        let is_ours = |one: &PathBuf| prefix.starts_with(one) || one.starts_with(prefix);
        if self.ours.iter().any(is_ours) {
            return Some("it is a part of the supervisor's own, or holds one");
        }
        let home = self.home.as_ref()?;
        if home.starts_with(prefix) {
            return Some("it is your home, or holds it");
        }
        let holds = |name: &str| {
            let path = home.join(name);
            path.starts_with(prefix) || path.canonicalize().is_ok_and(|p| p.starts_with(prefix))
        };
        if PRIVATE.iter().any(|name| holds(name)) {
            return Some("it holds private parts of your home");
        }
        let inside = |name: &str| prefix.starts_with(home.join(name));
        [".ssh", ".aws", ".gnupg"]
            .iter()
            .any(|name| inside(name))
            .then_some("it lies where your keys are")
    }

    /// Why a single file cannot be shown.
    pub(super) fn is_private(&self, file: &Path) -> Option<&'static str> {
        if self.ours.iter().any(|one| file.starts_with(one)) {
            return Some("it is a part of the supervisor's own");
        }
        let home = self.home.as_ref()?;
        let inside = |name: &str| {
            let path = home.join(name);
            file.starts_with(&path) || path.canonicalize().is_ok_and(|p| file.starts_with(p))
        };
        PRIVATE
            .iter()
            .any(|name| *name != ".local/share" && inside(name))
            .then_some("it lies in a private part of your home")
    }
}

fn parts(path: &Path) -> VecDeque<OsString> {
    path.components()
        .filter_map(|part| match part {
            Component::Normal(name) => Some(name.to_owned()),
            Component::ParentDir => Some("..".into()),
            Component::RootDir | Component::CurDir | Component::Prefix(_) => None,
        })
        .collect()
}

/// Links of /proc are no text, and devices are no programs.
fn refuse_kernel(path: &Path) -> Result<(), RuntimeError> {
    let places = ["/proc", "/sys", "/dev"];
    if places.iter().any(|place| path.starts_with(place)) {
        return Err(RuntimeError::NotRunnable {
            path: path.to_owned(),
            why: "it is the kernel's",
        });
    }
    Ok(())
}

fn gone(path: &Path, reached: &Path, error: io::Error) -> RuntimeError {
    let absent = matches!(
        error.kind(),
        io::ErrorKind::NotFound | io::ErrorKind::NotADirectory
    );
    if absent {
        RuntimeError::Missing {
            path: path.to_owned(),
            reached: reached.to_owned(),
        }
    } else {
        RuntimeError::Unreadable {
            path: reached.to_owned(),
            error,
        }
    }
}

/// Where a path leads, or itself.
pub(super) fn real(path: &Path) -> PathBuf {
    path.canonicalize().unwrap_or_else(|_| path.to_owned())
}

pub(super) fn is_executable(path: &Path) -> bool {
    fs::metadata(path).is_ok_and(|meta| meta.is_file() && meta.permissions().mode() & 0o111 != 0)
}
