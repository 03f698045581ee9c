use std::{cell::Cell, collections::BTreeMap};

use kontrol_core::{
    id::{InstanceId, ObjectId},
    time::Timestamp,
};
use kontrol_plan::InstanceState;

use super::*;
use crate::view::{Addresses, Run, declared::tests::declared};

/// A cluster in which every replica is up.
struct Cluster {
    declared: Declared,
    replicas: BTreeMap<InstanceId, Addresses>,
    hub: Addresses,
    asked: Cell<usize>,
}

impl Cluster {
    fn new(text: &str, replicas: &[&str]) -> Self {
        let at = |name: &str| Addresses { peer: format!("{name}:7412"), ..Addresses::default() };
        Self {
            declared: declared(text),
            replicas: replicas.iter().map(|name| (name.parse().unwrap(), at(name))).collect(),
            hub: at("hub"),
            asked: Cell::new(0),
        }
    }

    fn config(&self, name: &str) -> v1::SidecarConfig {
        let id: InstanceId = name.parse().unwrap();
        let replica = self.replicas(&id.widget).find(|replica| *replica.id == id).unwrap();
        self.asked.set(0);
        sidecar(self, &replica).unwrap()
    }
}

impl View for Cluster {
    fn declared(&self) -> &Declared {
        &self.declared
    }

    fn replicas(&self, widget: &WidgetId) -> impl Iterator<Item = Replica<'_>> {
        let place = |ordinal| InstanceId { widget: widget.clone(), ordinal };
        let run = Run {
            incarnation: 3,
            epoch: 1,
            state: InstanceState::Ready,
            since: Timestamp::ZERO,
            runs: true,
            pid: None,
        };
        let range = self.replicas.range(place(0)..=place(u32::MAX));
        range.inspect(|_| self.asked.set(self.asked.get() + 1)).map(move |(id, addresses)| Replica {
            id,
            fence: 3,
            run: Some(run),
            signals: None,
            breakers: &[],
            note: None,
            addresses: Some(addresses),
            host: "10.0.0.1",
            port: Some(80),
            sidecar_pid: None,
            pod: None,
            node: None,
        })
    }

    fn hub(&self, bus: &ObjectId) -> Option<&Addresses> {
        (bus.name.as_str() == "fast").then_some(&self.hub)
    }

    fn queue(
        &self,
        _topic: &ObjectId,
        _subscription: &Name,
    ) -> Option<(Timestamp, &v1::hub_signals::Subscription)> {
        None
    }
}

const LINE: &str = "
apiVersion: kontrol.dev/v1alpha1
kind: MessageBus
metadata: {name: fast}
spec: {}
---
apiVersion: kontrol.dev/v1alpha1
kind: Topic
metadata: {name: raw}
spec: {bus: fast}
---
apiVersion: kontrol.dev/v1alpha1
kind: Topic
metadata: {name: cooked}
spec: {bus: fast}
---
apiVersion: kontrol.dev/v1alpha1
kind: Topic
metadata: {name: other}
spec: {}
---
apiVersion: kontrol.dev/v1alpha1
kind: Route
metadata: {name: cook}
spec: {from: {topic: raw}, rules: [{to: [{topic: cooked}]}]}
---
apiVersion: kontrol.dev/v1alpha1
kind: WidgetGroup
metadata: {name: line}
spec:
  widgets:
  - {name: eye, process: {command: [eye]}, produces: [{topic: raw}], calls: [{target: hand}]}
  - {name: hand, process: {command: [hand]}, replicas: 2, serves: [{method: grip}]}
  - {name: shelf, process: {command: [shelf]}, consumes: [{topic: cooked}]}
  - {name: stranger, process: {command: [stranger]}, consumes: [{topic: other}]}
";

const ALL: [&str; 5] = [
    "default/line/eye/0",
    "default/line/hand/0",
    "default/line/hand/1",
    "default/line/shelf/0",
    "default/line/stranger/0",
];

fn fenced(fences: &[v1::Fence]) -> Vec<&str> {
    fences.iter().map(|fence| fence.instance.as_str()).collect()
}

#[test]
fn a_sidecar_is_told_of_what_its_widget_has_to_do_with_and_of_nothing_else() {
    let cluster = Cluster::new(LINE, &ALL);
    let eye = cluster.config("default/line/eye/0");
    assert_eq!((eye.incarnation, eye.hub.as_str(), eye.endpoint.as_str()), (3, "hub:7412", "127.0.0.1:80"));
    assert_eq!(eye.topics.iter().map(|topic| &topic.name).collect::<Vec<_>>(), ["cooked", "raw"]);
    assert_eq!(eye.routes.len(), 1);
    assert_eq!(eye.targets[0].endpoints.len(), 2);
    assert!(eye.targets[0].endpoints.iter().all(|endpoint| endpoint.ready));
    assert_eq!(fenced(&eye.fences), ["default/line/hand/0", "default/line/hand/1"]);
    let hand = cluster.config("default/line/hand/1");
    assert_eq!(fenced(&hand.fences), ["default/line/eye/0"], "its caller");
    assert_eq!((hand.topics.len(), hand.hub.as_str()), (0, ""), "it has nothing to do with messages");
}

#[test]
fn each_hub_serves_its_own_buses_and_listens_to_nobody_who_was_replaced() {
    let cluster = Cluster::new(LINE, &ALL);
    let fast = hub(&cluster, Storage::default(), |topic| topic.bus.as_str() == "fast");
    assert_eq!(fast.topics.iter().map(|topic| &topic.name).collect::<Vec<_>>(), ["cooked", "raw"]);
    assert_eq!(fast.topics[0].subscriptions, ["line-shelf"]);
    assert_eq!(fenced(&fast.fences), ["default/line/eye/0", "default/line/shelf/0"]);
}

#[test]
fn what_a_configuration_costs_does_not_grow_with_the_cluster() {
    let other = |n| {
        format!(
            "---\napiVersion: kontrol.dev/v1alpha1\nkind: Widget\nmetadata: {{name: w{n}}}\nspec: {{process: {{command: [w]}}}}\n"
        )
    };
    let others = (0..200).map(other).collect::<Vec<_>>().concat();
    let names: Vec<String> = (0..200).map(|n| format!("default/w{n}/w{n}/0")).collect();
    let all: Vec<&str> = ALL.into_iter().chain(names.iter().map(String::as_str)).collect();
    let asked = |cluster: &Cluster| {
        drop(cluster.config("default/line/eye/0"));
        cluster.asked.get()
    };
    let alone = asked(&Cluster::new(LINE, &ALL));
    assert_eq!(asked(&Cluster::new(&format!("{LINE}{others}"), &all)), alone);
}
