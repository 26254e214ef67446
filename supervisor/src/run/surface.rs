//! Files that the agent made or changed in its writable grants and that would run code *outside*
//! the ring: named when the run is over, since nothing inside can stop somebody from trusting them.
//!
//! What counts is the change time, which the kernel sets and an agent cannot turn back.

use std::fs;
use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

/// More entries than this are not walked: the line then says so.
const ENTRIES_MAX: usize = 200_000;
const DEPTH_MAX: usize = 64;
/// What is read of a file.
const HEAD_MAX: usize = 1 << 20;

/// What was found.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Surface {
    /// Files and why each would run.
    pub(crate) found: Vec<(PathBuf, &'static str)>,
    /// The walk stopped before its end.
    pub(crate) incomplete: bool,
}

impl Surface {
    /// Without the agent's own file, which it cannot change: whoever did is outside.
    pub(crate) fn without(mut self, own: Option<&Path>) -> Self {
        let own = own.and_then(|own| own.canonicalize().ok());
        self.found.retain(|(path, _)| Some(path) != own.as_ref());
        self
    }
}

/// Walks `roots` for what changed since `since`.
pub(crate) fn scan(roots: &[PathBuf], since: SystemTime) -> Surface {
    let since = since
        .duration_since(SystemTime::UNIX_EPOCH)
        .unwrap_or_default();
    let since = (
        i64::try_from(since.as_secs()).unwrap_or(0),
        i64::from(since.subsec_nanos()),
    );
    let mut surface = Surface::default();
    let mut entries = 0;
    let mut open: Vec<(PathBuf, usize)> = roots.iter().map(|root| (root.clone(), 0)).collect();
    while let Some((dir, depth)) = open.pop() {
        let Ok(children) = fs::read_dir(&dir) else {
            continue;
        };
        for child in children.flatten() {
            entries += 1;
            if entries > ENTRIES_MAX {
                surface.incomplete = true;
                return surface;
            }
            let path = child.path();
            let Ok(meta) = fs::symlink_metadata(&path) else {
                continue;
            };
            if meta.is_dir() {
                if depth < DEPTH_MAX {
                    open.push((path, depth + 1));
                } else {
                    surface.incomplete = true;
                }
                continue;
            }
            // The clock of file times is coarse: it may lag by one tick.
            let changed = (meta.ctime(), meta.ctime_nsec() + 10_000_000) >= since;
            if !changed {
                continue;
            }
            let why = if meta.is_file() && meta.mode() & 0o6000 != 0 {
                Some("set-id program")
            } else {
                reason(&path, &meta)
            };
            surface.found.extend(why.map(|why| (path, why)));
        }
    }
    surface.found.sort();
    surface
}

/// Why a file of this name runs code when a person or a tool comes by.
fn reason(path: &Path, meta: &fs::Metadata) -> Option<&'static str> {
    let name = path.file_name()?.to_str()?;
    let parent = path
        .parent()
        .and_then(Path::file_name)
        .and_then(|name| name.to_str());
    let under = |dir: &str| path.components().any(|one| one.as_os_str() == dir);
    if meta.is_symlink() && under(".git") {
        return Some("link inside a git folder");
    }
    match (parent, name) {
        (_, ".git") => Some("git folder elsewhere"),
        (Some("hooks"), _) if under(".git") && !name.ends_with(".sample") => Some("git hook"),
        (Some(".git"), "config") | (_, ".gitmodules") => git_config(path),
        (_, ".envrc") => Some("direnv"),
        (Some(".vscode"), "tasks.json" | "settings.json" | "launch.json") => Some("editor task"),
        (Some(".idea" | "runConfigurations"), _) if name.ends_with(".xml") => Some("editor task"),
        (Some(".claude"), "settings.json" | "settings.local.json") | (_, ".mcp.json") => {
            Some("agent configuration")
        }
        (_, "package.json") => package_scripts(path),
        (_, ".npmrc" | ".yarnrc" | ".yarnrc.yml" | ".pnp.cjs") => Some("package manager"),
        (_, "sitecustomize.py" | "usercustomize.py" | "conftest.py") => Some("python start-up"),
        (_, ".bashrc" | ".bash_profile" | ".profile" | ".zshrc" | ".zshenv" | ".bash_logout") => {
            Some("shell start-up")
        }
        (
            _,
            "authorized_keys"
            | "crontab"
            | ".pre-commit-config.yaml"
            | ".gdbinit"
            | ".vimrc"
            | ".exrc"
            | ".tmux.conf"
            | ".gitconfig",
        ) => Some("run or read by a tool at start"),
        (Some("workflows"), _) if under(".github") => Some("CI workflow"),
        (Some(".cargo"), "config.toml" | "config") | (_, "build.rs") => Some("cargo build"),
        _ if name.ends_with(".yaml") || name.ends_with(".yml") => permissions(path, name),
        _ if name.ends_with(".pth") => Some("python start-up"),
        _ if under("systemd") && (name.ends_with(".service") || name.ends_with(".timer")) => {
            Some("systemd unit")
        }
        _ => None,
    }
}

