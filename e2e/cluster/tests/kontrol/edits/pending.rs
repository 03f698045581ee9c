//! A manifest that is changed while a place is looked for, while load is followed, in a pause after too many ends, and while nobody leads.

use std::cell::Cell;

use k8s_openapi::api::core::v1::Pod;
use kontrol_e2e_cluster::lab::{
    Lab,
    kontrol::{name_of, node_of, object, on},
};
use kube::api::ListParams;
use serde_json::{Value, json};

use super::{alone, container, restart_begins, round_of, team, until_round};

/// A widget of this round that wants one of a resource, and what else would do.
fn wants(round: &str, resource: &str, alternatives: &Value) -> Value {
    let mut widget = alone(round, 1);
    widget["spec"]["placement"] = json!({"unschedulableAfter": "2s"});
    widget["spec"]["gpu"] = json!({"resource": resource, "count": 1, "alternatives": alternatives});
    widget
}

/// Waits until the namespace has this many pods, those that go included, and all are of this round.
async fn until_only(lab: &Lab, count: usize, round: &str) {
    lab.wait(&format!("nothing to be there but {count} of round {round}"), async || {
        let pods = lab.api::<Pod>().list(&ListParams::default()).await?.items;
        let seen: Vec<_> = pods.iter().map(|pod| (name_of(pod), round_of(pod))).collect();
        let only = seen.len() == count && seen.iter().all(|(_, of)| of == round);
        Ok(if only { Ok(()) } else { Err(seen) })
    })
    .await
    .unwrap();
}

#[tokio::test]
async fn an_edit_while_an_alternative_is_tried_begins_with_the_placement_that_is_declared_now() {
    let lab = Lab::with_kontrol("places").await.unwrap();
    let resource = "kontrol.test/edited-gpu";
    lab.cluster().advertise("node1", resource, 1).await.unwrap();
    let nowhere = json!([{"count": 1, "resource": "kontrol.test/none-a"}, {"count": 1, "resource": "kontrol.test/none-b"}]);
    lab.apply(&wants("one", "kontrol.test/none", &nowhere)).unwrap();
    lab.until_object("Widget", "edited", "an alternative to be tried", |widget| {
        let replica = &widget["status"]["instances"][0];
        replica["alternative"] != 0 && replica["state"] == "Unschedulable"
    })
    .await
    .unwrap();
    lab.apply(&wants("two", resource, &json!([{"cpu": "10m"}]))).unwrap();
    let most = Cell::new(0);
    until_round(&lab, "edited", &["edited"], (1, "two"), |pods| most.set(most.get().max(pods.len()))).await;
    assert_eq!(most.get(), 1, "one pod at a time");
    until_only(&lab, 1, "two").await;
    let widget = lab.until_ready("Widget", "edited").await.unwrap();
    assert_eq!(widget["status"]["instances"][0]["alternative"], 0, "what was tried before is forgotten");
    let pod = lab.until_pods("edited", "edited", 1).await.unwrap().remove(0);
    assert_eq!(node_of(&pod), "node1");
}

