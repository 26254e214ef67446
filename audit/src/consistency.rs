//! That a tree is an earlier one with leaves added: RFC 6962 consistency proofs.

use crate::tree::{Hash, node_hash, range, split};

/// The hashes that show that the first `old` of `size` leaves are what they were (RFC 6962, 2.1.2). Empty
/// where nothing is to be shown: from nothing, and from the same size.
pub(crate) fn consistency<E>(
    old: u64,
    size: u64,
    node: &mut impl FnMut(u32, u64) -> Result<Hash, E>,
) -> Result<Vec<Hash>, E> {
    let (mut from, mut to) = (0, size);
    let mut proof = Vec::new();
    if old == 0 || old >= size {
        return Ok(proof);
    }
    while to != old {
        let middle = from + split(to - from);
        if old <= middle {
            proof.push(range(middle, to, node)?);
            to = middle;
        } else {
            proof.push(range(from, middle, node)?);
            from = middle;
        }
    }
    // A subtree that begins with the first leaf is the old tree itself: its root is known.
    if from > 0 {
        proof.push(range(from, to, node)?);
    }
    proof.reverse();
    Ok(proof)
}

/// Whether the proof leads from the root of `old` leaves to that of `size` (RFC 9162, 2.1.4.2). Sizes that
/// have the same steps are told apart by what signs them, not by this.
pub(crate) fn is_consistent(
    (old, old_root): (u64, &Hash),
    (size, root): (u64, &Hash),
    proof: &[Hash],
) -> bool {
    if old > size {
        return false;
    }
    if old == 0 {
        return proof.is_empty();
    }
    if old == size {
        return proof.is_empty() && old_root == root;
    }
    let mut steps = proof.iter();
    let first = if old.is_power_of_two() {
        Some(old_root)
    } else {
        steps.next()
    };
    let Some(first) = first else {
        return false;
    };
    let complete = (old - 1).trailing_ones();
    let (mut at, mut last) = ((old - 1) >> complete, (size - 1) >> complete);
    let (mut before, mut after) = (*first, *first);
    for step in steps {
        if last == 0 {
            return false;
        }
        if at & 1 == 1 || at == last {
            before = node_hash(step, &before);
            after = node_hash(step, &after);
            while at & 1 == 0 && at != 0 {
                at >>= 1;
                last >>= 1;
            }
        } else {
            after = node_hash(&after, step);
        }
        at >>= 1;
        last >>= 1;
    }
    last == 0 && before == *old_root && after == *root
}
