//! What an agent lives in: its home, its runtime, what is hidden from it, what stays as it is.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::time::Duration;

use outside::{Place, Ran, Who, everybody, until};

fn agent(name: &str, rest: &str, script: &str) -> String {
    let script = script.replace('\'', "''");
    format!(
        "version: 1\nname: {name}\nring: standard\nworkspace: ./ws\n{rest}\ncommand: [sh, -c, '{script}']\n"
    )
}

#[test]
fn a_private_home_is_kept_and_nobody_elses() {
    for who in everybody() {
        let place = Place::new(who);
        place.dir("ws");
        let count =
            "echo x >> $HOME/runs; wc -l < $HOME/runs; echo $HOME; stat -c %a $HOME; id -un";
        let run = |name: &str| place.run(&agent(name, "", count));
        run("kept").expect_code(0);
        let second = run("kept");
        second.expect_code(0);
        assert_eq!(second.stdout, "2\n/home/agent\n700\nagent\n", "{who:?}");
        assert_eq!(run("other").expect_code(0).stdout.lines().next(), Some("1"));
        // It lies beside the state of the supervisor, and no agent is given that.
        let home = place.dir.join("state/homes/kept/home");
        assert!(home.is_dir());
        assert_eq!(
            fs::metadata(home.parent().unwrap()).unwrap().mode() & 0o777,
            0o700
        );
        let yaml = agent("thief", "files: {write: [./state/homes/kept/home]}", "true");
        place
            .run(&yaml)
            .expect_code(2)
            .expect_said("must never write");
        let yaml = agent("thief", "files: {read: [./state/homes/kept/home]}", "true");
        place
            .run(&yaml)
            .expect_code(2)
            .expect_said("no other agent reads");
    }
}

#[test]
fn folders_whose_names_are_no_text_are_told_apart() {
    use std::os::unix::ffi::OsStrExt;
    for who in everybody() {
        let place = Place::new(who);
        for (name, code) in [(b"x\xfe", 0), (b"x\xff", 2)] {
            let name = std::ffi::OsStr::from_bytes(name);
            place.file("agent.yaml", agent("bytes", "", "true"));
            place.dir("here/ws");
            fs::rename(
                place.dir.join("agent.yaml"),
                place.dir.join("here/agent.yaml"),
            )
            .unwrap();
            fs::rename(place.dir.join("here"), place.dir.join(name)).unwrap();
            let mut command = place.agt(&["run"]);
            let ran = command.current_dir(place.dir.join(name)).output().unwrap();
            assert_eq!(ran.status.code(), Some(code), "{who:?} {ran:?}");
        }
    }
}

#[test]
fn homes_are_not_made_where_the_agent_writes() {
    for who in everybody() {
        let place = Place::new(who);
        place.dir("ws");
        place.file("agent.yaml", agent("inner", "", "true"));
        for state in ["ws/state", "./ws/state"] {
            let mut command = place.agt(&["run", "agent.yaml"]);
            let ran = command.env("AGT_STATE_DIR", state).output().expect("run");
            assert_eq!(ran.status.code(), Some(2), "{who:?} {state}");
        }
        assert!(!place.dir.join("ws/state").exists());
    }
}

#[test]
fn a_file_from_elsewhere_does_not_get_the_home_of_that_name() {
    for who in everybody() {
        let place = Place::new(who);
        for dir in ["mine/ws", "theirs/ws"] {
            place.file(&format!("{dir}/x"), "");
        }
        place.file(
            "mine/agent.yaml",
            agent("claude", "", "echo token > ~/token"),
        );
        place.finish(&["run", "mine/agent.yaml"]).expect_code(0);
        place.file("theirs/agent.yaml", agent("claude", "", "cat ~/token"));
        let refused = place.finish(&["run", "theirs/agent.yaml"]);
        refused.expect_code(2).expect_said("--share-home");
        assert!(!refused.stdout.contains("token"));
        let shared = place.finish(&["run", "--share-home", "theirs/agent.yaml"]);
        assert_eq!(shared.expect_code(0).stdout, "token\n");
        // Said once, remembered.
        place.finish(&["run", "theirs/agent.yaml"]).expect_code(0);
    }
}

