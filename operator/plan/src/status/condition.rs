//! Conditions by the conventions of Kubernetes.

use kontrol_core::time::Timestamp;
use serde::{Deserialize, Serialize};

/// The conditions of a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Conditions {
    /// Everything wanted runs and is healthy, and nothing has failed for good.
    pub ready: Condition,
    /// Work is under way.
    pub reconciling: Condition,
    /// The node stands still though more is wanted.
    pub stalled: Condition,
    /// The templates of the manifest run, or roll-outs bring them further.
    #[serde(default = "Condition::unknown")]
    pub progressing: Condition,
    /// The generation of the manifest that the conditions speak of.
    pub observed_generation: Option<u64>,
}

/// One condition.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Condition {
    /// Whether it is so.
    pub status: bool,
    /// Why, in one word.
    pub reason: Reason,
    /// Since when `status` is as it is.
    pub since: Timestamp,
}

/// The reasons of conditions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Reason {
    /// Every child that is wanted runs and is healthy.
    AllReady,
    /// Every child has ended as it should, and none is started again.
    Completed,
    /// A child has ended otherwise than it should, and its restart type leaves it so.
    Failed,
    /// A replica that runs is not healthy at the moment.
    NotReady,
    /// Children are started.
    Starting,
    /// Children are restarted.
    Restarting,
    /// The manifest changed and the tree follows.
    Changing,
    /// Children are stopped.
    Stopping,
    /// Nothing is under way.
    Settled,
    /// More restarts than the intensity bears, or a failed start; a pause is under way.
    BackingOff,
    /// More restarts than the intensity bears, or a failed start; it stays stopped.
    Exhausted,
    /// Significant children ended and the node with them.
    ShutDown,
    /// It is not to run.
    Stopped,
    /// Its parent does not run it at the moment.
    Waiting,
    /// No machine has room for a replica, or fits what it asks for.
    Unschedulable,
    /// A replica that has an identity of its own waits for a lost machine.
    NodeLost,
    /// A new template is rolled out.
    RollingOut,
    /// The template of the manifest runs.
    RolledOut,
    /// A roll-out stands still because the manifest says so.
    Paused,
    /// A roll-out made no progress for too long, or had too many ends, and is not returned from.
    RolloutStalled,
    /// The template of the manifest failed: the last good one runs instead.
    Returned,
}

impl Reason {
    /// The reason as conditions spell it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::AllReady => "AllReady",
            Self::Completed => "Completed",
            Self::Failed => "Failed",
            Self::NotReady => "NotReady",
            Self::Starting => "Starting",
            Self::Restarting => "Restarting",
            Self::Changing => "Changing",
            Self::Stopping => "Stopping",
            Self::Settled => "Settled",
            Self::BackingOff => "BackingOff",
            Self::Exhausted => "Exhausted",
            Self::ShutDown => "ShutDown",
            Self::Stopped => "Stopped",
            Self::Waiting => "Waiting",
            Self::Unschedulable => "Unschedulable",
            Self::NodeLost => "NodeLost",
            Self::RollingOut => "RollingOut",
            Self::RolledOut => "RolledOut",
            Self::Paused => "Paused",
            Self::RolloutStalled => "RolloutStalled",
            Self::Returned => "Returned",
        }
    }
}

impl Condition {
    /// What nobody has told yet.
    fn unknown() -> Self {
        Self::new(true, Reason::Waiting, Timestamp::ZERO)
    }

    pub(crate) const fn new(status: bool, reason: Reason, since: Timestamp) -> Self {
        Self { status, reason, since }
    }

    /// The condition as it is now, with its time kept where its status is kept.
    pub(crate) fn becomes(self, status: bool, reason: Reason, now: Timestamp) -> Self {
        Self { status, reason, since: if status == self.status { self.since } else { now } }
    }
}

impl Conditions {
    pub(crate) const fn new(now: Timestamp) -> Self {
        Self {
            ready: Condition::new(false, Reason::Waiting, now),
            reconciling: Condition::new(false, Reason::Settled, now),
            stalled: Condition::new(false, Reason::Settled, now),
            progressing: Condition::new(true, Reason::Waiting, now),
            observed_generation: None,
        }
    }
}
