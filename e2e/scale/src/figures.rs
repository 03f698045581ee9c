//! What the operator says of itself, read from its own metrics.

use std::{fmt, time::Duration};

use anyhow::Context as _;
use k8s_openapi::api::core::v1::Pod;
use kontrol_e2e_cluster::lab::{
    Lab,
    kontrol::{SYSTEM, name_of},
    operator::{leader, operators},
    web::{address, ask},
};
use kontrol_sidecar::clock;
use kube::{Api, api::DeleteParams};
use serde::Serialize;
use tokio::time::{Instant, sleep};

use crate::cpu;

/// The operator's port for people and Prometheus.
const ADMIN: u16 = 7401;
/// How long the operator may go on writing after all widgets run.
const SETTLES: Duration = Duration::from_mins(3);

/// After this time without a restart a revision is called good, which is the last that is written of a start: the period of the intensity, and some.
const PROVEN: Duration = Duration::from_secs(45);

/// What one size showed.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Row {
    pub(crate) widgets: usize,
    pub(crate) sessions: usize,
    /// From the first request to the last widget that runs.
    pub(crate) filled_seconds: f64,
    /// The leader's resident memory when steady.
    pub(crate) leader_mib: f64,
    /// That of a replica that has just started and knows all.
    pub(crate) fresh_mib: f64,
    /// The leader's writes to the API server in a steady minute, without the Lease.
    pub(crate) writes_per_minute: f64,
    /// The leader's processor time in that minute, as part of one core.
    pub(crate) cores: f64,
    /// From a process's start until it knows all that it watches.
    pub(crate) cold_sync_seconds: f64,
}

impl fmt::Display for Row {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} widgets, {} sessions: filled in {:.0} s; leader {:.1} MiB, fresh replica {:.1} MiB; {:.1} writes a minute; {:.3} cores; cold sync {:.1} s",
            self.widgets,
            self.sessions,
            self.filled_seconds,
            self.leader_mib,
            self.fresh_mib,
            self.writes_per_minute,
            self.cores,
            self.cold_sync_seconds
        )
    }
}

impl Row {
    /// A table of rows.
    pub(crate) fn table(rows: &[Self]) -> String {
        let lines = rows.iter().map(|row| {
            format!(
                "| {} | {} | {:.1} MiB | {:.1} MiB | {:.1} | {:.3} | {:.1} s | {:.0} s |",
                row.widgets,
                row.sessions,
                row.leader_mib,
                row.fresh_mib,
                row.writes_per_minute,
                row.cores,
                row.cold_sync_seconds,
                row.filled_seconds
            )
        });
        let head = [
            "| widgets | sessions | leader | fresh replica | writes a minute | cores | cold sync | filled in |".to_owned(),
            "| --- | --- | --- | --- | --- | --- | --- | --- |".to_owned(),
        ];
        head.into_iter().chain(lines).collect::<Vec<_>>().join("\n")
    }
}

/// The metrics of an operator.
pub(crate) async fn scrape(pod: &Pod) -> anyhow::Result<String> {
    let (status, body) = ask(&address(pod, ADMIN), "/metrics").await?;
    anyhow::ensure!(status == Some(200), "{} answers {status:?}", name_of(pod));
    Ok(body)
}

/// The sum of a metric's series whose labels are wanted; 0 where there is none.
pub(crate) fn sum(text: &str, name: &str, wanted: impl Fn(&str) -> bool) -> f64 {
    let series = text.lines().filter_map(|line| {
        let rest = line.strip_prefix(name)?;
        let (labels, value) = rest.rsplit_once(' ')?;
        let whole = labels.is_empty() || labels.starts_with('{');
        (whole && wanted(labels)).then(|| value.parse::<f64>().ok()).flatten()
    });
    series.sum()
}

/// Writes other than to the Lease.
fn writes(text: &str) -> f64 {
    sum(text, "kontrol_operator_api_requests_total", |labels| {
        let reads = ["get", "list", "watch"].map(|verb| format!("verb=\"{verb}\""));
        !labels.contains("kind=\"Lease\"") && reads.iter().all(|read| !labels.contains(read.as_str()))
    })
}

