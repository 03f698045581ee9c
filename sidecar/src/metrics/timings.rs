//! Durations and failures, by what the configuration names.

use std::time::Duration;

use kontrol_core::code::Code;
use prometheus::{HistogramOpts, HistogramVec, IntCounterVec, Opts, core::Collector, proto::Metric};

use super::{
    Named,
    named::{Labels, OTHER},
    page::Page,
};

/// The label of what no configuration names, such as a topic that is not declared. No topic can have this name.
const UNDECLARED: &str = "_undeclared";
/// The label that says why.
const CODE: &str = "code";
/// From a millisecond to a minute: what a publish takes on a fast disk, and a model for its first token. Few, since each topic and each target
/// that has a label has them all.
const BUCKETS: [f64; 8] = [0.001, 0.0025, 0.01, 0.05, 0.25, 1.0, 5.0, 60.0];
/// The failures of publishes that are counted apart: what a hub and its subscriptions do to a widget that is right.
const PUBLISH: [Code; 4] =
    [Code::BufferFull, Code::StorageFull, Code::HubUnavailable, Code::PublishUncertain];
/// The failures of calls that are counted apart: what a target and the way to it do to a widget that is right.
const CALL: [Code; 5] = [
    Code::NoReadyReplica,
    Code::BreakerOpen,
    Code::DeadlineExceeded,
    Code::PeerUnreachable,
    Code::WidgetError,
];

/// Durations of what the widget asked for, and why it was refused. Adding to either takes a few atomic operations.
#[derive(Clone, Debug)]
pub struct Timings {
    publish: Option<Pair>,
    call: Option<Pair>,
}

#[derive(Clone, Debug)]
struct Pair {
    label: &'static str,
    /// The codes that are told apart where the name is declared.
    codes: &'static [Code],
    /// The one where it is not.
    undeclared: Code,
    duration: HistogramVec,
    failures: IntCounterVec,
}

impl Pair {
    /// None only where a name breaks Prometheus' rules, which a test would show.
    fn new(
        duration: (&str, &str),
        failures: (&str, &str),
        label: &'static str,
        codes: &'static [Code],
        undeclared: Code,
    ) -> Option<Self> {
        let options = HistogramOpts::new(duration.0, duration.1).buckets(BUCKETS.to_vec());
        let duration = HistogramVec::new(options, &[label]).ok()?;
        let failures = IntCounterVec::new(Opts::new(failures.0, failures.1), &[label, CODE]).ok()?;
        Some(Self { label, codes, undeclared, duration, failures })
    }

    fn record(&self, named: &Labels, name: &str, took: Duration, failed: Option<Code>) {
        match (named.label(name), failed) {
            (Some(label), Some(code)) => self.fail(label, code, self.codes),
            (None, Some(code)) => self.fail(UNDECLARED, code, &[self.undeclared]),
            (Some(label), None) => {
                self.duration.with_label_values(&[label]).observe(took.as_secs_f64());
            }
            // It ceased to be declared while it was on its way.
            (None, None) => {}
        }
    }

    fn fail(&self, label: &str, code: Code, apart: &[Code]) {
        let code = if apart.contains(&code) { code.as_str() } else { OTHER };
        self.failures.with_label_values(&[label, code]).inc();
    }

    fn write(&self, page: &mut Page, named: &Labels) {
        page.collect_some(&self.duration, |metric| self.is_named(metric, named));
        page.collect_some(&self.failures, |metric| self.is_named(metric, named));
    }

    /// Forgets what is no longer declared: a sidecar outlives many manifests.
    fn forget(&self, named: &Labels) {
        // A series was there a moment ago, and whoever took it away did the same.
        for metric in self.gone(&self.duration, named) {
            self.duration.remove_label_values(&[value(&metric, self.label)]).ok();
        }
        for metric in self.gone(&self.failures, named) {
            self.failures.remove_label_values(&[value(&metric, self.label), value(&metric, CODE)]).ok();
        }
    }

    fn gone(&self, of: &impl Collector, named: &Labels) -> Vec<Metric> {
        let series = of.collect().into_iter().flat_map(|mut family| family.take_metric());
        series.filter(|metric| !self.is_named(metric, named)).collect()
    }

    fn is_named(&self, metric: &Metric, named: &Labels) -> bool {
        let label = value(metric, self.label);
        label == UNDECLARED || named.has(label)
    }
}

/// The value of a label; empty: there is no such label.
fn value<'a>(metric: &'a Metric, label: &str) -> &'a str {
    metric.get_label().iter().find(|pair| pair.name() == label).map_or("", |pair| pair.value())
}

impl Timings {
    /// Nothing was timed yet.
    pub fn new() -> Self {
        let publish = Pair::new(
            ("kontrol_publish_duration_seconds", "Time from a publish at a door until it was durable."),
            ("kontrol_publish_failures_total", "Publishes that were refused or failed, by error code."),
            "topic",
            &PUBLISH,
            Code::PublishNotDeclared,
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
            &CALL,
            Code::TargetNotDeclared,
        );
        Self { publish, call }
    }

    /// A publish has ended. `named`: of the configuration in force.
    pub fn publish(&self, named: &Named, topic: &str, took: Duration, failed: Option<Code>) {
        if let Some(pair) = &self.publish {
            pair.record(&named.produces, topic, took, failed);
        }
    }

    /// The first chunk of a call has come, or its error. `named`: of the configuration in force.
    pub fn call(&self, named: &Named, target: &str, took: Duration, failed: Option<Code>) {
        if let Some(pair) = &self.call {
            pair.record(&named.targets, target, took, failed);
        }
    }

    /// Forgets what a new configuration does not name.
    pub fn forget(&self, named: &Named) {
        for (pair, named) in [(&self.publish, &named.produces), (&self.call, &named.targets)] {
            if let Some(pair) = pair {
                pair.forget(named);
            }
        }
    }

    /// Writes what the configuration of the page names, and nothing else.
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
