//! What a node decides when a child has ended by itself or failed to start again: OTP's `handle_info({'EXIT', …})`.
//!
//! The unread ends of a node's children are its mailbox, in the order of their times; a failed restart is a message at its end. One is
//! taken up in each plan, and none while it would reach into work that is open: an end of a child that is being stopped joins that work,
//! one of a child that was started already waits for it.

use std::sync::Arc;

use kontrol_core::{
    spec::{AutoShutdown, Intensity, Restart, Strategy},
    time::Timestamp,
};

use crate::{
    desired::{Desired, DesiredChild},
    event::{Cause, Event},
    plan::Planner,
    status::{
        Failure, Inner, Key, Node, NodePhase, Open, OpenKind, Outcome, Slot, SlotPhase, Stage, Why, Widget,
    },
    widget::{Verdict, count, restarts, within},
};

impl Planner<'_> {
    /// Makes at most one decision here and in each node below; says whether there was one.
    pub(crate) fn decide_in(&mut self, node: &mut Node, desired: Desired<'_>) -> bool {
        let mut decided = false;
        for (at, below) in node.nodes_mut() {
            if let Some(desired) = desired.child(at).and_then(DesiredChild::node) {
                decided |= self.decide_in(below, desired);
            }
        }
        if node.phase != NodePhase::Running {
            return decided;
        }
        if let Some(at) = next_fault(node, desired) {
            self.take_up(node, desired, at);
        } else if let Some((at, asked)) = self.next_request(node, desired) {
            self.restart_as_asked(node, at, asked);
        } else if let Some((at, step)) = Self::follows(node, desired) {
            self.follow(node, desired, at, step);
        } else {
            return decided;
        }
        true
    }

    /// Whether a decision could be made at once.
    pub(crate) fn more_waits(&self, node: &Node, desired: Desired<'_>) -> bool {
        let here = node.phase == NodePhase::Running
            && (next_fault(node, desired).is_some()
                || self.next_request(node, desired).is_some()
                || Self::follows(node, desired).is_some());
        here || node.children.iter().zip(desired.children()).any(|(slot, child)| {
            match (&slot.inner, child.node()) {
                (Inner::Node(below), Some(desired)) => self.more_waits(below, desired),
                _ => false,
            }
        })
    }

    fn take_up(&mut self, node: &mut Node, desired: Desired<'_>, at: usize) {
        let (Some(slot), Some(child)) = (node.children.get_mut(at), desired.child(at)) else { return };
        if slot.phase == SlotPhase::Up && slot.widget().is_some_and(|widget| widget.in_place.is_some()) {
            return self.count_in_place(node, desired, at);
        }
        let (normal, because) = match (slot.phase, slot.verdict()) {
            (SlotPhase::Failed(_), _) => {
                let because = Arc::make_mut(slot).failed.take();
                return self.restart(node, desired, at, because, false);
            }
            (_, Verdict::Ended { started, normal, because, .. }) => (started && normal, because),
            (_, Verdict::Pending | Verdict::Started) => return,
        };
        if restarts(child.restart(), normal) {
            let fault = slot.widget().and_then(|widget| widget.fault.as_ref());
            let external = fault.is_some_and(|fault| fault.external);
            return self.restart(node, desired, at, because, external);
        }
        let slot = Arc::make_mut(slot);
        slot.outcome = Some(slot.outcome_of(normal));
        slot.begin_stop(self.now);
        slot.phase = if child.restart() == Restart::Never { SlotPhase::Forgotten } else { SlotPhase::Ended };
        let key = slot.key.clone();
        let event = Event::StaysEnded { node: node.id.clone(), child: key.clone(), restart: child.restart() };
        let because = self.tell_because(event, because);
        node.last = Some(because.clone());
        let decision = node.note(because.clone());
        if let Some(slot) = node.children.get_mut(at) {
            Arc::make_mut(slot).decision = decision;
        }
        if child.significant() && shuts_down(node, desired) {
            let event = Event::ShutsDown { node: node.id.clone(), child: key };
            node.last = Some(self.tell_because(event, Some(because)));
            node.becomes(NodePhase::Stopping(Why::ShutDown), self.now);
        }
    }

    /// Counts a restart, unless something outside led to it; opens it by the strategy, or gives up.
    fn restart(
        &mut self,
        node: &mut Node,
        desired: Desired<'_>,
        at: usize,
        because: Option<Arc<Cause>>,
        external: bool,
    ) {
        let intensity = desired.intensity();
        if external {
            let count = within(&mut node.restarts, intensity, self.now);
            return self.open_restart(node, desired, at, because, count, true);
        }
        let count = count(&mut node.restarts, intensity, self.now);
        if count <= intensity.max_restarts as usize {
            return self.open_restart(node, desired, at, because, count, false);
        }
        // What a template on trial did is undone with it: the window begins anew.
        let returns = because
            .as_ref()
            .and_then(|because| self.return_from_trial(node, desired, at, Failure::Intensity, because));
        match returns {
            Some(returns) => self.open_restart(node, desired, at, Some(returns), 0, true),
            None => self.give_up(node, intensity, count, because),
        }
    }

    pub(crate) fn give_up(
        &mut self,
        node: &mut Node,
        intensity: Intensity,
        count: usize,
        because: Option<Arc<Cause>>,
    ) {
        let event = Event::GaveUp { node: node.id.clone(), count, intensity };
        node.last = Some(self.tell_because(event, because));
        node.becomes(NodePhase::Stopping(Why::GaveUp), self.now);
    }

    /// Opens a restart by the strategy, under a new epoch. `count` restarts lie in the window with it.
    pub(crate) fn open_restart(
        &mut self,
        node: &mut Node,
        desired: Desired<'_>,
        at: usize,
        because: Option<Arc<Cause>>,
        count: usize,
        external: bool,
    ) {
        let intensity = desired.intensity();
        node.epoch = node.epoch.saturating_add(1);
        let strategy = desired.strategy();
        let range = match strategy {
            Strategy::OneForOne => at..at + 1,
            Strategy::RestForOne => at..node.children.len(),
            Strategy::OneForAll => 0..node.children.len(),
        };
        let places = || range.clone().filter_map(|at| Some((node.children.get(at)?, desired.child(at)?)));
        let scope: Arc<[Key]> = places().map(|(slot, _)| slot.key.clone()).collect();
        let returns = |(_, child): &(_, DesiredChild<'_>)| child.restart() != Restart::Never;
        let children = if places().all(|place| returns(&place)) {
            scope.clone()
        } else {
            places().filter(returns).map(|(slot, _)| slot.key.clone()).collect()
        };
        let event = Event::Restarts {
            node: node.id.clone(),
            children,
            strategy,
            epoch: node.epoch,
            count,
            intensity,
            external,
        };
        let cause = self.tell_because(event, because);
        node.last = Some(cause.clone());
        let decision = node.note(cause);
        node.open.push(Open { kind: OpenKind::Restart, scope, stage: Stage::Stopping, decision });
    }
}

