//! Each right of the namespaces of widgets, taken away from an operator that runs: it is named, what it is for stands still and says why, and all
//! is as it would have been once the right is back.

use std::{collections::BTreeSet, time::Duration};

use kontrol_operator::kubernetes::rights::{FORGOTTEN, Right};
use serde_json::Value;

use super::{FILES, change_everything, collide, everything, foreign, role, rules, trust};
use crate::{
    cluster::{Cluster, Trouble},
    operator::USER,
    scenarios::widget,
    shape::Shape,
};

/// Tested elsewhere: by [`super::own`], and beside the code that asks.
const ELSEWHERE: [&str; 2] =
    ["customresourcedefinitions.apiextensions.k8s.io", "tokenreviews.authentication.k8s.io"];
/// The claim of the hub of a topic that comes and goes.
const PASSING: &str = "persistentvolumeclaims/kontrol-hub-default";
const CONDITIONED: [&str; 6] = ["supervisors", "widgetgroups", "widgets", "messagebuses", "topics", "routes"];

/// Every right of these roles: verb and resource, as `patch` and `widgets.kontrol.dev/status`.
pub(super) fn each(files: &[usize]) -> BTreeSet<(String, String)> {
    let rights = files.iter().flat_map(|file| {
        let rules = kontrol_e2e_apiserver::Rules::default().with(&role(FILES[*file].0), None);
        rules.each()
    });
    rights
        .map(|(group, resource, verb)| {
            let id = match (group.as_str(), resource.split_once('/')) {
                ("", _) => resource.clone(),
                (group, Some((plural, part))) => format!("{plural}.{group}/{part}"),
                (group, None) => format!("{resource}.{group}"),
            };
            (verb, id)
        })
        .collect()
}

/// Whether a condition of an object of ours said this at any time.
fn was_said(cluster: &Cluster, text: &str) -> bool {
    let changes = cluster.server.changes(0);
    changes.iter().filter_map(|change| change.after.as_ref()).any(|object| says(object, text))
}

fn says(object: &Value, text: &str) -> bool {
    let conditions = object["status"]["conditions"].as_array();
    conditions
        .into_iter()
        .flatten()
        .any(|one| one["message"].as_str().is_some_and(|said| said.contains(text)))
}

/// What the operator lacks now, and what it still says of it.
fn lacks(cluster: &Cluster) -> Vec<String> {
    let kinds = CONDITIONED.iter().map(|kind| format!("{kind}.kontrol.dev"));
    let objects = kinds.flat_map(|kind| cluster.server.list(&kind, ""));
    let complain = objects.filter(|object| says(object, "forbidden"));
    let mut found: Vec<String> = complain.map(|object| object["metadata"]["name"].to_string()).collect();
    let stale = cluster.operator.as_ref().unwrap().state.store().stale();
    found.extend(stale.iter().map(|kind| format!("{} are stale", kind.plural())));
    found
}

/// A cluster at rest that is about to need every right.
fn resting(resource: &str) -> Cluster {
    let mut cluster = Cluster::new(Trouble::Nothing);
    cluster.server.set_rules(USER, rules());
    if resource == "pods/status" {
        return cluster.with_sidecars();
    }
    everything(&mut cluster, if resource.starts_with("controllerrevisions") { 10 } else { 0 });
    cluster
}

/// A copy of it in which all happens that needs rights, one of which is taken away before.
fn without(resting: &Cluster, resource: &str, verb: Option<&str>) -> Cluster {
    let mut cluster = resting.fork();
    trust(&mut cluster, "one");
    cluster.pass(Duration::from_secs(5));
    if let Some(verb) = verb {
        cluster.server.deny(USER, verb, resource);
    }
    // What was seen so far has to be read anew: every watch ends, and what came after its last bookmark is forgotten.
    cluster.operator.as_ref().unwrap().session.drop_watches(true);
    foreign(&mut cluster, "v1", "ConfigMap", "else", &Value::Null);
    cluster.server.compact();
    if resource == "pods/status" {
        cluster.put(&widget("w", "example/lone:1"));
        cluster.pass(Duration::from_secs(5));
    } else {
        change_everything(&mut cluster);
        collide(&mut cluster);
    }
    cluster
}

