//! The trees: supervisors, their children in start order, and OTP's rules for what is legal.

use std::{collections::BTreeSet, fmt};

use serde::{Deserialize, Serialize};

/// The name of a node, unique in its tree. The root is 0 and the rest follow in preorder where the tree is generated.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Id(pub u32);

impl fmt::Display for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A whole tree: its root is a supervisor whose own end nobody above restarts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tree {
    /// The topmost supervisor.
    pub root: Supervisor,
}

/// One supervisor and its children.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Supervisor {
    /// Its name.
    pub id: Id,
    /// Which siblings a restart takes along.
    pub strategy: Strategy,
    /// How many restarts within `period` are borne; one more ends the supervisor.
    pub intensity: u32,
    /// The window of `intensity`, in whole seconds, at least 1. A restart exactly this old still counts.
    pub period: u64,
    /// Whether the end of significant children ends the supervisor.
    pub auto_shutdown: AutoShutdown,
    /// The children in the order of their start.
    pub children: Vec<Child>,
}

/// A child specification.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Child {
    /// When its end is answered with a restart.
    pub restart: Restart,
    /// Whether its end counts for [`Supervisor::auto_shutdown`].
    pub significant: bool,
    /// What runs.
    pub node: Node,
}

impl Child {
    /// The name of what runs.
    pub fn id(&self) -> Id {
        match &self.node {
            Node::Worker(worker) => worker.id,
            Node::Supervisor(supervisor) => supervisor.id,
        }
    }
}

/// What a child is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Node {
    /// A leaf.
    Worker(Worker),
    /// A subtree. Its shutdown is always `infinity`, as OTP asks of supervisors.
    Supervisor(Supervisor),
}

/// A leaf of the tree.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Worker {
    /// Its name.
    pub id: Id,
    /// How its supervisor stops it.
    pub shutdown: Shutdown,
}

/// A supervisor's restart strategy.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Strategy {
    /// Only the child that ended.
    OneForOne,
    /// Every child.
    OneForAll,
    /// The child that ended and those started after it.
    RestForOne,
}

/// A child's restart type.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Restart {
    /// After every end.
    Permanent,
    /// After an abnormal end.
    Transient,
    /// Never; the supervisor forgets the child when it ends or is stopped.
    Temporary,
}

/// How a worker is stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Shutdown {
    /// Asked first and given time. Workers of the model obey within it.
    Grace,
    /// Killed without being asked.
    BrutalKill,
}

/// When the end of significant children ends their supervisor (OTP 24).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AutoShutdown {
    /// Never.
    Never,
    /// With the first of them.
    AnySignificant,
    /// With the last of them.
    AllSignificant,
}

/// Why a tree is not legal.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Illegal {
    /// Two nodes of one name.
    #[error("node {0} is in the tree twice")]
    Duplicate(Id),
    /// A significant child that is always restarted.
    #[error("child {0} is significant and permanent")]
    SignificantPermanent(Id),
    /// A significant child of a supervisor that never shuts down by itself.
    #[error("child {0} is significant, and its supervisor's auto_shutdown is never")]
    SignificantNever(Id),
    /// A window of no length.
    #[error("supervisor {0} has a period of 0 s")]
    NoPeriod(Id),
}

impl Tree {
    /// Says whether OTP accepts this tree; stricter only in that names are unique in the whole of it.
    pub fn check(&self) -> Result<(), Illegal> {
        let mut seen = BTreeSet::from([self.root.id]);
        for supervisor in self.supervisors() {
            if supervisor.period == 0 {
                return Err(Illegal::NoPeriod(supervisor.id));
            }
            for child in &supervisor.children {
                if !seen.insert(child.id()) {
                    return Err(Illegal::Duplicate(child.id()));
                }
                if child.significant && child.restart == Restart::Permanent {
                    return Err(Illegal::SignificantPermanent(child.id()));
                }
                if child.significant && supervisor.auto_shutdown == AutoShutdown::Never {
                    return Err(Illegal::SignificantNever(child.id()));
                }
            }
        }
        Ok(())
    }

    /// Every supervisor, parents before their children.
    pub fn supervisors(&self) -> Vec<&Supervisor> {
        let mut found = vec![&self.root];
        let mut next = 0;
        while let Some(&supervisor) = found.get(next) {
            next += 1;
            found.extend(supervisor.children.iter().filter_map(|child| match &child.node {
                Node::Supervisor(below) => Some(below),
                Node::Worker(_) => None,
            }));
        }
        found
    }

    /// How many supervisors stand above the deepest leaf or empty supervisor: 1 for a root with workers only.
    pub fn depth(&self) -> usize {
        fn of(supervisor: &Supervisor) -> usize {
            1 + supervisor
                .children
                .iter()
                .map(|child| match &child.node {
                    Node::Supervisor(below) => of(below),
                    Node::Worker(_) => 0,
                })
                .max()
                .unwrap_or(0)
        }
        of(&self.root)
    }
}
