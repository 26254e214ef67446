//! Which program a command names, as seen from inside the ring: PATH and `#!` are resolved here,
//! since a ring with a single exec has none left for `env` or a shell.

use std::ffi::OsStr;
use std::io::Read;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

/// Where programs are looked for inside.
pub(crate) const PATH: &str = "/usr/local/bin:/usr/bin:/bin";

/// A resolved command.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Program {
    /// What is executed, absolute inside.
    pub(crate) path: PathBuf,
    /// Its arguments, the name first.
    pub(crate) argv: Vec<String>,
}

/// Why a command cannot be run.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub(crate) enum ProgramError {
    #[error(
        "command `{name}` is not found in the ring; it looks in {path}: write an absolute path, or grant its folder with `files.read`"
    )]
    NotFound { name: String, path: String },
    #[error("`{}` exists, but the ring does not see it: grant it with `files.read`", path.display())]
    Hidden { path: PathBuf },
    #[error("`{}` cannot be run: {why}", path.display())]
    NotRunnable { path: PathBuf, why: &'static str },
    #[error("`{}` asks for the interpreter `{interpreter}`, which is not in the ring: grant it with `files.read`, or name it in `command`", script.display())]
    Interpreter {
        script: PathBuf,
        interpreter: String,
    },
}

/// What can be seen inside, by host path.
pub(crate) trait View {
    /// Whether this canonical path is inside one of the ring's grants.
    fn sees(&self, path: &Path) -> bool;
}

/// Where a command is looked up.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Search<'a> {
    /// For names with a slash.
    pub(crate) cwd: &'a Path,
    /// PATH inside.
    pub(crate) path: &'a str,
}

/// Finds the program of `command`. `single_exec` rings get `#!/usr/bin/env X` resolved as well.
pub(crate) fn resolve(
    command: &[String],
    search: Search<'_>,
    view: &impl View,
    single_exec: bool,
) -> Result<Program, ProgramError> {
    let Some((name, rest)) = command.split_first() else {
        return Err(ProgramError::NotFound {
            name: String::new(),
            path: search.path.to_owned(),
        });
    };
    let path = find(name, search, view)?;
    let shebang = shebang(&path);
    let Some(shebang) = shebang else {
        return Ok(Program {
            path,
            argv: command.to_vec(),
        });
    };
    let script = path.to_string_lossy().into_owned();
    let missing = |interpreter: &str| ProgramError::Interpreter {
        script: path.clone(),
        interpreter: interpreter.into(),
    };
    let interpreter =
        find(&shebang.interpreter, search, view).map_err(|_| missing(&shebang.interpreter))?;
    let is_env = interpreter.file_name() == Some(OsStr::new("env"));
    if !single_exec || !is_env {
        return Ok(Program {
            path,
            argv: command.to_vec(),
        });
    }
    let mut words = shebang
        .argument
        .split_whitespace()
        .skip_while(|word| *word == "-S");
    let wanted = words.next().ok_or_else(|| missing("env"))?;
    let program = find(wanted, search, view).map_err(|_| missing(wanted))?;
    let mut argv = vec![wanted.to_owned()];
    argv.extend(words.map(str::to_owned));
    argv.push(script);
    argv.extend_from_slice(rest);
    Ok(Program {
        path: program,
        argv,
    })
}

fn find(name: &str, search: Search<'_>, view: &impl View) -> Result<PathBuf, ProgramError> {
    let not_found = |name: String| ProgramError::NotFound {
        name,
        path: search.path.to_owned(),
    };
    if name.contains('/') {
        // Without `.` in the middle; `..` may cross a link and stays.
        let path: PathBuf = search.cwd.join(name).components().collect();
        if !path.exists() {
            return Err(not_found(path.to_string_lossy().into_owned()));
        }
        return runnable(path, view);
    }
    let candidates = search.path.split(':').map(|dir| Path::new(dir).join(name));
    let mut seen = candidates
        .filter(|path| path.exists())
        .map(|path| runnable(path, view));
    let first = seen.next().ok_or_else(|| not_found(name.to_owned()))?;
    first.or_else(|error| seen.find_map(Result::ok).ok_or(error))
}

