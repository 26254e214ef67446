//! The new root of a ring, as steps for the jail, and the Landlock rules that go with it.
//!
//! Inside, everything lies where it lies on the host, so that paths mean the same on both sides.

use std::collections::BTreeSet;
use std::ffi::CString;
use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use plan::{Rule, Source, Step};
use sys::landlock::fs as right;
use sys::mount::{NODEV, NOEXEC, NOSUID, RDONLY};

use super::grant::Grant;
use super::home;

/// Rights that make sense on a file; the kernel refuses the others there.
const FILE_RIGHTS: u64 =
    right::EXECUTE | right::WRITE_FILE | right::READ_FILE | right::TRUNCATE | right::IOCTL_DEV;

/// Files of the system up to this size are copied into the new root, which holds 4 MiB in all.
const COPIED_BYTES_MAX: u64 = 16 * 1024;

const MS_NOSUID: u64 = 2;
const MS_NODEV: u64 = 4;
const MS_NOEXEC: u64 = 8;

/// The file that hides others (`jail::EMPTY`). At its own place Landlock alone keeps it closed, so
/// that the self-test can try that layer by itself.
pub(crate) const CANARY: &str = "/.empty";

/// The root being written down.
#[derive(Debug, Default)]
pub(crate) struct Root {
    pub(crate) steps: Vec<Step>,
    pub(crate) rules: Vec<Rule>,
    dirs: BTreeSet<PathBuf>,
}

/// The name of a path inside the new root, and `.` for the root itself.
fn target(path: &Path) -> io::Result<CString> {
    let below = path.strip_prefix("/").unwrap_or(path);
    let below = if below.as_os_str().is_empty() {
        Path::new(".")
    } else {
        below
    };
    text(below.as_os_str().as_bytes())
}

fn text(bytes: &[u8]) -> io::Result<CString> {
    CString::new(bytes).map_err(io::Error::other)
}

impl Root {
    /// Folders down to and with `path`.
    fn dirs(&mut self, path: &Path) -> io::Result<()> {
        let missing: Vec<&Path> = path
            .ancestors()
            .filter(|one| *one != Path::new("/") && !self.dirs.contains(*one))
            .collect();
        for dir in missing.into_iter().rev() {
            self.steps.push(Step::Dir {
                target: target(dir)?,
                mode: 0o755,
            });
            self.dirs.insert(dir.to_owned());
        }
        Ok(())
    }

    fn parent(&mut self, path: &Path) -> io::Result<()> {
        path.parent().map_or(Ok(()), |parent| self.dirs(parent))
    }

    fn rule(&mut self, path: &Path, rights: u64) -> io::Result<()> {
        self.rules.push(Rule {
            path: text(path.as_os_str().as_bytes())?,
            rights,
        });
        Ok(())
    }

    /// A small file of our own making.
    pub(crate) fn file(&mut self, path: &str, content: &str) -> io::Result<()> {
        let path = Path::new(path);
        self.parent(path)?;
        let content = content.as_bytes().to_vec();
        self.steps.push(Step::File {
            target: target(path)?,
            content,
            mode: 0o444,
        });
        Ok(())
    }

    /// A symbolic link of our own making.
    pub(crate) fn symlink(&mut self, path: &Path, to: &Path) -> io::Result<()> {
        self.parent(path)?;
        let to = text(to.as_os_str().as_bytes())?;
        self.steps.push(Step::Symlink {
            target: target(path)?,
            to,
        });
        Ok(())
    }

    /// A part of the system as it is on the host, read-only; links stay links, absent is absent.
    pub(crate) fn system(&mut self, path: &Path) -> io::Result<()> {
        let meta = match fs::symlink_metadata(path) {
            Ok(meta) => meta,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(error) => return Err(error),
        };
        if meta.is_symlink() {
            return self.symlink(path, &fs::read_link(path)?);
        }
        if !meta.is_dir() && !meta.is_file() {
            return Ok(());
        }
        if meta.is_file() && meta.len() <= COPIED_BYTES_MAX && meta.mode() & 0o004 != 0 {
            // A copy costs a fraction of a mount.
            self.parent(path)?;
            let content = fs::read(path)?;
            self.steps.push(Step::File {
                target: target(path)?,
                content,
                mode: 0o444,
            });
            return Ok(());
        }
        let source = Grant::identify(path, &meta)?;
        self.mount(path, source, meta.is_dir(), RDONLY | NOSUID | NODEV)
    }

