//! Many seeds, on all cores.

use std::{
    ops::Range,
    sync::atomic::{AtomicU64, Ordering},
    thread,
};

use anyhow::{Result, anyhow};

use crate::{Mutant, Totals, Violation, run};

/// What a sweep found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Summary {
    /// Histories run.
    pub seeds: u64,
    /// All of them together.
    pub totals: Totals,
    /// The seeds that broke a rule, in order.
    pub violations: Vec<(u64, Violation)>,
}

impl Summary {
    fn add(&mut self, other: Self) {
        self.seeds += other.seeds;
        let (ours, theirs) = (&mut self.totals, other.totals);
        ours.plans += theirs.plans;
        ours.writes += theirs.writes;
        ours.conflicts += theirs.conflicts;
        ours.replaced += theirs.replaced;
        ours.disturbed += theirs.disturbed;
        ours.faults += theirs.faults;
        ours.restarts += theirs.restarts;
        self.violations.extend(other.violations);
    }
}

/// Runs the histories of these seeds; after `enough` violations no further ones are begun.
pub fn sweep(seeds: Range<u64>, mutant: Option<Mutant>, enough: usize) -> Result<Summary> {
    let next = AtomicU64::new(seeds.start);
    let found = AtomicU64::new(0);
    let work = || -> Result<Summary> {
        let mut summary = Summary::default();
        while found.load(Ordering::Relaxed) < enough as u64 {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed >= seeds.end {
                break;
            }
            let outcome = run(seed, mutant, false)?;
            let violations = outcome.violation.map(|violation| (seed, violation));
            found.fetch_add(u64::from(violations.is_some()), Ordering::Relaxed);
            let violations = violations.into_iter().collect();
            summary.add(Summary { seeds: 1, totals: outcome.totals, violations });
        }
        Ok(summary)
    };
    let cores = thread::available_parallelism().map_or(1, usize::from);
    let mut summary = Summary::default();
    thread::scope(|scope| -> Result<()> {
        let workers: Vec<_> = (0..cores).map(|_| scope.spawn(work)).collect();
        for worker in workers {
            summary.add(worker.join().map_err(|_| anyhow!("a history panicked"))??);
        }
        Ok(())
    })?;
    summary.violations.sort_by_key(|(seed, _)| *seed);
    Ok(summary)
}
