//! Where replicas run: machines that are lost, placement alternatives, and what to keep away from.

use std::{sync::Arc, time::Duration};

use kontrol_core::{
    id::{InstanceId, WidgetId},
    spec,
    time::Timestamp,
};

use crate::{
    End, Instance, InstanceState, NodeHealth,
    event::Event,
    plan::Planner,
    status::{Placement, Replica, ReplicaPhase, Widget},
    widget::{Begin, narrow},
};

/// A replica that was up for so long has put what was before behind it: its placement is chosen afresh. It is also how long ends from
/// outside are remembered, and the time after which the kubelet's back-off begins anew.
pub(crate) const LONG_AGO: Duration = Duration::from_mins(10);

/// How many ends from outside within [`LONG_AGO`] are restarted at once; each further one doubles the pause, from a second to a minute.
const AT_ONCE: usize = 3;

/// The longest time for which one alternative is waited for, after all of them were tried again and again.
const LONGEST_WAIT: Duration = Duration::from_mins(10);

/// An instance as it counts, its machine's health taken into account.
#[derive(Clone, Debug)]
pub(crate) struct Seen {
    pub(crate) state: InstanceState,
    pub(crate) at: Timestamp,
    pub(crate) message: Option<Arc<str>>,
}

impl Planner<'_> {
    /// Since when the machine of an instance is lost; none: it is not.
    pub(crate) fn lost(&self, instance: &Instance) -> Option<Timestamp> {
        if self.avoid.is_empty() {
            return None;
        }
        match self.observed.nodes.get(&instance.place.as_ref()?.node)? {
            NodeHealth::Lost { since } => Some(*since),
            NodeHealth::Healthy | NodeHealth::Suspect { .. } => None,
        }
    }

    /// An instance as it counts. What ran on a lost machine has ended, unless it has an identity of its own: that waits to hear so.
    pub(crate) fn see(&self, widget: &Widget, instance: &Instance) -> Seen {
        let seen = |state, at| Seen { state, at, message: instance.message.clone() };
        if instance.state.is_ended() {
            return seen(instance.state, instance.since);
        }
        match self.lost(instance) {
            Some(_) if widget.identity && !widget.force => match instance.state {
                InstanceState::Running | InstanceState::Ready | InstanceState::Hung => {
                    seen(InstanceState::NotReady, instance.since)
                }
                state => seen(state, instance.since),
            },
            Some(since) => Seen {
                state: InstanceState::Ended(End::NodeLost),
                at: since,
                message: instance.place.as_ref().map(|place| format!("node {}", place.node).into()),
            },
            None => seen(instance.state, instance.since),
        }
    }

    /// Notes on which lost machine a replica that has an identity of its own waits.
    pub(crate) fn wait_for_node(
        &mut self,
        widget: &mut Widget,
        id: &dyn Fn() -> WidgetId,
        ordinal: usize,
        instance: Option<&Instance>,
    ) {
        let lost = instance.filter(|instance| widget.identity && self.lost(instance).is_some());
        let node = lost.and_then(|instance| Some(instance.place.as_ref()?.node.clone()));
        let Some(replica) = widget.replicas.get_mut(ordinal) else { return };
        if replica.placement.as_ref().and_then(|placement| placement.waits_for.as_ref()) == node.as_ref() {
            return;
        }
        replica.place(|placement| placement.waits_for.clone_from(&node));
        if let Some(node) = node {
            let instance = InstanceId { widget: id(), ordinal: narrow(ordinal) };
            self.tell(Event::WaitsForNode { instance, node });
        }
    }

    /// A replica that no machine has room for: after a while its next placement alternative is tried, as its next incarnation.
    pub(crate) fn find_place(
        &mut self,
        widget: &mut Widget,
        id: &dyn Fn() -> WidgetId,
        spec: &spec::Widget,
        ordinal: usize,
        seen: Seen,
    ) {
        let container = spec.container.unwrap_or_default();
        let Some(replica) = widget.replicas.get_mut(ordinal) else { return };
        let placement = replica.placement.as_deref();
        if placement.and_then(|placement| placement.unplaced) != Some(seen.at) {
            replica.place(|placement| {
                placement.unplaced = Some(seen.at);
                placement.message.clone_from(&seen.message);
            });
        }
        let Some(placement) = replica.placement.as_deref() else { return };
        // What it keeps away from may have become well again since.
        let outdated = placement.avoid.iter().any(|node| !self.avoid.contains(node));
        if container.alternatives == 0 && !outdated {
            return;
        }
        let choices = container.alternatives.saturating_add(1);
        let rounds = placement.tries / choices;
        let alternative = (placement.alternative + 1) % choices;
        let wait = container.unschedulable_after.saturating_mul(1 << rounds.min(16)).min(LONGEST_WAIT);
        let since = seen.at.max(self.observed.sees_since);
        let deadline = since.plus(wait.max(container.unschedulable_after));
        if self.now < deadline {
            self.wake_at(deadline);
            return;
        }
        let tries = placement.tries.saturating_add(u32::from(container.alternatives > 0));
        let waited = self.now.since(seen.at);
        // The next one is decided when this one is known to be gone: whoever decides then may not have seen it.
        replica.place(|placement| (placement.tries, placement.alternative) = (tries, alternative));
        replica.stop(self.now);
        let instance = InstanceId { widget: id(), ordinal: narrow(ordinal) };
        let of = container.alternatives;
        let event = Event::TriesNext { instance, alternative, of, waited, message: seen.message };
        widget.last = Some(self.tell_because(event, None));
    }
}

