//! The engine decides as the specification does, on generated policies and near misses; globs match
//! as a regular expression of the same meaning does.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use policy::{Action, Engine, Glob, Limits, Over, Piece, Policy, Variables, spec};
use proptest::prelude::*;
use proptest::sample::select;
use regex_automata::meta::Regex;

fn one_of(words: &'static [&'static str]) -> impl Strategy<Value = String> {
    select(words).prop_map(str::to_owned)
}

const PATHS: &[&str] = &[
    "/",
    "/a",
    "/a/b",
    "/a/b/c",
    "/ab",
    "/a/bc",
    "/a/x.key",
    "/a/b/x.key",
    "/srv/a/b",
    "/srv/a/b.key",
    "/srv/ab",
];
const PATH_PATTERNS: &[&str] = &[
    "/a",
    "/a/**",
    "/a/*",
    "/a/b*",
    "**/*.key",
    "/a/**/x.key",
    "/*/b",
    "/**",
    "/srv/a/*.key",
    "**/b",
    "/srv/**",
    "/a/b/c",
    "/sr*",
    "/a*/**",
];
const NAMES: &[&str] = &[
    "sql.query",
    "sql",
    "sql.",
    "db.get",
    "sql.query.x",
    "mail",
    "mails",
    "a",
    "1",
];
const NAME_PATTERNS: &[&str] = &[
    "sql.*",
    "sql.query",
    "*",
    "*.query",
    "mail*",
    "*ql.q*",
    "a",
    "\"1\"",
    "db.*",
];
const HOSTS: &[&str] = &[
    "example.com",
    "a.example.com",
    "b.a.example.com",
    "xexample.com",
    "10.1.2.3",
    "::1",
];
const HOST_PATTERNS: &[&str] = &[
    "example.com",
    "\"*.example.com\"",
    "\"*\"",
    "10.0.0.0/8",
    "a.example.com",
    "\"*.a.example.com\"",
    "\"::1\"",
];
const WORDS: &[&str] = &[
    "push",
    "--force",
    "--force-with-lease",
    "pull",
    "drop x",
    "Drop",
    "",
    "abc",
];
const WORD_PATTERNS: &[&str] = &["push", "\"--force*\"", "\"*drop*\"", "pull", "\"*b*\""];
const CONDITIONS: &[&str] = &[
    "args.q == \"push\"",
    "has(args.q)",
    "args.n > 3",
    "agent == \"a\"",
    "labels.exists(l, l == \"abc\")",
    "args.q.matches(\"(?i)drop\")",
    "bytes > 5",
    "given.m == 1",
];

/// A list of one to three, as YAML.
fn list(words: &'static [&'static str]) -> impl Strategy<Value = String> {
    prop::collection::vec(select(words), 1..3).prop_map(|words| {
        let quoted = words
            .iter()
            .map(|word| format!("\"{}\"", word.trim_matches('"')));
        format!("[{}]", quoted.collect::<Vec<_>>().join(", "))
    })
}

fn maybe(
    strategy: impl Strategy<Value = String> + 'static,
    key: &'static str,
) -> BoxedStrategy<String> {
    prop_oneof![
        2 => Just(String::new()),
        1 => strategy.prop_map(move |text| format!("{key}: {text}, ")),
    ]
    .boxed()
}

fn native_rule() -> impl Strategy<Value = String> {
    let actions = list(&[
        "fs.read",
        "fs.*",
        "tool.call",
        "exec",
        "net.connect",
        "net.*",
        "model.call",
    ]);
    let fields = (
        maybe(actions, "action"),
        maybe(list(PATH_PATTERNS), "path"),
        maybe(list(NAME_PATTERNS), "tool"),
        maybe(list(HOST_PATTERNS), "host"),
        maybe(one_of(&["443", "[1, 400-500]"]), "port"),
        maybe(
            list(&["git", "/usr/bin/*", "g*", "/usr/bin/git"]),
            "program",
        ),
        maybe(
            list(WORD_PATTERNS).prop_map(|list| format!("{{has: {list}}}")),
            "argv",
        ),
        maybe(list(NAME_PATTERNS), "agent"),
        maybe(list(WORD_PATTERNS), "args.q"),
        maybe(list(&["2", "sandbox", "s*"]), "ring"),
    );
    let matching = fields.prop_map(|f| {
        // One or two fields, or rules fit nothing.
        let mut all = [f.1, f.2, f.3, f.4, f.5, f.6, f.7, f.8, f.9];
        let mut kept = 0;
        for field in &mut all {
            kept += usize::from(!field.is_empty());
            if kept > 2 {
                field.clear();
            }
        }
        format!("match: {{{}{}}}, ", f.0, all.concat()).replace(", }", "}")
    });
    let condition = |key| maybe(select(CONDITIONS).prop_map(|c| format!("'{c}'")), key);
    let what = one_of(&[
        "verdict: allow",
        "verdict: audit",
        "verdict: escalate",
        "verdict: deny",
        "limit: {rate: 2/h}",
        "labels: {add: [l1]}",
        "verdict: allow, limit: {rate: 1/h}",
        "verdict: allow, labels: {add: [l2]}",
    ]);
    (
        matching,
        condition("when"),
        condition("unless"),
        -1..2_i32,
        what,
    )
        .prop_map(|(m, when, unless, priority, what)| {
            format!("{m}{when}{unless}priority: {priority}, {what}")
        })
}

