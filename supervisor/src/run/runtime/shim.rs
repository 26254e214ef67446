//! Version managers' stand-ins: scripts that choose a program when they run. The choice is made
//! here by the same files, and only among what the manager has installed.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use super::error::RuntimeError;
use super::files;
use super::host::{Host, is_executable};

const NAME_MAX: usize = 128;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Manager {
    Pyenv,
    Asdf,
    /// Not followed; the command that prints the program.
    Other(&'static str),
}

/// A stand-in.
#[derive(Debug)]
pub(super) struct Shim {
    manager: Manager,
    root: PathBuf,
    path: PathBuf,
    name: String,
}

/// The stand-in at this place, if it is one.
pub(super) fn of(host: &Host<'_>, path: &Path) -> Option<Shim> {
    let folder = path.parent()?;
    if host.in_system(path) {
        return None;
    }
    let lies_in = |variable, usual, below: &str| {
        host.root(variable, usual)
            .filter(|root| folder == root.join(below))
    };
    let (manager, root) = if let Some(root) = lies_in("PYENV_ROOT", ".pyenv", "shims") {
        (Manager::Pyenv, root)
    } else if let Some(root) = lies_in("ASDF_DATA_DIR", ".asdf", "shims") {
        (Manager::Asdf, root)
    } else if let Some(root) = lies_in("MISE_DATA_DIR", ".local/share/mise", "shims") {
        (Manager::Other("mise which"), root)
    } else if let Some(root) = lies_in("VOLTA_HOME", ".volta", "bin") {
        if path.file_name() == Some(OsStr::new("volta")) {
            return None;
        }
        (Manager::Other("volta which"), root)
    } else if let Some(root) = lies_in("CARGO_HOME", ".cargo", "bin") {
        if !is_rustup_proxy(path) {
            return None;
        }
        (Manager::Other("rustup which"), root)
    } else if folder.file_name() == Some(OsStr::new("shims")) {
        (Manager::Other("its manager's which"), folder.to_owned())
    } else {
        return None;
    };
    Some(Shim {
        manager,
        root,
        path: path.to_owned(),
        name: path.file_name()?.to_str()?.to_owned(),
    })
}

/// All of them are the one binary.
fn is_rustup_proxy(path: &Path) -> bool {
    let rustup = path.with_file_name("rustup");
    let id = |path: &Path| fs::metadata(path).map(|meta| (meta.dev(), meta.ino()));
    match (id(path), id(&rustup)) {
        (Ok(one), Ok(other)) => one == other && path != rustup,
        (Err(_), _) | (_, Err(_)) => false,
    }
}

impl Shim {
    pub(super) fn refuse_literal(&self, path: &Path) -> RuntimeError {
        RuntimeError::LiteralShim {
            path: path.to_owned(),
        }
    }

    fn refuse(&self, why: &'static str, which: &str) -> RuntimeError {
        RuntimeError::Shim {
            shim: self.path.clone(),
            why,
            remedy: format!("{which} {}", self.name),
        }
    }

    /// The program that it would run.
    pub(super) fn resolve(&self, host: &Host<'_>) -> Result<PathBuf, RuntimeError> {
        match self.manager {
            Manager::Pyenv => self.pyenv(host),
            Manager::Asdf => self.asdf(host),
            Manager::Other(which) => Err(self.refuse("its manager decides when it runs", which)),
        }
    }

    /// The system's own, past the stand-ins.
    fn beyond(&self, host: &Host<'_>, choice: &Choice) -> Result<PathBuf, RuntimeError> {
        let folder = self.path.parent();
        let found = host.look_up(&self.name, folder);
        found.ok_or_else(|| choice.wrong("system", "and no other folder of PATH has the program"))
    }

    fn pyenv(&self, host: &Host<'_>) -> Result<PathBuf, RuntimeError> {
        let choice = pyenv_choice(host, &self.root)?;
        for version in &choice.versions {
            if version == "system" {
                if choice.versions.len() == 1 {
                    return self.beyond(host, &choice);
                }
                continue;
            }
            let folder = pyenv_version(&self.root.join("versions"), version, &choice)?;
            let program = folder.join("bin").join(&self.name);
            if is_executable(&program) {
                return Ok(program);
            }
        }
        if choice.versions.iter().any(|version| version == "system") {
            return self.beyond(host, &choice);
        }
        Err(choice.wrong(
            &choice.versions.join(" "),
            "which does not have the program",
        ))
    }

    fn asdf(&self, host: &Host<'_>) -> Result<PathBuf, RuntimeError> {
        let text = files::config(&self.path)?.unwrap_or_default();
        let plugins: Vec<&str> = text
            .lines()
            .filter_map(|line| {
                line.strip_prefix("# asdf-plugin:")?
                    .split_whitespace()
                    .next()
            })
            .filter(|plugin| is_plain(plugin))
            .collect();
        let mut tried = false;
        for plugin in plugins {
            let Some(choice) = asdf_choice(host, plugin)? else {
                continue;
            };
            tried = true;
            for version in &choice.versions {
                if version == "system" {
                    return self.beyond(host, &choice);
                }
                if !is_plain(version) {
                    return Err(choice.wrong(version, "which is no plain version"));
                }
                let folder = self.root.join("installs").join(plugin).join(version);
                let folders = ["bin", "go/bin", "packages/bin"].map(|bin| folder.join(bin));
                let mut programs = folders.iter().map(|bin| bin.join(&self.name));
                if let Some(program) = programs.find(|program| is_executable(program)) {
                    return Ok(program);
                }
            }
        }
        let why = if tried {
            "the versions in `.tool-versions` do not have it"
        } else {
            "no `.tool-versions` names one"
        };
        Err(self.refuse(why, "asdf which"))
    }
}

/// What a file or a variable says.
struct Choice {
    versions: Vec<String>,
    source: String,
}

impl Choice {
    fn new<'t>(words: impl Iterator<Item = &'t str>, source: String) -> Option<Self> {
        let versions: Vec<String> = words.map(str::to_owned).collect();
        (!versions.is_empty()).then_some(Self { versions, source })
    }

    /// Quotes no more than a version's length of a file that may be any file.
    fn wrong(&self, version: &str, why: &'static str) -> RuntimeError {
        let version: String = version.chars().take(NAME_MAX).collect();
        RuntimeError::Version {
            source_name: self.source.clone(),
            version: version.escape_debug().to_string(),
            why,
        }
    }
}

