//! agent.yaml: what an agent wishes.

use std::fmt;
use std::path::PathBuf;

use crate::error::Error;
use crate::network::NetworkWish;
use crate::node::{self, Span};
use crate::preset;
use crate::shape::{AGENT, Object, shorten};
use crate::value::{At, Bytes, CpuMillis, Home, Layer, Millionths, Milliseconds, Reaction, Stop};

/// The longest grace period.
const GRACE_MAX: Milliseconds = Milliseconds(600_000);
/// The least memory that the smallest program starts in.
const MEMORY_MIN: Bytes = Bytes(4 << 20);
const GRACE_DEFAULT: Milliseconds = Milliseconds(5_000);

/// A path as it was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PathWish {
    /// Without the `?`; `~` is still in it.
    pub path: PathBuf,
    /// It may be absent.
    pub optional: bool,
}

impl fmt::Display for PathWish {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mark = if self.optional { "?" } else { "" };
        write!(f, "{}{mark}", shorten(&self.path.to_string_lossy()))
    }
}

/// A variable that is passed on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EnvWish {
    /// Its name.
    pub name: String,
    /// It may be unset.
    pub optional: bool,
}

/// Limits as they were written; what is absent is the ring's to fill in.
#[derive(Clone, Debug, Default)]
pub struct Limits {
    /// All memory.
    pub memory: Option<At<Bytes>>,
    /// Processor time; an inner `None` is an explicit `none`.
    pub cpu: Option<At<Option<CpuMillis>>>,
    /// Processes and threads.
    pub pids: Option<At<u64>>,
    /// Open files of a process.
    pub files: Option<At<u64>>,
    /// Largest file.
    pub file_size: Option<At<Bytes>>,
    /// `/tmp`.
    pub tmp: Option<At<Bytes>>,
    /// Output.
    pub output: Option<At<Option<Bytes>>>,
    /// Time.
    pub wall: Option<At<Option<Milliseconds>>>,
    /// Calls that go ahead.
    pub calls: Option<At<Option<u64>>>,
    /// Tokens that it reports.
    pub tokens: Option<At<Option<u64>>>,
    /// Cost that it reports.
    pub cost: Option<At<Option<Millionths>>>,
}

impl Limits {
    /// What these say goes before what the others say.
    fn over(self, under: Self) -> Self {
        Self {
            memory: self.memory.or(under.memory),
            cpu: self.cpu.or(under.cpu),
            pids: self.pids.or(under.pids),
            files: self.files.or(under.files),
            file_size: self.file_size.or(under.file_size),
            tmp: self.tmp.or(under.tmp),
            output: self.output.or(under.output),
            wall: self.wall.or(under.wall),
            calls: self.calls.or(under.calls),
            tokens: self.tokens.or(under.tokens),
            cost: self.cost.or(under.cost),
        }
    }

    pub(crate) fn read(object: Option<Object<'_>>) -> Result<Self, Error> {
        let Some(object) = object else {
            return Ok(Self::default());
        };
        fn some<T>(at: Option<At<Option<T>>>) -> Option<At<T>> {
            at.and_then(|at| {
                at.value.map(|value| At {
                    value,
                    origin: at.origin,
                    span: at.span,
                })
            })
        }
        let memory = some(object.size("memory")?);
        if let Some(at) = memory.as_ref().filter(|at| at.value < MEMORY_MIN) {
            return Err(object.wrong(
                "memory",
                at.span,
                "is less than 4M, in which nothing starts",
            ));
        }
        let wall = object.duration("wall")?;
        if let Some(at) = wall.as_ref().filter(|at| at.value == Some(Milliseconds(0))) {
            return Err(object.wrong("wall", at.span, "is no time at all"));
        }
        Ok(Self {
            memory,
            cpu: object.cpu("cpu")?,
            pids: some(object.count("pids")?),
            files: some(object.count("files")?),
            file_size: some(object.size("file_size")?),
            tmp: some(object.size("tmp")?),
            output: object.size("output")?,
            wall,
            calls: object.count("calls")?,
            tokens: object.count("tokens")?,
            cost: object.cost("cost")?,
        })
    }
}

