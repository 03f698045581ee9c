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
    pub(crate) fn actions(&self, status: &Status) -> Vec<Action> {
        let mut actions = Vec::new();
        self.clear_away(status, &mut actions);
        if let Some(root) = &status.root {
            self.act(root, &mut actions);
        }
        actions
    }

    /// Ends that were taken note of, and processes that no replica has any more.
    fn clear_away(&self, status: &Status, actions: &mut Vec<Action>) {
        for instance in self.instances.iter() {
            let (id, incarnation) = (&instance.id, instance.incarnation);
            if instance.state.is_ended() {
                actions.push(Action::Remove { instance: id.clone(), incarnation });
            } else if instance.state != InstanceState::Stopping {
                let widget = status.root.as_deref().and_then(|root| find_widget(root, &id.widget));
                let replica = widget.and_then(|widget| widget.replicas.get(id.ordinal as usize));
                let current =
                    replica.is_some_and(|replica| replica.incarnation == incarnation && replica.is_active());
                if !current {
                    let shutdown = widget.map_or_else(Shutdown::default, |widget| widget.shutdown);
                    actions.push(Action::Stop { instance: id.clone(), incarnation, shutdown });
                }
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
        });
    }
    let asked = instance
        .is_some_and(|instance| instance.state == InstanceState::Stopping || instance.state.is_ended());
    (!asked).then(|| Action::Stop { instance: id(), incarnation, shutdown: widget.shutdown })
}

fn find_widget<'a>(node: &'a Node, id: &WidgetId) -> Option<&'a Widget> {
    for slot in node.children.iter().chain(&node.leaving) {
        match &slot.inner {
            Inner::Widget(widget) if node.id.name == id.group && slot.key.name == id.widget => {
                return Some(widget);
            }
            Inner::Node(below) => {
                if let Some(found) = find_widget(below, id) {
                    return Some(found);
                }
            }
            Inner::Widget(_) => {}
        }
    }
    None
}
