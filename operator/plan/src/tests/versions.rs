//! What another version of the operator has written is read: one that knows more than this one, and one that knows less.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use kontrol_core::spec::{Container, Intensity, Node, Revision, Strategy, Widget};
use serde_json::{Value, json};

use super::world::{CRASH, World, child, group, health, supervisor, widget};
use crate::{InstanceState, NodeHealth, Place, Status};

/// The status of a tree in which much has happened: ends, a lost machine, a restart of a group under way, and a roll-out that returned.
fn eventful() -> Status {
    let pod = |group: &str, name: &str| Widget {
        container: Some(Container::default()),
        health: Some(health().into()),
        ..widget(group, name)
    };
    let all = ["a", "b"].map(|name| pod("g", name)).to_vec();
    let mut one = group("g", Strategy::OneForAll, all);
    one.intensity = Intensity { max_restarts: 5, ..one.intensity };
    let other = group("h", Strategy::OneForOne, vec![pod("h", "c"), pod("h", "d")]);
    let children = vec![child(Node::Group(one)), child(Node::Group(other))];
    let mut world = World::settled(Node::Supervisor(supervisor("s", Strategy::OneForOne, children)));
    for (place, instance) in world.observed.instances.iter_mut().enumerate() {
        instance.place = Some(Place { node: format!("n{}", place + 1).into() });
    }
    world.settle();
    world.pass(Duration::from_mins(10));
    // A new revision of one widget ends as often as it is started.
    if let Some(Node::Supervisor(root)) = &mut world.desired
        && let Node::Group(other) = &mut root.children[1].node
    {
        other.widgets[0].revision = Revision(2);
    }
    world.settle();
    for _ in 0..4 {
        world.set("h/c-0", CRASH);
        world.settle();
        world.pass(Duration::from_millis(100));
    }
    let since = world.now;
    world.observed.nodes.insert("n4".into(), NodeHealth::Lost { since });
    world.settle();
    // One of all ends, and what replaces them does not come up at once.
    world.started.insert("g/a-0".to_owned(), InstanceState::Starting);
    world.set("g/b-0", CRASH);
    world.settle();
    world.observed.status.clone()
}

/// Calls `with` for each object of the text that is a structure, and not the one case of a choice, which begins with a capital letter.
fn structures(value: &mut Value, name: &str, with: &mut impl FnMut(&str, &mut Value)) {
    match value {
        Value::Object(fields) => {
            let is_structure = fields.keys().all(|key| key.starts_with(|first: char| first.is_lowercase()));
            // A time span is the standard library's, and never changes.
            if fields.contains_key("nanos") {
                return;
            }
            for (key, field) in &mut *fields {
                structures(field, if is_structure { key } else { name }, with);
            }
            if is_structure {
                with(name, value);
            }
        }
        Value::Array(items) => items.iter_mut().for_each(|item| structures(item, name, with)),
        _ => {}
    }
}

#[test]
fn what_a_newer_version_adds_to_a_status_is_passed_over() {
    let status = eventful();
    let mut text = serde_json::to_value(&status).unwrap();
    let mut count = 0;
    structures(&mut text, "status", &mut |_, structure| {
        structure["addedLater"] = json!({"some": ["thing"]});
        count += 1;
    });
    assert!(count > 20, "{count}");
    assert_eq!(serde_json::from_value::<Status>(text).unwrap(), status);
}

#[test]
fn what_an_older_version_does_not_write_has_a_default() {
    let text = serde_json::to_value(eventful()).unwrap();
    let mut fields = BTreeSet::new();
    structures(&mut text.clone(), "status", &mut |name, structure| {
        let keys = structure.as_object().unwrap().keys();
        fields.extend(keys.map(|key| (name.to_owned(), key.clone())));
    });
    let mut needed: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for (of, key) in fields {
        let mut without = text.clone();
        structures(&mut without, "status", &mut |name, structure| {
            if name == of {
                structure.as_object_mut().unwrap().remove(&key);
            }
        });
        if serde_json::from_value::<Status>(without).is_err() {
            needed.entry(of).or_default().push(key);
        }
    }
    let needed: Vec<_> =
        needed.iter().map(|(name, fields)| format!("{name}: {}", fields.join(" "))).collect();
    // All that version 0.1.0 needs, by the field that holds it. What is added later gets a default: the version before it may have written last.
    assert_eq!(
        needed,
        [
            "bad: at revision why",
            "because: at event",
            "cause: at event",
            "children: asked inner key kind name phase",
            "conditions: ready reconciling stalled",
            "decisions: cause number",
            "event: children count end epoch from incarnation instance intensity node strategy to why widget",
            "id: name namespace",
            "inner: children conditions desired epoch floor id kind leaving open phase replicas restarts revision shutdown since",
            "instance: ordinal widget",
            "intensity: max_restarts period",
            "key: kind name",
            "last: at event",
            "node: name namespace",
            "open: kind scope stage",
            "progressing: reason since status",
            "ready: reason since status",
            "reconciling: reason since status",
            "replicas: epoch incarnation phase ready revision since",
            "root: children conditions epoch id kind leaving open phase restarts since",
            "scope: kind name",
            "stalled: reason since status",
            "widget: group namespace widget",
        ]
    );
}
