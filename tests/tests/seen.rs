//! Whatever is narrower, hidden or stays as it is, is so at every place where the agent sees it.

use std::fs;
use std::os::unix::fs::symlink;

use outside::{Place, everybody};

fn agent(name: &str, rest: &str, script: &str) -> String {
    let script = script.replace('\'', "''");
    format!("version: 1\nname: {name}\nring: standard\n{rest}\ncommand: [sh, -c, '{script}']\n")
}

#[test]
fn what_is_hidden_is_hidden_below_the_home_too() {
    for who in everybody() {
        let place = Place::new(who);
        place.dir("ws");
        place.file("proj/secret", "TOP\n");
        place.file("proj/deep/.env", "TOP\n");
        place.file("proj/plain", "plain\n");
        let rest =
            "workspace: ./ws\nfiles: {read: ['~/proj'], deny: [./proj/secret, ./proj/deep/.env]}";
        let script = "cat ~/proj/plain; cat ~/proj/secret ~/proj/deep/.env; grep -r TOP ~; true";
        let ran = place.run(&agent("blind", rest, script));
        assert_eq!(ran.expect_code(0).stdout, "plain\n", "{who:?}");
        for path in ["~/proj/secret", "../proj/deep/.env"] {
            let said = place.finish(&["explain", "agent.yaml", path]);
            let said = said.expect_code(1).stdout.as_str();
            assert!(said.contains("as `files.deny` (agent.yaml:"), "{said}");
        }
    }
}

#[test]
fn what_stays_as_it_is_stays_so_below_the_home_too() {
    for who in everybody() {
        let place = Place::new(who);
        for dir in ["repo", "repo/.git", "repo/ro"] {
            place.dir(dir);
        }
        place.file("repo/.git/hooks/pre-commit", "mine\n");
        place.file("repo/ro/f", "mine\n");
        let rest = "files: {write: ['~/repo'], read: [ro]}";
        let script = "for d in . ~/repo; do for f in agent.yaml .git/hooks/pre-commit ro/f; do \
                      echo evil >> $d/$f && echo WRITTEN; done; mv $d/.git $d/g; \
                      touch $d/ok; done; test -e ok && echo done";
        let yaml = agent("pinned", rest, script);
        place.file("repo/agent.yaml", &yaml);
        let ran = place.finish(&["run", "repo/agent.yaml"]);
        assert_eq!(ran.expect_code(0).stdout, "done\n", "{who:?}");
        let text = |name: &str| fs::read_to_string(place.dir.join("repo").join(name)).unwrap();
        assert_eq!(text("agent.yaml"), yaml);
        assert_eq!(text(".git/hooks/pre-commit"), "mine\n");
        assert_eq!(text("ro/f"), "mine\n");
        let ask = |path| place.finish(&["explain", "repo/agent.yaml", path]);
        for path in ["agent.yaml", ".git/hooks/pre-commit"] {
            let said = ask(path);
            assert!(said.stdout.contains("not written"), "{}", said.stdout);
        }
    }
}

#[test]
fn what_stays_as_it_is_does_not_uncover_what_is_narrower() {
    for who in everybody() {
        let place = Place::new(who);
        for dir in ["ws", "ws/conf", "ws/conf/ro"] {
            place.dir(dir);
        }
        place.file("ws/conf/ro/f", "mine\n");
        let rest = "workspace: ..\nfiles: {read: [ro]}";
        let script = "echo evil >> conf/ro/f || echo refused";
        place.file("ws/conf/agent.yaml", agent("narrow", rest, script));
        let ran = place.finish(&["run", "ws/conf/agent.yaml"]);
        assert_eq!(ran.expect_code(0).stdout, "refused\n", "{who:?}");
    }
}

#[test]
fn a_folder_that_holds_something_hidden_is_not_moved_out_of_the_way() {
    for who in everybody() {
        let place = Place::new(who);
        for dir in ["ws", "ws/d", "ws/d/e"] {
            place.dir(dir);
        }
        place.file("ws/d/e/s", "TOP\n");
        let rest = "workspace: ./ws\nfiles: {deny: ['./ws/d/e/s?']}";
        let script = "mv d d2; mv d/e d/e2; touch d/e/new; cat d*/e*/s";
        for _ in 0..2 {
            let ran = place.run(&agent("mover", rest, script));
            assert_eq!(ran.expect_code(0).stdout, "", "{who:?}");
        }
        assert!(place.dir.join("ws/d/e/new").exists());
    }
}

#[test]
fn a_program_is_run_by_a_link_that_lies_elsewhere() {
    for who in everybody() {
        let place = Place::new(who);
        for dir in ["ws", "apps", "apps/tool", "bin"] {
            place.dir(dir);
        }
        fs::copy("/bin/echo", place.dir.join("apps/tool/1.0")).unwrap();
        symlink(place.dir.join("apps/tool/1.0"), place.dir.join("bin/tool")).unwrap();
        let yaml = |rest: &str| {
            let tool = place.dir.join("bin/tool");
            format!(
                "version: 1\nname: linked\nring: standard\nworkspace: ./ws\n{rest}command: [{}, hi]\n",
                tool.display()
            )
        };
        // Made again inside; or there already, where its folder is granted.
        for rest in ["", "files: {read: [./bin]}\n"] {
            let ran = place.run(&yaml(rest));
            assert_eq!(ran.expect_code(0).stdout, "hi\n", "{who:?} {rest}");
        }
    }
}
