//! A widget whose place a more important pod takes.

use k8s_openapi::api::core::v1::Pod;
use kontrol_e2e_cluster::{
    Cluster,
    lab::{
        Lab,
        kontrol::{SOON, name_of, node_of, object, test_widget},
        probe,
    },
};
use serde_json::{Value, json};

/// A `PriorityClass` of this test's own, gone with it.
struct Important {
    cluster: Cluster,
    name: String,
}

impl Important {
    fn make(lab: &Lab) -> Self {
        let name = format!("important-{}", lab.namespace());
        let class = json!({
            "apiVersion": "scheduling.k8s.io/v1", "kind": "PriorityClass",
            "metadata": {"name": name}, "value": 1000, "preemptionPolicy": "PreemptLowerPriority",
        });
        lab.apply(&class).unwrap();
        Self { cluster: lab.cluster().clone(), name }
    }
}

impl Drop for Important {
    fn drop(&mut self) {
        self.cluster.kubectl(&["delete", "priorityclass", &self.name, "--wait=false"]).ok();
    }
}

/// A pod of that class that takes the one seat.
fn taker(class: &str, resource: &str) -> Value {
    let mut pod = probe("taker", None, &["wait"]);
    pod["spec"]["priorityClassName"] = json!(class);
    pod["spec"]["containers"][0]["resources"] = json!({"limits": {resource: "1"}});
    pod
}

fn seated(resource: &str, alternatives: &Value) -> Value {
    json!({
        "container": test_widget(&[]), "placement": {"unschedulableAfter": "2s"}, "shutdown": {"grace": "1s"},
        "gpu": {"resource": resource, "count": 1, "alternatives": alternatives},
    })
}

/// A lab with a widget in the one seat that there is, and its pod.
async fn seats_one(name: &str, resource: &str, alternatives: &Value) -> (Lab, Pod) {
    let lab = Lab::with_kontrol(name).await.unwrap();
    lab.cluster().advertise("node1", resource, 1).await.unwrap();
    lab.apply(&object("Widget", "seated", &seated(resource, alternatives))).unwrap();
    lab.until_ready("Widget", "seated").await.unwrap();
    let pod = lab.until_pods("seated", "seated", 1).await.unwrap().remove(0);
    assert_eq!(node_of(&pod), "node1");
    (lab, pod)
}

/// Has the seat taken, and waits until status and an event say that this is what ended the widget.
async fn until_preempted(lab: &Lab, class: &str, resource: &str) {
    lab.apply(&taker(class, resource)).unwrap();
    let widget = lab.until_ended("seated").await.unwrap();
    assert_eq!(widget["status"]["lastEnd"]["reason"], "Preempted", "{:#}", widget["status"]["lastEnd"]);
    lab.wait_within("an event to say it too", SOON, async || {
        let events = lab.events().await?;
        let ends: Vec<_> = events.into_iter().filter(|(reason, ..)| reason == "Ended").collect();
        let said = ends.iter().any(|(_, about, note)| {
            about == "Widget/seated" && note.contains("preempted") && note.contains("seated-0")
        });
        Ok(if said { Ok(()) } else { Err(ends) })
    })
    .await
    .unwrap();
}

#[tokio::test]
async fn a_widget_whose_seat_a_more_important_pod_takes_says_so_and_waits_for_it_with_a_reason() {
    let resource = "kontrol.test/seat";
    let (lab, before) = seats_one("preempted", resource, &json!([])).await;
    let class = Important::make(&lab);
    until_preempted(&lab, &class.name, resource).await;
    lab.ready("taker").await.unwrap();
    let waits = lab
        .until_object("Widget", "seated", "its status to say for what it waits", |widget| {
            let conditions = widget["status"]["conditions"].as_array().cloned().unwrap_or_default();
            conditions.iter().any(|known| {
                known["type"] == "Ready" && known["status"] == "False" && known["reason"] == "Unschedulable"
            }) && widget["status"]["instances"][0]["message"].as_str().is_some_and(|m| m.contains(resource))
        })
        .await
        .unwrap();
    assert_eq!(waits["status"]["lastEnd"]["reason"], "Preempted", "waiting is no end");

    // The seat is free again.
    lab.kubectl(&["delete", "pod", "taker", "--grace-period=1"]).unwrap();
    lab.until_ready("Widget", "seated").await.unwrap();
    let after = lab.until_pods("seated", "seated", 1).await.unwrap().remove(0);
    assert_eq!(node_of(&after), "node1");
    assert_ne!(name_of(&after), name_of(&before));
}

#[tokio::test]
async fn a_widget_whose_seat_a_more_important_pod_takes_runs_on_in_its_alternative() {
    let resource = "kontrol.test/chair";
    let (lab, _) = seats_one("alternative", resource, &json!([{"cpu": "10m"}])).await;
    let class = Important::make(&lab);
    until_preempted(&lab, &class.name, resource).await;
    let widget = lab.until_ready("Widget", "seated").await.unwrap();
    assert_eq!(widget["status"]["instances"][0]["alternative"], 1);
    lab.ready("taker").await.unwrap();
}
