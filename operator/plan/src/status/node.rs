//! The status of a supervisor or a group, and of its children as it sees them.

use std::{fmt, sync::Arc};

use kontrol_core::{
    id::{Name, ObjectId},
    time::Timestamp,
};
use serde::{Deserialize, Serialize};

use super::{Conditions, Widget};
use crate::event::Cause;

/// A supervisor or a group.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Node {
    /// Group or supervisor.
    pub kind: Kind,
    /// The object.
    pub id: ObjectId,
    /// Where it is in its life.
    pub phase: NodePhase,
    /// Since when.
    pub since: Timestamp,
    /// Since when all its children have been started; none before, and kept while it stops.
    pub up_since: Option<Timestamp>,
    /// How often it restarted children or was started again: a fence, carried by instances. Never compared with an incarnation.
    pub epoch: u64,
    /// When restarts were counted, the oldest first; those that had left the window at the last count are gone.
    pub restarts: Vec<Timestamp>,
    /// The children, in the order of the manifest. A plan shares with the status before it those that it leaves as they are.
    pub children: Vec<Arc<Slot>>,
    /// Children that are no longer in the manifest and have not yet stopped, in their last order.
    pub leaving: Vec<Arc<Slot>>,
    /// Restarts and other work under way.
    pub open: Vec<Open>,
    /// The last decision and what led to it, down to the end of a leaf.
    pub last: Option<Arc<Cause>>,
    /// The decisions that brought its children where they are: the last one about each child, each decision once, the oldest first.
    /// Up to four more may stay among them; they are cleared away by and by.
    #[serde(default)]
    pub decisions: Vec<Decision>,
    /// The conditions.
    pub conditions: Conditions,
}

/// What an object is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Kind {
    /// A widget of a group.
    Widget,
    /// A group of widgets.
    Group,
    /// A supervisor of groups and supervisors.
    Supervisor,
}

/// A child's name, unique among its siblings.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Key {
    /// What it is.
    pub kind: Kind,
    /// Its name.
    pub name: Name,
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.name.fmt(f)
    }
}

/// Where a node is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum NodePhase {
    /// Nothing of it runs. With a reason where it once ran: as long as its parent has not taken it up, that is an end to decide on.
    Down(Option<Why>),
    /// Its children are being started in order; the first that fails undoes the start.
    Starting,
    /// All its children were started once.
    Running,
    /// Its children are being stopped in reverse.
    Stopping(Why),
}

/// Why a node stops.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Why {
    /// Its parent, its manifest or a user wants it.
    Asked,
    /// It had more restarts than its intensity bears.
    GaveUp,
    /// Its significant children ended.
    ShutDown,
    /// A child failed to start while the node was starting.
    StartFailed,
}

impl Why {
    /// Whether the node stops of its own accord.
    pub fn is_own(self) -> bool {
        self != Self::Asked
    }
}

/// A decision about one or more children.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Decision {
    /// Its number among the decisions of its node; it only grows.
    pub number: u64,
    /// What was decided, and what led to it.
    pub cause: Arc<Cause>,
}

/// A child, as its supervisor sees it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Slot {
    /// Its name.
    pub key: Key,
    /// How it stands.
    pub phase: SlotPhase,
    /// When the last handled request to restart it was made.
    pub asked: Timestamp,
    /// What its last failed start during a restart came from, until that is taken up.
    pub failed: Option<Arc<Cause>>,
    /// The number of the last decision about it, one of its supervisor's [`decisions`](Node::decisions); 0: none. One that is being
    /// carried out counts from its own turn in it: until then it is in [`Open::decision`].
    #[serde(default)]
    pub decision: u64,
    /// How it ended, where it has ended for good.
    #[serde(default)]
    pub outcome: Option<Outcome>,
    /// The child.
    pub inner: Inner,
}

/// What is in a slot.
#[expect(
    clippy::large_enum_variant,
    reason = "a plan copies the status: a box for each of many widgets costs more than the room"
)]
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Inner {
    /// A widget, in a group.
    Widget(Widget),
    /// A group or supervisor, in a supervisor.
    Node(Box<Node>),
}

/// How a child ended that is not started again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Outcome {
    /// As it should: a widget with exit code 0, a group or supervisor by its automatic shutdown.
    Completed,
    /// In any other way, and its restart type leaves it so.
    Failed,
}

/// How a child stands with its supervisor.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum SlotPhase {
    /// To be started when its turn comes.
    Waiting,
    /// Its start is under way.
    Starting,
    /// It was started. It may have ended since: then that is an end which its supervisor has yet to take up.
    Up,
    /// Its start failed during a restart, at this time; it is tried again, and that counts as a restart.
    Failed(Timestamp),
    /// It is being stopped.
    Stopping,
    /// It ended by itself and is not restarted alone; a restart of its siblings takes it along.
    Ended,
    /// Of [`Never`](kontrol_core::spec::Restart::Never): it ended or was stopped, and only a new start of its supervisor starts it.
    Forgotten,
}

