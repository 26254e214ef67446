//! A folder of logs of a test's own.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use crate::{
    Action, Entry, Keys, Kind, Log, LogVerdict, Options, PublicKey, Report, Value, verify,
};

pub(crate) struct World {
    pub(crate) root: PathBuf,
}

impl World {
    pub(crate) fn new() -> Self {
        static WORLDS: AtomicU32 = AtomicU32::new(0);
        let number = WORLDS.fetch_add(1, Ordering::Relaxed);
        let name = format!("agt-audit-{}-{number}", std::process::id());
        // Thousands of syncs: in memory where that can be.
        let shm = Path::new("/dev/shm");
        let base = Some(shm.to_owned()).filter(|shm| shm.is_dir());
        let root = base.unwrap_or_else(std::env::temp_dir).join(name);
        std::fs::create_dir_all(&root).unwrap();
        Self { root }
    }

    pub(crate) fn audit(&self) -> PathBuf {
        self.root.join("audit")
    }

    pub(crate) fn keys(&self) -> Keys {
        Keys::open_or_create(&self.root.join("keys")).unwrap()
    }

    pub(crate) fn public(&self) -> Vec<PublicKey> {
        crate::read_list(&self.root.join("keys")).unwrap()
    }

    pub(crate) fn open(&self, name: &str) -> Log {
        self.open_with(name, Options::default())
    }

    pub(crate) fn open_with(&self, name: &str, options: Options) -> Log {
        // A child that another test forks just now has our lock until it becomes something else.
        for _ in 0..1000 {
            match Log::open(&self.audit(), name, self.keys(), options) {
                Err(crate::Error::Busy { .. }) => {
                    std::thread::sleep(std::time::Duration::from_millis(2));
                }
                opened => return opened.unwrap(),
            }
        }
        panic!("somebody holds {name}")
    }

    pub(crate) fn verify(&self) -> Report {
        verify(&self.audit(), &self.public(), &[]).unwrap()
    }

    pub(crate) fn only(&self) -> LogVerdict {
        let mut report = self.verify();
        assert_eq!(report.logs.len(), 1);
        report.logs.remove(0)
    }

    pub(crate) fn segment(&self, log: &str) -> PathBuf {
        self.audit().join(log).join("00000000000000000000.jsonl")
    }
}

impl Drop for World {
    fn drop(&mut self) {
        let _left = std::fs::remove_dir_all(&self.root);
    }
}

/// Appends so many decisions.
pub(crate) fn fill(log: &mut Log, count: u64) {
    for number in 0..count {
        let fields = [
            ("number", Value::Number(number)),
            ("host", Value::Text("api.example.com")),
        ];
        let action = Action::new("connect")
            .fields(&fields)
            .args_hmac(log.args_hmac(b"secret"));
        let entry = Entry::new(Kind::Decision)
            .agent("researcher")
            .verdict("allow")
            .action(action);
        assert_eq!(log.append(&entry).unwrap().seq() + 1, log.next_seq());
    }
}

pub(crate) fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap().flatten() {
        let target = to.join(entry.file_name());
        if entry.path().is_dir() {
            copy(&entry.path(), &target);
        } else {
            std::fs::copy(entry.path(), target).unwrap();
        }
    }
}
