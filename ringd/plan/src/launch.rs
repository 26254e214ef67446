//! A launch plan: one ring and one program, fully resolved. Names have become paths, paths objects,
//! wishes numbers; nothing in here is looked up again except what the kernel itself must open.

use std::ffi::CString;

use crate::filter::{Exec, FilterSpec, Sockets};
use crate::syscalls::SyscallSet;
use crate::wire::{Reader, WireError, Writer};

/// Bounds: far above what a resolved agent.yaml makes, far below what would hurt.
const STEPS_MAX: usize = 2048;
const RULES_MAX: usize = 1024;
const WORDS_MAX: usize = 8192;
const RLIMITS_MAX: usize = 16;
const TRIALS_MAX: usize = 32;
/// The kernel passes at most 253 descriptors in one message (unix(7), SCM_MAX_FD).
const FDS_MAX: usize = 240;
/// Together with a terminal they go out in one message.
const SOCKETS_MAX: usize = 240;

/// What each descriptor that comes along is for, in the order in which they are sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FdRole {
    /// Becomes the agent's standard stream 0, 1 or 2.
    Stream(u8),
    /// A folder of cgroup v2, into which the ring is cloned.
    Cgroup,
    /// Its `cgroup.kill`, open for writing.
    CgroupKill,
    /// Its `cgroup.events`, open for reading.
    CgroupEvents,
    /// A cgroup v1 `tasks` file, open for writing.
    CgroupTasks,
    /// A detached mount tree: the next one that the steps name.
    Tree,
    /// A lock of the run, to be held for as long as ringd lives.
    Lock,
    /// A connected socket that the program finds as descriptor 3.
    Connected,
}

/// Where a mounted tree comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// The n-th descriptor with [`FdRole::Tree`].
    Detached(u16),
    /// A host path without symbolic links, and the object that it must still name.
    Path {
        /// Absolute.
        path: CString,
        /// `st_dev`.
        dev: u64,
        /// `st_ino`.
        ino: u64,
    },
}

/// One step of building the new root; targets are relative to it. The meaning of each is that of
/// `jail::Step`.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "documented at jail::Step")]
pub enum Step {
    Dir {
        target: CString,
        mode: u32,
    },
    File {
        target: CString,
        content: Vec<u8>,
        mode: u32,
    },
    Symlink {
        target: CString,
        to: CString,
    },
    Tree {
        target: CString,
        source: Source,
        attributes: u64,
    },
    Tmpfs {
        target: CString,
        options: CString,
        flags: u64,
    },
    Devpts {
        target: CString,
        options: CString,
    },
    Proc {
        target: CString,
        options: CString,
    },
    Mask {
        target: CString,
    },
    ReadOnly {
        target: CString,
    },
}

/// A socket of the ring's network namespace that comes out with `Started`. The meaning of each is
/// that of `jail::Socket`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "documented at jail::Socket")]
pub enum Socket {
    Tcp { address: [u8; 4], port: u16 },
    Udp { address: [u8; 4], port: u16 },
    Free,
}

/// The network that a ring is in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Network {
    /// Its own.
    Own {
        /// Handed out in this order.
        sockets: Vec<Socket>,
    },
    /// The host's, for agt-egress.
    Host,
}

/// Landlock rights beneath one path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    /// Absolute in the new root.
    pub path: CString,
    /// `LANDLOCK_ACCESS_FS_*`.
    pub rights: u64,
}

/// A standard stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stream {
    /// The ring's own `/dev/null`.
    Null,
    /// The ring's own terminal.
    Terminal,
    /// A pipe that comes along with [`FdRole::Stream`].
    Pipe,
}

/// Something that must fail before the program may start.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Trial {
    /// Reading this path, with this errno if one is given.
    Read(CString, Option<i32>),
    /// Creating this file.
    Create(CString, Option<i32>),
    /// A system call with these arguments.
    Call(u16, [u64; 5], Option<i32>),
    /// Having any privilege left.
    Privilege,
}

