//! The benchmarks of `make bench`: each names what it measures, takes its reference in the same run, interleaved, and notes how.

mod disk;
mod hub;
mod plan;
mod results;
mod stats;

use std::path::Path;

use anyhow::Context as _;
pub use results::{Reference, Results, Row};

/// A benchmark: the prefix of its rows' names, and what makes them.
type Bench = (&'static str, fn() -> anyhow::Result<Vec<Row>>);

const BENCHES: &[Bench] = &[("plan.group_100", plan::group_100), ("hub.publish", hub::publish)];

/// Runs the benchmarks whose name starts with `only` (all without it), prints their table and merges their rows into `out`.
pub fn run(only: Option<&str>, out: &Path) -> anyhow::Result<()> {
    let mut results = Results::read(out)?;
    let mut fresh = Vec::new();
    for (name, bench) in BENCHES
        .iter()
        .filter(|(name, _)| only.is_none_or(|only| name.starts_with(only) || only.starts_with(name)))
    {
        eprintln!("==> {name}");
        let rows = bench().with_context(|| format!("the benchmark {name}"))?;
        for row in rows {
            results.merge(row.clone());
            fresh.push(row);
        }
        results.write(out)?;
    }
    anyhow::ensure!(
        !fresh.is_empty(),
        "no benchmark starts with {:?}; there are {}",
        only.unwrap_or_default(),
        BENCHES.iter().map(|(name, _)| *name).collect::<Vec<_>>().join(", ")
    );
    eprintln!("{}", results::table(&fresh));
    eprintln!("written to {}", out.display());
    Ok(())
}
