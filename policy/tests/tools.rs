//! What the command line is made of.

#![expect(clippy::panic, reason = "a test fails by panicking")]

use policy::{Enforcer, Engine, Limits, Oddity, Policy, Variables, check, eval_line, lint, test};

fn parse(rules: &str, head: &str) -> Policy {
    let text = format!("version: 1\nname: p\n{head}rules:\n{rules}");
    Policy::parse("p.yaml", text.as_bytes(), &Variables::default())
        .unwrap_or_else(|e| panic!("{e}"))
}

fn odd(rules: &str, head: &str) -> Vec<(String, Oddity, usize)> {
    let found = lint(&parse(rules, head)).into_iter();
    found
        .map(|w| {
            (
                w.rule.to_string(),
                w.oddity,
                w.other.map_or(0, |(_, line)| line),
            )
        })
        .collect()
}

#[test]
fn rules_that_never_speak_are_found() {
    let rules = "  - {name: a, match: {action: fs.*, path: /srv/**}, verdict: deny}
  - {name: b, match: {action: fs.read, path: /srv/x/**}, verdict: allow}
  - {name: c, match: {action: fs.read, path: /srvx}, verdict: allow}
  - {name: d, match: {action: tool.call, tool: \"sql.*\"}, when: 'agent == \"x\"', verdict: deny}
  - {name: e, match: {action: tool.call, tool: sql.get}, verdict: allow}
  - {name: f, match: {action: tool.call, tool: sql.get}, verdict: deny}
  - {name: g, match: {action: net.connect, host: a.b.example.com}, verdict: allow}
  - {name: h, match: {action: net.connect, host: \"*.example.com\"}, verdict: audit}
  - {name: i, match: {action: net.connect, host: a.b.example.com}, limit: {rate: 1/s}}
";
    let a = |rule: &str, oddity, line| (rule.to_owned(), oddity, line);
    assert_eq!(
        odd(rules, ""),
        [
            a("b", Oddity::Shadowed, 4),
            a("e", Oddity::Conflicting, 9),
            a("g", Oddity::Shadowed, 11)
        ]
    );
    assert_eq!(
        odd(rules, "combine: first-match\n"),
        [a("b", Oddity::Shadowed, 5), a("f", Oddity::Conflicting, 9)]
    );
    let warning = lint(&parse(rules, "")).remove(0).to_string();
    assert_eq!(
        warning,
        "p.yaml:5:5: rule `b` never speaks: wherever it fits, `a` in line 4 does"
    );
}

#[test]
fn every_rule_says_who_enforces_it() {
    let rules = "  - {name: a, match: {action: fs.read, path: [\"${workspace}/**\", /etc/hosts]}, verdict: allow}
  - {name: b, match: {action: fs.read, path: \"**/.env\"}, verdict: deny}
  - {name: c, match: {action: fs.read, path: /srv/**}, verdict: audit}
  - {name: d, match: {action: net.connect, host: \"*.example.com\"}, when: '\"x\" in labels', verdict: deny}
  - {name: e, match: {action: net.connect}, when: 'bytes > 5', verdict: deny}
  - {name: f, match: {action: ring.elevate}, verdict: escalate}
  - {name: g, match: {action: tool.call, tool: x}, verdict: deny}
  - {name: h, match: {action: [fs.read, tool.call], path: /srv/**}, verdict: deny}
";
    let text = format!("version: 1\nname: p\nrules:\n{rules}");
    let report = check("p.yaml", text.as_bytes(), &Variables::default()).unwrap();
    use Enforcer::{Egress, Kernel, Socket};
    assert_eq!(
        report.enforced,
        [
            Kernel, Socket, Socket, Egress, Socket, Socket, Socket, Socket
        ]
    );
    assert!(
        report
            .to_string()
            .starts_with("p.yaml: p (native), 8 rules, default deny\n  a  allow     kernel\n")
    );
    let one = "version: 1\nname: p\nrules:\n  - {name: a, verdict: deny}\n";
    let report = check("p.yaml", one.as_bytes(), &Variables::default()).unwrap();
    assert!(report.to_string().contains(", 1 rule, default deny"));
    let text = "version: 1\nname: p\nrules:\n  - {name: a, match: {action: fs.read, host: x.example}, verdict: deny}\n";
    let error = check("p.yaml", text.as_bytes(), &Variables::default())
        .unwrap_err()
        .to_string();
    assert!(
        error.starts_with("p.yaml:4:5: nothing would enforce this rule"),
        "{error}"
    );
}

#[test]
fn tables_of_tests_name_what_differs() {
    let engine = Engine::new(vec![parse(
        "  - {name: a, match: {action: fs.read, path: /a}, verdict: allow}\n",
        "",
    )]);
    let table = "version: 1
tests:
  - {action: {action: fs.read, path: /a}, verdict: allow, rule: a}
  - {action: {action: fs.read, path: /b}, verdict: allow}
  - {action: {action: net.connect, host: x.example, port: 443}, verdict: deny}
";
    let outcomes = test(&engine, "t.yaml", table.as_bytes()).unwrap();
    let said: Vec<String> = outcomes.iter().map(ToString::to_string).collect();
    assert_eq!(
        said,
        [
            "t.yaml:3:5: ok: allow by `a`",
            "t.yaml:4:5: FAILED: deny, expected allow",
            "t.yaml:5:5: ok: deny"
        ]
    );
    let bad = "version: 1\ntests:\n  - {action: {action: fs.read}, verdict: deny}\n";
    let error = test(&engine, "t.yaml", bad.as_bytes())
        .unwrap_err()
        .to_string();
    assert!(
        error.starts_with("t.yaml:3:14: this action cannot be judged: fs.read needs `path`"),
        "{error}"
    );
}

#[test]
fn a_line_in_a_line_out() {
    let rules = "  - {name: a, match: {action: tool.call, tool: t}, verdict: allow, limit: {rate: 1/h}, labels: {add: [x]}}
  - {name: b, match: {action: tool.call, tool: u}, verdict: escalate, approvers: [\"group:x\"], reason: Ask.}
";
    let engine = Engine::new(vec![parse(rules, "")]);
    let (mut limits, mut scratch) = (Limits::default(), engine.scratch());
    let mut eval = |line: &str| -> serde_json::Value {
        let out = eval_line(&engine, &mut limits, &mut scratch, 5, line);
        assert!(!out.contains('\n'));
        serde_json::from_str(&out).unwrap()
    };
    let t = r#"{"action":"tool.call","tool":"t","agent":"a"}"#;
    let first = eval(t);
    assert_eq!(
        (first["verdict"].as_str(), first["labels_add"][0].as_str()),
        (Some("allow"), Some("x"))
    );
    let second = eval(t);
    assert_eq!(
        (
            second["verdict"].as_str(),
            second["retry_after_ms"].as_u64()
        ),
        (Some("deny"), Some(3_600_000))
    );
    let held = eval(r#"{"action":"tool.call","tool":"u"}"#);
    assert_eq!(
        (held["verdict"].as_str(), held["reason"].as_str()),
        (Some("escalate"), Some("Ask."))
    );
    assert_eq!(held["approvers"][0], "group:x");
    let wrong = eval("nonsense");
    assert_eq!(wrong["verdict"], "deny");
    assert!(wrong["errors"][0].as_str().unwrap().contains("not JSON"));
}
