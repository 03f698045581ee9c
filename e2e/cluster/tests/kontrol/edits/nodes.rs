//! A manifest that is changed while a node is drained, and while one is lost.

use std::{collections::BTreeSet, time::Duration};

use k8s_openapi::api::core::v1::{Node, Pod};
use kontrol_e2e_cluster::{
    Error,
    lab::{
        Lab,
        kontrol::{name_of, node_of},
    },
};
use kube::{Api, api::ListParams};
use serde_json::{Value, json};

use super::{alone, until_round};

/// Replicas of this round that prefer nodes of their own.
fn spread(round: &str, replicas: usize) -> Value {
    let mut widget = alone(round, replicas);
    widget["spec"]["placement"] = json!({"topologySpread": [{
        "maxSkew": 1, "topologyKey": "kubernetes.io/hostname", "whenUnsatisfiable": "ScheduleAnyway",
    }]});
    widget
}

/// A lab with a widget of two replicas of round one, one on each node.
async fn on_both_nodes(name: &str) -> Lab {
    let lab = Lab::with_kontrol(name).await.unwrap();
    lab.until_operators().await.unwrap();
    lab.apply(&spread("one", 2)).unwrap();
    until_round(&lab, "edited", &["edited"], (2, "one"), |_| ()).await;
    lab.until_ready("Widget", "edited").await.unwrap();
    let pods = lab.pods("edited", "edited").await.unwrap();
    assert_eq!(nodes_of(&pods), BTreeSet::from(["node0".to_owned(), "node1".to_owned()]));
    lab
}

fn nodes_of(pods: &[Pod]) -> BTreeSet<String> {
    pods.iter().map(node_of).collect()
}

fn names_of(pods: &[Pod]) -> BTreeSet<String> {
    pods.iter().map(name_of).collect()
}

/// Waits until the widget's pods are this many of this round, and gives them.
async fn pods_of_round(lab: &Lab, count: usize, round: &str) -> Vec<Pod> {
    until_round(lab, "edited", &["edited"], (count, round), |_| ()).await;
    lab.pods("edited", "edited").await.unwrap()
}

#[tokio::test]
async fn breaks_off_a_node_by_a_drain_while_the_manifest_is_edited_and_the_newest_runs_elsewhere() {
    let lab = on_both_nodes("draining").await;
    let cluster = lab.cluster().clone();
    let drain = tokio::task::spawn_blocking(move || {
        cluster.kubectl(&[
            "drain",
            "node1",
            "--ignore-daemonsets",
            "--delete-emptydir-data",
            "--pod-selector=kontrol.dev/widget=edited",
            "--timeout=60s",
        ])
    });
    let seen = async {
        let nodes = Api::<Node>::all(lab.client().clone());
        lab.wait("the drain to have begun", async || {
            let node = nodes.get("node1").await?;
            let closed = node.spec.and_then(|spec| spec.unschedulable).unwrap_or_default();
            Ok(if closed { Ok(()) } else { Err("the node still takes pods") })
        })
        .await?;
        lab.apply(&spread("two", 3))?;
        let pods = pods_of_round(&lab, 3, "two").await;
        Ok::<_, Error>((pods, lab.until_ready("Widget", "edited").await?))
    }
    .await;
    let drained = drain.await.unwrap();
    lab.cluster().kubectl(&["uncordon", "node1"]).unwrap();
    drained.unwrap();
    let (pods, widget) = seen.unwrap();
    assert_eq!(nodes_of(&pods), BTreeSet::from(["node0".to_owned()]));
    assert_eq!(widget["status"]["readyReplicas"], 3);
    // A node that takes pods again is no reason to move any.
    lab.until_operators().await.unwrap();
    assert_eq!(names_of(&pods_of_round(&lab, 3, "two").await), names_of(&pods));
}

#[tokio::test]
async fn breaks_a_nodes_power_while_the_manifest_is_edited_and_the_newest_runs_elsewhere_once() {
    let lab = on_both_nodes("losing").await;
    lab.cluster().node_kill("node1").unwrap();
    let seen = async {
        // Once before anybody can know that the node is lost, once when it is known. Its replica may be one that the roll-out stops just then,
        // whose end is as wanted and is nobody's loss.
        lab.apply(&spread("two", 2))?;
        lab.until_object("Widget", "edited", "the loss to be known", |widget| {
            let instances = widget["status"]["instances"].as_array().map_or(&[][..], Vec::as_slice);
            instances.len() == 2 && instances.iter().all(|instance| instance["node"] != "node1")
        })
        .await?;
        lab.apply(&spread("three", 3))?;
        let pods = pods_of_round(&lab, 3, "three").await;
        Ok::<_, Error>((pods, lab.until_ready("Widget", "edited").await?))
    }
    .await;
    lab.cluster().node_restart("node1").unwrap();
    lab.cluster().wait_for_node("node1", true, Duration::from_mins(2)).unwrap();
    let (pods, widget) = seen.unwrap();
    assert_eq!(nodes_of(&pods), BTreeSet::from(["node0".to_owned()]));
    assert_eq!(widget["status"]["readyReplicas"], 3);
    // What comes back with the node is of an old incarnation and an old round: it goes, and nothing else changes.
    let gone = lab
        .wait("the pods of the lost node to be gone", async || {
            let mut all = lab.api::<Pod>().list(&ListParams::default()).await?.items;
            all.retain(|pod| node_of(pod) == "node1");
            Ok(if all.is_empty() { Ok(()) } else { Err(names_of(&all)) })
        })
        .await;
    gone.unwrap();
    lab.until_operators().await.unwrap();
    assert_eq!(names_of(&pods_of_round(&lab, 3, "three").await), names_of(&pods));
}
