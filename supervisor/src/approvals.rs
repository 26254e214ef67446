//! Actions that wait for a person: one file each, so that they outlive the supervisor, its run and the
//! machine's.
//!
//! A file is named by the first half of a digest over the exact action, who asks and the policies in force,
//! and holds the whole of it. It answers one action once, and for a while only; what nobody answers in time
//! is denied.

mod files;

use std::io;

use profiles::Accounts;
use serde_json::{Map, Value, json};

pub(crate) use files::{Shelf, ask, find, get, list, take};
use files::{WAITING_EACH, WAITING_MAX};

/// How long an action waits, and then how long its answer holds.
pub(crate) const WAITS_MS: u64 = 300_000;
/// A clock that is steered, not set, may go back so far.
const STEERED_MS: u64 = 1_000;

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

/// What a person says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Word {
    Yes,
    No { reason: String },
}

/// What became of it, and who said so where that is known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum State {
    Waits,
    Approved { by: Option<u32> },
    Denied { by: Option<u32>, reason: String },
}

impl State {
    pub(crate) const fn name(&self) -> &'static str {
        match self {
            Self::Waits => "waits",
            Self::Approved { .. } => "approved",
            Self::Denied { .. } => "denied",
        }
    }

    /// Who said so is not known.
    pub(crate) fn forget(&mut self) {
        match self {
            Self::Waits => {}
            Self::Approved { by } | Self::Denied { by, .. } => *by = None,
        }
    }

    pub(crate) const fn by(&self) -> Option<u32> {
        match self {
            Self::Waits => None,
            Self::Approved { by } | Self::Denied { by, .. } => *by,
        }
    }
}

/// One file.
#[derive(Clone, Debug)]
pub(crate) struct Held {
    pub(crate) question: Question,
    pub(crate) state: State,
    /// Who runs the agent, or had sudo run it.
    pub(crate) owner: u32,
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
    #[error("{WAITING_EACH} actions of this agent wait already")]
    Many,
    #[error("its folder is full of files")]
    Crowded,
    #[error("it is larger than anybody would read")]
    Large,
    #[error("another action waits under the same name")]
    Taken,
    #[error("the approvals folder: {0}")]
    Io(#[from] io::Error),
}

/// The name under which people answer: long enough that nobody makes two actions of one name, to put one in the
/// place of the other while somebody reads.
pub(crate) fn id(digest: &[u8; 32]) -> String {
    let hex = audit::hex(digest);
    format!("ap-{}", hex.get(..32).unwrap_or(&hex))
}

/// Takes a person's word on this very action.
pub(crate) fn answer(digest: &[u8; 32], who: Person, word: Word, now: u64) -> Result<Held, Error> {
    let nothing = || Error::Nothing(id(digest));
    let mut held = find(digest, now)?.ok_or_else(nothing)?;
    if held.state != State::Waits {
        return Err(nothing());
    }
    may_answer(&held, who, &crate::who::accounts())?;
    let by = Some(who.uid);
    held.state = match word {
        Word::Yes => State::Approved { by },
        Word::No { reason } => State::Denied { by, reason },
    };
    held.until = now + WAITS_MS;
    files::write(&held)?;
    Ok(held)
}

/// Whether this user may answer.
pub(crate) fn may_answer(held: &Held, person: Person, accounts: &Accounts) -> Result<(), Error> {
    let (approvers, owner) = (&held.question.approvers, held.owner);
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

/// The tool, or the beginning of the command line, and how long that is where it is cut.
pub(crate) fn summary(action: &Map<String, Value>) -> String {
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
    match line.char_indices().nth(SHORT) {
        Some((end, _)) => format!(
            "{}… ({} characters)",
            line.get(..end).unwrap_or_default(),
            line.chars().count()
        ),
        None => line,
    }
}

/// As it is kept, and as `--json` shows it.
pub(crate) fn to_json(held: &Held) -> Value {
    let question = &held.question;
    let why = match &held.state {
        State::Waits | State::Approved { .. } => None,
        State::Denied { reason, .. } => Some(reason),
    };
    json!({
        "id": id(&question.digest), "agent": question.agent, "ring": question.ring, "run": question.run,
        "workspace": question.place, "action": question.action, "rule": question.rule, "reason": question.reason,
        "approvers": question.approvers, "digest": audit::hex(&question.digest),
        "state": held.state.name(), "by": held.state.by(), "why": why, "owner": held.owner,
        "until_ms": held.until,
    })
}

/// Reads what [`to_json`] wrote.
pub(crate) fn parse(value: &Value) -> Option<Held> {
    let text = |key: &str| value.get(key)?.as_str().map(str::to_owned);
    let uid = |key: &str| u32::try_from(value.get(key)?.as_u64()?).ok();
    let by = uid("by");
    let state = match value.get("state")?.as_str()? {
        "waits" => State::Waits,
        "approved" => State::Approved { by },
        "denied" => State::Denied {
            by,
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
        owner: uid("owner")?,
        until: value.get("until_ms")?.as_u64()?,
    })
}

/// A digest as it is written.
pub(crate) fn unhex(text: &str) -> Option<[u8; 32]> {
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

    fn held(approvers: &[&str], state: State) -> Held {
        Held {
            question: question(approvers),
            state,
            owner: 1002,
            until: 9,
        }
    }

    #[test]
    fn what_is_written_is_read_again() {
        let reason = || "no".to_owned();
        for state in [
            State::Waits,
            State::Approved { by: Some(4) },
            State::Approved { by: None },
            State::Denied {
                by: Some(4),
                reason: reason(),
            },
        ] {
            let held = held(&["group:x"], state);
            let read = parse(&to_json(&held)).unwrap();
            assert_eq!(to_json(&read), to_json(&held));
            assert_eq!(read.state, held.state);
        }
    }

    #[test]
    fn a_clock_that_is_set_back_keeps_nothing_open() {
        let held = Held {
            until: 1_800_000_000_000,
            ..held(&[], State::Approved { by: None })
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
    fn what_is_cut_says_so() {
        let line = |length: usize| {
            let argv = json!({"action": "exec", "argv": ["x".repeat(length)]});
            summary(argv.as_object().unwrap())
        };
        assert_eq!(line(80), "x".repeat(80));
        assert!(line(81).ends_with("x… (81 characters)"));
    }

    #[test]
    fn only_who_is_named_answers() {
        let accounts = Accounts::parse(
            "ann:x:1001:1001::/:/bin/sh\nbob:x:1002:1002::/:/bin/sh\n",
            "security:x:50:ann\n",
        );
        let may = |approvers: &[&str], uid| {
            let person = Person { uid, gid: uid };
            may_answer(&held(approvers, State::Waits), person, &accounts).is_ok()
        };
        assert!(may(&[], 1002) && may(&[], 0) && !may(&[], 1001));
        assert!(may(&["group:security"], 1001));
        assert!(!may(&["group:security"], 1002) && !may(&["group:security"], 0));
        assert!(may(&["user:bob"], 1002) && may(&["bob"], 1002) && !may(&["user:ann"], 1002));
        assert!(!may(&["role:cto"], 0) && !may(&["group:nobody-has-this"], 1001));
    }
}
