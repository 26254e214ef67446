//! Actions that wait for a person: one file each, so that they outlive the supervisor, its run and the
//! machine's.
//!
//! A file is named by the first half of a digest over the exact action, who asks and the policies in force,
//! and holds the whole of it. It answers one action once, and for a while only; what nobody answers in time
//! is denied.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;

use profiles::Accounts;
use serde_json::{Map, Value, json};

use crate::places;

/// How long an action waits, and then how long its answer holds.
pub(crate) const WAITS_MS: u64 = 300_000;
/// A clock that is steered, not set, may go back so far.
const STEERED_MS: u64 = 1_000;
/// Actions that wait at once; the next is denied.
const WAITING_MAX: usize = 64;
/// More than this no person reads.
const FILE_BYTES_MAX: usize = 256 * 1024;

/// What is to be approved.
#[derive(Clone, Debug)]
pub(crate) struct Question {
    pub(crate) agent: String,
    pub(crate) ring: String,
    pub(crate) run: String,
    /// The workspace.
    pub(crate) place: String,
    pub(crate) action: Map<String, Value>,
    pub(crate) rule: Option<String>,
    pub(crate) reason: Option<String>,
    /// `user:NAME` or `group:NAME`; when there is none, whoever runs the agent, and root.
    pub(crate) approvers: Vec<String>,
    /// Over the action, the agent, where it works, and the policies.
    pub(crate) digest: [u8; 32],
}

/// Who answers, as the kernel tells it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Person {
    pub(crate) uid: u32,
    pub(crate) gid: u32,
}

/// What became of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum State {
    Waits,
    Approved { by: u32 },
    Denied { by: u32, reason: String },
}

/// One file.
#[derive(Clone, Debug)]
pub(crate) struct Held {
    pub(crate) question: Question,
    pub(crate) state: State,
    /// Milliseconds since 1970 after which it is no more.
    pub(crate) until: u64,
}

impl Held {
    /// Whether it counts. What would count for longer than anything does is of a clock that was set back since.
    fn is_open(&self, now: u64) -> bool {
        now < self.until && self.until - now <= WAITS_MS + STEERED_MS
    }
}

/// Why an answer is not taken.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error("nothing waits under {0}: it was answered, or nobody did in time")]
    Nothing(String),
    #[error("it is for {approvers} to answer, and {who} is none of them")]
    NotYours { approvers: String, who: String },
    #[error("{WAITING_MAX} actions wait already")]
    Full,
    #[error("it is larger than anybody would read")]
    Large,
    #[error("another action waits under the same name")]
    Taken,
    #[error("the approvals folder: {0}")]
    Io(#[from] io::Error),
}

/// The name under which people answer.
pub(crate) fn id(digest: &[u8; 32]) -> String {
    let hex = audit::hex(digest);
    format!("ap-{}", hex.get(..16).unwrap_or(&hex))
}

fn dir() -> PathBuf {
    places::state_dir().join("approvals")
}

/// A name that leads into the folder and nowhere else.
fn path(id: &str) -> Option<PathBuf> {
    let hex = id.strip_prefix("ap-")?;
    let plain = hex.len() == 16 && hex.bytes().all(|byte| byte.is_ascii_hexdigit());
    plain.then(|| dir().join(id))
}

/// What is held of this action; what is over is taken away.
pub(crate) fn find(digest: &[u8; 32], now: u64) -> Result<Option<Held>, Error> {
    match read(&id(digest), now)? {
        Some(held) if held.question.digest == *digest => Ok(Some(held)),
        Some(_) => Err(Error::Taken),
        None => Ok(None),
    }
}

/// What is held under this name.
pub(crate) fn get(id: &str, now: u64) -> Result<Option<Held>, Error> {
    read(id, now)
}

/// Lets it wait; on disk before this returns.
pub(crate) fn ask(question: Question, now: u64) -> Result<Held, Error> {
    if list(now)?.len() >= WAITING_MAX {
        return Err(Error::Full);
    }
    let held = Held {
        question,
        state: State::Waits,
        until: now + WAITS_MS,
    };
    write(&held)?;
    Ok(held)
}

/// What a person says.
pub(crate) fn answer(
    id: &str,
    who: Person,
    owner: u32,
    said: State,
    now: u64,
) -> Result<Held, Error> {
    let nothing = || Error::Nothing(id.to_owned());
    let mut held = read(id, now)?.ok_or_else(nothing)?;
    if held.state != State::Waits {
        return Err(nothing());
    }
    may_answer(&held.question, who, owner, &crate::who::accounts())?;
    held.state = said;
    held.until = now + WAITS_MS;
    write(&held)?;
    Ok(held)
}

