//! What has to be done so that the world becomes what the status says: told from the difference of the two alone, so that what was lost
//! is asked for again.

use kontrol_core::{
    id::{InstanceId, WidgetId},
    spec::Shutdown,
};

use crate::{
    Action, Instance, InstanceState, Status,
    instances::find,
    plan::Planner,
    status::{Inner, Node, Replica, ReplicaPhase, Widget},
};

impl Planner<'_> {
    /// All that is to do. What observing found to be cleared away comes first.
    pub(crate) fn actions(&mut self, status: &Status) -> Vec<Action> {
        let mut actions = std::mem::take(&mut self.cleared);
        if self.known < self.instances.len() {
            self.clear_away_strangers(status, &mut actions);
        }
        if let Some(root) = &status.root {
            self.act(root, &mut actions);
        }
        actions
    }

    /// Instances of a widget whose ends were taken note of, and those that no replica has any more.
    pub(crate) fn clear_away(&mut self, widget: &Widget, seen: &[&Instance]) {
        for instance in seen {
            let replica = widget.replicas.get(instance.id.ordinal as usize);
            let is_current = replica
                .is_some_and(|replica| replica.incarnation == instance.incarnation && replica.is_active());
            if !is_current || self.see(widget, instance).state.is_ended() {
                let cleared = self.clear(instance, widget.shutdown, widget.identity && widget.force);
                self.cleared.extend(cleared);
            }
        }
    }

    /// Instances of widgets that the tree does not have.
    fn clear_away_strangers(&self, status: &Status, actions: &mut Vec<Action>) {
        for instance in self.instances.iter() {
            let known = status.root.as_deref().is_some_and(|root| has_widget(root, &instance.id.widget));
            if !known {
                actions.extend(self.clear(instance, Shutdown::default(), false));
            }
        }
    }

    fn act(&mut self, node: &Node, actions: &mut Vec<Action>) {
        for slot in node.children.iter().chain(&node.leaving) {
            match &slot.inner {
                Inner::Widget(widget) => {
                    for (ordinal, replica) in widget.replicas.iter().enumerate() {
                        if matches!(
                            replica.phase,
                            ReplicaPhase::Starting | ReplicaPhase::Stopping | ReplicaPhase::Failing { .. }
                        ) {
                            let instances = self.instances;
                            let seen = instances.of(&node.id.name, &slot.key.name);
                            let id = || InstanceId {
                                widget: WidgetId {
                                    namespace: node.id.namespace.clone(),
                                    group: node.id.name.clone(),
                                    widget: slot.key.name.clone(),
                                },
                                ordinal: u32::try_from(ordinal).unwrap_or(u32::MAX),
                            };
                            let wait = replica.not_before();
                            if wait > self.now {
                                self.wake_at(wait);
                                continue;
                            }
                            actions.extend(self.act_on(widget, ordinal, replica, &id, seen));
                        }
                    }
                }
                Inner::Node(below) => self.act(below, actions),
            }
        }
    }

    /// What a replica that starts or stops still needs.
    fn act_on(
        &self,
        widget: &Widget,
        ordinal: usize,
        replica: &Replica,
        id: &dyn Fn() -> InstanceId,
        seen: &[&Instance],
    ) -> Option<Action> {
        let &Replica { incarnation, epoch, revision, phase, .. } = replica;
        let instance = find(seen, ordinal, incarnation);
        if phase == ReplicaPhase::Starting {
            if instance.is_some() || seen.iter().any(|other| self.holds_up(widget, ordinal, other)) {
                return None;
            }
            let placement = replica.placement.as_deref();
            return Some(Action::Start {
                instance: id(),
                incarnation,
                epoch,
                revision,
                alternative: placement.map_or(0, |placement| placement.alternative),
                avoid: placement.map_or_else(Vec::new, |placement| placement.avoid.clone()),
                rather_not: placement.map_or_else(Vec::new, |placement| placement.rather_not.clone()),
            });
        }
        let asked = instance.is_some_and(|instance| {
            instance.state == InstanceState::Stopping || self.see(widget, instance).state.is_ended()
        });
        (!asked).then(|| Action::Stop { instance: id(), incarnation, shutdown: widget.shutdown })
    }

    /// Whether an instance keeps the next one of its replica from being started: a replica's earlier process has ended before. One with an
    /// identity of its own is gone altogether; of others nothing must run that is not fenced off.
    fn holds_up(&self, widget: &Widget, ordinal: usize, other: &Instance) -> bool {
        other.id.ordinal as usize == ordinal
            && (widget.identity
                || !matches!(
                    self.see(widget, other).state,
                    InstanceState::Ended(_) | InstanceState::Restarting(_)
                ))
    }

    /// What becomes of an instance that is not wanted any more.
    fn clear(&self, instance: &Instance, shutdown: Shutdown, force: bool) -> Option<Action> {
        let (id, incarnation) = (&instance.id, instance.incarnation);
        match instance.state {
            InstanceState::Ended(_) => Some(Action::Remove { instance: id.clone(), incarnation }),
            _ if force && self.lost(instance).is_some() => {
                Some(Action::Abandon { instance: id.clone(), incarnation })
            }
            InstanceState::Stopping => None,
            _ => Some(Action::Stop { instance: id.clone(), incarnation, shutdown }),
        }
    }
}

fn has_widget(node: &Node, id: &WidgetId) -> bool {
    node.children.iter().chain(&node.leaving).any(|slot| match &slot.inner {
        Inner::Widget(_) => node.id.name == id.group && slot.key.name == id.widget,
        Inner::Node(below) => has_widget(below, id),
    })
}
