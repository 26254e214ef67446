//! Verbs about runs that live: what they do, signals, approvals.

use std::io;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::approvals::{self, Held, Person, State, Word};
use crate::control::{self, Order, Socket, Unreachable};
use crate::error::Failed;
use crate::reference::line;
use crate::run::now_ms;
use crate::signal::Signal;
use crate::words;

/// A run that was killed is gone within this, log and all.
const GONE_WITHIN: Duration = Duration::from_secs(30);
/// How long is asked for what did not fit into the first answers.
const FOLLOW_UPS: Duration = Duration::from_secs(5);
/// Actions that did not fit into one answer, asked for one by one.
const LEFT_OFF_MAX: usize = 64;

/// Every live run that can be reached.
pub(crate) fn ps(json: bool) -> Result<u8, Failed> {
    let all: Vec<Value> = control::everywhere(&Order::Status)
        .into_iter()
        .filter(|(_, state)| is_ok(state))
        .map(|(socket, mut state)| {
            // Not what it says of itself.
            if let Value::Object(map) = &mut state {
                map.insert("uid".into(), socket.owner().into());
            }
            state
        })
        .collect();
    if json {
        line!("{}", words::json(&Value::Array(all)));
        return Ok(0);
    }
    let row = |cells: [String; 6]| -> Result<(), Failed> {
        let [agent, ring, state, lasted, decisions, run] = cells;
        line!("{agent:<20} {ring:<11} {state:<9} {lasted:>11}  {decisions:<22} {run}");
        Ok(())
    };
    row([
        "AGENT",
        "RING",
        "STATE",
        "FOR",
        "ALLOWED/DENIED/HELD",
        "RUN",
    ]
    .map(str::to_owned))?;
    for (state, worker) in below_their_parents(&all) {
        let flag = |key: &str| state.get(key) == Some(&Value::Bool(true));
        let counted = |key: &str| {
            let count = state.get("decisions").and_then(|all| all.get(key));
            count.and_then(Value::as_u64).unwrap_or(0)
        };
        let stands = if flag("frozen") {
            "frozen"
        } else if flag("ending") || flag("closing") {
            "ending"
        } else {
            "runs"
        };
        let lasted = state.get("lasted_ms").and_then(Value::as_u64).unwrap_or(0);
        let agent = text(state, "agent");
        row([
            if worker { format!("  {agent}") } else { agent },
            text(state, "ring"),
            stands.into(),
            words::duration(Duration::from_millis(lasted)),
            format!(
                "{}/{}/{}",
                counted("allowed"),
                counted("denied"),
                counted("held")
            ),
            text(state, "run") + &whose(state),
        ])?;
    }
    Ok(0)
}

/// Whose it is, when it is another user's: the rest is what they say.
fn whose(state: &Value) -> String {
    let me = rustix::process::geteuid().as_raw();
    match state.get("uid").and_then(Value::as_u64) {
        Some(uid) if uid != u64::from(me) => format!(" (of uid {uid})"),
        Some(_) | None => String::new(),
    }
}

/// Each run, and behind it its workers, as such.
fn below_their_parents(all: &[Value]) -> Vec<(&Value, bool)> {
    let is_of = |state: &Value, parent: &Value| {
        let of = raw(state, "of");
        !of.is_empty() && of == raw(parent, "run")
    };
    let parents = all
        .iter()
        .filter(|state| !all.iter().any(|parent| is_of(state, parent)));
    let each = parents.flat_map(|parent| {
        let workers = all.iter().filter(move |state| is_of(state, parent));
        std::iter::once((parent, false)).chain(workers.map(|worker| (worker, true)))
    });
    each.collect()
}

/// Sends a governance signal.
pub(crate) fn signal(name: &str, signal: &str, reason: &str) -> Result<u8, Failed> {
    let Some(signal) = Signal::parse(signal) else {
        let all: Vec<&str> = Signal::ALL.iter().map(|one| one.name()).collect();
        return Err(Failed::Order {
            why: format!(
                "`{signal}` is none of the signals in force: {}",
                all.join(", ")
            ),
            code: 2,
        });
    };
    let reason = reason.to_owned();
    let (socket, state) = found(name)?;
    let signalled = Order::Signal { signal, reason };
    let state = order(&socket, &text(&state, "run"), &signalled)?;
    let is = |key: &str| state.get(key) == Some(&Value::Bool(true));
    let stands = if is("ending") {
        "it is being ended"
    } else if !is("frozen") {
        "it runs"
    } else if is("still") {
        "it stands still"
    } else {
        let (run, signal) = (raw(&state, "run"), signal.name());
        let why =
            format!("{run} has {signal}, and was not seen to stand still: some of it may run on");
        return Err(Failed::Order { why, code: 1 });
    };
    line!("{} has {}: {stands}", text(&state, "run"), signal.name());
    Ok(0)
}

