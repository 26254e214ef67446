//! What may be asked of a live run.

use serde_json::{Value, json};

use crate::approvals::Person;
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
    /// What waits for somebody like the one who asks.
    Approvals { of: Option<Person> },
    /// Let a held action go ahead, once.
    Approve { id: String, of: Option<Person> },
    /// Refuse it.
    Deny {
        id: String,
        reason: String,
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
            Self::Approvals { of } => json!({"order": "approvals", "of": person(of)}),
            Self::Approve { id, of } => json!({"order": "approve", "id": id, "of": person(of)}),
            Self::Deny { id, reason, of } => {
                json!({"order": "deny", "id": id, "reason": reason, "of": person(of)})
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
            "approvals" => Ok(Self::Approvals { of }),
            "approve" => Ok(Self::Approve {
                id: text("id")?,
                of,
            }),
            "deny" => Ok(Self::Deny {
                id: text("id")?,
                reason: text("reason")?,
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
        let (id, reason) = ("ap-1".to_owned(), "x\ny".to_owned());
        for order in [
            Order::Status,
            Order::Reload,
            Order::Signal {
                signal: Signal::Stop,
                reason: reason.clone(),
            },
            Order::Approvals { of: None },
            Order::Approve { id: id.clone(), of },
            Order::Deny { id, reason, of },
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