/// Whether this user may answer.
pub(crate) fn may_answer(
    question: &Question,
    person: Person,
    owner: u32,
    accounts: &Accounts,
) -> Result<(), Error> {
    let approvers = &question.approvers;
    let Person { uid, gid } = person;
    let is = |one: &String| match one.split_once(':') {
        Some(("user", name)) => accounts.uid(name) == Some(uid),
        Some(("group", name)) => accounts
            .gid(name)
            .is_some_and(|group| group == gid || accounts.groups_of(uid).contains(&group)),
        Some(_) => false,
        None => accounts.uid(one) == Some(uid),
    };
    let may = if approvers.is_empty() {
        uid == 0 || uid == owner
    } else {
        // Nobody else, and so not root either: who became root with sudo answers as who they are.
        approvers.iter().any(is)
    };
    if may {
        return Ok(());
    }
    Err(Error::NotYours {
        approvers: if approvers.is_empty() {
            format!("uid {owner} or root")
        } else {
            approvers.join(", ")
        },
        who: format!("uid {uid}"),
    })
}

/// Uses an approval up: it is gone from disk before what it allows is done.
pub(crate) fn take(held: &Held) -> Result<(), Error> {
    fs::remove_file(dir().join(id(&held.question.digest)))?;
    sync_dir()?;
    Ok(())
}

/// Everything that is held, the oldest first.
pub(crate) fn list(now: u64) -> Result<Vec<Held>, Error> {
    let entries = match fs::read_dir(dir()) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error.into()),
    };
    let mut all = Vec::new();
    for entry in entries {
        let name = entry?.file_name().to_string_lossy().into_owned();
        all.extend(read(&name, now)?);
    }
    all.sort_by_key(|held| held.until);
    Ok(all)
}

fn read(id: &str, now: u64) -> Result<Option<Held>, Error> {
    let Some(path) = path(id) else {
        return Ok(None);
    };
    let mut bytes = Vec::new();
    let flags = i32::try_from(rustix::fs::OFlags::NOFOLLOW.bits()).unwrap_or(0);
    match File::options().read(true).custom_flags(flags).open(&path) {
        Ok(file) => drop(file.take(FILE_BYTES_MAX as u64).read_to_end(&mut bytes)?),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error.into()),
    }
    let held = serde_json::from_slice(&bytes)
        .ok()
        .and_then(|value| parse(&value));
    // What nobody can read allows nothing and keeps nothing waiting.
    let Some(held) = held.filter(|held| held.is_open(now)) else {
        let _others_did = fs::remove_file(&path);
        return Ok(None);
    };
    Ok(Some(held))
}

fn write(held: &Held) -> Result<(), Error> {
    let text = to_json(held).to_string();
    if text.len() > FILE_BYTES_MAX {
        return Err(Error::Large);
    }
    let dir = dir();
    places::private_dir(&dir)?;
    let id = id(&held.question.digest);
    let staged = dir.join(format!(".{id}"));
    let mut options = File::options();
    options.write(true).create(true).truncate(true).mode(0o600);
    let mut file = options.open(&staged)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()?;
    fs::rename(&staged, dir.join(id))?;
    sync_dir()?;
    Ok(())
}

fn sync_dir() -> io::Result<()> {
    File::open(dir())?.sync_all()
}

/// One line for whoever looks at the run.
pub(crate) fn words(question: &Question) -> String {
    let text = |key: &str| {
        question
            .action
            .get(key)
            .and_then(Value::as_str)
            .unwrap_or("")
    };
    let whom = if question.approvers.is_empty() {
        String::new()
    } else {
        format!(" by {}", question.approvers.join(", "))
    };
    let id = id(&question.digest);
    crate::words::escape(&format!(
        "{} {} waits to be approved{whom} ({}): `agt-supervisor approvals {id}` shows it, `approve {id}` or `deny {id}` answers",
        text("action"),
        summary(&question.action),
        question
            .reason
            .as_deref()
            .or(question.rule.as_deref())
            .unwrap_or("its policy says so"),
    ))
}

/// The tool, or the beginning of the command line.
fn summary(action: &Map<String, Value>) -> String {
    const SHORT: usize = 80;
    let argv = action.get("argv").and_then(Value::as_array);
    let line = match argv {
        Some(argv) => {
            let words: Vec<&str> = argv.iter().filter_map(Value::as_str).collect();
            words.join(" ")
        }
        None => {
            let tool = action.get("tool").and_then(Value::as_str);
            tool.unwrap_or("").to_owned()
        }
    };
    line.chars().take(SHORT).collect()
}

