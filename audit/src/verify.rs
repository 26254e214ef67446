//! Whether a folder of logs is what was signed. Memory grows with the number of logs, not with that
//! of records.

use std::collections::BTreeMap;
use std::path::Path;

use crate::error::Error;
use crate::folder::Folder;
use crate::ledger::{self, Event};
use crate::note::{Head, PublicKey};
use crate::recover::NEW;
use crate::walk::{Anchor, walk};

/// What was altered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Part {
    /// A record.
    Record,
    /// A tile; the records hold.
    Tile,
    /// The list of signed heads.
    Checkpoint,
    /// The ledger.
    Ledger,
}

/// What became of a log. The later in this list, the worse.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum State {
    /// All of it was signed, and holds.
    Intact,
    /// It holds, and what came after the last signed head has only its chain.
    Unanchored {
        /// The time of the last record that was signed.
        since: String,
        /// How many were signed.
        signed: u64,
    },
    /// It holds, and says that records are missing: after a crash, or while it could not be written.
    Gap {
        /// The first record that says so.
        at: u64,
        /// How many do.
        gaps: u64,
    },
    /// The ledger knows the log, and it is not there.
    Missing,
    /// Records that were signed are not there.
    Truncated {
        /// How many are.
        found: u64,
        /// How many were signed.
        signed: u64,
    },
    /// Something is not what it was.
    Altered {
        /// What.
        what: Part,
        /// The first record (or line, of the ledger or the list of heads) that does not hold.
        at: u64,
        /// Before which one it holds again, or is not known to.
        to: u64,
    },
    /// Two heads were signed that cannot both be of this log.
    Forked {
        /// The size of the first that contradicts the records.
        at: u64,
    },
}

impl State {
    /// One word for each.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Intact => "intact",
            Self::Unanchored { .. } => "unanchored",
            Self::Gap { .. } => "gap",
            Self::Missing => "missing",
            Self::Truncated { .. } => "truncated",
            Self::Altered { .. } => "altered",
            Self::Forked { .. } => "forked",
        }
    }

    /// Whether nobody did anything to it, as far as can be told: what is left may be a crash.
    #[must_use]
    pub const fn holds(&self) -> bool {
        match self {
            Self::Intact | Self::Unanchored { .. } | Self::Gap { .. } => true,
            Self::Missing | Self::Truncated { .. } | Self::Altered { .. } | Self::Forked { .. } => {
                false
            }
        }
    }
}

impl std::fmt::Display for State {
    fn fmt(&self, to: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Intact | Self::Missing => to.write_str(self.name()),
            Self::Unanchored { since, signed } => {
                write!(
                    to,
                    "unanchored since {since} (record {signed} is the first unsigned one)"
                )
            }
            Self::Gap { at, gaps } => write!(to, "gap at record {at} ({gaps} in all)"),
            Self::Truncated { found, signed } => {
                write!(
                    to,
                    "truncated: {found} records of {signed} that were signed"
                )
            }
            Self::Altered { what, at, to: end } => {
                let what = match what {
                    Part::Record => "record",
                    Part::Tile => "tile hash",
                    Part::Checkpoint => "checkpoint",
                    Part::Ledger => "ledger line",
                };
                match end - at {
                    1 => write!(to, "altered at {what} {at}"),
                    _ => write!(to, "altered between {what} {at} and {end}"),
                }
            }
            Self::Forked { at } => {
                write!(
                    to,
                    "forked: another log of {at} records was signed under its name"
                )
            }
        }
    }
}

/// A log, verified.
#[derive(Clone, Debug)]
pub struct LogVerdict {
    /// Its name.
    pub log: String,
    /// What became of it.
    pub state: State,
    /// How many records were read.
    pub records: u64,
    /// How many of them a signed head covers.
    pub signed: u64,
    /// Somebody is writing it.
    pub live: bool,
    /// It was closed.
    pub closed: bool,
    /// What else is to be known.
    pub notes: Vec<String>,
}

/// A folder of logs, verified.
#[derive(Clone, Debug)]
pub struct Report {
    /// The ledger itself.
    pub ledger: State,
    /// Each log that is there, or should be.
    pub logs: Vec<LogVerdict>,
    /// How many were old and removed ([`crate::prune`]).
    pub pruned: u64,
}

