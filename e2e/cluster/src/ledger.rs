//! The ledger: what a run has made on the machine, written before it is made.

use std::{
    fs::{File, OpenOptions},
    io::Write as _,
    path::Path,
};

use serde::{Deserialize, Serialize};

use crate::{Result, error::at};

/// One thing to clean up.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "camelCase")]
pub enum Entry {
    /// The index of the run's addresses.
    Addresses {
        /// The index.
        index: u8,
    },
    /// A network namespace, and with it every link in it.
    Namespace {
        /// Its name.
        name: String,
    },
    /// A link in the host's own namespace.
    Link {
        /// Its name.
        name: String,
    },
    /// A cgroup with all below it, in every hierarchy, and the processes in it.
    Cgroup {
        /// Its path below a hierarchy's root.
        path: String,
    },
    /// A process. Written after its start, since it has no id before; until then its cgroup stands for it.
    Process {
        /// Which component.
        component: String,
        /// Its id.
        pid: i32,
        /// When it started, in the kernel's ticks: with the id it names one process for ever.
        started: u64,
    },
}

/// The ledger's file, open for additions.
#[derive(Debug)]
pub struct Ledger {
    file: File,
}

impl Ledger {
    /// Opens or makes the ledger at `path`.
    pub fn open(path: &Path) -> Result<Self> {
        let file = OpenOptions::new().create(true).append(true).open(path).map_err(at(path))?;
        Ok(Self { file })
    }

    /// Adds an entry, and comes back when it is on the disk.
    pub fn add(&mut self, entry: &Entry) -> std::io::Result<()> {
        let mut line = serde_json::to_vec(entry)?;
        line.push(b'\n');
        self.file.write_all(&line)?;
        self.file.sync_data()
    }

    /// What the ledger at `path` says. A line that a crash has cut short is left out: what it announces was not made.
    pub fn read(path: &Path) -> Result<Vec<Entry>> {
        match std::fs::read_to_string(path) {
            Ok(text) => Ok(text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect()),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Vec::new()),
            Err(error) => Err(at(path)(error)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_added_is_read_and_a_line_cut_short_is_left_out() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("ledger");
        assert_eq!(Ledger::read(&path).unwrap(), []);
        let entries = [
            Entry::Addresses { index: 3 },
            Entry::Namespace { name: "kc-a".to_owned() },
            Entry::Process { component: "etcd".to_owned(), pid: 7, started: 99 },
        ];
        let mut ledger = Ledger::open(&path).unwrap();
        for entry in &entries {
            ledger.add(entry).unwrap();
        }
        ledger.file.write_all(b"{\"kind\":\"cgr").unwrap();
        assert_eq!(Ledger::read(&path).unwrap(), entries);
    }
}
