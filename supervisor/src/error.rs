//! Why a verb failed, in one message, and the exit code that goes with it.

use std::io;
use std::path::{Path, PathBuf};

use crate::run::{GrantError, Ground, LayerError, ProgramError, RuntimeError, code};
use crate::words;

/// A failure of a verb. Nothing runs any more when it is shown.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Failed {
    /// agent.yaml or a ring profile is wrong; the message has its own place.
    #[error("{0}")]
    Profile(#[from] profiles::Error),
    /// A file that was named cannot be read.
    #[error("{}: {error}{}", path.display(), remedy(path, error))]
    File { path: PathBuf, error: io::Error },
    /// A file that would be written over.
    #[error("{} is there already, and is not written over; remove it, or print another with --print", path.display())]
    Exists { path: PathBuf },
    /// A grant cannot be given.
    #[error("{origin}: {error}")]
    Grant { error: GrantError, origin: String },
    /// The command cannot be run.
    #[error("{origin}: {error}")]
    Program { error: ProgramError, origin: String },
    /// It cannot be told where the command's program is installed.
    #[error("{origin}: {error}")]
    Runtime { error: RuntimeError, origin: String },
    /// The workspace belongs to root, and the agent writes.
    #[error("{}: it belongs to root, and an agent never writes as root: give it to a user (chown), run as that user, or name a folder that does not exist yet, which is then made for the agent", path.display())]
    RootOwned { path: PathBuf },
    /// The workspace is a file.
    #[error("{origin}: the workspace `{}` is not a folder; name one", path.display())]
    NotAFolder { path: PathBuf, origin: String },
    /// A policy keeps the agent from its workspace.
    #[error("the workspace `{}` may not be read: {who}; allow `fs.read` there, or choose another workspace", path.display())]
    Unreadable { path: PathBuf, who: String },
    /// The workspace does not exist and cannot be made.
    #[error("{origin}: the workspace `{}` does not exist and cannot be made: {error}; create it", path.display())]
    Workspace {
        path: PathBuf,
        origin: String,
        error: io::Error,
    },
    /// `~` without a home.
    #[error("{origin}: `~` stands for your home, and HOME is not set; write the path out")]
    NoHome { origin: String },
    /// Another folder's agent has the home of this name.
    #[error(
        "the home of agent `{agent}` belongs to the agent.yaml in {by}; give this one another `name`, write `home: temporary`, or let it in once with --share-home"
    )]
    HomeOfOthers { agent: String, by: String },
    /// A policy is wrong; the message has its own place.
    #[error("{0}")]
    Policy(#[from] policy::Error),
    /// A policy cannot be read.
    #[error("{origin}: the policy `{}` cannot be read: {error}", path.display())]
    PolicyFile {
        path: PathBuf,
        origin: String,
        error: io::Error,
    },
    /// A command of an agent is held to what its agent was started with.
    #[error("{what} was changed since the run of its agent began; start that anew")]
    Changed { what: &'static str },
    /// The log cannot be opened, and nothing starts unrecorded.
    #[error("the audit log: {0}")]
    Log(#[from] audit::Error),
    /// agt-egress cannot be had.
    #[error("agt-egress cannot be started, and without it there is no network: {why}")]
    Egress { why: String },
    /// A port that is to be served is taken.
    #[error(
        "{origin}: port {port} of this host's loopback cannot be served: {error}; stop what uses it, or choose another"
    )]
    Port {
        port: u16,
        origin: String,
        error: io::Error,
    },
    /// `files.deny` cannot hide it.
    #[error("{origin}: `{}` cannot be hidden: {why}", path.display())]
    Deny {
        path: PathBuf,
        origin: String,
        why: &'static str,
    },
    /// A variable that is to be passed is not set.
    #[error(
        "{origin}: the variable `{name}` is not set; set it, or write `{name}?` if the agent can do without"
    )]
    Unset { name: String, origin: String },
    /// A variable cannot be given to a program.
    #[error("the variable `{name}` holds a NUL byte")]
    NulInVariable { name: String },
    /// A layer is missing on this host.
    #[error("{0}")]
    Layer(#[from] LayerError),
    /// A standard stream cannot be given to a ring.
    #[error("{0}")]
    Streams(io::Error),
    /// The ring could not be built.
    #[error("the ring could not be built: {what}: {why}{remedy}")]
    Stage {
        what: String,
        why: String,
        remedy: String,
        code: u8,
    },
    /// ringd ended before the agent began.
    #[error("agt-ringd ended before the agent began")]
    RingdLost,
    /// `--report` could not be written.
    #[error("--report {}: {error}", path.display())]
    Report { path: PathBuf, error: io::Error },
    /// A call of the supervisor itself.
    #[error("{what}: {error}")]
    Call {
        what: &'static str,
        error: io::Error,
    },
    /// What was asked for is not there.
    #[error("{0}")]
    NotFound(String),
    /// A live run said no.
    #[error("{why}")]
    Order { why: String, code: u8 },
}

