//! The page of a sidecar.

use std::collections::BTreeMap;

use kontrol_proto::v1;

use super::{
    named::{Labels, OTHER},
    page::Page,
};
use crate::service::Service;

/// The states of a breaker, as [`v1::EndpointState`] writes them.
const BREAKER: [&str; 3] = ["closed", "open", "half-open"];

/// What a sidecar counts and sees.
pub fn of_sidecar(service: &Service) -> String {
    let mut page = Page::default();
    let (state, config) = service.state_and_config();
    let named = &config.named;
    page.build();
    messages(&mut page, service);
    deliveries(&mut page, &state.subscriptions, &named.consumes);
    calls(&mut page, service);
    service.timings().write(&mut page, named);
    targets(&mut page, &state.targets, &named.targets);
    connections(&mut page, service, &state);
    widget(&mut page, service, &state);
    page.process();
    page.text()
}

fn messages(page: &mut Page, service: &Service) {
    let stats = service.stats();
    page.counter(
        "kontrol_publish_messages_total",
        "Messages of the widget that are durable.",
        stats.published.get(),
    );
    page.counter(
        "kontrol_publish_duplicates_total",
        "Publishes that found their message stored already.",
        stats.duplicates.get(),
    );
    page.counter(
        "kontrol_route_failures_total",
        "Route expressions that failed on a message and counted as not matching.",
        stats.route_errors.get(),
    );
    page.counter(
        "kontrol_delivery_messages_total",
        "Messages that were delivered to the widget.",
        stats.delivered.get(),
    );
    let outcomes = [("ack", &stats.acked), ("nak", &stats.naked), ("term", &stats.termed)];
    page.counters(
        "kontrol_delivery_settled_total",
        "Deliveries that were settled, by outcome.",
        outcomes.map(|(outcome, count)| (vec![("outcome", outcome)], count.get() as f64)),
    );
}

fn deliveries(page: &mut Page, subscriptions: &[v1::SubscriptionState], named: &Labels) {
    let mut in_flight: BTreeMap<(&str, &str), f64> = BTreeMap::new();
    for v1::SubscriptionState { topic, subscription, in_flight: count, .. } in subscriptions {
        let Some(topic) = named.label(topic) else { continue };
        let subscription = if topic == OTHER { OTHER } else { subscription };
        *in_flight.entry((topic, subscription)).or_default() += f64::from(*count);
    }
    page.gauges(
        "kontrol_delivery_in_flight",
        "Deliveries that are with the widget and not settled.",
        in_flight.into_iter().map(|((topic, subscription), count)| {
            (vec![("topic", topic), ("subscription", subscription)], count)
        }),
    );
}

fn calls(page: &mut Page, service: &Service) {
    let stats = service.stats();
    page.counter("kontrol_call_requests_total", "Calls that the widget made.", stats.calls_out.get());
    page.counter(
        "kontrol_call_retries_total",
        "Attempts of calls after their first.",
        stats.call_retries.get(),
    );
    page.gauge(
        "kontrol_call_in_flight",
        "Calls that the widget made and whose replies have not ended.",
        stats.calls_open.get() as f64,
    );
    page.counter(
        "kontrol_serve_requests_total",
        "Calls that the widget was asked to answer.",
        stats.calls_in.get(),
    );
    page.counter(
        "kontrol_serve_failures_total",
        "Calls that the widget was asked to answer and that were refused or failed.",
        stats.calls_in_errors.get(),
    );
    page.gauge(
        "kontrol_serve_in_flight",
        "Calls that the widget answers now.",
        stats.calls_in_flight.get() as f64,
    );
}

/// What is seen of the targets that share a label.
#[derive(Default)]
struct Seen {
    ready: f64,
    in_flight: f64,
    breakers: [f64; BREAKER.len()],
}

fn targets(page: &mut Page, targets: &[v1::TargetState], named: &Labels) {
    let mut labels: BTreeMap<&str, Seen> = BTreeMap::new();
    for target in targets {
        let Some(label) = named.label(&target.target) else { continue };
        let seen = labels.entry(label).or_default();
        seen.ready += f64::from(target.ready);
        for endpoint in &target.endpoints {
            seen.in_flight += f64::from(endpoint.in_flight);
            for (count, state) in seen.breakers.iter_mut().zip(BREAKER) {
                *count += flag(endpoint.breaker == state);
            }
        }
    }
    page.gauges(
        "kontrol_target_ready_replicas",
        "Replicas of a target that are ready.",
        labels.iter().map(|(label, seen)| (vec![("target", *label)], seen.ready)),
    );
    page.gauges(
        "kontrol_target_in_flight",
        "Calls to a target whose replies have not ended.",
        labels.iter().map(|(label, seen)| (vec![("target", *label)], seen.in_flight)),
    );
    let breakers = labels.iter().flat_map(|(label, seen)| {
        let states = BREAKER.into_iter().zip(seen.breakers);
        states.map(|(state, count)| (vec![("target", *label), ("state", state)], count))
    });
    page.gauges(
        "kontrol_breaker_replicas",
        "Replicas of a target by the state of their circuit breaker.",
        breakers,
    );
}

fn connections(page: &mut Page, service: &Service, state: &v1::StateResponse) {
    let stats = service.stats();
    page.refusals(&stats.foreign_certificates, &stats.fenced, &stats.malformed_frames);
    // Whoever needs no hub has none to miss.
    if service.wants_hub() {
        page.gauge("kontrol_hub_connected", "Whether the hub is connected.", flag(state.hub_connected));
    }
    page.counter(
        "kontrol_hub_connects_total",
        "Connections to the hub that were made.",
        stats.hub_connects.get(),
    );
    page.gauge(
        "kontrol_control_connected",
        "Whether the operator is connected.",
        flag(state.control_connected),
    );
    page.counter(
        "kontrol_control_connects_total",
        "Sessions with the operator that were opened.",
        stats.control_connects.get(),
    );
    page.gauge(
        "kontrol_certificate_expiry_timestamp_seconds",
        "When the certificate ends, in seconds since the Unix epoch; 0: there is none yet.",
        state.certificate_expires as f64,
    );
}

fn widget(page: &mut Page, service: &Service, state: &v1::StateResponse) {
    let states = [
        ("unknown", v1::Health::Unspecified),
        ("ready", v1::Health::Ready),
        ("notReady", v1::Health::NotReady),
        ("failed", v1::Health::Failed),
    ];
    page.gauges(
        "kontrol_widget_health",
        "The widget's health: 1 for the state that it is in.",
        states.map(|(name, health)| (vec![("state", name)], flag(state.health() == health))),
    );
    page.gauge(
        "kontrol_widget_incarnation",
        "The incarnation of the widget; it grows with each replacement.",
        state.incarnation as f64,
    );
    let stats = service.stats();
    page.counter(
        "kontrol_widget_restarts_total",
        "Restarts of the widget in place, by the shim of its container.",
        stats.restarts.get(),
    );
    page.gauge(
        "kontrol_shim_connected",
        "Whether the shim of a wrapped container is connected.",
        flag(stats.shim_connected.get() > 0),
    );
    page.config(state.config_version);
    page.gauge("kontrol_sidecar_draining", "Whether the sidecar drains.", flag(state.draining));
}

const fn flag(on: bool) -> f64 {
    if on { 1.0 } else { 0.0 }
}
