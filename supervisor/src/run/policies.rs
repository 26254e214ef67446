//! The policies of a run: the site's, its ring's and its own, in this order. Each has to let an action
//! go ahead, so none can take back what another says.

use std::fs::File;
use std::io::Read;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use policy::{Policy, Variables};
use profiles::{At, PathWish, Ring};

use super::ground::expand;
use crate::error::Failed;
use crate::places;

/// Policies, and one hash over all of them.
#[derive(Debug)]
pub(crate) struct Loaded {
    pub(crate) policies: Vec<Policy>,
    pub(crate) hash: String,
    /// The same without that of the ring: what holds for the agent in every ring.
    pub(crate) shared: String,
}

/// Reads and checks all of them; one that is wrong starts nothing.
pub(crate) fn load(ring: &Ring, base: &Path, workspace: &Path) -> Result<Loaded, Failed> {
    let variables = Variables {
        workspace: workspace.to_str().map(str::to_owned),
    };
    let mut texts: Vec<(String, Vec<u8>)> = profiles::site_files(&places::policies_dir(), 0)?;
    let built_in = profiles::ring_policy(ring.number);
    let built_in_at = texts.len();
    texts.push((
        format!("policy of ring {}", ring.number),
        built_in.as_bytes().to_vec(),
    ));
    for (path, wish) in own(ring, base)? {
        let bytes = read(&path).map_err(|error| Failed::PolicyFile {
            path: path.clone(),
            origin: wish.origin.clone(),
            error,
        })?;
        texts.push((path.to_string_lossy().into_owned(), bytes));
    }
    let (mut all, mut shared) = (Vec::new(), Vec::new());
    let mut policies = Vec::new();
    for (at, (file, bytes)) in texts.into_iter().enumerate() {
        policies.extend(Policy::parse(&file, &bytes, &variables)?.parts());
        let digest = audit::leaf_hash(&bytes);
        all.extend_from_slice(&digest);
        if at != built_in_at {
            shared.extend_from_slice(&digest);
        }
    }
    Ok(Loaded {
        policies,
        hash: audit::hex(&audit::leaf_hash(&all)),
        shared: audit::hex(&audit::leaf_hash(&shared)),
    })
}

/// The agent's own policies that are there, and the wish that named each.
pub(super) fn own<'a>(
    ring: &'a Ring,
    base: &Path,
) -> Result<Vec<(PathBuf, &'a At<PathWish>)>, Failed> {
    let mut own = Vec::new();
    for wish in &ring.policy {
        let path = expand(base, wish)?;
        match path.metadata() {
            Ok(_) => own.push((path, wish)),
            Err(_) if wish.value.optional => {}
            Err(error) => {
                let origin = wish.origin.clone();
                return Err(Failed::PolicyFile {
                    path,
                    origin,
                    error,
                });
            }
        }
    }
    Ok(own)
}

/// The bytes of a policy: of a file that ends, without waiting for anybody.
pub(crate) fn read(path: &Path) -> std::io::Result<Vec<u8>> {
    // Not blocking on a FIFO that nobody writes to.
    let flags = i32::try_from(rustix::fs::OFlags::NONBLOCK.bits()).unwrap_or(0);
    let file = File::options().read(true).custom_flags(flags).open(path)?;
    if !file.metadata()?.is_file() {
        return Err(std::io::Error::other("it is not a file"));
    }
    let mut bytes = Vec::new();
    file.take(policy::FILE_BYTES_MAX as u64 + 1)
        .read_to_end(&mut bytes)?;
    Ok(bytes)
}
