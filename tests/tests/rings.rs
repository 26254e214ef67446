//! `ring new|lint|diff|test` on files, and whom an installed ring is for.

#![expect(
    clippy::disallowed_methods,
    reason = "installs into a namespace of its own"
)]

use std::fs;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use outside::{Place, USER, Who, binary, everybody};
use serde_json::Value;

const TEAMS: [&str; 3] = ["payments", "research", "interns"];

fn examples() -> PathBuf {
    outside::sources().join("../examples/site")
}

/// The rings of the example site, as files of the user.
fn copy_rings(place: &Place) {
    for team in TEAMS {
        let text = fs::read(examples().join(format!("rings.d/{team}.yaml"))).unwrap();
        place.file(&format!("rings.d/{team}.yaml"), text);
    }
}

#[test]
fn the_probes_of_the_example_site_come_out_as_they_must() {
    for who in everybody() {
        let place = Place::new(who);
        copy_rings(&place);
        for team in TEAMS {
            let file = format!("rings.d/{team}.yaml");
            let ran = place.finish(&["ring", "test", &file]);
            ran.expect_code(0);
            assert!(
                ran.stdout.ends_with("probes, all as wanted\n"),
                "{}",
                ran.stdout
            );
            let ran = place.finish(&["ring", "test", "--json", &file]);
            ran.expect_code(0);
            let said: Value = serde_json::from_str(&ran.stdout).unwrap();
            let probes = said["probes"].as_array().unwrap();
            assert!(said["wrong"] == 0 && probes.len() > 8, "{said}");
            assert!(probes.iter().all(|probe| probe["ok"] == true), "{said}");
        }
    }
}

#[test]
fn a_probe_that_comes_out_otherwise_is_named() {
    let who = everybody()[0];
    let place = Place::new(who);
    let ring = "version: 1\nname: odd\nextends: standard\nnetwork: {max: [\"*.a.example:443\"]}\n\
                must_allow:\n  - read: /no/such\n  - connect: \"b.example:443\"\n  - syscall: mount\n\
                must_deny:\n  - read: /usr/bin/env\n  - write: /tmp/x\n  - exec: /bin/sh\n\
                \x20 - connect: \"x.a.example:443\"\n  - resolve: y.a.example\n  - syscall: read\n";
    place.file("odd.yaml", ring);
    let ran = place.finish(&["ring", "test", "odd.yaml"]);
    ran.expect_code(1);
    assert!(
        ran.stdout.contains("ring odd: 9 probes, 9 WRONG"),
        "{}",
        ran.stdout
    );
    let wrong = ran.stdout.lines().filter(|line| line.starts_with("WRONG "));
    assert_eq!(wrong.count(), 9, "{}", ran.stdout);
    for part in [
        "works   fails: No such file",
        "works   fails: `network.max` has it not",
        "fails   works: `network.max` has it: an agent may ask for it",
    ] {
        assert!(ran.stdout.contains(part), "{part}\n{}", ran.stdout);
    }
    place.file("none.yaml", "version: 1\nname: none\nextends: sandbox\n");
    let ran = place.finish(&["ring", "test", "none.yaml"]);
    ran.expect_code(1);
    assert!(ran.stdout.contains("nothing was tested"), "{}", ran.stdout);
}

