//! The command line.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Args, CommandFactory, Parser, Subcommand};
use profiles::Agent;

use crate::approvals::Word;
use crate::error::Failed;
use crate::reference::line;
use crate::run::{self, Options, Request};
use crate::{audit_cli, banner, doctor, explain, init, live, logs, policies, reference, rings};

/// Runs AI agents inside rings that the Linux kernel enforces, and ends them, all of them.
#[derive(Debug, Parser)]
#[command(name = "agt-supervisor", version, max_term_width = 100)]
#[command(
    after_help = "Exit codes of `run`: the agent's own, 128+n when a signal ended it; 2 a \
file or flag is wrong; 121 killed by policy, for a loop, or because something hidden was replaced; 122 a budget or its \
output limit was passed; 123 supervision lost; 124 wall time over; 125 the supervisor failed or a layer cannot be \
applied; 126 the command cannot be run; 127 command not found. Out of memory is 137, a SIGKILL, \
and is said so. Other verbs: 0 fine, 1 no, 2 usage, 3 not found, 9 this host cannot enforce."
)]
struct Cli {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Run an agent in its ring, in the foreground
    Run(RunArgs),
    /// Write an agent.yaml for a folder, by what is in it
    Init {
        /// The folder
        #[arg(default_value = ".")]
        dir: PathBuf,
        /// claude-code, codex, node-agent, python-agent or shell
        #[arg(long)]
        preset: Option<String>,
        /// Print it instead
        #[arg(long)]
        print: bool,
    },
    /// Look at an agent.yaml and say what is wrong with it
    Check {
        /// The agent.yaml
        #[arg(default_value = "agent.yaml")]
        file: PathBuf,
    },
    /// Look at rings, and try them
    #[command(subcommand)]
    Ring(RingVerb),
    /// Say whether something would be allowed, which layer says so, and which line would change it
    Explain {
        /// The agent.yaml
        file: PathBuf,
        /// A path, `HOST:PORT`, a URL, `syscall:NAME`, or `tool:NAME {JSON}`
        what: String,
    },
    /// Look at policies, and try them
    #[command(subcommand)]
    Policy(PolicyVerb),
    /// Read and check the logs of runs
    #[command(subcommand)]
    Audit(audit_cli::Verb),
    /// List the runs that live
    Ps {
        /// As JSON
        #[arg(long)]
        json: bool,
    },
    /// Let a run stand still: all of its processes
    Freeze {
        /// An agent's name, or a run's
        name: String,
        /// For the record
        #[arg(long, default_value = "")]
        reason: String,
    },
    /// Let it go on; loops, violations and budgets count from there
    Thaw {
        /// An agent's name, or a run's
        name: String,
        /// For the record
        #[arg(long, default_value = "")]
        reason: String,
    },
    /// Kill all of a run, and return when it is gone
    Kill {
        /// An agent's name, or a run's
        name: String,
        /// For the record
        #[arg(long, default_value = "")]
        reason: String,
    },
    /// Send a run a governance signal
    Signal {
        /// An agent's name, or a run's
        name: String,
        /// STOP, CONT, INT, KILL, TERM, USR1, USR2, POLICY, BUDGET or LOOP, or its number
        signal: String,
        /// For the record
        #[arg(long, default_value = "")]
        reason: String,
    },
    /// Let a run read its policies again; when one is wrong, those in force stay
    Reload {
        /// An agent's name, or a run's
        name: String,
    },
    /// Show the actions that wait to be approved by you
    Approvals {
        /// This one, whole
        id: Option<String>,
        /// As JSON
        #[arg(long)]
        json: bool,
    },
    /// Let a held action go ahead, once
    Approve {
        /// As `approvals` shows it
        id: String,
    },
    /// Refuse a held action
    Deny {
        /// As `approvals` shows it
        id: String,
        /// What the agent is told
        #[arg(long, default_value = "somebody said no")]
        reason: String,
    },
    /// The keys that sign the logs
    Keys {
        /// Go on with a new key
        #[arg(long)]
        rotate: bool,
    },
    /// Say what this host can enforce, and what to do about the rest
    Doctor {
        /// As JSON
        #[arg(long)]
        json: bool,
    },
    /// Print the JSON Schema of agent.yaml (or of ring profiles)
    Schema {
        /// Of ring profiles
        #[arg(long)]
        ring: bool,
    },
    /// Print completions for a shell
    Completions {
        /// bash, zsh, fish, elvish or powershell
        shell: clap_complete::Shell,
    },
    /// Print the manual page
    Man,
    /// Run one command of a live agent in a ring of its own (the agent's supervisor starts it)
    #[command(hide = true)]
    Work(WorkArgs),
    /// Try probes from inside a ring (`ring test` starts it)
    #[command(hide = true)]
    Probe {
        /// read|write|exec:PATH, connect:HOST:PORT or resolve:HOST
        probes: Vec<String>,
    },
}

