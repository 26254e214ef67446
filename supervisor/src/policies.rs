//! `policy check|test|eval`: policies looked at, tried and asked, without an agent.

use std::io::{BufRead, Write};
use std::path::{Path, PathBuf};

use policy::{Engine, Limits, Policy, Variables};

use crate::error::Failed;
use crate::reference::print;
use crate::run::read_policy;

fn read(path: &Path) -> Result<(String, Vec<u8>), Failed> {
    let bytes = read_policy(path).map_err(|error| Failed::File {
        path: path.to_owned(),
        error,
    })?;
    Ok((path.to_string_lossy().into_owned(), bytes))
}

fn engine(files: &[PathBuf]) -> Result<Engine, Failed> {
    let variables = Variables {
        workspace: Some("/workspace".into()),
    };
    let one = |path: &PathBuf| {
        let (file, bytes) = read(path)?;
        Ok(Policy::parse(&file, &bytes, &variables)?)
    };
    let policies: Result<Vec<Policy>, Failed> = files.iter().map(one).collect();
    policies.map(Engine::new)
}

/// Says what each rule is, who enforces it, and what is odd. Exit code 1 when something is.
pub(crate) fn check(files: &[PathBuf]) -> Result<u8, Failed> {
    let mut odd = false;
    for path in files {
        let (file, bytes) = read(path)?;
        let report = policy::check(&file, &bytes, &Variables::default())?;
        odd |= !report.warnings.is_empty();
        print(&report.to_string())?;
    }
    Ok(odd.into())
}

/// Runs a table of actions and the verdicts that they must get. Exit code 1 when one differs.
pub(crate) fn test(files: &[PathBuf], table: &Path) -> Result<u8, Failed> {
    let engine = engine(files)?;
    let (file, bytes) = read(table)?;
    let outcomes = policy::test(&engine, &file, &bytes)?;
    let failed = outcomes.iter().filter(|outcome| !outcome.passed()).count();
    let mut text = String::new();
    for outcome in &outcomes {
        text += &format!("{outcome}\n");
    }
    text += &format!(
        "{} of {} as expected\n",
        outcomes.len() - failed,
        outcomes.len()
    );
    print(&text)?;
    Ok((failed > 0).into())
}

/// One JSON action per line in, one JSON decision per line out.
pub(crate) fn eval(files: &[PathBuf]) -> Result<u8, Failed> {
    let engine = engine(files)?;
    let (mut limits, mut scratch) = (Limits::default(), engine.scratch());
    let out = &mut std::io::stdout().lock();
    for line in std::io::stdin().lock().lines() {
        let line = line.map_err(Failed::call("standard input"))?;
        if line.trim().is_empty() {
            continue;
        }
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
        let now = now.map_or(0, |now| u64::try_from(now.as_millis()).unwrap_or(u64::MAX));
        let decision = policy::eval_line(&engine, &mut limits, &mut scratch, now, &line);
        match writeln!(out, "{decision}") {
            Ok(()) => {}
            // Nobody reads any more.
            Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => return Ok(0),
            Err(error) => return Err(Failed::call("standard output")(error)),
        }
    }
    Ok(0)
}
