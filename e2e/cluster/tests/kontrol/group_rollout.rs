//! A group's new revision: its widgets follow one another, and one that is bad goes back alone.

use std::{
    collections::{BTreeMap, BTreeSet},
    pin::Pin,
};

use futures::{Stream, StreamExt as _};
use k8s_openapi::api::core::v1::{ContainerState, Pod};
use kontrol_e2e_cluster::lab::{
    Lab, PATIENCE, is_ready,
    kontrol::{label, name_of, object, test_widget},
};
use kube::runtime::watcher::{self, Event, watcher};
use serde_json::{Value, json};
use tokio::time::timeout;

/// The widgets of a group, in its order.
const TEAM: [&str; 3] = ["a", "b", "c"];

/// A group of one replica each, of which that of `b` has its successor beside it before it goes.
fn team(round: &str, arguments_of_b: &[&str]) -> Value {
    let widget = |name: &&str| {
        let (arguments, rollout) = match *name {
            "b" => (arguments_of_b, json!({"maxSurge": 1, "maxUnavailable": 0})),
            _ => (&[][..], json!({})),
        };
        let mut container = test_widget(arguments);
        container["env"] = json!([{"name": "ROUND", "value": round}]);
        // Ready by its own word: one that ends at once never is, though it runs for a moment.
        json!({"name": name, "container": container, "health": {"report": {}}, "rollout": rollout, "shutdown": {"grace": "1s"}})
    };
    let widgets: Vec<Value> = TEAM.iter().map(widget).collect();
    let spec = json!({
        "widgets": widgets, "rollout": {"progressDeadline": "40s"}, "intensity": {"maxRestarts": 1, "period": "5s"},
    });
    object("WidgetGroup", "team", &spec)
}

/// A group whose first revision is a good one.
async fn good_team(name: &str) -> Lab {
    let lab = Lab::with_kontrol(name).await.unwrap();
    lab.apply(&team("one", &[])).unwrap();
    lab.until_ready("WidgetGroup", "team").await.unwrap();
    for widget in TEAM {
        lab.until_pods("team", widget, 1).await.unwrap();
        lab.until_object("Widget", &format!("team-{widget}"), "its revision to be good", |widget| {
            widget["status"]["rollout"]["lastGoodRevision"].is_string()
        })
        .await
        .unwrap();
    }
    lab
}

/// The pods of the group as a watch tells of them, one change after the other: it misses nothing in between.
struct Watched {
    events: Pin<Box<dyn Stream<Item = watcher::Result<Event<Pod>>>>>,
    pods: BTreeMap<String, Pod>,
    old: BTreeSet<String>,
    /// The widgets of the new pods, as they came.
    came: Vec<String>,
}

impl Watched {
    /// All that is there is old.
    async fn begin(lab: &Lab) -> Self {
        let config = watcher::Config::default().labels("kontrol.dev/group=team");
        let events = Box::pin(watcher(lab.api::<Pod>(), config));
        let mut watched = Self { events, pods: BTreeMap::new(), old: BTreeSet::new(), came: Vec::new() };
        watched.next().await;
        watched.old = watched.pods.values().map(|pod| label(pod, "revision")).collect();
        watched.came.clear();
        watched
    }

    /// Takes note of the next change.
    async fn next(&mut self) {
        loop {
            let event = timeout(PATIENCE, self.events.next()).await;
            match event.expect("more to happen in time").unwrap().unwrap() {
                Event::Init => self.pods.clear(),
                Event::InitApply(pod) => drop(self.pods.insert(name_of(&pod), pod)),
                Event::InitDone => return,
                Event::Delete(pod) => {
                    self.pods.remove(&name_of(&pod));
                    return;
                }
                Event::Apply(pod) => {
                    let name = name_of(&pod);
                    if !self.pods.contains_key(&name) {
                        self.came.push(label(&pod, "widget"));
                    }
                    self.pods.insert(name, pod);
                    return;
                }
            }
        }
    }

    /// The pods of a widget that are not going.
    fn of(&self, widget: &str) -> Vec<&Pod> {
        let stays = |pod: &&Pod| label(pod, "widget") == widget && pod.metadata.deletion_timestamp.is_none();
        self.pods.values().filter(stays).collect()
    }

