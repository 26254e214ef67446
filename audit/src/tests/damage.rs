//! Truncation at every byte, flips of bits, records moved, tiles and heads tampered with.

use std::fs;
use std::path::Path;

use super::world::{World, copy, fill};
use crate::{Action, Entry, Error, Kind, Log, Options, Part, State, Value};

/// A closed log of so many records, open and close among them.
fn closed(records: u64) -> World {
    let world = World::new();
    let mut log = world.open("run");
    fill(&mut log, records - 2);
    log.close().unwrap();
    world
}

const fn record(at: u64) -> State {
    State::Altered {
        what: Part::Record,
        at,
        to: at + 1,
    }
}

#[test]
fn a_cut_at_every_byte_is_found() {
    let world = closed(6);
    let path = world.segment("run");
    let whole = fs::read(&path).unwrap();
    for end in 0..whole.len() {
        fs::write(&path, &whole[..end]).unwrap();
        let found = whole[..end].iter().filter(|byte| **byte == b'\n').count() as u64;
        assert_eq!(
            world.only().state,
            State::Truncated { found, signed: 6 },
            "{end}"
        );
        let again = Log::open(&world.audit(), "run", world.keys(), Options::default());
        assert!(again.is_err(), "{end}");
    }
}

#[test]
fn a_cut_of_what_was_not_signed_is_mended_and_told() {
    let world = World::new();
    let mut log = world.open("run");
    fill(&mut log, 3);
    drop(log);
    let path = world.segment("run");
    let whole = fs::read(&path).unwrap();
    let signed = whole.iter().position(|byte| *byte == b'\n').unwrap() + 1;
    let pristine = world.root.join("pristine");
    copy(&world.audit(), &pristine);
    for end in signed + 1..whole.len() {
        fs::remove_dir_all(world.audit()).unwrap();
        copy(&pristine, &world.audit());
        private(&world.audit());
        fs::write(&path, &whole[..end]).unwrap();
        assert!(
            matches!(world.only().state, State::Unanchored { signed: 1, .. }),
            "{end}"
        );
        world.open("run").close().unwrap();
        let left = whole[..end].iter().filter(|byte| **byte == b'\n').count() as u64;
        assert_eq!(
            world.only().state,
            State::Gap { at: left, gaps: 1 },
            "{end}"
        );
    }
}

/// Copies have the modes of the umask.
pub(crate) fn private(dir: &Path) {
    use std::os::unix::fs::PermissionsExt;
    fs::set_permissions(dir, fs::Permissions::from_mode(0o700)).unwrap();
    for entry in fs::read_dir(dir).unwrap().flatten() {
        if entry.path().is_dir() {
            private(&entry.path());
        }
    }
}

/// Everything, or what fits into an everyday run.
fn long() -> bool {
    std::env::var_os("AGT_LONG").is_some()
}

/// Flips bits of the bytes of one half of a log of so many records; how many.
fn flip(records: u64, half: usize, bits: impl Fn(usize) -> Vec<u8>) -> u64 {
    let world = closed(records);
    let path = world.segment("run");
    let whole = fs::read(&path).unwrap();
    let middle = whole.len() / 2;
    let range = [0..middle, middle..whole.len()][half].clone();
    let before = whole[..range.start].iter();
    let mut at = before.filter(|byte| **byte == b'\n').count() as u64;
    let mut flips = 0;
    for offset in range {
        for bit in bits(offset) {
            assert_named(&world, &path, &whole, (offset, bit), at);
            flips += 1;
        }
        // Its newline belongs to a record too.
        at += u64::from(whole[offset] == b'\n');
    }
    assert!(flips > 0 && (half == 0 || at == records));
    flips
}

fn assert_named(world: &World, path: &Path, whole: &[u8], (offset, bit): (usize, u8), at: u64) {
    use std::os::unix::fs::FileExt;
    let file = fs::OpenOptions::new().write(true).open(path).unwrap();
    file.write_at(&[whole[offset] ^ 1 << bit], offset as u64)
        .unwrap();
    assert_eq!(world.only().state, record(at), "bit {bit} of byte {offset}");
    file.write_at(&[whole[offset]], offset as u64).unwrap();
}

/// Each half in a thread of its own.
fn halves(of: impl Fn(usize) -> u64 + Sync) -> u64 {
    std::thread::scope(|scope| {
        let of = &of;
        let halves = [0, 1].map(|half| scope.spawn(move || of(half)));
        halves.into_iter().map(|half| half.join().unwrap()).sum()
    })
}

