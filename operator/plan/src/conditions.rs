//! The conditions of each node, told from its status.

use std::sync::Arc;

use kontrol_core::time::Timestamp;

use crate::{
    Status,
    desired::Desired,
    plan::Planner,
    status::{
        Conditions, Inner, Node, NodePhase, OpenKind, Outcome, Reason, ReplicaPhase, Rollout, Slot,
        SlotPhase, Why, Widget,
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
    let widgets = || node.children.iter().filter_map(|slot| slot.widget());
    let ready = node.phase == NodePhase::Running && node.children.iter().all(|slot| is_ready(slot));
    let working = match node.phase {
        NodePhase::Starting => Some(Reason::Starting),
        NodePhase::Stopping(_) => Some(Reason::Stopping),
        NodePhase::Running => match node.open.first().map(|open| open.kind) {
            Some(OpenKind::Restart | OpenKind::Asked) => Some(Reason::Restarting),
            Some(OpenKind::Manifest) => Some(Reason::Changing),
            None if !node.leaving.is_empty() => Some(Reason::Changing),
            None => widgets().any(Widget::is_rolling).then_some(Reason::RollingOut),
        },
        NodePhase::Down(_) => None,
    };
    let is_down = matches!(node.phase, NodePhase::Down(_));
    let (progresses, progress) = progress(node);
    let halted = (is_down && matches!(down, Reason::BackingOff | Reason::Exhausted)).then_some(down);
    let stalled = halted.or((!progresses).then_some(progress));
    let has_failed = node.children.iter().any(|slot| slot.outcome == Some(Outcome::Failed));
    let unplaced = if ready { None } else { widgets().find_map(Widget::unplaced) };
    let otherwise = if has_failed { Reason::Failed } else { Reason::NotReady };
    let why_not = if is_down { down } else { unplaced.or(working).unwrap_or(otherwise) };
    let completed = node.children.iter().all(|slot| slot.outcome == Some(Outcome::Completed));
    let why = if completed && !node.children.is_empty() { Reason::Completed } else { Reason::AllReady };
    let old = node.conditions;
    node.conditions = Conditions {
        ready: old.ready.becomes(ready, if ready { why } else { why_not }, now),
        reconciling: old.reconciling.becomes(working.is_some(), working.unwrap_or(Reason::Settled), now),
        stalled: old.stalled.becomes(stalled.is_some(), stalled.unwrap_or(Reason::Settled), now),
        progressing: old.progressing.becomes(progresses, progress, now),
        observed_generation: generation,
    };
}

/// Whether the roll-outs of a node and of all below it go on or are done, and how the one stands that is the furthest from it.
fn progress(node: &Node) -> (bool, Reason) {
    let of = |slot: &Arc<Slot>| match &slot.inner {
        Inner::Widget(widget) => widget.progress(),
        Inner::Node(below) => below.conditions.progressing.reason,
    };
    let rank = |reason: &Reason| match reason {
        Reason::Returned => 4,
        Reason::RolloutStalled => 3,
        Reason::RollingOut => 2,
        Reason::Paused => 1,
        _ => 0,
    };
    let reason = node.children.iter().map(of).max_by_key(rank).unwrap_or(Reason::RolledOut);
    (!matches!(reason, Reason::Returned | Reason::RolloutStalled), reason)
}

/// A condition of a widget, told from its status at one moment: the world knows since when it is so.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Finding {
    /// Whether it is so.
    pub status: bool,
    /// Why, in one word.
    pub reason: Reason,
}

/// The conditions of a widget.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WidgetConditions {
    /// All replicas that are wanted run and are healthy, or it has completed.
    pub ready: Finding,
    /// Work is under way on it.
    pub reconciling: Finding,
    /// It stands still though more is wanted.
    pub stalled: Finding,
    /// The manifest's template runs, or a roll-out brings it further.
    pub progressing: Finding,
}

