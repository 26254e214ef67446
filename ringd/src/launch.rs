//! From a plan to a cloned ring: everything that allocates or can fail happens before the clone.

use std::ffi::{CString, c_char};
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};

use jail::{Expect, Filter, Handled, Ids, Insn, Pipes, Rlimit, Rule, Stream, Trial};
use plan::{FdRole, Launch};
use rustix::pipe::PipeFlags;

use crate::RingdError;

/// A ring that was cloned and is building itself.
pub(crate) struct Born {
    pub(crate) init: sys::process::Cloned,
    /// Only writer of the life pipe: commands to init, and the ring's life.
    pub(crate) life: OwnedFd,
    /// The main process's wait status.
    pub(crate) status: OwnedFd,
    /// The child's last words; end-of-file when the program runs.
    pub(crate) errors: OwnedFd,
    /// Where the terminal's master is handed out, and the window it is given.
    pub(crate) terminal: Option<(OwnedFd, (u16, u16))>,
    /// Where the network sockets are handed out, and how many they are.
    pub(crate) sockets: Option<(OwnedFd, usize)>,
    pub(crate) cgroup_kill: Option<OwnedFd>,
    pub(crate) cgroup_events: Option<OwnedFd>,
    /// Held, not used: open descriptors are what says that this run lives.
    pub(crate) _locks: Vec<OwnedFd>,
}

/// The descriptors of a plan, sorted by what they are for.
#[derive(Default)]
struct Descriptors {
    streams: [Option<OwnedFd>; 3],
    cgroup: Option<OwnedFd>,
    kill: Option<OwnedFd>,
    events: Option<OwnedFd>,
    tasks: Vec<OwnedFd>,
    trees: Vec<OwnedFd>,
    locks: Vec<OwnedFd>,
    connected: Option<OwnedFd>,
}

impl Descriptors {
    fn sort(roles: &[FdRole], fds: Vec<OwnedFd>) -> Result<Self, RingdError> {
        if roles.len() != fds.len() {
            return Err(RingdError::Descriptors);
        }
        let mut sorted = Self::default();
        for (role, fd) in roles.iter().zip(fds) {
            let slot = match role {
                FdRole::Stream(number) => sorted
                    .streams
                    .get_mut(usize::from(*number))
                    .ok_or(RingdError::Descriptors)?,
                FdRole::Connected => &mut sorted.connected,
                FdRole::Cgroup => &mut sorted.cgroup,
                FdRole::CgroupKill => &mut sorted.kill,
                FdRole::CgroupEvents => &mut sorted.events,
                FdRole::Lock => {
                    sorted.locks.push(fd);
                    continue;
                }
                FdRole::CgroupTasks => {
                    sorted.tasks.push(fd);
                    continue;
                }
                FdRole::Tree => {
                    sorted.trees.push(fd);
                    continue;
                }
            };
            if slot.replace(fd).is_some() {
                return Err(RingdError::Descriptors);
            }
        }
        Ok(sorted)
    }

    fn stream(&self, number: usize, stream: plan::Stream) -> Result<Stream, RingdError> {
        match stream {
            plan::Stream::Null => Ok(Stream::Null),
            plan::Stream::Terminal => Ok(Stream::Terminal),
            plan::Stream::Pipe => {
                let fd = self.streams.get(number).and_then(Option::as_ref);
                fd.map(|fd| Stream::Pipe(fd.as_raw_fd()))
                    .ok_or(RingdError::Descriptors)
            }
        }
    }
}

