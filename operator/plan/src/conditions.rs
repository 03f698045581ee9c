//! The conditions of each node, told from its status.

use kontrol_core::time::Timestamp;

use crate::{
    Status,
    desired::Desired,
    plan::Planner,
    status::{
        Conditions, Inner, Node, NodePhase, OpenKind, Outcome, Reason, ReplicaPhase, Slot, SlotPhase, Why,
        Widget,
    },
};

impl Planner<'_> {
    pub(crate) fn conditions(&self, status: &mut Status, desired: Option<Desired<'_>>) {
        let halted = status.exhausted.map(|exhausted| match (exhausted.why, exhausted.until) {
            (Why::ShutDown, _) => Reason::ShutDown,
            (_, Some(_)) => Reason::BackingOff,
            (_, None) => Reason::Exhausted,
        });
        if let Some(root) = &mut status.root {
            let down = if desired.is_none() { Reason::Stopped } else { halted.unwrap_or(Reason::Waiting) };
            conclude(root, down, self.now, self.observed.generation);
        }
    }
}

/// `down` is why the node does not run where it does not.
fn conclude(node: &mut Node, down: Reason, now: Timestamp, generation: Option<u64>) {
    for slot in &mut node.children {
        let down = match (slot.phase, slot.outcome) {
            (SlotPhase::Ended | SlotPhase::Forgotten, Some(Outcome::Completed)) => Reason::ShutDown,
            (SlotPhase::Ended | SlotPhase::Forgotten, Some(Outcome::Failed)) => Reason::Failed,
            (SlotPhase::Ended | SlotPhase::Forgotten, None) => Reason::Stopped,
            _ => Reason::Waiting,
        };
        if let Some(below) = slot.node_mut() {
            conclude(below, down, now, generation);
        }
    }
    let ready = node.phase == NodePhase::Running && node.children.iter().all(|slot| is_ready(slot));
    let working = match node.phase {
        NodePhase::Starting => Some(Reason::Starting),
        NodePhase::Stopping(_) => Some(Reason::Stopping),
        NodePhase::Running => match node.open.first().map(|open| open.kind) {
            Some(OpenKind::Restart | OpenKind::Asked) => Some(Reason::Restarting),
            Some(OpenKind::Manifest) => Some(Reason::Changing),
            None if !node.leaving.is_empty() => Some(Reason::Changing),
            None => None,
        },
        NodePhase::Down(_) => None,
    };
    let is_down = matches!(node.phase, NodePhase::Down(_));
    let stalled = is_down && matches!(down, Reason::BackingOff | Reason::Exhausted);
    let has_failed = node.children.iter().any(|slot| slot.outcome == Some(Outcome::Failed));
    let otherwise = if has_failed { Reason::Failed } else { Reason::NotReady };
    let why_not = if is_down { down } else { working.unwrap_or(otherwise) };
    let completed = node.children.iter().all(|slot| slot.outcome == Some(Outcome::Completed));
    let why = if completed && !node.children.is_empty() { Reason::Completed } else { Reason::AllReady };
    let old = node.conditions;
    node.conditions = Conditions {
        ready: old.ready.becomes(ready, if ready { why } else { why_not }, now),
        reconciling: old.reconciling.becomes(working.is_some(), working.unwrap_or(Reason::Settled), now),
        stalled: old.stalled.becomes(stalled, if stalled { down } else { Reason::Settled }, now),
        observed_generation: generation,
    };
}

fn is_ready(slot: &Slot) -> bool {
    match (slot.phase, &slot.inner) {
        (SlotPhase::Ended | SlotPhase::Forgotten, _) => slot.outcome != Some(Outcome::Failed),
        (SlotPhase::Up, Inner::Widget(widget)) => all_ready(widget),
        (SlotPhase::Up, Inner::Node(below)) => below.conditions.ready.status,
        _ => false,
    }
}

fn all_ready(widget: &Widget) -> bool {
    let wanted = widget.replicas.get(..widget.desired as usize);
    wanted.is_some_and(|wanted| {
        wanted.iter().all(|replica| replica.ready || replica.phase == ReplicaPhase::Done)
    })
}
