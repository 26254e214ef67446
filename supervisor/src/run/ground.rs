//! From a ring to everything that a launch needs but what costs something: names become objects,
//! all that can be refused is refused, and nothing has been started yet.

use std::ffi::CString;
use std::fs;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use plan::filter::{Exec, FilterSpec, Sockets};
use plan::{Launch, Stream, Trial};
use profiles::{Access, At, PathWish, Proc, Programs, Ring, Socket};

use super::Request;
use super::deny;
use super::found::Found;
use super::grant::{Grant, Sight, walk};
use super::home::Place;
use super::ids::Identity;
use super::policies::{self, Loaded};
use super::probe::Layers;
use super::program::{self, Program, Search};
use super::root::{CANARY, Root};
use super::runtime::Link;
use super::stack::{self, Stack};
use super::streams::Pair;
use super::trees::Trees;
use super::{environment, etc, files, network, tools};
use crate::cgroup::Means;
use crate::error::Failed;
use crate::places;

/// Everything about one run that is known before it starts.
#[derive(Debug)]
pub(crate) struct Ground {
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    pub(crate) workspace: PathBuf,
    pub(crate) home: Place,
    /// What is hidden of the grants.
    pub(crate) hidden: Vec<PathBuf>,
    /// agent.yaml and policies that lie where the agent may write.
    pub(crate) pinned: Vec<PathBuf>,
    /// What policies took away of them, in words.
    pub(crate) narrowed: Vec<String>,
    policies: Option<Loaded>,
    pub(crate) program: Program,
    pub(crate) root: Root,
    pub(crate) grants: Vec<Grant>,
    /// Detached trees, made by root for what only root can walk to.
    pub(crate) trees: Vec<OwnedFd>,
    trials: Vec<Trial>,
    environment: Vec<CString>,
    /// A workspace that did not exist and was made for this run.
    made: Option<PathBuf>,
}

/// What a run is grounded with besides its request.
pub(crate) struct With<'a> {
    pub(crate) identity: &'a Identity,
    pub(crate) layers: &'a Layers,
    pub(crate) terminal: bool,
    /// Makes or finds the home, once everything else that is asked for was found to be fine.
    pub(crate) home: &'a dyn Fn() -> Result<Place, Failed>,
}

/// Grounds a request on this host.
pub(crate) fn ground(request: &Request, with: &With<'_>) -> Result<Ground, Failed> {
    let ring = &request.ring;
    let base = request
        .base
        .canonicalize()
        .map_err(Failed::call("the folder of agent.yaml"))?;
    let made = make_workspace(ring, &base, with.identity)?;
    let grounded = on_workspace(request, with, &base);
    match grounded {
        Ok(ground) => Ok(Ground { made, ..ground }),
        Err(failed) => {
            unmake(made.as_deref());
            Err(failed)
        }
    }
}

