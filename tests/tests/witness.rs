//! Heads of logs, cosigned by a witness: the way people go it, and what the owner of the log can do.

use std::fs;
use std::io::Write;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use outside::{Place, Ran, everybody, tool, until};

/// It runs until there is a file `down`.
fn agent(place: &Place) -> String {
    let name = name(place);
    format!(
        "version: 1\nname: {name}\nring: standard\nworkspace: ./ws\nhome: none\n\
         command: [sh, -c, 'touch up; while [ ! -e down ]; do sleep 0.05; done']\n"
    )
}

/// Of an agent that no other place has.
fn name(place: &Place) -> String {
    place
        .dir
        .file_name()
        .unwrap()
        .to_string_lossy()
        .into_owned()
}

/// A verb with this on its standard input.
fn fed(place: &Place, args: &[&str], input: &str) -> Ran {
    let mut child = place.agt(args).stdin(Stdio::piped()).spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    // One that refuses early does not read all of it.
    let _unread = stdin.write_all(input.as_bytes());
    drop(stdin);
    Ran::wait(child, Duration::from_secs(60))
}

fn said(place: &Place, args: &[&str]) -> String {
    place.finish(args).expect_code(0).stdout.clone()
}

/// What a witness elsewhere answers to an offer.
fn asked(witness: &Place, keys: &str, offer: &str) -> Ran {
    fed(witness, &["audit", "witness", "--log-key", keys], offer)
}

/// The cosignature, checked by the Ed25519 of the Python verifier.
fn holds_elsewhere(line: &str, vkey: &str, offer: &str, place: &Place) -> bool {
    let script = "import sys, base64\nclients, line, vkey, offer = sys.argv[1:]\nsys.path.insert(0, clients)\n\
        from agt_verify import signed\ntext = offer.split('\\n\\n', 2)[1] + '\\n'\n\
        blob = base64.b64decode(line.split(' ')[2])\ntime = int.from_bytes(blob[4:12], 'big')\n\
        message = f'cosignature/v1\\ntime {time}\\n{text}'.encode()\n\
        assert blob[:4].hex() == vkey.split('+', 2)[1]\n\
        sys.exit(not signed(base64.b64decode(vkey.split('+', 2)[2])[1:], message, blob[12:]))";
    let clients = outside::sources().join("../clients/python");
    let clients = clients.to_str().unwrap();
    let args = ["-B", "-c", script, clients, line.trim_end(), vkey, offer];
    tool("python3", &args, place).0
}

fn copied(from: &Path, to: &Path, place: &Place) {
    let (from, to) = (from.to_str().unwrap(), to.to_str().unwrap());
    let (done, said) = tool("cp", &["-a", from, to], place);
    assert!(done, "{said}");
}

#[test]
fn a_log_is_witnessed_while_it_is_written_and_held_to_that_when_it_was_rolled_back() {
    for who in everybody() {
        let (place, elsewhere) = (Place::new(who), Place::new(who));
        place.dir("ws");
        let mut child = place.start(&agent(&place));
        until("up", Duration::from_secs(30), || {
            place.dir.join("ws/up").exists()
        });
        let keys = said(&place, &["keys"]);
        let vkey = said(&elsewhere, &["audit", "witness", "--key"]);
        let vkey = vkey.trim_end();
        let cosigned = |line: &str| fed(&place, &["audit", "cosigned", "--witness", vkey], line);
        let first = said(&place, &["audit", "offer"]);
        assert!(first.starts_with("old 0\n\n"), "{first}");
        let line = asked(&elsewhere, &keys, &first);
        let line = &line.expect_code(0).stdout;
        assert!(holds_elsewhere(line, vkey, &first, &place), "{line}");
        let other = first.replacen("agt-audit", "agt-audIt", 1);
        assert!(!holds_elsewhere(line, vkey, &other, &place));
        cosigned(line).expect_code(0).expect_said("witnessed");
        let early = place.dir.join("early");
        copied(&place.dir.join("state/audit"), &early, &place);

        // It grows, and its head is signed again.
        place
            .finish(&["signal", &name(&place), "USR2"])
            .expect_code(0);
        let second = said(&place, &["audit", "offer", "--witness", vkey]);
        assert!(!second.starts_with("old 0\n"), "{second}");
        let line = asked(&elsewhere, &keys, &second);
        cosigned(&line.expect_code(0).stdout).expect_code(0);
        place.file("ws/down", "");
        child.wait().unwrap();
        let held = said(&place, &["audit", "verify", "--witness", vkey]);
        assert!(
            held.contains(" witnessed 20") && !held.contains("none witnessed"),
            "{held}"
        );
        // Who is asked twice from the same place has moved on since.
        asked(&elsewhere, &keys, &second)
            .expect_code(1)
            .expect_said("audit offer --old");

        // Everything of then is put back: it holds, and the witness knows better.
        fs::remove_dir_all(place.dir.join("state/audit")).unwrap();
        copied(&early, &place.dir.join("state/audit"), &place);
        place.finish(&["audit", "verify"]).expect_code(0);
        let heads = said(
            &elsewhere,
            &["audit", "witness", "--heads", "--log-key", &keys],
        );
        place.file("heads", heads);
        let held = ["audit", "verify", "--head", "heads", "--witness", vkey];
        let rolled = place.finish(&held);
        assert!(
            rolled.expect_code(1).stdout.contains("truncated"),
            "{}",
            rolled.stdout
        );
        // The owner's key alone reads them as well.
        place.finish(&held[..4]).expect_code(1);
        let offer = said(&place, &["audit", "offer"]);
        asked(&elsewhere, &keys, &offer).expect_code(1);
    }
}

#[test]
fn a_witness_answers_no_in_one_line() {
    for who in everybody() {
        let place = Place::new(who);
        let (none, own) = (Place::new(who), said(&place, &["keys"]));
        let refused = |ran: Ran| {
            ran.expect_code(1);
            assert_eq!(ran.stderr.lines().count(), 1, "{}", ran.stderr);
            assert_eq!(ran.stdout, "");
        };
        for wrong in [
            "",
            "old 0\n",
            "old 0\n\nx\n",
            &"old 0\n".repeat(20_000),
            "\u{1b}[2J",
        ] {
            refused(asked(&none, &own, wrong));
        }
        fed(&none, &["audit", "witness", "--log-key", "x+y+z"], "").expect_code(2);
        // A log whose name is not below the key's.
        place.dir("ws");
        place.file("ws/down", "");
        place.run(&agent(&place)).expect_code(0);
        let offer = said(&place, &["audit", "offer"]);
        let stranger = said(&none, &["keys"]);
        refused(asked(&none, &stranger, &offer));
        let vkey = said(&none, &["audit", "witness", "--key"]);
        let cosigned = ["audit", "cosigned", "--witness", vkey.trim_end()];
        refused(fed(&place, &cosigned, "— nobody AAAA\n"));
        let held = said(&place, &["audit", "verify", "--witness", vkey.trim_end()]);
        assert!(held.contains("none witnessed"), "{held}");
    }
}
