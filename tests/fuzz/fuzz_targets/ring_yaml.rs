//! Any bytes as a site's ring: a ring no wider than its parent, or an error with a place.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let rings = profiles::Rings::built_in().expect("the built-in rings");
    let Ok(ring) = rings.parse_site("ring.yaml", bytes) else { return };
    let parent = rings.iter().find(|parent| parent.number == ring.number).expect("its parent");
    assert!(ring.syscalls.is_subset(parent.syscalls));
    assert!(ring.sockets.iter().all(|kind| parent.sockets.contains(kind)));
    assert!(ring.degrade.iter().all(|layer| parent.degrade.contains(layer)));
});
