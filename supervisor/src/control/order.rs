//! What may be asked of a live run.

use serde_json::{Value, json};

use crate::approvals::{self, Person, Word};
use crate::signal::Signal;

/// One order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Order {
    /// How the run stands.
    Status,
    /// A governance signal.
    Signal { signal: Signal, reason: String },
    /// Read the policies again.
    Reload,
    /// What waits for somebody like the one who asks: all, or under this name.
    Approvals {
        id: Option<String>,
        of: Option<Person>,
    },
    /// A person's word on the held action of this digest: the one that they were shown, and no other.
    Answer {
        digest: [u8; 32],
        word: Word,
        of: Option<Person>,
    },
}

impl Order {
    pub(crate) fn to_json(&self) -> Value {
        let person = |of: &Option<Person>| of.map(|one| json!([one.uid, one.gid]));
        match self {
            Self::Status => json!({"order": "status"}),
            Self::Signal { signal, reason } => {
                json!({"order": "signal", "signal": signal.name(), "reason": reason})
            }
            Self::Reload => json!({"order": "reload"}),
            Self::Approvals { id, of } => {
                json!({"order": "approvals", "id": id, "of": person(of)})
            }
            Self::Answer { digest, word, of } => {
                let (order, reason) = match word {
                    Word::Yes => ("approve", None),
                    Word::No { reason } => ("deny", Some(reason)),
                };
                let digest = audit::hex(digest);
                json!({"order": order, "digest": digest, "reason": reason, "of": person(of)})
            }
        }
    }

    /// Reads one line, or says why it is none.
    pub(super) fn parse(line: &[u8]) -> Result<Self, String> {
        let value: Value = serde_json::from_slice(line).map_err(|error| error.to_string())?;
        let text = |key: &str| {
            let text = value.get(key).and_then(Value::as_str);
            text.map(str::to_owned)
                .ok_or_else(|| format!("`{key}` is missing"))
        };
        let of = match value.get("of").and_then(Value::as_array).map(Vec::as_slice) {
            Some([uid, gid]) => {
                let number = |value: &Value| value.as_u64().and_then(|n| u32::try_from(n).ok());
                number(uid)
                    .zip(number(gid))
                    .map(|(uid, gid)| Person { uid, gid })
            }
            _ => None,
        };
        match &*text("order")? {
            "status" => Ok(Self::Status),
            "signal" => Ok(Self::Signal {
                signal: Signal::parse(&text("signal")?).ok_or("there is no such signal")?,
                reason: text("reason")?,
            }),
            "reload" => Ok(Self::Reload),
            "approvals" => Ok(Self::Approvals {
                id: text("id").ok(),
                of,
            }),
            order @ ("approve" | "deny") => Ok(Self::Answer {
                digest: approvals::unhex(&text("digest")?).ok_or("`digest` is none")?,
                word: match order {
                    "approve" => Word::Yes,
                    _ => Word::No {
                        reason: text("reason")?,
                    },
                },
                of,
            }),
            other => Err(format!("there is no order `{other}`")),
        }
    }
}

/// An answer that says no, with the exit code that goes with it.
pub(crate) fn refusal(code: u8, why: &str) -> Value {
    json!({"ok": false, "code": code, "why": why})
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn orders_come_through() {
        let of = Some(Person { uid: 1, gid: 2 });
        let (digest, reason) = ([0xa7; 32], "x\ny".to_owned());
        let id = Some("ap-1".to_owned());
        for order in [
            Order::Status,
            Order::Reload,
            Order::Signal {
                signal: Signal::Stop,
                reason: reason.clone(),
            },
            Order::Approvals { id: None, of: None },
            Order::Approvals { id, of },
            Order::Answer {
                digest,
                word: Word::Yes,
                of,
            },
            Order::Answer {
                digest,
                word: Word::No { reason },
                of,
            },
        ] {
            let line = order.to_json().to_string();
            assert!(!line.contains('\n'));
            assert_eq!(Order::parse(line.as_bytes()), Ok(order));
        }
        for wrong in [
            "",
            "{}",
            "[]",
            "{\"order\":\"signal\",\"signal\":\"TRUST\",\"reason\":\"\"}",
            "\u{0}",
        ] {
            assert!(Order::parse(wrong.as_bytes()).is_err(), "{wrong}");
        }
    }
}
