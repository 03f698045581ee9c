//! One process of a replica: from the decision to start it to the plan's taking note of its end.

use std::{sync::Arc, time::Duration};

use kontrol_core::{
    id::InstanceId,
    spec::{Revision, Shutdown, StartedWhen, Widget},
    time::Timestamp,
};
use kontrol_plan::{End, Instance, InstanceState, StartError};
use kontrol_proto::v1::{self, Health};

use crate::view::Run;

/// How long a sidecar may take to apply a new incarnation.
pub(super) const APPLY_WITHIN: Duration = Duration::from_secs(1);

/// Where a process is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    /// Its sidecar has yet to apply its incarnation. It is launched at `launch_by` at the latest, which runs from when the sidecar was
    /// told, and is over once it has applied.
    Configuring { launch_by: Option<Timestamp> },
    /// Its shim is being started.
    Launching,
    /// It runs.
    Running { pid: u32 },
    /// It has ended, and the plan has yet to take note.
    Ended(End),
}

/// A process of one incarnation.
#[derive(Clone, Debug)]
pub(super) struct Process {
    pub(super) incarnation: u64,
    pub(super) epoch: u64,
    pub(super) revision: Revision,
    phase: Phase,
    /// How it is being stopped.
    stopping: Option<Shutdown>,
    /// Whether health beyond its running is declared.
    declares_health: bool,
    /// Whether its silence counts: its health was good once, or its start is over without that.
    silence_counts: bool,
    state: InstanceState,
    since: Timestamp,
    /// What is to be said of its end beside how it ended.
    message: Option<Arc<str>>,
}

impl Process {
    pub(super) fn new(incarnation: u64, epoch: u64, revision: Revision, now: Timestamp) -> Self {
        Self {
            incarnation,
            epoch,
            revision,
            phase: Phase::Configuring { launch_by: None },
            stopping: None,
            declares_health: false,
            silence_counts: false,
            state: InstanceState::Starting,
            since: now,
            message: None,
        }
    }

    pub(super) fn of(mut self, widget: &Widget) -> Self {
        self.declares_health = widget.health.is_some();
        self.silence_counts = widget.start.when == StartedWhen::Running;
        self
    }

    pub(super) fn observed(&self, id: &InstanceId) -> Instance {
        let numbers = (self.incarnation, self.epoch, self.revision);
        Instance {
            message: self.message.clone(),
            ..Instance::new(id.clone(), numbers, self.state, self.since)
        }
    }

    /// As others see it.
    pub(super) fn run(&self) -> Run {
        let Self { incarnation, epoch, state, since, .. } = *self;
        Run { incarnation, epoch, state, since, runs: self.runs(), pid: self.pid() }
    }

    pub(super) fn since(&self) -> Timestamp {
        self.since
    }

    fn pid(&self) -> Option<u32> {
        match self.phase {
            Phase::Running { pid } => Some(pid),
            _ => None,
        }
    }

    fn runs(&self) -> bool {
        matches!(self.phase, Phase::Running { .. })
    }

    pub(super) fn is_ended(&self) -> bool {
        matches!(self.phase, Phase::Ended(_))
    }

    pub(super) fn is_stopping(&self) -> bool {
        self.stopping.is_some()
    }

    /// Whether it is killed without being asked.
    pub(super) fn is_brutal(&self) -> bool {
        self.stopping == Some(Shutdown::Brutal)
    }

    pub(super) fn is_configuring(&self) -> bool {
        matches!(self.phase, Phase::Configuring { .. })
    }

    /// Whether there is a shim to give orders to.
    pub(super) fn has_shim(&self) -> bool {
        matches!(self.phase, Phase::Launching | Phase::Running { .. })
    }

    pub(super) fn launch_by(&self) -> Option<Timestamp> {
        match self.phase {
            Phase::Configuring { launch_by } => launch_by,
            _ => None,
        }
    }

    /// The sidecar was told of the incarnation.
    pub(super) fn told(&mut self, now: Timestamp) {
        if let Phase::Configuring { launch_by: launch_by @ None } = &mut self.phase {
            *launch_by = Some(now.plus(APPLY_WITHIN));
        }
    }

    /// The sidecar has applied an incarnation.
    pub(super) fn applied(&mut self, incarnation: u64) {
        if let Phase::Configuring { launch_by } = &mut self.phase
            && incarnation >= self.incarnation
        {
            *launch_by = Some(Timestamp::ZERO);
        }
    }

    pub(super) fn launching(&mut self) {
        self.phase = Phase::Launching;
    }

    pub(super) fn started(&mut self, pid: u32, now: Timestamp) {
        self.phase = Phase::Running { pid };
        let runs = if self.declares_health { InstanceState::Running } else { InstanceState::Ready };
        self.becomes(if self.is_stopping() { InstanceState::Stopping } else { runs }, now);
    }

    pub(super) fn failed(&mut self, error: StartError, reason: &str, now: Timestamp) {
        self.message = Some(reason.into());
        self.ended(End::NotStarted(error), now);
    }

    /// It was lost, for this reason.
    pub(super) fn lost(&mut self, reason: &str, now: Timestamp) {
        self.message.get_or_insert_with(|| reason.into());
        self.ended(End::Lost, now);
    }

    pub(super) fn ended(&mut self, end: End, now: Timestamp) {
        if !self.is_ended() {
            self.phase = Phase::Ended(end);
            self.becomes(InstanceState::Ended(end), now);
        }
    }

    /// It is stopped.
    pub(super) fn stop(&mut self, shutdown: Shutdown, now: Timestamp) {
        self.stopping = Some(shutdown);
        self.becomes(InstanceState::Stopping, now);
    }

    /// What its sidecar says. A widget without `health` may say something too; only its silence means nothing. Silence before the first
    /// good word is a start that is not over yet: its own time-out rules that. Where running is all that the start waits for, nothing
    /// else rules it.
    pub(super) fn hears(&mut self, signals: &v1::Signals, now: Timestamp) {
        if !self.runs() || self.is_stopping() || signals.incarnation != self.incarnation {
            return;
        }
        let silent = signals.hung && self.silence_counts;
        let state = match signals.health() {
            Health::Failed => InstanceState::Hung,
            _ if silent => InstanceState::Hung,
            Health::NotReady => InstanceState::NotReady,
            Health::Unspecified if self.declares_health => InstanceState::Running,
            Health::Ready | Health::Unspecified => InstanceState::Ready,
        };
        self.silence_counts |= state == InstanceState::Ready;
        if signals.health() == Health::Failed {
            let said = if signals.message.is_empty() { "no reason given" } else { &signals.message };
            self.message = Some(format!("it reported that it failed: {said}").into());
        }
        self.becomes(state, now);
    }

    fn becomes(&mut self, state: InstanceState, now: Timestamp) {
        if self.state != state {
            self.state = state;
            self.since = now;
        }
    }
}
