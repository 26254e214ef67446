//! Each layout as its manager lays it out, in a home made up for the test; then what a hostile
//! workspace may try.

mod hostile;
mod layouts;

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use super::host::Host;
use super::{Link, Runtime, RuntimeError, Why, discover_on};

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
        let host = Host {
            cwd: &cwd,
            search: &self.search,
            system: &system,
            home: Some(home),
            writable: &self.writable,
            ours: vec![self.at("u/state/agt")],
            variable: &variable,
        };
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
        let mut wanted: Vec<(String, Why)> = shown
            .iter()
            .map(|(path, why)| ((*path).to_owned(), *why))
            .collect();
        wanted.sort();
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
