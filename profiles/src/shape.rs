//! The shape of both kinds of file as one table each, and reading a tree by it. The same table
//! checks files, names the nearest key, and prints the reference and the JSON Schema.

use crate::error::Error;
use crate::node::{Entry, Node, Span, Value, is_null};
use crate::value::{self, At, Bytes, CpuMillis, Millionths, Milliseconds};
pub(crate) use yaml::{nearest, shorten};

/// What a key takes.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Shape {
    Version,
    Name,
    Text,
    Words(&'static [&'static str]),
    Count { min: u64, max: u64 },
    Size,
    Duration,
    Cpu,
    Cost,
    Texts,
    TextMap,
    Probes,
    Object(&'static [Key]),
}

/// One key of a file.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Key {
    pub(crate) name: &'static str,
    pub(crate) shape: Shape,
    pub(crate) doc: &'static str,
    pub(crate) default: &'static str,
    pub(crate) example: &'static str,
    /// `none` is taken too, and means no limit.
    pub(crate) or_none: bool,
}

const fn key(
    name: &'static str,
    shape: Shape,
    default: &'static str,
    example: &'static str,
    doc: &'static str,
) -> Key {
    Key {
        name,
        shape,
        doc,
        default,
        example,
        or_none: false,
    }
}

const fn limit(
    name: &'static str,
    shape: Shape,
    default: &'static str,
    example: &'static str,
    doc: &'static str,
) -> Key {
    Key {
        name,
        shape,
        doc,
        default,
        example,
        or_none: true,
    }
}

const COUNT: Shape = Shape::Count {
    min: 1,
    max: 4_194_304,
};

pub(crate) const LIMITS: &[Key] = &[
    key(
        "memory",
        Shape::Size,
        "the ring's",
        "4G",
        "Memory of all processes together. By cgroup where there is one, else watched.",
    ),
    limit(
        "cpu",
        Shape::Cpu,
        "none",
        "2",
        "Processors' worth of time. Needs a cgroup; without one the ring does not start.",
    ),
    key(
        "pids",
        COUNT,
        "the ring's",
        "1024",
        "Processes and threads at once.",
    ),
    key(
        "files",
        Shape::Count {
            min: 16,
            max: 1_048_576,
        },
        "4096",
        "4096",
        "Open files of one process.",
    ),
    key(
        "file_size",
        Shape::Size,
        "10G",
        "10G",
        "Largest file that can be written.",
    ),
    key(
        "tmp",
        Shape::Size,
        "1G (sandbox: 256M)",
        "1G",
        "Size of the ring's own /tmp, and of its /dev/shm.",
    ),
    limit(
        "output",
        Shape::Size,
        "none",
        "100M",
        "Bytes on standard output and error together; then the ring is killed (exit code 122).",
    ),
    limit(
        "wall",
        Shape::Duration,
        "none",
        "2h",
        "Time that the run may take, sleep of the machine included; then the ring is killed (exit code 124).",
    ),
    limit(
        "calls",
        Shape::Count {
            min: 1,
            max: 1_000_000_000,
        },
        "none",
        "1000",
        "Tool, model and agent calls that may go ahead; then the agent is frozen until somebody says go.",
    ),
    limit(
        "tokens",
        Shape::Count {
            min: 1,
            max: 1_000_000_000_000,
        },
        "none",
        "2000000",
        "Tokens that it may report with DONE; then it is frozen.",
    ),
    limit(
        "cost",
        Shape::Cost,
        "none",
        "2.50",
        "Cost, in whatever unit it reports with DONE; then it is frozen.",
    ),
];

