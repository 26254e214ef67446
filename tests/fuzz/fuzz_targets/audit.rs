//! Any bytes as the records, the signed heads and the ledger of a log: verified, shown and proved without
//! a panic, and never called intact unless they are what was signed.
#![no_main]

use std::path::PathBuf;
use std::sync::LazyLock;

use audit::{Entry, Filter, Keys, Kind, Log, Options, PublicKey, State};
use libfuzzer_sys::fuzz_target;

struct World {
    dir: PathBuf,
    keys: Vec<PublicKey>,
    files: [(PathBuf, Vec<u8>); 3],
}

static WORLD: LazyLock<World> = LazyLock::new(|| {
    let root = std::env::temp_dir().join(format!("agt-fuzz-audit-{}", std::process::id()));
    std::fs::create_dir_all(&root).expect("a folder");
    let keys = Keys::open_or_create(&root.join("keys")).expect("keys");
    let dir = root.join("audit");
    let mut log = Log::open(&dir, "run", keys, Options::default()).expect("a log");
    for _ in 0..3 {
        drop(log.append(&Entry::new(Kind::Decision)).expect("a record"));
    }
    log.close().expect("closed");
    let keys = audit::read_list(&root.join("keys")).expect("keys");
    let names = ["run/00000000000000000000.jsonl", "run/checkpoints.jsonl", "ledger.jsonl"];
    let files = names.map(|name| (dir.join(name), std::fs::read(dir.join(name)).expect("a file")));
    World { dir, keys, files }
});

fuzz_target!(|input: (u8, u16, u16, Vec<u8>)| {
    let world = &*WORLD;
    let (which, from, cut, bytes) = input;
    let (path, whole) = &world.files[usize::from(which) % 3];
    // A part of the file is replaced.
    let from = usize::from(from) % (whole.len() + 1);
    let to = (from + usize::from(cut)).min(whole.len());
    let tampered = [&whole[..from], &bytes, &whole[to..]].concat();
    std::fs::write(path, &tampered).expect("written");
    let report = audit::verify(&world.dir, &world.keys, &[]).expect("verified");
    let intact = report.worst() == &State::Intact;
    assert!(!intact || tampered == *whole || tampered.starts_with(whole), "{report:?}");
    for record in audit::show(&world.dir, "run", Filter::default()).expect("shown").flatten() {
        assert!(!record.text().contains(|char: char| char.is_control()));
        drop(audit::cloud_event("run", &record));
    }
    if let Ok(proof) = audit::prove(&world.dir, "run", 1, &world.keys) {
        assert!(proof.holds(&world.keys));
    }
    std::fs::write(path, whole).expect("put back");
});
