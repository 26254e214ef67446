//! `ring list|show|test|score`.

use std::path::PathBuf;

use plan::filter::{self, FilterSpec, Verdict};
use plan::syscalls;
use profiles::{Agent, At, PathWish, Probe, RingProfile, Rings, Span};
use serde_json::{Value, json};

use crate::error::Failed;
use crate::reference::print;
use crate::run::{self, Options, Request};
use crate::{places, words};

/// The rings of this host. Site profiles belong to root.
pub(crate) fn load() -> Result<Rings, Failed> {
    Ok(profiles::load(&places::rings_dir(), 0)?)
}

fn find(rings: &Rings, name: &str) -> Result<RingProfile, Failed> {
    rings
        .find(name)
        .cloned()
        .map_err(|error| Failed::NotFound(error.to_string()))
}

pub(crate) fn list(as_json: bool) -> Result<u8, Failed> {
    let rings = load()?;
    if as_json {
        let all: Vec<Value> = rings
            .iter()
            .map(|ring| {
                json!({"name": ring.name, "number": ring.number, "built_in": ring.built_in,
                               "summary": ring.summary, "file": ring.file})
            })
            .collect();
        return print(&format!("{:#}\n", Value::from(all)));
    }
    let mut text = String::new();
    for ring in rings.iter() {
        let from = if ring.built_in {
            "built in"
        } else {
            &ring.file
        };
        let number = ring.number;
        text += &format!(
            "{number}  {:<16} {:<32} {from}\n",
            ring.name,
            words::escape(&ring.summary)
        );
    }
    print(&text)
}

pub(crate) fn show(name: &str, effective: bool, as_json: bool) -> Result<u8, Failed> {
    let ring = find(&load()?, name)?;
    if as_json {
        return print(&format!("{:#}\n", as_value(&ring)));
    }
    let mut text = profiles::show(&ring);
    if effective {
        let names = |inside: bool| -> Vec<&str> {
            syscalls::all()
                .filter(|(nr, _)| ring.syscalls.contains(*nr) == inside)
                .map(|(_, name)| name)
                .collect()
        };
        text += &format!("\nanswered:\n{}\n", fold(&names(true)));
        text += &format!("\nrefused:\n{}\n", fold(&names(false)));
        text += "\nby their arguments:\n";
        for rule in plan::filter::argument_rules() {
            text += &format!("  {:<20} {}\n", rule.call, rule.reason);
        }
    }
    print(&text)
}

/// Words in lines of at most 90 characters.
fn fold(names: &[&str]) -> String {
    let mut lines = vec![String::from(" ")];
    for name in names {
        let full = lines.last().is_none_or(|line| line.len() + name.len() > 90);
        if full {
            lines.push(String::from(" "));
        }
        if let Some(line) = lines.last_mut() {
            *line += &format!(" {name}");
        }
    }
    lines.join("\n")
}

fn as_value(ring: &RingProfile) -> Value {
    let calls: Vec<&str> = ring.syscalls.iter().filter_map(syscalls::name).collect();
    let limits = |limits: &profiles::Limits| {
        json!({
            "memory": limits.memory.as_ref().map(|at| at.value.0),
            "pids": limits.pids.as_ref().map(|at| at.value),
            "files": limits.files.as_ref().map(|at| at.value),
            "file_size": limits.file_size.as_ref().map(|at| at.value.0),
            "tmp": limits.tmp.as_ref().map(|at| at.value.0),
        })
    };
    json!({
        "name": ring.name, "number": ring.number, "built_in": ring.built_in,
        "summary": ring.summary, "file": ring.file,
        "workspace": format!("{:?}", ring.workspace).to_lowercase(),
        "proc": format!("{:?}", ring.proc).to_lowercase(),
        "programs": format!("{:?}", ring.programs).to_lowercase(),
        "sockets": ring.sockets.iter().map(|kind| kind.name()).collect::<Vec<_>>(),
        "syscalls": calls,
        "default": limits(&ring.default), "max": limits(&ring.max),
        "degrade": ring.degrade.iter().map(|layer| layer.name()).collect::<Vec<_>>(),
    })
}

pub(crate) fn score(name: &str, as_json: bool) -> Result<u8, Failed> {
    let rings = load()?;
    let ring = find(&rings, name)?;
    let score = profiles::score(&ring);
    let points = |tenths: u32| format!("{}.{}", tenths / 10, tenths % 10);
    let parent = rings
        .iter()
        .find(|other| other.built_in && other.number == ring.number);
    let built_in = parent.map(|parent| (parent.name.clone(), profiles::score(parent).tenths));
    if as_json {
        let findings: Vec<Value> = score
            .findings
            .iter()
            .map(|f| json!({"what": f.what, "tenths": f.weight, "because": f.because}))
            .collect();
        let value = json!({"ring": ring.name, "tenths": score.tenths, "findings": findings,
                           "built_in_tenths": built_in.map(|(_, tenths)| tenths)});
        return print(&format!("{value:#}\n"));
    }
    let mut text = format!(
        "ring {}: {} of 10 exposed\n",
        ring.name,
        points(score.tenths)
    );
    for finding in &score.findings {
        text += &format!(
            "  {}  {:<32} {}\n",
            points(finding.weight),
            finding.what,
            finding.because
        );
    }
    if let Some((name, tenths)) = built_in.filter(|_| !ring.built_in) {
        text += &format!("the built-in ring {name} has {}\n", points(tenths));
    }
    print(&text)
}

