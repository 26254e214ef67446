//! The one step from a wish and its ceiling to a ring. Every key narrows; what goes beyond is
//! refused with both places.

use std::time::Duration;

use names::HostRule;
use plan::syscalls::SyscallSet;

use crate::agent::{Agent, EnvWish, PathWish};
use crate::error::Error;
use crate::network::{self, Network};
use crate::node::Span;
use crate::probe::Probe;
use crate::ring::{Access, Proc, Programs, RingProfile, Rings, Socket};
use crate::runtime::Runtime;
use crate::value::{
    At, Bytes, CpuMillis, Home, Layer, Millionths, Milliseconds, Reaction, bytes_text,
};

/// A value and the line that it came from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct From<T> {
    /// The value.
    pub value: T,
    /// `file:line` of whoever set it.
    pub origin: String,
}

/// A ring for one agent: everything filled in, nothing beyond what is permitted.
#[derive(Clone, Debug)]
pub struct Ring {
    /// The agent's file as it was named.
    pub file: String,
    /// The agent's name.
    pub name: String,
    /// Program and arguments.
    pub command: Vec<String>,
    /// `file:line` of the command.
    pub command_origin: String,
    /// The ring's name.
    pub ring: String,
    /// The built-in ring that it is or descends from.
    pub number: u8,
    /// Where the ring was written.
    pub ring_file: String,
    /// What the agent may do in its workspace.
    pub access: Access,
    /// The workspace; the folder of the file when absent.
    pub workspace: Option<At<std::path::PathBuf>>,
    /// To be read, the ring's own first.
    pub read: Vec<At<PathWish>>,
    /// To be changed.
    pub write: Vec<At<PathWish>>,
    /// Hidden.
    pub deny: Vec<At<PathWish>>,
    /// Its home.
    pub home: Home,
    /// Whether the place where its program is installed is found and mounted.
    pub runtime_auto: bool,
    /// Whether it gets a terminal where the caller has one.
    pub tty: bool,
    /// Where it connects to.
    pub network: Network,
    /// What its ring lets it ask for of that.
    pub ceiling: Vec<At<HostRule>>,
    /// `/proc`.
    pub proc: Proc,
    /// Programs.
    pub programs: Programs,
    /// Sockets.
    pub sockets: Vec<Socket>,
    /// System calls.
    pub syscalls: SyscallSet,
    /// All memory.
    pub memory: From<Bytes>,
    /// Processor time.
    pub cpu: Option<From<CpuMillis>>,
    /// Processes and threads.
    pub pids: From<u64>,
    /// Open files of a process.
    pub files: From<u64>,
    /// Largest file.
    pub file_size: From<Bytes>,
    /// `/tmp`.
    pub tmp: From<Bytes>,
    /// Output.
    pub output: Option<From<Bytes>>,
    /// Time.
    pub wall: Option<From<Milliseconds>>,
    /// Calls that go ahead.
    pub calls: Option<From<u64>>,
    /// Tokens that it reports.
    pub tokens: Option<From<u64>>,
    /// Cost that it reports.
    pub cost: Option<From<Millionths>>,
    /// Policies of its own.
    pub policy: Vec<At<PathWish>>,
    /// When denied actions end the run.
    pub on_violation: Option<At<Reaction>>,
    /// When one action asked again and again stops the run.
    pub on_loop: Option<At<Reaction>>,
    /// Number and name of the ring up to which single commands may be lifted.
    pub elevate: Option<(u8, String)>,
    /// All rings of the host, by number and name.
    pub rings: Vec<(u8, String)>,
    /// Between SIGTERM and SIGKILL.
    pub grace: Duration,
    /// Variables that are set.
    pub set: Vec<(String, String)>,
    /// Variables that are passed on.
    pub pass: Vec<At<EnvWish>>,
    /// Layers that may be missing.
    pub degrade: Vec<Layer>,
    /// The ring's probes.
    pub must_allow: Vec<Probe>,
    /// The ring's probes.
    pub must_deny: Vec<Probe>,
    /// What is mounted of the system.
    pub runtime: Runtime,
}

impl Ring {
    /// Whether it may make this kind of socket.
    #[must_use]
    pub fn has_socket(&self, kind: Socket) -> bool {
        self.sockets.contains(&kind)
    }
}

