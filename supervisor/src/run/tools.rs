//! The tool calls of Claude Code and Codex as actions, without anybody doing anything: both run a hook before
//! each call where a file of the system's says so, and inside these files are ours.
//!
//! What the host has there is in force as well: Claude Code takes all files of one folder together; Codex has one
//! file, which ours is added to. The hook is this very program ([`crate::hook`]). It asks for an agent that wants
//! to ask; what the ring refuses it refuses without.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use profiles::{Programs, Ring, Socket};

use super::grant::Grant;
use super::root::Root;
use super::trees::Trees;
use crate::hook;

const CLAUDE: &str = "/etc/claude-code";
const CODEX: &str = "/etc/codex";
/// Folders that are put together here instead of mounted.
pub(super) const FOLDERS: [&str; 2] = [CLAUDE, CODEX];
/// The most of a file of the host's that ours is added to.
const TEXT_MAX: u64 = 64 * 1024;

/// What the two agents run. A program that does not run denies as well: they let go ahead what any other exit
/// code than 2 ends, or 2 without a word.
const BEFORE: &str = "/run/agt-hook before || { [ $? = 2 ] || echo agt-supervisor: the hook failed, so the call is denied >&2; exit 2; }";
/// Seconds; more than a person's answer is waited for.
const BEFORE_S: u32 = 900;
const AFTER_S: u32 = 60;

/// What is put into a ring.
#[derive(Debug)]
pub(super) struct Tools {
    program: Grant,
    requirements: String,
}

/// Hooks for this ring; `None` where no hook can run or speak. `Err` is why they are not there, in words.
pub(super) fn find(ring: &Ring, grants: &[Grant]) -> Result<Option<Tools>, String> {
    if ring.programs == Programs::Once || !ring.has_socket(Socket::Unix) {
        return Ok(None);
    }
    let unasked =
        |why: String| format!("tool calls of Claude Code and Codex are not asked about: {why}");
    let covers = |grant: &&Grant| {
        FOLDERS
            .iter()
            .any(|folder| Path::new(folder).starts_with(&grant.path))
    };
    if let Some(grant) = grants.iter().find(covers) {
        return Err(unasked(format!(
            "{} is granted, as it is on this host",
            grant.path.display()
        )));
    }
    let program = std::env::current_exe().map_err(|error| unasked(error.to_string()))?;
    let program = Grant::find(&program, false).map_err(|error| unasked(error.to_string()))?;
    let requirements =
        requirements().map_err(|error| unasked(format!("{CODEX}/requirements.toml: {error}")))?;
    Ok(Some(Tools {
        program,
        requirements,
    }))
}

impl Tools {
    pub(super) fn lay(&self, root: &mut Root, trees: &mut Trees<'_>) -> io::Result<()> {
        root.grant_at(
            Path::new(hook::NAME),
            &self.program,
            trees.again(&self.program)?,
        )?;
        let claude = Path::new(CLAUDE);
        let (base, drop_ins) = (
            claude.join("managed-settings.json"),
            claude.join("managed-settings.d"),
        );
        let ours = if base.exists() {
            drop_ins.join("agt-supervisor.json")
        } else {
            base
        };
        let codex = Path::new(CODEX).join("requirements.toml");
        for folder in [claude, &drop_ins, Path::new(CODEX)] {
            for entry in entries(folder)? {
                if entry != ours && entry != codex && entry != drop_ins {
                    root.system(&entry)?;
                }
            }
        }
        root.file(&ours.to_string_lossy(), &settings())?;
        root.file(&codex.to_string_lossy(), &self.requirements)
    }
}

/// What the host has in a folder; nothing where it has none, or shows it to nobody.
fn entries(folder: &Path) -> io::Result<Vec<PathBuf>> {
    use io::ErrorKind::{NotADirectory, NotFound, PermissionDenied};
    match fs::read_dir(folder) {
        Ok(list) => list.map(|entry| entry.map(|entry| entry.path())).collect(),
        Err(error) if matches!(error.kind(), NotFound | NotADirectory | PermissionDenied) => {
            Ok(Vec::new())
        }
        Err(error) => Err(error),
    }
}

/// Claude Code's: `managed-settings.json`, or one of `managed-settings.d`.
fn settings() -> String {
    let hook = |command: &str, seconds: u32| serde_json::json!([{"hooks": [{"type": "command", "command": command, "timeout": seconds}]}]);
    let settings = serde_json::json!({"hooks": {
        "PreToolUse": hook(BEFORE, BEFORE_S),
        "PostToolUse": hook(&format!("{} after", hook::NAME), AFTER_S),
        "PostToolUseFailure": hook(&format!("{} failed", hook::NAME), AFTER_S),
    }});
    format!("{settings:#}\n")
}

/// Codex's `requirements.toml`: the host's, with our hooks at its end.
fn requirements() -> io::Result<String> {
    use std::os::unix::fs::MetadataExt;
    let path = Path::new(CODEX).join("requirements.toml");
    match fs::metadata(&path) {
        Ok(meta) if meta.len() > TEXT_MAX => Err(io::Error::other("it is larger than 64 KiB")),
        // The agent is somebody else.
        Ok(meta) if meta.mode() & 0o004 == 0 => Err(io::Error::other("not everybody may read it")),
        Ok(_) => fs::read_to_string(&path).map(|hosts| with_hooks(&hosts)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(with_hooks("")),
        Err(error) => Err(error),
    }
}

/// In TOML an array of tables may go on at the end of any file.
fn with_hooks(hosts: &str) -> String {
    // A file of ours alone also says that nothing else turns hooks off.
    let mut text = match hosts.is_empty() {
        true => "[features]\nhooks = true\n".to_owned(),
        false => format!("{}\n", hosts.trim_end()),
    };
    for (event, command, seconds) in [
        ("PreToolUse", BEFORE.to_owned(), BEFORE_S),
        ("PostToolUse", format!("{} after", hook::NAME), AFTER_S),
    ] {
        text += &format!(
            "\n[[hooks.{event}]]\n[[hooks.{event}.hooks]]\ntype = \"command\"\ncommand = '{command}'\ntimeout = {seconds}\n"
        );
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hook_that_does_not_run_denies_and_says_so() {
        #[expect(clippy::disallowed_methods, reason = "as the agents run it")]
        let ran = std::process::Command::new("sh")
            .args(["-c", BEFORE])
            .output();
        let ran = ran.unwrap();
        assert_eq!(ran.status.code(), Some(2));
        let said = String::from_utf8(ran.stderr).unwrap();
        assert!(
            said.ends_with("the hook failed, so the call is denied\n"),
            "{said}"
        );
    }

    #[test]
    fn what_the_host_requires_stays_and_hooks_come_after_it() {
        let hosts = "allowed_sandbox_modes = [\"read-only\"]\n[features]\nplugins = false\n[hooks]\nmanaged_dir = \"/x\"\n";
        let both = with_hooks(hosts);
        assert!(both.starts_with(hosts));
        assert_eq!(both.matches("[features]").count(), 1);
        assert_eq!(both.matches("\n[[hooks.PreToolUse]]\n").count(), 1);
        assert!(BEFORE.starts_with(hook::NAME));
        // In quotes that keep everything as it is.
        assert!(!BEFORE.contains('\''));
        assert!(with_hooks("").starts_with("[features]\nhooks = true\n"));
        let settings: serde_json::Value = serde_json::from_str(&settings()).unwrap();
        assert_eq!(
            settings["hooks"]["PreToolUse"][0]["hooks"][0]["command"],
            BEFORE
        );
    }
}
