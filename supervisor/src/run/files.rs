//! What policies say about files, as mounts: grants get narrower, never wider.
//!
//! Every place that a rule names, and every grant itself, is asked about once, as the policies stand when
//! the run starts. What may not be read is not there, what may not be written is read-only. What depends on
//! more than a place (conditions, labels, patterns) is decided where the agent asks.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use policy::{
    Action, ActionKind, Engine, FilePlace, Limits, Policy, Scratch, Verdict, file_places,
    speaks_of_files,
};
use profiles::Ring;

use super::governor::now_ms;
use super::grant::Grant;
use crate::error::Failed;

/// What the ring sees of the user's files, once policies have spoken.
#[derive(Debug, Default)]
pub(super) struct Narrowed {
    pub(super) grants: Vec<Grant>,
    /// To be hidden, and what says so.
    pub(super) hidden: Vec<(PathBuf, String)>,
    /// To be read-only in a grant that is not.
    pub(super) fixed: Vec<PathBuf>,
    /// What was taken away, for the banner.
    pub(super) said: Vec<String>,
}

/// Asks the documents that speak of files.
struct Judge {
    engine: Engine,
    scratch: Scratch,
    agent: String,
    ring: String,
    now: u64,
}

impl Judge {
    /// What may be done with a place, and who said no.
    fn may(&mut self, path: &Path) -> (Access, String) {
        let (read, who) = self.allows(ActionKind::FsRead, path);
        if !read {
            return (Access::None, who);
        }
        match self.allows(ActionKind::FsWrite, path) {
            (true, _) => (Access::Write, String::new()),
            (false, who) => (Access::Read, who),
        }
    }

    fn allows(&mut self, kind: ActionKind, path: &Path) -> (bool, String) {
        // A name that is no text can be in no rule, and nothing lets it through.
        let text = path.to_string_lossy();
        let Ok(action) = Action::draft(kind).with("path", &*text).build() else {
            return (false, "it is no path that a policy can speak of".into());
        };
        let action = action.by(&self.agent, &self.ring).at(self.now, &[]);
        let mut limits = Limits::default();
        let said = self.engine.decide(&action, &mut limits, &mut self.scratch);
        let (policy, rule) = (said.policy.unwrap_or(""), said.rule);
        let who = match rule {
            Some(rule) => format!("rule {rule} of policy {policy}"),
            None => format!("the default of policy {policy}"),
        };
        (matches!(said.verdict, Verdict::Allow | Verdict::Audit), who)
    }
}

/// What may be done with a place, the least first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Access {
    None,
    Read,
    Write,
}

/// Holds grants against policies.
pub(super) fn narrow(
    ring: &Ring,
    workspace: &Path,
    grants: Vec<Grant>,
    policies: &[Policy],
) -> Result<Narrowed, Failed> {
    let speaking = policies.iter().filter(|policy| speaks_of_files(policy));
    let speaking: Vec<Policy> = speaking.cloned().collect();
    if speaking.is_empty() {
        return Ok(Narrowed {
            grants,
            ..Narrowed::default()
        });
    }
    let mut places: Vec<FilePlace> = speaking.iter().flat_map(file_places).collect();
    places.sort();
    places.dedup();
    let engine = Engine::new(speaking);
    let mut judge = Judge {
        scratch: engine.scratch(),
        engine,
        agent: ring.name.clone(),
        ring: ring.ring.clone(),
        now: now_ms().unwrap_or(0),
    };
    let mut narrowed = Narrowed::default();
    for grant in grants {
        narrowed.one(grant, workspace, &places, &mut judge)?;
    }
    narrowed
        .grants
        .sort_by(|a, b| (&a.path, b.write).cmp(&(&b.path, a.write)));
    narrowed.said.dedup();
    Ok(narrowed)
}