/// Meets an agent's wish with the ring that it asks for.
///
/// # Errors
/// When the ring does not exist, or a wish goes beyond it.
pub fn resolve(agent: &Agent, rings: &Rings) -> Result<Ring, Error> {
    let profile = rings.find(&agent.ring.value).map_err(|error| {
        Error::wrong(
            &agent.file,
            agent.ring.span,
            error.to_string(),
            "ask for one of these",
        )
    })?;
    let meet = Meet { agent, profile };
    meet.asker(rings)?;
    meet.preset()?;
    if let (Access::Read, Some(wish)) = (profile.workspace, agent.write.first()) {
        let what = format!("ring {} writes nothing but its own /tmp", profile.name);
        let remedy = "remove `files.write`, or ask for ring standard";
        return Err(Error::wrong(wish.file(), wish.span, what, remedy));
    }
    meet.degrade()?;
    let (limits, default, max) = (&agent.limits, &profile.default, &profile.max);
    let paths =
        |ring: &[At<PathWish>], agent: &[At<PathWish>]| ring.iter().chain(agent).cloned().collect();
    Ok(Ring {
        memory: meet.limit(
            "memory",
            &limits.memory,
            &default.memory,
            &max.memory,
            |b| bytes_text(*b),
        )?,
        pids: meet.limit(
            "pids",
            &limits.pids,
            &default.pids,
            &max.pids,
            u64::to_string,
        )?,
        files: meet.limit(
            "files",
            &limits.files,
            &default.files,
            &max.files,
            u64::to_string,
        )?,
        file_size: meet.limit(
            "file_size",
            &limits.file_size,
            &default.file_size,
            &max.file_size,
            |b| bytes_text(*b),
        )?,
        tmp: meet.limit("tmp", &limits.tmp, &default.tmp, &max.tmp, |b| {
            bytes_text(*b)
        })?,
        cpu: meet.optional("cpu", &limits.cpu, &default.cpu, &max.cpu)?,
        output: meet.optional("output", &limits.output, &default.output, &max.output)?,
        wall: meet.optional("wall", &limits.wall, &default.wall, &max.wall)?,
        calls: meet.optional("calls", &limits.calls, &default.calls, &max.calls)?,
        tokens: meet.optional("tokens", &limits.tokens, &default.tokens, &max.tokens)?,
        cost: meet.optional("cost", &limits.cost, &default.cost, &max.cost)?,
        file: agent.file.clone(),
        name: agent.name.clone(),
        command: agent.command.clone(),
        command_origin: agent.command_origin.clone(),
        ring: profile.name.clone(),
        number: profile.number,
        ring_file: profile.file.clone(),
        access: profile.workspace,
        workspace: agent.workspace.clone(),
        read: paths(&profile.read, &agent.read),
        write: paths(&profile.write, &agent.write),
        deny: agent.deny.clone(),
        home: meet.home()?,
        runtime_auto: meet.runtime()?,
        tty: agent.tty,
        network: network::meet(&agent.network, &profile.name, &profile.network)?,
        ceiling: profile.network.max.clone(),
        proc: profile.proc,
        programs: profile.programs,
        sockets: profile.sockets.clone(),
        syscalls: profile.syscalls,
        policy: agent.policy.clone(),
        on_violation: meet.reaction(
            "on_violation",
            agent.on_violation.as_ref(),
            profile.on_violation.as_ref(),
        )?,
        elevate: meet.elevate(rings)?,
        rings: rings.names(),
        on_loop: meet.reaction("on_loop", agent.on_loop.as_ref(), profile.on_loop.as_ref())?,
        grace: agent.grace.into(),
        set: agent.set.clone(),
        pass: agent.pass.clone(),
        degrade: agent.degrade.iter().map(|layer| layer.value).collect(),
        must_allow: profile.must_allow.clone(),
        must_deny: profile.must_deny.clone(),
        runtime: Runtime::system()?,
    })
}

struct Meet<'a> {
    agent: &'a Agent,
    profile: &'a RingProfile,
}