impl Node {
    /// Whether open work stands in the way of a decision about this child.
    pub(crate) fn is_busy_with(&self, strategy: Strategy, key: &Key) -> bool {
        match strategy {
            Strategy::OneForOne => self.open.iter().any(|open| open.scope.contains(key)),
            Strategy::RestForOne | Strategy::OneForAll => !self.open.is_empty(),
        }
    }
}

impl Widget {
    /// When what its group has yet to take up happened first.
    fn first_news(&self) -> Option<Timestamp> {
        let fault = self.fault.as_ref().map(|fault| fault.at);
        let in_place = self.in_place.as_ref().map(|in_place| in_place.at);
        fault.into_iter().chain(in_place).min()
    }
}

impl Slot {
    /// How its end counts that is for good: a group or supervisor that gave up has failed, though its supervisor sees a normal end.
    fn outcome_of(&self, normal: bool) -> Outcome {
        let failed = match &self.inner {
            Inner::Node(node) => node.phase != NodePhase::Down(Some(Why::ShutDown)),
            Inner::Widget(widget) => widget.replica_failed || !normal,
        };
        if failed { Outcome::Failed } else { Outcome::Completed }
    }
}

/// The earliest end that can be taken up.
fn next_fault(node: &Node, desired: Desired<'_>) -> Option<usize> {
    let mut first: Option<(Timestamp, bool, usize)> = None;
    for (at, slot) in node.children.iter().enumerate() {
        let time = match (slot.phase, &slot.inner) {
            (SlotPhase::Up, Inner::Widget(widget)) => widget.first_news().map(|at| (at, false)),
            (SlotPhase::Up, Inner::Node(below)) => {
                matches!(below.phase, NodePhase::Down(Some(_))).then_some((below.since, false))
            }
            (SlotPhase::Failed(since), _) => Some((since, true)),
            _ => None,
        };
        if let Some((time, failed)) = time
            && first.is_none_or(|first| (time, failed, at) < first)
            && !node.is_busy_with(desired.strategy(), &slot.key)
        {
            first = Some((time, failed, at));
        }
    }
    first.map(|(_, _, at)| at)
}

/// Whether the end of a significant child, which is noted already, ends the node.
fn shuts_down(node: &Node, desired: Desired<'_>) -> bool {
    match desired.auto_shutdown() {
        AutoShutdown::Never => false,
        AutoShutdown::AnySignificant => true,
        // As in OTP a child between two tries of its restart is active; one that waits behind it is not.
        AutoShutdown::AllSignificant => {
            let mut children = node.children.iter().zip(desired.children());
            !children.any(|(slot, child)| {
                let ended =
                    matches!(slot.phase, SlotPhase::Waiting | SlotPhase::Ended | SlotPhase::Forgotten);
                child.significant() && !ended
            })
        }
    }
}
