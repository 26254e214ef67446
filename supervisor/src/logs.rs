//! `audit show|verify|prove|export|checkpoint|prune`: the logs of runs, read and checked.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::Duration;

use audit::{Cosigned, Cosigner, Filter, Head, Kind, PublicKey, Show, Shown};
use serde_json::{Value, json};

use crate::error::Failed;
use crate::places;
use crate::reference::print;
use crate::words;

/// What of a log is shown.
#[derive(Clone, Debug, Default)]
pub(crate) struct Wanted {
    pub(crate) agent: Option<String>,
    pub(crate) kind: Option<String>,
    pub(crate) verdict: Option<String>,
    pub(crate) follow: bool,
    pub(crate) json: bool,
}

pub(crate) fn keys() -> Result<Vec<PublicKey>, Failed> {
    match audit::read_list(&places::keys_dir()) {
        Ok(keys) => Ok(keys),
        Err(_) if !places::audit_dir().exists() => Ok(Vec::new()),
        Err(error) => Err(error.into()),
    }
}

fn none_yet() -> Failed {
    Failed::NotFound(format!(
        "there is no log yet below {}; `run` writes one",
        words::escape(&places::audit_dir().to_string_lossy())
    ))
}

/// The named log, or the newest.
pub(crate) fn named(log: Option<&str>) -> Result<String, Failed> {
    if let Some(log) = log {
        return Ok(log.to_owned());
    }
    let entries = match std::fs::read_dir(places::audit_dir()) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Err(none_yet()),
        Err(error) => return Err(Failed::call("the folder of logs")(error)),
    };
    // One that is being made has a dot, and is not there yet.
    let made = |entry: &std::fs::DirEntry| !entry.file_name().to_string_lossy().starts_with('.');
    let logs = entries
        .flatten()
        .filter(|entry| made(entry) && entry.path().is_dir());
    let newest = logs.max_by_key(|entry| entry.metadata().and_then(|meta| meta.modified()).ok());
    newest
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .ok_or_else(none_yet)
}

/// Every log and what became of it. Exit code 1 when somebody did something to one.
pub(crate) fn verify(kept: &[PathBuf], witness: Option<&str>, as_json: bool) -> Result<u8, Failed> {
    if !places::audit_dir().exists() {
        return Err(none_yet());
    }
    let keys = keys()?;
    let witness = witness.map(crate::witness::cosigner).transpose()?;
    let witnessed = match &witness {
        Some(witness) => Some(audit::witnessed(&places::audit_dir(), witness)?),
        None => None,
    };
    let mut heads: Vec<Head> = Vec::new();
    for file in kept {
        heads.extend(heads_in(file, &keys, witness.as_ref())?);
    }
    let seen = witnessed.iter().flat_map(BTreeMap::values);
    heads.extend(seen.map(|cosigned| cosigned.head.clone()));
    let report = audit::verify(&places::audit_dir(), &keys, &heads)?;
    let holds = report.worst().holds();
    if as_json {
        let logs: Vec<Value> = report
            .logs
            .iter()
            .map(|log| {
                let mut value = json!({"log": log.log, "state": log.state.name(), "words": log.state.to_string(),
                       "records": log.records, "signed": log.signed, "live": log.live,
                       "closed": log.closed, "notes": log.notes});
                if let (Some(witnessed), Some(value)) = (&witnessed, value.as_object_mut()) {
                    let seen = witnessed.get(&log.log);
                    let seen = seen.map(|seen| json!({"records": seen.head.size, "time": seen.time()}));
                    value.insert("witnessed".into(), seen.into());
                }
                value
            })
            .collect();
        let value = json!({"holds": holds, "ledger": report.ledger.to_string(), "pruned": report.pruned, "logs": logs});
        print(&format!("{}\n", words::json(&value)))?;
        return Ok(u8::from(!holds));
    }
    let mut text = String::new();
    for log in &report.logs {
        let state = match (log.live, log.closed) {
            (true, _) => " · being written",
            (false, true) => "",
            (false, false) => " · not closed: the supervisor was killed",
        };
        let seen = match witnessed.as_ref().map(|all| all.get(&log.log)) {
            Some(Some(seen)) => format!(", {} witnessed {}", seen.head.size, seen.time()),
            Some(None) => ", none witnessed".to_owned(),
            None => String::new(),
        };
        text += &format!(
            "{:<28} {} · {} records, {} signed{seen}{state}\n",
            words::escape(&log.log),
            log.state,
            log.records,
            log.signed
        );
        for note in &log.notes {
            text += &format!("{:<28} {}\n", "", words::escape(note));
        }
    }
    if report.pruned > 0 {
        text += &format!(
            "{} older logs were removed by `audit prune`\n",
            report.pruned
        );
    }
    text += &format!("ledger: {}\n", report.ledger);
    text += if holds { "holds\n" } else { "DOES NOT HOLD\n" };
    print(&text)?;
    Ok(u8::from(!holds))
}

