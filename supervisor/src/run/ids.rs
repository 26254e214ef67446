//! Whom the agent runs as. Never root, whoever asks.

use std::io;
use std::path::PathBuf;

use crate::places::{self, Lock};

/// The agent's ids, and by what right it has them.
#[derive(Debug)]
pub(crate) struct Identity {
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    pub(crate) origin: Origin,
}

#[derive(Debug)]
pub(crate) enum Origin {
    /// The ordinary user who runs the supervisor; their supplementary groups stay (the kernel lets
    /// no ordinary user drop them in a user namespace).
    Requester,
    /// The user who became root with sudo.
    Sudo,
    /// A uid that belongs to nobody, held for as long as the run lives.
    Dynamic(Lock),
}

/// The range that systemd uses for its dynamic users too: no account lies in it.
const DYNAMIC: std::ops::RangeInclusive<u32> = 61184..=65519;

impl Identity {
    /// Decides whom an agent of this name runs as.
    pub(crate) fn choose(agent: &str) -> io::Result<Self> {
        let uid = rustix::process::geteuid();
        if !uid.is_root() {
            let gid = rustix::process::getegid().as_raw();
            return Ok(Self {
                uid: uid.as_raw(),
                gid,
                origin: Origin::Requester,
            });
        }
        // sudo's word is only used to become less than root.
        let sudo = |name| {
            std::env::var(name)
                .ok()?
                .parse::<u32>()
                .ok()
                .filter(|id| *id != 0)
        };
        if let (Some(uid), Some(gid)) = (sudo("SUDO_UID"), sudo("SUDO_GID")) {
            return Ok(Self {
                uid,
                gid,
                origin: Origin::Sudo,
            });
        }
        Self::dynamic(agent)
    }

    /// The same agent gets the same uid again when it is free, so that it owns what it wrote.
    pub(crate) fn dynamic(agent: &str) -> io::Result<Self> {
        let dir: PathBuf = places::run_dir().join("uids");
        places::private_dir(&dir)?;
        let size = DYNAMIC.end() - DYNAMIC.start() + 1;
        let start = fnv1a(agent) % size;
        for offset in 0..size {
            let uid = DYNAMIC.start() + (start + offset) % size;
            if let Some(lock) = Lock::try_take(&dir.join(uid.to_string()))? {
                return Ok(Self {
                    uid,
                    gid: uid,
                    origin: Origin::Dynamic(lock),
                });
            }
        }
        Err(io::Error::other("every dynamic uid is in use"))
    }

    pub(crate) fn lock(&self) -> Option<&Lock> {
        match &self.origin {
            Origin::Dynamic(lock) => Some(lock),
            Origin::Requester | Origin::Sudo => None,
        }
    }

    /// The run is over: the uid is free again.
    pub(crate) fn release(self) -> io::Result<()> {
        match self.origin {
            Origin::Dynamic(lock) => std::fs::remove_file(&lock.path),
            Origin::Requester | Origin::Sudo => Ok(()),
        }
    }
}

/// FNV-1a, 32 bits: spreads names over the range; no secret depends on it.
fn fnv1a(text: &str) -> u32 {
    text.bytes().fold(0x811c_9dc5, |hash, byte| {
        (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193)
    })
}