#[test]
fn a_flipped_bit_is_found_and_named() {
    let (records, every) = if long() { (200, true) } else { (40, false) };
    let bits = |offset: usize| match every {
        true => (0..8).collect(),
        false => vec![u8::try_from(offset % 8).unwrap()],
    };
    let flips = halves(|half| flip(records, half, bits));
    println!("{flips} bits of {records} records flipped, each found and named");
}

/// Where it is cut: at every byte, a part of the file's length after the other, or at a few.
const PASSES: usize = 16;

#[test]
fn a_cut_of_a_mebibyte_is_found() {
    // A prime: everyday cuts fall anywhere in a line.
    let few = if long() { 1 } else { 16_381 };
    let cuts = halves(|half| {
        let world = World::new();
        let mut log = world.open("run");
        while fs::metadata(world.segment("run")).unwrap().len() < 1 << 20 {
            fill(&mut log, 100);
            if log.next_seq() == 1001 {
                log.checkpoint().unwrap();
            }
        }
        let signed = log.close().unwrap().size;
        let path = world.segment("run");
        let whole = fs::read(&path).unwrap();
        let mut cuts = 0;
        for pass in (half..PASSES).step_by(2) {
            let wanted = |end: &usize| end % PASSES == pass && (end / PASSES).is_multiple_of(few);
            fs::write(&path, &whole).unwrap();
            let file = fs::OpenOptions::new().write(true).open(&path).unwrap();
            let mut found = signed;
            let mut kept = whole.len();
            for end in (0..whole.len()).rev().filter(wanted) {
                let gone = whole[end..kept].iter().filter(|byte| **byte == b'\n');
                (found, kept) = (found - gone.count() as u64, end);
                file.set_len(end as u64).unwrap();
                let state = world.only().state;
                assert_eq!(state, State::Truncated { found, signed }, "{end}");
                cuts += 1;
            }
            if long() {
                eprintln!("{cuts} cuts of {} bytes after pass {pass}", whole.len());
            }
        }
        cuts
    });
    println!("a log of a mebibyte cut at {cuts} bytes, each found and named");
}

#[test]
fn records_that_change_places_are_found() {
    let world = closed(24);
    let path = world.segment("run");
    let whole = fs::read_to_string(&path).unwrap();
    let lines: Vec<&str> = whole.lines().collect();
    let tamper = |lines: &[&str]| {
        fs::write(&path, lines.join("\n") + "\n").unwrap();
        world.only().state
    };
    for one in 0..lines.len() {
        let mut dropped = lines.clone();
        dropped.remove(one);
        let state = tamper(&dropped);
        let last = one + 1 == lines.len();
        assert_eq!(
            matches!(state, State::Truncated { .. }),
            last,
            "{one}: {state:?}"
        );
        assert!(last || state == record(one as u64), "{one}: {state:?}");
        let mut doubled = lines.clone();
        doubled.insert(one, lines[one]);
        assert_eq!(tamper(&doubled), record(one as u64 + 1));
        for other in one + 1..lines.len() {
            let mut swapped = lines.clone();
            swapped.swap(one, other);
            assert_eq!(tamper(&swapped), record(one as u64), "{one} and {other}");
        }
    }
}

/// Whoever has no key can still make the whole chain anew.
#[test]
fn a_chain_made_anew_is_found_and_named() {
    let world = World::new();
    let mut log = world.open("run");
    fill(&mut log, 5);
    log.checkpoint().unwrap();
    fill(&mut log, 5);
    log.close().unwrap();
    let path = world.segment("run");
    let whole = fs::read_to_string(&path).unwrap();
    let mut prev = [0; 32];
    let mut forged = String::new();
    for (at, line) in whole.lines().enumerate() {
        let mut line = line.to_owned();
        if at == 8 {
            line = line.replace("allow", "denyy");
        }
        let start = line.find("\"prev\":\"").unwrap() + 8;
        line.replace_range(start..start + 64, &crate::hex(&prev));
        prev = crate::leaf_hash(line.as_bytes());
        forged += &line;
        forged.push('\n');
    }
    fs::write(&path, forged).unwrap();
    assert_eq!(world.only().state, record(8));
    // Without tiles it is known between which heads.
    fs::remove_dir_all(world.audit().join("run/tile")).unwrap();
    let between = State::Altered {
        what: Part::Record,
        at: 7,
        to: 13,
    };
    assert_eq!(world.only().state, between);
}