fn on_workspace(request: &Request, with: &With<'_>, base: &Path) -> Result<Ground, Failed> {
    let ring = &request.ring;
    let (workspace, granted) = grants(ring, base)?;
    let loaded = policies::load(ring, base, &workspace)?;
    let narrowed = files::narrow(ring, &workspace, granted, &loaded.policies)?;
    let mut grants = narrowed.grants;
    refuse_root_owned(&grants)?;
    let denied = deny::find(ring, base, &grants)?;
    let hidden = denied.into_iter().chain(narrowed.hidden);
    let hidden: Vec<PathBuf> = hidden.map(|(path, _)| path).collect();
    let pinned = own_files(request, base, &grants)?;
    let mut fixed = pinned.clone();
    fixed.extend(hooks(&grants));
    fixed.extend(narrowed.fixed);
    let runtime = runtime(ring, &workspace, &mut grants)?;
    let system = system(ring);
    let sight = Sight {
        system: &system,
        grants: &grants,
        links: runtime.links(),
    };
    let path = runtime.path();
    let search = Search {
        cwd: &workspace,
        path: &path,
    };
    let once = ring.programs == Programs::Once;
    let command = runtime.command(&ring.command);
    let program = program::resolve(&command, search, &sight, once)
        .map(|program| runtime.named(program))
        .map_err(|error| Failed::Program {
            error,
            origin: ring.command_origin.clone(),
        })?;
    let environment = environment::variables(ring, &workspace, &runtime, with.terminal)?;
    let mut home = (with.home)()?;
    let mut trees = Trees::new(with.identity);
    trees
        .detach(&mut grants, &mut home)
        .map_err(Failed::call("mounting a grant"))?;
    let (tools, unasked) = match tools::find(ring, &grants) {
        Ok(tools) => (tools, None),
        Err(unasked) => (None, Some(unasked)),
    };
    let laid = Failed::call("laying out the root");
    let stack = Stack {
        grants: &grants,
        fixed: &fixed,
        hidden: &hidden,
    };
    let ours =
        |path: &PathBuf| tools.is_some() && tools::FOLDERS.iter().any(|one| path == Path::new(one));
    let seen: Vec<PathBuf> = system.iter().filter(|path| !ours(path)).cloned().collect();
    let mut root = lay_out(ring, &seen, with.identity, &grants, &home)
        .and_then(|mut root| {
            if let Some(tools) = &tools {
                tools.lay(&mut root, &mut trees)?;
            }
            stack.lay(&mut root, &home, &mut trees)?;
            // What is granted brings its links along.
            let missing = |link: &&Link| stack::on_top(&grants, &link.path).is_none();
            for link in runtime.links().iter().filter(missing) {
                root.symlink(&link.path, &link.to)?;
            }
            Ok(root)
        })
        .map_err(laid)?;
    root.seal().map_err(Failed::call("laying out the root"))?;
    Ok(Ground {
        uid: with.identity.uid,
        gid: with.identity.gid,
        environment: environment::of(environment, home.inside())?,
        trials: trials(ring, with.layers),
        workspace,
        home,
        hidden,
        pinned,
        narrowed: narrowed.said.into_iter().chain(unasked).collect(),
        policies: Some(loaded),
        program,
        root,
        grants,
        trees: trees.fds,
        made: None,
    })
}

impl Ground {
    /// The plan of this run, without the descriptors that go along.
    pub(crate) fn launch(
        &self,
        ring: &Ring,
        layers: &Layers,
        memory: Means,
        streams: &[Pair; 3],
    ) -> Result<Launch, Failed> {
        let text = |bytes: &str| CString::new(bytes).map_err(io::Error::other);
        let texts = |words: &[String]| {
            words
                .iter()
                .map(|word| text(word))
                .collect::<io::Result<Vec<CString>>>()
        };
        let path =
            |path: &Path| CString::new(path.as_os_str().as_bytes()).map_err(io::Error::other);
        let build = || -> io::Result<Launch> {
            Ok(Launch {
                fds: Vec::new(),
                uid: self.uid,
                gid: self.gid,
                hostname: text(&ring.name)?,
                network: plan::Network::Own {
                    sockets: network::sockets(&ring.network)
                        .into_iter()
                        .map(|(_, socket)| socket)
                        .collect(),
                },
                door: true,
                steps: self.root.steps.clone(),
                handled: [layers.handled.fs, layers.handled.net, layers.handled.scoped],
                rules: self.root.rules.clone(),
                filter: watched(filter(ring), memory),
                rlimits: rlimits(ring),
                streams: streams.each_ref().map(|pair| pair.stream),
                window: window(),
                cwd: path(&self.workspace)?,
                program: path(&self.program.path)?,
                argv: texts(&self.program.argv)?,
                envp: self.environment.clone(),
                trials: self.trials.clone(),
                watched_memory: if memory == Means::Watched {
                    ring.memory.value.0
                } else {
                    0
                },
                last_call_ms: last_call_ms(ring),
            })
        };
        build().map_err(Failed::call("the launch plan"))
    }

