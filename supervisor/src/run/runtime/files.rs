//! Reading what may be hostile: small regular files only, never through a link, never blocking.

use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;
use std::path::{Component, Path, PathBuf};

use rustix::fs::{Mode, OFlags};

use super::error::RuntimeError;

/// What execve(2) reads of a script (BINPRM_BUF_SIZE).
const SHEBANG_BYTES: usize = 256;

/// Version files and `pyvenv.cfg` are a few lines.
const CONFIG_BYTES_MAX: usize = 4096;

/// How a program begins.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Head {
    Elf,
    Script(Shebang),
    Other,
}

/// Who interprets a script.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Shebang {
    Path(PathBuf),
    /// Through env(1), by name.
    Env(String),
}

fn open(path: &Path) -> io::Result<File> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    Ok(File::from(rustix::fs::open(path, flags, Mode::empty())?))
}

fn start(file: &File, limit: usize) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let limit = u64::try_from(limit).unwrap_or(u64::MAX);
    file.take(limit).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// The beginning of a program; `path` is canonical.
pub(super) fn head(path: &Path) -> Result<Head, RuntimeError> {
    let refuse = |why| RuntimeError::NotRunnable {
        path: path.to_owned(),
        why,
    };
    let unreadable = |error| RuntimeError::Unreadable {
        path: path.to_owned(),
        error,
    };
    let meta = std::fs::symlink_metadata(path).map_err(unreadable)?;
    if meta.is_dir() {
        return Err(refuse("it is a folder"));
    }
    if !meta.is_file() {
        return Err(refuse("it is not a file"));
    }
    if meta.permissions().mode() & 0o111 == 0 {
        return Err(refuse("it is not executable"));
    }
    let bytes = open(path).and_then(|file| start(&file, SHEBANG_BYTES));
    let bytes = bytes.map_err(unreadable)?;
    if bytes.starts_with(b"\x7fELF") {
        return Ok(Head::Elf);
    }
    match bytes.strip_prefix(b"#!") {
        Some(line) => shebang(line, path).map(Head::Script),
        None => Ok(Head::Other),
    }
}

fn shebang(bytes: &[u8], script: &Path) -> Result<Shebang, RuntimeError> {
    let wrong = |why| RuntimeError::Shebang {
        script: script.to_owned(),
        why,
    };
    let end = bytes.iter().position(|byte| *byte == b'\n');
    if end.is_none() && bytes.len() + 2 >= SHEBANG_BYTES {
        return Err(wrong("is longer than the 255 bytes that the kernel reads"));
    }
    let line = bytes.get(..end.unwrap_or(bytes.len())).unwrap_or(bytes);
    let mut words = line
        .split(|byte| matches!(byte, b' ' | b'\t'))
        .filter(|word| !word.is_empty());
    let interpreter = words.next().ok_or_else(|| wrong("names no interpreter"))?;
    let path = Path::new(OsStr::from_bytes(interpreter));
    if interpreter.contains(&0) || interpreter.contains(&b'\r') {
        return Err(wrong("holds a NUL byte or a carriage return"));
    }
    if !path.is_absolute() {
        return Err(wrong("names its interpreter by a relative path"));
    }
    if path != Path::new("/usr/bin/env") && path != Path::new("/bin/env") {
        return Ok(Shebang::Path(path.to_owned()));
    }
    let name = words
        .map(|word| std::str::from_utf8(word).map(str::trim_end))
        .find(|word| !matches!(word, Ok("-S")) && !word.is_ok_and(is_assignment))
        .ok_or_else(|| wrong("gives env nothing to run"))?;
    match name {
        Ok(name) if !name.is_empty() && !name.starts_with('-') && !name.contains('/') => {
            Ok(Shebang::Env(name.to_owned()))
        }
        Ok(_) | Err(_) => Err(wrong("gives env something else than a program's name")),
    }
}

fn is_assignment(word: &str) -> bool {
    word.contains('=')
}

/// A small text file, `None` where there is none.
pub(super) fn config(path: &Path) -> Result<Option<String>, RuntimeError> {
    let unreadable = |error| RuntimeError::Unreadable {
        path: path.to_owned(),
        error,
    };
    let file = match open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) if error.kind() == io::ErrorKind::NotADirectory => return Ok(None),
        // Its text might be shown in a message, and the link lead to any file of the caller's.
        Err(error) if error.raw_os_error() == Some(rustix::io::Errno::LOOP.raw_os_error()) => {
            return Err(unreadable(io::Error::other("it is a link")));
        }
        Err(error) => return Err(unreadable(error)),
    };
    if !file.metadata().map_err(unreadable)?.is_file() {
        return Err(unreadable(io::Error::other("it is not a file")));
    }
    let bytes = start(&file, CONFIG_BYTES_MAX + 1).map_err(unreadable)?;
    if bytes.len() > CONFIG_BYTES_MAX {
        return Err(unreadable(io::Error::other("it is longer than 4 KiB")));
    }
    let text = String::from_utf8(bytes);
    text.map(Some).map_err(|_| RuntimeError::NotText {
        path: path.to_owned(),
    })
}

/// `home` of a `pyvenv.cfg`, as Python reads it.
pub(super) fn pyvenv_home(config: &Path) -> Result<PathBuf, RuntimeError> {
    let wrong = |why| RuntimeError::Venv {
        config: config.to_owned(),
        why,
    };
    let text = self::config(config)?.unwrap_or_default();
    let home = text.lines().find_map(|line| {
        let (key, value) = line.split_once('=')?;
        key.trim()
            .eq_ignore_ascii_case("home")
            .then(|| PathBuf::from(value.trim()))
    });
    let home = home.ok_or_else(|| wrong("it has no `home`; make the environment again"))?;
    let is_plain = home.is_absolute()
        && home
            .components()
            .all(|part| matches!(part, Component::RootDir | Component::Normal(_)));
    if is_plain && !home.as_os_str().as_bytes().contains(&0) {
        Ok(home)
    } else {
        Err(wrong(
            "its `home` is not a plain absolute path; make the environment again",
        ))
    }
}