#[tokio::test]
async fn edits_of_the_template_and_of_the_limits_while_load_is_followed_are_both_done() {
    let lab = Lab::with_kontrol("loaded").await.unwrap();
    lab.apply(&object("Topic", "work", &json!({}))).unwrap();
    let producer = json!({"container": container("one"), "produces": [{"topic": "work"}]});
    lab.apply(&object("Widget", "producer", &producer)).unwrap();
    let consumer = |round: &str, (min, max): (usize, usize)| {
        let mut widget = alone(round, 1);
        widget["spec"]["consumes"] = json!([{"topic": "work"}]);
        widget["spec"]["scaling"] =
            json!({"min": min, "max": max, "target": {"queueDepth": 5}, "downWindow": "1s"});
        widget
    };
    lab.apply(&consumer("one", (1, 4))).unwrap();
    lab.until_ready("Widget", "producer").await.unwrap();
    let producer = lab.until_pods("producer", "producer", 1).await.unwrap().remove(0);
    let published = Cell::new(0);
    lab.wait("fifteen messages to be on disk", async || {
        let answer = lab.door(&producer, "POST", "/v1/topics/work/events", "job").await?;
        published.set(published.get() + usize::from(answer.status == 200));
        Ok(if published.get() == 15 { Ok(()) } else { Err(answer) })
    })
    .await
    .unwrap();
    // Five for each of three: the template changes, and the limit, as soon as more of them are on their way.
    lab.wait("more replicas to be there", async || {
        let pods = lab.pods("edited", "edited").await?.len();
        Ok(if pods > 1 { Ok(()) } else { Err(pods) })
    })
    .await
    .unwrap();
    lab.apply(&consumer("two", (1, 2))).unwrap();
    until_round(&lab, "edited", &["edited"], (2, "two"), |_| ()).await;
    let before = lab.until_pods("edited", "edited", 2).await.unwrap();
    // Other limits are no other template.
    lab.apply(&consumer("two", (4, 5))).unwrap();
    until_round(&lab, "edited", &["edited"], (4, "two"), |_| ()).await;
    let after = lab.until_pods("edited", "edited", 4).await.unwrap();
    assert_eq!(
        before.iter().map(name_of).collect::<Vec<_>>(),
        after.iter().take(2).map(name_of).collect::<Vec<_>>()
    );
    lab.until_object("Widget", "edited", "status to say four", |widget| {
        widget["status"]["scaling"]["desiredReplicas"] == 4 && widget["status"]["readyReplicas"] == 4
    })
    .await
    .unwrap();
}

#[tokio::test]
async fn an_edit_in_a_pause_after_too_many_ends_starts_the_new_one_at_once() {
    let lab = Lab::with_kontrol("backoff").await.unwrap();
    let widgets = ["a", "b", "c"];
    let hasty = |round: &str| {
        let mut team = team(round, &widgets);
        team["spec"]["intensity"] = json!({"maxRestarts": 0, "period": "10m"});
        // Longer than anybody waits here.
        team["spec"]["whenExhausted"] = json!({"policy": "Retry", "initial": "1h", "max": "1h"});
        team
    };
    let mut bad = hasty("one");
    bad["spec"]["widgets"][1]["container"]["args"] = json!(["--no-such-option"]);
    lab.apply(&bad).unwrap();
    let stalled = lab.until_condition("WidgetGroup", "team", "Stalled", "True").await.unwrap();
    assert_eq!(stalled.reason, "BackingOff", "{stalled:?}");
    lab.apply(&hasty("two")).unwrap();
    until_round(&lab, "team", &widgets, (1, "two"), |_| ()).await;
    until_only(&lab, widgets.len(), "two").await;
    lab.until_ready("WidgetGroup", "team").await.unwrap();
}

#[tokio::test]
async fn breaks_the_leader_in_the_middle_of_a_restart_while_the_manifest_is_edited_and_the_newest_runs_once()
{
    let lab = Lab::with_kontrol("leaderless").await.unwrap();
    lab.until_operators().await.unwrap();
    let widgets = ["a", "b", "c"];
    let spread = |round: &str| {
        let mut team = team(round, &widgets);
        for (number, widget) in team["spec"]["widgets"].as_array_mut().into_iter().flatten().enumerate() {
            widget["placement"] = on(["node0", "node1"][number % 2]);
        }
        team
    };
    lab.apply(&spread("one")).unwrap();
    lab.until_ready("WidgetGroup", "team").await.unwrap();
    restart_begins(&lab).await;
    let killed = lab.kill_leader().await.unwrap();
    lab.apply(&spread("two")).unwrap();
    until_round(&lab, "team", &widgets, (1, "two"), |_| ()).await;
    until_only(&lab, widgets.len(), "two").await;
    let group = lab.until_ready("WidgetGroup", "team").await.unwrap();
    assert_eq!(group["status"]["epoch"], 1, "the fault counts once, and the edit is none");
    assert_ne!(name_of(&killed), name_of(&lab.leader().await.unwrap()));
    lab.until_operators().await.unwrap();
}