const FILES: &[Key] = &[
    key(
        "read",
        Shape::Texts,
        "[]",
        "[./data, \"~/.gitconfig?\"]",
        "Files and folders that the agent may read and run. `?` at the end: if it exists. `~` is your home.",
    ),
    key(
        "write",
        Shape::Texts,
        "[]",
        "[./out]",
        "Files and folders that the agent may also change. Not in ring 3.",
    ),
    key(
        "deny",
        Shape::Texts,
        "[]",
        "[./ws/.env]",
        "Files and folders inside the others that are hidden. They must exist, and files must have no other hard link; when one is replaced on the host while the agent runs, the run is killed. The folders around them cannot be moved by the agent.",
    ),
];

const NETWORK_LIMITS: &[Key] = &[
    key(
        "connections",
        Shape::Count { min: 1, max: 1024 },
        "256",
        "64",
        "Connections at once.",
    ),
    key(
        "idle",
        Shape::Duration,
        "10m",
        "10m",
        "A connection on which nothing moves for so long is closed.",
    ),
    limit(
        "total",
        Shape::Duration,
        "none",
        "1h",
        "A connection is closed after this time, whatever moves on it.",
    ),
    limit(
        "bytes",
        Shape::Size,
        "none",
        "1G",
        "Bytes from and to one host in all; then it is reached no more.",
    ),
    limit(
        "rate",
        Shape::Size,
        "none",
        "10M",
        "Bytes a second from and to one host.",
    ),
];

const NETWORK: &[Key] = &[
    key(
        "allow",
        Shape::Texts,
        "[]",
        "[\"api.example.com:443\", \"*.example.org:443\"]",
        "Hosts that are reached, by name and port. `*.` stands for one or more labels. Everything else is refused.",
    ),
    key(
        "host_ports",
        Shape::Texts,
        "[]",
        "[11434]",
        "Ports of this host's loopback (a local model server) that appear on the ring's loopback.",
    ),
    key(
        "listen",
        Shape::Texts,
        "[]",
        "[3000]",
        "Ports on which the agent serves (a dev server on its loopback) that appear on this host's loopback.",
    ),
    key(
        "private",
        Shape::Texts,
        "[]",
        "[10.1.0.0/16]",
        "Private ranges that allowed names may lead to, where the ring permits them. Without it a name that leads to a private, link-local or loopback address is refused.",
    ),
    key(
        "upstream_proxy",
        Shape::Text,
        "the ring's",
        "proxy.example.com:3128",
        "An HTTP proxy by which all of it goes out. One on this host itself has its port in `host_ports`, or is named by the ring.",
    ),
    key(
        "limits",
        Shape::Object(NETWORK_LIMITS),
        "{}",
        "{connections: 64}",
        "Limits of its connections.",
    ),
];

const RING_NETWORK: &[Key] = &[
    key(
        "max",
        Shape::Texts,
        "the parent's",
        "[\"*.bank.example:443\"]",
        "What agents may allow at most. `*` is any name, `:*` any port.",
    ),
    key(
        "host_ports",
        Shape::Texts,
        "the parent's",
        "[11434]",
        "Ports of this host's loopback that agents may ask for; `any` alone for all.",
    ),
    key(
        "listen",
        Shape::Texts,
        "the parent's",
        "[3000]",
        "Ports on which agents may serve to this host; `any` alone for all.",
    ),
    key(
        "private",
        Shape::Texts,
        "the parent's",
        "[10.1.0.0/16]",
        "Private ranges that agents may declare.",
    ),
    key(
        "upstream_proxy",
        Shape::Text,
        "the parent's",
        "proxy.example.com:3128",
        "An HTTP proxy by which every agent of the ring goes out; none can ask for another.",
    ),
];

const ENV: &[Key] = &[
    key(
        "set",
        Shape::TextMap,
        "{}",
        "{LANG: C.UTF-8}",
        "Variables with these values.",
    ),
    key(
        "pass",
        Shape::Texts,
        "[]",
        "[\"OPENAI_API_KEY?\"]",
        "Variables taken over from the caller. `?` at the end: if it is set. Nothing else is inherited.",
    ),
];

