//! The configuration of each sidecar and hub, whole each time. Its version is left 0: who sends it counts.
//!
//! A widget's sidecar is told of its own widget, of those that it calls or is called by, and of the topics and routes that it may publish
//! to or consumes: what else there is, in the cluster or in the namespace, costs nothing.

#[cfg(test)]
mod tests;
mod wire;

use std::collections::BTreeSet;

use kontrol_core::{
    id::{Name, WidgetId},
    spec::{Storage, Topic, Widget},
};
use kontrol_proto::v1;

use super::{Declared, Replica, View, declared::within};

/// What the sidecar of a replica is told. None where its widget is no longer declared: it keeps what it has. None as long as it speaks
/// for no process: its incarnation would be below what it has kept of the last one, and below what hubs and others take.
pub fn sidecar(view: &impl View, replica: &Replica<'_>) -> Option<v1::SidecarConfig> {
    let declared = view.declared();
    let widget = declared.widget(&replica.id.widget)?;
    let incarnation = replica.incarnation();
    if incarnation == 0 {
        return None;
    }
    let reached = reached(declared, widget);
    let topics = topics(declared, widget, &reached);
    let hub = topics.first().and_then(|topic| view.hub(&within(&topic.id.namespace, &topic.bus)));
    let others: BTreeSet<&WidgetId> = widget.calls.iter().chain(declared.callers(&widget.id)).collect();
    Some(v1::SidecarConfig {
        version: 0,
        incarnation,
        consumes: widget.consumes.iter().map(wire::consume).collect(),
        produces: widget.produces.iter().map(ToString::to_string).collect(),
        serves: widget.serves.iter().map(wire::serve).collect(),
        targets: widget.calls.iter().map(|target| self::target(view, target)).collect(),
        fences: others.into_iter().flat_map(|other| fences(view, other)).collect(),
        topics: topics.into_iter().map(|topic| self::topic(declared, topic)).collect(),
        routes: routes(declared, widget, &reached),
        hub: hub.map(|addresses| addresses.peer.clone()).unwrap_or_default(),
        // Where no process is, none is missed.
        health: widget.health.as_deref().filter(|_| replica.run.is_some()).map(wire::health),
        endpoint: replica.port.map(|port| format!("127.0.0.1:{port}")).unwrap_or_default(),
        resilience: Some(wire::resilience(&widget.resilience.as_deref().cloned().unwrap_or_default())),
        grant: None,
        hub_subject: String::new(),
    })
}

/// What the hub of some buses is told: it serves the topics for which `of` says so. It listens to no process that has been replaced, of
/// any widget that publishes to one of those topics or consumes it.
pub fn hub(view: &impl View, storage: Storage, of: impl Fn(&Topic) -> bool) -> v1::HubConfig {
    let declared = view.declared();
    let topics: Vec<&Topic> = declared.topics().filter(|topic| of(topic)).collect();
    let mut clients: BTreeSet<&WidgetId> = BTreeSet::new();
    for topic in &topics {
        clients.extend(declared.producers(&topic.id));
        clients.extend(declared.consumers(&topic.id).map(|(widget, _)| widget));
    }
    v1::HubConfig {
        version: 0,
        topics: topics.into_iter().map(|topic| self::topic(declared, topic)).collect(),
        fences: clients.into_iter().flat_map(|widget| fences(view, widget)).collect(),
        storage_bytes: storage.size,
        segment_bytes: storage.segment,
    }
}

fn fences(view: &impl View, widget: &WidgetId) -> impl Iterator<Item = v1::Fence> {
    view.replicas(widget)
        .filter(|replica| replica.fence > 0)
        .map(|replica| v1::Fence { instance: replica.id.to_string(), incarnation: replica.fence })
}

fn target(view: &impl View, target: &WidgetId) -> v1::Target {
    let endpoint = |replica: Replica<'_>| {
        Some(v1::Endpoint {
            instance: replica.id.to_string(),
            address: view.peer(&replica)?,
            ready: replica.is_ready(),
        })
    };
    v1::Target { widget: target.to_string(), endpoints: view.replicas(target).filter_map(endpoint).collect() }
}

/// The topics that a sidecar has to do with: those of its widget, and those that routes lead to from there.
fn topics<'a>(declared: &'a Declared, widget: &Widget, reached: &BTreeSet<Name>) -> Vec<&'a Topic> {
    let consumed = widget.consumes.iter().map(|consume| &consume.topic);
    let own: BTreeSet<&Name> = reached.iter().chain(consumed).collect();
    own.into_iter().filter_map(|name| declared.topic(&within(&widget.id.namespace, name))).collect()
}

fn routes(declared: &Declared, widget: &Widget, reached: &BTreeSet<Name>) -> Vec<v1::RouteConfig> {
    let from = |topic| declared.routes_from(&within(&widget.id.namespace, topic));
    reached.iter().flat_map(|topic| from(topic).map(wire::route).collect::<Vec<_>>()).collect()
}

/// What a widget publishes to, itself or by routes.
fn reached(declared: &Declared, widget: &Widget) -> BTreeSet<Name> {
    let mut reached: BTreeSet<Name> = widget.produces.iter().cloned().collect();
    let mut new: Vec<Name> = widget.produces.to_vec();
    while let Some(topic) = new.pop() {
        for route in declared.routes_from(&within(&widget.id.namespace, &topic)) {
            for to in route.rules.iter().flat_map(|rule| &rule.to) {
                if reached.insert(to.clone()) {
                    new.push(to.clone());
                }
            }
        }
    }
    reached
}

fn topic(declared: &Declared, topic: &Topic) -> v1::TopicConfig {
    let subscriptions: BTreeSet<&Name> =
        declared.consumers(&topic.id).map(|(_, subscription)| subscription).collect();
    v1::TopicConfig {
        subscriptions: subscriptions.into_iter().map(ToString::to_string).collect(),
        ..wire::topic(topic)
    }
}
