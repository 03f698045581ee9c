//! A hub that ends again and again gives back all that it acknowledged.

use k8s_openapi::api::core::v1::Pod;
use kontrol_e2e_cluster::lab::{
    Lab,
    kontrol::{SOON, name_of, object, test_widget},
};
use serde_json::{Value, json};
use tokio::time::Instant;

use crate::messaging::{publish, until_hub};

/// Messages that are published before the first end and after each one.
const ROUND: usize = 10;

/// Publishes until each of the next messages has been acknowledged, and notes them.
async fn publish_round(lab: &Lab, writer: &Pod, kept: &mut Vec<String>) {
    for number in kept.len()..kept.len() + ROUND {
        let text = format!("note-{number:02}");
        publish(lab, writer, &text).await;
        kept.push(text);
    }
}

/// What is read that was never settled, each once and in order.
async fn read(lab: &Lab, reader: &Pod, count: usize) -> Vec<String> {
    lab.wait("all that was acknowledged to be read", async || {
        let got = lab.subscribe(reader, "notes", count).await?;
        let text = |event: &Value| event["data"].as_str().unwrap_or_default().to_owned();
        let mut texts: Vec<String> = got.iter().map(text).collect();
        texts.sort_unstable();
        texts.dedup();
        Ok(if texts.len() == count { Ok(texts) } else { Err(texts) })
    })
    .await
    .unwrap()
}

#[tokio::test]
async fn a_hub_whose_process_is_killed_twice_within_seconds_gives_back_all_that_it_acknowledged() {
    let lab = Lab::with_kontrol("hubkill").await.unwrap();
    lab.apply(&object("MessageBus", "default", &json!({}))).unwrap();
    // Reading takes a turn each time, and nothing is ever settled.
    let retry = json!({"limit": 50, "backoff": {"initial": "10ms", "max": "10ms"}});
    lab.apply(&object("Topic", "notes", &json!({"retry": retry}))).unwrap();
    let container = test_widget(&[]);
    let writer = json!({"container": container, "produces": [{"topic": "notes"}]});
    let reader = json!({"container": container, "consumes": [{"topic": "notes", "maxInFlight": 64}]});
    lab.apply(&object("Widget", "reader", &reader)).unwrap();
    lab.apply(&object("Widget", "writer", &writer)).unwrap();
    lab.until_ready("Widget", "reader").await.unwrap();
    lab.until_ready("Widget", "writer").await.unwrap();
    let writer = lab.until_pods("writer", "writer", 1).await.unwrap().remove(0);
    let reader = lab.until_pods("reader", "reader", 1).await.unwrap().remove(0);

    let mut serves = until_hub(&lab, None).await;
    let mut kept = Vec::new();
    publish_round(&lab, &writer, &mut kept).await;
    assert_eq!(read(&lab, &reader, kept.len()).await, kept);
    for end in 1..=2 {
        lab.signal(&serves, "hub", "SIGKILL").unwrap();
        let killed = Instant::now();
        assert_eq!(read(&lab, &reader, kept.len()).await, kept, "after end {end}");
        publish_round(&lab, &writer, &mut kept).await;
        let away = killed.elapsed();
        // The kubelet alone would wait ten seconds before the second start, twenty before the third, and up to five minutes.
        assert!(away < SOON, "end {end}: served again after {away:?}");
        println!("end {end}: all was read again, and {ROUND} more were published, after {away:?}");
        assert_eq!(
            read(&lab, &reader, kept.len()).await,
            kept,
            "after end {end}, with what was published since"
        );
        serves = until_hub(&lab, Some(&serves)).await;
        let started = serves.status.iter().flat_map(|status| status.container_statuses.iter().flatten());
        let again: Vec<_> = started.map(|status| status.restart_count).collect();
        assert_eq!(again, [0], "each end is answered with a pod, and never with the kubelet's pauses");
        lab.until_object("MessageBus", "default", "the restart to be counted", |bus| {
            bus["status"]["restarts"] == end && bus["status"]["pod"] == name_of(&serves).as_str()
        })
        .await
        .unwrap();
    }
    lab.until_ready("MessageBus", "default").await.unwrap();
}
