//! What single fields of a manifest become.

use super::*;

#[test]
fn a_plain_widget_is_a_pod_with_a_native_sidecar() {
    insta::assert_yaml_snapshot!(Asked::of(container(json!({}))).pod());
}

#[test]
fn a_wrapped_widget_with_everything_is_a_pod_with_everything() {
    let everything = json!({
        "container": {
            "image": "registry.example.com/llm:1", "imagePullPolicy": "Always", "command": ["python3", "/app/llm.py"],
            "args": ["--verbose"], "workingDir": "/app", "wrapped": true,
            "env": [{"name": "MODEL", "value": "small"},
                {"name": "TOKEN", "valueFrom": {"secretKeyRef": {"name": "keys", "key": "token", "optional": true}}},
                {"name": "NODE", "valueFrom": {"fieldRef": {"fieldPath": "spec.nodeName"}}}],
            "envFrom": [{"prefix": "X_", "configMapRef": {"name": "settings"}}],
            "ports": [{"name": "page", "containerPort": 9000}, {"containerPort": 9001, "protocol": "UDP"}],
            "resources": {"requests": {"cpu": "500m", "memory": "1Gi"}, "limits": {"memory": "2Gi"}},
            "volumeMounts": [{"name": "models", "mountPath": "/models", "subPath": "llm", "readOnly": true},
                {"name": "scratch", "mountPath": "/tmp"}],
            "securityContext": {"runAsUser": 1000, "readOnlyRootFilesystem": false, "addCapabilities": ["NET_BIND_SERVICE"], "fsGroup": 2000},
        },
        "volumes": [{"name": "models", "persistentVolumeClaim": {"claimName": "models", "readOnly": true}},
            {"name": "scratch", "emptyDir": {"medium": "Memory", "sizeLimit": "1Gi"}},
            {"name": "weights", "image": {"reference": "registry.example.com/weights:7b"}},
            {"name": "all", "projected": {"sources": [{"secret": {"name": "keys", "items": [{"key": "a", "path": "b", "mode": 256}]}},
                {"serviceAccountToken": {"audience": "vault", "path": "token", "expirationSeconds": 7200}}]}}],
        "gpu": {"count": 2, "nodeSelector": {"nvidia.com/gpu.product": "H100"}, "tolerations": [{"key": "gpu", "operator": "Exists"}]},
        "placement": {
            "nodeSelector": {"kubernetes.io/arch": "amd64"},
            "tolerations": [{"key": "edge", "operator": "Equal", "value": "yes", "effect": "NoExecute", "tolerationSeconds": 60}],
            "topologySpread": [{"maxSkew": 1, "topologyKey": "kubernetes.io/hostname", "whenUnsatisfiable": "ScheduleAnyway"}],
            "priorityClassName": "high", "runtimeClassName": "nvidia", "schedulerName": "kai",
        },
        "serviceAccountName": "llm", "imagePullSecrets": [{"name": "registry"}],
        "podMetadata": {"labels": {"team": "search"}, "annotations": {"note": "x"}},
        "endpoint": {}, "shutdown": {"grace": "1500ms"},
    });
    insta::assert_yaml_snapshot!(Asked::of(everything).pod());
}

#[test]
fn an_alternative_takes_the_place_of_the_gpu_alone() {
    let value = json!({
        "container": {"image": "i", "resources": {"requests": {"cpu": "1", "memory": "1Gi"}, "limits": {"memory": "1Gi"}}},
        "gpu": {"nodeSelector": {"gpu": "h100"}, "alternatives": [
            {"count": 1, "resource": "amd.com/gpu", "nodeSelector": {"gpu": "mi300"}},
            {"cpu": "4", "memory": "16Gi", "tolerations": [{"key": "big", "operator": "Exists"}]}]},
        "placement": {"nodeSelector": {"zone": "a"}},
    });
    let mut asked = Asked::of(value);
    let mut seen = Vec::new();
    for alternative in 0..4 {
        asked.alternative = alternative;
        let pod = asked.pod();
        assert_eq!(pod["metadata"]["annotations"]["kontrol.dev/alternative"], alternative.to_string());
        seen.push(json!([
            widget_of(&pod)["resources"],
            pod["spec"]["nodeSelector"],
            pod["spec"]["tolerations"]
        ]));
    }
    assert_eq!(
        seen[0],
        json!([
        {"requests": {"cpu": "1", "memory": "1Gi", "nvidia.com/gpu": "1"}, "limits": {"memory": "1Gi", "nvidia.com/gpu": "1"}},
        {"zone": "a", "gpu": "h100"}, [{"key": "nvidia.com/gpu", "operator": "Exists"}]])
    );
    assert_eq!(
        seen[1],
        json!([
        {"requests": {"cpu": "1", "memory": "1Gi", "amd.com/gpu": "1"}, "limits": {"memory": "1Gi", "amd.com/gpu": "1"}},
        {"zone": "a", "gpu": "mi300"}, [{"key": "amd.com/gpu", "operator": "Exists"}]])
    );
    assert_eq!(
        seen[2],
        json!([
        {"requests": {"cpu": "4", "memory": "16Gi"}, "limits": {"memory": "16Gi"}},
        {"zone": "a"}, [{"key": "big", "operator": "Exists"}]])
    );
    assert_eq!(seen[3], seen[0], "one that is no more there is the declared placement");
}

