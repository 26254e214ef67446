//! The beginning of a profile: every key, commented out, with what the parent says.

use crate::explain::limit_texts;
use crate::network::{NetworkCeiling, Ports};
use crate::preset;
use crate::probe::Probe;
use crate::ring::{Access, Proc, Programs, RingProfile};

/// A profile `name` that changes nothing of `parent`. Its probes are the parent's, since they are
/// not inherited.
#[must_use]
pub fn skeleton(name: &str, parent: &RingProfile) -> String {
    let mut out = format!(
        "# Ring {name}: what ring {} permits, less what you take away. A line without its `#` says what\n\
         # the parent says: write less into it. All keys: docs/ring-yaml.md; how to: docs/rings.md.\n\
         version: 1\nname: {name}\nextends: {}\nsummary: {}\n",
        parent.name,
        parent.name,
        quote(&format!("{name}, from {}", parent.name)),
    );
    let mut key = |doc: &str, line: String| out += &format!("\n# {doc}\n# {line}\n");
    for (doc, line) in lines(parent) {
        key(doc, line);
    }
    out += "\n# `ring test` tries these inside the ring. Add what your agents need, and what they must\n\
            # never reach.\n";
    let env = [("read", "/usr/bin/env"), ("read", "/etc/shadow")];
    for ((key, probes), (action, subject)) in [
        ("must_allow", &parent.must_allow),
        ("must_deny", &parent.must_deny),
    ]
    .into_iter()
    .zip(env)
    {
        out += &format!("{key}:\n");
        let one = |probe: &Probe| format!("  - {}: {}\n", probe.action, quote(&probe.subject));
        out.extend(probes.iter().map(one));
        if probes.is_empty() {
            out += &format!("  - {action}: {subject}\n");
        }
    }
    out
}

fn lines(parent: &RingProfile) -> Vec<(&'static str, String)> {
    let mut all = who(parent);
    all.push((
        "Paths that every agent may read, added to the parent's.",
        "read: []".into(),
    ));
    if parent.workspace == Access::Write {
        all.push((
            "Paths that every agent may change: shared by all of them.",
            "write: []".into(),
        ));
    }
    all.extend(surroundings(parent));
    all
}

fn who(parent: &RingProfile) -> Vec<(&'static str, String)> {
    let sockets = parent.sockets.iter().map(|kind| kind.name().to_owned());
    let presets = parent.presets.as_ref().map(|at| at.value.clone());
    let all = || preset::ALL.iter().map(|(name, _)| (*name).to_owned());
    let workspace = match parent.workspace {
        Access::Read => "read",
        Access::Write => "write",
    };
    let proc = match parent.proc {
        Proc::Pid => "pid",
        Proc::Masked => "masked",
    };
    let programs = match parent.programs {
        Programs::Any => "any",
        Programs::Once => "once",
    };
    vec![
        (
            "Who may ask for it, besides root, out of those who may ask for the parent.",
            "applies: {groups: [the-team], users: []}".into(),
        ),
        (
            "Presets that agents may start from.",
            list("presets", presets.unwrap_or_else(|| all().collect())),
        ),
        (
            "read: agents change nothing but their own /tmp.",
            format!("workspace: {workspace}"),
        ),
        (
            "pid: nothing of the host's memory and processors.",
            format!("proc: {proc}"),
        ),
        (
            "once: the agent's own program and no other.",
            format!("programs: {programs}"),
        ),
        (
            "Without inet there is no network.",
            list("sockets", sockets),
        ),
    ]
}

fn surroundings(parent: &RingProfile) -> Vec<(&'static str, String)> {
    let layers = parent.degrade.iter().map(|layer| layer.name().to_owned());
    let runtime = if parent.runtime.value { "auto" } else { "none" };
    let (default, max) = (limits(&parent.default), limits(&parent.max));
    vec![
        (
            "The most lasting home: private, temporary or none.",
            format!("home: {}", parent.home.value.name()),
        ),
        (
            "none: only programs of the system.",
            format!("runtime: {runtime}"),
        ),
        (
            "Where agents may ask to connect to; hosts by name and port.",
            network(&parent.network),
        ),
        (
            "Calls to take away; `ring show NAME --effective` lists those that are answered.",
            "syscalls: {deny: []}".into(),
        ),
        (
            "What agents get unasked, and what they may ask for at most.",
            format!("limits: {{default: {default}, max: {max}}}"),
        ),
        (
            "Layers that agents may do without on older hosts.",
            list("degrade", layers),
        ),
        (
            "What becomes of an agent whose actions policies deny again and again.",
            match &parent.on_violation {
                Some(at) => format!("on_violation: {}", at.value),
                None => "on_violation: {count: 3, within: 60s, do: kill}".into(),
            },
        ),
        (
            "What becomes of one that asks for the same call again and again.",
            match &parent.on_loop {
                Some(at) => format!("on_loop: {}", at.value),
                None => "on_loop: {count: 5, within: 60s, do: freeze}".into(),
            },
        ),
    ]
}

fn network(network: &NetworkCeiling) -> String {
    format!(
        "network: {{{}, {}, {}, {}}}",
        list("max", network.max.iter().map(|at| at.value.to_string())),
        ports("host_ports", &network.host_ports),
        ports("listen", &network.listen),
        list("private", network.private.iter().map(ToString::to_string)),
    )
}

fn limits(limits: &crate::agent::Limits) -> String {
    let one = |(name, value): (&str, Option<String>)| Some(format!("{name}: {}", value?));
    let parts: Vec<String> = limit_texts(limits).into_iter().filter_map(one).collect();
    format!("{{{}}}", parts.join(", "))
}

fn list(key: &str, all: impl IntoIterator<Item = String>) -> String {
    let all: Vec<String> = all.into_iter().map(|text| quote(&text)).collect();
    format!("{key}: [{}]", all.join(", "))
}

fn ports(key: &str, ports: &Ports) -> String {
    match ports {
        Ports::Any => format!("{key}: [any]"),
        Ports::Only(ports) => list(key, ports.iter().map(u16::to_string)),
    }
}

/// Plain where YAML takes it as it is.
fn quote(text: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_/.".contains(&byte);
    if text.bytes().all(plain) && !text.starts_with(['-', '.']) && !text.is_empty() {
        return text.into();
    }
    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""))
}
