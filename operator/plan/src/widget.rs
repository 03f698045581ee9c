//! A widget and its replicas: what is observed of them, and what their ends mean to the widget.
//!
//! ```text
//!            begin_start             reached the state that counts as started
//!   Down ───────────────► Starting ─────────────────────────────────────────► Up
//!    ▲                      │  │ hung, or not in time                  hung │ │ ended
//!    │ ended: means nothing │  └──────────────► Failing(end) ◄──────────────┘ │
//!    │                      ▼ ended                  │ ended                  ▼
//!   Stopping ◄── stop    the end of a replica ◄──────┘◄───────────────────────┘
//!                           │ EndsWidget: the widget has ended
//!                           │ ReplacesReplica: started again within the widget's own intensity,
//!                           ▼                  or Done by its restart type; too many: the widget has ended
//! ```

use std::sync::Arc;

use kontrol_core::{
    id::{InstanceId, WidgetId},
    limits::REPLICAS,
    spec::{self, ReplicaEnd, Restart, StartedWhen},
    time::Timestamp,
};

use crate::{
    End, Instance, InstanceState,
    event::{Cause, Event},
    instances::find,
    manifest::identity,
    place::{LONG_AGO, Seen},
    plan::Planner,
    status::{Failure, Fault, Replica, ReplicaPhase, Widget},
};

/// What the start of a replica is decided with.
#[derive(Clone, Copy)]
pub(crate) struct Begin<'a> {
    pub(crate) spec: &'a spec::Widget,
    /// The epoch of its group.
    pub(crate) epoch: u64,
    /// Machines that are suspect or lost.
    pub(crate) avoid: &'a [Arc<str>],
    pub(crate) now: Timestamp,
}

/// What a supervisor sees of a child that it starts or has started.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Verdict {
    /// Its start is not complete.
    Pending,
    /// It is started.
    Started,
    /// It ended by itself.
    Ended {
        /// When.
        at: Timestamp,
        /// Whether it was started before; if not, its start failed.
        started: bool,
        /// Whether it counts as normal for the restart type.
        normal: bool,
        /// What led to it.
        because: Option<Arc<Cause>>,
    },
}

impl Widget {
    pub(crate) fn new(spec: &spec::Widget, floor: u64) -> Self {
        Self {
            revision: spec.revision,
            shutdown: spec.shutdown,
            desired: 0,
            floor,
            replicas: Vec::new(),
            restarts: Vec::new(),
            restart_count: 0,
            fault: None,
            replica_failed: false,
            last: None,
            scaling: None,
            good: None,
            complete: None,
            rollout: None,
            bad: None,
            in_place: None,
            identity: identity(spec).0,
            force: identity(spec).1,
        }
    }

    /// Takes over an instance that the status does not know. There are none beyond what a widget can have.
    pub(crate) fn adopt(&mut self, instance: &Instance, now: Timestamp) {
        if instance.id.ordinal >= REPLICAS {
            return;
        }
        let ordinal = instance.id.ordinal as usize;
        if self.replicas.len() <= ordinal {
            self.replicas.resize(ordinal + 1, Replica::DOWN);
        }
        let Some(replica) = self.replicas.get_mut(ordinal) else { return };
        if instance.incarnation > replica.incarnation {
            *replica = Replica {
                incarnation: instance.incarnation,
                epoch: instance.epoch,
                revision: instance.revision,
                phase: ReplicaPhase::Starting,
                since: now,
                restarts: instance.restarts,
                restarted: instance.last_end.as_ref().map_or(Timestamp::ZERO, |last| last.at),
                ..Replica::DOWN
            };
            self.revision = instance.revision;
        }
    }

    /// Whether none of its replicas runs or is about to.
    pub(crate) fn is_gone(&self) -> bool {
        self.replicas.iter().all(|replica| !replica.is_active())
    }

