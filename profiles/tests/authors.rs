//! What authors of profiles are told, and the example site.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use profiles::{
    Accounts, Agent, Asker, Direction, Rings, diff, lint, parse_agent, resolve, score, skeleton,
};

const HEAD: &str = "version: 1\nname: pay\nextends: standard\n";
const PROBES: &str = "must_allow: [{syscall: getpid}]\nmust_deny: [{syscall: mount}]\n";

fn accounts() -> Accounts {
    Accounts::parse(
        "root:x:0:0::/:/bin/sh\nalice:x:1000:1000::/:/bin/sh\nodd line\n",
        "payments:x:500:alice\nodd:x:y:z\n",
    )
}

fn user(uid: u32, gids: &[u32]) -> Asker {
    Asker::User {
        uid,
        gids: gids.to_vec(),
        accounts: accounts(),
    }
}

/// The built-in rings and these.
fn rings(profiles: &[&str]) -> Result<Rings, String> {
    let mut rings = Rings::built_in().unwrap();
    for (number, text) in profiles.iter().enumerate() {
        let file = (format!("{number}.yaml"), text.as_bytes().to_vec());
        if let Some((_, error)) = rings.add(&[file]).first() {
            return Err(error.to_string());
        }
    }
    Ok(rings)
}

fn refused(profile: &str) -> String {
    rings(&[profile]).unwrap_err()
}

fn agent(more: &str) -> Agent {
    let text = format!("version: 1\nname: bot\ncommand: [x]\nring: pay\n{more}");
    parse_agent("a.yaml", text.as_bytes()).unwrap()
}

#[test]
fn a_ring_is_for_those_whom_it_names() {
    let profile = format!("{HEAD}applies: {{groups: [payments, '77'], users: [bob, '1007']}}\n");
    let rings = rings(&[&profile]).unwrap();
    let asks = |asker| resolve(&agent(""), &rings.clone().asked_by(asker));
    for asker in [
        Asker::Root,
        user(1000, &[1000, 500]),
        user(2, &[77]),
        user(1007, &[]),
    ] {
        assert!(asks(asker.clone()).is_ok(), "{asker}");
    }
    for asker in [Asker::Unknown, user(1000, &[1000]), user(1001, &[0])] {
        assert!(asks(asker.clone()).is_err(), "{asker}");
    }
    let said = asks(user(1000, &[])).unwrap_err().to_string();
    for part in [
        "a.yaml:4:7:",
        "not for user alice (uid 1000)",
        "groups payments, 77",
        "0.yaml:4",
    ] {
        assert!(said.contains(part), "{said}");
    }
}

#[test]
fn a_child_is_for_those_whom_its_parent_is_for_too() {
    let parent = format!("{HEAD}applies: {{groups: [payments]}}\n");
    let child = "version: 1\nname: child\nextends: pay\napplies: {users: [alice]}\n";
    let rings = rings(&[&parent, child]).unwrap();
    let ask = |asker| {
        let wish = Agent::from_command(vec!["x".into()], "child", "/".into()).unwrap();
        resolve(&wish, &rings.clone().asked_by(asker)).is_ok()
    };
    assert!(ask(user(1000, &[500])));
    assert!(!ask(user(1000, &[])) && !ask(user(1001, &[500])));
}

#[test]
fn only_some_presets() {
    let profile = format!("{HEAD}presets: [shell, python-agent]\n");
    let narrow = "version: 1\nname: child\nextends: pay\npresets: [shell]\n";
    let rings = rings(&[&profile, narrow]).unwrap();
    for fine in ["", "preset: shell\n"] {
        assert!(resolve(&agent(fine), &rings).is_ok(), "{fine}");
    }
    let said = resolve(&agent("preset: codex\n"), &rings)
        .unwrap_err()
        .to_string();
    assert!(
        said.starts_with("a.yaml:5:9:") && said.contains("0.yaml:4"),
        "{said}"
    );
    let wider = narrow.replace("[shell]", "[codex]");
    let said = self::rings(&[&profile, &wider]).unwrap_err();
    assert!(said.contains("the parent has not (0.yaml:4)"), "{said}");
}

