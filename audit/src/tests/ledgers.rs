//! Whole logs that are missing, heads that contradict each other, keys, and who may write.

use std::fs;
use std::time::Duration;

use super::damage::private;
use super::world::{World, copy, fill};
use crate::{Error, Head, Keys, Log, Options, Part, State, latest, sweep, verify};

fn run(world: &World, name: &str) {
    let mut log = world.open(name);
    fill(&mut log, 5);
    log.close().unwrap();
}

#[test]
fn a_missing_log_is_found() {
    let world = World::new();
    for name in ["one", "two", "three"] {
        run(&world, name);
    }
    fs::remove_dir_all(world.audit().join("two")).unwrap();
    let report = world.verify();
    assert_eq!(*report.worst(), State::Missing);
    let missing = report.logs.iter().find(|log| log.log == "two").unwrap();
    assert_eq!(missing.state, State::Missing);
    // Its lines cannot be taken out of the ledger.
    let path = world.audit().join("ledger.jsonl");
    let text = fs::read_to_string(&path).unwrap();
    let kept: Vec<&str> = text
        .lines()
        .filter(|line| !line.contains("\"log\":\"two\""))
        .collect();
    fs::write(&path, kept.join("\n") + "\n").unwrap();
    let altered = State::Altered {
        what: Part::Ledger,
        at: 2,
        to: 3,
    };
    assert_eq!(world.verify().ledger, altered);
}

#[test]
fn a_ledger_that_was_cut_or_altered_is_found() {
    let world = World::new();
    run(&world, "one");
    run(&world, "two");
    let path = world.audit().join("ledger.jsonl");
    let whole = fs::read(&path).unwrap();
    for end in 0..whole.len() {
        fs::write(&path, &whole[..end]).unwrap();
        let report = world.verify();
        assert_ne!(*report.worst(), State::Intact, "{end}");
        // Only the very last line may be one that a crash kept from being written.
        let last = whole[..whole.len() - 1]
            .iter()
            .rposition(|byte| *byte == b'\n')
            .unwrap()
            + 1;
        assert!(!report.worst().holds() || end == last, "{end}: {report:?}");
    }
    for offset in 0..whole.len() {
        let mut bytes = whole.clone();
        bytes[offset] ^= 1 << (offset % 8);
        fs::write(&path, bytes).unwrap();
        assert!(!world.verify().ledger.holds(), "{offset}");
    }
}

#[test]
fn a_fork_is_told_from_an_alteration() {
    let world = World::new();
    let mut log = world.open("daemon");
    fill(&mut log, 5);
    log.close().unwrap();
    let past = world.root.join("past");
    copy(&world.audit(), &past);
    run(&world, "daemon");
    let (seen, _) = latest(&world.audit(), "daemon", &world.public()).unwrap();
    // The same user has the key: another history is written under the same name.
    let present = world.root.join("present");
    fs::rename(world.audit(), present).unwrap();
    copy(&past, &world.audit());
    private(&world.audit());
    run(&world, "daemon");
    assert_eq!(world.only().state, State::Intact);
    let report = verify(&world.audit(), &world.public(), std::slice::from_ref(&seen)).unwrap();
    assert_eq!(report.logs[0].state, State::Forked { at: seen.size });
    // A log that was put back to what it was is one that is too short.
    fs::remove_dir_all(world.audit()).unwrap();
    copy(&past, &world.audit());
    let report = verify(&world.audit(), &world.public(), &[seen]).unwrap();
    assert!(matches!(
        report.logs[0].state,
        State::Truncated { found: 7, .. }
    ));
}

#[test]
fn a_key_is_rotated_and_old_heads_stay_verifiable() {
    let world = World::new();
    let mut log = world.open("daemon");
    fill(&mut log, 5);
    log.rotate_key().unwrap();
    fill(&mut log, 5);
    log.close().unwrap();
    let keys = world.public();
    assert_eq!(keys.len(), 2);
    assert_eq!(world.only().state, State::Intact);
    // Another process that still has the old one reads the new one before it makes a third.
    let (mut one, mut two) = (world.keys(), world.keys());
    one.rotate().unwrap();
    two.rotate().unwrap();
    assert_eq!(world.public().len(), 4);
    assert_eq!(two.all().len(), 4);
    assert_eq!(world.only().state, State::Intact);
    // Only the first key is known, and it is not enough.
    let report = verify(&world.audit(), &keys[..1], &[]).unwrap();
    assert!(!report.worst().holds());
    let list = fs::read_to_string(world.root.join("keys/audit.pub")).unwrap();
    let own = Keys::open_or_create(&world.root.join("other")).unwrap();
    let forged = format!("{}{}\n", list, own.public());
    assert!(crate::parse_list(forged.as_bytes()).is_err());
}

#[test]
fn keys_and_folders_are_this_users_alone() {
    use std::os::unix::fs::PermissionsExt;
    let world = World::new();
    run(&world, "one");
    let mode = |path: &str| {
        fs::metadata(world.root.join(path))
            .unwrap()
            .permissions()
            .mode()
            & 0o777
    };
    for dir in ["audit", "audit/one", "audit/one/tile", "keys"] {
        assert_eq!(mode(dir), 0o700, "{dir}");
    }
    for file in ["keys/audit.key", "audit/one/args.key", "audit/ledger.jsonl"] {
        assert_eq!(mode(file), 0o600, "{file}");
    }
    fs::set_permissions(world.audit(), fs::Permissions::from_mode(0o755)).unwrap();
    let open = Log::open(&world.audit(), "two", world.keys(), Options::default());
    assert!(matches!(open, Err(Error::NotOurs { .. })));
}

