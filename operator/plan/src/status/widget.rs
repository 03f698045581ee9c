//! The status of a widget and its replicas.

use std::sync::Arc;

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
    /// Its end by itself, until its group has taken it up.
    pub fault: Option<Fault>,
    /// Whether one of its replicas that are not replaced has ended otherwise than it should, since the widget was started.
    #[serde(default)]
    pub replica_failed: bool,
    /// The last end of a replica by itself, and the replacement that came of it where the widget decided on one.
    pub last: Option<Arc<Cause>>,
    /// How the number of replicas was decided, where that is the plan's.
    pub scaling: Option<ScalingStatus>,
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
    /// What happened.
    pub because: Arc<Cause>,
}

/// One replica.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Replica {
    /// The number of its last process, from 1; 0: none yet. Everything below it is fenced off.
    pub incarnation: u64,
    /// The group's epoch when that was started.
    pub epoch: u64,
    /// The template that it was started from.
    pub revision: Revision,
    /// How it stands.
    pub phase: ReplicaPhase,
    /// Since when.
    pub since: Timestamp,
    /// Whether its health is good at the moment.
    pub ready: bool,
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
            replica.ready = false;
        }
    }

    /// Replicas whose health is good.
    pub fn ready(&self) -> usize {
        self.replicas.iter().filter(|replica| replica.ready).count()
    }
}