/// Kills a run, and waits until all of it is gone.
pub(crate) fn kill(name: &str, reason: &str) -> Result<u8, Failed> {
    let (socket, state) = found(name)?;
    let run = text(&state, "run");
    let (signal, reason) = (Signal::Kill, reason.to_owned());
    order(&socket, &run, &Order::Signal { signal, reason })?;
    let until = Instant::now() + GONE_WITHIN;
    while Instant::now() < until {
        // Its socket goes when the ring was seen empty and the log is closed. One that does not answer is there.
        match socket.ask(&Order::Status) {
            Err(error) if is_gone(&error) => {
                line!("{run} is gone");
                return Ok(0);
            }
            Ok(_) | Err(_) => std::thread::sleep(Duration::from_millis(5)),
        }
    }
    Err(Failed::Order {
        why: format!(
            "{run} was told to end, and is still there after {}",
            words::duration(GONE_WITHIN)
        ),
        code: 1,
    })
}

/// Nobody listens there any more.
fn is_gone(error: &io::Error) -> bool {
    let kinds = [io::ErrorKind::NotFound, io::ErrorKind::ConnectionRefused];
    kinds.contains(&error.kind())
}

/// Lets a run read its policies again.
pub(crate) fn reload(name: &str) -> Result<u8, Failed> {
    let (socket, state) = found(name)?;
    let said = order(&socket, &text(&state, "run"), &Order::Reload)?;
    line!("in force: {}", text(&said, "policy"));
    Ok(0)
}

/// What waits for somebody like the one who asks.
pub(crate) fn waiting(id: Option<&str>, json: bool) -> Result<u8, Failed> {
    let all = waits(id);
    if let (Some(id), true) = (id, all.is_empty()) {
        return Err(Failed::NotFound(format!("nothing waits under {id}")));
    }
    if json {
        let all = all.iter().map(|one| approvals::to_json(&one.held));
        line!("{}", words::json(&all.collect()));
        return Ok(0);
    }
    if all.is_empty() {
        line!("nothing waits");
    }
    for one in &all {
        show(&one.held, id.is_some())?;
    }
    Ok(0)
}

fn show(held: &Held, whole: bool) -> Result<(), Failed> {
    const SHORT: usize = 200;
    let question = &held.question;
    let left = now_ms().map_or(0, |now| held.until.saturating_sub(now));
    line!(
        "{}  {} (ring {}, {})  {} left",
        approvals::id(&question.digest),
        words::escape(&question.agent),
        words::escape(&question.ring),
        words::escape(&question.place),
        words::duration(Duration::from_millis(left)),
    );
    let action = Value::Object(question.action.clone());
    let text = if whole {
        words::json(&action).replace('\n', "\n  ")
    } else {
        let line = audit::shown(action.to_string().as_bytes());
        match line.char_indices().nth(SHORT) {
            Some((end, _)) => format!(
                "{}… ({} characters)",
                line.get(..end).unwrap_or_default(),
                line.chars().count()
            ),
            None => line,
        }
    };
    line!("  {text}");
    let why = question.reason.as_deref().or(question.rule.as_deref());
    line!(
        "  because: {}",
        words::escape(why.unwrap_or("its policy says so"))
    );
    if !question.approvers.is_empty() {
        line!("  for: {}", words::escape(&question.approvers.join(", ")));
    }
    Ok(())
}

/// A person's word on a held action: on the very one that waits under this name now.
pub(crate) fn answer(id: &str, word: Word) -> Result<u8, Failed> {
    let all = waits(Some(id));
    // What others say waits for them does not stand before one's own.
    let own: Vec<&Waits> = all.iter().filter(|one| !one.is_others()).collect();
    let all = if own.is_empty() {
        all.iter().collect()
    } else {
        own
    };
    let one = match all.as_slice() {
        [one] => one,
        [] => {
            return Err(Failed::NotFound(
                approvals::Error::Nothing(id.into()).to_string(),
            ));
        }
        _ => {
            let why = format!("several actions wait under {id}: none is answered");
            return Err(Failed::Order { why, code: 1 });
        }
    };
    let what = words::escape(&approvals::summary(&one.held.question.action));
    let said = match word {
        Word::Yes => "approved, for this action, once",
        Word::No { .. } => "denied",
    };
    let digest = one.held.question.digest;
    let Some(socket) = &one.socket else {
        keep(&digest, word)?;
        line!("{id}: {said}; kept for the next run of this agent: {what}");
        return Ok(0);
    };
    let of = sudoer();
    order(
        socket,
        &one.held.question.run,
        &Order::Answer { digest, word, of },
    )?;
    line!("{id}: {said}: {what}");
    Ok(0)
}

/// Its run is gone; a later run of the same agent may ask for the same once more.
fn keep(digest: &[u8; 32], word: Word) -> Result<(), Failed> {
    let now =
        now_ms().ok_or_else(|| Failed::NotFound("the clock of this host cannot be read".into()))?;
    let me = sudoer().unwrap_or_else(myself);
    match approvals::answer(digest, me, word, now) {
        Ok(_) => Ok(()),
        Err(error @ approvals::Error::Nothing(_)) => Err(Failed::NotFound(error.to_string())),
        Err(error) => Err(Failed::Order {
            why: error.to_string(),
            code: 1,
        }),
    }
}

