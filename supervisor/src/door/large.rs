//! Arguments that are larger than a frame: JSON in a sealed memfd that comes along (memfd_create(2), F_ADD_SEALS
//! in fcntl(2)), with its SHA-256 in the frame.
//!
//! The seals are what makes it one thing that is decided and done: nobody can change it any more.

use std::io;
use std::os::fd::AsFd;

use rustix::fs::{SealFlags, fcntl_get_seals, fstat};
use serde_json::{Map, Value};

/// The most bytes: what is decided on the one loop is decided in milliseconds.
pub(crate) const BYTES_MAX: u64 = 1 << 20;

/// The arguments, or why they are not taken.
pub(super) fn args(fd: &impl AsFd, digest: Option<&str>) -> Result<Map<String, Value>, String> {
    let sealed = SealFlags::WRITE | SealFlags::SHRINK | SealFlags::GROW;
    let seals = fcntl_get_seals(fd).map_err(|_| "what comes along is no memfd".to_owned())?;
    if !seals.contains(sealed) {
        return Err("the memfd is not sealed against writing, growing and shrinking".into());
    }
    let bytes = read(fd).map_err(|error| format!("the memfd cannot be read: {error}"))?;
    let Some(bytes) = bytes else {
        return Err(format!("the memfd holds more than {BYTES_MAX} bytes"));
    };
    if digest != Some(&*audit::hex(&audit::sha256(&bytes))) {
        return Err("`args_sha256` is not the SHA-256 of the memfd".into());
    }
    let text = std::str::from_utf8(&bytes).map_err(|_| "the memfd is not UTF-8".to_owned())?;
    policy::object(text).map_err(|error| format!("the memfd cannot be read: {error}"))
}

/// `None` when it is too large.
fn read(fd: &impl AsFd) -> io::Result<Option<Vec<u8>>> {
    let length = u64::try_from(fstat(fd)?.st_size).unwrap_or(u64::MAX);
    if length > BYTES_MAX {
        return Ok(None);
    }
    let mut bytes = vec![0; usize::try_from(length).unwrap_or(0)];
    let mut done = 0;
    while let Some(rest) = bytes.get_mut(done..).filter(|rest| !rest.is_empty()) {
        match rustix::io::pread(fd, rest, done as u64)? {
            0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            count => done += count,
        }
    }
    Ok(Some(bytes))
}

#[cfg(test)]
mod tests {
    use std::os::fd::OwnedFd;

    use super::*;
    use rustix::fs::{MemfdFlags, fcntl_add_seals, memfd_create};

    fn memfd(text: &[u8], seals: SealFlags) -> OwnedFd {
        let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
        let fd = memfd_create("args", flags).unwrap();
        rustix::io::write(&fd, text).unwrap();
        fcntl_add_seals(&fd, seals).unwrap();
        fd
    }

    #[test]
    fn only_what_nobody_can_change_is_taken() {
        let all = SealFlags::WRITE | SealFlags::SHRINK | SealFlags::GROW;
        let text = b"{\"a\": 1}";
        let digest = audit::hex(&audit::sha256(text));
        let taken = args(&memfd(text, all), Some(&digest)).unwrap();
        assert_eq!(taken.get("a"), Some(&Value::from(1)));
        for seals in [
            SealFlags::empty(),
            SealFlags::WRITE,
            SealFlags::WRITE | SealFlags::GROW,
        ] {
            assert!(args(&memfd(text, seals), Some(&digest)).is_err());
        }
        assert!(args(&memfd(text, all), None).is_err());
        assert!(args(&memfd(b"{\"a\": 2}", all), Some(&digest)).is_err());
        assert!(args(&memfd(b"[]", all), Some(&audit::hex(&audit::sha256(b"[]")))).is_err());
        let null: OwnedFd = std::fs::File::open("/dev/null").unwrap().into();
        assert!(args(&null, Some(&digest)).is_err());
    }
}
