//! Processes by id and start time: the two name one process for ever.

use std::{
    fs,
    io::{self, Read as _, Seek as _, SeekFrom},
    path::Path,
    time::{Duration, SystemTime},
};

use rustix::{
    param::clock_ticks_per_second,
    process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal},
    time::{ClockId, clock_gettime},
};
use serde::{Deserialize, Serialize};

use crate::clock;

/// A process that was started.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Process {
    /// Its id.
    pub(crate) pid: i32,
    /// When it started, in the kernel's ticks since boot.
    pub(crate) started: u64,
}

impl Process {
    /// The process that has the id `pid` now.
    pub(crate) fn with_id(pid: i32) -> Option<Self> {
        started(pid).map(|started| Self { pid, started })
    }

    /// Whether it still runs.
    pub(crate) fn alive(self) -> bool {
        started(self.pid) == Some(self.started)
    }

    /// When it started, by the clock on the wall.
    pub(crate) fn started(self) -> SystemTime {
        let ticks = clock_ticks_per_second().max(1);
        let started = Duration::from_millis(self.started * 1000 / ticks);
        // Nothing runs before the machine does: neither part is below zero.
        let up = Duration::try_from(clock_gettime(ClockId::Boottime)).unwrap_or_default();
        clock::wall() - up.saturating_sub(started)
    }

    /// Sends it `signal`; nothing happens where it is gone, even if its id is somebody else's by now.
    pub(crate) fn signal(self, signal: Signal) {
        let Some(pid) = Pid::from_raw(self.pid) else { return };
        let Ok(handle) = pidfd_open(pid, PidfdFlags::empty()) else { return };
        if self.alive() {
            // It may end between the two lines: then there is nothing left to do.
            pidfd_send_signal(handle, signal).ok();
        }
    }
}

/// The start time of the process with the id `pid`; none where it is gone or only waits to be reaped.
fn started(pid: i32) -> Option<u64> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name, in parentheses, may hold anything.
    let mut fields = text.rsplit_once(") ")?.1.split(' ');
    let state = fields.next()?;
    if matches!(state, "Z" | "X") {
        return None;
    }
    fields.nth(18)?.parse().ok()
}

/// The last lines of the file at `path`.
pub(crate) fn tail(path: &Path) -> String {
    const BYTES: u64 = 16 * 1024;
    const LINES: usize = 20;
    let read = || -> io::Result<String> {
        let mut file = fs::File::open(path)?;
        let length = file.metadata()?.len();
        file.seek(SeekFrom::Start(length.saturating_sub(BYTES)))?;
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes)?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    };
    match read() {
        Ok(text) => {
            let lines: Vec<&str> = text.lines().collect();
            let from = lines.len().saturating_sub(LINES);
            lines.get(from..).unwrap_or_default().join("\n")
        }
        Err(error) => format!("({}: {error})", path.display()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_is_known_by_its_start_as_well_as_by_its_id() {
        let own = Process::with_id(i32::try_from(std::process::id()).unwrap()).unwrap();
        assert!(own.alive());
        assert!(!Process { started: own.started + 1, ..own }.alive());
    }

    #[test]
    fn a_process_has_started_before_now_and_after_the_one_that_started_it() {
        let mut child =
            std::process::Command::new("cat").stdin(std::process::Stdio::piped()).spawn().unwrap();
        let [own, started] = [std::process::id(), child.id()]
            .map(|pid| Process::with_id(i32::try_from(pid).unwrap()).unwrap().started());
        child.kill().unwrap();
        child.wait().unwrap();
        let tick = Duration::from_millis(20);
        assert!(own <= started + tick && started <= clock::wall(), "{own:?} {started:?}");
        assert!(clock::wall().duration_since(own).unwrap() < Duration::from_hours(1), "{own:?}");
    }

    #[test]
    fn one_that_ended_is_not_alive_though_nobody_has_reaped_it() {
        let mut child =
            std::process::Command::new("cat").stdin(std::process::Stdio::piped()).spawn().unwrap();
        let process = Process::with_id(i32::try_from(child.id()).unwrap()).unwrap();
        process.signal(Signal::KILL);
        crate::until("the process to end", std::time::Duration::from_secs(10), || {
            Ok(if process.alive() { Err("alive".to_owned()) } else { Ok(()) })
        })
        .unwrap();
        child.wait().unwrap();
    }
}
