//! Definitions that are older than the operator.

use kontrol_e2e_cluster::lab::{
    Lab,
    kontrol::{SYSTEM, name_of, object, test_widget},
    operator::operators,
    web::{address, get},
};
use serde_json::{Value, json};

use crate::changed::Changed;

/// Starts both operators anew, one after the other, and waits until they stand.
async fn start_again(lab: &Lab) {
    let kubectl = |arguments: &[&str]| lab.cluster().kubectl(&[&["-n", SYSTEM], arguments].concat());
    kubectl(&["rollout", "restart", "deployment", "kontrol-operator"]).unwrap();
    kubectl(&["rollout", "status", "deployment", "kontrol-operator", "--timeout=120s"]).unwrap();
    lab.until_operators().await.unwrap();
}

/// Waits until both operators say whether the definitions lack anything.
async fn until_outdated(lab: &Lab, outdated: bool) {
    let sample = format!("kontrol_operator_schema_outdated {}\n", u8::from(outdated));
    lab.wait(&format!("both operators to say {sample}"), async || {
        let mut said = Vec::new();
        for pod in operators(lab.client()).await? {
            said.push(get(&address(&pod, 7401), "/metrics").await.unwrap_or_default().contains(&sample));
        }
        Ok(if said == [true, true] { Ok(()) } else { Err(said) })
    })
    .await
    .unwrap();
}

fn widget(name: &str) -> Value {
    object("Widget", name, &json!({"container": test_widget(&[])}))
}

#[tokio::test]
async fn breaks_a_field_out_of_a_definition_which_is_said_and_not_written_until_it_is_back() {
    let lab = Lab::with_kontrol("olddefs").await.unwrap();
    lab.until_operators().await.unwrap();
    let old = Changed::new(lab.cluster(), &["crd", "widgets.kontrol.dev"], |definition| {
        for version in definition["spec"]["versions"].as_array_mut().unwrap() {
            let status = &mut version["schema"]["openAPIV3Schema"]["properties"]["status"];
            status["properties"].as_object_mut().unwrap().remove("instances");
        }
    })
    .unwrap();
    start_again(&lab).await;
    until_outdated(&lab, true).await;
    for pod in operators(lab.client()).await.unwrap() {
        let log = lab.cluster().kubectl(&["-n", SYSTEM, "logs", &name_of(&pod)]).unwrap();
        assert!(log.contains("Widget.status.instances"), "{log}");
    }
    lab.apply(&widget("first")).unwrap();
    let first = lab.until_ready("Widget", "first").await.unwrap();
    assert_eq!(first["status"]["readyReplicas"], 1);
    assert!(first["status"]["instances"].is_null());
    // What the definition lacks is not tried again and again.
    lab.apply(&widget("second")).unwrap();
    lab.until_ready("Widget", "second").await.unwrap();
    let later = lab.get("Widget", "first").await.unwrap();
    assert_eq!(later["metadata"]["resourceVersion"], first["metadata"]["resourceVersion"]);

    old.put_back().unwrap();
    start_again(&lab).await;
    until_outdated(&lab, false).await;
    lab.until_object("Widget", "first", "its instances to be shown", |widget| {
        widget["status"]["instances"][0]["name"] == "first-0-1"
    })
    .await
    .unwrap();
}