/// Takes each verb on a resource away, and gives it back.
fn each_verb_of(resource: &str) {
    let resting = resting(resource);
    let mut calm = without(&resting, resource, None);
    calm.settle();
    let mut wanted = Shape::of(&calm);
    // Of a hub that was never made, because nothing named it any more when it could be.
    wanted.objects.remove(PASSING);
    let mut wrong = Vec::new();
    for (verb, _) in each(&[0, 1, 3]).iter().filter(|(_, known)| known == resource) {
        let mut cluster = without(&resting, resource, Some(verb));
        let right = Right { verb: verb.as_str().into(), resource: resource.into() };
        let operator = cluster.operator.as_ref().unwrap();
        if !operator.lacking.rights(cluster.now()).contains(&right) {
            wrong.push(format!("{right} is not missed"));
        }
        // A status that cannot be written says nothing, an event that cannot be made neither, and what cannot be seen is not looked at.
        let is_mute = (resource.ends_with("/status") && resource != "pods/status")
            || resource.starts_with("events")
            || matches!(verb.as_str(), "list" | "watch")
            // Only the Service of a hub that nothing names any more is deleted: there is nobody to say it.
            || (verb.as_str(), resource) == ("delete", "services");
        let named = match resource.split_once("/finalizers") {
            Some(_) => "you can't set finalizers on".to_owned(),
            None => format!("cannot {verb} resource \"{}", resource.split('.').next().unwrap_or_default()),
        };
        if !is_mute && !was_said(&cluster, &named) {
            wrong.push(format!("no condition says that {right} is missing"));
        }
        cluster.server.allow_again(USER);
        cluster.settle();
        cluster.settle();
        let rested = cluster.now();
        let before = cluster.operator.as_ref().unwrap().refused.len();
        cluster.settle();
        let operator = cluster.operator.as_ref().unwrap();
        let late = operator.refused.get(before..).unwrap_or_default();
        if late.iter().any(|line| line.contains("Forbidden"))
            || !operator.lacking.rights(rested.plus(FORGOTTEN)).is_empty()
        {
            wrong.push(format!("{right} is back, and refused: {late:?}"));
        }
        let left = lacks(&cluster);
        if !left.is_empty() {
            wrong.push(format!("{right} is back, and still lacks: {left:?}"));
        }
        let found = Shape::of(&cluster);
        for (name, one) in &wanted.objects {
            let other = found.objects.get(name);
            if other != Some(one) {
                wrong.push(format!("{right} is back: {name} is {other:?}, not {one:?}"));
            }
        }
        for name in
            found.objects.keys().filter(|name| !wanted.objects.contains_key(*name) && *name != PASSING)
        {
            wrong.push(format!("{right} is back: {name} is left"));
        }
        let pods = |shape: &Shape| shape.pods.keys().cloned().collect::<Vec<_>>();
        if pods(&found) != pods(&wanted) {
            wrong.push(format!("{right} is back: {:?}, not {:?}", pods(&found), pods(&wanted)));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

macro_rules! resources {
    ($($name:ident $resource:literal)*) => {
        const TRIED: &[&str] = &[$($resource),*];

        mod each_verb_that_is_taken_away_is_noticed_and_its_return_heals {
            $(#[test]
            fn $name() {
                super::each_verb_of($resource);
            })*
        }
    };
}

resources! {
    nodes "nodes"
    leases_of_nodes "leases.coordination.k8s.io"
    widgets "widgets.kontrol.dev"
    widget_groups "widgetgroups.kontrol.dev"
    supervisors "supervisors.kontrol.dev"
    message_buses "messagebuses.kontrol.dev"
    topics "topics.kontrol.dev"
    routes "routes.kontrol.dev"
    status_of_widgets "widgets.kontrol.dev/status"
    status_of_widget_groups "widgetgroups.kontrol.dev/status"
    status_of_supervisors "supervisors.kontrol.dev/status"
    status_of_message_buses "messagebuses.kontrol.dev/status"
    status_of_topics "topics.kontrol.dev/status"
    status_of_routes "routes.kontrol.dev/status"
    finalizers_of_widgets "widgets.kontrol.dev/finalizers"
    finalizers_of_widget_groups "widgetgroups.kontrol.dev/finalizers"
    finalizers_of_message_buses "messagebuses.kontrol.dev/finalizers"
    pods "pods"
    status_of_pods "pods/status"
    services "services"
    claims "persistentvolumeclaims"
    config_maps "configmaps"
    budgets "poddisruptionbudgets.policy"
    revisions "controllerrevisions.apps"
    events "events.events.k8s.io"
}

#[test]
fn every_resource_of_the_roles_is_tried() {
    let given: BTreeSet<String> = each(&[0, 1, 3]).into_iter().map(|(_, resource)| resource).collect();
    let tried = TRIED.iter().chain(&ELSEWHERE).map(|resource| (*resource).to_owned()).collect();
    assert_eq!(given, tried);
}
