//! `kontrol-bench`: what `make bench` runs.

use std::path::PathBuf;

use clap::Parser;

/// Measures Kontrol and writes a list of results.
///
/// Each figure is taken from the real programs (next to this one, or in `KONTROL_BIN_DIR`), its reference in the same run, interleaved.
/// Run it when nothing else does.
#[derive(Debug, Parser)]
#[command(version)]
struct Args {
    /// Where the results go; rows that were not measured now stay as they are.
    #[arg(long, default_value = "target/bench/results.json")]
    out: PathBuf,
    /// Only the benchmarks whose names start with this, such as `hub.`.
    #[arg(long)]
    only: Option<String>,
}

fn main() -> anyhow::Result<()> {
    let args = Args::parse();
    kontrol_e2e::bench::run(args.only.as_deref(), &args.out)
}
