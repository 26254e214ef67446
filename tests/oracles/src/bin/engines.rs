//! Nanoseconds per decision of each engine on the same rules and actions, in turn in one run; each has to
//! decide them all alike first.

use std::hint::black_box;

use measure::workload::{ByHand, actions, median, per_action, plain, rules};
use oracles::engines::{Cedar, Machine, Ours, Regorus, Said, input};
use oracles::{cedar, rego, workload};
use serde_json::Value;

/// Rounds, and how long one engine may take in each.
const ROUNDS: usize = 9;
const NS_MAX: f64 = 2e8;

/// One engine's way to decide the action of this number.
type Decide<'e> = Box<dyn FnMut(usize) -> bool + 'e>;

fn main() -> Said<()> {
    println!("{}\n", measure::machine());
    println!(
        "| rules | by hand, ns | ours, ns | × hand | Cedar | Regorus | its machine | ours × quicker than Cedar | than the best of Regorus |"
    );
    println!("|---:|---:|---:|---:|---:|---:|---:|---:|---:|");
    for count in [10, 100, 1_000, 10_000] {
        size(count)?;
    }
    Ok(())
}

fn size(count: usize) -> Said<()> {
    let rules_here = workload(count);
    let texts = actions(count);
    let plains: Vec<_> = texts.iter().map(|text| plain(text)).collect();
    let by_hand = ByHand::new(count);
    let own: Vec<_> = texts
        .iter()
        .flat_map(|text| policy::Action::from_json(text))
        .collect();
    let mut ours = Ours::new(&rules(count))?;
    let requests: Said<Vec<_>> = texts.iter().map(|text| request(text)).collect();
    let requests = requests?;
    let cedar = Cedar::new(&cedar(&rules_here))?;
    let inputs: Said<Vec<_>> = texts.iter().map(|text| input(text)).collect();
    let inputs = inputs?;
    let text = rego(&rules_here);
    let mut regorus = Regorus::new(&text)?;
    let mut machine = Machine::new(&text);
    if let Err(error) = &machine {
        eprintln!("Regorus' machine at {count} rules: {error}");
    }
    let mut engines: Vec<(&str, Option<Decide<'_>>)> = vec![
        (
            "by hand",
            Some(Box::new(|n| by_hand.decide(&plains[n]).allows())),
        ),
        ("ours", Some(Box::new(|n| ours.allows(&own[n])))),
        ("Cedar", Some(Box::new(|n| cedar.allows(&requests[n])))),
        ("Regorus", Some(Box::new(|n| regorus.allows(&inputs[n])))),
        (
            "machine",
            machine
                .as_mut()
                .ok()
                .map(|machine| -> Decide<'_> { Box::new(|n| machine.allows(&inputs[n])) }),
        ),
    ];
    let asked = if count > 1_000 { 64 } else { 256 };
    for n in 0..asked {
        let expected = by_hand.decide(&plains[n]).allows();
        for (name, engine) in &mut engines {
            let said = engine.as_mut().map(|decide| decide(n));
            assert!(
                said.is_none_or(|said| said == expected),
                "{name}: {}",
                texts[n]
            );
        }
    }
    let times = measure_all(&mut engines, texts.len());
    let [hand, ours, cedar, regorus, machine] = times[..] else {
        return Err("five engines".into());
    };
    let best = regorus.min(machine);
    let machine = if machine.is_nan() {
        "refuses".to_owned()
    } else {
        format!("{machine:.0}")
    };
    println!(
        "| {count} | {hand:.0} | {ours:.0} | {:.1} | {cedar:.0} | {regorus:.0} | {machine} | {:.0} | {:.0} |",
        ours / hand,
        cedar / ours,
        best / ours
    );
    Ok(())
}

fn request(text: &str) -> Said<cedar_policy::Request> {
    match serde_json::from_str(text)? {
        Value::Object(map) => Cedar::request(&map),
        _ => Err("not an object".into()),
    }
}

/// The median of each; not a number for one that is not there.
fn measure_all(engines: &mut [(&str, Option<Decide<'_>>)], actions: usize) -> Vec<f64> {
    let mut series = vec![Vec::new(); engines.len()];
    for round in 0..=ROUNDS {
        for ((_, engine), series) in engines.iter_mut().zip(&mut series) {
            let Some(decide) = engine else { continue };
            // How many fit into the time, as the first few say.
            let first = per_action(4, 1, || {
                (0..4).for_each(|n| {
                    black_box(decide(n));
                })
            });
            let count = ((NS_MAX / first) as usize).clamp(16, actions * 50);
            let (per_run, repeat) = if count > actions {
                (actions, count / actions)
            } else {
                (count, 1)
            };
            let time = per_action(per_run, repeat, || {
                for n in 0..per_run {
                    // Others than in the round before, when it is not all of them.
                    black_box(decide((n + round * per_run) % actions));
                }
            });
            if round > 0 {
                series.push(time);
            }
        }
    }
    series.into_iter().map(median).collect()
}
