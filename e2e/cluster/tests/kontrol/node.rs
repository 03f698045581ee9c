//! What becomes of widgets when a node is lost, and when it is drained.

use std::{collections::BTreeSet, time::Duration};

use k8s_openapi::api::core::v1::Pod;
use kontrol_e2e_cluster::lab::{
    Lab, is_ready,
    kontrol::{name_of, node_of, number, object, test_widget},
};
use serde_json::{Value, json};

/// A widget of two replicas that prefer nodes of their own.
fn spread() -> Value {
    let spread = json!({"topologySpread": [{
        "maxSkew": 1, "topologyKey": "kubernetes.io/hostname", "whenUnsatisfiable": "ScheduleAnyway",
    }]});
    json!({"container": test_widget(&[]), "replicas": 2, "placement": spread, "shutdown": {"grace": "1s"}})
}

/// The pods of the widget, which are to be on both nodes: the one on `node` first.
async fn on_both(lab: &Lab, node: &str) -> (Pod, Pod) {
    let mut pods = lab.until_pods("pair", "pair", 2).await.unwrap();
    let nodes: BTreeSet<String> = pods.iter().map(node_of).collect();
    assert_eq!(nodes.len(), 2, "one replica on each node");
    let at = pods.iter().position(|pod| node_of(pod) == node).unwrap();
    let there = pods.remove(at);
    (there, pods.remove(0))
}

/// The pod that runs on `node0` in the place of a lost one, and is ready; else what is there.
pub(crate) fn replacement(pods: &[Pod], lost: &Pod) -> Result<Pod, Vec<(String, String, bool)>> {
    let replaces = |pod: &&Pod| {
        number(pod, "ordinal") == number(lost, "ordinal") && node_of(pod) == "node0" && is_ready(pod)
    };
    let seen = || pods.iter().map(|pod| (name_of(pod), node_of(pod), is_ready(pod))).collect();
    pods.iter().find(replaces).cloned().ok_or_else(seen)
}

/// Waits until a pod whose incarnation is over is gone.
pub(crate) async fn until_gone(lab: &Lab, pod: &Pod) {
    lab.wait("the pod of the old incarnation to be gone", async || {
        let left = lab.api::<Pod>().get_opt(&name_of(pod)).await?;
        Ok(if left.is_none() { Ok(()) } else { Err(name_of(pod)) })
    })
    .await
    .unwrap();
}

#[tokio::test]
async fn breaks_a_nodes_power_and_its_replica_is_replaced_on_the_other_node() {
    let lab = Lab::with_kontrol("lost").await.unwrap();
    lab.until_operators().await.unwrap();
    lab.apply(&object("Widget", "pair", &spread())).unwrap();
    lab.until_ready("Widget", "pair").await.unwrap();
    let (lost, stays) = on_both(&lab, "node1").await;
    lab.cluster().node_kill("node1").unwrap();
    let replaced = lab
        .wait("the replica to be ready on the other node", async || {
            Ok(replacement(&lab.pods("pair", "pair").await?, &lost))
        })
        .await;
    let widget = lab.get("Widget", "pair").await;
    lab.cluster().node_restart("node1").unwrap();
    lab.cluster().wait_for_node("node1", true, Duration::from_mins(2)).unwrap();
    let replaced = replaced.unwrap();
    assert_eq!(number(&replaced, "incarnation"), number(&lost, "incarnation") + 1);
    assert_eq!(widget.unwrap()["status"]["lastEnd"]["reason"], "NodeLost");
    // What comes back with the node has an old incarnation, and goes.
    let after = lab.until_pods("pair", "pair", 2).await.unwrap();
    let names: BTreeSet<String> = after.iter().map(name_of).collect();
    assert_eq!(names, BTreeSet::from([name_of(&replaced), name_of(&stays)]));
    until_gone(&lab, &lost).await;
    lab.until_operators().await.unwrap();
}

#[tokio::test]
async fn breaks_a_nodes_cable_for_a_moment_and_nothing_is_replaced() {
    let lab = Lab::with_kontrol("moment").await.unwrap();
    lab.until_operators().await.unwrap();
    lab.apply(&object("Widget", "pair", &spread())).unwrap();
    lab.until_ready("Widget", "pair").await.unwrap();
    let (cut, stays) = on_both(&lab, "node1").await;
    lab.cluster().node_partition("node1").unwrap();
    // Less than it takes to give a node up.
    tokio::time::sleep(Duration::from_millis(500)).await;
    lab.cluster().node_heal("node1").unwrap();
    lab.until_operators().await.unwrap();
    let after = lab.until_pods("pair", "pair", 2).await.unwrap();
    let uids: BTreeSet<_> = after.iter().map(|pod| pod.metadata.uid.clone()).collect();
    assert_eq!(uids, BTreeSet::from([cut.metadata.uid, stays.metadata.uid]));
}

#[tokio::test]
async fn breaks_off_a_node_by_a_drain_and_its_replica_moves() {
    let lab = Lab::with_kontrol("drain").await.unwrap();
    lab.until_operators().await.unwrap();
    lab.apply(&object("Widget", "pair", &spread())).unwrap();
    lab.until_ready("Widget", "pair").await.unwrap();
    let (moved, stays) = on_both(&lab, "node1").await;
    let drained = lab.cluster().kubectl(&[
        "drain",
        "node1",
        "--ignore-daemonsets",
        "--delete-emptydir-data",
        "--pod-selector",
        "kontrol.dev/widget=pair",
        "--timeout=60s",
    ]);
    let after = lab.until_pods("pair", "pair", 2).await;
    lab.cluster().kubectl(&["uncordon", "node1"]).unwrap();
    drained.unwrap();
    let after = after.unwrap();
    assert!(after.iter().all(|pod| node_of(pod) == "node0"));
    assert!(after.iter().any(|pod| pod.metadata.uid == stays.metadata.uid), "the other one stays");
    assert!(after.iter().all(|pod| name_of(pod) != name_of(&moved)));
    let widget = lab.until_ready("Widget", "pair").await.unwrap();
    let reason = widget["status"]["lastEnd"]["reason"].as_str().unwrap_or_default().to_owned();
    assert!(["Evicted", "Deleted"].contains(&reason.as_str()), "{reason}");
}
