//! Roll-outs: how a widget moves from one template to the next, and back where the next one fails.
//!
//! ```text
//!                       all ready, and no end too many for as long as ends are counted
//!   good ──new template──► on trial ─────────────────────────────────────────────────► good
//!    ▲                        │ more ends than the intensity bears, no progress, no start
//!    └────── returned ◄───────┘            (with autoRollback; else it stands still)
//! ```
//!
//! - Children follow in the order of their group, one at a time. A child of one replica is stopped and started as a whole. One of several,
//!   or with surge, keeps running: replicas are replaced one after the other, those that are not ready first, because that takes nothing
//!   away, then from the highest ordinal down, as long as no more than `maxUnavailable` of those desired are missing, for whatever reason.
//! - Surge is extra ordinals above the highest, with incarnations of their own: two processes of one replica would share its identity. A
//!   widget whose replicas have an identity of their own has no surge.
//! - A replica that ends meanwhile comes back with the template that it had, if that is good: only the roll-out moves it.
//! - A template is good once all replicas have run it and were ready for as long as ends are counted. Until then it is on trial; the first
//!   one of a widget has nothing to return to.
//! - What was ready once and does not stay so makes no progress: it has until its deadline, too.
//! - What failed is not tried again until the manifest has another template. That one is tried at once, whatever the last one left behind.

use std::sync::Arc;

use kontrol_core::{
    spec::{self, Revision},
    time::Timestamp,
};

use crate::{
    desired::{Desired, DesiredChild},
    event::{Cause, Event},
    plan::Planner,
    status::{Bad, Failure, Node, Outcome, Replica, ReplicaPhase, Rollout, Slot, SlotPhase, Widget},
    widget::Begin,
};

/// What a child's roll-out can do now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// Nothing: it is done.
    Done,
    /// Nothing, and those after it wait as well.
    Wait,
    /// The child is stopped and started as a whole.
    Whole,
    /// Some of its replicas can be replaced.
    Some,
}

impl Widget {
    /// The template that its replicas are to run: the manifest's, unless that has failed or the roll-out is paused.
    pub(crate) fn target(&self, spec: &spec::Widget) -> Revision {
        let has_run = self.replicas.iter().any(|replica| replica.incarnation > 0);
        if spec.rollout.paused && has_run {
            return self.revision;
        }
        match (&self.bad, self.good) {
            (Some(bad), Some(good)) if bad.revision == spec.revision => good,
            _ => spec.revision,
        }
    }

    /// Turns to a template. One that is not known to be good is on trial, where another one ran before.
    pub(crate) fn turn_to(&mut self, revision: Revision, spec: &spec::Widget, now: Timestamp) {
        if revision != self.revision {
            self.prove(spec, now);
            self.complete = None;
        }
        let ran_another = revision != self.revision && self.replicas.iter().any(|it| it.incarnation > 0);
        self.revision = revision;
        if self.good == Some(revision) {
            self.rollout = None;
        } else if self.rollout.map_or(ran_another, |rollout| rollout.to != revision) {
            self.rollout = Some(Rollout {
                to: revision,
                since: now,
                progressed: now,
                updated: 0,
                complete: None,
                stalled: false,
                paused: false,
                surge: 0,
            });
        }
    }

    /// What has run well for as long as ends are counted is good.
    fn prove(&mut self, spec: &spec::Widget, now: Timestamp) {
        if self.complete.is_some_and(|complete| now.since(complete) >= spec.intensity.period) {
            self.good = Some(self.revision);
            self.rollout = None;
        }
    }

    /// The template of a replica's next process.
    pub(crate) fn next_revision(&self, ordinal: usize, spec: &spec::Widget) -> Revision {
        let Some(replica) = self.replicas.get(ordinal).filter(|replica| replica.incarnation > 0) else {
            return self.revision;
        };
        let keeps_good = self.rollout.is_some() && rolls(self, spec) && Some(replica.revision) == self.good;
        if keeps_good || spec.rollout.paused { replica.revision } else { self.revision }
    }

    pub(crate) fn desired_replicas(&self) -> &[Replica] {
        self.replicas.get(..self.desired as usize).unwrap_or(&self.replicas)
    }

    /// Whether a replica that is desired has another template than the widget.
    pub(crate) fn is_mixed(&self) -> bool {
        self.desired_replicas().iter().any(|replica| replica.revision != self.revision)
    }

    /// Whether all that is desired runs the widget's template and is ready.
    fn is_complete(&self) -> bool {
        let replicas = self.desired_replicas();
        // What is not restarted after an end is done, also where it never started.
        let failed_to_start = self.fault.as_ref().is_some_and(|fault| !fault.started);
        self.desired > 0
            && !failed_to_start
            && replicas.len() == self.desired as usize
            && replicas.iter().all(|replica| {
                replica.revision == self.revision && (replica.ready || replica.phase == ReplicaPhase::Done)
            })
    }

