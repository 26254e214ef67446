//! Each layout as its manager lays it out.

use std::path::{Path, PathBuf};

use super::super::{RuntimeError, Why, discover};
use super::{Home, links};

#[test]
fn the_system_needs_nothing() {
    let mut home = Home::new();
    home.elf("usr/bin/node")
        .link("usr/local/bin/claude", "../lib/node_modules/claude/cli.js")
        .script(
            "usr/local/lib/node_modules/claude/cli.js",
            "#!/usr/bin/env node\n",
        );
    home.path(&["usr/local/bin", "usr/bin"]);
    let runtime = home.gives("claude", "usr/local/bin/claude", &[]);
    assert_eq!(runtime.argv0, "claude");
    assert!(runtime.path_entries.is_empty() && runtime.links.is_empty());
    home.gives("python3", "usr/bin/python3", &[]);
}

#[test]
fn this_host_has_a_shell() {
    let (usr, bin) = (PathBuf::from("/usr"), PathBuf::from("/bin"));
    let system = [usr, bin.clone()];
    let found = discover(
        &["sh".to_owned()],
        Path::new("/tmp"),
        &[bin],
        &system,
        None,
        &[],
    );
    let found = found.unwrap();
    assert!(
        found.prefixes.is_empty() && found.argv0 == "sh",
        "{found:?}"
    );
}

#[test]
fn one_binary_behind_a_link() {
    let mut home = Home::new();
    let version = "u/.local/share/claude/versions/2.1.197";
    home.elf(version)
        .link("u/.local/bin/claude", home.at(version));
    home.path(&["usr/bin", "u/.local/bin"]);
    let runtime = home.gives("claude", "u/.local/bin/claude", &[(version, Why::File)]);
    assert_eq!(links(&home, &runtime), ["u/.local/bin/claude"]);
    assert_eq!(runtime.path_entries, [home.at("u/.local/bin")]);
    assert_eq!(runtime.argv0, home.text("u/.local/bin/claude"));
    home.gives(
        &home.text("u/.local/bin/claude"),
        "u/.local/bin/claude",
        &[(version, Why::File)],
    );
}

#[test]
fn single_files_stay_single() {
    let mut home = Home::new();
    home.elf("u/.cargo/bin/tool")
        .elf("u/bin/other")
        .script("u/bin/wrap", "#!/bin/sh\n");
    home.elf("u/.local/bin/node")
        .file("u/.local/include/node/node_version.h", "");
    home.link("u/bin/sh", "/nowhere");
    home.path(&["u/.cargo/bin", "u/bin", "u/.local/bin"]);
    home.gives(
        "tool",
        "u/.cargo/bin/tool",
        &[("u/.cargo/bin/tool", Why::CargoBin)],
    );
    home.gives("other", "u/bin/other", &[("u/bin/other", Why::File)]);
    home.gives(
        "node",
        "u/.local/bin/node",
        &[("u/.local/bin/node", Why::File)],
    );
    home.file("u/bin/data", "text");
    assert!(matches!(
        home.refuses("data"),
        RuntimeError::NotFound { .. }
    ));
    home.script("u/bin/data", "text");
    assert!(matches!(
        home.refuses("data"),
        RuntimeError::NotRunnable { .. }
    ));
}

#[test]
fn nvm_node_and_its_packages() {
    let mut home = Home::new();
    home.nvm();
    let node = "u/.nvm/versions/node/v20.1.0";
    home.path(&["u/.nvm/versions/node/v20.1.0/bin", "usr/bin"]);
    let bin = format!("{node}/bin");
    let runtime = home.gives("codex", &format!("{bin}/codex"), &[(node, Why::NvmNode)]);
    assert!(runtime.links.is_empty());
    assert_eq!(runtime.path_entries, [home.at(&bin)]);
}

#[test]
fn npm_prefixes() {
    let mut home = Home::new();
    home.nvm();
    let node = ("u/.nvm/versions/node/v20.1.0", Why::NvmNode);
    home.link("u/.npm-global/bin/cc", "../lib/node_modules/cc/cli.js")
        .script(
            "u/.npm-global/lib/node_modules/cc/cli.js",
            "#!/usr/bin/env -S A=1 node --x\n",
        )
        .link("u/.local/bin/dd", "../lib/node_modules/dd/cli.js")
        .script(
            "u/.local/lib/node_modules/dd/cli.js",
            "#!/usr/bin/env node\n",
        )
        .file("u/.local/share/keyrings/x", "");
    home.path(&[
        "u/.npm-global/bin",
        "u/.local/bin",
        "u/.nvm/versions/node/v20.1.0/bin",
    ]);
    let global = ("u/.npm-global", Why::NpmGlobal);
    let runtime = home.gives("cc", "u/.npm-global/bin/cc", &[global, node]);
    let entries = [
        home.at("u/.npm-global/bin"),
        home.at("u/.nvm/versions/node/v20.1.0/bin"),
    ];
    assert_eq!(runtime.path_entries, entries);
    // `~/.local` holds more than packages.
    let local = ("u/.local/lib/node_modules", Why::NodeModules);
    let runtime = home.gives("dd", "u/.local/bin/dd", &[local, node]);
    assert_eq!(links(&home, &runtime), ["u/.local/bin/dd"]);
}

