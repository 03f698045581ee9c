//! The tree as it is, for the command line.

use kontrol_core::{
    id::{InstanceId, WidgetId},
    spec,
    time::Timestamp,
};
use kontrol_plan::{
    InstanceState,
    status::{Inner, Kind, Node, Outcome, Slot as Child, SlotPhase, Widget},
};
use kontrol_proto::v1;

use super::{State, told};
use crate::local::desired::tree_key;

impl State {
    /// Everything that is declared, and how it is.
    pub fn tree(&self, now: Timestamp) -> v1::TreeResponse {
        let roots = self.desired.trees.iter().map(|root| {
            let status = self.written.trees.get(&tree_key(root)).and_then(|status| status.root.as_deref());
            self.tree_node(root, status, now)
        });
        v1::TreeResponse {
            roots: roots.collect(),
            ready: self.ready(),
            draining: self.draining(),
            pid: std::process::id(),
            hub: self.hub.addresses().map(|addresses| addresses.peer.clone()).unwrap_or_default(),
            hub_admin: self.hub.addresses().map(|addresses| addresses.admin.clone()).unwrap_or_default(),
        }
    }

    fn tree_node(&self, spec: &spec::Node, status: Option<&Node>, now: Timestamp) -> v1::TreeNode {
        let (kind, strategy, intensity) = match spec {
            spec::Node::Group(group) => ("group", group.strategy, group.intensity),
            spec::Node::Supervisor(supervisor) => ("supervisor", supervisor.strategy, supervisor.intensity),
        };
        let window = now.minus(intensity.period);
        let counted = status.map_or(0, |status| status.restarts.iter().filter(|at| **at >= window).count());
        let mut node = v1::TreeNode {
            kind: kind.to_owned(),
            namespace: spec.id().namespace.to_string(),
            name: spec.id().name.to_string(),
            strategy: format!("{strategy:?}"),
            ready: status.is_some_and(|status| status.conditions.ready.status),
            reason: status.map_or("Waiting", |status| status.conditions.ready.reason.as_str()).to_owned(),
            stalled: status.is_some_and(|status| status.conditions.stalled.status),
            epoch: status.map_or(0, |status| status.epoch),
            restarts: u32::try_from(counted).unwrap_or(u32::MAX),
            max_restarts: intensity.max_restarts,
            period_ms: u64::try_from(intensity.period.as_millis()).unwrap_or(u64::MAX),
            ..v1::TreeNode::default()
        };
        match spec {
            spec::Node::Group(group) => {
                node.widgets = group
                    .widgets
                    .iter()
                    .map(|widget| {
                        let slot = child(status, Kind::Widget, widget.id.widget.as_str());
                        self.tree_widget(widget, slot)
                    })
                    .collect();
            }
            spec::Node::Supervisor(supervisor) => {
                node.nodes = supervisor
                    .children
                    .iter()
                    .map(|inner| {
                        let kind = match &inner.node {
                            spec::Node::Group(_) => Kind::Group,
                            spec::Node::Supervisor(_) => Kind::Supervisor,
                        };
                        let slot = child(status, kind, inner.node.id().name.as_str());
                        let status = slot.and_then(|slot| match &slot.inner {
                            Inner::Node(node) => Some(node.as_ref()),
                            Inner::Widget(_) => None,
                        });
                        self.tree_node(&inner.node, status, now)
                    })
                    .collect();
            }
        }
        node
    }

    fn tree_widget(&self, widget: &spec::Widget, slot: Option<&Child>) -> v1::TreeWidget {
        let status = slot.and_then(|slot| match &slot.inner {
            Inner::Widget(widget) => Some(widget),
            Inner::Node(_) => None,
        });
        let scaling = status.and_then(|status| status.scaling.as_ref());
        v1::TreeWidget {
            name: widget.id.widget.to_string(),
            phase: slot.map_or("Waiting", phase_name).to_owned(),
            desired: status.map_or(widget.replicas, |status| status.desired),
            ready: status.map_or(0, |status| u32::try_from(status.ready()).unwrap_or(u32::MAX)),
            max: widget.scaling.as_ref().map_or(0, |scaling| scaling.max),
            scaling: scaling.map(|scaling| scaling.reason.to_string()).unwrap_or_default(),
            replicas: self.tree_replicas(&widget.id, status),
            queue: self.queue_of(widget).map(|queue| queue.depth / 1000),
        }
    }

    fn tree_replicas(&self, widget: &WidgetId, status: Option<&Widget>) -> Vec<v1::TreeReplica> {
        let of = |(instance, _): &(&InstanceId, _)| instance.widget == *widget;
        self.slots
            .iter()
            .filter(of)
            .map(|(instance, slot)| {
                let process = slot.process.as_ref();
                let signals = slot.signals.as_ref().map(|(_, signals)| signals);
                let sidecar = slot.sidecar.addresses().cloned().unwrap_or_default();
                // Of one that does not run, its last end says more than it did itself.
                let runs = process.is_some_and(|process| !process.is_ended());
                let message = match status.and_then(|status| status.last.as_deref()).filter(|_| !runs) {
                    Some(last) => told(&last.first().event).1,
                    None => signals.map(|signals| signals.message.clone()).unwrap_or_default(),
                };
                v1::TreeReplica {
                    ordinal: instance.ordinal,
                    incarnation: process.map_or(slot.fence, |process| process.incarnation),
                    epoch: process.map_or(0, |process| process.epoch),
                    state: process.map_or("Waiting".to_owned(), |process| state_name(process.state())),
                    pid: process.and_then(super::Process::pid).unwrap_or(0),
                    since_micros: process.map_or(0, |process| process.since().as_micros()),
                    in_flight: signals.map(|signals| signals.in_flight),
                    load: signals.map(|signals| signals.load.clone()).unwrap_or_default(),
                    endpoint: slot.port.map(|port| format!("127.0.0.1:{port}")).unwrap_or_default(),
                    message,
                    sidecar_http: sidecar.http,
                    sidecar_grpc: sidecar.grpc,
                    sidecar_admin: sidecar.admin,
                    sidecar_pid: slot.sidecar.pid().unwrap_or(0),
                }
            })
            .collect()
    }
}

fn child<'a>(status: Option<&'a Node>, kind: Kind, name: &str) -> Option<&'a Child> {
    status?
        .children
        .iter()
        .map(AsRef::as_ref)
        .find(|slot: &&Child| slot.key.kind == kind && slot.key.name.as_str() == name)
}

fn phase_name(slot: &Child) -> &'static str {
    match slot.phase {
        SlotPhase::Waiting => "Waiting",
        SlotPhase::Starting => "Starting",
        SlotPhase::Up => "Up",
        SlotPhase::Failed(_) => "StartFailed",
        SlotPhase::Stopping => "Stopping",
        SlotPhase::Ended | SlotPhase::Forgotten => match slot.outcome {
            Some(Outcome::Completed) => "Completed",
            Some(Outcome::Failed) => "Failed",
            None => "Stopped",
        },
    }
}

fn state_name(state: InstanceState) -> String {
    match state {
        InstanceState::Starting => "Starting".to_owned(),
        InstanceState::Unschedulable => "Unschedulable".to_owned(),
        InstanceState::Restarting(end) => format!("Restarting: {end}"),
        InstanceState::Running => "Running".to_owned(),
        InstanceState::Ready => "Ready".to_owned(),
        InstanceState::NotReady => "NotReady".to_owned(),
        InstanceState::Hung => "Hung".to_owned(),
        InstanceState::Stopping => "Stopping".to_owned(),
        InstanceState::Ended(end) => format!("Ended: {end}"),
    }
}
