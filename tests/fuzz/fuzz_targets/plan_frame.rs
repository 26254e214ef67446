//! Any bytes as a frame from a hostile supervisor: refused, or a plan that survives a round trip and
//! makes nobody root.
#![no_main]

use libfuzzer_sys::fuzz_target;
use plan::Command;

fuzz_target!(|bytes: &[u8]| {
    let Some((kind, payload)) = bytes.split_first() else { return };
    let Ok(command) = Command::decode(u16::from(kind % 5), payload) else { return };
    if let Command::Launch(launch) = &command {
        assert!(launch.uid != 0 && launch.gid != 0);
        drop(plan::filter::compile(&launch.filter));
    }
    let frame = command.encode();
    let again = Command::decode(u16::from(kind % 5), &frame[plan::Header::LEN..]);
    assert_eq!(again.as_ref(), Ok(&command));
});