/// Clones the ring of this plan.
pub(crate) fn launch(launch: &Launch, fds: Vec<OwnedFd>) -> Result<Born, RingdError> {
    let fds = Descriptors::sort(&launch.fds, fds)?;
    let pipe = |what| {
        rustix::pipe::pipe_with(PipeFlags::CLOEXEC).map_err(|e| RingdError::Call(what, e.into()))
    };
    let (life_reader, life) = pipe("life pipe")?;
    let (status, status_writer) = pipe("status pipe")?;
    let (errors, errors_writer) = pipe("error pipe")?;
    // Still needed when the program's descriptors are put in their places.
    let errors_writer = rustix::io::fcntl_dupfd_cloexec(&errors_writer, 16)
        .map_err(|e| RingdError::Call("error pipe", e.into()))?;
    let terminal = hand_out(launch.streams.contains(&plan::Stream::Terminal))?;
    let sockets: Vec<jail::Socket> = wanted(&launch.network).iter().map(socket).collect();
    let handed = sockets.len() + usize::from(launch.door);
    let sockets_out = hand_out(handed > 0)?;
    let program = plan::filter::compile(&launch.filter);
    let mut insns: Vec<Insn> = program.insns;
    let init_filter: Vec<Insn> = plan::filter::init_filter().insns;
    let steps = steps(launch, &fds)?;
    let rules: Vec<Rule<'_>> = launch
        .rules
        .iter()
        .map(|rule| Rule {
            path: &rule.path,
            rights: rule.rights,
        })
        .collect();
    let tasks: Vec<i32> = fds.tasks.iter().map(AsRawFd::as_raw_fd).collect();
    let rlimits: Vec<Rlimit> = launch
        .rlimits
        .iter()
        .map(|(resource, value)| Rlimit {
            resource: *resource,
            value: *value,
        })
        .collect();
    let trials: Vec<Trial<'_>> = launch.trials.iter().map(trial).collect();
    let (argv, envp) = (pointers(&launch.argv), pointers(&launch.envp));
    let [fs, net, scoped] = launch.handled;
    let [stdin, stdout, stderr] = launch.streams;
    let mut plan = jail::Plan {
        ids: Ids {
            uid: launch.uid,
            gid: launch.gid,
        },
        hostname: &launch.hostname,
        tasks: &tasks,
        network: match launch.network {
            plan::Network::Host => jail::Network::Host,
            plan::Network::Own { .. } => jail::Network::Own { sockets: &sockets },
        },
        door: launch.door,
        steps: &steps,
        handled: Handled { fs, net, scoped },
        rules: &rules,
        filter: Filter {
            insns: &mut insns,
            secret_at: program.secret_at,
        },
        init_filter: &init_filter,
        rlimits: &rlimits,
        streams: [
            fds.stream(0, stdin)?,
            fds.stream(1, stdout)?,
            fds.stream(2, stderr)?,
        ],
        connected: fds.connected.as_ref().map_or(-1, AsRawFd::as_raw_fd),
        cwd: &launch.cwd,
        program: &launch.program,
        argv: &argv,
        envp: &envp,
        trials: &trials,
        pipes: Pipes {
            life: life_reader.as_raw_fd(),
            life_writer: life.as_raw_fd(),
            status: status_writer.as_raw_fd(),
            errors: errors_writer.as_raw_fd(),
            terminal: terminal.as_ref().map_or(-1, |(_, child)| child.as_raw_fd()),
            sockets: sockets_out
                .as_ref()
                .map_or(-1, |(_, child)| child.as_raw_fd()),
        },
    };
    forget_groups()?;
    let cgroup = fds.cgroup.as_ref().map(AsFd::as_fd);
    #[expect(unsafe_code, reason = "the one birth of a ring")]
    // SAFETY: this process never makes a second thread; argv and envp end in NULL and point into
    // `launch`, which outlives the call; every descriptor is owned by this frame.
    let cloned = unsafe { sys::process::clone_ring(&mut plan, cgroup) };
    let init = cloned.map_err(|error| RingdError::Call("clone", error))?;
    map_ids(init.pid, launch.uid, launch.gid)?;
    // The child waits for this byte.
    rustix::io::write(&life, &[0]).map_err(|e| RingdError::Call("life pipe", e.into()))?;
    Ok(Born {
        init,
        life,
        status,
        errors,
        terminal: terminal.map(|(ours, _)| (ours, launch.window)),
        sockets: sockets_out.map(|(ours, _)| (ours, handed)),
        cgroup_kill: fds.kill,
        cgroup_events: fds.events,
        _locks: fds.locks,
    })
}

type SocketPair = (OwnedFd, OwnedFd);

fn wanted(network: &plan::Network) -> &[plan::Socket] {
    match network {
        plan::Network::Own { sockets } => sockets,
        plan::Network::Host => &[],
    }
}