/// What an agent wishes.
#[derive(Clone, Debug)]
pub struct Agent {
    /// The file as it was named.
    pub file: String,
    /// Its name.
    pub name: String,
    /// The preset that it starts from.
    pub preset: Option<At<String>>,
    /// Program and arguments; never empty.
    pub command: Vec<String>,
    /// `file:line` of the command.
    pub command_origin: String,
    /// The ring asked for, by number or name.
    pub ring: At<String>,
    /// The workspace; the folder of the file when absent.
    pub workspace: Option<At<PathBuf>>,
    /// To be read.
    pub read: Vec<At<PathWish>>,
    /// To be changed.
    pub write: Vec<At<PathWish>>,
    /// Hidden.
    pub deny: Vec<At<PathWish>>,
    /// A home; the ring's choice when absent.
    pub home: Option<At<Home>>,
    /// Whether the place where its program is installed is found and mounted.
    pub runtime: Option<At<bool>>,
    /// Whether it gets a terminal where the caller has one.
    pub tty: bool,
    /// Where it connects to.
    pub network: NetworkWish,
    /// Variables that are set.
    pub set: Vec<(String, String)>,
    /// Variables that are passed on.
    pub pass: Vec<At<EnvWish>>,
    /// Limits.
    pub limits: Limits,
    /// Policies of its own.
    pub policy: Vec<At<PathWish>>,
    /// When denied actions end the run; the ring's choice when absent.
    pub on_violation: Option<At<Reaction>>,
    /// When one action asked again and again stops the run; the ring's choice when absent.
    pub on_loop: Option<At<Reaction>>,
    /// The ring up to which single commands of it may be lifted.
    pub elevate: Option<At<String>>,
    /// Between SIGTERM and SIGKILL.
    pub grace: Milliseconds,
    /// Layers that may be missing.
    pub degrade: Vec<At<Layer>>,
}

/// What one file says, an agent.yaml or a preset.
struct Wishes {
    command: Option<(Vec<String>, String)>,
    ring: Option<At<String>>,
    workspace: Option<At<PathBuf>>,
    read: Vec<At<PathWish>>,
    write: Vec<At<PathWish>>,
    deny: Vec<At<PathWish>>,
    home: Option<At<Home>>,
    runtime: Option<At<bool>>,
    tty: Option<bool>,
    network: NetworkWish,
    set: Vec<(String, String)>,
    pass: Vec<At<EnvWish>>,
    limits: Limits,
    policy: Vec<At<PathWish>>,
    on_violation: Option<At<Reaction>>,
    on_loop: Option<At<Reaction>>,
    elevate: Option<At<String>>,
    grace: Option<Milliseconds>,
    degrade: Vec<At<Layer>>,
}

impl Wishes {
    fn read(file: &str, object: &Object<'_>) -> Result<Self, Error> {
        let ring = object.text("ring")?;
        if let Some(ring) = &ring {
            refuse_ring_zero(file, ring)?;
        }
        let files = object.object("files")?;
        let env = object.object("env")?;
        let (set, pass) = match &env {
            Some(env) => {
                let (set, pass) = (set(env)?, pass(env)?);
                refuse_twice(env, &set, &pass)?;
                (set, pass)
            }
            None => (Vec::new(), Vec::new()),
        };
        let paths = |name| {
            files
                .as_ref()
                .map_or(Ok(Vec::new()), |files| paths(files, name))
        };
        Ok(Self {
            command: command(object)?,
            ring,
            workspace: object.text("workspace")?.map(|at| at.map(PathBuf::from)),
            read: paths("read")?,
            write: paths("write")?,
            deny: paths("deny")?,
            home: home(object)?,
            runtime: runtime(object)?,
            tty: object.one_of("tty")?.map(|at| at.value == "auto"),
            network: NetworkWish::read(object.object("network")?)?,
            set,
            pass,
            limits: Limits::read(object.object("limits")?)?,
            policy: self::paths(object, "policy")?,
            on_violation: reaction(object, "on_violation")?,
            on_loop: reaction(object, "on_loop")?,
            elevate: elevate(file, object)?,
            grace: grace(object)?,
            degrade: layers(object)?,
        })
    }

