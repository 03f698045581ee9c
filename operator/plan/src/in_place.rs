//! Restarts in place: ends that the kubelet or the shim answered by itself. They are told and counted as any other restart, and from the
//! second on the kubelet's back-off is not waited for.

use std::sync::Arc;

use kontrol_core::{
    id::{InstanceId, WidgetId},
    spec::{self, ReplicaEnd},
    time::Timestamp,
};

use crate::{
    Instance, InstanceState,
    desired::Desired,
    event::{Cause, Event},
    place::{LONG_AGO, Seen},
    plan::Planner,
    status::{Failure, Fault, InPlace, Node, ReplicaPhase, Widget},
    widget::{count, narrow},
};

impl Planner<'_> {
    /// Takes note of restarts in place. What is left to a back-off counts as ended from then on.
    pub(crate) fn see_restarts(
        &mut self,
        widget: &mut Widget,
        id: &dyn Fn() -> WidgetId,
        spec: &spec::Widget,
        ordinal: usize,
        instance: &Instance,
        seen: Seen,
    ) -> Seen {
        let Some(replica) = widget.replicas.get_mut(ordinal) else { return seen };
        if !matches!(replica.phase, ReplicaPhase::Starting | ReplicaPhase::Up) {
            return seen;
        }
        let last = instance.last_end.as_ref();
        let at = last.map_or(self.now, |last| last.at.min(self.now));
        let new = match instance.restarts {
            restarts if restarts > replica.restarts => restarts - replica.restarts,
            // Who counts began again. An older observation has no newer end.
            restarts if restarts < replica.restarts && last.is_some() && at > replica.restarted => {
                restarts.max(1)
            }
            _ => 0,
        };
        let wrapped = spec.container.is_some_and(|container| container.wrapped);
        let before = replica.restarted;
        let often = new > 1 || (before > Timestamp::ZERO && at.since(before) <= LONG_AGO);
        if new > 0 {
            replica.restarts = instance.restarts;
            replica.restarted = at;
        }
        // A restart that does not come is no fresh news: whoever takes its place has to wait until it is gone for certain.
        let late = match seen.state {
            InstanceState::Restarting(_) if replica.phase == ReplicaPhase::Up => {
                let deadline = seen.at.max(self.observed.sees_since).plus(spec.start.timeout);
                if self.now < deadline {
                    self.wake_at(deadline);
                }
                self.now >= deadline
            }
            _ => false,
        };
        let given_up = match seen.state {
            InstanceState::Restarting(end) if new > 0 && often && !wrapped => Some(end),
            _ => None,
        };
        let in_place = new - u32::from(new > 0 && given_up.is_some());
        if in_place > 0
            && let Some(last) = instance.last_end.clone()
        {
            let external = last.end.is_external()
                && given_up.is_none()
                && !spec.container.is_some_and(|container| container.count_external);
            let of = InstanceId { widget: id(), ordinal: narrow(ordinal) };
            let event = Event::RestartedInPlace {
                instance: of.clone(),
                incarnation: instance.incarnation,
                end: last.end,
                message: last.message,
                times: in_place,
            };
            let because = self.tell_because(event, None);
            widget.last = Some(because.clone());
            widget.restart_count += u64::from(in_place);
            self.count_replica(widget, spec, of, in_place - u32::from(external), because);
        }
        if let (InstanceState::Restarting(end), true, None) = (seen.state, late, given_up)
            && let Some(replica) = widget.replicas.get_mut(ordinal)
        {
            replica.fail(end);
        }
        match given_up {
            // Who decides next may not have seen it: it has to be gone before its identity is given on.
            Some(end) if widget.identity => {
                if let Some(replica) = widget.replicas.get_mut(ordinal) {
                    replica.fail(end);
                }
                seen
            }
            Some(end) => Seen { state: InstanceState::Ended(end), at, message: seen.message },
            None => seen,
        }
    }

    /// Counts restarts in place in the window that they belong to: the widget's own, or its group's, which is the group's to do.
    fn count_replica(
        &mut self,
        widget: &mut Widget,
        spec: &spec::Widget,
        instance: InstanceId,
        times: u32,
        because: Arc<Cause>,
    ) {
        if times == 0 || widget.fault.is_some() {
            return;
        }
        if spec.replica_end == ReplicaEnd::EndsWidget && instance.ordinal < widget.desired {
            let before = widget.in_place.take();
            widget.in_place = Some(InPlace {
                count: before.as_ref().map_or(0, |before| before.count).saturating_add(times),
                at: before.map_or(self.now, |before| before.at),
                because,
            });
            return;
        }
        let intensity = spec.intensity;
        let sum = (0..times).fold(0, |_, _| count(&mut widget.restarts, intensity, self.now));
        if sum <= intensity.max_restarts as usize {
            let event = Event::CountsReplica { instance, count: sum, intensity };
            widget.last = Some(self.tell_because(event, Some(because)));
        } else if self.fail_trial(widget, spec, Failure::Intensity, &because).is_some() {
            widget.restarts.clear();
        } else {
            let event = Event::ReplicasExhausted { widget: instance.widget, count: sum, intensity };
            let because = self.tell_because(event, Some(because));
            let fault = Fault { at: self.now, started: true, normal: false, external: false, because };
            widget.fault = Some(fault);
        }
    }

    /// A group counts restarts in place of a child in its own window.
    pub(crate) fn count_in_place(&mut self, node: &mut Node, desired: Desired<'_>, at: usize) {
        let Some(slot) = node.children.get_mut(at) else { return };
        let key = slot.key.clone();
        let Some(in_place) = slot.widget_mut().and_then(|widget| widget.in_place.take()) else { return };
        let intensity = desired.intensity();
        let sum = (0..in_place.count).fold(0, |_, _| count(&mut node.restarts, intensity, self.now));
        node.epoch += u64::from(in_place.count);
        let (id, times, epoch) = (node.id.clone(), in_place.count, node.epoch);
        let event = Event::Counts { node: id, child: key, times, epoch, count: sum, intensity };
        let because = self.tell_because(event, Some(in_place.because));
        node.last = Some(because.clone());
        let decision = node.note(because.clone());
        if let Some(slot) = node.children.get_mut(at) {
            Arc::make_mut(slot).decision = decision;
        }
        if sum <= intensity.max_restarts as usize {
            return;
        }
        match self.return_from_trial(node, desired, at, Failure::Intensity, &because) {
            Some(returns) => self.open_restart(node, desired, at, Some(returns), 0, true),
            None => self.give_up(node, intensity, sum, Some(because)),
        }
    }
}
