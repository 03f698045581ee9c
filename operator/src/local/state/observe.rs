//! What the plan and others are shown of the world.

use kontrol_core::{
    id::{InstanceId, Name, ObjectId, WidgetId},
    spec,
    time::Timestamp,
};
use kontrol_plan::{Observed, Status};
use kontrol_proto::v1;

use super::{Slot, State};
use crate::{
    local::folder::Written,
    view::{self, Addresses, Declared, Replica, Scaled, Statuses, View},
};

impl State {
    pub(super) fn observe(&self, key: &str, root: Option<&spec::Node>, status: Status) -> Observed {
        let slots = self.slots.iter().filter(|(_, slot)| slot.tree == key);
        Observed {
            status,
            instances: slots.filter_map(|(id, slot)| Some(slot.process.as_ref()?.observed(id))).collect(),
            signals: root.map(|root| view::signals::of_tree(self, root)).unwrap_or_default(),
            restarts: self.requests.clone(),
            generation: Some(self.generation),
            ..Observed::default()
        }
    }
}

impl View for State {
    fn declared(&self) -> &Declared {
        &self.declared
    }

    fn roots(&self) -> impl Iterator<Item = &spec::Node> {
        self.desired.trees.iter()
    }

    fn replicas(&self, widget: &WidgetId) -> impl Iterator<Item = Replica<'_>> {
        let place = |ordinal| InstanceId { widget: widget.clone(), ordinal };
        self.slots.range(place(0)..=place(u32::MAX)).map(|(id, slot)| slot.replica(id))
    }

    /// One hub serves every bus of this world.
    fn hub(&self, _bus: &ObjectId) -> Option<&Addresses> {
        self.hub.addresses().filter(|_| self.needs_hub())
    }

    fn queue(
        &self,
        topic: &ObjectId,
        subscription: &Name,
    ) -> Option<(Timestamp, &v1::hub_signals::Subscription)> {
        let key = (topic.namespace.to_string(), topic.name.to_string(), subscription.to_string());
        self.queues.get(&key).map(|(at, queue)| (*at, queue))
    }
}

impl Statuses for State {
    fn status(&self, tree: &str) -> Option<&Status> {
        self.written.trees.get(tree)
    }

    fn statuses(&self) -> impl Iterator<Item = &Status> {
        self.written.trees.values()
    }

    fn scaled(&self, widget: &WidgetId) -> Option<Scaled> {
        let scaled = self.written.scaled.get(&Written::scaled_key(widget))?;
        Some(Scaled { manifest: scaled.manifest, with: "`kontrol scale`" })
    }
}

impl Slot {
    /// As others see it.
    pub(super) fn replica<'a>(&'a self, id: &'a InstanceId) -> Replica<'a> {
        Replica {
            id,
            fence: self.fence,
            run: self.process.as_ref().map(super::Process::run),
            signals: self.signals.as_ref().map(|(at, signals)| (*at, signals)),
            breakers: self.signals.as_ref().map_or(&[], |(_, signals)| &signals.breakers),
            note: None,
            addresses: self.sidecar.addresses(),
            host: "127.0.0.1",
            port: self.port,
            sidecar_pid: self.sidecar.pid(),
            pod: None,
            node: None,
        }
    }
}
