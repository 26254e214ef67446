//! What a system call costs inside a ring, against the same program bare, in one run.

use std::collections::BTreeMap;

use measure::{command, folder, machine, supervisor};

fn main() {
    let dir = folder("inside");
    std::fs::create_dir_all(dir.join("ws")).expect("a folder");
    let program = dir.join("ws/calls");
    let source = concat!(env!("CARGO_MANIFEST_DIR"), "/programs/calls.c");
    let built = command("cc")
        .args(["-O2", "-o"])
        .arg(&program)
        .arg(source)
        .status();
    assert!(built.expect("cc").success());
    let yaml = |ring: u8| {
        let file = dir.join(format!("ring{ring}.yaml"));
        let text = format!(
            "version: 1\nname: inside{ring}\nring: {ring}\nhome: temporary\nworkspace: ./ws\ncommand: [./calls]\n"
        );
        std::fs::write(&file, text).expect("a file");
        file
    };
    std::os::unix::fs::chown(dir.join("ws"), Some(1001), Some(1001)).ok();
    let bare = || {
        command(&program)
            .current_dir(dir.join("ws"))
            .output()
            .expect("a start")
            .stdout
    };
    let in_ring = |ring: u8| {
        let file = yaml(ring);
        move || {
            command(supervisor())
                .args(["run", "-q"])
                .arg(&file)
                .output()
                .expect("a start")
                .stdout
        }
    };
    let (two, three) = (in_ring(2), in_ring(3));
    let mut best: Vec<BTreeMap<String, f64>> = vec![BTreeMap::new(); 3];
    for _ in 0..7 {
        for (best, output) in best.iter_mut().zip([bare(), two(), three()]) {
            for line in String::from_utf8_lossy(&output).lines() {
                let (name, ns) = line.split_once(' ').expect("a name and a number");
                let ns: f64 = ns.parse().expect("a number");
                let known = best.entry(name.to_owned()).or_insert(f64::MAX);
                *known = known.min(ns);
            }
        }
    }
    println!("{}\n", machine());
    println!(
        "| call, ns (best of 7) | bare | ring 2 | × | ring 3 | × |\n|---|---|---|---|---|---|"
    );
    for (name, bare) in &best[0] {
        let (two, three) = (best[1][name], best[2][name]);
        println!(
            "| {name} | {bare:.0} | {two:.0} | {:.2} | {three:.0} | {:.2} |",
            two / bare,
            three / bare
        );
    }
    std::fs::remove_dir_all(dir).expect("removing the folder");
}
