//! `doctor`: what this host can enforce, found out by doing, what is lost without each part, and
//! what to do about it. Exit code 9 when the rings cannot stand.

use std::path::Path;

use serde_json::{Value, json};

use crate::cgroup::Hierarchies;
use crate::error::Failed;
use crate::reference::print;
use crate::run::{self, Options, Request};
use profiles::Agent;

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    Good,
    Less,
    Missing,
}

struct Finding {
    what: &'static str,
    state: State,
    detail: String,
    remedy: &'static str,
}

pub(crate) fn doctor(as_json: bool) -> Result<u8, Failed> {
    let findings = vec![
        kernel(),
        ring(),
        landlock(),
        cgroups(),
        kill_switch(),
        identity(),
        own_namespaces(),
    ];
    let cannot = findings.iter().any(|one| one.state == State::Missing);
    let text = if as_json {
        let list: Vec<Value> = findings
            .iter()
            .map(|one| {
                json!({"what": one.what, "state": word(one.state), "detail": one.detail,
                       "remedy": if one.state == State::Good { Value::Null } else { one.remedy.into() }})
            })
            .collect();
        crate::words::json(&json!({"rings_stand": !cannot, "findings": list})) + "\n"
    } else {
        let mut text = String::new();
        for one in &findings {
            text += &format!("{:<8} {:<14} {}\n", word(one.state), one.what, one.detail);
            if one.state != State::Good {
                text += &format!("{:<23} → {}\n", "", one.remedy);
            }
        }
        text += if cannot {
            "rings cannot stand on this host\n"
        } else {
            "rings stand on this host\n"
        };
        text
    };
    print(&text)?;
    Ok(if cannot { 9 } else { 0 })
}

fn word(state: State) -> &'static str {
    match state {
        State::Good => "ok",
        State::Less => "less",
        State::Missing => "MISSING",
    }
}

fn kernel() -> Finding {
    let name = rustix::system::uname();
    let detail = format!("Linux {}", name.release().to_string_lossy());
    Finding {
        what: "kernel",
        state: State::Good,
        detail,
        remedy: "",
    }
}

/// The one question that counts, asked by building a ring.
fn ring() -> Finding {
    let remedy = if Path::new("/proc/sys/kernel/apparmor_restrict_unprivileged_userns").exists() {
        "AppArmor lets only profiled programs make user namespaces: install the .deb, whose profile \
         names /usr/bin/agt-supervisor (a build in target/ cannot work), or run as root"
    } else if Path::new("/.dockerenv").exists() || Path::new("/run/.containerenv").exists() {
        "in a container: allow user namespaces and an unmasked /proc (docker run \
         --security-opt seccomp=unconfined --security-opt systempaths=unconfined), or run on the host"
    } else {
        "check sysctl user.max_user_namespaces and kernel.unprivileged_userns_clone, or run as root"
    };
    let workspace = std::env::temp_dir().join(format!("agt-doctor-{}", std::process::id()));
    let try_it = || -> Result<u8, Failed> {
        let command = vec!["true".to_owned()];
        let agent = Agent::from_command(command, "standard", workspace.clone())?;
        let ring = profiles::resolve(&agent, &profiles::Rings::built_in()?)?;
        let request = Request {
            ring,
            base: "/".into(),
            file: None,
            of: None,
        };
        run::run(
            &request,
            &Options {
                quiet: true,
                report: None,
                share_home: false,
            },
        )
    };
    let tried = try_it();
    // Made for the trial and empty.
    let _gone = std::fs::remove_dir(&workspace);
    match tried {
        Ok(0) => {
            let detail = "ring 2 was built, passed its self-test and ended".into();
            Finding {
                what: "ring",
                state: State::Good,
                detail,
                remedy,
            }
        }
        Ok(code) => {
            let detail = format!("ring 2 ended `true` with exit code {code}");
            Finding {
                what: "ring",
                state: State::Missing,
                detail,
                remedy,
            }
        }
        Err(failed) => {
            let detail = failed.to_string();
            Finding {
                what: "ring",
                state: State::Missing,
                detail,
                remedy,
            }
        }
    }
}