/// One ring and one program.
#[derive(Clone, Debug, PartialEq)]
pub struct Launch {
    /// Descriptors that come along.
    pub fds: Vec<FdRole>,
    /// Whom the agent runs as; never 0.
    pub uid: u32,
    /// Its group; never 0.
    pub gid: u32,
    /// Host name inside, at most 64 bytes.
    pub hostname: CString,
    /// The network that it is in.
    pub network: Network,
    /// Whether the ring has a door: a socket at `jail::DOOR` that comes out after the network's.
    pub door: bool,
    /// How the new root is built.
    pub steps: Vec<Step>,
    /// What Landlock governs: file system, network, scopes; all zero turns the layer off.
    pub handled: [u64; 3],
    /// What Landlock allows.
    pub rules: Vec<Rule>,
    /// The system calls of the agent.
    pub filter: FilterSpec,
    /// `(RLIMIT_*, value)`.
    pub rlimits: Vec<(u32, u64)>,
    /// Standard input, output, error.
    pub streams: [Stream; 3],
    /// Columns and rows of the ring's terminal.
    pub window: (u16, u16),
    /// Working directory inside.
    pub cwd: CString,
    /// Program inside.
    pub program: CString,
    /// Arguments, the program's name first.
    pub argv: Vec<CString>,
    /// Environment, `NAME=value`.
    pub envp: Vec<CString>,
    /// What is tried before exec.
    pub trials: Vec<Trial>,
    /// Bytes that the ring may use in all where ringd itself must watch it; 0 when a cgroup does.
    pub watched_memory: u64,
    /// Milliseconds after which ringd kills the ring by its own clock, in case the supervisor cannot:
    /// it was stopped, or hangs. 0 for never.
    pub last_call_ms: u64,
}

impl Launch {
    pub(crate) fn write(&self, w: &mut Writer) {
        w.list(&self.fds, |w, role| {
            let (number, detail) = match role {
                FdRole::Stream(n) => (0, *n),
                FdRole::Cgroup => (1, 0),
                FdRole::CgroupKill => (2, 0),
                FdRole::CgroupEvents => (3, 0),
                FdRole::CgroupTasks => (4, 0),
                FdRole::Tree => (5, 0),
                FdRole::Lock => (6, 0),
                FdRole::Connected => (7, 0),
            };
            w.u8(number);
            w.u8(detail);
        });
        w.u32(self.uid);
        w.u32(self.gid);
        w.text(self.hostname.as_bytes());
        self.network.write(w);
        w.u8(self.door.into());
        w.list(&self.steps, |w, step| step.write(w));
        for handled in self.handled {
            w.u64(handled);
        }
        w.list(&self.rules, |w, rule| {
            w.text(rule.path.as_bytes());
            w.u64(rule.rights);
        });
        write_filter(w, &self.filter);
        w.list(&self.rlimits, |w, (resource, value)| {
            w.u32(*resource);
            w.u64(*value);
        });
        for stream in self.streams {
            w.u8(match stream {
                Stream::Null => 0,
                Stream::Terminal => 1,
                Stream::Pipe => 2,
            });
        }
        w.u16(self.window.0);
        w.u16(self.window.1);
        w.text(self.cwd.as_bytes());
        w.text(self.program.as_bytes());
        w.list(&self.argv, |w, word| w.text(word.as_bytes()));
        w.list(&self.envp, |w, word| w.text(word.as_bytes()));
        w.list(&self.trials, |w, trial| trial.write(w));
        w.u64(self.watched_memory);
        w.u64(self.last_call_ms);
    }

    pub(crate) fn read(r: &mut Reader<'_>) -> Result<Self, WireError> {
        let launch = Self {
            fds: r.list("descriptor", FDS_MAX, read_role)?,
            uid: r.u32()?,
            gid: r.u32()?,
            hostname: r.text("host name")?,
            network: Network::read(r)?,
            door: r.flag("door")?,
            steps: r.list("step", STEPS_MAX, Step::read)?,
            handled: [r.u64()?, r.u64()?, r.u64()?],
            rules: r.list("rule", RULES_MAX, |r| {
                Ok(Rule {
                    path: r.text("rule")?,
                    rights: r.u64()?,
                })
            })?,
            filter: read_filter(r)?,
            rlimits: r.list("limit", RLIMITS_MAX, |r| Ok((r.u32()?, r.u64()?)))?,
            streams: [read_stream(r)?, read_stream(r)?, read_stream(r)?],
            window: (r.u16()?, r.u16()?),
            cwd: r.text("working directory")?,
            program: r.text("program")?,
            argv: r.list("argument", WORDS_MAX, |r| r.text("argument"))?,
            envp: r.list("variable", WORDS_MAX, |r| r.text("variable"))?,
            trials: r.list("trial", TRIALS_MAX, Trial::read)?,
            watched_memory: r.u64()?,
            last_call_ms: r.u64()?,
        };
        launch.refuse_hostile()
    }