#[test]
fn other_homes_are_gone_with_the_run() {
    for who in everybody() {
        let place = Place::new(who);
        place.dir("ws");
        let script = "ls -A ~ | wc -l; touch ~/x && echo $HOME";
        let temporary = place.run(&agent("brief", "home: temporary", script));
        assert_eq!(temporary.expect_code(0).stdout, "0\n/home/agent\n");
        let again = place.run(&agent("brief", "home: temporary", script));
        assert_eq!(again.expect_code(0).stdout, "0\n/home/agent\n");
        let none = place.run(&agent("none", "home: none", "echo $HOME"));
        assert_eq!(none.expect_code(0).stdout, "/tmp\n");
        let sandboxed = "version: 1\nname: x\nworkspace: ./ws\nhome: private\ncommand: ['true']\n";
        place
            .run(sandboxed)
            .expect_code(2)
            .expect_said("home: private is beyond the ceiling");
    }
}

#[test]
fn what_lies_below_the_callers_home_is_seen_in_the_agents_too() {
    for who in everybody() {
        let place = Place::new(who);
        place.dir("ws");
        place.file(".gitconfig", "[user]\n\tname = Caller\n");
        let rest = "files: {read: ['~/.gitconfig?', '~/.absent?']}";
        let ran = place.run(&agent(
            "git",
            rest,
            "git config user.name; echo x >> ~/.gitconfig",
        ));
        assert_eq!(ran.stdout, "Caller\n", "{}", ran.stderr);
        assert_ne!(ran.code, 0);
    }
}

#[test]
fn what_is_denied_is_hidden() {
    for who in everybody() {
        let place = Place::new(who);
        place.file("ws/.env", "KEY=secret\n");
        place.file("ws/keys/one", "secret\n");
        place.file("ws/plain", "plain\n");
        let rest = "files: {deny: [./ws/.env, ./ws/keys, './ws/absent?']}";
        let script = "cat .env plain; ls -A keys; echo x > .env; mv .env e; mv keys k; rm -rf keys .env; \
                      ln .env hard; cat hard; cp -r . /tmp/all; grep -r secret /tmp/all . && echo FOUND; true";
        let ran = place.run(&agent("blind", rest, script));
        ran.expect_code(0).expect_said("hides");
        assert!(ran.stdout.starts_with("plain\n"), "{}", ran.stdout);
        assert!(
            !ran.stdout.contains("secret") && !ran.stdout.contains("FOUND"),
            "{}",
            ran.stdout
        );
        assert_eq!(
            fs::read_to_string(place.dir.join("ws/.env")).unwrap(),
            "KEY=secret\n"
        );

        let asked = place.finish(&["explain", "agent.yaml", "keys/one"]);
        assert!(
            asked.expect_code(1).stdout.contains("agent.yaml:5"),
            "{}",
            asked.stdout
        );
        let made = place.finish(&["explain", "agent.yaml", "/etc/passwd"]);
        assert!(made.expect_code(0).stdout.contains("made for the ring"));

        fs::hard_link(place.dir.join("ws/.env"), place.dir.join("ws/other-name")).unwrap();
        let linked = place.run(&agent("blind", rest, "true"));
        linked.expect_code(2).expect_said("other hard links");
        fs::remove_file(place.dir.join("ws/other-name")).unwrap();
        symlink("plain", place.dir.join("ws/link")).unwrap();
        let link = place.run(&agent("blind", "files: {deny: [./ws/link]}", "true"));
        link.expect_code(2).expect_said("it is a link");
        let absent = place.run(&agent("blind", "files: {deny: [./ws/no]}", "true"));
        absent.expect_code(2).expect_said("does not exist");
        let elsewhere = place.run(&agent("blind", "files: {deny: [/etc/hostname]}", "true"));
        elsewhere.expect_code(2).expect_said("not seen anyway");
    }
}

