//! Rules about files that mounts can keep, whether an agent asks or not: about reading or writing a file,
//! or everything below a folder, and nothing else.

use std::path::{Path, PathBuf};

use crate::glob::Piece;
use crate::pattern::{Field, FieldMatch, Pattern};
use crate::{ActionKind, Policy, Rule, Verdict};

/// A place that a rule speaks about.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct FilePlace {
    /// Absolute.
    pub path: PathBuf,
    /// The folder and everything below it; else one file.
    pub tree: bool,
}

/// Kinds that a mount tells apart.
const KINDS: [ActionKind; 2] = [ActionKind::FsRead, ActionKind::FsWrite];

/// Whether a document says anything about files: one that does not leaves them to the ring.
#[must_use]
pub fn speaks_of_files(policy: &Policy) -> bool {
    let about = |rule: &Rule| {
        // A rule about everything is about files only when it says where they are.
        let path = || rule.matches.iter().any(|one| one.field == Field::Path);
        let kinds = KINDS.iter().any(|kind| rule.kinds.contains(*kind));
        kinds && (rule.kinds != crate::Kinds::ALL || path())
    };
    policy.rules.iter().any(about)
}

/// The places of a document's rules, for reading and writing.
#[must_use]
pub fn file_places(policy: &Policy) -> Vec<FilePlace> {
    let about = |rule: &&Rule| KINDS.iter().any(|kind| rule.kinds.contains(*kind));
    let mut all: Vec<FilePlace> = policy
        .rules
        .iter()
        .filter(about)
        .filter_map(places)
        .flatten()
        .collect();
    all.sort();
    all.dedup();
    all
}

/// Whether mounts keep this rule, as far as it is about this kind.
pub(crate) fn is_kept(rule: &Rule, kind: ActionKind) -> bool {
    // A label is put on, and an action flagged, by whoever decides, and a mount does not.
    let silent = rule.labels.is_empty() && rule.verdict != Some(Verdict::Audit);
    KINDS.contains(&kind) && silent && places(rule).is_some()
}

/// The places of a rule that speaks of nothing but places, and always. Agent and ring stay what they are for as
/// long as the mounts do.
fn places(rule: &Rule) -> Option<Vec<FilePlace>> {
    let says = rule
        .verdict
        .is_some_and(|verdict| verdict != Verdict::Escalate);
    let stays = |one: &&FieldMatch| matches!(one.field, Field::Agent | Field::Ring);
    let mut others = rule.matches.iter().filter(|one| !stays(one));
    let (path, more) = (others.next()?, others.next());
    let plain = says && rule.conditions.is_empty() && rule.limit.is_none();
    if !plain || path.field != Field::Path || more.is_some() {
        return None;
    }
    path.any.iter().map(place).collect()
}

fn place(pattern: &Pattern) -> Option<FilePlace> {
    let (text, tree) = match pattern {
        Pattern::Exact(text) => (&**text, false),
        Pattern::Glob(glob) => match glob.pieces() {
            [Piece::Text(text), Piece::Tree] => (&**text, true),
            _ => return None,
        },
        Pattern::Base(_)
        | Pattern::Name(_)
        | Pattern::Range(_)
        | Pattern::AnyHost
        | Pattern::Ports(..) => return None,
    };
    let path = Path::new(text);
    path.is_absolute().then(|| FilePlace {
        path: path.to_owned(),
        tree,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Enforcer, Variables, enforced_by};

    fn policy(rule: &str) -> Policy {
        let text = format!("version: 1\nname: p\nrules:\n  - {{name: r, {rule}}}\n");
        Policy::parse("p.yaml", text.as_bytes(), &Variables::default()).unwrap()
    }

    #[test]
    fn only_what_a_mount_can_keep_is_the_kernels() {
        for (rule, kept) in [
            ("match: {action: fs.read, path: /a/**}, verdict: deny", true),
            (
                "match: {action: [fs.read, fs.write], path: [/a, /b/**]}, verdict: allow",
                true,
            ),
            (
                "match: {action: fs.read, path: '**/.env'}, verdict: deny",
                false,
            ),
            (
                "match: {action: fs.read, path: /a/*.key}, verdict: deny",
                false,
            ),
            (
                "match: {action: fs.delete, path: /a/**}, verdict: deny",
                false,
            ),
            (
                "match: {action: fs.read, path: /a/**}, verdict: escalate",
                false,
            ),
            (
                "match: {action: fs.read, path: /a/**}, verdict: deny, when: 'true'",
                false,
            ),
            (
                "match: {action: fs.read, path: /a/**, agent: x, ring: standard}, verdict: deny",
                true,
            ),
            (
                "match: {action: fs.read, path: /a/**, session: x}, verdict: deny",
                false,
            ),
            (
                "match: {action: fs.read, path: /a/**}, verdict: allow, labels: {add: [x]}",
                false,
            ),
            (
                "match: {action: [fs.read, tool.call], path: /a/**}, verdict: deny",
                false,
            ),
        ] {
            let policy = policy(rule);
            let kernel = enforced_by(&policy.rules[0]) == Enforcer::Kernel;
            assert_eq!(kernel, kept, "{rule}");
        }
    }

    #[test]
    fn a_document_without_files_leaves_them_to_the_ring() {
        assert!(!speaks_of_files(&policy(
            "match: {action: tool.call, tool: x}, verdict: deny"
        )));
        assert!(!speaks_of_files(&policy(
            "match: {agent: x}, verdict: deny"
        )));
        let policy = policy("match: {action: fs.read, path: [/b/**, /a]}, verdict: allow");
        assert!(speaks_of_files(&policy));
        let places: Vec<(String, bool)> = file_places(&policy)
            .into_iter()
            .map(|place| (place.path.display().to_string(), place.tree))
            .collect();
        assert_eq!(places, [("/a".into(), false), ("/b".into(), true)]);
    }
}
