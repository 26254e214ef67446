//! Disks that fail under the log: nothing is allowed any more, and the agents end at once.

use std::time::{Duration, Instant};

use outside::acts;
use outside::disk::{Disk, Fault};
use outside::{Place, Ran, Who, alive, everybody, until};

/// The contract's figure, from the fault to the last process.
const DEAD_WITHIN: Duration = Duration::from_secs(1);

#[derive(Clone, Copy, Debug)]
struct Seen {
    dead: Duration,
    /// Answers whose effect came after the fault.
    after: usize,
}

fn fault(who: Who, fault: Fault) -> Seen {
    let place = Place::new(who);
    acts::prepare(&place);
    let disk = Disk::new(&place, "state", fault);
    let tag = format!("TAG-disk-{}-{fault:?}-{who:?}", std::process::id());
    let child = place.start(&acts::yaml("disk", &tag));
    until("its first acts", Duration::from_secs(20), || {
        acts::done(&place, &tag).len() > 20
    });
    disk.fail();
    let (since, before) = (Instant::now(), acts::done(&place, &tag));
    until("its end", Duration::from_secs(10), || {
        alive(&tag).is_empty()
    });
    let dead = since.elapsed();
    let done = acts::done(&place, &tag);
    // What the disk still shows has all of it; what it lost, a sync would have been needed for.
    if matches!(fault, Fault::Full | Fault::ReadOnly) {
        acts::expect_recorded(&place, &done);
    }
    let ran = Ran::wait(child, Duration::from_secs(20));
    ran.expect_code(123).expect_said("audit log");
    let refused = place.run(&acts::yaml("disk", "again"));
    assert!(
        refused.code == 125 && acts::done(&place, "again").is_empty(),
        "{fault:?} {who:?}: {refused:?}"
    );
    // A disk that lost what it had confirmed may hold anything afterwards.
    if fault != Fault::Unsynced {
        disk.mend();
        let next = acts::yaml("disk", "next").replace("./acts, next, --tag, next", "'true'");
        place.run(&next).expect_code(0);
        let verified = place.finish(&["audit", "verify"]);
        let stdout = &verified.expect_code(0).stdout;
        assert!(!stdout.contains("not closed"), "{stdout}");
    }
    Seen {
        dead,
        after: done.len() - before.len(),
    }
}

#[test]
fn a_disk_that_fails_ends_the_run_and_allows_nothing() {
    for who in everybody() {
        if !rustix::process::geteuid().is_root() {
            // Only root mounts.
            return;
        }
        for what in Fault::ALL {
            let seen = fault(who, what);
            println!("{what:?} as {who:?}: {seen:?}");
            assert!(seen.dead < DEAD_WITHIN, "{what:?} {who:?}: {seen:?}");
            // One answer may be on its way when the fault comes. On a full disk the log's last block has room yet
            // for records of answers, which are there. Where only the sync fails, it is the answers of 20 ms:
            // group commit promises no more.
            let most = match what {
                Fault::Full => 16,
                Fault::ReadOnly | Fault::Errors => 1,
                Fault::Unsynced => 400,
            };
            assert!(seen.after <= most, "{what:?} {who:?}: {seen:?}");
        }
    }
}
