//! Files of `/etc` that are made for the ring: they say who the agent is and nothing of the host.

use std::io;

use profiles::Ring;

use super::ids::Identity;
use super::root::Root;

/// The name of the agent's account inside.
pub(crate) const USER: &str = "agent";
/// Where names are answered inside: the first address of the range that stands for them.
pub(crate) const RESOLVER: [u8; 4] = [198, 18, 0, 1];

/// What [`generate`] makes.
pub(crate) const GENERATED: [&str; 6] = [
    "/etc/passwd",
    "/etc/group",
    "/etc/hosts",
    "/etc/hostname",
    "/etc/resolv.conf",
    "/etc/machine-id",
];

pub(crate) fn generate(
    root: &mut Root,
    ring: &Ring,
    identity: &Identity,
    home: &str,
) -> io::Result<()> {
    let (uid, gid, name) = (identity.uid, identity.gid, &ring.name);
    root.file(
        "/etc/passwd",
        &format!(
            "root:x:0:0:root:/:/usr/sbin/nologin\n\
             {USER}:x:{uid}:{gid}:agent:{home}:/bin/sh\n\
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
    let [a, b, c, d] = RESOLVER;
    let resolver = if ring.network.is_none() {
        "# this ring has no network\n".to_owned()
    } else {
        format!("nameserver {a}.{b}.{c}.{d}\noptions timeout:5 attempts:2\n")
    };
    root.file("/etc/resolv.conf", &resolver)?;
    root.file("/etc/machine-id", &format!("{}\n", machine_id()?))
}

/// One that tells nothing: 32 random hex digits (machine-id(5)).
fn machine_id() -> io::Result<String> {
    let uuid = std::fs::read_to_string("/proc/sys/kernel/random/uuid")?;
    Ok(uuid.chars().filter(char::is_ascii_hexdigit).collect())
}