/// The records of a log, the newest log when none is named.
pub(crate) fn show(log: Option<&str>, wanted: &Wanted) -> Result<u8, Failed> {
    let log = named(log)?;
    let mut filter = Filter {
        agent: wanted.agent.clone(),
        verdict: wanted.verdict.clone(),
        ..Filter::default()
    };
    if let Some(kind) = &wanted.kind {
        let kind = Kind::parse(kind.as_bytes()).ok_or_else(|| {
            Failed::NotFound(format!(
                "there is no kind of record `{}`",
                words::escape(kind)
            ))
        })?;
        filter.kinds.push(kind);
    }
    let mut records = audit::show(&places::audit_dir(), &log, filter)?;
    loop {
        let record = match next(&mut records, wanted.follow)? {
            Some(record) => record,
            None => return Ok(0),
        };
        let line = if wanted.json {
            record.text()
        } else {
            words_of(&record)
        };
        match writeln!(std::io::stdout().lock(), "{line}") {
            Ok(()) => {}
            // Nobody reads any more.
            Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => return Ok(0),
            Err(error) => return Err(Failed::call("standard output")(error)),
        }
    }
}

fn next(records: &mut Show, follow: bool) -> Result<Option<Shown>, Failed> {
    if follow {
        return Ok(Some(records.follow(Duration::from_millis(200))?));
    }
    Ok(records.next().transpose()?)
}

/// A record in one line for people.
fn words_of(record: &Shown) -> String {
    let Ok(value) = serde_json::from_slice::<Value>(&record.line) else {
        return format!("?? {}", record.text());
    };
    let text = |value: Option<&Value>| match value {
        Some(Value::String(text)) => words::escape(text),
        Some(other) => words::escape(&other.to_string()),
        None => String::new(),
    };
    let field = |name: &str| text(value.get(name));
    let time = field("time");
    let time = time.split('.').next().unwrap_or("").replace('T', " ");
    let mut line = format!("{:>6} {time} {:<10}", field("seq"), field("kind"));
    if let Some(Value::Object(action)) = value.get("action") {
        for (name, fact) in action {
            let fact = text(Some(fact));
            line += &if name == "kind" {
                format!(" {fact}")
            } else {
                format!(" {name}={fact}")
            };
        }
    }
    for name in ["verdict", "rule", "reason"] {
        if value.get(name).is_some() {
            line += &format!(" · {}", field(name));
        }
    }
    line
}

/// Proof that a record is in a signed log, as JSON.
pub(crate) fn prove(log: Option<&str>, seq: u64) -> Result<u8, Failed> {
    let proof = audit::prove(&places::audit_dir(), &named(log)?, seq, &keys()?)?;
    print(&format!("{}\n", proof.json()))?;
    Ok(0)
}

/// All records, as they are or as CloudEvents 1.0.
pub(crate) fn export(log: Option<&str>, cloud: bool) -> Result<u8, Failed> {
    let log = named(log)?;
    for record in audit::show(&places::audit_dir(), &log, Filter::default())? {
        let record = record?;
        let line = if cloud {
            audit::cloud_event(&log, &record)
        } else {
            Some(String::from_utf8_lossy(&record.line).into_owned())
        };
        if let Some(line) = line {
            print(&format!("{line}\n"))?;
        }
    }
    Ok(0)
}

/// The heads that were kept in a file: by a key of the logs, or by the witness.
fn heads_in(
    file: &Path,
    keys: &[PublicKey],
    witness: Option<&Cosigner>,
) -> Result<Vec<Head>, Failed> {
    let text = std::fs::read_to_string(file).map_err(Failed::call("the file of a head"))?;
    let head = |note: &String| {
        let cosigned = witness.and_then(|witness| Cosigned::verified(note, witness).ok());
        match cosigned {
            Some(cosigned) => Ok(cosigned.head),
            None => Ok(Head::verified(note, keys)?),
        }
    };
    audit::notes(&text).iter().map(head).collect()
}

/// The latest signed head, as it is.
pub(crate) fn checkpoint(log: Option<&str>) -> Result<u8, Failed> {
    let (_, note) = audit::latest(&places::audit_dir(), &named(log)?, &keys()?)?;
    print(&note)?;
    Ok(0)
}

/// Removes logs that were closed more than so many days ago.
pub(crate) fn prune(days: u32, dry: bool) -> Result<u8, Failed> {
    if !places::audit_dir().exists() {
        return Err(none_yet());
    }
    let keys = own_keys()?;
    let age = Duration::from_secs(u64::from(days) * 86_400);
    let pruned = audit::prune(&places::audit_dir(), &keys, age, dry)?;
    let lines: Vec<String> = pruned.iter().map(|name| format!("{name}\n")).collect();
    print(&lines.concat())?;
    let (count, verb) = (
        pruned.len(),
        if dry { "would be removed" } else { "removed" },
    );
    eprintln!("{count} logs {verb}; the ledger keeps their heads");
    Ok(0)
}

/// The keys, which are made when there are none: before the first run too.
fn own_keys() -> Result<audit::Keys, Failed> {
    places::private_dir(&places::state_dir()).map_err(Failed::call("the state folder"))?;
    Ok(audit::Keys::open_or_create(&places::keys_dir())?)
}

/// The keys that signed logs, the one that signs now last.
pub(crate) fn list_keys() -> Result<u8, Failed> {
    let keys = own_keys()?;
    let lines: Vec<String> = keys.all().iter().map(|key| format!("{key}\n")).collect();
    print(&lines.concat())?;
    Ok(0)
}

/// Goes on with a new key; heads that the old one signed stay verifiable.
pub(crate) fn rotate_key() -> Result<u8, Failed> {
    let mut keys = own_keys()?;
    keys.rotate()?;
    print(&format!("{}\n", keys.public()))?;
    Ok(0)
}