#[test]
fn what_is_no_profile() {
    for (text, part) in [
        ("applies: {}", "names nobody"),
        ("applies: {groups: [], users: []}", "names nobody"),
        ("applies: {groups: [\"a b\"]}", "no account"),
        ("applies: [x]", "must be a map"),
        ("presets: [pyhton]", "none of claude-code"),
        ("must_deny: [{connect: example.com}]", "no host and port"),
        (
            "must_deny: [{connect: \"example.com:0\"}]",
            "no host and port",
        ),
        ("must_deny: [{connect: \"::1:80\"}]", "no host and port"),
        (
            "must_deny: [{connect: \"[10.0.0.1]:80\"}]",
            "no host and port",
        ),
        ("must_deny: [{resolve: \"a b\"}]", "no host name"),
        ("must_deny: [{resolve: 10.0.0.1}]", "no host name"),
        ("must_deny: [{read: etc/shadow}]", "no path from `/`"),
        ("must_deny: [{read: /srv/../etc}]", "no path from `/`"),
        ("must_deny: [{syscall: mout}]", "no system call"),
        ("must_deny: [{ping: x}]", "one key out of read"),
    ] {
        let said = refused(&format!("{HEAD}{text}\n"));
        assert!(
            said.contains(part) && said.starts_with("0.yaml:4:"),
            "{said}"
        );
    }
    for fine in [
        "{connect: \"[fe80::1]:80\"}",
        "{connect: \"10.0.0.1:80\"}",
        "{resolve: a.example}",
    ] {
        assert!(
            rings(&[&format!("{HEAD}must_deny: [{fine}]\n")]).is_ok(),
            "{fine}"
        );
    }
    let parent = format!("{HEAD}limits: {{max: {{wall: 1h, cpu: 2, output: 1G}}}}\n");
    for wider in ["wall: none", "wall: 2h", "cpu: none", "output: 2G"] {
        let child = format!("version: 1\nname: c\nextends: pay\nlimits: {{max: {{{wider}}}}}\n");
        let said = rings(&[&parent, &child]).unwrap_err();
        assert!(said.contains("beyond the parent's, 0.yaml:4"), "{said}");
    }
}

fn warnings(text: &str) -> Vec<String> {
    let text = format!("{HEAD}{text}\n");
    let rings = rings(&[&text]).unwrap();
    let found = lint("0.yaml", text.as_bytes(), &rings, &accounts()).unwrap();
    let one = |warning: profiles::Warning| format!("{}: {}", warning.key, warning.what);
    found.into_iter().map(one).collect()
}

#[test]
fn what_an_author_may_not_have_meant() {
    assert_eq!(warnings(PROBES), Vec::<String>::new());
    let both = warnings("");
    assert!(both.len() == 2 && both[0].starts_with("must_allow: nothing is tested"));
    let deny = "must_deny: [{syscall: mount}]\nmust_allow: ";
    let allow = "must_allow: [{syscall: getpid}]\nmust_deny: ";
    for (text, part) in [
        (
            format!("{deny}[{{syscall: mount}}]"),
            "must fail too (0.yaml:4)",
        ),
        (
            format!("{deny}[{{syscall: ptrace}}]"),
            "the filter refuses it",
        ),
        (
            format!("{deny}[{{connect: \"10.0.0.1:80\"}}]"),
            "never addresses",
        ),
        (
            format!("network: {{max: []}}\n{deny}[{{connect: \"a.example:80\"}}]"),
            "`network.max` has it not",
        ),
        (
            format!("programs: once\n{deny}[{{exec: /bin/sh}}]"),
            "one program, once",
        ),
        (
            format!("workspace: read\n{deny}[{{write: /srv/x}}]"),
            "their own /tmp",
        ),
        (format!("{allow}[{{syscall: getpid}}]"), "must fail too"),
        (
            format!("{allow}[{{syscall: read}}]"),
            "the filter answers it",
        ),
        (
            format!("{allow}[{{connect: \"a.example:80\"}}]"),
            "may ask for it",
        ),
        (format!("{allow}[{{resolve: a.example}}]"), "may ask for it"),
        (
            format!("read: [/srv]\n{allow}[{{read: /srv/x}}]"),
            "own paths hold it",
        ),
        (
            format!("{PROBES}home: private"),
            "home: says what ring standard says",
        ),
        (
            format!("{PROBES}network: {{host_ports: [any]}}"),
            "network.host_ports: says what",
        ),
        (
            format!("{PROBES}limits: {{max: {{memory: 16G}}}}"),
            "limits.max.memory: says what",
        ),
        (
            format!("{PROBES}limits: {{max: {{memory: 1G}}, default: {{memory: 2G}}}}"),
            "limits.default.memory: is above the maximum: agents get 1G",
        ),
        (
            format!("{PROBES}applies: {{groups: [nobody]}}"),
            "no group `nobody`",
        ),
        (
            format!("{PROBES}applies: {{users: [bob]}}"),
            "no user `bob`",
        ),
        (
            format!("{PROBES}write: [/srv/shared]"),
            "every agent of the ring may change it",
        ),
        (format!("{PROBES}read: [/etc]"), "secrets of others"),
        (
            format!("{PROBES}degrade: [landlock-tcp]"),
            "without landlock-tcp",
        ),
    ] {
        let said = warnings(&text);
        assert!(
            said.iter().any(|one| one.contains(part)),
            "{text}: {said:?}"
        );
    }
}

