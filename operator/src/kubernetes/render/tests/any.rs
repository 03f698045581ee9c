//! What holds of the pod of any widget that the API takes.

use std::collections::BTreeSet;

use kontrol_core::spec::Strategy as Restarts;
use proptest::{prelude::*, strategy::Strategy};

use super::*;

fn name() -> impl Strategy<Value = String> {
    "[a-z][a-z0-9]{0,6}"
}

fn security() -> impl Strategy<Value = Value> {
    let user = prop::option::of(prop_oneof![Just(0_i64), 1..100_000_i64]);
    let capability = prop::sample::subsequence(vec!["NET_BIND_SERVICE", "NET_ADMIN"], 0..3);
    (user, prop::option::of(any::<bool>()), prop::option::of(any::<bool>()), capability).prop_map(
        |(user, non_root, read_only, capabilities)| {
            let non_root = if user == Some(0) { Some(false) } else { non_root };
            let mut value = json!({"addCapabilities": capabilities});
            for (field, given) in [
                ("runAsUser", user.map(Value::from)),
                ("runAsNonRoot", non_root.map(Value::from)),
                ("readOnlyRootFilesystem", read_only.map(Value::from)),
            ] {
                if let Some(given) = given {
                    value[field] = given;
                }
            }
            value
        },
    )
}

fn container() -> impl Strategy<Value = Value> {
    let env = prop::collection::btree_map("[A-Z]{1,3}|PORT", "[a-z]{0,3}", 0..4);
    let ports = prop::collection::btree_set(1_u16..7400, 0..3);
    let mounts = prop::collection::btree_map("/(tmp|[a-z]{1,4})", name(), 0..3);
    (any::<bool>(), env, ports, mounts, prop::option::of(security())).prop_map(
        |(wrapped, env, ports, mounts, security)| {
            let env: Vec<_> = env.iter().map(|(name, value)| json!({"name": name, "value": value})).collect();
            let ports: Vec<_> = ports.iter().map(|port| json!({"containerPort": port})).collect();
            let mounted: Vec<_> =
                mounts.iter().map(|(path, name)| json!({"name": name, "mountPath": path})).collect();
            let volumes: BTreeSet<_> = mounts.values().collect();
            let volumes: Vec<_> = volumes.iter().map(|name| json!({"name": name, "emptyDir": {}})).collect();
            let mut container = json!({
                "image": "i", "command": ["w"], "wrapped": wrapped, "env": env, "ports": ports, "volumeMounts": mounted,
            });
            if let Some(security) = security {
                container["securityContext"] = security;
            }
            json!({"container": container, "volumes": volumes})
        },
    )
}

fn asked() -> impl Strategy<Value = Asked> {
    let strategy = prop::sample::select(vec![Restarts::OneForOne, Restarts::OneForAll, Restarts::RestForOne]);
    let restart = prop::sample::select(vec!["Always", "OnFailure", "Never"]);
    let alternatives = prop::collection::vec((prop::option::of(1_u32..9), "[1-9]"), 0..9);
    let avoid = prop::collection::vec(name(), 0..3);
    let endpoint = prop::option::of(prop::option::of(1_u16..7400));
    (container(), strategy, restart, prop::option::of(alternatives), 0_u32..10, avoid, endpoint).prop_map(
        |(mut value, strategy, restart, alternatives, alternative, avoid, endpoint)| {
            value["restart"] = json!(restart);
            if let Some(alternatives) = alternatives {
                let one = |(count, cpu): &(Option<u32>, String)| match count {
                    Some(count) => json!({"count": count}),
                    None => json!({"cpu": cpu}),
                };
                value["gpu"] = json!({"alternatives": alternatives.iter().map(one).collect::<Vec<_>>()});
            }
            if let Some(port) = endpoint {
                value["endpoint"] = port.map_or(json!({}), |port| json!({"port": port}));
            }
            let avoid = avoid.iter().map(|node| Arc::from(node.as_str())).collect();
            Asked { spec: spec(value), alternative, avoid, rather_not: Vec::new(), strategy }
        },
    )
}

fn all<'a>(pod: &'a Value, field: &str) -> Vec<&'a Value> {
    pod["spec"][field].as_array().map(|items| items.iter().collect()).unwrap_or_default()
}

fn containers(pod: &Value) -> Vec<&Value> {
    all(pod, "initContainers").into_iter().chain(all(pod, "containers")).collect()
}

