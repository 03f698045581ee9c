//! What can be seen of a tree: acts in their order, and who runs when it has come to rest.

use std::{collections::BTreeMap, fmt};

use serde::{Deserialize, Serialize};

use crate::Id;

/// Everything seen in one play: the start of the tree, then one step for each event until the root has ended.
///
/// Its [`Display`](fmt::Display) form has a line for each step, and two traces are equal where their texts are.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Trace {
    /// The steps; the first is the start of the tree.
    pub steps: Vec<Step>,
}

/// What one stimulus led to.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Step {
    /// What was done, in order.
    pub acts: Vec<Act>,
    /// Who is known when the tree is at rest again. Absent: forgotten, or below a node that is down. Empty: the root has ended.
    pub rest: BTreeMap<Id, Condition>,
}

/// One observable act. The stimulus itself (a worker ends) is none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Act {
    /// A worker was started, or a supervisor was started and all its children before it.
    Started(Id),
    /// A start of a worker failed, or of a supervisor because a child's did; what it had started is stopped by then.
    Refused(Id),
    /// A running node was asked to stop by its supervisor and has stopped; a supervisor after all its children.
    Stopped(Id),
    /// A running worker was killed by its supervisor.
    Killed(Id),
    /// A supervisor has had more restarts than its intensity and begins to end.
    GaveUp(Id),
    /// A supervisor has lost its significant children and begins to end.
    ShutDown(Id),
    /// A supervisor that began to end has stopped its children and is gone, with reason `shutdown`.
    Ended(Id),
}

/// How a node stands at rest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Condition {
    /// It runs.
    Up,
    /// It does not run, and its supervisor keeps its specification.
    Down,
}

impl fmt::Display for Act {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Started(id) => write!(f, "start {id}"),
            Self::Refused(id) => write!(f, "refuse {id}"),
            Self::Stopped(id) => write!(f, "stop {id}"),
            Self::Killed(id) => write!(f, "kill {id}"),
            Self::GaveUp(id) => write!(f, "give_up {id}"),
            Self::ShutDown(id) => write!(f, "shut_down {id}"),
            Self::Ended(id) => write!(f, "end {id}"),
        }
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (n, act) in self.acts.iter().enumerate() {
            write!(f, "{act}{}", if n + 1 == self.acts.len() { " " } else { ", " })?;
        }
        f.write_str("|")?;
        for (id, condition) in &self.rest {
            match condition {
                Condition::Up => write!(f, " {id}")?,
                Condition::Down => write!(f, " ({id})")?,
            }
        }
        Ok(())
    }
}

impl fmt::Display for Trace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for step in &self.steps {
            writeln!(f, "{step}")?;
        }
        Ok(())
    }
}
