//! The API server away for a minute: silence is never absence.

use std::time::Duration;

use k8s_openapi::api::core::v1::Pod;
use kontrol_e2e_cluster::{
    Result,
    lab::{
        Lab,
        kontrol::{SOON, Signal, name_of, object, on, test_widget, wrapped_widget},
        web::{address, get},
    },
};
use serde_json::{Value, json};
use tokio::time::{Instant, sleep_until};

use crate::messaging::until_hub;

/// The program of the wrapped widgets.
const PROGRAM: &str = "kontrol-test-widget";

/// A group on both nodes whose widgets restart together, one whose widgets talk to each other, and two wrapped widgets.
async fn world() -> Lab {
    let lab = Lab::with_kontrol("silence").await.unwrap();
    lab.until_operators().await.unwrap();
    let team = json!({
        "strategy": "OneForAll", "intensity": {"maxRestarts": 10, "period": "10m"},
        "widgets": [
            {"name": "a", "container": test_widget(&[]), "placement": on("node0")},
            {"name": "b", "container": test_widget(&[]), "placement": on("node1")},
        ],
    });
    let talks = json!({"widgets": [
        {"name": "callee", "container": test_widget(&["--serve"]), "serves": [{"method": "echo"}], "placement": on("node1")},
        {"name": "caller", "container": test_widget(&[]), "calls": [{"target": "callee"}],
         "produces": [{"topic": "notes"}], "placement": on("node0")},
        {"name": "reader", "container": test_widget(&[]), "consumes": [{"topic": "notes", "maxInFlight": 64}],
         "placement": on("node1")},
    ]});
    let wrapped = json!({"container": wrapped_widget(&[])});
    let all = [
        ("WidgetGroup", "team", &team),
        ("WidgetGroup", "talks", &talks),
        ("Widget", "inner", &wrapped),
        ("Widget", "quiet", &wrapped),
    ];
    let retry = json!({"limit": 50, "backoff": {"initial": "10ms", "max": "10ms"}});
    lab.apply(&object("Topic", "notes", &json!({"retry": retry}))).unwrap();
    for (kind, name, spec) in all {
        lab.apply(&object(kind, name, spec)).unwrap();
    }
    for (kind, name, _) in all {
        lab.until_ready(kind, name).await.unwrap();
    }
    until_hub(&lab, None).await;
    lab
}

async fn only(lab: &Lab, group: &str, widget: &str) -> Pod {
    lab.until_pods(group, widget, 1).await.unwrap().remove(0)
}

/// Waits until the shim runs another process than `before` and its sidecar says so; nobody else is asked.
async fn until_restarted_in_place(lab: &Lab, pod: &Pod, before: i32) -> Result<()> {
    let page = address(pod, 7413);
    lab.wait_within("the shim to have started it again", SOON, async || {
        let now = lab.child(pod, "widget", PROGRAM);
        let told = get(&page, "/metrics").await.unwrap_or_default();
        let line =
            told.lines().find(|line| line.starts_with("kontrol_widget_restarts_total")).map(str::to_owned);
        let restarted = now.as_ref().is_ok_and(|now| *now != before);
        let counted = line.as_ref().is_some_and(|line| line.ends_with(" 1"));
        Ok(if restarted && counted { Ok(()) } else { Err((now.map_err(|error| error.to_string()), line)) })
    })
    .await
}

/// Waits until a call is answered and the last of these notes is acknowledged and read, by sidecars and the hub alone.
async fn until_they_talk(lab: &Lab, caller: &Pod, reader: &Pod, notes: &[&str]) -> Result<()> {
    let note = notes.last().copied().unwrap_or_default();
    lab.wait_within("a call to be answered", SOON, async || {
        let answer = lab.door(caller, "POST", "/v1/call/callee/echo", note).await?;
        Ok(if answer.status == 200 && answer.body.contains(note) { Ok(()) } else { Err(answer) })
    })
    .await?;
    lab.wait_within("a note to be acknowledged", SOON, async || {
        let answer = lab.door(caller, "POST", &format!("/v1/topics/notes/events?id={note}"), note).await?;
        Ok(if answer.status == 200 { Ok(()) } else { Err(answer) })
    })
    .await?;
    lab.wait_within("the note to be read", SOON, async || {
        // Nothing is settled: those before it come again.
        let got = lab.subscribe(reader, "notes", notes.len()).await?;
        Ok(if got.iter().any(|event| event["data"] == note) { Ok(()) } else { Err(got) })
    })
    .await
}

#[tokio::test]
async fn breaks_the_api_server_for_a_minute_while_widgets_end_and_all_is_put_right() {
    let lab = world().await;
    let (a, b) = (only(&lab, "team", "a").await, only(&lab, "team", "b").await);
    let (inner, quiet) = (only(&lab, "inner", "inner").await, only(&lab, "quiet", "quiet").await);
    let (caller, reader) = (only(&lab, "talks", "caller").await, only(&lab, "talks", "reader").await);
    let child = lab.child(&inner, "widget", PROGRAM).unwrap();

    lab.cluster().apiserver_stop().unwrap();
    let back = Instant::now() + Duration::from_mins(1);
    let ended = lab.signal(&a, "widget", "SIGUSR1");
    let wrapped_ended = lab.signal_child(&inner, "widget", PROGRAM, Signal::KILL);
    let restarted = until_restarted_in_place(&lab, &inner, child).await;
    let at_first = until_they_talk(&lab, &caller, &reader, &["early"]).await;
    // The time that it is away is what this is about.
    sleep_until(back).await;
    // Sidecars answer their widgets all the while.
    let at_last = until_they_talk(&lab, &caller, &reader, &["early", "late"]).await;
    let door = lab.door(&quiet, "GET", "/v1/state", "").await;
    lab.cluster().apiserver_start().unwrap();
    ended.unwrap();
    wrapped_ended.unwrap();
    restarted.unwrap();
    at_first.unwrap();
    at_last.unwrap();
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
    let after = only(&lab, "team", "b").await;
    assert_ne!(name_of(&after), name_of(&b));
    // What the shim did by itself is counted, and who did nothing was not touched.
    let counted = |widget: &Value| widget["status"]["instances"][0]["restarts"] == 1;
    lab.until_object("Widget", "inner", "the restart in place to be counted", counted).await.unwrap();
    for (group, widget, before) in [
        ("inner", "inner", &inner),
        ("quiet", "quiet", &quiet),
        ("talks", "caller", &caller),
        ("talks", "reader", &reader),
    ] {
        let after = only(&lab, group, widget).await;
        assert_eq!(after.metadata.uid, before.metadata.uid, "{group}/{widget}");
    }
}
