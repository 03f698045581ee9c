//! Numbers, order and phases: what one write makes of the tree.

use std::time::Duration;

use kontrol_core::{
    id::{InstanceId, Name, ObjectId},
    spec::{self, Strategy},
};
use kontrol_plan::{
    Event, InstanceState,
    status::{Inner, Kind, Node, NodePhase, OpenKind, Replica, ReplicaPhase, Slot, SlotPhase, Stage},
};

use super::{Checked, Checks, Commit, Rule, widget_id};
use crate::processes::{Key, Processes};

/// No observation is older than this.
const LATEST: Duration = Duration::from_secs(4);

impl Checks {
    pub(super) fn node(&mut self, commit: &Commit<'_>, old: Option<&Node>, new: &Node) -> Checked {
        self.epoch(commit, old, new)?;
        if let Some(desired) = commit.desired.and_then(|desired| find(desired, &new.id, new.kind)) {
            follows(desired, new)?;
        }
        decided(commit, old, new)?;
        left(commit, old, new)?;
        for (at, slot) in new.children.iter().enumerate() {
            let before = old.and_then(|old| slot_before(old, slot));
            self.slot(commit, new, at, before, slot)?;
            if let Inner::Node(below) = &slot.inner {
                let before = before.and_then(|before| match &before.inner {
                    Inner::Node(node) => Some(&**node),
                    Inner::Widget(_) => None,
                });
                self.node(commit, before, below)?;
            }
        }
        Ok(())
    }

    fn epoch(&mut self, commit: &Commit<'_>, old: Option<&Node>, new: &Node) -> Checked {
        let known = self.epochs.insert(new.id.clone(), new.epoch).unwrap_or(0);
        if new.epoch < known {
            return Err((
                Rule::NumbersGrow,
                format!("the epoch of {} fell from {known} to {}", new.id, new.epoch),
            ));
        }
        let restarted = |event: &&Event| matches!(event, Event::Restarts { node, .. } if *node == new.id);
        let gave_up = |event: &&Event| matches!(event, Event::GaveUp { node, .. } if *node == new.id);
        let in_place = |event: &Event| match event {
            Event::Counts { node, times, .. } if *node == new.id => *times as usize,
            _ => 0,
        };
        let in_place: usize = commit.events.iter().map(in_place).sum();
        let restarts = commit.events.iter().filter(restarted).count() + in_place;
        let external = |event: &&Event| matches!(event, Event::Restarts { external: true, .. });
        let external = commit.events.iter().filter(restarted).filter(external).count();
        let begun = new.epoch.saturating_sub(old.map_or(0, |old| old.epoch));
        // A start of the whole node begins an epoch too, and an empty window.
        let started = new.since == commit.planned && begun == 1 + restarts as u64;
        if started {
            self.windows.insert(new.id.clone(), new.restarts.clone());
        } else if begun != restarts as u64 {
            return Err((
                Rule::OneRestartPerFault,
                format!("{}: {begun} epochs began with {restarts} restarts", new.id),
            ));
        }
        // What exhausts the window in place is in it already.
        let gave_up = if in_place > 0 { 0 } else { commit.events.iter().filter(gave_up).count() };
        let counted = restarts - external + gave_up;
        let entries = new.restarts.iter().filter(|at| **at == commit.planned).count();
        let cleared = new.restarts.is_empty();
        if entries != counted && !cleared {
            return Err((
                Rule::OneRestartPerFault,
                format!("{}: {entries} entries of the window for {counted} restarts", new.id),
            ));
        }
        Ok(())
    }

