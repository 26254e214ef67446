//! A disk that is full, and one that may not be written.

use std::ffi::CString;
use std::fs;
use std::path::PathBuf;

use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};

use super::world::World;
use crate::{Durability, Entry, Error, Keys, Kind, Log, Options, State, verify};

/// A file system of its own; only root may have one.
struct Disk {
    path: PathBuf,
}

impl Disk {
    fn new(world: &World, how: &str, flags: MountFlags) -> Option<Self> {
        let path = world.root.join("disk");
        fs::create_dir_all(&path).unwrap();
        let how = CString::new(format!("mode=700,{how}")).unwrap();
        if !rustix::process::geteuid().is_root() {
            return None;
        }
        mount("tmpfs", &path, "tmpfs", flags, Some(how.as_c_str())).unwrap();
        Some(Self { path })
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _left = unmount(&self.path, UnmountFlags::DETACH);
    }
}

fn full(durability: Durability) {
    let world = World::new();
    let Some(disk) = Disk::new(&world, "size=2m", MountFlags::empty()) else {
        return;
    };
    let options = Options {
        durability,
        reserve_bytes: 256 << 10,
        ..Options::default()
    };
    let dir = disk.path.join("audit");
    let mut log = Log::open(&dir, "run", world.keys(), options).unwrap();
    let decision = Entry::new(Kind::Decision).verdict("allow");
    let mut recorded = 0;
    let error = loop {
        let queued = log.queue(&decision).unwrap();
        match log.append(&decision) {
            Ok(_) => recorded += 2,
            Err(error) => {
                // What waited with it was not written either, and a later write is not its own.
                let written = log.write().unwrap();
                assert!(queued.recorded(&written).is_err());
                break error;
            }
        }
    };
    assert!(matches!(error, Error::Unwritten { .. }), "{error}");
    assert!(recorded > 1000);
    // What ends the agents is recorded all the same, and nothing that allows is.
    let ended = log.append(&Entry::new(Kind::Ended)).unwrap();
    assert_eq!(ended.seq(), recorded + 2);
    assert!(log.append(&decision).is_err());
    log.close().unwrap();
    let report = verify(&dir, &world.public(), &[]).unwrap();
    assert_eq!(report.ledger, State::Intact);
    let gap = State::Gap {
        at: recorded + 1,
        gaps: 2,
    };
    assert_eq!(report.logs[0].state, gap);
    let text = fs::read_dir(dir.join("run")).unwrap().flatten();
    let text: String = text
        .filter(|entry| entry.file_name().to_string_lossy().starts_with("0000"))
        .map(|entry| fs::read_to_string(entry.path()).unwrap())
        .collect();
    assert!(text.contains(r#""action":{"kind":"gap","why":"not written","records":2}"#));
}

#[test]
fn a_full_disk_denies_and_the_end_still_fits() {
    full(Durability::Group);
}

#[test]
fn a_full_disk_denies_when_each_record_is_on_disk() {
    full(Durability::Strict);
}

#[test]
fn room_again_and_the_log_goes_on() {
    let world = World::new();
    let Some(disk) = Disk::new(&world, "size=2m", MountFlags::empty()) else {
        return;
    };
    let dir = disk.path.join("audit");
    let options = Options {
        reserve_bytes: 256 << 10,
        ..Options::default()
    };
    let mut log = Log::open(&dir, "run", world.keys(), options).unwrap();
    fs::write(disk.path.join("other"), vec![0; 900 << 10]).unwrap();
    let decision = Entry::new(Kind::Decision);
    while log.append(&decision).is_ok() {}
    assert!(log.append(&decision).is_err());
    fs::remove_file(disk.path.join("other")).unwrap();
    let at = log.next_seq();
    let recorded = log.append(&decision).unwrap();
    assert_eq!(recorded.seq(), at + 1, "after the gap");
    log.close().unwrap();
    let report = verify(&dir, &world.public(), &[]).unwrap();
    assert_eq!(report.logs[0].state, State::Gap { at, gaps: 1 });
}

#[test]
fn a_folder_that_may_not_be_written_has_no_log() {
    let world = World::new();
    let keys = Keys::open_or_create(&world.root.join("keys")).unwrap();
    let disk = Disk::new(&world, "size=2m", MountFlags::RDONLY);
    let dir = if let Some(disk) = &disk {
        disk.path.clone()
    } else {
        use std::os::unix::fs::PermissionsExt;
        let dir = world.root.join("locked");
        fs::create_dir(&dir).unwrap();
        fs::set_permissions(&dir, fs::Permissions::from_mode(0o500)).unwrap();
        dir
    };
    assert!(Log::open(&dir, "run", keys, Options::default()).is_err());
}
