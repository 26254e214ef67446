//! `run`: the whole story of a foreground agent, stage by stage.

mod carrier;
mod clock;
mod deny;
mod ending;
mod environment;
mod etc;
mod files;
mod found;
mod freezer;
#[cfg(fuzzing)]
pub mod fuzz;
mod governor;
mod grant;
mod ground;
mod home;
mod ids;
mod network;
mod openings;
mod policies;
mod probe;
mod program;
mod record;
mod relay;
mod resolv;
mod root;
mod runtime;
mod stack;
mod streams;
mod surface;
mod tools;
mod traffic;
mod trees;
mod workers;

pub(crate) use carrier::EGRESS_NAME;
pub(crate) use ending::code;
pub(crate) use etc::GENERATED;
pub(crate) use governor::now_ms;
pub(crate) use grant::GrantError;
pub(crate) use ground::{Ground, filter as filter_of};
pub(crate) use home::{INSIDE as HOME, Place};
pub(crate) use ids::{Identity, Origin};
pub(crate) use policies::read as read_policy;
pub(crate) use probe::{Host, LayerError, Layers};
pub(crate) use program::ProgramError;
pub(crate) use runtime::RuntimeError;

use std::fs::File;
use std::io::Write;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use plan::{FdRole, Launch, Report};
use profiles::{Ring, Socket};
use rustix::fs::OFlags;
use rustix::process::Signal;

use crate::banner;
use crate::cgroup::{Groups, Hierarchies, Means, Opened, Wanted};
use crate::control::{self, Control};
use crate::door::Door;
use crate::error::Failed;
use crate::link::Link;
use crate::places;
use deny::Watch;
use ending::Ending;
use freezer::Freezer;
use governor::{Budget, Conduct, Governor, Lift};
use network::Egress;
use record::Record;
use relay::Beside;

/// What the command line adds to a ring.
#[derive(Clone, Debug, Default)]
pub(crate) struct Options {
    /// No banner and no closing line.
    pub(crate) quiet: bool,
    /// Where the cause goes as JSON.
    pub(crate) report: Option<PathBuf>,
    /// This agent.yaml may use a home that others have.
    pub(crate) share_home: bool,
}

/// A resolved agent and the files that it came from.
#[derive(Debug)]
pub(crate) struct Request {
    pub(crate) ring: Ring,
    /// Folder that relative paths are relative to.
    pub(crate) base: PathBuf,
    /// The agent.yaml, which stays as it is while the agent runs.
    pub(crate) file: Option<AgentFile>,
    /// The run whose agent asked for this one.
    pub(crate) of: Option<Parent>,
}

/// An agent.yaml as it was read.
#[derive(Clone, Debug)]
pub(crate) struct AgentFile {
    pub(crate) path: PathBuf,
    /// Its SHA-256 in hex.
    pub(crate) digest: String,
}

/// What a run hands on to the commands of its agent.
#[derive(Clone, Debug)]
pub(crate) struct Parent {
    pub(crate) run: String,
    /// The hash of the policies that are in force there ([`policies::Loaded::shared`]).
    pub(crate) policies: String,
    pub(crate) labels: Vec<String>,
}

/// Runs one agent in the foreground and returns the exit code.
pub(crate) fn run(request: &Request, options: &Options) -> Result<u8, Failed> {
    let signals = [
        Signal::TERM,
        Signal::INT,
        Signal::HUP,
        Signal::QUIT,
        Signal::WINCH,
    ];
    let signals =
        sys::signals::watch(&signals.map(Signal::as_raw)).map_err(Failed::call("signals"))?;
    record::sweep().map_err(Failed::call("sweeping what dead runs left"))?;
    let ring = &request.ring;
    let layers = Host::look().layers(ring)?;
    let identity = Identity::choose(&ring.name).map_err(Failed::call("choosing a uid"))?;
    let carrier = carrier_identity(ring, &identity)?;
    let ran = run_as(
        request,
        options,
        &identity,
        carrier.as_ref(),
        layers,
        &signals,
    );
    for identity in [Some(identity), carrier].into_iter().flatten() {
        let released = identity.release();
        released.map_err(Failed::call("releasing the uid"))?;
    }
    let (ending, report) = ran?;
    finish(&ending, options, report)
}

