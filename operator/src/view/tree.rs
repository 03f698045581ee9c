//! Trees as they are, for the command line.

use kontrol_core::{id::WidgetId, spec, time::Timestamp};
use kontrol_plan::{
    InstanceState,
    status::{Inner, Kind, Node, Outcome, Slot as Child, SlotPhase, Widget},
};
use kontrol_proto::v1;

use super::{Replica, Statuses, View, replicas_rule, signals, told, tree_key};

/// Everything that is declared, and how it is.
pub fn tree(view: &impl Statuses, now: Timestamp) -> Vec<v1::TreeNode> {
    view.roots().map(|root| tree_node(view, root, status_of(view, root), now)).collect()
}

/// Whether everything that is wanted is ready.
pub fn is_ready(view: &impl Statuses) -> bool {
    let mut roots = view.roots().peekable();
    roots.peek().is_some()
        && roots.all(|root| status_of(view, root).is_some_and(|status| status.conditions.ready.status))
}

fn status_of<'a>(view: &'a impl Statuses, root: &spec::Node) -> Option<&'a Node> {
    view.status(&tree_key(root))?.root.as_deref()
}

fn tree_node(view: &impl View, spec: &spec::Node, status: Option<&Node>, now: Timestamp) -> v1::TreeNode {
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
                    tree_widget(view, widget, slot)
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
                    tree_node(view, &inner.node, status, now)
                })
                .collect();
        }
    }
    node
}

fn tree_widget(view: &impl View, widget: &spec::Widget, slot: Option<&Child>) -> v1::TreeWidget {
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
        max: if replicas_rule(widget) { 0 } else { widget.scaling.as_ref().map_or(0, |scaling| scaling.max) },
        scaling: scaling.map(|scaling| scaling.reason.to_string()).unwrap_or_default(),
        replicas: tree_replicas(view, &widget.id, status),
        queue: signals::queue(view, widget).map(|queue| queue.depth / 1000),
    }
}

fn tree_replicas(view: &impl View, widget: &WidgetId, status: Option<&Widget>) -> Vec<v1::TreeReplica> {
    let row = |replica: Replica<'_>| {
        let run = replica.run;
        let signals = replica.signals.map(|(_, signals)| signals);
        let sidecar = replica.addresses.cloned().unwrap_or_default();
        // Of one that does not run, its last end says more than it did itself.
        let over = run.is_none_or(|run| run.state.is_ended());
        let last = status.and_then(|status| status.last.as_deref()).filter(|_| over);
        let message = if let Some(last) = last {
            told(&last.first().event).1
        } else {
            let said = signals.map(|signals| signals.message.as_str()).filter(|said| !said.is_empty());
            said.or(replica.note).unwrap_or_default().to_owned()
        };
        v1::TreeReplica {
            ordinal: replica.id.ordinal,
            incarnation: replica.incarnation(),
            epoch: run.map_or(0, |run| run.epoch),
            state: run.map_or("Waiting".to_owned(), |run| state_name(run.state)),
            pid: run.and_then(|run| run.pid).unwrap_or(0),
            since_micros: run.map_or(0, |run| run.since.as_micros()),
            in_flight: signals.map(|signals| signals.in_flight),
            load: signals.map(|signals| signals.load.clone()).unwrap_or_default(),
            endpoint: replica.port.map(|port| format!("{}:{port}", replica.host)).unwrap_or_default(),
            message,
            sidecar_http: sidecar.http,
            sidecar_grpc: sidecar.grpc,
            sidecar_admin: sidecar.admin,
            sidecar_pid: replica.sidecar_pid.unwrap_or(0),
            pod: replica.pod.unwrap_or_default().to_owned(),
            node: replica.node.unwrap_or_default().to_owned(),
        }
    };
    view.replicas(widget).map(row).collect()
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