#[test]
fn a_mask_that_comes_off_kills_the_run() {
    for who in everybody() {
        // The file itself, and a folder above it: an editor saves by rename, a checkout replaces a folder.
        for replaced in ["ws/deep/.env", "ws/deep"] {
            let place = Place::new(who);
            place.dir("ws");
            place.file("ws/deep/.env", "KEY=old\n");
            let rest = "files: {deny: [./ws/deep/.env]}";
            let script = "touch ready; while :; do cat deep/.env 2>/dev/null; sleep 0.05; done";
            let child = place.start(&agent("watched", rest, script));
            until("ready", Duration::from_secs(20), || {
                place.dir.join("ws/ready").exists()
            });
            place.file("new/.env", "KEY=new\n");
            let from = if replaced == "ws/deep" {
                "new"
            } else {
                "new/.env"
            };
            if replaced == "ws/deep" {
                fs::rename(place.dir.join(replaced), place.dir.join("ws/old")).unwrap();
            }
            fs::rename(place.dir.join(from), place.dir.join(replaced)).unwrap();
            let ran = Ran::wait(child, Duration::from_secs(20));
            ran.expect_code(121)
                .expect_said("was replaced on this host");
        }
    }
}

#[test]
fn git_hooks_stay_as_they_are() {
    for who in everybody() {
        let place = Place::new(who);
        place.dir("ws");
        place.dir("ws/.git");
        place.file("ws/.git/hooks/pre-commit", "#!/bin/sh\n# mine\n");
        place.file("ws/.git/HEAD", "ref: refs/heads/main\n");
        for dir in ["ws/.git/objects", "ws/.git/refs"] {
            place.dir(dir);
        }
        let script = "echo evil > .git/hooks/pre-commit; touch .git/hooks/post-checkout; rm -rf .git/hooks; \
                      mv .git g; git config user.name A && git config user.email a@b && echo x > f && \
                      git add f && git commit -q --no-verify -m works && git log --oneline | wc -l";
        let ran = place.run(&agent("hooks", "", script));
        ran.expect_code(0);
        assert_eq!(ran.stdout.trim(), "1", "{}", ran.stderr);
        let hooks = place.dir.join("ws/.git/hooks");
        assert_eq!(
            fs::read_to_string(hooks.join("pre-commit")).unwrap(),
            "#!/bin/sh\n# mine\n"
        );
        assert_eq!(fs::read_dir(hooks).unwrap().count(), 1);
    }
}

#[test]
fn a_program_is_found_where_it_is_installed_and_that_is_said() {
    for who in everybody() {
        let place = Place::new(who);
        place.dir("ws");
        // A virtual environment outside of the workspace, with the system's own python as its base.
        let venv = place.dir.join("env");
        for dir in ["env", "env/bin", "env/lib", "env/lib/python3"] {
            place.dir(dir);
        }
        place.file("env/pyvenv.cfg", "home = /usr/bin\nversion = 3\n");
        symlink("/usr/bin/python3", venv.join("bin/python")).unwrap();
        let yaml = format!(
            "version: 1\nname: venv\nring: standard\nworkspace: ./ws\ncommand: [{}/bin/python, -c, \
             'import sys; print(sys.prefix)']\n",
            venv.display()
        );
        let ran = place.run(&yaml);
        ran.expect_code(0).expect_said("runs from");
        assert_eq!(ran.stdout, format!("{}\n", venv.display()));
        // By a link that is made again inside.
        symlink(venv.join("bin/python"), place.dir.join("py")).unwrap();
        let linked = yaml.replace(
            &format!("{}/bin/python", venv.display()),
            &format!("{}/py", place.dir.display()),
        );
        place.run(&linked).expect_code(0);
        let none = place.run(&yaml.replace("ring:", "runtime: none\nring:"));
        none.expect_code(126).expect_said("does not see it");
        let wide = agent("wide", "", "true").replace("command:", "runtime: any\ncommand:");
        place
            .run(&wide)
            .expect_code(2)
            .expect_said("none of auto, none");
    }
}

