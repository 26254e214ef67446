//! What a line looks like, byte by byte: others parse and hash it.

use super::world::World;
use crate::{Action, Entry, Kind, Value, shown};

#[test]
fn keys_stand_in_their_order() {
    let world = World::new();
    let mut log = world.open("run");
    let fields = [
        ("host", Value::Text("a\"b\u{202e}\u{1b}[2J")),
        ("path", Value::Bytes(b"/tmp/\xff")),
        ("port", Value::Number(443)),
        ("tls", Value::Flag(true)),
        ("argv", Value::List(&["ls", "-l"])),
    ];
    let action = Action::new("connect").fields(&fields).args_hmac([7; 32]);
    let entry = Entry::new(Kind::Decision)
        .agent("a")
        .ring("ring-2")
        .run("r")
        .pid(7)
        .exe(b"/bin/ls")
        .session("s")
        .action(action)
        .verdict("allow")
        .rule("net")
        .reason("why")
        .policy("ph")
        .counters(&[("calls", 3)])
        .latency_us(12);
    let _ = log.append(&entry).unwrap();
    let text = std::fs::read_to_string(world.segment("run")).unwrap();
    let line = text.lines().nth(1).unwrap();
    let value: serde_json::Value = serde_json::from_str(line).unwrap();
    let keys: Vec<&String> = value.as_object().unwrap().keys().collect();
    assert_eq!(
        keys,
        [
            "seq",
            "time",
            "mono_ns",
            "boot",
            "prev",
            "kind",
            "agent",
            "ring",
            "run",
            "pid",
            "exe",
            "session",
            "action",
            "verdict",
            "rule",
            "reason",
            "policy",
            "counters",
            "latency_us"
        ]
    );
    let digest = crate::hex(&crate::tree::sha256(b"/tmp/\xff"));
    let action = format!(
        r#""action":{{"kind":"connect","host":"a\"b\u202e\u001b[2J","path":"/tmp/{} [sha256:{digest} 6 bytes]","port":443,"tls":true,"argv":["ls","-l"],"args_hmac":"{}"}}"#,
        '\u{fffd}',
        "07".repeat(32)
    );
    assert!(line.contains(&action), "{line}");
    assert_eq!(shown(line.as_bytes()), line);
    assert_eq!(value["time"].as_str().unwrap().len(), 30);
}

#[test]
fn what_others_wrote_is_safe_to_print() {
    assert_eq!(
        shown(b"a\x1b[31m\xff\xe2\x80\xae"),
        "a\\u001b[31m\\xff\\u202e"
    );
}

#[test]
fn arguments_are_digested_under_a_key_that_can_be_disclosed() {
    use hmac::{Hmac, KeyInit, Mac};
    let world = World::new();
    let log = world.open("run");
    let key = crate::args_key(&world.audit(), "run").unwrap();
    let key: [u8; 32] = crate::text::unhex(key.as_bytes()).unwrap();
    let mut mac = Hmac::<sha2::Sha256>::new_from_slice(&key).unwrap();
    mac.update(b"secret");
    let expected: [u8; 32] = mac.finalize().into_bytes().into();
    assert_eq!(log.args_hmac(b"secret"), expected);
    let text = std::fs::read_to_string(world.segment("run")).unwrap();
    assert!(text.contains(&crate::hex(&crate::tree::sha256(&key))));
}
