//! The agent's environment, from nothing.

use std::collections::BTreeMap;
use std::ffi::{CString, OsString};
use std::os::unix::ffi::OsStringExt;
use std::path::Path;

use profiles::Ring;

use super::{etc, program};
use crate::error::Failed;

pub(crate) fn of(ring: &Ring, workspace: &Path, terminal: bool) -> Result<Vec<CString>, Failed> {
    let mut variables: BTreeMap<String, OsString> = BTreeMap::new();
    let mut set = |name: &str, value: OsString| variables.insert(name.to_owned(), value);
    set("PATH", program::PATH.into());
    set("HOME", etc::HOME.into());
    set("USER", etc::USER.into());
    set("LOGNAME", etc::USER.into());
    set("SHELL", "/bin/sh".into());
    set("TMPDIR", "/tmp".into());
    set("LANG", "C.UTF-8".into());
    set("PWD", workspace.into());
    if terminal && let Some(term) = std::env::var_os("TERM") {
        set("TERM", term);
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
    // The supervisor's own come last: no file and no caller can change them.
    set("AGT_AGENT", ring.name.clone().into());
    set("AGT_RING", ring.number.to_string().into());
    let pairs = variables.into_iter().map(|(name, value)| {
        let mut text = format!("{name}=").into_bytes();
        text.extend(value.into_vec());
        CString::new(text).map_err(|_| Failed::NulInVariable { name })
    });
    pairs.collect()
}
