//! What this kernel's Landlock can govern (landlock(7)).

use jail::Handled;

use crate::check;

/// Which Landlock this kernel has: 0 none, otherwise its ABI.
#[must_use]
pub fn abi() -> u32 {
    const LANDLOCK_CREATE_RULESET_VERSION: u32 = 1;
    // SAFETY: with this flag the kernel takes a null attribute of size 0 and only returns a number.
    let rc = unsafe {
        libc::syscall(
            libc::SYS_landlock_create_ruleset,
            std::ptr::null::<u8>(),
            0_usize,
            LANDLOCK_CREATE_RULESET_VERSION,
        )
    };
    check(rc)
        .ok()
        .and_then(|abi| u32::try_from(abi).ok())
        .unwrap_or(0)
}

/// Rights on files and folders, as the kernel's header numbers them.
pub mod fs {
    /// Execute a file.
    pub const EXECUTE: u64 = 1;
    /// Open a file for writing.
    pub const WRITE_FILE: u64 = 1 << 1;
    /// Open a file for reading.
    pub const READ_FILE: u64 = 1 << 2;
    /// List a folder.
    pub const READ_DIR: u64 = 1 << 3;
    /// Make a character device.
    pub const MAKE_CHAR: u64 = 1 << 6;
    /// Make a block device.
    pub const MAKE_BLOCK: u64 = 1 << 11;
    /// Truncate a file.
    pub const TRUNCATE: u64 = 1 << 14;
    /// Device-specific `ioctl`.
    pub const IOCTL_DEV: u64 = 1 << 15;
    /// Every right of ABI 7.
    pub const ALL: u64 = (1 << 16) - 1;
    /// Reading and running.
    pub const READ: u64 = EXECUTE | READ_FILE | READ_DIR;
    /// Everything but devices.
    pub const WRITE: u64 = ALL & !(MAKE_CHAR | MAKE_BLOCK | IOCTL_DEV);
}

/// Everything that this ABI governs. An older kernel's gaps are the caller's to cover or to refuse.
#[must_use]
pub fn handled(abi: u32) -> Handled {
    let fs = match abi {
        0 => return Handled::default(),
        1 => (1 << 13) - 1,
        2 => (1 << 14) - 1,
        3 | 4 => (1 << 15) - 1,
        _ => fs::ALL,
    };
    let net = if abi >= 4 { 0b11 } else { 0 };
    let scoped = if abi >= 6 { 0b11 } else { 0 };
    Handled { fs, net, scoped }
}