    /// Starts all its replicas. It must be gone. `again` says whether that is a restart of those that have run.
    pub(crate) fn begin_start(&mut self, begin: Begin<'_>, again: bool) {
        if again {
            let floor = self.floor;
            let have_run = self.desired_replicas().iter().filter(|replica| replica.incarnation > floor);
            self.restart_count += u64::from(narrow(have_run.count()));
        }
        self.turn_to(self.target(begin.spec), begin.spec, begin.now);
        self.fault = None;
        self.in_place = None;
        self.replica_failed = false;
        self.restarts.clear();
        for replica in &mut self.replicas {
            replica.phase = ReplicaPhase::Down;
        }
        self.fit(begin);
    }

    /// Lets its replicas run that are wanted, and stops the others.
    pub(crate) fn fit(&mut self, begin: Begin<'_>) {
        let wanted = self.wanted();
        if self.replicas.len() < wanted {
            self.replicas.resize(wanted, Replica::DOWN);
        }
        for ordinal in 0..self.replicas.len() {
            let Some(replica) = self.replicas.get_mut(ordinal) else { continue };
            if ordinal >= wanted {
                replica.stop(begin.now);
            } else if replica.phase == ReplicaPhase::Down && self.fault.is_none() {
                self.start_replica(ordinal, begin);
            }
        }
    }

    /// How many replicas are to run: those desired, and those that a roll-out has beyond them.
    pub(crate) fn wanted(&self) -> usize {
        self.desired.saturating_add(self.rollout.map_or(0, |rollout| rollout.surge)) as usize
    }

    /// Starts the next process of a replica.
    pub(crate) fn start_replica(&mut self, ordinal: usize, begin: Begin<'_>) {
        let revision = self.next_revision(ordinal, begin.spec);
        let floor = self.floor;
        let Some(replica) = self.replicas.get_mut(ordinal) else { return };
        replica.settle_placement(begin, replica.revision != revision);
        replica.incarnation = replica.incarnation.max(floor).saturating_add(1);
        replica.epoch = begin.epoch;
        replica.revision = revision;
        replica.restarts = 0;
        replica.restarted = Timestamp::ZERO;
        replica.becomes(ReplicaPhase::Starting, begin.now);
    }

    /// Whether as many of its replicas run as are wanted.
    pub(crate) fn fits(&self) -> bool {
        let wanted = self.wanted();
        let fits = |(ordinal, replica): (usize, &Replica)| match replica.phase {
            ReplicaPhase::Down => ordinal >= wanted || self.fault.is_some(),
            ReplicaPhase::Done | ReplicaPhase::Stopping => true,
            ReplicaPhase::Starting | ReplicaPhase::Up | ReplicaPhase::Failing { .. } => ordinal < wanted,
        };
        self.replicas.len() >= wanted && self.replicas.iter().enumerate().all(fits)
    }

    /// Whether what is seen of its replicas is what is noted of them, so that there is nothing to take note of.
    pub(crate) fn is_as_noted(&self, spec: &spec::Widget, seen: &[&Instance]) -> bool {
        let mut seen = seen.iter();
        let noted = |(ordinal, replica): (usize, &Replica)| match replica.phase {
            ReplicaPhase::Down | ReplicaPhase::Done => true,
            ReplicaPhase::Up => seen.next().is_some_and(|instance| {
                instance.id.ordinal as usize == ordinal
                    && instance.incarnation == replica.incarnation
                    && instance.restarts == replica.restarts
                    && !matches!(
                        instance.state,
                        InstanceState::Hung | InstanceState::Restarting(_) | InstanceState::Ended(_)
                    )
                    && readiness(spec, Some(instance.state), instance.serving)
                        == (replica.ready, replica.unserved)
            }),
            ReplicaPhase::Starting | ReplicaPhase::Failing { .. } | ReplicaPhase::Stopping => false,
        };
        self.replicas.iter().enumerate().all(noted) && seen.next().is_none()
    }

    /// Stops all its replicas; an end that was not taken up is part of it.
    pub(crate) fn begin_stop(&mut self, now: Timestamp) {
        self.fault = None;
        self.in_place = None;
        for replica in &mut self.replicas {
            replica.stop(now);
        }
    }

