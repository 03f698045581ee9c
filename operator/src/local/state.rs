//! The world's state, pure: inputs in, effects out, time as an argument. The plan decides; this keeps what it decides on, and turns its
//! actions into launches and orders.
//!
//! ```text
//!   input ──take──► State ──decide──► plan ──► status to write ──► actions ──act──► effects
//!                     └──tend──► sidecars and the hub      └──configure──► configurations
//! ```
//!
//! The life of one process, after [`Action::Start`]:
//! ```text
//!   Configuring ──its sidecar applied the incarnation, or a second passed──► Launching ──► Running ──► Ended ──Remove──► gone
//! ```
//!
//! Invariants: nothing is launched before the status that asks for it was written (the caller writes between `decide` and `act`); an
//! incarnation is launched at most once; a sidecar outlives the processes of its slot; the hub outlives the sidecars.

mod act;
mod companion;
mod configure;
mod message;
mod names;
mod observe;
mod process;
mod take;
#[cfg(test)]
mod tests;
mod tree;
mod why;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use kontrol_core::{
    id::{InstanceId, WidgetId},
    spec::Widget,
    time::Timestamp,
};
use kontrol_plan::{
    RestartRequest, Status,
    status::{Inner, Node},
};
use kontrol_proto::v1;

use super::{desired::Desired, folder::Written};
pub use crate::view::Named;
pub(crate) use crate::view::told;
use crate::view::{self, Declared, tree_key};
use companion::Companion;
pub use message::{Command, Decision, Effect, Input, Key, Report, WidgetCommand};
#[cfg(test)]
use process::APPLY_WITHIN;
use process::Process;

/// How long the hub may take before widgets are started without it.
const HUB_PATIENCE: Duration = Duration::from_secs(5);

/// One replica's place: its sidecar, and the process that runs or ran last.
#[derive(Debug)]
struct Slot {
    /// The key of the tree that started the process.
    tree: String,
    sidecar: Companion,
    process: Option<Process>,
    /// The highest incarnation that was launched or is over: those below are fenced off.
    fence: u64,
    /// The port given to the widget.
    port: Option<u16>,
    signals: Option<(Timestamp, v1::Signals)>,
    /// The configuration sent last, without its version.
    sent: Option<v1::SidecarConfig>,
    version: u64,
}

/// How a drain goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Drain {
    Asked,
    Forced,
}

/// The world.
#[derive(Debug)]
pub struct State {
    desired: Arc<Desired>,
    /// The same, found by name.
    declared: Declared,
    /// Earlier templates, the newest last: a roll-out that fails returns to one of them. They are forgotten with this world, as what the
    /// plan knows of good ones is.
    templates: BTreeMap<WidgetId, Vec<Widget>>,
    generation: u64,
    written: Written,
    slots: BTreeMap<InstanceId, Slot>,
    hub: Companion,
    hub_sent: Option<v1::HubConfig>,
    hub_version: u64,
    queues: BTreeMap<(String, String, String), (Timestamp, v1::hub_signals::Subscription)>,
    requests: Vec<RestartRequest>,
    drain: Option<Drain>,
    began: Timestamp,
    /// Whether it was said that every sidecar is up.
    sidecars_told: bool,
    free_port: fn() -> Option<u16>,
    plan_wake: Option<Timestamp>,
}

impl State {
    /// A world in which nothing runs yet. `free_port` finds a port that nobody listens on.
    pub fn new(written: Written, now: Timestamp, free_port: fn() -> Option<u16>) -> Self {
        let trees = written.trees.into_iter().map(|(key, status)| (key, status.nothing_runs())).collect();
        Self {
            desired: Arc::default(),
            declared: Declared::default(),
            templates: BTreeMap::new(),
            generation: 0,
            written: Written { trees, ..written },
            slots: BTreeMap::new(),
            hub: Companion::default(),
            hub_sent: None,
            hub_version: 0,
            queues: BTreeMap::new(),
            requests: Vec::new(),
            drain: None,
            began: now,
            sidecars_told: false,
            free_port,
            plan_wake: None,
        }
    }

    /// What the next world has to know.
    pub fn written(&self) -> &Written {
        &self.written
    }

    /// What is declared.
    pub fn desired(&self) -> &Desired {
        &self.desired
    }

    /// Whether a drain is under way.
    pub fn draining(&self) -> bool {
        self.drain.is_some()
    }

    /// Whether a drain is done: nothing runs any more.
    pub fn gone(&self) -> bool {
        self.drain.is_some() && self.slots.is_empty() && self.hub.is_down()
    }

    /// Whether everything that is wanted is ready.
    pub fn ready(&self) -> bool {
        view::is_ready(self)
    }

    /// Every subject that may have a certificate.
    pub fn subjects(&self) -> BTreeSet<String> {
        let mut subjects: BTreeSet<String> = self.slots.keys().map(ToString::to_string).collect();
        subjects.insert(crate::authority::HUB.to_owned());
        subjects
    }

