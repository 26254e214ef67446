//! The toolkit's two languages, on documents as it published them.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::too_many_lines,
    reason = "a test fails by panicking"
)]

use std::fs;
use std::path::Path;

use policy::{Action, Dialect, Engine, Limits, Policy, Variables, Verdict, spec};

fn vector(name: &str) -> Result<Policy, String> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/vectors");
    let bytes = fs::read(folder.join(name)).unwrap();
    Policy::parse(name, &bytes, &Variables::default()).map_err(|error| error.to_string())
}

/// What cannot be kept is refused, and these are all.
const REFUSED: [(&str, &str); 7] = [
    (
        "v4/1187e4-enterprise.yaml",
        ":38:13: a PolicyDocument has the actions allow, audit, deny and block, not `escalate`",
    ),
    (
        "v4/6bd6ad-financial.yaml",
        ":32:13: a PolicyDocument has the actions",
    ),
    (
        "v4/9f5f41-healthcare.yaml",
        ":32:13: a PolicyDocument has the actions",
    ),
    (
        "v4/33360f-strict.yaml",
        ":33:3: there is no key `min_trust_score` here",
    ),
    (
        "v4/cd3789-default.yaml",
        ":30:3: there is no key `min_trust_score` here",
    ),
    (
        "v4/4520cf-atr_community_policy_full.yaml",
        ":972:12: `(?:Why",
    ),
    (
        "v4/9b28c4-research_governance_policy.yaml",
        ":54:14: `(?i)download",
    ),
];

#[test]
fn every_document_loads_or_is_refused_with_the_reason() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/vectors");
    let mut loaded = 0;
    for dialect in ["v1", "v4"] {
        for entry in fs::read_dir(folder.join(dialect)).unwrap() {
            let name = format!("{dialect}/{}", entry.unwrap().file_name().to_string_lossy());
            match (
                vector(&name),
                REFUSED.iter().find(|(file, _)| *file == name),
            ) {
                (Ok(policy), None) => {
                    let v1 = policy.dialect == Dialect::ToolkitV1;
                    assert_eq!(v1, dialect == "v1", "{name}");
                    loaded += 1;
                }
                (Err(error), Some((_, why))) => assert!(error.contains(why), "{error}"),
                (Err(error), None) => panic!("{error}"),
                (Ok(_), Some(_)) => panic!("{name} loads"),
            }
        }
    }
    assert_eq!(loaded, 37 - REFUSED.len());
}

fn decide(policy: &Policy, json: &str) -> (Verdict, Option<String>) {
    let action = Action::from_json(json).unwrap_or_else(|e| panic!("{e}"));
    let decision = spec::decide(&[policy], &action, &mut Limits::default());
    (decision.verdict, decision.rule.map(str::to_owned))
}

