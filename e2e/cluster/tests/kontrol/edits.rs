//! A manifest that is changed while something else goes on: what is declared last is what there is in the end, once.

mod nodes;
mod pending;

use std::cell::Cell;

use k8s_openapi::api::core::v1::Pod;
use kontrol_e2e_cluster::lab::{
    Lab, is_ready,
    kontrol::{name_of, object, test_widget},
};
use kube::api::ListParams;
use serde_json::{Value, json};

/// A container that says of which round of edits it is.
fn container(round: &str) -> Value {
    let mut container = test_widget(&[]);
    container["env"] = json!([{"name": "ROUND", "value": round}]);
    container
}

fn round_of(pod: &Pod) -> String {
    let containers = pod.spec.iter().flat_map(|spec| &spec.containers);
    let variables = containers.flat_map(|container| container.env.iter().flatten());
    variables.filter(|variable| variable.name == "ROUND").find_map(|v| v.value.clone()).unwrap_or_default()
}

/// A group for one-for-all, of widgets of this round.
fn team(round: &str, widgets: &[&str]) -> Value {
    let widget =
        |name: &&str| json!({"name": name, "container": container(round), "shutdown": {"grace": "1s"}});
    let widgets: Vec<Value> = widgets.iter().map(widget).collect();
    let intensity = json!({"maxRestarts": 10, "period": "10m"});
    object(
        "WidgetGroup",
        "team",
        &json!({"strategy": "OneForAll", "intensity": intensity, "widgets": widgets}),
    )
}

fn alone(round: &str, replicas: usize) -> Value {
    let rollout = json!({"maxUnavailable": 1});
    let spec = json!({"container": container(round), "replicas": replicas, "rollout": rollout, "shutdown": {"grace": "1s"}});
    object("Widget", "edited", &spec)
}

/// Waits until each of these widgets has `count` pods that are ready and of this round, and none besides; `look` sees each state on the way.
async fn until_round(
    lab: &Lab,
    group: &str,
    widgets: &[&str],
    (count, round): (usize, &str),
    look: impl Fn(&[Pod]),
) {
    lab.wait(&format!("{count} of {group}/{widgets:?} to be of round {round}, and ready"), async || {
        let mut seen = Vec::new();
        for widget in widgets {
            let pods = lab.pods(group, widget).await?;
            look(&pods);
            let states = pods.iter().map(|pod| (name_of(pod), is_ready(pod), round_of(pod)));
            seen.push(states.collect::<Vec<_>>());
        }
        let done = |pods: &Vec<(String, bool, String)>| {
            pods.len() == count && pods.iter().all(|(_, ready, of)| *ready && of == round)
        };
        Ok(if seen.iter().all(done) { Ok(()) } else { Err(seen) })
    })
    .await
    .unwrap();
}

/// Ends one of the group's widgets, and waits until the restart of all has begun.
async fn restart_begins(lab: &Lab) {
    let victim = lab.until_pods("team", "b", 1).await.unwrap().remove(0);
    lab.kubectl(&["delete", "pod", &name_of(&victim), "--wait=false"]).unwrap();
    lab.until_object("WidgetGroup", "team", "the restart to begin", |group| group["status"]["epoch"] == 1)
        .await
        .unwrap();
}

#[tokio::test]
async fn an_edit_in_the_middle_of_a_restart_ends_in_one_pod_each_of_the_new_revision() {
    let lab = Lab::with_kontrol("edited").await.unwrap();
    let widgets = ["a", "b", "c"];
    lab.apply(&team("one", &widgets)).unwrap();
    lab.until_ready("WidgetGroup", "team").await.unwrap();
    restart_begins(&lab).await;
    lab.apply(&team("two", &widgets)).unwrap();
    until_round(&lab, "team", &widgets, (1, "two"), |_| ()).await;
    let group = lab.until_ready("WidgetGroup", "team").await.unwrap();
    assert_eq!(group["status"]["epoch"], 1, "the edit is no fault");
}