impl Replica {
    /// Changes what is noted of its placement.
    pub(crate) fn place(&mut self, change: impl FnOnce(&mut Placement)) {
        let mut placement = self.placement.take().unwrap_or_default();
        let noted = Arc::make_mut(&mut placement);
        change(noted);
        self.placement = (*noted != Placement::default()).then_some(placement);
    }

    /// When its start begins: a pause, or the search for a place, puts that off.
    pub(crate) fn begins(&self) -> Timestamp {
        self.placement.as_ref().map_or(self.since, |placement| placement.not_before.max(self.since))
    }

    /// Whether no machine had room for it when it was last seen.
    pub(crate) fn has_no_place(&self) -> bool {
        self.placement.as_ref().is_some_and(|placement| placement.unplaced.is_some())
    }

    /// It is no longer without a place: its start begins now.
    pub(crate) fn found_place(&mut self, state: Option<InstanceState>, now: Timestamp) {
        if self.has_no_place() && state.is_some() {
            self.place(|placement| {
                placement.unplaced = None;
                placement.message = None;
            });
            self.since = now;
        }
    }

    /// Decides where its next process may run. It keeps the alternative that served last; a new template (`fresh`) begins with the first.
    pub(crate) fn settle_placement(&mut self, begin: Begin<'_>, fresh: bool) {
        if self.placement.is_none() && begin.avoid.is_empty() {
            return;
        }
        let choices = begin.spec.container.map_or(0, |container| container.alternatives).saturating_add(1);
        let now = begin.now;
        self.place(|placement| {
            if placement.unplaced.is_none() {
                placement.tries = 0;
            }
            placement.alternative = if fresh { 0 } else { placement.alternative % choices };
            placement.unplaced = None;
            placement.message = None;
            placement.waits_for = None;
            placement.avoid = begin.avoid.to_vec();
            placement.external.retain(|at| now.since(*at) <= LONG_AGO);
            let more = placement.external.len().saturating_sub(AT_ONCE);
            placement.not_before = match (more, placement.external.last()) {
                (1.., Some(last)) => {
                    last.plus(Duration::from_secs(1 << (more - 1).min(6)).min(Duration::from_mins(1)))
                }
                _ => Timestamp::ZERO,
            };
        });
    }

    /// Its process ended there. What ends twice in a row on one machine should move; what had run for long begins afresh.
    pub(crate) fn note_end(
        &mut self,
        node: Option<Arc<str>>,
        external: bool,
        had_run_long: bool,
        now: Timestamp,
    ) {
        if node.is_none() && !external && self.placement.is_none() {
            return;
        }
        self.place(|placement| {
            if had_run_long {
                *placement =
                    Placement { external: std::mem::take(&mut placement.external), ..Placement::default() };
            }
            let again = node.is_some() && placement.ended_on == node;
            placement.rather_not = if again { node.iter().cloned().collect() } else { Vec::new() };
            placement.ended_on = node;
            if external {
                placement.external.push(now);
                let more = placement.external.len().saturating_sub(AT_ONCE + 7);
                placement.external.drain(..more);
            }
        });
    }

    /// Whether its start has to wait, and until when.
    pub(crate) fn not_before(&self) -> Timestamp {
        match (self.phase, &self.placement) {
            (ReplicaPhase::Starting, Some(placement)) => placement.not_before,
            _ => Timestamp::ZERO,
        }
    }
}
