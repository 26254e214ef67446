//! The published vectors: a log, its proofs and what was done to it, with what has to be found.
//! A key of random bytes that nobody else has signs them, so they are made once and then held:
//! `AGT_VECTORS=write cargo test -p agt-audit vectors` makes them anew.

#![expect(
    clippy::disallowed_methods,
    reason = "asks the verifier that others have"
)]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::damage::private;
use super::world::{World, copy, fill};
use crate::{Filter, cloud_event, parse_list, prove, show, verify};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/vectors/audit")
}

/// A name, and what is done to a folder of logs.
type Tampered = (&'static str, fn(&Path));

/// What is done to a log, and what is then found.
const TAMPERED: [Tampered; 8] = [
    ("record-altered", |dir| {
        edit(
            &dir.join("run/00000000000000000000.jsonl"),
            "researcher",
            "researchee",
        )
    }),
    ("record-removed", |dir| {
        drop_line(&dir.join("run/00000000000000000000.jsonl"), 3)
    }),
    ("truncated", |dir| {
        let path = dir.join("run/00000000000000000000.jsonl");
        let text = fs::read(&path).unwrap();
        fs::write(path, &text[..text.len() - 700]).unwrap();
    }),
    ("tile-altered", |dir| {
        let name = fs::read_dir(dir.join("run/tile/0/000.p"))
            .unwrap()
            .next()
            .unwrap()
            .unwrap();
        let mut bytes = fs::read(name.path()).unwrap();
        bytes[70] ^= 4;
        fs::write(name.path(), bytes).unwrap();
    }),
    ("checkpoint-altered", |dir| {
        edit(
            &dir.join("run/checkpoints.jsonl"),
            "\"size\":",
            "\"size\":1",
        )
    }),
    ("log-missing", |dir| {
        fs::remove_dir_all(dir.join("run")).unwrap()
    }),
    ("ledger-altered", |dir| {
        edit(&dir.join("ledger.jsonl"), "\"close\"", "\"open\"")
    }),
    ("ledger-cut", |dir| drop_line(&dir.join("ledger.jsonl"), 2)),
];

fn edit(path: &Path, from: &str, to: &str) {
    let text = fs::read_to_string(path).unwrap();
    let edited = text.replacen(from, to, 1);
    assert_ne!(text, edited);
    fs::write(path, edited).unwrap();
}

fn drop_line(path: &Path, at: usize) {
    let text = fs::read_to_string(path).unwrap();
    let mut lines: Vec<&str> = text.lines().collect();
    lines.remove(at);
    fs::write(path, lines.join("\n") + "\n").unwrap();
}

/// Makes them, all but the secret key and the reserve; the keys of arguments are disclosed.
fn write(root: &Path) {
    let world = World::new();
    let mut log = world.open("run");
    fill(&mut log, 4);
    log.checkpoint().unwrap();
    log.rotate_key().unwrap();
    fill(&mut log, 4);
    log.close().unwrap();
    drop(world.open("crashed"));
    let mut log = world.open("crashed");
    fill(&mut log, 2);
    log.close().unwrap();
    let _left = fs::remove_dir_all(root);
    copy(&world.audit(), &root.join("audit"));
    for log in ["run", "crashed"] {
        fs::remove_file(root.join("audit").join(log).join("reserve")).unwrap();
    }
    fs::copy(world.root.join("keys/audit.pub"), root.join("audit.pub")).unwrap();
    for seq in [0, 3, 8] {
        let proof = prove(&world.audit(), "run", seq, &world.public()).unwrap();
        fs::write(root.join(format!("proof-{seq}.json")), proof.json() + "\n").unwrap();
        let forged =
            proof
                .json()
                .replacen("\\\"verdict\\\":\\\"allow", "\\\"verdict\\\":\\\"denyy", 1);
        if forged != proof.json() {
            fs::write(root.join(format!("proof-{seq}-forged.json")), forged + "\n").unwrap();
        }
    }
    let events = show(&world.audit(), "run", Filter::default()).unwrap();
    let events = events.map(|record| cloud_event("run", &record.unwrap()).unwrap() + "\n");
    fs::write(root.join("cloudevents.jsonl"), events.collect::<String>()).unwrap();
    fs::write(root.join("expected.txt"), found(root)).unwrap();
}

/// What is found in the log and in each thing done to it.
fn found(root: &Path) -> String {
    let keys = parse_list(&fs::read(root.join("audit.pub")).unwrap()).unwrap();
    let mut out = String::new();
    let untouched: Tampered = ("untouched", |_| {});
    for (name, tamper) in std::iter::once(&untouched).chain(&TAMPERED) {
        let world = World::new();
        copy(&root.join("audit"), &world.audit());
        private(&world.audit());
        tamper(&world.audit());
        let report = verify(&world.audit(), &keys, &[]).unwrap();
        out += &format!("{name}: ledger {}", report.ledger);
        for log in report.logs {
            out += &format!("; {} {}", log.log, log.state);
        }
        out.push('\n');
    }
    out
}

#[test]
fn vectors_are_fresh() {
    if std::env::var_os("AGT_VECTORS").is_some_and(|value| value == "write") {
        write(&root());
    }
    assert_eq!(
        found(&root()),
        fs::read_to_string(root().join("expected.txt")).unwrap()
    );
    // What is written now has the same shape.
    let world = World::new();
    write(&world.root.join("vectors"));
    let shape = |root: &Path| fs::read_to_string(root.join("expected.txt")).unwrap();
    let times = |text: String| -> Vec<String> {
        let words = text.split(' ').filter(|word| !word.starts_with("20"));
        words.map(str::to_owned).collect()
    };
    assert_eq!(
        times(shape(&world.root.join("vectors"))),
        times(shape(&root()))
    );
}

#[test]
fn the_verifier_of_others_agrees() {
    let script = root().join("../../../clients/python/agt_verify.py");
    let keys = fs::read_to_string(root().join("audit.pub")).unwrap();
    let keys: Vec<&str> = keys
        .lines()
        .map(|line| line.split(' ').next().unwrap())
        .collect();
    let check = |file: &str, key: &str| {
        let mut command = Command::new("python3");
        command.arg(&script).arg(root().join(file)).arg(key);
        command.output().unwrap().status.code()
    };
    for file in ["proof-0.json", "proof-3.json", "proof-8.json"] {
        assert_eq!(check(file, keys[1]), Some(0), "{file}");
        assert_eq!(check(file, keys[0]), Some(1), "{file} by the old key");
    }
    for file in ["proof-3-forged.json", "proof-8-forged.json"] {
        assert_eq!(check(file, keys[1]), Some(1), "{file}");
    }
    assert_eq!(check("expected.txt", keys[1]), Some(2));
}