    /// What the file says goes before what its preset says; lists hold what both say.
    fn over(self, preset: Self) -> Self {
        let named = |name: &String| {
            self.set.iter().any(|(one, _)| one == name)
                || self.pass.iter().any(|one| one.value.name == *name)
        };
        let mut set: Vec<(String, String)> = preset.set;
        set.retain(|(name, _)| !named(name));
        let mut pass = preset.pass;
        pass.retain(|at| !named(&at.value.name));
        set.extend(self.set);
        pass.extend(self.pass);
        let both = |mut theirs: Vec<At<PathWish>>, own| {
            theirs.extend(own);
            theirs
        };
        let mut degrade = preset.degrade;
        degrade.extend(self.degrade);
        Self {
            command: self.command.or(preset.command),
            ring: self.ring.or(preset.ring),
            workspace: self.workspace.or(preset.workspace),
            read: both(preset.read, self.read),
            write: both(preset.write, self.write),
            deny: both(preset.deny, self.deny),
            home: self.home.or(preset.home),
            runtime: self.runtime.or(preset.runtime),
            tty: self.tty.or(preset.tty),
            network: self.network.over(preset.network),
            set,
            pass,
            limits: self.limits.over(preset.limits),
            policy: both(preset.policy, self.policy),
            on_violation: self.on_violation.or(preset.on_violation),
            on_loop: self.on_loop.or(preset.on_loop),
            elevate: self.elevate.or(preset.elevate),
            grace: self.grace.or(preset.grace),
            degrade,
        }
    }
}

impl Agent {
    pub(crate) fn parse(file: &str, bytes: &[u8]) -> Result<Self, Error> {
        let root = node::parse(file, bytes)?;
        let object = Object::open(file, &root, AGENT, "")?;
        version(&object)?;
        let name = name(&object)?;
        let own = Wishes::read(file, &object)?;
        let preset = object.text("preset")?;
        let wishes = match &preset {
            Some(at) => own.over(preset_wishes(&object, at)?),
            None => own,
        };
        let Some((command, command_origin)) = wishes.command else {
            return Err(object.wrong("command", object.span(), "is missing"));
        };
        let default = At {
            value: "sandbox".into(),
            origin: format!("{file}:1"),
            span: Span { line: 1, column: 1 },
        };
        Ok(Self {
            name,
            preset,
            command,
            command_origin,
            ring: wishes.ring.unwrap_or(default),
            workspace: wishes.workspace,
            read: wishes.read,
            write: wishes.write,
            deny: wishes.deny,
            home: wishes.home,
            runtime: wishes.runtime,
            tty: wishes.tty.unwrap_or(true),
            network: wishes.network,
            set: wishes.set,
            pass: wishes.pass,
            limits: wishes.limits,
            policy: wishes.policy,
            on_violation: wishes.on_violation,
            on_loop: wishes.on_loop,
            elevate: wishes.elevate,
            grace: wishes.grace.unwrap_or(GRACE_DEFAULT),
            degrade: wishes.degrade,
            file: file.to_owned(),
        })
    }

    /// The same agent with one command of its own in another ring, for so long: what it may do besides is
    /// what that ring makes of the same file. It serves no port, since the agent itself does.
    #[must_use]
    pub fn worker(mut self, ring: &str, command: Vec<String>, most: Milliseconds) -> Self {
        self.ring.value = ring.to_owned();
        self.command = command;
        self.elevate = None;
        // So long, and no longer.
        self.grace = Milliseconds(0);
        self.network.listen.clear();
        let sooner = |at: &At<Option<Milliseconds>>| at.value.is_some_and(|own| own <= most);
        if !self.limits.wall.as_ref().is_some_and(sooner) {
            self.limits.wall = Some(At {
                value: Some(most),
                origin: self.command_origin.clone(),
                span: self.ring.span,
            });
        }
        self
    }

    /// An agent without a file: a command, a ring and a workspace from the command line.
    ///
    /// # Errors
    /// When the ring is 0.
    pub fn from_command(
        command: Vec<String>,
        ring: &str,
        workspace: PathBuf,
    ) -> Result<Self, Error> {
        let span = Span { line: 1, column: 1 };
        let origin = "the command line".to_owned();
        let ring = At {
            value: ring.to_owned(),
            origin: origin.clone(),
            span,
        };
        refuse_ring_zero("--ring", &ring)?;
        Ok(Self {
            file: origin.clone(),
            name: "command".into(),
            preset: None,
            command,
            command_origin: origin.clone(),
            ring,
            workspace: Some(At {
                value: workspace,
                origin,
                span,
            }),
            read: Vec::new(),
            write: Vec::new(),
            deny: Vec::new(),
            home: None,
            runtime: None,
            tty: true,
            network: NetworkWish::default(),
            set: Vec::new(),
            pass: Vec::new(),
            limits: Limits::default(),
            policy: Vec::new(),
            on_violation: None,
            on_loop: None,
            elevate: None,
            grace: GRACE_DEFAULT,
            degrade: Vec::new(),
        })
    }
}

