//! All that is mounted of the user's files, in the order in which it lies on each other: grants,
//! folders that are held at their place, what stays as it is, what is hidden.
//!
//! A grant below `~/` is seen a second time in the agent's home. What is narrower, held or hidden in it
//! has to be so there too, so the same stack is built at both places.

use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};

use super::grant::Grant;
use super::home::Place;
use super::root::Root;
use super::trees::Trees;

/// A folder of the host and where it is seen.
struct Seen {
    host: PathBuf,
    inside: PathBuf,
}

impl Seen {
    /// Where something in it is seen.
    fn of(&self, path: &Path) -> Option<PathBuf> {
        let below = path.strip_prefix(&self.host).ok()?;
        // Joining nothing would leave a slash at the end.
        Some(match below.as_os_str().is_empty() {
            true => self.inside.clone(),
            false => self.inside.join(below),
        })
    }
}

/// The user's files and what is special about some of them.
#[derive(Clone, Copy)]
pub(super) struct Stack<'a> {
    /// Sorted, the wider of two first.
    pub(super) grants: &'a [Grant],
    /// Files and folders that stay as they are.
    pub(super) fixed: &'a [PathBuf],
    pub(super) hidden: &'a [PathBuf],
}

/// The grant that lies on top at this path.
pub(super) fn on_top<'a>(grants: &'a [Grant], path: &Path) -> Option<&'a Grant> {
    grants
        .iter()
        .rev()
        .find(|grant| path.starts_with(&grant.path))
}

impl Stack<'_> {
    /// Writes all of it down.
    pub(super) fn lay(
        self,
        root: &mut Root,
        home: &Place,
        trees: &mut Trees<'_>,
    ) -> io::Result<()> {
        let own = self.own()?;
        let granted = self.grants.iter().map(|grant| (grant, true));
        let mut all: Vec<(&Grant, bool)> = granted
            .chain(own.iter().map(|grant| (grant, false)))
            .collect();
        all.sort_by(|(a, _), (b, _)| (&a.path, b.write).cmp(&(&b.path, a.write)));
        let seen = self.seen(home);
        let mut laid = BTreeSet::new();
        for (nth, seen) in seen.iter().enumerate() {
            for (index, (grant, is_granted)) in all.iter().enumerate() {
                let Some(at) = seen.of(&grant.path) else {
                    continue;
                };
                if !laid.insert((at.clone(), index)) {
                    continue;
                }
                match (is_granted, nth) {
                    (true, 0) => root.grant(grant)?,
                    (true, _) => root.grant_at(&at, grant, trees.again(grant)?)?,
                    (false, _) => root.cover(&at, grant.write, trees.again(grant)?)?,
                }
            }
        }
        let hidden = self.hidden.iter();
        let places: BTreeSet<PathBuf> = hidden
            .flat_map(|path| seen.iter().filter_map(|seen| seen.of(path)))
            .collect();
        places.iter().try_for_each(|place| root.hide(place))
    }

    /// The host's own places first.
    fn seen(&self, home: &Place) -> Vec<Seen> {
        let whole = Seen {
            host: "/".into(),
            inside: "/".into(),
        };
        let second = |grant: &Grant| {
            let below = grant.below_home.as_ref()?;
            (!below.as_os_str().is_empty()).then(|| Seen {
                host: grant.path.clone(),
                inside: Path::new(home.inside()).join(below),
            })
        };
        std::iter::once(whole)
            .chain(self.grants.iter().filter_map(second))
            .collect()
    }

    /// What is mounted on itself: the fixed, read-only, and every folder of a writable grant down to
    /// something fixed or hidden, so that it cannot be moved out of the way.
    fn own(&self) -> io::Result<Vec<Grant>> {
        let find = |path: &Path, write| {
            let mut grant = Grant::find(path, write).map_err(io::Error::other)?;
            if let Some(within) = on_top(self.grants, path) {
                // Owners look the same on both sides.
                grant.owner = within.owner;
            }
            Ok::<_, io::Error>(grant)
        };
        let mut held = BTreeSet::new();
        for path in self.fixed.iter().chain(self.hidden) {
            let is_held = |dir: &&Path| {
                on_top(self.grants, dir).is_some_and(|grant| grant.write && grant.path != **dir)
            };
            held.extend(path.ancestors().skip(1).filter(is_held));
        }
        let held = held.into_iter().map(|dir| find(dir, true));
        held.chain(self.fixed.iter().map(|path| find(path, false)))
            .collect()
    }
}
