//! Replays one seed with its trace, or sweeps many.

use std::{
    collections::BTreeMap,
    io::{self, Write},
    ops::Range,
    process::ExitCode,
};

use anyhow::Result;
use clap::Parser;
use kontrol_sim::{Mutant, Rule, run, sweep};

/// Violations of one rule that are shown.
const EXAMPLES: usize = 5;

/// A simulated world that tries Kontrol's decisions under every kind of failure.
#[derive(Parser)]
struct Arguments {
    /// Replays the history of this seed and prints what happened.
    #[arg(long, conflicts_with = "seeds")]
    seed: Option<u64>,
    /// Sweeps these seeds, such as 0..10000 (the default).
    #[arg(long, value_parser = range)]
    seeds: Option<Range<u64>>,
    /// Gives the decider a mistake: acts-before-writing, ignores-version, counts-twice, begins-two-epochs, restarts-twice, never-writes,
    /// reverses-order, starts-all-at-once, stops-all-at-once, counts-in-place-twice, forgets-restarts-in-place, ignores-identity,
    /// counts-outside, rolls-all-at-once.
    #[arg(long, value_parser = mutant)]
    mutant: Option<Mutant>,
}

fn main() -> Result<ExitCode> {
    let arguments = Arguments::parse();
    let mut out = io::stdout().lock();
    let broken = if let Some(seed) = arguments.seed {
        let outcome = run(seed, arguments.mutant, true)?;
        out.write_all(outcome.trace.as_bytes())?;
        writeln!(out, "{:?}", outcome.totals)?;
        outcome.violation.is_some()
    } else {
        let summary = sweep(arguments.seeds.unwrap_or(0..10_000), arguments.mutant, usize::MAX)?;
        let mut rules: BTreeMap<Rule, usize> = BTreeMap::new();
        for (seed, violation) in &summary.violations {
            let seen = rules.entry(violation.rule).or_default();
            *seen += 1;
            if *seen <= EXAMPLES {
                writeln!(out, "seed {seed}: {violation}")?;
            }
        }
        for (rule, times) in rules {
            writeln!(out, "{rule:?}: {times}")?;
        }
        writeln!(
            out,
            "{} seeds, {} violations, {:?}",
            summary.seeds,
            summary.violations.len(),
            summary.totals
        )?;
        !summary.violations.is_empty()
    };
    Ok(if broken { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

fn range(text: &str) -> Result<Range<u64>, String> {
    let (from, to) = text.split_once("..").ok_or("write two numbers with .. between them")?;
    let number = |text: &str| text.parse::<u64>().map_err(|error| error.to_string());
    Ok(number(from)?..number(to)?)
}

fn mutant(text: &str) -> Result<Mutant, String> {
    let wanted = text.replace('-', "");
    let mut all = Mutant::ALL.into_iter();
    all.find(|mutant| format!("{mutant:?}").eq_ignore_ascii_case(&wanted))
        .ok_or_else(|| "no such mistake".to_owned())
}