impl Narrowed {
    fn one(
        &mut self,
        mut grant: Grant,
        workspace: &Path,
        places: &[FilePlace],
        judge: &mut Judge,
    ) -> Result<(), Failed> {
        let wanted = access(grant.write);
        let (may, who) = judge.may(&grant.path);
        let has = may.min(wanted);
        let (top, shown) = (grant.path.clone(), grant.path.display().to_string());
        if has == Access::None && top == workspace {
            return Err(Failed::Unreadable { path: top, who });
        }
        if has < wanted {
            let what = if has == Access::None {
                "not seen"
            } else {
                "read-only"
            };
            self.said.push(format!("{shown} is {what}: {who}"));
        }
        grant.write = has == Access::Write;
        let is_dir = grant.is_dir;
        if has > Access::None {
            self.grants.push(grant);
        }
        // Sorted: what is above comes before what is in it.
        let mut above = vec![(top.clone(), has)];
        let inside = places
            .iter()
            .filter(|place| is_dir && place.path != top && place.path.starts_with(&top));
        for place in inside {
            let Some(real) = there(place) else {
                let (may, who) = judge.may(&place.path);
                if may < wanted {
                    let (shown, why) = (place.path.display(), not_there(&place.path));
                    self.said
                        .push(format!("{shown} is not held: {why} ({who})"));
                }
                continue;
            };
            let around = above.iter().rev().find(|(path, _)| real.starts_with(path));
            let around = around.map_or(Access::None, |(_, access)| *access);
            let (may, who) = judge.may(&real);
            let has = may.min(wanted);
            if has == around {
                continue;
            }
            // Within something hidden nothing is shown again.
            if self.hidden.iter().any(|(path, _)| real.starts_with(path)) {
                continue;
            }
            let shown = real.display();
            match has {
                Access::None => {
                    refuse_linked(&real, &who)?;
                    self.said.push(format!("{shown} is not seen: {who}"));
                    if let Some(file) = linked_in(&real) {
                        let file = file.display();
                        self.said.push(format!(
                            "{file} has other hard links, by which it may still be seen"
                        ));
                    }
                    self.hidden.push((real.clone(), who));
                }
                Access::Read if around == Access::Write => {
                    refuse_linked(&real, &who)?;
                    self.said.push(format!("{shown} is read-only: {who}"));
                    self.fixed.push(real.clone());
                }
                Access::Read | Access::Write => {
                    let write = has == Access::Write;
                    self.grants
                        .push(Grant::find(&real, write).map_err(Failed::grant(&who))?);
                }
            }
            above.push((real, has));
        }
        Ok(())
    }
}

fn access(write: bool) -> Access {
    if write { Access::Write } else { Access::Read }
}

/// The place as it is on this host: what is not there, or is a link, is nothing that a mount can keep.
fn there(place: &FilePlace) -> Option<PathBuf> {
    let meta = fs::symlink_metadata(&place.path).ok()?;
    let fits = if place.tree {
        meta.is_dir() || meta.is_file()
    } else {
        meta.is_file()
    };
    let real = place.path.canonicalize().ok()?;
    (fits && real == place.path).then_some(real)
}

/// Why a mount cannot keep a place.
fn not_there(path: &Path) -> &'static str {
    match path.canonicalize() {
        Err(_) => "it does not exist, and is not held when it is made",
        Ok(real) if real != path => "a link leads to it; name what it leads to",
        Ok(_) => "it is neither a file nor a folder, or not the one that the rule names",
    }
}

/// Files of a hidden folder that are looked at.
const LOOKED_AT_MAX: usize = 10_000;

/// The first file found in there that has another name, which may lead to it from outside.
fn linked_in(top: &Path) -> Option<PathBuf> {
    let (mut folders, mut left) = (vec![top.to_owned()], LOOKED_AT_MAX);
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).ok()?.flatten() {
            left = left.checked_sub(1)?;
            match entry.metadata() {
                Ok(meta) if meta.is_dir() => folders.push(entry.path()),
                Ok(meta) if meta.is_file() && meta.nlink() > 1 => return Some(entry.path()),
                Ok(_) | Err(_) => {}
            }
        }
    }
    None
}

/// A file that has another name stays readable by that.
fn refuse_linked(path: &Path, who: &str) -> Result<(), Failed> {
    let linked = fs::symlink_metadata(path).is_ok_and(|meta| meta.is_file() && meta.nlink() > 1);
    if !linked {
        return Ok(());
    }
    Err(Failed::Deny {
        path: path.to_owned(),
        origin: who.to_owned(),
        why: "it has other hard links, by which it stays what it was; remove them",
    })
}
