//! What is said about files that are wrong, and that nothing goes beyond its ceiling.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test fails by panicking"
)]

use profiles::{Error, Ring, Rings, parse_agent, resolve};
use proptest::prelude::*;

const GOOD: &str = "version: 1\nname: bot\ncommand: [python3, agent.py]\n";

fn wrong(yaml: &str) -> String {
    parse_agent("a.yaml", yaml.as_bytes())
        .unwrap_err()
        .to_string()
}

fn ring(yaml: &str) -> Result<Ring, Error> {
    resolve(
        &parse_agent("a.yaml", yaml.as_bytes())?,
        &Rings::built_in()?,
    )
}

/// Every key of the reference, by its dotted name.
fn keys(reference: &str) -> Vec<(String, String)> {
    let row = |line: &str| {
        let mut cells = line.strip_prefix("| `")?.split(" | ");
        let key = cells.next()?.trim_end_matches('`').to_owned();
        Some((key, cells.next()?.to_owned()))
    };
    reference.lines().filter_map(row).collect()
}

/// A file in which the dotted key has this value.
fn with(key: &str, value: &str) -> String {
    let yaml: String = GOOD
        .lines()
        .filter(|line| !line.starts_with(&format!("{key}:")))
        .map(|line| format!("{line}\n"))
        .collect();
    let mut parts: Vec<&str> = key.split('.').collect();
    let top = parts.remove(0);
    let inner = parts
        .into_iter()
        .rev()
        .fold(value.to_owned(), |value, part| {
            format!("{{{part}: {value}}}")
        });
    yaml + &format!("{top}: {inner}\n")
}

#[test]
fn every_key_mistyped_names_the_nearest() {
    for (key, _) in keys(&profiles::agent_markdown()) {
        let (outer, inner) = key.rsplit_once('.').unwrap_or(("", &key));
        let mistyped = format!("{inner}x");
        let path = if outer.is_empty() {
            mistyped
        } else {
            format!("{outer}.{mistyped}")
        };
        let said = wrong(&with(&path, "1"));
        assert!(
            said.contains(&format!("did you mean `{inner}`?")),
            "{key}: {said}"
        );
        assert!(said.starts_with("a.yaml:4:"), "{said}");
    }
}

#[test]
fn every_key_with_a_wrong_type_is_refused_with_an_example() {
    for (key, takes) in keys(&profiles::agent_markdown()) {
        let value = match takes.as_str() {
            "a list" | "a map" | "a map of texts" => "7",
            _ => "[[1], {a: b}]",
        };
        let said = wrong(&with(&key, value));
        let line = said.starts_with("a.yaml:4:") || said.starts_with("a.yaml:3:");
        assert!(line && said.contains("; write "), "{key}: {said}");
    }
}

#[test]
fn every_key_beyond_its_ceiling_is_refused_with_both_lines() {
    for (key, value) in [
        ("memory", "99T"),
        ("pids", "4000000"),
        ("files", "1000000"),
        ("file_size", "100T"),
        ("tmp", "900G"),
    ] {
        for ring_name in ["standard", "sandbox"] {
            let yaml = format!("{GOOD}ring: {ring_name}\nlimits:\n  {key}: {value}\n");
            let said = ring(&yaml).unwrap_err().to_string();
            assert!(said.starts_with("a.yaml:6:"), "{said}");
            assert!(said.contains(&format!("ring {ring_name}:")), "{said}");
        }
    }
    let said = ring(&format!("{GOOD}files: {{write: [./x]}}\n"))
        .unwrap_err()
        .to_string();
    assert!(said.contains("writes nothing but its own /tmp"), "{said}");
    let said = ring(&format!("{GOOD}degrade: [landlock]\n"))
        .unwrap_err()
        .to_string();
    assert!(said.contains("does not start without landlock"), "{said}");
}

