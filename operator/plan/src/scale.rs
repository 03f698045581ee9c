//! The number of replicas where the plan decides it: signals are put before [`scaling`], and what it decides is written.

use std::{collections::BTreeMap, sync::Arc};

use kontrol_core::{
    id::WidgetId,
    spec::{self, Scaling, ScalingClass},
    time::Timestamp,
};

use crate::{
    desired::{Desired, DesiredChild},
    event::Event,
    plan::Planner,
    scaling::{self, History, Queue, Reading},
    signals::{ReplicaSignals, WidgetSignals},
    status::{Node, Replica, ReplicaPhase, ScalingStatus, SlotPhase, Widget},
};

/// The policy of a widget whose replicas the plan decides.
pub(crate) fn policy(spec: &spec::Widget) -> Option<&Scaling> {
    spec.scaling.as_deref().filter(|scaling| scaling.class == ScalingClass::Kontrol)
}

impl Planner<'_> {
    /// Decides the replicas of the widgets of this node and below. A widget that is stopped keeps its number.
    pub(crate) fn scale(&mut self, node: &mut Node, desired: Desired<'_>) {
        for (slot, child) in node.children.iter_mut().zip(desired.children()) {
            match child {
                DesiredChild::Widget(spec) => {
                    let Some(policy) = policy(spec) else { continue };
                    let runs = matches!(slot.phase, SlotPhase::Starting | SlotPhase::Up);
                    let Some(widget) = slot.widget_mut() else { continue };
                    begin(widget, spec, policy, self.now);
                    if runs {
                        self.scale_widget(widget, spec, policy);
                    }
                }
                DesiredChild::Node(child) => {
                    if let Some(below) = slot.node_mut() {
                        self.scale(below, Desired(&child.node));
                    }
                }
            }
        }
    }

    fn scale_widget(&mut self, widget: &mut Widget, spec: &spec::Widget, policy: &Scaling) {
        let Some(status) = &mut widget.scaling else { return };
        let none = WidgetSignals::default();
        let signals = self.observed.signals.get(&spec.id).unwrap_or(&none);
        let active = widget.replicas.iter().enumerate();
        let active =
            active.filter(|(_, replica)| matches!(replica.phase, ReplicaPhase::Starting | ReplicaPhase::Up));
        let replicas: Vec<_> =
            active.map(|(ordinal, replica)| seen(ordinal, replica, &signals.replicas)).collect();
        let decision = scaling::decide(&scaling::Input {
            policy,
            current: status.desired_replicas,
            replicas: &replicas,
            queue: queue(spec, signals),
            waiting: waiting(spec, signals, self.now),
            history: &status.history,
            now: self.now,
        });
        status.history = decision.history;
        let (from, to) = (status.desired_replicas, decision.desired);
        if from != to {
            let reason: Arc<str> = decision.reason.to_string().into();
            status.desired_replicas = to;
            status.at = self.now;
            status.reason = reason.clone();
            widget.desired = to;
            self.tell(Event::Scales { widget: WidgetId::clone(&spec.id), from, to, reason });
        }
        if let Some(wake) = decision.wake {
            self.wake_at(wake);
        }
    }
}

/// The number to begin with: what runs where the status was lost, else what the manifest says, within the limits.
fn begin(widget: &mut Widget, spec: &spec::Widget, policy: &Scaling, now: Timestamp) {
    let (min, max) = (policy.min.min(policy.max), policy.max);
    let number = widget.scaling.as_ref().map_or_else(
        || {
            let run = widget.replicas.iter().rposition(Replica::is_active).map_or(0, |last| last + 1);
            if run == 0 { spec.replicas } else { u32::try_from(run).unwrap_or(u32::MAX) }
        },
        |status| status.desired_replicas,
    );
    let number = number.clamp(min, max);
    widget.desired = number;
    widget.scaling.get_or_insert_with(|| ScalingStatus {
        desired_replicas: number,
        reason: "the number to begin with".into(),
        at: now,
        history: History::default(),
    });
}

fn seen(ordinal: usize, replica: &Replica, signals: &[ReplicaSignals]) -> scaling::Replica {
    let found = signals
        .iter()
        .find(|signal| signal.ordinal as usize == ordinal && signal.incarnation == replica.incarnation);
    scaling::Replica {
        starting: replica.phase == ReplicaPhase::Starting,
        in_flight: found.and_then(|signal| Some(Reading { value: signal.in_flight?, at: signal.at })),
        reported: found.map_or_else(BTreeMap::new, |signal| {
            let reading =
                |(name, value): (&String, &u64)| (name.clone(), Reading { value: *value, at: signal.at });
            signal.reported.iter().map(reading).collect()
        }),
    }
}

fn queue(spec: &spec::Widget, signals: &WidgetSignals) -> Queue {
    if spec.consumes.is_empty() {
        return Queue::Absent;
    }
    signals.queue.map_or(Queue::Unknown, |queue| Queue::Known {
        depth: queue.depth,
        growth: queue.growth,
        at: queue.at,
    })
}

fn waiting(spec: &spec::Widget, signals: &WidgetSignals, now: Timestamp) -> Option<Reading> {
    if spec.serves.is_empty() {
        return Some(Reading { value: 0, at: now });
    }
    signals.waiting.map(|waiting| Reading { value: waiting.calls, at: waiting.at })
}