    /// Decides, for each tree. Facts that are already written are not told again.
    pub fn decide(&mut self, now: Timestamp) -> Decision {
        let mut decision = Decision::default();
        self.plan_wake = None;
        let desired = Arc::clone(&self.desired);
        let mut roots: BTreeMap<String, Option<&kontrol_core::spec::Node>> =
            self.written.trees.keys().map(|key| (key.clone(), None)).collect();
        if self.drain.is_none() {
            roots.extend(desired.trees.iter().map(|root| (tree_key(root), Some(root))));
        }
        for (key, root) in roots {
            if root.is_some_and(|root| self.held_back(&key, root)) {
                continue;
            }
            let known = self.written.trees.get(&key).cloned();
            let status = known
                .clone()
                .unwrap_or_else(|| Status { floor: self.highest_incarnation(), ..Status::default() });
            let observed = self.observe(&key, root, status);
            let plan = kontrol_plan::plan(root, &observed, now);
            if let Some(at) = plan.wake {
                self.wake_at(at);
            }
            if root.is_none() && plan.status.root.is_none() && observed.instances.is_empty() {
                let floor = plan.status.floor.max(self.highest_incarnation());
                self.written.floor = self.written.floor.max(floor);
                if self.drain.is_none() {
                    decision.write |= self.written.trees.remove(&key).is_some();
                    continue;
                }
            }
            if known.as_ref() != Some(&plan.status) {
                decision.write = true;
                self.written.trees.insert(key, plan.status);
            }
            decision.actions.extend(plan.actions);
            decision.events.extend(plan.events);
        }
        decision
    }

    /// When to go on if nothing happens before.
    pub fn wake(&self) -> Option<Timestamp> {
        let hub_due = (!self.hub_is_there()).then(|| self.began.plus(HUB_PATIENCE));
        let launches = self.slots.values().filter_map(|slot| slot.process.as_ref()?.launch_by());
        let launches = launches.map(|at| hub_due.map_or(at, |due| at.max(due)));
        let sidecars = self.slots.values().filter_map(|slot| slot.sidecar.wake());
        let hub = self.needs_hub().then(|| self.hub.wake()).flatten();
        self.plan_wake.into_iter().chain(launches).chain(sidecars).chain(hub).min()
    }

    fn wake_at(&mut self, at: Timestamp) {
        self.plan_wake = Some(self.plan_wake.map_or(at, |earlier| earlier.min(at)));
    }

    /// A tree whose groups still run as part of another one waits for that one to be gone.
    fn held_back(&self, key: &str, root: &kontrol_core::spec::Node) -> bool {
        let groups: BTreeSet<_> = view::groups(root).map(|group| &group.id).collect();
        self.slots.iter().any(|(instance, slot)| {
            let id = kontrol_core::id::ObjectId {
                namespace: instance.widget.namespace.clone(),
                name: instance.widget.group.clone(),
            };
            slot.process.is_some() && slot.tree != key && groups.contains(&id)
        })
    }

    fn highest_incarnation(&self) -> u64 {
        self.slots.values().map(|slot| slot.fence).max().unwrap_or(0).max(self.written.floor)
    }

    fn needs_hub(&self) -> bool {
        match self.drain {
            None => !self.desired.topics.is_empty(),
            Some(Drain::Asked) => !self.slots.is_empty() && !self.desired.topics.is_empty(),
            Some(Drain::Forced) => false,
        }
    }

    /// The replicas wanted of each widget, as last decided.
    fn wanted(&self) -> BTreeMap<WidgetId, u32> {
        fn walk(node: &Node, wanted: &mut BTreeMap<WidgetId, u32>) {
            for slot in &node.children {
                match &slot.inner {
                    Inner::Node(inner) => walk(inner, wanted),
                    Inner::Widget(widget) => {
                        let id = WidgetId {
                            namespace: node.id.namespace.clone(),
                            group: node.id.name.clone(),
                            widget: slot.key.name.clone(),
                        };
                        wanted.insert(id, widget.desired);
                    }
                }
            }
        }
        let mut decided = BTreeMap::new();
        for root in self.written.trees.values().filter_map(|status| status.root.as_deref()) {
            walk(root, &mut decided);
        }
        let of = |widget: &kontrol_core::spec::Widget| {
            let first = view::first_replicas(widget);
            (
                widget.id.clone(),
                decided.get(&widget.id).copied().filter(|_| self.generation > 0).unwrap_or(first),
            )
        };
        match self.drain {
            None => self.desired.widgets().map(of).collect(),
            Some(_) => BTreeMap::new(),
        }
    }
}

impl Slot {
    fn new(tree: String) -> Self {
        Self {
            tree,
            sidecar: Companion::default(),
            process: None,
            fence: 0,
            port: None,
            signals: None,
            sent: None,
            version: 0,
        }
    }
}
