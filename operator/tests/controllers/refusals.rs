//! What the API server refuses for longer than a moment, and what is said of it.

use std::time::Duration;

use kontrol_e2e_apiserver::Ended;
use serde_json::{Value, json};

use crate::{
    cluster::{Cluster, Trouble},
    operator::USER,
    scenarios::{GROUPS, SUPERVISORS, WIDGETS, group, supervisor, widget},
    shape::{check_history, conditions},
};

fn said(cluster: &Cluster, resource: &str, name: &str) -> Vec<String> {
    conditions(&cluster.server.get(resource, "default", name).unwrap_or_default())
}

pub(crate) fn says(cluster: &Cluster, resource: &str, name: &str, wanted: &str) {
    let said = said(cluster, resource, name);
    assert!(said.iter().any(|one| one.starts_with(wanted)), "{wanted}: {said:?}\n{}", cluster.history());
}

/// The messages of an object's conditions.
fn messages(cluster: &Cluster, resource: &str, name: &str) -> String {
    let object = cluster.server.get(resource, "default", name).unwrap_or_default();
    object["status"]["conditions"].to_string()
}

#[test]
fn a_bad_object_stops_nobody_and_says_what_is_wrong() {
    let mut cluster = Cluster::new(Trouble::Nothing);
    cluster.put(&group("bad", "OneForOne"));
    cluster.put(&group("good", "OneForOne"));
    // Stored before the schema was as strict as it is.
    cluster.edit(GROUPS, "bad", |group| group["spec"]["strategy"] = "AllForAll".into());
    cluster.put(&widget("w", "example/lone:1"));
    cluster.settle();
    says(&cluster, GROUPS, "bad", "Accepted=False");
    says(&cluster, GROUPS, "good", "Ready=True");
    says(&cluster, WIDGETS, "w", "Ready=True");
    cluster.edit(GROUPS, "bad", |group| group["spec"]["strategy"] = "OneForAll".into());
    cluster.settle();
    says(&cluster, GROUPS, "bad", "Ready=True");
}

#[test]
fn a_widget_of_somebody_else_keeps_its_name() {
    let mut cluster = Cluster::new(Trouble::Nothing);
    cluster.put(&widget("g-b", "example/other:1"));
    cluster.settle();
    let before = cluster.server.get(WIDGETS, "default", "g-b").unwrap();
    cluster.put(&group("g", "OneForOne"));
    cluster.settle();
    says(&cluster, GROUPS, "g", "Accepted=False:NameCollision");
    let after = cluster.server.get(WIDGETS, "default", "g-b").unwrap();
    assert_eq!(before["spec"], after["spec"]);
    assert_eq!(before["metadata"]["ownerReferences"], after["metadata"]["ownerReferences"]);
}

#[test]
fn a_pod_of_somebody_else_keeps_its_name() {
    let mut cluster = Cluster::new(Trouble::Nothing);
    let spec = json!({"containers": [{"name": "c", "image": "somebody/else:1"}]});
    for incarnation in 1..4 {
        let name = format!("w-0-{incarnation}");
        cluster.put(&json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, "spec": spec}));
    }
    cluster.put(&widget("w", "example/lone:1"));
    cluster.settle();
    check_history(&cluster, "a pod of somebody else");
    let mine = cluster.server.get("pods", "default", "w-0-1").unwrap();
    assert!(
        mine["metadata"]["labels"]["kontrol.dev/widget"].is_null()
            && mine["metadata"]["deletionTimestamp"].is_null()
    );
}