const REACTION: &[Key] = &[
    key(
        "count",
        Shape::Count {
            min: 1,
            max: 10_000,
        },
        "required",
        "3",
        "So many times …",
    ),
    key(
        "within",
        Shape::Duration,
        "required",
        "60s",
        "… in this time, at most 24h.",
    ),
    key(
        "do",
        Shape::Words(&["freeze", "term", "kill"]),
        "required",
        "kill",
        "freeze: it stands still until `agt-supervisor thaw NAME`. term: SIGTERM, and SIGKILL after `kill.grace`. kill: at once. Ended so, its exit code is 121.",
    ),
];

const KILL: &[Key] = &[key(
    "grace",
    Shape::Duration,
    "5s",
    "5s",
    "Between SIGTERM and SIGKILL when the run is stopped, at most 10m.",
)];

/// The keys of an agent.yaml.
pub(crate) const AGENT: &[Key] = &[
    key(
        "version",
        Shape::Version,
        "required",
        "1",
        "The version of this format: 1.",
    ),
    key(
        "name",
        Shape::Name,
        "required",
        "research-bot",
        "The agent's name: a-z, 0-9 and -, at most 63.",
    ),
    key(
        "preset",
        Shape::Text,
        "none",
        "python-agent",
        "A named starting point: claude-code, codex, node-agent, python-agent or shell. What this file says goes before what it says; lists hold what both say. `init --preset NAME` writes one out.",
    ),
    key(
        "command",
        Shape::Texts,
        "required, or the preset's",
        "[python3, agent.py]",
        "The program and its arguments, looked for where the ring sees programs.",
    ),
    key(
        "ring",
        Shape::Text,
        "sandbox",
        "standard",
        "1 privileged, 2 standard, 3 sandbox, or the name of a site's ring.",
    ),
    key(
        "workspace",
        Shape::Text,
        "the folder of this file",
        "./ws",
        "The folder that the agent works in. Made for it when it does not exist.",
    ),
    key(
        "home",
        Shape::Words(&["private", "temporary", "none"]),
        "private (sandbox: none)",
        "private",
        "A home of its own: kept between runs, or gone with the run, or none (HOME is then /tmp).",
    ),
    key(
        "runtime",
        Shape::Words(&["auto", "none"]),
        "auto",
        "auto",
        "auto: the program is followed through links, `#!`, virtual environments and version managers, and where it is installed is mounted read-only. none: only the system's own.",
    ),
    key(
        "tty",
        Shape::Words(&["auto", "none"]),
        "auto",
        "auto",
        "auto: a terminal of its own where the caller has one. none: never one.",
    ),
    key(
        "files",
        Shape::Object(FILES),
        "{}",
        "{read: [./data]}",
        "More files, relative to this file.",
    ),
    key(
        "network",
        Shape::Object(NETWORK),
        "{}",
        "{allow: [\"api.example.com:443\"]}",
        "Where it connects to, by name. Without it there is only its own loopback.",
    ),
    key(
        "env",
        Shape::Object(ENV),
        "{}",
        "{set: {LANG: C.UTF-8}}",
        "The environment; it starts empty but for PATH, HOME, USER, LOGNAME, SHELL, TMPDIR, LANG, TERM with a terminal, AGT_AGENT and AGT_RING.",
    ),
    key(
        "limits",
        Shape::Object(LIMITS),
        "{}",
        "{memory: 1G, wall: 1h}",
        "Limits, at most the ring's.",
    ),
    key(
        "policy",
        Shape::Texts,
        "[]",
        "[policy.yaml]",
        "Policies (docs/policy.md) that its actions are held to, besides the site's and the ring's, never instead.",
    ),
    key(
        "on_violation",
        Shape::Object(REACTION),
        "the ring's, or nothing",
        "{count: 3, within: 60s, do: kill}",
        "What becomes of an agent whose actions policies deny again and again. Denials by a limit do not count, nor does what a program fails to find.",
    ),
    key(
        "on_loop",
        Shape::Object(REACTION),
        "the ring's, or {count: 5, within: 60s, do: freeze}",
        "{count: 20, within: 60s, do: kill}",
        "What becomes of an agent that asks for one and the same tool, model or agent call again and again.",
    ),
    key(
        "elevate",
        Shape::Text,
        "never",
        "standard",
        "The highest ring in which single commands of it may be run when it asks (ELEVATE, docs/running.md): each in a process of its own, for at most an hour. Ring 1 only when a person approves.",
    ),
    key(
        "kill",
        Shape::Object(KILL),
        "{}",
        "{grace: 5s}",
        "How it is stopped.",
    ),
    key(
        "degrade",
        Shape::Texts,
        "[]",
        "[cpu-limit]",
        "Layers that may be missing on this host, where the ring permits it: landlock, landlock-tcp, landlock-scopes, cpu-limit.",
    ),
];

