//! From a path, through links, stand-ins and `#!` lines, to all that it needs.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};

use super::error::RuntimeError;
use super::files::{self, Head, Shebang};
use super::host::Host;
use super::layout::{self, Layout, Why};
use super::{Link, Prefix, Runtime, shim};

/// Links, interpreters and shims of one command, together; as many as the kernel follows links.
const STEPS_MAX: usize = 40;

/// How a program came to be looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Via {
    /// It is the command.
    Command,
    /// `#!/usr/bin/env NAME`: looked up on PATH, also inside.
    Env,
    /// Written out in a `#!` line: the kernel wants it at that very path.
    Literal,
    /// `home` of a `pyvenv.cfg`.
    Base,
}

impl Via {
    /// Whether it is found by name inside, so that its folder has to be on PATH.
    fn is_by_name(self) -> bool {
        matches!(self, Via::Command | Via::Env)
    }
}

/// Where following a path has ended.
pub(super) struct Landed {
    pub(super) program: PathBuf,
    real: PathBuf,
}

pub(super) struct Walk<'a> {
    host: &'a Host<'a>,
    steps: usize,
    has_node: bool,
    prefixes: Vec<Prefix>,
    links: Vec<Link>,
    path_entries: Vec<PathBuf>,
    variables: Vec<(String, String)>,
}

impl<'a> Walk<'a> {
    pub(super) fn new(host: &'a Host<'a>) -> Self {
        Self {
            host,
            steps: 0,
            has_node: false,
            prefixes: Vec::new(),
            links: Vec::new(),
            path_entries: Vec::new(),
            variables: Vec::new(),
        }
    }

    fn step(&mut self, by: usize, path: &Path) -> Result<(), RuntimeError> {
        self.steps = self.steps.saturating_add(by);
        if self.steps > STEPS_MAX {
            return Err(RuntimeError::Loop {
                path: path.to_owned(),
            });
        }
        Ok(())
    }

    /// Follows a path through links, shims and `#!` to the end. `confined`: an agent may have
    /// chosen it, so only recognised runtimes will do.
    pub(super) fn follow(
        &mut self,
        path: &Path,
        confined: bool,
        via: Via,
    ) -> Result<Landed, RuntimeError> {
        self.step(1, path)?;
        let chase = self.host.chase(path, STEPS_MAX)?;
        self.step(chase.links.len(), path)?;
        let confined = confined || chase.is_led_by(self.host);
        for station in &chase.stations {
            let Some(shim) = shim::of(self.host, station) else {
                continue;
            };
            if !via.is_by_name() {
                return Err(shim.refuse_literal(path));
            }
            let chosen = shim.resolve(self.host)?;
            // Where a manager was asked, its own runtimes are meant.
            return self.follow(&chosen, true, via);
        }
        let (Some(first), Some(real)) = (chase.stations.first(), chase.stations.last()) else {
            return Err(RuntimeError::NotRunnable {
                path: path.to_owned(),
                why: "it is a folder",
            });
        };
        let head = files::head(real)?;
        if via.is_by_name() && !self.host.in_system(first) {
            let folder = first.parent().map(Path::to_owned);
            self.path_entries.extend(folder);
        }
        for station in &chase.stations {
            self.admit(station, station == real, confined, via, &head)?;
        }
        let literal = !via.is_by_name();
        let needed = chase
            .links
            .iter()
            .skip(if literal { 0 } else { chase.before });
        for link in needed {
            self.link(link, path)?;
        }
        self.interpreter(real, head, confined)?;
        Ok(Landed {
            program: first.clone(),
            real: real.clone(),
        })
    }

    /// A link is made again inside, but never one that others of the ring's paths go through.
    fn link(&mut self, link: &Link, path: &Path) -> Result<(), RuntimeError> {
        if self.is_shown(&link.path) {
            return Ok(());
        }
        if self.host.is_too_wide(&link.path).is_some() {
            return Err(RuntimeError::Link {
                path: path.to_owned(),
                link: link.path.clone(),
            });
        }
        self.links.push(Link {
            path: link.path.clone(),
            to: link.to.clone(),
        });
        Ok(())
    }

    /// Shows the runtime that one place on the way belongs to.
    fn admit(
        &mut self,
        station: &Path,
        is_last: bool,
        confined: bool,
        via: Via,
        head: &Head,
    ) -> Result<(), RuntimeError> {
        if self.host.in_system(station) {
            return Ok(());
        }
        if let Some(layout) = layout::of(self.host, station) {
            return self.admit_layout(layout, station, confined, head);
        }
        if !is_last || self.is_shown(station) {
            return Ok(());
        }
        let is_known = via == Via::Env && *head == Head::Elf && layout::is_interpreter(station);
        if confined && !is_known {
            return Err(RuntimeError::Unrecognised {
                path: station.to_owned(),
            });
        }
        if *head == Head::Other {
            return Err(RuntimeError::NotRunnable {
                path: station.to_owned(),
                why: "it is neither a binary nor a script with a `#!` line",
            });
        }
        if let Some(why) = self.host.is_private(station) {
            return Err(self.too_wide(station, station, why));
        }
        self.show(station, layout::of_file(self.host, station));
        Ok(())
    }

