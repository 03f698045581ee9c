//! Durations and failures, by what the configuration names.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use kontrol_core::code::Code;
use prometheus::{HistogramOpts, HistogramVec, core::Collector, proto::Metric};

use super::{
    Named,
    named::{Labels, OTHER},
    page::Page,
};

/// The label of what no configuration names, such as a topic that is not declared.
const UNDECLARED: &str = "undeclared";
/// From a millisecond to a minute: what a publish takes on a fast disk, and a model for its first token. Few, since each topic and each target
/// that has a label has them all.
const BUCKETS: [f64; 8] = [0.001, 0.0025, 0.01, 0.05, 0.25, 1.0, 5.0, 60.0];
/// Pairs of label and code whose failures are counted apart: the first ones that happen.
const PAIRS: usize = 18;

/// Durations of what the widget asked for, and why it was refused. Adding to the durations takes a few atomic operations.
#[derive(Clone, Debug)]
pub struct Timings {
    publish: Option<Pair>,
    call: Option<Pair>,
}

#[derive(Clone, Debug)]
struct Pair {
    label: &'static str,
    duration: HistogramVec,
    failures: Failures,
}

impl Pair {
    /// None only where a name breaks Prometheus' rules, which a test would show.
    fn new(
        duration: (&str, &str),
        failures: (&'static str, &'static str),
        label: &'static str,
    ) -> Option<Self> {
        let options = HistogramOpts::new(duration.0, duration.1).buckets(BUCKETS.to_vec());
        let duration = HistogramVec::new(options, &[label]).ok()?;
        let failures = Failures { name: failures.0, help: failures.1, counts: Arc::default() };
        Some(Self { label, duration, failures })
    }

    fn record(&self, of: Option<&str>, took: Duration, failed: Option<Code>) {
        match (of, failed) {
            (of, Some(code)) => self.failures.count(of.unwrap_or(UNDECLARED), code),
            (Some(of), None) => self.duration.with_label_values(&[of]).observe(took.as_secs_f64()),
            // It came to be declared while it was on its way.
            (None, None) => {}
        }
    }

    fn write(&self, page: &mut Page, named: &Labels) {
        self.forget(named);
        page.collect(&self.duration);
        self.failures.write(page, self.label);
    }

    /// Forgets what is no longer declared: a sidecar outlives many manifests.
    fn forget(&self, named: &Labels) {
        self.failures.lock().retain(|(label, _), _| label == UNDECLARED || named.has(label));
        for family in self.duration.collect() {
            for label in family.get_metric().iter().flat_map(Metric::get_label) {
                if !named.has(label.value()) {
                    // It was there a moment ago, and whoever took it away did the same.
                    self.duration.remove_label_values(&[label.value()]).ok();
                }
            }
        }
    }
}

/// Failures by label and code. Beyond [`PAIRS`] a code counts as `other`.
#[derive(Clone, Debug)]
struct Failures {
    name: &'static str,
    help: &'static str,
    counts: Arc<Mutex<BTreeMap<(String, &'static str), u64>>>,
}

impl Failures {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<(String, &'static str), u64>> {
        self.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn count(&self, label: &str, code: Code) {
        let mut counts = self.lock();
        let mut pair = (label.to_owned(), code.as_str());
        if !counts.contains_key(&pair) && counts.keys().filter(|(_, code)| *code != OTHER).count() >= PAIRS {
            pair.1 = OTHER;
        }
        *counts.entry(pair).or_default() += 1;
    }

    fn write(&self, page: &mut Page, label: &'static str) {
        let counts = self.lock();
        let series = counts
            .iter()
            .map(|((of, code), count)| (vec![("code", *code), (label, of.as_str())], *count as f64));
        page.counters(self.name, self.help, series);
    }
}

impl Timings {
    /// Nothing was timed yet.
    pub fn new() -> Self {
        let publish = Pair::new(
            ("kontrol_publish_duration_seconds", "Time from a publish at a door until it was durable."),
            ("kontrol_publish_failures_total", "Publishes that were refused or failed, by error code."),
            "topic",
        );
        let call = Pair::new(
            (
                "kontrol_call_duration_seconds",
                "Time from a call at a door until the first chunk of its reply, retries included.",
            ),
            (
                "kontrol_call_failures_total",
                "Calls of the widget that were refused or failed before their first chunk, by error code.",
            ),
            "target",
        );
        Self { publish, call }
    }

    /// A publish has ended. `topic`: its label; none: the configuration does not name it.
    pub fn publish(&self, topic: Option<&str>, took: Duration, failed: Option<Code>) {
        if let Some(pair) = &self.publish {
            pair.record(topic, took, failed);
        }
    }

    /// The first chunk of a call has come, or its error. `target`: its label; none: the configuration does not name it.
    pub fn call(&self, target: Option<&str>, took: Duration, failed: Option<Code>) {
        if let Some(pair) = &self.call {
            pair.record(target, took, failed);
        }
    }

    pub(super) fn write(&self, page: &mut Page, named: &Named) {
        for (pair, named) in [(&self.publish, &named.produces), (&self.call, &named.targets)] {
            if let Some(pair) = pair {
                pair.write(page, named);
            }
        }
    }
}

impl Default for Timings {
    fn default() -> Self {
        Self::new()
    }
}
