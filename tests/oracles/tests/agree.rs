//! What can be said in all three languages is decided alike by Cedar, Regorus (both ways) and ours.
//! `cargo test --release` here; ORACLE_CASES sets how many policies.

use oracles::engines::{Cedar, Machine, Ours, Regorus, input};
use oracles::{Rule, Test, cedar, ours, rego};
use proptest::prelude::*;
use proptest::sample::select;
use serde_json::{Map, Value, json};

const PATHS: &[&str] = &[
    "/a",
    "/a/b",
    "/a/b.key",
    "/ab",
    "/a/b/c.key",
    "/a/b/c",
    "/b/x.key",
    "/srv/a",
    "/srv/a/x.key",
    "/",
];
const FOLDERS: &[&str] = &["/a", "/a/b", "/srv", "/b"];
const TOOLS: &[&str] = &[
    "sql",
    "sql.",
    "sql.query",
    "sql.query.x",
    "sqlx",
    "mail",
    "mail.send",
    "s",
];
const STARTS: &[&str] = &["sql.", "sql", "mail.", "s", "sql.query"];
const HOSTS: &[&str] = &[
    "example.com",
    "a.example.com",
    "b.a.example.com",
    "xexample.com",
    "com",
];
/// Ours takes no wildcard below one label alone.
const DOMAINS: &[&str] = &[
    "example.com",
    "a.example.com",
    "b.a.example.com",
    "other.com",
];
const AGENTS: &[&str] = &["ann", "bob"];

fn of(words: &'static [&'static str]) -> impl Strategy<Value = String> {
    select(words).prop_map(str::to_owned)
}

fn rule() -> impl Strategy<Value = Rule> {
    let test = prop_oneof![
        of(PATHS).prop_map(|path| ("path", Test::Exact(path))),
        of(FOLDERS).prop_map(|folder| ("path", Test::Tree(folder))),
        (of(FOLDERS), select(&[".key", "b", ""][..]))
            .prop_map(|(folder, end)| ("path", Test::Files(folder, end.into()))),
        of(TOOLS).prop_map(|tool| ("tool", Test::Exact(tool))),
        of(STARTS).prop_map(|start| ("tool", Test::Start(start))),
        of(HOSTS).prop_map(|host| ("host", Test::Exact(host))),
        of(DOMAINS).prop_map(|host| ("host", Test::Below(host))),
    ];
    (
        test,
        select(&["fs.read", "fs.write"][..]),
        prop::option::of(of(AGENTS)),
        any::<bool>(),
    )
        .prop_map(|((field, test), files, agent, allows)| {
            let action = match field {
                "path" => files,
                "tool" => "tool.call",
                _ => "net.connect",
            };
            Rule {
                action,
                field,
                test,
                agent,
                allows,
            }
        })
}

fn actions() -> Vec<Map<String, Value>> {
    let mut all = Vec::new();
    let mut add = |value: Value| {
        for agent in AGENTS {
            let mut map = value.as_object().cloned().unwrap_or_default();
            map.insert("agent".into(), json!(agent));
            all.push(map);
        }
    };
    for path in PATHS {
        add(json!({"action": "fs.read", "path": path}));
        add(json!({"action": "fs.write", "path": path}));
    }
    TOOLS
        .iter()
        .for_each(|tool| add(json!({"action": "tool.call", "tool": tool})));
    HOSTS
        .iter()
        .for_each(|host| add(json!({"action": "net.connect", "host": host, "port": 443})));
    all
}

fn cases() -> u32 {
    std::env::var("ORACLE_CASES")
        .ok()
        .and_then(|text| text.parse().ok())
        .unwrap_or(500)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: cases(), failure_persistence: None, ..ProptestConfig::default() })]
    #[test]
    fn the_engines_agree(rules in prop::collection::vec(rule(), 0..14)) {
        let mut own = Ours::new(&ours(&rules)).expect("our language");
        let cedar = Cedar::new(&cedar(&rules)).expect("Cedar");
        let text = rego(&rules);
        let mut regorus = Regorus::new(&text).expect("Rego");
        let mut machine = Machine::new(&text).expect("Rego, compiled");
        for map in actions() {
            let json = Value::Object(map.clone()).to_string();
            let action = policy::Action::from_json(&json).expect("an action");
            let said = own.allows(&action);
            let request = Cedar::request(&map).expect("a request");
            let input = input(&json).expect("an input");
            let others = (cedar.allows(&request), regorus.allows(&input), machine.allows(&input));
            prop_assert_eq!((said, said, said), others, "{} {:?}", json, rules);
        }
    }
}
