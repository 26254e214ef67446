//! What an agent is about to do.

use std::net::IpAddr;

use names::HostName;
use serde_json::{Map, Value};

use crate::{Error, json};

macro_rules! kinds {
    ($($kind:ident $name:literal $doc:literal,)*) => {
        /// The kinds of action.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum ActionKind {
            $(#[doc = $doc] $kind,)*
        }

        impl ActionKind {
            /// All of them.
            pub const ALL: &[ActionKind] = &[$(ActionKind::$kind,)*];

            /// Its name, as policies write it.
            #[must_use]
            pub fn name(self) -> &'static str {
                match self {
                    $(ActionKind::$kind => $name,)*
                }
            }
        }
    };
}

kinds! {
    ToolCall "tool.call" "A tool is called.",
    ModelCall "model.call" "A model is asked.",
    FsRead "fs.read" "A file is read or a folder listed.",
    FsWrite "fs.write" "A file is made or changed.",
    FsDelete "fs.delete" "A file is removed.",
    Exec "exec" "A program is run.",
    NetConnect "net.connect" "A connection is made.",
    NetListen "net.listen" "A port is served.",
    AgentSpawn "agent.spawn" "Another agent is started.",
    AgentMessage "agent.message" "Another agent is told something.",
    MemoryWrite "memory.write" "Something is kept for later runs.",
    RingElevate "ring.elevate" "A ring of more rights is asked for.",
}

impl ActionKind {
    /// The kind of this name.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|kind| kind.name() == name)
    }

    /// Its place in a set of bits.
    pub(crate) fn bit(self) -> u16 {
        1 << (self as u16)
    }
}

/// To whom a connection is made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Host {
    /// By name.
    Name(HostName),
    /// By address.
    Address(IpAddr),
}

impl Host {
    pub(crate) fn parse(text: &str) -> Result<Self, Error> {
        let bare = text.strip_prefix('[').and_then(|t| t.strip_suffix(']'));
        if let Ok(address) = bare.unwrap_or(text).parse::<IpAddr>() {
            // A v4 address in v6 clothes is the v4 address: one reading for rules.
            return Ok(Self::Address(address.to_canonical()));
        }
        let name = HostName::parse(text);
        name.map(Self::Name)
            .map_err(|error| Error::action(format!("host: {error}")))
    }

    pub(crate) fn text(&self) -> String {
        match self {
            Self::Name(name) => name.to_string(),
            Self::Address(address) => address.to_string(),
        }
    }
}

/// One action, with everything that rules may ask about. Made whole or not at all: what its kind
/// needs is there, its path is absolute and without `..`, its host reads one way.
#[derive(Clone, Debug)]
pub struct Action {
    pub(crate) kind: ActionKind,
    pub(crate) agent: Option<Box<str>>,
    pub(crate) ring: Option<Box<str>>,
    pub(crate) session: Option<Box<str>>,
    pub(crate) tool: Option<Box<str>>,
    pub(crate) path: Option<Box<str>>,
    pub(crate) host: Option<Host>,
    pub(crate) port: Option<u16>,
    pub(crate) program: Option<Box<str>>,
    pub(crate) argv: Option<Vec<Box<str>>>,
    pub(crate) args: Map<String, Value>,
    pub(crate) bytes: Option<u64>,
    pub(crate) labels: Vec<Box<str>>,
    pub(crate) time: Option<u64>,
    pub(crate) given: Map<String, Value>,
}

impl Action {
    /// An action from its fields; the builder of [`Draft`] checks them.
    #[must_use]
    pub fn draft(kind: ActionKind) -> Draft {
        Draft(Map::new(), kind)
    }

    /// An action from one JSON object, as `policy eval` takes it.
    ///
    /// # Errors
    /// Not one JSON object; a field of the wrong type; a field missing that its kind needs.
    pub fn from_json(text: &str) -> Result<Self, Error> {
        Self::from_object(json::object(text)?)
    }

    /// An action from a JSON object that was read already.
    ///
    /// # Errors
    /// As [`Action::from_json`].
    pub fn from_object(mut object: Map<String, Value>) -> Result<Self, Error> {
        let kind = text(&mut object, "action")?.ok_or_else(|| Error::action("no `action`"))?;
        let Some(kind) = ActionKind::parse(&kind) else {
            let names: Vec<_> = ActionKind::ALL.iter().map(|kind| kind.name()).collect();
            let what = format!(
                "there is no action `{}`; there are {}",
                yaml::shorten(&kind),
                names.join(", ")
            );
            return Err(Error::action(what));
        };
        let action = Self {
            kind,
            agent: text(&mut object, "agent")?,
            ring: ring(&mut object)?,
            session: text(&mut object, "session")?,
            tool: text(&mut object, "tool")?,
            path: path(&mut object)?,
            host: match text(&mut object, "host")? {
                Some(host) => Some(Host::parse(&host)?),
                None => None,
            },
            port: port(&mut object)?,
            program: text(&mut object, "program")?,
            argv: texts(&mut object, "argv")?,
            args: match object.remove("args") {
                None => Map::new(),
                Some(Value::Object(args)) => args,
                Some(_) => return Err(Error::action("`args` is not an object")),
            },
            bytes: number(&mut object, "bytes")?,
            labels: texts(&mut object, "labels")?.unwrap_or_default(),
            time: number(&mut object, "time")?,
            given: object,
        };
        action.complete()?;
        Ok(action)
    }

