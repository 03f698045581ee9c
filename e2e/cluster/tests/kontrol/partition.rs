//! A node that is cut off while all on it goes on: what it says later is not taken any more.

use std::{cell::Cell, path::Path, time::Duration};

use k8s_openapi::api::core::v1::Pod;
use kontrol_e2e_cluster::{
    Result,
    lab::{
        Lab, is_ready,
        kontrol::{name_of, node_of, number, object, on, process_of, test_widget},
        web::{address, get},
    },
};
use serde_json::{Value, json};

use crate::{
    messaging::hub,
    node::{replacement, until_gone},
};

/// A hub, a reader and a callee on `node0`, and a widget with a replica on each node, which publishes and calls.
async fn world() -> Lab {
    let lab = Lab::with_kontrol("partition").await.unwrap();
    lab.until_operators().await.unwrap();
    let node0 = json!({"kubernetes.io/hostname": "node0"});
    lab.apply(&object("MessageBus", "default", &json!({"embedded": {"nodeSelector": node0}}))).unwrap();
    let retry = json!({"limit": 50, "backoff": {"initial": "10ms", "max": "10ms"}});
    lab.apply(&object("Topic", "notes", &json!({"retry": retry}))).unwrap();
    let spread = json!({"topologySpread": [{
        "maxSkew": 1, "topologyKey": "kubernetes.io/hostname", "whenUnsatisfiable": "ScheduleAnyway",
    }]});
    let widgets = json!([
        {"name": "callee", "container": test_widget(&["--serve"]), "serves": [{"method": "echo"}], "placement": on("node0")},
        {"name": "reader", "container": test_widget(&[]), "placement": on("node0"),
         "consumes": [{"topic": "notes", "maxInFlight": 64}]},
        {"name": "says", "container": test_widget(&[]), "replicas": 2, "placement": spread,
         "produces": [{"topic": "notes"}], "calls": [{"target": "callee"}],
         "resilience": {"timeout": "500ms", "maxRetries": 0}, "shutdown": {"grace": "1s"}},
    ]);
    lab.apply(&object("WidgetGroup", "team", &json!({"widgets": widgets}))).unwrap();
    lab.until_ready("WidgetGroup", "team").await.unwrap();
    lab
}

/// Publishes once; whether it was acknowledged.
async fn publishes(lab: &Lab, pod: &Pod, text: &str) -> Result<bool> {
    let path = format!("/v1/topics/notes/events?id={text}");
    Ok(lab.door(pod, "POST", &path, text).await?.status == 200)
}

/// Calls once; whether it was answered.
async fn calls(lab: &Lab, pod: &Pod) -> Result<bool> {
    Ok(lab.door(pod, "POST", "/v1/call/callee/echo", "hello").await?.status == 200)
}

/// How often `target` has refused an incarnation that is over.
async fn fenced(target: &str) -> u64 {
    let text = get(target, "/metrics").await.unwrap_or_default();
    let begin = "kontrol_link_refusals_total{reason=\"stale_incarnation\"} ";
    text.lines().find_map(|line| line.strip_prefix(begin)).map_or(0, |count| count.parse().unwrap_or(0))
}

/// The instance of an ordinal, as the widget's status shows it.
fn instance(widget: &Value, pod: &Pod) -> Value {
    let all = widget["status"]["instances"].as_array().cloned().unwrap_or_default();
    all.into_iter().find(|known| known["name"] == name_of(pod).as_str()).unwrap_or_default()
}

