//! Files of `/etc` that are made for the ring: they say who the agent is and nothing of the host.

use std::io;

use profiles::Ring;

use super::ids::Identity;
use super::root::Root;

/// The name of the agent's account inside.
pub(crate) const USER: &str = "agent";
/// Its home: the ring's own /tmp.
pub(crate) const HOME: &str = "/tmp";

pub(crate) fn generate(root: &mut Root, ring: &Ring, identity: &Identity) -> io::Result<()> {
    let (uid, gid, name) = (identity.uid, identity.gid, &ring.name);
    root.file(
        "/etc/passwd",
        &format!(
            "root:x:0:0:root:/:/usr/sbin/nologin\n\
             {USER}:x:{uid}:{gid}:agent:{HOME}:/bin/sh\n\
             nobody:x:65534:65534:nobody:/:/usr/sbin/nologin\n"
        ),
    )?;
    root.file(
        "/etc/group",
        &format!("root:x:0:\n{USER}:x:{gid}:\nnogroup:x:65534:\n"),
    )?;
    root.file(
        "/etc/hosts",
        &format!("127.0.0.1 localhost {name}\n::1 localhost\n"),
    )?;
    root.file("/etc/hostname", &format!("{name}\n"))?;
    root.file("/etc/resolv.conf", "# this ring has no network\n")?;
    root.file("/etc/machine-id", &format!("{}\n", machine_id()?))
}

/// One that tells nothing: 32 random hex digits (machine-id(5)).
fn machine_id() -> io::Result<String> {
    let uuid = std::fs::read_to_string("/proc/sys/kernel/random/uuid")?;
    Ok(uuid.chars().filter(char::is_ascii_hexdigit).collect())
}