#[test]
fn a_node_to_avoid_is_in_none_of_the_ways_to_fit() {
    let mut asked = Asked::of(json!({
        "container": {"image": "i"},
        "placement": {"affinity": {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [
            {"matchExpressions": [{"key": "zone", "operator": "In", "values": ["a"]}]},
            {"matchFields": [{"key": "metadata.name", "operator": "In", "values": ["n9"]}]}]}}}},
    }));
    asked.avoid = vec!["n1".into(), "n2".into()];
    let not = |node: &str| json!({"key": "metadata.name", "operator": "NotIn", "values": [node]});
    let terms = asked.pod()["spec"]["affinity"]["nodeAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"]
        ["nodeSelectorTerms"].clone();
    assert_eq!(terms[0]["matchFields"], json!([not("n1"), not("n2")]));
    assert_eq!(terms[1]["matchFields"].as_array().unwrap().len(), 3);
    asked.spec.placement = None;
    let terms = asked.pod()["spec"]["affinity"]["nodeAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"]
        ["nodeSelectorTerms"].clone();
    assert_eq!(terms, json!([{"matchFields": [not("n1"), not("n2")]}]));
    asked.avoid.clear();
    assert_eq!(asked.pod()["spec"]["affinity"], Value::Null);
}

#[test]
fn a_node_that_it_should_keep_away_from_is_a_wish_beside_those_of_the_manifest() {
    let wish =
        json!({"weight": 1, "preference": {"matchExpressions": [{"key": "fast", "operator": "Exists"}]}});
    let mut asked = Asked::of(json!({
        "container": {"image": "i"},
        "placement": {"affinity": {"nodeAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": [wish]}}},
    }));
    asked.rather_not = vec!["n1".into()];
    let not = json!({"matchFields": [{"key": "metadata.name", "operator": "NotIn", "values": ["n1"]}]});
    let affinity = asked.pod()["spec"]["affinity"]["nodeAffinity"].clone();
    assert_eq!(
        affinity,
        json!({"preferredDuringSchedulingIgnoredDuringExecution": [wish, {"weight": 100, "preference": not}]})
    );
}

#[test]
fn the_kubelet_restarts_only_a_widget_whose_end_concerns_nobody_else() {
    let policy = |more: Value, strategy| {
        let mut asked = Asked::of(container(json!({"command": ["w"]})));
        let mut value = serde_json::to_value(&asked.spec).unwrap();
        value.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        asked.spec = spec(value);
        asked.strategy = strategy;
        asked.pod()["spec"]["restartPolicy"].clone()
    };
    let wrapped = json!({"container": {"image": "i", "command": ["w"], "wrapped": true}});
    assert_eq!(policy(json!({}), Strategy::OneForOne), "Always");
    assert_eq!(policy(json!({}), Strategy::OneForAll), "Never");
    assert_eq!(policy(json!({}), Strategy::RestForOne), "Never");
    assert_eq!(policy(json!({"restart": "OnFailure"}), Strategy::OneForOne), "Never");
    assert_eq!(policy(json!({"restart": "Never"}), Strategy::OneForOne), "Never");
    assert_eq!(policy(wrapped, Strategy::OneForOne), "Never");
}

#[test]
fn the_grace_is_whole_seconds_and_never_none() {
    let grace = |shutdown: Value, wrapped: bool| {
        let mut value = container(json!({"command": ["w"], "wrapped": wrapped}));
        value["shutdown"] = shutdown;
        Asked::of(value).pod()["spec"]["terminationGracePeriodSeconds"].clone()
    };
    assert_eq!(grace(json!({}), false), 10);
    assert_eq!(grace(json!({"grace": "1500ms"}), false), 2);
    assert_eq!(grace(json!({"grace": "0s"}), false), 1);
    assert_eq!(grace(json!({"policy": "Brutal"}), false), 1);
    assert_eq!(grace(json!({"grace": "30s"}), true), 31, "the shim is first");
    assert_eq!(grace(json!({"policy": "Brutal"}), true), 1);
}

#[test]
fn an_image_that_needs_root_says_so_and_only_its_own_container_is_root() {
    let pod = Asked::of(container(json!({"securityContext": {"runAsNonRoot": false}}))).pod();
    assert_eq!(pod["spec"]["securityContext"]["runAsNonRoot"], Value::Null);
    let security = &widget_of(&pod)["securityContext"];
    assert_eq!((&security["runAsNonRoot"], &security["runAsUser"]), (&json!(false), &Value::Null));
    assert_eq!(pod["spec"]["initContainers"][0]["securityContext"]["runAsNonRoot"], true);
}

