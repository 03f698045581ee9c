//! Durations and failures, by what the configuration names.

use std::time::Duration;

use kontrol_core::code::Code;
use prometheus::{HistogramOpts, HistogramVec, IntCounterVec, Opts};

use super::page::Page;

/// The label of what no configuration names, such as a topic that is not declared.
const UNDECLARED: &str = "undeclared";
/// From a millisecond to a minute: what a publish takes on a fast disk, and a model for its first token. Few, since each topic and each target
/// has them all: a sidecar of four topics and four targets stays below 200 series.
const BUCKETS: [f64; 8] = [0.001, 0.0025, 0.01, 0.05, 0.25, 1.0, 5.0, 60.0];

/// Durations of what the widget asked for, and why it was refused. Adding to them takes a few atomic operations.
#[derive(Clone, Debug)]
pub struct Timings {
    publish: Option<Pair>,
    call: Option<Pair>,
}

#[derive(Clone, Debug)]
struct Pair {
    duration: HistogramVec,
    failures: IntCounterVec,
}

impl Pair {
    /// None only where a name breaks Prometheus' rules, which a test would show.
    fn new(duration: (&str, &str), failures: (&str, &str), label: &str) -> Option<Self> {
        let options = HistogramOpts::new(duration.0, duration.1).buckets(BUCKETS.to_vec());
        let duration = HistogramVec::new(options, &[label]).ok()?;
        let failures = IntCounterVec::new(Opts::new(failures.0, failures.1), &[label, "code"]).ok()?;
        Some(Self { duration, failures })
    }

    fn record(&self, of: Option<&str>, took: Duration, failed: Option<Code>) {
        let of = of.unwrap_or(UNDECLARED);
        match failed {
            None => self.duration.with_label_values(&[of]).observe(took.as_secs_f64()),
            Some(code) => self.failures.with_label_values(&[of, code.as_str()]).inc(),
        }
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

    /// A publish has ended. `topic`: as the configuration names it; none: it does not.
    pub fn publish(&self, topic: Option<&str>, took: Duration, failed: Option<Code>) {
        if let Some(pair) = &self.publish {
            pair.record(topic, took, failed);
        }
    }

    /// The first chunk of a call has come, or its error. `target`: as the configuration names it; none: it does not.
    pub fn call(&self, target: Option<&str>, took: Duration, failed: Option<Code>) {
        if let Some(pair) = &self.call {
            pair.record(target, took, failed);
        }
    }

    pub(super) fn write(&self, page: &mut Page) {
        for pair in [&self.publish, &self.call].into_iter().flatten() {
            page.collect(&pair.duration);
            page.collect(&pair.failures);
        }
    }
}

impl Default for Timings {
    fn default() -> Self {
        Self::new()
    }
}