/// As it is kept, and as `--json` shows it.
pub(crate) fn to_json(held: &Held) -> Value {
    let question = &held.question;
    let (state, by, why) = match &held.state {
        State::Waits => ("waits", None, None),
        State::Approved { by } => ("approved", Some(by), None),
        State::Denied { by, reason } => ("denied", Some(by), Some(reason)),
    };
    json!({
        "id": id(&question.digest), "agent": question.agent, "ring": question.ring, "run": question.run,
        "workspace": question.place, "action": question.action, "rule": question.rule, "reason": question.reason,
        "approvers": question.approvers, "digest": audit::hex(&question.digest),
        "state": state, "by": by, "why": why, "until_ms": held.until,
    })
}

/// Reads what [`to_json`] wrote.
pub(crate) fn parse(value: &Value) -> Option<Held> {
    let text = |key: &str| value.get(key)?.as_str().map(str::to_owned);
    let by = || {
        let by = value.get("by")?.as_u64()?;
        u32::try_from(by).ok()
    };
    let state = match value.get("state")?.as_str()? {
        "waits" => State::Waits,
        "approved" => State::Approved { by: by()? },
        "denied" => State::Denied {
            by: by()?,
            reason: text("why").unwrap_or_default(),
        },
        _ => return None,
    };
    let approvers = value.get("approvers")?.as_array()?.iter();
    let approvers = approvers.map(|one| one.as_str().map(str::to_owned));
    Some(Held {
        question: Question {
            agent: text("agent")?,
            ring: text("ring")?,
            run: text("run")?,
            place: text("workspace")?,
            action: value.get("action")?.as_object()?.clone(),
            rule: text("rule"),
            reason: text("reason"),
            approvers: approvers.collect::<Option<_>>()?,
            digest: unhex(value.get("digest")?.as_str()?)?,
        },
        state,
        until: value.get("until_ms")?.as_u64()?,
    })
}

fn unhex(text: &str) -> Option<[u8; 32]> {
    let mut bytes = [0; 32];
    if text.len() != 64 {
        return None;
    }
    for (byte, at) in bytes.iter_mut().zip((0..).step_by(2)) {
        *byte = u8::from_str_radix(text.get(at..at + 2)?, 16).ok()?;
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn question(approvers: &[&str]) -> Question {
        Question {
            agent: "a".into(),
            ring: "standard".into(),
            run: "run-1-a".into(),
            place: "/w".into(),
            action: Map::new(),
            rule: Some("r".into()),
            reason: None,
            approvers: approvers.iter().map(|one| (*one).to_owned()).collect(),
            digest: [7; 32],
        }
    }

    #[test]
    fn what_is_written_is_read_again() {
        for state in [
            State::Waits,
            State::Approved { by: 4 },
            State::Denied {
                by: 4,
                reason: "no".into(),
            },
        ] {
            let held = Held {
                question: question(&["group:x"]),
                state,
                until: 9,
            };
            let read = parse(&to_json(&held)).unwrap();
            assert_eq!(to_json(&read), to_json(&held));
            assert_eq!(read.state, held.state);
        }
    }

    #[test]
    fn a_clock_that_is_set_back_keeps_nothing_open() {
        let held = Held {
            question: question(&[]),
            state: State::Approved { by: 4 },
            until: 1_800_000_000_000,
        };
        let asked = held.until - WAITS_MS;
        for (now, open) in [
            (asked, true),
            (held.until - 1, true),
            (held.until, false),
            (u64::MAX, false),
            (asked - 100, true),
            (asked - 1_001, false),
            (asked - 86_400_000, false),
            (0, false),
        ] {
            assert_eq!(held.is_open(now), open, "{now}");
        }
    }

    #[test]
    fn a_name_leads_nowhere_else() {
        for id in [
            "",
            "ap-",
            "../x",
            "ap-../../../../etc/pa",
            "ap-0123456789abcde/",
            ".ap-0123456789abcdef",
        ] {
            assert_eq!(path(id), None, "{id}");
        }
        assert!(path("ap-0123456789abcdef").is_some_and(|path| path.starts_with(dir())));
    }

    #[test]
    fn only_who_is_named_answers() {
        let accounts = Accounts::parse(
            "ann:x:1001:1001::/:/bin/sh\nbob:x:1002:1002::/:/bin/sh\n",
            "security:x:50:ann\n",
        );
        let may = |approvers: &[&str], uid| {
            let person = Person { uid, gid: uid };
            may_answer(&question(approvers), person, 1002, &accounts).is_ok()
        };
        assert!(may(&[], 1002) && may(&[], 0) && !may(&[], 1001));
        assert!(may(&["group:security"], 1001));
        assert!(!may(&["group:security"], 1002) && !may(&["group:security"], 0));
        assert!(may(&["user:bob"], 1002) && may(&["bob"], 1002) && !may(&["user:ann"], 1002));
        assert!(!may(&["role:cto"], 0) && !may(&["group:nobody-has-this"], 1001));
    }
}