#[test]
fn rings_that_are_not() {
    for (name, text) in [
        ("0", "never an agent"),
        ("9", "there is no ring"),
        ("x", "`sandbox`"),
    ] {
        let said = ring(&format!("{GOOD}ring: {name}\n"))
            .unwrap_err()
            .to_string();
        assert!(said.contains(text), "{said}");
    }
    for (name, number) in [("1", 1), ("standard", 2), ("3", 3)] {
        assert_eq!(
            ring(&format!("{GOOD}ring: {name}\n")).unwrap().number,
            number
        );
    }
}

#[test]
fn hostile_files() {
    let large = vec![b'#'; 10 << 20];
    let said = parse_agent("a.yaml", &large).unwrap_err().to_string();
    assert!(said.contains("larger than 64 KiB"), "{said}");
    let bomb = "a: &a [x, x]\nb: &b [*a, *a]\nc: [*b, *b]\n";
    assert!(wrong(bomb).contains("anchors"), "{}", wrong(bomb));
    assert!(wrong("version: *x\n").contains("a.yaml"));
    assert!(wrong(&format!("{GOOD}env: !!python/object {{}}\n")).contains("tags"));
    let said = parse_agent("a.yaml", b"version: 1\nname: \xff\n")
        .unwrap_err()
        .to_string();
    assert!(said.contains("line 2 is not UTF-8"), "{said}");
    assert!(wrong("version: 1\0").contains("NUL"));
    let spelled = wrong("version: 1\nname: a\ncommand: [a, \"x\\0y\"]\n");
    assert!(
        spelled.starts_with("a.yaml:3:14: this text holds a NUL"),
        "{spelled}"
    );
    let steering = wrong("version: 1\n\"\\e[2J\": 1\n\"\\e[2J\": 1\n");
    assert!(!steering.contains('\u{1b}'), "{steering:?}");
    assert!(wrong("version: 1\nname: '12'\ncommand: [a]\n").contains("is `12`, a number"));
    let twice = wrong(&format!("{GOOD}env: {{set: {{A: x}}, pass: [\"A?\"]}}\n"));
    assert!(twice.contains("`A`, which is given already"), "{twice}");
    let twice = wrong(&format!("{GOOD}env: {{pass: [A, A]}}\n"));
    assert!(twice.contains("`A`, which is given already"), "{twice}");
    assert!(
        wrong(&format!("{GOOD}files: {{read: [\"~bob/x\"]}}\n")).contains("only `~/` is known")
    );
    assert!(wrong("").contains("empty"));
    assert!(wrong("# only a comment\n").contains("empty"));
    assert!(wrong("[]").contains("must be a map"));
    assert!(wrong(&"[".repeat(5000)).contains("a.yaml"));
    assert!(wrong(&format!("{GOOD}name: again\n")).contains("already given in line 2"));
    assert!(wrong(&format!("{GOOD}---\na: b\n")).contains("second document"));
    assert!(wrong("version: 2\nname: a\ncommand: [a]\n").contains("must be 1"));
    assert!(wrong("version: 1\nname: A\ncommand: [a]\n").contains("a-z"));
    assert!(wrong("version: 1\nname: a\ncommand: []\n").contains("empty list"));
    assert!(wrong("version: 1\nname: a\n").contains("`command` is missing"));
    assert!(wrong(&format!("{GOOD}env: {{pass: [AGT_X]}}\n")).contains("supervisor's own"));
    assert!(wrong(&format!("{GOOD}kill: {{grace: 11m}}\n")).contains("longer than 10m"));
    assert!(
        wrong(&format!("{GOOD}on_violation: {{count: 3}}\n"))
            .contains("`on_violation.within` is missing")
    );
}

#[test]
fn the_excerpt_points_at_the_place() {
    let yaml = format!("{GOOD}limits: {{memroy: 1G}}\n");
    let error = parse_agent("a.yaml", yaml.as_bytes()).unwrap_err();
    let shown = error.excerpt(&yaml).unwrap();
    assert_eq!(shown, "  |\n4 | limits: {memroy: 1G}\n  |          ^");
}