const APPLIES: &[Key] = &[
    key(
        "groups",
        Shape::Texts,
        "[]",
        "[payments]",
        "Members of these groups, by name or number.",
    ),
    key(
        "users",
        Shape::Texts,
        "[]",
        "[alice]",
        "These users, by name or number.",
    ),
];

const SYSCALLS: &[Key] = &[
    key(
        "allow",
        Shape::Texts,
        "[]",
        "[\"@system-service\"]",
        "Calls and @sets (as in systemd.exec) that are answered; what no ring has stays refused.",
    ),
    key(
        "deny",
        Shape::Texts,
        "[]",
        "[\"@debug\"]",
        "Calls and @sets taken out again.",
    ),
];

const RING_LIMITS: &[Key] = &[
    key(
        "default",
        Shape::Object(LIMITS),
        "{}",
        "{memory: 2G}",
        "What an agent gets that does not say.",
    ),
    key(
        "max",
        Shape::Object(LIMITS),
        "{}",
        "{memory: 8G}",
        "What an agent may ask for at most.",
    ),
];

/// The keys of a ring profile.
pub(crate) const RING: &[Key] = &[
    key(
        "version",
        Shape::Version,
        "required",
        "1",
        "The version of this format: 1.",
    ),
    key(
        "name",
        Shape::Name,
        "required",
        "payments",
        "The ring's name, which agents ask for.",
    ),
    key(
        "number",
        Shape::Count { min: 1, max: 3 },
        "none",
        "2",
        "Of the built-in rings only.",
    ),
    key(
        "summary",
        Shape::Text,
        "none",
        "reversible work",
        "One line for `ring list`.",
    ),
    key(
        "extends",
        Shape::Text,
        "required of a site's ring",
        "standard",
        "The ring that this one starts from.",
    ),
    key(
        "applies",
        Shape::Object(APPLIES),
        "anybody",
        "{groups: [payments]}",
        "Who may ask for the ring: any of these, and whoever may ask for its parent. Root always may; under sudo it is the user who called it that counts.",
    ),
    key(
        "presets",
        Shape::Texts,
        "the parent's, or any",
        "[python-agent]",
        "Presets that agents of the ring may start from. A file without `preset` is not concerned.",
    ),
    key(
        "workspace",
        Shape::Words(&["read", "write"]),
        "the parent's",
        "write",
        "What the agent may do in its workspace.",
    ),
    key(
        "proc",
        Shape::Words(&["pid", "masked"]),
        "the parent's",
        "masked",
        "/proc: its processes only, or with meminfo and the like.",
    ),
    key(
        "programs",
        Shape::Words(&["any", "once"]),
        "the parent's",
        "any",
        "Whether the agent may run other programs, or is the only one.",
    ),
    key(
        "sockets",
        Shape::Texts,
        "the parent's",
        "[unix, inet, netlink-route]",
        "Kinds of sockets. inet reaches the ring's own loopback.",
    ),
    key(
        "read",
        Shape::Texts,
        "[]",
        "[/srv/ledger]",
        "More paths that every agent of the ring may read.",
    ),
    key(
        "write",
        Shape::Texts,
        "[]",
        "[]",
        "More paths that every agent of the ring may change.",
    ),
    key(
        "home",
        Shape::Words(&["private", "temporary", "none"]),
        "the parent's",
        "temporary",
        "The most lasting home that agents may have.",
    ),
    key(
        "runtime",
        Shape::Words(&["auto", "none"]),
        "the parent's",
        "none",
        "Whether the place where an agent's program is installed may be mounted.",
    ),
    key(
        "network",
        Shape::Object(RING_NETWORK),
        "the parent's",
        "{max: [\"*.bank.example:443\"]}",
        "Where agents may connect to.",
    ),
    key(
        "syscalls",
        Shape::Object(SYSCALLS),
        "the parent's",
        "{deny: [\"@debug\"]}",
        "System calls.",
    ),
    key(
        "limits",
        Shape::Object(RING_LIMITS),
        "the parent's",
        "{max: {memory: 8G}}",
        "Limits.",
    ),
    key(
        "degrade",
        Shape::Texts,
        "[]",
        "[cpu-limit]",
        "Layers that agents of this ring may name under `degrade`.",
    ),
    key(
        "on_violation",
        Shape::Object(REACTION),
        "the parent's",
        "{count: 3, within: 60s, do: kill}",
        "What becomes of an agent whose actions policies deny again and again; agents may only be stricter.",
    ),
    key(
        "on_loop",
        Shape::Object(REACTION),
        "the parent's",
        "{count: 20, within: 60s, do: kill}",
        "What becomes of an agent that asks for one and the same tool, model or agent call again and again; agents may only be stricter. Unsaid, five times in 60 s freeze it.",
    ),
    key(
        "must_allow",
        Shape::Probes,
        "[]",
        "[{read: /usr/bin/env}]",
        "Probes that `ring test` runs inside: these must work. Not the parent's: each ring has its own.",
    ),
    key(
        "must_deny",
        Shape::Probes,
        "[]",
        "[{read: /etc/shadow}, {connect: \"169.254.169.254:80\"}]",
        "Probes that must fail.",
    ),
];

