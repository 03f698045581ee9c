//! What the plan is shown of the world.

use std::collections::BTreeMap;

use kontrol_core::{id::WidgetId, spec::Widget};
use kontrol_plan::{
    Observed, Status,
    signals::{QueueSignals, ReplicaSignals, WidgetSignals},
};

use super::{Slot, State};

impl State {
    pub(super) fn observe(&self, key: &str, status: Status) -> Observed {
        let slots = || self.slots.iter().filter(|(_, slot)| slot.tree == key);
        let mut signals: BTreeMap<WidgetId, WidgetSignals> = BTreeMap::new();
        for (instance, slot) in slots() {
            let Some(process) = slot.process.as_ref().filter(|process| process.runs()) else { continue };
            let replicas = &mut signals.entry(instance.widget.clone()).or_default().replicas;
            replicas.extend(slot.replica_signals(instance.ordinal, process.incarnation));
        }
        for widget in self.desired.widgets() {
            if let Some(queue) = self.queue_of(widget) {
                signals.entry(widget.id.clone()).or_default().queue = Some(queue);
            }
        }
        Observed {
            status,
            instances: slots().filter_map(|(id, slot)| Some(slot.process.as_ref()?.observed(id))).collect(),
            signals,
            restarts: self.requests.clone(),
            generation: Some(self.generation),
            ..Observed::default()
        }
    }

    /// The widget's subscriptions together; unknown as long as one of them is.
    pub(super) fn queue_of(&self, widget: &Widget) -> Option<QueueSignals> {
        let namespace = widget.id.namespace.to_string();
        let known = widget
            .consumes
            .iter()
            .map(|consume| {
                let key = (namespace.clone(), consume.topic.to_string(), consume.subscription.to_string());
                self.queues.get(&key)
            })
            .collect::<Option<Vec<_>>>()?;
        known.into_iter().fold(None, |sum: Option<QueueSignals>, (at, queue)| {
            let sum = sum.unwrap_or(QueueSignals { depth: 0, growth: 0, at: *at });
            Some(QueueSignals {
                depth: sum.depth.saturating_add(queue.depth.saturating_mul(1000)),
                growth: sum.growth.saturating_add(signed_thousandths(queue.growth)),
                at: sum.at.min(*at),
            })
        })
    }
}

impl Slot {
    fn replica_signals(&self, ordinal: u32, incarnation: u64) -> Option<ReplicaSignals> {
        let (at, signals) =
            self.signals.as_ref().filter(|(_, signals)| signals.incarnation == incarnation)?;
        let reported = signals.load.iter().filter(|(_, value)| value.is_finite());
        Some(ReplicaSignals {
            ordinal,
            incarnation,
            in_flight: Some(u64::from(signals.in_flight) * 1000),
            reported: reported.map(|(name, value)| (name.clone(), thousandths(*value))).collect(),
            at: *at,
        })
    }
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
