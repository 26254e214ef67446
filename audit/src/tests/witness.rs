//! A log, its witness, and what is done to both.

use std::fs;
use std::sync::Barrier;
use std::thread;

use super::world::{World, copy, fill};
use crate::{
    Cosigned, Cosigner, Error, Head, PublicKey, Refusal, State, Witness, keep, notes, offer,
    verify, witnessed,
};

impl World {
    fn witness(&self) -> Witness {
        Witness::open_or_create(&self.root.join("witness")).unwrap()
    }

    fn offered(&self, old: Option<u64>) -> String {
        offer(&self.audit(), "run", &self.public(), None, old).unwrap()
    }

    /// The whole way: offered, cosigned, kept.
    fn cosign(&self) -> Cosigned {
        let (witness, keys) = (self.witness(), self.public());
        let line = witness.add_checkpoint(&self.offered(None), &keys).unwrap();
        keep(&self.audit(), "run", &keys, witness.key(), &line).unwrap()
    }

    fn kept(&self, witness: &Cosigner) -> Option<Cosigned> {
        witnessed(&self.audit(), witness).unwrap().remove("run")
    }

    /// What the logs are when they are held to what the witness itself knows.
    fn held_to_witness(&self) -> State {
        let witness = self.witness();
        let heads: Vec<Head> = witness
            .heads(&[])
            .unwrap()
            .iter()
            .map(|note| Cosigned::verified(note, witness.key()).unwrap().head)
            .collect();
        let report = verify(&self.audit(), &self.public(), &heads).unwrap();
        report.worst().clone()
    }
}