#[test]
fn pnpm_is_one_tree() {
    let mut home = Home::new();
    home.nvm();
    home.script(
        "u/.local/share/pnpm/cc",
        format!("#!{}\n", home.text("usr/bin/sh")),
    );
    home.path(&["u/.local/share/pnpm", "u/.nvm/versions/node/v20.1.0/bin"]);
    let node = ("u/.nvm/versions/node/v20.1.0", Why::NvmNode);
    let pnpm = ("u/.local/share/pnpm", Why::Pnpm);
    home.gives("cc", "u/.local/share/pnpm/cc", &[node, pnpm]);
    assert_eq!(Why::Pnpm.words(), "pnpm packages");
}

#[test]
fn a_project_gives_its_packages_only() {
    let mut home = Home::new();
    home.nvm();
    home.link(
        "u/p/node_modules/.bin/codex",
        "../@openai/codex/bin/codex.js",
    )
    .script(
        "u/p/node_modules/@openai/codex/bin/codex.js",
        "#!/usr/bin/env node\n",
    )
    .script(
        "u/p/node_modules/.bin/sh-made",
        "#!/bin/sh\nexec node ../a/b.js\n",
    )
    .script("u/q/lib/node_modules/a/cli.js", "#!/usr/bin/env node\n")
    .file("u/q/bin/notes", "");
    home.link("usr/bin/x", "sh");
    home.path(&["u/.nvm/versions/node/v20.1.0/bin"]);
    let node = ("u/.nvm/versions/node/v20.1.0", Why::NvmNode);
    let modules = ("u/p/node_modules", Why::NodeModules);
    let bin = "u/p/node_modules/.bin/codex";
    home.gives("../p/node_modules/.bin/codex", bin, &[node, modules]);
    let made = "u/p/node_modules/.bin/sh-made";
    home.file(made, format!("#!{}\n", home.text("usr/bin/sh")));
    home.gives(&home.text(made), made, &[node, modules]);
    // Folders that only look like npm's.
    let cli = "u/q/lib/node_modules/a/cli.js";
    let modules = ("u/q/lib/node_modules", Why::NodeModules);
    home.gives(&home.text(cli), cli, &[node, modules]);
    // What lies in the workspace is there already.
    home.link("u/ws/node_modules/.bin/c", "../c/c.js")
        .script("u/ws/node_modules/c/c.js", "#!/usr/bin/env node\n");
    home.gives("node_modules/.bin/c", "u/ws/node_modules/.bin/c", &[node]);
}

#[test]
fn a_venv_brings_its_base() {
    let mut home = Home::new();
    home.pyenv()
        .venv("u/ws/.venv", "u/.pyenv/versions/3.11.9/bin");
    let version = ("u/.pyenv/versions/3.11.9", Why::PyenvVersion);
    let runtime = home.gives(".venv/bin/python3", "u/ws/.venv/bin/python3", &[version]);
    assert!(runtime.links.is_empty(), "{:?}", runtime.links);
    let venv = ("VIRTUAL_ENV".to_owned(), home.text("u/ws/.venv"));
    assert_eq!(runtime.variables, [venv]);
    assert_eq!(runtime.path_entries, [home.at("u/ws/.venv/bin")]);
    // Activated, through PATH, from a script of its own; and one outside the workspace.
    home.script(
        "u/ws/.venv/bin/agent",
        format!("#!{}\n", home.text("u/ws/.venv/bin/python3")),
    );
    home.path(&["u/ws/.venv/bin", "usr/bin"]);
    home.gives("agent", "u/ws/.venv/bin/agent", &[version]);
    home.venv("u/envs/a", "u/.pyenv/versions/3.11.9/bin");
    let python = home.text("u/envs/a/bin/python");
    home.gives(
        &python,
        "u/envs/a/bin/python",
        &[version, ("u/envs/a", Why::Venv)],
    );
    // Of the system's Python nothing more is needed.
    home.venv("u/envs/b", "usr/bin");
    let python = home.text("u/envs/b/bin/python");
    home.gives(&python, "u/envs/b/bin/python", &[("u/envs/b", Why::Venv)]);
}

