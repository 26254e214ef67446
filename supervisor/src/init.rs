//! `init`: looks at a folder and writes the agent.yaml that it seems to need, with what it saw beside
//! each line.

use std::fs;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use crate::error::Failed;
use crate::words;

/// What was found in a folder and on this machine.
struct Seen {
    name: String,
    git: bool,
    dotenv: bool,
    venv: Option<&'static str>,
    python: Option<&'static str>,
    node: Option<String>,
    claude: bool,
    codex: bool,
    /// Files that say for which agent the folder is meant.
    for_claude: bool,
    for_codex: bool,
    models: Vec<&'static str>,
}

/// Files beyond this size are not looked into.
const FILE_BYTES_MAX: u64 = 1 << 20;

/// Writes `agent.yaml` into `dir`, or prints it. Never over another.
pub(crate) fn init(dir: &Path, preset: Option<&str>, print: bool) -> Result<u8, Failed> {
    let dir = dir.canonicalize().map_err(|error| Failed::File {
        path: dir.to_owned(),
        error,
    })?;
    let seen = Seen::look(&dir);
    let preset = match preset {
        Some(name) => known(name)?,
        None => known(seen.preset())?,
    };
    let text = file(&seen, preset);
    if print {
        crate::reference::print(&text)?;
        return Ok(0);
    }
    let path = dir.join("agent.yaml");
    let mut options = fs::OpenOptions::new();
    let made = options.write(true).create_new(true).open(&path);
    let written = made.and_then(|mut file| file.write_all(text.as_bytes()));
    written.map_err(|error| {
        let path = path.clone();
        if error.kind() == io::ErrorKind::AlreadyExists {
            Failed::Exists { path }
        } else {
            Failed::File { path, error }
        }
    })?;
    eprintln!(
        "wrote {} (preset {})",
        words::escape(&path.to_string_lossy()),
        preset.0
    );
    for line in seen.words() {
        eprintln!("  {line}");
    }
    let (us, file) = (called(), shown(&path));
    eprintln!("read it, then: {us} check{file} && {us} run{file}");
    Ok(0)
}

/// By which of its names it was started.
fn called() -> String {
    let name = std::env::args_os().next().map(PathBuf::from);
    let name = name.as_deref().and_then(Path::file_name);
    name.map_or("agt-supervisor".into(), |name| {
        words::escape(&name.to_string_lossy())
    })
}

/// As one would type it after a verb: nothing when it lies here, since that is what verbs look for.
fn shown(path: &Path) -> String {
    let here = std::env::current_dir().ok();
    let short = here.and_then(|here| Some(path.strip_prefix(here).ok()?.to_owned()));
    if short.as_deref() == Some(Path::new("agent.yaml")) {
        return String::new();
    }
    let path = short.unwrap_or_else(|| path.to_owned());
    format!(" {}", words::escape(&path.to_string_lossy()))
}

fn known(name: &str) -> Result<&'static (&'static str, &'static str), Failed> {
    let all = profiles::presets();
    all.iter().find(|(known, _)| *known == name).ok_or_else(|| {
        let names: Vec<&str> = all.iter().map(|(name, _)| *name).collect();
        Failed::NotFound(format!(
            "there is no preset `{}`; there are {}",
            words::escape(name),
            names.join(", ")
        ))
    })
}

impl Seen {
    fn look(dir: &Path) -> Self {
        let has = |name: &str| dir.join(name).exists();
        let venv = [".venv", "venv"]
            .into_iter()
            .find(|name| has(&format!("{name}/pyvenv.cfg")));
        let python = ["agent.py", "main.py", "app.py"]
            .into_iter()
            .find(|name| has(name));
        let requirements: String = ["requirements.txt", "pyproject.toml", "package.json"]
            .iter()
            .filter_map(|name| read(&dir.join(name)))
            .collect();
        let models = [
            ("anthropic", "api.anthropic.com"),
            ("openai", "api.openai.com"),
        ];
        Self {
            name: name(dir),
            git: has(".git"),
            dotenv: has(".env"),
            venv,
            python,
            node: node(dir),
            claude: on_path("claude"),
            codex: on_path("codex"),
            for_claude: has("CLAUDE.md") || has(".claude"),
            for_codex: has("AGENTS.md") || has(".codex"),
            models: models
                .into_iter()
                .filter(|(package, _)| requirements.contains(package))
                .map(|(_, host)| host)
                .collect(),
        }
    }

    fn preset(&self) -> &'static str {
        if self.for_claude && self.claude {
            "claude-code"
        } else if self.for_codex && self.codex {
            "codex"
        } else if self.venv.is_some() || self.python.is_some() {
            "python-agent"
        } else if self.node.is_some() {
            "node-agent"
        } else if self.claude {
            "claude-code"
        } else if self.codex {
            "codex"
        } else {
            "shell"
        }
    }

    /// What was seen, for people.
    fn words(&self) -> Vec<String> {
        let mut lines = Vec::new();
        let mut say = |is: bool, text: String| lines.extend(is.then_some(text));
        let venv = self.venv.unwrap_or_default();
        say(
            self.venv.is_some(),
            format!("saw a virtual environment in {venv}"),
        );
        let python = self.python.unwrap_or_default();
        say(self.python.is_some(), format!("saw {python}"));
        say(self.node.is_some(), "saw a package.json".into());
        say(self.claude, "saw claude on your PATH".into());
        say(self.codex, "saw codex on your PATH".into());
        say(
            self.git,
            "saw a git repository: its hooks stay as they are".into(),
        );
        say(self.dotenv, "saw .env: it is hidden from the agent".into());
        lines
    }
}

