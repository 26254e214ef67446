//! `explain`: would it be allowed, which layer says so, and which line would change it.

use std::path::{Path, PathBuf};

use plan::filter::{self, Verdict};
use plan::syscalls;
use profiles::{Access, Home, Programs, Ring};

mod action;
mod network;

use crate::error::Failed;
use crate::reference::print;
use crate::run::{self, Grants, Request};
use crate::words;

/// Answers for a path, a `HOST:PORT` or a system call; exit code 0 allowed, 1 refused.
pub(crate) fn explain(request: &Request, what: &str) -> Result<u8, Failed> {
    if let Some(name) = what.strip_prefix("syscall:") {
        return syscall(&request.ring, name);
    }
    if let Some(what) = what.strip_prefix("tool:") {
        return action::tool(request, what);
    }
    let url = ["https://", "http://"]
        .iter()
        .find_map(|scheme| what.strip_prefix(scheme));
    let target = url.map_or(what, |rest| rest.split('/').next().unwrap_or(rest));
    match target.rsplit_once(':') {
        Some((host, port)) if !what.starts_with(['/', '.', '~']) && port.parse::<u16>().is_ok() => {
            network::host(request, host, port.parse().unwrap_or(0))
        }
        None if url.is_some() => {
            let port = if what.starts_with("https") { 443 } else { 80 };
            network::host(request, target, port)
        }
        Some(_) | None => path(request, what),
    }
}

fn answer(allowed: bool, text: &str) -> Result<u8, Failed> {
    print(text)?;
    Ok(u8::from(!allowed))
}

fn syscall(ring: &Ring, name: &str) -> Result<u8, Failed> {
    let Some(nr) = syscalls::by_name(name) else {
        return Err(Failed::NotFound(format!(
            "`{}` is no system call of this architecture",
            words::escape(name)
        )));
    };
    if let Some(why) = syscalls::why_refused(nr) {
        let text = format!(
            "{name}: refused by seccomp in every ring: {why}\nnothing in agent.yaml changes that\n"
        );
        return answer(false, &text);
    }
    if ring.programs == Programs::Once && matches!(name, "execve" | "execveat") {
        let text = format!(
            "{name}: refused by seccomp in ring {}: its program is started once\nto change it: `ring: standard` in {}\n",
            ring.ring, ring.file
        );
        return answer(false, &text);
    }
    if !ring.syscalls.contains(nr) {
        let text = format!(
            "{name}: refused by seccomp in ring {} ({}); no key of agent.yaml adds calls\nto change it: another `ring` in {}, or `syscalls.allow` of a site's ring\n",
            ring.ring, ring.ring_file, ring.file
        );
        return answer(false, &text);
    }
    let spec = run::filter_of(ring);
    let rule = filter::argument_rules()
        .into_iter()
        .find(|rule| rule.call == name);
    let text = match (&rule, filter::verdict(&spec, nr, [0; 6])) {
        (None, Verdict::Allow) => format!("{name}: allowed in ring {}\n", ring.ring),
        (Some(rule), _) => {
            format!(
                "{name}: allowed or refused by its arguments in ring {}: {}\n",
                ring.ring, rule.reason
            )
        }
        (None, Verdict::Errno(_) | Verdict::Kill) => {
            return answer(
                false,
                &format!("{name}: refused by seccomp in ring {}\n", ring.ring),
            );
        }
    };
    answer(true, &text)
}