#[test]
fn they_decide_as_their_authors_meant() {
    use Verdict::{Allow, Audit, Deny, Escalate};
    for (file, json, verdict, rule) in [
        (
            "v1/a222e3-quickstart.yaml",
            r#"{"action":"tool.call","tool":"web_search"}"#,
            Allow,
            "allow-safe-reads",
        ),
        (
            "v1/a222e3-quickstart.yaml",
            r#"{"action":"tool.call","tool":"file_read","path":"/etc/passwd"}"#,
            Deny,
            "block-system-paths",
        ),
        (
            "v1/a222e3-quickstart.yaml",
            r#"{"action":"tool.call","tool":"send_email"}"#,
            Escalate,
            "require-approval-for-email",
        ),
        (
            "v1/a222e3-quickstart.yaml",
            r#"{"action":"tool.call","tool":"http_request","time":1}"#,
            Allow,
            "rate-limit-http",
        ),
        // Without a time, nobody can say how often.
        (
            "v1/a222e3-quickstart.yaml",
            r#"{"action":"tool.call","tool":"http_request"}"#,
            Deny,
            "rate-limit-http",
        ),
        (
            "v1/a222e3-quickstart.yaml",
            r#"{"action":"tool.call","tool":"other"}"#,
            Deny,
            "",
        ),
        (
            "v1/1bb9d7-healthcare_governance.yaml",
            r#"{"action":"tool.call","tool":"get_treatment_guidelines"}"#,
            Allow,
            "allow-clinical-tools",
        ),
        (
            "v1/2b505f-wire-protocol-rules.yaml",
            r#"{"action":"tool.call","tool":"q","sql":{"verb":"DROP"}}"#,
            Deny,
            "deny-destructive-sql-drop",
        ),
        (
            "v1/2b505f-wire-protocol-rules.yaml",
            r#"{"action":"tool.call","tool":"q","sql":{"verb":"SELECT"}}"#,
            Allow,
            "",
        ),
        (
            "v4/06dbff-sandbox-policy.yaml",
            r#"{"action":"fs.read","path":"/data"}"#,
            Allow,
            "allow-file-read",
        ),
        (
            "v4/06dbff-sandbox-policy.yaml",
            r#"{"action":"exec","program":"sh","argv":["sh"]}"#,
            Deny,
            "deny-shell-execute",
        ),
        // No default means deny, in every language.
        (
            "v4/06dbff-sandbox-policy.yaml",
            r#"{"action":"fs.write","path":"/data"}"#,
            Deny,
            "",
        ),
        (
            "v4/890406-research_agent.yaml",
            r#"{"action":"tool.call","tool":"run","code":"os.system('x')"}"#,
            Deny,
            "deny-shell-out-os-system",
        ),
        // Arguments may make a rule deny.
        (
            "v4/890406-research_agent.yaml",
            r#"{"action":"tool.call","tool":"run","args":{"code":"pip install x"}}"#,
            Deny,
            "deny-pip-install",
        ),
        (
            "v4/7e2b88-quality_gate_policy.yaml",
            r#"{"action":"agent.message","message":"REVIEWED","message_count":1}"#,
            Allow,
            "allow-reviewed-content",
        ),
        // But never allow.
        (
            "v4/7e2b88-quality_gate_policy.yaml",
            r#"{"action":"agent.message","args":{"message":"REVIEWED"},"message_count":1}"#,
            Audit,
            "audit-all-publish-actions",
        ),
        (
            "v4/1c4345-healthcare.yaml",
            r#"{"action":"tool.call","tool":"x","output":"<|im_start|>"}"#,
            Deny,
            "asi01-prompt-injection-delimiter",
        ),
        (
            "v4/1c4345-healthcare.yaml",
            r#"{"action":"tool.call","tool":"drop_all"}"#,
            Deny,
            "asi02-block-file-deletion",
        ),
    ] {
        let policy = vector(file).unwrap();
        let expected = (verdict, (!rule.is_empty()).then(|| rule.to_owned()));
        assert_eq!(decide(&policy, json), expected, "{file} {json}");
    }
}

#[test]
fn patterns_are_read_as_python_reads_them() {
    for (pattern, yes, no) in [
        ("a{b", "xa{b", "ab"),
        ("^a{2,}$", "aaa", "a"),
        (r"\<b\>", "<b>", "b"),
        ("a$", "a\n", "ab"),
        ("[[a]b", "[b", "b"),
        ("[a&&b]c", "&c", "c"),
        (r"b\Z", "ab", "b\n"),
    ] {
        let text = format!(
            "name: p\nrules:\n  - {{name: r, condition: {{field: m, operator: matches, value: '{pattern}'}}, action: allow}}\n"
        );
        let policy = Policy::parse("p", text.as_bytes(), &Variables::default());
        let policy = policy.unwrap_or_else(|e| panic!("{e}"));
        let verdict = |m: &str| {
            let action = Action::draft(policy::ActionKind::ModelCall)
                .with("m", m)
                .build()
                .unwrap();
            spec::decide(&[&policy], &action, &mut Limits::default()).verdict
        };
        assert_eq!(
            (verdict(yes), verdict(no)),
            (Verdict::Allow, Verdict::Deny),
            "{pattern}"
        );
    }
}

