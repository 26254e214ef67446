//! Rings in words.

use crate::agent::Limits;
use crate::network::{NetworkCeiling, Ports};
use crate::ring::{Access, Proc, Programs, RingProfile};
use crate::value::{At, Bytes, CpuMillis, Home, Millionths, Milliseconds, bytes_text};

/// What an agent may do in this ring, for people.
#[must_use]
pub fn show(ring: &RingProfile) -> String {
    let from = ring.extends.as_ref();
    let from = from.map_or(String::new(), |at| format!(", extends {}", at.value));
    let mut out = format!(
        "ring {} ({}{from}): {}\n",
        ring.name, ring.number, ring.summary
    );
    for (what, text) in lines(ring) {
        out += &format!("  {what:<11}{text}\n");
    }
    out
}

fn lines(ring: &RingProfile) -> Vec<(&'static str, String)> {
    let mut lines = vec![("for", who(ring))];
    if let Some(presets) = &ring.presets {
        lines.push(("presets", list(&presets.value, "none")));
    }
    lines.push(("workspace", workspace(ring.workspace).into()));
    let system = "/usr, /lib and a curated /etc, read-only (profiles/runtime/system.yaml)";
    lines.push(("system", system.into()));
    for (what, paths) in [("read", &ring.read), ("write", &ring.write)] {
        let paths: Vec<String> = paths.iter().map(|at| at.value.to_string()).collect();
        if !paths.is_empty() {
            lines.push((what, paths.join(" ")));
        }
    }
    lines.push(("home", home(ring.home.value).into()));
    lines.push(("runtime", runtime(ring.runtime.value).into()));
    lines.push(("/proc", proc(ring.proc).into()));
    lines.push(("programs", programs(ring.programs).into()));
    let kinds: Vec<&str> = ring.sockets.iter().map(|kind| kind.name()).collect();
    lines.push(("sockets", list(&kinds, "none")));
    let mut what = "network";
    for text in network(&ring.network) {
        lines.push((what, text));
        what = "";
    }
    let all = plan::syscalls::all().count();
    lines.push((
        "calls",
        format!("{} of {all} system calls", ring.syscalls.len()),
    ));
    lines.push(("limits", limits(&ring.default)));
    lines.push(("at most", limits(&ring.max)));
    let layers: Vec<&str> = ring.degrade.iter().map(|layer| layer.name()).collect();
    lines.push(("may lack", list(&layers, "nothing")));
    if let Some(at) = &ring.on_violation {
        lines.push(("violations", at.value.to_string()));
    }
    if let Some(at) = &ring.on_loop {
        lines.push(("loops", at.value.to_string()));
    }
    lines
}

fn list<T: AsRef<str>>(names: &[T], none: &str) -> String {
    let names: Vec<&str> = names.iter().map(AsRef::as_ref).collect();
    if names.is_empty() {
        none.into()
    } else {
        names.join(" ")
    }
}

/// Who may ask: every rule must hold.
pub(crate) fn who(ring: &RingProfile) -> String {
    let rules: Vec<String> = ring.applies.iter().map(ToString::to_string).collect();
    if rules.is_empty() {
        "anybody".into()
    } else {
        rules.join(", and also ")
    }
}

pub(crate) fn workspace(access: Access) -> &'static str {
    match access {
        Access::Read => "may be read",
        Access::Write => "may be read and changed",
    }
}

pub(crate) fn home(home: Home) -> &'static str {
    match home {
        Home::None => "none",
        Home::Temporary => "at most temporary: gone with the run",
        Home::Private => "private: kept between the agent's runs",
    }
}

pub(crate) fn runtime(auto: bool) -> &'static str {
    if auto {
        "the place where the agent's program is installed may be mounted, read-only"
    } else {
        "only the system's own programs"
    }
}

pub(crate) fn proc(proc: Proc) -> &'static str {
    match proc {
        Proc::Pid => "its own processes only",
        Proc::Masked => "its own processes, and meminfo, cpuinfo and the like; read-only",
    }
}

