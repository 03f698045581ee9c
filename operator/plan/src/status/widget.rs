//! The status of a widget and its replicas.

use std::{fmt, sync::Arc};

use kontrol_core::{
    spec::{Revision, Shutdown},
    time::Timestamp,
};
use serde::{Deserialize, Serialize};

use crate::{event::Cause, scaling::History};

/// A widget.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Widget {
    /// The template that it was started from last.
    pub revision: Revision,
    /// How its replicas are stopped; kept for when the manifest no longer says.
    pub shutdown: Shutdown,
    /// The replicas wanted while it runs.
    pub desired: u32,
    /// Incarnations of its replicas start above this: earlier widgets of its name had them.
    pub floor: u64,
    /// The replicas by ordinal: those wanted, and those that once were, so that incarnations only grow.
    pub replicas: Vec<Replica>,
    /// When replaced replicas were counted, the oldest first.
    pub restarts: Vec<Timestamp>,
    /// Restarts of its replicas so far: those in place, those after an end, and those with its group. What a roll-out, a change of the
    /// manifest or another number of replicas replaces is none.
    #[serde(default, skip_serializing_if = "is_none_yet")]
    pub restart_count: u64,
    /// Its end by itself, until its group has taken it up.
    pub fault: Option<Fault>,
    /// Whether one of its replicas that are not replaced has ended otherwise than it should, since the widget was started.
    #[serde(default)]
    pub replica_failed: bool,
    /// The last end of a replica by itself, and the replacement that came of it where the widget decided on one.
    pub last: Option<Arc<Cause>>,
    /// How the number of replicas was decided, where that is the plan's.
    pub scaling: Option<ScalingStatus>,
    /// The revision that is returned to where a newer one fails: the last one that ran well for as long as ends are counted. None: none
    /// is known to have. It is noted when what ran well changes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub good: Option<Revision>,
    /// Since when all replicas that are desired run its revision and are ready; none: they do not at the moment.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub complete: Option<Timestamp>,
    /// The revision on trial: how its roll-out goes. None: what runs is good, or is the first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rollout: Option<Rollout>,
    /// The manifest's revision, where it failed and the last good one runs instead, until the manifest has another one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bad: Option<Bad>,
    /// Ends that were followed by a restart in place and that the group has yet to count.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub in_place: Option<InPlace>,
    /// Whether its replicas have an identity of their own; kept for when the manifest no longer says.
    #[serde(default, skip_serializing_if = "is_not")]
    pub identity: bool,
    /// Whether what has an identity may be abandoned on a lost machine; kept as well.
    #[serde(default, skip_serializing_if = "is_not")]
    pub force: bool,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde asks so")]
fn is_none_yet(count: &u64) -> bool {
    *count == 0
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde asks so")]
fn is_not(value: &bool) -> bool {
    !*value
}

/// The roll-out of a revision that is not known to be good, while it is not.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Rollout {
    /// The revision.
    pub to: Revision,
    /// When it began.
    pub since: Timestamp,
    /// When it last came further: another replica of it was ready. A pause puts it forward.
    pub progressed: Timestamp,
    /// The most replicas of it that were ready at once.
    pub updated: u32,
    /// When all that is desired first ran it and was ready; none: not yet.
    pub complete: Option<Timestamp>,
    /// Whether it made no progress for too long, or more ends than the intensity bears, and is not returned from.
    pub stalled: bool,
    /// Whether it stands still because the manifest says so.
    pub paused: bool,
    /// Replicas beyond those desired that run meanwhile.
    pub surge: u32,
}

/// A revision that failed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Bad {
    /// Which.
    pub revision: Revision,
    /// Why.
    pub why: Failure,
    /// When that was decided.
    pub at: Timestamp,
    /// The last end of one of its replicas.
    pub because: Option<Arc<Cause>>,
}

/// Why a revision failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Failure {
    /// More ends than the intensity bears.
    Intensity,
    /// No replica of it became ready within the progress deadline.
    Deadline,
    /// It failed to start with its group.
    Start,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Intensity => "more ends than its intensity bears",
            Self::Deadline => "no progress within its deadline",
            Self::Start => "it failed to start with its group",
        })
    }
}

