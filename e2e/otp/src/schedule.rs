//! What happens to a tree: its start, then one stimulus after another, each on a tree that has come to rest.

use serde::{Deserialize, Serialize};

use crate::{Id, Tree};

/// A tree and what happens to it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Case {
    /// The tree.
    pub tree: Tree,
    /// What happens to it.
    pub schedule: Schedule,
}

/// The stimuli in order. Between two of them the tree comes to rest; a schedule is over when its root has ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Schedule {
    /// Starts that will fail, in force before the tree starts.
    pub refusals: Vec<Refusal>,
    /// The stimuli after the start.
    pub events: Vec<Event>,
}

/// A worker's coming starts fail.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refusal {
    /// The worker.
    pub worker: Id,
    /// How many starts from now on fail; replaces what was left of an earlier refusal.
    pub starts: u32,
}

/// One stimulus. One that names a node which is not there or not running changes nothing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Event {
    /// Workers of one supervisor end by themselves, in this order, all before the supervisor looks.
    Ends {
        /// The supervisor of all of them.
        supervisor: Id,
        /// Who ends, and how. Of two ends of one worker the second changes nothing.
        ends: Vec<End>,
    },
    /// A worker's coming starts fail.
    Refuse(Refusal),
    /// Time passes.
    Pass {
        /// How much, in seconds.
        seconds: u64,
    },
    /// An operator asks a supervisor for something about one of its children.
    Request {
        /// Who is asked.
        supervisor: Id,
        /// About whom.
        child: Id,
        /// For what.
        request: Request,
    },
}

/// The end of a worker by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct End {
    /// The worker.
    pub worker: Id,
    /// The exit reason its supervisor sees.
    pub reason: Reason,
}

/// An exit reason.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reason {
    /// `normal`.
    Normal,
    /// `shutdown`: as good as normal for the restart type.
    Shutdown,
    /// `{shutdown, Term}`: as good as normal for the restart type.
    ShutdownTerm,
    /// Any other term.
    Crash,
    /// `killed`, after an untrappable signal.
    Killed,
}

impl Reason {
    /// Whether a transient child that ends so stays ended.
    pub fn is_normal(self) -> bool {
        matches!(self, Self::Normal | Self::Shutdown | Self::ShutdownTerm)
    }
}

/// What an operator may ask.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Request {
    /// `terminate_child`: stop it, and keep its specification unless it is temporary.
    Terminate,
    /// `restart_child`: start it where it is down; counts for no intensity and is not tried again.
    Restart,
    /// `delete_child`: forget it where it is down.
    Delete,
}
