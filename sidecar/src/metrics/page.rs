//! Building the page, family by family.

use prometheus::{
    TextEncoder,
    core::Collector,
    process_collector::ProcessCollector,
    proto::{Counter, Gauge, LabelPair, Metric, MetricFamily, MetricType},
};

use crate::shared::Count;

/// Families in the order in which they are added.
#[derive(Debug, Default)]
pub(super) struct Page(Vec<MetricFamily>);

/// One series of a family: its labels, and its value.
pub(super) type Series<'a> = (Vec<(&'static str, &'a str)>, f64);

impl Page {
    /// A counter without labels.
    pub(super) fn counter(&mut self, name: &str, help: &str, value: u64) {
        self.counters(name, help, [(Vec::new(), value as f64)]);
    }

    /// A gauge without labels.
    pub(super) fn gauge(&mut self, name: &str, help: &str, value: f64) {
        self.gauges(name, help, [(Vec::new(), value)]);
    }

    /// A family of counters.
    pub(super) fn counters<'a>(
        &mut self,
        name: &str,
        help: &str,
        series: impl IntoIterator<Item = Series<'a>>,
    ) {
        self.family(name, help, MetricType::COUNTER, series);
    }

    /// A family of gauges.
    pub(super) fn gauges<'a>(
        &mut self,
        name: &str,
        help: &str,
        series: impl IntoIterator<Item = Series<'a>>,
    ) {
        self.family(name, help, MetricType::GAUGE, series);
    }

    /// Connections that the link has refused: sidecars and the hub count them alike.
    pub(super) fn refusals(
        &mut self,
        foreign_certificates: &Count,
        fenced: &Count,
        malformed_frames: &Count,
    ) {
        let reasons = [
            ("foreign_certificate", foreign_certificates),
            ("stale_incarnation", fenced),
            ("malformed_frame", malformed_frames),
        ];
        self.counters(
            "kontrol_link_refusals_total",
            "Connections of sidecars that were refused or ended, by reason.",
            reasons.map(|(reason, count)| (vec![("reason", reason)], count.get() as f64)),
        );
    }

    /// The version of the configuration in force.
    pub(super) fn config(&mut self, version: u64) {
        let help = "The version of the configuration in force; 0: none yet.";
        self.gauge("kontrol_config_version", help, version as f64);
    }

    /// Everything that a collector has.
    pub(super) fn collect(&mut self, collector: &impl Collector) {
        self.collect_some(collector, |_| true);
    }

    /// Those series of a collector that are to be on the page.
    pub(super) fn collect_some(&mut self, collector: &impl Collector, wanted: impl Fn(&Metric) -> bool) {
        for mut family in collector.collect() {
            family.mut_metric().retain(|metric| wanted(metric));
            if !family.get_metric().is_empty() {
                self.0.push(family);
            }
        }
    }

    /// Which version this is.
    pub(super) fn build(&mut self) {
        let labels = vec![("version", env!("CARGO_PKG_VERSION"))];
        self.gauges("kontrol_build_info", "The version that runs; the value is always 1.", [(labels, 1.0)]);
    }

    /// Processor time, memory and open files of this process.
    pub(super) fn process(&mut self) {
        self.collect(&ProcessCollector::for_self());
    }

    /// The page in the text format.
    pub(super) fn text(self) -> String {
        let mut text = String::new();
        if let Err(error) = TextEncoder::new().encode_utf8(&self.0, &mut text) {
            tracing::error!(%error, "the metrics cannot be written");
        }
        text
    }

    fn family<'a>(
        &mut self,
        name: &str,
        help: &str,
        kind: MetricType,
        series: impl IntoIterator<Item = Series<'a>>,
    ) {
        let metrics: Vec<_> =
            series.into_iter().map(|(labels, value)| metric(&labels, kind, value)).collect();
        if metrics.is_empty() {
            return;
        }
        let mut family = MetricFamily::default();
        family.set_name(name.to_owned());
        family.set_help(help.to_owned());
        family.set_field_type(kind);
        family.set_metric(metrics);
        self.0.push(family);
    }
}

fn metric(labels: &[(&'static str, &str)], kind: MetricType, value: f64) -> Metric {
    let pairs = labels.iter().map(|(name, value)| {
        let mut pair = LabelPair::default();
        pair.set_name((*name).to_owned());
        pair.set_value((*value).to_owned());
        pair
    });
    let mut metric = Metric::from_label(pairs.collect());
    if kind == MetricType::COUNTER {
        let mut counter = Counter::default();
        counter.set_value(value);
        metric.set_counter(counter);
    } else {
        let mut gauge = Gauge::default();
        gauge.set_value(value);
        metric.set_gauge(gauge);
    }
    metric
}
