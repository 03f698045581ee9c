//! The API server away for a minute: silence is never absence.

use std::time::Duration;

use kontrol_e2e_cluster::lab::{
    Lab,
    kontrol::{name_of, object, on, test_widget, wrapped_widget},
};
use serde_json::json;

#[tokio::test]
async fn breaks_the_api_server_for_a_minute_while_widgets_end_and_all_is_put_right() {
    let lab = Lab::with_kontrol("silence").await.unwrap();
    lab.until_operators().await.unwrap();
    let group = json!({
        "strategy": "OneForAll", "intensity": {"maxRestarts": 10, "period": "10m"},
        "widgets": [
            {"name": "a", "container": test_widget(&[]), "placement": on("node0")},
            {"name": "b", "container": test_widget(&[]), "placement": on("node1")},
        ],
    });
    lab.apply(&object("WidgetGroup", "team", &group)).unwrap();
    let wrapped = json!({"container": wrapped_widget(&[])});
    lab.apply(&object("Widget", "inner", &wrapped)).unwrap();
    lab.apply(&object("Widget", "quiet", &wrapped)).unwrap();
    for (kind, name) in [("WidgetGroup", "team"), ("Widget", "inner"), ("Widget", "quiet")] {
        lab.until_ready(kind, name).await.unwrap();
    }
    let [a, b] = [
        lab.until_pods("team", "a", 1).await.unwrap().remove(0),
        lab.until_pods("team", "b", 1).await.unwrap().remove(0),
    ];
    let inner = lab.until_pods("inner", "inner", 1).await.unwrap().remove(0);
    let quiet = lab.until_pods("quiet", "quiet", 1).await.unwrap().remove(0);

    lab.cluster().apiserver_stop().unwrap();
    let ended = lab.signal(&a, "widget", "SIGUSR1");
    let wrapped_ended = lab.signal_child(
        &inner,
        "widget",
        "kontrol-test-widget",
        kontrol_e2e_cluster::lab::kontrol::Signal::KILL,
    );
    // The time that it is away is what this is about.
    tokio::time::sleep(Duration::from_mins(1)).await;
    // Sidecars answer their widgets all the while.
    let door = lab.door(&quiet, "GET", "/v1/state", "").await;
    lab.cluster().apiserver_start().unwrap();
    ended.unwrap();
    wrapped_ended.unwrap();
    assert_eq!(door.unwrap().status, 200);

    for node in ["node0", "node1"] {
        lab.cluster().wait_for_node(node, true, Duration::from_mins(3)).unwrap();
    }
    lab.until_operators().await.unwrap();
    lab.until_object("WidgetGroup", "team", "the end of the meantime to restart both, once", |group| {
        let conditions = group["status"]["conditions"].as_array().cloned().unwrap_or_default();
        let ready = conditions.iter().any(|known| known["type"] == "Ready" && known["status"] == "True");
        ready && group["status"]["epoch"] == 1
    })
    .await
    .unwrap();
    let after = lab.until_pods("team", "b", 1).await.unwrap().remove(0);
    assert_ne!(name_of(&after), name_of(&b));
    // The shim has started it again by itself, and who did nothing was not touched.
    lab.until_object("Widget", "inner", "the restart in place to be counted", |widget| {
        widget["status"]["instances"][0]["restarts"] == 1
    })
    .await
    .unwrap();
    for (name, before) in [("inner", &inner), ("quiet", &quiet)] {
        let after = lab.until_pods(name, name, 1).await.unwrap().remove(0);
        assert_eq!(after.metadata.uid, before.metadata.uid, "{name}");
    }
}
