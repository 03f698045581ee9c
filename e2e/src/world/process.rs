//! Processes, by their numbers.

use std::{fs, time::Duration};

use anyhow::Context as _;
pub use rustix::process::Signal;
use rustix::process::{Pid, kill_process};

fn fields(pid: u32) -> Option<Vec<String>> {
    let line = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name may hold blanks and parentheses; what follows the last one is numbers.
    let rest = line.get(line.rfind(')')? + 1..)?;
    Some(rest.split_whitespace().map(str::to_owned).collect())
}

/// Whether a process runs: it exists and is no zombie.
pub fn alive(pid: u32) -> bool {
    fields(pid).and_then(|fields| fields.into_iter().next()).is_some_and(|state| state != "Z" && state != "X")
}

/// Sends a signal to one process.
pub fn signal(pid: u32, signal: Signal) -> anyhow::Result<()> {
    let raw = i32::try_from(pid).ok().and_then(Pid::from_raw).context("no process has this number")?;
    kill_process(raw, signal).with_context(|| format!("sending {signal:?} to {pid}"))
}

/// The processes whose parent is `pid`.
pub fn children(pid: u32) -> Vec<u32> {
    let parent = pid.to_string();
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    pids.filter(|pid| fields(*pid).is_some_and(|fields| fields.get(1) == Some(&parent))).collect()
}

/// CPU time that a process has used, user and system; its grain is the kernel's tick of 10 ms.
pub fn cpu(pid: u32) -> anyhow::Result<Duration> {
    let fields = fields(pid).with_context(|| format!("process {pid} is gone"))?;
    let ticks = |at: usize| fields.get(at).and_then(|field| field.parse::<u64>().ok()).unwrap_or_default();
    Ok(Duration::from_millis((ticks(11) + ticks(12)) * 1000 / rustix::param::clock_ticks_per_second()))
}

/// Memory of a process that is resident (`VmRSS`), in MiB.
pub fn resident(pid: u32) -> anyhow::Result<f64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("no VmRSS")?;
    let kib: u32 = line.trim().trim_end_matches("kB").trim().parse()?;
    Ok(f64::from(kib) / 1024.0)
}
