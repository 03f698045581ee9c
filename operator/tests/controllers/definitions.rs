//! Definitions of our kinds that become older, and newer again, under an operator that runs.

use std::time::Duration;

use kontrol_e2e_apiserver::Ended;
use serde_json::{Map, Value};

use crate::{
    cluster::{Cluster, Trouble},
    scenarios::{GROUPS, WIDGETS, group, widget},
    shape::conditions,
};

const DEFINITIONS: &str = "customresourcedefinitions.apiextensions.k8s.io";

/// Changes the schema of the status of a kind.
fn edit(cluster: &Cluster, plural: &str, edit: impl FnOnce(&mut Map<String, Value>)) {
    let changed = cluster.server.edit(DEFINITIONS, "", &format!("{plural}.kontrol.dev"), |definition| {
        let schema = &mut definition["spec"]["versions"][0]["schema"]["openAPIV3Schema"];
        edit(schema["properties"]["status"]["properties"].as_object_mut().unwrap());
    });
    assert!(changed);
}

fn look(cluster: &mut Cluster) -> Vec<String> {
    let now = cluster.now();
    let operator = cluster.operator.as_mut().unwrap();
    operator.look_at_definitions(now);
    operator.state.lacks().fields()
}

/// The statuses that it wrote of a kind since this was asked last.
fn written(cluster: &mut Cluster, kind: &str) -> Vec<Value> {
    let operator = cluster.operator.as_mut().unwrap();
    let asked = operator.asked.replace(Vec::new()).unwrap_or_default();
    let of = asked.into_iter().filter(|one| one.kind.as_str() == kind && one.subresource == "status");
    of.map(|one| one.body["status"].clone()).collect()
}

fn is_ready(cluster: &Cluster, resource: &str, name: &str) -> bool {
    let said = conditions(&cluster.server.get(resource, "default", name).unwrap());
    said.iter().any(|one| one.starts_with("Ready=True"))
}

/// What a restart of `w` and of a member of `g` has it write.
fn restart(cluster: &mut Cluster) {
    cluster.end("w", &Ended::code(1));
    cluster.end("g-b", &Ended::code(1));
    cluster.settle();
}

/// Makes the definitions older, in a cluster where they were not and a widget and a group run; gives what they were.
fn grow_old(cluster: &mut Cluster) -> (Value, Value) {
    cluster.put(&widget("w", "example/lone:1"));
    cluster.put(&group("g", "OneForOne"));
    cluster.settle();
    assert_eq!(look(cluster), [""; 0]);
    drop(written(cluster, "Widget"));
    let (mut instances, mut node) = (Value::Null, Value::Null);
    edit(cluster, "widgets", |status| instances = status.remove("instances").unwrap());
    edit(cluster, "widgetgroups", |status| node = status.remove("widgets").unwrap_or_default());
    (instances, node)
}

#[test]
fn fields_that_definitions_lose_are_named_at_the_next_look_and_never_written_after_it() {
    let mut cluster = Cluster::new(Trouble::Nothing);
    drop(grow_old(&mut cluster));
    let fields = look(&mut cluster);
    assert!(fields.contains(&"Widget.status.instances".to_owned()), "{fields:?}");
    restart(&mut cluster);
    let statuses = written(&mut cluster, "Widget");
    assert!(
        !statuses.is_empty() && statuses.iter().all(|status| status["instances"].is_null()),
        "{statuses:#?}"
    );
    assert!(is_ready(&cluster, WIDGETS, "w") && is_ready(&cluster, GROUPS, "g"), "{}", cluster.history());
    let before = cluster.writes();
    cluster.pass(Duration::from_mins(5));
    assert_eq!(cluster.writes(), before, "{}", cluster.history());
}

#[test]
fn fields_that_definitions_lose_are_named_by_the_first_write_that_lacks_them() {
    let mut cluster = Cluster::new(Trouble::Nothing);
    drop(grow_old(&mut cluster));
    restart(&mut cluster);
    let fields = cluster.operator.as_ref().unwrap().state.lacks().fields();
    assert!(fields.contains(&"Widget.status.instances".to_owned()), "{fields:?}");
    drop(written(&mut cluster, "Widget"));
    restart(&mut cluster);
    let statuses = written(&mut cluster, "Widget");
    assert!(
        !statuses.is_empty() && statuses.iter().all(|status| status["instances"].is_null()),
        "{statuses:#?}"
    );
    assert!(look(&mut cluster).contains(&"Widget.status.instances".to_owned()));
}

#[test]
fn fields_that_definitions_have_again_are_written_after_the_next_look() {
    let mut cluster = Cluster::new(Trouble::Nothing);
    let (instances, widgets) = grow_old(&mut cluster);
    restart(&mut cluster);
    let status = cluster.server.get(WIDGETS, "default", "w").unwrap()["status"].clone();
    assert!(status["instances"].is_null(), "{status:#}");
    edit(&cluster, "widgets", |status| drop(status.insert("instances".to_owned(), instances)));
    if !widgets.is_null() {
        edit(&cluster, "widgetgroups", |status| drop(status.insert("widgets".to_owned(), widgets)));
    }
    assert_eq!(look(&mut cluster), [""; 0]);
    cluster.settle();
    let status = cluster.server.get(WIDGETS, "default", "w").unwrap()["status"].clone();
    assert!(status["instances"][0]["incarnation"].is_number(), "{status:#}");
    assert!(is_ready(&cluster, WIDGETS, "w") && is_ready(&cluster, GROUPS, "g"), "{}", cluster.history());
    let before = cluster.writes();
    cluster.pass(Duration::from_mins(5));
    assert_eq!(cluster.writes(), before, "{}", cluster.history());
}