    fn mount(
        &mut self,
        path: &Path,
        source: Source,
        is_dir: bool,
        attributes: u64,
    ) -> io::Result<()> {
        if is_dir {
            self.dirs(path)?;
        } else {
            self.parent(path)?;
            let content = Vec::new();
            self.steps.push(Step::File {
                target: target(path)?,
                content,
                mode: 0o444,
            });
        }
        self.steps.push(Step::Tree {
            target: target(path)?,
            source,
            attributes,
        });
        Ok(())
    }

    /// Landlock's part of the system runtime: one rule for each top folder covers what is mounted
    /// beneath it, since the kernel walks up through mounts.
    pub(crate) fn system_rules(&mut self) -> io::Result<()> {
        let tops: BTreeSet<PathBuf> = self
            .dirs
            .iter()
            .filter(|dir| dir.components().count() == 2)
            .filter(|dir| *dir != Path::new("/dev") && *dir != Path::new("/proc"))
            .cloned()
            .collect();
        for top in tops {
            self.rule(&top, right::READ)?;
        }
        // Listing is no secret in a root that holds only what was granted.
        self.rule(Path::new("/"), right::READ_DIR)
    }

    /// `/dev` with the named devices of the host, an own devpts and an own `/dev/shm`.
    pub(crate) fn devices(
        &mut self,
        names: &[String],
        tmp_bytes: u64,
        exec: bool,
    ) -> io::Result<()> {
        let dev = Path::new("/dev");
        self.dirs(dev)?;
        for name in names {
            let path = dev.join(name);
            let Ok(meta) = fs::symlink_metadata(&path) else {
                continue;
            };
            if !meta.file_type().is_char_device() {
                continue;
            }
            let source = Grant::identify(&path, &meta)?;
            // Read-only is about the inode (its times, its mode); the device itself takes writes.
            self.mount(&path, source, false, RDONLY | NOSUID | NOEXEC)?;
            self.rule(
                &path,
                right::READ_FILE | right::WRITE_FILE | right::IOCTL_DEV,
            )?;
        }
        self.dirs(Path::new("/dev/pts"))?;
        let options = text(b"newinstance,ptmxmode=0666,mode=0620,max=256")?;
        self.steps.push(Step::Devpts {
            target: text(b"dev/pts")?,
            options,
        });
        let terminal = right::READ_FILE | right::WRITE_FILE | right::READ_DIR | right::IOCTL_DEV;
        self.rule(Path::new("/dev/pts"), terminal)?;
        for (name, to) in [
            ("/dev/ptmx", "pts/ptmx"),
            ("/dev/fd", "/proc/self/fd"),
            ("/dev/stdin", "/proc/self/fd/0"),
            ("/dev/stdout", "/proc/self/fd/1"),
            ("/dev/stderr", "/proc/self/fd/2"),
        ] {
            self.symlink(Path::new(name), Path::new(to))?;
        }
        self.scratch(Path::new("/dev/shm"), tmp_bytes, exec)
    }

    /// An empty, writable tmpfs.
    pub(crate) fn scratch(&mut self, path: &Path, bytes: u64, exec: bool) -> io::Result<()> {
        self.dirs(path)?;
        let options = text(format!("mode=1777,size={bytes},nr_inodes=262144").as_bytes())?;
        let flags = MS_NOSUID | MS_NODEV | if exec { 0 } else { MS_NOEXEC };
        self.steps.push(Step::Tmpfs {
            target: target(path)?,
            options,
            flags,
        });
        self.rule(
            path,
            if exec {
                right::WRITE
            } else {
                right::WRITE & !right::EXECUTE
            },
        )
    }

    /// The folder of the ring's door, which the jail closes when the door stands.
    pub(crate) fn door(&mut self) -> io::Result<()> {
        let folder = Path::new("/run/agt");
        self.dirs(folder)?;
        self.steps.push(Step::Tmpfs {
            target: target(folder)?,
            options: text(b"mode=0755,size=16k,nr_inodes=8")?,
            flags: MS_NOSUID | MS_NODEV | MS_NOEXEC,
        });
        Ok(())
    }