    fn slot(
        &mut self,
        commit: &Commit<'_>,
        node: &Node,
        at: usize,
        old: Option<&Slot>,
        slot: &Slot,
    ) -> Checked {
        let was = old.map(|old| old.phase);
        let desired = commit.desired.and_then(|desired| find(desired, &node.id, node.kind));
        let strategy = desired.map(strategy);
        // The restart that the slot is part of, where its order binds the whole scope.
        let open =
            node.open.iter().find(|open| open.kind == OpenKind::Restart && open.scope.contains(&slot.key));
        let bound = |other: &Slot| open.is_some_and(|open| open.scope.contains(&other.key));
        if slot.phase == SlotPhase::Stopping && was != Some(SlotPhase::Stopping) {
            // Work on some children and the stop of all may be decided at once: then the work's own scope has begun.
            let begun = node.open.iter().any(|open| open.scope.contains(&slot.key));
            let all = matches!(node.phase, NodePhase::Stopping(_)) && !begun;
            for later in node.children.iter().skip(at + 1).filter(|later| all || bound(later)) {
                if let Some((id, incarnation)) = lives(commit.processes, node, later) {
                    let what = format!("{}/{} is stopped while {id} #{incarnation} lives", node.id, slot.key);
                    return Err((Rule::StopOrder, what));
                }
            }
        }
        if slot.phase == SlotPhase::Starting && was != Some(SlotPhase::Starting) {
            let in_order = node.phase == NodePhase::Starting
                || (open.is_some() && strategy.is_some_and(|strategy| strategy != Strategy::OneForOne));
            let all = node.phase == NodePhase::Starting;
            let before = node.children.iter().take(at).filter(|earlier| in_order && (all || bound(earlier)));
            for earlier in before {
                if matches!(earlier.phase, SlotPhase::Waiting | SlotPhase::Starting | SlotPhase::Stopping) {
                    let what = format!("{}/{} is started before {}", node.id, slot.key, earlier.key);
                    return Err((Rule::StartOrder, what));
                }
            }
            let begun = open.is_none_or(|open| open.stage == Stage::Starting);
            for later in node.children.iter().skip(at + 1).filter(|later| in_order && bound(later)) {
                if let Some((id, incarnation)) = lives(commit.processes, node, later).filter(|_| begun) {
                    let what = format!("{}/{} is started while {id} #{incarnation} lives", node.id, slot.key);
                    return Err((Rule::StartOrder, what));
                }
            }
        }
        let widget = desired.and_then(|desired| match desired {
            spec::Node::Group(group) => group.widgets.iter().find(|widget| widget.id.widget == slot.key.name),
            spec::Node::Supervisor(_) => None,
        });
        if let (Some(old), Some(spec)) = (old, widget) {
            budget(commit, node, old, slot, spec)?;
        }
        self.replicas(commit, node, slot, widget)
    }

    fn replicas(
        &mut self,
        commit: &Commit<'_>,
        node: &Node,
        slot: &Slot,
        spec: Option<&spec::Widget>,
    ) -> Checked {
        let Inner::Widget(widget) = &slot.inner else { return Ok(()) };
        if let Some(scaling) = spec.and_then(|spec| spec.scaling.as_ref())
            && !(scaling.min..=scaling.max).contains(&widget.desired)
        {
            let what = format!("{} replicas of {}/{} are decided", widget.desired, node.id, slot.key);
            return Err((Rule::Limits, what));
        }
        for (ordinal, replica) in (0_u32..).zip(&widget.replicas) {
            let id = InstanceId { widget: widget_id(node, slot), ordinal };
            let known = self.incarnations.insert(id.clone(), replica.incarnation).unwrap_or(0);
            if replica.incarnation < known {
                let what = format!("the incarnation of {id} fell from {known} to {}", replica.incarnation);
                return Err((Rule::NumbersGrow, what));
            }
            let key = (id, replica.incarnation);
            let started = || commit.processes.get(&key).is_some_and(|process| process.was_started);
            if replica.phase == ReplicaPhase::Up && !started() {
                return Err((
                    Rule::StartedIsTrue,
                    format!("{} #{} counts as started and never was", key.0, key.1),
                ));
            }
        }
        Ok(())
    }
}

/// What a roll-out takes away leaves as many replicas ready as the manifest wants. What was not ready, as far as anybody can have seen it, is
/// taken away with nothing.
fn budget(commit: &Commit<'_>, node: &Node, old: &Slot, new: &Slot, spec: &spec::Widget) -> Checked {
    let (Inner::Widget(before), Inner::Widget(after)) = (&old.inner, &new.inner) else { return Ok(()) };
    if old.phase != SlotPhase::Up || new.phase != SlotPhase::Up {
        return Ok(());
    }
    let is_ready = |replica: &Replica| replica.phase == ReplicaPhase::Up && replica.ready;
    let was_seen_ready = |ordinal: u32, incarnation: u64| {
        let key = (InstanceId { widget: widget_id(node, new), ordinal }, incarnation);
        commit.processes.get(&key).is_some_and(|process| {
            let seen = process.instance.since.plus(LATEST) <= commit.planned;
            let health = if spec.health.is_none() { InstanceState::Running } else { InstanceState::Ready };
            seen && !process.fenced && [health, InstanceState::Ready].contains(&process.instance.state)
        })
    };
    let pairs = (0_u32..).zip(before.replicas.iter().zip(&after.replicas)).take(after.desired as usize);
    let rolled = pairs.into_iter().any(|(ordinal, (old, new))| {
        is_ready(old)
            && new.phase == ReplicaPhase::Stopping
            && new.incarnation == old.incarnation
            && new.revision != old.revision
            && was_seen_ready(ordinal, old.incarnation)
    });
    let ready = after.replicas.iter().filter(|replica| is_ready(replica)).count();
    let least = after.desired.saturating_sub(spec.rollout.unavailable(after.desired)) as usize;
    if !rolled || ready >= least {
        return Ok(());
    }
    Err((Rule::Budget, format!("{}: {ready} replicas are left of {least}", spec.id)))
}

