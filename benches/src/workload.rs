//! Rules and actions of the benches of decisions, and a matcher written by hand for these very rules.
//!
//! Rules cycle through five forms: a folder's files by suffix, a folder, a tool, a host's suffix, a
//! tool's prefix. Half deny. Half of the actions hit; half of the misses pass the literal beginning of
//! a rule.

use std::collections::HashMap;

use audit::{Entry, Kind, Value};
use policy::Verdict;
use rustix::time::{ClockId, clock_gettime};

/// Forms of rules; rule `i` has form `i % FORMS`.
pub const FORMS: usize = 5;

/// The policy of so many rules, in our language.
#[must_use]
pub fn rules(count: usize) -> String {
    let mut text = "version: 1\nname: bench\nrules:\n".to_owned();
    for i in 0..count {
        let what = match i % FORMS {
            0 => format!("action: fs.read, path: /srv/data/p{i}/*.secret"),
            1 => format!("action: fs.read, path: /home/u{i}/**"),
            2 => format!("action: tool.call, tool: tool-{i}"),
            3 => format!("action: net.connect, host: \"*.api-{i}.example.com\""),
            _ => format!("action: tool.call, tool: group-{i}.*"),
        };
        let verdict = if i.is_multiple_of(2) { "deny" } else { "allow" };
        text.push_str(&format!(
            "  - {{name: r{i}, match: {{{what}}}, verdict: {verdict}}}\n"
        ));
    }
    text
}

