//! What the operator counts. Labels are closed: no names of objects.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
};

use prometheus::{
    Encoder as _, Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec,
    Opts, Registry, TextEncoder,
    core::{Collector, Desc},
    proto::MetricFamily,
};

use kontrol_core::time::Timestamp;
use kontrol_plan::Event;

use super::{kind::Kind, lease::What, rights::Rights, state::State};
use crate::control::{Figures, Reason};

/// How often gauges are set.
const EACH: std::time::Duration = std::time::Duration::from_secs(1);

/// Figures that a control server counts meanwhile.
#[derive(Clone, Debug)]
struct Shared(Arc<Figures>);

impl Collector for Shared {
    fn desc(&self) -> Vec<&Desc> {
        self.0.desc()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        self.0.collect()
    }
}

/// The operator's metrics.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    /// Whether this process leads, and may act: 1 or 0.
    pub leader: IntGauge,
    /// How often a leader had to stop because its lease ran out before a renewal was answered.
    pub lapses: IntCounter,
    /// The time from asking for a renewal of the lease to its answer, in seconds.
    pub renewals: Histogram,
    /// Requests to the API server by verb, kind and outcome.
    pub requests: IntCounterVec,
    /// The time that requests took, in seconds, by verb.
    pub request_seconds: HistogramVec,
    /// Requests that failed, by verb and outcome.
    pub failures: IntCounterVec,
    /// Events that were not sent, because there were too many.
    pub events_dropped: IntCounter,
    /// Objects by kind.
    pub objects: IntGaugeVec,
    /// Trees by state.
    pub trees: IntGaugeVec,
    /// Watches that are broken at the moment, by kind.
    pub stale: IntGaugeVec,
    /// Restarts by rung of the ladder.
    pub restarts: IntCounterVec,
    /// Roll-outs that went back by themselves.
    pub rollbacks: IntCounter,
    /// Nodes by health.
    pub nodes: IntGaugeVec,
    /// Control sessions that are open.
    pub sessions: IntGauge,
    /// Whether the cluster's definitions of our kinds lack fields that this operator writes: 1 or 0.
    pub schema_outdated: IntGauge,
    /// Rights that the API server refuses: 1 for each that is missing.
    pub rights: Rights,
    /// Plans made.
    pub plans: IntCounter,
    shown: Mutex<Timestamp>,
    figures: Mutex<Option<Shared>>,
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