    /// How its start goes, or how it ended.
    pub(crate) fn verdict(&self) -> Verdict {
        let wanted = self.replicas.get(..self.desired as usize).unwrap_or(&self.replicas);
        if let Some(fault) = &self.fault {
            let others = wanted.iter().all(|replica| {
                !matches!(replica.phase, ReplicaPhase::Starting | ReplicaPhase::Failing { .. })
            });
            return Verdict::Ended {
                at: fault.at,
                started: fault.started && others,
                normal: fault.normal,
                because: Some(fault.because.clone()),
            };
        }
        let started = wanted.len() == self.desired as usize
            && wanted.iter().all(|replica| matches!(replica.phase, ReplicaPhase::Up | ReplicaPhase::Done));
        if started { Verdict::Started } else { Verdict::Pending }
    }
}

impl Replica {
    /// One that was never started.
    pub(crate) const DOWN: Self = Self {
        incarnation: 0,
        epoch: 0,
        revision: spec::Revision(0),
        phase: ReplicaPhase::Down,
        since: Timestamp::ZERO,
        ready: false,
        unserved: false,
        restarts: 0,
        restarted: Timestamp::ZERO,
        placement: None,
    };

    /// Whether it runs or is about to.
    pub(crate) fn is_active(&self) -> bool {
        !matches!(self.phase, ReplicaPhase::Down | ReplicaPhase::Done)
    }

    /// Whether a process of it runs, or is started, and is not about to end.
    pub(crate) fn runs(&self) -> bool {
        matches!(self.phase, ReplicaPhase::Starting | ReplicaPhase::Up)
    }

    /// Nothing is known of its health any more.
    pub(crate) fn forget_health(&mut self) {
        (self.ready, self.unserved) = (false, false);
    }

    pub(crate) fn becomes(&mut self, phase: ReplicaPhase, now: Timestamp) {
        self.phase = phase;
        self.since = now;
        self.forget_health();
    }

    pub(crate) fn fail(&mut self, end: End) {
        self.phase = ReplicaPhase::Failing { end, started: self.phase == ReplicaPhase::Up };
        self.forget_health();
    }

    pub(crate) fn stop(&mut self, now: Timestamp) {
        if self.is_active() && self.phase != ReplicaPhase::Stopping {
            self.becomes(ReplicaPhase::Stopping, now);
        }
    }
}

/// The end of one replica, as observed.
pub(crate) struct ReplicaEnded {
    pub(crate) ordinal: usize,
    pub(crate) at: Timestamp,
    pub(crate) end: End,
    pub(crate) message: Option<Arc<str>>,
    pub(crate) started: bool,
    /// The machine that it ran on.
    pub(crate) node: Option<Arc<str>>,
}

