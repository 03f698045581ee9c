//! Every CEL rule, evaluated as the API server does: an example that breaks it, and the conversion that refuses the same.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test's helpers fail the test")]

use std::{collections::BTreeSet, sync::LazyLock};

use kontrol_crds::{Runtime, Source, generated, load_for};
use kube_cel::Validator;
use serde_json::{Value, json};

fn schema(kind: &str) -> &'static Value {
    static DEFINITIONS: LazyLock<Vec<Value>> = LazyLock::new(generated::definitions);
    let definition = DEFINITIONS.iter().find(|definition| definition["spec"]["names"]["kind"] == kind);
    &definition.unwrap()["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
}

fn object(kind: &str, name: &str, spec: &Value) -> Value {
    json!({"apiVersion": "kontrol.dev/v1alpha1", "kind": kind, "metadata": {"name": name}, "spec": spec})
}

/// What the API server would say.
fn broken(object: &Value) -> Vec<String> {
    let schema = schema(object["kind"].as_str().unwrap());
    let object = kube_cel::apply_defaults(schema, object);
    match Validator::new().validate(schema, &object, None) {
        Ok(()) => Vec::new(),
        Err(errors) => errors.iter().map(|error| error.message.clone()).collect(),
    }
}

/// Objects that break one rule, with a piece of its message, and the nearest that keeps it.
#[allow(clippy::too_many_lines, reason = "a table")]
fn examples() -> Vec<(Value, &'static str, Value)> {
    let run = json!({"command": ["w"]});
    let widget = |more: Value| {
        let mut spec = json!({"process": run});
        spec.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        spec
    };
    let one = |more: Value| object("Widget", "w", &widget(more));
    let group = |name: &str, widget_name: &str, more: Value, of_group: Value| {
        let mut template = widget(more);
        template["name"] = widget_name.into();
        let mut spec = json!({"widgets": [template]});
        spec.as_object_mut().unwrap().extend(of_group.as_object().unwrap().clone());
        object("WidgetGroup", name, &spec)
    };
    let plain = |name: &str, widget_name: &str| group(name, widget_name, json!({}), json!({}));
    let supervisor = |child: Value, shutdown: &str| {
        object("Supervisor", "s", &json!({"autoShutdown": shutdown, "children": [child]}))
    };
    let route = |name: &str, to: Value| {
        object("Route", name, &json!({"from": {"topic": "a"}, "rules": [{"to": to}]}))
    };
    let http = json!({"path": "/x"});
    let (long, longest) = ("n".repeat(64), "n".repeat(63));
    let exactly_one = "exactly one of group and supervisor";
    let mut all = vec![
        (one(json!({"process": {"command": []}})), "command needs a program", one(json!({}))),
        (one(json!({"process": {"command": [""]}})), "command needs a program", one(json!({}))),
        (
            one(json!({"process": {"command": ["w"], "env": [{"name": "KONTROL_X"}]}})),
            "given by Kontrol itself",
            one(json!({"process": {"command": ["w"], "env": [{"name": "MY_KONTROL_X"}]}})),
        ),
        (
            one(json!({"shutdown": {"policy": "Brutal", "grace": "1s"}})),
            "grace belongs to policy Graceful",
            one(json!({"shutdown": {"policy": "Graceful", "grace": "1s"}})),
        ),
        (
            one(json!({"endpoint": {}, "health": {"report": {}, "http": http}})),
            "exactly one way",
            one(json!({"endpoint": {}, "health": {"http": http}})),
        ),
        (one(json!({"health": {}})), "exactly one way", one(json!({"health": {"report": {}}}))),
        (
            one(json!({"health": {"http": http}})),
            "health.http needs the widget's endpoint",
            one(json!({"endpoint": {}, "health": {"http": http}})),
        ),
        (
            one(json!({"consumes": [{"topic": "t", "http": http}]})),
            "consumes with http needs",
            one(json!({"endpoint": {}, "consumes": [{"topic": "t", "http": http}]})),
        ),
        (
            one(json!({"serves": [{"method": "m", "http": http}]})),
            "serves with http needs",
            one(json!({"endpoint": {}, "serves": [{"method": "m", "http": http}]})),
        ),
        (
            one(json!({"replicas": 2, "endpoint": {"port": 80}})),
            "cannot listen on one port",
            one(json!({"replicas": 2, "endpoint": {}})),
        ),
        (
            one(json!({"scaling": {"max": 2, "target": {"inFlight": 1}}, "endpoint": {"port": 80}})),
            "cannot listen on one port",
            one(json!({"scaling": {"max": 1, "target": {"inFlight": 1}}, "endpoint": {"port": 80}})),
        ),
        (
            one(json!({"scaling": {"min": 3, "max": 2, "target": {"inFlight": 1}}})),
            "min must not be above max",
            one(json!({"scaling": {"min": 2, "max": 2, "target": {"inFlight": 1}}})),
        ),
        (
            one(json!({"scaling": {"target": {"inFlight": 1}}})),
            "give max and target",
            one(json!({"scaling": {"class": "External"}})),
        ),
        (
            one(json!({"scaling": {"class": "Kontrol", "max": 2}})),
            "give max and target",
            one(json!({"scaling": {"class": "External", "min": 2}})),
        ),
        (
            one(json!({"scaling": {"max": 2, "target": {}}})),
            "at least one target",
            one(json!({"scaling": {"max": 2, "target": {"reported": {"name": "x", "value": 1}}}})),
        ),
        (
            one(json!({"significant": true, "restart": "Never"})),
            "only in a group with autoShutdown",
            one(json!({"significant": false, "restart": "Never"})),
        ),
        (
            object("Widget", &long, &widget(json!({}))),
            "name of a widget has at most 63",
            object("Widget", &longest, &widget(json!({}))),
        ),
        (
            group("g", "w", json!({"significant": true}), json!({"autoShutdown": "AnySignificant"})),
            "a significant widget needs restart",
            group(
                "g",
                "w",
                json!({"significant": true, "restart": "Never"}),
                json!({"autoShutdown": "AnySignificant"}),
            ),
        ),
        (
            group("g", "w", json!({"significant": true, "restart": "Never"}), json!({})),
            "needs the group's autoShutdown",
            group("g", "w", json!({"restart": "Never"}), json!({})),
        ),
        (
            group("g", "w", json!({}), json!({"whenExhausted": {"policy": "Stop", "initial": "1s"}})),
            "pauses of policy Retry",
            group("g", "w", json!({}), json!({"whenExhausted": {"policy": "Retry", "initial": "1s"}})),
        ),
        (
            plain(&"g".repeat(40), &"w".repeat(23)),
            "<group>-<widget> has at most 63",
            plain(&"g".repeat(40), &"w".repeat(22)),
        ),
        (plain(&"g".repeat(62), "w"), "name of a group has at most 61", plain(&"g".repeat(61), "w")),
        (supervisor(json!({}), "Never"), exactly_one, supervisor(json!({"supervisor": "b"}), "Never")),
        (
            supervisor(json!({"group": "a", "supervisor": "b"}), "Never"),
            exactly_one,
            supervisor(json!({"group": "a"}), "Never"),
        ),
        (
            supervisor(json!({"group": "a", "significant": true}), "AnySignificant"),
            "a significant child needs restart",
            supervisor(json!({"group": "a", "significant": true, "restart": "OnFailure"}), "AnySignificant"),
        ),
        (
            supervisor(json!({"group": "a", "significant": true, "restart": "Never"}), "Never"),
            "needs the supervisor's autoShutdown",
            supervisor(json!({"group": "a", "significant": true, "restart": "Never"}), "AllSignificant"),
        ),
        (
            supervisor(json!({"supervisor": "s"}), "Never"),
            "cannot be its own child",
            supervisor(json!({"supervisor": "t"}), "Never"),
        ),
        (
            object("Supervisor", &long, &json!({"children": [{"group": "a"}]})),
            "name of a supervisor has at most 63",
            object("Supervisor", &longest, &json!({"children": [{"group": "a"}]})),
        ),
        (
            object("MessageBus", &long, &json!({})),
            "name of a bus has at most 63",
            object("MessageBus", &longest, &json!({})),
        ),
        (
            object("Topic", &long, &json!({})),
            "name of a topic has at most 63",
            object("Topic", &longest, &json!({})),
        ),
        (
            object("Topic", "t", &json!({"deadLetter": {"topic": "t"}})),
            "its own dead letter topic",
            object("Topic", "t", &json!({"deadLetter": {"topic": "u"}})),
        ),
        (
            route(&long, json!([{"topic": "b"}])),
            "name of a route has at most 63",
            route(&longest, json!([{"topic": "b"}])),
        ),
        (
            route("r", json!([{"topic": "a"}])),
            "back to the topic that it comes from",
            route("r", json!([{"topic": "b"}])),
        ),
        (route("r", json!([])), "at least one topic that it copies to", route("r", json!([{"topic": "b"}]))),
    ];
    all.extend(cluster_examples());
    all
}

