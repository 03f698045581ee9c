//! Supervisors that name each other: what runs goes on, it is said, and all of it can be deleted.

use std::time::Duration;

use kontrol_e2e_apiserver::Ended;
use serde_json::{Value, json};

use crate::{
    cluster::{Cluster, Trouble},
    scenarios::{GROUPS, SUPERVISORS, group, supervisor},
    shape::{Shape, conditions},
};

fn says(cluster: &Cluster, name: &str, wanted: &str) {
    let said = conditions(&cluster.server.get(SUPERVISORS, "default", name).unwrap());
    assert!(said.iter().any(|one| one == wanted), "{name} {wanted}: {said:?}\n{}", cluster.history());
}

/// The children of the lower one, which names the upper one too.
fn round() -> Value {
    json!([{"group": "h"}, {"supervisor": "z"}])
}

/// A tree that runs: `z` above the group `g` and the supervisor `b`, and that above the group `h`.
fn tree(cluster: &mut Cluster) {
    cluster.put(&supervisor("z", &json!([{"group": "g"}, {"supervisor": "b"}])));
    cluster.put(&supervisor("b", &json!([{"group": "h"}])));
    cluster.put(&group("g", "OneForOne"));
    cluster.put(&group("h", "OneForOne"));
    cluster.settle();
}

/// The same whose lower supervisor then names the upper one.
fn circle(cluster: &mut Cluster) {
    tree(cluster);
    cluster.edit(SUPERVISORS, "b", |supervisor| supervisor["spec"]["children"] = round());
    cluster.settle();
}

/// Groups that run by themselves, and then come under supervisors that name each other.
fn circle_from_the_beginning(cluster: &mut Cluster) {
    cluster.put(&group("g", "OneForOne"));
    cluster.put(&group("h", "OneForOne"));
    cluster.settle();
    cluster.put(&supervisor("z", &json!([{"group": "g"}, {"supervisor": "b"}])));
    cluster.put(&supervisor("b", &round()));
    cluster.settle();
}

/// Somebody removes the pod of a widget, which only an operator answers.
fn remove_pod(cluster: &mut Cluster, object: &str) {
    let pod = cluster.pod(object, 0).unwrap();
    cluster.server.delete("pods", "default", pod["metadata"]["name"].as_str().unwrap()).unwrap();
    cluster.settle();
}

#[test]
fn a_tree_that_a_reference_makes_a_circle_goes_on_and_says_so_until_it_is_none() {
    let mut cluster = Cluster::new(Trouble::Nothing);
    tree(&mut cluster);
    let before = Shape::of(&cluster);
    cluster.edit(SUPERVISORS, "b", |supervisor| supervisor["spec"]["children"] = round());
    cluster.settle();
    says(&cluster, "b", "Accepted=False:SupervisorCycle");
    assert_eq!(Shape::of(&cluster).pods, before.pods, "{}", cluster.history());
    cluster.end("h-b", &Ended::code(1));
    cluster.settle();
    assert!(cluster.pod("h-b", 0).is_some(), "{}", cluster.history());
    let writes = cluster.writes();
    cluster.pass(Duration::from_mins(5));
    assert_eq!(cluster.writes(), writes, "{}", cluster.history());
    cluster.edit(SUPERVISORS, "b", |supervisor| supervisor["spec"]["children"] = json!([{"group": "h"}]));
    cluster.settle();
    for name in ["z", "b"] {
        says(&cluster, name, "Accepted=True:Valid");
        says(&cluster, name, "Ready=True:AllReady");
    }
}

#[test]
fn what_runs_below_a_circle_is_supervised_however_it_came_there_and_however_it_is_mended() {
    type Way = fn(&mut Cluster);
    let mended: Way = |cluster| {
        circle(cluster);
        cluster.server.delete(SUPERVISORS, "default", "z").unwrap();
        cluster.settle();
    };
    for (way, reach) in [("from the beginning", circle_from_the_beginning as Way), ("mended", mended)] {
        let mut cluster = Cluster::new(Trouble::Nothing);
        reach(&mut cluster);
        remove_pod(&mut cluster, "h-b");
        let pod = cluster.pod("h-b", 0).unwrap_or_else(|| panic!("{way}: {}", cluster.history()));
        assert_eq!(pod["metadata"]["name"], "h-b-0-2", "{way}: {}", cluster.history());
    }
}

#[test]
fn an_invalid_supervisor_in_a_circle_goes_on_with_what_it_was_before() {
    let mut cluster = Cluster::new(Trouble::Nothing);
    circle(&mut cluster);
    let before = Shape::of(&cluster);
    cluster.edit(SUPERVISORS, "b", |supervisor| supervisor["spec"]["intensity"] = json!({"period": "0s"}));
    cluster.settle();
    says(&cluster, "b", "Accepted=False:Invalid");
    cluster.pass(Duration::from_mins(2));
    assert_eq!(Shape::of(&cluster).pods, before.pods, "{}", cluster.history());
    remove_pod(&mut cluster, "h-b");
    assert!(cluster.pod("h-b", 0).is_some(), "{}", cluster.history());
}

#[test]
fn supervisors_that_name_each_other_and_their_groups_can_be_deleted_in_every_order() {
    let objects = [(GROUPS, "g"), (GROUPS, "h"), (SUPERVISORS, "z"), (SUPERVISORS, "b")];
    for (begin, reach) in [("a tree", circle as fn(&mut Cluster)), ("groups", circle_from_the_beginning)] {
        for from in 0..objects.len() {
            for pause in [Duration::ZERO, Duration::from_secs(90)] {
                let mut cluster = Cluster::new(Trouble::Nothing);
                reach(&mut cluster);
                for at in 0..objects.len() {
                    let (kind, name) = objects[(from + at) % objects.len()];
                    cluster.server.delete(kind, "default", name).unwrap();
                    cluster.pass(pause);
                }
                cluster.settle();
                cluster.settle();
                let shape = Shape::of(&cluster);
                let left: Vec<&String> = shape.objects.keys().chain(shape.pods.keys()).collect();
                assert!(left.is_empty(), "{begin}, from {from}, {pause:?}: {left:?}\n{}", cluster.history());
            }
        }
    }
}
