//! Limits by control groups, by the best means this host gives: cgroup v2 where its controllers can
//! be had, v1 or a hybrid otherwise, and nothing where no group can be made (then ringd watches).
//!
//! Groups are made beneath the one that the supervisor itself is in, per hierarchy, so that what an
//! agent uses stays in the host's own accounting (cgroups(7)).

use std::fs::{self, File};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// One cgroup hierarchy as this process sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Hierarchy {
    /// v1 controllers; empty for v2.
    pub(crate) controllers: Vec<String>,
    /// The folder of the group that this process is in.
    pub(crate) own: PathBuf,
    /// Where the hierarchy is mounted.
    pub(crate) mount: PathBuf,
}

/// All hierarchies of the host.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Hierarchies {
    pub(crate) v2: Option<Hierarchy>,
    pub(crate) v1: Vec<Hierarchy>,
}

impl Hierarchies {
    /// Reads `/proc/self/mountinfo` and `/proc/self/cgroup`.
    pub(crate) fn read() -> io::Result<Self> {
        let mounts = fs::read_to_string("/proc/self/mountinfo")?;
        let groups = fs::read_to_string("/proc/self/cgroup")?;
        Ok(Self::parse(&mounts, &groups))
    }

    fn parse(mounts: &str, groups: &str) -> Self {
        let mut found = Self::default();
        for line in mounts.lines() {
            let Some((mount, tail)) = line.split_once(" - ") else {
                continue;
            };
            let mut tail = tail.split(' ');
            let (kind, options) = (tail.next().unwrap_or(""), tail.nth(1).unwrap_or(""));
            let mut fields = mount.split(' ').skip(3);
            let (Some(root), Some(place)) = (fields.next(), fields.next()) else {
                continue;
            };
            let own = |path: &str| {
                let below = Path::new(path).strip_prefix(root).unwrap_or(Path::new(""));
                Path::new(place).join(below)
            };
            match kind {
                "cgroup2" if found.v2.is_none() => {
                    let path = groups.lines().find_map(|line| line.strip_prefix("0::"));
                    found.v2 = path.map(|path| Hierarchy {
                        controllers: Vec::new(),
                        own: own(path),
                        mount: place.into(),
                    });
                }
                "cgroup" => {
                    let has = |name: &str| options.split(',').any(|option| option == name);
                    let line = groups.lines().find_map(|line| {
                        let mut parts = line.splitn(3, ':').skip(1);
                        let (names, path) = (parts.next()?, parts.next()?);
                        let all = !names.is_empty() && names.split(',').all(has);
                        all.then(|| (names.split(',').map(String::from).collect(), path))
                    });
                    found.v1.extend(line.map(|(controllers, path)| Hierarchy {
                        controllers,
                        own: own(path),
                        mount: place.into(),
                    }));
                }
                _ => {}
            }
        }
        found
    }

    pub(crate) fn v1_with(&self, controller: &str) -> Option<&Hierarchy> {
        self.v1
            .iter()
            .find(|one| one.controllers.iter().any(|name| name == controller))
    }
}

/// What is asked of the groups of one ring.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Wanted {
    /// Bytes.
    pub(crate) memory: u64,
    /// Processes and threads.
    pub(crate) pids: u64,
    /// Thousandths of a processor.
    pub(crate) cpu: Option<u32>,
}

/// By what means a limit is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Means {
    /// The kernel, by cgroup v2.
    V2,
    /// The kernel, by cgroup v1.
    V1,
    /// The kernel, by a resource limit of the ring's own user namespace.
    Rlimit,
    /// ringd counts, twenty times a second.
    Watched,
    /// Nothing keeps it.
    None,
}

impl Means {
    pub(crate) fn words(self) -> &'static str {
        match self {
            Means::V2 => "cgroup v2",
            Means::V1 => "cgroup v1",
            Means::Rlimit => "rlimit",
            Means::Watched => "watched",
            Means::None => "not enforced",
        }
    }
}

