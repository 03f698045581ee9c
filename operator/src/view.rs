//! What a world knows, as others see it: pure functions over one small view that every world gives.
//!
//! ```text
//!   local::State ──────┐           ┌─► configure   what each sidecar and hub is told
//!   the cluster's world┼─► View ───┼─► signals     the load that the plan is shown
//!   the command line ──┘           └─► tree, why, names, told   what people read
//! ```
//!
//! A [`View`] is [what is declared](Declared) and the [replicas](Replica) that there are. Whether those are processes or pods is its world's
//! to know. [`Statuses`] are what was decided of each tree, which people ask for.
//!
//! Invariants: nothing here does I/O, reads a clock or remembers anything. What concerns one widget costs what that widget has to do
//! with, however many there are beside it; only [`names`], [`tree`] and [`why`], which people ask for, walk everything.

pub mod configure;
mod declared;
pub mod names;
pub mod signals;
mod told;
mod tree;
mod walk;
mod why;

use kontrol_core::{
    id::{InstanceId, Name, ObjectId, WidgetId},
    spec::Node,
    time::Timestamp,
};
use kontrol_plan::{InstanceState, Status};
use kontrol_proto::v1;

pub use declared::Declared;
pub use names::Named;
pub use told::{Level, code_of, told};
pub use tree::{is_ready, tree};
pub use walk::{first_replicas, groups, nodes, replicas_rule, tree_key, widgets};
pub use why::why;

/// What a world knows.
pub trait View {
    /// What is declared.
    fn declared(&self) -> &Declared;

    /// The roots of all trees that are declared, in the order in which they are shown.
    fn roots(&self) -> impl Iterator<Item = &Node> {
        self.declared().trees()
    }

    /// The replicas of a widget that have a place here, by ordinal: those that run, and those that ran and may run again.
    fn replicas(&self, widget: &WidgetId) -> impl Iterator<Item = Replica<'_>>;

    /// Where the sidecar of a replica listens for others; none: that is not known.
    fn peer(&self, replica: &Replica<'_>) -> Option<String> {
        replica.addresses.map(|addresses| addresses.peer.clone())
    }

    /// Where the hub of a bus listens; none: it is not up, or no hub is to be used.
    fn hub(&self, bus: &ObjectId) -> Option<&Addresses>;

    /// What a hub said last of a subscription, and when; none: nothing is known.
    fn queue(
        &self,
        topic: &ObjectId,
        subscription: &Name,
    ) -> Option<(Timestamp, &v1::hub_signals::Subscription)>;
}

/// What people are answered from beside: what was decided.
pub trait Statuses: View {
    /// The status of a tree as it was written last, by the [key](tree_key) of its root.
    fn status(&self, tree: &str) -> Option<&Status>;

    /// The status of every tree, also of those that are no longer declared and have not yet stopped.
    fn statuses(&self) -> impl Iterator<Item = &Status>;

    /// Who set the replicas of a widget to another number than its manifest says; none: its manifest rules.
    fn scaled(&self, widget: &WidgetId) -> Option<Scaled>;
}

/// One replica's place, and what runs there.
#[derive(Clone, Copy, Debug)]
pub struct Replica<'a> {
    /// Which.
    pub id: &'a InstanceId,
    /// The highest incarnation that was launched or is over: those below are fenced off. 0: none was.
    pub fence: u64,
    /// What runs, or has ended and is not yet taken note of.
    pub run: Option<Run>,
    /// What its sidecar said last of it, and when.
    pub signals: Option<(Timestamp, &'a v1::Signals)>,
    /// The breakers of its calls that are not closed.
    pub breakers: &'a [v1::EndpointState],
    /// What its world says of it beside its state, for people: why a pod does not start, for one. None: its state says all.
    pub note: Option<&'a str>,
    /// Where its sidecar listens.
    pub addresses: Option<&'a Addresses>,
    /// Where others reach its own server: the host without a port.
    pub host: &'a str,
    /// The port of its own server; none: it has none.
    pub port: Option<u16>,
    /// The process of its sidecar, where that is a process of this machine.
    pub sidecar_pid: Option<u32>,
    /// Its pod, where it is one.
    pub pod: Option<&'a str>,
    /// The node that it runs on, where its world has nodes.
    pub node: Option<&'a str>,
}

/// One process (or pod) of one replica.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Run {
    /// Its number.
    pub incarnation: u64,
    /// The epoch of its group when it was started.
    pub epoch: u64,
    /// How it is.
    pub state: InstanceState,
    /// Since when.
    pub since: Timestamp,
    /// Whether it has been launched and has not ended.
    pub runs: bool,
    /// Its process, where that is one of this machine.
    pub pid: Option<u32>,
}

/// Where a sidecar or a hub listens, `host:port`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Addresses {
    /// For sidecars.
    pub peer: String,
    /// gRPC for the widget.
    pub grpc: String,
    /// HTTP for the widget.
    pub http: String,
    /// Metrics and health.
    pub admin: String,
    /// The Unix socket for the widget.
    pub socket: String,
}

/// Replicas that somebody set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Scaled {
    /// What the manifest says.
    pub manifest: u32,
    /// With what, in words: "`kontrol scale`".
    pub with: &'static str,
}

impl Replica<'_> {
    /// The incarnation that its sidecar speaks for; 0: none yet.
    pub fn incarnation(&self) -> u64 {
        self.run.map_or(self.fence, |run| run.incarnation)
    }

    /// Whether it runs and its health is good.
    pub fn is_ready(&self) -> bool {
        self.run.is_some_and(|run| run.state == InstanceState::Ready)
    }
}
