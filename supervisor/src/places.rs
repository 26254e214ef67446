//! Where things are kept (DESIGN section 13), and run folders that say who is alive.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock};

/// The folder for what lives as long as the machine is up: `/run/agt` for root,
/// `$XDG_RUNTIME_DIR/agt` for a user, and where there is none, below the user's state folder.
pub(crate) fn run_dir() -> PathBuf {
    if rustix::process::geteuid().is_root() {
        return PathBuf::from("/run/agt");
    }
    match std::env::var_os("XDG_RUNTIME_DIR").filter(|dir| !dir.is_empty()) {
        Some(dir) => absolute(Path::new(&dir)).join("agt"),
        None => state_dir().join("run"),
    }
}

/// The folder for what survives: `AGT_STATE_DIR`, else `/var/lib/agt` for root, else
/// `$XDG_STATE_HOME/agt`, else `~/.local/state/agt`.
pub(crate) fn state_dir() -> PathBuf {
    let var = |name| {
        std::env::var_os(name)
            .filter(|value| !value.is_empty())
            .map(|value| absolute(Path::new(&value)))
    };
    if let Some(dir) = var("AGT_STATE_DIR") {
        return dir;
    }
    if rustix::process::geteuid().is_root() {
        return PathBuf::from("/var/lib/agt");
    }
    let home = || {
        var("HOME")
            .unwrap_or_else(|| PathBuf::from("/"))
            .join(".local/state")
    };
    var("XDG_STATE_HOME").unwrap_or_else(home).join("agt")
}

/// A relative one would be compared with the absolute path of a grant before it exists.
fn absolute(path: &Path) -> PathBuf {
    std::path::absolute(path).unwrap_or_else(|_| path.to_owned())
}

/// The agents' homes.
pub(crate) fn homes_dir() -> PathBuf {
    state_dir().join("homes")
}

/// The folder of site profiles.
pub(crate) fn rings_dir() -> PathBuf {
    PathBuf::from("/etc/agt/rings.d")
}

/// The folder of site policies.
pub(crate) fn policies_dir() -> PathBuf {
    PathBuf::from("/etc/agt/policies.d")
}

/// Where logs and keys are kept.
pub(crate) fn audit_dir() -> PathBuf {
    state_dir().join("audit")
}

/// The keys that sign the logs.
pub(crate) fn keys_dir() -> PathBuf {
    state_dir().join("keys")
}

/// The sockets by which whoever started live runs, and root, reach them. They are nobody else's.
pub(crate) fn control_dir() -> io::Result<PathBuf> {
    let dir = run_dir().join("control");
    private_dir(&dir)?;
    if rustix::process::geteuid().is_root() {
        fs::set_permissions(run_dir(), fs::Permissions::from_mode(0o711))?;
        fs::set_permissions(&dir, fs::Permissions::from_mode(0o700))?;
    }
    Ok(dir)
}

/// The sockets by which anybody reaches root's runs, to answer what waits for them; each run decides who that
/// is. A user's runs have none.
pub(crate) const APPROVERS_DIR: &str = "/run/agt/approvers";

/// Makes that folder; only root does.
pub(crate) fn approvers_dir() -> io::Result<PathBuf> {
    let dir = PathBuf::from(APPROVERS_DIR);
    private_dir(&dir)?;
    fs::set_permissions(&dir, fs::Permissions::from_mode(0o755))?;
    Ok(dir)
}

/// Folders of ours that no agent may write beneath.
pub(crate) fn ours() -> Vec<PathBuf> {
    let mut ours = vec![run_dir(), state_dir(), PathBuf::from("/etc/agt")];
    if let Ok(exe) = std::env::current_exe() {
        ours.push(exe);
    }
    ours
}

/// Makes a folder that is ours alone (0700), with its parents.
pub(crate) fn private_dir(path: &Path) -> io::Result<()> {
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path)?;
    let meta = fs::symlink_metadata(path)?;
    let mine = meta.is_dir() && meta.uid() == rustix::process::geteuid().as_raw();
    if mine && meta.mode() & 0o022 == 0 {
        Ok(())
    } else {
        Err(io::Error::new(
            io::ErrorKind::PermissionDenied,
            format!(
                "{} must be a folder of this user that nobody else may write",
                path.display()
            ),
        ))
    }
}

/// A file that is locked for as long as anybody holds this description of it.
#[derive(Debug)]
pub(crate) struct Lock {
    pub(crate) file: File,
    pub(crate) path: PathBuf,
}

impl Lock {
    /// Takes the lock; `None` when somebody else holds it.
    pub(crate) fn try_take(path: &Path) -> io::Result<Option<Self>> {
        let mut options = fs::OpenOptions::new();
        options
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600);
        let file = options.custom_flags(libc_nofollow()).open(path)?;
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(rustix::io::Errno::WOULDBLOCK) => return Ok(None),
            Err(errno) => return Err(errno.into()),
        }
        // The name may have been removed by its last holder between the open and the lock.
        match fs::symlink_metadata(path) {
            Ok(meta) if meta.ino() == file.metadata()?.ino() => Ok(Some(Self {
                file,
                path: path.to_owned(),
            })),
            _ => Ok(None),
        }
    }
}

impl Lock {
    /// Makes a file that nobody has seen unlocked: it is locked under another name, in a folder
    /// that is not swept, and moved to its own.
    pub(crate) fn make(path: &Path, staging: &Path) -> io::Result<Self> {
        private_dir(staging)?;
        let name = path.file_name().unwrap_or_default();
        let staged = Self::try_take(&staging.join(name))?.ok_or(io::ErrorKind::AlreadyExists)?;
        fs::rename(&staged.path, path)?;
        Ok(Self {
            path: path.to_owned(),
            ..staged
        })
    }
}

fn libc_nofollow() -> i32 {
    i32::try_from(rustix::fs::OFlags::NOFOLLOW.bits()).unwrap_or(0)
}
