//! `ring test`: a ring's own probes, run inside it.

use std::fs::File;
use std::io::{Read, Seek, Write};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

use names::HostRule;
use plan::filter::{self, FilterSpec, Verdict};
use plan::syscalls;
use profiles::{Agent, Asker, At, PathWish, Probe, RingProfile, Span};
use serde_json::{Value, json};

use super::files;
use crate::error::Failed;
use crate::reference::print;
use crate::run::{self, Options, Request};
use crate::words;

/// One probe, what must come of it, and what came.
struct Row<'a> {
    probe: &'a Probe,
    /// It must work.
    wanted: bool,
    /// How it went, once it is known.
    got: Option<Got>,
}

struct Got {
    works: bool,
    why: String,
}

impl Row<'_> {
    fn fine(&self) -> bool {
        self.got
            .as_ref()
            .is_some_and(|got| got.works == self.wanted)
    }

    fn settle(&mut self, works: bool, why: impl Into<String>) {
        self.got = Some(Got {
            works,
            why: why.into(),
        });
    }
}

/// Runs the probes; 0 when each came out as it must. Whoever the ring applies to, anybody may test it:
/// nothing but the probes runs.
pub(crate) fn test(name: &str, as_json: bool) -> Result<u8, Failed> {
    let (rings, profile) = files::open(name)?;
    let rings = rings.asked_by(Asker::Root);
    let wanted = profile.must_allow.iter().map(|probe| (probe, true));
    let probes = wanted.chain(profile.must_deny.iter().map(|probe| (probe, false)));
    let mut rows: Vec<Row<'_>> = probes
        .map(|(probe, wanted)| Row {
            probe,
            wanted,
            got: None,
        })
        .collect();
    rows.iter_mut().for_each(|row| by_ceiling(row, &profile));
    let inside = |row: &&Row<'_>| row.got.is_none() && row.probe.action != "syscall";
    let tried: Vec<&Row<'_>> = rows.iter().filter(inside).collect();
    let exe = std::env::current_exe().map_err(Failed::call("our own path"))?;
    let workspace = std::env::temp_dir().join(format!("agt-ring-test-{}", std::process::id()));
    let agent = agent(&profile, &tried, exe, &workspace)?;
    let ring = profiles::resolve(&agent, &rings)?;
    let spec = run::filter_of(&ring);
    let request = Request {
        ring,
        base: PathBuf::from("/"),
        file: None,
        of: None,
    };
    let said = capture(&request);
    // It was made for the probes, and they leave nothing in it.
    let _gone = std::fs::remove_dir(&workspace);
    let said = said?;
    let mut lines = said.lines();
    for row in &mut rows {
        match row.probe.action.as_str() {
            _ if row.got.is_some() => {}
            "syscall" => by_filter(row, &spec),
            _ => match lines.next().and_then(|line| line.split_once('\t')) {
                Some((how, why)) => row.settle(how == "works", why),
                None => row.got = None,
            },
        }
    }
    report(&profile, &rows, as_json)
}

/// What the ceiling decides, whatever a host at the other end does: an agent may ask for anything
/// that it holds.
fn by_ceiling(row: &mut Row<'_>, profile: &RingProfile) {
    let network = &profile.network;
    let held = match row.probe.action.as_str() {
        "connect" => row.probe.rule().map(|rule| network.covers_rule(&rule)),
        "resolve" => Some(network.rule_for(&row.probe.subject).is_some()),
        _ => None,
    };
    match (held, row.wanted) {
        (Some(true), false) => row.settle(true, "`network.max` has it: an agent may ask for it"),
        (Some(false), true) => row.settle(false, "`network.max` has it not"),
        (Some(_) | None, _) => {}
    }
}

/// System calls are asked of the ring's filter, without arguments; the compiled filter is held to
/// this answer by tests.
fn by_filter(row: &mut Row<'_>, spec: &FilterSpec) {
    let nr = syscalls::by_name(&row.probe.subject);
    let answered = nr.is_some_and(|nr| filter::verdict(spec, nr, [0; 6]) == Verdict::Allow);
    let how = if answered { "answered" } else { "refused" };
    row.settle(answered, format!("{how} by the filter"));
}

