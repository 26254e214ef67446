//! Ring profiles: what a ring permits. Three are built in; a site adds its own.

use plan::syscalls::{self, SyscallSet};

use crate::agent::{self, Limits, PathWish};
use crate::applies::{Applies, Asker};
use crate::error::Error;
use crate::narrow::{absolute, calls_of, degrade, merge, narrower, number, sockets, unsaid};
use crate::network::NetworkCeiling;
use crate::node;
use crate::preset;
use crate::probe::{self, Probe};
use crate::shape::{Object, RING, shorten};
use crate::value::{At, Home, Layer, Reaction};

/// What the agent may do in its workspace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Look.
    Read,
    /// Change.
    Write,
}

/// What `/proc` shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Proc {
    /// The ring's processes.
    Pid,
    /// Those, and what programs need to know of the machine.
    Masked,
}

/// How many programs the agent may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Programs {
    /// Any that it can read.
    Any,
    /// The command itself, once.
    Once,
}

/// A kind of socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Socket {
    /// Unix sockets.
    Unix,
    /// TCP and UDP on the ring's own loopback.
    Inet,
    /// Reading routes and addresses.
    NetlinkRoute,
}

impl Socket {
    /// The name that files use.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Socket::Unix => "unix",
            Socket::Inet => "inet",
            Socket::NetlinkRoute => "netlink-route",
        }
    }
}

/// What a ring permits.
#[derive(Clone, Debug)]
pub struct RingProfile {
    /// Where it was written.
    pub file: String,
    /// Its name.
    pub name: String,
    /// The built-in ring that it is or descends from.
    pub number: u8,
    /// Whether it is that ring itself.
    pub built_in: bool,
    /// The ring that it starts from; none of a built-in one.
    pub extends: Option<At<String>>,
    /// Who may ask for it: every one of these must hold, its ancestors' first.
    pub applies: Vec<Applies>,
    /// Presets that its agents may start from; any when absent.
    pub presets: Option<At<Vec<String>>>,
    /// One line.
    pub summary: String,
    /// In the workspace.
    pub workspace: Access,
    /// Of `/proc`.
    pub proc: Proc,
    /// Programs.
    pub programs: Programs,
    /// Sockets.
    pub sockets: Vec<Socket>,
    /// More to read.
    pub read: Vec<At<PathWish>>,
    /// More to change.
    pub write: Vec<At<PathWish>>,
    /// The most lasting home, and where it was said.
    pub home: At<Home>,
    /// Whether the place where a program is installed may be mounted, and where it was said.
    pub runtime: At<bool>,
    /// Where agents may connect to.
    pub network: NetworkCeiling,
    /// Calls that are answered.
    pub syscalls: SyscallSet,
    /// What an agent gets that does not say.
    pub default: Limits,
    /// What it may ask for at most.
    pub max: Limits,
    /// When denied actions end a run.
    pub on_violation: Option<At<Reaction>>,
    /// When one action asked again and again stops a run.
    pub on_loop: Option<At<Reaction>>,
    /// Layers that its agents may do without.
    pub degrade: Vec<Layer>,
    /// Probes that must work.
    pub must_allow: Vec<Probe>,
    /// Probes that must fail.
    pub must_deny: Vec<Probe>,
}

/// The rings of a host: the built-in ones first.
#[derive(Clone, Debug)]
pub struct Rings {
    pub(crate) all: Vec<RingProfile>,
    /// Who asks; while nobody said, rings that are not for everybody are for nobody.
    pub(crate) asker: Asker,
}

const BUILT_IN: [(&str, &str); 3] = [
    ("ring privileged", include_str!("../rings/privileged.yaml")),
    ("ring standard", include_str!("../rings/standard.yaml")),
    ("ring sandbox", include_str!("../rings/sandbox.yaml")),
];

impl Rings {
    /// The three rings of this program.
    ///
    /// # Errors
    /// None in a released build: a test reads them.
    pub fn built_in() -> Result<Self, Error> {
        let mut rings = Self {
            all: Vec::new(),
            asker: Asker::Unknown,
        };
        for (file, text) in BUILT_IN {
            let ring = RingProfile::parse(file, text.as_bytes(), None)?;
            rings.all.push(ring);
        }
        Ok(rings)
    }

    /// Reads a site's profile from its bytes, as [`crate::load`] does from a checked file.
    ///
    /// # Errors
    /// The first thing that is wrong with it.
    pub fn parse_site(&self, file: &str, bytes: &[u8]) -> Result<RingProfile, Error> {
        let (_, parent) = parent_of(file, bytes)?;
        RingProfile::parse(file, bytes, Some(self.find(&parent.value)?))
    }

    /// The same rings, as this one may ask for them.
    #[must_use]
    pub fn asked_by(self, asker: Asker) -> Self {
        Self { asker, ..self }
    }