#[test]
fn from_a_new_profile_to_a_tested_one() {
    for who in everybody() {
        let place = Place::new(who);
        place.dir("rings");
        let new = [
            "ring",
            "new",
            "team",
            "--extends",
            "sandbox",
            "--out",
            "rings/team.yaml",
        ];
        place.finish(&new).expect_code(0);
        let text = fs::read_to_string(place.dir.join("rings/team.yaml")).unwrap();
        let again = place.finish(&new);
        again.expect_code(2).expect_said("exists");
        let printed = place.finish(&["ring", "new", "team", "--extends", "3"]);
        assert_eq!(printed.expect_code(0).stdout, text);
        place
            .finish(&["ring", "lint", "rings/team.yaml"])
            .expect_code(0);
        let same = place.finish(&["ring", "diff", "sandbox", "rings/team.yaml"]);
        same.expect_code(0);
        place
            .finish(&["ring", "test", "rings/team.yaml"])
            .expect_code(0);
        place
            .finish(&["ring", "score", "rings/team.yaml"])
            .expect_code(0);

        place.file("rings/team.yaml", text + "limits: {max: {memory: 1G}}\n");
        let less = place.finish(&["ring", "diff", "--json", "sandbox", "rings/team.yaml"]);
        let said: Value = serde_json::from_str(&less.expect_code(1).stdout).unwrap();
        assert_eq!(said["changes"].as_array().unwrap().len(), 1, "{said}");
        assert_eq!(said["changes"][0]["change"], "less", "{said}");
        assert_eq!(said["changes"][0]["what"], "1G (was: 2G)", "{said}");
        // Its parent lies in the same folder, where a file that is no ring does not matter.
        place.file("rings/agent.yaml", "version: 1\nname: x\ncommand: [x]\n");
        place.file(
            "rings/child.yaml",
            "version: 1\nname: child\nextends: team\n",
        );
        let shown = place.finish(&["ring", "show", "rings/child.yaml"]);
        let shown = &shown.expect_code(0).stdout;
        assert!(
            shown.contains("extends team") && shown.contains("at most    memory 1G"),
            "{shown}"
        );
        place.file(
            "rings/lost.yaml",
            "version: 1\nname: lost\nextends: nothing\n",
        );
        let lost = place.finish(&["ring", "show", "rings/lost.yaml"]);
        lost.expect_code(2)
            .expect_said("rings/lost.yaml:3:10: `extends` names `nothing`");
        place
            .finish(&["ring", "show", "no/such.yaml"])
            .expect_code(2);
        place.finish(&["ring", "show", "no-such"]).expect_code(3);
        for taken in ["sandbox", "7", "Team", "../team"] {
            let new = ["ring", "new", taken, "--extends", "2"];
            place.finish(&new).expect_code(2);
        }
    }
}

#[test]
fn lint_says_what_is_wrong_and_what_is_odd() {
    let place = Place::new(everybody()[0]);
    let probes = "must_allow: [{syscall: getpid}]\nmust_deny: [{syscall: mount}]\n";
    let ring = |name: &str, parent: &str, more: &str| {
        format!("version: 1\nname: {name}\nextends: {parent}\n{probes}{more}")
    };
    place.file("r/b.yaml", ring("b", "2", "home: temporary\n"));
    place.file("r/a.yaml", ring("a", "b", "home: none\n"));
    let ran = place.finish(&["ring", "lint", "--dir", "r"]);
    ran.expect_code(0);
    assert_eq!(ran.stdout, "r/a.yaml: fine\nr/b.yaml: fine\n");
    place
        .finish(&["ring", "lint", "r/a.yaml", "r/b.yaml"])
        .expect_code(0);
    // Without its parent it is lost.
    place.finish(&["ring", "lint", "r/a.yaml"]).expect_code(2);
    place.file("r/c.yaml", ring("c", "b", "home: temporary\n"));
    let ran = place.finish(&["ring", "lint", "--dir", "r"]);
    ran.expect_code(1);
    assert!(
        ran.stdout
            .contains("r/c.yaml:6: home: says what ring b says"),
        "{}",
        ran.stdout
    );
    place.file("r/d.yaml", ring("d", "b", "home: private\n"));
    let ran = place.finish(&["ring", "lint", "--dir", "r"]);
    ran.expect_code(2)
        .expect_said("r/d.yaml:6:7: `home` is wider");
    assert!(ran.stdout.contains("r/a.yaml: fine"), "{}", ran.stdout);
    fs::remove_file(place.dir.join("r/d.yaml")).unwrap();
    place.file("r/e.yml", ring("e", "b", ""));
    let ran = place.finish(&["ring", "lint", "--dir", "r"]);
    ran.expect_code(2).expect_said("e.yml");
    place.finish(&["ring", "lint"]).expect_code(2);
}