#[test]
fn a_pod_with_our_labels_and_another_owner_stays_and_an_absurd_ordinal_does_no_harm() {
    let mut cluster = Cluster::new(Trouble::Nothing);
    cluster.put(&widget("w", "example/lone:1"));
    cluster.settle();
    let ours = cluster.pod("w", 0).unwrap();
    let copy = |name: &str, ordinal: &str, owners: &Value| {
        let mut labels = ours["metadata"]["labels"].clone();
        labels["kontrol.dev/ordinal"] = ordinal.into();
        labels["app"] = "foreign".into();
        let metadata = json!({"name": name, "labels": labels, "ownerReferences": owners});
        let spec = json!({"containers": [{"name": "c", "image": "somebody/else:1"}]});
        json!({"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec})
    };
    cluster.put(&copy("debug", "0", &json!([])));
    cluster.put(&copy("w-5-1", "5", &json!([])));
    cluster.put(&copy("absurd", "4000000000", &ours["metadata"]["ownerReferences"]));
    cluster.settle();
    cluster.crash();
    cluster.end("w", &Ended::code(1));
    cluster.settle();
    says(&cluster, WIDGETS, "w", "Ready=True");
    assert_eq!(cluster.server.get(WIDGETS, "default", "w").unwrap()["status"]["replicas"], 1);
    for name in ["debug", "w-5-1", "absurd"] {
        let pod = cluster.server.get("pods", "default", name).unwrap();
        assert!(pod["metadata"]["deletionTimestamp"].is_null(), "{name}");
    }
    check_history(&cluster, "pods with our labels");
    // What only looks like a widget's is nobody's to remove when the widget goes, but the garbage collector's.
    cluster.server.delete(WIDGETS, "default", "w").unwrap();
    cluster.settle();
    assert!(cluster.server.get("pods", "default", "debug").is_some());
    assert!(cluster.server.get("pods", "default", "absurd").is_none());
}

#[test]
fn a_service_that_is_refused_for_ever_does_not_hold_back_the_readiness_of_a_pod() {
    let mut cluster = Cluster::new(Trouble::Nothing).with_sidecars();
    cluster.server.deny(USER, "create", "services");
    cluster.put(&widget("w", "example/lone:1"));
    // The pauses after the Service's refusals have grown to their longest.
    cluster.settle();
    let messages = messages(&cluster, WIDGETS, "w");
    assert!(messages.contains("services"), "{messages}");
    cluster.server.delete("pods", "default", "w-0-1").unwrap();
    cluster.pass(Duration::from_secs(4));
    let pod = cluster.pod("w", 0).unwrap();
    let conditions = pod["status"]["conditions"].as_array().unwrap();
    let ready = conditions.iter().find(|one| one["type"] == "Ready").unwrap();
    assert_eq!((&pod["metadata"]["name"], &ready["status"]), (&json!("w-0-2"), &json!("True")));
    assert!(cluster.server.get("services", "default", "w").is_none());
    cluster.server.allow_again(USER);
    cluster.settle();
    assert!(cluster.server.get("services", "default", "w").is_some());
}

#[test]
fn each_verb_that_is_taken_away_is_noticed_and_its_return_heals() {
    for (verb, resource, name) in [
        ("create", "pods", "w"),
        ("patch", "widgets.kontrol.dev/status", "w"),
        ("list", "pods", "w"),
        ("watch", "pods", "w"),
        ("list", "widgets.kontrol.dev", "w"),
    ] {
        let mut cluster = Cluster::new(Trouble::Nothing);
        cluster.server.deny(USER, verb, resource);
        cluster.put(&widget(name, "example/lone:1"));
        cluster.settle();
        let ready = said(&cluster, WIDGETS, name).iter().any(|one| one.starts_with("Ready=True"));
        assert!(!ready, "{verb} {resource} was not needed");
        if (verb, resource) == ("create", "pods") {
            let messages = messages(&cluster, WIDGETS, name);
            assert!(messages.contains("forbidden"), "{verb} {resource}: {messages}");
        }
        cluster.server.allow_again(USER);
        cluster.settle();
        says(&cluster, WIDGETS, name, "Ready=True");
    }
}

#[test]
fn a_service_and_a_budget_of_somebody_else_stay_theirs_and_outlive_the_widget() {
    let theirs = [
        json!({
            "apiVersion": "v1", "kind": "Service", "metadata": {"name": "w"},
            "spec": {"clusterIP": "None", "selector": {"app": "w"}, "ports": [{"port": 80}]},
        }),
        json!({
            "apiVersion": "policy/v1", "kind": "PodDisruptionBudget", "metadata": {"name": "w"},
            "spec": {"maxUnavailable": 0, "selector": {"matchLabels": {"app": "w"}}},
        }),
    ];
    let kinds = ["services", "poddisruptionbudgets.policy"];
    let mut cluster = Cluster::new(Trouble::Nothing);
    for object in &theirs {
        cluster.put(object);
    }
    let before = kinds.map(|kind| cluster.server.get(kind, "default", "w").unwrap());
    let mut mine = widget("w", "example/lone:1");
    mine["spec"]["replicas"] = 2.into();
    cluster.put(&mine);
    cluster.settle();
    says(&cluster, WIDGETS, "w", "Accepted=False:NameCollision");
    says(&cluster, WIDGETS, "w", "Ready=True");
    cluster.server.delete(WIDGETS, "default", "w").unwrap();
    cluster.settle();
    assert_eq!(kinds.map(|kind| cluster.server.get(kind, "default", "w").unwrap()), before);
}

#[test]
fn a_group_that_a_supervisor_took_over_goes_when_it_is_deleted_alone() {
    let mut cluster = Cluster::new(Trouble::Nothing);
    cluster.put(&group("g", "OneForOne"));
    cluster.settle();
    cluster.put(&supervisor("s", &json!([{"group": "g"}])));
    cluster.settle();
    cluster.server.delete(GROUPS, "default", "g").unwrap();
    cluster.settle();
    let left = (cluster.server.get(GROUPS, "default", "g"), cluster.server.list(WIDGETS, ""));
    assert_eq!(left, (None, Vec::new()), "{}", cluster.history());
    says(&cluster, SUPERVISORS, "s", "Accepted=False:ChildNotFound");
    cluster.put(&group("g", "OneForOne"));
    cluster.settle();
    says(&cluster, SUPERVISORS, "s", "Ready=True");
}

#[test]
fn a_group_goes_at_its_deadline_though_its_pods_may_not_be_deleted() {
    let mut cluster = Cluster::new(Trouble::Nothing);
    cluster.put(&group("g", "OneForOne"));
    cluster.settle();
    cluster.server.deny(USER, "delete", "pods");
    cluster.server.delete(GROUPS, "default", "g").unwrap();
    // Three widgets of ten seconds each, and half a minute.
    cluster.pass(Duration::from_secs(55));
    assert!(cluster.server.get(GROUPS, "default", "g").is_some(), "{}", cluster.history());
    cluster.pass(Duration::from_secs(10));
    assert_eq!(cluster.server.get(GROUPS, "default", "g"), None, "{}", cluster.history());
}

#[test]
fn a_pod_is_ready_when_its_sidecar_says_so_and_a_missing_right_to_write_that_is_said() {
    let is_ready = |cluster: &Cluster| {
        let pod = cluster.pod("w", 0).unwrap_or_else(|| panic!("{}", cluster.history()));
        let conditions = pod["status"]["conditions"].clone();
        let conditions = conditions.as_array().unwrap();
        conditions.iter().any(|one| one["type"] == "Ready" && one["status"] == "True")
    };
    let mut cluster = Cluster::new(Trouble::Nothing).with_sidecars();
    cluster.server.deny(USER, "patch", "pods/status");
    cluster.put(&widget("w", "example/lone:1"));
    cluster.settle();
    assert!(!is_ready(&cluster), "{}", cluster.history());
    let messages = messages(&cluster, WIDGETS, "w");
    assert!(messages.contains("forbidden"), "{messages}");
    cluster.server.allow_again(USER);
    cluster.settle();
    assert!(is_ready(&cluster), "{}", cluster.history());
    says(&cluster, WIDGETS, "w", "Stalled=False");
}

#[test]
fn a_quota_is_said_and_its_rise_heals() {
    let mut cluster = Cluster::new(Trouble::Nothing);
    let quota = json!({
        "apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": "few", "namespace": "default"},
        "spec": {"hard": {"pods": "3"}},
    });
    cluster.put(&quota);
    cluster.put(&widget("w", "example/lone:1"));
    cluster.settle();
    let messages = messages(&cluster, WIDGETS, "w");
    assert!(messages.contains("exceeded quota"), "{messages}");
    cluster.edit("resourcequotas", "few", |quota| quota["spec"]["hard"]["pods"] = "9".into());
    cluster.settle();
    says(&cluster, WIDGETS, "w", "Ready=True");
}

#[test]
fn a_namespace_that_is_being_deleted_is_left_in_peace() {
    let mut cluster = Cluster::new(Trouble::Nothing);
    cluster.put(&json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "team"}}));
    let mut group = group("g", "OneForAll");
    group["metadata"]["namespace"] = "team".into();
    cluster.put(&group);
    cluster.settle();
    assert_eq!(cluster.server.list("pods", "team").len(), 3, "{}", cluster.history());
    cluster.server.delete("namespaces", "", "team").unwrap();
    cluster.settle();
    cluster.server.collect();
    cluster.settle();
    assert!(cluster.server.get("namespaces", "", "team").is_none(), "{}", cluster.history());
    let before = cluster.writes();
    cluster.pass(Duration::from_mins(5));
    assert_eq!(cluster.writes(), before);
}

