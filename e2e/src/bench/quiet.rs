//! How much of the machine others took while something was measured.

use std::fs;

use anyhow::Context as _;

/// The machine's CPU time and ours, at one moment, in ticks.
#[derive(Clone, Copy, Debug)]
struct Ticks {
    all: u64,
    busy: u64,
    ours: u64,
}

/// Counts from its beginning on.
#[derive(Debug)]
pub(super) struct Busy(Ticks);

impl Busy {
    pub(super) fn begin() -> anyhow::Result<Self> {
        Ok(Self(Ticks::now()?))
    }

    /// A remark for a row's note: `others took 12 % of the machine`.
    pub(super) fn end(self) -> anyhow::Result<String> {
        let now = Ticks::now()?;
        let all = now.all.saturating_sub(self.0.all).max(1);
        let busy = now.busy.saturating_sub(self.0.busy);
        let others = busy.saturating_sub(now.ours.saturating_sub(self.0.ours));
        Ok(format!("others took {} % of the machine", others * 100 / all))
    }
}

impl Ticks {
    fn now() -> anyhow::Result<Self> {
        let stat = fs::read_to_string("/proc/stat")?;
        let line = stat.lines().next().context("/proc/stat is empty")?;
        let times: Vec<u64> =
            line.split_whitespace().skip(1).filter_map(|field| field.parse().ok()).collect();
        let all = times.iter().take(8).sum();
        let idle: u64 = times.iter().skip(3).take(2).sum();
        Ok(Self { all, busy: all - idle, ours: ours() })
    }
}

/// What this process, everything below it and everything below that has used, with the children that were waited for.
fn ours() -> u64 {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    let stats: Vec<(u32, u32, u64)> = entries
        .filter_map(|entry| {
            let pid = entry.file_name().to_str()?.parse().ok()?;
            let line = fs::read_to_string(entry.path().join("stat")).ok()?;
            let fields: Vec<_> = line.get(line.rfind(')')? + 1..)?.split_whitespace().collect();
            let times = fields.get(11..15)?.iter().filter_map(|field| field.parse::<u64>().ok()).sum();
            Some((pid, fields.get(1)?.parse().ok()?, times))
        })
        .collect();
    let mut family = vec![std::process::id()];
    let mut at = 0;
    while let Some(&parent) = family.get(at) {
        family.extend(stats.iter().filter(|(_, other, _)| *other == parent).map(|(pid, _, _)| *pid));
        at += 1;
    }
    stats.iter().filter(|(pid, _, _)| family.contains(pid)).map(|(_, _, times)| times).sum()
}