/// The conditions of the widget in a slot of this node; none: it holds no widget.
pub fn of_widget(node: &Node, slot: &Slot) -> Option<WidgetConditions> {
    let widget = slot.widget()?;
    let finding = |status, reason| Finding { status, reason };
    let progress = widget.progress();
    let progresses = !matches!(progress, Reason::Returned | Reason::RolloutStalled);
    let open = node.open.iter().find(|open| open.scope.contains(&slot.key));
    let working = match slot.phase {
        SlotPhase::Starting => Some(Reason::Starting),
        SlotPhase::Stopping => Some(Reason::Stopping),
        SlotPhase::Failed(_) => Some(Reason::Restarting),
        SlotPhase::Up if widget.is_rolling() => Some(Reason::RollingOut),
        SlotPhase::Up if widget.is_changing() => Some(Reason::Restarting),
        SlotPhase::Waiting | SlotPhase::Up | SlotPhase::Ended | SlotPhase::Forgotten => None,
    };
    let working = working.or(open.map(|open| match open.kind {
        OpenKind::Restart | OpenKind::Asked => Reason::Restarting,
        OpenKind::Manifest => Reason::Changing,
    }));
    let halted = match node.phase {
        NodePhase::Down(_) => Some(node.conditions.ready.reason),
        _ => None,
    };
    let ended = match (slot.phase, slot.outcome) {
        (SlotPhase::Ended | SlotPhase::Forgotten, Some(Outcome::Completed)) => Some(Reason::Completed),
        (SlotPhase::Ended | SlotPhase::Forgotten, Some(Outcome::Failed)) => Some(Reason::Failed),
        (SlotPhase::Ended | SlotPhase::Forgotten, None) => Some(Reason::Stopped),
        _ => None,
    };
    let ready = is_ready(slot);
    let otherwise = if slot.phase == SlotPhase::Waiting { Reason::Waiting } else { Reason::NotReady };
    let why_not = widget.unplaced().or(halted).or(working).unwrap_or(otherwise);
    let why = ended.unwrap_or(if ready { Reason::AllReady } else { why_not });
    let stalled = halted
        .filter(|reason| matches!(reason, Reason::BackingOff | Reason::Exhausted))
        .or((!progresses).then_some(progress));
    Some(WidgetConditions {
        ready: finding(ready, why),
        reconciling: finding(working.is_some(), working.unwrap_or(Reason::Settled)),
        stalled: finding(stalled.is_some(), stalled.unwrap_or(Reason::Settled)),
        progressing: finding(progresses, progress),
    })
}

impl Widget {
    /// How its roll-out stands.
    fn progress(&self) -> Reason {
        match (&self.bad, self.rollout) {
            (Some(_), _) => Reason::Returned,
            (None, Some(Rollout { stalled: true, .. })) => Reason::RolloutStalled,
            (None, Some(Rollout { paused: true, complete: None, .. })) => Reason::Paused,
            (None, Some(Rollout { complete: None, .. })) => Reason::RollingOut,
            (None, _) => Reason::RolledOut,
        }
    }

    /// Whether replicas are being replaced by its roll-out or by a return.
    fn is_rolling(&self) -> bool {
        let on_its_way = self.rollout.is_some_and(|rollout| rollout.complete.is_none() && !rollout.paused);
        self.desired > 0 && (on_its_way || (self.bad.is_some() && self.is_mixed()))
    }

    /// Whether a replica is about to start or to stop.
    fn is_changing(&self) -> bool {
        self.replicas.iter().any(|replica| {
            matches!(
                replica.phase,
                ReplicaPhase::Starting | ReplicaPhase::Stopping | ReplicaPhase::Failing { .. }
            )
        })
    }

    /// Why a replica has no place.
    fn unplaced(&self) -> Option<Reason> {
        let placements = || self.replicas.iter().filter_map(|replica| replica.placement.as_ref());
        if placements().any(|placement| placement.waits_for.is_some()) {
            return Some(Reason::NodeLost);
        }
        placements().any(|placement| placement.unplaced.is_some()).then_some(Reason::Unschedulable)
    }
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