impl Meet<'_> {
    fn asker(&self, rings: &Rings) -> Result<(), Error> {
        let (wish, ring) = (&self.agent.ring, &self.profile.name);
        let Some(rule) = self
            .profile
            .applies
            .iter()
            .find(|rule| !rings.asker.is_among(rule))
        else {
            return Ok(());
        };
        let what = format!(
            "ring {ring} is not for {}: it is for {rule} ({})",
            rings.asker, rule.origin
        );
        let remedy = "ask for another ring, or have yourself added there";
        Err(Error::wrong(wish.file(), wish.span, what, remedy))
    }

    fn elevate(&self, rings: &Rings) -> Result<Option<(u8, String)>, Error> {
        let Some(wish) = &self.agent.elevate else {
            return Ok(None);
        };
        let wrong = |what: String| {
            let remedy = "name a ring with a lower number than its own, or remove `elevate`";
            Error::wrong(wish.file(), wish.span, what, remedy)
        };
        let ring = rings
            .find(&wish.value)
            .map_err(|error| wrong(error.to_string()))?;
        if ring.number >= self.profile.number {
            let own = &self.profile.name;
            return Err(wrong(format!("ring {} is no higher than {own}", ring.name)));
        }
        Ok(Some((ring.number, ring.name.clone())))
    }

    fn degrade(&self) -> Result<(), Error> {
        let refused = |layer: &&At<Layer>| !self.profile.degrade.contains(&layer.value);
        let Some(layer) = self.agent.degrade.iter().find(refused) else {
            return Ok(());
        };
        let (ring, name) = (&self.profile.name, layer.value.name());
        let what = format!("ring {ring} does not start without {name}");
        let remedy = "remove it from `degrade`";
        Err(Error::wrong(layer.file(), layer.span, what, remedy))
    }

    fn preset(&self) -> Result<(), Error> {
        let (Some(wish), Some(most)) = (&self.agent.preset, &self.profile.presets) else {
            return Ok(());
        };
        if most.value.contains(&wish.value) {
            return Ok(());
        }
        let known = match most.value.as_slice() {
            [] => "none".to_owned(),
            names => names.join(", "),
        };
        let what = format!(
            "preset {} is not one of ring {}, {known} ({})",
            wish.value, self.profile.name, most.origin
        );
        let remedy = "start from one of these or from none, or ask for another ring";
        Err(Error::wrong(wish.file(), wish.span, what, remedy))
    }

    /// What lasts is not given by a ring that keeps nothing unless it is asked for.
    fn home(&self) -> Result<Home, Error> {
        let most = &self.profile.home;
        match &self.agent.home {
            None if most.value == Home::Private => Ok(Home::Private),
            None => Ok(Home::None),
            Some(at) if at.value <= most.value => Ok(at.value),
            Some(at) => Err(self.wider("home", at, at.value.name(), most.value.name(), most)),
        }
    }

    fn reaction(
        &self,
        key: &str,
        own: Option<&At<Reaction>>,
        theirs: Option<&At<Reaction>>,
    ) -> Result<Option<At<Reaction>>, Error> {
        match (own, theirs) {
            (Some(own), Some(theirs)) if !own.value.is_as_strict_as(&theirs.value) => {
                let ring = &self.profile.name;
                let what = format!(
                    "{key} is milder than that of ring {ring} ({})",
                    theirs.origin
                );
                let remedy = "a count at most as high, a time at least as long, and `do` as hard";
                Err(Error::wrong(own.file(), own.span, what, remedy))
            }
            (Some(own), _) => Ok(Some(own.clone())),
            (None, theirs) => Ok(theirs.cloned()),
        }
    }

    fn runtime(&self) -> Result<bool, Error> {
        let most = &self.profile.runtime;
        match &self.agent.runtime {
            None => Ok(most.value),
            Some(at) if at.value && !most.value => {
                Err(self.wider("runtime", at, "auto", "none", most))
            }
            Some(at) => Ok(at.value),
        }
    }

    fn wider<T>(&self, key: &str, wish: &At<T>, text: &str, most: &str, at: &At<T>) -> Error {
        let ring = &self.profile.name;
        let what = format!(
            "{key}: {text} is beyond the ceiling of ring {ring}, {most} ({})",
            at.origin
        );
        let remedy = format!("write `{key}: {most}`, or ask for another ring");
        Error::wrong(wish.file(), wish.span, what, remedy)
    }

    fn limit<T: PartialOrd + Copy>(
        &self,
        name: &str,
        wish: &Option<At<T>>,
        default: &Option<At<T>>,
        max: &Option<At<T>>,
        text: impl Fn(&T) -> String,
    ) -> Result<From<T>, Error> {
        if let (Some(wish), Some(max)) = (wish, max)
            && wish.value > max.value
        {
            return Err(self.beyond(
                name,
                (wish.file(), wish.span),
                &text(&wish.value),
                &text(&max.value),
                &max.origin,
            ));
        }
        // A site may lower a maximum below the default that it inherits.
        let capped = |default: &At<T>| match max {
            Some(max) if default.value > max.value => max.clone(),
            _ => default.clone(),
        };
        match wish.clone().or_else(|| default.as_ref().map(capped)) {
            Some(at) => Ok(From {
                value: at.value,
                origin: at.origin,
            }),
            None => Err(Error::File {
                file: self.profile.file.clone(),
                what: format!("it gives no default for `limits.{name}`"),
                remedy: "add one under `limits.default`".into(),
            }),
        }
    }

    /// A limit that may be absent: none is the widest wish there is.
    fn optional<T: PartialOrd + Copy + std::fmt::Debug>(
        &self,
        name: &str,
        wish: &Option<At<Option<T>>>,
        default: &Option<At<Option<T>>>,
        max: &Option<At<Option<T>>>,
    ) -> Result<Option<From<T>>, Error> {
        let ceiling = max.as_ref().and_then(|at| Some((at.value?, &at.origin)));
        let chosen = wish.as_ref().or(default.as_ref());
        let value = chosen.and_then(|at| Some((at.value?, &at.origin)));
        let (value, origin) = match (value, ceiling, wish) {
            (Some((value, origin)), None, _) => (value, origin),
            (Some((value, origin)), Some((most, _)), _) if value <= most => (value, origin),
            (_, Some((_, origin)), Some(wish)) => {
                return Err(self.beyond(
                    name,
                    (wish.file(), wish.span),
                    "what is written",
                    "what is there",
                    origin,
                ));
            }
            (_, Some((most, origin)), None) => (most, origin),
            (None, None, _) => return Ok(None),
        };
        Ok(Some(From {
            value,
            origin: origin.clone(),
        }))
    }

    fn beyond(
        &self,
        name: &str,
        (file, span): (&str, Span),
        wish: &str,
        most: &str,
        origin: &str,
    ) -> Error {
        let ring = &self.profile.name;
        let what = format!(
            "limits.{name}: {wish} is beyond the ceiling of ring {ring}, {most} ({origin})"
        );
        let remedy = format!("write {most} or less, or ask for another ring");
        Error::wrong(file, span, what, remedy)
    }
}
