//! `ring new|lint|diff`: profiles written, looked over and compared before they are installed.

use std::io::Write;
use std::path::{Path, PathBuf};

use profiles::{Change, Direction, Rings};
use serde_json::{Value, json};

use super::files;
use crate::error::Failed;
use crate::reference::{line, print};
use crate::{banner, who, words};

/// Writes the beginning of a profile, to a file that does not exist yet or to standard output.
pub(crate) fn new(name: &str, parent: &str, out: Option<&Path>) -> Result<u8, Failed> {
    let (mut rings, parent) = files::open(parent)?;
    let text = profiles::skeleton(name, &parent);
    let file = out.map_or("the new profile".into(), |path| path.to_string_lossy());
    // A name that is taken or no name is refused here.
    let wrong = rings.add(&[(file.into_owned(), text.clone().into_bytes())]);
    if let Some((_, error)) = wrong.into_iter().next() {
        return Err(error.into());
    }
    let Some(path) = out else {
        return print(&text);
    };
    let failed = |error| Failed::File {
        path: path.to_owned(),
        error,
    };
    let mut file = std::fs::File::create_new(path).map_err(failed)?;
    file.write_all(text.as_bytes()).map_err(failed)?;
    line!("{}: written; look it over with `ring lint`", path.display());
    Ok(0)
}

/// Reads profiles against the built-in rings and each other, as if they were installed together.
/// 0 fine, 1 something to look at again, 2 wrong.
pub(crate) fn lint(given: &[PathBuf], dir: Option<&Path>) -> Result<u8, Failed> {
    let mut paths = given.to_vec();
    if let Some(dir) = dir {
        let beside = files::profiles_in(dir)?;
        paths.extend(beside.into_iter().filter(|path| !given.contains(path)));
        refuse_yml(dir)?;
    }
    let sources: Vec<(String, Vec<u8>)> = paths
        .iter()
        .map(|path| files::source(path))
        .collect::<Result<_, _>>()?;
    let mut rings = Rings::built_in()?;
    let wrong = rings.add(&sources);
    let accounts = who::accounts();
    let mut warned = 0;
    for (file, bytes) in &sources {
        if wrong.iter().any(|(bad, _)| bad == file) {
            continue;
        }
        let warnings = profiles::lint(file, bytes, &rings, &accounts)?;
        for warning in &warnings {
            let text = format!("{}: {}: {}", warning.origin, warning.key, warning.what);
            line!("{}", words::escape(&text));
        }
        if warnings.is_empty() {
            line!("{}: fine", words::escape(file));
        }
        warned += warnings.len();
    }
    let code = match (wrong.is_empty(), warned) {
        (false, _) => 2,
        (true, 0) => 0,
        (true, _) => 1,
    };
    for (_, error) in wrong {
        banner::error(&error.into());
    }
    Ok(code)
}

/// The loader refuses a folder that holds such files.
fn refuse_yml(dir: &Path) -> Result<(), Failed> {
    let failed = |error| Failed::File {
        path: dir.to_owned(),
        error,
    };
    for entry in std::fs::read_dir(dir).map_err(failed)? {
        let path = entry.map_err(failed)?.path();
        if path.extension().is_some_and(|end| end == "yml") {
            let what = "profiles end in `.yaml`: rename it, or remove it".into();
            return Err(profiles::Error::Site { path, what }.into());
        }
    }
    Ok(())
}

/// What an agent of the second ring may do more or less than one of the first. 0 nothing, 1 something.
pub(crate) fn diff(a: &str, b: &str, as_json: bool) -> Result<u8, Failed> {
    let ((_, a), (_, b)) = (files::open(a)?, files::open(b)?);
    let changes = profiles::diff(&a, &b);
    if as_json {
        let value = json!({"from": a.name, "to": b.name,
                           "changes": changes.iter().map(as_value).collect::<Vec<_>>()});
        print(&format!("{}\n", words::json(&value)))?;
    } else {
        print(&text(&changes, (&a.name, &b.name)))?;
    }
    Ok(u8::from(!changes.is_empty()))
}

fn as_value(change: &Change) -> Value {
    let way = match change.direction {
        Direction::More => "more",
        Direction::Less => "less",
        Direction::Other => "other",
    };
    json!({"key": change.key, "change": way, "what": change.text})
}

fn text(changes: &[Change], (a, b): (&str, &str)) -> String {
    if changes.is_empty() {
        return format!("an agent may do the same in ring {a} and in ring {b}\n");
    }
    let count = |way| changes.iter().filter(|one| one.direction == way).count();
    let mut out = format!(
        "ring {a} to ring {b}: an agent may do more (+ {}) and less (- {})\n",
        count(Direction::More),
        count(Direction::Less)
    );
    let width = changes.iter().map(|one| one.key.len()).max().unwrap_or(0);
    for change in changes {
        let sign = match change.direction {
            Direction::More => '+',
            Direction::Less => '-',
            Direction::Other => ' ',
        };
        let text = words::escape(&change.text);
        out += &format!("{sign} {:<width$}  {text}\n", change.key);
    }
    out
}