/// The same for what a cluster runs.
#[allow(clippy::too_many_lines, reason = "a table")]
fn cluster_examples() -> Vec<(Value, &'static str, Value)> {
    let named = |name: &str, more: Value, of_container: Value| {
        let mut container = json!({"image": "i"});
        container.as_object_mut().unwrap().extend(of_container.as_object().unwrap().clone());
        let mut spec = json!({"container": container});
        spec.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        object("Widget", name, &spec)
    };
    let one = |more: Value| named("w", more, json!({}));
    let holds = |of_container: Value| named("w", json!({}), of_container);
    let env = |entry: Value| holds(json!({"env": [entry]}));
    let volume = |volume: Value| one(json!({"volumes": [volume]}));
    let mount = |mount: Value| {
        named("w", json!({"volumes": [{"name": "v", "emptyDir": {}}]}), json!({"volumeMounts": [mount]}))
    };
    let alternative = |alternative: Value| one(json!({"gpu": {"alternatives": [alternative]}}));
    let toleration = |toleration: Value| one(json!({"placement": {"tolerations": [toleration]}}));
    let group = |name: &str, widget: &str| {
        object("WidgetGroup", name, &json!({"widgets": [{"name": widget, "container": {"image": "i"}}]}))
    };
    let pod = |metadata: Value| one(json!({"podMetadata": metadata}));
    let source = |source: Value| volume(json!({"name": "v", "projected": {"sources": [source]}}));
    let plain = one(json!({}));
    vec![
        (object("Widget", "w", &json!({})), "a widget needs a way to run", plain.clone()),
        (
            holds(json!({"wrapped": true})),
            "wrapped needs command",
            holds(json!({"wrapped": true, "command": ["w"]})),
        ),
        (
            holds(json!({"command": [""]})),
            "empty program as its first item",
            holds(json!({"command": ["w", ""]})),
        ),
        (holds(json!({"image": "a b"})), "an image has no spaces", holds(json!({"image": "a/b:c"}))),
        (env(json!({"name": "KONTROL_X"})), "given by Kontrol itself", env(json!({"name": "X"}))),
        (
            env(json!({"name": "X", "value": "", "valueFrom": {"fieldRef": {"fieldPath": "spec.nodeName"}}})),
            "value or valueFrom, not both",
            env(json!({"name": "X", "valueFrom": {"fieldRef": {"fieldPath": "spec.nodeName"}}})),
        ),
        (
            env(json!({"name": "X", "valueFrom": {}})),
            "valueFrom is exactly one of",
            env(json!({"name": "X", "valueFrom": {"secretKeyRef": {"name": "s", "key": "k"}}})),
        ),
        (
            holds(json!({"envFrom": [{"configMapRef": {"name": "a"}, "secretRef": {"name": "b"}}]})),
            "envFrom is exactly one of",
            holds(json!({"envFrom": [{"configMapRef": {"name": "a"}}]})),
        ),
        (
            holds(json!({"ports": [{"name": "kontrol-peer", "containerPort": 1}]})),
            "names of ports that start with kontrol-",
            holds(json!({"ports": [{"name": "peer", "containerPort": 1}]})),
        ),
        (
            holds(json!({"ports": [{"containerPort": 7412}]})),
            "belong to the sidecar in the same pod; choose another",
            holds(json!({"ports": [{"containerPort": 7414}]})),
        ),
        (
            one(json!({"endpoint": {"port": 7410}})),
            "choose another endpoint.port",
            one(json!({"endpoint": {"port": 7409}})),
        ),
        (
            mount(json!({"name": "other", "mountPath": "/x"})),
            "names one of the widget's volumes",
            mount(json!({"name": "v", "mountPath": "/x"})),
        ),
        (
            mount(json!({"name": "v", "mountPath": "x"})),
            "mountPath starts with '/'",
            mount(json!({"name": "v", "mountPath": "/x"})),
        ),
        (
            mount(json!({"name": "v", "mountPath": "/run/kontrol/x"})),
            "/kontrol and /run/kontrol are Kontrol's own folders",
            mount(json!({"name": "v", "mountPath": "/run/kontrolled"})),
        ),
        (
            holds(json!({"securityContext": {"runAsUser": 0}})),
            "runAsUser: 0 is root",
            holds(json!({"securityContext": {"runAsUser": 0, "runAsNonRoot": false}})),
        ),
        (
            pod(json!({"labels": {"kontrol.dev/widget": "x"}})),
            "labels of kontrol.dev/ are Kontrol's own",
            pod(json!({"labels": {"example.com/widget": "x"}})),
        ),
        (
            pod(json!({"annotations": {"kontrol.dev/alternative": "1"}})),
            "annotations of kontrol.dev/ are Kontrol's own",
            pod(json!({"annotations": {"example.com/x": "1"}})),
        ),
        (
            volume(json!({"name": "v"})),
            "a volume is exactly one of",
            volume(json!({"name": "v", "image": {"reference": "i"}})),
        ),
        (
            volume(json!({"name": "kontrol-run", "emptyDir": {}})),
            "names of volumes that start with kontrol-",
            volume(json!({"name": "run", "emptyDir": {}})),
        ),
        (source(json!({})), "a projected source is exactly one of", source(json!({"secret": {"name": "s"}}))),
        (
            source(json!({"serviceAccountToken": {"audience": "kontrol.dev", "path": "t"}})),
            "would let the widget pass for its sidecar",
            source(json!({"serviceAccountToken": {"audience": "vault", "path": "t"}})),
        ),
        (
            alternative(json!({"resource": "a.b/c", "cpu": "1"})),
            "resource needs count",
            alternative(json!({"resource": "a.b/c", "count": 1})),
        ),
        (alternative(json!({})), "an alternative says what would do", alternative(json!({"cpu": 4}))),
        (
            toleration(json!({})),
            "a toleration without key bears every taint",
            toleration(json!({"operator": "Exists"})),
        ),
        (
            toleration(json!({"key": "k", "operator": "Exists", "value": "v"})),
            "operator Exists bears any value",
            toleration(json!({"key": "k", "value": "v"})),
        ),
        (
            toleration(json!({"key": "k", "tolerationSeconds": 1})),
            "tolerationSeconds belongs to effect NoExecute",
            toleration(json!({"key": "k", "effect": "NoExecute", "tolerationSeconds": 1})),
        ),
        (
            one(json!({"identity": {"forceDelete": true}})),
            "forceDelete says what becomes of an identity of its own",
            one(json!({"identity": {"forceDelete": true, "stable": true}})),
        ),
        (
            one(json!({"disruption": {"maxUnavailable": 1, "minAvailable": 1}})),
            "disruption is exactly one of",
            one(json!({"disruption": {"minAvailable": "50%"}})),
        ),
        (
            named(&"n".repeat(60), json!({}), json!({})),
            "a widget that runs on a cluster has at most 59",
            named(&"n".repeat(59), json!({}), json!({})),
        ),
        (
            named("1w", json!({}), json!({})),
            "name of a widget that runs on a cluster starts with a letter",
            named("w1", json!({}), json!({})),
        ),
        (
            group(&"g".repeat(40), &"w".repeat(19)),
            "<group>-<widget> has at most 59 characters where it runs on a cluster",
            group(&"g".repeat(40), &"w".repeat(18)),
        ),
        (group("1g", "w"), "name of a group that runs on a cluster starts with a letter", group("g1", "w")),
    ]
}

