//! `audit ship`: records to somebody else as they are written, each at least once, in order within its log.
//!
//! A process of its own that reads files: no run waits for it. Where it stands is kept only after the sink
//! took the bytes, and whatever goes wrong, it begins again from there.

mod follow;
mod reached;
mod sink;

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::thread::sleep;
use std::time::Duration;

use crate::error::Failed;
use crate::logs::named;
use crate::places;
use crate::words;

use follow::Follower;
use reached::Reached;
use sink::{Destination, Sink};

/// How often what is written is looked for, and how many of those times also logs that are new.
const PAUSE: Duration = Duration::from_millis(200);
const ROUNDS: u32 = 5;

/// Where it stands is kept at least after so many bytes.
const UNKEPT_MAX: usize = 1 << 20;

/// Between two tries to reach a sink, at most.
const AWAY_MAX: Duration = Duration::from_secs(5);

/// What is to be shipped, and how.
#[derive(Debug)]
pub(crate) struct Wanted {
    pub(crate) to: String,
    pub(crate) log: Option<String>,
    pub(crate) all: bool,
    pub(crate) once: bool,
    pub(crate) cloud: bool,
}

/// Why shipping stopped.
enum Stopped {
    /// The sink does not take anything now.
    Away(io::Error),
    Failed(Failed),
}

impl From<Failed> for Stopped {
    fn from(failed: Failed) -> Self {
        Stopped::Failed(failed)
    }
}

/// Ships until the sink has all (`once`), or for ever.
pub(crate) fn ship(wanted: &Wanted) -> Result<u8, Failed> {
    let to = Destination::parse(&wanted.to)?;
    let mut shipping = Shipping {
        only: match wanted.all {
            true => None,
            false => Some(named(wanted.log.as_deref())?),
        },
        cloud: wanted.cloud,
        once: wanted.once,
        reached: Reached::open(&to)?,
        tries: 0,
        unreadable: BTreeSet::new(),
    };
    loop {
        let shipped = Sink::open(&to).map_err(Stopped::Away);
        match shipped.and_then(|mut sink| shipping.pump(&mut sink)) {
            Ok(()) => return Ok(u8::from(!shipping.unreadable.is_empty())),
            Err(Stopped::Failed(failed)) => return Err(failed),
            Err(Stopped::Away(error)) if wanted.once => {
                return Err(Failed::Order {
                    why: format!("{to} does not take records: {error}"),
                    code: 1,
                });
            }
            Err(Stopped::Away(error)) => {
                shipping.away(&to, &error);
                shipping.reached.back()?;
            }
        }
    }
}

struct Shipping {
    /// One log, or all.
    only: Option<String>,
    cloud: bool,
    once: bool,
    reached: Reached,
    /// How often the sink did not take anything, one after the other.
    tries: u32,
    /// Logs of which it was said that they cannot be read.
    unreadable: BTreeSet<String>,
}

impl Shipping {
    /// Says once that the sink is away, and waits a while.
    fn away(&mut self, to: &Destination, error: &io::Error) {
        if self.tries == 0 {
            let to = words::escape(&to.to_string());
            eprintln!("agt-supervisor: {to} does not take records: {error}; waiting for it");
        }
        sleep(AWAY_MAX.min(PAUSE * 2_u32.saturating_pow(self.tries)));
        self.tries = self.tries.saturating_add(1);
    }

    fn pump(&mut self, sink: &mut Sink) -> Result<(), Stopped> {
        let mut logs = BTreeMap::new();
        let mut rounds = 0_u32;
        loop {
            if rounds.is_multiple_of(ROUNDS) {
                self.look(&mut logs)?;
            }
            rounds = rounds.wrapping_add(1);
            if self.round(&mut logs, sink)? == 0 {
                if self.once {
                    return Ok(());
                }
                sleep(PAUSE);
            }
        }
    }

    /// Begins with the logs that are new, and leaves those that are gone.
    fn look(&mut self, logs: &mut BTreeMap<String, Follower>) -> Result<(), Failed> {
        let names = match &self.only {
            Some(name) => BTreeSet::from([name.clone()]),
            None => all()?,
        };
        logs.retain(|name, _| names.contains(name));
        if self.only.is_none() {
            self.reached.retain(|name| names.contains(name));
        }
        for name in names {
            if let Some(follower) = logs.get_mut(&name) {
                follower.wake();
                continue;
            }
            match Follower::open(&name, self.reached.of(&name)) {
                Ok(follower) => drop(logs.insert(name, follower)),
                Err(error) => self.unread(&name, error)?,
            }
        }
        Ok(())
    }

    /// One log that cannot be read does not hold up the others; it is tried again at the next look.
    fn unread(&mut self, name: &str, error: audit::Error) -> Result<(), Failed> {
        if self.only.is_some() {
            return Err(error.into());
        }
        // Not one that was removed since it was listed.
        if places::audit_dir().join(name).is_dir() && self.unreadable.insert(name.to_owned()) {
            let error = words::escape(&error.to_string());
            eprintln!("agt-supervisor: a log is not sent for now: {error}");
        }
        Ok(())
    }

    /// Sends what each log has, up to a batch: how many bytes.
    fn round(
        &mut self,
        logs: &mut BTreeMap<String, Follower>,
        sink: &mut Sink,
    ) -> Result<usize, Stopped> {
        let (mut sent, mut unkept) = (0, 0);
        let mut batch = Vec::new();
        let mut unread = Vec::new();
        for (name, follower) in logs.iter_mut() {
            batch.clear();
            let cloud = self.cloud.then_some(name.as_str());
            if let Err(error) = follower.batch(&mut batch, cloud) {
                self.unread(name, error)?;
                unread.push(name.clone());
            } else if !batch.is_empty() {
                sink.write(&batch).map_err(Stopped::Away)?;
                if let Some(mark) = follower.mark() {
                    self.reached.set(name, mark);
                }
                (sent, unkept) = (sent + batch.len(), unkept + batch.len());
            }
            if unkept > UNKEPT_MAX {
                self.keep(sink)?;
                unkept = 0;
            }
        }
        logs.retain(|name, _| !unread.contains(name));
        if unkept > 0 {
            self.keep(sink)?;
        }
        Ok(sent)
    }

    fn keep(&mut self, sink: &mut Sink) -> Result<(), Stopped> {
        sink.settle().map_err(Stopped::Away)?;
        self.reached.keep()?;
        if self.tries > 0 {
            eprintln!("agt-supervisor: it takes records again");
            self.tries = 0;
        }
        Ok(())
    }
}

/// The logs that are there; one that is being made has a dot.
fn all() -> Result<BTreeSet<String>, Failed> {
    let entries = match std::fs::read_dir(places::audit_dir()) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(BTreeSet::new()),
        Err(error) => return Err(Failed::call("the folder of logs")(error)),
    };
    let dirs = entries.flatten().filter(|entry| entry.path().is_dir());
    let names = dirs.map(|entry| entry.file_name().to_string_lossy().into_owned());
    Ok(names.filter(|name| !name.starts_with('.')).collect())
}