/// An agent that is the probes, and asks for the hosts that they must reach.
fn agent(
    profile: &RingProfile,
    tried: &[&Row<'_>],
    exe: PathBuf,
    workspace: &Path,
) -> Result<Agent, Failed> {
    let mut command = vec![exe.to_string_lossy().into_owned(), "probe".to_owned()];
    let word = |row: &&Row<'_>| format!("{}:{}", row.probe.action, row.probe.subject);
    command.extend(tried.iter().map(word));
    let mut agent = Agent::from_command(command, &profile.name, workspace.to_owned())?;
    agent.tty = false;
    let value = PathWish {
        path: exe,
        optional: false,
    };
    agent.read.push(asked(value));
    for row in tried.iter().filter(|row| row.wanted) {
        let rule: Option<HostRule> = match row.probe.action.as_str() {
            "connect" => row.probe.rule(),
            "resolve" => profile.network.rule_for(&row.probe.subject),
            _ => None,
        };
        let allow = &mut agent.network.allow;
        if let Some(rule) = rule.filter(|rule| !allow.iter().any(|at| at.value == *rule)) {
            allow.push(asked(rule));
        }
    }
    Ok(agent)
}

fn asked<T>(value: T) -> At<T> {
    At {
        value,
        origin: "ring test:1".into(),
        span: Span { line: 1, column: 1 },
    }
}

/// Runs a request and returns what its agent wrote on standard output.
fn capture(request: &Request) -> Result<String, Failed> {
    let failed = || Failed::call("standard output");
    let options = Options {
        quiet: true,
        report: None,
        share_home: false,
    };
    let memory = rustix::fs::memfd_create("ring-test", rustix::fs::MemfdFlags::CLOEXEC)
        .map_err(|errno| failed()(errno.into()))?;
    let kept = std::io::stdout()
        .as_fd()
        .try_clone_to_owned()
        .map_err(failed())?;
    std::io::stdout().flush().map_err(failed())?;
    rustix::stdio::dup2_stdout(&memory).map_err(|errno| failed()(errno.into()))?;
    let ran = run::run(request, &options);
    rustix::stdio::dup2_stdout(&kept).map_err(|errno| failed()(errno.into()))?;
    ran?;
    let mut text = String::new();
    let mut file = File::from(memory);
    file.rewind().map_err(failed())?;
    file.read_to_string(&mut text).map_err(failed())?;
    Ok(text)
}

fn report(profile: &RingProfile, rows: &[Row<'_>], as_json: bool) -> Result<u8, Failed> {
    let wrong = rows.iter().filter(|row| !row.fine()).count();
    // What tests nothing shows nothing.
    let code = u8::from(wrong > 0 || rows.is_empty());
    if as_json {
        let value = json!({"ring": profile.name, "file": profile.file, "wrong": wrong,
                           "probes": rows.iter().map(as_value).collect::<Vec<_>>()});
        print(&format!("{}\n", words::json(&value)))?;
        return Ok(code);
    }
    let shown: Vec<String> = rows.iter().map(|row| row.probe.to_string()).collect();
    let width = shown.iter().map(String::len).max().unwrap_or(0);
    let mut text = format!("       {:<width$}  wanted  got\n", "probe");
    for (row, probe) in rows.iter().zip(&shown) {
        let mark = if row.fine() { "ok   " } else { "WRONG" };
        let got = match &row.got {
            Some(got) if got.why.is_empty() => how(got.works).to_owned(),
            Some(got) => format!("{}: {}", how(got.works), words::escape(&got.why)),
            None => "no answer".into(),
        };
        text += &format!("{mark}  {probe:<width$}  {:<6}  {got}\n", how(row.wanted));
    }
    let count = words::count(rows.len(), "probe");
    text += &match (rows.len(), wrong) {
        (0, _) => format!("ring {}: no probes: nothing was tested\n", profile.name),
        (_, 0) => format!("ring {}: {count}, all as wanted\n", profile.name),
        (_, wrong) => format!("ring {}: {count}, {wrong} WRONG\n", profile.name),
    };
    print(&text)?;
    Ok(code)
}

fn how(works: bool) -> &'static str {
    if works { "works" } else { "fails" }
}

fn as_value(row: &Row<'_>) -> Value {
    json!({"action": row.probe.action, "subject": row.probe.subject, "origin": row.probe.origin,
           "wanted": how(row.wanted), "got": row.got.as_ref().map(|got| how(got.works)),
           "why": row.got.as_ref().map(|got| &got.why), "ok": row.fine()})
}
