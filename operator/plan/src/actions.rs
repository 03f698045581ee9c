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
            if !is_current || instance.state.is_ended() {
                self.cleared.extend(clear(instance, widget.shutdown));
            }
        }
    }

    /// Instances of widgets that the tree does not have.
    fn clear_away_strangers(&self, status: &Status, actions: &mut Vec<Action>) {
        for instance in self.instances.iter() {
            let known = status.root.as_deref().is_some_and(|root| has_widget(root, &instance.id.widget));
            if !known {
                actions.extend(clear(instance, Shutdown::default()));
            }
        }
    }

    fn act(&self, node: &Node, actions: &mut Vec<Action>) {
        for slot in node.children.iter().chain(&node.leaving) {
            match &slot.inner {
                Inner::Widget(widget) => {
                    for (ordinal, replica) in widget.replicas.iter().enumerate() {
                        if matches!(
                            replica.phase,
                            ReplicaPhase::Starting | ReplicaPhase::Stopping | ReplicaPhase::Failing { .. }
                        ) {
                            let seen = self.instances.of(&node.id.name, &slot.key.name);
                            let id = || InstanceId {
                                widget: WidgetId {
                                    namespace: node.id.namespace.clone(),
                                    group: node.id.name.clone(),
                                    widget: slot.key.name.clone(),
                                },
                                ordinal: u32::try_from(ordinal).unwrap_or(u32::MAX),
                            };
                            actions.extend(act_on(widget, ordinal, replica, &id, seen));
                        }
                    }
                }
                Inner::Node(below) => self.act(below, actions),
            }
        }
    }
}

/// What a replica that starts or stops still needs.
fn act_on(
    widget: &Widget,
    ordinal: usize,
    replica: &Replica,
    id: &dyn Fn() -> InstanceId,
    seen: &[&Instance],
) -> Option<Action> {
    let &Replica { incarnation, epoch, revision, phase, .. } = replica;
    let instance = find(seen, ordinal, incarnation);
    if phase == ReplicaPhase::Starting {
        // A replica's earlier process is gone before the next one starts: both have one identity.
        let earlier =
            seen.iter().any(|other| other.id.ordinal as usize == ordinal && !other.state.is_ended());
        return (instance.is_none() && !earlier).then(|| Action::Start {
            instance: id(),
            incarnation,
            epoch,
            revision,
            alternative: 0,
            avoid: Vec::new(),
            rather_not: Vec::new(),
        });
    }
    let asked = instance
        .is_some_and(|instance| instance.state == InstanceState::Stopping || instance.state.is_ended());
    (!asked).then(|| Action::Stop { instance: id(), incarnation, shutdown: widget.shutdown })
}

fn clear(instance: &Instance, shutdown: Shutdown) -> Option<Action> {
    let (id, incarnation) = (&instance.id, instance.incarnation);
    match instance.state {
        InstanceState::Ended(_) => Some(Action::Remove { instance: id.clone(), incarnation }),
        InstanceState::Stopping => None,
        _ => Some(Action::Stop { instance: id.clone(), incarnation, shutdown }),
    }
}

fn has_widget(node: &Node, id: &WidgetId) -> bool {
    node.children.iter().chain(&node.leaving).any(|slot| match &slot.inner {
        Inner::Widget(_) => node.id.name == id.group && slot.key.name == id.widget,
        Inner::Node(below) => has_widget(below, id),
    })
}