pub(crate) fn version(object: &Object<'_>) -> Result<(), Error> {
    object.required("version")?;
    match object.text("version")? {
        Some(text) if text.value == "1" => Ok(()),
        Some(text) => Err(object.wrong("version", text.span, "must be 1")),
        None => Ok(()),
    }
}

pub(crate) fn name(object: &Object<'_>) -> Result<String, Error> {
    object.required("name")?;
    let Some(text) = object.text("name")? else {
        return Ok(String::new());
    };
    let fine = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    let name = &text.value;
    if name.bytes().all(|byte| byte.is_ascii_digit()) {
        // `ring: 2` is always the built-in one.
        let what = format!("is `{}`, a number", shorten(name));
        return Err(object.wrong("name", text.span, &what));
    }
    if name.len() <= 63 && !name.starts_with('-') && name.bytes().all(fine) {
        return Ok(text.value);
    }
    let what = format!(
        "is `{}`: only a-z, 0-9 and - (not first), at most 63",
        shorten(name)
    );
    Err(object.wrong("name", text.span, &what))
}

fn command(object: &Object<'_>) -> Result<Option<(Vec<String>, String)>, Error> {
    let Some(node) = object.node("command") else {
        return Ok(None);
    };
    let words = object.texts("command")?;
    if words.is_empty() {
        return Err(object.wrong("command", node.span, "is an empty list"));
    }
    let origin = object.at(node, ()).origin;
    Ok(Some((
        words.into_iter().map(|word| word.value).collect(),
        origin,
    )))
}

/// The wishes of a preset of this program.
fn preset_wishes(object: &Object<'_>, at: &At<String>) -> Result<Wishes, Error> {
    let Some((name, text)) = preset::find(&at.value) else {
        let known: Vec<&str> = preset::ALL.iter().map(|(name, _)| *name).collect();
        let what = format!(
            "is `{}`, which is none of {}",
            shorten(&at.value),
            known.join(", ")
        );
        return Err(object.wrong("preset", at.span, &what));
    };
    let file = format!("preset {name}");
    let root = node::parse(&file, text.as_bytes())?;
    let preset = Object::open(&file, &root, AGENT, "")?;
    version(&preset)?;
    Wishes::read(&file, &preset)
}

pub(crate) fn home(object: &Object<'_>) -> Result<Option<At<Home>>, Error> {
    let word = object.one_of("home")?;
    Ok(word.and_then(|at| Home::parse(&at.value).map(|home| at.map(|_| home))))
}

pub(crate) fn reaction(
    object: &Object<'_>,
    key: &'static str,
) -> Result<Option<At<Reaction>>, Error> {
    const MOST: Milliseconds = Milliseconds(24 * 3_600_000);
    let Some(own) = object.object(key)? else {
        return Ok(None);
    };
    for name in ["count", "within", "do"] {
        own.required(name)?;
    }
    let within = own.duration("within")?;
    if let Some(at) = within
        .as_ref()
        .filter(|at| at.value.is_none_or(|time| time > MOST || time.0 == 0))
    {
        return Err(own.wrong("within", at.span, "is not from 1ms to 24h"));
    }
    let (count, stop) = (own.count("count")?, own.one_of("do")?);
    let value = match (
        count.and_then(|at| at.value),
        within.and_then(|at| at.value),
        stop,
    ) {
        (Some(count), Some(within), Some(stop)) => Reaction {
            count,
            within,
            stop: match &*stop.value {
                "kill" => Stop::Kill,
                "term" => Stop::Term,
                _ => Stop::Freeze,
            },
        },
        _ => return Ok(None),
    };
    Ok(Some(At {
        value,
        origin: own.origin(),
        span: own.span(),
    }))
}

pub(crate) fn runtime(object: &Object<'_>) -> Result<Option<At<bool>>, Error> {
    let word = object.one_of("runtime")?;
    Ok(word.map(|at| at.map(|word| word == "auto")))
}

fn elevate(file: &str, object: &Object<'_>) -> Result<Option<At<String>>, Error> {
    let ring = object.text("elevate")?;
    if let Some(ring) = &ring {
        refuse_ring_zero(file, ring)?;
    }
    Ok(ring)
}