/// What a probe may try.
pub(crate) const PROBES: [&str; 6] = ["read", "write", "exec", "syscall", "connect", "resolve"];

/// A map of a file, read by its keys.
pub(crate) struct Object<'a> {
    file: &'a str,
    entries: &'a [Entry],
    keys: &'static [Key],
    span: Span,
    /// `limits.`, for messages.
    within: String,
}

impl<'a> Object<'a> {
    /// Takes a node as a map with these keys and no others.
    pub(crate) fn open(
        file: &'a str,
        node: &'a Node,
        keys: &'static [Key],
        within: &str,
    ) -> Result<Self, Error> {
        let what = || {
            if within.is_empty() {
                "the file".to_owned()
            } else {
                format!("`{within}`")
            }
        };
        let Value::Map(entries) = &node.value else {
            let first = keys.first().map_or("", |key| key.name);
            let text = format!("{} must be a map, and this is {}", what(), node.kind());
            return Err(Error::wrong(
                file,
                node.span,
                text,
                format!("write `{first}: …`"),
            ));
        };
        for entry in entries {
            if !keys.iter().any(|key| key.name == entry.key) {
                let text = format!("`{}` is not a key of {}", shorten(&entry.key), what());
                return Err(Error::wrong(
                    file,
                    entry.span,
                    text,
                    suggest(&entry.key, keys),
                ));
            }
        }
        let within = if within.is_empty() {
            String::new()
        } else {
            format!("{within}.")
        };
        Ok(Self {
            file,
            entries,
            keys,
            span: node.span,
            within,
        })
    }

    fn key(&self, name: &'static str) -> &'static Key {
        static MISSING: Key = key("", Shape::Text, "", "", "");
        self.keys
            .iter()
            .find(|key| key.name == name)
            .unwrap_or(&MISSING)
    }

    pub(crate) fn node(&self, name: &str) -> Option<&'a Node> {
        self.entries
            .iter()
            .find(|entry| entry.key == name)
            .map(|entry| &entry.node)
    }