#[expect(clippy::expect_used, reason = "names and labels are constants; a test makes them all")]
impl Metrics {
    /// Metrics that count from zero.
    ///
    /// # Panics
    /// Never: names and labels are constants.
    pub fn new() -> Self {
        let registry = Registry::new();
        let gauge = |name: &str, help: &str| {
            let gauge = IntGauge::new(name, help).expect("a constant name");
            registry.register(Box::new(gauge.clone())).expect("registered once");
            gauge
        };
        let counter = |name: &str, help: &str| {
            let counter = IntCounter::new(name, help).expect("a constant name");
            registry.register(Box::new(counter.clone())).expect("registered once");
            counter
        };
        let gauges = |name: &str, help: &str, labels: &[&str]| {
            let gauges = IntGaugeVec::new(Opts::new(name, help), labels).expect("a constant name");
            registry.register(Box::new(gauges.clone())).expect("registered once");
            gauges
        };
        let counters = |name: &str, help: &str, labels: &[&str]| {
            let counters = IntCounterVec::new(Opts::new(name, help), labels).expect("a constant name");
            registry.register(Box::new(counters.clone())).expect("registered once");
            counters
        };
        let buckets = vec![0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0];
        let opts = HistogramOpts::new(
            "kontrol_operator_api_request_duration_seconds",
            "The time that requests to the API server took.",
        );
        let renewals = HistogramOpts::new(
            "kontrol_operator_lease_renewal_duration_seconds",
            "The time that renewals of the lease took.",
        );
        let renewals = Histogram::with_opts(renewals.buckets(buckets.clone())).expect("a constant name");
        registry.register(Box::new(renewals.clone())).expect("registered once");
        let request_seconds = HistogramVec::new(opts.buckets(buckets), &["verb"]).expect("a constant name");
        registry.register(Box::new(request_seconds.clone())).expect("registered once");
        let process = prometheus::process_collector::ProcessCollector::for_self();
        registry.register(Box::new(process)).expect("registered once");
        gauges("kontrol_operator_build_info", "The version of this operator.", &["version"])
            .with_label_values(&[env!("CARGO_PKG_VERSION")])
            .set(1);
        let restarts = counters("kontrol_operator_restarts_total", "Restarts decided.", &["rung"]);
        for rung in ["container", "pod", "group", "tree"] {
            restarts.with_label_values(&[rung]).reset();
        }
        let missing = Opts::new(
            "kontrol_operator_right_missing",
            "Whether the API server refuses this because a role does not give it.",
        );
        let rights = Rights::new(IntGaugeVec::new(missing, &["verb", "resource"]).expect("a constant name"));
        registry.register(Box::new(rights.clone())).expect("registered once");
        Self {
            leader: gauge("kontrol_operator_leader", "Whether this process leads, and may act."),
            lapses: counter(
                "kontrol_operator_lease_lapses_total",
                "How often the leader stopped because its lease ran out before a renewal was answered.",
            ),
            renewals,
            requests: counters(
                "kontrol_operator_api_requests_total",
                "Requests to the API server.",
                &["verb", "kind", "code"],
            ),
            request_seconds,
            failures: counters(
                "kontrol_operator_api_request_failures_total",
                "Requests to the API server that were not done.",
                &["verb", "code"],
            ),
            events_dropped: counter(
                "kontrol_operator_events_dropped_total",
                "Events that were not sent, because there were too many.",
            ),
            objects: gauges(
                "kontrol_operator_objects",
                "Objects of ours by whether a condition holds.",
                &["kind", "condition", "status"],
            ),
            trees: gauges("kontrol_operator_trees", "Trees of supervision.", &["state"]),
            stale: gauges(
                "kontrol_operator_watch_stale",
                "Whether what is known of a kind is old because its watch is broken.",
                &["kind"],
            ),
            restarts,
            rollbacks: counter("kontrol_operator_rollbacks_total", "Roll-outs that went back by themselves."),
            nodes: gauges("kontrol_operator_nodes", "Nodes by health.", &["health"]),
            sessions: gauge("kontrol_operator_control_sessions", "Control sessions that are open."),
            schema_outdated: gauge(
                "kontrol_operator_schema_outdated",
                "Whether the cluster's definitions lack fields that this operator writes.",
            ),
            rights,
            plans: counter("kontrol_operator_plans_total", "Plans made."),
            registry,
            shown: Mutex::default(),
            figures: Mutex::default(),
        }
    }

    /// Counts what was asked about the lease.
    pub(super) fn lease(&self, what: What, took: std::time::Duration, done: bool) {
        if what == What::Renew && done {
            self.renewals.observe(took.as_secs_f64());
        }
    }

    /// Counts a fact.
    pub fn count(&self, event: &Event) {
        let rung = match event {
            Event::RestartedInPlace { .. } => "container",
            Event::Replaces { .. } => "pod",
            Event::Restarts { .. } => "group",
            Event::Retries { .. } => "tree",
            Event::Returns { .. } => {
                self.rollbacks.inc();
                return;
            }
            _ => return,
        };
        self.restarts.with_label_values(&[rung]).inc();
    }

