//! Whatever is appended: it verifies, is proved, and is one line that is safe to print.

use proptest::prelude::*;

use super::world::World;
use crate::tree::{path, range, root_of};
use crate::{Action, Entry, Kind, LINE_BYTES_MAX, State, Tree, Value, leaf_hash, prove, shown};

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
