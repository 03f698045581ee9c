//! Deciders with a mistake, to prove that the checks can find it.

use std::sync::Arc;

use kontrol_core::{spec, time::Timestamp};
use kontrol_plan::{
    Event,
    status::{Inner, Node, NodePhase, Open, OpenKind, ReplicaPhase, SlotPhase, Stage, Widget},
};

/// A mistake that a decider is given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mutant {
    /// It acts before its decision is written, so a crash in between leaves acts that nobody decided.
    ActsBeforeWriting,
    /// It writes over whatever was written since it read.
    IgnoresVersion,
    /// It counts each restart twice in the window.
    CountsTwice,
    /// It begins two epochs with each restart.
    BeginsTwoEpochs,
    /// It restarts what a fault concerns, and then once more.
    RestartsTwice,
    /// It never writes.
    NeverWrites,
    /// It reads the children of groups and supervisors from the last to the first.
    ReversesOrder,
    /// It starts all widgets of a group at once.
    StartsAllAtOnce,
    /// It stops all widgets of a restart at once.
    StopsAllAtOnce,
    /// It counts each restart in place twice.
    CountsInPlaceTwice,
    /// It forgets which restarts in place it has taken note of.
    ForgetsRestartsInPlace,
    /// It does not wait for the end of what has an identity of its own.
    IgnoresIdentity,
    /// It counts what something outside ended.
    CountsOutside,
    /// It replaces all replicas of a roll-out at once.
    RollsAllAtOnce,
}

impl Mutant {
    /// All of them.
    pub const ALL: [Self; 14] = [
        Self::ActsBeforeWriting,
        Self::IgnoresVersion,
        Self::CountsTwice,
        Self::BeginsTwoEpochs,
        Self::RestartsTwice,
        Self::NeverWrites,
        Self::ReversesOrder,
        Self::StartsAllAtOnce,
        Self::StopsAllAtOnce,
        Self::CountsInPlaceTwice,
        Self::ForgetsRestartsInPlace,
        Self::IgnoresIdentity,
        Self::CountsOutside,
        Self::RollsAllAtOnce,
    ];

    /// The manifest as it takes it.
    pub(crate) fn misreads(self, desired: &spec::Node) -> spec::Node {
        let mut desired = desired.clone();
        match self {
            Self::ReversesOrder => reverse(&mut desired),
            Self::IgnoresIdentity => each(&mut desired, &|widget| {
                if let Some(container) = &mut widget.container {
                    container.identity = false;
                }
            }),
            Self::CountsOutside => each(&mut desired, &|widget| {
                if let Some(container) = &mut widget.container {
                    container.count_external = true;
                }
            }),
            Self::RollsAllAtOnce => each(&mut desired, &|widget| {
                widget.rollout.max_unavailable = spec::Share::Percent(100);
                widget.rollout.max_surge = spec::Share::Count(0);
            }),
            _ => {}
        }
        desired
    }

    /// Spoils what was decided.
    pub(crate) fn misdecides(self, node: &mut Node, events: &[Event], now: Timestamp) {
        let restarts =
            || events.iter().any(|event| matches!(event, Event::Restarts { node: id, .. } if *id == node.id));
        match self {
            Self::CountsTwice if restarts() => node.restarts.push(now),
            Self::CountsInPlaceTwice
                if events
                    .iter()
                    .any(|event| matches!(event, Event::Counts { node: id, .. } if *id == node.id)) =>
            {
                node.restarts.push(now);
            }
            Self::ForgetsRestartsInPlace => {
                for slot in &mut node.children {
                    if let Inner::Widget(widget) = &mut Arc::make_mut(slot).inner {
                        widget.replicas.iter_mut().for_each(|replica| replica.restarts = 0);
                    }
                }
            }
            Self::BeginsTwoEpochs if restarts() => node.epoch += 1,
            Self::RestartsTwice if restarts() => {
                if let Some(open) = node.open.last().cloned() {
                    node.open.push(Open { stage: Stage::Stopping, ..open });
                }
            }
            Self::StartsAllAtOnce if node.phase == NodePhase::Starting => {
                let epoch = node.epoch;
                for slot in node.children.iter_mut().filter(|slot| slot.phase == SlotPhase::Waiting) {
                    let slot = Arc::make_mut(slot);
                    if let Inner::Widget(widget) = &mut slot.inner {
                        start(widget, epoch, now);
                        slot.phase = SlotPhase::Starting;
                    }
                }
            }
            Self::StopsAllAtOnce => {
                let open = node.open.iter().filter(|open| open.kind == OpenKind::Restart);
                let open = open.filter(|open| open.stage == Stage::Stopping);
                let scope: Vec<_> = open.flat_map(|open| open.scope.iter().cloned()).collect();
                for slot in node.children.iter_mut().filter(|slot| scope.contains(&slot.key)) {
                    let slot = Arc::make_mut(slot);
                    if let (Inner::Widget(widget), SlotPhase::Up) = (&mut slot.inner, slot.phase) {
                        stop(widget, now);
                        slot.phase = SlotPhase::Stopping;
                    }
                }
            }
            _ => {}
        }
        for slot in &mut node.children {
            if let Inner::Node(below) = &mut Arc::make_mut(slot).inner {
                self.misdecides(below, events, now);
            }
        }
    }
}

fn each(node: &mut spec::Node, change: &dyn Fn(&mut spec::Widget)) {
    match node {
        spec::Node::Group(group) => group.widgets.iter_mut().for_each(change),
        spec::Node::Supervisor(supervisor) => {
            supervisor.children.iter_mut().for_each(|child| each(&mut child.node, change));
        }
    }
}

fn reverse(node: &mut spec::Node) {
    match node {
        spec::Node::Group(group) => group.widgets.reverse(),
        spec::Node::Supervisor(supervisor) => {
            supervisor.children.reverse();
            supervisor.children.iter_mut().for_each(|child| reverse(&mut child.node));
        }
    }
}

fn start(widget: &mut Widget, epoch: u64, now: Timestamp) {
    for replica in &mut widget.replicas {
        replica.incarnation += 1;
        replica.epoch = epoch;
        replica.phase = ReplicaPhase::Starting;
        replica.since = now;
    }
}

fn stop(widget: &mut Widget, now: Timestamp) {
    widget.fault = None;
    for replica in &mut widget.replicas {
        if matches!(replica.phase, ReplicaPhase::Starting | ReplicaPhase::Up | ReplicaPhase::Failing { .. }) {
            replica.phase = ReplicaPhase::Stopping;
            replica.since = now;
        }
    }
}
