//! A tree that is deleted goes, whatever it was doing, and whatever becomes of the operator meanwhile.

mod lost;

use std::time::Duration;

use kontrol_e2e_apiserver::Ended;
use serde_json::{Value, json};

use crate::{
    cluster::{Cluster, Trouble},
    refusals::says,
    scenarios::{GROUPS, SUPERVISORS, Scenario, WIDGETS, container, group, supervisor},
    shape::{Shape, check_history, conditions},
};

/// Who decides about the group.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Tree {
    /// It does, as the root.
    Alone,
    /// A supervisor, which was there before it.
    Below,
    /// A supervisor that came after it, as a folder by name has it: it was a root for a moment.
    Taken,
}

/// What is deleted.
#[derive(Clone, Copy, Debug, PartialEq)]
enum What {
    All,
    /// The group, and not its supervisor.
    Group,
}

/// What the operator does meanwhile.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Operator {
    Stays,
    /// Another one goes on right after the first round.
    Crashes,
    /// Nobody is there, for half a minute.
    Away,
}

const WAYS: [(Tree, What, Operator); 8] = [
    (Tree::Below, What::All, Operator::Stays),
    (Tree::Below, What::All, Operator::Crashes),
    (Tree::Taken, What::All, Operator::Stays),
    (Tree::Taken, What::Group, Operator::Stays),
    (Tree::Taken, What::Group, Operator::Crashes),
    (Tree::Taken, What::Group, Operator::Away),
    (Tree::Alone, What::All, Operator::Stays),
    (Tree::Alone, What::All, Operator::Away),
];

/// A cluster with a group `g` for one-for-all of `a`, `b` and `c`, of which nothing is done yet.
fn plant(tree: Tree, sidecars: bool) -> Cluster {
    let mut cluster = Cluster::new(Trouble::Nothing);
    if sidecars {
        cluster = cluster.with_sidecars();
    }
    let children = json!([{"group": "g"}]);
    match tree {
        Tree::Alone => cluster.put(&group("g", "OneForAll")),
        Tree::Below => {
            cluster.put(&supervisor("s", &children));
            cluster.put(&group("g", "OneForAll"));
        }
        Tree::Taken => {
            cluster.put(&group("g", "OneForAll"));
            cluster.round();
            cluster.round();
            cluster.put(&supervisor("s", &children));
        }
    }
    cluster
}

fn delete(cluster: &mut Cluster, what: What, operator: Operator) {
    if operator == Operator::Away {
        cluster.leave();
    }
    if what == What::All && cluster.server.get(SUPERVISORS, "default", "s").is_some() {
        cluster.server.delete(SUPERVISORS, "default", "s").unwrap();
    }
    cluster.server.delete(GROUPS, "default", "g").unwrap();
    cluster.round();
    match operator {
        Operator::Stays => {}
        Operator::Crashes => cluster.crash(),
        Operator::Away => {
            cluster.pass(Duration::from_secs(30));
            cluster.crash();
        }
    }
}

/// What is left, but for a supervisor that was not deleted.
fn left(cluster: &Cluster, what: What) -> (Vec<String>, Vec<String>) {
    let shape = Shape::of(cluster);
    let mut objects: Vec<String> = shape.objects.into_keys().collect();
    objects.retain(|name| what == What::All || name != "supervisors.kontrol.dev/s");
    (objects, shape.pods.into_keys().collect())
}

