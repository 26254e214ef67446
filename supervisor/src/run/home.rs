//! The agent's home: a folder of its own, and never the caller's.
//!
//! A private home belongs to one agent by name, and holds what it was trusted with (logins, keys,
//! settings). A file from elsewhere that merely uses the same name does not get it: the folders whose
//! agent.yaml may are written down beside it.

use std::fs;
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use profiles::Home;

use super::Request;
use super::grant::Grant;
use super::ids::Identity;
use crate::error::Failed;
use crate::places;

/// Where a home is inside.
pub(crate) const INSIDE: &str = "/home/agent";
/// HOME where there is none.
const NONE: &str = "/tmp";

/// What HOME is in one run.
#[derive(Debug)]
pub(crate) enum Place {
    /// The ring's own /tmp.
    Scratch,
    /// An empty tmpfs.
    Temporary,
    /// A folder of the host that only this agent is given.
    Kept(Grant),
}

impl Place {
    /// HOME inside.
    pub(crate) fn inside(&self) -> &'static str {
        match self {
            Place::Scratch => NONE,
            Place::Temporary | Place::Kept(_) => INSIDE,
        }
    }
}

/// Makes or finds the home of this run. `share` lets this agent.yaml in where others already are.
pub(crate) fn prepare(
    request: &Request,
    identity: &Identity,
    share: bool,
) -> Result<Place, Failed> {
    let folder = match folder(request) {
        Kind::Place(place) => return Ok(place),
        Kind::Kept(folder) => folder,
    };
    let failed = Failed::call("the agent's home");
    let home = folder.join("home");
    let made = (|| {
        places::private_dir(&folder)?;
        let base = request.base.canonicalize()?;
        claim(&folder, &base, share)?;
        match fs::DirBuilder::new().mode(0o700).create(&home) {
            Ok(()) if rustix::process::geteuid().is_root() => {
                std::os::unix::fs::chown(&home, Some(identity.uid), Some(identity.gid))?;
            }
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error.into()),
            Ok(()) | Err(_) => {}
        }
        Ok(())
    })();
    match made {
        Ok(()) => {}
        Err(Refused::Io(error)) => {
            let what = format!(
                "{}: {error}; name another place with AGT_STATE_DIR, or write `home: temporary`",
                folder.display()
            );
            return Err(failed(io::Error::new(error.kind(), what)));
        }
        Err(Refused::Claimed(by)) => {
            return Err(Failed::HomeOfOthers {
                agent: request.ring.name.clone(),
                by,
            });
        }
    }
    kept(&home)
}

/// The home as `check` sees it: nothing is made.
pub(crate) fn look(request: &Request) -> Result<Place, Failed> {
    match folder(request) {
        Kind::Place(place) => Ok(place),
        Kind::Kept(folder) if folder.join("home").is_dir() => kept(&folder.join("home")),
        Kind::Kept(_) => Ok(Place::Temporary),
    }
}

fn kept(home: &Path) -> Result<Place, Failed> {
    Grant::find(home, true)
        .map(Place::Kept)
        .map_err(Failed::grant("home"))
}

enum Kind {
    Place(Place),
    Kept(PathBuf),
}

fn folder(request: &Request) -> Kind {
    match (request.ring.home, &request.file) {
        (Home::None, _) => Kind::Place(Place::Scratch),
        // A command without a file is no agent that has anything to keep.
        (Home::Temporary, _) | (Home::Private, None) => Kind::Place(Place::Temporary),
        (Home::Private, Some(_)) => Kind::Kept(places::homes_dir().join(&request.ring.name)),
    }
}

enum Refused {
    Io(io::Error),
    Claimed(String),
}

impl From<io::Error> for Refused {
    fn from(error: io::Error) -> Self {
        Refused::Io(error)
    }
}

/// Writes down that this folder's agent.yaml uses the home, unless it belongs to others.
fn claim(folder: &Path, base: &Path, share: bool) -> Result<(), Refused> {
    let claims = folder.join("claims");
    let known = match fs::read_to_string(&claims) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => String::new(),
        Err(error) => return Err(error.into()),
    };
    // One JSON string a line: a path may hold anything. What is no text is told apart byte by byte.
    let line = match base.to_str() {
        Some(text) => serde_json::Value::from(text).to_string(),
        None => format!("{base:?}"),
    };
    if known.lines().any(|one| one == line) {
        return Ok(());
    }
    if let Some(first) = known.lines().next().filter(|_| !share) {
        return Err(Refused::Claimed(first.to_owned()));
    }
    let next = folder.join("claims.new");
    fs::write(&next, format!("{known}{line}\n"))?;
    fs::rename(&next, &claims)?;
    Ok(())
}
