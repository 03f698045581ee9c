//! What each row must show.

use super::results::{Reference, Row};

/// The bar of a row and whether it is met; none for rows that only explain another one.
pub(super) fn bar(row: &Row) -> Option<(&'static str, bool)> {
    let reference =
        |met: fn(&Row, &Reference) -> bool| row.reference.as_ref().is_some_and(|other| met(row, other));
    let times = |least: f64| row.ratio.is_some_and(|ratio| ratio >= least);
    Some(match row.name.as_str() {
        "restart.process" => ("p99 ≤ 50 ms", row.p99 <= 50.0),
        "restart.one_for_all_20" | "signal.to_decision" => ("p99 ≤ 500 ms", row.p99 <= 500.0),
        "plan.group_100" => ("p99 ≤ 0.05 ms", row.p99 <= 0.05),
        "hub.crash" => ("max = 0 of ≥ 100", row.n >= 100 && row.max == 0.0),
        "hub.publish_1" => ("p50 ≤ D50 + 0.2 ms", reference(|row, bare| row.p50 <= bare.p50 + 0.2)),
        "hub.publish_1_grpc" => ("p50 ≤ D50 + 0.4 ms", reference(|row, bare| row.p50 <= bare.p50 + 0.4)),
        "hub.publish_256" => ("ratio ≥ 80", times(80.0)),
        "hub.publish_256_grpc" => ("ratio ≥ 10", times(10.0)),
        "call.added" => {
            let met =
                |row: &Row, direct: &Reference| row.p50 <= 2.0 * direct.p50 && row.p99 <= 3.0 * direct.p99;
            ("p50 ≤ 2 ×, p99 ≤ 3 × direct", reference(met))
        }
        "sidecar.rss_idle" | "hub.rss_idle" => ("max ≤ 12 MiB", row.max <= 12.0),
        _ => return None,
    })
}