impl Report {
    /// The worst of all.
    #[must_use]
    pub fn worst(&self) -> &State {
        let logs = self.logs.iter().map(|log| &log.state);
        logs.max().unwrap_or(&self.ledger).max(&self.ledger)
    }
}

/// Verifies a folder of logs against the keys that may have signed it, and heads that were kept
/// elsewhere ([`Head::verified`]).
///
/// # Errors
/// When the folder cannot be read.
pub fn verify(dir: &Path, keys: &[PublicKey], heads: &[Head]) -> Result<Report, Error> {
    let audit = Folder::open(dir)?;
    let ledger = ledger::read(&audit, keys)?;
    let found = ledger.lines.len() as u64;
    let mut state = match ledger.altered {
        Some(at) => State::Altered {
            what: Part::Ledger,
            at,
            to: at + 1,
        },
        None if ledger.torn => State::Truncated {
            found,
            signed: found + 1,
        },
        None => State::Intact,
    };
    let mut logs: BTreeMap<String, (Vec<Anchor>, Option<Event>)> = BTreeMap::new();
    for line in &ledger.lines {
        let (anchors, last) = logs.entry(line.log.clone()).or_default();
        anchors.push(Anchor::listed(&line.head));
        *last = Some(line.event);
    }
    for name in audit.names()? {
        if !name.starts_with('.') && audit.sub(&name).is_ok() {
            logs.entry(name).or_default();
        }
    }
    for head in heads {
        // Somebody keeps a head of a log that neither the ledger nor the folder knows.
        let name = head.origin.rsplit('/').next().unwrap_or_default();
        logs.entry(name.to_owned()).or_default();
    }
    let (mut verdicts, mut pruned) = (Vec::new(), 0);
    for (name, (mut anchors, last)) in logs {
        let own = |head: &&Head| head.origin.rsplit('/').next() == Some(name.as_str());
        anchors.extend(heads.iter().filter(own).map(Anchor::outside));
        let folder = audit
            .sub(&name)
            .or_else(|_| audit.sub(&format!("{NEW}{name}")));
        let Ok(folder) = folder else {
            if last == Some(Event::Prune) {
                pruned += 1;
                let kept = heads.iter().filter(own);
                let end = ledger.lines.iter().rev().find(|line| line.log == name);
                let beyond = end.and_then(|end| beyond(&end.head, kept));
                verdicts.extend(beyond.map(|state| LogVerdict {
                    state,
                    ..LogVerdict::missing(name)
                }));
                continue;
            }
            verdicts.push(LogVerdict::missing(name));
            continue;
        };
        let mut walked = walk(&folder, &name, keys, anchors)?;
        let unknown = walked
            .ledgers
            .iter()
            .any(|leaf| !ledger.leaves.contains(leaf));
        if (unknown || last.is_none()) && state.holds() {
            // A log knows of lines that are not there.
            state = State::Truncated {
                found,
                signed: found + 1,
            };
        }
        let verdict = &mut walked.verdict;
        let behind = state == State::Intact && !matches!(last, Some(Event::Close | Event::Prune));
        if verdict.closed && behind && !verdict.live {
            verdict
                .notes
                .push("the ledger does not know that it was closed".into());
            let since = walked.time.clone();
            let signed = verdict.signed;
            let state = std::mem::replace(&mut verdict.state, State::Intact);
            verdict.state = state.max(State::Unanchored { since, signed });
        }
        verdicts.push(walked.verdict);
    }
    Ok(Report {
        ledger: state,
        logs: verdicts,
        pruned,
    })
}

/// What heads that were kept elsewhere say of a log that ended with this one, and was removed.
fn beyond<'h>(end: &Head, mut kept: impl Iterator<Item = &'h Head>) -> Option<State> {
    kept.find_map(|head| {
        let (found, signed) = (end.size, head.size);
        if signed > found {
            return Some(State::Truncated { found, signed });
        }
        let other = signed == found && head.root != end.root;
        other.then_some(State::Forked { at: signed })
    })
}

impl LogVerdict {
    const fn missing(log: String) -> Self {
        Self {
            log,
            state: State::Missing,
            records: 0,
            signed: 0,
            live: false,
            closed: false,
            notes: Vec::new(),
        }
    }
}