/// Deletes a tree in each way, each time after it was brought where it is to be.
fn goes(reach: Scenario, sidecars: bool) {
    for (tree, what, operator) in WAYS {
        let said = format!("{tree:?}, {what:?}, {operator:?}");
        let mut cluster = plant(tree, sidecars);
        reach(&mut cluster);
        delete(&mut cluster, what, operator);
        cluster.kubelet.set_slow_starts(false);
        cluster.pass(Duration::from_secs(5));
        cluster.kubelet.set_slow_deletes(false);
        cluster.settle();
        cluster.settle();
        let (objects, _) = left(&cluster, what);
        assert!(objects.is_empty(), "{said}: {objects:?}\n{}", cluster.history());
        // Pods stay on a node of which nobody hears, and only there.
        for node in ["node-a", "node-b"] {
            if cluster.kubelet.is_lost(node) {
                cluster.kubelet.find(node);
                cluster.settle();
            }
        }
        let (objects, pods) = left(&cluster, what);
        assert!(objects.is_empty() && pods.is_empty(), "{said}: {objects:?} {pods:?}\n{}", cluster.history());
        check_history(&cluster, &said);
    }
}

fn edit_group(cluster: &mut Cluster, edit: impl FnOnce(&mut Value)) {
    cluster.edit(GROUPS, "g", |group| edit(&mut group["spec"]));
}

/// The first widget of the group gets another template.
fn new_template(cluster: &mut Cluster) {
    edit_group(cluster, |group| group["widgets"][0]["container"] = container("example/widget:2"));
}

/// The group and, where there is one, its supervisor; the root comes last.
fn line(cluster: &Cluster) -> Vec<(&'static str, &'static str)> {
    let mut line = vec![(GROUPS, "g")];
    if cluster.server.get(SUPERVISORS, "default", "s").is_some() {
        line.push((SUPERVISORS, "s"));
    }
    line
}

/// One end is too many for the group and for its supervisor; the root says so.
fn exhaust(cluster: &mut Cluster, when: &Value, wanted: &str) {
    let line = line(cluster);
    for (resource, name) in &line {
        cluster.edit(resource, name, |one| {
            one["spec"]["intensity"] = json!({"maxRestarts": 0, "period": "30s"});
            one["spec"]["whenExhausted"] = when.clone();
        });
    }
    cluster.settle();
    cluster.end("g-b", &Ended::code(1));
    cluster.settle();
    let (resource, name) = line[line.len() - 1];
    says(cluster, resource, name, wanted);
}

#[test]
fn a_tree_of_which_nothing_is_done_yet_goes() {
    goes(|_| {}, false);
}

#[test]
fn a_tree_whose_pods_do_not_start_goes() {
    let waits: Scenario = |cluster| {
        cluster.kubelet.set_slow_starts(true);
        cluster.settle();
    };
    goes(waits, false);
}

#[test]
fn a_tree_that_runs_goes() {
    goes(Cluster::settle, false);
}

#[test]
fn a_tree_that_restarts_goes() {
    let restarts: Scenario = |cluster| {
        cluster.settle();
        cluster.kubelet.set_slow_deletes(true);
        cluster.end("g-b", &Ended::code(1));
        cluster.pass(Duration::from_secs(5));
        says(cluster, GROUPS, "g", "Reconciling=True:Restarting");
    };
    goes(restarts, false);
}

#[test]
fn a_tree_that_rolls_out_goes() {
    let rolls: Scenario = |cluster| {
        cluster.settle();
        cluster.kubelet.set_slow_deletes(true);
        new_template(cluster);
        cluster.pass(Duration::from_secs(5));
        says(cluster, GROUPS, "g", "Reconciling=True:Changing");
    };
    goes(rolls, false);
}

#[test]
fn a_tree_whose_roll_out_is_paused_goes() {
    let paused: Scenario = |cluster| {
        edit_group(cluster, |group| group["rollout"] = json!({"paused": true}));
        cluster.settle();
        new_template(cluster);
        cluster.pass(Duration::from_secs(5));
        says(cluster, WIDGETS, "g-a", "Progressing=True:Paused");
    };
    goes(paused, false);
}

