//! The network of a ring, seen from outside: what was allowed works, and nothing else arrives anywhere.

#![expect(clippy::disallowed_methods, reason = "looks from outside")]

use std::fs;
use std::time::Duration;

use outside::{Internet, Place, Ran, Who, everybody};
use serde_json::Value;

const MOST: Duration = Duration::from_secs(120);

fn yaml(network: &str, command: &str) -> String {
    format!(
        "version: 1\nname: net\nring: standard\nworkspace: ./ws\ncommand: {command}\nnetwork: {network}\n"
    )
}

/// A place whose workspace has the programs of these tests.
fn place(who: Who, net: &Internet) -> Place {
    let place = Place::new(who);
    place.dir("ws");
    let source = outside::sources().join("programs/net");
    place.file("ws/attack.py", fs::read(source.join("attack.py")).unwrap());
    place.file("ws/ca.pem", fs::read(net.dir.join("ca.pem")).unwrap());
    place
}

/// Runs an agent beside the world, and returns its report as well.
fn run(place: &Place, net: &Internet, yaml: &str) -> (Ran, Value) {
    place.file("agent.yaml", yaml);
    let agt = place.agt(&["run", "--report", "state/report.json", "agent.yaml"]);
    place.dir("state");
    let child = net.beside(&agt).spawn().expect("a start");
    let ran = Ran::wait(child, MOST);
    let report = fs::read(place.dir.join("state/report.json")).unwrap_or_default();
    (ran, serde_json::from_slice(&report).unwrap_or_default())
}

/// Whether something was refused of this name and kind.
fn refused(report: &Value, name: &str, port: Option<u16>, kind: &str) -> bool {
    let all = report["network"]["refused"].as_array();
    all.is_some_and(|all| {
        all.iter().any(|one| {
            one["name"] == name && one["port"].as_u64() == port.map(u64::from) && one["kind"] == kind
        })
    })
}

#[test]
fn probe() {
    let Some(net) = Internet::new() else { return };
    for who in everybody() {
        let place = place(who, &net);
        let allow = "{allow: ['ok.test:80', 'ok.test:443', 'other.test:80', 'other.test:8080', '*.wild.test:80', \
            'loop.test:80','zero.test:80','meta.test:80','azure.test:80','ten.test:80','own.test:80','own2.test:80', \
            'own6.test:80','loop6.test:80','mapped.test:80','nat64.test:80','ula.test:80','cname.test:80','synth.test:80']}";
        let mut control = net.outside(who, &["/usr/bin/python3", place.dir.join("ws/attack.py").to_str().unwrap()]);
        control.env("CANARY_DIR", &net.dir);
        println!("=== control {who:?}");
        let out = control.output().unwrap();
        println!("{}", String::from_utf8_lossy(&out.stdout));
        println!("{}", String::from_utf8_lossy(&out.stderr));
        println!("{:#?}", net.seen());
        println!("=== ring {who:?}");
        let (ran, report) = run(&place, &net, &yaml(allow, "[python3, attack.py]"));
        println!("{}\n{}\n{}", ran.code, ran.stdout, ran.stderr);
        println!("{:#}", report["network"]);
        println!("{:#?}", net.seen());
    }
}