fn mebibytes(text: &str) -> f64 {
    sum(text, "process_resident_memory_bytes", |_| true) / f64::from(1 << 20)
}

/// Measures the operator as it is now.
pub(crate) async fn measure(
    lab: &Lab,
    widgets: usize,
    sessions: usize,
    steady: u64,
    filled: Duration,
    say: &dyn Fn(&str),
) -> anyhow::Result<Row> {
    say("waiting until nothing more is written");
    let began = Instant::now();
    let lead = leader(lab.client()).await?.context("nobody leads")?;
    let (mut last, mut quiet) = (writes(&scrape(&lead).await?), Instant::now());
    while quiet.elapsed() < PROVEN && began.elapsed() < SETTLES {
        sleep(Duration::from_secs(5)).await;
        let now = writes(&scrape(&lead).await?);
        if now > last {
            (last, quiet) = (now, Instant::now());
        }
    }
    say(&format!("counting for {steady} s"));
    let (before, process) = (scrape(&lead).await?, cpu::process_of(&lead)?);
    let (from, busy) = (Instant::now(), cpu::time_of(process)?);
    sleep(Duration::from_secs(steady)).await;
    let after = scrape(&lead).await?;
    let busy = cpu::time_of(process)?.saturating_sub(busy).as_secs_f64();
    let seconds = from.elapsed().as_secs_f64();
    let (cold_sync_seconds, fresh_mib) = cold(lab).await?;
    Ok(Row {
        widgets,
        sessions,
        filled_seconds: filled.as_secs_f64(),
        leader_mib: mebibytes(&after),
        fresh_mib,
        writes_per_minute: (writes(&after) - writes(&before)) / seconds * 60.0,
        cores: busy / seconds,
        cold_sync_seconds,
    })
}

/// Has the replica that does not lead begin anew: the time from its start until it is ready, and its memory then.
async fn cold(lab: &Lab) -> anyhow::Result<(f64, f64)> {
    let lead = leader(lab.client()).await?.context("nobody leads")?;
    let before: Vec<String> = operators(lab.client()).await?.iter().map(name_of).collect();
    let other = before.iter().find(|name| **name != name_of(&lead)).context("there is one replica only")?;
    let pods = Api::<Pod>::namespaced(lab.client().clone(), SYSTEM);
    pods.delete(other, &DeleteParams::default().grace_period(1)).await?;
    let fresh = lab
        .wait("the fresh replica to know all", async || {
            let fresh =
                operators(lab.client()).await?.into_iter().find(|pod| !before.contains(&name_of(pod)));
            let Some(pod) = fresh else { return Ok(Err("it is not there".to_owned())) };
            Ok(match ask(&address(&pod, ADMIN), "/readyz").await {
                Ok((Some(200), _)) => Ok(pod),
                Ok((_, body)) => Err(body),
                Err(error) => Err(error.to_string()),
            })
        })
        .await?;
    let now = clock::unix_micros() as f64 / 1e6;
    let text = scrape(&fresh).await?;
    let took = now - sum(&text, "process_start_time_seconds", |_| true);
    lab.until_operators().await?;
    Ok((took, mebibytes(&text)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sum_takes_the_series_of_that_metric_alone() {
        let text = "# TYPE a counter\na 1\na{x=\"1\"} 2\na{x=\"2\"} 4\na_b 8\n";
        assert!((sum(text, "a", |_| true) - 7.0).abs() < f64::EPSILON);
        assert!((sum(text, "a", |labels| labels.contains("x=\"2\"")) - 4.0).abs() < f64::EPSILON);
        assert!(sum(text, "b", |_| true).abs() < f64::EPSILON);
    }

    #[test]
    fn the_lease_and_reads_are_no_writes() {
        let text = "kontrol_operator_api_requests_total{code=\"done\",kind=\"Lease\",verb=\"replace\"} 9\n\
                    kontrol_operator_api_requests_total{code=\"done\",kind=\"Pod\",verb=\"get\"} 5\n\
                    kontrol_operator_api_requests_total{code=\"done\",kind=\"Pod\",verb=\"create\"} 3\n";
        assert!((writes(text) - 3.0).abs() < f64::EPSILON);
    }
}
