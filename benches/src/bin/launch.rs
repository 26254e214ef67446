//! `/bin/true` from start to exit: bare, in bubblewrap with every namespace, and in each ring.

use measure::{command, folder, interleaved, machine, ms, run, supervisor};

const NETWORK: &str = "network: {allow: ['api.example.com:443']}\n";

fn main() {
    let dir = folder("launch");
    let agt = supervisor();
    let yaml = |ring: u8, network: &str| {
        let path = dir.join(format!("ring{ring}{}.yaml", network.len()));
        let text = format!(
            "version: 1\nname: bench{ring}\nring: {ring}\nhome: temporary\nworkspace: ./ws{ring}\ncommand: [/bin/true]\n{network}"
        );
        std::fs::write(&path, text).expect("a file");
        path
    };
    let files = [yaml(1, ""), yaml(2, ""), yaml(3, ""), yaml(2, NETWORK)];
    let bwrap = [
        "--ro-bind",
        "/",
        "/",
        "--dev",
        "/dev",
        "--proc",
        "/proc",
        "--tmpfs",
        "/tmp",
        "--unshare-all",
        "--die-with-parent",
        "--new-session",
        "/bin/true",
    ];
    let ring = |number: usize| {
        let (agt, file) = (agt.clone(), files[number - 1].clone());
        move || run(command(&agt).args(["run", "--quiet"]).arg(&file))
    };
    let (mut one, mut two, mut three, mut out) = (ring(1), ring(2), ring(3), ring(4));
    let mut bare = || run(&mut command("/bin/true"));
    let mut boxed = || run(command("bwrap").args(bwrap));
    let has_bwrap = std::path::Path::new("/usr/bin/bwrap").exists();
    let mut what: Vec<(&str, &mut dyn FnMut())> = vec![("bare spawn", &mut bare)];
    if has_bwrap {
        what.push(("bwrap --unshare-all", &mut boxed));
    }
    what.extend([
        ("ring 3", &mut three as &mut dyn FnMut()),
        ("ring 2", &mut two),
        ("ring 1", &mut one),
        ("ring 2 with a network", &mut out),
    ]);
    let names: Vec<String> = what.iter().map(|(name, _)| (*name).to_owned()).collect();
    let found = interleaved(100, &mut what);
    println!("{}\n", machine());
    println!(
        "| /bin/true to exit, ms | p10 | p50 | p90 | × bare | × bwrap |\n|---|---|---|---|---|---|"
    );
    let ratio = |a: std::time::Duration, b: std::time::Duration| {
        format!("{:.2}", a.as_secs_f64() / b.as_secs_f64())
    };
    for (name, summary) in names.iter().zip(&found) {
        let against = if has_bwrap {
            ratio(summary.p50, found[1].p50)
        } else {
            "–".into()
        };
        println!(
            "| {name} | {} | {} | {} | {} | {against} |",
            ms(summary.p10),
            ms(summary.p50),
            ms(summary.p90),
            ratio(summary.p50, found[0].p50)
        );
    }
    std::fs::remove_dir_all(dir).expect("removing the folder");
}