/// Whom agt-egress runs as: as root somebody who is neither root nor the agent.
fn carrier_identity(ring: &Ring, agent: &Identity) -> Result<Option<Identity>, Failed> {
    if ring.network.is_none() || matches!(agent.origin, Origin::Requester) {
        return Ok(None);
    }
    Identity::dynamic(EGRESS_NAME)
        .map(Some)
        .map_err(Failed::call("choosing a uid"))
}

type Ended = (Ending, Option<(PathBuf, File)>);

fn run_as(
    request: &Request,
    options: &Options,
    identity: &Identity,
    carrier: Option<&Identity>,
    mut layers: Layers,
    signals: &OwnedFd,
) -> Result<Ended, Failed> {
    let ring = &request.ring;
    let in_force = layers.clone();
    let mut egress = Egress::start(&ring.network, carrier.unwrap_or(identity), &in_force)?;
    // It holds nothing before it has a plan, and a refusal ends it; its start goes on beside ours.
    // After agt-egress, whose ring takes longer than what is done here meanwhile.
    let link = Link::start().map_err(Failed::call("starting agt-ringd"))?;
    let streams = streams::open(identity.uid, identity.gid, ring.tty).map_err(Failed::Streams)?;
    let terminal = ground::has_terminal(&streams);
    let with = ground::With {
        identity,
        layers: &layers,
        terminal,
        home: &|| home::prepare(request, identity, options.share_home),
    };
    let mut ground = ground::ground(request, &with)?;
    let loaded = ground.take_policies();
    let (mut governor, control) = govern(request, &ground, loaded)?;
    let masks = Watch::start(&ground.hidden, &ground.pinned, &ground.grants)
        .map_err(Failed::call("watching what is hidden"))?;
    let report = open_report(options, &ground)?;
    let id = format!("agt-{}-{}", ring.name, run_id());
    let mut record = None;
    let groups = make_groups(ring, &id, &mut record)?;
    let ready = probe::need_cpu(ring, groups.cpu_means() != Means::None, &mut layers)
        .map_err(Failed::from)
        .and_then(|()| egress.as_mut().map_or(Ok(()), Egress::wait));
    if let Err(failed) = ready {
        ground.undo();
        clean(groups, record)?;
        return Err(failed);
    }
    let opened = groups.open().map_err(Failed::call("opening cgroups"))?;
    if !options.quiet {
        banner::print(&banner::lines(ring, &ground, &layers, identity, &groups));
    }
    let inherited = (!ring.has_socket(Socket::Unix))
        .then(door_pair)
        .transpose()
        .map_err(Failed::call("the ring's door"))?;
    let mut launch = ground.launch(ring, &layers, groups.memory_means(), &streams)?;
    let locks = locks(record.as_ref(), [Some(identity), carrier]);
    let mut fds = descriptors(&mut launch, &streams, &opened, &ground.trees, &locks);
    if let Some((_, theirs)) = &inherited {
        launch.fds.push(FdRole::Connected);
        fds.push(theirs.as_fd());
    }
    let since = SystemTime::now();
    let started = relay::now();
    let limits = limits(ring);
    let policies = || policies_in_force(request, &ground.workspace);
    let clerk = (&mut governor, control);
    let mut beside = Beside::new(egress, masks, clerk, &policies, !options.quiet);
    let freezer = Freezer::of(groups.v2.as_deref());
    let begun = link.launch(launch, &fds).and_then(|()| link.receive());
    let outcome = match begun.map_err(Failed::call("agt-ringd")) {
        Ok(Some((Report::Started { .. }, handed))) => {
            let run = relay::Given {
                link: &link,
                signals: signals.as_fd(),
                limits,
                freezer,
            };
            let inherited = inherited.map(|(ours, _)| ours);
            follow(run, close_theirs(streams), handed, inherited, &mut beside)
        }
        other => Err(not_begun(&ground, other)),
    };
    beside.governor.end_workers();
    link.close().map_err(Failed::call("agt-ringd"))?;
    let (egress, clerk) = (beside.egress, beside.governor);
    let traffic = egress.map(|egress| egress.close(clerk));
    let counted = groups.counted();
    let lasted = relay::now().saturating_sub(started);
    drop(opened);
    if outcome.is_err() {
        ground.undo();
    }
    clean(groups, record)?;
    let outcome = match outcome {
        Ok(outcome) => outcome,
        Err(failed) => return Err(not_started(governor, failed)),
    };
    let ending = Ending {
        agent: ring.name.clone(),
        ring: ring.ring.clone(),
        outcome,
        counted,
        lasted,
        memory_limit: ring.memory.value.0,
        memory_line: ring.memory.origin.clone(),
        wall: limits.wall,
        output: limits.output,
        surface: surface::scan(&ground.writable(), since)
            .without(request.file.as_ref().map(|file| &*file.path)),
        traffic,
        counts: governor.counts,
        log: governor.log_name().to_owned(),
    };
    close(governor, &ending);
    Ok((ending, report))
}