fn refused(answer: Result<String, Error>) -> Refusal {
    match answer {
        Err(Error::Refused(refusal)) => refusal,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_log_is_cosigned_as_it_grows() {
    let world = World::new();
    let mut log = world.open("run");
    let mut last = 0;
    // Past a tile's edge, and twice at the same head.
    for more in [0, 1, 250, 0, 700, 3] {
        fill(&mut log, more);
        let head = log.checkpoint().unwrap();
        let cosigned = world.cosign();
        assert_eq!(cosigned.head, head);
        assert!(cosigned.seconds >= last);
        last = cosigned.seconds;
        assert_eq!(world.kept(world.witness().key()), Some(cosigned));
        let again = world.cosign();
        assert_eq!(again.head, head);
    }
    log.close().unwrap();
    assert_eq!(world.held_to_witness(), State::Intact);
    // Another witness's key finds nothing in it.
    let other = World::new().witness();
    assert_eq!(world.kept(other.key()), None);
}

#[test]
fn a_head_signed_since_the_offer_does_not_matter() {
    let world = World::new();
    let (witness, keys) = (world.witness(), world.public_of_new_log());
    let mut log = world.open("run");
    fill(&mut log, 10);
    let head = log.checkpoint().unwrap();
    let line = witness.add_checkpoint(&world.offered(None), &keys).unwrap();
    fill(&mut log, 10);
    log.checkpoint().unwrap();
    let cosigned = keep(&world.audit(), "run", &keys, witness.key(), &line).unwrap();
    assert_eq!(cosigned.head, head);
    // Lines of others, and none of its own: nothing is kept.
    let none = keep(&world.audit(), "run", &keys, witness.key(), "— x AAAA\n");
    assert!(matches!(none, Err(Error::Malformed { .. })));
}

impl World {
    fn public_of_new_log(&self) -> Vec<PublicKey> {
        self.keys().all().to_vec()
    }
}

#[test]
fn a_reply_that_was_lost_is_asked_for_again() {
    let world = World::new();
    let (witness, keys) = (world.witness(), world.public_of_new_log());
    let mut log = world.open("run");
    fill(&mut log, 10);
    log.checkpoint().unwrap();
    let lost = witness.add_checkpoint(&world.offered(None), &keys);
    assert!(lost.is_ok());
    fill(&mut log, 10);
    let head = log.checkpoint().unwrap();
    let told = refused(witness.add_checkpoint(&world.offered(None), &keys));
    assert_eq!(told, Refusal::Conflict { known: 12, old: 0 });
    let line = witness.add_checkpoint(&world.offered(Some(12)), &keys);
    let cosigned = keep(&world.audit(), "run", &keys, witness.key(), &line.unwrap());
    assert_eq!(cosigned.unwrap().head, head);
}

#[test]
fn a_log_that_was_rolled_back_is_not_cosigned() {
    let world = World::new();
    let mut log = world.open("run");
    fill(&mut log, 10);
    log.close().unwrap();
    let past = world.root.join("past");
    copy(&world.audit(), &past);
    let mut log = world.open("run");
    fill(&mut log, 10);
    log.close().unwrap();
    let seen = world.cosign().head.size;
    // All of the folder is what it was: nothing in it tells.
    fs::remove_dir_all(world.audit()).unwrap();
    copy(&past, &world.audit());
    super::damage::private(&world.audit());
    assert_eq!(*world.verify().worst(), State::Intact);
    let (witness, keys) = (world.witness(), world.public());
    let told = refused(witness.add_checkpoint(&world.offered(None), &keys));
    assert_eq!(
        told,
        Refusal::Conflict {
            known: seen,
            old: 0
        }
    );
    assert!(offer(&world.audit(), "run", &keys, None, Some(seen)).is_err());
    let smaller = world.offered(None).replace("old 0", &format!("old {seen}"));
    let told = refused(witness.add_checkpoint(&smaller, &keys));
    assert_eq!(
        told,
        Refusal::Smaller {
            old: seen,
            size: 12
        }
    );
    assert_eq!(
        world.held_to_witness(),
        State::Truncated {
            found: 12,
            signed: seen
        }
    );
}

/// With the log's own key another history is signed after a cosignature.
#[test]
fn a_log_that_was_written_anew_is_not_cosigned_and_found() {
    for (before, after) in [(10, 9), (10, 10), (10, 300), (300, 301)] {
        let world = World::new();
        let mut log = world.open("run");
        fill(&mut log, before);
        log.close().unwrap();
        let seen = world.cosign();
        let kept = fs::read(world.audit().join("run/witness.jsonl")).unwrap();
        fs::remove_dir_all(world.audit()).unwrap();
        let mut log = world.open("run");
        fill(&mut log, after);
        log.close().unwrap();
        // It holds, says its own key.
        assert_eq!(*world.verify().worst(), State::Intact);
        assert_eq!(world.kept(world.witness().key()), None);
        let old = seen.head.size;
        if after >= before {
            let (witness, keys) = (world.witness(), world.public());
            let told = refused(witness.add_checkpoint(&world.offered(Some(old)), &keys));
            let forked = Refusal::Forked { size: old };
            let size = after + 2;
            let inconsistent = Refusal::Inconsistent { old, size };
            assert_eq!(told, if size == old { forked } else { inconsistent });
        }
        assert!(!world.held_to_witness().holds());
        // Where the cosignature was left beside the log, that tells as well.
        fs::write(world.audit().join("run/witness.jsonl"), kept).unwrap();
        assert_eq!(world.kept(world.witness().key()), Some(seen.clone()));
        let report = verify(&world.audit(), &world.public(), &[seen.head]).unwrap();
        assert!(!report.worst().holds());
    }
}

#[test]
fn only_known_logs_with_their_signature_are_cosigned() {
    let world = World::new();
    let mut log = world.open("run");
    fill(&mut log, 3);
    log.checkpoint().unwrap();
    let (witness, keys) = (world.witness(), world.public());
    let asked = world.offered(None);
    let stranger = World::new().keys();
    let told = refused(witness.add_checkpoint(&asked, stranger.all()));
    assert_eq!(told, Refusal::Unknown);
    let (text, _) = asked.rsplit_once('—').unwrap();
    let told = refused(witness.add_checkpoint(text, &keys));
    assert_eq!(told, Refusal::Unsigned);
    for wrong in ["", "old 00\n\n", "old 1\n", "old 0\nAAAA\n\n"] {
        let asked = asked.replacen("old 0\n\n", wrong, 1);
        let answer = witness.add_checkpoint(&asked, &keys);
        assert!(matches!(answer, Err(Error::Malformed { .. })), "{wrong:?}");
    }
    let padded = asked.replacen("old 0\n", &format!("old 0\n{}=\n", "A".repeat(43)), 1);
    let told = refused(witness.add_checkpoint(&padded, &keys));
    assert_eq!(told, Refusal::Inconsistent { old: 0, size: 5 });
    assert_eq!(witness.heads(&[]).unwrap(), Vec::<String>::new());
    assert!(witness.add_checkpoint(&asked, &keys).is_ok());
    let heads = witness.heads(&keys).unwrap();
    assert_eq!(notes(&heads.join("\n")), heads);
    assert!(Head::verified(&heads[0], &keys).is_ok());
    assert_eq!(witness.heads(stranger.all()).unwrap(), Vec::<String>::new());
}

/// C2SP's race: both are checked, the larger is kept, and then the smaller.
#[test]
fn of_two_at_once_the_smaller_never_comes_last() {
    let world = World::new();
    let mut log = world.open("run");
    let keys = world.public();
    for _ in 0..25 {
        let mut asked = Vec::new();
        for more in [1, 5] {
            fill(&mut log, more);
            let size = log.checkpoint().unwrap().size;
            asked.push((size, world.offered(None)));
        }
        let barrier = Barrier::new(asked.len());
        let ask = |asked: &str| {
            let witness = world.witness();
            barrier.wait();
            witness.add_checkpoint(asked, &keys).ok()
        };
        let mut cosigned = Vec::new();
        thread::scope(|scope| {
            let asks: Vec<_> = asked
                .iter()
                .map(|(size, asked)| (size, scope.spawn(|| ask(asked))))
                .collect();
            for (size, answer) in asks {
                if let Some(line) = answer.join().unwrap() {
                    let key = world.witness().key().clone();
                    keep(&world.audit(), "run", &keys, &key, &line).unwrap();
                    cosigned.push(*size);
                }
            }
        });
        // Both began at the same size: one of them was too late.
        assert_eq!(cosigned.len(), 1);
        let notes = world.witness().heads(&keys).unwrap();
        let head = Head::verified(&notes[0], &keys).unwrap();
        assert_eq!(head.size, cosigned[0]);
    }
}

#[test]
fn a_witness_that_lost_what_it_knew_does_not_speak_under_its_key() {
    let world = World::new();
    let mut log = world.open("run");
    fill(&mut log, 10);
    log.close().unwrap();
    let seen = world.cosign();
    let folder = world.root.join("witness");
    let first = world.witness().key().clone();
    let open = || Witness::open_or_create(&folder);
    // The heads, the key, one bit of a head.
    let aside = world.root.join("aside");
    for part in ["seen", "witness.key"] {
        fs::rename(folder.join(part), &aside).unwrap();
        assert!(matches!(open(), Err(Error::Key { .. })), "{part}");
        fs::rename(&aside, folder.join(part)).unwrap();
    }
    let file = fs::read_dir(folder.join("seen")).unwrap().next();
    let file = file.unwrap().unwrap().path();
    let whole = fs::read(&file).unwrap();
    for at in 0..whole.len() {
        let mut bytes = whole.clone();
        bytes[at] ^= 2;
        fs::write(&file, bytes).unwrap();
        if world.witness().heads(&[]).is_ok() {
            // The log's own signature: the witness's does not cover it.
            continue;
        }
        let answer = world
            .witness()
            .add_checkpoint(&world.offered(Some(0)), &world.public());
        assert!(matches!(answer, Err(Error::Key { .. })), "{at}");
    }
    fs::write(&file, whole).unwrap();
    assert_eq!(world.witness().heads(&[]).unwrap().len(), 1);
    // All of it: it is another witness. What the first one said still holds.
    fs::remove_dir_all(&folder).unwrap();
    let second = world.witness();
    assert_ne!(*second.key(), first);
    let asked = offer(
        &world.audit(),
        "run",
        &world.public(),
        Some(second.key()),
        None,
    );
    let asked = asked.unwrap();
    assert!(asked.starts_with("old 0\n"));
    let line = second.add_checkpoint(&asked, &world.public()).unwrap();
    keep(&world.audit(), "run", &world.public(), second.key(), &line).unwrap();
    assert_eq!(world.kept(&first), Some(seen));
    assert_eq!(world.kept(second.key()).unwrap().head.size, 12);
}

#[test]
fn a_rotated_key_goes_on_with_the_same_log() {
    let world = World::new();
    let mut log = world.open("run");
    fill(&mut log, 3);
    log.checkpoint().unwrap();
    world.cosign();
    log.rotate_key().unwrap();
    fill(&mut log, 3);
    let head = log.close().unwrap();
    let (witness, keys) = (world.witness(), world.public());
    let told = refused(witness.add_checkpoint(&world.offered(None), &keys[..1]));
    assert_eq!(told, Refusal::Unsigned);
    assert_eq!(world.cosign().head, head);
}

#[test]
fn a_line_that_was_cut_short_costs_only_itself() {
    let world = World::new();
    let mut log = world.open("run");
    fill(&mut log, 3);
    log.close().unwrap();
    let first = world.cosign();
    let path = world.audit().join("run/witness.jsonl");
    let whole = fs::read(&path).unwrap();
    fs::write(&path, [&whole[..], &whole[..40]].concat()).unwrap();
    assert_eq!(world.kept(world.witness().key()).unwrap().head, first.head);
    let again = world.cosign();
    assert_eq!(world.kept(world.witness().key()), Some(again));
    assert_eq!(fs::read_to_string(&path).unwrap().lines().count(), 3);
}
