//! `ring`: rings looked at, tried, written and compared.

mod author;
mod files;
mod inside;
mod lookup;
mod test;

pub(crate) use author::{diff, lint, new};
pub(crate) use inside::probe;
pub(crate) use test::test;

use plan::syscalls;
use profiles::{Asker, NetworkCeiling, Ports, Probe, RingProfile, Rings};
use serde_json::{Value, json};

use crate::error::Failed;
use crate::reference::print;
use crate::{places, who, words};

/// The rings of this host, as this user may ask for them. Site profiles belong to root.
pub(crate) fn load() -> Result<Rings, Failed> {
    let rings = profiles::load(&places::rings_dir(), 0)?;
    let for_all = rings.iter().all(|ring| ring.applies.is_empty());
    let asker = if for_all {
        Asker::Unknown
    } else {
        who::asker()
    };
    Ok(rings.asked_by(asker))
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
        return print(&format!("{}\n", words::json(&Value::from(all))));
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
    let (_, ring) = files::open(name)?;
    if as_json {
        return print(&format!("{}\n", words::json(&as_value(&ring))));
    }
    let shown = profiles::show(&ring);
    // YAML: what is written out there is read as the same.
    let lines = shown.lines().map(|line| audit::shown(line.as_bytes()));
    let mut text: String = lines.map(|line| line + "\n").collect();
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
            "cpu_millis": limits.cpu.as_ref().and_then(|at| at.value).map(|cpu| cpu.0),
            "output": limits.output.as_ref().and_then(|at| at.value).map(|bytes| bytes.0),
            "wall_ms": limits.wall.as_ref().and_then(|at| at.value).map(|time| time.0),
        })
    };
    let paths = |all: &[profiles::At<profiles::PathWish>]| -> Vec<String> {
        all.iter().map(|at| at.value.to_string()).collect()
    };
    json!({
        "name": ring.name, "number": ring.number, "built_in": ring.built_in,
        "summary": ring.summary, "file": ring.file,
        "extends": ring.extends.as_ref().map(|at| &at.value),
        "applies": ring.applies.iter().map(applies_value).collect::<Vec<_>>(),
        "presets": ring.presets.as_ref().map(|at| &at.value),
        "read": paths(&ring.read), "write": paths(&ring.write),
        "home": ring.home.value.name(), "runtime": if ring.runtime.value { "auto" } else { "none" },
        "network": network_value(&ring.network),
        "must_allow": probes_value(&ring.must_allow), "must_deny": probes_value(&ring.must_deny),
        "workspace": format!("{:?}", ring.workspace).to_lowercase(),
        "proc": format!("{:?}", ring.proc).to_lowercase(),
        "programs": format!("{:?}", ring.programs).to_lowercase(),
        "sockets": ring.sockets.iter().map(|kind| kind.name()).collect::<Vec<_>>(),
        "syscalls": calls,
        "default": limits(&ring.default), "max": limits(&ring.max),
        "degrade": ring.degrade.iter().map(|layer| layer.name()).collect::<Vec<_>>(),
    })
}

fn applies_value(rule: &profiles::Applies) -> Value {
    let names = |all: &[profiles::At<String>]| -> Vec<String> {
        all.iter().map(|at| at.value.clone()).collect()
    };
    json!({"groups": names(&rule.groups), "users": names(&rule.users)})
}

fn network_value(network: &NetworkCeiling) -> Value {
    let ports = |ports: &Ports| match ports {
        Ports::Any => json!(["any"]),
        Ports::Only(ports) => json!(ports),
    };
    let proxy = network.upstream_proxy.as_ref();
    json!({
        "max": network.max.iter().map(|at| at.value.to_string()).collect::<Vec<_>>(),
        "host_ports": ports(&network.host_ports), "listen": ports(&network.listen),
        "private": network.private.iter().map(ToString::to_string).collect::<Vec<_>>(),
        "upstream_proxy": proxy.map(|at| format!("{}:{}", at.value.host, at.value.port)),
    })
}

fn probes_value(probes: &[Probe]) -> Vec<Value> {
    let one = |probe: &Probe| json!({probe.action.as_str(): probe.subject});
    probes.iter().map(one).collect()
}

pub(crate) fn score(name: &str, as_json: bool) -> Result<u8, Failed> {
    let (rings, ring) = files::open(name)?;
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
        return print(&format!("{}\n", words::json(&value)));
    }
    let mut text = format!(
        "ring {}: {} of 10 exposed\n",
        ring.name,
        points(score.tenths)
    );
    let widths = score.findings.iter().map(|finding| finding.what.len());
    let width = widths.max().unwrap_or(0);
    for finding in &score.findings {
        text += &format!(
            "  {}  {:<width$}  {}\n",
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