/// The last record of a run that ended.
fn close(mut governor: Governor, ending: &Ending) {
    let facts = [
        ("exit_code", audit::Value::Number(ending.code().into())),
        (
            "verified_empty",
            audit::Value::Flag(ending.outcome.ended.is_some()),
        ),
    ];
    governor.note(audit::Kind::Ended, ending.cause(), &facts);
    // The run is over either way; a log that was not closed is closed by the next start.
    let log = governor.log_name().to_owned();
    match governor.close() {
        Ok(()) => openings::forget(&log),
        Err(error) => banner::print(&[format!("the audit log could not be closed: {error}")]),
    }
}

/// The last record of a run that never began.
fn not_started(mut governor: Governor, failed: Failed) -> Failed {
    let why = failed.to_string();
    let facts = [("why", audit::Value::Text(&why))];
    governor.note(audit::Kind::Ended, "not-started", &facts);
    let log = governor.log_name().to_owned();
    if governor.close().is_ok() {
        openings::forget(&log);
    }
    failed
}

/// The connection that a ring without sockets begins with.
fn door_pair() -> std::io::Result<(OwnedFd, OwnedFd)> {
    use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};
    let flags = SocketFlags::CLOEXEC;
    Ok(socketpair(
        AddressFamily::UNIX,
        SocketType::STREAM,
        flags,
        None,
    )?)
}

/// Opens the log of this run, and what its actions are held to. Nothing starts without.
fn govern(
    request: &Request,
    ground: &Ground,
    loaded: Option<policies::Loaded>,
) -> Result<(Governor, Control), Failed> {
    let ring = &request.ring;
    let loaded = match loaded {
        Some(loaded) => loaded,
        None => policies_in_force(request, &ground.workspace)?,
    };
    let state = places::state_dir();
    places::private_dir(&state).map_err(Failed::call("the state folder"))?;
    let keys = || audit::Keys::open_or_create(&places::keys_dir());
    let dir = places::audit_dir();
    let run = format!("run-{}", run_id());
    if dir.exists() && !places::keys_dir().exists() {
        banner::print(&[format!(
            "the keys that signed the logs so far are gone from {}: put them back, or `audit verify` finds these logs altered",
            crate::words::escape(&places::keys_dir().to_string_lossy())
        )]);
    }
    let own = keys()?;
    openings::sweep(&dir, &keys);
    openings::note(&run).map_err(Failed::call("the state folder"))?;
    let log = audit::Log::open(&dir, &run, own, audit::Options::default())?;
    control::sweep();
    let control = Control::open(&run).map_err(Failed::call("the control socket"))?;
    let reaction = |at: &Option<profiles::At<profiles::Reaction>>| at.as_ref().map(|at| at.value);
    let subject = governor::Subject {
        agent: ring.name.clone(),
        ring: ring.ring.clone(),
        run: run.clone(),
        place: ground.workspace.to_string_lossy().into_owned(),
        conduct: Conduct::new(
            reaction(&ring.on_violation),
            reaction(&ring.on_loop),
            Budget::of(ring),
        ),
        lift: lift(request, ground)?,
        of: request.of.clone(),
    };
    let mut governor = Governor::new(subject, loaded, log);
    let program = ground.program.path.to_string_lossy();
    let workspace = ground.workspace.to_string_lossy();
    let facts = [
        ("program", audit::Value::Text(&program)),
        ("workspace", audit::Value::Text(&workspace)),
        ("uid", audit::Value::Number(ground.uid.into())),
        ("file", audit::Value::Text(&ring.file)),
        (
            "of",
            audit::Value::Text(request.of.as_ref().map_or("", |of| &of.run)),
        ),
    ];
    let facts = facts.get(..facts.len() - usize::from(request.of.is_none()));
    let facts = facts.unwrap_or_default();
    governor.note(audit::Kind::Launch, "launch", facts);
    match governor.broken() {
        None => Ok((governor, control)),
        Some(why) => Err(Failed::call("recording the launch")(std::io::Error::other(
            why.to_owned(),
        ))),
    }
}

