//! What a sidecar tells the operator of its widget. The operator hears nothing that is longer than [`kontrol_core::limits::SIGNALS`].

use kontrol_core::limits::BREAKERS;
use kontrol_proto::v1;

use crate::{clock, health::Health, peers::Peers, shared::Shared, wrapped::Wrapped};

/// The signals at this moment.
pub(super) fn of(shared: &Shared, health: &Health, peers: &Peers, shim: &Wrapped) -> v1::Signals {
    let (seen, wrapped, stats) = (health.seen(), shim.seen(), &shared.stats);
    let in_flight = stats.calls_in_flight.get() + stats.deliveries_in_flight.get();
    let breakers = peers.targets(&shared.config()).into_iter().flat_map(|target| target.endpoints);
    let opened = breakers.filter(|endpoint| endpoint.breaker != "closed").take(BREAKERS);
    v1::Signals {
        incarnation: *shared.incarnation().borrow(),
        health: seen.health.into(),
        hung: seen.hung,
        message: seen.message,
        in_flight: u32::try_from(in_flight).unwrap_or(u32::MAX),
        load: seen.load,
        breakers: opened.collect(),
        at_micros: clock::unix_micros(),
        calls_total: stats.calls_in.get(),
        messages_total: stats.delivered.get(),
        restarts: wrapped.restarts,
        last_end: wrapped.last_end,
        widget_pid: wrapped.pid,
        purse: wrapped.purse,
    }
}

#[cfg(test)]
mod tests {
    use kontrol_core::limits::{REPORT_MESSAGE, REPORT_NAME, REPORT_NAMES, SIGNALS};
    use prost::Message;

    use super::*;

    #[test]
    fn the_most_that_a_sidecar_says_is_within_what_the_operator_hears() {
        let long = "\u{10ffff}";
        let name = |at: usize| format!("{at:02}{}", long.repeat(REPORT_NAME - 2));
        let part = "n".repeat(63);
        let breaker = v1::EndpointState {
            instance: format!("{part}/{part}/{part}/{}", u32::MAX),
            address: format!("[{}]:65535", "ffff:".repeat(8)),
            breaker: "half-open".to_owned(),
            reason: format!("{0} of {0} calls failed within {0}ms", u64::MAX),
            in_flight: u32::MAX,
            ready: true,
        };
        let signals = v1::Signals {
            incarnation: u64::MAX,
            health: v1::Health::Failed.into(),
            hung: true,
            message: long.repeat(REPORT_MESSAGE),
            in_flight: u32::MAX,
            load: (0..REPORT_NAMES).map(|at| (name(at), f64::MAX)).collect(),
            breakers: vec![breaker; BREAKERS],
            at_micros: -1,
            calls_total: u64::MAX,
            messages_total: u64::MAX,
            restarts: u64::MAX,
            last_end: Some(v1::WidgetEnd {
                at_micros: -1,
                denied: "revoked".to_owned(),
                ..Default::default()
            }),
            widget_pid: u32::MAX,
            purse: Some(v1::Purse { epoch: u64::MAX, spent: u64::MAX, open: true }),
        };
        assert!(signals.encoded_len() < SIGNALS / 2, "{}", signals.encoded_len());
    }
}
