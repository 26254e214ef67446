//! The hook that Claude Code and Codex run before each of their tool calls, run as they run it.
//! (`tests/agents/run-ringed.py` has the two agents themselves.)

use std::fs;
use std::time::Duration;

use outside::{Place, Ran, Who, everybody, until};
use serde_json::Value;

const POLICY: &str = "version: 1\nname: tools\ndefault: allow\nrules:\n  \
    - {name: no-drop, match: {action: tool.call, tool: Bash}, when: 'args.command.contains(\"drop\")', verdict: deny, \
       reason: Dropping needs a person.}\n  \
    - {name: deploy, match: {action: tool.call, tool: Deploy}, verdict: escalate}\n";

/// A place whose agent is this script.
fn place(who: Who, script: &str) -> Place {
    let place = Place::new(who);
    place.dir("ws");
    place.file("policy.yaml", POLICY);
    place.file("ws/agent.sh", script);
    place
}

fn yaml(more: &str) -> String {
    format!(
        "version: 1\nname: hooked\nring: standard\nworkspace: ./ws\nhome: none\npolicy: [policy.yaml]\n\
         command: [/bin/sh, agent.sh]\n{more}"
    )
}

/// The records of tool calls and their outcomes: kind, tool, verdict or `ok`.
fn calls(place: &Place) -> Vec<String> {
    let shown = place.finish(&["audit", "show", "--json"]);
    let all = shown.expect_code(0).stdout.lines();
    let all = all.map(|line| serde_json::from_str(line).unwrap());
    all.filter_map(|one: Value| match one["kind"].as_str()? {
        "decision" => Some(format!(
            "{} {}",
            one["action"]["tool"].as_str()?,
            one["verdict"].as_str()?
        )),
        "outcome" => Some(format!(
            "of {} {}",
            one["action"]["of"], one["action"]["ok"]
        )),
        _ => None,
    })
    .collect()
}

const ASKS: &str = r#"
ask() { printf '%s' "$2" | env -i /run/agt-hook $1; echo "$1 $?"; }
ask before '{"tool_name": "Bash", "tool_use_id": "../a", "tool_input": {"command": "ls"}}'
ask after '{"tool_name": "Bash", "tool_use_id": "../a", "tool_response": "x"}'
ask after '{"tool_name": "Bash", "tool_use_id": "../a", "tool_response": "x"}'
ask before '{"tool_name": "Bash", "tool_use_id": "b", "tool_input": {"command": "drop it"}}'
ask failed '{"tool_name": "Bash", "tool_use_id": "b"}'
ask before '{"tool_name": "Read", "tool_use_id": "c", "tool_input": [1]}'
ask failed '{"tool_name": "Read", "tool_use_id": "c"}'
ask before 'no call'
ask before '{"tool_input": {"command": "ls"}}'
ask else '{}'
long() { printf '{"tool_name": "Write", "tool_input": {"content": "'; head -c $1 /dev/zero | tr '\0' x; printf '"}}'; }
long 300000 | /run/agt-hook before; echo "long $?"
long 3000000 | /run/agt-hook before; echo "longer $?"
(: >/run/agt-hook) || echo kept
rm -f /etc/claude-code/managed-settings.json /etc/codex/requirements.toml || echo kept
"#;

#[test]
fn a_call_is_decided_before_and_told_of_afterwards() {
    for who in everybody() {
        let place = place(who, ASKS);
        let ran: Ran = place.run(&yaml(""));
        ran.expect_code(0)
            .expect_said(
                "agt-supervisor: Bash is denied by the rule no-drop: Dropping needs a person.",
            )
            .expect_said("its input is 3000014 bytes of JSON; at most 1048576");
        let said: Vec<&str> = ran.stdout.lines().collect();
        let wanted = [
            "before 0", "after 0", "after 0", "before 2", "failed 0", "before 0", "failed 0",
            "before 2", "before 2", "else 2", "long 0", "longer 2", "kept", "kept",
        ];
        assert_eq!(said, wanted, "{who:?}");
        let all = [
            "Bash allow",
            "of 2 true",
            "Bash deny",
            "Read allow",
            "of 5 false",
            "Write allow",
        ];
        assert_eq!(calls(&place), all, "{who:?}");
    }
}

#[test]
fn a_call_that_is_held_waits_for_a_person() {
    for who in everybody() {
        let place = place(
            who,
            "printf '{\"tool_name\": \"Deploy\", \"tool_input\": {\"to\": \"%s\"}}' \"$TRY\" | /run/agt-hook before; echo \"$?\"\n",
        );
        for (verb, code) in [("deny", "2\n"), ("approve", "0\n")] {
            let child = place.start(&yaml(&format!("env: {{set: {{TRY: {verb}}}}}\n")));
            let mut id = String::new();
            until("it is held", Duration::from_secs(20), || {
                let shown = place.finish(&["approvals", "--json"]);
                let list: Value = serde_json::from_str(&shown.stdout).unwrap_or_default();
                id = list[0]["id"].as_str().unwrap_or_default().to_owned();
                !id.is_empty()
            });
            place.finish(&[verb, &id]).expect_code(0);
            let ran = Ran::wait(child, Duration::from_secs(60));
            assert_eq!(ran.expect_code(0).stdout, code, "{who:?} {}", ran.stderr);
        }
    }
}

#[test]
fn where_no_hook_can_be_there_is_none_and_it_is_said() {
    for who in everybody() {
        let place = place(who, "ls /run/agt-hook\n");
        let ran = place.run(&yaml("files: {read: [/etc]}\n"));
        assert_ne!(ran.code, 0, "{}", ran.stdout);
        ran.expect_said("tool calls of Claude Code and Codex are not asked about: /etc is granted, as it is on this host");
        // One program and no other: it could run no hook.
        let one = "version: 1\nname: hooked\nring: sandbox\nworkspace: ./ws\ncommand: [/bin/ls, /run/agt-hook]\n";
        assert_ne!(place.run(one).code, 0);
        assert!(fs::exists(place.dir.join("ws/agent.sh")).unwrap());
    }
}