    /// What its actions are held to; taken once.
    pub(crate) fn take_policies(&mut self) -> Option<Loaded> {
        self.policies.take()
    }

    /// Folders that the agent may write and that others use; its home is nobody else's.
    pub(crate) fn writable(&self) -> Vec<PathBuf> {
        self.grants
            .iter()
            .filter(|grant| grant.write)
            .map(|grant| grant.path.clone())
            .collect()
    }

    /// A workspace that was made for a run which never began goes again.
    pub(crate) fn undo(&self) {
        unmake(self.made.as_deref());
    }

    /// What the n-th trial of the self-test tries, in words.
    pub(crate) fn trial(&self, index: usize) -> String {
        match self.trials.get(index) {
            Some(Trial::Read(path, _)) => format!("self-test: reading {}", path.to_string_lossy()),
            Some(Trial::Create(path, _)) => {
                format!("self-test: creating {}", path.to_string_lossy())
            }
            Some(Trial::Call(nr, ..)) => {
                let name = plan::syscalls::name(plan::syscalls::Nr(*nr)).unwrap_or("a call");
                format!("self-test: {name}")
            }
            Some(Trial::Privilege) => "self-test: having a privilege".to_owned(),
            None => "self-test".to_owned(),
        }
    }
}

/// Who the workspace is to belong to when it does not exist yet.
fn make_workspace(
    ring: &Ring,
    base: &Path,
    identity: &Identity,
) -> Result<Option<PathBuf>, Failed> {
    let Some(wish) = &ring.workspace else {
        return Ok(None);
    };
    let path = base.join(&wish.value);
    if path.exists() {
        return Ok(None);
    }
    let failed = |error| Failed::Workspace {
        path: path.clone(),
        origin: wish.origin.clone(),
        error,
    };
    fs::create_dir(&path).map_err(failed)?;
    if rustix::process::geteuid().is_root() {
        std::os::unix::fs::chown(&path, Some(identity.uid), Some(identity.gid)).map_err(failed)?;
    }
    Ok(Some(path))
}

fn unmake(made: Option<&Path>) {
    if let Some(path) = made {
        // Only if it is still empty: what is in it is somebody's.
        let _kept = fs::remove_dir(path);
    }
}

/// The workspace and everything else that the ring sees of the user's files.
pub(super) fn grants(ring: &Ring, base: &Path) -> Result<(PathBuf, Vec<Grant>), Failed> {
    let wish = ring.workspace.as_ref();
    let path = wish.map_or_else(|| base.to_owned(), |wish| base.join(&wish.value));
    let origin = wish.map_or_else(|| format!("{}:1", ring.file), |wish| wish.origin.clone());
    let write = ring.access == Access::Write;
    let find = |path: &Path, write, origin: &str| {
        let grant = Grant::find(path, write).map_err(Failed::grant(origin))?;
        grant
            .refuse_ours(&places::ours())
            .and_then(|()| grant.refuse_homes(&places::homes_dir()))
            .map_err(Failed::grant(origin))?;
        Ok::<_, Failed>(grant)
    };
    let workspace = find(&path, write, &origin)?;
    if !workspace.is_dir {
        return Err(Failed::NotAFolder { path, origin });
    }
    let place = workspace.path.clone();
    let mut grants = vec![workspace];
    let mut named = vec![(path.clone(), origin)];
    let wishes = [(&ring.read, false), (&ring.write, true)];
    for (wish, write) in wishes
        .iter()
        .flat_map(|(list, write)| list.iter().map(|w| (w, *write)))
    {
        let path = expand(base, wish)?;
        if wish.value.optional && !path.exists() {
            continue;
        }
        let mut grant = find(&path, write, &wish.origin)?;
        grant.below_home = wish.value.path.strip_prefix("~").ok().map(Path::to_owned);
        grants.push(grant);
        named.push((path, wish.origin.clone()));
    }
    let writable: Vec<PathBuf> = grants
        .iter()
        .filter(|grant| grant.write)
        .map(|grant| grant.path.clone())
        .collect();
    for (grant, (path, origin)) in grants.iter().zip(&named) {
        grant
            .refuse_planted(path, &writable)
            .map_err(Failed::grant(origin))?;
    }
    // The narrower of two grants of one path comes later and lies on top.
    grants.sort_by(|a, b| (&a.path, b.write).cmp(&(&b.path, a.write)));
    Ok((place, grants))
}