/// What the Pod Security Standard `restricted` refuses of a pod.
fn beyond_restricted(pod: &Value) -> Vec<String> {
    let mut found = Vec::new();
    let mut say = |holds: bool, what: String| {
        if !holds {
            found.push(what);
        }
    };
    for field in ["hostNetwork", "hostPID", "hostIPC"] {
        say(pod["spec"][field].is_null(), field.to_owned());
    }
    let whole = &pod["spec"]["securityContext"];
    for volume in all(pod, "volumes") {
        let kinds = [
            "configMap",
            "csi",
            "downwardAPI",
            "emptyDir",
            "ephemeral",
            "image",
            "persistentVolumeClaim",
            "projected",
            "secret",
        ];
        let allowed = kinds.iter().any(|kind| volume[kind].is_object());
        say(allowed && volume["hostPath"].is_null(), format!("volume {volume}"));
    }
    for container in containers(pod) {
        let (name, security) = (&container["name"], &container["securityContext"]);
        say(security["privileged"] != true, format!("{name} privileged"));
        say(security["allowPrivilegeEscalation"] == false, format!("{name} escalates"));
        say(security["capabilities"]["drop"] == json!(["ALL"]), format!("{name} keeps capabilities"));
        let added = security["capabilities"]["add"].as_array().cloned().unwrap_or_default();
        say(added.iter().all(|added| added == "NET_BIND_SERVICE"), format!("{name} adds capabilities"));
        let non_root = if security["runAsNonRoot"].is_null() {
            &whole["runAsNonRoot"]
        } else {
            &security["runAsNonRoot"]
        };
        say(non_root == true && security["runAsUser"] != 0, format!("{name} root"));
        let seccomp = if security["seccompProfile"].is_null() {
            &whole["seccompProfile"]
        } else {
            &security["seccompProfile"]
        };
        say(seccomp["type"] == "RuntimeDefault", format!("{name} seccomp"));
        say(
            container["ports"].as_array().into_iter().flatten().all(|port| port["hostPort"].is_null()),
            format!("{name} host port"),
        );
    }
    found
}

fn is_label(text: &str) -> bool {
    (1..=63).contains(&text.len())
        && text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
        && !text.starts_with('-')
        && !text.ends_with('-')
}

fn twice<'a>(values: impl Iterator<Item = &'a Value>) -> Option<String> {
    let mut seen = BTreeSet::new();
    values.map(ToString::to_string).find(|value| !seen.insert(value.clone()))
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_pod_is_restricted_unless_its_manifest_says_otherwise(asked in asked()) {
        let pod = asked.pod();
        let security = asked.spec.container.as_ref().unwrap().security_context.clone().unwrap_or_default();
        let otherwise = security.run_as_non_root == Some(false)
            || security.add_capabilities.iter().any(|capability| capability != "NET_BIND_SERVICE");
        let beyond = beyond_restricted(&pod);
        prop_assert!(otherwise || beyond.is_empty(), "{:?}", beyond);
        prop_assert!(beyond.iter().all(|what| what.starts_with("\"widget\"")), "only the widget's own: {:?}", beyond);
    }

    #[test]
    fn nothing_in_a_pod_has_the_name_of_another(asked in asked()) {
        let pod = asked.pod();
        prop_assert_eq!(twice(containers(&pod).into_iter().map(|c| &c["name"])), None);
        prop_assert_eq!(twice(all(&pod, "volumes").into_iter().map(|v| &v["name"])), None);
        for container in containers(&pod) {
            let items = |field: &str| container[field].as_array().cloned().unwrap_or_default();
            prop_assert_eq!(twice(items("env").iter().map(|e| &e["name"])), None);
            prop_assert_eq!(twice(items("volumeMounts").iter().map(|m| &m["mountPath"])), None);
            prop_assert_eq!(twice(items("ports").iter().filter(|p| !p["name"].is_null()).map(|p| &p["name"])), None);
            for mount in items("volumeMounts") {
                let there = all(&pod, "volumes").into_iter().any(|volume| volume["name"] == mount["name"]);
                prop_assert!(there, "{}", mount);
            }
        }
    }

    #[test]
    fn names_and_labels_are_such_as_the_api_server_takes(asked in asked()) {
        let pod = asked.pod();
        prop_assert!(is_label(pod["metadata"]["name"].as_str().unwrap()));
        prop_assert!(is_label(pod["spec"]["hostname"].as_str().unwrap()));
        for (_, value) in pod["metadata"]["labels"].as_object().unwrap() {
            let value = value.as_str().unwrap();
            prop_assert!(value.len() <= 63, "{}", value);
        }
        prop_assert!(pod["spec"]["terminationGracePeriodSeconds"].as_i64().unwrap() >= 1);
        prop_assert_eq!(&pod["spec"]["automountServiceAccountToken"], &json!(false));
    }

    #[test]
    fn only_the_sidecar_has_a_token(asked in asked()) {
        let pod = asked.pod();
        for container in containers(&pod).into_iter().filter(|container| container["name"] != "kontrol-sidecar") {
            let mounts = container["volumeMounts"].as_array().cloned().unwrap_or_default();
            prop_assert!(mounts.iter().all(|mount| mount["name"] != "kontrol-token" && mount["name"] != "kontrol-state"));
        }
    }

    #[test]
    fn the_same_input_gives_the_same_pod(asked in asked()) {
        prop_assert_eq!(asked.pod().to_string(), asked.pod().to_string());
    }
}