fn native() -> impl Strategy<Value = String> {
    let combine = one_of(&["deny-overrides", "first-match", "priority", "most-specific"]);
    let default = one_of(&["allow", "audit", "deny", "escalate"]);
    (
        combine,
        default,
        prop::collection::vec(native_rule(), 0..14),
    )
        .prop_map(|(combine, default, rules)| {
            let rules = rules
                .iter()
                .enumerate()
                .map(|(n, rule)| format!("  - {{name: r{n}, {rule}}}\n"));
            let rules = rules.collect::<String>();
            let rules = if rules.is_empty() {
                " []\n".into()
            } else {
                format!("\n{rules}")
            };
            format!("version: 1\nname: p\ndefault: {default}\ncombine: {combine}\nrules:{rules}")
        })
}

fn toolkit() -> impl Strategy<Value = String> {
    let field = one_of(&["tool_name", "action", "q", "m", "path", "agent_id"]);
    let test = prop_oneof![
        (
            one_of(&["eq", "ne", "contains"]),
            list(NAMES).prop_map(|l| l
                .trim_matches(['[', ']'])
                .split(", ")
                .next()
                .unwrap()
                .to_owned())
        ),
        (
            Just("matches".to_owned()),
            one_of(&[
                "\"sql\\\\..*\"",
                "\"(?i)drop\"",
                "\"^a$\"",
                "\"push|pull\"",
                "\"^/a/\""
            ])
        ),
        (Just("in".to_owned()), list(NAMES)),
        (one_of(&["gt", "lte"]), one_of(&["1", "3.5", "abc"])),
    ];
    let verdict = one_of(&["allow", "audit", "deny", "block"]);
    let rule = (field, test, verdict, 0..3).prop_map(|(field, (operator, value), verdict, priority)| {
        format!("condition: {{field: {field}, operator: {operator}, value: {value}}}, action: {verdict}, priority: {priority}")
    });
    (
        one_of(&["allow", "deny"]),
        prop::collection::vec(rule, 1..40),
    )
        .prop_map(|(default, rules)| {
            let rules = rules
                .iter()
                .enumerate()
                .map(|(n, rule)| format!("  - {{name: t{n}, {rule}}}\n"));
            format!(
                "name: t\ndefaults: {{action: {default}}}\nrules:\n{}",
                rules.collect::<String>()
            )
        })
}

