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
    spec::{self, ReplicaEnd, Restart, StartedWhen},
    time::Timestamp,
};

use crate::{
    End, Instance, InstanceState,
    event::{Cause, Event},
    instances::find,
    plan::Planner,
    status::{Fault, Replica, ReplicaPhase, Widget},
};

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
            fault: None,
            replica_failed: false,
            last: None,
            scaling: None,
        }
    }

    /// Takes over an instance that the status does not know.
    pub(crate) fn adopt(&mut self, instance: &Instance, now: Timestamp) {
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
                ready: false,
            };
            self.revision = instance.revision;
        }
    }

    /// Whether none of its replicas runs or is about to.
    pub(crate) fn is_gone(&self) -> bool {
        self.replicas.iter().all(|replica| !replica.is_active())
    }

    /// Starts all its replicas. It must be gone.
    pub(crate) fn begin_start(&mut self, spec: &spec::Widget, epoch: u64, now: Timestamp) {
        self.revision = spec.revision;
        self.fault = None;
        self.replica_failed = false;
        self.restarts.clear();
        for replica in &mut self.replicas {
            replica.phase = ReplicaPhase::Down;
        }
        self.fit(spec, epoch, now);
    }

    /// Lets its replicas run that are wanted, and stops the others.
    pub(crate) fn fit(&mut self, spec: &spec::Widget, epoch: u64, now: Timestamp) {
        let desired = self.desired as usize;
        if self.replicas.len() < desired {
            self.replicas.resize(desired, Replica::DOWN);
        }
        for (ordinal, replica) in self.replicas.iter_mut().enumerate() {
            if ordinal >= desired {
                replica.stop(now);
            } else if replica.phase == ReplicaPhase::Down && self.fault.is_none() {
                replica.start(spec, self.floor, epoch, now);
            }
        }
    }

    /// Whether as many of its replicas run as are wanted.
    pub(crate) fn fits(&self) -> bool {
        let desired = self.desired as usize;
        let fits = |(ordinal, replica): (usize, &Replica)| match replica.phase {
            ReplicaPhase::Down => ordinal >= desired || self.fault.is_some(),
            ReplicaPhase::Done | ReplicaPhase::Stopping => true,
            ReplicaPhase::Starting | ReplicaPhase::Up | ReplicaPhase::Failing { .. } => ordinal < desired,
        };
        self.replicas.len() >= desired && self.replicas.iter().enumerate().all(fits)
    }

    /// Whether what is seen of its replicas is what is noted of them, so that there is nothing to take note of.
    pub(crate) fn is_as_noted(&self, spec: &spec::Widget, seen: &[&Instance]) -> bool {
        let mut seen = seen.iter();
        let noted = |(ordinal, replica): (usize, &Replica)| match replica.phase {
            ReplicaPhase::Down | ReplicaPhase::Done => true,
            ReplicaPhase::Up => seen.next().is_some_and(|instance| {
                instance.id.ordinal as usize == ordinal
                    && instance.incarnation == replica.incarnation
                    && !matches!(instance.state, InstanceState::Hung | InstanceState::Ended(_))
                    && is_ready(spec, Some(instance.state)) == replica.ready
            }),
            ReplicaPhase::Starting | ReplicaPhase::Failing { .. } | ReplicaPhase::Stopping => false,
        };
        self.replicas.iter().enumerate().all(noted) && seen.next().is_none()
    }

    /// Stops all its replicas; an end that was not taken up is part of it.
    pub(crate) fn begin_stop(&mut self, now: Timestamp) {
        self.fault = None;
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
    };

    /// Whether it runs or is about to.
    pub(crate) fn is_active(&self) -> bool {
        !matches!(self.phase, ReplicaPhase::Down | ReplicaPhase::Done)
    }

    fn becomes(&mut self, phase: ReplicaPhase, now: Timestamp) {
        self.phase = phase;
        self.since = now;
        self.ready = false;
    }

    fn start(&mut self, spec: &spec::Widget, floor: u64, epoch: u64, now: Timestamp) {
        self.incarnation = self.incarnation.max(floor) + 1;
        self.epoch = epoch;
        self.revision = spec.revision;
        self.becomes(ReplicaPhase::Starting, now);
    }

    fn fail(&mut self, end: End) {
        self.phase = ReplicaPhase::Failing { end, started: self.phase == ReplicaPhase::Up };
        self.ready = false;
    }

    fn stop(&mut self, now: Timestamp) {
        if self.is_active() && self.phase != ReplicaPhase::Stopping {
            self.becomes(ReplicaPhase::Stopping, now);
        }
    }
}