/// The path as it is executed inside: the given one, if what it leads to can be seen.
fn runnable(path: PathBuf, view: &impl View) -> Result<PathBuf, ProgramError> {
    let Ok(real) = path.canonicalize() else {
        return Err(ProgramError::NotRunnable {
            path,
            why: "it leads nowhere",
        });
    };
    if !view.sees(&real) {
        return Err(ProgramError::Hidden { path: real });
    }
    // A link that leads to something visible may itself be out of sight.
    let folder = path.parent().and_then(|folder| folder.canonicalize().ok());
    let own = folder.and_then(|folder| Some(folder.join(path.file_name()?)));
    if !own.is_some_and(|own| view.sees(&own)) {
        return Err(ProgramError::Hidden { path });
    }
    let refuse = |why| {
        Err(ProgramError::NotRunnable {
            path: real.clone(),
            why,
        })
    };
    match real.metadata() {
        Ok(meta) if meta.is_dir() => refuse("it is a folder"),
        Ok(meta) if !meta.is_file() => refuse("it is not a file"),
        Ok(meta) if meta.permissions().mode() & 0o111 == 0 => {
            refuse("it is not executable; use chmod +x, or name its interpreter in `command`")
        }
        // Not the resolved one: a virtual environment is found by the link's own place.
        Ok(_) => Ok(path),
        Err(_) => refuse("it cannot be looked at"),
    }
}

struct Shebang {
    interpreter: String,
    argument: String,
}

/// The first line of a script, as execve(2) reads it: at most 255 bytes.
fn shebang(path: &Path) -> Option<Shebang> {
    let mut head = Vec::new();
    std::fs::File::open(path)
        .ok()?
        .take(256)
        .read_to_end(&mut head)
        .ok()?;
    let line = head
        .strip_prefix(b"#!")?
        .split(|byte| *byte == b'\n')
        .next()?;
    let line = OsStr::from_bytes(line).to_str()?.trim();
    let (interpreter, argument) = line.split_once([' ', '\t']).unwrap_or((line, ""));
    Some(Shebang {
        interpreter: interpreter.into(),
        argument: argument.trim().into(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    struct All;

    impl View for All {
        fn sees(&self, _: &Path) -> bool {
            true
        }
    }

    struct Nothing;

    impl View for Nothing {
        fn sees(&self, _: &Path) -> bool {
            false
        }
    }

    fn at(cwd: &Path) -> Search<'_> {
        Search { cwd, path: PATH }
    }

    fn words(line: &str) -> Vec<String> {
        line.split(' ').map(str::to_owned).collect()
    }

    #[test]
    fn a_name_is_looked_up_and_its_words_kept() {
        let found = resolve(&words("sh -c true"), at(Path::new("/")), &All, true).unwrap();
        assert_eq!(found.argv, words("sh -c true"));
        assert!(found.path.is_absolute());
    }

    #[test]
    fn what_the_ring_does_not_see_is_not_run() {
        let refused = resolve(&words("sh"), at(Path::new("/")), &Nothing, false).unwrap_err();
        assert!(matches!(refused, ProgramError::Hidden { .. }), "{refused}");
    }

    #[test]
    fn env_shebangs_are_resolved_for_a_single_exec() {
        let dir = std::env::temp_dir().join(format!("agt-shebang-{}", std::process::id()));
        std::fs::create_dir_all(&dir).unwrap();
        let script = dir.join("tool");
        std::fs::write(&script, "#!/usr/bin/env -S sh -e\ntrue\n").unwrap();
        std::fs::set_permissions(&script, std::fs::Permissions::from_mode(0o755)).unwrap();
        let found = resolve(&words("./tool x"), at(&dir), &All, true).unwrap();
        let script = script
            .canonicalize()
            .unwrap()
            .to_string_lossy()
            .into_owned();
        assert_eq!(found.argv, ["sh", "-e", &script, "x"]);
        let plain = resolve(&words("./tool x"), at(&dir), &All, false).unwrap();
        assert_eq!(plain.argv, words("./tool x"));
        std::fs::remove_dir_all(&dir).unwrap();
    }
}
