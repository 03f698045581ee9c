//! How a node starts its children in order, stops them in reverse, and carries open work on: one child at a time, the next when the
//! one before has started or is gone.

use std::sync::Arc;

use kontrol_core::{spec::Restart, time::Timestamp};

use crate::{
    desired::{Desired, DesiredChild},
    event::{Cause, Event},
    plan::Planner,
    status::{Failure, Inner, Node, NodePhase, Open, OpenKind, Slot, SlotPhase, Stage, Why, decision_of},
    widget::{Begin, Verdict},
};

impl Node {
    /// Whether nothing of it runs.
    pub(crate) fn is_gone(&self) -> bool {
        matches!(self.phase, NodePhase::Down(_))
    }

    pub(crate) fn becomes(&mut self, phase: NodePhase, now: Timestamp) {
        self.phase = phase;
        self.since = now;
    }

    /// Starts it: all its children are to be started in order, with a window that is empty. `because` is the decision to start it again.
    pub(crate) fn begin_start(&mut self, because: Option<Arc<Cause>>, now: Timestamp) {
        if self.highest_incarnation() > 0 {
            self.epoch = self.epoch.saturating_add(1);
        }
        self.restarts.clear();
        self.open.clear();
        self.up_since = None;
        let decision = because.map(|because| self.note(because));
        for slot in self.children.iter_mut().map(Arc::make_mut) {
            slot.phase = SlotPhase::Waiting;
            slot.decision = decision.unwrap_or(slot.decision);
        }
        self.becomes(NodePhase::Starting, now);
    }

    /// Stops it. An own end that its parent has not taken up is part of that.
    pub(crate) fn begin_stop(&mut self, now: Timestamp) {
        match self.phase {
            NodePhase::Down(None) | NodePhase::Stopping(Why::Asked) => {}
            NodePhase::Down(Some(_)) => self.becomes(NodePhase::Down(None), now),
            NodePhase::Starting | NodePhase::Running | NodePhase::Stopping(_) => {
                self.becomes(NodePhase::Stopping(Why::Asked), now);
            }
        }
    }

    fn verdict(&self) -> Verdict {
        match self.phase {
            NodePhase::Running => Verdict::Started,
            NodePhase::Down(Some(why)) => Verdict::Ended {
                at: self.since,
                started: why != Why::StartFailed,
                // OTP: a supervisor that ends by itself does so with reason `shutdown`, which is normal.
                normal: true,
                because: self.last.clone(),
            },
            NodePhase::Starting | NodePhase::Stopping(_) | NodePhase::Down(None) => Verdict::Pending,
        }
    }
}

impl Slot {
    /// Whether nothing in it runs.
    pub(crate) fn is_gone(&self) -> bool {
        match &self.inner {
            Inner::Widget(widget) => widget.is_gone(),
            Inner::Node(node) => node.is_gone(),
        }
    }

    /// How its start goes, or how it ended.
    pub(crate) fn verdict(&self) -> Verdict {
        match &self.inner {
            Inner::Widget(widget) => widget.verdict(),
            Inner::Node(node) => node.verdict(),
        }
    }

    pub(crate) fn begin_stop(&mut self, now: Timestamp) {
        match &mut self.inner {
            Inner::Widget(widget) => widget.begin_stop(now),
            Inner::Node(node) => node.begin_stop(now),
        }
    }

    /// Goes on with stopping; says whether it is gone.
    fn stop(self: &mut Arc<Self>, now: Timestamp) -> bool {
        if self.phase != SlotPhase::Stopping {
            let slot = Arc::make_mut(self);
            slot.begin_stop(now);
            slot.phase = SlotPhase::Stopping;
        }
        self.is_gone()
    }
}

/// How far the start of a slot is.
enum Progress {
    /// It has to be waited for.
    Pending,
    /// It is started, or not to be.
    Done,
    /// Its start failed.
    Failed(Option<Arc<Cause>>),
}

