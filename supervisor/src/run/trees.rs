//! Root's grants may lie where the agent's uid cannot walk: they come as trees that root detached.
//! An ordinary user's are mounted by their paths.

use std::io;
use std::os::fd::{AsFd, OwnedFd};

use jail::Ids;
use plan::Source;

use super::grant::Grant;
use super::home::Place;
use super::ids::Identity;

/// The detached trees of one run, in the order in which the plan names them.
#[derive(Debug)]
pub(crate) struct Trees<'a> {
    identity: &'a Identity,
    is_root: bool,
    pub(crate) fds: Vec<OwnedFd>,
}

impl<'a> Trees<'a> {
    pub(crate) fn new(identity: &'a Identity) -> Self {
        Self {
            identity,
            is_root: rustix::process::geteuid().is_root(),
            fds: Vec::new(),
        }
    }

    /// From now on grants and home come by descriptor, where that is needed.
    pub(crate) fn detach(&mut self, grants: &mut [Grant], home: &mut Place) -> io::Result<()> {
        let kept = match home {
            Place::Kept(grant) => Some(grant),
            Place::Scratch | Place::Temporary => None,
        };
        if !self.is_root {
            return Ok(());
        }
        for grant in grants.iter_mut().chain(kept) {
            let index = self.add(grant)?;
            grant.detached(index);
        }
        Ok(())
    }

    /// One more source of the same object, to be mounted a second time.
    pub(crate) fn again(&mut self, grant: &Grant) -> io::Result<Source> {
        if !self.is_root {
            return Ok(grant.source());
        }
        self.add(grant).map(Source::Detached)
    }

    fn add(&mut self, grant: &Grant) -> io::Result<u16> {
        let index = u16::try_from(self.fds.len()).map_err(io::Error::other)?;
        self.fds.push(tree(grant, self.identity)?);
        Ok(index)
    }
}

/// A detached tree of a grant. Where the agent writes as another user than the owner, its files
/// become the owner's by an id-mapped mount; the owner is never root.
fn tree(grant: &Grant, identity: &Identity) -> io::Result<OwnedFd> {
    let agent = Ids {
        uid: identity.uid,
        gid: identity.gid,
    };
    let tree = sys::mount::clone_tree(grant.open()?.as_fd())?;
    if grant.write && grant.owner.uid != agent.uid {
        let map = sys::process::mapped_namespace(grant.owner, agent)?;
        sys::mount::set_attributes(tree.as_fd(), sys::mount::IDMAP, Some(map.as_fd()))?;
    }
    Ok(tree)
}
