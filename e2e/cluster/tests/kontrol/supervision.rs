//! What an end brings about in a group across pods: its strategy, its intensity, and whoever is above it.

use std::{collections::BTreeSet, time::Duration};

use k8s_openapi::api::core::v1::Pod;
use kontrol_e2e_cluster::lab::{
    Lab,
    kontrol::{SOON, label, name_of, node_of, number, object, on, test_widget},
};
use kube::api::ListParams;
use serde_json::{Value, json};

use crate::tools::kontrol;

const NODES: [&str; 2] = ["node0", "node1"];

/// A group whose widgets are named in order and stand on the nodes in turn.
fn group(strategy: &str, widgets: &[&str], intensity: &Value) -> Value {
    let widget = |(number, name): (usize, &&str)| {
        json!({"name": name, "container": test_widget(&[]), "placement": on(NODES[number % 2]),
               "shutdown": {"grace": "2s"}})
    };
    let widgets: Vec<Value> = widgets.iter().enumerate().map(widget).collect();
    object("WidgetGroup", "team", &json!({"strategy": strategy, "intensity": intensity, "widgets": widgets}))
}

/// The one pod of each widget of the group `team`.
async fn team(lab: &Lab, widgets: &[&str]) -> Vec<Pod> {
    let mut pods = Vec::new();
    for widget in widgets {
        pods.push(lab.until_pods("team", widget, 1).await.unwrap().remove(0));
    }
    pods
}

async fn until_restarts(lab: &Lab, kind: &str, name: &str, epoch: u64) -> Value {
    let what = format!("{kind} {name} to be ready in epoch {epoch}");
    lab.until_object(kind, name, &what, |seen| {
        let conditions = seen["status"]["conditions"].as_array().cloned().unwrap_or_default();
        let ready = conditions.iter().any(|known| known["type"] == "Ready" && known["status"] == "True");
        ready && seen["status"]["epoch"] == epoch
    })
    .await
    .unwrap()
}

#[tokio::test]
async fn a_pod_that_somebody_deletes_is_replaced_and_not_counted() {
    let lab = Lab::with_kontrol("removed").await.unwrap();
    lab.apply(&group("OneForOne", &["a", "b"], &json!({"maxRestarts": 0}))).unwrap();
    lab.until_ready("WidgetGroup", "team").await.unwrap();
    let before = team(&lab, &["a", "b"]).await;
    lab.kubectl(&["delete", "pod", &name_of(&before[0]), "--wait=false"]).unwrap();
    let replaced = lab.until_replaced("team", &before[0]).await.unwrap();
    assert_eq!(number(&replaced, "incarnation"), 2);
    let group = lab.until_ready("WidgetGroup", "team").await.unwrap();
    assert_eq!(group["status"]["restarts"], 0, "an end from outside does not count: {group:#}");
    let other = team(&lab, &["b"]).await.remove(0);
    assert_eq!(other.metadata.uid, before[1].metadata.uid);
    let widget = lab.get("Widget", "team-a").await.unwrap();
    assert_eq!(widget["status"]["lastEnd"]["reason"], "Deleted");
}

#[tokio::test]
async fn one_for_all_restarts_every_widget_on_both_nodes_once_per_fault() {
    let lab = Lab::with_kontrol("all").await.unwrap();
    let widgets = ["a", "b", "c", "d"];
    lab.apply(&group("OneForAll", &widgets, &json!({"maxRestarts": 100, "period": "10m"}))).unwrap();
    lab.until_ready("WidgetGroup", "team").await.unwrap();
    let mut before = team(&lab, &widgets).await;
    let nodes: BTreeSet<String> = before.iter().map(node_of).collect();
    assert_eq!(nodes.len(), 2);
    for fault in 1..=3_u64 {
        let victim = usize::try_from(fault).unwrap() % widgets.len();
        lab.kubectl(&["delete", "pod", &name_of(&before[victim]), "--wait=false"]).unwrap();
        until_restarts(&lab, "WidgetGroup", "team", fault).await;
        let after = team(&lab, &widgets).await;
        for (old, new) in before.iter().zip(&after) {
            assert_ne!(name_of(old), name_of(new), "fault {fault}");
            assert_eq!(label(new, "epoch"), fault.to_string());
            assert_eq!(number(new, "incarnation"), number(old, "incarnation") + 1, "once for fault {fault}");
        }
        let created: Vec<_> =
            after.iter().map(|pod| pod.metadata.creation_timestamp.clone().unwrap().0).collect();
        assert!(created.is_sorted(), "in the order of the manifest: {created:?}");
        before = after;
    }
}

#[tokio::test]
async fn one_for_all_follows_the_end_of_a_container_that_the_kubelet_has_started_again() {
    let lab = Lab::with_kontrol("inplace").await.unwrap();
    let widgets = ["a", "b"];
    lab.apply(&group("OneForAll", &widgets, &json!({"maxRestarts": 10, "period": "10m"}))).unwrap();
    lab.until_ready("WidgetGroup", "team").await.unwrap();
    let before = team(&lab, &widgets).await;
    lab.signal(&before[0], "widget", "SIGUSR1").unwrap();
    until_restarts(&lab, "WidgetGroup", "team", 1).await;
    let after = team(&lab, &widgets).await;
    assert_ne!(name_of(&before[1]), name_of(&after[1]), "the other one is restarted with it");
    assert_eq!(label(&after[1], "epoch"), "1");
}

