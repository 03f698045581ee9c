//! One plan: what is observed is taken note of, at most one new decision is made in each node, and what follows is asked for.

use std::sync::Arc;

use kontrol_core::{id::WidgetId, spec, time::Timestamp};
use serde::{Deserialize, Serialize};

use crate::{
    Action, NodeHealth, Observed, RestartRequest,
    desired::{Desired, DesiredChild},
    event::{Cause, Event},
    instances::Instances,
    status::{Inner, Node, Slot, Status},
};

/// What follows from an observation.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Plan {
    /// The status to write before anything else is done.
    pub status: Status,
    /// What to do once it is written, in this order.
    pub actions: Vec<Action>,
    /// What happened and what was decided, each fact once.
    pub events: Vec<Event>,
    /// When to plan again if nothing is observed before. A time that is not in the future means: as soon as the actions are under way,
    /// because another decision waits.
    pub wake: Option<Timestamp>,
}

/// Decides. `desired` is the root of the tree, or none where the tree was removed or is drained; everything in `observed` belongs to
/// this tree.
pub fn plan(desired: Option<&spec::Node>, observed: &Observed, now: Timestamp) -> Plan {
    let mut status = observed.status.clone();
    let instances = Instances::new(&observed.status, &observed.instances);
    let unwell = observed.nodes.iter().filter(|(_, health)| **health != NodeHealth::Healthy);
    let avoid: Vec<_> = unwell.map(|(node, _)| node.clone()).collect();
    let mut planner = Planner {
        observed,
        instances: &instances,
        now,
        avoid: &avoid,
        events: Vec::new(),
        wake: None,
        cleared: Vec::new(),
        known: 0,
    };
    let desired = desired.map(Desired);

    planner.prepare(&mut status, desired);
    planner.settle(&mut status, desired);
    if planner.decide(&mut status, desired) {
        planner.settle(&mut status, desired);
        planner.wake_where_more_waits(&status, desired);
    }
    planner.conclude(&mut status, desired);
    let actions = planner.actions(&status);
    Plan { status, actions, events: planner.events, wake: planner.wake }
}

/// What a plan works with, apart from the status.
pub(crate) struct Planner<'a> {
    pub(crate) observed: &'a Observed,
    pub(crate) instances: &'a Instances<'a>,
    pub(crate) now: Timestamp,
    /// Machines that are suspect or lost.
    pub(crate) avoid: &'a [Arc<str>],
    events: Vec<Event>,
    wake: Option<Timestamp>,
    /// What observing found to be cleared away.
    pub(crate) cleared: Vec<Action>,
    /// How many instances the tree has a widget for.
    pub(crate) known: usize,
}

impl<'a> Planner<'a> {
    pub(crate) fn tell(&mut self, event: Event) {
        self.events.push(event);
    }

    /// Tells a fact and gives it as the cause of others.
    pub(crate) fn tell_because(&mut self, event: Event, because: Option<Arc<Cause>>) -> Arc<Cause> {
        self.events.push(event.clone());
        Arc::new(Cause { at: self.now, event, because })
    }

    pub(crate) fn wake_at(&mut self, at: Timestamp) {
        self.wake = Some(self.wake.map_or(at, |earlier| earlier.min(at)));
    }

    pub(crate) fn requests(&self) -> &'a [RestartRequest] {
        &self.observed.restarts
    }

    /// Brings the status in line with the manifest and takes note of what is observed.
    fn prepare(&mut self, status: &mut Status, desired: Option<Desired<'_>>) {
        if status.root.is_none()
            && let Some(desired) = desired
        {
            self.plant(status, desired);
        }
        let Status { root, floor, .. } = status;
        let Some(root) = root else { return };
        let desired = desired.filter(|desired| root.is(*desired));
        if let Some(desired) = desired {
            self.align(root, desired, *floor);
        }
        self.observe(root, desired);
        if let Some(desired) = desired {
            self.track(root, desired);
            self.scale(root, desired);
            self.fit(root, desired);
        }
    }

    fn observe(&mut self, node: &mut Node, desired: Option<Desired<'_>>) {
        let mut epoch = node.epoch;
        let (namespace, group) = (&node.id.namespace, &node.id.name);
        let wanted = node.children.iter_mut().enumerate();
        let wanted = wanted.map(|(at, slot)| (slot, desired.and_then(|desired| desired.child(at))));
        let leaving = node.leaving.iter_mut().map(|slot| (slot, None));
        for (slot, child) in wanted.chain(leaving) {
            let Inner::Widget(widget) = &slot.inner else {
                if let Some(below) = slot.node_mut() {
                    self.observe(below, child.and_then(DesiredChild::node));
                }
                continue;
            };
            let seen = self.instances.of(group, &slot.key.name);
            self.known += seen.len();
            // One above the status's own: the status is older than the world.
            epoch = seen.iter().map(|instance| instance.epoch).fold(epoch, u64::max);
            let spec = child.and_then(DesiredChild::widget);
            let all_well = self.avoid.is_empty() || seen.iter().all(|instance| self.lost(instance).is_none());
            if all_well && spec.is_some_and(|spec| widget.is_as_noted(spec, seen)) {
                continue;
            }
            let Slot { key, inner: Inner::Widget(widget), .. } = Arc::make_mut(slot) else { continue };
            let id =
                || WidgetId { namespace: namespace.clone(), group: group.clone(), widget: key.name.clone() };
            self.observe_widget(widget, &id, epoch, spec, seen);
            self.clear_away(widget, seen);
        }
        node.epoch = epoch;
    }

    /// Lets everything follow that follows without a new decision.
    fn settle(&mut self, status: &mut Status, desired: Option<Desired<'_>>) {
        loop {
            let mut changed = self.tend_root(status, desired);
            if let Status { root: Some(root), floor, .. } = status {
                let desired = desired.filter(|desired| root.is(*desired));
                changed |= self.advance(root, desired, floor);
            }
            if !changed {
                return;
            }
        }
    }

    /// Makes at most one decision in each node; says whether there was one.
    fn decide(&mut self, status: &mut Status, desired: Option<Desired<'_>>) -> bool {
        let mut decided = self.take_up_request_for_root(status, desired);
        if let Some(root) = &mut status.root
            && let Some(desired) = desired.filter(|desired| root.is(*desired))
        {
            decided |= self.decide_in(root, desired);
        }
        decided
    }

    fn wake_where_more_waits(&mut self, status: &Status, desired: Option<Desired<'_>>) {
        if let Some(root) = &status.root
            && let Some(desired) = desired.filter(|desired| root.is(*desired))
            && self.more_waits(root, desired)
        {
            self.wake_at(self.now);
        }
    }

    /// Conditions, and when to look again.
    fn conclude(&mut self, status: &mut Status, desired: Option<Desired<'_>>) {
        if let Some(until) = status.exhausted.and_then(|exhausted| exhausted.until)
            && until > self.now
        {
            self.wake_at(until);
        }
        self.conditions(status, desired);
    }
}
