//! The escape matrix: our own program attempts every known way out, in each ring, as root and as an
//! ordinary user. What may succeed is listed with its reason in `escape/expect/`; anything else that
//! succeeds fails the build, and so does an attempt that found no target.

#![expect(
    clippy::disallowed_methods,
    reason = "starts the victim outside the ring"
)]

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use outside::{Place, Ran, USER, Who, binary, compile, everybody, sources};

/// The process outside that the attempts aim at: it has the same uid as an ordinary user's agent.
struct Victim {
    child: Child,
    targets: Vec<(String, String)>,
}

impl Victim {
    fn start(place: &Place) -> Self {
        let script = place.file(
            "victim.py",
            fs::read(sources().join("escape/victim.py")).unwrap(),
        );
        let mut command = if rustix::process::geteuid().is_root() {
            let mut command = Command::new("setpriv");
            let user = USER.to_string();
            command.args([
                "--reuid",
                &user,
                "--regid",
                &user,
                "--clear-groups",
                "--",
                "python3",
            ]);
            command
        } else {
            Command::new("python3")
        };
        let mut child = command
            .arg(script)
            .arg(&place.dir)
            .env("PATH", "/usr/bin:/bin")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("python3");
        let lines = BufReader::new(child.stdout.take().expect("a pipe")).lines();
        let lines = lines
            .map(|line| line.expect("a line"))
            .take_while(|line| line != "ready");
        let pair = |line: String| {
            line.split_once('=')
                .map(|(name, value)| (name.to_owned(), value.to_owned()))
        };
        let targets: Vec<_> = lines.filter_map(pair).collect();
        assert!(targets.len() > 10, "the victim did not start");
        Self { child, targets }
    }
}

impl Drop for Victim {
    fn drop(&mut self) {
        drop(self.child.stdin.take());
        drop(self.child.wait());
    }
}

/// What each attempt came to.
type Results = BTreeMap<String, (String, String)>;

/// The sources of the attacking program.
fn parts() -> Vec<PathBuf> {
    let programs = fs::read_dir(sources().join("escape")).unwrap().flatten();
    let ours = |path: &PathBuf| {
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        name.starts_with("probe") && name.ends_with(".c")
    };
    programs.map(|entry| entry.path()).filter(ours).collect()
}

fn attack(who: Who, ring: u8) -> Results {
    let place = Place::new(who);
    place.dir("ws");
    let victim = Victim::start(&place);
    compile(&parts(), &place.dir.join("ws/probe"));
    let mut set: Vec<(String, String)> = victim.targets.clone();
    let yaml = place.dir.join("ws/agent.yaml");
    set.push(("PROBE_YAML".into(), yaml.display().to_string()));
    set.push((
        "PROBE_STATE".into(),
        place.dir.join("state").display().to_string(),
    ));
    set.push(("PROBE_SUPERVISOR".into(), binary().display().to_string()));
    let set: Vec<String> = set
        .iter()
        .map(|(name, value)| format!("{name}: \"{value}\""))
        .collect();
    let text = format!(
        "version: 1\nname: attacker\nring: {ring}\nworkspace: .\ncommand: [./probe]\n\
         files: {{read: [../ro]}}\nlimits: {{wall: 5m}}\nenv: {{set: {{{}}}}}\n",
        set.join(", ")
    );
    place.file("ws/agent.yaml", &text);
    let input = place.file("input", "standard input\n");
    // A descriptor that the launcher leaks, as CVE-2024-21626 has it.
    let script = "exec 9</; exec \"$@\"";
    let agt = place.agt(&["run", "--quiet", "ws/agent.yaml"]);
    let mut command = Command::new("sh");
    command
        .args(["-c", script, "sh"])
        .arg(agt.get_program())
        .args(agt.get_args());
    command.env_clear().current_dir(&place.dir);
    for (name, value) in agt.get_envs() {
        command.env(name, value.unwrap_or_default());
    }
    command
        .env("SSH_AUTH_SOCK", "/nowhere")
        .stdin(fs::File::open(input).unwrap());
    let child = command
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("a start");
    let ran = Ran::wait(child, Duration::from_secs(280));
    let results = parse(&ran.stdout);
    assert!(results.len() > 134, "ring {ring} as {who:?}: {ran:?}");
    let kept = fs::read_to_string(yaml).ok();
    assert_eq!(
        kept.as_deref(),
        Some(text.as_str()),
        "agent.yaml was changed"
    );
    results
}

