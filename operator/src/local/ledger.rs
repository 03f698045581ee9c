//! The record of what runs, so that the next world ends what a crash of this one left.
//!
//! Invariant: a process is signalled only if it is the one that was recorded: same machine start, same process id, same start time.

use std::{
    collections::BTreeMap,
    fs, io,
    path::PathBuf,
    time::{Duration, Instant},
};

use rustix::process::{Pid, PidfdFlags, Signal, kill_process_group, pidfd_open, pidfd_send_signal};
use serde::{Deserialize, Serialize};

use crate::clock;

/// How long a killed process may take to be gone.
const GONE_WITHIN: Duration = Duration::from_secs(5);

/// How long the shims of an earlier world may take to end by themselves.
const SHIMS_GONE_WITHIN: Duration = Duration::from_secs(2);
/// What the shim of a process is recorded under, after the process's own key and name.
const SHIM: &str = " shim";

/// One process that was started.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Entry {
    /// What it is, for people.
    pub name: String,
    /// Its process id, which is its process group's number as well.
    pub pid: u32,
    /// When it started, in ticks since the machine did.
    pub start: u64,
}

/// The file.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Record {
    boot: String,
    processes: BTreeMap<String, Entry>,
}

/// The record, kept while this world runs.
#[derive(Debug)]
pub struct Ledger {
    path: PathBuf,
    record: Record,
    /// Whether the file says something else.
    changed: bool,
}

/// What an earlier world left.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Leftovers {
    /// Processes that it had not recorded the end of.
    pub recorded: usize,
    /// Those of them that still ran, and were ended.
    pub ended: Vec<Entry>,
}

impl Ledger {
    /// Reads the record of an earlier world, ends what still runs of it, and begins a new one.
    pub fn open(path: PathBuf) -> io::Result<(Self, Leftovers)> {
        let boot =
            fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default().trim().to_owned();
        let earlier: Record = match fs::read(&path) {
            Ok(text) => serde_json::from_slice(&text).unwrap_or_default(),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Record::default(),
            Err(error) => return Err(error),
        };
        let mut leftovers = Leftovers::default();
        if earlier.boot == boot {
            leftovers.recorded = earlier.processes.len();
            wait_for_shims(&earlier);
            leftovers.ended = earlier.processes.into_values().filter(end).collect();
        }
        let ledger = Self { path, record: Record { boot, processes: BTreeMap::new() }, changed: false };
        ledger.write()?;
        Ok((ledger, leftovers))
    }

    /// Records the shim of a process, with the next [`Ledger::keep`].
    pub fn shim_started(&mut self, key: &str, name: &str, pid: u32) {
        self.started(&format!("{key}{SHIM}"), &format!("{name}{SHIM}"), pid);
    }

    /// Records a process, with the next [`Ledger::keep`]. One that has ended already is not recorded.
    pub fn started(&mut self, key: &str, name: &str, pid: u32) {
        if let Some(start) = start_time(pid) {
            let entry = Entry { name: name.to_owned(), pid, start };
            self.record.processes.insert(key.to_owned(), entry);
            self.changed = true;
        }
    }

    /// Strikes out a process that is gone and its shim, with the next [`Ledger::keep`].
    pub fn ended(&mut self, key: &str) {
        for key in [key, &format!("{key}{SHIM}")] {
            self.changed |= self.record.processes.remove(key).is_some();
        }
    }

    /// Writes what has changed.
    pub fn keep(&mut self) {
        if std::mem::take(&mut self.changed)
            && let Err(error) = self.write()
        {
            tracing::warn!(path = %self.path.display(), %error, "the record of processes could not be written");
        }
    }

    /// Not synced: processes do not outlive the machine either.
    fn write(&self) -> io::Result<()> {
        let partial = self.path.with_extension("partial");
        fs::write(&partial, serde_json::to_vec(&self.record)?)?;
        fs::rename(&partial, &self.path)
    }
}

/// A shim whose world is gone ends all that its command started, and then itself: better than anybody could from outside.
fn wait_for_shims(earlier: &Record) {
    let deadline: Instant = clock::instant() + SHIMS_GONE_WITHIN;
    for (_, shim) in earlier.processes.iter().filter(|(key, _)| key.ends_with(SHIM)) {
        while start_time(shim.pid) == Some(shim.start) && clock::instant() < deadline {
            std::thread::sleep(Duration::from_millis(2));
        }
    }
}

/// Ends the process and its group, if it is still the one that was recorded; says whether it was.
fn end(entry: &Entry) -> bool {
    let Some(pid) = i32::try_from(entry.pid).ok().and_then(Pid::from_raw) else { return false };
    let Ok(handle) = pidfd_open(pid, PidfdFlags::empty()) else { return false };
    if start_time(entry.pid) != Some(entry.start) {
        return false;
    }
    // The handle keeps the process id from meaning another process for as long as the leader has not been reaped.
    ignore_gone(kill_process_group(pid, Signal::KILL));
    ignore_gone(pidfd_send_signal(&handle, Signal::KILL));
    let deadline: Instant = clock::instant() + GONE_WITHIN;
    while start_time(entry.pid) == Some(entry.start) && clock::instant() < deadline {
        std::thread::sleep(Duration::from_millis(2));
    }
    true
}

/// Who is gone already needs no signal.
pub(super) fn ignore_gone(result: Result<(), rustix::io::Errno>) {
    if let Err(error) = result {
        tracing::debug!(%error, "nobody was there to be killed");
    }
}

/// When a living process started, in ticks since the machine did; the program's name in the line may hold blanks and parentheses.
fn start_time(pid: u32) -> Option<u64> {
    let line = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let mut fields = line.get(line.rfind(')')? + 1..)?.split_whitespace();
    if matches!(fields.next()?, "Z" | "X") {
        return None;
    }
    fields.nth(18)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use std::{os::unix::process::CommandExt, process::Command};

    use super::*;

    fn sleeper() -> std::process::Child {
        Command::new("sleep").arg("60").process_group(0).spawn().unwrap()
    }

    #[test]
    fn the_next_world_ends_what_was_left() {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("processes.json");
        let (mut ledger, none) = Ledger::open(path.clone()).unwrap();
        assert_eq!(none, Leftovers::default());
        let mut left = sleeper();
        let mut gone = sleeper();
        ledger.started("a", "rag/llm-0", left.id());
        ledger.started("b", "rag/vectors-0", gone.id());
        gone.kill().unwrap();
        gone.wait().unwrap();
        ledger.keep();
        drop(ledger);

        let (_, leftovers) = Ledger::open(path.clone()).unwrap();
        assert_eq!(leftovers.recorded, 2);
        assert_eq!(leftovers.ended.len(), 1);
        assert_eq!(leftovers.ended[0].name, "rag/llm-0");
        assert!(!left.wait().unwrap().success());
        assert_eq!(Ledger::open(path).unwrap().1, Leftovers::default());
    }

    #[test]
    fn a_stranger_with_the_same_number_is_left_alone() {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("processes.json");
        let mut stranger = sleeper();
        let (mut ledger, _) = Ledger::open(path.clone()).unwrap();
        ledger.started("a", "rag/llm-0", stranger.id());
        ledger.record.processes.get_mut("a").unwrap().start += 1;
        ledger.keep();
        assert!(Ledger::open(path).unwrap().1.ended.is_empty());
        assert!(stranger.try_wait().unwrap().is_none());
        stranger.kill().unwrap();
        stranger.wait().unwrap();
    }
}