    fn ready(&self, widget: &str) -> usize {
        self.of(widget).into_iter().filter(|pod| is_ready(pod)).count()
    }

    fn is_new(&self, pod: &Pod) -> bool {
        !self.old.contains(&label(pod, "revision"))
    }

    fn is_all_new(&self, widget: &str) -> bool {
        self.of(widget).into_iter().all(|pod| self.is_new(pod))
    }

    /// Whether all that a widget has is new, and some of it runs: the next one need not wait until the kubelet says that it is ready.
    fn has_followed(&self, widget: &str) -> bool {
        self.is_all_new(widget) && self.of(widget).into_iter().any(runs)
    }

    /// Whether all that a widget has is new, and some of it is ready.
    fn is_done(&self, widget: &str) -> bool {
        self.is_all_new(widget) && self.ready(widget) > 0
    }
}

fn runs(pod: &Pod) -> bool {
    let statuses = pod.status.as_ref().and_then(|status| status.container_statuses.as_ref());
    let runs = |state: &ContainerState| state.running.is_some();
    statuses
        .into_iter()
        .flatten()
        .any(|status| status.name == "widget" && status.state.as_ref().is_some_and(runs))
}

#[tokio::test]
async fn a_group_is_rolled_out_in_its_order_and_a_surge_leaves_no_gap() {
    let lab = good_team("order").await;
    let mut watched = Watched::begin(&lab).await;
    lab.apply(&team("two", &[])).unwrap();
    while !TEAM.iter().all(|widget| watched.is_done(widget) && watched.of(widget).len() == 1) {
        watched.next().await;
        assert!(watched.ready("b") > 0, "none of b was ready: {:?}", watched.came);
        let at =
            TEAM.iter().rposition(|widget| watched.of(widget).into_iter().any(|pod| watched.is_new(pod)));
        for before in &TEAM[..at.unwrap_or(0)] {
            assert!(watched.has_followed(before), "{before} had not followed: {:?}", watched.came);
        }
    }
    assert_eq!(watched.came, ["a", "b", "b", "c"], "the one beside b, and its own next one");
    let group = lab
        .until_object("WidgetGroup", "team", "all widgets to be of the new revision", |group| {
            let widgets = group["status"]["widgets"].as_array().cloned().unwrap_or_default();
            let done = |widget: &Value| widget["updatedReplicas"] == 1 && widget["readyReplicas"] == 1;
            widgets.len() == 3 && widgets.iter().all(done)
        })
        .await
        .unwrap();
    assert_eq!(group["status"]["restarts"], 0, "a roll-out is no restart");
}

#[tokio::test]
async fn a_bad_revision_in_a_group_goes_back_by_itself_and_the_others_go_on() {
    let lab = good_team("goesback").await;
    let mut watched = Watched::begin(&lab).await;
    let good = watched.of("b")[0].clone();
    lab.apply(&team("two", &["--no-such-option"])).unwrap();
    while !watched.is_done("c") {
        watched.next().await;
        let stays = |pod: &Pod| pod.metadata.uid == good.metadata.uid && is_ready(pod);
        assert!(watched.of("b").into_iter().any(stays), "what is good was touched: {:?}", watched.came);
    }
    assert!(watched.is_done("a") && watched.came.iter().any(|widget| widget == "b"), "{:?}", watched.came);
    for (widget, state) in [("a", "Complete"), ("b", "RolledBack"), ("c", "Complete")] {
        let what = format!("{widget} to be {state}");
        lab.until_object("Widget", &format!("team-{widget}"), &what, |widget| {
            widget["status"]["rollout"]["state"] == state && widget["status"]["readyReplicas"] == 1
        })
        .await
        .unwrap();
    }
    let stalled = lab.until_condition("Widget", "team-b", "Stalled", "True").await.unwrap();
    assert_eq!(stalled.reason, "Returned");
    let group = lab.until_ready("WidgetGroup", "team").await.unwrap();
    assert_eq!(group["status"]["restarts"], 0, "the group does not give up for it");
}
