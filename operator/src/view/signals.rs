//! The load of widgets, as the plan is shown it.

use std::collections::BTreeMap;

use kontrol_core::{
    id::WidgetId,
    spec::{Node, Widget},
};
use kontrol_plan::signals::{QueueSignals, ReplicaSignals, WidgetSignals};

use super::{Replica, View, declared::within, widgets};

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