/// The file, with its reasons.
fn file(seen: &Seen, (preset, text): &(&str, &str)) -> String {
    let mut out = String::from(
        "# What this agent may do. Every key: docs/agent-yaml.md. Relative paths are relative to this file.\n\
         # Whatever is not named here is not there: files, hosts, variables.\n",
    );
    out += &format!("version: 1\nname: {}\n", seen.name);
    out += &format!("preset: {preset}\n");
    for line in text.lines().filter(|line| !line.starts_with("version:")) {
        out += &format!("#   {}\n", line.strip_prefix("# ").unwrap_or(line));
    }
    if let Some(command) = command(seen, preset) {
        out += &format!("command: {command}\n");
    }
    out += "\n# The agent works in the folder of this file, and may change it. This file stays as it is.\n";
    out += "# workspace: .\n";
    out += if seen.dotenv {
        "files:\n  deny: [./.env]             # hidden: it was here when this was written\n"
    } else {
        "# files:\n#   read: [../shared]         # more to read\n#   deny: [./.env]            # to hide\n"
    };
    if seen.models.is_empty() || !matches!(*preset, "python-agent" | "node-agent") {
        out += "# network:\n#   allow: [\"api.example.com:443\"]   # more hosts, by name\n#   host_ports: [11434]       # a model server on this machine\n";
    } else {
        let hosts: Vec<String> = seen
            .models
            .iter()
            .map(|host| format!("\"{host}:443\""))
            .collect();
        out += &format!(
            "network:\n  allow: [{}]   # its packages name this model\n",
            hosts.join(", ")
        );
    }
    out +=
        "# env:\n#   pass: [\"MY_KEY?\"]         # variables of yours; nothing else is inherited\n";
    out += "# limits: {memory: 4G, wall: 2h}\n";
    out += "# policy: [policy.yaml]       # what it asks about and connects to: docs/policy.md\n";
    out
}

fn command(seen: &Seen, preset: &str) -> Option<String> {
    match preset {
        "python-agent" => {
            let python = seen
                .venv
                .map_or("python3".to_owned(), |venv| format!("{venv}/bin/python"));
            Some(format!("[{python}, {}]", seen.python.unwrap_or("agent.py")))
        }
        "node-agent" => {
            let main = seen.node.as_deref().unwrap_or("index.js");
            Some(format!("[node, {}]", serde_json::Value::from(main)))
        }
        _ => None,
    }
}

/// The folder's name as an agent's.
fn name(dir: &Path) -> String {
    let raw = dir
        .file_name()
        .unwrap_or_default()
        .to_string_lossy()
        .to_lowercase();
    let fine = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    let mut name: String = raw.chars().map(|c| if fine(c) { c } else { '-' }).collect();
    name.truncate(63);
    let name = name.trim_matches('-');
    if name.is_empty() || name.bytes().all(|byte| byte.is_ascii_digit()) {
        return format!("agent-{name}").trim_end_matches('-').to_owned();
    }
    name.to_owned()
}

/// The main file of a package.
fn node(dir: &Path) -> Option<String> {
    let package: serde_json::Value =
        serde_json::from_str(&read(&dir.join("package.json"))?).ok()?;
    let main = package.get("main").and_then(serde_json::Value::as_str);
    Some(main.unwrap_or("index.js").to_owned())
}

fn read(path: &Path) -> Option<String> {
    if !fs::metadata(path).ok()?.is_file() {
        return None;
    }
    let mut text = String::new();
    let file = fs::File::open(path).ok()?;
    file.take(FILE_BYTES_MAX).read_to_string(&mut text).ok()?;
    Some(text)
}

fn on_path(name: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .map(|dir: PathBuf| dir.join(name))
        .any(|path| path.is_file())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen() -> Seen {
        Seen {
            name: "x".into(),
            git: true,
            dotenv: true,
            venv: Some(".venv"),
            python: Some("main.py"),
            node: Some("a \"b\".js".into()),
            claude: true,
            codex: true,
            for_claude: false,
            for_codex: false,
            models: vec!["api.openai.com"],
        }
    }

    #[test]
    fn every_preset_is_written_as_a_file_that_is_fine() {
        for preset in profiles::presets() {
            for dotenv in [false, true] {
                let text = file(&Seen { dotenv, ..seen() }, preset);
                let agent = profiles::parse_agent("agent.yaml", text.as_bytes()).unwrap();
                let rings = profiles::Rings::built_in().unwrap();
                profiles::resolve(&agent, &rings).unwrap();
            }
        }
    }

    #[test]
    fn a_folder_of_any_name_gives_an_agents_name() {
        for (dir, want) in [
            ("/x/My Project!", "my-project"),
            ("/x/123", "agent-123"),
            ("/x/...", "agent"),
            ("/", "agent"),
        ] {
            assert_eq!(name(Path::new(dir)), want);
        }
    }

    #[test]
    fn what_the_folder_is_meant_for_comes_before_what_is_installed() {
        assert_eq!(seen().preset(), "python-agent");
        let meant = Seen {
            for_codex: true,
            ..seen()
        };
        assert_eq!(meant.preset(), "codex");
        let missing = Seen {
            for_codex: true,
            codex: false,
            ..seen()
        };
        assert_eq!(missing.preset(), "python-agent");
    }
}