/// The end of one replica, as observed.
struct ReplicaEnded {
    ordinal: usize,
    at: Timestamp,
    end: End,
    message: Option<Arc<str>>,
    started: bool,
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
            let Some(replica) = widget.replicas.get_mut(ordinal).filter(|replica| replica.is_active()) else {
                continue;
            };
            let instance = find(seen, ordinal, replica.incarnation);
            match (spec, replica.phase, instance.map(|instance| (instance.state, instance.since))) {
                (_, ReplicaPhase::Stopping, Some((InstanceState::Ended(_), at)))
                | (None, _, Some((InstanceState::Ended(_), at))) => {
                    replica.becomes(ReplicaPhase::Down, at.min(self.now));
                }
                (_, ReplicaPhase::Stopping, _) | (None, _, _) => {}
                (Some(spec), phase, Some((InstanceState::Ended(end), at))) => {
                    let message = || instance.and_then(|instance| instance.message.clone());
                    let (end, message, started) = match phase {
                        ReplicaPhase::Failing { end, started } => (end, message(), started),
                        ReplicaPhase::Up => (end, message(), true),
                        _ => (end, message(), runs_suffices(spec) && has_run(end)),
                    };
                    let ended = ReplicaEnded { ordinal, at: at.min(self.now), end, message, started };
                    self.replica_ended(widget, id(), epoch, spec, ended);
                }
                (Some(spec), ReplicaPhase::Starting, state) => {
                    let state = state.map(|(state, _)| state);
                    let ready = is_ready(spec, state);
                    let deadline = replica.since.plus(spec.start.timeout);
                    if state == Some(InstanceState::Hung) {
                        replica.fail(End::Hung);
                    } else if ready || (runs_suffices(spec) && runs(state)) {
                        let again = replica.incarnation > floor + 1;
                        let after = self.now.since(replica.since);
                        replica.becomes(ReplicaPhase::Up, self.now);
                        replica.ready = ready;
                        let instance = InstanceId { widget: id(), ordinal: narrow(ordinal) };
                        self.tell(Event::Runs { instance, again, after });
                    } else if self.now >= deadline {
                        replica.fail(End::StartTimedOut);
                    } else {
                        self.wake_at(deadline);
                    }
                }
                (Some(spec), ReplicaPhase::Up, Some((state, _))) => {
                    if state == InstanceState::Hung {
                        replica.fail(End::Hung);
                    } else {
                        replica.ready = is_ready(spec, Some(state));
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
        let ReplicaEnded { ordinal, at, end, message, started } = ended;
        let Some(replica) = widget.replicas.get_mut(ordinal) else { return };
        let normal = started && end.is_normal();
        let after = started.then(|| at.since(replica.since));
        let instance = InstanceId { widget: id, ordinal: narrow(ordinal) };
        let incarnation = replica.incarnation;
        let event = Event::Ended { instance: instance.clone(), incarnation, end, message, after };
        let because = self.tell_because(event, None);
        replica.becomes(ReplicaPhase::Down, at);
        widget.last = Some(because.clone());
        if widget.fault.is_some() {
            return;
        }
        let fault = match spec.replica_end {
            ReplicaEnd::EndsWidget => Some(because),
            ReplicaEnd::ReplacesReplica if restarts(spec.restart, normal) => {
                let count = count(&mut widget.restarts, spec.intensity, self.now);
                if count <= spec.intensity.max_restarts as usize {
                    replica.start(spec, widget.floor, epoch, self.now);
                    let event = Event::Replaces { instance, count, intensity: spec.intensity };
                    widget.last = Some(self.tell_because(event, Some(because)));
                    None
                } else {
                    let widget = instance.widget;
                    let event = Event::ReplicasExhausted { widget, count, intensity: spec.intensity };
                    Some(self.tell_because(event, Some(because)))
                }
            }
            ReplicaEnd::ReplacesReplica => {
                replica.becomes(ReplicaPhase::Done, at);
                widget.replica_failed |= !normal;
                let wanted = widget.replicas.iter().take(widget.desired as usize);
                let all = wanted.into_iter().all(|replica| replica.phase == ReplicaPhase::Done);
                all.then_some(because)
            }
        };
        widget.fault = fault.map(|because| Fault { at, started, normal, because });
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
    for at in &mut *window {
        *at = (*at).min(now);
    }
    window.retain(|at| now.since(*at) <= intensity.period);
    window.push(now);
    window.len()
}

/// An instance above its replica's incarnation: the status is older than the world. The replica is that instance from now on.
fn catch_up(widget: &mut Widget, instance: &Instance) {
    let Some(replica) = widget.replicas.get_mut(instance.id.ordinal as usize) else { return };
    if instance.incarnation > replica.incarnation {
        replica.incarnation = instance.incarnation;
        replica.epoch = instance.epoch;
        replica.revision = instance.revision;
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

/// Whether an end shows that the process had run.
fn has_run(end: End) -> bool {
    matches!(end, End::Exited(_) | End::Signalled(_))
}

fn narrow(ordinal: usize) -> u32 {
    u32::try_from(ordinal).unwrap_or(u32::MAX)
}
