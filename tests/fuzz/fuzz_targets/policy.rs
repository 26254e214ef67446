//! A policy and an action, in one input with a NUL between. Parsing never panics, and the engine decides as
//! the specification does.

#![no_main]

use libfuzzer_sys::fuzz_target;
use policy::{Action, Engine, Limits, Policy, Variables, check, spec};

fuzz_target!(|data: &[u8]| {
    let mut parts = data.splitn(2, |byte| *byte == 0);
    let (text, json) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
    if let Ok(report) = check("policy.yaml", text, &Variables::default()) {
        let _ = report.to_string();
    }
    let variables = Variables { workspace: Some("/home/a/ws".to_owned()) };
    let Ok(policy) = Policy::parse("policy.yaml", text, &variables) else {
        return;
    };
    let Ok(action) = Action::from_json(&String::from_utf8_lossy(json)) else {
        return;
    };
    let engine = Engine::new(vec![policy.clone()]);
    let plain = spec::decide(&[&policy], &action, &mut Limits::default());
    let mut scratch = engine.scratch();
    assert_eq!(engine.decide(&action, &mut Limits::default(), &mut scratch), plain);
});
