//! Actions that wait for people, from outside: who answers them, and what comes of it.

use std::fs;
use std::path::{Path, PathBuf};

use outside::live::{Live, SOON};
use outside::{Place, Who, everybody, until};
use serde_json::Value;

/// The file of the one action that is held.
fn kept(place: &Place) -> PathBuf {
    let dir = fs::read_dir(place.dir.join("state/approvals")).unwrap();
    dir.flatten().next().unwrap().path()
}

/// The name under which people answer it.
fn name(kept: &Path) -> String {
    let name = kept.file_name().unwrap().to_string_lossy();
    name.split('.').next().unwrap().to_owned()
}

/// Records of what people said, in the newest log.
fn answers(live: &Live) -> Vec<Value> {
    let all = live.records().into_iter();
    all.filter(|one| one["kind"] == "approval")
        .map(|one| one["action"].clone())
        .collect()
}

#[test]
fn a_held_action_goes_ahead_once_when_somebody_says_so() {
    for who in everybody() {
        let live = Live::start(who, "standard", "");
        live.order("ask send_email 0 ann");
        live.until_said("Held EACCES It goes out under our name.");
        let id = live.waiting();
        let shown = live.agt(&["approvals", &id]);
        assert!(
            shown.expect_code(0).stdout.contains("\"to\": \"ann\""),
            "{shown:?}"
        );
        // On disk, and nobody else's.
        let kept = kept(&live.place);
        assert!(fs::read_to_string(&kept).unwrap().contains("ann"));
        live.agt(&["approve", &id]).expect_code(0);
        live.agt(&["approve", &id]).expect_code(3);
        // Another action is another action.
        live.order("ask send_email 0 bob");
        until("bob is held", SOON, || {
            live.said().matches("Held").count() == 2
        });
        live.order("ask send_email 0 ann");
        live.until_said("allowed allow\n");
        assert!(!kept.exists());
        live.order("ask send_email 0 ann");
        until("once only", SOON, || {
            live.said().matches("Held").count() == 3
        });
        // A client that waits is answered when a person is.
        live.agt(&["deny", &id, "--reason", "Not to her."])
            .expect_code(0);
        live.order("ask send_email 9 ann");
        live.until_said("Denied EACCES it was not approved: Not to her.");
        let approved: Vec<Value> = live
            .records()
            .into_iter()
            .filter(|one| one["verdict"] == "allow")
            .collect();
        assert_eq!(approved[0]["action"]["approval"], *id, "{approved:?}");
        live.agt(&["kill", &live.run()]).expect_code(0);
        let (place, ran) = live.end();
        ran.expect_code(137)
            .expect_said("waits to be approved")
            .expect_said("signal KILL");
        place.finish(&["audit", "verify"]).expect_code(0);
    }
}

#[test]
fn a_yes_to_an_agent_is_none_to_what_became_of_it() {
    for who in everybody() {
        let live = Live::start(who, "standard", "");
        live.order("ask send_email 0 ann");
        live.until_said("Held");
        live.agt(&["approve", &live.waiting()]).expect_code(0);
        live.order("ask taint 0 x");
        live.until_said("allowed");
        live.order("ask send_email 0 ann");
        until("it is held again", SOON, || {
            live.said().matches("Held").count() == 2
        });
        live.agt(&["kill", &live.run()]).expect_code(0);
        live.end().1.expect_code(137);
    }
}

#[test]
fn only_those_whom_the_rule_names_answer() {
    for who in everybody() {
        let live = Live::start(who, "standard", "");
        live.order("ask wire 0 x");
        live.until_said("Held");
        // Who runs it sees for whom it waits, and cannot say yes in their place; nor can root.
        let list = live.agt(&["approvals"]);
        assert!(list.stdout.contains("for: group:no-such-group"), "{list:?}");
        let id = name(&kept(&live.place));
        live.agt(&["approve", &id])
            .expect_code(1)
            .expect_said("group:no-such-group");
        for wrong in ["ap-../../x", "ap-0000000000000000", "", "x"] {
            live.agt(&["approve", wrong]).expect_code(3);
        }
        live.agt(&["kill", &live.run()]).expect_code(0);
        live.end().1.expect_code(137);
    }
}