#[test]
fn definitions_that_are_older_than_the_operator_are_said_and_stop_nothing_else() {
    let mut cluster = Cluster::new(Trouble::Nothing);
    cluster.server.edit(
        "customresourcedefinitions.apiextensions.k8s.io",
        "",
        "widgets.kontrol.dev",
        |definition| {
            let status =
                &mut definition["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["status"];
            status["properties"].as_object_mut().unwrap().remove("instances");
        },
    );
    cluster.put(&widget("w", "example/lone:1"));
    cluster.settle();
    says(&cluster, WIDGETS, "w", "Ready=True");
    let before = cluster.writes();
    cluster.pass(Duration::from_mins(5));
    assert_eq!(cluster.writes(), before, "{}", cluster.history());
}

#[test]
fn a_pod_that_no_node_takes_says_what_lacks() {
    let mut cluster = Cluster::new(Trouble::Nothing);
    let mut greedy = widget("w", "example/lone:1");
    greedy["spec"]["gpu"] = json!({"count": 4});
    cluster.put(&greedy);
    cluster.settle();
    let said: Value = cluster.server.get(WIDGETS, "default", "w").unwrap()["status"].clone();
    let lacks = "It asks for 4 nvidia.com/gpu: node-a has 1, node-b has none.";
    assert!(said.to_string().contains(lacks), "{said:#}\n{}", cluster.history());
}