#[tokio::test]
async fn a_widget_that_comes_and_one_that_goes_in_the_middle_of_a_restart_are_done_right() {
    let lab = Lab::with_kontrol("members").await.unwrap();
    lab.apply(&team("one", &["a", "b", "c"])).unwrap();
    lab.until_ready("WidgetGroup", "team").await.unwrap();
    restart_begins(&lab).await;
    lab.apply(&team("one", &["a", "d", "c"])).unwrap();
    until_round(&lab, "team", &["a", "d", "c"], (1, "one"), |_| ()).await;
    until_round(&lab, "team", &["b"], (0, "one"), |_| ()).await;
    lab.wait("the widget that was taken out to be gone", async || {
        let left = lab.get("Widget", "team-b").await?;
        Ok(if left.is_null() { Ok(()) } else { Err(left["metadata"].clone()) })
    })
    .await
    .unwrap();
    lab.until_ready("WidgetGroup", "team").await.unwrap();
}

#[tokio::test]
async fn an_edit_in_the_middle_of_a_roll_out_leads_to_the_newest_alone() {
    let lab = Lab::with_kontrol("newest").await.unwrap();
    lab.apply(&alone("one", 3)).unwrap();
    until_round(&lab, "edited", &["edited"], (3, "one"), |_| ()).await;
    lab.until_ready("Widget", "edited").await.unwrap();
    lab.apply(&alone("two", 3)).unwrap();
    lab.wait("the roll-out to have come to its first pod", async || {
        let pods = lab.pods("edited", "edited").await?;
        let rounds: Vec<_> = pods.iter().map(round_of).collect();
        Ok(if rounds.iter().any(|round| round == "two") { Ok(()) } else { Err(rounds) })
    })
    .await
    .unwrap();
    lab.apply(&alone("three", 3)).unwrap();
    let fewest = Cell::new(3);
    let look = |pods: &[Pod]| fewest.set(fewest.get().min(pods.iter().filter(|pod| is_ready(pod)).count()));
    until_round(&lab, "edited", &["edited"], (3, "three"), look).await;
    assert!(fewest.get() >= 2, "{} were ready at the worst moment", fewest.get());
    lab.until_ready("Widget", "edited").await.unwrap();
}

#[tokio::test]
async fn an_edit_and_another_number_of_replicas_at_once_are_both_done() {
    let lab = Lab::with_kontrol("number").await.unwrap();
    lab.apply(&alone("one", 1)).unwrap();
    until_round(&lab, "edited", &["edited"], (1, "one"), |_| ()).await;
    // Up while it is edited, then down in the middle of that.
    lab.apply(&alone("two", 4)).unwrap();
    lab.wait("more pods to be there", async || {
        let pods = lab.pods("edited", "edited").await?.len();
        Ok(if pods > 1 { Ok(()) } else { Err(pods) })
    })
    .await
    .unwrap();
    lab.apply(&alone("three", 2)).unwrap();
    until_round(&lab, "edited", &["edited"], (2, "three"), |_| ()).await;
    lab.until_object("Widget", "edited", "status to say two", |widget| {
        widget["status"]["readyReplicas"] == 2 && widget["status"]["replicas"] == 2
    })
    .await
    .unwrap();
}

#[tokio::test]
async fn breaks_both_operators_while_manifests_change_and_all_is_done_when_they_are_back() {
    let lab = Lab::with_kontrol("meantime").await.unwrap();
    lab.until_operators().await.unwrap();
    lab.apply(&alone("one", 2)).unwrap();
    lab.apply(&object("Widget", "goes", &json!({"container": test_widget(&[])}))).unwrap();
    until_round(&lab, "edited", &["edited"], (2, "one"), |_| ()).await;
    lab.until_pods("goes", "goes", 1).await.unwrap();
    let changed = lab.without_operators(async || {
        lab.apply(&alone("two", 3))?;
        lab.apply(&team("one", &["a", "b"]))?;
        lab.kubectl(&["delete", "widget", "goes", "--wait=false"])
    });
    changed.await.unwrap();
    until_round(&lab, "edited", &["edited"], (3, "two"), |_| ()).await;
    until_round(&lab, "team", &["a", "b"], (1, "one"), |_| ()).await;
    lab.wait("what was deleted to be gone", async || {
        let pods = lab.api::<Pod>().list(&ListParams::default().labels("kontrol.dev/widget=goes")).await?;
        let left: Vec<_> = pods.iter().map(name_of).collect();
        Ok(if left.is_empty() { Ok(()) } else { Err(left) })
    })
    .await
    .unwrap();
}
