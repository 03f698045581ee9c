//! The end of a history: all that is desired runs, and nothing else.

use std::collections::{BTreeMap, BTreeSet};

use kontrol_core::{
    id::{InstanceId, WidgetId},
    spec::{self, Restart, Revision},
};
use kontrol_plan::{
    Status,
    status::{Inner, Node, NodePhase, ReplicaPhase, SlotPhase},
};

use super::widget_id;
use crate::{
    processes::{Key, Processes},
    tree,
};

/// Whether all that is desired runs, and nothing else, by this status and in truth.
pub(crate) fn converged(
    desired: Option<&spec::Node>,
    status: &Status,
    processes: &Processes,
) -> Result<(), String> {
    let mut expected = BTreeSet::new();
    if let Some(desired) = desired {
        let Some(root) = &status.root else { return Err("the status has no root".to_owned()) };
        let halted = status.exhausted.is_some_and(|exhausted| exhausted.until.is_none());
        if halted && matches!(root.phase, NodePhase::Down(_)) {
            let stops = match desired {
                spec::Node::Group(group) => group.when_exhausted == spec::Exhausted::Stop,
                spec::Node::Supervisor(supervisor) => supervisor.when_exhausted == spec::Exhausted::Stop,
            };
            let shut_down = status
                .exhausted
                .is_some_and(|exhausted| exhausted.why == kontrol_plan::status::Why::ShutDown);
            if !stops && !shut_down {
                return Err("the root stays stopped though it is to be tried again".to_owned());
            }
        } else {
            expect(desired, root, &mut expected)?;
        }
    }
    let alive: BTreeSet<Key> = processes.alive().map(|(key, _)| key.clone()).collect();
    let name = |(id, incarnation): &Key| format!("{id} #{incarnation}");
    if let Some(missing) = expected.difference(&alive).next() {
        return Err(format!("{} is desired and does not run", name(missing)));
    }
    if let Some(extra) = alive.difference(&expected).next() {
        return Err(format!("{} runs and is not desired", name(extra)));
    }
    let mut revisions: BTreeMap<_, _> = desired
        .iter()
        .flat_map(|node| tree::widgets(node))
        .map(|widget| (widget.id.clone(), widget.revision))
        .collect();
    if let Some(root) = &status.root {
        returned(root, &mut revisions);
    }
    match processes.alive().find(|(key, process)| {
        revisions.get(&key.0.widget).is_some_and(|revision| *revision != process.instance.revision)
    }) {
        Some((key, _)) => Err(format!("{} runs from an old template", name(key))),
        None => Ok(()),
    }
}

/// Where a bad template failed the good one before it runs.
fn returned(node: &Node, revisions: &mut BTreeMap<WidgetId, Revision>) {
    for slot in &node.children {
        match &slot.inner {
            Inner::Node(below) => returned(below, revisions),
            Inner::Widget(widget) => {
                let revision = revisions.get_mut(&widget_id(node, slot));
                if let (Some(revision), Some(bad), Some(good)) = (revision, &widget.bad, widget.good)
                    && *revision == bad.revision
                {
                    *revision = good;
                }
                if widget.rollout.is_some_and(|rollout| rollout.stalled) {
                    revisions.remove(&widget_id(node, slot));
                }
            }
        }
    }
}

fn expect(desired: &spec::Node, node: &Node, expected: &mut BTreeSet<Key>) -> Result<(), String> {
    if node.phase != NodePhase::Running || !node.open.is_empty() {
        return Err(format!("{} rests as {:?} with {} open", node.id, node.phase, node.open.len()));
    }
    let restarts: Vec<Restart> = match desired {
        spec::Node::Group(group) => group.widgets.iter().map(|widget| widget.restart).collect(),
        spec::Node::Supervisor(supervisor) => supervisor.children.iter().map(|child| child.restart).collect(),
    };
    for (at, slot) in node.children.iter().enumerate() {
        let restart = restarts.get(at).copied().unwrap_or_default();
        match slot.phase {
            SlotPhase::Up => {}
            SlotPhase::Ended | SlotPhase::Forgotten if restart != Restart::Always => continue,
            phase => return Err(format!("{}/{} rests as {phase:?}", node.id, slot.key)),
        }
        match (&slot.inner, desired) {
            (Inner::Widget(widget), spec::Node::Group(_)) => {
                for (ordinal, replica) in (0_u32..).zip(&widget.replicas) {
                    match replica.phase {
                        ReplicaPhase::Up if ordinal < widget.desired => {
                            let id = InstanceId { widget: widget_id(node, slot), ordinal };
                            expected.insert((id, replica.incarnation));
                        }
                        ReplicaPhase::Down if ordinal >= widget.desired => {}
                        ReplicaPhase::Done if restart != Restart::Always => {}
                        phase => {
                            return Err(format!("{}/{}-{ordinal} rests as {phase:?}", node.id, slot.key));
                        }
                    }
                }
            }
            (Inner::Node(below), spec::Node::Supervisor(supervisor)) => {
                let Some(child) = supervisor.children.get(at) else { continue };
                expect(&child.node, below, expected)?;
            }
            _ => return Err(format!("{}/{} is not what is desired", node.id, slot.key)),
        }
    }
    Ok(())
}