#[test]
fn a_variable_of_the_widget_may_be_made_of_ours_and_replace_port() {
    let mut value = container(
        json!({"env": [{"name": "PORT", "value": "9"}, {"name": "ME", "value": "$(KONTROL_WIDGET)"}]}),
    );
    value["endpoint"] = json!({"port": 9});
    let pod = Asked::of(value).pod();
    let names: Vec<_> =
        widget_of(&pod)["env"].as_array().unwrap().iter().map(|v| v["name"].as_str().unwrap()).collect();
    assert_eq!(names.iter().filter(|name| **name == "PORT").count(), 1);
    assert!(names.iter().position(|n| *n == "KONTROL_WIDGET") < names.iter().position(|n| *n == "ME"));
}

#[test]
fn a_service_finds_each_replica_before_it_is_ready() {
    let mut value = container(json!({"ports": [{"containerPort": 9001, "protocol": "UDP"}]}));
    value["endpoint"] = json!({});
    insta::assert_yaml_snapshot!(service(&id("rag", "llm"), &owner("rag-llm"), &spec(value)));
}

#[test]
fn a_budget_says_in_numbers_how_many_must_stay() {
    let stay = |disruption: Value, desired: u32| {
        let mut value = container(json!({}));
        if !disruption.is_null() {
            value["disruption"] = disruption;
        }
        let (id, owner, spec) = (id("rag", "llm"), owner("rag-llm"), spec(value));
        let budget = disruption_budget(&BudgetInput { id: &id, owner: &owner, spec: &spec, desired })?;
        Some(serde_json::to_value(budget).unwrap()["spec"]["minAvailable"].as_i64().unwrap())
    };
    assert_eq!(stay(Value::Null, 1), None, "one alone is not protected, or its node could never be emptied");
    assert_eq!(stay(Value::Null, 0), None);
    assert_eq!(stay(Value::Null, 5), Some(4));
    assert_eq!(stay(json!({"maxUnavailable": "50%"}), 5), Some(3));
    assert_eq!(stay(json!({"maxUnavailable": 0}), 1), Some(1));
    assert_eq!(stay(json!({"minAvailable": "50%"}), 5), Some(3));
    assert_eq!(stay(json!({"minAvailable": 9}), 5), Some(5));
    assert_eq!(stay(json!({"maxUnavailable": 9}), 5), None);
}

#[test]
fn a_child_leaves_its_number_to_whoever_scales() {
    let mut value = container(json!({}));
    value["replicas"] = json!(3);
    value["restart"] = json!("Never");
    value["significant"] = json!(true);
    let group = Owner { kind: "WidgetGroup", name: "rag".to_owned(), uid: "g".to_owned() };
    let child = child_widget(&id("rag", "llm"), &group, &spec(value));
    assert_eq!(child["metadata"]["name"], "rag-llm");
    assert_eq!(child["metadata"]["annotations"]["kontrol.dev/template-replicas"], "3");
    assert_eq!(child["metadata"]["ownerReferences"][0]["controller"], true);
    assert_eq!((&child["spec"]["replicas"], &child["spec"]["significant"]), (&Value::Null, &Value::Null));
    let read: api::WidgetSpec = serde_json::from_value(child["spec"].clone()).unwrap();
    assert_eq!(read.restart, api::Restart::Never);
}

#[test]
fn a_revision_is_enough_to_render_from_again() {
    let spec = spec(container(json!({"env": [{"name": "A", "value": "1"}]})));
    let (id, owner) = (id("rag", "llm"), owner("rag-llm"));
    let revision = controller_revision(&RevisionInput {
        id: &id,
        object: "rag-llm",
        owner: &owner,
        revision: Revision(0xabc),
        number: 7,
        spec: &spec,
    });
    assert_eq!(revision.metadata.name.as_deref(), Some("rag-llm-0000000000000abc"));
    let read: api::WidgetSpec = serde_json::from_value(revision.data.0).unwrap();
    assert_eq!(read, spec);
}

#[test]
fn a_hub_is_one_pod_on_a_claim_that_nothing_owns() {
    let (settings, owner) =
        (settings(), Owner { kind: "MessageBus", name: "orders".to_owned(), uid: "b".to_owned() });
    let spec: api::Embedded = serde_json::from_value(json!({
        "imagePullSecrets": [{"name": "registry"}], "nodeSelector": {"disk": "fast"},
        "tolerations": [{"key": "storage", "operator": "Exists", "effect": "NoSchedule"}],
        "priorityClassName": "high", "resources": {"requests": {"cpu": 1}, "limits": {"memory": "2Gi"}},
    }))
    .unwrap();
    let input = HubInput {
        settings: &settings,
        spec: &spec,
        namespace: "shop",
        bus: "orders",
        owner: Some(&owner),
        incarnation: 4,
    };
    let storage: api::Storage =
        serde_json::from_value(json!({"size": "1Gi", "segmentSize": "16Mi"})).unwrap();
    insta::assert_yaml_snapshot!(json!([
        hub_pod(&input),
        hub_claim("shop", "orders", &storage, true),
        hub_service("shop", "orders", Some(&owner)),
    ]));
}

#[test]
fn a_long_name_of_a_bus_keeps_within_what_a_service_may_have() {
    let (one, other) = (names::hub(&"b".repeat(63)), names::hub(&format!("{}c", "b".repeat(62))));
    assert!(one.len() <= 63 && one != other);
    assert_eq!(names::hub("orders"), "kontrol-hub-orders");
}