/// Work under way on some children: first they are stopped in reverse, then started in order.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Open {
    /// Why.
    pub kind: OpenKind,
    /// Which children, in order.
    pub scope: Arc<[Key]>,
    /// How far.
    pub stage: Stage,
    /// The number of the decision, one of the node's [`decisions`](Node::decisions).
    #[serde(default)]
    pub decision: u64,
}

/// Why children are stopped and started.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum OpenKind {
    /// A child ended.
    Restart,
    /// Their template changed, or they are new in the manifest.
    Manifest,
    /// A user asked.
    Asked,
}

/// How far open work is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Stage {
    /// Children are being stopped.
    Stopping,
    /// Children are being started.
    Starting,
}

/// How many decisions a node keeps before it looks which of them still concern a child.
const DECISIONS: usize = 4;

impl Node {
    /// The decision of this number, as [`Slot::decision`] and [`Open::decision`] give it.
    pub fn decision(&self, number: u64) -> Option<&Arc<Cause>> {
        decision_of(&self.decisions, number)
    }

    /// The last decision about a child: of work that is under way on it, or that which brought it where it is.
    pub fn decision_about(&self, slot: &Slot) -> Option<&Arc<Cause>> {
        let open = self.open.iter().filter(|open| open.scope.contains(&slot.key)).map(|open| open.decision);
        self.decision(open.fold(slot.decision, u64::max))
    }

    /// Takes down a decision about children; gives its number.
    pub(crate) fn note(&mut self, cause: Arc<Cause>) -> u64 {
        let number = self.decisions.last().map_or(0, |last| last.number) + 1;
        if self.decisions.len() >= DECISIONS {
            let children = self.children.iter().chain(&self.leaving).map(|slot| slot.decision);
            let mut used: Vec<u64> = children.chain(self.open.iter().map(|open| open.decision)).collect();
            used.sort_unstable();
            self.decisions.retain(|decision| used.binary_search(&decision.number).is_ok());
        }
        self.decisions.push(Decision { number, cause });
        number
    }

    /// The replicas' highest incarnation at and below this node.
    pub(crate) fn highest_incarnation(&self) -> u64 {
        self.children.iter().chain(&self.leaving).map(|slot| slot.highest_incarnation()).max().unwrap_or(0)
    }

    /// The groups and supervisors right below this node, with their places, to be changed.
    pub(crate) fn nodes_mut(&mut self) -> impl Iterator<Item = (usize, &mut Self)> {
        let children: &mut [Arc<Slot>] =
            if self.kind == Kind::Supervisor { &mut self.children } else { &mut [] };
        children.iter_mut().enumerate().filter_map(|(at, slot)| Some((at, slot.node_mut()?)))
    }

    pub(super) fn forget_instances(&mut self) {
        self.phase = NodePhase::Down(None);
        self.restarts.clear();
        self.open.clear();
        self.leaving.clear();
        self.decisions.clear();
        for slot in &mut self.children {
            let slot = Arc::make_mut(slot);
            slot.phase = SlotPhase::Waiting;
            slot.decision = 0;
            slot.outcome = None;
            match &mut slot.inner {
                Inner::Widget(widget) => widget.forget_instances(),
                Inner::Node(node) => node.forget_instances(),
            }
        }
    }
}

/// The decision of this number among those of a node.
pub(crate) fn decision_of(decisions: &[Decision], number: u64) -> Option<&Arc<Cause>> {
    let at = decisions.binary_search_by_key(&number, |decision| decision.number).ok()?;
    decisions.get(at).map(|decision| &decision.cause)
}

impl Slot {
    /// The widget in this slot.
    pub(crate) fn widget(&self) -> Option<&Widget> {
        match &self.inner {
            Inner::Widget(widget) => Some(widget),
            Inner::Node(_) => None,
        }
    }

    /// The same, to be changed.
    pub(crate) fn widget_mut(self: &mut Arc<Self>) -> Option<&mut Widget> {
        match &mut Arc::make_mut(self).inner {
            Inner::Widget(widget) => Some(widget),
            Inner::Node(_) => None,
        }
    }

    /// The group or supervisor in this slot, to be changed.
    pub(crate) fn node_mut(self: &mut Arc<Self>) -> Option<&mut Node> {
        if matches!(self.inner, Inner::Widget(_)) {
            return None;
        }
        match &mut Arc::make_mut(self).inner {
            Inner::Node(node) => Some(node),
            Inner::Widget(_) => None,
        }
    }

    /// The replicas' highest incarnation in this slot.
    pub(crate) fn highest_incarnation(&self) -> u64 {
        match &self.inner {
            Inner::Widget(widget) => widget.replicas.iter().map(|r| r.incarnation).max().unwrap_or(0),
            Inner::Node(node) => node.highest_incarnation(),
        }
    }
}
