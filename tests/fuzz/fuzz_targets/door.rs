//! Any bytes from a process of a ring, at the door of a real governor with a real log: every answer is one whole
//! object that answers a frame that was sent, and tells nothing of what another connection said. Of inputs that
//! begin with an odd byte, the rest is large arguments in a memfd.
#![no_main]

use std::cell::RefCell;

use libfuzzer_sys::fuzz_target;
use supervisor::fuzz::Room;

const POLICY: &str = "version: 1\nname: fuzz\ndefault: allow\nrules:\n  - name: no-drop\n    \
    match: {action: tool.call, tool: [\"sql.*\"]}\n    when: 'args.query.matches(\"(?i)drop\")'\n    verdict: deny\n  \
    - {name: paths, match: {action: fs.read, path: \"/srv/**\"}, verdict: audit, labels: {add: [seen]}}\n  \
    - {name: often, match: {action: tool.call, tool: \"http.*\"}, limit: {rate: 20/h, burst: 5}}\n";
const SECRET: &[u8] = b"SECRET-of-another-connection";
/// Then there is a new log.
const EACH: u32 = 20_000;
const HELLO: u16 = 64;
const ACT: u16 = 67;
const WITH_FD: u16 = 4;

thread_local! {
    static ROOM: RefCell<(u32, Option<Room>)> = const { RefCell::new((0, None)) };
}

fn frame(call: u16, flags: u16, body: &str) -> Vec<u8> {
    let mut frame = (body.len() as u32).to_le_bytes().to_vec();
    frame.extend([call.to_le_bytes(), flags.to_le_bytes()].concat());
    frame.extend([0; 8]);
    frame.extend(body.bytes());
    frame
}

fn room() -> Room {
    let dir = std::env::temp_dir().join(format!("agt-fuzz-door-{}", std::process::id()));
    let _before = std::fs::remove_dir_all(&dir);
    std::fs::create_dir_all(&dir).expect("a folder");
    let mut room = Room::new(&dir, POLICY).expect("a room");
    let secret = String::from_utf8_lossy(SECRET);
    let act = format!("{{\"action\":\"tool.call\",\"tool\":\"{secret}\",\"args\":{{\"x\":\"{secret}\"}}}}");
    let answer = room.say(&frame(ACT, 0, &act), None).expect("answered");
    assert!(String::from_utf8_lossy(&answer).contains("\"seq\""), "{answer:?}");
    room
}

/// Compared in disguise: the fuzzer learns what bytes are compared with, and would say it itself.
fn is_secret(part: &[u8]) -> bool {
    let disguised = |byte: &u8| byte.rotate_left(3) ^ 0xa5;
    part.iter().map(disguised).eq(SECRET.iter().map(disguised))
}

/// What is answered to these bytes.
fn said(room: &mut Room, bytes: &[u8]) -> Vec<u8> {
    match bytes.split_first() {
        Some((kind, args)) if kind % 2 == 1 => {
            let digest = audit::hex(&audit::sha256(args));
            let act = format!("{{\"action\":\"tool.call\",\"tool\":\"sql.run\",\"args_sha256\":\"{digest}\"}}");
            let answer = room.say(&frame(ACT, WITH_FD, &act), Some(args)).expect("answered");
            assert!(!answer.is_empty());
            answer
        }
        Some((_, frames)) => room.say(frames, None).expect("answered"),
        None => Vec::new(),
    }
}

fuzz_target!(|bytes: &[u8]| {
    ROOM.with_borrow_mut(|(count, there)| {
        if there.is_none() || *count >= EACH {
            *there = None;
            *there = Some(room());
            *count = 0;
        }
        *count += 1;
        let room = there.as_mut().expect("a room");
        let answers = said(room, bytes);
        assert!(!answers.windows(SECRET.len()).any(is_secret));
        let mut rest = &answers[..];
        while !rest.is_empty() {
            let length = u32::from_le_bytes(rest[..4].try_into().expect("a head")) as usize;
            // An answer, or an event that the client asked for.
            assert!(length <= 65_536 && matches!(rest[6..8], [1 | 2, 0]));
            let object: serde_json::Value = serde_json::from_slice(&rest[16..16 + length]).expect("JSON");
            assert!(object.is_object());
            rest = &rest[16 + length..];
        }
        // Whatever was said, the next one is served.
        assert!(!room.say(&frame(HELLO, 0, ""), None).expect("answered").is_empty());
    });
});
