//! Consistency proofs: those that others publish, and that nothing else passes.

use proptest::prelude::*;

use crate::consistency::{consistency, is_consistent};
use crate::text::unhex;
use crate::tree::{Hash, Tree, leaf_hash};

pub(crate) fn grown(leaves: &[Hash]) -> Hash {
    let mut tree = Tree::default();
    for leaf in leaves {
        tree.push(*leaf, |_, _| {});
    }
    tree.root()
}

pub(crate) fn proof(leaves: &[Hash], old: usize, size: usize) -> Vec<Hash> {
    let mut node = |height: u32, index: u64| -> Result<Hash, ()> {
        let at = |index: u64| usize::try_from(index << height).unwrap();
        Ok(grown(&leaves[at(index)..at(index + 1)]))
    };
    consistency(old as u64, size as u64, &mut node).unwrap()
}

fn holds(leaves: &[Hash], old: usize, size: usize, proof: &[Hash]) -> bool {
    let roots = (grown(&leaves[..old]), grown(&leaves[..size]));
    is_consistent((old as u64, &roots.0), (size as u64, &roots.1), proof)
}

/// The tree that the tests of Certificate Transparency have had since RFC 6962, and its proofs.
#[test]
fn the_published_proofs_are_ours() {
    let inputs = [
        "",
        "00",
        "10",
        "2021",
        "3031",
        "40414243",
        "5051525354555657",
        "606162636465666768696a6b6c6d6e6f",
    ];
    let bytes = |hex: &str| -> Vec<u8> {
        let pairs = hex.as_bytes().chunks(2);
        pairs.map(|pair| unhex::<1>(pair).unwrap()[0]).collect()
    };
    let leaves: Vec<Hash> = inputs.iter().map(|hex| leaf_hash(&bytes(hex))).collect();
    let hash = |hex: &str| unhex::<32>(hex.as_bytes()).unwrap();
    let root = "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328";
    assert_eq!(grown(&leaves), hash(root));
    let published = [
        (1, 1, vec![]),
        (
            1,
            8,
            vec![
                "96a296d224f285c67bee93c30f8a309157f0daa35dc5b87e410b78630a09cfc7",
                "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e",
                "6b47aaf29ee3c2af9af889bc1fb9254dabd31177f16232dd6aab035ca39bf6e4",
            ],
        ),
        (
            6,
            8,
            vec![
                "0ebc5d3437fbe2db158b9f126a1d118e308181031d0a949f8dededebc558ef6a",
                "ca854ea128ed050b41b35ffc1b87b8eb2bde461e9e3b5596ece6b9d5975a0ae0",
                "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
            ],
        ),
        (
            2,
            5,
            vec![
                "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e",
                "bc1a0643b12e4d2d7c77918f44e0f4f79a838b6cf9ec5b5c283e1f4d88599e6b",
            ],
        ),
    ];
    for (old, size, hashes) in published {
        let hashes: Vec<Hash> = hashes.into_iter().map(hash).collect();
        assert_eq!(proof(&leaves, old, size), hashes, "{old} to {size}");
        assert!(holds(&leaves, old, size, &hashes), "{old} to {size}");
    }
}

/// RFC 6962, 2.1.3: PROOF(3, D[7]) = [c, d, g, l], PROOF(4, D[7]) = [l], PROOF(6, D[7]) = [i, j, k].
#[test]
fn the_example_of_the_rfc_has_its_nodes() {
    let leaves: Vec<Hash> = (0_u8..7).map(|at| leaf_hash(&[at])).collect();
    let over = |from: usize, to: usize| grown(&leaves[from..to]);
    assert_eq!(
        proof(&leaves, 3, 7),
        [over(2, 3), over(3, 4), over(0, 2), over(4, 7)]
    );
    assert_eq!(proof(&leaves, 4, 7), [over(4, 7)]);
    assert_eq!(proof(&leaves, 6, 7), [over(4, 6), over(6, 7), over(0, 4)]);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_proof_holds_for_what_it_is_about_and_nothing_else(
        size in 1_usize..200,
        part in 0.0_f64..=1.0,
        at in any::<prop::sample::Index>(),
        bit in 0_usize..256,
        others in prop::collection::vec(any::<prop::sample::Index>(), 6),
    ) {
        let leaves: Vec<Hash> = (0..size).map(|at| leaf_hash(&at.to_be_bytes())).collect();
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, clippy::cast_precision_loss, reason = "a share of a few hundred")]
        let old = (part * size as f64) as usize;
        let hashes = proof(&leaves, old, size);
        prop_assert!(holds(&leaves, old, size, &hashes));
        let flipped = |hash: &Hash| {
            let mut hash = *hash;
            hash[bit / 8] ^= 1 << (bit % 8);
            hash
        };
        // Another hash, one more, one less.
        for step in 0..hashes.len() {
            let mut other = hashes.clone();
            other[step] = flipped(&other[step]);
            prop_assert!(!holds(&leaves, old, size, &other));
            other = hashes.clone();
            other.remove(step);
            prop_assert!(!holds(&leaves, old, size, &other));
        }
        let longer = [hashes.clone(), vec![leaves[0]]].concat();
        prop_assert!(!holds(&leaves, old, size, &longer));
        // Another tree of which the first leaves are not those that were seen.
        if old > 0 {
            let mut other = leaves.clone();
            let changed = at.index(old);
            other[changed] = flipped(&other[changed]);
            let (seen, root) = (grown(&leaves[..old]), grown(&other));
            let forged = proof(&other, old, size);
            prop_assert!(!is_consistent((old as u64, &seen), (size as u64, &root), &forged));
            prop_assert!(!is_consistent((old as u64, &seen), (size as u64, &root), &hashes));
        }
        // Other sizes, each with its own root, unless what has to be shown is the same.
        for other in others.iter().map(|other| other.index(size) + 1) {
            let same = proof(&leaves, other, size) == hashes;
            prop_assert_eq!(holds(&leaves, other, size, &hashes), same, "{} for {}", other, old);
        }
        prop_assert!(!is_consistent((size as u64 + 1, &leaves[0]), (size as u64, &leaves[0]), &[]));
    }
}
