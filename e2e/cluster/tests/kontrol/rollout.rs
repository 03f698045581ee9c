//! New revisions: rolled out a few at a time, and back by themselves where they are bad.

use std::{cell::Cell, collections::BTreeSet};

use kontrol_e2e_cluster::lab::{
    Lab, is_ready,
    kontrol::{label, object, test_widget},
};
use serde_json::{Value, json};

fn widget(replicas: u32, arguments: &[&str], rollout: &Value) -> Value {
    json!({"container": test_widget(arguments), "replicas": replicas, "rollout": rollout, "shutdown": {"grace": "1s"},
           "start": {"timeout": "2m"}, "intensity": {"maxRestarts": 1, "period": "5s"}})
}

/// A change that is harmless, and makes another revision.
fn harmless(value: &str) -> Value {
    json!({"spec": {"container": {"env": [{"name": "ROUND", "value": value}]}}})
}

async fn revisions(lab: &Lab, name: &str) -> BTreeSet<String> {
    lab.pods(name, name).await.unwrap().iter().map(|pod| label(pod, "revision")).collect()
}

#[tokio::test]
async fn a_roll_out_keeps_all_but_one_replica_ready() {
    let lab = Lab::with_kontrol("rolls").await.unwrap();
    lab.apply(&object("Widget", "rolls", &widget(3, &[], &json!({"maxUnavailable": 1})))).unwrap();
    lab.until_ready("Widget", "rolls").await.unwrap();
    lab.until_pods("rolls", "rolls", 3).await.unwrap();
    let old = revisions(&lab, "rolls").await;
    lab.patch("Widget", "rolls", &harmless("two")).await.unwrap();
    let fewest = Cell::new(3);
    lab.wait("every replica to be of the new revision", async || {
        let pods = lab.pods("rolls", "rolls").await?;
        let ready = pods.iter().filter(|pod| is_ready(pod)).count();
        fewest.set(fewest.get().min(ready));
        let new = pods.iter().filter(|pod| is_ready(pod) && !old.contains(&label(pod, "revision"))).count();
        Ok(if new == 3 && pods.len() == 3 { Ok(()) } else { Err((new, pods.len())) })
    })
    .await
    .unwrap();
    assert!(fewest.get() >= 2, "{} were ready at the worst moment", fewest.get());
    let widget = lab.until_ready("Widget", "rolls").await.unwrap();
    assert_eq!(widget["status"]["restarts"], 0, "a roll-out is no restart");
}

#[tokio::test]
async fn a_paused_roll_out_waits_until_it_is_resumed() {
    let lab = Lab::with_kontrol("paused").await.unwrap();
    lab.apply(&object("Widget", "waits", &widget(2, &[], &json!({"paused": true})))).unwrap();
    lab.until_ready("Widget", "waits").await.unwrap();
    let old = revisions(&lab, "waits").await;
    lab.patch("Widget", "waits", &harmless("two")).await.unwrap();
    lab.until_object("Widget", "waits", "the roll-out to be paused", |widget| {
        widget["status"]["rollout"]["state"] == "Paused"
            && widget["status"]["observedGeneration"] == widget["metadata"]["generation"]
    })
    .await
    .unwrap();
    assert_eq!(revisions(&lab, "waits").await, old);
    lab.patch("Widget", "waits", &json!({"spec": {"rollout": {"paused": false}}})).await.unwrap();
    lab.until_object("Widget", "waits", "the roll-out to be complete", |widget| {
        widget["status"]["rollout"]["state"] == "Complete"
            && widget["status"]["rollout"]["updatedReplicas"] == 2
    })
    .await
    .unwrap();
    assert!(revisions(&lab, "waits").await.is_disjoint(&old));
}

/// Applies a bad change, waits until the widget is back at what it was, and then mends it.
async fn returns(name: &str, bad: &Value) {
    let lab = Lab::with_kontrol(name).await.unwrap();
    // Long enough for what mends it on a busy machine, and what a bad revision takes that only its deadline ends.
    let rollout = json!({"progressDeadline": "40s", "maxUnavailable": 1});
    lab.apply(&object("Widget", "good", &widget(2, &[], &rollout))).unwrap();
    lab.until_ready("Widget", "good").await.unwrap();
    lab.until_pods("good", "good", 2).await.unwrap();
    // A revision is good once it was ready for as long as ends are counted.
    lab.until_object("Widget", "good", "its revision to be good", |widget| {
        widget["status"]["rollout"]["lastGoodRevision"].is_string()
    })
    .await
    .unwrap();
    let old = revisions(&lab, "good").await;
    lab.patch("Widget", "good", bad).await.unwrap();
    let widget = lab
        .until_object("Widget", "good", "the widget to be back at the good revision", |widget| {
            widget["status"]["rollout"]["state"] == "RolledBack" && widget["status"]["readyReplicas"] == 2
        })
        .await
        .unwrap();
    assert_eq!(revisions(&lab, "good").await, old);
    let progressing = lab.condition("Widget", "good", "Progressing").await.unwrap();
    assert!(
        !progressing.message.is_empty() && widget["status"]["rollout"]["message"].is_string(),
        "{progressing:?}"
    );

    // What is bad does not stand in the way of what mends it.
    let mut mended = test_widget(&[]);
    mended["env"] = json!([{"name": "ROUND", "value": "mended"}]);
    lab.patch("Widget", "good", &json!({"spec": {"container": mended}})).await.unwrap();
    lab.until_object("Widget", "good", "the mended revision to be complete", |widget| {
        widget["status"]["rollout"]["state"] == "Complete"
            && widget["status"]["observedGeneration"] == widget["metadata"]["generation"]
            && widget["status"]["readyReplicas"] == 2
    })
    .await
    .unwrap();
    let new = revisions(&lab, "good").await;
    assert!(new.len() == 1 && new.is_disjoint(&old), "{new:?}");
}

#[tokio::test]
async fn a_revision_whose_image_does_not_exist_goes_back_by_itself() {
    let image = json!({"spec": {"container": {"image": "kontrol.local/kontrol-test-widget:none"}}});
    returns("noimage", &image).await;
}

#[tokio::test]
async fn a_revision_that_ends_at_once_goes_back_by_itself() {
    returns("crashes", &json!({"spec": {"container": {"args": ["--no-such-option"]}}})).await;
}