impl Failed {
    /// For `map_err`: names what was being done.
    pub(crate) fn call(what: &'static str) -> impl FnOnce(io::Error) -> Self {
        move |error| Failed::Call { what, error }
    }

    /// For `map_err`: names the line that asked for the grant.
    pub(crate) fn grant(origin: &str) -> impl FnOnce(GrantError) -> Self {
        let origin = origin.to_owned();
        move |error| Failed::Grant { error, origin }
    }

    /// The offending line of the file, where there is one.
    pub(crate) fn excerpt(&self) -> Option<String> {
        let Failed::Profile(error) = self else {
            return None;
        };
        let profiles::Error::Wrong { file, .. } = error else {
            return None;
        };
        let text = std::fs::read_to_string(file).ok()?;
        error.excerpt(&text)
    }

    /// The exit code (DESIGN section 7).
    pub(crate) fn code(&self) -> u8 {
        match self {
            Failed::Profile(_)
            | Failed::File { .. }
            | Failed::Grant { .. }
            | Failed::RootOwned { .. }
            | Failed::NotAFolder { .. }
            | Failed::Unreadable { .. }
            | Failed::Workspace { .. }
            | Failed::NoHome { .. }
            | Failed::HomeOfOthers { .. }
            | Failed::Deny { .. }
            | Failed::Port { .. }
            | Failed::Policy(_)
            | Failed::PolicyFile { .. }
            | Failed::Changed { .. }
            | Failed::Unset { .. }
            | Failed::NulInVariable { .. }
            | Failed::Streams(_) => code::WRONG,
            Failed::Program {
                error: ProgramError::NotFound { .. },
                ..
            }
            | Failed::Runtime {
                error: RuntimeError::NotFound { .. } | RuntimeError::Missing { .. },
                ..
            } => code::NOT_FOUND,
            Failed::Runtime { .. } | Failed::Program { .. } => code::NOT_RUNNABLE,
            Failed::Stage { code, .. } | Failed::Order { code, .. } => *code,
            Failed::Exists { .. } => 1,
            Failed::NotFound(_) => 3,
            Failed::Log(_)
            | Failed::Egress { .. }
            | Failed::Layer(_)
            | Failed::RingdLost
            | Failed::Report { .. }
            | Failed::Call { .. } => code::FAILED,
        }
    }

    /// What the child's last words mean for people.
    pub(crate) fn stage(ground: &Ground, stage: u16, index: u16, errno: i32) -> Self {
        let stage = jail::Stage::ALL
            .into_iter()
            .find(|one| *one as u16 == stage);
        let index = usize::from(index);
        let what = match stage {
            None => "cloning it".to_owned(),
            Some(jail::Stage::Mount) => ground.root.step(index),
            Some(jail::Stage::LandlockRule) => ground.root.rule_words(index),
            Some(jail::Stage::SelfTest) => ground.trial(index),
            Some(jail::Stage::WorkingDirectory) => {
                format!(
                    "entering `{}` as uid {}",
                    ground.workspace.display(),
                    ground.uid
                )
            }
            Some(jail::Stage::Exec) => format!("running `{}`", ground.program.path.display()),
            Some(stage) => format!("{stage:?}"),
        };
        let why = match (stage, errno) {
            (Some(jail::Stage::SelfTest), 0) => "it was possible, and must not be".to_owned(),
            (_, 0) => "it ended without a word".to_owned(),
            (_, errno) => words::errno(errno),
        };
        let remedy = match (stage, errno) {
            (None, EPERM | ENOSPC | EUSERS) => {
                "; user namespaces are not to be had here: see `agt-supervisor doctor`"
            }
            (Some(jail::Stage::Mount), ESTALE) => {
                "; it was replaced while the ring was being built: start again"
            }
            (Some(jail::Stage::WorkingDirectory), EACCES) => {
                "; make the folder readable for that user, or choose another `workspace`"
            }
            _ => "",
        };
        let code = match (stage, errno) {
            (Some(jail::Stage::Exec), ENOENT) => code::NOT_FOUND,
            (Some(jail::Stage::Exec), _) => code::NOT_RUNNABLE,
            _ => code::FAILED,
        };
        Failed::Stage {
            what,
            why,
            remedy: remedy.to_owned(),
            code,
        }
    }
}

/// What helps when a file cannot be read or made.
fn remedy(path: &Path, error: &io::Error) -> &'static str {
    let kind = error.kind();
    if kind == io::ErrorKind::AlreadyExists {
        "; it is not written over: remove it, or name another"
    } else if kind != io::ErrorKind::NotFound {
        ""
    } else if path.file_name().is_some_and(|name| name == "agent.yaml") {
        "; write one with `agt-supervisor init`, or name one that exists"
    } else {
        "; name one that exists"
    }
}

const EPERM: i32 = 1;
const ENOENT: i32 = 2;
const EACCES: i32 = 13;
const ENOSPC: i32 = 28;
const EUSERS: i32 = 87;
const ESTALE: i32 = 116;
