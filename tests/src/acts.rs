//! An agent that asks, and does something outside of itself for every answer: what was done is held
//! against the log.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;

use serde_json::Value;

use crate::{Place, compile, sources};

/// Denies what drops something, allows the rest.
pub const POLICY: &str = "version: 1\nname: acts\ndefault: allow\nrules:\n  - name: no-drop\n    \
    match: {action: tool.call, tool: [\"sql.*\"]}\n    when: 'args.query.matches(\"(?i)\\\\bdrop\\\\b\")'\n    \
    verdict: deny\n";

/// Puts the agent and its policy into a place.
pub fn prepare(place: &Place) {
    let workspace = place.dir("ws");
    compile(
        &[sources().join("programs/acts.c")],
        &workspace.join("acts"),
    );
    place.file("policy.yaml", POLICY);
}

/// Its agent.yaml. What it does goes to files named after `tag`, by which its processes are found as well.
#[must_use]
pub fn yaml(name: &str, tag: &str) -> String {
    format!(
        "version: 1\nname: {name}\nring: standard\nworkspace: ./ws\nhome: none\npolicy: [policy.yaml]\n\
         command: [./acts, {tag}, --tag, {tag}]\n"
    )
}

/// What an agent did: for each record that it was told of, whether it was allowed.
pub type Done = BTreeMap<(String, u64), bool>;

/// What the agent of this tag did so far.
#[must_use]
pub fn done(place: &Place, tag: &str) -> Done {
    let mut done = Done::new();
    for (end, allowed) in [("allow", true), ("deny", false)] {
        let text = fs::read_to_string(place.dir.join(format!("ws/{tag}.{end}")));
        let text = text.unwrap_or_default();
        for line in text.lines() {
            let (log, seq) = line.split_once(' ').expect("a log and a number");
            let key = (log.to_owned(), seq.parse().expect("a number"));
            assert!(done.insert(key, allowed).is_none(), "told twice: {line}");
        }
    }
    done
}

/// Fails unless the log has all that was done, with the same verdict.
#[track_caller]
pub fn expect_recorded(place: &Place, done: &Done) {
    let logs: std::collections::BTreeSet<&str> = done.keys().map(|(log, _)| log.as_str()).collect();
    let records: BTreeMap<&str, Vec<Value>> =
        logs.iter().map(|log| (*log, records(place, log))).collect();
    for ((log, seq), allowed) in done {
        let at = usize::try_from(*seq).expect("a small number");
        let record = records[log.as_str()].get(at);
        let record = record
            .unwrap_or_else(|| panic!("record {seq} of {log} had an effect and is not there"));
        assert_eq!(record["seq"], *seq, "{log}");
        let verdict = if *allowed { "allow" } else { "deny" };
        assert_eq!(record["verdict"], verdict, "{log} {seq}: {record}");
    }
}

/// The whole lines of a log as they lie on the disk.
fn records(place: &Place, log: &str) -> Vec<Value> {
    let dir = place.dir.join("state/audit").join(log);
    let mut names: Vec<PathBuf> = fs::read_dir(&dir)
        .expect("the log")
        .flatten()
        .map(|entry| entry.path())
        .filter(|path| path.file_name().is_some_and(|name| name.len() == 26))
        .collect();
    names.sort();
    let text: String = names
        .iter()
        .map(|path| fs::read_to_string(path).expect("UTF-8"))
        .collect();
    let whole = text.rfind('\n').map_or("", |end| &text[..end]);
    whole
        .lines()
        .map(|line| serde_json::from_str(line).expect("a record"))
        .collect()
}

/// Numbers that are spread well enough to choose instants by.
#[derive(Debug)]
pub struct Random(u64);

impl Random {
    /// The same seed, the same numbers.
    #[must_use]
    pub const fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    /// One below `end`.
    pub const fn below(&mut self, end: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % end
    }
}
