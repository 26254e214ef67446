//! Any bytes as agent.yaml: an agent or an error with a place, and what resolves is within its ring.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let Ok(agent) = profiles::parse_agent("agent.yaml", bytes) else { return };
    let rings = profiles::Rings::built_in().expect("the built-in rings");
    if let Ok(ring) = profiles::resolve(&agent, &rings) {
        assert!((1..=3).contains(&ring.number));
        let max = &rings.find(&ring.ring).expect("its ring").max;
        assert!(max.memory.as_ref().is_none_or(|max| ring.memory.value <= max.value));
        assert!(max.pids.as_ref().is_none_or(|max| ring.pids.value <= max.value));
    }
});
