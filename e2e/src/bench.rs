//! The benchmarks of `make bench`: each names what it measures, takes its reference in the same run, interleaved, and notes how.

mod bars;
mod call;
mod crash;
mod disk;
mod door;
mod hub;
mod machine;
mod memory;
mod plan;
mod quiet;
mod restart;
mod results;
mod signal;
mod stats;

use std::path::Path;

use anyhow::Context as _;
pub use crash::{Survived, survive};
pub use results::{Reference, Results, Row};
use tokio::runtime::{Builder, Runtime};

/// A benchmark: the names of its rows, and what makes them.
type Bench = (&'static [&'static str], fn() -> anyhow::Result<Vec<Row>>);

const BENCHES: &[Bench] = &[
    (&["plan.group_100"], plan::group_100),
    (&["hub.publish_1", "hub.publish_256"], hub::publish),
    (&["hub.publish_1_grpc", "hub.publish_256_grpc"], door::publish),
    (&["hub.crash"], crash::crash),
    (&["call.added", "call.path"], call::added),
    (&["restart.process"], restart::process),
    (&["restart.one_for_all_20"], restart::one_for_all),
    (&["signal.to_decision"], signal::to_decision),
    (&["sidecar.rss_idle", "hub.rss_idle"], memory::idle),
];

/// Runs the benchmarks with a row whose name starts with `only` (all without it), prints their table and merges their rows into `out`.
pub fn run(only: Option<&str>, out: &Path) -> anyhow::Result<()> {
    let mut results = Results::read(out)?;
    let mut fresh = Vec::new();
    let wanted = |names: &[&str]| only.is_none_or(|only| names.iter().any(|name| name.starts_with(only)));
    let chosen: Vec<&Bench> = BENCHES.iter().filter(|(names, _)| wanted(names)).collect();
    for (at, (names, bench)) in chosen.iter().enumerate() {
        eprintln!("==> {} of {}: {}", at + 1, chosen.len(), names.join(", "));
        let rows = bench().with_context(|| format!("the benchmark of {}", names.join(", ")))?;
        for row in rows {
            results.merge(row.clone());
            fresh.push(row);
        }
        results.write(out)?;
    }
    let names = || BENCHES.iter().flat_map(|(names, _)| *names).copied().collect::<Vec<_>>().join(", ");
    anyhow::ensure!(
        !fresh.is_empty(),
        "no row's name starts with {:?}; there are {}",
        only.unwrap_or_default(),
        names()
    );
    eprintln!("{}", results::table(&fresh));
    eprintln!("written to {}", out.display());
    Ok(())
}

/// What drives a benchmark from outside: one thread, so that it takes as little as it can from what it measures.
fn runtime() -> anyhow::Result<Runtime> {
    Ok(Builder::new_current_thread().enable_all().build()?)
}