    /// The replicas that can be replaced now without more of them missing than may.
    fn due(&self, spec: &spec::Widget) -> Vec<usize> {
        let is_ready = |replica: &&Replica| replica.phase == ReplicaPhase::Up && replica.ready;
        let running = self.replicas.get(..self.wanted()).unwrap_or(&self.replicas);
        let mut ready = running.iter().filter(is_ready).count();
        let least = self.desired.saturating_sub(spec.rollout.unavailable(self.desired)) as usize;
        let mut due = Vec::new();
        for (ordinal, replica) in self.desired_replicas().iter().enumerate().rev() {
            // One that is being stopped because it failed ends by that, and comes back before its turn is.
            if replica.revision == self.revision || matches!(replica.phase, ReplicaPhase::Failing { .. }) {
                continue;
            }
            if !is_ready(&replica) {
                due.push(ordinal);
            } else if ready > least {
                ready -= 1;
                due.push(ordinal);
            }
        }
        due
    }

    /// Whether there is something to take note of in its roll-out.
    fn has_news(&self, spec: &spec::Widget, complete: bool) -> bool {
        self.rollout.is_some()
            || self.bad.as_ref().is_some_and(|bad| bad.revision != spec.revision)
            || self.complete.is_some() != complete
    }
}

/// Whether a widget's replicas are replaced one after the other; else it is stopped and started as a whole.
pub(crate) fn rolls(widget: &Widget, spec: &spec::Widget) -> bool {
    widget.desired > 1 || (widget.desired == 1 && surge(widget, spec) > 0)
}

fn surge(widget: &Widget, spec: &spec::Widget) -> u32 {
    if widget.identity { 0 } else { spec.rollout.surge(widget.desired) }
}

/// What is next in the roll-out of a child.
pub(crate) fn step(slot: &Slot, spec: &spec::Widget) -> Step {
    let Some(widget) = slot.widget() else { return Step::Done };
    let target = widget.target(spec);
    let is_held = spec.rollout.paused && (widget.revision != spec.revision || widget.is_mixed());
    if is_held && widget.bad.is_none() {
        return Step::Wait;
    }
    if slot.phase != SlotPhase::Up || widget.fault.is_some() || !rolls(widget, spec) {
        return if widget.revision == target { Step::Done } else { Step::Whole };
    }
    if widget.revision != target {
        return Step::Some;
    }
    if widget.is_mixed() {
        return if widget.due(spec).is_empty() { Step::Wait } else { Step::Some };
    }
    let incomplete = widget.rollout.is_some_and(|rollout| rollout.complete.is_none());
    if incomplete && widget.desired > 0 { Step::Wait } else { Step::Done }
}