#[test]
fn a_new_profile_changes_nothing_until_a_line_is_taken_in() {
    let built_in = Rings::built_in().unwrap();
    for parent in built_in.iter() {
        let text = skeleton("team", parent);
        let add = |text: &str| {
            let mut rings = built_in.clone();
            let wrong = rings.add(&[("t.yaml".into(), text.as_bytes().to_vec())]);
            assert!(wrong.is_empty(), "{wrong:?}\n{text}");
            rings
        };
        let rings = add(&text);
        let found = lint("t.yaml", text.as_bytes(), &rings, &accounts()).unwrap();
        assert!(found.is_empty(), "{found:?}");
        let team = rings.find("team").unwrap();
        assert!(diff(parent, team).is_empty());
        let keys: Vec<&str> = text.lines().filter_map(key).collect();
        assert!(keys.len() >= 13, "{keys:?}");
        for taken in &keys {
            let line = format!("# {taken}");
            let rings = add(&text.replace(&line, taken));
            let changes = diff(parent, rings.find("team").unwrap());
            let fine = |change: &profiles::Change| {
                ["applies", "presets", "on_violation", "on_loop"].contains(&&*change.key)
            };
            assert!(changes.iter().all(fine), "{taken}: {changes:?}");
        }
    }
    let markdown = profiles::ring_markdown();
    let text = skeleton("team", built_in.find("2").unwrap());
    let tops = markdown.lines().filter_map(|line| {
        let key = line.strip_prefix("| `")?.split('`').next()?;
        (!key.contains('.') && key != "number").then(|| key.to_owned())
    });
    for key in tops {
        let there = |line: &str| {
            line.trim_start_matches("# ")
                .starts_with(&format!("{key}:"))
        };
        assert!(text.lines().any(there), "{key}");
    }
}

/// A line that is a key behind its `#`.
fn key(line: &str) -> Option<&str> {
    let rest = line.strip_prefix("# ")?;
    let (key, value) = rest.split_once(": ")?;
    let word = key
        .bytes()
        .all(|byte| byte.is_ascii_lowercase() || byte == b'_');
    // Sentences that explain `read` and `once` go on with a capital or a word.
    let plain = value.starts_with(['[', '{']) || !value.contains(' ');
    (word && plain).then_some(rest)
}

#[test]
fn a_difference_backwards_is_its_opposite() {
    let rings = site();
    for a in rings.iter() {
        assert!(diff(a, a).is_empty());
        for b in rings.iter() {
            let count = |changes: &[profiles::Change], way| {
                changes.iter().filter(|one| one.direction == way).count()
            };
            let (there, back) = (diff(a, b), diff(b, a));
            let pair = format!("{} {}: {there:?} {back:?}", a.name, b.name);
            assert_eq!(
                count(&there, Direction::More),
                count(&back, Direction::Less),
                "{pair}"
            );
        }
        let parent = a.extends.as_ref().map(|at| rings.find(&at.value).unwrap());
        let more = parent.map_or(Vec::new(), |parent| diff(parent, a));
        let wider = more.iter().find(|change| {
            change.direction == Direction::More && !["read", "write"].contains(&&*change.key)
        });
        assert!(wider.is_none(), "{}: {wider:?}", a.name);
    }
}

#[test]
fn scores_are_out_of_ten() {
    let rings = site();
    let of = |name: &str| score(rings.find(name).unwrap()).tenths;
    assert!(of("1") <= 100 && of("3") < of("2") && of("2") < of("1"));
    for team in ["payments", "research", "interns"] {
        assert!(of(team) < of("standard"), "{team}");
    }
    let worst = "version: 1\nname: worst\nextends: privileged\nwrite: [/srv]\n";
    let worst = self::rings(&[worst]).unwrap();
    let score = score(worst.find("worst").unwrap());
    assert!(score.tenths > of("1") && score.tenths <= 100, "{score:?}");
    for part in ["any host", "private networks", "a home that is kept"] {
        assert!(score.findings.iter().any(|one| one.what == part), "{part}");
    }
}

