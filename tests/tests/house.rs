//! The rules of the house: who may import whom, where `unsafe` lives, how small ringd stays.

#![expect(clippy::disallowed_methods, reason = "asks cargo")]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

fn root() -> &'static Path {
    outside::sources().parent().expect("the workspace")
}

fn metadata() -> Value {
    let output = Command::new(env!("CARGO"))
        .args([
            "metadata",
            "--format-version",
            "1",
            "--locked",
            "--filter-platform",
            "x86_64-unknown-linux-gnu",
        ])
        .current_dir(root())
        .output()
        .expect("cargo metadata");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
    serde_json::from_slice(&output.stdout).expect("JSON")
}

/// Names of the packages of ours that each package of ours may name, tests aside.
const MAY_IMPORT: [(&str, &[&str]); 11] = [
    ("agt-audit", &[]),
    ("agt-names", &[]),
    ("agt-egress", &["agt-names"]),
    ("agt-jail", &[]),
    ("agt-plan", &["agt-jail"]),
    ("agt-sys", &["agt-jail"]),
    ("agt-yaml", &[]),
    ("agt-policy", &["agt-names", "agt-yaml"]),
    ("agt-profiles", &["agt-names", "agt-plan", "agt-yaml"]),
    ("agt-ringd", &["agt-jail", "agt-plan", "agt-sys"]),
    (
        "agt-supervisor",
        &[
            "agt-audit",
            "agt-audit",
            "agt-egress",
            "agt-jail",
            "agt-names",
            "agt-plan",
            "agt-policy",
            "agt-sys",
            "agt-profiles",
            "agt-ringd",
        ],
    ),
];

#[test]
fn imports_only_go_down() {
    let metadata = metadata();
    for package in metadata["packages"].as_array().unwrap() {
        let name = package["name"].as_str().unwrap();
        let Some((_, may)) = MAY_IMPORT.iter().find(|(known, _)| *known == name) else {
            continue;
        };
        for dependency in package["dependencies"].as_array().unwrap() {
            let to = dependency["name"].as_str().unwrap();
            let test_only = dependency["kind"] == "dev";
            assert!(
                !to.starts_with("agt-") || test_only || may.contains(&to),
                "{name} may not import {to}"
            );
        }
    }
}

/// Everything that a package pulls in for a normal build.
fn tree(metadata: &Value, package: &str) -> BTreeSet<String> {
    let names: BTreeMap<&str, &str> = metadata["packages"]
        .as_array()
        .unwrap()
        .iter()
        .map(|package| {
            (
                package["id"].as_str().unwrap(),
                package["name"].as_str().unwrap(),
            )
        })
        .collect();
    let nodes: BTreeMap<&str, &Value> = metadata["resolve"]["nodes"]
        .as_array()
        .unwrap()
        .iter()
        .map(|node| (node["id"].as_str().unwrap(), node))
        .collect();
    let start = names.iter().find(|(_, name)| **name == package).unwrap().0;
    let (mut open, mut seen) = (vec![*start], BTreeSet::new());
    while let Some(id) = open.pop() {
        if !seen.insert(id) {
            continue;
        }
        for dependency in nodes[id]["deps"].as_array().unwrap() {
            let kinds = dependency["dep_kinds"].as_array().unwrap();
            if kinds.iter().any(|kind| kind["kind"].is_null()) {
                open.push(dependency["pkg"].as_str().unwrap());
            }
        }
    }
    seen.into_iter().map(|id| names[id].to_owned()).collect()
}

#[test]
fn ringd_stays_tiny() {
    let tree = tree(&metadata(), "agt-ringd");
    assert!(tree.len() <= 15, "{tree:?}");
    for never in [
        "tokio",
        "serde",
        "serde_json",
        "saphyr-parser",
        "clap",
        "agt-profiles",
    ] {
        assert!(!tree.contains(never), "{never} is in ringd's tree");
    }
}

fn sources(dir: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(dir).unwrap().flatten() {
        let path = entry.path();
        let name = entry.file_name().to_string_lossy().into_owned();
        if path.is_dir() && name != "target" && !name.starts_with('.') {
            sources(&path, found);
        } else if name.ends_with(".rs") {
            found.push(path);
        }
    }
}

/// The one call outside the fence: it clones a ring.
const ONE_CALL: &str = "ringd/src/launch.rs";

#[test]
fn unsafe_stays_behind_its_fence() {
    let mut files = Vec::new();
    sources(root(), &mut files);
    for file in files {
        let name = file
            .strip_prefix(root())
            .unwrap()
            .to_string_lossy()
            .into_owned();
        if name.starts_with("ringd/sys/")
            || name.starts_with("ringd/jail/")
            || name.ends_with("house.rs")
        {
            continue;
        }
        let text = fs::read_to_string(&file).unwrap();
        let code = |line: &&str| !line.trim_start().starts_with("//");
        let blocks = text
            .lines()
            .filter(code)
            .filter(|line| line.contains("unsafe {"))
            .count();
        assert_eq!(blocks, usize::from(name == ONE_CALL), "{name}");
        if name.ends_with("src/lib.rs") && name != "ringd/src/lib.rs" {
            assert!(text.contains("#![forbid(unsafe_code)]"), "{name}");
        }
    }
}

#[test]
fn every_safety_note_names_a_fact() {
    let mut files = Vec::new();
    sources(&root().join("ringd"), &mut files);
    for file in files {
        let text = fs::read_to_string(&file).unwrap();
        for line in text
            .lines()
            .filter(|line| line.trim_start().starts_with("// SAFETY:"))
        {
            let note = line.split("SAFETY:").nth(1).unwrap().trim();
            assert!(note.len() > 20, "{}: {note}", file.display());
            assert!(
                !note.contains("is valid.") && !note.contains("safe because"),
                "{note}"
            );
        }
    }
}

#[test]
fn nothing_of_this_machine_is_in_the_tree() {
    let mut files = Vec::new();
    sources(root(), &mut files);
    for file in files {
        let text = fs::read_to_string(&file).unwrap();
        let own = root().to_string_lossy().into_owned();
        assert!(!text.contains(&own) || own.len() < 6, "{}", file.display());
    }
}

#[test]
fn every_expected_success_is_in_the_document() {
    let document = fs::read_to_string(root().join("docs/ESCAPES.md")).unwrap();
    for ring in 1..=3 {
        let path = outside::sources().join(format!("escape/expect/ring{ring}.txt"));
        for line in fs::read_to_string(path)
            .unwrap()
            .lines()
            .filter(|line| !line.starts_with('#'))
        {
            let mut parts = line.split('\t');
            let (name, reason) = (parts.next().unwrap(), parts.nth(1).unwrap());
            assert!(
                document.contains(&format!("| `{name}` | {reason} |")),
                "{name}"
            );
        }
    }
}
