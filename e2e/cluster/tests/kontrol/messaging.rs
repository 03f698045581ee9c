//! Messages and calls between pods.

use k8s_openapi::api::core::v1::Pod;
use kontrol_e2e_cluster::lab::{
    Lab, is_ready,
    kontrol::{name_of, object, on, test_widget},
    web::{address, get},
};
use kube::api::ListParams;
use serde_json::json;

use crate::tools::kontrol;

pub(crate) async fn hub(lab: &Lab) -> Vec<Pod> {
    let labels = ListParams::default().labels("kontrol.dev/bus=default");
    let mut pods = lab.api::<Pod>().list(&labels).await.unwrap().items;
    pods.retain(|pod| pod.metadata.deletion_timestamp.is_none());
    pods
}

/// The hub's pod that is ready, and is not the one before.
pub(crate) async fn until_hub(lab: &Lab, before: Option<&Pod>) -> Pod {
    lab.wait("a pod of the hub to be ready", async || {
        let pods = hub(lab).await;
        let other = |pod: &&Pod| is_ready(pod) && before.is_none_or(|before| name_of(pod) != name_of(before));
        Ok(pods.iter().find(other).cloned().ok_or_else(|| pods.iter().map(name_of).collect::<Vec<_>>()))
    })
    .await
    .unwrap()
}

/// Publishes a note, under itself as its id, until it has been acknowledged.
pub(crate) async fn publish(lab: &Lab, writer: &Pod, text: &str) {
    let path = format!("/v1/topics/notes/events?id={text}");
    lab.wait(&format!("{text} to be on disk"), async || {
        let answer = lab.door(writer, "POST", &path, text).await?;
        Ok(if answer.status == 200 { Ok(()) } else { Err(answer) })
    })
    .await
    .unwrap();
}

#[tokio::test]
async fn all_that_was_published_is_read_after_the_hubs_pod_was_killed() {
    let lab = Lab::with_kontrol("hub").await.unwrap();
    lab.apply(&object("Topic", "notes", &json!({}))).unwrap();
    let writer =
        json!({"container": test_widget(&[]), "produces": [{"topic": "notes"}], "placement": on("node0")});
    let reader = json!({"container": test_widget(&[]), "consumes": [{"topic": "notes", "maxInFlight": 64}], "placement": on("node1")});
    lab.apply(&object("Widget", "reader", &reader)).unwrap();
    lab.apply(&object("Widget", "writer", &writer)).unwrap();
    lab.until_ready("Widget", "reader").await.unwrap();
    lab.until_ready("Widget", "writer").await.unwrap();
    let writer = lab.until_pods("writer", "writer", 1).await.unwrap().remove(0);
    let reader = lab.until_pods("reader", "reader", 1).await.unwrap().remove(0);

    let mut kept = Vec::new();
    for number in 0..20 {
        let text = format!("note-{number}");
        if number == 10 {
            let before = hub(&lab).await.remove(0);
            lab.kubectl(&["delete", "pod", &name_of(&before), "--grace-period=0", "--force", "--wait=false"])
                .unwrap();
            until_hub(&lab, Some(&before)).await;
        }
        publish(&lab, &writer, &text).await;
        kept.push(text);
    }
    let got = lab.subscribe(&reader, "notes", kept.len()).await.unwrap();
    let mut read: Vec<_> =
        got.iter().map(|event| event["data"].as_str().unwrap_or_default().to_owned()).collect();
    read.sort_by_key(|text| kept.iter().position(|known| known == text));
    assert_eq!(read, kept);
}

#[tokio::test]
async fn a_widget_calls_another_one_on_the_other_node() {
    let lab = Lab::with_kontrol("calls").await.unwrap();
    let widgets = json!([
        {"name": "callee", "container": test_widget(&["--serve"]), "serves": [{"method": "echo"}], "placement": on("node1")},
        {"name": "caller", "container": test_widget(&[]), "calls": [{"target": "callee"}], "placement": on("node0")},
    ]);
    lab.apply(&object("WidgetGroup", "team", &json!({"widgets": widgets}))).unwrap();
    lab.until_ready("WidgetGroup", "team").await.unwrap();
    let caller = lab.until_pods("team", "caller", 1).await.unwrap().remove(0);
    let answer = lab
        .wait("the call to be answered", async || {
            let answer = lab.door(&caller, "POST", "/v1/call/callee/echo", "hello there").await?;
            Ok(if answer.status == 200 { Ok(answer) } else { Err(answer) })
        })
        .await
        .unwrap();
    assert!(answer.body.contains("hello there"), "{answer:?}");
    let refused = lab.door(&caller, "POST", "/v1/call/stranger/echo", "hello").await.unwrap();
    assert!((400..500).contains(&refused.status), "what is not declared is refused: {refused:?}");
}

#[tokio::test]
async fn a_target_that_does_not_answer_opens_its_callers_breaker_and_closes_it_when_it_does() {
    let lab = Lab::with_kontrol("breaker").await.unwrap();
    let resilience = json!({
        "timeout": "200ms", "maxRetries": 0, "breaker": {"failures": 3, "openFor": "1s"},
    });
    let widgets = json!([
        {"name": "callee", "container": test_widget(&["--serve"]), "serves": [{"method": "echo"}]},
        {"name": "caller", "container": test_widget(&[]), "calls": [{"target": "callee"}], "resilience": resilience},
    ]);
    lab.apply(&object("WidgetGroup", "team", &json!({"widgets": widgets}))).unwrap();
    lab.until_ready("WidgetGroup", "team").await.unwrap();
    let serving = lab.until_pods("team", "callee", 1).await.unwrap().remove(0);
    let caller = lab.until_pods("team", "caller", 1).await.unwrap().remove(0);
    let call = async || lab.door(&caller, "POST", "/v1/call/callee/echo", "hello").await;
    let breaker = async |state: &str| {
        let target = format!("{}/team/callee", lab.namespace());
        let line = format!("kontrol_breaker_replicas{{target=\"{target}\",state=\"{state}\"}} 1");
        let text = get(&address(&caller, 7413), "/metrics").await.unwrap_or_default();
        if text.contains(&line) { Ok(()) } else { Err(text) }
    };
    lab.wait("a call to be answered", async || {
        let answer = call().await?;
        Ok(if answer.status == 200 { Ok(()) } else { Err(answer) })
    })
    .await
    .unwrap();
    assert_eq!(breaker("closed").await, Ok(()));

    lab.signal(&serving, "widget", "SIGSTOP").unwrap();
    lab.wait("the breaker to be open", async || {
        let answer = call().await?;
        assert_ne!(answer.status, 200, "nobody is there to answer: {answer:?}");
        Ok(breaker("open").await)
    })
    .await
    .unwrap();
    let why = async |held: bool| {
        let (code, text) = kontrol(&lab, &["why", "team/caller"]);
        let said =
            text.contains("its calls to team/callee/0 are held back, since its circuit breaker is open");
        if code == 0 && said == held { Ok(()) } else { Err(text) }
    };
    lab.wait("why to say it too", async || Ok(why(true).await)).await.unwrap();
    lab.signal(&serving, "widget", "SIGCONT").unwrap();
    lab.wait("a call to be answered again, and the breaker to be closed", async || {
        let answer = call().await?;
        Ok(if answer.status == 200 { breaker("closed").await } else { Err(answer.body) })
    })
    .await
    .unwrap();
    lab.wait("why to say it no more", async || Ok(why(false).await)).await.unwrap();
}