pub(crate) fn programs(programs: Programs) -> &'static str {
    match programs {
        Programs::Any => "any that it can read",
        Programs::Once => "the command itself, once; threads and forks are fine",
    }
}

fn network(ceiling: &NetworkCeiling) -> Vec<String> {
    if ceiling.is_empty() {
        return vec!["none but the ring's own loopback".into()];
    }
    let mut lines = Vec::new();
    let rules: Vec<String> = ceiling.max.iter().map(|at| at.value.to_string()).collect();
    let hosts = if rules.is_empty() {
        "no host".into()
    } else {
        format!("what the agent names out of {}", rules.join(" "))
    };
    lines.push(hosts);
    let private: Vec<String> = ceiling.private.iter().map(ToString::to_string).collect();
    lines.push(if private.is_empty() {
        "no private address".into()
    } else {
        format!(
            "private ranges where it declares them: {}",
            private.join(" ")
        )
    });
    for (what, own) in [
        ("ports of this host's loopback", &ceiling.host_ports),
        ("ports served to this host", &ceiling.listen),
    ] {
        lines.push(format!("{what}: {}", ports(own)));
    }
    if let Some(proxy) = &ceiling.upstream_proxy {
        lines.push(format!(
            "all by proxy {}:{}",
            proxy.value.host, proxy.value.port
        ));
    }
    lines
}

pub(crate) fn ports(ports: &Ports) -> String {
    match ports {
        Ports::Any => "any that it names".into(),
        Ports::Only(ports) => {
            let ports: Vec<String> = ports.iter().map(u16::to_string).collect();
            list(&ports, "none")
        }
    }
}

fn limits(limits: &Limits) -> String {
    let parts: Vec<String> = limit_texts(limits)
        .into_iter()
        .filter_map(|(name, value)| value.map(|value| format!("{name} {value}")))
        .collect();
    if parts.is_empty() {
        "no ceiling".into()
    } else {
        parts.join(" · ")
    }
}

/// Every limit by its name, as files write it.
pub(crate) fn limit_texts(limits: &Limits) -> [(&'static str, Option<String>); 11] {
    fn or_none<T: Copy>(at: &Option<At<Option<T>>>, text: fn(T) -> String) -> Option<String> {
        at.as_ref()
            .map(|at| at.value.map_or_else(|| "none".into(), text))
    }
    let size = |at: &Option<At<Bytes>>| at.as_ref().map(|at| bytes_text(at.value));
    let count = |at: &Option<At<u64>>| at.as_ref().map(|at| at.value.to_string());
    [
        ("memory", size(&limits.memory)),
        ("cpu", or_none(&limits.cpu, cpu_text)),
        ("pids", count(&limits.pids)),
        ("files", count(&limits.files)),
        ("file_size", size(&limits.file_size)),
        ("tmp", size(&limits.tmp)),
        ("output", or_none(&limits.output, bytes_text)),
        ("wall", or_none(&limits.wall, duration_text)),
        ("calls", or_none(&limits.calls, |count| count.to_string())),
        ("tokens", or_none(&limits.tokens, |count| count.to_string())),
        ("cost", or_none(&limits.cost, cost_text)),
    ]
}

fn cpu_text(cpu: CpuMillis) -> String {
    let text = format!("{}.{:03}", cpu.0 / 1000, cpu.0 % 1000);
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

fn cost_text(cost: Millionths) -> String {
    let text = format!("{}.{:06}", cost.0 / 1_000_000, cost.0 % 1_000_000);
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

fn duration_text(time: Milliseconds) -> String {
    for (unit, name) in [(3_600_000, "h"), (60_000, "m"), (1000, "s")] {
        if time.0 >= unit && time.0.is_multiple_of(unit) {
            return format!("{}{name}", time.0 / unit);
        }
    }
    format!("{}ms", time.0)
}