#[test]
fn a_preset_fills_what_the_file_does_not_say() {
    for who in everybody() {
        let place = Place::new(who);
        place.dir("ws");
        let yaml = "version: 1\nname: pre\npreset: python-agent\nworkspace: ./ws\n\
                    env: {set: {PYTHONUNBUFFERED: no}}\ncommand: [sh, -c, 'echo $PYTHONUNBUFFERED $HF_HUB_DISABLE_TELEMETRY']\n";
        assert_eq!(place.run(yaml).expect_code(0).stdout, "no 1\n");
        let unknown = yaml.replace("python-agent", "pithon");
        place
            .run(&unknown)
            .expect_code(2)
            .expect_said("none of claude-code, codex");
        let beyond = yaml.replace("workspace:", "ring: sandbox\nworkspace:");
        place
            .run(&beyond)
            .expect_code(2)
            .expect_said("preset python-agent:");
        let bare = "version: 1\nname: pre\npreset: node-agent\n";
        place
            .run(bare)
            .expect_code(2)
            .expect_said("`command` is missing");
    }
}

#[test]
fn init_writes_a_file_that_is_fine_and_never_over_another() {
    for who in everybody() {
        let place = Place::new(who);
        place.file("My App/main.py", "print('hi')\n");
        place.file("My App/.env", "KEY=1\n");
        place.file("My App/requirements.txt", "anthropic==1\n");
        let made = place.finish(&["init", "My App"]);
        made.expect_code(0)
            .expect_said("saw main.py")
            .expect_said("preset python-agent");
        let file = "My App/agent.yaml";
        let text = fs::read_to_string(place.dir.join(file)).unwrap();
        assert!(
            text.contains("name: my-app") && text.contains("deny: [./.env]"),
            "{text}"
        );
        place.finish(&["check", file]).expect_code(0);
        let ran = place.finish(&["run", file]);
        assert_eq!(ran.expect_code(0).stdout, "hi\n");
        place
            .finish(&["init", "My App"])
            .expect_code(1)
            .expect_said("not written over");
        assert_eq!(fs::read_to_string(place.dir.join(file)).unwrap(), text);
        let printed = place.finish(&["init", "--print", "--preset", "shell", "My App"]);
        assert!(printed.expect_code(0).stdout.contains("preset: shell"));
        place
            .finish(&["init", "--preset", "no", "."])
            .expect_code(3);
    }
}

#[test]
fn a_terminal_only_where_it_is_wanted() {
    for who in everybody() {
        let place = Place::new(who);
        place.dir("ws");
        let words = |tty: &str| {
            agent(
                "tty",
                &format!("tty: {tty}"),
                "test -t 1 && echo yes || echo no",
            )
        };
        for (tty, want) in [("auto", "yes"), ("none", "no")] {
            place.file("agent.yaml", words(tty));
            let mut command = place.on_a_terminal(&["run", "-q", "agent.yaml"]);
            let output = command.output().expect("script");
            let said = String::from_utf8_lossy(&output.stdout);
            assert!(said.contains(want), "{tty}: {said}");
        }
    }
}

#[test]
fn ids_of_files_in_a_kept_home_follow_the_agent() {
    if !rustix::process::geteuid().is_root() {
        return;
    }
    let place = Place::new(Who::Root);
    place.dir("ws");
    place
        .run(&agent("own", "", "echo x > ~/f; chmod 600 ~/f"))
        .expect_code(0);
    let file = place.dir.join("state/homes/own/home/f");
    let meta = fs::metadata(&file).unwrap();
    assert_ne!(meta.uid(), 0, "an agent's file never belongs to root");
    assert_eq!(meta.permissions().mode() & 0o777, 0o600);
}
