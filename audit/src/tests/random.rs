//! Whatever is appended: it verifies, is proved, and is one line that is safe to print.

use proptest::prelude::*;

use super::consistency::{grown, proof};
use super::world::World;
use crate::request::Request;
use crate::tree::{path, range, root_of};
use crate::{
    Action, Entry, Head, Kind, LINE_BYTES_MAX, State, Tree, Value, Witness, leaf_hash, prove, shown,
};

proptest! {
    #![proptest_config(ProptestConfig { cases: 32, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn anything_is_recorded(
        texts in prop::collection::vec((any::<String>(), prop::collection::vec(any::<u8>(), 0..300)), 1..12),
        batch in 1_usize..5,
        long in 0_usize..200_000,
    ) {
        let world = World::new();
        let mut log = world.open("run");
        let long = "\u{202e}x\0".repeat(long / 5);
        let mut queued = Vec::new();
        for (at, (text, bytes)) in texts.iter().enumerate() {
            let fields = [("text", Value::Text(text)), ("bytes", Value::Bytes(bytes)), (text, Value::Text(&long))];
            let entry = Entry::new(Kind::Signal).agent(text).reason(&long).action(Action::new(text).fields(&fields));
            queued.push(log.queue(&entry).unwrap());
            if at % batch == 0 {
                let written = log.write().unwrap();
                for queued in queued.drain(..) {
                    prop_assert!(queued.recorded(&written).is_ok());
                }
            }
        }
        let size = log.close().unwrap().size;
        prop_assert_eq!(world.only().state, State::Intact);
        let seq = size / 2;
        let proof = prove(&world.audit(), "run", seq, &world.public()).unwrap();
        prop_assert!(proof.holds(&world.public()));
        let _: serde_json::Value = serde_json::from_str(&proof.json()).unwrap();
        let text = std::fs::read(world.segment("run")).unwrap();
        for line in text.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
            prop_assert!(line.len() <= LINE_BYTES_MAX);
            let _: serde_json::Value = serde_json::from_slice(line).unwrap();
            prop_assert!(shown(line).as_bytes() == line);
        }
    }

    #[test]
    fn every_leaf_of_every_tree_has_a_path(size in 1_usize..400) {
        let leaves: Vec<_> = (0..size).map(|at| leaf_hash(&at.to_be_bytes())).collect();
        let size = size as u64;
        let mut tree = Tree::default();
        for leaf in &leaves {
            tree.push(*leaf, |_, _| {});
        }
        let mut node = |height: u32, index: u64| -> Result<_, ()> {
            let mut tree = Tree::default();
            let at = |index: u64| usize::try_from(index << height).unwrap();
            let (from, to) = (at(index), at(index + 1));
            for leaf in &leaves[from..to] {
                tree.push(*leaf, |_, _| {});
            }
            Ok(tree.root())
        };
        prop_assert_eq!(range(0, size, &mut node).unwrap(), tree.root());
        for index in [0, size / 3, size / 2, size - 1] {
            let mut path = path(index, size, &mut node).unwrap();
            let leaf = leaves[usize::try_from(index).unwrap()];
            prop_assert_eq!(root_of(leaf, index, size, &path), Some(tree.root()));
            path.push(leaf);
            prop_assert_ne!(root_of(leaf, index, size, &path), Some(tree.root()));
        }
    }
}

/// Something that a log's owner, who has its key, asks of a witness.
#[derive(Clone, Debug)]
struct Ask {
    /// Of which history; all begin alike.
    branch: usize,
    size: usize,
    /// From where; else from where the witness is.
    old: Option<usize>,
    /// The proof of another history.
    proof_of: Option<usize>,
    /// The witness begins again from its folder.
    again: bool,
}

fn asks() -> impl Strategy<Value = Vec<Ask>> {
    let seldom = |most| prop::option::weighted(0.2, 0_usize..most);
    let ask = (
        0_usize..3,
        0_usize..40,
        seldom(40),
        seldom(3),
        any::<bool>(),
    );
    let ask = ask.prop_map(|(branch, size, old, proof_of, again)| Ask {
        branch,
        size,
        old,
        proof_of,
        again,
    });
    prop::collection::vec(ask, 1..16)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]

    /// Rolled back, forked, with another's proof, in any order: what is cosigned is one history.
    #[test]
    fn a_witness_never_cosigns_two_histories(asks in asks(), common in 0_usize..30) {
        let world = World::new();
        let (keys, dir) = (world.keys(), world.root.join("witness"));
        let mut witness = Witness::open_or_create(&dir).unwrap();
        let origin = format!("{}/run", keys.public().name);
        let branches: Vec<Vec<_>> = (0..3_usize)
            .map(|branch| (0..40_usize).map(|at| leaf_hash(format!("{at} {}", if at < common { 0 } else { branch }).as_bytes())).collect())
            .collect();
        let mut seen: &[_] = &[];
        for ask in asks {
            let leaves = &branches[ask.branch][..ask.size];
            let old = ask.old.unwrap_or(seen.len());
            let head = Head { origin: origin.clone(), size: ask.size as u64, root: grown(leaves) };
            let right = proof(leaves, old.min(ask.size), ask.size);
            let shown = match ask.proof_of {
                Some(other) => proof(&branches[other], old.min(ask.size), ask.size),
                None => right.clone(),
            };
            let note = keys.checkpoint(&head);
            let request = Request { old: old as u64, proof: shown.clone(), note: &note }.to_string();
            let continues = old == seen.len() && leaves.starts_with(seen);
            let answer = witness.add_checkpoint(&request, keys.all());
            prop_assert_eq!(answer.is_ok(), continues && shown == right, "{:?}: {:?}", ask, answer);
            if answer.is_ok() {
                seen = leaves;
            }
            if ask.again {
                witness = Witness::open_or_create(&dir).unwrap();
            }
        }
    }
}