#[test]
fn a_tree_that_is_back_at_its_last_good_revision_goes() {
    let returned: Scenario = |cluster| {
        edit_group(cluster, |group| group["rollout"] = json!({"progressDeadline": "10s"}));
        cluster.settle();
        cluster.kubelet.set_slow_starts(true);
        new_template(cluster);
        cluster.until("its return", |cluster| {
            let widget = cluster.server.get(WIDGETS, "default", "g-a").unwrap_or_default();
            conditions(&widget).contains(&"Progressing=False:Returned".to_owned())
        });
        cluster.kubelet.set_slow_starts(false);
        cluster.settle();
        says(cluster, WIDGETS, "g-a", "Progressing=False:Returned");
        let widget = cluster.server.get(WIDGETS, "default", "g-a").unwrap();
        assert_eq!(widget["status"]["rollout"]["state"], "RolledBack");
    };
    goes(returned, false);
}

#[test]
fn a_tree_that_backs_off_goes() {
    let backs_off: Scenario = |cluster| {
        let when = json!({"policy": "Retry", "initial": "1h", "max": "1h"});
        exhaust(cluster, &when, "Ready=False:BackingOff");
    };
    goes(backs_off, false);
}

#[test]
fn a_tree_that_stays_stopped_after_too_many_ends_goes() {
    goes(|cluster| exhaust(cluster, &json!({"policy": "Stop"}), "Ready=False:Exhausted"), false);
}

#[test]
fn a_tree_of_which_a_child_has_failed_for_good_goes() {
    let failed: Scenario = |cluster| {
        let line = line(cluster);
        if line.len() > 1 {
            cluster.edit(SUPERVISORS, "s", |root| root["spec"]["children"][0]["restart"] = "Never".into());
            edit_group(cluster, |group| group["intensity"]["maxRestarts"] = 0.into());
        } else {
            edit_group(cluster, |group| group["widgets"][1]["restart"] = "Never".into());
        }
        cluster.settle();
        cluster.end("g-b", &Ended::code(1));
        cluster.settle();
        let (resource, name) = line[line.len() - 1];
        says(cluster, resource, name, "Ready=False:Failed");
    };
    goes(failed, false);
}

#[test]
fn a_tree_that_finds_no_place_goes() {
    let unplaced: Scenario = |cluster| {
        edit_group(cluster, |group| group["widgets"][1]["gpu"] = json!({"count": 4}));
        cluster.settle();
        says(cluster, GROUPS, "g", "Ready=False:Unschedulable");
    };
    goes(unplaced, false);
}

#[test]
fn a_tree_that_tries_one_place_after_the_other_goes() {
    let tries: Scenario = |cluster| {
        edit_group(cluster, |group| {
            group["widgets"][1]["gpu"] = json!({"count": 4, "alternatives": [{"count": 3}, {"count": 2}]});
            group["widgets"][1]["placement"] = json!({"unschedulableAfter": "10s"});
        });
        let alternative = |cluster: &Cluster| {
            let widget = cluster.server.get(WIDGETS, "default", "g-b").unwrap_or_default();
            widget["status"]["instances"][0]["alternative"] == 1
        };
        cluster.until("the first alternative", alternative);
        // The next one is due, and its pod does not go.
        cluster.kubelet.set_slow_deletes(true);
        cluster.pass(Duration::from_secs(15));
    };
    goes(tries, false);
}

#[test]
fn a_group_waits_for_an_operator_and_goes_when_one_is_back() {
    let mut cluster = plant(Tree::Alone, false);
    cluster.settle();
    cluster.leave();
    cluster.server.delete(GROUPS, "default", "g").unwrap();
    cluster.settle();
    let group = cluster.server.get(GROUPS, "default", "g").unwrap();
    assert!(group["metadata"]["deletionTimestamp"].is_string());
    assert_eq!(group["metadata"]["finalizers"].as_array().map(Vec::len), Some(1));
    let runs = |name: &&str| cluster.pod(name, 0).is_some_and(|pod| pod["status"]["phase"] == "Running");
    assert_eq!(
        ["g-a", "g-b", "g-c"].iter().filter(|name| runs(name)).count(),
        3,
        "they are stopped in order"
    );
    cluster.crash();
    cluster.settle();
    assert_eq!(left(&cluster, What::All), (Vec::new(), Vec::new()), "{}", cluster.history());
}
