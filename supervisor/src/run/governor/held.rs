//! What waits for people, and what they said.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use audit::{Kind, Value as Fact};
use profiles::Accounts;
use serde_json::{Value, json};

use super::{Governor, now_ms};
use crate::approvals::{self, Error, Held, Person, Shelf, State, Word};

/// Bytes of one list; what does not fit is named, and asked for by its name.
const LIST_MAX: usize = 512 * 1024;
/// Who is in which group is not read again for each list within this.
const ACCOUNTS_HOLD: Duration = Duration::from_secs(2);

/// What a run knows of people's answers.
#[derive(Debug, Default)]
pub(super) struct People {
    shelf: Shelf,
    accounts: Option<(Instant, Accounts)>,
    /// What was answered and recorded, and until when that counts.
    known: BTreeMap<[u8; 32], (State, u64)>,
}

impl Governor {
    /// Takes a person's word on an action that this agent asked for in this place, in this run or before.
    pub(crate) fn approve(
        &mut self,
        digest: &[u8; 32],
        who: Person,
        word: Word,
    ) -> Result<Held, Error> {
        let nothing = || Error::Nothing(approvals::id(digest));
        let now = now_ms().ok_or_else(nothing)?;
        let waits = approvals::find(digest, now)?.ok_or_else(nothing)?;
        if !self.asked(&waits) {
            return Err(nothing());
        }
        let held = approvals::answer(digest, who, word, now)?;
        let id = approvals::id(digest);
        let facts = [
            ("approval", Fact::Text(&id)),
            ("by_uid", Fact::Number(who.uid.into())),
        ];
        self.note(Kind::Approval, held.state.name(), &facts);
        self.remember(&held, now);
        Ok(held)
    }

    /// Whether it is this agent's to wait for.
    fn asked(&self, held: &Held) -> bool {
        let asked = &held.question;
        asked.agent == self.agent && asked.ring == self.ring && asked.place == self.place
    }

    fn remember(&mut self, held: &Held, now: u64) {
        let known = &mut self.people.known;
        known.retain(|_, (_, until)| *until > now);
        known.insert(held.question.digest, (held.state.clone(), held.until));
    }

    /// What is held of this action. An answer that this run did not take itself is recorded as what a file
    /// says; where that is not root's, who answered is not known: whoever owns the file may have written it.
    pub(super) fn found(&mut self, digest: &[u8; 32], now: u64) -> Result<Option<Held>, Error> {
        let Some(mut held) = approvals::find(digest, now)? else {
            return Ok(None);
        };
        if held.state == State::Waits {
            return Ok(Some(held));
        }
        let root = rustix::process::geteuid().is_root();
        let said = (held.state.clone(), held.until);
        if self.people.known.get(digest) != Some(&said) {
            if !root {
                held.state.forget();
            }
            let forgotten = (held.state.clone(), held.until);
            if self.people.known.get(digest) != Some(&forgotten) {
                let id = approvals::id(digest);
                let mut facts = vec![("approval", Fact::Text(&id)), ("by", Fact::Text("file"))];
                let by = held.state.by();
                facts.extend(by.map(|uid| ("by_uid", Fact::Number(uid.into()))));
                self.note(Kind::Approval, held.state.name(), &facts);
                self.remember(&held, now);
            }
        }
        if matches!(held.state, State::Approved { .. }) {
            // It is used up now: another one under this digest is another answer.
            self.people.known.remove(digest);
        }
        Ok(Some(held))
    }

    /// What waits for this agent in this place, for somebody who may answer: all, or under one name.
    pub(crate) fn waiting(&mut self, who: Person, id: Option<&str>) -> Value {
        let held = now_ms().and_then(|now| self.people.shelf.look(now).ok());
        let held = held.unwrap_or_default();
        let mine = held.into_iter().filter(|held| {
            let asked = &held.question;
            held.state == State::Waits
                && id.is_none_or(|id| approvals::id(&asked.digest) == id)
                && asked.agent == self.agent
                && asked.ring == self.ring
                && asked.place == self.place
        });
        let (mut list, mut left_off, mut bytes) = (Vec::new(), Vec::new(), 0);
        let accounts = accounts(&mut self.people.accounts);
        for held in mine.filter(|held| approvals::may_answer(held, who, accounts).is_ok()) {
            let value = approvals::to_json(held);
            bytes += value.to_string().len();
            if bytes > LIST_MAX {
                left_off.push(approvals::id(&held.question.digest));
            } else {
                list.push(value);
            }
        }
        json!({"ok": true, "approvals": list, "left_off": left_off})
    }
}

/// As they were read a moment ago.
fn accounts(held: &mut Option<(Instant, Accounts)>) -> &Accounts {
    let old = held
        .take()
        .filter(|(read, _)| read.elapsed() < ACCOUNTS_HOLD);
    &held
        .insert(old.unwrap_or_else(|| (Instant::now(), crate::who::accounts())))
        .1
}