/// Paths of the system runtime.
fn system(ring: &Ring) -> Vec<PathBuf> {
    ring.runtime.read.iter().map(PathBuf::from).collect()
}

/// Where the agent's program is installed, added to what the ring sees.
pub(super) fn runtime(
    ring: &Ring,
    workspace: &Path,
    grants: &mut Vec<Grant>,
) -> Result<Found, Failed> {
    let failed = |error| Failed::Runtime {
        error,
        origin: ring.command_origin.clone(),
    };
    let writable: Vec<PathBuf> = grants
        .iter()
        .filter(|grant| grant.write)
        .map(|grant| grant.path.clone())
        .collect();
    let found = Found::look(ring, workspace, &system(ring), &writable).map_err(failed)?;
    for prefix in found.prefixes() {
        if grants
            .iter()
            .any(|grant| prefix.path.starts_with(&grant.path))
        {
            continue;
        }
        let refused = Failed::grant(&ring.command_origin);
        let mut grant = Grant::find(&prefix.path, false).map_err(refused)?;
        grant.runtime = Some(prefix.why.words());
        grant
            .refuse_planted(&prefix.path, &writable)
            .map_err(Failed::grant(&ring.command_origin))?;
        grants.push(grant);
    }
    grants.sort_by(|a, b| (&a.path, b.write).cmp(&(&b.path, a.write)));
    Ok(found)
}

/// `~` is the caller's home; everything else is relative to the file.
pub(super) fn expand(base: &Path, wish: &At<PathWish>) -> Result<PathBuf, Failed> {
    let Ok(below) = wish.value.path.strip_prefix("~") else {
        return Ok(base.join(&wish.value.path));
    };
    match std::env::var_os("HOME").filter(|home| !home.is_empty()) {
        Some(home) => Ok(Path::new(&home).join(below)),
        None => Err(Failed::NoHome {
            origin: wish.origin.clone(),
        }),
    }
}

/// An agent never writes as root: files of root in a writable grant would stay its own.
fn refuse_root_owned(grants: &[Grant]) -> Result<(), Failed> {
    if !rustix::process::geteuid().is_root() {
        return Ok(());
    }
    match grants
        .iter()
        .find(|grant| grant.write && grant.owner.uid == 0)
    {
        Some(grant) => Err(Failed::RootOwned {
            path: grant.path.clone(),
        }),
        None => Ok(()),
    }
}

fn lay_out(
    ring: &Ring,
    system: &[PathBuf],
    identity: &Identity,
    grants: &[Grant],
    home: &Place,
) -> io::Result<Root> {
    let mut root = Root::default();
    root.file(CANARY, "")?;
    for path in system {
        root.system(path)?;
    }
    etc::generate(&mut root, ring, identity, home.inside())?;
    let exec = ring.programs == Programs::Any;
    root.devices(&ring.runtime.devices, ring.tmp.value.0, exec)?;
    root.door()?;
    root.proc(ring.proc == Proc::Pid, &ring.runtime.masked)?;
    root.scratch(Path::new("/tmp"), ring.tmp.value.0, exec)?;
    let var_tmp = Path::new("/var/tmp");
    if grants.iter().any(|grant| grant.path.starts_with(var_tmp)) {
        // A link could hold no mount.
        root.scratch(var_tmp, ring.tmp.value.0, exec)?;
    } else {
        root.symlink(var_tmp, Path::new("/tmp"))?;
    }
    root.system_rules()?;
    match home {
        Place::Scratch => {}
        Place::Temporary => root.home(None, ring.tmp.value.0, exec)?,
        Place::Kept(grant) => root.home(Some(grant.source()), 0, exec)?,
    }
    Ok(root)
}

