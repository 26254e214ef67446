//! Each layout as its manager lays it out, in a home made up for the test; then what a hostile
//! workspace may try.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use super::*;

const ELF: &str = "\x7fELF";

struct Home {
    root: PathBuf,
    search: Vec<PathBuf>,
    writable: Vec<PathBuf>,
    variables: Vec<(&'static str, String)>,
}

impl Drop for Home {
    fn drop(&mut self) {
        let _gone = fs::remove_dir_all(&self.root);
    }
}

impl Home {
    /// `~` is `u`, the workspace `u/ws`, the system `usr`.
    fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let name = format!(
            "agt-runtime-{}-{}",
            std::process::id(),
            NEXT.fetch_add(1, Ordering::Relaxed)
        );
        let root = std::env::temp_dir().canonicalize().unwrap().join(name);
        fs::create_dir_all(root.join("u/ws")).unwrap();
        let mut home = Self {
            root,
            search: Vec::new(),
            writable: Vec::new(),
            variables: Vec::new(),
        };
        home.elf("usr/bin/python3.12")
            .link("usr/bin/python3", "python3.12")
            .elf("usr/bin/sh");
        home.path(&["usr/bin"]);
        home
    }

    fn at(&self, path: &str) -> PathBuf {
        self.root.join(path)
    }

    fn text(&self, path: &str) -> String {
        self.at(path).to_str().unwrap().to_owned()
    }

    fn file(&self, path: &str, content: impl AsRef<[u8]>) -> &Self {
        let path = self.at(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, content).unwrap();
        self
    }

    fn script(&self, path: &str, content: impl AsRef<[u8]>) -> &Self {
        self.file(path, content);
        fs::set_permissions(self.at(path), fs::Permissions::from_mode(0o755)).unwrap();
        self
    }

    fn elf(&self, path: &str) -> &Self {
        self.script(path, ELF)
    }