fn parse(output: &str) -> Results {
    let line = |line: &str| {
        let mut parts = line.split('\t');
        let (name, verdict) = (parts.next()?.to_owned(), parts.next()?.to_owned());
        Some((name, (verdict, parts.next().unwrap_or("").to_owned())))
    };
    output.lines().filter_map(line).collect()
}

/// `NAME<TAB>OK|any<TAB>reason`: what succeeds, and what may.
fn expected(ring: u8) -> Results {
    let path = sources().join(format!("escape/expect/ring{ring}.txt"));
    let text = fs::read_to_string(path).expect("the expectations");
    parse(
        &text
            .lines()
            .filter(|line| !line.starts_with('#'))
            .collect::<Vec<_>>()
            .join("\n"),
    )
}

fn hold(ring: u8) {
    let expected = expected(ring);
    for (name, (_, reason)) in &expected {
        assert!(!reason.is_empty(), "{name} is expected without a reason");
    }
    let mut wrong = Vec::new();
    for who in everybody() {
        let results = attack(who, ring);
        for (name, (verdict, detail)) in &results {
            let may = expected.get(name).map(|(verdict, _)| verdict.as_str());
            match (verdict.as_str(), may) {
                ("no", _) if detail.contains("no-target") => {
                    wrong.push(format!("{who:?}: {name}: its target is missing"));
                }
                ("OK", Some("OK" | "any")) | ("no" | "killed", None | Some("any")) => {}
                ("OK", _) => wrong.push(format!("{who:?}: SUCCEEDED {name}: {detail}")),
                (_, Some(_)) => {
                    wrong.push(format!("{who:?}: no longer succeeds: {name}: {detail}"))
                }
                _ => wrong.push(format!("{who:?}: {name}: {verdict}")),
            }
        }
        for name in expected.keys().filter(|name| !results.contains_key(*name)) {
            wrong.push(format!("{name} is expected and no attempt has that name"));
        }
        let succeeded = results
            .values()
            .filter(|(verdict, _)| verdict == "OK")
            .count();
        println!(
            "ring {ring} as {who:?}: {succeeded} of {} attempts succeed",
            results.len()
        );
    }
    assert!(wrong.is_empty(), "ring {ring}:\n{}", wrong.join("\n"));
}

#[test]
fn ring_1_holds() {
    hold(1);
}

#[test]
fn ring_2_holds() {
    hold(2);
}

#[test]
fn ring_3_holds() {
    hold(3);
}

/// Attempts that fill memory, each in a ring of its own: none may hold more than the ring has. As an
/// ordinary user pipe buffers are not counted; the kernel holds each user to 64 MiB of them.
#[test]
fn memory_bombs_do_not_go_off() {
    let names = [
        "as_unlimited",
        "memfd_bomb",
        "memfd_bomb_many",
        "x-28-tmp-fill",
        "x-28-devshm-fill",
        "x-28-shm-bomb",
        "x-28-shm-detached-bomb",
        "x-28-pipe-bomb",
    ];
    for who in everybody() {
        let place = Place::new(who);
        place.dir("ws");
        compile(&parts(), &place.dir.join("ws/probe"));
        for (ring, name) in [2, 3]
            .into_iter()
            .flat_map(|ring| names.map(|name| (ring, name)))
        {
            let yaml = format!(
                "version: 1\nname: bomb\nring: {ring}\nworkspace: ./ws\ncommand: [./probe, {name}]\n\
                 limits: {{memory: 64M, tmp: 16M, wall: 1m}}\n\
                 env: {{set: {{PROBE_MEMORY: \"67108864\", PROBE_TMP: \"16777216\"}}}}\n"
            );
            let ran = place.run(&yaml);
            let went_off = ran.stdout.contains("\tOK");
            let known = who == Who::User && name == "x-28-pipe-bomb";
            assert!(
                !went_off || known,
                "ring {ring} as {who:?}: {name}: {ran:?}"
            );
        }
    }
}
