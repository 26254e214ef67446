//! kill -9 of the supervisor at any instant: what had an effect is in the log, the log holds, and nothing
//! of the ring lives.

use std::fs;
use std::time::{Duration, Instant};

use outside::acts::{self, Done, Random};
use outside::{Place, Ran, Who, alive, everybody, leftovers, until};
use rustix::process::Signal;

/// From the kill to the last process, on a machine that is busy with other tests.
const DEAD_WITHIN: Duration = Duration::from_secs(5);
/// Kills in one state folder, before it is looked at as a whole.
const BATCH: u64 = 25;

#[derive(Clone, Copy, Debug, Default)]
struct Counts {
    kills: u64,
    /// Of supervisors whose agent had asked something.
    at_work: u64,
    allowed: usize,
    denied: usize,
    slowest: Duration,
}

/// One supervisor is killed while its agent is at work, and the next before, at or after its start.
fn kill(place: &Place, name: &str, random: &mut Random, counts: &mut Counts) -> Done {
    let tag = format!("TAG-{name}-{}", counts.kills);
    let mut child = place.start(&acts::yaml(name, &tag));
    if random.below(2) == 0 {
        let since = Instant::now();
        while acts::done(place, &tag).is_empty() && since.elapsed() < Duration::from_secs(20) {
            std::thread::sleep(Duration::from_millis(1));
        }
        std::thread::sleep(Duration::from_micros(random.below(100_000)));
    } else {
        std::thread::sleep(Duration::from_micros(random.below(400_000)));
    }
    child.kill().unwrap();
    child.wait().unwrap();
    let since = Instant::now();
    until("the ring's end", DEAD_WITHIN, || alive(&tag).is_empty());
    counts.slowest = counts.slowest.max(since.elapsed());
    let done = acts::done(place, &tag);
    counts.kills += 1;
    counts.at_work += u64::from(!done.is_empty());
    counts.allowed += done.values().filter(|allowed| **allowed).count();
    counts.denied += done.values().filter(|allowed| !**allowed).count();
    acts::expect_recorded(place, &done);
    let verified = place.finish(&["audit", "verify"]);
    // Killed before there was a log at all.
    if verified.code == 0 || !verified.stderr.contains("no log yet") {
        verified.expect_code(0);
    }
    done
}

fn next(place: &Place, name: &str) -> Ran {
    place.run(&acts::yaml(name, "next").replace("./acts, next, --tag, next", "'true'"))
}

fn batch(who: Who, lane: u64, size: u64, random: &mut Random, counts: &mut Counts) {
    let place = Place::new(who);
    acts::prepare(&place);
    let name = format!("kills-{}-{lane}", std::process::id());
    let mut done = Done::new();
    for _ in 0..size {
        done.extend(kill(&place, &name, random, counts));
    }
    // The next start mends what the dead left, and loses nothing of it.
    next(&place, &name).expect_code(0);
    acts::expect_recorded(&place, &done);
    let verified = place.finish(&["audit", "verify"]);
    let stdout = &verified.expect_code(0).stdout;
    assert!(
        stdout.contains("ledger: intact") && !stdout.contains("not closed"),
        "{stdout}"
    );
    assert!(leftovers(&name).is_empty(), "{:?}", leftovers(&name));
}

#[test]
fn what_had_an_effect_is_in_the_log_whenever_the_supervisor_was_killed() {
    let long = std::env::var_os("AGT_LONG").is_some();
    let (lanes, kills) = if long { (2, 500) } else { (1, 6) };
    let everybody = everybody();
    let counts = std::thread::scope(|scope| {
        let start = |(number, who): (u64, Who)| {
            scope.spawn(move || {
                let (mut random, mut counts) = (Random::new(number + 1), Counts::default());
                while counts.kills < kills {
                    let size = BATCH.min(kills - counts.kills);
                    batch(who, number, size, &mut random, &mut counts);
                    eprintln!("lane {number} {who:?}: {counts:?}");
                }
                counts
            })
        };
        let each = (0..lanes).flat_map(|_| everybody.iter().copied());
        let threads: Vec<_> = (0..).zip(each).map(start).collect();
        let counts = threads.into_iter().map(|thread| thread.join().unwrap());
        counts.collect::<Vec<_>>()
    });
    let total = |of: fn(&Counts) -> u64| counts.iter().map(of).sum::<u64>();
    println!(
        "{} kills, {} with an agent at work; {} allowed and {} denied answers had an effect, all of them recorded; \
         slowest end of a ring {:?}",
        total(|one| one.kills),
        total(|one| one.at_work),
        total(|one| one.allowed as u64),
        total(|one| one.denied as u64),
        counts
            .iter()
            .map(|one| one.slowest)
            .max()
            .unwrap_or_default()
    );
    assert!(
        total(|one| one.at_work) * 3 > total(|one| one.kills),
        "{counts:?}"
    );
}

/// Killed between the two: the ledger knows the log, and its folder has not its name yet.
#[test]
fn a_log_whose_maker_was_killed_is_closed_by_the_next_start() {
    for who in everybody() {
        let place = Place::new(who);
        acts::prepare(&place);
        let tag = format!("TAG-maker-{}-{who:?}", std::process::id());
        let mut child = place.start(&acts::yaml("maker", &tag));
        until("its first acts", Duration::from_secs(20), || {
            !acts::done(&place, &tag).is_empty()
        });
        child.kill().unwrap();
        child.wait().unwrap();
        let audit = place.dir.join("state/audit");
        let logs = fs::read_dir(&audit).unwrap().flatten();
        let log = logs.into_iter().find(|one| one.path().is_dir()).unwrap();
        let staged = format!(".new-{}", log.file_name().to_string_lossy());
        fs::rename(log.path(), audit.join(staged)).unwrap();
        next(&place, "maker").expect_code(0);
        let verified = place.finish(&["audit", "verify"]);
        let stdout = &verified.expect_code(0).stdout;
        assert!(!stdout.contains("not closed"), "{stdout}");
        acts::expect_recorded(&place, &acts::done(&place, &tag));
    }
}

/// A panic aborts, and so does a broken invariant of the allocator: neither runs any more code of ours, and
/// to the ring and the log it is what kill -9 is.
#[test]
fn a_supervisor_that_aborts_leaves_no_agent_and_a_log_that_holds() {
    use std::os::unix::process::ExitStatusExt;
    for who in everybody() {
        let place = Place::new(who);
        acts::prepare(&place);
        let name = format!("abort-{}", std::process::id());
        let mut done = Done::new();
        for how in [Signal::ABORT, Signal::ILL] {
            let tag = format!("TAG-abort-{}-{who:?}-{}", std::process::id(), how.as_raw());
            let mut child = place.start(&acts::yaml(&name, &tag));
            until("its first acts", Duration::from_secs(20), || {
                !acts::done(&place, &tag).is_empty()
            });
            outside::signal(&child, how);
            assert_eq!(child.wait().unwrap().signal(), Some(how.as_raw()));
            until("the ring's end", DEAD_WITHIN, || alive(&tag).is_empty());
            done.extend(acts::done(&place, &tag));
            acts::expect_recorded(&place, &done);
        }
        next(&place, &name).expect_code(0);
        acts::expect_recorded(&place, &done);
        let verified = place.finish(&["audit", "verify"]);
        let stdout = &verified.expect_code(0).stdout;
        assert!(!stdout.contains("not closed"), "{stdout}");
        assert!(leftovers(&name).is_empty(), "{:?}", leftovers(&name));
    }
}
