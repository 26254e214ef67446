//! A file system of its own under a folder, and what goes wrong with one. Only root can.

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::{Place, USER, Who};

/// What goes wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// There is no room left.
    Full,
    /// The kernel found an error and lets nobody write any more (ext4, `errors=remount-ro`).
    ReadOnly,
    /// Every call fails with EIO.
    Errors,
    /// Writes are taken, and never come to the disk: only the sync says so.
    Unsynced,
}

impl Fault {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Full, Self::ReadOnly, Self::Errors, Self::Unsynced];
}

/// A mounted file system that is about to fail.
#[derive(Debug)]
pub struct Disk {
    fault: Fault,
    path: PathBuf,
    /// Where the image of its file system lies.
    below: PathBuf,
}

/// Asks ext4 to fail everything from now on (`EXT4_IOC_SHUTDOWN`, without a flush).
const SHUTDOWN: &str = "import fcntl, os, struct, sys\n\
    fcntl.ioctl(os.open(sys.argv[1], os.O_RDONLY), 0x8004587d, struct.pack('I', 2))";

impl Disk {
    /// Puts a file system that is going to fail this way under a folder of a place.
    #[must_use]
    pub fn new(place: &Place, name: &str, fault: Fault) -> Self {
        let disk = Self {
            fault,
            path: place.dir(name),
            below: place.dir("below"),
        };
        let below = disk.below.to_string_lossy();
        run("mount", &["-t", "tmpfs", "-o", "size=24m", "tmpfs", &below]);
        // Holes: of the larger one it is the tmpfs below that runs out of room.
        let size = if fault == Fault::Unsynced {
            64 << 20
        } else {
            16 << 20
        };
        let image = disk.below.join("image");
        File::create(&image)
            .and_then(|file| file.set_len(size))
            .expect("an image");
        run(
            "mkfs.ext4",
            &["-q", "-E", "nodiscard", &image.to_string_lossy()],
        );
        disk.mount(&image);
        let owner = if place.who == Who::User { USER } else { 0 };
        std::os::unix::fs::chown(&disk.path, Some(owner), Some(owner)).expect("chown");
        disk
    }

    fn mount(&self, image: &Path) {
        let (image, path) = (image.to_string_lossy(), self.path.to_string_lossy());
        run("mount", &["-o", "loop,errors=remount-ro", &image, &path]);
    }

    /// From now on it fails.
    pub fn fail(&self) {
        match self.fault {
            Fault::Full => fill(&self.path.join("filler")),
            Fault::ReadOnly => {
                let device = fs::read_to_string("/proc/self/mounts").expect("mounts");
                let path = self.path.to_string_lossy();
                let line = device
                    .lines()
                    .find(|line| line.split(' ').nth(1) == Some(&path));
                let device = line
                    .and_then(|line| line.split(' ').next())
                    .expect("its device");
                let name = device.rsplit('/').next().unwrap_or_default();
                fs::write(format!("/sys/fs/ext4/{name}/trigger_fs_error"), "by a test")
                    .expect("an error");
            }
            Fault::Errors => run("python3", &["-c", SHUTDOWN, &self.path.to_string_lossy()]),
            Fault::Unsynced => fill(&self.below.join("filler")),
        }
    }

    /// It takes what is written again, and has what came to the disk.
    pub fn mend(&self) {
        let _other = fs::remove_file(self.path.join("filler"));
        let _other = fs::remove_file(self.below.join("filler"));
        let (path, image) = (
            self.path.to_string_lossy(),
            self.path.with_extension("image"),
        );
        let _broken = Command::new("sync").arg("-f").arg(&self.path).output();
        run("umount", &[&path]);
        // A copy: whoever of this host made a mount namespace meanwhile holds the broken file system for as long as
        // that lives, and the same image would be the same file system.
        let (from, to) = (self.below.join("image"), image.to_string_lossy());
        run("cp", &["--sparse=always", &from.to_string_lossy(), &to]);
        let checked = Command::new("e2fsck")
            .args(["-fy"])
            .arg(&image)
            .output()
            .expect("e2fsck");
        assert!(
            checked.status.code().is_some_and(|code| code <= 1),
            "{checked:?}"
        );
        self.mount(&image);
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        for path in [&self.path, &self.below] {
            let _left = Command::new("umount").arg("-l").arg(path).output();
        }
    }
}

/// Writes until there is no room.
fn fill(path: &Path) {
    let mut file = File::create(path).expect("a file");
    for size in [1 << 20, 1 << 12] {
        while file.write_all(&vec![1; size]).is_ok() {}
    }
    let _full = file.sync_all();
}

fn run(name: &str, args: &[&str]) {
    let output = Command::new(name)
        .args(args)
        .output()
        .expect("a tool of the host");
    assert!(
        output.status.success(),
        "{name} {args:?}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
}