/// The example site, installed in a mount namespace in which `/etc` is a layer of its own.
#[test]
fn an_installed_ring_is_for_those_whom_it_names() {
    if everybody() != [Who::Root, Who::User] {
        return;
    }
    let place = Place::new(Who::User);
    for team in TEAMS {
        place.dir(&format!("{team}/ws"));
        let agent = fs::read(examples().join(format!("agents/{team}/agent.yaml"))).unwrap();
        place.file(&format!("{team}/agent.yaml"), agent);
    }
    place.dir("layer");
    let script = format!(
        "mount -t tmpfs layer layer && mkdir layer/upper layer/work\n\
         mount -t overlay etc -o lowerdir=/etc,upperdir=layer/upper,workdir=layer/work /etc\n\
         mkdir -p /etc/agt/rings.d\n\
         install -m 644 {site}/rings.d/*.yaml /etc/agt/rings.d/\n\
         printf 'payments:x:50001:\\ninterns:x:50002:agt-test\\n' >> /etc/group\n\
         printf 'agt-test:x:50009:50009::/:/bin/sh\\n' >> /etc/passwd\n\
         as() {{ groups=$1; shift; setpriv --reuid {USER} --regid {USER} --groups $groups -- \"$@\"; }}\n\
         try() {{ what=$1; shift; \"$@\" > out 2>&1; echo \"$what $?\"; }}\n\
         try list {agt} ring list\n\
         try installed env AGT_STATE_DIR=$PWD/layer/state {agt} ring test /etc/agt/rings.d/interns.yaml\n\
         try not-in as 7 {agt} run interns/agent.yaml; cat out >&2\n\
         try not-in-check as 7 {agt} check interns/agent.yaml\n\
         try not-in-explain as 7 {agt} explain interns/agent.yaml /usr\n\
         try not-in-command as 7 {agt} run --ring interns -- true\n\
         try not-in-test as 7 {agt} ring test interns\n\
         try in as 7,50002 {agt} run interns/agent.yaml\n\
         try in-check as 50002 {agt} check interns/agent.yaml\n\
         try in-another as 50001 {agt} run interns/agent.yaml\n\
         export AGT_STATE_DIR=$PWD/layer/state\n\
         try root {agt} run interns/agent.yaml\n\
         try sudo env SUDO_UID={USER} SUDO_GID={USER} {agt} run interns/agent.yaml\n\
         try sudo-member env SUDO_UID=50009 SUDO_GID=50009 {agt} check interns/agent.yaml\n\
         try feigned env AGT_STATE_DIR=$PWD/state SUDO_UID=50009 SUDO_GID=50002 setpriv --reuid {USER} --regid {USER} --clear-groups -- {agt} check interns/agent.yaml\n",
        site = examples().canonicalize().unwrap().display(),
        agt = binary().display(),
    );
    let output = Command::new("unshare")
        .args(["-m", "sh", "-c", &script])
        .current_dir(&place.dir)
        .env("HOME", &place.dir)
        .env("AGT_STATE_DIR", place.dir.join("state"))
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    let expected = "list 0\ninstalled 0\nnot-in 2\nnot-in-check 2\nnot-in-explain 2\n\
                    not-in-command 2\nnot-in-test 0\nin 0\nin-check 0\nin-another 2\nroot 0\nsudo 2\n\
                    sudo-member 0\nfeigned 2\n";
    assert_eq!(String::from_utf8_lossy(&output.stdout), expected, "{said}");
    for part in [
        "interns/agent.yaml:4:7: ring interns is not for",
        "/etc/agt/rings.d/interns.yaml:6",
    ] {
        assert!(said.contains(part), "{said}");
    }
}
