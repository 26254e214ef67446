//! System calls by name and number, sets of them, and those that no ring has.

mod table;

use std::collections::HashMap;
use std::sync::LazyLock;

use table::{CALLS, SETS};

/// A system-call number of x86_64.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Nr(pub u16);

/// Numbers are below this; what is beyond is unknown to this version.
pub const NUMBERS: u16 = 512;

/// The number of a call.
#[must_use]
pub fn by_name(name: &str) -> Option<Nr> {
    BY_NAME.get(name).copied()
}

static BY_NAME: LazyLock<HashMap<&'static str, Nr>> =
    LazyLock::new(|| all().map(|(nr, name)| (name, nr)).collect());

/// Names by number, laid out when this is compiled: filters are made at every launch.
#[expect(
    clippy::indexing_slicing,
    reason = "an index out of bounds does not compile here"
)]
static NAMES: [Option<&str>; NUMBERS as usize] = {
    let mut names = [None; NUMBERS as usize];
    let mut index = 0;
    while index < CALLS.len() {
        let (number, name) = CALLS[index];
        names[number as usize] = Some(name);
        index += 1;
    }
    names
};

/// The name of a number.
#[must_use]
pub fn name(nr: Nr) -> Option<&'static str> {
    NAMES.get(usize::from(nr.0)).copied().flatten()
}

/// Every call of the table.
pub fn all() -> impl Iterator<Item = (Nr, &'static str)> {
    CALLS.iter().map(|(nr, name)| (Nr(*nr), *name))
}

/// A set of calls.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SyscallSet([u64; 8]);

impl SyscallSet {
    /// No call.
    pub const EMPTY: Self = Self([0; 8]);

    /// Every call of the table.
    #[must_use]
    pub fn known() -> Self {
        all().map(|(nr, _)| nr).collect()
    }

    /// Whether a call is in it.
    #[must_use]
    pub fn contains(&self, nr: Nr) -> bool {
        let word = self.0.get(usize::from(nr.0 / 64)).copied().unwrap_or(0);
        word >> (nr.0 % 64) & 1 == 1
    }

    /// Puts a call in. Numbers beyond [`NUMBERS`] are not kept.
    pub fn insert(&mut self, nr: Nr) {
        if let Some(word) = self.0.get_mut(usize::from(nr.0 / 64)) {
            *word |= 1 << (nr.0 % 64);
        }
    }

    fn zip(self, other: Self, with: impl Fn(u64, u64) -> u64) -> Self {
        let mut words = self.0;
        for (word, other) in words.iter_mut().zip(other.0) {
            *word = with(*word, other);
        }
        Self(words)
    }

    /// What is in either.
    #[must_use]
    pub fn union(self, other: Self) -> Self {
        self.zip(other, |a, b| a | b)
    }

    /// What is in both.
    #[must_use]
    pub fn intersection(self, other: Self) -> Self {
        self.zip(other, |a, b| a & b)
    }

    /// What is in this one only.
    #[must_use]
    pub fn difference(self, other: Self) -> Self {
        self.zip(other, |a, b| a & !b)
    }

    /// Whether all of it is in `other`.
    #[must_use]
    pub fn is_subset(self, other: Self) -> bool {
        self.difference(other) == Self::EMPTY
    }

    /// How many calls.
    #[must_use]
    pub fn len(&self) -> usize {
        self.iter().count()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::EMPTY
    }

    /// The calls, in order of their numbers.
    pub fn iter(&self) -> impl Iterator<Item = Nr> + '_ {
        (0..NUMBERS).map(Nr).filter(|nr| self.contains(*nr))
    }

    /// 64 bytes, little-endian words.
    #[must_use]
    pub fn to_le_bytes(self) -> [u8; 64] {
        let mut bytes = [0; 64];
        for (chunk, word) in bytes.chunks_exact_mut(8).zip(self.0) {
            chunk.copy_from_slice(&word.to_le_bytes());
        }
        bytes
    }

    /// The set of these bytes.
    #[must_use]
    pub fn from_le_bytes(bytes: [u8; 64]) -> Self {
        let mut words = [0; 8];
        for (word, chunk) in words.iter_mut().zip(bytes.chunks_exact(8)) {
            let mut raw = [0; 8];
            raw.copy_from_slice(chunk);
            *word = u64::from_le_bytes(raw);
        }
        Self(words)
    }
}

impl FromIterator<Nr> for SyscallSet {
    fn from_iter<I: IntoIterator<Item = Nr>>(calls: I) -> Self {
        let mut set = Self::EMPTY;
        for nr in calls {
            set.insert(nr);
        }
        set
    }
}

/// The members of a named set such as `@system-service`; `@known` is every call of the table.
#[must_use]
pub fn set(name: &str) -> Option<SyscallSet> {
    if name == "@known" {
        return Some(SyscallSet::known());
    }
    let (_, members) = SETS.iter().find(|(known, _)| *known == name)?;
    let mut found = SyscallSet::EMPTY;
    for member in *members {
        match by_name(member) {
            Some(nr) => found.insert(nr),
            // The table's sets nest without cycles (a test).
            None => found = found.union(set(member)?),
        }
    }
    Some(found)
}

