//! How many replicas there are: said by hand, by a horizontal pod autoscaler, and by load.

use std::ops::Range;

use k8s_openapi::api::core::v1::Pod;
use kontrol_e2e_cluster::lab::{
    Lab,
    kontrol::{object, test_widget},
};
use serde_json::{Value, json};

use crate::messaging::publish;

#[tokio::test]
async fn kubectl_scales_up_and_down_and_to_zero_and_back() {
    let lab = Lab::with_kontrol("byhand").await.unwrap();
    let spec = json!({"container": test_widget(&[]), "shutdown": {"grace": "1s"}});
    lab.apply(&object("Widget", "scaled", &spec)).unwrap();
    lab.until_ready("Widget", "scaled").await.unwrap();
    for count in [3_usize, 0, 1] {
        lab.kubectl(&["scale", "widget/scaled", &format!("--replicas={count}")]).unwrap();
        lab.until_pods("scaled", "scaled", count).await.unwrap();
        lab.until_object("Widget", "scaled", &format!("status to say {count}"), |widget| {
            widget["status"]["readyReplicas"].as_u64() == u64::try_from(count).ok()
        })
        .await
        .unwrap();
    }
}

#[tokio::test]
async fn a_horizontal_pod_autoscaler_scales_a_widget_of_class_external() {
    let lab = Lab::with_kontrol("hpa").await.unwrap();
    let scaling = json!({"class": "External"});
    let widget = object("Widget", "scaled", &json!({"container": test_widget(&[]), "scaling": scaling}));
    lab.apply(&widget).unwrap();
    lab.until_ready("Widget", "scaled").await.unwrap();
    // Nobody measures anything here: its bounds alone tell it to scale, up by the lower one and down by the upper one.
    let autoscaler = |min: u32, max: u32| {
        json!({
            "apiVersion": "autoscaling/v2", "kind": "HorizontalPodAutoscaler", "metadata": {"name": "scaled"},
            "spec": {
                "scaleTargetRef": {"apiVersion": "kontrol.dev/v1alpha1", "kind": "Widget", "name": "scaled"},
                "minReplicas": min, "maxReplicas": max,
                "metrics": [{"type": "Resource", "resource": {
                    "name": "cpu", "target": {"type": "Utilization", "averageUtilization": 50}}}],
            },
        })
    };
    lab.apply(&autoscaler(3, 4)).unwrap();
    lab.until_pods("scaled", "scaled", 3).await.unwrap();
    // Applying the manifest again takes nothing back: the number belongs to the autoscaler.
    lab.apply(&widget).unwrap();
    let seen = lab.until_ready("Widget", "scaled").await.unwrap();
    assert_eq!(seen["spec"]["replicas"], 3);
    assert!(seen["status"]["labelSelector"].is_string());

    lab.apply(&autoscaler(1, 2)).unwrap();
    lab.until_pods("scaled", "scaled", 2).await.unwrap();
    assert_eq!(lab.get("Widget", "scaled").await.unwrap()["spec"]["replicas"], 2);
}

/// Waits until load has decided that no consumer is needed, and none is there.
async fn until_zero(lab: &Lab) {
    lab.until_object("Widget", "consumer", "zero consumers to be decided on", |widget| {
        widget["status"]["scaling"]["desiredReplicas"] == 0 && widget["status"]["replicas"] == 0
    })
    .await
    .unwrap();
    lab.until_pods("consumer", "consumer", 0).await.unwrap();
}

async fn publish_all(lab: &Lab, producer: &Pod, notes: Range<usize>) -> Vec<String> {
    let notes: Vec<String> = notes.map(|number| format!("note-{number:02}")).collect();
    for note in &notes {
        publish(lab, producer, note).await;
    }
    notes
}

/// The notes of messages, in order.
fn notes(messages: &[Value]) -> Vec<String> {
    let mut notes: Vec<_> =
        messages.iter().map(|message| message["data"].as_str().unwrap_or_default().to_owned()).collect();
    notes.sort();
    notes
}

#[tokio::test]
async fn load_makes_pods_and_nothing_is_lost_on_the_way_to_zero_and_back() {
    let lab = Lab::with_kontrol("load").await.unwrap();
    lab.apply(&object("Topic", "notes", &json!({}))).unwrap();
    let producer = json!({"container": test_widget(&[]), "produces": [{"topic": "notes"}]});
    lab.apply(&object("Widget", "producer", &producer)).unwrap();
    let consumer = json!({
        "container": test_widget(&[]), "consumes": [{"topic": "notes"}], "shutdown": {"grace": "1s"},
        "scaling": {"min": 0, "max": 3, "target": {"queueDepth": 5}, "downWindow": "1s"},
    });
    lab.apply(&object("Widget", "consumer", &consumer)).unwrap();
    lab.until_ready("Widget", "producer").await.unwrap();
    let producer = lab.until_pods("producer", "producer", 1).await.unwrap().remove(0);
    until_zero(&lab).await;

    // Five for each of three.
    let published = publish_all(&lab, &producer, 0..15).await;
    let pods = lab.until_pods("consumer", "consumer", 3).await.unwrap();
    // One of them works on five of them, and goes before it is done, since the other ten are.
    let (held, done) = tokio::join!(lab.hold(&pods[2], "notes", 5), async {
        lab.wait("the last consumer to have five messages", async || {
            let state = lab.door(&pods[2], "GET", "/v1/state", "").await?.json();
            let held = state["subscriptions"][0]["inFlight"].clone();
            Ok(if held == 5 { Ok(()) } else { Err(state) })
        })
        .await
        .unwrap();
        let mut done = lab.take(&pods[0], "notes", 10).await.unwrap();
        lab.until_pods("consumer", "consumer", 1).await.unwrap();
        done.extend(lab.take(&pods[0], "notes", 5).await.unwrap());
        done
    });
    assert_eq!(notes(&done), published);
    assert_eq!(notes(&held.unwrap()), notes(&done[10..]), "what was not done comes again");

    // All is done: it comes back with the next message, and gets nothing but what is new.
    until_zero(&lab).await;
    let published = publish_all(&lab, &producer, 15..20).await;
    let pods = lab.until_pods("consumer", "consumer", 1).await.unwrap();
    let done = lab.take(&pods[0], "notes", 5).await.unwrap();
    assert_eq!(notes(&done), published);
    until_zero(&lab).await;
}
