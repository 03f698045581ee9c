//! What people and machines do to a cluster, by name.

use kontrol_e2e_apiserver::Ended;
use serde_json::{Value, json};

use crate::cluster::Cluster;

/// One story. It is told to a cluster that rests, and leaves one that rests.
pub(crate) type Scenario = fn(&mut Cluster);

pub(crate) const WIDGETS: &str = "widgets.kontrol.dev";
pub(crate) const GROUPS: &str = "widgetgroups.kontrol.dev";
pub(crate) const SUPERVISORS: &str = "supervisors.kontrol.dev";

pub(crate) fn container(image: &str) -> Value {
    json!({"image": image, "command": ["run"]})
}

pub(crate) fn widget(name: &str, image: &str) -> Value {
    json!({
        "apiVersion": "kontrol.dev/v1alpha1", "kind": "Widget", "metadata": {"name": name},
        "spec": {"container": container(image)},
    })
}

pub(crate) fn group(name: &str, strategy: &str) -> Value {
    let one = |name: &str| json!({"name": name, "container": container("example/widget:1")});
    json!({
        "apiVersion": "kontrol.dev/v1alpha1", "kind": "WidgetGroup", "metadata": {"name": name},
        "spec": {
            "strategy": strategy, "intensity": {"maxRestarts": 3, "period": "30s"},
            "widgets": [one("a"), one("b"), one("c")],
        },
    })
}

pub(crate) fn supervisor(name: &str, children: &Value) -> Value {
    json!({
        "apiVersion": "kontrol.dev/v1alpha1", "kind": "Supervisor", "metadata": {"name": name},
        "spec": {"strategy": "OneForOne", "intensity": {"maxRestarts": 1, "period": "1m"}, "children": children},
    })
}

pub(crate) fn create_a_tree(cluster: &mut Cluster) {
    cluster.put(&supervisor("s", &json!([{"group": "g"}, {"group": "h"}])));
    cluster.put(&group("g", "OneForAll"));
    cluster.put(&group("h", "OneForOne"));
    cluster.put(&widget("w", "example/lone:1"));
    cluster.settle();
}

/// The second of three widgets ends.
fn restart(cluster: &mut Cluster, strategy: &str, end: &Ended) {
    cluster.put(&group("g", strategy));
    cluster.settle();
    cluster.end("g-b", end);
    cluster.settle();
}

pub(crate) fn restart_one_for_all(cluster: &mut Cluster) {
    restart(cluster, "OneForAll", &Ended::code(1));
}

pub(crate) fn restart_rest_for_one(cluster: &mut Cluster) {
    restart(cluster, "RestForOne", &Ended::code(3));
}

pub(crate) fn escalate(cluster: &mut Cluster) {
    cluster.put(&supervisor("s", &json!([{"group": "g"}])));
    let mut strict = group("g", "OneForAll");
    strict["spec"]["intensity"] = json!({"maxRestarts": 0, "period": "30s"});
    cluster.put(&strict);
    cluster.settle();
    cluster.end("g-a", &Ended::code(1));
    cluster.settle();
}

pub(crate) fn change_a_template(cluster: &mut Cluster) {
    cluster.put(&group("g", "OneForOne"));
    cluster.settle();
    cluster.edit(GROUPS, "g", |group| {
        group["spec"]["widgets"][1]["container"]["image"] = "example/widget:2".into();
    });
    cluster.settle();
}

pub(crate) fn scale(cluster: &mut Cluster) {
    cluster.put(&widget("w", "example/lone:1"));
    cluster.settle();
    for replicas in [3, 0, 1] {
        cluster.edit(WIDGETS, "w", |widget| widget["spec"]["replicas"] = replicas.into());
        cluster.settle();
    }
}

pub(crate) fn delete_a_group(cluster: &mut Cluster) {
    cluster.put(&group("g", "OneForAll"));
    cluster.settle();
    cluster.server.delete(GROUPS, "default", "g").unwrap();
    cluster.settle();
}