#[derive(Debug, Args)]
struct RunArgs {
    /// The agent.yaml [default: agent.yaml]
    #[arg(conflicts_with_all = ["ring", "workspace"])]
    file: Option<PathBuf>,
    /// Ring of a command without a file: 1, 2, 3, or a name
    #[arg(long, requires = "command")]
    ring: Option<String>,
    /// Workspace of a command without a file
    #[arg(long, requires = "command")]
    workspace: Option<PathBuf>,
    /// No banner and no closing line
    #[arg(long, short)]
    quiet: bool,
    /// Write the cause of the end there, as JSON
    #[arg(long, value_name = "FILE")]
    report: Option<PathBuf>,
    /// Let this agent.yaml use the home that another folder's agent of the same name has
    #[arg(long)]
    share_home: bool,
    /// With a file: more arguments of its command. Without: a command; no agent.yaml is read, and the
    /// ring is 3 unless --ring says so
    #[arg(last = true)]
    command: Vec<String>,
}

#[derive(Debug, Args)]
struct WorkArgs {
    /// The agent.yaml
    file: PathBuf,
    /// What its relative paths are relative to
    #[arg(long)]
    base: PathBuf,
    /// Its SHA-256
    #[arg(long)]
    digest: String,
    /// The hash of the policies in force
    #[arg(long)]
    policies: String,
    /// What the agent carries
    #[arg(long)]
    label: Vec<String>,
    /// Its ring for this command
    #[arg(long)]
    ring: String,
    /// How long it may run
    #[arg(long)]
    most_ms: u64,
    /// The run that asks
    #[arg(long)]
    of: String,
    /// Its supervisor
    #[arg(long)]
    parent: i32,
    #[arg(last = true, required = true)]
    command: Vec<String>,
}

#[derive(Debug, Subcommand)]
enum PolicyVerb {
    /// Say what each rule is, who enforces it, and what is odd
    Check {
        /// The policies
        #[arg(required = true)]
        files: Vec<PathBuf>,
    },
    /// Hold policies to a table of actions and verdicts
    Test {
        /// The policies
        #[arg(required = true)]
        files: Vec<PathBuf>,
        /// The table: `version: 1` and `tests: [{action: {…}, verdict: …}]`
        #[arg(long)]
        table: PathBuf,
    },
    /// Decide: one JSON action per line in, one JSON decision per line out
    Eval {
        /// The policies
        #[arg(required = true)]
        files: Vec<PathBuf>,
    },
}