    /// The place of the map itself.
    pub(crate) fn span(&self) -> Span {
        self.span
    }

    /// `file:line` of the map itself.
    pub(crate) fn origin(&self) -> String {
        format!("{}:{}", self.file, self.span.line)
    }

    pub(crate) fn has(&self, name: &str) -> bool {
        self.node(name).is_some()
    }

    pub(crate) fn wrong(&self, name: &'static str, span: Span, what: &str) -> Error {
        let key = self.key(name);
        let what = format!("`{}{name}` {what}", self.within);
        Error::wrong(
            self.file,
            span,
            what,
            format!("write for example `{name}: {}`", key.example),
        )
    }

    pub(crate) fn required(&self, name: &'static str) -> Result<&'a Node, Error> {
        self.node(name)
            .ok_or_else(|| self.wrong(name, self.span, "is missing"))
    }

    pub(crate) fn at<T>(&self, node: &Node, value: T) -> At<T> {
        At {
            value,
            origin: format!("{}:{}", self.file, node.span.line),
            span: node.span,
        }
    }

    /// A single value that is not empty.
    pub(crate) fn text(&self, name: &'static str) -> Result<Option<At<String>>, Error> {
        let Some(node) = self.node(name) else {
            return Ok(None);
        };
        self.word(name, node).map(Some)
    }

    fn word(&self, name: &'static str, node: &Node) -> Result<At<String>, Error> {
        match &node.value {
            Value::Scalar { text, plain } if !(text.is_empty() || *plain && is_null(text)) => {
                Ok(self.at(node, text.clone()))
            }
            Value::Scalar { .. } => Err(self.wrong(name, node.span, "is empty")),
            Value::List(_) | Value::Map(_) => {
                let what = format!("takes one value, and this is {}", node.kind());
                Err(self.wrong(name, node.span, &what))
            }
        }
    }

    /// A value of one of the limits; `Some(None)` is an explicit `none`.
    fn parsed<T>(
        &self,
        name: &'static str,
        what: &str,
        parse: impl Fn(&str) -> Option<T>,
    ) -> Result<Option<At<Option<T>>>, Error> {
        let Some(text) = self.text(name)? else {
            return Ok(None);
        };
        if text.value == "none" && self.key(name).or_none {
            return Ok(Some(At {
                value: None,
                origin: text.origin,
                span: text.span,
            }));
        }
        let value = parse(&text.value).ok_or_else(|| {
            let shown = shorten(&text.value);
            self.wrong(
                name,
                text.span,
                &format!("takes {what}, and `{shown}` is none"),
            )
        })?;
        Ok(Some(At {
            value: Some(value),
            origin: text.origin,
            span: text.span,
        }))
    }

    pub(crate) fn size(&self, name: &'static str) -> Result<Option<At<Option<Bytes>>>, Error> {
        self.parsed(name, "a size", value::size)
    }

    pub(crate) fn duration(
        &self,
        name: &'static str,
    ) -> Result<Option<At<Option<Milliseconds>>>, Error> {
        self.parsed(name, "a duration", value::duration)
    }

    pub(crate) fn cpu(&self, name: &'static str) -> Result<Option<At<Option<CpuMillis>>>, Error> {
        self.parsed(name, "a number of processors (0.01 to 1000)", value::cpu)
    }

    pub(crate) fn cost(&self, name: &'static str) -> Result<Option<At<Option<Millionths>>>, Error> {
        let what = "an amount above 0, with at most six decimals";
        self.parsed(name, what, value::cost)
    }

    pub(crate) fn count(&self, name: &'static str) -> Result<Option<At<Option<u64>>>, Error> {
        let Shape::Count { min, max } = self.key(name).shape else {
            return Ok(None);
        };
        let within = |text: &str| value::decimal(text).filter(|n| (min..=max).contains(n));
        self.parsed(name, &format!("a number from {min} to {max}"), within)
    }

    /// One of the words that the key takes.
    pub(crate) fn one_of(&self, name: &'static str) -> Result<Option<At<String>>, Error> {
        let Shape::Words(words) = self.key(name).shape else {
            return Ok(None);
        };
        let Some(text) = self.text(name)? else {
            return Ok(None);
        };
        if words.contains(&text.value.as_str()) {
            return Ok(Some(text));
        }
        let what = format!(
            "is `{}`, which is none of {}",
            shorten(&text.value),
            words.join(", ")
        );
        Err(self.wrong(name, text.span, &what))
    }

    /// A list of single values.
    pub(crate) fn texts(&self, name: &'static str) -> Result<Vec<At<String>>, Error> {
        let Some(node) = self.node(name) else {
            return Ok(Vec::new());
        };
        let Value::List(items) = &node.value else {
            let what = format!("takes a list, and this is {}", node.kind());
            return Err(self.wrong(name, node.span, &what));
        };
        items.iter().map(|item| self.word(name, item)).collect()
    }

    /// A map of single values; empty ones are texts too.
    pub(crate) fn text_map(&self, name: &'static str) -> Result<Vec<(String, At<String>)>, Error> {
        let Some(node) = self.node(name) else {
            return Ok(Vec::new());
        };
        let Value::Map(entries) = &node.value else {
            let what = format!("takes a map, and this is {}", node.kind());
            return Err(self.wrong(name, node.span, &what));
        };
        let text = |entry: &Entry| match &entry.node.value {
            Value::Scalar { text, .. } => {
                Ok((entry.key.clone(), self.at(&entry.node, text.clone())))
            }
            Value::List(_) | Value::Map(_) => {
                let what = format!("takes one value for `{}`", shorten(&entry.key));
                Err(self.wrong(name, entry.node.span, &what))
            }
        };
        entries.iter().map(text).collect()
    }

    /// A list of one-key maps: what is tried, and on what.
    pub(crate) fn probes(&self, name: &'static str) -> Result<Vec<At<(String, String)>>, Error> {
        let Some(node) = self.node(name) else {
            return Ok(Vec::new());
        };
        let Value::List(items) = &node.value else {
            let what = format!("takes a list, and this is {}", node.kind());
            return Err(self.wrong(name, node.span, &what));
        };
        let probe = |item: &Node| {
            let Value::Map(entries) = &item.value else {
                return Err(self.wrong(name, item.span, "takes maps of one key"));
            };
            match entries.as_slice() {
                [
                    Entry {
                        key,
                        node:
                            Node {
                                value: Value::Scalar { text, .. },
                                ..
                            },
                        ..
                    },
                ] if PROBES.contains(&key.as_str()) && !text.is_empty() => {
                    Ok(self.at(item, (key.clone(), text.clone())))
                }
                _ => {
                    let what = format!("takes maps of one key out of {}", PROBES.join(", "));
                    Err(self.wrong(name, item.span, &what))
                }
            }
        };
        items.iter().map(probe).collect()
    }

    /// A map of its own, `None` when the key is absent.
    pub(crate) fn object(&self, name: &'static str) -> Result<Option<Object<'a>>, Error> {
        let Shape::Object(keys) = self.key(name).shape else {
            return Ok(None);
        };
        let within = format!("{}{name}", self.within);
        let open = |node| Object::open(self.file, node, keys, &within);
        self.node(name).map(open).transpose()
    }
}

/// The nearest key, or all of them.
fn suggest(wrong: &str, keys: &[Key]) -> String {
    let names: Vec<&str> = keys.iter().map(|key| key.name).collect();
    match nearest(wrong, &names) {
        Some(near) => format!("did you mean `{near}`?"),
        None => format!("it has {}", names.join(", ")),
    }
}