/// Operators, and values that are not of their type: what errs denies in any rule, unless another
/// test of the condition settles it.
#[test]
fn what_cannot_be_compared_denies() {
    let v4 = |operator: &str, value: &str, action: &str| {
        let rule = format!("{{field: f, operator: {operator}, value: {value}}}, action: {action}");
        format!(
            "name: p\ndefaults: {{action: allow}}\nrules:\n  - {{name: r, condition: {rule}}}\n"
        )
    };
    let v1 = |condition: &str, action: &str| {
        let head = "apiVersion: governance.toolkit/v1\nname: p\ndefault_action: allow\n";
        format!("{head}rules:\n  - {{name: r, condition: \"{condition}\", action: {action}}}\n")
    };
    for (text, field, denied) in [
        (v4("gt", "5", "allow"), r#""6""#, true),
        (v4("gt", "5", "deny"), "true", false),
        (v4("lt", "5", "deny"), "true", true),
        (v4("lte", "m", "allow"), "1", true),
        (v4("eq", "1", "deny"), "true", true),
        (v4("ne", "1", "deny"), r#""1""#, true),
        (v4("ne", "1", "deny"), "null", false),
        (v4("in", "text", "allow"), "7", true),
        (v4("in", "[7, 8]", "deny"), r#""7""#, false),
        (v4("contains", "x", "allow"), "7", true),
        (v4("contains", "x", "deny"), r#"{"x":1}"#, true),
        (v4("contains", "7", "deny"), "[1,7.0]", true),
        (v1("f < 5", "deny"), "null", true),
        (v1("f < 5", "require_approval"), "null", true),
        (v1("f != 'x'", "deny"), "null", true),
        (v1("f != 'x' and f > 3", "deny"), r#""x""#, false),
        (v1("f == 'x' or f > 3", "allow"), r#""x""#, false),
        (v1("f == 'x' or f > 3", "allow"), r#""y""#, true),
    ] {
        let policy = Policy::parse("p", text.as_bytes(), &Variables::default());
        let policy = policy.unwrap_or_else(|e| panic!("{e}"));
        let json = format!(r#"{{"action":"model.call","f":{field}}}"#);
        let action = Action::from_json(&json).unwrap();
        let verdict = spec::decide(&[&policy], &action, &mut Limits::default()).verdict;
        assert_eq!(!verdict.allows(), denied, "{text}{json}");
        let engine = Engine::new(vec![policy]);
        let (mut limits, mut scratch) = (Limits::default(), engine.scratch());
        let decided = engine.decide(&action, &mut limits, &mut scratch).verdict;
        assert_eq!(decided, verdict, "{text}{json}");
    }
}

/// Each of them is some ten thousand states: all in one would be searched state by state, with room
/// for every pattern in each.
#[test]
fn many_large_patterns_are_searched_in_bounded_memory() {
    let mut text = "name: p\ndefaults: {action: allow}\nrules:\n".to_owned();
    for i in 0..100 {
        text.push_str(&format!(
            "  - {{name: r{i}, condition: {{field: m, operator: matches, value: '(?i)w{i}(\\s+(\\w{{1,10}})){{2}}z'}}, action: deny}}\n"
        ));
    }
    let policy = Policy::parse("p", text.as_bytes(), &Variables::default()).unwrap();
    let engine = Engine::new(vec![policy]);
    let (mut limits, mut scratch) = (Limits::default(), engine.scratch());
    for (message, rule) in [
        ("say W70 one twoz", Some("r70")),
        ("say w1 one", None),
        ("w99 é éz", Some("r99")),
    ] {
        let action = Action::draft(policy::ActionKind::ModelCall).with("m", message);
        let action = action.build().unwrap();
        let decided = engine.decide(&action, &mut limits, &mut scratch);
        assert_eq!(decided.rule, rule, "{message}");
    }
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let most = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let most: u64 = most
        .unwrap()
        .trim()
        .trim_end_matches(" kB")
        .parse()
        .unwrap();
    assert!(most < 512 * 1024, "{most} kB");
}

#[test]
fn what_is_not_enforced_is_noted() {
    let policy = vector("v4/cc5403-default.yaml").unwrap();
    let notes: Vec<&str> = policy.notes.iter().map(|(_, note)| note.as_str()).collect();
    assert_eq!(notes.len(), 3);
    assert_eq!(notes[0], "defaults.max_tokens is not enforced by policy");
}

#[test]
fn what_would_change_a_decision_is_refused() {
    let v1 = |rest: &str| format!("apiVersion: governance.toolkit/v1\nname: p\n{rest}");
    let rule = |rest: &str| v1(&format!("rules:\n  - {{name: r, {rest}}}\n"));
    for (text, expected) in [
        (v1("scope: team\nrules: []\n"), "p:3:8: a scope is not kept"),
        (rule("condition: \"a ~ 'b'\", action: deny"), "`~` is not expected here"),
        (rule("condition: \"a == b\", action: deny"), "`b` is no value"),
        (rule("condition: \"(a == 'b'\", action: deny"), "`)` is missing"),
        (rule("condition: \"a == 'b' c\", action: deny"), "`c` is not expected here"),
        (rule("condition: \"a == 'b'\", action: rate_limit"), "`limit` is missing"),
        (rule("condition: \"a == 'b'\", action: explode"), "`explode` is none of"),
        (rule("condition: {field: a, operator: eq, value: b}, action: deny"), "this is a map; write one text"),
        ("apiVersion: governance.toolkit/v2\nname: p\nrules: []\n".to_owned(), "`governance.toolkit/v2` is none of"),
        ("name: p\ninherit: false\nrules:\n  - {name: r, condition: {field: a, operator: eq, value: b}, action: deny}\n".to_owned(), "a chain of documents is not kept"),
        ("name: p\nrules:\n  - {name: r, condition: {field: a, operator: not_in, value: b}, action: deny}\n".to_owned(), "not `not_in`"),
    ] {
        let error = Policy::parse("p", text.as_bytes(), &Variables::default()).unwrap_err().to_string();
        assert!(error.contains(expected), "{text}\n{error}");
    }
}