impl Planner<'_> {
    /// Takes note of what is observed of a widget's replicas. Without a spec it is on its way out, and ends mean nothing.
    pub(crate) fn observe_widget(
        &mut self,
        widget: &mut Widget,
        id: &dyn Fn() -> WidgetId,
        epoch: u64,
        spec: Option<&spec::Widget>,
        seen: &[&Instance],
    ) {
        for instance in seen {
            catch_up(widget, instance);
        }
        let floor = widget.floor;
        for ordinal in 0..widget.replicas.len() {
            let Some(replica) = widget.replicas.get(ordinal).filter(|replica| replica.is_active()) else {
                continue;
            };
            let instance = find(seen, ordinal, replica.incarnation);
            let serving = instance.is_some_and(|instance| instance.serving);
            let seen = instance.map(|instance| self.see(widget, instance));
            let seen = match (spec, instance) {
                (Some(spec), Some(instance)) => {
                    seen.map(|seen| self.see_restarts(widget, id, spec, ordinal, instance, seen))
                }
                _ => seen,
            };
            let Some(replica) = widget.replicas.get_mut(ordinal) else { continue };
            match (spec, replica.phase, seen) {
                (_, ReplicaPhase::Stopping, Some(Seen { state: InstanceState::Ended(_), at, .. }))
                | (None, _, Some(Seen { state: InstanceState::Ended(_), at, .. })) => {
                    replica.becomes(ReplicaPhase::Down, at.min(self.now));
                }
                (_, ReplicaPhase::Stopping, _) | (None, _, _) => {}
                (Some(spec), phase, Some(Seen { state: InstanceState::Ended(end), at, message })) => {
                    let (end, started) = match phase {
                        ReplicaPhase::Failing { end, started } => (end, started),
                        ReplicaPhase::Up => (end, true),
                        _ => (end, runs_suffices(spec) && has_run(end)),
                    };
                    let node = instance.and_then(|instance| Some(instance.place.as_ref()?.node.clone()));
                    let ended = ReplicaEnded { ordinal, at: at.min(self.now), end, message, started, node };
                    self.replica_ended(widget, id(), epoch, spec, ended);
                }
                (Some(spec), ReplicaPhase::Starting, Some(seen))
                    if seen.state == InstanceState::Unschedulable =>
                {
                    self.find_place(widget, id, spec, ordinal, seen);
                }
                (Some(spec), ReplicaPhase::Starting, seen) => {
                    let state = seen.map(|seen| seen.state);
                    replica.found_place(state, self.now);
                    let ready = is_ready(spec, state);
                    let begins = replica.begins().max(self.observed.sees_since);
                    let deadline = begins.plus(spec.start.timeout);
                    if state == Some(InstanceState::Hung) {
                        replica.fail(End::Hung);
                    } else if ready || (runs_suffices(spec) && runs(state)) {
                        let again = replica.incarnation > floor.saturating_add(1);
                        let after = self.now.since(replica.begins());
                        replica.becomes(ReplicaPhase::Up, self.now);
                        (replica.ready, replica.unserved) = readiness(spec, state, serving);
                        let instance = InstanceId { widget: id(), ordinal: narrow(ordinal) };
                        self.tell(Event::Runs { instance, again, after });
                    } else if self.now < deadline {
                        self.wake_at(deadline);
                    } else if state.is_some() || !replica.has_no_place() {
                        // One without a place that nobody sees is asked for again: its time begins when it has one.
                        replica.fail(End::StartTimedOut);
                    }
                }
                (Some(spec), ReplicaPhase::Up, Some(seen)) => {
                    if seen.state == InstanceState::Hung {
                        replica.fail(End::Hung);
                    } else {
                        (replica.ready, replica.unserved) = readiness(spec, Some(seen.state), serving);
                        self.wait_for_node(widget, id, ordinal, instance);
                    }
                }
                (Some(_), _, _) => {}
            }
        }
    }

    fn replica_ended(
        &mut self,
        widget: &mut Widget,
        id: WidgetId,
        epoch: u64,
        spec: &spec::Widget,
        ended: ReplicaEnded,
    ) {
        let ReplicaEnded { ordinal, at, end, message, started, node } = ended;
        let begin = Begin { spec, epoch, avoid: self.avoid, now: self.now };
        let surplus = ordinal >= widget.desired as usize;
        let Some(replica) = widget.replicas.get_mut(ordinal) else { return };
        let normal = started && end.is_normal();
        let after = started.then(|| at.since(replica.since));
        let mut external =
            end.is_external() && !spec.container.is_some_and(|container| container.count_external);
        let on_trial = widget.rollout.is_some_and(|rollout| rollout.to == replica.revision);
        let instance = InstanceId { widget: id, ordinal: narrow(ordinal) };
        let incarnation = replica.incarnation;
        let event = Event::Ended { instance: instance.clone(), incarnation, end, message, after };
        let because = self.tell_because(event, None);
        replica.note_end(node, external, after.is_some_and(|after| after >= LONG_AGO), self.now);
        replica.becomes(ReplicaPhase::Down, at);
        widget.last = Some(because.clone());
        if widget.fault.is_some() {
            return;
        }
        if external && !started {
            widget.start_replica(ordinal, begin);
            widget.restart_count += 1;
            widget.last = Some(self.tell_because(Event::StartsAnew { instance }, Some(because)));
            return;
        }
        let replaces = spec.replica_end == ReplicaEnd::ReplacesReplica || surplus;
        let fault = if !replaces {
            Some(because)
        } else if restarts(spec.restart, normal) {
            let intensity = spec.intensity;
            let mut count = if external {
                within(&mut widget.restarts, intensity, self.now)
            } else {
                count(&mut widget.restarts, intensity, self.now)
            };
            let mut because = because;
            let mut too_many = !external && count > intensity.max_restarts as usize;
            if too_many
                && (on_trial || surplus)
                && let Some(returns) = self.fail_trial(widget, spec, Failure::Intensity, &because)
            {
                because = returns;
                widget.restarts.clear();
                count = 0;
                external = true;
                too_many = false;
            }
            if too_many && surplus {
                if let Some(rollout) = &mut widget.rollout {
                    rollout.surge = 0;
                }
                None
            } else if too_many {
                let widget = instance.widget;
                let event = Event::ReplicasExhausted { widget, count, intensity };
                Some(self.tell_because(event, Some(because)))
            } else {
                if ordinal < widget.wanted() {
                    widget.start_replica(ordinal, begin);
                    widget.restart_count += 1;
                    let event = Event::Replaces { instance, count, intensity, external };
                    widget.last = Some(self.tell_because(event, Some(because)));
                }
                None
            }
        } else {
            let Some(replica) = widget.replicas.get_mut(ordinal) else { return };
            replica.becomes(ReplicaPhase::Done, at);
            widget.replica_failed |= !normal;
            let wanted = widget.replicas.iter().take(widget.desired as usize);
            let all = wanted.into_iter().all(|replica| replica.phase == ReplicaPhase::Done);
            (all && !surplus).then_some(because)
        };
        widget.fault = fault.map(|because| Fault { at, started, normal, external, because });
    }
}