fn action() -> impl Strategy<Value = String> {
    let quoted = |words| select(words).prop_map(|word: &str| format!("{word:?}"));
    let kind = prop_oneof![
        quoted(PATHS).prop_map(|path| format!(r#""action":"fs.read","path":{path}"#)),
        quoted(PATHS).prop_map(|path| format!(r#""action":"fs.write","path":{path}"#)),
        quoted(NAMES).prop_map(|tool| format!(r#""action":"tool.call","tool":{tool}"#)),
        (quoted(HOSTS), select(&[1_u16, 443, 450, 501][..])).prop_map(|(host, port)| format!(
            r#""action":"net.connect","host":{host},"port":{port}"#
        )),
        (
            quoted(&["/usr/bin/git", "git", "/bin/gi", "/usr/bin/x/git"]),
            prop::collection::vec(quoted(WORDS), 0..3)
        )
            .prop_map(|(program, argv)| format!(
                r#""action":"exec","program":{program},"argv":[{}]"#,
                argv.join(",")
            )),
        Just(r#""action":"model.call""#.to_owned()),
    ];
    let value = || prop_oneof![4 => quoted(WORDS), 1 => one_of(&["5", "1", "null", "true", "[\"push\"]", "{}", "1.5"])];
    let extra = prop::collection::vec(
        prop_oneof![
            quoted(NAMES).prop_map(|agent| ("agent", agent)),
            value().prop_map(|q| ("args", format!(r#"{{"q":{q}}}"#))),
            value().prop_map(|n| ("args", format!(r#"{{"n":{n}}}"#))),
            value().prop_map(|q| ("q", q)),
            value().prop_map(|m| ("m", m)),
            Just(("labels", r#"["abc"]"#.to_owned())),
            Just(("bytes", "7".to_owned())),
            Just(("ring", "3".to_owned())),
            Just(("time", "1000".to_owned())),
        ],
        0..5,
    );
    (kind, extra).prop_map(|(kind, mut extra)| {
        extra.sort();
        extra.dedup_by_key(|(key, _)| *key);
        let extra = extra
            .iter()
            .map(|(key, value)| format!(r#","{key}":{value}"#));
        format!("{{{kind}{}}}", extra.collect::<String>())
    })
}

/// Rules that nothing would enforce are left out.
fn parse(text: &str) -> Policy {
    let mut lines: Vec<&str> = text.lines().collect();
    loop {
        let text = lines.join("\n");
        let all_gone = text.ends_with("rules:");
        let text = if all_gone { format!("{text} []") } else { text };
        match Policy::parse("p.yaml", text.as_bytes(), &Variables::default()) {
            Ok(policy) => return policy,
            Err(error) => {
                let error = error.to_string();
                assert!(error.contains("nothing would enforce"), "{error}\n{text}");
                let line: usize = error.split(':').nth(1).unwrap().parse().unwrap();
                lines.remove(line - 1);
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_engine_decides_as_specified(
        texts in prop::collection::vec(prop_oneof![3 => native(), 1 => toolkit()], 1..3),
        actions in prop::collection::vec(action(), 1..12),
    ) {
        let policies: Vec<Policy> = texts.iter().map(|text| parse(text)).collect();
        let engine = Engine::new(policies.clone());
        let all: Vec<&Policy> = policies.iter().collect();
        let (mut scratch, mut plain, mut fast) = (engine.scratch(), Limits::default(), Limits::default());
        for json in &actions {
            let action = Action::from_json(json).unwrap_or_else(|e| panic!("{e} {json}"));
            let expected = spec::decide(&all, &action, &mut plain);
            let got = engine.decide(&action, &mut fast, &mut scratch);
            prop_assert_eq!(&got, &expected, "{}\n{}", json, texts.join("---\n"));
        }
    }

    #[test]
    fn globs_mean_what_they_say(pattern in "[/ab*]{1,10}|(/a|/\\*\\*|/\\*|b|\\*\\*){1,6}", text in "[/ab]{0,9}") {
        for over in [Over::Text, Over::Path] {
            let glob = Glob::parse(&pattern, over);
            let regex = glob.pieces().iter().map(|piece| match piece {
                Piece::Text(text) => text.to_string(),
                Piece::Segment => "[^/]*".to_owned(),
                Piece::Any => ".*".to_owned(),
                Piece::Folders => "(.*/)?".to_owned(),
                Piece::Tree => "(/.*)?".to_owned(),
            });
            let regex = format!("^(?s:{})$", regex.collect::<String>());
            let expected = Regex::new(&regex).unwrap().is_match(&text);
            prop_assert_eq!(glob.matches(&text), expected, "{} {} {:?}", pattern, text, over);
        }
    }
}

fn same(policy: &Policy, actions: impl Iterator<Item = String>) -> usize {
    let engine = Engine::new(vec![policy.clone()]);
    let mut scratch = engine.scratch();
    let by_rule = actions.map(|json| {
        let action = Action::from_json(&json).unwrap();
        let expected = spec::decide(&[policy], &action, &mut Limits::default());
        assert_eq!(
            engine.decide(&action, &mut Limits::default(), &mut scratch),
            expected,
            "{json}"
        );
        usize::from(expected.rule.is_some())
    });
    by_rule.sum()
}

#[test]
fn many_regular_expressions_are_asked_at_once() {
    let rule = |n: u32| {
        format!(
            "  - {{name: r{n}, condition: {{field: m, operator: matches, value: '(?i)w{n}(x|y)+$'}}, action: deny, priority: {}}}\n",
            n % 3
        )
    };
    let rules: String = (0..40).map(rule).collect();
    let policy = parse(&format!(
        "name: t\ndefaults: {{action: allow}}\nrules:\n{rules}"
    ));
    let texts = (0..50).flat_map(|n| {
        [
            format!("W{n}xyx"),
            format!("w{n}z"),
            format!("w{n}x w{}y", n + 1),
        ]
    });
    let actions = texts.map(|text| format!(r#"{{"action":"model.call","m":"{text}"}}"#));
    // 40 of the first kind, none of the second; of the third those whose second word is known.
    assert_eq!(same(&policy, actions), 40 + 39);
}

#[test]
fn parts_of_every_length_are_found() {
    let folder = |n: usize| format!("/{}", "a".repeat(n));
    let lengths = [1, 2, 60, 124, 125, 126, 127, 128, 129, 200];
    let rule = |n: &usize| {
        format!(
            "  - {{name: r{n}, match: {{action: fs.read, path: {}/**}}, verdict: deny}}\n",
            folder(*n)
        )
    };
    let rules: String = lengths.iter().map(rule).collect();
    let policy = parse(&format!(
        "version: 1\nname: t\ndefault: allow\nrules:\n{rules}"
    ));
    let paths = (1..210).flat_map(|n| {
        [
            folder(n),
            format!("{}/x", folder(n)),
            format!("/b{}/x", folder(n)),
        ]
    });
    let actions = paths.map(|path| format!(r#"{{"action":"fs.read","path":"{path}"}}"#));
    assert_eq!(same(&policy, actions), 2 * lengths.len());
}