pub(crate) fn delete_a_tree_that_starts(cluster: &mut Cluster) {
    cluster.kubelet.set_slow_starts(true);
    cluster.put(&supervisor("s", &json!([{"group": "g"}])));
    cluster.put(&group("g", "RestForOne"));
    // The second pod is the one after a start that took too long: how long that takes is the trouble's affair.
    cluster.until("the second start", |cluster| {
        cluster.pod("g-a", 0).is_some_and(|pod| pod["metadata"]["name"] == "g-a-0-2")
    });
    cluster.server.delete(GROUPS, "default", "g").unwrap();
    cluster.server.delete(SUPERVISORS, "default", "s").unwrap();
    cluster.settle();
    cluster.kubelet.set_slow_starts(false);
    cluster.settle();
}

pub(crate) fn evict_and_run_out_of_memory(cluster: &mut Cluster) {
    cluster.put(&group("g", "OneForAll"));
    cluster.settle();
    let pod = cluster.pod("g-a", 0).unwrap();
    cluster.kubelet.evict("default", pod["metadata"]["name"].as_str().unwrap());
    cluster.settle();
    cluster.end("g-c", &Ended::out_of_memory());
    cluster.settle();
}

pub(crate) fn remove_a_widget_from_a_group(cluster: &mut Cluster) {
    cluster.put(&group("g", "OneForOne"));
    cluster.settle();
    cluster.edit(GROUPS, "g", |group| {
        group["spec"]["widgets"].as_array_mut().unwrap().remove(1);
    });
    cluster.settle();
}

pub(crate) fn message_object(kind: &str, name: &str, spec: &Value) -> Value {
    json!({"apiVersion": "kontrol.dev/v1alpha1", "kind": kind, "metadata": {"name": name}, "spec": spec})
}

pub(crate) fn carry_messages(cluster: &mut Cluster) {
    cluster.put(&message_object("MessageBus", "b", &json!({})));
    for topic in ["t", "u"] {
        cluster.put(&message_object("Topic", topic, &json!({"bus": "b"})));
    }
    cluster.put(&message_object(
        "Route",
        "r",
        &json!({"from": {"topic": "t"}, "rules": [{"to": [{"topic": "u"}]}]}),
    ));
    let mut consumer = widget("w", "example/lone:1");
    consumer["spec"]["replicas"] = 2.into();
    consumer["spec"]["consumes"] = json!([{"topic": "u"}]);
    cluster.put(&consumer);
    cluster.settle();
    // The route leads nowhere, and the number of replicas that an eviction has to leave changes.
    cluster.server.delete("topics.kontrol.dev", "default", "u").unwrap();
    cluster.edit(WIDGETS, "w", |widget| widget["spec"]["replicas"] = 3.into());
    cluster.settle();
    // A number is kept before its pod is made, so an operator that ends between the two uses it up.
    let pods = cluster.server.list("pods", "default");
    let names = pods.iter().filter_map(|pod| pod["metadata"]["name"].as_str());
    for hub in names.filter(|name| name.starts_with("kontrol-hub-b-")) {
        cluster.kubelet.evict("default", hub);
    }
    cluster.settle();
}

/// A bus that nobody declares at first, and then nobody needs.
pub(crate) fn leave_a_hub(cluster: &mut Cluster) {
    cluster.put(&message_object("Topic", "t", &json!({})));
    cluster.settle();
    cluster.put(&message_object("MessageBus", "default", &json!({})));
    cluster.settle();
    cluster.server.delete("topics.kontrol.dev", "default", "t").unwrap();
    cluster.server.delete("messagebuses.kontrol.dev", "default", "default").unwrap();
    cluster.settle();
}

/// A hub, and nothing else.
pub(crate) fn one_hub(cluster: &mut Cluster) {
    cluster.put(&message_object("MessageBus", "b", &json!({})));
    cluster.put(&message_object("Topic", "t", &json!({"bus": "b"})));
    cluster.settle();
}

/// All of them.
pub(crate) const ALL: [(&str, Scenario); 12] = [
    ("leave_a_hub", leave_a_hub),
    ("carry_messages", carry_messages),
    ("create_a_tree", create_a_tree),
    ("restart_one_for_all", restart_one_for_all),
    ("restart_rest_for_one", restart_rest_for_one),
    ("escalate", escalate),
    ("change_a_template", change_a_template),
    ("scale", scale),
    ("delete_a_group", delete_a_group),
    ("delete_a_tree_that_starts", delete_a_tree_that_starts),
    ("evict_and_run_out_of_memory", evict_and_run_out_of_memory),
    ("remove_a_widget_from_a_group", remove_a_widget_from_a_group),
];
