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
