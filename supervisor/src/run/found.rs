//! The runtime of a command as the ring takes it: found by `runtime: auto`, or nothing.

use std::path::{Path, PathBuf};

use profiles::Ring;

use super::program::{PATH, Program};
use super::runtime::{self, Link, Prefix, Runtime, RuntimeError};

/// What was found, if anything was looked for.
#[derive(Debug)]
pub(crate) struct Found(Option<Runtime>);

impl Found {
    pub(crate) fn look(
        ring: &Ring,
        workspace: &Path,
        system: &[PathBuf],
        writable: &[PathBuf],
    ) -> Result<Self, RuntimeError> {
        if !ring.runtime_auto {
            return Ok(Self(None));
        }
        let caller = std::env::var_os("PATH").unwrap_or_else(|| PATH.into());
        let search: Vec<PathBuf> = std::env::split_paths(&caller).collect();
        let home = std::env::var_os("HOME").map(PathBuf::from);
        let home = home.as_deref().filter(|home| home.is_absolute());
        runtime::discover(&ring.command, workspace, &search, system, home, writable)
            .map(|runtime| Self(Some(runtime)))
    }

    pub(crate) fn prefixes(&self) -> &[Prefix] {
        self.0.as_ref().map_or(&[], |runtime| &runtime.prefixes)
    }

    pub(crate) fn links(&self) -> &[Link] {
        self.0.as_ref().map_or(&[], |runtime| &runtime.links)
    }

    pub(crate) fn variables(&self) -> &[(String, String)] {
        self.0.as_ref().map_or(&[], |runtime| &runtime.variables)
    }

    /// PATH inside.
    pub(crate) fn path(&self) -> String {
        let own = self.0.iter().flat_map(|runtime| &runtime.path_entries);
        // A path with a colon in it cannot be said in PATH.
        let own = own.filter_map(|path| path.to_str().filter(|path| !path.contains(':')));
        own.chain([PATH]).collect::<Vec<_>>().join(":")
    }

    /// The command with its program as it is executed.
    pub(crate) fn command(&self, command: &[String]) -> Vec<String> {
        let mut command = command.to_vec();
        let program = self.0.as_ref().and_then(|runtime| runtime.program.to_str());
        if let (Some(first), Some(program)) = (command.first_mut(), program) {
            program.clone_into(first);
        }
        command
    }

    /// The program under the name that it is to see as its own.
    pub(crate) fn named(&self, mut program: Program) -> Program {
        if let Some(runtime) = &self.0
            && program.path == runtime.program
            && let Some(first) = program.argv.first_mut()
        {
            first.clone_from(&runtime.argv0);
        }
        program
    }
}
