//! Who asks: the ordinary user who runs the supervisor, or the one who became root with sudo.

use std::fs::File;
use std::io::Read;

use profiles::{Accounts, Asker};

/// More accounts than this are no list of files any more.
const FILE_BYTES_MAX: u64 = 16 << 20;

/// The accounts of this host. What cannot be read names nobody.
pub(crate) fn accounts() -> Accounts {
    Accounts::parse(&text("/etc/passwd"), &text("/etc/group"))
}

fn text(path: &str) -> String {
    let mut bytes = Vec::new();
    let read = File::open(path).and_then(|file| {
        let mut file = file.take(FILE_BYTES_MAX + 1);
        file.read_to_end(&mut bytes)
    });
    // Half a line would be another account's.
    match read {
        Ok(length) if length as u64 <= FILE_BYTES_MAX => {
            String::from_utf8_lossy(&bytes).into_owned()
        }
        Ok(_) | Err(_) => String::new(),
    }
}

/// Whose wish it is. Root may ask for any ring; sudo's word is only used to be less than root.
pub(crate) fn asker() -> Asker {
    let uid = rustix::process::geteuid();
    if !uid.is_root() {
        let groups = rustix::process::getgroups().unwrap_or_default();
        let mut gids: Vec<u32> = groups.into_iter().map(|gid| gid.as_raw()).collect();
        gids.push(rustix::process::getegid().as_raw());
        return Asker::User {
            uid: uid.as_raw(),
            gids,
            accounts: accounts(),
        };
    }
    let Some(uid) = sudoer() else {
        return Asker::Root;
    };
    let accounts = accounts();
    let mut gids = accounts.groups_of(uid);
    gids.extend(number("SUDO_GID"));
    Asker::User {
        uid,
        gids,
        accounts,
    }
}

/// Who runs this: for root with sudo, the user who became root.
pub(crate) fn requester() -> u32 {
    let uid = rustix::process::geteuid();
    let sudo = uid.is_root().then(sudoer).flatten();
    sudo.unwrap_or(uid.as_raw())
}

fn sudoer() -> Option<u32> {
    number("SUDO_UID").filter(|uid| *uid != 0)
}

fn number(name: &str) -> Option<u32> {
    std::env::var(name).ok()?.parse().ok()
}