    /// Shows how the world is; at most once a second.
    pub fn show(&self, state: &State, now: Timestamp) {
        let figure = |count: usize| i64::try_from(count).unwrap_or(i64::MAX);
        {
            let mut shown = self.shown.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
            if now.since(*shown) < EACH {
                return;
            }
            *shown = now;
        }
        self.sessions.set(figure(state.sessions()));
        self.plans.inc_by(state.plans().saturating_sub(self.plans.get()));
        let counts: BTreeMap<Kind, usize> = state.store().counts().into_iter().collect();
        for kind in Kind::OWN {
            let count = counts.get(&kind).copied().unwrap_or(0);
            let refused = state.not_accepted(kind);
            let accepted = count.saturating_sub(refused);
            self.objects.with_label_values(&[kind.as_str(), "Accepted", "True"]).set(figure(accepted));
            self.objects.with_label_values(&[kind.as_str(), "Accepted", "False"]).set(figure(refused));
        }
        for (name, count) in state.trees() {
            self.trees.with_label_values(&[name]).set(figure(count));
        }
        let (suspect, lost) = state.machines();
        let all = state.store().nodes().len();
        for (health, count) in
            [("Healthy", all.saturating_sub(suspect + lost)), ("Suspect", suspect), ("Lost", lost)]
        {
            self.nodes.with_label_values(&[health]).set(figure(count));
        }
        let broken = state.store().stale();
        for kind in Kind::OWN.into_iter().chain([Kind::Pod, Kind::Node]) {
            self.stale.with_label_values(&[kind.as_str()]).set(broken.contains(&kind).into());
        }
    }

    /// Adds what a control server counts, in the place of one before it.
    pub fn sessions_of(&self, figures: &Arc<Figures>) {
        let mut known = self.figures.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if let Some(before) = known.take()
            && let Err(error) = self.registry.unregister(Box::new(before))
        {
            tracing::warn!(%error, "the figures of the control server before stay");
        }
        let shared = Shared(Arc::clone(figures));
        match self.registry.register(Box::new(shared.clone())) {
            Ok(()) => *known = Some(shared),
            Err(error) => tracing::warn!(%error, "the control server's figures cannot be shown"),
        }
    }

    /// Counts a word that was not its sender's to say, with what the control server refused.
    pub(super) fn refused(&self, reason: Reason) {
        let known = self.figures.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if let Some(Shared(figures)) = &*known {
            figures.refused(reason);
        }
    }

    /// The page of `/metrics`.
    pub fn page(&self) -> String {
        let mut page = Vec::new();
        if let Err(error) = TextEncoder::new().encode(&self.registry.gather(), &mut page) {
            tracing::error!(%error, "the metrics cannot be written");
        }
        String::from_utf8(page).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::{
        super::{request::Outcome, rights::Asked},
        *,
    };

    /// The names in the rules of the alerts that are the operator's.
    fn alerted() -> BTreeSet<&'static str> {
        let rules = include_str!("../../../charts/kontrol/files/rules.yaml");
        let names = rules.split(|c: char| !c.is_ascii_lowercase() && c != '_');
        names.filter(|name| name.starts_with("kontrol_operator_")).collect()
    }

    #[test]
    fn each_figure_of_an_alert_is_on_the_page() {
        let metrics = Metrics::new();
        metrics.sessions_of(&Arc::new(Figures::default()));
        metrics.failures.with_label_values(&["create", "forbidden"]).inc();
        let options = Arc::new(super::super::Options::default());
        let state = State::new(Arc::clone(&options), super::super::sources(&options));
        metrics.show(&state, Timestamp::from_micros(2_000_000));
        let leases = Asked::all("list", Kind::Lease, None);
        let refused = "leases is forbidden: User \"k\" cannot list resource \"leases\" in API group \"coordination.k8s.io\"";
        metrics.rights.note(&leases, &Outcome::Forbidden(refused.to_owned()));
        let page = metrics.page();
        for name in alerted() {
            assert!(page.contains(&format!("\n# TYPE {name} ")), "{name}\n{page}");
        }
        for sample in [
            "kontrol_operator_objects{condition=\"Accepted\",kind=\"Widget\",status=\"False\"} 0",
            "kontrol_operator_trees{state=\"Failed\"} 0",
            "kontrol_operator_nodes{health=\"Lost\"} 0",
            "kontrol_operator_restarts_total{rung=\"pod\"} 0",
            "kontrol_operator_schema_outdated 0",
            "kontrol_operator_right_missing{resource=\"leases.coordination.k8s.io\",verb=\"list\"} 1",
        ] {
            assert!(page.contains(sample), "{sample}\n{page}");
        }
    }

    #[test]
    fn the_page_holds_the_version_and_the_process() {
        let page = Metrics::new().page();
        assert!(page.contains("kontrol_operator_build_info{version="), "{page}");
        assert!(page.contains("process_resident_memory_bytes"), "{page}");
    }
}