#[test]
fn a_name_that_is_too_long_for_a_cluster_is_long_enough_for_a_laptop() {
    let object = object("Widget", &"n".repeat(63), &json!({"process": {"command": ["w"]}}));
    assert_eq!(broken(&object), Vec::<String>::new());
}

#[test]
fn an_example_of_each_rule_is_refused_with_its_message() {
    for (object, message, _) in examples() {
        let said = broken(&object);
        assert!(said.iter().any(|said| said.contains(message)), "{message}: {said:?}\n{object}");
    }
}

#[test]
fn the_nearest_to_each_example_keeps_every_rule() {
    for (_, message, object) in examples() {
        assert_eq!(broken(&object), Vec::<String>::new(), "{message}: {object}");
    }
}

#[test]
fn the_loading_refuses_what_the_rules_refuse() {
    for (object, message, _) in examples() {
        let source = Source { name: "m.json".to_owned(), text: object.to_string() };
        assert!(load_for(&[source], Runtime::Any).is_err(), "{message}: {object}");
    }
}

#[test]
fn every_rule_has_an_example() {
    fn collect(schema: &Value, found: &mut BTreeSet<String>) {
        for rule in schema["x-kubernetes-validations"].as_array().into_iter().flatten() {
            found.insert(
                rule["message"].as_str().unwrap_or_else(|| panic!("{rule} has no message")).to_owned(),
            );
        }
        for field in schema["properties"].as_object().into_iter().flat_map(|fields| fields.values()) {
            collect(field, found);
        }
        if schema["items"].is_object() {
            collect(&schema["items"], found);
        }
    }
    let mut rules = BTreeSet::new();
    for definition in generated::definitions() {
        collect(&definition["spec"]["versions"][0]["schema"]["openAPIV3Schema"], &mut rules);
    }
    let examples = examples();
    let without: Vec<_> =
        rules.iter().filter(|rule| !examples.iter().any(|(_, piece, _)| rule.contains(piece))).collect();
    assert!(without.is_empty(), "{without:#?}");
    assert!(rules.len() > 25, "{}", rules.len());
}

#[test]
fn a_rule_of_a_widget_holds_within_a_group_as_well() {
    let template = json!({"name": "w", "process": {"command": ["w"]}, "health": {"http": {"path": "/x"}}});
    let said = broken(&object("WidgetGroup", "g", &json!({"widgets": [template]})));
    assert_eq!(said, ["health.http needs the widget's endpoint; add endpoint: {} to get a port as $PORT"]);
}

#[test]
fn the_valid_manifest_breaks_no_rule() {
    let text = include_str!("manifests/pipeline.yaml");
    let documents: Vec<Value> = serde_saphyr::from_multiple(text).unwrap();
    for object in documents {
        assert_eq!(broken(&object), Vec::<String>::new(), "{object}");
    }
}
