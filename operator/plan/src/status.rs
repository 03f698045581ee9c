//! What is decided and known of one tree, written before anybody acts on it. Nothing else is remembered between two plans.
//!
//! A status mirrors the tree: a [`Node`] for each supervisor and group, a [`Slot`] for each child of one, a [`Widget`] with its
//! [`Replica`]s in each slot of a group.

mod condition;
mod node;
mod widget;

use kontrol_core::time::Timestamp;
use serde::{Deserialize, Serialize};

pub use condition::{Condition, Conditions, Reason};
pub(crate) use node::decision_of;
pub use node::{
    Decision, Inner, Key, Kind, Node, NodePhase, Open, OpenKind, Outcome, Slot, SlotPhase, Stage, Why,
};
pub use widget::{
    Bad, Failure, Fault, InPlace, Placement, Replica, ReplicaPhase, Rollout, ScalingStatus, Widget,
};

/// The status of one tree. The default is that of a tree which nobody has planned yet.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Status {
    /// The root; none before the first plan and once a removed tree is gone.
    pub root: Option<Box<Node>>,
    /// The highest incarnation of any widget that left the tree: one of the same name that comes back starts above it.
    pub floor: u64,
    /// When the status was found lost while instances ran, and was made up from them; windows started empty.
    pub recovered: Option<Timestamp>,
    /// Why the root is stopped though it is wanted, and until when.
    pub exhausted: Option<Exhausted>,
    /// When the last request to restart the root was made.
    pub asked: Timestamp,
}

/// The root has ended by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Exhausted {
    /// Why.
    pub why: Why,
    /// When it is started again; none: not by itself. In the past while the root runs: what the next pause is counted from.
    pub until: Option<Timestamp>,
    /// How many pauses there were in a row.
    pub pauses: u32,
    /// The tree's rules when it gave up: a change of them starts it again.
    pub rules: u64,
}

impl Status {
    /// The status that a new world starts from in which nothing runs any more: epochs, incarnations, pauses and scaling decisions are
    /// kept, and everything is to be started. For worlds that never adopt what an earlier one left.
    #[must_use]
    pub fn nothing_runs(mut self) -> Self {
        if let Some(root) = &mut self.root {
            root.forget_instances();
        }
        self
    }
}
