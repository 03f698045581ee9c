//! What ends is started again, on the lowest rung that will do, and how it ended is told.

use k8s_openapi::api::core::v1::Pod;
use kontrol_e2e_cluster::lab::{
    Lab, is_ready,
    kontrol::{SOON, Signal, label, name_of, node_of, number, object, restarts, test_widget, wrapped_widget},
};
use serde_json::{Value, json};

/// Waits until an event with this reason about a widget says all the words.
async fn until_told(lab: &Lab, widget: &str, reason: &str, words: &[&str]) {
    let about = format!("Widget/{widget}");
    lab.wait_within(&format!("an event {reason} about {about} with {words:?}"), SOON, async || {
        let events = lab.events().await?;
        let said = events.iter().any(|(known, regarding, note)| {
            known == reason && *regarding == about && words.iter().all(|word| note.contains(word))
        });
        Ok(if said { Ok(()) } else { Err(events) })
    })
    .await
    .unwrap();
}

/// Waits until the kubelet has started the container of a group's pod again, for the first time.
async fn until_started_again(lab: &Lab, group: &str, pod: &Pod) -> Pod {
    let what = format!("the container of {} to be started again", name_of(pod));
    lab.wait(&what, async || {
        let pods = lab.pods(group, &label(pod, "widget")).await?;
        let found = pods
            .iter()
            .find(|seen| name_of(seen) == name_of(pod) && restarts(seen, "widget") == 1 && is_ready(seen));
        Ok(found.cloned().ok_or_else(|| pods.iter().map(name_of).collect::<Vec<_>>()))
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
    let again = until_started_again(&lab, "climbs", &first).await;
    assert_eq!(name_of(&again), "climbs-0-1");
    lab.until_object("Widget", "climbs", "the restart to be counted", |widget| {
        widget["status"]["instances"][0]["restarts"] == 1 && widget["status"]["readyReplicas"] == 1
    })
    .await
    .unwrap();
    until_told(&lab, "climbs", "RestartedInPlace", &["climbs-0 ended", "in place: exit code 1"]).await;

    // The kubelet would wait ten seconds and more before it starts it again; the next rung does not.
    lab.signal(&again, "widget", "SIGUSR1").unwrap();
    let replaced = lab.until_replaced("climbs", &again).await.unwrap();
    assert_eq!(name_of(&replaced), "climbs-0-2");
    assert_eq!(restarts(&replaced, "widget"), 0);
    let widget = lab.until_ready("Widget", "climbs").await.unwrap();
    assert_eq!(widget["status"]["lastEnd"]["reason"], "Exited");
    assert_eq!(widget["status"]["lastEnd"]["exitCode"], 1);
    until_told(&lab, "climbs", "Ended", &["climbs-0 ended: exit code 1 after"]).await;
}

#[tokio::test]
async fn what_ends_twice_in_a_row_on_one_node_comes_back_on_another_one() {
    let lab = Lab::with_kontrol("moves").await.unwrap();
    // Whatever else the scheduler weighs, a replacement would come to the same node but for the ends there.
    let wish = json!({"weight": 1, "preference": {"matchExpressions": [
        {"key": "kubernetes.io/hostname", "operator": "In", "values": ["node1"]},
    ]}});
    let affinity = json!({"nodeAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": [wish]}});
    let widget =
        json!({"name": "climbs", "container": test_widget(&[]), "placement": {"affinity": affinity}});
    let group = json!({"intensity": {"maxRestarts": 10, "period": "10m"}, "widgets": [widget]});
    lab.apply(&object("WidgetGroup", "team", &group)).unwrap();
    lab.until_ready("WidgetGroup", "team").await.unwrap();
    let mut pod = lab.until_pods("team", "climbs", 1).await.unwrap().remove(0);
    let mut stood = vec![(name_of(&pod), node_of(&pod))];
    // In each pod the first end is the container's, and the second one the pod's.
    for _ in 0..2 {
        lab.signal(&pod, "widget", "SIGUSR1").unwrap();
        let again = until_started_again(&lab, "team", &pod).await;
        assert_eq!(again.metadata.uid, pod.metadata.uid);
        lab.signal(&again, "widget", "SIGUSR1").unwrap();
        pod = lab.until_replaced("team", &again).await.unwrap();
        stood.push((name_of(&pod), node_of(&pod)));
    }
    let climbed = [("team-climbs-0-1", "node1"), ("team-climbs-0-2", "node1"), ("team-climbs-0-3", "node0")];
    assert_eq!(stood, climbed.map(|(pod, node)| (pod.to_owned(), node.to_owned())));
    let counted = |group: &Value| group["status"]["restarts"] == 4;
    lab.until_object("WidgetGroup", "team", "each of the ends to be counted", counted).await.unwrap();
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
    until_told(&lab, "inner", "RestartedInPlace", &["inner-0 ended", "in place: signal 9 (SIGKILL)"]).await;
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
    until_told(&lab, "hungry", "Ended", &["hungry-0", "out of memory"]).await;
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
    until_told(&lab, "silent", "Ended", &["silent-0 ended: hung"]).await;
    lab.wait("it to be replaced", async || {
        let pods = lab.pods("silent", "silent").await?;
        let found = pods.iter().any(|pod| number(pod, "incarnation") >= 2);
        Ok(if found { Ok(()) } else { Err(pods.iter().map(name_of).collect::<Vec<_>>()) })
    })
    .await
    .unwrap();
}