#[test]
fn venvs_are_chained_where_no_agent_wrote() {
    let home = Home::new();
    home.pyenv()
        .venv("u/envs/a", "u/.pyenv/versions/3.11.9/bin")
        .venv("u/envs/b", "u/envs/a/bin")
        .venv("u/ws/.venv", "u/envs/a/bin");
    let shown = [
        ("u/.pyenv/versions/3.11.9", Why::PyenvVersion),
        ("u/envs/a", Why::Venv),
        ("u/envs/b", Why::Venv),
    ];
    home.gives(
        &home.text("u/envs/b/bin/python"),
        "u/envs/b/bin/python",
        &shown,
    );
    assert!(matches!(
        home.refuses(".venv/bin/python"),
        RuntimeError::Venv { .. }
    ));
}

#[test]
fn uv_and_pipx() {
    let mut home = Home::new();
    let python = "u/.local/share/uv/python/cpython-3.11.9-linux-x86_64-gnu";
    let short = "u/.local/share/uv/python/cpython-3.11-linux-x86_64-gnu";
    home.python(python)
        .link(short, "cpython-3.11.9-linux-x86_64-gnu")
        .venv("u/.local/share/uv/tools/agent", &format!("{short}/bin"))
        .venv("u/.local/share/pipx/venvs/piped", &format!("{python}/bin"));
    for (tool, place) in [("agent", "uv/tools"), ("piped", "pipx/venvs")] {
        let venv = format!("u/.local/share/{place}/{tool}");
        home.script(
            &format!("{venv}/bin/{tool}"),
            format!("#!{}\n", home.text(&format!("{venv}/bin/python"))),
        );
        home.link(
            &format!("u/.local/bin/{tool}"),
            home.at(&format!("{venv}/bin/{tool}")),
        );
    }
    home.path(&["u/.local/bin"]);
    let tool = ("u/.local/share/uv/tools/agent", Why::UvTool);
    let runtime = home.gives(
        "agent",
        "u/.local/bin/agent",
        &[tool, (python, Why::UvPython)],
    );
    assert_eq!(links(&home, &runtime), ["u/.local/bin/agent", short]);
    let tool = ("u/.local/share/pipx/venvs/piped", Why::Pipx);
    home.gives(
        "piped",
        "u/.local/bin/piped",
        &[tool, (python, Why::UvPython)],
    );
}

#[test]
fn pip_user_packages() {
    let mut home = Home::new();
    home.script(
        "u/.local/bin/agent",
        format!("#!{}\n", home.text("usr/bin/python3")),
    );
    home.file("u/.local/lib/python3.12/site-packages/agent.py", "");
    home.path(&["u/.local/bin"]);
    let shown = [
        ("u/.local/bin/agent", Why::File),
        ("u/.local/lib/python3.12", Why::PipUser),
    ];
    let runtime = home.gives("agent", "u/.local/bin/agent", &shown);
    let base = ("PYTHONUSERBASE".to_owned(), home.text("u/.local"));
    assert_eq!(runtime.variables, [base]);
}

#[test]
fn pyenv_chooses_as_pyenv_does() {
    let mut home = Home::new();
    home.pyenv()
        .python("u/.pyenv/versions/3.9.1")
        .python("u/.pyenv/versions/3.11.10");
    home.path(&["u/.pyenv/shims", "usr/bin"]);
    home.gives("python3", "usr/bin/python3", &[]);
    let gives = |home: &Home, version: &str| {
        let prefix = format!("u/.pyenv/versions/{version}");
        let program = format!("{prefix}/bin/python3");
        let runtime = home.gives("python3", &program, &[(&prefix, Why::PyenvVersion)]);
        assert_eq!(runtime.argv0, home.text(&program));
        assert_eq!(runtime.path_entries, [home.at(&prefix).join("bin")]);
    };
    home.file("u/.pyenv/version", "3.9.1\n");
    gives(&home, "3.9.1");
    home.file("u/.python-version", "# mine\r\n\r\n3.11.9\r\n3.9.1\r\n");
    gives(&home, "3.11.9");
    home.file("u/ws/.python-version", "\n");
    gives(&home, "3.11.9");
    home.file("u/ws/.python-version", "3.11");
    gives(&home, "3.11.10");
    home.variables
        .push(("PYENV_VERSION", "3.9.1:system".to_owned()));
    gives(&home, "3.9.1");
    home.variables.clear();
    // The same behind `env`, but not where the kernel wants that very path.
    home.script("u/ws/a.py", "#!/usr/bin/env python3\n");
    let shown = [("u/.pyenv/versions/3.11.10", Why::PyenvVersion)];
    home.gives("./a.py", "u/ws/a.py", &shown);
    home.script(
        "u/ws/b.py",
        format!("#!{}\n", home.text("u/.pyenv/shims/python3")),
    );
    assert!(matches!(
        home.refuses("./b.py"),
        RuntimeError::LiteralShim { .. }
    ));
    home.file("u/ws/.python-version", "3.8.0");
    let message = home.refuses("python3").to_string();
    assert!(
        message.contains("3.8.0") && message.contains("not installed"),
        "{message}"
    );
}

