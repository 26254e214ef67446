//! Why the runtime of a command was not found, or was found and is not shown.

use std::io;
use std::path::PathBuf;

/// Each message ends with what to write instead.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RuntimeError {
    #[error(
        "command `{name}` is in no folder of PATH; install it, or write its absolute path in `command`"
    )]
    NotFound { name: String },
    #[error("`{}` leads to `{}`, which does not exist; install the program again, or name another in `command`", path.display(), reached.display())]
    Missing { path: PathBuf, reached: PathBuf },
    #[error("`{}` cannot be read: {error}; change its permissions, or name another program in `command`", path.display())]
    Unreadable { path: PathBuf, error: io::Error },
    #[error("`{}` cannot be run: {why}; make it a program (chmod +x), or name another in `command`", path.display())]
    NotRunnable { path: PathBuf, why: &'static str },
    #[error("`{}` leads through more than 40 links and interpreters, or in a circle; name the final program in `command`", path.display())]
    Loop { path: PathBuf },
    #[error("the first line of `{}` {why}; name its interpreter in `command`", script.display())]
    Shebang { script: PathBuf, why: &'static str },
    #[error("`{}` asks for the interpreter `{interpreter}`, which is in no folder of PATH; install it, or name another in `command`", script.display())]
    Interpreter {
        script: PathBuf,
        interpreter: String,
    },
    #[error("`{}` belongs to `{}`, and that is not shown to an agent: {why}; write `runtime: none`, and what the program needs in `files.read`", program.display(), prefix.display())]
    TooWide {
        program: PathBuf,
        prefix: PathBuf,
        why: &'static str,
    },
    #[error("`{}` was chosen by a file that an agent may have written, and is part of no known kind of installation; name it in `command`, or write `runtime: none` and list it in `files.read`", path.display())]
    Unrecognised { path: PathBuf },
    #[error("`{}`: {why}, or write `runtime: none` and list what the program needs in `files.read`", config.display())]
    Venv { config: PathBuf, why: &'static str },
    #[error(
        "`{source_name}` names the version `{version}`, {why}; write one that is installed, or the program's own path in `command`"
    )]
    Version {
        /// The file or the variable.
        source_name: String,
        version: String,
        why: &'static str,
    },
    #[error("`{}` does not say which version it stands for: {why}; write the program's own path in `command` (`{remedy}` prints it)", shim.display())]
    Shim {
        shim: PathBuf,
        why: &'static str,
        remedy: String,
    },
    #[error("a `#!` line or `pyvenv.cfg` names `{}`, a version manager's stand-in, which does nothing inside a ring; name the interpreter's own path in `command`", path.display())]
    LiteralShim { path: PathBuf },
    #[error("`{}` leads through the link `{}`, which is not made again inside a ring; name the final path in `command`", path.display(), link.display())]
    Link { path: PathBuf, link: PathBuf },
    #[error("`{}` is not UTF-8 text; rename it, or write `runtime: none` and list what the program needs in `files.read`", path.display())]
    NotText { path: PathBuf },
}