/// The names of the sets.
pub fn set_names() -> impl Iterator<Item = &'static str> {
    SETS.iter().map(|(name, _)| *name).chain(["@known"])
}

/// Answered `ENOSYS`, so that libraries fall back to a call whose arguments a filter can see.
pub const UNSEEN: &[&str] = &["clone3", "openat2"];

/// Calls that no ring 1–3 has, whatever a profile says, and why.
pub const ALWAYS_REFUSED: &[(&str, &[&str])] = &[
    (
        "work submitted to a ring buffer passes no filter",
        &["io_uring_setup", "io_uring_enter", "io_uring_register"],
    ),
    ("arguments in memory, which a filter cannot see", UNSEEN),
    ("new or other namespaces", &["unshare", "setns"]),
    (
        "the mount table",
        &[
            "mount",
            "umount2",
            "pivot_root",
            "move_mount",
            "open_tree",
            "open_tree_attr",
            "fsopen",
            "fsconfig",
            "fsmount",
            "fspick",
            "mount_setattr",
            "chroot",
            "statmount",
            "listmount",
            "listns",
        ],
    ),
    (
        "programs in the kernel, and its instruments",
        &[
            "bpf",
            "perf_event_open",
            "userfaultfd",
            "uprobe",
            "uretprobe",
            "lookup_dcookie",
        ],
    ),
    (
        "keyrings are not namespaced, and a request may start a program on the host",
        &["keyctl", "add_key", "request_key"],
    ),
    (
        "other processes' memory, registers and descriptors",
        &[
            "ptrace",
            "process_vm_readv",
            "process_vm_writev",
            "process_madvise",
            "kcmp",
            "pidfd_getfd",
            "move_pages",
            "migrate_pages",
        ],
    ),
    ("filters of its own, and listeners above ours", &["seccomp"]),
    ("security modules' state", &["lsm_set_self_attr"]),
    (
        "the kernel itself",
        &[
            "kexec_load",
            "kexec_file_load",
            "init_module",
            "finit_module",
            "delete_module",
            "create_module",
            "query_module",
            "get_kernel_syms",
            "reboot",
            "swapon",
            "swapoff",
            "acct",
            "syslog",
            "quotactl",
            "quotactl_fd",
            "vhangup",
            "nfsservctl",
            "_sysctl",
            "uselib",
        ],
    ),
    (
        "the host's clock and names",
        &[
            "settimeofday",
            "clock_settime",
            "sethostname",
            "setdomainname",
        ],
    ),
    (
        "files by handle, past every path",
        &["open_by_handle_at", "name_to_handle_at"],
    ),
    (
        "watching files of others",
        &["fanotify_init", "fanotify_mark"],
    ),
    (
        "hardware and segment tables",
        &["iopl", "ioperm", "modify_ldt"],
    ),
    (
        "scheduling classes in memory that a filter cannot see",
        &["sched_setattr"],
    ),
    ("priority on shared disks", &["ioprio_set"]),
    ("memory that the host cannot reclaim", &["memfd_secret"]),
];

/// The set of [`ALWAYS_REFUSED`].
#[must_use]
pub fn always_refused() -> SyscallSet {
    *REFUSED
}

static REFUSED: LazyLock<SyscallSet> = LazyLock::new(|| {
    let names = ALWAYS_REFUSED.iter().flat_map(|(_, names)| names.iter());
    names.filter_map(|name| by_name(name)).collect()
});

/// Why no ring has this call.
#[must_use]
pub fn why_refused(nr: Nr) -> Option<&'static str> {
    let name = name(nr)?;
    ALWAYS_REFUSED
        .iter()
        .find(|(_, names)| names.contains(&name))
        .map(|(why, _)| *why)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_of_every_list_is_a_call() {
        for (_, names) in ALWAYS_REFUSED {
            for name in *names {
                assert!(by_name(name).is_some(), "{name}");
            }
        }
        for name in set_names() {
            assert!(set(name).is_some_and(|set| !set.is_empty()), "{name}");
        }
    }

    #[test]
    fn numbers_are_the_kernels() {
        assert_eq!(by_name("read"), Some(Nr(0)));
        assert_eq!(by_name("execveat"), Some(Nr(322)));
        assert_eq!(by_name("clone3"), Some(Nr(435)));
        assert_eq!(i64::from(by_name("mseal").unwrap().0), libc::SYS_mseal);
        let mut numbers: Vec<_> = all().map(|(nr, _)| nr).collect();
        numbers.dedup();
        assert_eq!(numbers.len(), all().count());
        assert!(numbers.is_sorted() && numbers.iter().all(|nr| nr.0 < NUMBERS));
    }

    #[test]
    fn bytes_come_back() {
        let set = set("@system-service").unwrap();
        assert_eq!(SyscallSet::from_le_bytes(set.to_le_bytes()), set);
        assert!(set.contains(by_name("read").unwrap()) && !set.contains(by_name("mount").unwrap()));
        assert_eq!(set.iter().count(), set.len());
    }
}