/// Something that waits, and where its run is reached, while it lives.
struct Waits {
    held: Held,
    socket: Option<Socket>,
}

impl Waits {
    fn is_others(&self) -> bool {
        let me = rustix::process::geteuid().as_raw();
        self.socket
            .as_ref()
            .is_some_and(|socket| socket.owner() != me)
    }
}

/// Everything that waits, of live runs and of those that are gone, for whoever asks: one's own first. Of one
/// action there is one.
fn waits(id: Option<&str>) -> Vec<Waits> {
    let of = sudoer();
    let mut live = Vec::new();
    let named = |id: Option<&str>| Order::Approvals {
        id: id.map(str::to_owned),
        of,
    };
    let until = Instant::now() + FOLLOW_UPS;
    for (socket, said) in control::everywhere(&named(id)) {
        let list = |key: &str| said.get(key).and_then(Value::as_array).cloned();
        let mut found = list("approvals").unwrap_or_default();
        let rest = list("left_off").unwrap_or_default();
        for id in rest.iter().filter_map(Value::as_str).take(LEFT_OFF_MAX) {
            if Instant::now() >= until {
                // Whoever names many and then says nothing holds nobody up.
                break;
            }
            let said = socket.ask(&named(Some(id))).unwrap_or_default();
            let one = said.get("approvals").and_then(Value::as_array).cloned();
            found.extend(one.unwrap_or_default());
        }
        live.extend(found.iter().filter_map(approvals::parse).map(|held| Waits {
            held,
            socket: Some(socket.clone()),
        }));
    }
    let (others, mut all): (Vec<Waits>, Vec<Waits>) = live.into_iter().partition(Waits::is_others);
    let kept = now_ms().and_then(|now| approvals::list(now).ok());
    let kept = kept.unwrap_or_default().into_iter();
    let kept = kept.filter(|held| held.state == State::Waits);
    all.extend(kept.map(|held| Waits { held, socket: None }));
    all.extend(others);
    let mut known = Vec::new();
    all.retain(|one| {
        let digest = one.held.question.digest;
        let new = !known.contains(&digest) && id.is_none_or(|id| approvals::id(&digest) == id);
        known.push(digest);
        new
    });
    all
}

/// Who became root with sudo answers as who they are.
fn sudoer() -> Option<Person> {
    let number = |name| std::env::var(name).ok()?.parse::<u32>().ok();
    let root = rustix::process::geteuid().is_root();
    let uid = number("SUDO_UID").filter(|uid| root && *uid != 0)?;
    Some(Person {
        uid,
        gid: number("SUDO_GID")?,
    })
}

fn myself() -> Person {
    Person {
        uid: rustix::process::geteuid().as_raw(),
        gid: rustix::process::getegid().as_raw(),
    }
}

fn found(name: &str) -> Result<(Socket, Value), Failed> {
    control::one(name).map_err(|error| match error {
        Unreachable::None { .. } => Failed::NotFound(error.to_string()),
        Unreachable::Several { .. } => Failed::Order {
            why: error.to_string(),
            code: 1,
        },
    })
}

fn order(socket: &Socket, run: &str, order: &Order) -> Result<Value, Failed> {
    let said = socket.ask(order).map_err(|error| Failed::Order {
        why: format!("run {run}: {error}"),
        code: 1,
    })?;
    if is_ok(&said) {
        return Ok(said);
    }
    let code = said.get("code").and_then(Value::as_u64);
    Err(Failed::Order {
        why: raw(&said, "why").to_owned(),
        code: code.and_then(|code| u8::try_from(code).ok()).unwrap_or(1),
    })
}

fn is_ok(said: &Value) -> bool {
    said.get("ok") == Some(&Value::Bool(true))
}

fn raw<'a>(value: &'a Value, key: &str) -> &'a str {
    value.get(key).and_then(Value::as_str).unwrap_or("")
}

fn text(value: &Value, key: &str) -> String {
    words::escape(raw(value, key))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn workers_stand_below_their_parents() {
        let all = [
            json!({"run": "w2", "of": "b"}),
            json!({"run": "a", "of": null}),
            json!({"run": "b"}),
            json!({"run": "w1", "of": "gone"}),
        ];
        let rows = below_their_parents(&all).into_iter();
        let rows: Vec<(&str, bool)> = rows.map(|(one, below)| (raw(one, "run"), below)).collect();
        assert_eq!(
            rows,
            [("a", false), ("b", false), ("w2", true), ("w1", false)]
        );
    }

    #[test]
    fn only_where_nobody_listens_a_run_is_gone() {
        let gone = |kind: io::ErrorKind| is_gone(&kind.into());
        assert!(gone(io::ErrorKind::NotFound) && gone(io::ErrorKind::ConnectionRefused));
        for there in [
            io::ErrorKind::TimedOut,
            io::ErrorKind::WouldBlock,
            io::ErrorKind::UnexpectedEof,
            io::ErrorKind::PermissionDenied,
        ] {
            assert!(!gone(there), "{there}");
        }
    }
}
