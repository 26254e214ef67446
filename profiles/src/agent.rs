//! agent.yaml: what an agent wishes.

use std::path::PathBuf;

use crate::error::Error;
use crate::node::{self, Span};
use crate::shape::{AGENT, Object, shorten};
use crate::value::{At, Bytes, CpuMillis, Layer, Milliseconds};

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
}

impl Limits {
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
    /// Variables that are set.
    pub set: Vec<(String, String)>,
    /// Variables that are passed on.
    pub pass: Vec<At<EnvWish>>,
    /// Limits.
    pub limits: Limits,
    /// Between SIGTERM and SIGKILL.
    pub grace: Milliseconds,
    /// Layers that may be missing.
    pub degrade: Vec<At<Layer>>,
}

impl Agent {
    pub(crate) fn parse(file: &str, bytes: &[u8]) -> Result<Self, Error> {
        let root = node::parse(file, bytes)?;
        let object = Object::open(file, &root, AGENT, "")?;
        version(&object)?;
        let name = name(&object)?;
        let (command, command_origin) = command(&object)?;
        let whole = Span { line: 1, column: 1 };
        let default = At {
            value: "sandbox".into(),
            origin: format!("{file}:1"),
            span: whole,
        };
        let ring = object.text("ring")?.unwrap_or(default);
        refuse_ring_zero(file, &ring)?;
        let workspace = object.text("workspace")?.map(|at| At {
            value: PathBuf::from(at.value),
            origin: at.origin,
            span: at.span,
        });
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
            name,
            command,
            command_origin,
            ring,
            workspace,
            read: paths("read")?,
            write: paths("write")?,
            set,
            pass,
            limits: Limits::read(object.object("limits")?)?,
            grace: grace(&object)?,
            degrade: layers(&object)?,
            file: file.to_owned(),
        })
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
            set: Vec::new(),
            pass: Vec::new(),
            limits: Limits::default(),
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

fn command(object: &Object<'_>) -> Result<(Vec<String>, String), Error> {
    let node = object.required("command")?;
    let words = object.texts("command")?;
    if words.is_empty() {
        return Err(object.wrong("command", node.span, "is an empty list"));
    }
    let origin = object.at(node, ()).origin;
    Ok((words.into_iter().map(|word| word.value).collect(), origin))
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

fn grace(object: &Object<'_>) -> Result<Milliseconds, Error> {
    let Some(kill) = object.object("kill")? else {
        return Ok(GRACE_DEFAULT);
    };
    match kill.duration("grace")? {
        Some(At {
            value: Some(grace),
            span,
            ..
        }) if grace > GRACE_MAX => Err(kill.wrong("grace", span, "is longer than 10m")),
        Some(At {
            value: Some(grace), ..
        }) => Ok(grace),
        Some(At { value: None, .. }) | None => Ok(GRACE_DEFAULT),
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
