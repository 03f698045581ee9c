//! `kontrol-scale`: what the operator costs beside thousands of widgets. See `docs/performance.md`.

mod cpu;
mod figures;
mod fill;
mod sessions;

use std::{io::Write as _, path::PathBuf};

use anyhow::Context as _;
use clap::Parser;
use kontrol_e2e_cluster::lab::Lab;

use figures::Row;

/// Fills the cluster that is up with widgets on fake nodes, and measures the operator at each size.
///
/// The cluster must have fake nodes: `kontrol-cluster up --kwok 20`. One widget in ten has a control session of its own with a certificate
/// that the operator has issued for its pod; beside each widget there are two pods that are not Kontrol's.
#[derive(Debug, Parser)]
#[command(name = "kontrol-scale", version)]
struct Arguments {
    /// How many widgets there are at each measurement, rising
    #[arg(long, value_delimiter = ',', default_values_t = [1_000, 3_000, 10_000])]
    sizes: Vec<usize>,
    /// One control session for so many widgets
    #[arg(long, default_value_t = 10)]
    widgets_per_session: usize,
    /// So many foreign pods for each widget
    #[arg(long, default_value_t = 2)]
    foreign: usize,
    /// Seconds for which writes are counted
    #[arg(long, default_value_t = 60)]
    steady: u64,
    /// Where the figures are written as JSON
    #[arg(long)]
    out: Option<PathBuf>,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> anyhow::Result<()> {
    let arguments = Arguments::parse();
    anyhow::ensure!(arguments.sizes.is_sorted(), "the sizes must rise: {:?}", arguments.sizes);
    anyhow::ensure!(arguments.widgets_per_session > 0, "--widgets-per-session must be at least 1");
    let say = |line: &str| drop(writeln!(std::io::stderr(), "==> {line}"));
    let lab = Lab::with_kontrol("scale").await?;
    lab.until_operators().await?;
    let nodes = fill::fake_nodes(&lab).await?;
    let mut sessions = sessions::Sessions::new(&lab).await?;
    let (mut rows, mut before) = (Vec::new(), 0);
    for size in arguments.sizes {
        say(&format!("{} foreign pods", size * arguments.foreign));
        fill::foreign(&lab, &nodes, before * arguments.foreign..size * arguments.foreign).await?;
        say(&format!("{size} widgets"));
        let filled = Box::pin(fill::widgets(&lab, before..size, &say)).await?;
        let wanted = size / arguments.widgets_per_session;
        say(&format!("{wanted} control sessions"));
        sessions.open(&lab, wanted).await?;
        let row = figures::measure(&lab, size, wanted, arguments.steady, filled, &say).await?;
        say(&row.to_string());
        rows.push(row);
        before = size;
    }
    if let Some(path) = &arguments.out {
        std::fs::write(path, serde_json::to_vec_pretty(&rows)?)
            .with_context(|| path.display().to_string())?;
    }
    writeln!(std::io::stdout(), "{}", Row::table(&rows))?;
    Ok(())
}
