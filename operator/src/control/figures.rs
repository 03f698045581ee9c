//! What the control server counts.

use std::{
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use kontrol_core::time::Timestamp;
use prometheus::{
    core::{Collector, Desc},
    proto::{Counter, Gauge, LabelPair, Metric, MetricFamily, MetricType},
};

use super::Reason;
use crate::clock;

/// Refusals that are said in the log within a time; the others are counted alone. Whoever is refused can go on for ever.
const SAID: (u32, Duration) = (20, Duration::from_secs(10));

/// Counters of the control server. A prometheus collector, so that a world can put them on its page.
#[derive(Debug, Default)]
pub struct Figures {
    refused: [AtomicU64; Reason::ALL.len()],
    issued: AtomicU64,
    sessions: AtomicU64,
    opened: AtomicU64,
    messages: AtomicU64,
    said: Mutex<Said>,
}

/// What was said in the log since a time.
#[derive(Debug, Default)]
struct Said {
    since: Timestamp,
    lines: u32,
}

impl Said {
    fn may(&mut self, now: Timestamp) -> bool {
        let (most, each) = SAID;
        if now.since(self.since) >= each {
            *self = Self { since: now, lines: 0 };
        }
        self.lines = self.lines.saturating_add(1);
        self.lines <= most
    }
}

impl Figures {
    /// Counts a refusal; whether there is room for it in the log.
    pub(crate) fn refused(&self, reason: Reason) -> bool {
        if let Some(at) = Reason::ALL.iter().position(|one| *one == reason)
            && let Some(count) = self.refused.get(at)
        {
            count.fetch_add(1, Ordering::Relaxed);
        }
        self.may_say()
    }

    /// Whether there is room in the log for what a stranger causes.
    pub(super) fn may_say(&self) -> bool {
        self.said.lock().unwrap_or_else(PoisonError::into_inner).may(clock::steady())
    }

    pub(super) fn issued(&self) {
        self.issued.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn opened(&self) {
        self.opened.fetch_add(1, Ordering::Relaxed);
        self.sessions.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn closed(&self) {
        self.sessions.fetch_sub(1, Ordering::Relaxed);
    }

    pub(super) fn heard(&self) {
        self.messages.fetch_add(1, Ordering::Relaxed);
    }

    /// How often something was refused for this reason.
    pub fn refusals(&self, reason: Reason) -> u64 {
        let at = Reason::ALL.iter().position(|one| *one == reason);
        at.and_then(|at| self.refused.get(at)).map_or(0, |count| count.load(Ordering::Relaxed))
    }

    /// Sessions that are open.
    pub fn sessions(&self) -> u64 {
        self.sessions.load(Ordering::Relaxed)
    }
}

impl Collector for Figures {
    fn desc(&self) -> Vec<&Desc> {
        Vec::new()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        let read = |count: &AtomicU64| count.load(Ordering::Relaxed) as f64;
        let refused = Reason::ALL.iter().zip(&self.refused);
        vec![
            family(
                "kontrol_operator_identity_refused_total",
                "Certificates and sessions that were refused, by reason.",
                MetricType::COUNTER,
                refused.map(|(reason, count)| (Some(reason.as_str()), read(count))).collect(),
            ),
            family(
                "kontrol_operator_identity_issued_total",
                "Certificates that were issued.",
                MetricType::COUNTER,
                vec![(None, read(&self.issued))],
            ),
            family(
                "kontrol_operator_control_sessions_opened_total",
                "Sessions that were opened.",
                MetricType::COUNTER,
                vec![(None, read(&self.opened))],
            ),
            family(
                "kontrol_operator_control_messages_total",
                "Messages that sessions sent after their first.",
                MetricType::COUNTER,
                vec![(None, read(&self.messages))],
            ),
        ]
    }
}

fn family(name: &str, help: &str, kind: MetricType, series: Vec<(Option<&str>, f64)>) -> MetricFamily {
    let metrics = series.into_iter().map(|(reason, value)| {
        let labels = reason.map(|reason| {
            let mut pair = LabelPair::default();
            pair.set_name("reason".to_owned());
            pair.set_value(reason.to_owned());
            pair
        });
        let mut metric = Metric::from_label(labels.into_iter().collect());
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
    });
    let mut family = MetricFamily::default();
    family.set_name(name.to_owned());
    family.set_help(help.to_owned());
    family.set_field_type(kind);
    family.set_metric(metrics.collect());
    family
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_of_refusals_is_no_flood_of_lines() {
        let mut said = Said::default();
        let at = |seconds| Timestamp::ZERO.plus(Duration::from_secs(seconds));
        assert_eq!((0..1000).filter(|_| said.may(at(100))).count(), 20);
        assert!(!said.may(at(109)) && said.may(at(110)));
    }
}
