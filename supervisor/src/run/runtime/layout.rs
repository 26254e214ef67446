//! The known layouts: which folder belongs to a program, told by where it lies and what is in it.

use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};

use super::host::{Host, is_executable};

/// What a path is shown as.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Why {
    Venv,
    UvTool,
    Pipx,
    PyenvVersion,
    UvPython,
    AsdfInstall,
    MiseInstall,
    NvmNode,
    FnmNode,
    VoltaNode,
    RustToolchain,
    NpmGlobal,
    NodeModules,
    Pnpm,
    Conda,
    Homebrew,
    Nix,
    Python,
    Node,
    PipUser,
    CargoBin,
    File,
}

impl Why {
    /// For people.
    pub(crate) fn words(self) -> &'static str {
        match self {
            Why::Venv => "virtual environment",
            Why::UvTool => "uv tool",
            Why::Pipx => "pipx environment",
            Why::PyenvVersion => "pyenv version",
            Why::UvPython => "uv Python",
            Why::AsdfInstall => "asdf install",
            Why::MiseInstall => "mise install",
            Why::NvmNode => "nvm Node",
            Why::FnmNode => "fnm Node",
            Why::VoltaNode => "Volta Node",
            Why::RustToolchain => "Rust toolchain",
            Why::NpmGlobal => "global npm packages",
            Why::NodeModules => "npm packages",
            Why::Pnpm => "pnpm packages",
            Why::Conda => "conda environment",
            Why::Homebrew => "Homebrew",
            Why::Nix => "Nix store",
            Why::Python => "Python installation",
            Why::Node => "Node installation",
            Why::PipUser => "pip --user packages",
            Why::CargoBin => "cargo bin",
            Why::File => "program file",
        }
    }

    pub(super) fn is_venv(self) -> bool {
        matches!(self, Why::Venv | Why::UvTool | Why::Pipx)
    }

    pub(super) fn is_npm(self) -> bool {
        matches!(
            self,
            Why::NpmGlobal | Why::NodeModules | Why::NvmNode | Why::Pnpm
        )
    }

    /// What activating it would set to its prefix.
    pub(super) fn variable(self) -> Option<&'static str> {
        match self {
            Why::Venv => Some("VIRTUAL_ENV"),
            Why::Conda => Some("CONDA_PREFIX"),
            Why::UvTool
            | Why::Pipx
            | Why::PyenvVersion
            | Why::UvPython
            | Why::AsdfInstall
            | Why::MiseInstall
            | Why::NvmNode
            | Why::FnmNode
            | Why::VoltaNode
            | Why::RustToolchain
            | Why::NpmGlobal
            | Why::NodeModules
            | Why::Pnpm
            | Why::Homebrew
            | Why::Nix
            | Why::Python
            | Why::Node
            | Why::PipUser
            | Why::CargoBin
            | Why::File => None,
        }
    }
}

/// A recognised installation.
#[derive(Debug)]
pub(super) struct Layout {
    pub(super) prefix: PathBuf,
    pub(super) why: Why,
}

