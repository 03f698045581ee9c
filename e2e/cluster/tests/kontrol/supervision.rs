//! What ends is started again: each rung of the ladder, and the strategies of groups across pods.

use std::{collections::BTreeSet, time::Duration};

use k8s_openapi::api::core::v1::Pod;
use kontrol_e2e_cluster::lab::{
    Lab,
    kontrol::{Signal, label, name_of, node_of, number, object, on, restarts, test_widget, wrapped_widget},
};
use kube::api::ListParams;
use serde_json::{Value, json};

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
async fn the_first_end_is_the_kubelets_and_the_second_brings_a_new_pod() {
    let lab = Lab::with_kontrol("ladder").await.unwrap();
    lab.apply(&object("Widget", "climbs", &json!({"container": test_widget(&[])}))).unwrap();
    lab.until_ready("Widget", "climbs").await.unwrap();
    let first = lab.until_pods("climbs", "climbs", 1).await.unwrap().remove(0);
    lab.signal(&first, "widget", "SIGUSR1").unwrap();
    let again = lab
        .wait("the container to be started again in its pod", async || {
            let pods = lab.pods("climbs", "climbs").await?;
            let found = pods
                .iter()
                .find(|pod| restarts(pod, "widget") == 1 && kontrol_e2e_cluster::lab::is_ready(pod));
            Ok(found.cloned().ok_or_else(|| pods.iter().map(name_of).collect::<Vec<_>>()))
        })
        .await
        .unwrap();
    assert_eq!(name_of(&again), "climbs-0-1");
    lab.until_object("Widget", "climbs", "the restart to be counted", |widget| {
        widget["status"]["instances"][0]["restarts"] == 1 && widget["status"]["readyReplicas"] == 1
    })
    .await
    .unwrap();

    // The kubelet would wait ten seconds and more before it starts it again; the next rung does not.
    lab.signal(&again, "widget", "SIGUSR1").unwrap();
    let replaced = lab.until_replaced("climbs", &again).await.unwrap();
    assert_eq!(name_of(&replaced), "climbs-0-2");
    assert_eq!(restarts(&replaced, "widget"), 0);
    let widget = lab.until_ready("Widget", "climbs").await.unwrap();
    assert_eq!(widget["status"]["lastEnd"]["reason"], "Exited");
    assert_eq!(widget["status"]["lastEnd"]["exitCode"], 1);
}

#[tokio::test]
async fn a_wrapped_widget_is_started_again_within_its_container() {
    let lab = Lab::with_kontrol("wrapped").await.unwrap();
    lab.apply(&object("Widget", "inner", &json!({"container": wrapped_widget(&[])}))).unwrap();
    lab.until_ready("Widget", "inner").await.unwrap();
    let before = lab.until_pods("inner", "inner", 1).await.unwrap().remove(0);
    // The shim is the container's process; the widget is its child.
    lab.signal_child(&before, "widget", "kontrol-test-widget", Signal::KILL).unwrap();
    let widget = lab
        .until_object("Widget", "inner", "the restart in place to be counted", |widget| {
            widget["status"]["instances"][0]["restarts"] == 1 && widget["status"]["readyReplicas"] == 1
        })
        .await
        .unwrap();
    assert_eq!(widget["status"]["instances"][0]["name"], name_of(&before).as_str());
    let after = lab.until_pods("inner", "inner", 1).await.unwrap().remove(0);
    assert_eq!((after.metadata.uid.as_ref(), restarts(&after, "widget")), (before.metadata.uid.as_ref(), 0));
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
}

#[tokio::test]
async fn a_widget_that_is_out_of_memory_says_so() {
    let lab = Lab::with_kontrol("memory").await.unwrap();
    let container = json!({
        "image": "kontrol.local/kontrol-probe:dev", "imagePullPolicy": "Never", "args": ["eat", "64"],
        "resources": {"limits": {"memory": "32Mi"}},
    });
    let spec = json!({"container": container, "start": {"when": "Running"}});
    lab.apply(&object("Widget", "hungry", &spec)).unwrap();
    let widget = lab.until_ended("hungry").await.unwrap();
    assert_eq!(widget["status"]["lastEnd"]["reason"], "OutOfMemory");
}

#[tokio::test]
async fn a_widget_that_hangs_is_restarted() {
    let lab = Lab::with_kontrol("hangs").await.unwrap();
    let spec = json!({
        "container": test_widget(&["--reports", "once"]), "health": {"report": {}, "timeout": "3s"},
        "shutdown": {"grace": "1s"},
    });
    lab.apply(&object("Widget", "silent", &spec)).unwrap();
    let widget = lab.until_ended("silent").await.unwrap();
    assert_eq!(widget["status"]["lastEnd"]["reason"], "Unhealthy", "{:#}", widget["status"]["lastEnd"]);
    lab.wait("it to be replaced", async || {
        let pods = lab.pods("silent", "silent").await?;
        let found = pods.iter().any(|pod| number(pod, "incarnation") >= 2);
        Ok(if found { Ok(()) } else { Err(pods.iter().map(name_of).collect::<Vec<_>>()) })
    })
    .await
    .unwrap();
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