#[test]
fn what_no_ring_has_is_in_no_ring() {
    let refused = plan::syscalls::always_refused();
    for ring in Rings::built_in().unwrap().iter() {
        assert!(
            ring.syscalls.intersection(refused).is_empty(),
            "{}",
            ring.name
        );
        for name in ["execveat", "capget", "exit_group", "read", "prctl", "kill"] {
            let nr = plan::syscalls::by_name(name).unwrap();
            assert!(
                ring.syscalls.contains(nr),
                "{} needs {name} to start",
                ring.name
            );
        }
    }
    let calls = |name| Rings::built_in().unwrap().find(name).unwrap().syscalls;
    assert!(calls("3").is_subset(calls("2")) && calls("2").is_subset(calls("1")));
}

#[test]
fn generated_references_are_fresh() {
    let files = [
        ("docs/agent-yaml.md", profiles::agent_markdown()),
        ("docs/ring-yaml.md", profiles::ring_markdown()),
        ("docs/schema/agent.schema.json", profiles::agent_schema()),
        ("docs/schema/ring.schema.json", profiles::ring_schema()),
    ];
    for (name, text) in files {
        let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("..")
            .join(name);
        if std::env::var_os("AGT_WRITE_DOCS").is_some() {
            std::fs::write(&path, &text).unwrap();
        }
        let there = std::fs::read_to_string(&path).unwrap_or_default();
        assert!(
            there == text,
            "{name} is stale: AGT_WRITE_DOCS=1 cargo test -p agt-profiles"
        );
    }
}

mod site {
    use std::fs;
    use std::os::unix::fs::PermissionsExt;
    use std::path::PathBuf;

    use profiles::load;

    fn owner() -> u32 {
        rustix::process::geteuid().as_raw()
    }

    /// A folder below ones that nobody else may write: not in /tmp.
    fn folder(name: &str) -> PathBuf {
        let base = match owner() {
            0 => PathBuf::from("/var/lib"),
            _ => PathBuf::from(std::env::var_os("HOME").expect("a home")),
        };
        let dir = base.join(format!("agt-test-{name}-{}", std::process::id()));
        fs::create_dir_all(&dir).unwrap();
        fs::set_permissions(&dir, fs::Permissions::from_mode(0o755)).unwrap();
        dir.canonicalize().unwrap()
    }

    #[test]
    fn the_whole_chain_of_folders_is_checked() {
        let dir = std::env::temp_dir().join(format!("agt-site-{}", std::process::id()));
        fs::create_dir_all(&dir).unwrap();
        let said = load(&dir, owner()).unwrap_err().to_string();
        assert!(
            said.contains("others may write it") && said.starts_with("/tmp:"),
            "{said}"
        );
        fs::remove_dir_all(dir).unwrap();
        assert!(load("/etc/agt/no/such/rings.d".as_ref(), owner()).is_ok());
    }

