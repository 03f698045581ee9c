//! What a shim may do by itself: how many restarts in place the intensity still bears, under which epoch.

use kontrol_core::{
    grant::Grant,
    id::{InstanceId, Name, ObjectId, WidgetId},
    spec::{Node as Tree, ReplicaEnd, Restart, Strategy},
};

use crate::{
    Status,
    desired::{Desired, DesiredChild},
    status::{Inner, Node, NodePhase, Slot, SlotPhase},
};

/// What the shim of a wrapped instance may do by itself; none: nothing, and what was granted before is revoked.
///
/// A restart in place is what the plan would decide, or there is no grant: its end concerns nobody but itself (`OneForOne`, or a replica
/// that its widget replaces), it is started again after every end or after those that are not normal, and nothing else is about to be done
/// with it. The number is what the window of its group, or of its widget, bore when the epoch began, so that it does not change by time
/// alone. Each instance gets all of it: while the operator is away, several of them can spend more together than the window bears, at
/// most that many times as there are instances. Whatever was spent is counted when it is reported.
pub fn grant(desired: &Tree, status: &Status, instance: &InstanceId) -> Option<Grant> {
    let root = status.root.as_deref()?;
    let (group, node) = find(Desired(desired), root, &instance.widget)?;
    let at = node.children.iter().position(|slot| is(slot, &instance.widget.widget))?;
    let slot = node.children.get(at)?;
    let spec = group.child(at).and_then(DesiredChild::widget)?;
    let widget = slot.widget()?;
    let replica = widget.replicas.get(instance.ordinal as usize)?;
    let own = spec.replica_end == ReplicaEnd::ReplacesReplica;
    let alone = own || group.strategy() == Strategy::OneForOne;
    let quiet = !node.open.iter().any(|open| open.scope.contains(&slot.key));
    let runs = matches!(node.phase, NodePhase::Starting | NodePhase::Running)
        && matches!(slot.phase, SlotPhase::Starting | SlotPhase::Up)
        && replica.runs()
        && widget.fault.is_none()
        && widget.in_place.is_none();
    if !spec.container?.wrapped || spec.restart == Restart::Never || !(alone && quiet && runs) {
        return None;
    }
    let (intensity, spent) =
        if own { (spec.intensity, widget.restarts.len()) } else { (group.intensity(), node.restarts.len()) };
    let spent = u32::try_from(spent).unwrap_or(u32::MAX);
    let count = intensity.max_restarts.saturating_sub(spent);
    let normal = spec.restart == Restart::Always;
    (count > 0).then_some(Grant { count, window: intensity.period, epoch: node.epoch, normal })
}

fn is(slot: &Slot, widget: &Name) -> bool {
    slot.key.name == *widget && matches!(slot.inner, Inner::Widget(_))
}

/// The group of a widget, in the manifest and in the status, where both have it at the same place.
fn find<'a>(desired: Desired<'a>, node: &'a Node, id: &WidgetId) -> Option<(Desired<'a>, &'a Node)> {
    let is_it = |object: &ObjectId| object.name == id.group && object.namespace == id.namespace;
    if is_it(&node.id) && node.children.iter().any(|slot| is(slot, &id.widget)) {
        return node.is(desired).then_some((desired, node));
    }
    node.children.iter().zip(desired.children()).find_map(|(slot, child)| match &slot.inner {
        Inner::Node(below) => find(child.node()?, below, id),
        Inner::Widget(_) => None,
    })
}
