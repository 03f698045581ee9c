//! GPUs and what does instead: alternatives are tried in order where a placement stays unschedulable.

use kontrol_e2e_cluster::lab::{
    Lab,
    kontrol::{name_of, node_of, object, test_widget},
};
use serde_json::{Value, json};

fn wants(resource: &str, alternatives: &Value) -> Value {
    json!({
        "container": test_widget(&[]), "placement": {"unschedulableAfter": "2s"},
        "gpu": {"resource": resource, "count": 1, "alternatives": alternatives},
    })
}

#[tokio::test]
async fn a_gpu_is_counted_and_the_next_widget_takes_its_alternative() {
    let lab = Lab::with_kontrol("gpu").await.unwrap();
    // A resource of this test's own, so that no other test's pods take from it.
    let resource = "kontrol.test/gpu";
    lab.cluster().advertise("node1", resource, 1).await.unwrap();
    let alternatives = json!([{"count": 1, "resource": "kontrol.test/other-gpu"}, {"cpu": "10m"}]);
    lab.apply(&object("Widget", "first", &wants(resource, &alternatives))).unwrap();
    lab.until_ready("Widget", "first").await.unwrap();
    let first = lab.until_pods("first", "first", 1).await.unwrap().remove(0);
    assert_eq!(node_of(&first), "node1");

    lab.apply(&object("Widget", "second", &wants(resource, &alternatives))).unwrap();
    let widget = lab.until_ready("Widget", "second").await.unwrap();
    assert_eq!(widget["status"]["instances"][0]["alternative"], 2, "the first alternative is nowhere either");
    let second = lab.until_pods("second", "second", 1).await.unwrap().remove(0);
    let limits =
        second.spec.unwrap().containers[0].resources.clone().unwrap_or_default().limits.unwrap_or_default();
    assert!(!limits.keys().any(|name| name.starts_with("kontrol.test/")), "{limits:?}");
}

#[tokio::test]
async fn a_gpu_that_no_node_has_is_said_to_be_missing() {
    let lab = Lab::with_kontrol("nogpu").await.unwrap();
    lab.apply(&object("Widget", "hopes", &wants("kontrol.test/no-such", &json!([])))).unwrap();
    let widget = lab
        .until_object("Widget", "hopes", "its status to say what is missing", |widget| {
            widget["status"]["instances"][0]["state"] == "Unschedulable"
                && widget["status"]["instances"][0]["message"].is_string()
        })
        .await
        .unwrap();
    let message = widget["status"]["instances"][0]["message"].as_str().unwrap_or_default();
    assert!(message.contains("kontrol.test/no-such"), "{message}");
    let pods = lab.pods("hopes", "hopes").await.unwrap();
    assert_eq!(pods.len(), 1, "{:?}", pods.iter().map(name_of).collect::<Vec<_>>());
}
