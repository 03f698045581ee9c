//! What is deleted goes, whatever it was doing, and takes all that it had along.

use k8s_openapi::api::core::v1::Pod;
use kontrol_e2e_cluster::lab::{
    Lab,
    kontrol::{name_of, object, test_widget},
};
use kube::api::ListParams;
use serde_json::{Value, json};

/// Waits until the namespace has no pod, not even one that is going.
async fn until_empty(lab: &Lab) {
    lab.wait("no pod to be left", async || {
        let left: Vec<_> = lab.api::<Pod>().list(&ListParams::default()).await?.iter().map(name_of).collect();
        Ok(if left.is_empty() { Ok(()) } else { Err(left) })
    })
    .await
    .unwrap();
}

/// Deletes everything of Kontrol's in the namespace, and waits until it is gone.
async fn delete_all(lab: &Lab) {
    let kinds = "supervisors,widgetgroups,widgets,topics,routes,messagebuses";
    lab.kubectl(&["delete", kinds, "--all", "--timeout=60s"]).unwrap();
    until_empty(lab).await;
}

fn team(strategy: &str, arguments: &[&str]) -> Value {
    let widgets = ["a", "b", "c"]
        .map(|name| json!({"name": name, "container": test_widget(arguments), "shutdown": {"grace": "1s"}}));
    let intensity = json!({"maxRestarts": 10, "period": "10m"});
    object("WidgetGroup", "team", &json!({"strategy": strategy, "intensity": intensity, "widgets": widgets}))
}

#[tokio::test]
async fn a_widget_that_does_not_come_up_is_deleted() {
    let lab = Lab::with_kontrol("anytime").await.unwrap();
    let states: [(&str, Value); 5] = [
        (
            "unschedulable",
            json!({"container": test_widget(&[]), "placement": {"nodeSelector": {"no": "node"}}}),
        ),
        ("no-image", json!({"container": {"image": "kontrol.local/none:none", "imagePullPolicy": "Never"}})),
        ("starting", json!({"container": test_widget(&["--reports", "never"])})),
        (
            "crashing",
            json!({"container": test_widget(&["--no-such-option"]), "intensity": {"maxRestarts": 1000, "period": "1s"}}),
        ),
        (
            "given-up",
            json!({"container": test_widget(&["--no-such-option"]), "intensity": {"maxRestarts": 0}}),
        ),
    ];
    for (name, spec) in &states {
        lab.apply(&object("Widget", name, spec)).unwrap();
    }
    for (name, _) in states.iter().take(3) {
        lab.wait(&format!("{name} to have a pod"), async || {
            let found = lab.pods(name, name).await?.len();
            Ok(if found == 1 { Ok(()) } else { Err(found) })
        })
        .await
        .unwrap();
    }
    lab.until_ended("crashing").await.unwrap();
    lab.until_condition("Widget", "given-up", "Stalled", "True").await.unwrap();
    delete_all(&lab).await;
}

#[tokio::test]
async fn a_widget_that_does_not_want_to_end_is_deleted() {
    let lab = Lab::with_kontrol("stubborn").await.unwrap();
    let stubborn = json!({"container": test_widget(&["--ignore-term"]), "shutdown": {"grace": "1s"}});
    lab.apply(&object("Widget", "stubborn", &stubborn)).unwrap();
    let zero = json!({"container": test_widget(&[]), "replicas": 0});
    lab.apply(&object("Widget", "zero", &zero)).unwrap();
    lab.until_ready("Widget", "stubborn").await.unwrap();
    lab.kubectl(&["delete", "widgets", "--all", "--wait=false"]).unwrap();
    until_empty(&lab).await;
    delete_all(&lab).await;
}

#[tokio::test]
async fn a_group_is_deleted_in_the_middle_of_a_restart() {
    let lab = Lab::with_kontrol("midway").await.unwrap();
    lab.apply(&team("OneForAll", &[])).unwrap();
    lab.until_ready("WidgetGroup", "team").await.unwrap();
    let victim = lab.until_pods("team", "b", 1).await.unwrap().remove(0);
    lab.kubectl(&["delete", "pod", &name_of(&victim), "--wait=false"]).unwrap();
    lab.until_object("WidgetGroup", "team", "the restart to begin", |group| group["status"]["epoch"] == 1)
        .await
        .unwrap();
    delete_all(&lab).await;
}

#[tokio::test]
async fn a_group_is_deleted_in_the_middle_of_its_start_and_of_a_roll_out() {
    let lab = Lab::with_kontrol("early").await.unwrap();
    lab.apply(&team("OneForOne", &[])).unwrap();
    lab.wait("its first pod", async || Ok(lab.pods("team", "a").await?.pop().ok_or("there is none")))
        .await
        .unwrap();
    delete_all(&lab).await;

    // The same names again: nothing of the old ones stands in their way.
    lab.apply(&team("OneForOne", &[])).unwrap();
    lab.until_ready("WidgetGroup", "team").await.unwrap();
    let old = lab.until_pods("team", "a", 1).await.unwrap().remove(0);
    lab.apply(&team("OneForOne", &["--reports", "once"])).unwrap();
    lab.wait("the roll-out to have taken the first pod", async || {
        let pods: Vec<_> = lab.pods("team", "a").await?.iter().map(name_of).collect();
        Ok(if pods.contains(&name_of(&old)) { Err(pods) } else { Ok(()) })
    })
    .await
    .unwrap();
    delete_all(&lab).await;
}

