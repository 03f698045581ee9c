//! A node that falls silent under this leader, with a replica that may have an identity of its own.

use super::{
    inherited::{passes, speaks},
    *,
};

/// `llm` on node0 with this identity, and another one on node1 whose sidecar goes on speaking while that of `llm` says no more.
fn silent_on_node0(identity: Value) -> Cluster {
    let mut cluster = Cluster::new();
    cluster.put(
        Kind::Widget,
        "llm",
        json!({"spec": {"container": container(), "identity": identity, "shutdown": {"grace": "7s"}}}),
    );
    cluster.put(Kind::Widget, "well", json!({"spec": {"container": container()}}));
    cluster.run();
    for (name, node) in [("llm", "node0"), ("well", "node1")] {
        cluster.ready(&format!("{name}-0-1"));
        cluster.put(Kind::Pod, &format!("{name}-0-1"), json!({"spec": {"nodeName": node}}));
        cluster.put(Kind::Node, node, json!({}));
        speaks(&mut cluster, name);
    }
    passes(&mut cluster, Duration::from_secs(6), &["llm", "well"]);
    assert_eq!(cluster.condition(Kind::Widget, "llm", "Ready")["status"], "True");
    cluster.asked.clear();
    passes(&mut cluster, Duration::from_secs(30), &["well"]);
    assert_eq!(cluster.state.machines(), (0, 1), "node0 is given up");
    cluster
}

#[test]
fn one_with_an_identity_of_its_own_on_a_lost_node_is_neither_deleted_nor_replaced() {
    let mut cluster = silent_on_node0(json!({"stable": true}));
    assert_eq!(cluster.asked_for(Verb::Delete, Kind::Pod), Vec::<&Request>::new());
    assert_eq!(cluster.asked_for(Verb::Create, Kind::Pod), Vec::<&Request>::new());
    assert_eq!(cluster.names(Kind::Pod), ["llm-0-1", "well-0-1"]);
    let ready = cluster.condition(Kind::Widget, "llm", "Ready");
    assert_eq!((&ready["status"], &ready["reason"]), (&json!("False"), &json!("NodeLost")));
    // Its node is back, and it runs as it did.
    speaks(&mut cluster, "llm");
    passes(&mut cluster, Duration::from_secs(2), &["llm", "well"]);
    assert_eq!(cluster.condition(Kind::Widget, "llm", "Ready")["status"], "True");
    assert_eq!(cluster.names(Kind::Pod), ["llm-0-1", "well-0-1"]);
}

#[test]
fn one_whose_manifest_says_so_is_deleted_by_force_once_before_the_next_is_made() {
    let cluster = silent_on_node0(json!({"stable": true, "forceDelete": true}));
    let pods = cluster.asked.iter().filter(|request| request.kind == Kind::Pod);
    let changes: Vec<_> = pods
        .filter(|request| matches!(request.verb, Verb::Create | Verb::Delete))
        .map(|request| (request.verb, request.name.as_str()))
        .collect();
    assert_eq!(changes, [(Verb::Delete, "llm-0-1"), (Verb::Create, "llm-0-2")]);
    let forced = &cluster.asked_for(Verb::Delete, Kind::Pod)[0].body;
    assert_eq!(
        (&forced["preconditions"]["uid"], &forced["gracePeriodSeconds"]),
        (&json!("u-llm-0-1"), &json!(0))
    );
    assert_eq!(cluster.status(Kind::Widget, "llm")["lastEnd"]["reason"], "NodeLost");
}

#[test]
fn one_without_such_an_identity_is_replaced_and_given_the_time_to_end() {
    let cluster = silent_on_node0(json!({}));
    let asked = cluster.asked_for(Verb::Delete, Kind::Pod);
    let graces: Vec<_> = asked.iter().map(|request| &request.body["gracePeriodSeconds"]).collect();
    assert!(graces.iter().all(|grace| **grace != json!(0)), "{graces:?}");
    assert_eq!(cluster.asked_for(Verb::Create, Kind::Pod)[0].name, "llm-0-2");
}