    /// No plan makes an agent root, whoever wrote it, nor puts a program that could become another
    /// into the host's network.
    fn refuse_hostile(self) -> Result<Self, WireError> {
        if self.network == Network::Host && self.filter.exec != Exec::Once {
            return Err(WireError::Unknown {
                field: "network",
                value: 0,
            });
        }
        match (self.uid, self.gid) {
            (0, _) => Err(WireError::Unknown {
                field: "uid",
                value: 0,
            }),
            (_, 0) => Err(WireError::Unknown {
                field: "gid",
                value: 0,
            }),
            _ => Ok(self),
        }
    }
}

fn read_role(r: &mut Reader<'_>) -> Result<FdRole, WireError> {
    Ok(match (r.u8()?, r.u8()?) {
        (0, n @ 0..=2) => FdRole::Stream(n),
        (1, 0) => FdRole::Cgroup,
        (2, 0) => FdRole::CgroupKill,
        (3, 0) => FdRole::CgroupEvents,
        (4, 0) => FdRole::CgroupTasks,
        (5, 0) => FdRole::Tree,
        (6, 0) => FdRole::Lock,
        (7, 0) => FdRole::Connected,
        (other, _) => {
            return Err(WireError::Unknown {
                field: "role",
                value: other.into(),
            });
        }
    })
}

fn read_stream(r: &mut Reader<'_>) -> Result<Stream, WireError> {
    Ok(match r.u8()? {
        0 => Stream::Null,
        1 => Stream::Terminal,
        2 => Stream::Pipe,
        other => {
            return Err(WireError::Unknown {
                field: "stream",
                value: other.into(),
            });
        }
    })
}

fn write_filter(w: &mut Writer, filter: &FilterSpec) {
    w.put(&filter.allowed.to_le_bytes());
    w.u8(match filter.exec {
        Exec::Any => 0,
        Exec::Once => 1,
    });
    w.u8(filter.sockets.unix.into());
    w.u8(filter.sockets.inet.into());
    w.u8(filter.sockets.netlink_route.into());
}

fn read_filter(r: &mut Reader<'_>) -> Result<FilterSpec, WireError> {
    Ok(FilterSpec {
        allowed: SyscallSet::from_le_bytes(r.array::<64>()?),
        exec: match r.u8()? {
            0 => Exec::Any,
            1 => Exec::Once,
            other => {
                return Err(WireError::Unknown {
                    field: "exec",
                    value: other.into(),
                });
            }
        },
        sockets: Sockets {
            unix: r.flag("unix")?,
            inet: r.flag("inet")?,
            netlink_route: r.flag("netlink")?,
        },
    })
}

impl Network {
    fn write(&self, w: &mut Writer) {
        match self {
            Network::Host => w.u8(0),
            Network::Own { sockets } => {
                w.u8(1);
                w.list(sockets, |w, socket| socket.write(w));
            }
        }
    }

    fn read(r: &mut Reader<'_>) -> Result<Self, WireError> {
        match r.u8()? {
            0 => Ok(Network::Host),
            1 => Ok(Network::Own {
                sockets: r.list("socket", SOCKETS_MAX, Socket::read)?,
            }),
            other => Err(WireError::Unknown {
                field: "network",
                value: other.into(),
            }),
        }
    }
}

impl Socket {
    fn write(&self, w: &mut Writer) {
        let (kind, address, port) = match *self {
            Socket::Tcp { address, port } => (0, address, port),
            Socket::Udp { address, port } => (1, address, port),
            Socket::Free => (2, [0; 4], 0),
        };
        w.u8(kind);
        w.put(&address);
        w.u16(port);
    }

    fn read(r: &mut Reader<'_>) -> Result<Self, WireError> {
        let (kind, address, port) = (r.u8()?, r.array::<4>()?, r.u16()?);
        match kind {
            0 => Ok(Socket::Tcp { address, port }),
            1 => Ok(Socket::Udp { address, port }),
            2 => Ok(Socket::Free),
            other => Err(WireError::Unknown {
                field: "socket",
                value: other.into(),
            }),
        }
    }
}