#[derive(Debug, Subcommand)]
enum RingVerb {
    /// List the rings of this host
    List {
        /// As JSON
        #[arg(long)]
        json: bool,
    },
    /// Show what a ring means
    Show {
        /// 1, 2, 3, a name, or the file of one that is not installed
        ring: String,
        /// With everything filled in
        #[arg(long)]
        effective: bool,
        /// As JSON
        #[arg(long)]
        json: bool,
    },
    /// Write the beginning of a profile: every key with what the parent says
    New {
        /// Of the new ring
        name: String,
        /// The ring that it starts from: 1, 2, 3, a name, or a file
        #[arg(long, value_name = "RING")]
        extends: String,
        /// Write it there, where nothing is yet
        #[arg(long, value_name = "FILE")]
        out: Option<PathBuf>,
    },
    /// Look over profiles that are not installed yet: 0 fine, 1 warnings, 2 wrong
    Lint {
        /// Profiles
        #[arg(required_unless_present = "dir", value_name = "FILE")]
        files: Vec<PathBuf>,
        /// All profiles of a folder
        #[arg(long, value_name = "DIR")]
        dir: Option<PathBuf>,
    },
    /// Say what an agent may do more or less in one ring than in another: 0 the same, 1 not
    Diff {
        /// 1, 2, 3, a name, or a file
        a: String,
        /// 1, 2, 3, a name, or a file
        b: String,
        /// As JSON
        #[arg(long)]
        json: bool,
    },
    /// Run a ring's own probes inside it
    Test {
        /// 1, 2, 3, a name, or the file of one that is not installed
        ring: String,
        /// As JSON
        #[arg(long)]
        json: bool,
    },
    /// Say how exposed the host is to an agent in this ring, 0 (nothing) to 10
    Score {
        /// 1, 2, 3, a name, or the file of one that is not installed
        ring: String,
        /// As JSON
        #[arg(long)]
        json: bool,
    },
}

/// Reads the command line and does what it says.
pub(crate) fn main() -> ExitCode {
    let cli = Cli::parse();
    let done = match cli.verb {
        Verb::Run(args) => run_verb(&args),
        Verb::Init { dir, preset, print } => init::init(&dir, preset.as_deref(), print),
        Verb::Check { file } => check(&file),
        Verb::Ring(verb) => ring_verb(&verb),
        Verb::Explain { file, what } => request(&file).and_then(|r| explain::explain(&r, &what)),
        Verb::Policy(verb) => policy_verb(&verb),
        Verb::Audit(verb) => audit_cli::main(verb),
        Verb::Ps { json } => live::ps(json),
        Verb::Freeze { name, reason } => live::signal(&name, "STOP", &reason),
        Verb::Thaw { name, reason } => live::signal(&name, "CONT", &reason),
        Verb::Kill { name, reason } => live::kill(&name, &reason),
        Verb::Signal {
            name,
            signal,
            reason,
        } => live::signal(&name, &signal, &reason),
        Verb::Reload { name } => live::reload(&name),
        Verb::Approvals { id, json } => live::waiting(id.as_deref(), json),
        Verb::Approve { id } => live::answer(&id, Word::Yes),
        Verb::Deny { id, reason } => live::answer(&id, Word::No { reason }),
        Verb::Keys { rotate: false } => logs::list_keys(),
        Verb::Keys { rotate: true } => logs::rotate_key(),
        Verb::Doctor { json } => doctor::doctor(json),
        Verb::Schema { ring } => reference::schema(ring),
        Verb::Completions { shell } => reference::completions(&mut Cli::command(), shell),
        Verb::Man => reference::man(Cli::command()),
        Verb::Work(args) => work(args),
        Verb::Probe { probes } => Ok(rings::probe(&probes)),
    };
    match done {
        Ok(code) => ExitCode::from(code),
        Err(failed) => {
            banner::error(&failed);
            ExitCode::from(failed.code())
        }
    }
}

fn run_verb(args: &RunArgs) -> Result<u8, Failed> {
    let options = Options {
        quiet: args.quiet,
        report: args.report.clone(),
        share_home: args.share_home,
    };
    let request = match &args.file {
        Some(file) => {
            let mut request = request(file)?;
            request.ring.command.extend(args.command.iter().cloned());
            request
        }
        None if args.command.is_empty() => request(Path::new("agent.yaml"))?,
        None => from_command(args)?,
    };
    run::run(&request, &options)
}

