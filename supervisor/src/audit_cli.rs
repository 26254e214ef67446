//! The command line of `audit`.

use std::path::PathBuf;

use clap::Subcommand;

use crate::error::Failed;
use crate::{logs, ship, witness};

#[derive(Debug, Subcommand)]
pub(crate) enum Verb {
    /// Check every log: intact, altered, truncated, forked, missing
    Verify {
        /// Heads that were kept elsewhere (`audit checkpoint`, `audit witness --heads`), in a file; as often as needed
        #[arg(long, value_name = "FILE")]
        head: Vec<PathBuf>,
        /// Hold the logs to what this witness cosigned, as far as it is kept beside them or in a --head
        #[arg(long, value_name = "VKEY")]
        witness: Option<String>,
        /// As JSON
        #[arg(long)]
        json: bool,
    },
    /// Show the records of a log
    Show {
        /// The log; the newest when absent
        log: Option<String>,
        /// Of this agent only
        #[arg(long)]
        agent: Option<String>,
        /// launch, decision, outcome, connection, kill, ended …
        #[arg(long)]
        kind: Option<String>,
        /// allow, audit, deny or escalate
        #[arg(long)]
        verdict: Option<String>,
        /// Go on as it is written
        #[arg(long, short)]
        follow: bool,
        /// As they are
        #[arg(long)]
        json: bool,
    },
    /// Print a proof that a record is in a signed log (clients/python/agt_verify.py checks it)
    Prove {
        /// The record's number
        seq: u64,
        /// The log; the newest when absent
        #[arg(long)]
        log: Option<String>,
    },
    /// Print all records
    Export {
        /// The log; the newest when absent
        log: Option<String>,
        /// As CloudEvents 1.0
        #[arg(long)]
        cloudevents: bool,
    },
    /// Print the latest signed head of a log, to be kept where nobody can change it
    Checkpoint {
        /// The log; the newest when absent
        log: Option<String>,
    },
    /// Remove logs that were closed long ago; the ledger keeps their heads
    Prune {
        /// Closed more than so many days ago
        #[arg(long, value_name = "N")]
        days: u32,
        /// Only name them
        #[arg(long)]
        dry_run: bool,
    },
    /// Send each record to a sink as it is written, at least once, in order within each log; goes on where
    /// it stopped
    Ship {
        /// A file that is appended to, or unix:PATH of a stream socket
        #[arg(long, value_name = "PATH|unix:PATH")]
        to: String,
        /// The log; the newest when absent
        log: Option<String>,
        /// All logs, those to come too
        #[arg(long, conflicts_with = "log")]
        all: bool,
        /// End when the sink has what is there
        #[arg(long)]
        once: bool,
        /// As CloudEvents 1.0, which name the log
        #[arg(long)]
        cloudevents: bool,
    },
    /// Print the request for a witness to cosign the latest head of a log (C2SP add-checkpoint)
    Offer {
        /// The log; the newest when absent
        log: Option<String>,
        /// To this witness, which may not be the last that was asked
        #[arg(long, value_name = "VKEY")]
        witness: Option<String>,
        /// It knows so many records, as it said when it refused
        #[arg(long, value_name = "N")]
        old: Option<u64>,
    },
    /// Be a witness: read an offer, and print a cosignature when it continues what was seen. Belongs on
    /// another machine, or to another user
    Witness {
        /// The key of the logs that are witnessed (`keys`); as often as it was changed
        #[arg(long, value_name = "VKEY", required_unless_present_any = ["key", "heads"])]
        log_key: Vec<String>,
        /// Its own folder, made when it is absent [default: witness, in the state folder]
        #[arg(long)]
        dir: Option<PathBuf>,
        /// Print its public key instead
        #[arg(long, conflicts_with_all = ["heads", "log_key"])]
        key: bool,
        /// Print what it knows instead: the latest head of each log, for `audit verify --head`
        #[arg(long)]
        heads: bool,
    },
    /// Read the answer of a witness, and keep it beside the log
    Cosigned {
        /// The log; the newest when absent
        log: Option<String>,
        /// The key of the witness (`audit witness --key`)
        #[arg(long, value_name = "VKEY")]
        witness: String,
    },
}

/// Does what one of these says.
pub(crate) fn main(verb: Verb) -> Result<u8, Failed> {
    match verb {
        Verb::Verify {
            head,
            witness,
            json,
        } => logs::verify(&head, witness.as_deref(), json),
        Verb::Show {
            log,
            agent,
            kind,
            verdict,
            follow,
            json,
        } => {
            let wanted = logs::Wanted {
                agent,
                kind,
                verdict,
                follow,
                json,
            };
            logs::show(log.as_deref(), &wanted)
        }
        Verb::Prove { seq, log } => logs::prove(log.as_deref(), seq),
        Verb::Export { log, cloudevents } => logs::export(log.as_deref(), cloudevents),
        Verb::Checkpoint { log } => logs::checkpoint(log.as_deref()),
        Verb::Ship {
            to,
            log,
            all,
            once,
            cloudevents,
        } => ship::ship(&ship::Wanted {
            to,
            log,
            all,
            once,
            cloud: cloudevents,
        }),
        Verb::Offer { log, witness, old } => {
            witness::offer(log.as_deref(), witness.as_deref(), old)
        }
        Verb::Witness { dir, key: true, .. } => witness::key(dir),
        Verb::Witness {
            log_key,
            dir,
            heads: true,
            ..
        } => witness::heads(dir, &log_key),
        Verb::Witness { log_key, dir, .. } => witness::witness(dir, &log_key),
        Verb::Cosigned { log, witness } => witness::cosigned(log.as_deref(), &witness),
        Verb::Prune { days, dry_run } => logs::prune(days, dry_run),
    }
}
