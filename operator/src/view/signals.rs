//! The load of widgets, as the plan is shown it.

use std::collections::BTreeMap;

use kontrol_core::{
    id::WidgetId,
    limits, report,
    spec::{Node, Widget},
};
use kontrol_plan::signals::{QueueSignals, ReplicaSignals, WidgetSignals};
use kontrol_proto::v1;

use super::{Replica, View, declared::within, widgets};

/// Cuts what a sidecar says to what it [may](kontrol_core::report) say: ours does so by itself.
pub fn cut(signals: &mut v1::Signals) {
    let shorten = |text: &mut String, most| {
        let kept = report::cut(text, most);
        if kept.len() < text.len() {
            *text = kept.to_owned();
        }
    };
    shorten(&mut signals.message, limits::REPORT_MESSAGE);
    if signals.breakers.len() > limits::BREAKERS {
        signals.breakers = signals.breakers.drain(..limits::BREAKERS).collect();
    }
    for breaker in &mut signals.breakers {
        shorten(&mut breaker.reason, limits::BREAKER_REASON);
    }
    let fits = |(name, value): &(&String, &f64)| {
        value.is_finite() && report::cut(name, limits::REPORT_NAME) == *name
    };
    if signals.load.len() > limits::REPORT_NAMES || !signals.load.iter().all(|one| fits(&one)) {
        // The same ones each time.
        let mut kept: Vec<(&String, &f64)> = signals.load.iter().filter(fits).collect();
        kept.sort_unstable_by_key(|(name, _)| *name);
        let kept = kept.into_iter().take(limits::REPORT_NAMES);
        signals.load = kept.map(|(name, value)| (name.clone(), *value)).collect();
    }
}

/// What is known of the load of each widget of a tree; a widget of which nothing is known is missing.
pub fn of_tree(view: &impl View, root: &Node) -> BTreeMap<WidgetId, WidgetSignals> {
    let known = |signals: &WidgetSignals| *signals != WidgetSignals::default();
    widgets(root)
        .map(|widget| (widget.id.clone(), of_widget(view, widget)))
        .filter(|(_, signals)| known(signals))
        .collect()
}

/// What is known of the load of a widget.
pub fn of_widget(view: &impl View, widget: &Widget) -> WidgetSignals {
    WidgetSignals {
        replicas: view.replicas(&widget.id).filter_map(of_replica).collect(),
        queue: queue(view, widget),
        waiting: None,
    }
}

/// A widget's subscriptions together; unknown as long as one of them is.
pub fn queue(view: &impl View, widget: &Widget) -> Option<QueueSignals> {
    let topic = |topic| within(&widget.id.namespace, topic);
    let known = widget
        .consumes
        .iter()
        .map(|consume| view.queue(&topic(&consume.topic), &consume.subscription))
        .collect::<Option<Vec<_>>>()?;
    known.into_iter().fold(None, |sum: Option<QueueSignals>, (at, queue)| {
        let sum = sum.unwrap_or(QueueSignals { depth: 0, growth: 0, at });
        Some(QueueSignals {
            depth: sum.depth.saturating_add(queue.depth.saturating_mul(1000)),
            growth: sum.growth.saturating_add(signed_thousandths(queue.growth)),
            at: sum.at.min(at),
        })
    })
}

fn of_replica(replica: Replica<'_>) -> Option<ReplicaSignals> {
    let run = replica.run.filter(|run| run.runs)?;
    let (at, signals) = replica.signals.filter(|(_, signals)| signals.incarnation == run.incarnation)?;
    let reported = signals.load.iter().filter(|(_, value)| value.is_finite());
    Some(ReplicaSignals {
        ordinal: replica.id.ordinal,
        incarnation: run.incarnation,
        in_flight: Some(u64::from(signals.in_flight) * 1000),
        reported: reported.map(|(name, value)| (name.clone(), thousandths(*value))).collect(),
        at,
    })
}

#[allow(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "saturates, and is never negative"
)]
fn thousandths(value: f64) -> u64 {
    (value.max(0.0) * 1000.0).round() as u64
}

#[allow(clippy::cast_possible_truncation, reason = "saturates; no number is 0")]
fn signed_thousandths(value: f64) -> i64 {
    (value * 1000.0).round() as i64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_within_the_limits_is_kept_as_it_is_and_what_is_not_is_cut_alike_each_time() {
        let names = |count: usize| (0..count).map(|at| (format!("n{at:05}"), 1.0)).collect();
        let fine = v1::Signals {
            message: "ü".repeat(limits::REPORT_MESSAGE),
            load: names(limits::REPORT_NAMES),
            breakers: vec![v1::EndpointState::default(); limits::BREAKERS],
            ..Default::default()
        };
        let mut cut_fine = fine.clone();
        cut(&mut cut_fine);
        assert_eq!(cut_fine, fine);
        let mut over =
            v1::Signals { load: names(10_000), message: fine.message.clone() + "!", ..fine.clone() };
        over.load.insert("a".repeat(limits::REPORT_NAME + 1), 1.0);
        over.load.insert("b".to_owned(), f64::NAN);
        over.breakers.push(v1::EndpointState::default());
        cut(&mut over);
        assert_eq!(over, fine);
    }
}