/// Of what workers are made.
fn lift(request: &Request, ground: &Ground) -> Result<Lift, Failed> {
    let ring = &request.ring;
    // A command of an agent starts no others: there would be no end to them.
    let file = request.file.as_ref().filter(|_| request.of.is_none());
    let file = match file {
        Some(file) => {
            let path = file.path.canonicalize();
            let path = path.map_err(Failed::call("the agent.yaml"))?;
            Some(AgentFile {
                path,
                digest: file.digest.clone(),
            })
        }
        None => None,
    };
    let base = request.base.canonicalize();
    let base = base.map_err(Failed::call("the folder of agent.yaml"))?;
    let root = rustix::process::geteuid().is_root();
    Ok(Lift {
        source: file.map(|file| workers::Source {
            file,
            base,
            ids: root.then_some((ground.uid, ground.gid)),
        }),
        own: (ring.number, ring.ring.clone()),
        once: ring.programs == profiles::Programs::Once,
        most: ring.elevate.clone(),
        rings: ring.rings.clone(),
    })
}

/// What the actions of this request are held to, read anew.
fn policies_in_force(request: &Request, workspace: &Path) -> Result<policies::Loaded, Failed> {
    let base = request
        .base
        .canonicalize()
        .map_err(Failed::call("the folder of agent.yaml"))?;
    let loaded = policies::load(&request.ring, &base, workspace)?;
    match &request.of {
        Some(of) if of.policies != loaded.shared => Err(Failed::Changed { what: "a policy" }),
        Some(_) | None => Ok(loaded),
    }
}

/// What the loop keeps.
fn limits(ring: &Ring) -> relay::Limits {
    relay::Limits {
        grace: ring.grace,
        wall: ring.wall.as_ref().map(|wall| wall.value.into()),
        output: ring.output.as_ref().map(|output| output.value.0),
    }
}

/// What says that this run lives, for as long as ringd holds it.
fn locks<'a>(
    record: Option<&'a Record>,
    identities: [Option<&'a Identity>; 2],
) -> Vec<BorrowedFd<'a>> {
    let own = record.map(|record| &record.lock);
    let uids = identities.into_iter().flatten().filter_map(Identity::lock);
    own.into_iter()
        .chain(uids)
        .map(|lock| lock.file.as_fd())
        .collect()
}

/// Why a ring that was planned does not run.
fn not_begun(ground: &Ground, begun: Result<Option<(Report, Vec<OwnedFd>)>, Failed>) -> Failed {
    match begun {
        Ok(Some((
            Report::Failed {
                stage,
                index,
                errno,
            },
            _,
        ))) => Failed::stage(ground, stage, index, errno),
        Ok(Some((Report::Started { .. } | Report::Ended(_), _)) | None) => Failed::RingdLost,
        Err(failed) => failed,
    }
}

/// Sorts what the ring handed out, the terminal first, and stays with it until it ends.
fn follow(
    run: relay::Given<'_>,
    streams: [streams::Pair; 3],
    mut handed: Vec<OwnedFd>,
    inherited: Option<OwnedFd>,
    beside: &mut Beside<'_>,
) -> Result<relay::Outcome, Failed> {
    let terminal = usize::from(ground::has_terminal(&streams));
    let mut sockets = handed.split_off(terminal.min(handed.len()));
    let door = sockets.pop().ok_or(Failed::RingdLost)?;
    let door = Door::new(door, run.link.ringd()).and_then(|door| match inherited {
        Some(connected) => door.with(connected),
        None => Ok(door),
    });
    beside.door = Some(door.map_err(Failed::call("the ring's door"))?);
    if let Some(egress) = &mut beside.egress {
        egress.serve(sockets)?;
    }
    relay::until_ended(run, streams, handed.first(), beside).map_err(Failed::call("relaying"))
}