#[test]
fn asdf_chooses_by_tool_versions() {
    let mut home = Home::new();
    let node = "u/.asdf/installs/nodejs/20.1.0";
    home.elf(&format!("{node}/bin/node")).script(
        "u/.asdf/shims/node",
        "#!/usr/bin/env bash\n# asdf-plugin: nodejs 20.1.0\n",
    );
    home.path(&["u/.asdf/shims"]);
    assert!(matches!(home.refuses("node"), RuntimeError::Shim { .. }));
    home.file(
        "u/.tool-versions",
        "python 3.11\nnodejs 20.1.0 system # x\n",
    );
    let program = format!("{node}/bin/node");
    home.gives("node", &program, &[(node, Why::AsdfInstall)]);
    home.file("u/ws/.tool-versions", "nodejs ../../../ws\n");
    assert!(matches!(home.refuses("node"), RuntimeError::Version { .. }));
    home.file("u/ws/.tool-versions", "nodejs path:/root\n");
    assert!(matches!(home.refuses("node"), RuntimeError::Version { .. }));
}

#[test]
fn conda_and_others() {
    let mut home = Home::new();
    home.python("u/mini/envs/a")
        .file("u/mini/envs/a/conda-meta/history", "");
    let env = ("u/mini/envs/a", Why::Conda);
    let python = home.text("u/mini/envs/a/bin/python3");
    let runtime = home.gives(&python, "u/mini/envs/a/bin/python3", &[env]);
    assert_eq!(
        runtime.variables,
        [("CONDA_PREFIX".to_owned(), home.text("u/mini/envs/a"))]
    );
    home.python("opt/py");
    let python = home.text("opt/py/bin/python3");
    home.gives(&python, "opt/py/bin/python3", &[("opt/py", Why::Python)]);
    home.elf("brew/bin/brew")
        .elf("brew/Cellar/a/1/bin/a")
        .link("brew/bin/a", "../Cellar/a/1/bin/a");
    home.path(&["brew/bin"]);
    home.gives("a", "brew/bin/a", &[("brew", Why::Homebrew)]);
    let fnm = "u/.local/share/fnm/node-versions/v20.1.0";
    home.elf(&format!("{fnm}/installation/bin/node"))
        .link("run/fnm_1", home.at(&format!("{fnm}/installation")));
    home.path(&["run/fnm_1/bin"]);
    let runtime = home.gives(
        "node",
        &format!("{fnm}/installation/bin/node"),
        &[(fnm, Why::FnmNode)],
    );
    assert!(runtime.links.is_empty());
}

#[test]
fn stand_ins_that_cannot_be_asked_are_refused() {
    let mut home = Home::new();
    home.elf("u/.cargo/bin/rustup")
        .link("u/.cargo/bin/cargo", "rustup");
    home.elf("u/.volta/bin/volta-shim")
        .link("u/.volta/bin/node", "volta-shim");
    home.elf("usr/bin/mise")
        .link("u/.local/share/mise/shims/deno", home.at("usr/bin/mise"));
    home.script("u/.rbenv/shims/ruby", "#!/bin/sh\n");
    home.path(&[
        "u/.cargo/bin",
        "u/.volta/bin",
        "u/.local/share/mise/shims",
        "u/.rbenv/shims",
    ]);
    for command in ["cargo", "node", "deno", "ruby"] {
        let refused = home.refuses(command);
        assert!(matches!(refused, RuntimeError::Shim { .. }), "{refused}");
    }
    home.gives(
        "rustup",
        "u/.cargo/bin/rustup",
        &[("u/.cargo/bin/rustup", Why::CargoBin)],
    );
}
