//! The agent's environment, from nothing.

use std::collections::BTreeMap;
use std::ffi::{CString, OsString};
use std::os::unix::ffi::OsStringExt;
use std::path::Path;

use profiles::{Ring, Socket};

use super::etc;
use super::found::Found;
use crate::error::Failed;

/// Variables that name certificates of authorities.
const CERTIFICATES: [&str; 10] = [
    "SSL_CERT_FILE",
    "SSL_CERT_DIR",
    "NODE_EXTRA_CA_CERTS",
    "REQUESTS_CA_BUNDLE",
    "CURL_CA_BUNDLE",
    "GIT_SSL_CAINFO",
    "PIP_CERT",
    "AWS_CA_BUNDLE",
    "GRPC_DEFAULT_SSL_ROOTS_FILE_PATH",
    "NIX_SSL_CERT_FILE",
];
/// What says in which language and time zone the caller lives.
const LOCALE: [&str; 4] = ["LANG", "LC_ALL", "LC_CTYPE", "TZ"];

/// The variables of a run but HOME.
pub(crate) type Variables = BTreeMap<String, OsString>;

/// Everything that can be said before the agent's home is known.
pub(crate) fn variables(
    ring: &Ring,
    workspace: &Path,
    runtime: &Found,
    terminal: bool,
) -> Result<Variables, Failed> {
    let mut variables = Variables::new();
    let mut set = |name: &str, value: OsString| variables.insert(name.to_owned(), value);
    set("PATH", runtime.path().into());
    set("USER", etc::USER.into());
    set("LOGNAME", etc::USER.into());
    set("SHELL", "/bin/sh".into());
    set("TMPDIR", "/tmp".into());
    set("LANG", "C.UTF-8".into());
    set("PWD", workspace.into());
    if terminal && let Some(term) = std::env::var_os("TERM") {
        set("TERM", term);
    }
    for (name, value) in runtime.variables() {
        set(name, value.into());
    }
    for name in CERTIFICATES {
        // Where the host has its own authority, programs are told so by these; inside, only a file of
        // the system runtime is there to be named.
        let value = std::env::var_os(name).filter(|value| {
            let place = Path::new(value);
            let seen = ring
                .runtime
                .read
                .iter()
                .any(|system| place.starts_with(system));
            seen && place.exists()
        });
        if let Some(value) = value.filter(|_| !ring.network.is_none()) {
            set(name, value);
        }
    }
    for name in LOCALE {
        if let Some(value) = std::env::var_os(name).filter(|value| !value.is_empty()) {
            set(name, value);
        }
    }
    for wish in &ring.pass {
        match std::env::var_os(&wish.value.name) {
            Some(value) => drop(set(&wish.value.name, value)),
            None if wish.value.optional => {}
            None => {
                let (name, origin) = (wish.value.name.clone(), wish.origin.clone());
                return Err(Failed::Unset { name, origin });
            }
        }
    }
    for (name, value) in &ring.set {
        set(name, value.into());
    }
    if ring.has_socket(Socket::Unix) {
        set(
            "AGT_SOCKET",
            jail::DOOR.to_string_lossy().into_owned().into(),
        );
    } else {
        set("AGT_FD", "3".into());
    }
    // The supervisor's own come last: no file and no caller can change them.
    set("AGT_AGENT", ring.name.clone().into());
    set("AGT_RING", ring.number.to_string().into());
    Ok(variables)
}

/// As a program takes them.
pub(crate) fn of(mut variables: Variables, home: &str) -> Result<Vec<CString>, Failed> {
    variables
        .entry("HOME".into())
        .or_insert_with(|| home.into());
    let pairs = variables.into_iter().map(|(name, value)| {
        let mut text = format!("{name}=").into_bytes();
        text.extend(value.into_vec());
        CString::new(text).map_err(|_| Failed::NulInVariable { name })
    });
    pairs.collect()
}
