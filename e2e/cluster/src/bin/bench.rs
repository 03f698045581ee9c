//! `kontrol-cluster-bench`: what Kontrol costs on the cluster that is up. See `docs/cluster.md`.

use std::{io::Write as _, path::PathBuf};

use anyhow::Context as _;
use clap::Parser;
use kontrol_e2e_cluster::bench::{ALL, Row, run};

/// Measures Kontrol on a real cluster, beside the kubelet alone.
#[derive(Parser)]
#[command(name = "kontrol-cluster-bench", version)]
struct Arguments {
    /// What is measured: all, or some of what `--list` shows
    names: Vec<String>,
    /// Rounds: a bar that asks for more takes a multiple of it
    #[arg(short, default_value_t = 20)]
    n: usize,
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
    let rows = run(&arguments.names, arguments.n, &mut say).await?;
    if let Some(path) = &arguments.out {
        std::fs::write(path, serde_json::to_vec_pretty(&rows)?)
            .with_context(|| path.display().to_string())?;
    }
    writeln!(out, "| what | p50 | p99 | highest | n |\n| --- | --- | --- | --- | --- |")?;
    for Row { name, n, p50, p99, highest } in &rows {
        writeln!(out, "| {name} | {p50:.0} ms | {p99:.0} ms | {highest:.0} ms | {n} |")?;
    }
    Ok(())
}