#[test]
fn links_are_not_followed() {
    let world = World::new();
    run(&world, "one");
    let elsewhere = world.root.join("elsewhere");
    fs::rename(world.audit().join("one"), &elsewhere).unwrap();
    std::os::unix::fs::symlink(&elsewhere, world.audit().join("one")).unwrap();
    assert!(Log::open(&world.audit(), "one", world.keys(), Options::default()).is_err());
    assert_eq!(world.only().state, State::Missing);
    for name in ["..", "a/b", "", ".new-x", "ledger.jsonl"] {
        let open = Log::open(&world.audit(), name, world.keys(), Options::default());
        assert!(matches!(open, Err(Error::Name { .. })), "{name}");
    }
}

#[test]
fn one_process_writes_a_log_and_the_dead_are_swept() {
    let world = World::new();
    let mut live = world.open("live");
    fill(&mut live, 3);
    let busy = Log::open(&world.audit(), "live", world.keys(), Options::default());
    assert!(matches!(busy, Err(Error::Busy { .. })));
    drop(world.open("dead"));
    let keys = || Keys::open_or_create(&world.root.join("keys"));
    sweep(&world.audit(), keys, |name, error| {
        panic!("{name}: {error}")
    })
    .unwrap();
    let report = world.verify();
    let dead = report.logs.iter().find(|log| log.log == "dead").unwrap();
    assert!(dead.closed && matches!(dead.state, State::Gap { .. }));
    let verdict = report.logs.iter().find(|log| log.log == "live").unwrap();
    assert!(verdict.live && matches!(verdict.state, State::Unanchored { .. }));
    live.close().unwrap();
}

#[test]
fn a_head_is_signed_by_a_known_key_or_is_none() {
    let world = World::new();
    run(&world, "one");
    let (head, note) = latest(&world.audit(), "one", &world.public()).unwrap();
    assert_eq!(Head::verified(&note, &world.public()).unwrap(), head);
    let other = Keys::open_or_create(&world.root.join("other")).unwrap();
    assert!(Head::verified(&note, other.all()).is_err());
    for (from, to) in [("\n8\n", "\n9\n"), ("\n\n", "\nmore\n\n"), ("— ", "- ")] {
        let forged = note.replacen(from, to, 1);
        assert!(
            forged == note || Head::verified(&forged, &world.public()).is_err(),
            "{forged}"
        );
    }
}

#[test]
fn old_logs_are_removed_and_the_ledger_says_so() {
    let world = World::new();
    for name in ["one", "two"] {
        run(&world, name);
    }
    let mut open = world.open("open");
    fill(&mut open, 3);
    let prune = |age, dry| crate::prune(&world.audit(), &world.keys(), age, dry).unwrap();
    let day = Duration::from_secs(86_400);
    assert_eq!(prune(day, false), Vec::<String>::new());
    std::thread::sleep(Duration::from_millis(2));
    assert_eq!(prune(Duration::ZERO, true), ["one", "two"]);
    assert_eq!(world.verify().logs.len(), 3);
    let kept = latest(&world.audit(), "two", &world.public()).unwrap().0;
    assert_eq!(prune(Duration::ZERO, false), ["one", "two"]);
    // A head of one that was removed has to be one that the ledger's last head continues.
    let held = |size| {
        let head = Head {
            size,
            ..kept.clone()
        };
        let report = verify(&world.audit(), &world.public(), &[head]).unwrap();
        report.worst().clone()
    };
    assert!(held(kept.size).holds());
    let (found, signed) = (kept.size, kept.size + 1);
    assert_eq!(held(signed), State::Truncated { found, signed });
    assert!(!world.audit().join("one").exists());
    let report = world.verify();
    assert_eq!((report.pruned, report.logs.len()), (2, 1));
    assert!(report.worst().holds());
    open.close().unwrap();
    // Who takes ledger and log away together is found by a head that was kept elsewhere.
    let elsewhere = World::new();
    let kept = {
        run(&elsewhere, "gone");
        latest(&elsewhere.audit(), "gone", &elsewhere.public())
            .unwrap()
            .0
    };
    fs::remove_dir_all(elsewhere.audit()).unwrap();
    run(&elsewhere, "new");
    let report = verify(&elsewhere.audit(), &elsewhere.public(), &[kept]).unwrap();
    assert_eq!(*report.worst(), State::Missing);
    // Killed after the line was written, or on the way.
    fs::rename(world.audit().join("open"), world.audit().join("kept")).unwrap();
    copy(&world.audit().join("kept"), &world.audit().join("open"));
    private(&world.audit().join("open"));
    assert_eq!(prune(Duration::ZERO, false), ["open"]);
    fs::rename(world.audit().join("kept"), world.audit().join(".old-open")).unwrap();
    assert_eq!(prune(Duration::ZERO, false), Vec::<String>::new());
    assert!(!world.audit().join(".old-open").exists());
    assert_eq!(*world.verify().worst(), State::Intact);
    // Whoever only removes the folder is found.
    run(&world, "three");
    fs::remove_dir_all(world.audit().join("three")).unwrap();
    assert_eq!(*world.verify().worst(), State::Missing);
    // And nothing goes where the ledger does not hold.
    run(&world, "four");
    let path = world.audit().join("ledger.jsonl");
    let text = fs::read_to_string(&path).unwrap();
    fs::write(&path, text.replacen("close", "prune", 1)).unwrap();
    let refused = crate::prune(&world.audit(), &world.keys(), Duration::ZERO, false);
    assert!(matches!(refused, Err(Error::Ledger { .. })), "{refused:?}");
}