/// Ends that were followed by a restart in place.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct InPlace {
    /// How many count.
    pub count: u32,
    /// When the first was taken note of.
    pub at: Timestamp,
    /// The last one.
    pub because: Arc<Cause>,
}

/// A widget's end by itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Fault {
    /// When.
    pub at: Timestamp,
    /// Whether the replica had started; if not, it is a failed start.
    pub started: bool,
    /// Whether it counts as normal for the restart type.
    pub normal: bool,
    /// Whether something outside of the widget ended it, which no window counts.
    #[serde(default, skip_serializing_if = "is_not")]
    pub external: bool,
    /// What happened.
    pub because: Arc<Cause>,
}

/// One replica.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Replica {
    /// The number of its last process, from 1; 0: none yet. Everything below it is fenced off.
    pub incarnation: u64,
    /// The group's epoch when that was started.
    pub epoch: u64,
    /// The template that it was started from; of one that a roll-out stops, that which it is started from next.
    pub revision: Revision,
    /// How it stands.
    pub phase: ReplicaPhase,
    /// Since when.
    pub since: Timestamp,
    /// Whether its health is good at the moment and callers are sent to it.
    pub ready: bool,
    /// Whether its health is good at the moment and callers are not sent to it yet.
    #[serde(default, skip_serializing_if = "is_not")]
    pub unserved: bool,
    /// Restarts in place that were taken note of, of this incarnation.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub restarts: u32,
    /// When the newest of them was, as the world says.
    #[serde(default, skip_serializing_if = "is_never")]
    pub restarted: Timestamp,
    /// What is noted of where it runs; none: nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub placement: Option<Arc<Placement>>,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde asks so")]
fn is_zero(value: &u32) -> bool {
    *value == 0
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde asks so")]
fn is_never(value: &Timestamp) -> bool {
    *value == Timestamp::ZERO
}

/// What is noted of where a replica runs, and where it may.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Placement {
    /// The placement alternative in use; 0: the placement itself.
    pub alternative: u32,
    /// How many starts in a row found no place.
    pub tries: u32,
    /// Since when no machine has room for it; none: one has, or nobody said otherwise.
    pub unplaced: Option<Timestamp>,
    /// What the world says of that.
    pub message: Option<Arc<str>>,
    /// Not to be started before; zero: at once.
    pub not_before: Timestamp,
    /// Machines that were suspect or lost when its start was decided: it must keep away from them.
    pub avoid: Vec<Arc<str>>,
    /// Machines where it ended twice in a row: it should keep away from them.
    pub rather_not: Vec<Arc<str>>,
    /// The machine on which it ended last.
    pub ended_on: Option<Arc<str>>,
    /// When something outside ended it lately, the oldest first: no window counts these, but many of them slow down the next start.
    pub external: Vec<Timestamp>,
    /// The lost machine on which it may still run, where its identity makes its replacement wait.
    pub waits_for: Option<Arc<str>>,
}

/// How a replica stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum ReplicaPhase {
    /// It does not run and is not wanted.
    Down,
    /// Its start is decided and not yet complete.
    Starting,
    /// It has reached the state that its widget's `start` asks for.
    Up,
    /// It is being stopped because of this, and its end will count as that.
    Failing {
        /// Hung, or not ready in time.
        end: crate::End,
        /// Whether it had been up.
        started: bool,
    },
    /// It is being stopped as wanted; its end means nothing.
    Stopping,
    /// It ended by itself and is not replaced.
    Done,
}

/// The plan's own decision about the number of replicas.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ScalingStatus {
    /// Replicas decided.
    pub desired_replicas: u32,
    /// Why, for people; of the decision that made the number what it is.
    pub reason: Arc<str>,
    /// Since when the number is so.
    pub at: Timestamp,
    /// The demand within the windows.
    pub history: History,
}

impl Widget {
    pub(super) fn forget_instances(&mut self) {
        self.restarts.clear();
        self.fault = None;
        for replica in &mut self.replicas {
            replica.phase = ReplicaPhase::Down;
            replica.forget_health();
            replica.placement = None;
            replica.restarts = 0;
        }
        self.good = None;
        self.complete = None;
        self.rollout = None;
        self.bad = None;
        self.in_place = None;
    }

    /// Replicas whose health is good.
    pub fn ready(&self) -> usize {
        self.replicas.iter().filter(|replica| replica.ready).count()
    }
}
