//! Who may ask for a ring: users and groups of the host, by name or number.

use std::fmt;

use crate::error::Error;
use crate::shape::{Object, shorten};
use crate::value::{At, decimal};

/// Users and groups, any of whom may ask.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Applies {
    /// Names or numbers.
    pub users: Vec<At<String>>,
    /// Names or numbers.
    pub groups: Vec<At<String>>,
    /// `file:line` of it.
    pub origin: String,
}

impl Applies {
    pub(crate) fn read(object: &Object<'_>) -> Result<Option<Self>, Error> {
        let Some(own) = object.object("applies")? else {
            return Ok(None);
        };
        let list = |name| {
            let texts = own.texts(name)?;
            // As useradd(8) has it; whatever else it is would never match, and nobody would know.
            let odd = |text: &str| text.contains([':', ',', '/', ' ']) || text.starts_with('-');
            match texts.iter().find(|at| odd(&at.value)) {
                Some(at) => {
                    let what = format!("names `{}`, which is no account", shorten(&at.value));
                    Err(own.wrong(name, at.span, &what))
                }
                None => Ok(texts),
            }
        };
        let applies = Self {
            users: list("users")?,
            groups: list("groups")?,
            origin: own.origin(),
        };
        if applies.users.is_empty() && applies.groups.is_empty() {
            return Err(object.wrong("applies", own.span(), "names nobody"));
        }
        Ok(Some(applies))
    }
}

impl fmt::Display for Applies {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let list = |what: &str, all: &[At<String>]| {
            let names: Vec<String> = all.iter().map(|at| shorten(&at.value)).collect();
            let plural = if all.len() == 1 { "" } else { "s" };
            (!all.is_empty()).then(|| format!("{what}{plural} {}", names.join(", ")))
        };
        let parts = [list("group", &self.groups), list("user", &self.users)];
        let parts: Vec<String> = parts.into_iter().flatten().collect();
        f.write_str(&parts.join(" or "))
    }
}

/// The accounts of a host, as `/etc/passwd` and `/etc/group` list them: a static program has no NSS.
#[derive(Clone, Debug, Default)]
pub struct Accounts {
    users: Vec<(String, u32)>,
    groups: Vec<Group>,
}

#[derive(Clone, Debug)]
struct Group {
    name: String,
    gid: u32,
    members: Vec<String>,
}

impl Accounts {
    /// Reads both files; lines that are not of their form are left out.
    #[must_use]
    pub fn parse(passwd: &str, group: &str) -> Self {
        let number = |text: &str| decimal(text).and_then(|number| u32::try_from(number).ok());
        let user = |line: &str| {
            let mut parts = line.split(':');
            Some((parts.next()?.to_owned(), number(parts.nth(1)?)?))
        };
        let group_of = |line: &str| {
            let mut parts = line.split(':');
            let (name, gid) = (parts.next()?.to_owned(), number(parts.nth(1)?)?);
            let members = parts.next().unwrap_or("").split(',');
            let members = members.filter(|name| !name.is_empty());
            Some(Group {
                name,
                gid,
                members: members.map(str::to_owned).collect(),
            })
        };
        Self {
            users: passwd.lines().filter_map(user).collect(),
            groups: group.lines().filter_map(group_of).collect(),
        }
    }

    /// The number of a user; a number is its own, whether or not an account has it.
    #[must_use]
    pub fn uid(&self, text: &str) -> Option<u32> {
        let named = || self.users.iter().find(|(name, _)| name == text);
        match decimal(text) {
            Some(number) => u32::try_from(number).ok(),
            None => named().map(|(_, uid)| *uid),
        }
    }

    /// The number of a group.
    #[must_use]
    pub fn gid(&self, text: &str) -> Option<u32> {
        let named = || self.groups.iter().find(|group| group.name == text);
        match decimal(text) {
            Some(number) => u32::try_from(number).ok(),
            None => named().map(|group| group.gid),
        }
    }

    /// The name of a user.
    #[must_use]
    pub fn name_of(&self, uid: u32) -> Option<&str> {
        let named = self.users.iter().find(|(_, known)| *known == uid);
        named.map(|(name, _)| name.as_str())
    }

    /// The groups that list this user as a member.
    #[must_use]
    pub fn groups_of(&self, uid: u32) -> Vec<u32> {
        let Some(name) = self.name_of(uid) else {
            return Vec::new();
        };
        let has = |group: &&Group| group.members.iter().any(|member| member == name);
        self.groups
            .iter()
            .filter(has)
            .map(|group| group.gid)
            .collect()
    }
}

/// Who asks for a ring.
#[derive(Clone, Debug, Default)]
pub enum Asker {
    /// Nobody said: is not among any users.
    #[default]
    Unknown,
    /// Whoever answers for the host.
    Root,
    /// An ordinary user.
    User {
        /// Their number.
        uid: u32,
        /// All their groups.
        gids: Vec<u32>,
        /// What the names of a profile mean on this host.
        accounts: Accounts,
    },
}

impl Asker {
    /// Whether a profile's `applies` holds for this one.
    #[must_use]
    pub fn is_among(&self, rule: &Applies) -> bool {
        match self {
            Asker::Unknown => false,
            Asker::Root => true,
            Asker::User {
                uid,
                gids,
                accounts,
            } => {
                let mut users = rule.users.iter();
                let mut groups = rule.groups.iter();
                users.any(|at| accounts.uid(&at.value) == Some(*uid))
                    || groups.any(|at| {
                        let gid = accounts.gid(&at.value);
                        gid.is_some_and(|gid| gids.contains(&gid))
                    })
            }
        }
    }
}

impl fmt::Display for Asker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Asker::Unknown => f.write_str("an unknown user"),
            Asker::Root => f.write_str("root"),
            Asker::User { uid, accounts, .. } => match accounts.name_of(*uid) {
                Some(name) => write!(f, "user {} (uid {uid})", shorten(name)),
                None => write!(f, "uid {uid}"),
            },
        }
    }
}