#[test]
fn tiles_are_made_again_and_never_trusted() {
    let world = World::new();
    let mut log = world.open("run");
    fill(&mut log, 600);
    log.close().unwrap();
    let tile = world.audit().join("run/tile/0/001");
    let mut bytes = fs::read(&tile).unwrap();
    bytes[40] ^= 1;
    fs::write(&tile, bytes).unwrap();
    let altered = State::Altered {
        what: Part::Tile,
        at: 257,
        to: 258,
    };
    assert_eq!(world.only().state, altered);
    assert!(crate::prove(&world.audit(), "run", 256, &world.public()).is_err());
    world.open("run").close().unwrap();
    assert_eq!(world.only().state, State::Intact);
    fs::remove_dir_all(world.audit().join("run/tile")).unwrap();
    assert_eq!(world.only().state, State::Intact);
    world.open("run").close().unwrap();
    assert!(crate::prove(&world.audit(), "run", 256, &world.public()).is_ok());
}

#[test]
fn a_list_of_heads_that_was_tampered_with_is_found() {
    let world = closed(5);
    let path = world.audit().join("run/checkpoints.jsonl");
    let whole = fs::read(&path).unwrap();
    for offset in 0..whole.len() {
        let mut bytes = whole.clone();
        bytes[offset] ^= 1 << (offset % 8);
        fs::write(&path, bytes).unwrap();
        let state = world.only().state;
        assert!(!state.holds(), "{offset}: {state:?}");
    }
    fs::remove_file(&path).unwrap();
    assert!(!world.only().state.holds());
}

#[test]
fn what_was_signed_is_never_written_on_again_once_it_was_altered() {
    let world = closed(20);
    let path = world.segment("run");
    let text = fs::read_to_string(&path).unwrap();
    fs::write(&path, text.replacen("researcher", "researchee", 1)).unwrap();
    match Log::open(&world.audit(), "run", world.keys(), Options::default()) {
        Err(Error::Altered { at: 1, .. }) => {}
        other => panic!("{other:?}"),
    }
}

#[test]
fn segments_follow_each_other() {
    let world = World::new();
    let options = Options {
        segment_bytes: 4096,
        ..Options::default()
    };
    let mut log = world.open_with("run", options);
    fill(&mut log, 100);
    drop(log);
    let mut log = world.open_with("run", options);
    fill(&mut log, 100);
    log.close().unwrap();
    assert_eq!(world.only().state, State::Gap { at: 101, gaps: 1 });
    let mut names: Vec<_> = fs::read_dir(world.audit().join("run"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.to_string_lossy().contains("/0000"))
        .collect();
    names.sort();
    assert!(names.len() > 10, "{names:?}");
    fs::remove_file(&names[3]).unwrap();
    assert!(matches!(world.only().state, State::Altered { .. }));
    for name in &names[3..] {
        let _gone = fs::remove_file(name);
    }
    assert!(matches!(
        world.only().state,
        State::Truncated { signed: 204, .. }
    ));
}

#[test]
fn what_is_too_long_is_shortened_and_what_cannot_be_is_no_record() {
    let world = World::new();
    let mut log = world.open("run");
    let names: Vec<String> = (0..64)
        .map(|at| format!("{at}{}", "\u{202e}".repeat(4000)))
        .collect();
    let counters: Vec<(&str, u64)> = names.iter().map(|name| (name.as_str(), 1)).collect();
    // Shortened, with its digest.
    let entry = Entry::new(Kind::Decision).counters(&counters);
    let _ = log.append(&entry).unwrap();
    let texts: Vec<&str> = names.iter().map(String::as_str).collect();
    let fields: Vec<_> = texts
        .iter()
        .map(|name| (*name, Value::List(&texts)))
        .collect();
    let entry = Entry::new(Kind::Decision).action(Action::new("x").fields(&fields));
    assert!(matches!(log.append(&entry), Err(Error::TooLong)));
    log.close().unwrap();
    assert_eq!(world.only().state, State::Gap { at: 2, gaps: 1 });
    let text = fs::read_to_string(world.segment("run")).unwrap();
    assert!(text.contains("[sha256:") && !text.contains('\u{202e}'));
}