/// Opened before anything runs: afterwards the name may have been made to lead elsewhere. Nor is a
/// link or a FIFO followed that an earlier run may have left under it.
fn open_report(options: &Options, ground: &Ground) -> Result<Option<(PathBuf, File)>, Failed> {
    let Some(path) = &options.report else {
        return Ok(None);
    };
    let open = || -> std::io::Result<File> {
        let named = std::env::current_dir()?.canonicalize()?.join(path);
        let parent = named.parent().unwrap_or(Path::new("/"));
        grant::walk(parent, &ground.writable()).map_err(std::io::Error::other)?;
        let flags = OFlags::NOFOLLOW | OFlags::NONBLOCK;
        let mut options = File::options();
        options.write(true).create(true).truncate(false);
        options.custom_flags(i32::try_from(flags.bits()).unwrap_or(0));
        let file = options.open(path)?;
        if !file.metadata()?.is_file() {
            return Err(std::io::Error::other("it is not a file"));
        }
        file.set_len(0)?;
        Ok(file)
    };
    match open() {
        Ok(file) => Ok(Some((path.clone(), file))),
        Err(error) => Err(Failed::Report {
            path: path.clone(),
            error,
        }),
    }
}

fn finish(
    ending: &Ending,
    options: &Options,
    report: Option<(PathBuf, File)>,
) -> Result<u8, Failed> {
    if !options.quiet {
        banner::print(&ending.lines());
    }
    if let Some((path, mut file)) = report {
        let text = format!("{:#}\n", ending.report());
        let written = file.write_all(text.as_bytes());
        written.map_err(|error| Failed::Report { path, error })?;
    }
    Ok(ending.code())
}

/// Makes the groups, and writes them down before anything is put into them.
fn make_groups(ring: &Ring, id: &str, record: &mut Option<Record>) -> Result<Groups, Failed> {
    let hosts = Hierarchies::read().map_err(Failed::call("reading cgroups"))?;
    // The ring's init is a process too.
    let wanted = Wanted {
        memory: ring.memory.value.0,
        pids: ring.pids.value + 1,
        cpu: ring.cpu.as_ref().map(|cpu| cpu.value.0),
    };
    let mut note = |path: &Path| {
        if record.is_none() {
            *record = Some(Record::open(id)?);
        }
        record
            .as_ref()
            .map_or(Ok(()), |record| record.planned(path))
    };
    let groups =
        Groups::make(&hosts, id, &wanted, &mut note).map_err(Failed::call("making cgroups"))?;
    for folder in groups.folders() {
        let written = record
            .as_ref()
            .map_or(Ok(()), |record| record.group(folder));
        written.map_err(Failed::call("writing the run's record"))?;
    }
    Ok(groups)
}

/// Everything that goes along with the plan, in the order in which the plan names it.
fn descriptors<'a>(
    launch: &mut Launch,
    streams: &'a [streams::Pair; 3],
    opened: &'a Opened,
    trees: &'a [OwnedFd],
    locks: &[BorrowedFd<'a>],
) -> Vec<BorrowedFd<'a>> {
    let mut fds = Vec::new();
    let mut add = |role: FdRole, fd: BorrowedFd<'a>| {
        launch.fds.push(role);
        fds.push(fd);
    };
    for (number, pair) in (0..).zip(streams) {
        if let Some(fd) = &pair.theirs {
            add(FdRole::Stream(number), fd.as_fd());
        }
    }
    let single = [
        (FdRole::Cgroup, &opened.folder),
        (FdRole::CgroupKill, &opened.kill),
        (FdRole::CgroupEvents, &opened.events),
    ];
    for (role, fd) in single {
        if let Some(fd) = fd {
            add(role, fd.as_fd());
        }
    }
    for tasks in &opened.tasks {
        add(FdRole::CgroupTasks, tasks.as_fd());
    }
    for tree in trees {
        add(FdRole::Tree, tree.as_fd());
    }
    for lock in locks {
        add(FdRole::Lock, *lock);
    }
    fds
}