    fn link(&self, path: &str, to: impl AsRef<Path>) -> &Self {
        let path = self.at(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        symlink(to, path).unwrap();
        self
    }

    /// A whole Python.
    fn python(&self, prefix: &str) -> &Self {
        self.elf(&format!("{prefix}/bin/python3.11"))
            .link(&format!("{prefix}/bin/python3"), "python3.11")
            .file(&format!("{prefix}/lib/python3.11/os.py"), "")
    }

    /// A virtual environment of a Python.
    fn venv(&self, prefix: &str, base: &str) -> &Self {
        self.link(
            &format!("{prefix}/bin/python"),
            self.at(base).join("python3"),
        )
        .link(&format!("{prefix}/bin/python3"), "python")
        .file(
            &format!("{prefix}/pyvenv.cfg"),
            format!("home = {}\nversion = 3.11.9\n", self.text(base)),
        )
    }

    /// nvm's Node with one global package.
    fn nvm(&self) -> &Self {
        let node = "u/.nvm/versions/node/v20.1.0";
        self.elf(&format!("{node}/bin/node"))
            .file(&format!("{node}/include/node/node_version.h"), "")
            .link(
                &format!("{node}/bin/codex"),
                "../lib/node_modules/@openai/codex/bin/codex.js",
            )
            .script(
                &format!("{node}/lib/node_modules/@openai/codex/bin/codex.js"),
                "#!/usr/bin/env node\n",
            )
    }

    /// pyenv with 3.11.9 and its stand-in for python3.
    fn pyenv(&self) -> &Self {
        self.python("u/.pyenv/versions/3.11.9").script(
            "u/.pyenv/shims/python3",
            "#!/usr/bin/env bash\nexec pyenv exec python3 \"$@\"\n",
        )
    }

    fn path(&mut self, folders: &[&str]) {
        self.search = folders.iter().map(|folder| self.at(folder)).collect();
    }

    fn find(&self, command: &str) -> Result<Runtime, RuntimeError> {
        let (cwd, home, system) = (self.at("u/ws"), self.at("u"), vec![self.at("usr")]);
        let variable = |name: &str| {
            let found = self.variables.iter().find(|(known, _)| *known == name);
            found.map(|(_, value)| value.clone())
        };
        let host = Host::new(
            &cwd,
            &self.search,
            &system,
            Some(&home),
            &self.writable,
            &variable,
        );
        discover_on(&host, &[command.to_owned(), "x".to_owned()])
    }

    fn shown(&self, runtime: &Runtime) -> Vec<(String, Why)> {
        let name = |path: &Path| path.strip_prefix(&self.root).unwrap().display().to_string();
        runtime
            .prefixes
            .iter()
            .map(|prefix| (name(&prefix.path), prefix.why))
            .collect()
    }

    /// Runs a check: the program, and what is shown.
    fn gives(&self, command: &str, program: &str, shown: &[(&str, Why)]) -> Runtime {
        let runtime = self.find(command).unwrap_or_else(|error| panic!("{error}"));
        assert_eq!(runtime.program, self.at(program));
        let wanted: Vec<(String, Why)> = shown
            .iter()
            .map(|(path, why)| ((*path).to_owned(), *why))
            .collect();
        assert_eq!(self.shown(&runtime), wanted);
        runtime
    }

    fn refuses(&self, command: &str) -> RuntimeError {
        self.find(command).unwrap_err()
    }
}

fn links(home: &Home, runtime: &Runtime) -> Vec<String> {
    let name = |link: &Link| {
        link.path
            .strip_prefix(&home.root)
            .unwrap()
            .display()
            .to_string()
    };
    runtime.links.iter().map(name).collect()
}

#[test]
fn the_system_needs_nothing() {
    let mut home = Home::new();
    home.elf("usr/bin/node")
        .link("usr/local/bin/claude", "../lib/node_modules/claude/cli.js")
        .script(
            "usr/local/lib/node_modules/claude/cli.js",
            "#!/usr/bin/env node\n",
        );
    home.path(&["usr/local/bin", "usr/bin"]);
    let runtime = home.gives("claude", "usr/local/bin/claude", &[]);
    assert_eq!(runtime.argv0, "claude");
    assert!(runtime.path_entries.is_empty() && runtime.links.is_empty());
    home.gives("python3", "usr/bin/python3", &[]);
}

#[test]
fn one_binary_behind_a_link() {
    let mut home = Home::new();
    let version = "u/.local/share/claude/versions/2.1.197";
    home.elf(version)
        .link("u/.local/bin/claude", home.at(version));
    home.path(&["usr/bin", "u/.local/bin"]);
    let runtime = home.gives("claude", "u/.local/bin/claude", &[(version, Why::File)]);
    assert_eq!(links(&home, &runtime), ["u/.local/bin/claude"]);
    assert_eq!(runtime.path_entries, [home.at("u/.local/bin")]);
    assert_eq!(runtime.argv0, home.text("u/.local/bin/claude"));
    home.gives(
        &home.text("u/.local/bin/claude"),
        "u/.local/bin/claude",
        &[(version, Why::File)],
    );
}

#[test]
fn single_files_stay_single() {
    let mut home = Home::new();
    home.elf("u/.cargo/bin/tool")
        .elf("u/bin/other")
        .script("u/bin/wrap", "#!/bin/sh\n");
    home.elf("u/.local/bin/node")
        .file("u/.local/include/node/node_version.h", "");
    home.link("u/bin/sh", "/nowhere");
    home.path(&["u/.cargo/bin", "u/bin", "u/.local/bin"]);
    home.gives(
        "tool",
        "u/.cargo/bin/tool",
        &[("u/.cargo/bin/tool", Why::CargoBin)],
    );
    home.gives("other", "u/bin/other", &[("u/bin/other", Why::File)]);
    home.gives(
        "node",
        "u/.local/bin/node",
        &[("u/.local/bin/node", Why::File)],
    );
    home.file("u/bin/data", "text");
    assert!(matches!(
        home.refuses("data"),
        RuntimeError::NotFound { .. }
    ));
    home.script("u/bin/data", "text");
    assert!(matches!(
        home.refuses("data"),
        RuntimeError::NotRunnable { .. }
    ));
}

#[test]
fn nvm_node_and_its_packages() {
    let mut home = Home::new();
    home.nvm();
    let node = "u/.nvm/versions/node/v20.1.0";
    home.path(&["u/.nvm/versions/node/v20.1.0/bin", "usr/bin"]);
    let bin = format!("{node}/bin");
    let runtime = home.gives("codex", &format!("{bin}/codex"), &[(node, Why::NvmNode)]);
    assert!(runtime.links.is_empty());
    assert_eq!(runtime.path_entries, [home.at(&bin)]);
}

#[test]
fn npm_prefixes() {
    let mut home = Home::new();
    home.nvm();
    let node = ("u/.nvm/versions/node/v20.1.0", Why::NvmNode);
    home.link("u/.npm-global/bin/cc", "../lib/node_modules/cc/cli.js")
        .script(
            "u/.npm-global/lib/node_modules/cc/cli.js",
            "#!/usr/bin/env -S A=1 node --x\n",
        )
        .link("u/.local/bin/dd", "../lib/node_modules/dd/cli.js")
        .script(
            "u/.local/lib/node_modules/dd/cli.js",
            "#!/usr/bin/env node\n",
        )
        .file("u/.local/share/keyrings/x", "");
    home.path(&[
        "u/.npm-global/bin",
        "u/.local/bin",
        "u/.nvm/versions/node/v20.1.0/bin",
    ]);
    let global = ("u/.npm-global", Why::NpmGlobal);
    let runtime = home.gives("cc", "u/.npm-global/bin/cc", &[global, node]);
    let entries = [
        home.at("u/.npm-global/bin"),
        home.at("u/.nvm/versions/node/v20.1.0/bin"),
    ];
    assert_eq!(runtime.path_entries, entries);
    // `~/.local` holds more than packages.
    let local = ("u/.local/lib/node_modules", Why::NodeModules);
    let runtime = home.gives("dd", "u/.local/bin/dd", &[local, node]);
    assert_eq!(links(&home, &runtime), ["u/.local/bin/dd"]);
}

#[test]
fn a_project_gives_its_packages_only() {
    let mut home = Home::new();
    home.nvm();
    home.link(
        "u/p/node_modules/.bin/codex",
        "../@openai/codex/bin/codex.js",
    )
    .script(
        "u/p/node_modules/@openai/codex/bin/codex.js",
        "#!/usr/bin/env node\n",
    )
    .script(
        "u/p/node_modules/.bin/sh-made",
        "#!/bin/sh\nexec node ../a/b.js\n",
    )
    .script("u/q/lib/node_modules/a/cli.js", "#!/usr/bin/env node\n")
    .file("u/q/bin/notes", "");
    home.link("usr/bin/x", "sh");
    home.path(&["u/.nvm/versions/node/v20.1.0/bin"]);
    let node = ("u/.nvm/versions/node/v20.1.0", Why::NvmNode);
    let modules = ("u/p/node_modules", Why::NodeModules);
    let bin = "u/p/node_modules/.bin/codex";
    home.gives("../p/node_modules/.bin/codex", bin, &[node, modules]);
    let made = "u/p/node_modules/.bin/sh-made";
    home.file(made, format!("#!{}\n", home.text("usr/bin/sh")));
    home.gives(&home.text(made), made, &[node, modules]);
    // Folders that only look like npm's.
    let cli = "u/q/lib/node_modules/a/cli.js";
    let modules = ("u/q/lib/node_modules", Why::NodeModules);
    home.gives(&home.text(cli), cli, &[node, modules]);
    // What lies in the workspace is there already.
    home.link("u/ws/node_modules/.bin/c", "../c/c.js")
        .script("u/ws/node_modules/c/c.js", "#!/usr/bin/env node\n");
    home.gives("node_modules/.bin/c", "u/ws/node_modules/.bin/c", &[node]);
}

#[test]
fn a_venv_brings_its_base() {
    let mut home = Home::new();
    home.pyenv()
        .venv("u/ws/.venv", "u/.pyenv/versions/3.11.9/bin");
    let version = ("u/.pyenv/versions/3.11.9", Why::PyenvVersion);
    let runtime = home.gives(".venv/bin/python3", "u/ws/.venv/bin/python3", &[version]);
    assert!(runtime.links.is_empty(), "{:?}", runtime.links);
    let venv = ("VIRTUAL_ENV".to_owned(), home.text("u/ws/.venv"));
    assert_eq!(runtime.variables, [venv]);
    assert_eq!(runtime.path_entries, [home.at("u/ws/.venv/bin")]);
    // Activated, through PATH, from a script of its own; and one outside the workspace.
    home.script(
        "u/ws/.venv/bin/agent",
        format!("#!{}\n", home.text("u/ws/.venv/bin/python3")),
    );
    home.path(&["u/ws/.venv/bin", "usr/bin"]);
    home.gives("agent", "u/ws/.venv/bin/agent", &[version]);
    home.venv("u/envs/a", "u/.pyenv/versions/3.11.9/bin");
    let python = home.text("u/envs/a/bin/python");
    home.gives(
        &python,
        "u/envs/a/bin/python",
        &[version, ("u/envs/a", Why::Venv)],
    );
    // Of the system's Python nothing more is needed.
    home.venv("u/envs/b", "usr/bin");
    let python = home.text("u/envs/b/bin/python");
    home.gives(&python, "u/envs/b/bin/python", &[("u/envs/b", Why::Venv)]);
}

#[test]
fn venvs_are_chained_where_no_agent_wrote() {
    let home = Home::new();
    home.pyenv()
        .venv("u/envs/a", "u/.pyenv/versions/3.11.9/bin")
        .venv("u/envs/b", "u/envs/a/bin")
        .venv("u/ws/.venv", "u/envs/a/bin");
    let shown = [
        ("u/.pyenv/versions/3.11.9", Why::PyenvVersion),
        ("u/envs/a", Why::Venv),
        ("u/envs/b", Why::Venv),
    ];
    home.gives(
        &home.text("u/envs/b/bin/python"),
        "u/envs/b/bin/python",
        &shown,
    );
    assert!(matches!(
        home.refuses(".venv/bin/python"),
        RuntimeError::Venv { .. }
    ));
}

#[test]
fn uv_and_pipx() {
    let mut home = Home::new();
    let python = "u/.local/share/uv/python/cpython-3.11.9-linux-x86_64-gnu";
    let short = "u/.local/share/uv/python/cpython-3.11-linux-x86_64-gnu";
    home.python(python)
        .link(short, "cpython-3.11.9-linux-x86_64-gnu")
        .venv("u/.local/share/uv/tools/agent", &format!("{short}/bin"))
        .venv("u/.local/share/pipx/venvs/piped", &format!("{python}/bin"));
    for (tool, place) in [("agent", "uv/tools"), ("piped", "pipx/venvs")] {
        let venv = format!("u/.local/share/{place}/{tool}");
        home.script(
            &format!("{venv}/bin/{tool}"),
            format!("#!{}\n", home.text(&format!("{venv}/bin/python"))),
        );
        home.link(
            &format!("u/.local/bin/{tool}"),
            home.at(&format!("{venv}/bin/{tool}")),
        );
    }
    home.path(&["u/.local/bin"]);
    let tool = ("u/.local/share/uv/tools/agent", Why::UvTool);
    let runtime = home.gives(
        "agent",
        "u/.local/bin/agent",
        &[tool, (python, Why::UvPython)],
    );
    assert_eq!(links(&home, &runtime), ["u/.local/bin/agent", short]);
    let tool = ("u/.local/share/pipx/venvs/piped", Why::Pipx);
    home.gives(
        "piped",
        "u/.local/bin/piped",
        &[tool, (python, Why::UvPython)],
    );
}

#[test]
fn pip_user_packages() {
    let mut home = Home::new();
    home.script(
        "u/.local/bin/agent",
        format!("#!{}\n", home.text("usr/bin/python3")),
    );
    home.file("u/.local/lib/python3.12/site-packages/agent.py", "");
    home.path(&["u/.local/bin"]);
    let shown = [
        ("u/.local/bin/agent", Why::File),
        ("u/.local/lib/python3.12", Why::PipUser),
    ];
    let runtime = home.gives("agent", "u/.local/bin/agent", &shown);
    let base = ("PYTHONUSERBASE".to_owned(), home.text("u/.local"));
    assert_eq!(runtime.variables, [base]);
}

#[test]
fn pyenv_chooses_as_pyenv_does() {
    let mut home = Home::new();
    home.pyenv()
        .python("u/.pyenv/versions/3.9.1")
        .python("u/.pyenv/versions/3.11.10");
    home.path(&["u/.pyenv/shims", "usr/bin"]);
    home.gives("python3", "usr/bin/python3", &[]);
    let gives = |home: &Home, version: &str| {
        let prefix = format!("u/.pyenv/versions/{version}");
        let program = format!("{prefix}/bin/python3");
        let runtime = home.gives("python3", &program, &[(&prefix, Why::PyenvVersion)]);
        assert_eq!(runtime.argv0, home.text(&program));
        assert_eq!(runtime.path_entries, [home.at(&prefix).join("bin")]);
    };
    home.file("u/.pyenv/version", "3.9.1\n");
    gives(&home, "3.9.1");
    home.file("u/.python-version", "# mine\r\n\r\n3.11.9\r\n3.9.1\r\n");
    gives(&home, "3.11.9");
    home.file("u/ws/.python-version", "\n");
    gives(&home, "3.11.9");
    home.file("u/ws/.python-version", "3.11");
    gives(&home, "3.11.10");
    home.variables
        .push(("PYENV_VERSION", "3.9.1:system".to_owned()));
    gives(&home, "3.9.1");
    home.variables.clear();
    // The same behind `env`, but not where the kernel wants that very path.
    home.script("u/ws/a.py", "#!/usr/bin/env python3\n");
    let shown = [("u/.pyenv/versions/3.11.10", Why::PyenvVersion)];
    home.gives("./a.py", "u/ws/a.py", &shown);
    home.script(
        "u/ws/b.py",
        format!("#!{}\n", home.text("u/.pyenv/shims/python3")),
    );
    assert!(matches!(
        home.refuses("./b.py"),
        RuntimeError::LiteralShim { .. }
    ));
    home.file("u/ws/.python-version", "3.8.0");
    let message = home.refuses("python3").to_string();
    assert!(
        message.contains("3.8.0") && message.contains("not installed"),
        "{message}"
    );
}

#[test]
fn asdf_chooses_by_tool_versions() {
    let mut home = Home::new();
    let node = "u/.asdf/installs/nodejs/20.1.0";
    home.elf(&format!("{node}/bin/node")).script(
        "u/.asdf/shims/node",
        "#!/usr/bin/env bash\n# asdf-plugin: nodejs 20.1.0\n",
    );
    home.path(&["u/.asdf/shims"]);
    assert!(matches!(home.refuses("node"), RuntimeError::Shim { .. }));
    home.file(
        "u/.tool-versions",
        "python 3.11\nnodejs 20.1.0 system # x\n",
    );
    let program = format!("{node}/bin/node");
    home.gives("node", &program, &[(node, Why::AsdfInstall)]);
    home.file("u/ws/.tool-versions", "nodejs ../../../ws\n");
    assert!(matches!(home.refuses("node"), RuntimeError::Version { .. }));
    home.file("u/ws/.tool-versions", "nodejs path:/root\n");
    assert!(matches!(home.refuses("node"), RuntimeError::Version { .. }));
}

#[test]
fn conda_and_others() {
    let mut home = Home::new();
    home.python("u/mini/envs/a")
        .file("u/mini/envs/a/conda-meta/history", "");
    let env = ("u/mini/envs/a", Why::Conda);
    let python = home.text("u/mini/envs/a/bin/python3");
    let runtime = home.gives(&python, "u/mini/envs/a/bin/python3", &[env]);
    assert_eq!(
        runtime.variables,
        [("CONDA_PREFIX".to_owned(), home.text("u/mini/envs/a"))]
    );
    home.python("opt/py");
    let python = home.text("opt/py/bin/python3");
    home.gives(&python, "opt/py/bin/python3", &[("opt/py", Why::Python)]);
    home.elf("brew/bin/brew")
        .elf("brew/Cellar/a/1/bin/a")
        .link("brew/bin/a", "../Cellar/a/1/bin/a");
    home.path(&["brew/bin"]);
    home.gives("a", "brew/bin/a", &[("brew", Why::Homebrew)]);
    let fnm = "u/.local/share/fnm/node-versions/v20.1.0";
    home.elf(&format!("{fnm}/installation/bin/node"))
        .link("run/fnm_1", home.at(&format!("{fnm}/installation")));
    home.path(&["run/fnm_1/bin"]);
    let runtime = home.gives(
        "node",
        &format!("{fnm}/installation/bin/node"),
        &[(fnm, Why::FnmNode)],
    );
    assert!(runtime.links.is_empty());
}

#[test]
fn stand_ins_that_cannot_be_asked_are_refused() {
    let mut home = Home::new();
    home.elf("u/.cargo/bin/rustup")
        .link("u/.cargo/bin/cargo", "rustup");
    home.elf("u/.volta/bin/volta-shim")
        .link("u/.volta/bin/node", "volta-shim");
    home.elf("usr/bin/mise")
        .link("u/.local/share/mise/shims/deno", home.at("usr/bin/mise"));
    home.script("u/.rbenv/shims/ruby", "#!/bin/sh\n");
    home.path(&[
        "u/.cargo/bin",
        "u/.volta/bin",
        "u/.local/share/mise/shims",
        "u/.rbenv/shims",
    ]);
    for command in ["cargo", "node", "deno", "ruby"] {
        let refused = home.refuses(command);
        assert!(matches!(refused, RuntimeError::Shim { .. }), "{refused}");
    }
    home.gives(
        "rustup",
        "u/.cargo/bin/rustup",
        &[("u/.cargo/bin/rustup", Why::CargoBin)],
    );
}

#[test]
fn circles_end() {
    let mut home = Home::new();
    home.link("u/bin/a", "b").link("u/bin/b", "a");
    home.script("u/bin/self", format!("#!{}\n", home.text("u/bin/self")));
    home.script("u/bin/env-self", "#!/usr/bin/env env-self\n");
    home.link("u/ws/.venv/bin/python", home.at("u/ws/.venv/bin/python"));
    home.venv("u/ws/own", "u/ws/own/bin");
    fs::remove_file(home.at("u/ws/own/bin/python")).unwrap();
    home.elf("u/ws/own/bin/python");
    for number in 0..50 {
        home.link(&format!("u/bin/n{number}"), format!("n{}", number + 1));
    }
    home.elf("u/bin/n50");
    home.path(&["u/bin"]);
    for command in [
        "a",
        "self",
        "env-self",
        "./.venv/bin/python",
        "own/bin/python",
        "n0",
    ] {
        let refused = home.refuses(command);
        assert!(
            matches!(refused, RuntimeError::Loop { .. }),
            "{command}: {refused}"
        );
    }
    home.gives("n20", "u/bin/n20", &[("u/bin/n50", Why::File)]);
}

#[test]
fn a_home_is_never_shown() {
    let mut home = Home::new();
    let too_wide = |home: &Home, command: &str| {
        let refused = home.refuses(command);
        assert!(
            matches!(refused, RuntimeError::TooWide { .. }),
            "{command}: {refused}"
        );
        let message = refused.to_string();
        assert!(
            message.contains("runtime: none") && message.contains("files.read"),
            "{message}"
        );
    };
    home.python("u").path(&["u/bin"]);
    too_wide(&home, "python3");
    home.venv("u/ws/.venv", "u/bin");
    too_wide(&home, ".venv/bin/python");
    // An ancestor, `~/.local`, and a folder with the workspace in it.
    home.elf("bin/python3").file("lib/python3.11/os.py", "");
    too_wide(&home, &home.text("bin/python3"));
    fs::create_dir_all(home.at("u/.local/share")).unwrap();
    home.python("u/.local");
    too_wide(&home, &home.text("u/.local/bin/python3"));
    home.elf("u/.ssh/tool")
        .elf("u/.config/x/tool")
        .elf("u/.claude/tool");
    for place in [".ssh", ".config/x", ".claude"] {
        too_wide(&home, &home.text(&format!("u/{place}/tool")));
    }
    // A version that is the home.
    home.script("u/.pyenv/shims/python3", "#!/bin/sh\n")
        .link("u/.pyenv/versions/me", home.at("u"));
    home.variables.push(("PYENV_VERSION", "me".to_owned()));
    too_wide(&home, &home.text("u/.pyenv/shims/python3"));
}

#[test]
fn shared_folders_are_too_wide() {
    let home = Home::new();
    let (cwd, user) = (home.at("u/ws"), home.at("u"));
    let none = |_: &str| None;
    let host = Host::new(&cwd, &[], &[], Some(&user), &[], &none);
    for path in [
        "/", "/home", "/root", "/etc", "/etc/x", "/var", "/var/lib", "/tmp", "/opt", "/home/x",
    ] {
        assert!(host.is_too_wide(Path::new(path)).is_some(), "{path}");
    }
    assert!(host.is_too_wide(&home.root).is_some());
    assert!(host.is_too_wide(Path::new("/opt/conda")).is_none());
    assert!(
        host.is_too_wide(&home.at("u/.nvm/versions/node/v1"))
            .is_none()
    );
}

#[test]
fn a_workspace_shows_no_plain_files() {
    let mut home = Home::new();
    home.elf("u/bin/tool")
        .script("u/bin/deploy", "#!/bin/sh\nTOKEN=x\n")
        .elf("u/.bun/bin/bun");
    home.elf("u/out/tool")
        .link("u/out/led", home.at("u/bin/tool"));
    home.link("u/ws/a", home.at("u/bin/tool"))
        .link("u/ws/dir", home.at("u/bin"))
        .script("u/ws/b", format!("#!{}\n", home.text("u/bin/tool")))
        .script("u/ws/c", "#!/usr/bin/env deploy\n")
        .script("u/ws/d", "#!/usr/bin/env bun\n");
    home.path(&["u/bin", "u/.bun/bin"]);
    home.writable = vec![home.at("u/out")];
    let led = home.text("u/out/led");
    for command in ["./a", "dir/tool", "./b", "./c", &led] {
        let refused = home.refuses(command);
        assert!(
            matches!(refused, RuntimeError::Unrecognised { .. }),
            "{command}: {refused}"
        );
    }
    home.gives("tool", "u/bin/tool", &[("u/bin/tool", Why::File)]);
    home.gives("./d", "u/ws/d", &[("u/.bun/bin/bun", Why::File)]);
}

#[test]
fn a_venv_of_the_workspace_names_real_pythons_only() {
    let home = Home::new();
    home.file("u/secret/key", "")
        .elf("u/secret/bin/python3")
        .elf("u/py/python3");
    home.elf("u/ws/.venv/bin/python");
    let bad = [
        "/".to_owned(),
        "bin".to_owned(),
        home.text("u"),
        home.text("u/secret/bin"),
        home.text("u/py"),
        format!("{}/../../.ssh", home.text("u/ws")),
        home.text("u/nothing/bin"),
        String::new(),
    ];
    for value in bad {
        home.file("u/ws/.venv/pyvenv.cfg", format!("home = {value}\n"));
        let refused = home.refuses(".venv/bin/python");
        assert!(
            matches!(refused, RuntimeError::Venv { .. }),
            "{value}: {refused}"
        );
    }
    home.file("u/ws/.venv/pyvenv.cfg", "version = 3\n");
    assert!(matches!(
        home.refuses(".venv/bin/python"),
        RuntimeError::Venv { .. }
    ));
    // The folder is a Python's, but what lies there leads to something else.
    home.python("u/ok").elf("u/ok/else");
    fs::remove_file(home.at("u/ok/bin/python3")).unwrap();
    home.link("u/ok/bin/python3", home.at("u/secret/bin/python3"));
    home.file(
        "u/ws/.venv/pyvenv.cfg",
        format!("HOME={}\r\n", home.text("u/ok/bin")),
    );
    let refused = home.refuses(".venv/bin/python");
    assert!(
        matches!(refused, RuntimeError::Unrecognised { .. }),
        "{refused}"
    );
}

#[test]
fn version_files_lead_nowhere_else() {
    let mut home = Home::new();
    home.pyenv()
        .elf("u/bin/python3")
        .file("u/.ssh/id", "PRIVATE KEY\n");
    home.path(&["u/.pyenv/shims"]);
    let long = "9".repeat(200);
    for version in [
        "../../..",
        "/root",
        "..",
        ".",
        "3.11.9/../../..",
        "a/b",
        "3.11.9/envs/../..",
        &long,
    ] {
        home.file("u/ws/.python-version", version);
        let refused = home.refuses("python3");
        assert!(
            matches!(refused, RuntimeError::Version { .. }),
            "{version}: {refused}"
        );
    }
    home.file("u/ws/.python-version", [0xff, 0xfe]);
    assert!(matches!(
        home.refuses("python3"),
        RuntimeError::NotText { .. }
    ));
    home.file("u/ws/.python-version", "3.11.9\n".repeat(1000));
    assert!(matches!(
        home.refuses("python3"),
        RuntimeError::Unreadable { .. }
    ));
    // A link might make a message show the key, a FIFO might wait for ever.
    fs::remove_file(home.at("u/ws/.python-version")).unwrap();
    home.link("u/ws/.python-version", home.at("u/.ssh/id"));
    let refused = home.refuses("python3");
    assert!(
        matches!(refused, RuntimeError::Unreadable { .. }),
        "{refused}"
    );
    assert!(!refused.to_string().contains("PRIVATE"));
    fs::remove_file(home.at("u/ws/.python-version")).unwrap();
    let mode = rustix::fs::Mode::from_raw_mode(0o600);
    let fifo = home.at("u/ws/.python-version");
    rustix::fs::mknodat(rustix::fs::CWD, &fifo, rustix::fs::FileType::Fifo, mode, 0).unwrap();
    assert!(matches!(
        home.refuses("python3"),
        RuntimeError::Unreadable { .. }
    ));
}

#[test]
fn a_version_outside_pyenv_must_be_a_runtime() {
    let mut home = Home::new();
    home.pyenv()
        .elf("u/other/bin/python3")
        .link("u/.pyenv/versions/x", home.at("u/other"));
    home.file("u/ws/.python-version", "x");
    home.path(&["u/.pyenv/shims"]);
    assert!(matches!(
        home.refuses("python3"),
        RuntimeError::Unrecognised { .. }
    ));
}

#[test]
fn broken_first_lines() {
    let home = Home::new();
    let long = format!("#!/{}\n", "a".repeat(300));
    let lines: [&[u8]; 8] = [
        long.as_bytes(),
        b"#!\n",
        b"#!  \t\n",
        b"#!/usr/bin/env\n",
        b"#!/usr/bin/env -i node\n",
        b"#!/usr/bin/env ../x\n",
        b"#!/usr/bin/env \xff\xfe\n",
        b"#!bin/sh\r\n",
    ];
    for line in lines {
        home.script("u/ws/a", line);
        let refused = home.refuses("./a");
        assert!(matches!(refused, RuntimeError::Shebang { .. }), "{refused}");
    }
    home.script("u/ws/a", b"#!/no\xff/where\n");
    assert!(matches!(home.refuses("./a"), RuntimeError::Missing { .. }));
    home.script("u/ws/a", "#!/usr/bin/env nothing-there\n");
    assert!(matches!(
        home.refuses("./a"),
        RuntimeError::Interpreter { .. }
    ));
    home.script("u/ws/a", "#!/proc/self/exe\n");
    assert!(matches!(
        home.refuses("./a"),
        RuntimeError::NotRunnable { .. }
    ));
}

#[test]
fn names_that_are_no_text() {
    use std::os::unix::ffi::OsStrExt;
    let mut home = Home::new();
    let odd = home.root.join(OsStr::from_bytes(b"u/\xff"));
    fs::create_dir_all(odd.join("bin")).unwrap();
    fs::copy(home.at("usr/bin/sh"), odd.join("bin/tool")).unwrap();
    home.search = vec![odd.join("bin")];
    let runtime = home.find("tool").unwrap();
    assert_eq!(runtime.argv0, "tool");
    assert_eq!(runtime.program, odd.join("bin/tool"));
    fs::write(
        odd.join("pyvenv.cfg"),
        format!("home = {}\n", home.text("usr/bin")),
    )
    .unwrap();
    assert!(matches!(home.refuses("tool"), RuntimeError::NotText { .. }));
}

#[test]
fn what_is_not_there_is_said() {
    let mut home = Home::new();
    for name in ["nothing", "", ".", ".."] {
        assert!(
            matches!(home.refuses(name), RuntimeError::NotFound { .. }),
            "{name}"
        );
    }
    home.link("u/bin/gone", "../share/gone");
    home.path(&["u/bin"]);
    assert!(matches!(home.refuses("gone"), RuntimeError::Missing { .. }));
    for folder in ["./", "/", "../", "./x/.."] {
        fs::create_dir_all(home.at("u/ws/x")).unwrap();
        let refused = home.refuses(folder);
        assert!(
            matches!(refused, RuntimeError::NotRunnable { .. }),
            "{folder}: {refused}"
        );
    }
    // A relative entry of PATH is the workspace's, whose answer would be the agent's.
    home.elf("u/ws/ls");
    home.search = vec![PathBuf::from("."), PathBuf::new()];
    assert!(matches!(home.refuses("ls"), RuntimeError::NotFound { .. }));
}

#[test]
fn a_home_that_is_a_link() {
    let mut home = Home::new();
    home.pyenv()
        .venv("u/envs/a", "u/.pyenv/versions/3.11.9/bin")
        .link("alias", "u");
    home.script(
        "u/envs/a/bin/agent",
        format!("#!{}\n", home.text("alias/envs/a/bin/python")),
    );
    home.path(&["alias/envs/a/bin"]);
    let shown = [
        ("u/.pyenv/versions/3.11.9", Why::PyenvVersion),
        ("u/envs/a", Why::Venv),
    ];
    home.gives("python", "u/envs/a/bin/python", &shown);
    let runtime = home.gives("agent", "u/envs/a/bin/agent", &shown);
    assert_eq!(links(&home, &runtime), ["alias"]);
}