#[test]
fn an_answer_without_a_run_is_found_by_the_next_one_as_what_a_file_says() {
    for who in everybody() {
        let live = Live::start(who, "standard", "");
        live.order("ask send_email 0 ann");
        live.until_said("Held");
        let id = live.waiting();
        live.agt(&["kill", &live.run()]).expect_code(0);
        let live = live.again();
        // Its successor may be asked for it, and takes the answer from whom the kernel names.
        let list = live.agt(&["approvals"]);
        assert!(list.stdout.contains(&id), "{list:?}");
        live.agt(&["approve", &id]).expect_code(0);
        let uid = Value::from(if who == Who::Root { 0 } else { outside::USER });
        let said = answers(&live);
        assert_eq!(said.len(), 1, "{said:?}");
        assert_eq!((&said[0]["by_uid"], said[0].get("by")), (&uid, None));
        live.agt(&["kill", &live.run()]).expect_code(0);
        // The next one has only the file, as when it was answered without any.
        let live = live.again();
        live.order("ask send_email 0 bob");
        live.until_said("Held");
        let bob = live.waiting();
        live.agt(&["kill", &live.run()]).expect_code(0);
        live.agt(&["approve", &bob])
            .expect_code(0)
            .expect_shown("kept for the next run");
        let live = live.again();
        live.order("ask send_email 0 ann");
        live.until_said("allowed allow\n");
        let said = answers(&live);
        assert_eq!(said.len(), 1, "{said:?}");
        assert_eq!(
            (&said[0]["kind"], &said[0]["by"]),
            (&"approved".into(), &"file".into())
        );
        // A file of root's is root's word; another user may have written theirs as they like.
        let by = said[0].get("by_uid");
        assert_eq!(by, (who == Who::Root).then_some(&Value::from(0)));
        let decisions = live
            .records()
            .into_iter()
            .filter(|one| one["verdict"] == "allow");
        let by: Vec<Value> = decisions
            .map(|one| one["action"]["by_uid"].clone())
            .collect();
        assert_eq!(by[0].is_null(), who == Who::User, "{by:?}");
        live.order("ask send_email 0 bob");
        until("bob is allowed", SOON, || {
            live.said().matches("allowed allow").count() == 2
        });
        live.agt(&["kill", &live.run()]).expect_code(0);
        live.end().1.expect_code(137);
    }
}

#[test]
fn one_agent_does_not_take_all_places() {
    for who in everybody() {
        let live = Live::start(who, "standard", "");
        for number in 0..16 {
            live.order(&format!("ask send_email 0 {number}"));
        }
        live.order("ask send_email 0 more");
        live.until_said("16 actions of this agent wait already");
        // What waits can still be asked for, and answered.
        let id = live.waiting();
        let list = live.agt(&["approvals", "--json"]);
        let list: Value = serde_json::from_str(&list.stdout).unwrap();
        let mine = |one: &&Value| one["agent"] == "live" && one["run"] == *live.run();
        assert_eq!(list.as_array().unwrap().iter().filter(mine).count(), 16);
        live.agt(&["approve", &id])
            .expect_code(0)
            .expect_shown("send_email");
        live.agt(&["kill", &live.run()]).expect_code(0);
        live.end().1.expect_code(137);
    }
}

#[test]
fn who_became_root_to_run_it_answers_as_who_they_are() {
    let both = everybody();
    let (true, Some(user)) = (
        both.contains(&Who::Root),
        both.into_iter().find(|who| *who == Who::User),
    ) else {
        return;
    };
    let uid = outside::USER.to_string();
    let sudo = [("SUDO_UID", uid.as_str()), ("SUDO_GID", uid.as_str())];
    let live = Live::with(Who::Root, &sudo);
    let other = Place::new(user);
    for (number, direct) in [(1, false), (2, true)] {
        live.order(&format!("ask send_email 0 {number}"));
        until("it is held", SOON, || {
            live.said().matches("Held").count() == number
        });
        let id = live.waiting();
        if direct {
            // Themselves, without sudo, by the entrance for others; what is not theirs to do there, nobody does.
            let list = other.finish(&["approvals", "--json"]);
            assert!(list.stdout.contains(&id), "{list:?}");
            other.finish(&["kill", "live"]).expect_code(3);
            other.finish(&["approve", &id]).expect_code(0);
        } else {
            live.place
                .finish_as(&["approve", &id], &sudo)
                .expect_code(0);
        }
    }
    let by: Vec<Value> = answers(&live)
        .iter()
        .map(|one| one["by_uid"].clone())
        .collect();
    assert_eq!(by, [outside::USER, outside::USER]);
    live.agt(&["kill", &live.run()]).expect_code(0);
    live.end().1.expect_code(137);
}