    /// proc for the ring's own pid namespace, with the named entries masked.
    pub(crate) fn proc(&mut self, only_pids: bool, masked: &[String]) -> io::Result<()> {
        let proc = Path::new("/proc");
        self.dirs(proc)?;
        let options: &[u8] = if only_pids {
            b"hidepid=invisible,subset=pid"
        } else {
            b"hidepid=invisible"
        };
        self.steps.push(Step::Proc {
            target: target(proc)?,
            options: text(options)?,
        });
        if !only_pids {
            for name in masked {
                self.steps.push(Step::Mask {
                    target: target(&proc.join(name))?,
                });
            }
        }
        self.rule(proc, right::READ_FILE | right::READ_DIR)
    }

    /// Something that agent.yaml asked for, at the path that it has on the host.
    pub(crate) fn grant(&mut self, grant: &Grant) -> io::Result<()> {
        self.grant_at(&grant.path, grant, grant.source())
    }

    /// The same at another path.
    pub(crate) fn grant_at(
        &mut self,
        path: &Path,
        grant: &Grant,
        source: Source,
    ) -> io::Result<()> {
        let attributes = NOSUID | NODEV | if grant.write { 0 } else { RDONLY };
        self.mount(path, source, grant.is_dir, attributes)?;
        let rights = if grant.write {
            right::WRITE
        } else {
            right::READ
        };
        self.rule(
            path,
            if grant.is_dir {
                rights
            } else {
                rights & FILE_RIGHTS
            },
        )
    }

    /// The agent's home, at its place inside.
    pub(crate) fn home(
        &mut self,
        source: Option<Source>,
        bytes: u64,
        exec: bool,
    ) -> io::Result<()> {
        let inside = Path::new(home::INSIDE);
        let Some(source) = source else {
            return self.scratch(inside, bytes, exec);
        };
        self.mount(inside, source, true, NOSUID | NODEV)?;
        self.rule(inside, right::WRITE)
    }

    /// Hides what is there, file or folder.
    pub(crate) fn hide(&mut self, path: &Path) -> io::Result<()> {
        self.steps.push(Step::Mask {
            target: target(path)?,
        });
        Ok(())
    }

    /// Mounts something of a grant on itself; the grant's own rule covers it.
    pub(crate) fn cover(&mut self, path: &Path, write: bool, source: Source) -> io::Result<()> {
        let attributes = NOSUID | NODEV | if write { 0 } else { RDONLY };
        self.steps.push(Step::Tree {
            target: target(path)?,
            source,
            attributes,
        });
        Ok(())
    }

    /// What the n-th step does, in words.
    pub(crate) fn step(&self, index: usize) -> String {
        let (what, target) = match self.steps.get(index) {
            Some(Step::Dir { target, .. }) => ("making the folder", target),
            Some(Step::File { target, .. }) => ("making the file", target),
            Some(Step::Symlink { target, .. }) => ("making the link", target),
            Some(Step::Tree { target, .. }) => ("mounting", target),
            Some(Step::Tmpfs { target, .. }) => ("mounting an empty", target),
            Some(Step::Devpts { target, .. }) => ("mounting terminals at", target),
            Some(Step::Proc { target, .. }) => ("mounting", target),
            Some(Step::Mask { target }) => ("hiding", target),
            Some(Step::ReadOnly { target }) => ("closing", target),
            None => return "building its root".into(),
        };
        format!("{what} /{}", target.to_string_lossy())
    }

    /// What the n-th Landlock rule is about, in words.
    pub(crate) fn rule_words(&self, index: usize) -> String {
        let path = self
            .rules
            .get(index)
            .map(|rule| rule.path.to_string_lossy().into_owned());
        format!("landlock rule for {}", path.unwrap_or_default())
    }

    /// Closes the root itself against writing.
    pub(crate) fn seal(&mut self) -> io::Result<()> {
        self.steps.push(Step::ReadOnly {
            target: text(b".")?,
        });
        Ok(())
    }
}