    /// Without a site's rings of these names and what descends from them.
    #[must_use]
    pub fn without(mut self, names: &[String]) -> Self {
        let mut gone = names.to_vec();
        // Parents come before their children.
        self.all.retain(|ring| {
            let parent = ring.extends.as_ref().map(|at| at.value.as_str());
            let lost = |name: &str| gone.iter().any(|one| one == name);
            let goes = !ring.built_in && (lost(&ring.name) || parent.is_some_and(lost));
            if goes {
                gone.push(ring.name.clone());
            }
            !goes
        });
        self
    }

    /// All of them.
    pub fn iter(&self) -> impl Iterator<Item = &RingProfile> {
        self.all.iter()
    }

    /// Numbers and names of all of them.
    #[must_use]
    pub fn names(&self) -> Vec<(u8, String)> {
        let each = self.all.iter();
        each.map(|ring| (ring.number, ring.name.clone())).collect()
    }

    /// The ring of this name or number.
    ///
    /// # Errors
    /// When there is none; the message lists what there is.
    pub fn find(&self, name: &str) -> Result<&RingProfile, Error> {
        let known = || {
            let names: Vec<String> = self
                .all
                .iter()
                .map(|ring| format!("`{}`", ring.name))
                .collect();
            names.join(", ")
        };
        self.all
            .iter()
            .find(|ring| ring.name == name || ring.built_in && ring.number.to_string() == name)
            .ok_or_else(|| Error::NoRing {
                name: shorten(name),
                known: known(),
            })
    }
}

/// The name that a profile gives itself, without reading the rest of it.
///
/// # Errors
/// When it is no profile of a site.
pub fn name_of(file: &str, bytes: &[u8]) -> Result<String, Error> {
    parent_of(file, bytes).map(|(name, _)| name)
}

/// The name of the parent that a profile names, without reading the rest of it.
pub(crate) fn parent_of(file: &str, bytes: &[u8]) -> Result<(String, At<String>), Error> {
    let root = node::parse(file, bytes)?;
    let object = Object::open(file, &root, RING, "")?;
    agent::version(&object)?;
    let name = agent::name(&object)?;
    object.required("extends")?;
    let extends = object.text("extends")?;
    extends.map(|parent| (name, parent)).ok_or(Error::File {
        file: file.into(),
        what: "it does not say `extends`".into(),
        remedy: "name the ring that it starts from".into(),
    })
}

impl RingProfile {
    /// Reads a profile; a site's begins as a copy of its parent.
    pub(crate) fn parse(
        file: &str,
        bytes: &[u8],
        parent: Option<&RingProfile>,
    ) -> Result<Self, Error> {
        let root = node::parse(file, bytes)?;
        let object = Object::open(file, &root, RING, "")?;
        agent::version(&object)?;
        let name = agent::name(&object)?;
        let number = number(&object, parent)?;
        let mut ring = match parent {
            Some(parent) => RingProfile {
                file: file.into(),
                name,
                built_in: false,
                must_allow: Vec::new(),
                must_deny: Vec::new(),
                ..parent.clone()
            },
            None => RingProfile::empty(file, name, number),
        };
        ring.fill(&object, parent)?;
        Ok(ring)
    }

    fn empty(file: &str, name: String, number: u8) -> Self {
        Self {
            file: file.into(),
            name,
            number,
            built_in: true,
            extends: None,
            applies: Vec::new(),
            presets: None,
            summary: String::new(),
            workspace: Access::Read,
            proc: Proc::Pid,
            programs: Programs::Once,
            sockets: Vec::new(),
            read: Vec::new(),
            write: Vec::new(),
            home: unsaid(file, Home::None),
            runtime: unsaid(file, true),
            network: NetworkCeiling::nothing(file),
            syscalls: SyscallSet::EMPTY,
            default: Limits::default(),
            max: Limits::default(),
            on_violation: None,
            on_loop: None,
            degrade: Vec::new(),
            must_allow: Vec::new(),
            must_deny: Vec::new(),
        }
    }