/// The groups of one ring.
#[derive(Debug, Default)]
pub(crate) struct Groups {
    /// Folder of the v2 group that the ring is cloned into.
    pub(crate) v2: Option<PathBuf>,
    /// v1 folders, by controller.
    pub(crate) v1: Vec<(&'static str, PathBuf)>,
    memory: Option<Means>,
    pids: Option<Means>,
    cpu: Option<Means>,
}

/// The controllers that we set.
const CONTROLLERS: [&str; 3] = ["memory", "pids", "cpu"];

impl Groups {
    /// Makes what can be made. A host that gives no group is no error: the means say so.
    ///
    /// `note` hears of each folder before it is made, so that a run which is killed in between can
    /// be swept.
    pub(crate) fn make(
        hosts: &Hierarchies,
        name: &str,
        wanted: &Wanted,
        note: &mut Note<'_>,
    ) -> io::Result<Self> {
        let mut groups = Self::default();
        let made = groups.fill(hosts, name, wanted, note);
        if let Err(error) = made {
            // Nothing is in them yet.
            groups.remove()?;
            return Err(error);
        }
        Ok(groups)
    }

    fn fill(
        &mut self,
        hosts: &Hierarchies,
        name: &str,
        wanted: &Wanted,
        note: &mut Note<'_>,
    ) -> io::Result<()> {
        if let Some(v2) = &hosts.v2 {
            let base = v2_base(v2);
            self.v2 = make_group(&base, name, note)?;
            if let Some(group) = &self.v2 {
                let set = |file: &str, value: String| {
                    let path = group.join(file);
                    path.exists().then(|| fs::write(path, value)).transpose()
                };
                if set("memory.max", wanted.memory.to_string())?.is_some() {
                    set("memory.swap.max", "0".into())?;
                    set("memory.oom.group", "1".into())?;
                    self.memory = Some(Means::V2);
                }
                if set("pids.max", wanted.pids.to_string())?.is_some() {
                    self.pids = Some(Means::V2);
                }
                if let Some(cpu) = wanted.cpu
                    && set("cpu.max", format!("{} 100000", u64::from(cpu) * 100))?.is_some()
                {
                    self.cpu = Some(Means::V2);
                }
            }
        }
        for controller in CONTROLLERS {
            let covered = match controller {
                "memory" => self.memory.is_some(),
                "pids" => self.pids.is_some(),
                _ => self.cpu.is_some() || wanted.cpu.is_none(),
            };
            if !covered && let Some(host) = hosts.v1_with(controller) {
                let made = make_group(&host.own, name, note)?;
                made.map_or(Ok(()), |group| self.limit_v1(group, controller, wanted))?;
            }
        }
        Ok(())
    }

    fn limit_v1(
        &mut self,
        group: PathBuf,
        controller: &'static str,
        wanted: &Wanted,
    ) -> io::Result<()> {
        self.v1.push((controller, group.clone()));
        match controller {
            "memory" => {
                fs::write(
                    group.join("memory.limit_in_bytes"),
                    wanted.memory.to_string(),
                )?;
                // Memory and swap together, where swap is counted: none of it may be swapped out.
                let both = group.join("memory.memsw.limit_in_bytes");
                if both.exists() {
                    fs::write(both, wanted.memory.to_string())?;
                }
                self.memory = Some(Means::V1);
            }
            "pids" => {
                fs::write(group.join("pids.max"), wanted.pids.to_string())?;
                self.pids = Some(Means::V1);
            }
            _ => {
                let quota = u64::from(wanted.cpu.unwrap_or(0)) * 100;
                fs::write(group.join("cpu.cfs_period_us"), "100000")?;
                fs::write(group.join("cpu.cfs_quota_us"), quota.to_string())?;
                self.cpu = Some(Means::V1);
            }
        }
        Ok(())
    }

    pub(crate) fn memory_means(&self) -> Means {
        self.memory.unwrap_or(Means::Watched)
    }

