//! Trees, strategies and intensities, as Erlang/OTP's `supervisor` defines them.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::Widget;
use crate::id::ObjectId;

/// Who is restarted with a child that ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Strategy {
    /// Only the child that ended.
    #[default]
    OneForOne,
    /// All children: stopped in reverse order, started in order.
    OneForAll,
    /// The child that ended and those declared after it.
    RestForOne,
}

/// When a child that ended is started again.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Restart {
    /// Always (OTP: permanent).
    #[default]
    Always,
    /// Unless it ended normally (OTP: transient).
    OnFailure,
    /// Never (OTP: temporary).
    Never,
}

/// More than `max_restarts` restarts within `period` end the supervisor.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Intensity {
    /// Restarts that are still allowed within the period. Default 3.
    pub max_restarts: u32,
    /// The length of the window. Default 30 s.
    pub period: Duration,
}

impl Default for Intensity {
    fn default() -> Self {
        Self { max_restarts: 3, period: Duration::from_secs(30) }
    }
}

/// Whether a supervisor ends by itself when its significant children have (OTP 24).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum AutoShutdown {
    /// Never.
    #[default]
    Never,
    /// When the first significant child ends by itself and is not restarted.
    AnySignificant,
    /// When the last significant child ends by itself and is not restarted.
    AllSignificant,
}

/// What the root of a tree does when its intensity is exhausted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Exhausted {
    /// Start again after a pause, with cleared windows.
    Retry(RetryPolicy),
    /// Stay stopped until the manifest changes or somebody asks for a restart.
    Stop,
}

impl Default for Exhausted {
    fn default() -> Self {
        Self::Retry(RetryPolicy::default())
    }
}

/// The pauses of [`Exhausted::Retry`]: they double from `initial` up to `max`, and start over once the tree has run for `max`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct RetryPolicy {
    /// The first pause. Default 10 s.
    pub initial: Duration,
    /// The longest pause. Default 5 min.
    pub max: Duration,
}

impl Default for RetryPolicy {
    fn default() -> Self {
        Self { initial: Duration::from_secs(10), max: Duration::from_mins(5) }
    }
}

/// An ordered list of widgets under one strategy.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Group {
    /// The group.
    pub id: ObjectId,
    /// Who is restarted with a widget that ended.
    pub strategy: Strategy,
    /// How many restarts are too many.
    pub intensity: Intensity,
    /// Whether significant widgets end the group.
    pub auto_shutdown: AutoShutdown,
    /// What happens on exhaustion where the group is the root of its tree.
    pub when_exhausted: Exhausted,
    /// The widgets in start order; their names differ.
    pub widgets: Vec<Widget>,
}

/// A child of a supervisor, by name.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum ChildRef {
    /// A group of the same namespace.
    Group(ObjectId),
    /// A supervisor of the same namespace.
    Supervisor(ObjectId),
}

/// An ordered list of groups and supervisors under one strategy.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Supervisor {
    /// The supervisor.
    pub id: ObjectId,
    /// Who is restarted with a child that ended.
    pub strategy: Strategy,
    /// How many restarts are too many.
    pub intensity: Intensity,
    /// Whether significant children end the supervisor.
    pub auto_shutdown: AutoShutdown,
    /// What happens on exhaustion where the supervisor is the root of its tree.
    pub when_exhausted: Exhausted,
    /// The children in start order, assembled into the tree.
    pub children: Vec<Child>,
}

/// A child of a supervisor, assembled.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Child {
    /// When the child is started again.
    pub restart: Restart,
    /// Whether its end by itself counts for the supervisor's automatic shutdown.
    pub significant: bool,
    /// The child.
    pub node: Node,
}

/// A tree of supervision. Built by `kontrol-crds` from objects that name each other: no cycles, one parent each.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Node {
    /// A leaf of the tree of supervisors: its children are widgets.
    Group(Group),
    /// A supervisor of groups and supervisors.
    Supervisor(Supervisor),
}

impl Node {
    /// The object.
    pub fn id(&self) -> &ObjectId {
        match self {
            Self::Group(group) => &group.id,
            Self::Supervisor(supervisor) => &supervisor.id,
        }
    }
}
