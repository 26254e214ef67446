//! `count WHAT TIMES`: does one thing so often, for `instructions.py` to count instructions of.
//! WHAT is `decide-RULES`, `append` (one write each) or `queue` (written in batches of 100).

use audit::{Entry, Kind, Log};
use measure::{folder, workload};
use policy::{Action, Engine, Limits, Policy, Variables};

fn main() {
    let mut words = std::env::args().skip(1);
    let (what, times) = (words.next().unwrap_or_default(), words.next());
    let times: usize = times.and_then(|times| times.parse().ok()).unwrap_or(0);
    match what
        .split_once('-')
        .map(|(what, rules)| (what, rules.parse()))
    {
        Some(("decide", Ok(rules))) => decide(rules, times),
        _ => record(what == "append", times),
    }
}

fn decide(rules: usize, times: usize) {
    let text = workload::rules(rules);
    let policy = Policy::parse("count", text.as_bytes(), &Variables::default());
    let engine = Engine::new(vec![policy.expect("a policy")]);
    let actions: Vec<Action> = workload::actions(rules)
        .iter()
        .flat_map(|text| Action::from_json(text))
        .collect();
    let (mut scratch, mut limits) = (engine.scratch(), Limits::default());
    for action in actions.iter().cycle().take(times) {
        std::hint::black_box(engine.decide(action, &mut limits, &mut scratch));
    }
}

fn record(each: bool, times: usize) {
    let dir = folder("count");
    let keys = audit::Keys::open_or_create(&dir.join("keys")).expect("keys");
    let options = audit::Options::default();
    let mut log = Log::open(&dir.join("audit"), "count", keys, options).expect("a log");
    let fields = workload::FIELDS;
    let entry: Entry<'_> = workload::entry(Kind::Decision, &fields);
    for n in 1..=times {
        if each {
            drop(log.append(&entry).expect("a record"));
        } else {
            drop(log.queue(&entry).expect("a record"));
            if n % 100 == 0 {
                let _ = log.write().expect("written");
            }
        }
    }
    std::fs::remove_dir_all(dir).expect("removing the folder");
}
