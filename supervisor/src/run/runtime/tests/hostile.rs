//! What a hostile workspace may try, and what is too broken to follow.

use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};

use super::super::host::Host;
use super::super::{RuntimeError, Why};
use super::{Home, links};

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
    home.python("u");
    home.path(&["u/bin"]);
    too_wide(&home, "python3");
    home.venv("u/ws/.venv", "u/bin");
    too_wide(&home, ".venv/bin/python");
    // An ancestor, `~/.local`, and a folder with the workspace in it.
    home.elf("bin/python3").file("lib/python3.11/os.py", "");
    too_wide(&home, &home.text("bin/python3"));
    fs::create_dir_all(home.at("u/.local/share")).unwrap();
    home.python("u/.local");
    too_wide(&home, &home.text("u/.local/bin/python3"));
    home.python("u/.ssh/py");
    too_wide(&home, &home.text("u/.ssh/py/bin/python3"));
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
    let host = Host {
        cwd: &cwd,
        search: &[],
        system: &[],
        home: Some(user),
        writable: &[],
        ours: Vec::new(),
        variable: &none,
    };
    for path in [
        "/", "/home", "/root", "/etc", "/etc/x", "/var", "/var/lib", "/tmp", "/opt", "/home/x",
    ] {
        assert!(host.is_too_wide(Path::new(path)).is_some(), "{path}");
    }
    assert!(
        host.is_too_wide(&home.root)
            .is_some_and(|why| why.contains("workspace"))
    );
    let host = Host {
        cwd: Path::new("/srv/a/p/ws"),
        home: Some(PathBuf::from("/srv/b/u")),
        ..host
    };
    let why = |path| host.is_too_wide(Path::new(path)).unwrap_or_default();
    assert!(why("/srv/a/p").contains("workspace"));
    assert!(why("/srv/b").contains("your home") && why("/srv/b/u").contains("your home"));
    assert_eq!(why("/srv/b/u/x"), "");
    assert!(host.is_too_wide(Path::new("/opt/conda")).is_none());
    assert!(
        host.is_too_wide(&home.at("u/.nvm/versions/node/v1"))
            .is_none()
    );
}

#[test]
fn homes_of_other_agents_stay_theirs() {
    let home = Home::new();
    home.venv("u/state/agt/b/venv", "usr/bin")
        .elf("u/state/agt/tool");
    home.link("u/ws/a", home.at("u/state/agt/b/venv/bin/python"));
    let tool = home.text("u/state/agt/tool");
    for command in ["./a", &tool] {
        let refused = home.refuses(command);
        assert!(
            matches!(refused, RuntimeError::TooWide { .. }),
            "{command}: {refused}"
        );
    }
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
    // A script may call itself an interpreter.
    home.script("u/bin/deno", "#!/bin/sh\nTOKEN=x\n")
        .script("u/ws/e", "#!/usr/bin/env deno\n");
    assert!(matches!(
        home.refuses("./e"),
        RuntimeError::Unrecognised { .. }
    ));
    home.gives("./d", "u/ws/d", &[("u/.bun/bin/bun", Why::File)]);
}