    pub(crate) fn pids_means(&self) -> Means {
        self.pids.unwrap_or(Means::Rlimit)
    }

    pub(crate) fn cpu_means(&self) -> Means {
        self.cpu.unwrap_or(Means::None)
    }

    /// Every folder, for the run's record.
    pub(crate) fn folders(&self) -> impl Iterator<Item = &Path> {
        self.v2
            .iter()
            .map(PathBuf::as_path)
            .chain(self.v1.iter().map(|(_, path)| path.as_path()))
    }

    /// The descriptors that ringd needs.
    pub(crate) fn open(&self) -> io::Result<Opened> {
        let mut opened = Opened::default();
        if let Some(v2) = &self.v2 {
            opened.folder = Some(File::open(v2)?.into());
            let kill = fs::OpenOptions::new()
                .write(true)
                .open(v2.join("cgroup.kill"));
            // Linux 5.14; before that the ring's init is the kill switch.
            opened.kill = kill.ok().map(OwnedFd::from);
            opened.events = Some(File::open(v2.join("cgroup.events"))?.into());
        }
        for (_, path) in &self.v1 {
            let tasks = fs::OpenOptions::new()
                .write(true)
                .open(path.join("tasks"))?;
            opened.tasks.push(tasks.into());
        }
        Ok(opened)
    }

    /// What the groups counted. Read before [`Groups::remove`].
    pub(crate) fn counted(&self) -> Counted {
        let number =
            |path: PathBuf| -> Option<u64> { fs::read_to_string(path).ok()?.trim().parse().ok() };
        let field = |path: PathBuf, name: &str| -> Option<u64> {
            let text = fs::read_to_string(path).ok()?;
            text.lines()
                .find_map(|line| line.strip_prefix(name)?.trim().parse().ok())
        };
        let memory = self
            .v1
            .iter()
            .find(|(name, _)| *name == "memory")
            .map(|(_, path)| path);
        let v2 = self.v2.as_ref();
        Counted {
            memory_peak: memory
                .and_then(|path| number(path.join("memory.max_usage_in_bytes")))
                .or_else(|| v2.and_then(|path| number(path.join("memory.peak")))),
            oom_kills: memory
                .and_then(|path| field(path.join("memory.oom_control"), "oom_kill "))
                .or_else(|| v2.and_then(|path| field(path.join("memory.events"), "oom_kill ")))
                .unwrap_or(0),
            cpu_us: v2.and_then(|path| field(path.join("cpu.stat"), "usage_usec ")),
        }
    }

    /// Removes the groups, which must be empty.
    pub(crate) fn remove(&mut self) -> io::Result<()> {
        for path in self
            .v2
            .take()
            .into_iter()
            .chain(self.v1.drain(..).map(|(_, path)| path))
        {
            remove_group(&path)?;
        }
        Ok(())
    }
}

/// Descriptors of a ring's groups.
#[derive(Debug, Default)]
pub(crate) struct Opened {
    pub(crate) folder: Option<OwnedFd>,
    pub(crate) kill: Option<OwnedFd>,
    pub(crate) events: Option<OwnedFd>,
    pub(crate) tasks: Vec<OwnedFd>,
}

/// What a ring's groups counted.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Counted {
    pub(crate) memory_peak: Option<u64>,
    pub(crate) oom_kills: u64,
    pub(crate) cpu_us: Option<u64>,
}

/// Hears of a folder that is about to be made.
pub(crate) type Note<'a> = dyn FnMut(&Path) -> io::Result<()> + 'a;

/// `None` when this host lets us make no group there.
fn make_group(base: &Path, name: &str, note: &mut Note<'_>) -> io::Result<Option<PathBuf>> {
    use rustix::fs::{Access, access};
    if access(base, Access::WRITE_OK | Access::EXEC_OK).is_err() {
        return Ok(None);
    }
    let path = base.join(name);
    note(&path)?;
    match fs::create_dir(&path) {
        Ok(()) => Ok(Some(path)),
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => Ok(None),
        Err(error) => Err(error),
    }
}