impl Planner<'_> {
    /// Carries on what is under way in this node and below; says whether something changed.
    pub(crate) fn advance(&mut self, node: &mut Node, desired: Option<Desired<'_>>, floor: &mut u64) -> bool {
        let mut changed = false;
        for (at, below) in node.nodes_mut() {
            let desired = desired.and_then(|desired| desired.child(at)).and_then(DesiredChild::node);
            changed |= self.advance(below, desired, floor);
        }
        for below in node.leaving.iter_mut().filter_map(|slot| slot.node_mut()) {
            changed |= self.advance(below, None, floor);
        }
        changed |= self.dismiss(node, floor);
        changed
            | match (node.phase, desired) {
                (NodePhase::Starting, Some(desired)) => self.go_on_starting(node, desired),
                (NodePhase::Running, Some(desired)) => self.go_on_running(node, desired),
                (NodePhase::Stopping(why), _) => self.go_on_stopping(node, why),
                (NodePhase::Down(_), _) | (_, None) => false,
            }
    }

    /// Stops children that the manifest no longer has, the last one first, and lets them go.
    fn dismiss(&mut self, node: &mut Node, floor: &mut u64) -> bool {
        let mut changed = false;
        while let Some(slot) = node.leaving.last_mut() {
            changed |= slot.phase != SlotPhase::Stopping;
            if !slot.stop(self.now) {
                break;
            }
            *floor = (*floor).max(slot.highest_incarnation());
            node.leaving.pop();
            changed = true;
        }
        changed
    }

    fn go_on_starting(&mut self, node: &mut Node, desired: Desired<'_>) -> bool {
        let mut changed = false;
        for at in 0..node.children.len() {
            match self.start_slot(node, desired, at, None, &mut changed) {
                Progress::Pending => return changed,
                Progress::Done => {}
                Progress::Failed(because) => {
                    self.tell_start_failed(node, at, because);
                    if let Some(because) = node.last.clone() {
                        let returns = self.return_from_trial(node, desired, at, Failure::Start, &because);
                        node.last = returns.or(node.last.take());
                    }
                    node.becomes(NodePhase::Stopping(Why::StartFailed), self.now);
                    return true;
                }
            }
        }
        node.becomes(NodePhase::Running, self.now);
        node.up_since = Some(self.now);
        self.tell(Event::Started { node: node.id.clone() });
        true
    }

    fn go_on_running(&mut self, node: &mut Node, desired: Desired<'_>) -> bool {
        let mut changed = false;
        let mut open = std::mem::take(&mut node.open);
        open.retain_mut(|open| {
            let goes_on = self.go_on_with(node, desired, open, &mut changed);
            changed |= !goes_on;
            goes_on
        });
        node.open = open;
        changed
    }

    /// Carries one piece of open work on; says whether it stays open.
    fn go_on_with(
        &mut self,
        node: &mut Node,
        desired: Desired<'_>,
        open: &mut Open,
        changed: &mut bool,
    ) -> bool {
        let places = node.places(&open.scope);
        if open.stage == Stage::Stopping {
            for &at in places.iter().rev() {
                let restart = desired.child(at).map(DesiredChild::restart);
                let Some(slot) = node.children.get_mut(at) else { continue };
                if matches!(slot.phase, SlotPhase::Waiting | SlotPhase::Forgotten)
                    && open.kind == OpenKind::Restart
                    && slot.is_gone()
                {
                    continue;
                }
                *changed |= slot.phase != SlotPhase::Stopping;
                if !slot.stop(self.now) {
                    return true;
                }
                let forgotten = open.kind == OpenKind::Restart && restart == Some(Restart::Never);
                let slot = Arc::make_mut(slot);
                slot.phase = if forgotten { SlotPhase::Forgotten } else { SlotPhase::Waiting };
                slot.decision = open.decision;
            }
            open.stage = Stage::Starting;
            *changed = true;
        }
        for &at in &places {
            match self.start_slot(node, desired, at, Some(open.decision), changed) {
                Progress::Pending => return true,
                Progress::Done => {}
                Progress::Failed(because) => {
                    self.tell_start_failed(node, at, because);
                    let failed = node.last.clone();
                    if let Some(slot) = node.children.get_mut(at).map(Arc::make_mut) {
                        slot.begin_stop(self.now);
                        slot.phase = SlotPhase::Failed(self.now);
                        slot.failed = failed;
                    }
                    return false;
                }
            }
        }
        false
    }

    /// Starts a child whose turn it is, and sees how far it is. `decision` is that to start it, where it is not that to start the node.
    fn start_slot(
        &mut self,
        node: &mut Node,
        desired: Desired<'_>,
        at: usize,
        decision: Option<u64>,
        changed: &mut bool,
    ) -> Progress {
        let epoch = node.epoch;
        let (Some(slot), Some(child)) = (node.children.get_mut(at), desired.child(at)) else {
            return Progress::Done;
        };
        if slot.phase == SlotPhase::Stopping && slot.is_gone() {
            Arc::make_mut(slot).phase = SlotPhase::Waiting;
        }
        if slot.phase == SlotPhase::Waiting {
            let slot = Arc::make_mut(slot);
            slot.outcome = None;
            slot.decision = decision.unwrap_or(slot.decision);
            self.satisfy_requests(&node.id, slot);
            match (&mut slot.inner, child) {
                (Inner::Widget(widget), DesiredChild::Widget(spec)) => {
                    let because = decision_of(&node.decisions, slot.decision);
                    let again = because.is_some_and(|because| because.event.restarts());
                    widget.begin_start(Begin { spec, epoch, avoid: self.avoid, now: self.now }, again);
                }
                (Inner::Node(below), DesiredChild::Node(_)) => {
                    let because = decision_of(&node.decisions, slot.decision).cloned();
                    below.begin_start(because, self.now);
                }
                (Inner::Widget(_), DesiredChild::Node(_)) | (Inner::Node(_), DesiredChild::Widget(_)) => {
                    return Progress::Done;
                }
            }
            slot.phase = SlotPhase::Starting;
            *changed = true;
        }
        match slot.phase {
            SlotPhase::Starting => match slot.verdict() {
                Verdict::Pending => Progress::Pending,
                Verdict::Started | Verdict::Ended { started: true, .. } => {
                    Arc::make_mut(slot).phase = SlotPhase::Up;
                    *changed = true;
                    Progress::Done
                }
                Verdict::Ended { started: false, because, .. } => Progress::Failed(because),
            },
            SlotPhase::Stopping => Progress::Pending,
            SlotPhase::Up
            | SlotPhase::Waiting
            | SlotPhase::Ended
            | SlotPhase::Forgotten
            | SlotPhase::Failed(_) => Progress::Done,
        }
    }

    fn tell_start_failed(&mut self, node: &mut Node, at: usize, because: Option<Arc<Cause>>) {
        let Some(slot) = node.children.get(at) else { return };
        let event = Event::StartFailed { node: node.id.clone(), child: slot.key.clone() };
        node.last = Some(self.tell_because(event, because));
    }

    fn go_on_stopping(&mut self, node: &mut Node, why: Why) -> bool {
        let mut changed = false;
        for slot in node.children.iter_mut().rev() {
            if slot.phase == SlotPhase::Waiting {
                continue;
            }
            changed |= slot.phase != SlotPhase::Stopping;
            if !slot.stop(self.now) {
                return changed;
            }
            Arc::make_mut(slot).phase = SlotPhase::Waiting;
            changed = true;
        }
        if !node.leaving.is_empty() {
            return changed;
        }
        node.open.clear();
        let id = node.id.clone();
        self.tell(match why {
            Why::Asked => Event::Stopped { node: id },
            Why::GaveUp | Why::ShutDown => Event::Gone { node: id },
            Why::StartFailed => Event::NotStarted { node: id },
        });
        node.becomes(NodePhase::Down(why.is_own().then_some(why)), self.now);
        true
    }
}