/// Has the old pod say all that it can until the others have refused it, and sees that nothing comes of it.
async fn says_in_vain(lab: &Lab, old: &Pod, new: &Pod, targets: [&str; 2]) -> Result<()> {
    let attempts = Cell::new(0);
    lab.wait("the hub and the callee to have refused the old incarnation", async || {
        attempts.set(attempts.get() + 1);
        let text = format!("late-{}", attempts.get());
        assert!(!publishes(lab, old, &text).await?, "{text} was acknowledged to the old incarnation");
        assert!(!calls(lab, old).await?, "a call of the old incarnation was answered");
        lab.door(old, "POST", "/v1/report", r#"{"health":"failed","message":"of the old one"}"#).await?;
        let seen = [fenced(targets[0]).await, fenced(targets[1]).await];
        Ok(if seen.iter().all(|count| *count > 0) && attempts.get() >= 5 { Ok(()) } else { Err(seen) })
    })
    .await?;
    let widget = lab.get("Widget", "team-says").await?;
    let shown = instance(&widget, new);
    assert_eq!(shown["state"], "Ready", "what the old one reports of itself is not the new one's: {shown:#}");
    assert!(!widget["status"].to_string().contains("of the old one"), "{:#}", widget["status"]["instances"]);
    assert_eq!(widget["status"]["readyReplicas"], 2);
    Ok(())
}

#[tokio::test]
async fn breaks_a_nodes_cable_and_nothing_of_what_goes_on_behind_it_is_taken_once_its_replacement_is_ready() {
    let lab = world().await;
    let mut pods = lab.until_pods("team", "says", 2).await.unwrap();
    let at = pods.iter().position(|pod| node_of(pod) == "node1").expect("a replica on each node");
    let old = pods.remove(at);
    let reader = lab.until_pods("team", "reader", 1).await.unwrap().remove(0);
    let callee = lab.until_pods("team", "callee", 1).await.unwrap().remove(0);
    let serves = hub(&lab).await.into_iter().find(is_ready).expect("the hub serves");
    let targets = [address(&serves, 7413), address(&callee, 7413)];
    let process = process_of(lab.cluster(), &old, "widget").unwrap();
    let lives = || Path::new(&format!("/proc/{process}")).exists();
    lab.wait("the replica to publish and to call", async || {
        let done = [publishes(&lab, &old, "before").await?, calls(&lab, &old).await?];
        Ok(if done == [true, true] { Ok(()) } else { Err(done) })
    })
    .await
    .unwrap();

    lab.cluster().node_partition("node1").unwrap();
    let attempts = Cell::new(0);
    let replaced = lab
        .wait("the replica to be ready on the other node", async || {
            attempts.set(attempts.get() + 1);
            let text = format!("behind-{}", attempts.get());
            assert!(!publishes(&lab, &old, &text).await?, "{text} was acknowledged behind the partition");
            Ok(replacement(&lab.pods("team", "says").await?, &old))
        })
        .await;
    let there_before = lives();
    // The cable comes back, and nobody on the node hears yet that the pod is to go: it says what it can.
    lab.cluster().kubelet_stop("node1").unwrap();
    lab.cluster().node_heal("node1").unwrap();
    let said = match &replaced {
        Ok(new) => says_in_vain(&lab, &old, new, [&targets[0], &targets[1]]).await,
        Err(_) => Ok(()),
    };
    let there_after = lives();
    lab.cluster().kubelet_start("node1").unwrap();
    lab.cluster().wait_for_node("node1", true, Duration::from_mins(2)).unwrap();
    let new = replaced.unwrap();
    said.unwrap();
    assert!(there_before && there_after, "the old one was there all the time");
    assert_eq!(number(&new, "incarnation"), number(&old, "incarnation") + 1);

    lab.wait("the process of the old incarnation to be gone", async || {
        Ok(if lives() { Err(process) } else { Ok(()) })
    })
    .await
    .unwrap();
    until_gone(&lab, &old).await;
    lab.wait("the new one to publish and to call", async || {
        let done = [publishes(&lab, &new, "after").await?, calls(&lab, &new).await?];
        Ok(if done == [true, true] { Ok(()) } else { Err(done) })
    })
    .await
    .unwrap();
    let got = lab.subscribe(&reader, "notes", 2).await.unwrap();
    let read: Vec<_> = got.iter().map(|event| event["data"].as_str().unwrap_or_default()).collect();
    assert_eq!(read, ["before", "after"], "nothing in between");
    let after = lab.until_pods("team", "says", 2).await.unwrap();
    assert!(after.iter().any(|pod| pod.metadata.uid == new.metadata.uid), "the new one stays");
    lab.until_operators().await.unwrap();
}