/// What was trusted stays trusted: the agent's own file is read-only inside, also where it lies in a
/// writable grant.
fn own_files(request: &Request, base: &Path, grants: &[Grant]) -> Result<Vec<PathBuf>, Failed> {
    let policies = policies::own(&request.ring, base)?;
    let files = request.file.iter().map(|file| file.path.clone());
    files
        .chain(policies.into_iter().map(|(path, _)| path))
        .filter_map(|file| own_file(&file, grants).transpose())
        .collect::<io::Result<Vec<PathBuf>>>()
        .map_err(Failed::call("pinning agent.yaml"))
}

fn own_file(file: &Path, grants: &[Grant]) -> io::Result<Option<PathBuf>> {
    let writable: Vec<PathBuf> = grants
        .iter()
        .filter(|grant| grant.write)
        .map(|grant| grant.path.clone())
        .collect();
    let named = std::env::current_dir()?.canonicalize()?.join(file);
    // The link would stay the agent's to replace, whatever it leads to now.
    walk(&named, &writable).map_err(io::Error::other)?;
    let file = file.canonicalize()?;
    let is_writable = stack::on_top(grants, &file).is_some_and(|grant| grant.write);
    if is_writable && std::os::unix::fs::MetadataExt::nlink(&file.metadata()?) > 1 {
        let shown = file.display();
        return Err(io::Error::other(format!(
            "{shown} has other hard links, by which the agent could write it; remove them"
        )));
    }
    Ok(is_writable.then_some(file))
}

/// A git hook of the workspace would run outside, so the hooks stay as they are, and the folder that
/// holds them cannot be moved out of the way. Hooks that are new are named when the run is over.
pub(super) fn hooks(grants: &[Grant]) -> Vec<PathBuf> {
    let is_folder = |path: &Path| fs::symlink_metadata(path).is_ok_and(|meta| meta.is_dir());
    grants
        .iter()
        .filter(|grant| grant.write && grant.is_dir && is_folder(&grant.path.join(".git")))
        .map(|grant| grant.path.join(".git/hooks"))
        .filter(|hooks| is_folder(hooks))
        .collect()
}

/// The supervisor keeps the wall time; ringd's own clock goes off a little after its whole ladder.
fn last_call_ms(ring: &Ring) -> u64 {
    const MARGIN_MS: u64 = 2_000;
    let grace = u64::try_from(ring.grace.as_millis()).unwrap_or(u64::MAX);
    let wall = ring.wall.as_ref().map(|wall| wall.value.0);
    wall.map_or(0, |wall| {
        wall.saturating_add(grace).saturating_add(MARGIN_MS)
    })
}

/// Where ringd counts memory it cannot see System V segments and queues that nobody has attached, so
/// there are none.
fn watched(filter: FilterSpec, memory: Means) -> FilterSpec {
    if memory != Means::Watched {
        return filter;
    }
    let unseen = ["shmget", "msgget"]
        .into_iter()
        .filter_map(plan::syscalls::by_name);
    FilterSpec {
        allowed: filter.allowed.difference(unseen.collect()),
        ..filter
    }
}

pub(crate) fn filter(ring: &Ring) -> FilterSpec {
    FilterSpec {
        allowed: ring.syscalls,
        exec: match ring.programs {
            Programs::Any => Exec::Any,
            Programs::Once => Exec::Once,
        },
        sockets: Sockets {
            unix: ring.has_socket(Socket::Unix),
            inet: ring.has_socket(Socket::Inet),
            netlink_route: ring.has_socket(Socket::NetlinkRoute),
        },
    }
}

