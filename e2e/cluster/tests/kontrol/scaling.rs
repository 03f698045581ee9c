//! How many replicas there are: said by hand, by a horizontal pod autoscaler, and by load.

use std::cell::Cell;

use kontrol_e2e_cluster::lab::{
    Lab,
    kontrol::{name_of, object, test_widget},
};
use serde_json::json;

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
    lab.apply(&object("Widget", "scaled", &json!({"container": test_widget(&[]), "scaling": scaling})))
        .unwrap();
    lab.until_ready("Widget", "scaled").await.unwrap();
    let autoscaler = json!({
        "apiVersion": "autoscaling/v2", "kind": "HorizontalPodAutoscaler", "metadata": {"name": "scaled"},
        "spec": {
            "scaleTargetRef": {"apiVersion": "kontrol.dev/v1alpha1", "kind": "Widget", "name": "scaled"},
            "minReplicas": 2, "maxReplicas": 4,
            "metrics": [{"type": "Resource", "resource": {
                "name": "cpu", "target": {"type": "Utilization", "averageUtilization": 50}}}],
        },
    });
    lab.apply(&autoscaler).unwrap();
    lab.until_pods("scaled", "scaled", 2).await.unwrap();
    // Applying the manifest again takes nothing back: the number belongs to the autoscaler.
    let widget = lab.get("Widget", "scaled").await.unwrap();
    assert_eq!(widget["spec"]["replicas"], 2);
    assert!(widget["status"]["labelSelector"].is_string());
}

#[tokio::test]
async fn load_makes_pods_and_nothing_is_lost_on_the_way_to_zero_and_back() {
    let lab = Lab::with_kontrol("load").await.unwrap();
    lab.apply(&object("Topic", "work", &json!({}))).unwrap();
    let producer = json!({"container": test_widget(&[]), "produces": [{"topic": "work"}]});
    lab.apply(&object("Widget", "producer", &producer)).unwrap();
    let consumer = json!({
        "container": test_widget(&[]), "consumes": [{"topic": "work"}], "shutdown": {"grace": "1s"},
        "scaling": {"min": 0, "max": 3, "target": {"queueDepth": 5}, "downWindow": "1s"},
    });
    lab.apply(&object("Widget", "consumer", &consumer)).unwrap();
    lab.until_ready("Widget", "producer").await.unwrap();
    let producer = lab.until_pods("producer", "producer", 1).await.unwrap().remove(0);
    lab.until_pods("consumer", "consumer", 0).await.unwrap();

    let published = Cell::new(0);
    lab.wait("fifteen messages to be on disk", async || {
        let answer = lab.door(&producer, "POST", "/v1/topics/work/events", "job").await?;
        published.set(published.get() + usize::from(answer.status == 200));
        Ok(if published.get() == 15 { Ok(()) } else { Err(answer) })
    })
    .await
    .unwrap();
    // Five for each of three.
    let pods = lab.until_pods("consumer", "consumer", 3).await.unwrap();
    let got = lab.subscribe(&pods[0], "work", 15).await.unwrap();
    assert_eq!(got.len(), 15, "{:?}", pods.iter().map(name_of).collect::<Vec<_>>());
}
