//! `kontrol-cluster-bench`: what Kontrol costs on the cluster that is up. See `docs/cluster.md`.

use std::{io::Write as _, path::PathBuf};

use anyhow::Context as _;
use clap::Parser;
use kontrol_e2e_cluster::bench::{ALL, Effort, Row, run};

/// Measures Kontrol on a real cluster, beside the kubelet alone.
#[derive(Parser)]
#[command(name = "kontrol-cluster-bench", version)]
struct Arguments {
    /// What is measured: all, or some of what `--list` shows
    names: Vec<String>,
    /// Rounds: `apply_to_pod` takes ten times as many; `install`, `failover` and `node_loss` a quarter
    #[arg(short, default_value_t = 20)]
    n: usize,
    /// For how long `false_alarms` waits for some
    #[arg(long, default_value_t = 30)]
    minutes: u64,
    /// Threads by which `false_alarms` keeps the machine busy
    #[arg(long, default_value_t = 2 * std::thread::available_parallelism().map_or(2, usize::from))]
    busy: usize,
    /// Where the figures are written as JSON
    #[arg(long)]
    out: Option<PathBuf>,
    /// Print what can be measured
    #[arg(long)]
    list: bool,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> anyhow::Result<()> {
    let arguments = Arguments::parse();
    let mut out = std::io::stdout();
    if arguments.list {
        writeln!(out, "{}", ALL.join("\n"))?;
        return Ok(());
    }
    if let Some(name) = arguments.names.iter().find(|name| !ALL.contains(&name.as_str())) {
        anyhow::bail!("nothing is called {name}; there are: {}", ALL.join(", "));
    }
    let mut say = |line: &str| drop(writeln!(std::io::stderr(), "==> {line}"));
    let effort = Effort { rounds: arguments.n, minutes: arguments.minutes, busy: arguments.busy };
    let rows = run(&arguments.names, effort, &mut say).await?;
    if let Some(path) = &arguments.out {
        std::fs::write(path, serde_json::to_vec_pretty(&rows)?)
            .with_context(|| path.display().to_string())?;
    }
    writeln!(out, "{}", Row::table(&rows))?;
    Ok(())
}
