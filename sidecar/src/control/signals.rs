//! What a sidecar tells the operator of its widget.

use kontrol_proto::v1;

use crate::{clock, health::Health, peers::Peers, shared::Shared, wrapped::Wrapped};

/// The signals at this moment.
pub(super) fn of(shared: &Shared, health: &Health, peers: &Peers, shim: &Wrapped) -> v1::Signals {
    let (seen, wrapped, stats) = (health.seen(), shim.seen(), &shared.stats);
    let in_flight = stats.calls_in_flight.get() + stats.deliveries_in_flight.get();
    let breakers = peers.targets().into_iter().flat_map(|target| target.endpoints);
    v1::Signals {
        incarnation: *shared.incarnation().borrow(),
        health: seen.health.into(),
        hung: seen.hung,
        message: seen.message,
        in_flight: u32::try_from(in_flight).unwrap_or(u32::MAX),
        load: seen.load,
        breakers: breakers.filter(|endpoint| endpoint.breaker != "closed").collect(),
        at_micros: clock::unix_micros(),
        calls_total: stats.calls_in.get(),
        messages_total: stats.delivered.get(),
        restarts: wrapped.restarts,
        last_end: wrapped.last_end,
        widget_pid: wrapped.pid,
        purse: wrapped.purse,
    }
}