impl Planner<'_> {
    /// Takes note of how roll-outs go, here and below.
    pub(crate) fn track(&mut self, node: &mut Node, desired: Desired<'_>) {
        for (slot, child) in node.children.iter_mut().zip(desired.children()) {
            match child {
                DesiredChild::Widget(spec) => {
                    let runs = matches!(slot.phase, SlotPhase::Starting | SlotPhase::Up);
                    let done = match slot.phase {
                        SlotPhase::Ended => slot.outcome != Some(Outcome::Failed),
                        // It is forgotten after a good end, or because it never started.
                        SlotPhase::Forgotten => slot.widget().is_some_and(|it| it.complete.is_some()),
                        _ => false,
                    };
                    let Some(widget) = slot.widget() else { continue };
                    let complete = (runs || done) && widget.is_complete();
                    if widget.has_news(spec, complete)
                        && let Some(widget) = slot.widget_mut()
                    {
                        self.track_widget(widget, spec, runs, complete);
                    }
                }
                DesiredChild::Node(child) => {
                    if let Some(below) = slot.node_mut() {
                        self.track(below, Desired(&child.node));
                    }
                }
            }
        }
    }

    fn track_widget(&mut self, widget: &mut Widget, spec: &spec::Widget, runs: bool, complete: bool) {
        if widget.bad.as_ref().is_some_and(|bad| bad.revision != spec.revision) {
            widget.bad = None;
        }
        if complete {
            widget.complete.get_or_insert(self.now);
        } else {
            widget.prove(spec, self.now);
            widget.complete = None;
        }
        let Some(mut rollout) = widget.rollout else { return };
        let ready =
            |replica: &&Replica| replica.revision == rollout.to && (replica.ready || replica.unserved);
        let updated =
            u32::try_from(widget.desired_replicas().iter().filter(ready).count()).unwrap_or(u32::MAX);
        if updated > rollout.updated {
            rollout.updated = updated;
            rollout.progressed = self.now;
        }
        if rollout.paused != spec.rollout.paused {
            rollout.paused = spec.rollout.paused;
            rollout.progressed = self.now;
        }
        if complete {
            rollout.surge = 0;
            rollout.stalled = false;
            if rollout.complete.is_none() {
                rollout.complete = Some(self.now);
                let after = self.now.since(rollout.since);
                self.tell(Event::RolledOut { widget: spec.id.clone(), revision: rollout.to, after });
            }
        }
        widget.rollout = Some(rollout);
        let stands = complete || rollout.stalled || rollout.paused;
        // Where all are ready by their own word and callers are only not sent to them, it is not the revision that fails.
        let stands = stands || updated == widget.desired || !runs;
        if stands {
            return;
        }
        let progressed = rollout.progressed.max(self.observed.sees_since);
        let deadline = progressed.plus(spec.rollout.progress_deadline);
        if self.now < deadline {
            self.wake_at(deadline);
            return;
        }
        let because = widget.last.clone();
        self.end_trial(widget, spec, Failure::Deadline, because);
    }

    /// The revision on trial has failed with ends of its replicas: returns to the last good one, and tells the cause; none: it may not.
    pub(crate) fn fail_trial(
        &mut self,
        widget: &mut Widget,
        spec: &spec::Widget,
        why: Failure,
        because: &Arc<Cause>,
    ) -> Option<Arc<Cause>> {
        self.end_trial(widget, spec, why, Some(because.clone()))
    }

    fn end_trial(
        &mut self,
        widget: &mut Widget,
        spec: &spec::Widget,
        why: Failure,
        because: Option<Arc<Cause>>,
    ) -> Option<Arc<Cause>> {
        let rollout = widget.rollout.as_mut()?;
        let (from, id) = (rollout.to, spec.id.clone());
        if from != spec.revision {
            return None;
        }
        let Some(good) = widget.good.filter(|_| spec.rollout.auto_rollback) else {
            if !rollout.stalled {
                rollout.stalled = true;
                self.tell(Event::RolloutStalls { widget: id, revision: from, why });
            }
            return None;
        };
        widget.rollout = None;
        widget.bad = Some(Bad { revision: from, why, at: self.now, because: because.clone() });
        let event = Event::Returns { widget: id, from, to: good, why };
        let cause = self.tell_because(event, because);
        widget.last = Some(cause.clone());
        Some(cause)
    }

    /// A group had more ends than it bears, or could not be started: children on trial return, the one that ended before others.
    pub(crate) fn return_from_trial(
        &mut self,
        node: &mut Node,
        desired: Desired<'_>,
        at: usize,
        why: Failure,
        because: &Arc<Cause>,
    ) -> Option<Arc<Cause>> {
        let on_trial = |slot: &Arc<Slot>| {
            slot.widget().is_some_and(|widget| widget.rollout.is_some() && widget.good.is_some())
        };
        let alone = node.children.get(at).is_some_and(on_trial);
        let mut returned = None;
        for (place, slot) in node.children.iter_mut().enumerate() {
            if !on_trial(slot) || (alone && place != at) {
                continue;
            }
            let spec = desired.child(place).and_then(DesiredChild::widget);
            if let (Some(spec), Some(widget)) = (spec, slot.widget_mut()) {
                returned = self.fail_trial(widget, spec, why, because).or(returned);
            }
        }
        if returned.is_some() {
            node.restarts.clear();
        }
        returned
    }

    /// Goes on with the roll-out of a child of several replicas.
    pub(crate) fn roll(&mut self, node: &mut Node, spec: &spec::Widget, at: usize) {
        let epoch = node.epoch;
        let begin = Begin { spec, epoch, avoid: self.avoid, now: self.now };
        let Some(widget) = node.children.get_mut(at).and_then(|slot| slot.widget_mut()) else { return };
        let target = widget.target(spec);
        let mut told = None;
        if widget.revision != target {
            let from = widget.revision;
            widget.turn_to(target, spec, self.now);
            let event = Event::RollsOut { widget: spec.id.clone(), from, to: target };
            told = Some(self.tell_because(event, widget.last.clone().filter(|_| widget.bad.is_some())));
            let surge = surge(widget, spec);
            if let Some(rollout) = &mut widget.rollout {
                rollout.surge = surge;
            }
        }
        for ordinal in widget.due(spec) {
            let Some(replica) = widget.replicas.get_mut(ordinal) else { continue };
            replica.revision = target;
            if replica.is_active() {
                replica.stop(self.now);
            } else {
                replica.phase = ReplicaPhase::Down;
            }
        }
        widget.fit(begin);
        if let Some(told) = told {
            let decision = node.note(told);
            if let Some(slot) = node.children.get_mut(at) {
                Arc::make_mut(slot).decision = decision;
            }
        }
    }
}