/// Never RLIMIT_AS: programs that reserve address space they do not use (Node) die of it.
fn rlimits(ring: &Ring) -> Vec<(u32, u64)> {
    use rustix::process::{Resource, getrlimit};
    let list = [
        // The kernel's numbers (asm-generic/resource.h).
        (1, Resource::Fsize, ring.file_size.value.0),
        (4, Resource::Core, 0),
        // Counted per ring, since its user namespace is its own; init is one of them.
        (6, Resource::Nproc, ring.pids.value + 1),
        (7, Resource::Nofile, ring.files.value),
        (8, Resource::Memlock, 8 << 20),
        (12, Resource::Msgqueue, 819_200),
        (13, Resource::Nice, 0),
        (14, Resource::Rtprio, 0),
    ];
    // A hard limit can only be lowered.
    let within = |resource, value: u64| getrlimit(resource).maximum.map_or(value, |m| m.min(value));
    list.into_iter()
        .map(|(number, resource, value)| (number, within(resource, value)))
        .collect()
}

/// What must fail in this ring, with every layer on, before the program may begin.
fn trials(ring: &Ring, layers: &Layers) -> Vec<Trial> {
    const EPERM: i32 = 1;
    const EACCES: i32 = 13;
    const EROFS: i32 = 30;
    let call = |name: &str, args: [u64; 5], errno| {
        plan::syscalls::by_name(name).map(|nr| Trial::Call(nr.0, args, errno))
    };
    let path = |path: &str| CString::new(path).ok();
    let mut trials = vec![Trial::Privilege];
    // The new root: nothing can be made in it, and nothing of the old one is left.
    let by_landlock = layers.handled.fs != 0;
    trials.extend(path("/agt-self-test").map(|path| Trial::Create(path, Some(EROFS))));
    trials.extend(path("/etc/shadow").map(|path| Trial::Read(path, None)));
    // Landlock alone: a file that is there, and readable but for it.
    if by_landlock {
        trials.extend(path(CANARY).map(|path| Trial::Read(path, Some(EACCES))));
    }
    // Its scopes alone: the init has the same uid.
    if layers.handled.scoped != 0 {
        trials.extend(call("kill", [1, 0, 0, 0, 0], Some(EPERM)));
    }
    // Seccomp alone: an ordinary user may do these.
    const CLONE_NEWUSER: u64 = 0x1000_0000;
    trials.extend(call("unshare", [CLONE_NEWUSER, 0, 0, 0, 0], Some(EPERM)));
    trials.extend(call("keyctl", [0, 0, 0, 0, 0], Some(EPERM)));
    const AF_VSOCK: u64 = 40;
    trials.extend(call("socket", [AF_VSOCK, 1, 0, 0, 0], None));
    if !ring.has_socket(Socket::Unix) {
        trials.extend(call("socket", [1, 1, 0, 0, 0], Some(EPERM)));
    }
    if ring.programs == Programs::Once {
        trials.extend(call("execve", [0, 0, 0, 0, 0], Some(EPERM)));
        trials.extend(call("execveat", [0, 0, 0, 0, 0], Some(EPERM)));
    }
    trials
}

/// The size of the caller's terminal, for the ring's own.
fn window() -> (u16, u16) {
    let sizes = [
        rustix::termios::tcgetwinsize(io::stdout()),
        rustix::termios::tcgetwinsize(io::stdin()),
        rustix::termios::tcgetwinsize(io::stderr()),
    ];
    let known = sizes.into_iter().find_map(Result::ok);
    known.map_or((80, 24), |size| (size.ws_col, size.ws_row))
}

/// Whether any of the streams is the ring's terminal.
pub(crate) fn has_terminal(streams: &[Pair; 3]) -> bool {
    streams.iter().any(|pair| pair.stream == Stream::Terminal)
}