#[tokio::test]
async fn a_tree_is_deleted_with_its_supervisor_though_its_group_stays() {
    let lab = Lab::with_kontrol("tree").await.unwrap();
    lab.apply(&team("OneForOne", &[])).unwrap();
    lab.apply(&object("Supervisor", "chief", &json!({"children": [{"group": "team"}]}))).unwrap();
    lab.until_ready("Supervisor", "chief").await.unwrap();
    lab.kubectl(&["delete", "supervisor", "chief", "--timeout=60s"]).unwrap();
    let group = lab.until_ready("WidgetGroup", "team").await.unwrap();
    assert!(group["metadata"]["deletionTimestamp"].is_null(), "it is its own object");
    delete_all(&lab).await;
}

/// A group or supervisor that bears no end, and waits for longer after one than anybody does here.
fn strict(mut manifest: Value) -> Value {
    manifest["spec"]["intensity"] = json!({"maxRestarts": 0, "period": "10m"});
    manifest["spec"]["whenExhausted"] = json!({"policy": "Retry", "initial": "1h", "max": "1h"});
    manifest
}

#[tokio::test]
async fn roots_that_back_off_are_deleted() {
    let lab = Lab::with_kontrol("pausing").await.unwrap();
    let alone = strict(team("OneForAll", &[]));
    let mut below = alone.clone();
    below["metadata"]["name"] = "crew".into();
    let chief = strict(object("Supervisor", "chief", &json!({"children": [{"group": "crew"}]})));
    for manifest in [&chief, &alone, &below] {
        lab.apply(manifest).unwrap();
    }
    for (kind, root, group) in [("WidgetGroup", "team", "team"), ("Supervisor", "chief", "crew")] {
        lab.until_ready(kind, root).await.unwrap();
        let victim = lab.until_pods(group, "b", 1).await.unwrap().remove(0);
        lab.signal(&victim, "widget", "SIGUSR1").unwrap();
    }
    for (kind, root) in [("WidgetGroup", "team"), ("Supervisor", "chief")] {
        let stalled = lab.until_condition(kind, root, "Stalled", "True").await.unwrap();
        assert_eq!(stalled.reason, "BackingOff", "{kind}: {stalled:?}");
    }
    delete_all(&lab).await;
}

#[tokio::test]
async fn a_group_that_is_back_at_its_last_good_revision_is_deleted() {
    let lab = Lab::with_kontrol("back").await.unwrap();
    let brief = |arguments: &[&str]| {
        let mut team = team("OneForOne", arguments);
        team["spec"]["intensity"] = json!({"maxRestarts": 0, "period": "2s"});
        team
    };
    lab.apply(&brief(&[])).unwrap();
    lab.until_object("Widget", "team-a", "its revision to be good", |widget| {
        widget["status"]["rollout"]["lastGoodRevision"].is_string()
    })
    .await
    .unwrap();
    lab.apply(&brief(&["--no-such-option"])).unwrap();
    lab.until_object("Widget", "team-a", "it to be back at the good revision", |widget| {
        widget["status"]["rollout"]["state"] == "RolledBack"
    })
    .await
    .unwrap();
    delete_all(&lab).await;
}

#[tokio::test]
async fn breaks_both_operators_while_a_group_is_deleted_and_it_goes_when_they_are_back() {
    let lab = Lab::with_kontrol("waits").await.unwrap();
    lab.until_operators().await.unwrap();
    lab.apply(&team("OneForAll", &[])).unwrap();
    lab.until_ready("WidgetGroup", "team").await.unwrap();
    let meanwhile = lab.without_operators(async || {
        lab.kubectl(&["delete", "widgetgroup", "team", "--wait=false"])?;
        let group = lab.get("WidgetGroup", "team").await?;
        let pods = lab.api::<Pod>().list(&ListParams::default()).await?.items;
        Ok((group, pods))
    });
    let (group, pods) = meanwhile.await.unwrap();
    assert!(group["metadata"]["deletionTimestamp"].is_string(), "it waits for an operator: {group:#}");
    let stays = |pod: &&Pod| pod.metadata.deletion_timestamp.is_none();
    assert_eq!(pods.iter().filter(stays).count(), 3, "{:?}", pods.iter().map(name_of).collect::<Vec<_>>());
    until_empty(&lab).await;
    lab.wait("the group to be gone", async || {
        let left = lab.get("WidgetGroup", "team").await?;
        Ok(if left.is_null() { Ok(()) } else { Err(left["metadata"].clone()) })
    })
    .await
    .unwrap();
}