/// A worker dies with the supervisor that wants it.
fn work(args: WorkArgs) -> Result<u8, Failed> {
    use rustix::process::{Signal, getppid, set_parent_process_death_signal};
    set_parent_process_death_signal(Some(Signal::KILL))
        .map_err(|error| Failed::call("a worker")(error.into()))?;
    if getppid().map(|pid| pid.as_raw_nonzero().get()) != Some(args.parent) {
        return Err(Failed::RingdLost);
    }
    let bytes = read_bounded(&args.file)?;
    let file = agent_file(&args.file, &bytes);
    if file.digest != args.digest {
        return Err(Failed::Changed { what: "agent.yaml" });
    }
    let agent = profiles::parse_agent(&args.file.to_string_lossy(), &bytes)?;
    let most = profiles::Milliseconds(args.most_ms);
    let agent = agent.worker(&args.ring, args.command, most);
    let rings = rings::load()?;
    let request = Request {
        ring: profiles::resolve(&agent, &rings)?,
        base: args.base,
        file: Some(file),
        of: Some(run::Parent {
            run: args.of,
            policies: args.policies,
            labels: args.label,
        }),
    };
    let options = Options {
        quiet: true,
        ..Options::default()
    };
    run::run(&request, &options)
}

fn from_command(args: &RunArgs) -> Result<Request, Failed> {
    let ring = args.ring.as_deref().unwrap_or("sandbox");
    let workspace = args.workspace.clone().unwrap_or_else(|| PathBuf::from("."));
    let agent = Agent::from_command(args.command.clone(), ring, workspace)?;
    let rings = rings::load()?;
    let ring = profiles::resolve(&agent, &rings)?;
    Ok(Request {
        ring,
        base: PathBuf::from("."),
        file: None,
        of: None,
    })
}

/// Reads an agent.yaml and meets it with its ring.
fn request(file: &Path) -> Result<Request, Failed> {
    let bytes = read_bounded(file)?;
    let agent = profiles::parse_agent(&file.to_string_lossy(), &bytes)?;
    let rings = rings::load()?;
    let ring = profiles::resolve(&agent, &rings)?;
    Ok(Request {
        ring,
        base: run::base_of(file),
        file: Some(agent_file(file, &bytes)),
        of: None,
    })
}

fn agent_file(path: &Path, bytes: &[u8]) -> run::AgentFile {
    run::AgentFile {
        path: path.to_owned(),
        digest: audit::hex(&audit::sha256(bytes)),
    }
}

/// One byte more than is taken shows that a file is too large without reading the rest of it.
pub(crate) fn read_bounded(file: &Path) -> Result<Vec<u8>, Failed> {
    use std::io::Read;
    use std::os::unix::fs::OpenOptionsExt;
    let failed = |error| Failed::File {
        path: file.to_owned(),
        error,
    };
    let mut bytes = Vec::new();
    let most = profiles::FILE_BYTES_MAX as u64 + 1;
    // Not blocking on a FIFO that nobody writes to.
    let flags = i32::try_from(rustix::fs::OFlags::NONBLOCK.bits()).unwrap_or(0);
    let mut options = std::fs::OpenOptions::new();
    let open = options
        .read(true)
        .custom_flags(flags)
        .open(file)
        .map_err(failed)?;
    if !open.metadata().map_err(failed)?.is_file() {
        return Err(failed(std::io::Error::other("it is not a file")));
    }
    open.take(most).read_to_end(&mut bytes).map_err(failed)?;
    Ok(bytes)
}

fn check(file: &Path) -> Result<u8, Failed> {
    let request = request(file)?;
    run::check(&request)?;
    line!(
        "{}: fine: {} in ring {}",
        file.display(),
        request.ring.name,
        request.ring.ring
    );
    Ok(0)
}

fn policy_verb(verb: &PolicyVerb) -> Result<u8, Failed> {
    match verb {
        PolicyVerb::Check { files } => policies::check(files),
        PolicyVerb::Test { files, table } => policies::test(files, table),
        PolicyVerb::Eval { files } => policies::eval(files),
    }
}

fn ring_verb(verb: &RingVerb) -> Result<u8, Failed> {
    match verb {
        RingVerb::List { json } => rings::list(*json),
        RingVerb::Show {
            ring,
            effective,
            json,
        } => rings::show(ring, *effective, *json),
        RingVerb::New { name, extends, out } => rings::new(name, extends, out.as_deref()),
        RingVerb::Lint { files, dir } => rings::lint(files, dir.as_deref()),
        RingVerb::Diff { a, b, json } => rings::diff(a, b, *json),
        RingVerb::Test { ring, json } => rings::test(ring, *json),
        RingVerb::Score { ring, json } => rings::score(ring, *json),
    }
}