/// The nearest file of this name, from the workspace up, that says something.
fn nearest<T>(
    host: &Host<'_>,
    name: &str,
    parse: impl Fn(&str, String) -> Option<T>,
) -> Result<Option<T>, RuntimeError> {
    for folder in host.cwd.ancestors() {
        let path = folder.join(name);
        let text = files::config(&path)?;
        let found = text.and_then(|text| parse(&text, path.display().to_string()));
        if found.is_some() {
            return Ok(found);
        }
    }
    Ok(None)
}

fn version_words(text: &str, source: String) -> Option<Choice> {
    let lines = text.lines().filter_map(|line| line.split('#').next());
    Choice::new(lines.flat_map(str::split_whitespace), source)
}

fn pyenv_choice(host: &Host<'_>, root: &Path) -> Result<Choice, RuntimeError> {
    if let Some(value) = (host.variable)("PYENV_VERSION") {
        let name = "PYENV_VERSION".to_owned();
        if let Some(choice) = Choice::new(value.split(':').filter(|v| !v.is_empty()), name) {
            return Ok(choice);
        }
    }
    if let Some(choice) = nearest(host, ".python-version", version_words)? {
        return Ok(choice);
    }
    let path = root.join("version");
    let global =
        files::config(&path)?.and_then(|text| version_words(&text, path.display().to_string()));
    Ok(global.unwrap_or_else(|| Choice {
        versions: vec!["system".to_owned()],
        source: "pyenv's default".to_owned(),
    }))
}

/// `3.11` stands for the latest 3.11 that is installed, as pyenv has it.
fn pyenv_version(versions: &Path, version: &str, choice: &Choice) -> Result<PathBuf, RuntimeError> {
    // An environment of pyenv-virtualenv may be written with the version it belongs to.
    let is_valid = match version.split_once("/envs/") {
        Some((one, other)) => is_plain(one) && is_plain(other),
        None => is_plain(version),
    };
    if !is_valid {
        return Err(choice.wrong(version, "which is no plain version"));
    }
    let bare = version.strip_prefix("python-").unwrap_or(version);
    for name in [version, bare] {
        if versions.join(name).is_dir() {
            return Ok(versions.join(name));
        }
    }
    let start = format!("{bare}.");
    let numbers = |name: &str| -> Option<Vec<u32>> {
        let rest = name.strip_prefix(&start)?;
        rest.split('.').map(|number| number.parse().ok()).collect()
    };
    let all = fs::read_dir(versions).into_iter().flatten().flatten();
    let latest = all
        .filter_map(|entry| entry.file_name().into_string().ok())
        .filter_map(|name| Some((numbers(&name)?, name)))
        .max();
    match latest {
        Some((_, name)) => Ok(versions.join(name)),
        None => Err(choice.wrong(version, "which is not installed")),
    }
}

fn asdf_choice(host: &Host<'_>, plugin: &str) -> Result<Option<Choice>, RuntimeError> {
    let variable = format!("ASDF_{}_VERSION", plugin.to_uppercase().replace('-', "_"));
    if let Some(value) = (host.variable)(&variable) {
        return Ok(Choice::new(value.split_whitespace(), variable));
    }
    let of_plugin = |text: &str, source: String| {
        let lines = text.lines().filter_map(|line| line.split('#').next());
        let mut lines = lines.map(str::split_whitespace);
        lines.find_map(|mut words| {
            let is_it = words.next() == Some(plugin);
            is_it.then(|| Choice::new(words, source.clone())).flatten()
        })
    };
    if let Some(choice) = nearest(host, ".tool-versions", of_plugin)? {
        return Ok(Some(choice));
    }
    let Some(home) = &host.home else {
        return Ok(None);
    };
    let path = home.join(".tool-versions");
    let text = files::config(&path)?;
    Ok(text.and_then(|text| of_plugin(&text, path.display().to_string())))
}

/// One name below the manager's folder, and nothing that leads out of it.
fn is_plain(name: &str) -> bool {
    !name.is_empty()
        && name.len() <= NAME_MAX
        && !name.starts_with('.')
        && name
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"._+-".contains(&byte))
}