    /// A rule about a field that an action of this kind always has must never be missed because the
    /// field was left out.
    fn complete(&self) -> Result<(), Error> {
        use ActionKind as K;
        let missing = match self.kind {
            K::ToolCall => self.tool.is_none().then_some("tool"),
            K::FsRead | K::FsWrite | K::FsDelete => self.path.is_none().then_some("path"),
            K::Exec | K::RingElevate if self.program.is_none() => Some("program"),
            K::Exec | K::RingElevate => self.argv.is_none().then_some("argv"),
            K::NetConnect if self.host.is_none() => Some("host"),
            K::NetConnect | K::NetListen => self.port.is_none().then_some("port"),
            K::ModelCall | K::AgentSpawn | K::AgentMessage | K::MemoryWrite => None,
        };
        missing.map_or(Ok(()), |field| {
            let kind = self.kind.name();
            Err(Error::action(format!("{kind} needs `{field}`")))
        })
    }

    /// Its kind.
    #[must_use]
    pub fn kind(&self) -> ActionKind {
        self.kind
    }

    /// Who acts.
    #[must_use]
    pub fn agent(&self) -> Option<&str> {
        self.agent.as_deref()
    }

    /// When, in milliseconds since 1970.
    #[must_use]
    pub fn time(&self) -> Option<u64> {
        self.time
    }

    /// The same action, at this time when it has none.
    #[must_use]
    pub fn or_at(mut self, time: u64) -> Self {
        self.time.get_or_insert(time);
        self
    }

    /// The same action by this agent in this ring, whatever it said itself.
    #[must_use]
    pub fn by(mut self, agent: &str, ring: &str) -> Self {
        self.agent = Some(agent.into());
        self.ring = Some(ring.into());
        self
    }

    /// The same action at this time, and with these labels besides its own: both are the
    /// supervisor's to say, never the agent's.
    #[must_use]
    pub fn at(mut self, time: u64, labels: &[String]) -> Self {
        self.time = Some(time);
        self.labels
            .extend(labels.iter().map(|label| label.as_str().into()));
        self
    }
}

/// An action in the making.
#[derive(Clone, Debug)]
pub struct Draft(Map<String, Value>, ActionKind);

impl Draft {
    /// Sets a field: any of the known ones, or another that is kept as given.
    #[must_use]
    pub fn with(mut self, field: &str, value: impl Into<Value>) -> Self {
        self.0.insert(field.into(), value.into());
        self
    }

    /// The action.
    ///
    /// # Errors
    /// As [`Action::from_json`].
    pub fn build(mut self) -> Result<Action, Error> {
        self.0.insert("action".into(), self.1.name().into());
        Action::from_object(self.0)
    }
}

type Object = Map<String, Value>;

fn wrong<T>(field: &str, what: &str) -> Result<T, Error> {
    Err(Error::action(format!("`{field}` {what}")))
}

fn text(object: &mut Object, field: &str) -> Result<Option<Box<str>>, Error> {
    match object.remove(field) {
        None => Ok(None),
        Some(Value::String(text)) if !text.is_empty() && !text.contains('\0') => {
            Ok(Some(text.into()))
        }
        Some(_) => wrong(field, "is not text"),
    }
}

fn texts(object: &mut Object, field: &str) -> Result<Option<Vec<Box<str>>>, Error> {
    let Some(value) = object.remove(field) else {
        return Ok(None);
    };
    let Value::Array(items) = value else {
        return wrong(field, "is not a list");
    };
    let text = |item| match item {
        Value::String(text) => Ok(text.into()),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::Array(_) | Value::Object(_) => {
            wrong(field, "is not a list of texts")
        }
    };
    items
        .into_iter()
        .map(text)
        .collect::<Result<_, _>>()
        .map(Some)
}

fn number(object: &mut Object, field: &str) -> Result<Option<u64>, Error> {
    match object.remove(field) {
        None => Ok(None),
        Some(value) => match value.as_u64() {
            Some(number) => Ok(Some(number)),
            None => wrong(field, "is not a whole number from 0"),
        },
    }
}

fn port(object: &mut Object) -> Result<Option<u16>, Error> {
    match number(object, "port")? {
        None => Ok(None),
        Some(number) => match u16::try_from(number) {
            Ok(port) if port != 0 => Ok(Some(port)),
            _ => wrong("port", "is not from 1 to 65535"),
        },
    }
}

/// Paths are resolved objects: whatever could still lead elsewhere is refused.
fn path(object: &mut Object) -> Result<Option<Box<str>>, Error> {
    let Some(path) = text(object, "path")? else {
        return Ok(None);
    };
    let parts = || path.split('/').skip(1);
    let plain = path.starts_with('/') && parts().all(|part| !matches!(part, "" | "." | ".."));
    if &*path == "/" || plain {
        return Ok(Some(path));
    }
    wrong(
        "path",
        "is not absolute and resolved (no `.`, `..`, `//`, no `/` at the end)",
    )
}

/// A ring is known by its name; the three that have numbers may be given by them.
fn ring(object: &mut Object) -> Result<Option<Box<str>>, Error> {
    if let Some(number) = object.get("ring").and_then(Value::as_u64) {
        object.remove("ring");
        return match ring_name(&number.to_string()) {
            Some(name) => Ok(Some(name.into())),
            None => wrong("ring", "is not 1, 2, 3 or a name"),
        };
    }
    let ring = text(object, "ring")?;
    Ok(ring.map(|ring| ring_name(&ring).map_or(ring, Into::into)))
}

pub(crate) fn ring_name(number: &str) -> Option<&'static str> {
    match number {
        "1" => Some("privileged"),
        "2" => Some("standard"),
        "3" => Some("sandbox"),
        _ => None,
    }
}
