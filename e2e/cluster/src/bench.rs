//! What Kontrol costs on a cluster, beside what the kubelet costs by itself in the same run.

mod busy;
mod install;
mod leader;
mod nodes;
mod pods;
mod row;
mod scaling;
mod seen;
mod shim;

pub use self::row::{Row, Seen};

use crate::{Result, lab::Lab};

/// Names of what can be measured, in the order in which it is.
pub const ALL: [&str; 11] = [
    "install",
    "apply_to_pod",
    "pod_overhead",
    "restart.container",
    "restart.pod",
    "restart.shim",
    "scale.signal_to_pod",
    "one_for_all",
    "failover",
    "node_loss",
    "false_alarms",
];

/// How long it is measured.
#[derive(Clone, Copy, Debug)]
pub struct Effort {
    /// Rounds; `apply_to_pod` takes ten times as many, and what breaks a node, the operator or the whole installation a quarter.
    pub rounds: usize,
    /// For how long false alarms are waited for.
    pub minutes: u64,
    /// Threads that keep the machine busy meanwhile.
    pub busy: usize,
}

/// Measures what is named; all, where nothing is.
pub async fn run(only: &[String], effort: Effort, say: &mut dyn FnMut(&str)) -> Result<Vec<Row>> {
    let mut rows = Vec::new();
    let n = effort.rounds;
    let few = n.div_ceil(4);
    for name in ALL.iter().filter(|name| only.is_empty() || only.iter().any(|only| only == *name)) {
        let lab = Lab::with_kontrol("bench").await?;
        lab.until_operators().await?;
        let measured = match *name {
            "install" => install::first_widget(&lab, few).await?,
            "apply_to_pod" => pods::apply_to_pod(&lab, n * 10).await?,
            "pod_overhead" => pods::pod_overhead(&lab, n).await?,
            "restart.container" => pods::restart_container(&lab, n).await?,
            "restart.pod" => pods::restart_pod(&lab, n).await?,
            "restart.shim" => shim::restart(&lab, n).await?,
            "scale.signal_to_pod" => scaling::signal_to_pod(&lab, n).await?,
            "one_for_all" => leader::one_for_all(&lab, n, say).await?,
            "failover" => leader::failover(&lab, few).await?,
            "node_loss" => nodes::loss(&lab, few).await?,
            _ => nodes::false_alarms(&lab, effort.minutes, effort.busy, say).await?,
        };
        for row in measured {
            say(&row.line());
            rows.push(row);
        }
    }
    Ok(rows)
}