/// The action about rule `i`, as a hit or as a miss (near or far).
#[must_use]
pub fn action(i: usize, hit: bool, near: bool) -> String {
    let path = |path: String| format!(r#"{{"action":"fs.read","agent":"a","path":"{path}"}}"#);
    let tool = |tool: String| format!(r#"{{"action":"tool.call","agent":"a","tool":"{tool}"}}"#);
    let host = |host: String| {
        format!(r#"{{"action":"net.connect","agent":"a","host":"{host}","port":443}}"#)
    };
    match (i % FORMS, hit, near) {
        (0, true, _) => path(format!("/srv/data/p{i}/deep.secret")),
        (0, false, true) => path(format!("/srv/data/p{i}/deep.public")),
        (1, true, _) => path(format!("/home/u{i}/a/b/c.txt")),
        (1, false, true) => path(format!("/home/u{i}x/a/b/c.txt")),
        (2, true, _) => tool(format!("tool-{i}")),
        (2, false, true) => tool(format!("tool-{i}x")),
        (3, true, _) => host(format!("eu1.api-{i}.example.com")),
        (3, false, true) => host(format!("api-{i}.example.com")),
        (4, true, _) => tool(format!("group-{i}.get")),
        (4, false, true) => tool(format!("group-{i}x.get")),
        (_, false, _) if i.is_multiple_of(2) => path(format!("/usr/lib/x{i}/y.so")),
        (_, _, _) => tool(format!("other-{i}")),
    }
}

/// The rules above as somebody would write them who has nothing else to serve: one table by whole
/// value or by folder, and what is left to compare. It knows no default, name, reason or limit.
#[derive(Debug)]
pub struct ByHand {
    folders: HashMap<String, Verdict>,
    homes: HashMap<String, Verdict>,
    tools: HashMap<String, Verdict>,
    groups: HashMap<String, Verdict>,
    hosts: HashMap<String, Verdict>,
}

/// An action as it would come to such a matcher.
#[derive(Debug)]
pub enum Plain {
    /// A file is read.
    Read(String),
    /// A tool is called.
    Tool(String),
    /// A connection is made.
    Connect(String),
}

impl ByHand {
    /// The matcher for so many rules.
    #[must_use]
    pub fn new(count: usize) -> Self {
        let of = |form: usize, key: fn(usize) -> String| {
            let mine = (0..count).filter(move |i| i % FORMS == form);
            let verdict = |i: usize| {
                if i.is_multiple_of(2) {
                    Verdict::Deny
                } else {
                    Verdict::Allow
                }
            };
            mine.map(|i| (key(i), verdict(i))).collect()
        };
        Self {
            folders: of(0, |i| format!("p{i}")),
            homes: of(1, |i| format!("u{i}")),
            tools: of(2, |i| format!("tool-{i}")),
            hosts: of(3, |i| format!(".api-{i}.example.com")),
            groups: of(4, |i| format!("group-{i}")),
        }
    }

    /// What it says.
    #[must_use]
    pub fn decide(&self, action: &Plain) -> Verdict {
        let found = match action {
            Plain::Read(path) => {
                if let Some(rest) = path.strip_prefix("/srv/data/") {
                    let (folder, file) = rest.split_once('/').unwrap_or((rest, ""));
                    let fits = file.ends_with(".secret") && !file.contains('/');
                    fits.then(|| self.folders.get(folder)).flatten()
                } else if let Some(rest) = path.strip_prefix("/home/") {
                    self.homes.get(rest.split('/').next().unwrap_or(rest))
                } else {
                    None
                }
            }
            Plain::Tool(tool) => self.tools.get(tool).or_else(|| {
                let (group, _) = tool.split_once('.')?;
                self.groups.get(group)
            }),
            Plain::Connect(host) => {
                let dots = host.bytes().enumerate().filter(|(_, byte)| *byte == b'.');
                let mut suffixes = dots.filter_map(|(at, _)| host.get(at..));
                suffixes.find_map(|suffix| self.hosts.get(suffix))
            }
        };
        found.copied().unwrap_or(Verdict::Deny)
    }
}

/// An action of [`action`], read.
#[must_use]
pub fn plain(json: &str) -> Plain {
    let field = |name: &str| {
        let start = json.find(&format!("\"{name}\":\""))? + name.len() + 4;
        let rest = json.get(start..)?;
        Some(rest.get(..rest.find('"')?)?.to_owned())
    };
    match (field("path"), field("tool"), field("host")) {
        (Some(path), _, _) => Plain::Read(path),
        (_, Some(tool), _) => Plain::Tool(tool),
        (_, _, host) => Plain::Connect(host.unwrap_or_default()),
    }
}

/// Actions that each round decides.
pub const ACTIONS: usize = 1024;

/// The actions that are asked about so many rules.
#[must_use]
pub fn actions(count: usize) -> Vec<String> {
    let each = (0..ACTIONS).map(|n| action((n * 7919) % count, n % 2 == 0, n % 4 == 1));
    each.collect()
}

/// The middle of a series.
#[must_use]
pub fn median(mut series: Vec<f64>) -> f64 {
    series.sort_by(f64::total_cmp);
    series.get(series.len() / 2).copied().unwrap_or(f64::NAN)
}

/// Nanoseconds of this thread for each of `count` actions, of which `run` decides all.
pub fn per_action(count: usize, repeat: usize, mut run: impl FnMut()) -> f64 {
    // This thread's own time: others on the machine do not count.
    let now = || {
        let time = clock_gettime(ClockId::ThreadCPUTime);
        time.tv_sec as f64 * 1e9 + time.tv_nsec as f64
    };
    let since = now();
    for _ in 0..repeat {
        run();
    }
    (now() - since) / (repeat * count) as f64
}

/// A record as a decision leaves it.
pub fn entry<'a>(kind: Kind, fields: &'a [(&'a str, Value<'a>)]) -> Entry<'a> {
    let action = audit::Action::new("connect")
        .fields(fields)
        .args_hmac([7; 32]);
    Entry::new(kind)
        .agent("researcher")
        .ring("ring-2")
        .run("01jdk2v9")
        .pid(4711)
        .exe(b"/usr/bin/python3.11")
        .session("s-17")
        .action(action)
        .verdict("allow")
        .rule("network[3]")
        .policy("9f86d081884c7d65")
        .counters(&[("calls", 17)])
        .latency_us(12)
}

/// What it is about.
pub const FIELDS: [(&str, Value<'static>); 2] = [
    ("host", Value::Text("api.example.com")),
    ("port", Value::Number(443)),
];