fn remove_group(path: &Path) -> io::Result<()> {
    // The last process may have been collected only just now.
    for _ in 0..200 {
        match fs::remove_dir(path) {
            Ok(()) => return Ok(()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(error) if error.kind() == io::ErrorKind::ResourceBusy => {
                std::thread::sleep(std::time::Duration::from_millis(5));
            }
            Err(error) => return Err(error),
        }
    }
    fs::remove_dir(path)
}

/// The v2 group under which ours are made, with the controllers handed down where that can be done.
fn v2_base(v2: &Hierarchy) -> PathBuf {
    let available = fs::read_to_string(v2.own.join("cgroup.controllers")).unwrap_or_default();
    let wanted: Vec<String> = CONTROLLERS
        .iter()
        .filter(|name| available.split_whitespace().any(|have| have == **name))
        .map(|name| format!("+{name}"))
        .collect();
    let hand_down = |base: &Path| fs::write(base.join("cgroup.subtree_control"), wanted.join(" "));
    if wanted.is_empty() || hand_down(&v2.own).is_ok() {
        return v2.own.clone();
    }
    // A group that holds processes hands nothing down: move ourselves into a leaf first. That works
    // in a delegated group of our own (a systemd scope); where others are in the group too it does
    // not, and then root makes its groups at the top, as the host's own manager does.
    let leaf = v2.own.join("agt-supervisor");
    let moved = fs::create_dir(&leaf)
        .and_then(|()| fs::write(leaf.join("cgroup.procs"), "0"))
        .and_then(|()| hand_down(&v2.own));
    if moved.is_ok() {
        return v2.own.clone();
    }
    // Back to where we were; an unused leaf goes.
    if fs::write(v2.own.join("cgroup.procs"), "0").is_ok() {
        let _kept_when_used = fs::remove_dir(&leaf);
    }
    let top_has = fs::read_to_string(v2.mount.join("cgroup.subtree_control")).unwrap_or_default();
    if top_has.split_whitespace().any(|name| name == "memory") {
        return v2.mount.clone();
    }
    v2.own.clone()
}

/// Ends and removes a group that a dead run left behind, if it still is that group.
pub(crate) fn sweep(path: &Path, inode: u64) -> io::Result<()> {
    match fs::symlink_metadata(path) {
        Ok(meta) if meta.ino() == inode => {}
        Ok(_) => return Ok(()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
    }
    let kill = path.join("cgroup.kill");
    if kill.exists() {
        fs::write(kill, "1")?;
    }
    remove_group(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hybrid_hosts_are_read() {
        let mounts = "\
30 25 0:26 / /sys/fs/cgroup/memory rw,relatime - cgroup cgroup rw,memory
31 25 0:27 / /sys/fs/cgroup/cpu,cpuacct rw - cgroup cgroup rw,cpu,cpuacct
32 25 0:28 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw";
        let groups = "4:memory:/a/b\n3:cpu,cpuacct:/\n0::/x";
        let found = Hierarchies::parse(mounts, groups);
        let v2 = found.v2.as_ref().map(|v2| v2.own.clone());
        assert_eq!(v2, Some("/sys/fs/cgroup/unified/x".into()));
        let memory = found.v1_with("memory").map(|one| one.own.clone());
        assert_eq!(memory, Some("/sys/fs/cgroup/memory/a/b".into()));
        assert!(found.v1_with("cpu").is_some() && found.v1_with("pids").is_none());
    }

    #[test]
    fn a_container_sees_its_own_group_as_the_root_of_the_mount() {
        let mounts = "32 25 0:28 /docker/7 /sys/fs/cgroup ro - cgroup2 cgroup rw";
        let found = Hierarchies::parse(mounts, "0::/docker/7/inner");
        assert_eq!(
            found.v2.map(|v2| v2.own),
            Some("/sys/fs/cgroup/inner".into())
        );
    }
}