#[tokio::test]
async fn rest_for_one_restarts_what_comes_after() {
    let lab = Lab::with_kontrol("rest").await.unwrap();
    let widgets = ["a", "b", "c"];
    lab.apply(&group("RestForOne", &widgets, &json!({"maxRestarts": 10, "period": "10m"}))).unwrap();
    lab.until_ready("WidgetGroup", "team").await.unwrap();
    let before = team(&lab, &widgets).await;
    lab.kubectl(&["delete", "pod", &name_of(&before[1]), "--wait=false"]).unwrap();
    until_restarts(&lab, "WidgetGroup", "team", 1).await;
    let after = team(&lab, &widgets).await;
    let same: Vec<bool> =
        before.iter().zip(&after).map(|(old, new)| old.metadata.uid == new.metadata.uid).collect();
    assert_eq!(same, [true, false, false]);
}

/// Waits until the chain of causes that `why` tells of something is this one, the last decision first.
async fn until_why(lab: &Lab, name: &str, chain: &[&str]) {
    lab.wait_within(&format!("why {name} to tell of {chain:?}"), SOON, async || {
        let (code, text) = kontrol(lab, &["why", name, "-o", "json"]);
        let told: Value = serde_json::from_str(&text).unwrap_or_default();
        let links = told["chain"].as_array().cloned().unwrap_or_default();
        let same = links.len() == chain.len()
            && links
                .iter()
                .zip(chain)
                .all(|(link, wanted)| link["text"].as_str().is_some_and(|text| text.contains(wanted)));
        Ok(if code == 0 && same { Ok(()) } else { Err(text) })
    })
    .await
    .unwrap();
}

#[tokio::test]
async fn too_many_ends_end_the_group_and_its_supervisor_says_why() {
    let lab = Lab::with_kontrol("intensity").await.unwrap();
    lab.apply(&group("OneForOne", &["a", "b"], &json!({"maxRestarts": 0, "period": "10m"}))).unwrap();
    let supervisor = json!({
        "children": [{"group": "team"}], "intensity": {"maxRestarts": 1, "period": "10m"},
        "whenExhausted": {"policy": "Stop"},
    });
    lab.apply(&object("Supervisor", "chief", &supervisor)).unwrap();
    lab.until_ready("Supervisor", "chief").await.unwrap();
    let before = team(&lab, &["a", "b"]).await;

    // One end is one too many for the group: it is restarted as a whole by the supervisor.
    lab.signal(&before[1], "widget", "SIGUSR1").unwrap();
    let chief = until_restarts(&lab, "Supervisor", "chief", 1).await;
    assert_eq!(chief["status"]["restarts"], 1);
    let after = team(&lab, &["a", "b"]).await;
    assert_ne!(name_of(&before[0]), name_of(&after[0]), "the whole group was restarted");
    let restarted = [
        "chief restarts team (OneForOne), epoch 1, 1 of 1 restarts in 10 min",
        "team gives up: 1 restart in 10 min is more than 0",
        "team counts the restart of b, epoch 1, 1 of 0 restarts in 10 min",
        "team/b-0 ended and was restarted in place: exit code 1",
    ];
    for name in ["chief", "team", "team/b"] {
        until_why(&lab, name, &restarted).await;
    }

    // The next one is too many for the supervisor too, which has nobody above it.
    lab.signal(&after[0], "widget", "SIGUSR1").unwrap();
    let stalled = lab.until_condition("Supervisor", "chief", "Stalled", "True").await.unwrap();
    assert!(!stalled.reason.is_empty());
    lab.wait("every pod to be stopped", async || {
        let left: Vec<_> = lab.api::<Pod>().list(&ListParams::default()).await?.iter().map(name_of).collect();
        Ok(if left.is_empty() { Ok(()) } else { Err(left) })
    })
    .await
    .unwrap();
    let ready = lab.condition("Supervisor", "chief", "Ready").await.unwrap();
    assert_eq!(ready.status, "False");
    let stopped = [
        "chief stays stopped",
        "chief gives up: 2 restarts in 10 min are more than 1",
        "team gives up: 1 restart in 10 min is more than 0",
        "team counts the restart of a, epoch 3, 1 of 0 restarts in 10 min",
        "team/a-0 ended and was restarted in place: exit code 1",
    ];
    until_why(&lab, "chief", &stopped).await;
}

#[tokio::test]
async fn a_restart_by_hand_is_done_once() {
    let lab = Lab::with_kontrol("byhand").await.unwrap();
    lab.apply(&object("Widget", "asked", &json!({"container": test_widget(&[])}))).unwrap();
    lab.until_ready("Widget", "asked").await.unwrap();
    let before = lab.until_pods("asked", "asked", 1).await.unwrap().remove(0);
    let annotations = json!({"kontrol.dev/restart-requested-at": "2026-01-01T00:00:00.000001Z"});
    lab.patch("Widget", "asked", &json!({"metadata": {"annotations": annotations}})).await.unwrap();
    let after = lab.until_replaced("asked", &before).await.unwrap();
    assert_eq!(number(&after, "incarnation"), number(&before, "incarnation") + 1);
    lab.until_ready("Widget", "asked").await.unwrap();
    let stays = lab
        .wait_within("nothing more to happen", Duration::from_secs(3), async || {
            let pods: Vec<_> = lab.pods("asked", "asked").await?.iter().map(name_of).collect();
            Ok(if pods == [name_of(&after)] { Err(pods) } else { Ok(pods) })
        })
        .await;
    assert!(stays.is_err(), "restarted again: {stays:?}");
}