/// Runs the ring's own probes: files and programs inside it, calls against its filter.
pub(crate) fn test(name: &str) -> Result<u8, Failed> {
    let rings = load()?;
    let profile = find(&rings, name)?;
    let exe = std::env::current_exe().map_err(Failed::call("our own path"))?;
    let words = |probes: &[Probe], verb: &str| -> Vec<String> {
        let inside = probes.iter().filter(|probe| probe.action != "syscall");
        inside
            .map(|probe| format!("{verb}:{}:{}", probe.action, probe.subject))
            .collect()
    };
    let mut command = vec![exe.to_string_lossy().into_owned(), "probe".to_owned()];
    command.extend(words(&profile.must_allow, "allow"));
    command.extend(words(&profile.must_deny, "deny"));
    let workspace = std::env::temp_dir().join(format!("agt-ring-test-{}", std::process::id()));
    let mut agent = Agent::from_command(command, &profile.name, workspace.clone())?;
    let span = Span { line: 1, column: 1 };
    let value = PathWish {
        path: exe,
        optional: false,
    };
    agent.read.push(At {
        value,
        origin: "ring test".into(),
        span,
    });
    let ring = profiles::resolve(&agent, &rings)?;
    let spec = run::filter_of(&ring);
    let request = Request {
        ring,
        base: PathBuf::from("/"),
        file: None,
    };
    let code = run::run(
        &request,
        &Options {
            quiet: true,
            report: None,
            share_home: false,
        },
    );
    // It was made for the probes, and they leave nothing in it.
    let _gone = std::fs::remove_dir(&workspace);
    let failed = u32::from(code?) + calls(&profile, &spec);
    if failed == 0 { Ok(0) } else { Ok(1) }
}

/// System calls are asked of the ring's filter, without arguments; the compiled filter is held to
/// this answer by tests.
fn calls(profile: &RingProfile, spec: &FilterSpec) -> u32 {
    let wanted = profile.must_allow.iter().map(|probe| (probe, true));
    let probes = wanted.chain(profile.must_deny.iter().map(|probe| (probe, false)));
    let mut failed = 0;
    for (probe, wanted) in probes.filter(|(probe, _)| probe.action == "syscall") {
        let nr = syscalls::by_name(&probe.subject);
        let answered = nr.map(|nr| filter::verdict(spec, nr, [0; 6]) == Verdict::Allow);
        let how = if wanted { "answered" } else { "refused" };
        if answered == Some(wanted) {
            println!("ok    syscall {}: {how}", probe.subject);
        } else {
            println!(
                "WRONG syscall {}: must be {how}",
                words::escape(&probe.subject)
            );
            failed += 1;
        }
    }
    failed
}

/// The hidden verb that runs inside: tries each probe and says how it went.
pub(crate) fn probe(probes: &[String]) -> u8 {
    let mut failed = 0;
    for probe in probes {
        let mut parts = probe.splitn(3, ':');
        let (verb, action) = (parts.next().unwrap_or(""), parts.next().unwrap_or(""));
        let subject = parts.next().unwrap_or("");
        let tried = attempt(action, subject);
        let fine = tried.is_ok() == (verb == "allow");
        let how = tried.map_or_else(|error| error.to_string(), |()| "possible".into());
        println!(
            "{} {action} {subject}: {how}",
            if fine { "ok   " } else { "WRONG" }
        );
        failed += u8::from(!fine);
    }
    failed.min(100)
}

fn attempt(action: &str, subject: &str) -> std::io::Result<()> {
    let path = std::path::Path::new(subject);
    match action {
        "read" if path.is_dir() => std::fs::read_dir(path).map(drop),
        "read" => std::fs::File::open(path).map(drop),
        "write" => {
            let file = std::fs::OpenOptions::new()
                .write(true)
                .create(true)
                .truncate(false)
                .open(path);
            file.and_then(|_| std::fs::remove_file(path))
        }
        "exec" => {
            #[expect(
                clippy::disallowed_methods,
                reason = "the probe is whether the ring lets it"
            )]
            let mut command = std::process::Command::new(path);
            command
                .stdout(std::process::Stdio::null())
                .status()
                .map(drop)
        }
        _ => Err(std::io::ErrorKind::Unsupported.into()),
    }
}