    fn admit_layout(
        &mut self,
        layout: Layout,
        station: &Path,
        confined: bool,
        head: &Head,
    ) -> Result<(), RuntimeError> {
        if !self.host.is_visible(&layout.prefix) {
            if let Some(why) = self.host.is_too_wide(&layout.prefix) {
                return Err(self.too_wide(station, &layout.prefix, why));
            }
            self.show(&layout.prefix, layout.why);
        }
        if let Some(name) = layout.why.variable() {
            self.set(name, &layout.prefix)?;
        }
        if layout.why.is_venv() {
            self.base(&layout.prefix, confined)?;
        }
        if layout.why.is_npm() {
            self.node(head, confined)?;
        }
        Ok(())
    }

    /// Scripts of packages may be shell scripts that look node up themselves.
    fn node(&mut self, head: &Head, confined: bool) -> Result<(), RuntimeError> {
        if self.has_node || !matches!(head, Head::Script(_)) {
            return Ok(());
        }
        self.has_node = true;
        match self.host.look_up("node", None) {
            Some(node) => self.follow(&node, confined, Via::Env).map(drop),
            None => Ok(()),
        }
    }

    fn too_wide(&self, program: &Path, prefix: &Path, why: &'static str) -> RuntimeError {
        RuntimeError::TooWide {
            program: program.to_owned(),
            prefix: prefix.to_owned(),
            why,
        }
    }

    fn is_shown(&self, path: &Path) -> bool {
        self.host.is_visible(path) || self.prefixes.iter().any(|p| path.starts_with(&p.path))
    }

    fn show(&mut self, path: &Path, why: Why) {
        let path = path.to_owned();
        self.prefixes.push(Prefix { path, why });
    }

    fn set(&mut self, name: &str, value: &Path) -> Result<(), RuntimeError> {
        let value = value.to_str().ok_or_else(|| RuntimeError::NotText {
            path: value.to_owned(),
        })?;
        if !self.variables.iter().any(|(known, _)| known == name) {
            self.variables.push((name.to_owned(), value.to_owned()));
        }
        Ok(())
    }

    /// The interpreter that a virtual environment was made from, which must be a real one: another
    /// environment may be a whole project, so an agent cannot name it.
    fn base(&mut self, venv: &Path, confined: bool) -> Result<(), RuntimeError> {
        let config = venv.join("pyvenv.cfg");
        let wrong = |why| RuntimeError::Venv {
            config: config.clone(),
            why,
        };
        let confined = confined || self.host.is_writable(venv);
        let home = files::pyvenv_home(&config)?;
        let python = layout::python_in(&home)
            .ok_or_else(|| wrong("its `home` has no python; make the environment again"))?;
        let folder = home
            .canonicalize()
            .map_err(|_| wrong("its `home` cannot be read; make the environment again"))?;
        let prefix = folder.parent().unwrap_or(&folder);
        let is_known = self.host.is_visible(&folder)
            || layout::is_python(prefix)
            || layout::is_conda(prefix)
            || (!confined && prefix.join("pyvenv.cfg").is_file() && prefix != venv);
        if folder.file_name() != Some(OsStr::new("bin")) || !is_known {
            return Err(wrong(
                "its `home` is not the `bin` of a Python installation; make the environment again",
            ));
        }
        self.follow(&python, confined, Via::Base).map(drop)
    }

    fn interpreter(
        &mut self,
        script: &Path,
        head: Head,
        confined: bool,
    ) -> Result<(), RuntimeError> {
        let shebang = match head {
            Head::Script(shebang) => shebang,
            Head::Elf | Head::Other => return Ok(()),
        };
        let confined = confined || self.host.is_writable(script);
        let landed = match shebang {
            Shebang::Path(path) => self.follow(&path, confined, Via::Literal)?,
            Shebang::Env(name) => {
                let found = self.host.look_up(&name, None);
                let found = found.ok_or_else(|| RuntimeError::Interpreter {
                    script: script.to_owned(),
                    interpreter: name,
                })?;
                self.follow(&found, confined, Via::Env)?
            }
        };
        if let Some((base, packages)) = layout::user_site(self.host, script, &landed.real)
            && !confined
        {
            self.show(&packages, Why::PipUser);
            self.set("PYTHONUSERBASE", &base)?;
        }
        Ok(())
    }

    pub(super) fn finish(self, program: PathBuf, argv0: String) -> Runtime {
        let mut prefixes: Vec<Prefix> = Vec::new();
        let mut all = self.prefixes;
        // An outer path sorts before what lies in it.
        all.sort();
        for prefix in all {
            if !prefixes.iter().any(|p| prefix.path.starts_with(&p.path)) {
                prefixes.push(prefix);
            }
        }
        let mut links = self.links;
        links.sort();
        links.dedup();
        links.retain(|link| !prefixes.iter().any(|p| link.path.starts_with(&p.path)));
        let mut path_entries = Vec::new();
        for entry in self.path_entries {
            if !path_entries.contains(&entry) {
                path_entries.push(entry);
            }
        }
        Runtime {
            program,
            argv0,
            prefixes,
            links,
            path_entries,
            variables: self.variables,
        }
    }
}