fn refuse_ring_zero(file: &str, ring: &At<String>) -> Result<(), Error> {
    if matches!(ring.value.as_str(), "0" | "kernel") {
        let what = "ring 0 is the operator and the supervisor, never an agent";
        return Err(Error::wrong(file, ring.span, what, "write 1, 2 or 3"));
    }
    Ok(())
}

pub(crate) fn paths(object: &Object<'_>, name: &'static str) -> Result<Vec<At<PathWish>>, Error> {
    let wish = |at: At<String>| {
        let (path, optional) = match at.value.strip_suffix('?') {
            Some(path) => (path, true),
            None => (at.value.as_str(), false),
        };
        if path.is_empty() {
            return Err(object.wrong(name, at.span, "holds an empty path"));
        }
        if path.starts_with('~') && path != "~" && !path.starts_with("~/") {
            let what = format!("holds `{}`; only `~/` is known", shorten(path));
            return Err(object.wrong(name, at.span, &what));
        }
        let value = PathWish {
            path: path.into(),
            optional,
        };
        Ok(At {
            value,
            origin: at.origin,
            span: at.span,
        })
    };
    object.texts(name)?.into_iter().map(wish).collect()
}

/// The supervisor's own variables cannot be set by the agent's file.
fn variable(object: &Object<'_>, key: &'static str, name: &str, span: Span) -> Result<(), Error> {
    let first = name
        .bytes()
        .next()
        .is_some_and(|b| b.is_ascii_alphabetic() || b == b'_');
    let rest = name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
    if !first || !rest {
        let what = format!("names `{}`, which is no variable", shorten(name));
        return Err(object.wrong(key, span, &what));
    }
    if name.starts_with("AGT_") {
        let what = format!("names `{}`; AGT_ is the supervisor's own", shorten(name));
        return Err(object.wrong(key, span, &what));
    }
    Ok(())
}

fn set(object: &Object<'_>) -> Result<Vec<(String, String)>, Error> {
    let one = |(name, at): (String, At<String>)| {
        variable(object, "set", &name, at.span)?;
        Ok((name, at.value))
    };
    object.text_map("set")?.into_iter().map(one).collect()
}

fn pass(object: &Object<'_>) -> Result<Vec<At<EnvWish>>, Error> {
    let one = |at: At<String>| {
        let (name, optional) = match at.value.strip_suffix('?') {
            Some(name) => (name, true),
            None => (at.value.as_str(), false),
        };
        variable(object, "pass", name, at.span)?;
        let value = EnvWish {
            name: name.into(),
            optional,
        };
        Ok(At {
            value,
            origin: at.origin,
            span: at.span,
        })
    };
    object.texts("pass")?.into_iter().map(one).collect()
}

/// A variable that is set and passed, or passed twice, would mean two things.
fn refuse_twice(
    object: &Object<'_>,
    set: &[(String, String)],
    pass: &[At<EnvWish>],
) -> Result<(), Error> {
    for (index, at) in pass.iter().enumerate() {
        let name = &at.value.name;
        let before = pass.iter().take(index).any(|one| one.value.name == *name);
        if before || set.iter().any(|(one, _)| one == name) {
            let what = format!("names `{}`, which is given already", shorten(name));
            return Err(object.wrong("pass", at.span, &what));
        }
    }
    Ok(())
}

fn grace(object: &Object<'_>) -> Result<Option<Milliseconds>, Error> {
    let Some(kill) = object.object("kill")? else {
        return Ok(None);
    };
    match kill.duration("grace")? {
        Some(At {
            value: Some(grace),
            span,
            ..
        }) if grace > GRACE_MAX => Err(kill.wrong("grace", span, "is longer than 10m")),
        Some(At {
            value: Some(grace), ..
        }) => Ok(Some(grace)),
        Some(At { value: None, .. }) | None => Ok(None),
    }
}

pub(crate) fn layers(object: &Object<'_>) -> Result<Vec<At<Layer>>, Error> {
    let one = |at: At<String>| {
        let layer = Layer::parse(&at.value).ok_or_else(|| {
            let names = Layer::ALL.map(Layer::name).join(", ");
            let what = format!("names `{}`, which is none of {names}", shorten(&at.value));
            object.wrong("degrade", at.span, &what)
        })?;
        Ok(At {
            value: layer,
            origin: at.origin,
            span: at.span,
        })
    };
    object.texts("degrade")?.into_iter().map(one).collect()
}