fn socket(wanted: &plan::Socket) -> jail::Socket {
    match *wanted {
        plan::Socket::Tcp { address, port } => jail::Socket::Tcp((address, port)),
        plan::Socket::Udp { address, port } => jail::Socket::Udp((address, port)),
        plan::Socket::Free => jail::Socket::Free,
    }
}

/// A pair on which the child hands out descriptors of its namespaces.
fn hand_out(wanted: bool) -> Result<Option<SocketPair>, RingdError> {
    use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};
    if !wanted {
        return Ok(None);
    }
    socketpair(
        AddressFamily::UNIX,
        SocketType::STREAM,
        SocketFlags::CLOEXEC,
        None,
    )
    .map(Some)
    .map_err(|errno| RingdError::Call("socket pair", errno.into()))
}

fn steps<'a>(launch: &'a Launch, fds: &Descriptors) -> Result<Vec<jail::Step<'a>>, RingdError> {
    use jail::Step as To;
    use plan::Step as From;
    let source = |source: &'a plan::Source| match source {
        plan::Source::Detached(index) => fds
            .trees
            .get(usize::from(*index))
            .map(|fd| jail::Source::Detached(fd.as_raw_fd()))
            .ok_or(RingdError::Descriptors),
        plan::Source::Path { path, dev, ino } => Ok(jail::Source::Path {
            path,
            dev: *dev,
            ino: *ino,
        }),
    };
    let steps = launch.steps.iter().map(|step| {
        Ok(match step {
            From::Dir { target, mode } => To::Dir {
                target,
                mode: *mode,
            },
            From::File {
                target,
                content,
                mode,
            } => To::File {
                target,
                content,
                mode: *mode,
            },
            From::Symlink { target, to } => To::Symlink { target, to },
            From::Tree {
                target,
                source: from,
                attributes,
            } => To::Tree {
                target,
                source: source(from)?,
                attributes: *attributes,
            },
            From::Tmpfs {
                target,
                options,
                flags,
            } => To::Tmpfs {
                target,
                options,
                flags: *flags,
            },
            From::Devpts { target, options } => To::Devpts { target, options },
            From::Proc { target, options } => To::Proc { target, options },
            From::Mask { target } => To::Mask { target },
            From::ReadOnly { target } => To::ReadOnly { target },
        })
    });
    steps.collect()
}

fn trial(trial: &plan::Trial) -> Trial<'_> {
    let expect = |errno: Option<i32>| errno.map_or(Expect::Fail, Expect::Errno);
    match trial {
        plan::Trial::Read(path, errno) => Trial::Read(path, expect(*errno)),
        plan::Trial::Create(path, errno) => Trial::Create(path, expect(*errno)),
        plan::Trial::Call(nr, args, errno) => Trial::Call(*nr, *args, expect(*errno)),
        plan::Trial::Privilege => Trial::Privilege,
    }
}

fn pointers(words: &[CString]) -> Vec<*const c_char> {
    words
        .iter()
        .map(|word| word.as_ptr())
        .chain([std::ptr::null()])
        .collect()
}

/// As root the supplementary groups go before the clone, since the namespace forbids it later; an
/// ordinary user cannot drop them, which the banner says.
fn forget_groups() -> Result<(), RingdError> {
    if !rustix::process::geteuid().is_root() {
        return Ok(());
    }
    rustix::thread::set_thread_groups(&[])
        .map_err(|errno| RingdError::Call("setgroups", errno.into()))
}

/// One id, the same inside and outside (user_namespaces(7)). The pid is our child's and is not
/// collected yet, so the number is its own.
fn map_ids(pid: u32, uid: u32, gid: u32) -> Result<(), RingdError> {
    let write = |name: &str, text: String| -> io::Result<()> {
        let path = format!("/proc/{pid}/{name}");
        std::fs::OpenOptions::new()
            .write(true)
            .open(path)
            .and_then(|mut file| io::Write::write_all(&mut file, text.as_bytes()))
    };
    write("setgroups", "deny".into()).map_err(|e| RingdError::Call("setgroups", e))?;
    write("uid_map", format!("{uid} {uid} 1")).map_err(|e| RingdError::Call("uid_map", e))?;
    write("gid_map", format!("{gid} {gid} 1")).map_err(|e| RingdError::Call("gid_map", e))
}
