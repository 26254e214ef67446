//! The native language, seen from outside.

#![expect(clippy::panic, reason = "a test fails by panicking")]

use policy::{Action, Limits, Policy, Variables, Verdict, spec};

const EXAMPLE: &str = r#"version: 1
name: research
default: deny
combine: deny-overrides
rules:
  - name: read-the-workspace
    match: {action: fs.read, path: "${workspace}/**"}
    verdict: allow
  - name: sql
    match: {action: tool.call, tool: ["sql.*", "db.*"]}
    verdict: allow
  - name: no-drop
    match: {action: tool.call, tool: ["sql.*", "db.*"]}
    when: 'args.query.matches("(?i)\\bdrop\\b")'
    verdict: deny
    reason: Dropping tables needs a person.
  - name: git
    match: {action: exec, program: git}
    verdict: audit
  - name: no-force-push
    match: {action: exec, program: git, argv: {has: ["push", "--force*"]}}
    unless: 'agent == "release-bot"'
    verdict: deny
  - name: taint
    match: {action: fs.read, path: /srv/customers/**}
    verdict: allow
    labels: {add: [customer-data]}
  - name: mail
    match: {action: tool.call, tool: [send_email, http.get]}
    verdict: allow
  - name: no-mail-after-customers
    match: {action: tool.call, tool: send_email}
    when: '"customer-data" in labels'
    verdict: escalate
    approvers: ["group:security"]
  - name: not-too-fast
    match: {action: tool.call, tool: http.*}
    limit: {rate: 20/h, burst: 2}
  - name: web
    match: {action: net.connect, host: ["*.example.com", 10.0.0.0/8], port: [443, 8000-8999]}
    verdict: allow
"#;

fn example() -> Policy {
    let variables = Variables {
        workspace: Some("/home/a/ws".into()),
    };
    Policy::parse("policy.yaml", EXAMPLE.as_bytes(), &variables).unwrap_or_else(|e| panic!("{e}"))
}

fn decide(policy: &Policy, json: &str) -> (Verdict, Option<String>) {
    let action = Action::from_json(json).unwrap_or_else(|e| panic!("{e}"));
    let decision = spec::decide(&[policy], &action, &mut Limits::default());
    (decision.verdict, decision.rule.map(str::to_owned))
}

#[test]
fn the_example_of_the_manual() {
    use Verdict::{Allow, Audit, Deny, Escalate};
    let policy = example();
    for (json, verdict, rule) in [
        (
            r#"{"action":"fs.read","path":"/home/a/ws/x/y"}"#,
            Allow,
            "read-the-workspace",
        ),
        (
            r#"{"action":"fs.read","path":"/home/a/ws"}"#,
            Allow,
            "read-the-workspace",
        ),
        (r#"{"action":"fs.read","path":"/home/a/wsx"}"#, Deny, ""),
        (r#"{"action":"fs.write","path":"/home/a/ws/x"}"#, Deny, ""),
        (
            r#"{"action":"fs.read","path":"/srv/customers/1"}"#,
            Allow,
            "taint",
        ),
        (
            r#"{"action":"tool.call","tool":"sql.query","args":{"query":"select 1"}}"#,
            Allow,
            "sql",
        ),
        (
            r#"{"action":"tool.call","tool":"sql.query","args":{"query":"a; DROP table"}}"#,
            Deny,
            "no-drop",
        ),
        // Missing, and of another type: the rule that denies, denies.
        (
            r#"{"action":"tool.call","tool":"sql.query"}"#,
            Deny,
            "no-drop",
        ),
        (
            r#"{"action":"tool.call","tool":"sql.query","args":{"query":["drop"]}}"#,
            Deny,
            "no-drop",
        ),
        (
            r#"{"action":"exec","program":"/usr/bin/git","argv":["git","pull"]}"#,
            Audit,
            "git",
        ),
        (
            r#"{"action":"exec","program":"/usr/bin/git","argv":["git","push","--force-with-lease"],"agent":"a"}"#,
            Deny,
            "no-force-push",
        ),
        (
            r#"{"action":"exec","program":"/usr/bin/git","argv":["git","push","--force"],"agent":"release-bot"}"#,
            Audit,
            "git",
        ),
        (
            r#"{"action":"exec","program":"/usr/bin/git","argv":["git","push","--force"]}"#,
            Deny,
            "no-force-push",
        ),
        (
            r#"{"action":"tool.call","tool":"send_email"}"#,
            Allow,
            "mail",
        ),
        (
            r#"{"action":"tool.call","tool":"send_email","labels":["customer-data"]}"#,
            Escalate,
            "no-mail-after-customers",
        ),
        (
            r#"{"action":"net.connect","host":"API.Example.com.","port":443}"#,
            Allow,
            "web",
        ),
        (
            r#"{"action":"net.connect","host":"example.com","port":443}"#,
            Deny,
            "",
        ),
        (
            r#"{"action":"net.connect","host":"::ffff:10.1.2.3","port":8080}"#,
            Allow,
            "web",
        ),
        (
            r#"{"action":"net.connect","host":"11.1.2.3","port":8080}"#,
            Deny,
            "",
        ),
    ] {
        let expected = (verdict, (!rule.is_empty()).then(|| rule.to_owned()));
        assert_eq!(decide(&policy, json), expected, "{json}");
    }
}

/// Whoever knows that the wall clock was set says so: the limit holds as if it had not been.
#[test]
fn limits_go_with_a_clock_that_was_set() {
    const START: u64 = 1_800_000_000_000;
    let (policy, mut limits) = (example(), Limits::default());
    let decide = |limits: &mut Limits, time: u64| {
        let draft = Action::draft(policy::ActionKind::ToolCall).with("tool", "http.get");
        let action = draft.with("agent", "a").with("time", time).build().unwrap();
        spec::decide(&[&policy], &action, limits).retry_after_ms
    };
    for _ in 0..2 {
        assert_eq!(decide(&mut limits, START), None);
    }
    for jump in [-3_600_000_000, 7_200_000_000] {
        let now = START.saturating_add_signed(jump);
        let mut limits = limits.clone();
        limits.shift(jump);
        assert_eq!(decide(&mut limits, now), Some(180_000), "{jump}");
        assert_eq!(decide(&mut limits, now + 180_000), None, "{jump}");
        assert_eq!(decide(&mut limits, now + 180_000), Some(180_000), "{jump}");
    }
}

#[test]
fn limits_never_allow_and_say_when() {
    let (policy, mut limits) = (example(), Limits::default());
    let mut at = |tool: &str, time: u64| {
        let draft = Action::draft(policy::ActionKind::ToolCall).with("tool", tool);
        let action = draft.with("agent", "a").with("time", time).build().unwrap();
        let decision = spec::decide(&[&policy], &action, &mut limits);
        (decision.verdict, decision.retry_after_ms)
    };
    assert_eq!(
        at("http.put", 0),
        (Verdict::Deny, None),
        "nothing allows it"
    );
    assert_eq!(at("http.get", 1000), (Verdict::Allow, None));
    assert_eq!(at("http.get", 1000), (Verdict::Allow, None));
    assert_eq!(at("http.get", 1000), (Verdict::Deny, Some(180_000)));
    assert_eq!(at("http.get", 180_999), (Verdict::Deny, Some(1)));
    assert_eq!(at("http.get", 181_000), (Verdict::Allow, None));
    assert_eq!(
        at("http.get", 0).0,
        Verdict::Deny,
        "a clock that goes back gives nothing"
    );
}

#[test]
fn every_document_has_to_allow() {
    let one = |name: &str, default: &str, verdict: &str| {
        let text = format!(
            "version: 1\nname: {name}\ndefault: {default}\nrules:\n  - {{name: r, match: {{action: tool.call, tool: t}}, verdict: {verdict}}}\n"
        );
        Policy::parse("p", text.as_bytes(), &Variables::default()).unwrap()
    };
    let action = Action::from_json(r#"{"action":"tool.call","tool":"t"}"#).unwrap();
    let decide = |all: &[&Policy]| {
        let decision = spec::decide(all, &action, &mut Limits::default());
        (decision.verdict, decision.policy.map(str::to_owned))
    };
    let (allow, audit) = (one("site", "deny", "allow"), one("ring", "allow", "audit"));
    let (escalate, deny) = (
        one("agent", "allow", "escalate"),
        one("no", "allow", "deny"),
    );
    assert_eq!(decide(&[&allow]), (Verdict::Allow, Some("site".into())));
    assert_eq!(
        decide(&[&allow, &audit]),
        (Verdict::Audit, Some("ring".into()))
    );
    assert_eq!(
        decide(&[&allow, &escalate, &audit]),
        (Verdict::Escalate, Some("agent".into()))
    );
    assert_eq!(
        decide(&[&deny, &escalate, &allow]),
        (Verdict::Deny, Some("no".into()))
    );
    assert_eq!(decide(&[]), (Verdict::Deny, None));
}

#[test]
fn what_is_wrong_is_said_with_its_place() {
    let rule = |rest: &str| format!("version: 1\nname: p\nrules:\n  - name: r\n    {rest}\n");
    for (text, expected) in [
        (
            rule("verdict: alow"),
            "p.yaml:5:14: `alow` is none of allow, audit, deny, escalate; did you mean `allow`?",
        ),
        (
            rule("match: {toool: x}\n    verdict: deny"),
            "p.yaml:5:13: there is no field `toool`; did you mean `tool`?",
        ),
        (
            rule("match: {action: fs.reed}\n    verdict: deny"),
            "p.yaml:5:21: there is no action `fs.reed`; did you mean `fs.read`?",
        ),
        (
            rule("match: {path: ../x}\n    verdict: deny"),
            "p.yaml:5:19: `../x` is not an absolute path",
        ),
        (
            rule("match: {path: \"${workspace}/x\"}\n    verdict: deny"),
            "p.yaml:5:19: no workspace is known here",
        ),
        (
            rule("match: {host: \"a b\"}\n    verdict: deny"),
            "p.yaml:5:19: `a b` names no host",
        ),
        (
            rule("match: {port: 0}\n    verdict: deny"),
            "p.yaml:5:19: `0` is no port",
        ),
        (
            rule("when: args.x ==\n    verdict: deny"),
            "p.yaml:5:11: not CEL",
        ),
        (
            rule("when: agnt == 'x'\n    verdict: deny"),
            "p.yaml:5:11: there is no `agnt`; did you mean `agent`?",
        ),
        (
            rule("when: agent.foo()\n    verdict: deny"),
            "p.yaml:5:11: there is no `foo()`",
        ),
        (
            rule("when: labels.map(x, x) == []\n    verdict: deny"),
            "p.yaml:5:11: only `exists` and `all`",
        ),
        (
            rule("when: argv.exists(a, labels.exists(l, l == a))\n    verdict: deny"),
            "`labels` cannot be asked inside",
        ),
        (
            rule("when: args.q.matches(agent)\n    verdict: deny"),
            "takes a pattern in quotes",
        ),
        (
            rule("when: args.q.matches('(?=x)')\n    verdict: deny"),
            "look-around",
        ),
        (
            rule("limit: {rate: 20/y}"),
            "p.yaml:5:19: `20/y` is no rate",
        ),
        (
            rule("reason: nothing"),
            "p.yaml:4:5: this rule does nothing",
        ),
        (
            rule("verdict: deny\n    approvers: [a]"),
            "only `escalate` asks approvers",
        ),
        (
            rule("verdict: deny\n  - {name: r, verdict: allow}"),
            "there is a rule `r` in line 4",
        ),
        (
            "version: 2\nname: p\nrules: []\n".into(),
            "p.yaml:1:10: this version is not known",
        ),
        ("version: 1\nname: p\n".into(), "`rules` is missing"),
    ] {
        let error = Policy::parse("p.yaml", text.as_bytes(), &Variables::default()).unwrap_err();
        assert!(
            error.to_string().contains(expected),
            "{text}\n{error}\n{expected}"
        );
    }
}

#[test]
fn actions_are_whole_or_none() {
    for (json, expected) in [
        ("[]", "not a JSON object"),
        ("{", "not JSON"),
        (
            r#"{"action":"fs.read","path":"/a","path":"/b"}"#,
            "`path` is given twice",
        ),
        (
            r#"{"action":"fs.read","path":"/a","args":{"x":{"y":1,"y":2}}}"#,
            "`y` is given twice",
        ),
        (
            r#"{"action":"file.read"}"#,
            "there is no action `file.read`",
        ),
        (r#"{"action":"fs.read"}"#, "needs `path`"),
        (r#"{"action":"exec","program":"/bin/ls"}"#, "needs `argv`"),
        (r#"{"action":"net.connect","port":1}"#, "needs `host`"),
        (
            r#"{"action":"fs.read","path":"/a/../b"}"#,
            "not absolute and resolved",
        ),
        (
            r#"{"action":"fs.read","path":"/a/"}"#,
            "not absolute and resolved",
        ),
        (
            r#"{"action":"fs.read","path":"a"}"#,
            "not absolute and resolved",
        ),
        (
            r#"{"action":"net.connect","host":"a","port":65536}"#,
            "not from 1 to 65535",
        ),
        (
            r#"{"action":"net.connect","host":"0x7f.1","port":1}"#,
            "host",
        ),
        (r#"{"action":"tool.call","tool":7}"#, "`tool` is not text"),
        (
            r#"{"action":"tool.call","tool":"t","args":[]}"#,
            "`args` is not an object",
        ),
        (r#"{"action":"tool.call","tool":"t","bytes":-1}"#, "`bytes`"),
    ] {
        let error = Action::from_json(json).unwrap_err().to_string();
        assert!(error.contains(expected), "{json}: {error}");
    }
}

#[test]
fn conditions_are_bounded_and_never_break() {
    let bad = [
        "!".repeat(1000),
        "(".repeat(1000),
        "-".repeat(900) + "1",
        "[".repeat(500),
        "a?".repeat(400),
    ];
    for when in bad {
        let text = format!(
            "version: 1\nname: p\nrules:\n  - {{name: r, when: '{when}', verdict: deny}}\n"
        );
        assert!(
            Policy::parse("p", text.as_bytes(), &Variables::default()).is_err(),
            "{when}"
        );
    }
    // At the bound, it is the parser that answers.
    let most = [
        "!".repeat(64) + "true",
        "-".repeat(63) + "1",
        "a?".repeat(64),
        "args".to_owned() + &".a".repeat(63),
        "(".repeat(12) + "true" + &")".repeat(12),
        "1".to_owned() + &"+1".repeat(8) + &"*1".repeat(50),
        "true".to_owned() + &"||true".repeat(32),
        "[".repeat(12) + &"]".repeat(12),
        "true".to_owned() + &"?true:true".repeat(30),
    ];
    for when in most {
        let text = format!(
            "version: 1\nname: p\nrules:\n  - {{name: r, when: '{when}', verdict: deny}}\n"
        );
        if let Ok(policy) = Policy::parse("p", text.as_bytes(), &Variables::default()) {
            decide(&policy, r#"{"action":"model.call"}"#);
        }
    }
    let rule = |when: &str, verdict: &str| {
        let text = format!(
            "version: 1\nname: p\ndefault: allow\nrules:\n  - {{name: r, when: '{when}', verdict: {verdict}}}\n"
        );
        Policy::parse("p", text.as_bytes(), &Variables::default()).unwrap_or_else(|e| panic!("{e}"))
    };
    let json = r#"{"action":"tool.call","tool":"t","args":{"n":5,"s":"x","l":[1,2]},"bytes":7}"#;
    for (when, verdict, expected) in [
        ("args.n > 4", "deny", Verdict::Deny),
        ("args.n > 4.5", "deny", Verdict::Deny),
        ("args.n > 5", "deny", Verdict::Allow),
        ("args.l.exists(x, x == 2)", "deny", Verdict::Deny),
        ("has(args.q) && args.q == 1", "deny", Verdict::Allow),
        ("args.q == 1", "deny", Verdict::Deny),
        ("args.q == 1", "escalate", Verdict::Deny),
        ("args.q == 1", "audit", Verdict::Allow),
        ("session == \"x\"", "audit", Verdict::Allow),
        ("args.n > args.s", "audit", Verdict::Deny),
        ("args.n / 0 == 1", "allow", Verdict::Deny),
        ("args.n", "allow", Verdict::Deny),
        (
            "bytes > 6 && action == \"tool.call\" && args.s.startsWith(\"x\")",
            "deny",
            Verdict::Deny,
        ),
    ] {
        assert_eq!(
            decide(&rule(when, verdict), json).0,
            expected,
            "{when} {verdict}"
        );
    }
}