fn path(request: &Request, what: &str) -> Result<u8, Failed> {
    let ring = &request.ring;
    let grants = run::grants(request)?;
    // A shell would have said whose home that is: the caller's.
    let callers = what
        .strip_prefix("~/")
        .zip(std::env::var_os("HOME").filter(|home| !home.is_empty()));
    let asked = match callers {
        Some((below, home)) => Path::new(&home).join(below),
        None => grants.workspace.join(what),
    };
    let real = asked.canonicalize().unwrap_or_else(|_| normal(&asked));
    let shown = words::escape(&real.to_string_lossy());
    if let Some((hidden, line)) = grants
        .hidden
        .iter()
        .find(|(path, _)| real.starts_with(path))
    {
        let text = format!(
            "{shown}: hidden by an empty mount on {}, as {line} says\nto change it: change that\n",
            words::escape(&hidden.to_string_lossy())
        );
        return answer(false, &text);
    }
    if run::GENERATED.iter().any(|path| real == Path::new(path)) {
        let text = format!(
            "{shown}: may be read, not written: inside it is made for the ring, and says nothing of this host\n"
        );
        return answer(true, &text);
    }
    if real.starts_with(run::HOME) {
        return home(ring, &shown);
    }
    if let Some((grant, write)) = cover(&grants, &real) {
        if write && grants.hooks.iter().any(|hooks| real.starts_with(hooks)) {
            let text = format!(
                "{shown}: may be read, not written: mounted read-only, since it is git's hooks, or a policy says so\n"
            );
            return answer(true, &text);
        }
        let access = if write {
            "read and written"
        } else {
            "read, not written"
        };
        let own = request
            .file
            .as_ref()
            .and_then(|file| file.path.canonicalize().ok());
        if own.as_ref() == Some(&real) {
            let text = format!(
                "{shown}: may be read, not written: it is this agent's own file, mounted read-only\n"
            );
            return answer(true, &text);
        }
        let mut text = format!(
            "{shown}: may be {access} by mount and landlock, through {}\n",
            grant.display()
        );
        text += host_says(&real);
        if !write {
            let line = match (ring.access, grant == grants.workspace) {
                (Access::Read, _) => format!("to write it: `ring: standard` in {}\n", ring.file),
                (Access::Write, _) => format!(
                    "to write it: `files: {{write: [{shown}]}}` in {}\n",
                    ring.file
                ),
            };
            text += &line;
        }
        return answer(true, &text);
    }
    if real.starts_with("/tmp") || real.starts_with("/dev/shm") {
        let text = format!(
            "{shown}: inside, /tmp and /dev/shm are the ring's own and empty at start; the host's are not seen\n"
        );
        return answer(false, &text);
    }
    if ring
        .runtime
        .read
        .iter()
        .any(|place| real.starts_with(place))
    {
        let text = format!(
            "{shown}: may be read and run, not written: it is part of the system runtime\n{}",
            host_says(&real)
        );
        return answer(true, &text);
    }
    let text = format!(
        "{shown}: not seen in ring {}: no mount holds it\nto change it: `files: {{read: [{shown}]}}` in {}\n{}",
        ring.ring,
        ring.file,
        if real.exists() {
            ""
        } else {
            "it does not exist on the host either: that was not the sandbox\n"
        }
    );
    answer(false, &text)
}

/// The agent's home, by the path that it has inside.
fn home(ring: &Ring, shown: &str) -> Result<u8, Failed> {
    match ring.home {
        Home::None => {
            let text = format!(
                "{shown}: there is no home; HOME is /tmp\nto change it: `home: private` or `home: temporary` in {}\n",
                ring.file
            );
            answer(false, &text)
        }
        Home::Temporary => answer(
            true,
            &format!("{shown}: may be read and written: its home, which is gone with the run\n"),
        ),
        Home::Private => answer(
            true,
            &format!("{shown}: may be read and written: its home, which is kept between runs\n"),
        ),
    }
}

fn cover(grants: &Grants, real: &Path) -> Option<(PathBuf, bool)> {
    let covering = grants
        .list
        .iter()
        .filter(|(path, _)| real.starts_with(path));
    covering
        .max_by_key(|(path, _)| path.as_os_str().len())
        .cloned()
}

fn host_says(real: &Path) -> &'static str {
    if real.exists() {
        ""
    } else {
        "it does not exist: an error on it is not the sandbox's\n"
    }
}

/// `..` and `.` taken out, for what does not exist.
fn normal(path: &Path) -> PathBuf {
    use std::path::Component;
    let mut out = PathBuf::from("/");
    for part in path.components() {
        match part {
            Component::Normal(name) => out.push(name),
            Component::ParentDir => drop(out.pop()),
            Component::RootDir | Component::CurDir | Component::Prefix(_) => {}
        }
    }
    out
}