/// A manager's folder: its variable, its usual place below home, what follows, how many more names
/// make one installation.
struct Managed(&'static str, &'static str, &'static str, usize, Why);

const MANAGED: [Managed; 9] = [
    Managed("PYENV_ROOT", ".pyenv", "versions", 1, Why::PyenvVersion),
    Managed(
        "UV_PYTHON_INSTALL_DIR",
        ".local/share/uv/python",
        "",
        1,
        Why::UvPython,
    ),
    Managed("ASDF_DATA_DIR", ".asdf", "installs", 2, Why::AsdfInstall),
    Managed(
        "MISE_DATA_DIR",
        ".local/share/mise",
        "installs",
        2,
        Why::MiseInstall,
    ),
    Managed("NVM_DIR", ".nvm", "versions/node", 1, Why::NvmNode),
    Managed(
        "FNM_DIR",
        ".local/share/fnm",
        "node-versions",
        1,
        Why::FnmNode,
    ),
    Managed(
        "VOLTA_HOME",
        ".volta",
        "tools/image/node",
        1,
        Why::VoltaNode,
    ),
    Managed(
        "RUSTUP_HOME",
        ".rustup",
        "toolchains",
        1,
        Why::RustToolchain,
    ),
    // Its programs are scripts beside its packages.
    Managed("PNPM_HOME", ".local/share/pnpm", "", 0, Why::Pnpm),
];

/// The installation that a file in a canonical folder is part of.
pub(super) fn of(host: &Host<'_>, file: &Path) -> Option<Layout> {
    venv(file)
        .or_else(|| managed(host, file))
        .or_else(|| npm(host, file))
        .or_else(|| shared(file))
        .or_else(|| by_content(host, file))
}

/// The folder above `bin`.
fn above_bin(file: &Path) -> Option<&Path> {
    let bin = file.parent()?;
    (bin.file_name() == Some(OsStr::new("bin")))
        .then(|| bin.parent())
        .flatten()
}

fn venv(file: &Path) -> Option<Layout> {
    let prefix = above_bin(file)?;
    let meta = fs::symlink_metadata(prefix.join("pyvenv.cfg")).ok()?;
    if meta.is_dir() {
        return None;
    }
    let above = prefix.parent()?;
    let why = if above.ends_with("uv/tools") {
        Why::UvTool
    } else if above.ends_with("pipx/venvs") {
        Why::Pipx
    } else {
        Why::Venv
    };
    Some(Layout {
        prefix: prefix.to_owned(),
        why,
    })
}

fn managed(host: &Host<'_>, file: &Path) -> Option<Layout> {
    MANAGED
        .iter()
        .find_map(|Managed(variable, usual, below, names, why)| {
            let place = host.root(variable, usual)?.join(below);
            let mut rest = file.strip_prefix(&place).ok()?.components();
            let prefix = rest
                .by_ref()
                .take(*names)
                .fold(place.clone(), |path, part| path.join(part));
            // Of a file in a canonical folder it is the folder itself, never a link to another.
            rest.next()
                .is_some()
                .then_some(Layout { prefix, why: *why })
        })
}

/// Packages see each other, so that all of them belong to one.
fn npm(host: &Host<'_>, file: &Path) -> Option<Layout> {
    let is_modules = |path: &&Path| path.file_name() == Some(OsStr::new("node_modules"));
    let modules = file.ancestors().skip(1).filter(is_modules).last()?;
    let lib = modules.parent()?;
    let global = lib.parent().filter(|prefix| {
        lib.file_name() == Some(OsStr::new("lib"))
            && is_npm_prefix(prefix)
            && host.is_too_wide(prefix).is_none()
    });
    Some(match global {
        Some(prefix) => Layout {
            prefix: prefix.to_owned(),
            why: Why::NpmGlobal,
        },
        None => Layout {
            prefix: modules.to_owned(),
            why: Why::NodeModules,
        },
    })
}

/// npm links programs of global packages into `bin`; a project with folders of these names does not.
fn is_npm_prefix(prefix: &Path) -> bool {
    let is_npm_link = |entry: fs::DirEntry| {
        fs::read_link(entry.path()).is_ok_and(|to| to.starts_with("../lib/node_modules"))
    };
    fs::read_dir(prefix.join("bin")).is_ok_and(|dir| dir.flatten().any(is_npm_link))
}

/// Package managers with a tree of their own, where anything may need anything.
fn shared(file: &Path) -> Option<Layout> {
    let nix = Path::new("/nix/store");
    if file.starts_with(nix) {
        return Some(Layout {
            prefix: nix.to_owned(),
            why: Why::Nix,
        });
    }
    let is_brew = |path: &&Path| path.join("Cellar").is_dir() && path.join("bin/brew").exists();
    let prefix = file.ancestors().skip(1).find(is_brew)?;
    Some(Layout {
        prefix: prefix.to_owned(),
        why: Why::Homebrew,
    })
}

fn by_content(host: &Host<'_>, file: &Path) -> Option<Layout> {
    let prefix = above_bin(file)?;
    let why = if is_conda(prefix) {
        Why::Conda
    } else if is_python(prefix) {
        Why::Python
    } else if is_node(prefix) && !is_local(host, prefix) {
        Why::Node
    } else {
        return None;
    };
    Some(Layout {
        prefix: prefix.to_owned(),
        why,
    })
}

/// A Node unpacked into `~/.local` needs no more than its own file.
fn is_local(host: &Host<'_>, prefix: &Path) -> bool {
    let local = host.home.as_ref().map(|home| home.join(".local"));
    local.is_some_and(|local| local == prefix)
}

pub(super) fn is_conda(prefix: &Path) -> bool {
    prefix.join("conda-meta/history").is_file()
}

/// A whole Python: only that has the standard library, a virtual environment does not.
pub(super) fn is_python(prefix: &Path) -> bool {
    let is_library = |entry: fs::DirEntry| {
        let name = entry.file_name();
        let name = name.to_string_lossy();
        (name.starts_with("python3") || name.starts_with("pypy3"))
            && entry.path().join("os.py").is_file()
    };
    ["lib", "lib64"]
        .iter()
        .any(|lib| fs::read_dir(prefix.join(lib)).is_ok_and(|dir| dir.flatten().any(is_library)))
}

fn is_node(prefix: &Path) -> bool {
    prefix.join("include/node/node_version.h").is_file()
        || prefix.join("lib/node_modules/npm/package.json").is_file()
}

/// A Python in a folder of programs.
pub(super) fn python_in(folder: &Path) -> Option<PathBuf> {
    let usual = ["python3", "python", "pypy3"].map(|name| folder.join(name));
    if let Some(found) = usual.into_iter().find(|path| is_executable(path)) {
        return Some(found);
    }
    let is_python = |path: &PathBuf| {
        let name = path.file_name().map(OsStr::to_string_lossy);
        name.is_some_and(|name| is_versioned(&name)) && is_executable(path)
    };
    let all = fs::read_dir(folder).ok()?.flatten();
    all.map(|entry| entry.path()).filter(is_python).min()
}

/// `python3.12`, say.
fn is_versioned(name: &str) -> bool {
    name.strip_prefix("python3.")
        .is_some_and(|minor| !minor.is_empty() && minor.bytes().all(|b| b.is_ascii_digit()))
}

/// A program that stands alone is shown alone.
pub(super) fn of_file(host: &Host<'_>, file: &Path) -> Why {
    let cargo = host.root("CARGO_HOME", ".cargo");
    if cargo.is_some_and(|cargo| file.starts_with(cargo.join("bin"))) {
        Why::CargoBin
    } else {
        Why::File
    }
}

/// Interpreters of one file that a script may ask for by name, whoever wrote the script.
pub(super) fn is_interpreter(file: &Path) -> bool {
    let name = file.file_name().and_then(OsStr::to_str);
    name.is_some_and(|name| matches!(name, "bun" | "deno" | "node" | "uv"))
}

/// The folder of a user's own packages, for a script that pip put beside them; and their base.
pub(super) fn user_site(
    host: &Host<'_>,
    script: &Path,
    interpreter: &Path,
) -> Option<(PathBuf, PathBuf)> {
    let base = host.home.as_ref()?.join(".local");
    let version = interpreter.file_name()?.to_str()?;
    let packages = base.join("lib").join(version);
    let is_there = script.parent() == Some(&base.join("bin"))
        && is_versioned(version)
        && packages.join("site-packages").is_dir()
        && packages.canonicalize().is_ok_and(|real| real == packages);
    is_there.then_some((base, packages))
}
