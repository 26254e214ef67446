//! Grants, seen from outside.

use policy::{Action, Engine, Limits, Policy, Variables, Verdict, spec};

const POLICY: &str = r#"version: 1
name: p
default: allow
rules:
  - {name: no-passwords, match: {action: fs.read, path: "**/passwords"}, verdict: deny}
grants:
  - {to: researcher, action: fs.read, scope: /srv/data/**, expires: 2026-12-31T18:00:00Z}
  - {to: "release-*", action: [exec, tool.call], scope: [git, "git.*"]}
  - {to: researcher, action: net.connect, scope: ["*.example.com"]}
"#;
const BEFORE: u64 = 1_798_739_999_999;

fn parse(text: &str) -> Result<Policy, policy::Error> {
    Policy::parse("p.yaml", text.as_bytes(), &Variables::default())
}

#[test]
fn what_is_granted_at_all_needs_a_grant() {
    let engine = Engine::new(vec![parse(POLICY).unwrap()]);
    let parts: Vec<Policy> = parse(POLICY).unwrap().parts().collect();
    let parts: Vec<&Policy> = parts.iter().collect();
    for (agent, time, action, allowed) in [
        (
            "researcher",
            BEFORE,
            r#"{"action":"fs.read","path":"/srv/data/a/b"}"#,
            true,
        ),
        // Expired, another's, beyond its scope, and what the rules deny.
        (
            "researcher",
            BEFORE + 1,
            r#"{"action":"fs.read","path":"/srv/data/a/b"}"#,
            false,
        ),
        (
            "other",
            BEFORE,
            r#"{"action":"fs.read","path":"/srv/data/a/b"}"#,
            false,
        ),
        (
            "researcher",
            BEFORE,
            r#"{"action":"fs.read","path":"/srv/other"}"#,
            false,
        ),
        (
            "researcher",
            BEFORE,
            r#"{"action":"fs.read","path":"/srv/data/passwords"}"#,
            false,
        ),
        (
            "release-bot",
            BEFORE,
            r#"{"action":"exec","program":"/usr/bin/git","argv":["git"]}"#,
            true,
        ),
        (
            "release-bot",
            BEFORE,
            r#"{"action":"exec","program":"sh","argv":["sh"]}"#,
            false,
        ),
        (
            "release-bot",
            BEFORE,
            r#"{"action":"tool.call","tool":"git.push"}"#,
            true,
        ),
        (
            "release",
            BEFORE,
            r#"{"action":"tool.call","tool":"git.push"}"#,
            false,
        ),
        (
            "researcher",
            BEFORE,
            r#"{"action":"net.connect","host":"a.example.com","port":443}"#,
            true,
        ),
        (
            "researcher",
            BEFORE,
            r#"{"action":"net.connect","host":"example.org","port":443}"#,
            false,
        ),
        // A kind that no grant names is the rules' alone.
        (
            "other",
            BEFORE,
            r#"{"action":"fs.write","path":"/x"}"#,
            true,
        ),
        ("other", BEFORE, r#"{"action":"model.call"}"#, true),
    ] {
        let object = policy::object(action).unwrap();
        let action = Action::from_object(object)
            .unwrap()
            .by(agent, "standard")
            .at(time, &[]);
        let said = engine.decide(&action, &mut Limits::default(), &mut engine.scratch());
        assert_eq!(
            said.verdict == Verdict::Allow,
            allowed,
            "{agent} {action:?}"
        );
        let plain = spec::decide(&parts, &action, &mut Limits::default());
        assert_eq!((plain.verdict, plain.rule), (said.verdict, said.rule));
        if !allowed && said.rule == Some("grants") {
            assert_eq!(said.reason, Some("no grant covers it"));
        }
    }
}

#[test]
fn a_wrong_grant_says_where_and_what_to_write() {
    for (from, to, says) in [
        (
            "2026-12-31T18:00:00Z",
            "tomorrow",
            "p.yaml:7:69: `tomorrow` is no moment",
        ),
        (
            "to: researcher, action: fs.read",
            "action: fs.read",
            "`to` is missing",
        ),
        (
            "action: fs.read",
            "action: fs.reed",
            "did you mean `fs.read`",
        ),
        (
            "action: net.connect",
            "action: model.call",
            "`model.call` has no scope",
        ),
        (
            "scope: /srv/data/**",
            "scope: srv/data",
            "is not an absolute path",
        ),
        ("scope: /srv/data/**", "scop: /srv/data/**", "scope"),
    ] {
        let text = POLICY.replacen(from, to, if from.starts_with("action: fs") { 2 } else { 1 });
        let error = parse(&text).unwrap_err().to_string();
        assert!(error.contains(says), "{to}: {error}");
    }
    assert!(parse("version: 1\nname: p\nrules: []\ngrants: []\n").is_err());
}

#[test]
fn who_enforces_a_grant_is_said() {
    let report = policy::check("p.yaml", POLICY.as_bytes(), &Variables::default());
    let text = report.unwrap().to_string();
    for line in [
        "grant 1 fs.read",
        "grant 2 exec",
        "grant 2 tool.call",
        "grant 3 net.connect",
    ] {
        assert!(text.contains(line), "{text}");
    }
    assert!(text.contains("grant 3 net.connect  egress"), "{text}");
}
