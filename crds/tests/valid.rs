//! What valid manifests become.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test's helpers fail the test")]

use std::{path::PathBuf, time::Duration};

use kontrol_core::spec::{self, Node};
use kontrol_crds::{Source, World, generated, load};
use serde_json::{Value, json};

const RICH: &str = include_str!("manifests/pipeline.yaml");

fn world(name: &str, text: &str) -> World {
    load(&[Source { name: name.to_owned(), text: text.to_owned() }]).unwrap_or_else(|problems| {
        panic!("{}", problems.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"))
    })
}

fn widget(spec: &str) -> spec::Widget {
    let text =
        format!("apiVersion: kontrol.dev/v1alpha1\nkind: Widget\nmetadata: {{name: w}}\nspec: {spec}\n");
    match world("m.yaml", &text).trees.remove(0) {
        Node::Group(mut group) => group.widgets.remove(0),
        Node::Supervisor(supervisor) => panic!("{supervisor:?}"),
    }
}

#[test]
fn the_rich_manifest_becomes_one_tree() {
    let world = world("examples/rag.yaml", RICH);
    assert_eq!((world.trees.len(), world.buses.len(), world.topics.len(), world.routes.len()), (1, 1, 3, 1));
    let Node::Supervisor(house) = &world.trees[0] else { panic!("{:?}", world.trees) };
    assert_eq!(house.when_exhausted, spec::Exhausted::Stop);
    let children: Vec<_> = house
        .children
        .iter()
        .map(|child| (child.node.id().to_string(), child.restart, child.significant))
        .collect();
    assert_eq!(
        children,
        [
            ("default/rag".to_owned(), spec::Restart::OnFailure, true),
            ("default/clock".to_owned(), spec::Restart::Always, false)
        ]
    );
    let Node::Group(rag) = &house.children[0].node else { panic!() };
    let [vectors, llm] = &rag.widgets[..] else { panic!() };
    let process = vectors.process.as_ref().unwrap();
    assert_eq!(process.working_dir, Some(PathBuf::from("examples/services")));
    assert_eq!((process.limits.memory, process.limits.open_files), (Some(2 << 30), Some(1024)));
    assert_eq!(vectors.shutdown, spec::Shutdown::Graceful(Duration::from_secs(30)));
    assert_eq!(vectors.consumes[0].via, spec::ConsumeVia::Http("/documents".to_owned()));
    assert_eq!(llm.consumes[0].subscription.as_str(), "rag-llm");
    assert_eq!(llm.calls[0].to_string(), "default/rag/vectors");
    assert_eq!(llm.scaling.as_ref().unwrap().targets[2], spec::ScalingTarget::QueueGrowth(500));
    let Node::Group(clock) = &house.children[1].node else { panic!() };
    assert_eq!(clock.widgets[0].replica_end, spec::ReplicaEnd::ReplacesReplica);
    assert_eq!(clock.widgets[0].id.to_string(), "default/clock/clock");
}

#[test]
fn defaults_are_those_of_the_core() {
    let widget =
        widget("{process: {command: [w]}, health: {report: {}}, scaling: {max: 2, target: {inFlight: 1}}}");
    assert_eq!(widget.shutdown, spec::Shutdown::default());
    assert_eq!(widget.start, spec::Start::default());
    assert_eq!(widget.intensity, spec::Intensity::default());
    assert_eq!(widget.resilience, None);
    assert_eq!((widget.restart, widget.replicas), (spec::Restart::default(), 1));
    let health = widget.health.unwrap();
    assert_eq!((health.timeout, health.interval), (Duration::from_secs(15), Duration::from_secs(2)));
    let scaling = widget.scaling.unwrap();
    assert_eq!(
        (scaling.min, scaling.up_window, scaling.down_window),
        (1, Duration::ZERO, Duration::from_mins(5))
    );

    let world =
        world("m.yaml", "apiVersion: kontrol.dev/v1alpha1\nkind: Topic\nmetadata: {name: t}\nspec: {}\n");
    let topic = &world.topics[0];
    assert_eq!((topic.retention, topic.buffer, topic.retry), Default::default());
    assert_eq!(
        (topic.dedup_window, topic.ack_timeout, topic.max_message),
        (Duration::from_mins(2), Duration::from_secs(30), 1 << 20)
    );
    assert_eq!(world.buses[0].id.to_string(), "default/default");
    assert_eq!(world.buses[0].storage, spec::Storage::default());
}

/// The API server fills in what serde fills in: reading an object and writing it again gives what the schema's defaults give.
#[test]
fn defaults_of_the_schema_are_those_of_the_types() {
    use kontrol_crds::{MessageBus, Route, Supervisor, Topic, Widget, WidgetGroup};
    fn same<T: serde::de::DeserializeOwned + serde::Serialize>(kind: &str, spec: &Value) {
        let object = json!({"apiVersion": "kontrol.dev/v1alpha1", "kind": kind, "metadata": {"name": "x"}, "spec": spec});
        let definition = generated::definitions()
            .into_iter()
            .find(|definition| definition["spec"]["names"]["kind"] == kind)
            .unwrap();
        let schema = &definition["spec"]["versions"][0]["schema"]["openAPIV3Schema"];
        let read: T = serde_json::from_value(object.clone()).unwrap();
        assert_eq!(
            serde_json::to_value(read).unwrap()["spec"],
            kube_cel::apply_defaults(schema, &object)["spec"],
            "{kind}"
        );
    }
    let rich = json!({"name": "w", "process": {"command": ["w"], "env": [{"name": "A"}]}, "shutdown": {}, "start": {}, "health": {"report": {}},
        "endpoint": {}, "consumes": [{"topic": "t"}], "resilience": {"breaker": {}, "backoff": {}},
        "scaling": {"max": 2, "target": {"inFlight": 1}}, "intensity": {}});
    let mut alone = rich.clone();
    alone.as_object_mut().unwrap().remove("name");
    same::<Widget>("Widget", &json!({}));
    same::<Widget>("Widget", &alone);
    same::<WidgetGroup>(
        "WidgetGroup",
        &json!({"widgets": [rich, {"name": "v"}], "intensity": {}, "whenExhausted": {}}),
    );
    same::<Supervisor>("Supervisor", &json!({"children": [{"group": "g"}]}));
    same::<MessageBus>("MessageBus", &json!({}));
    same::<MessageBus>("MessageBus", &json!({"embedded": {"storage": {}}}));
    same::<Topic>("Topic", &json!({"retention": {}, "buffer": {}, "retry": {"backoff": {}}}));
    same::<Topic>("Topic", &json!({}));
    same::<Route>("Route", &json!({"from": {"topic": "a"}, "rules": [{"to": [{"topic": "b"}]}]}));
}

#[test]
fn the_revision_is_the_hash_of_what_a_replica_was_started_with() {
    let base =
        widget("{process: {command: [w], env: [{name: A, value: a}, {name: B, value: b}]}, endpoint: {}}")
            .revision;
    for same in [
        "{process: {command: [w], env: [{name: B, value: b}, {name: A, value: a}]}, endpoint: {}}",
        "{process: {command: [w], env: [{name: A, value: a}, {name: B, value: b}]}, endpoint: {}, replicas: 5, intensity: {maxRestarts: 9}, \
          scaling: {max: 9, target: {inFlight: 1}}, restart: Never, start: {timeout: 1s}}",
    ] {
        assert_eq!(widget(same).revision, base, "{same}");
    }
    for other in [
        "{process: {command: [w, x], env: [{name: A, value: a}, {name: B, value: b}]}, endpoint: {}}",
        "{process: {command: [w], env: [{name: A, value: c}, {name: B, value: b}]}, endpoint: {}}",
        "{process: {command: [w], workingDir: x, env: [{name: A, value: a}, {name: B, value: b}]}, endpoint: {}}",
        "{process: {command: [w], env: [{name: A, value: a}, {name: B, value: b}]}, endpoint: {port: 80}}",
        "{process: {command: [w], env: [{name: A, value: a}, {name: B, value: b}]}}",
    ] {
        assert_ne!(widget(other).revision, base, "{other}");
    }
    assert_eq!(widget("{process: {command: [w]}}").revision.to_string(), "9b13945d132542ae");
}

#[test]
fn roots_keep_the_order_of_the_manifests() {
    let object = |kind: &str, name: &str, spec: &str| {
        format!(
            "apiVersion: kontrol.dev/v1alpha1\nkind: {kind}\nmetadata: {{name: {name}}}\nspec: {spec}\n---\n"
        )
    };
    let text = object("Widget", "z", "{process: {command: [w]}}")
        + &object("Supervisor", "top", "{children: [{supervisor: inner}]}")
        + &object("Widget", "a", "{process: {command: [w]}}")
        + &object("Supervisor", "inner", "{children: [{group: g}]}")
        + &object("WidgetGroup", "g", "{widgets: [{name: w, process: {command: [w]}}]}");
    let roots: Vec<_> = world("m.yaml", &text).trees.iter().map(|node| node.id().name.to_string()).collect();
    assert_eq!(roots, ["z", "top", "a"]);
}

#[test]
fn the_examples_load() {
    let examples = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples");
    let mut loaded = Vec::new();
    for entry in std::fs::read_dir(examples).unwrap() {
        let path = entry.unwrap().path().join("pipeline.yaml");
        if path.is_file() {
            let sources = kontrol_crds::manifest::read_path(&path).unwrap();
            loaded.push(world(&sources[0].name, &sources[0].text).trees.len());
        }
    }
    assert!(loaded.len() >= 2 && loaded.iter().all(|trees| *trees > 0), "{loaded:?}");
}

#[test]
fn a_folder_is_read_in_the_order_of_its_names() {
    let folder = tempfile::tempdir().unwrap();
    for (name, text) in [("b.yml", "b"), ("a.yaml", "a"), ("c.txt", "c"), ("d.json", "d")] {
        std::fs::write(folder.path().join(name), text).unwrap();
    }
    let texts: Vec<_> = kontrol_crds::manifest::read_path(folder.path())
        .unwrap()
        .into_iter()
        .map(|source| source.text)
        .collect();
    assert_eq!(texts, ["a", "b"]);
}

#[test]
fn what_cannot_be_read_is_said() {
    let folder = tempfile::tempdir().unwrap();
    let said = |path: &std::path::Path| {
        let problems = kontrol_crds::manifest::read_path(path).unwrap_err();
        problems[0].to_string().replace(&folder.path().display().to_string(), "DIR")
    };
    assert_eq!(
        said(&folder.path().join("no.yaml")),
        "DIR/no.yaml: KTL1018 cannot be read: No such file or directory (os error 2)"
    );
    assert_eq!(
        said(folder.path()),
        "DIR: KTL1019 there is no *.yaml or *.yml file in this folder (folders within it are not looked into)"
    );
    let binary = folder.path().join("binary.yaml");
    std::fs::write(&binary, b"a: 1\nb: \xff\n").unwrap();
    assert_eq!(said(&binary), "DIR/binary.yaml:2: KTL1001 is no UTF-8 text from here on; save it as UTF-8");
}