/// Our copies of the agent's ends would keep its pipes open after it is gone.
fn close_theirs(pairs: [streams::Pair; 3]) -> [streams::Pair; 3] {
    pairs.map(|pair| streams::Pair {
        theirs: None,
        ..pair
    })
}

/// Takes away everything that the run made on the host.
fn clean(mut groups: Groups, record: Option<Record>) -> Result<(), Failed> {
    groups.remove().map_err(Failed::call("removing cgroups"))?;
    record
        .map_or(Ok(()), Record::close)
        .map_err(Failed::call("removing the run's record"))
}

/// Everything that `run` would refuse, without starting anything.
pub(crate) fn check(request: &Request) -> Result<(), Failed> {
    let layers = Host::look().layers(&request.ring)?;
    let identity = Identity::choose(&request.ring.name).map_err(Failed::call("choosing a uid"))?;
    let with = ground::With {
        identity: &identity,
        layers: &layers,
        terminal: false,
        home: &|| home::look(request),
    };
    let checked = ground::ground(request, &with).map(|ground| ground.undo());
    identity
        .release()
        .map_err(Failed::call("releasing the uid"))?;
    checked
}

/// What a request's ring sees of the user's files, for `explain`.
pub(crate) struct Grants {
    pub(crate) workspace: PathBuf,
    /// Path, and whether it may be written.
    pub(crate) list: Vec<(PathBuf, bool)>,
    /// What is hidden of these, and the line that says so.
    pub(crate) hidden: Vec<(PathBuf, String)>,
    /// git's hooks, which stay as they are.
    pub(crate) hooks: Vec<PathBuf>,
}

/// Looks a request's grants up without starting anything.
pub(crate) fn grants(request: &Request) -> Result<Grants, Failed> {
    let base = request
        .base
        .canonicalize()
        .map_err(Failed::call("the folder of agent.yaml"))?;
    let ring = &request.ring;
    let (workspace, list) = ground::grants(ring, &base)?;
    let loaded = policies::load(ring, &base, &workspace)?;
    let narrowed = files::narrow(ring, &workspace, list, &loaded.policies)?;
    let mut list = narrowed.grants;
    let mut hidden = deny::find(ring, &base, &list)?;
    hidden.extend(narrowed.hidden);
    let mut hooks = ground::hooks(&list);
    hooks.extend(narrowed.fixed);
    ground::runtime(&request.ring, &workspace, &mut list)?;
    let list = list
        .into_iter()
        .map(|grant| (grant.path, grant.write))
        .collect();
    Ok(Grants {
        workspace,
        list,
        hidden,
        hooks,
    })
}

/// The policies that a request's actions are held to.
pub(crate) fn policies_of(request: &Request) -> Result<Vec<policy::Policy>, Failed> {
    let base = request
        .base
        .canonicalize()
        .map_err(Failed::call("the folder of agent.yaml"))?;
    let (workspace, _) = ground::grants(&request.ring, &base)?;
    policies::load(&request.ring, &base, &workspace).map(|loaded| loaded.policies)
}

/// What a connection to this allowed name would meet on this host.
pub(crate) fn reach(
    network: &profiles::Network,
    name: &names::HostName,
    port: u16,
) -> Result<std::net::SocketAddr, (egress::wire::Kind, String)> {
    let resolver = resolv::Known::read().resolver(network);
    egress::try_reach(&resolver, name, port, &network.private)
}

/// A name that no other run of this boot has: our pid and the time since boot.
fn run_id() -> String {
    let pid = rustix::process::getpid().as_raw_nonzero();
    format!("{pid}-{:x}", relay::now().as_micros())
}

/// The folder that a path of agent.yaml is relative to.
pub(crate) fn base_of(file: &Path) -> PathBuf {
    let parent = file
        .parent()
        .filter(|parent| !parent.as_os_str().is_empty());
    parent.unwrap_or(Path::new(".")).to_owned()
}