    fn fill(&mut self, object: &Object<'_>, parent: Option<&RingProfile>) -> Result<(), Error> {
        if let Some(summary) = object.text("summary")? {
            self.summary = summary.value;
        }
        self.extends = object.text("extends")?;
        self.fill_who(object)?;
        self.fill_words(object, parent)?;
        if object.has("sockets") {
            self.sockets = sockets(object, parent)?;
        }
        self.read.extend(absolute(object, "read")?);
        let write = absolute(object, "write")?;
        self.write.extend(write.iter().cloned());
        if self.workspace == Access::Read {
            if let Some(path) = write.first() {
                let what = "names paths, but this ring writes nothing but its own /tmp";
                return Err(object.wrong("write", path.span, what));
            }
            // A ring that narrows its parent to reading does not inherit what that one writes.
            self.write.clear();
        }
        self.fill_surroundings(object, parent)?;
        if !self.sockets.contains(&Socket::Inet) {
            // Nothing inside could use it.
            self.network = NetworkCeiling::nothing(&self.file);
        }
        if let Some(calls) = object.object("syscalls")? {
            self.syscalls = calls_of(&calls, self.syscalls, parent.is_some())?;
        }
        self.syscalls = self.syscalls.difference(syscalls::always_refused());
        if let Some(limits) = object.object("limits")? {
            merge(&mut self.default, Limits::read(limits.object("default")?)?);
            let max = Limits::read(limits.object("max")?)?;
            if let Some(parent) = parent {
                narrower(&limits, &max, &parent.max)?;
            }
            merge(&mut self.max, max);
        }
        for (key, own) in [
            ("on_violation", &mut self.on_violation),
            ("on_loop", &mut self.on_loop),
        ] {
            // Before it is met with its own, what is there is the parent's.
            let Some(at) = agent::reaction(object, key)? else {
                continue;
            };
            let theirs = own.as_ref();
            if theirs.is_some_and(|theirs| !at.value.is_as_strict_as(&theirs.value)) {
                return Err(object.wrong(key, at.span, "is milder than the parent's"));
            }
            *own = Some(at);
        }
        if object.has("degrade") {
            self.degrade = degrade(object, parent)?;
        }
        self.must_allow.extend(probe::read(object, "must_allow")?);
        self.must_deny.extend(probe::read(object, "must_deny")?);
        Ok(())
    }

    /// Who may ask, and from which presets; both only narrow.
    fn fill_who(&mut self, object: &Object<'_>) -> Result<(), Error> {
        self.applies.extend(Applies::read(object)?);
        let Some(node) = object.node("presets") else {
            return Ok(());
        };
        let mut names = Vec::new();
        for at in object.texts("presets")? {
            let shown = shorten(&at.value);
            if preset::find(&at.value).is_none() {
                let known: Vec<&str> = preset::ALL.iter().map(|(name, _)| *name).collect();
                let what = format!("names `{shown}`, which is none of {}", known.join(", "));
                return Err(object.wrong("presets", at.span, &what));
            }
            if let Some(theirs) = self
                .presets
                .as_ref()
                .filter(|all| !all.value.contains(&at.value))
            {
                let what = format!(
                    "names `{shown}`, which the parent has not ({})",
                    theirs.origin
                );
                return Err(object.wrong("presets", at.span, &what));
            }
            names.push(at.value);
        }
        self.presets = Some(object.at(node, names));
        Ok(())
    }

    /// Home, runtime and network, which only narrow.
    fn fill_surroundings(
        &mut self,
        object: &Object<'_>,
        parent: Option<&RingProfile>,
    ) -> Result<(), Error> {
        if let Some(at) = agent::home(object)? {
            if parent.is_some_and(|parent| at.value > parent.home.value) {
                return Err(object.wrong("home", at.span, "is wider than the parent's"));
            }
            self.home = at;
        }
        if let Some(at) = agent::runtime(object)? {
            if parent.is_some_and(|parent| at.value && !parent.runtime.value) {
                return Err(object.wrong("runtime", at.span, "is wider than the parent's"));
            }
            self.runtime = at;
        }
        if let Some(network) = object.object("network")? {
            let parent = parent.map(|parent| (parent.name.as_str(), &parent.network));
            self.network.fill(&network, parent)?;
        }
        Ok(())
    }

    /// The keys with a few words each, which only narrow.
    fn fill_words(
        &mut self,
        object: &Object<'_>,
        parent: Option<&RingProfile>,
    ) -> Result<(), Error> {
        let widened = |name, at: &At<String>, parent: &RingProfile| {
            let what = format!(
                "is wider than in ring {}, which this one extends",
                parent.name
            );
            Err(object.wrong(name, at.span, &what))
        };
        if let Some(at) = object.one_of("workspace")? {
            self.workspace = if at.value == "write" {
                Access::Write
            } else {
                Access::Read
            };
            if let Some(parent) = parent
                && (self.workspace, parent.workspace) == (Access::Write, Access::Read)
            {
                return widened("workspace", &at, parent);
            }
        }
        if let Some(at) = object.one_of("proc")? {
            self.proc = if at.value == "masked" {
                Proc::Masked
            } else {
                Proc::Pid
            };
            if let Some(parent) = parent
                && (self.proc, parent.proc) == (Proc::Masked, Proc::Pid)
            {
                return widened("proc", &at, parent);
            }
        }
        if let Some(at) = object.one_of("programs")? {
            self.programs = if at.value == "any" {
                Programs::Any
            } else {
                Programs::Once
            };
            if let Some(parent) = parent
                && (self.programs, parent.programs) == (Programs::Any, Programs::Once)
            {
                return widened("programs", &at, parent);
            }
        }
        Ok(())
    }
}

/// The policy that agents of the built-in ring of this number are held to.
#[must_use]
pub fn ring_policy(number: u8) -> &'static str {
    match number {
        1 => include_str!("../policies/privileged.yaml"),
        2 => include_str!("../policies/standard.yaml"),
        _ => include_str!("../policies/sandbox.yaml"),
    }
}