fn examples() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/site")
}

/// The example site, read as files of the user.
fn site() -> Rings {
    let mut sources = Vec::new();
    for entry in fs::read_dir(examples().join("rings.d")).unwrap().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        sources.push((name, fs::read(entry.path()).unwrap()));
    }
    let mut rings = Rings::built_in().unwrap();
    let wrong = rings.add(&sources);
    assert!(wrong.is_empty(), "{wrong:?}");
    for (file, bytes) in &sources {
        let accounts = Accounts::parse(
            "trainer:x:1:1::/:/bin/sh",
            "payments:x:1:\nresearch:x:2:\ninterns:x:3:",
        );
        let found = lint(file, bytes, &rings, &accounts).unwrap();
        assert!(found.is_empty(), "{found:?}");
    }
    rings
}

#[test]
fn the_example_site_installs_and_its_agents_resolve() {
    let owner = rustix::process::geteuid();
    // The whole chain of folders must be closed to others: not /tmp.
    let base = if owner.is_root() {
        PathBuf::from("/var/lib")
    } else {
        PathBuf::from(std::env::var_os("HOME").expect("a home"))
    };
    let dir = base.join(format!("agt-test-site-{}", std::process::id()));
    fs::create_dir_all(&dir).unwrap();
    fs::set_permissions(&dir, fs::Permissions::from_mode(0o755)).unwrap();
    let dir = dir.canonicalize().unwrap();
    for entry in fs::read_dir(examples().join("rings.d")).unwrap().flatten() {
        let to = dir.join(entry.file_name());
        fs::copy(entry.path(), &to).unwrap();
        fs::set_permissions(&to, fs::Permissions::from_mode(0o644)).unwrap();
    }
    let rings = profiles::load(&dir, owner.as_raw());
    fs::remove_dir_all(&dir).unwrap();
    let accounts = Accounts::parse(
        "eve:x:1000:1000::/:/bin/sh\n",
        "payments:x:501:\nresearch:x:502:\ninterns:x:503:\n",
    );
    for (team, gid) in [("payments", 501), ("research", 502), ("interns", 503)] {
        let file = examples().join("agents").join(team).join("agent.yaml");
        let agent = parse_agent("agent.yaml", &fs::read(file).unwrap()).unwrap();
        let ask = |gid| {
            let asker = Asker::User {
                uid: 1000,
                gids: vec![1000, gid],
                accounts: accounts.clone(),
            };
            resolve(&agent, &rings.as_ref().unwrap().clone().asked_by(asker))
        };
        assert_eq!(ask(gid).unwrap().ring, team);
        let said = ask(99).unwrap_err().to_string();
        assert!(
            said.contains(&format!(
                "not for user eve (uid 1000): it is for group {team}"
            )),
            "{said}"
        );
    }
}

/// The guide shows these files and numbers; when they change it must be run again.
#[test]
fn the_guide_is_fresh() {
    let guide = examples().join("../../docs/rings.md");
    let guide = fs::read_to_string(guide).unwrap();
    let payments = fs::read_to_string(examples().join("rings.d/payments.yaml")).unwrap();
    assert!(guide.contains(&payments), "payments.yaml");
    let rings = site();
    let row = |names: [&str; 3]| {
        let points = names.map(|name| {
            let tenths = score(rings.find(name).unwrap()).tenths;
            format!("{}.{}", tenths / 10, tenths % 10)
        });
        format!("| `ring score` | {} |", points.join(" | "))
    };
    for names in [
        ["privileged", "standard", "sandbox"],
        ["payments", "research", "interns"],
    ] {
        assert!(guide.contains(&row(names)), "{}", row(names));
    }
    let calls = |name: &str| rings.find(name).unwrap().syscalls.len();
    let all = plan::syscalls::all().count();
    let line = format!(
        "| {} of {all} | {} | {} |",
        calls("1"),
        calls("2"),
        calls("3")
    );
    assert!(guide.contains(&line), "{line}");
    for change in diff(
        rings.find("standard").unwrap(),
        rings.find("payments").unwrap(),
    ) {
        assert!(guide.contains(&change.text), "{change:?}");
    }
}