/// The same child in an earlier status: a child that left the manifest may have come back, and the other way round.
fn slot_before<'a>(old: &'a Node, slot: &Slot) -> Option<&'a Slot> {
    old.children.iter().chain(&old.leaving).map(|slot| &**slot).find(|before| before.key == slot.key)
}

/// A process at or below this slot that lives.
fn lives<'a>(processes: &'a Processes, node: &Node, slot: &Slot) -> Option<&'a Key> {
    match &slot.inner {
        Inner::Widget(_) => processes.lives(&widget_id(node, slot)),
        Inner::Node(below) => below.children.iter().find_map(|slot| lives(processes, below, slot)),
    }
}

/// The children are those of the manifest, in its order.
fn follows(desired: &spec::Node, node: &Node) -> Checked {
    let names: Vec<&Name> = match desired {
        spec::Node::Group(group) => group.widgets.iter().map(|widget| &widget.id.widget).collect(),
        spec::Node::Supervisor(supervisor) => {
            supervisor.children.iter().map(|child| &child.node.id().name).collect()
        }
    };
    if node.children.iter().map(|slot| &slot.key.name).eq(names.iter().copied()) {
        return Ok(());
    }
    Err((Rule::Manifest, format!("the children of {} are not {names:?}", node.id)))
}

/// Work that is under way was decided: no more of it than before, but for what is told.
fn decided(commit: &Commit<'_>, old: Option<&Node>, new: &Node) -> Checked {
    for kind in [OpenKind::Restart, OpenKind::Manifest, OpenKind::Asked] {
        let count = |node: &Node| node.open.iter().filter(|open| open.kind == kind).count();
        let told = commit.events.iter().filter(|event| match event {
            Event::Restarts { node, .. } => kind == OpenKind::Restart && *node == new.id,
            Event::Follows { node, .. } => kind == OpenKind::Manifest && *node == new.id,
            Event::Asked { node, child: Some(_) } => kind == OpenKind::Asked && *node == new.id,
            _ => false,
        });
        if count(new) > old.map_or(0, count) + told.count() {
            let what = format!("{}: {kind:?} is under way {} times", new.id, count(new));
            return Err((Rule::OneRestartPerFault, what));
        }
    }
    Ok(())
}

/// Children that the manifest no longer has are stopped from the last to the first.
fn left(commit: &Commit<'_>, old: Option<&Node>, new: &Node) -> Checked {
    for (at, slot) in new.leaving.iter().enumerate().filter(|(_, slot)| slot.phase == SlotPhase::Stopping) {
        let before = old.and_then(|old| slot_before(old, slot));
        if before.is_some_and(|before| before.phase == SlotPhase::Stopping) {
            continue;
        }
        for later in new.leaving.iter().skip(at + 1) {
            if let Some((id, incarnation)) = lives(commit.processes, new, later) {
                let what = format!("{}/{} is stopped while {id} #{incarnation} lives", new.id, slot.key);
                return Err((Rule::StopOrder, what));
            }
        }
    }
    Ok(())
}

fn strategy(node: &spec::Node) -> Strategy {
    match node {
        spec::Node::Group(group) => group.strategy,
        spec::Node::Supervisor(supervisor) => supervisor.strategy,
    }
}

/// A node of the manifest.
fn find<'a>(desired: &'a spec::Node, id: &ObjectId, kind: Kind) -> Option<&'a spec::Node> {
    match desired {
        spec::Node::Group(group) => (group.id == *id && kind == Kind::Group).then_some(desired),
        spec::Node::Supervisor(supervisor) if supervisor.id == *id && kind == Kind::Supervisor => {
            Some(desired)
        }
        spec::Node::Supervisor(supervisor) => {
            supervisor.children.iter().find_map(|child| find(&child.node, id, kind))
        }
    }
}