fn landlock() -> Finding {
    let abi = sys::landlock::abi();
    let (state, detail) = match abi {
        0..=2 => (
            State::Missing,
            format!("abi {abi}: rings need 3 (Linux 6.2)"),
        ),
        3 => (
            State::Less,
            format!("abi {abi}: no TCP rules and no scopes"),
        ),
        4 | 5 => (
            State::Less,
            format!("abi {abi}: no scopes for signals and abstract sockets"),
        ),
        _ => (State::Good, format!("abi {abi}")),
    };
    let remedy = "Linux 6.12 or later has all of it; older ones need `degrade: [landlock-scopes]` \
                  where the ring permits it, and lose the layer that keeps signals inside twice";
    Finding {
        what: "landlock",
        state,
        detail,
        remedy,
    }
}

fn cgroups() -> Finding {
    let remedy = "memory is watched (counted 20 times a second) and processes limited per ring; for \
                  the kernel's own limits run as root, or in a delegated scope: systemd-run --user \
                  --scope -p Delegate=yes agt-supervisor run agent.yaml";
    let Ok(hosts) = Hierarchies::read() else {
        let detail = "cannot be read".into();
        return Finding {
            what: "cgroups",
            state: State::Less,
            detail,
            remedy,
        };
    };
    let writable = |path: &Path| rustix::fs::access(path, rustix::fs::Access::WRITE_OK).is_ok();
    let mut have = Vec::new();
    if let Some(v2) = hosts.v2.as_ref().filter(|v2| writable(&v2.own)) {
        let text = std::fs::read_to_string(v2.own.join("cgroup.controllers")).unwrap_or_default();
        have.push(format!(
            "v2 (kill, freeze; {})",
            text.trim().replace(' ', ", ")
        ));
    }
    for name in ["memory", "pids", "cpu"] {
        if hosts.v1_with(name).is_some_and(|one| writable(&one.own)) {
            have.push(format!("v1 {name}"));
        }
    }
    let (state, detail) = if have.is_empty() {
        (State::Less, "none that this user may write".to_owned())
    } else {
        (State::Good, have.join(", "))
    };
    Finding {
        what: "cgroups",
        state,
        detail,
        remedy,
    }
}

fn kill_switch() -> Finding {
    let detail = "every ring has a pid namespace whose init is its kill switch".into();
    Finding {
        what: "kill switch",
        state: State::Good,
        detail,
        remedy: "",
    }
}

fn identity() -> Finding {
    if rustix::process::geteuid().is_root() {
        let detail = "root: agents run as a uid that belongs to nobody (or as SUDO_UID)".into();
        return Finding {
            what: "identity",
            state: State::Good,
            detail,
            remedy: "",
        };
    }
    let own = rustix::process::getegid();
    let groups = rustix::process::getgroups().unwrap_or_default();
    let kept = groups.into_iter().filter(|group| *group != own).count();
    let uid = rustix::process::geteuid().as_raw();
    let remedy =
        "the kernel lets no ordinary user drop them; they matter only for files in a grant";
    let (state, detail) = match kept {
        0 => (State::Good, format!("uid {uid}")),
        _ => (
            State::Less,
            format!("uid {uid}, and {kept} supplementary groups stay in force"),
        ),
    };
    Finding {
        what: "identity",
        state,
        detail,
        remedy,
    }
}

fn own_namespaces() -> Finding {
    let most = std::fs::read_to_string("/proc/sys/user/max_user_namespaces").unwrap_or_default();
    let most = most.trim().to_owned();
    let state = if most == "0" {
        State::Missing
    } else {
        State::Good
    };
    let remedy = "sysctl user.max_user_namespaces=16384";
    Finding {
        what: "namespaces",
        state,
        detail: format!("up to {most} of users"),
        remedy,
    }
}
