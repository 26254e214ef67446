//! Any bytes as a site's ring: a ring no wider than its parent, or an error with a place.
#![no_main]

use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use profiles::Rings;

static RINGS: LazyLock<Rings> = LazyLock::new(|| Rings::built_in().expect("the built-in rings"));

fuzz_target!(|bytes: &[u8]| {
    let Ok(ring) = RINGS.parse_site("ring.yaml", bytes) else { return };
    let parent = RINGS.iter().find(|parent| parent.number == ring.number).expect("its parent");
    assert!(ring.syscalls.is_subset(parent.syscalls));
    assert!(ring.sockets.iter().all(|kind| parent.sockets.contains(kind)));
    assert!(ring.degrade.iter().all(|layer| parent.degrade.contains(layer)));
});