impl Step {
    fn write(&self, w: &mut Writer) {
        let mut head = |number: u8, target: &CString| {
            w.u8(number);
            w.text(target.as_bytes());
        };
        match self {
            Step::Dir { target, mode } => {
                head(0, target);
                w.u32(*mode);
            }
            Step::File {
                target,
                content,
                mode,
            } => {
                head(1, target);
                w.text(content);
                w.u32(*mode);
            }
            Step::Symlink { target, to } => {
                head(2, target);
                w.text(to.as_bytes());
            }
            Step::Tree {
                target,
                source,
                attributes,
            } => {
                head(3, target);
                write_source(w, source);
                w.u64(*attributes);
            }
            Step::Tmpfs {
                target,
                options,
                flags,
            } => {
                head(4, target);
                w.text(options.as_bytes());
                w.u64(*flags);
            }
            Step::Devpts { target, options } => {
                head(5, target);
                w.text(options.as_bytes());
            }
            Step::Proc { target, options } => {
                head(6, target);
                w.text(options.as_bytes());
            }
            Step::Mask { target } => head(7, target),
            Step::ReadOnly { target } => head(8, target),
        }
    }

    fn read(r: &mut Reader<'_>) -> Result<Self, WireError> {
        let number = r.u8()?;
        let target = r.text("target")?;
        Ok(match number {
            0 => Step::Dir {
                target,
                mode: r.u32()?,
            },
            1 => Step::File {
                target,
                content: r.bytes("content")?,
                mode: r.u32()?,
            },
            2 => Step::Symlink {
                target,
                to: r.text("link")?,
            },
            3 => Step::Tree {
                target,
                source: read_source(r)?,
                attributes: r.u64()?,
            },
            4 => Step::Tmpfs {
                target,
                options: r.text("options")?,
                flags: r.u64()?,
            },
            5 => Step::Devpts {
                target,
                options: r.text("options")?,
            },
            6 => Step::Proc {
                target,
                options: r.text("options")?,
            },
            7 => Step::Mask { target },
            8 => Step::ReadOnly { target },
            other => {
                return Err(WireError::Unknown {
                    field: "step",
                    value: other.into(),
                });
            }
        })
    }
}

fn write_source(w: &mut Writer, source: &Source) {
    match source {
        Source::Detached(index) => {
            w.u8(0);
            w.u16(*index);
        }
        Source::Path { path, dev, ino } => {
            w.u8(1);
            w.text(path.as_bytes());
            w.u64(*dev);
            w.u64(*ino);
        }
    }
}

fn read_source(r: &mut Reader<'_>) -> Result<Source, WireError> {
    Ok(match r.u8()? {
        0 => Source::Detached(r.u16()?),
        1 => Source::Path {
            path: r.text("source")?,
            dev: r.u64()?,
            ino: r.u64()?,
        },
        other => {
            return Err(WireError::Unknown {
                field: "source",
                value: other.into(),
            });
        }
    })
}

impl Trial {
    fn write(&self, w: &mut Writer) {
        let expected = match self {
            Trial::Read(path, errno) => {
                w.u8(0);
                w.text(path.as_bytes());
                errno
            }
            Trial::Create(path, errno) => {
                w.u8(1);
                w.text(path.as_bytes());
                errno
            }
            Trial::Call(nr, args, errno) => {
                w.u8(2);
                w.u16(*nr);
                for arg in args {
                    w.u64(*arg);
                }
                errno
            }
            Trial::Privilege => {
                w.u8(3);
                &None
            }
        };
        // No error has the number 0.
        w.i32(expected.unwrap_or(0));
    }

    fn read(r: &mut Reader<'_>) -> Result<Self, WireError> {
        let expected = |r: &mut Reader<'_>| Ok(Some(r.i32()?).filter(|errno| *errno != 0));
        Ok(match r.u8()? {
            0 => Trial::Read(r.text("trial")?, expected(r)?),
            1 => Trial::Create(r.text("trial")?, expected(r)?),
            2 => {
                let nr = r.u16()?;
                let args = [r.u64()?, r.u64()?, r.u64()?, r.u64()?, r.u64()?];
                Trial::Call(nr, args, expected(r)?)
            }
            3 => {
                expected(r)?;
                Trial::Privilege
            }
            other => {
                return Err(WireError::Unknown {
                    field: "trial",
                    value: other.into(),
                });
            }
        })
    }
}