#[test]
fn a_venv_of_the_workspace_names_real_pythons_only() {
    let home = Home::new();
    home.file("u/secret/key", "")
        .elf("u/secret/bin/python3")
        .elf("u/py/python3");
    home.elf("u/ws/.venv/bin/python");
    home.python("u/ok").elf("u/ok/else/python3");
    let bad = [
        home.text("u/ok/else"),
        home.text("u/ok/lib/../bin"),
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
    home.elf("u/.pyenv/bin/python3")
        .elf("u/.pyenv/.git/bin/python3");
    let long = "9".repeat(200);
    for version in [
        "../../..",
        "/root",
        "..",
        ".",
        ".git",
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
    let up = "../".repeat(std::env::current_dir().unwrap().components().count());
    let relative = Path::new(&up).join(home.at("u/ws").strip_prefix("/").unwrap());
    assert!(relative.join("ls").is_file());
    home.search = vec![relative, PathBuf::from("."), PathBuf::new()];
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

#[test]
fn links_that_others_go_through_are_not_made_again() {
    let home = Home::new();
    home.elf("u/bin/tool")
        .link("u/.ssh/tool", home.at("u/bin/tool"));
    home.script("u/bin/a", format!("#!{}\n", home.text("u/.ssh/tool")));
    let refused = home.refuses(&home.text("u/bin/a"));
    assert!(matches!(refused, RuntimeError::Link { .. }), "{refused}");
}

/// Whatever a workspace is made of, it shows runtimes that are there, and nothing else.
#[test]
fn no_workspace_shows_more() {
    let mut home = Home::new();
    home.pyenv()
        .nvm()
        .venv("u/envs/a", "u/.pyenv/versions/3.11.9/bin");
    home.elf("u/bin/tool")
        .script("u/bin/deploy", "#!/bin/sh\n")
        .elf("u/.ssh/tool");
    home.script("u/p/lib/node_modules/a/a.js", "#!/usr/bin/env node\n")
        .file("u/p/bin/x", "");
    home.link("u/.pyenv/versions/home", home.at("u"))
        .elf("u/bin/python3");
    home.path(&[
        "u/ws/bin",
        "u/.pyenv/shims",
        "u/bin",
        "u/.nvm/versions/node/v20.1.0/bin",
    ]);
    let runtimes = [
        "u/.pyenv/versions/3.11.9",
        "u/.nvm/versions/node/v20.1.0",
        "u/envs/a",
        "u/p/lib/node_modules",
    ];
    let places = [
        "",
        "u",
        "u/bin",
        "u/bin/tool",
        "u/bin/deploy",
        "u/.ssh",
        "u/.ssh/tool",
        "u/envs/a/bin",
        "u/envs/a/bin/python",
        "u/.pyenv/versions/3.11.9/bin",
        "u/.pyenv/shims/python3",
        "u/p",
        "u/p/lib/node_modules/a/a.js",
        "u/ws/bin",
        "u/ws/bin/python3",
        "u/ws/bin/a",
        "u/ws/a",
        "u/.nvm/versions/node/v20.1.0/bin/codex",
        "usr/bin/python3",
        "u/.pyenv/versions",
    ];
    let mut state: usize = 88_172_645_463_325_252;
    let mut pick = |among: usize| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state % among
    };
    let (mut found, mut shown) = (0, 0);
    for _ in 0..300 {
        fs::remove_dir_all(home.at("u/ws")).unwrap();
        for name in ["a", "bin/a", "bin/python3", "bin/node", "bin/python"] {
            let place = home.text(places[pick(places.len())]);
            let name = format!("u/ws/{name}");
            match pick(5) {
                0 | 1 => home.link(&name, place),
                2 => home.script(&name, format!("#!{place}\n")),
                3 => {
                    let asked = ["python3", "node", "tool", "deploy", "a"][pick(5)];
                    home.script(&name, format!("#!/usr/bin/env {asked}\n"))
                }
                _ => home.elf(&name),
            };
        }
        let place = home.text(places[pick(places.len())]);
        if pick(2) == 0 {
            home.file("u/ws/pyvenv.cfg", format!("home = {place}\n"));
        }
        let versions = ["3.11", "3.11.9", "system", "home", "..", &place];
        home.file("u/ws/.python-version", versions[pick(versions.len())]);
        for command in ["./a", "bin/a", "python3", "node", "bin/python"] {
            let Ok(runtime) = home.find(command) else {
                continue;
            };
            found += 1;
            shown += runtime.prefixes.len();
            for (path, why) in home.shown(&runtime) {
                assert!(
                    runtimes.contains(&path.as_str()),
                    "{command}: {path} as {why:?}"
                );
            }
        }
    }
    assert!(found > 100 && shown > 100, "{found} {shown}");
}