/// git runs what these keys name, or reads more keys from there.
const GIT_KEYS: [&str; 17] = [
    "hookspath",
    "fsmonitor",
    "sshcommand",
    "pager",
    "editor",
    "askpass",
    "helper",
    "textconv",
    "clean",
    "smudge",
    "process",
    "external",
    "program",
    "command",
    "cmd",
    "path",
    "tool",
];

/// The beginning of a regular file. What an agent left under a known name may be anything: a FIFO
/// that nobody writes to, or a file without end.
fn head(path: &Path) -> Option<String> {
    if !fs::symlink_metadata(path).ok()?.is_file() {
        return Some(String::new());
    }
    let mut bytes = Vec::new();
    let file = fs::File::open(path).ok()?;
    file.take(HEAD_MAX as u64).read_to_end(&mut bytes).ok()?;
    Some(String::from_utf8_lossy(&bytes).into_owned())
}

fn git_config(path: &Path) -> Option<&'static str> {
    let text = head(path)?.to_lowercase();
    if text.len() >= HEAD_MAX {
        return Some("git configuration too large to be read");
    }
    // A section may stand on the same line as its first key.
    let key = |line: &str| {
        let left = line.split('=').next().unwrap_or("");
        left.rsplit([']', ' ', '\t'])
            .find(|word| !word.is_empty())
            .unwrap_or("")
            .to_owned()
    };
    let runs = text.lines().any(|line| {
        GIT_KEYS.contains(&key(line).as_str()) || (line.contains('=') && line.contains('!'))
    });
    runs.then_some("git configuration that names a program")
}

/// Whoever runs it next is given what it says.
fn permissions(path: &Path, name: &str) -> Option<&'static str> {
    const WHAT: &str = "permissions of an agent";
    let text = head(path)?;
    let is_agent = name == "agent.yaml" || profiles::parse_agent(name, text.as_bytes()).is_ok();
    is_agent.then_some(WHAT)
}

fn package_scripts(path: &Path) -> Option<&'static str> {
    head(path)?
        .contains("\"scripts\"")
        .then_some("package scripts")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_runs_outside_is_named_and_the_rest_is_not() {
        let dir = std::env::temp_dir().join(format!("agt-surface-{}", std::process::id()));
        for (name, text) in [
            (".git/hooks/pre-commit", "#!/bin/sh"),
            (".git/hooks/pre-commit.sample", ""),
            (".git/config", "[core]\n\tbare = false\n"),
            ("sub/.git/config", "[core]\n\tfsmonitor = ./x\n"),
            ("src/main.c", "int main;"),
            ("package.json", "{\"scripts\": {}}"),
            ("other/package.json", "{}"),
            (".envrc", ""),
            ("one/.git/config", "[core] fsmonitor = ./x\n"),
            ("else/.git", "gitdir: ../meta\n"),
            ("agent.yaml", ""),
            ("two.yml", "version: 1\nname: two\ncommand: [sh]\n"),
            ("data.yaml", "a: 1\n"),
        ] {
            let path = dir.join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        let surface = scan(std::slice::from_ref(&dir), SystemTime::UNIX_EPOCH);
        let names: Vec<String> = surface
            .found
            .iter()
            .map(|(path, _)| path.strip_prefix(&dir).unwrap().display().to_string())
            .collect();
        assert_eq!(
            names,
            [
                ".envrc",
                ".git/hooks/pre-commit",
                "agent.yaml",
                "else/.git",
                "one/.git/config",
                "package.json",
                "sub/.git/config",
                "two.yml"
            ]
        );
        let later = SystemTime::now() + std::time::Duration::from_secs(60);
        assert_eq!(scan(std::slice::from_ref(&dir), later), Surface::default());
        fs::remove_dir_all(dir).unwrap();
    }
}