    #[test]
    fn one_bad_file_stops_everything() {
        let dir = folder("bad");
        let ring = "version: 1\nname: pay\nextends: standard\nlimits: {max: {memory: 2G}}\n";
        fs::write(dir.join("pay.yaml"), ring).unwrap();
        let rings = load(&dir, owner()).unwrap();
        assert_eq!(rings.find("pay").unwrap().number, 2);
        fs::write(
            dir.join("child.yaml"),
            "version: 1\nname: child\nextends: pay\nlimits: {max: {memory: 3G}}\n",
        )
        .unwrap();
        let said = load(&dir, owner()).unwrap_err().to_string();
        assert!(said.contains("beyond the parent's"), "{said}");
        fs::write(
            dir.join("child.yaml"),
            "version: 1\nname: standard\nextends: pay\n",
        )
        .unwrap();
        assert!(
            load(&dir, owner())
                .unwrap_err()
                .to_string()
                .contains("already taken")
        );
        fs::remove_file(dir.join("child.yaml")).unwrap();
        fs::write(dir.join("other.yml"), ring).unwrap();
        let said = load(&dir, owner()).unwrap_err().to_string();
        assert!(said.contains("end in `.yaml`"), "{said}");
        fs::remove_file(dir.join("other.yml")).unwrap();
        for odd in [dir.join("../x"), PathBuf::from("x")] {
            let said = load(&odd, owner()).unwrap_err().to_string();
            assert!(said.contains("from `/` down"), "{said}");
        }
        std::os::unix::fs::symlink("pay.yaml", dir.join("link.yaml")).unwrap();
        assert!(load(&dir, owner()).is_err());
        fs::remove_file(dir.join("link.yaml")).unwrap();
        fs::set_permissions(dir.join("pay.yaml"), fs::Permissions::from_mode(0o666)).unwrap();
        assert!(
            load(&dir, owner())
                .unwrap_err()
                .to_string()
                .contains("others may write")
        );
        fs::remove_dir_all(dir).unwrap();
    }
}

#[test]
fn a_site_only_narrows_what_is_not_a_number() {
    let rings = Rings::built_in().unwrap();
    for wider in [
        "programs: any",
        "proc: masked",
        "workspace: write",
        "sockets: [unix]",
        "write: [/srv]",
        "write: [\"/srv?\"]",
        "degrade: [landlock]",
        "limits: {max: {memory: 3G}}",
        "read: [srv]",
        "read: [/srv/../etc]",
    ] {
        let yaml = format!("version: 1\nname: x\nextends: sandbox\n{wider}\n");
        let read = rings.parse_site("x.yaml", yaml.as_bytes());
        assert!(read.is_err(), "{wider}");
    }
}

proptest! {
    #[test]
    fn parsing_never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
        drop(parse_agent("a.yaml", &bytes));
    }

    #[test]
    fn a_mangled_file_never_panics(at in 0_usize..200, byte in any::<u8>(), cut in 0_usize..200) {
        let mut bytes = format!("{GOOD}ring: 2\nlimits: {{memory: 1G, cpu: 2}}\nenv: {{set: {{A: b}}}}\n").into_bytes();
        if let Some(place) = bytes.get_mut(at) {
            *place = byte;
        }
        bytes.truncate(bytes.len().saturating_sub(cut / 4));
        drop(parse_agent("a.yaml", &bytes));
    }

    #[test]
    fn nothing_goes_beyond_its_ceiling(
        number in 2_u8..=3,
        memory in proptest::option::of(4_u64 << 20..1 << 40),
        pids in proptest::option::of(1_u64..100_000),
        files in proptest::option::of(16_u64..1_048_576),
    ) {
        let mut limits = Vec::new();
        limits.extend(memory.map(|n| format!("memory: {n}")));
        limits.extend(pids.map(|n| format!("pids: {n}")));
        limits.extend(files.map(|n| format!("files: {n}")));
        let yaml = format!("{GOOD}ring: {number}\nlimits: {{{}}}\n", limits.join(", "));
        let rings = Rings::built_in().unwrap();
        let max = &rings.find(&number.to_string()).unwrap().max;
        if let Ok(ring) = ring(&yaml) {
            prop_assert!(ring.memory.value <= max.memory.as_ref().unwrap().value);
            prop_assert!(ring.pids.value <= max.pids.as_ref().unwrap().value);
            prop_assert!(ring.files.value <= max.files.as_ref().unwrap().value);
        } else {
            let over = |wish: Option<u64>, most: u64| wish.is_some_and(|wish| wish > most);
            prop_assert!(over(memory, max.memory.as_ref().unwrap().value.0)
                || over(pids, max.pids.as_ref().unwrap().value)
                || over(files, max.files.as_ref().unwrap().value));
        }
    }
}