/// Whether a child of this restart type is started again after an end.
pub(crate) fn restarts(restart: Restart, normal: bool) -> bool {
    match restart {
        Restart::Always => true,
        Restart::OnFailure => !normal,
        Restart::Never => false,
    }
}

/// Adds a restart to a window and says how many lie in it. One that is exactly as old as the window still counts, as in OTP; one in the
/// future, from a clock that was put back, counts as now.
pub(crate) fn count(window: &mut Vec<Timestamp>, intensity: spec::Intensity, now: Timestamp) -> usize {
    window.push(now);
    within(window, intensity, now)
}

/// How many restarts lie in a window.
pub(crate) fn within(window: &mut Vec<Timestamp>, intensity: spec::Intensity, now: Timestamp) -> usize {
    for at in &mut *window {
        *at = (*at).min(now);
    }
    window.retain(|at| now.since(*at) <= intensity.period);
    window.len()
}

/// An instance above its replica's incarnation: the status is older than the world. The replica is that instance from now on.
fn catch_up(widget: &mut Widget, instance: &Instance) {
    let Some(replica) = widget.replicas.get_mut(instance.id.ordinal as usize) else { return };
    if instance.incarnation > replica.incarnation {
        replica.incarnation = instance.incarnation;
        replica.epoch = instance.epoch;
        replica.revision = instance.revision;
        replica.restarts = instance.restarts;
        replica.restarted = instance.last_end.as_ref().map_or(Timestamp::ZERO, |last| last.at);
        if replica.phase == ReplicaPhase::Up {
            replica.phase = ReplicaPhase::Starting;
        }
    }
}

fn runs_suffices(spec: &spec::Widget) -> bool {
    spec.start.when == StartedWhen::Running || spec.health.is_none()
}

fn runs(state: Option<InstanceState>) -> bool {
    matches!(state, Some(InstanceState::Running | InstanceState::Ready | InstanceState::NotReady))
}

fn is_ready(spec: &spec::Widget, state: Option<InstanceState>) -> bool {
    match state {
        Some(InstanceState::Ready) => true,
        Some(InstanceState::Running) => spec.health.is_none(),
        _ => false,
    }
}

/// Whether a replica is ready and callers are sent to it, and whether it is and they are not.
fn readiness(spec: &spec::Widget, state: Option<InstanceState>, serving: bool) -> (bool, bool) {
    let ready = is_ready(spec, state);
    (ready && serving, ready && !serving)
}

/// Whether an end shows that the process had run.
fn has_run(end: End) -> bool {
    matches!(end, End::Exited(_) | End::Signalled(_))
}

pub(crate) fn narrow(ordinal: usize) -> u32 {
    u32::try_from(ordinal).unwrap_or(u32::MAX)
}
