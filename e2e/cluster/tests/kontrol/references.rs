//! What a pod takes from others by their names: keys as variables and as files, and a folder of its own.

use std::{collections::BTreeMap, fs, path::PathBuf};

use k8s_openapi::api::core::v1::Pod;
use kontrol_e2e_cluster::lab::{
    Lab,
    kontrol::{object, process_of, restarts, test_widget},
};
use serde_json::{Value, json};

/// An object with these keys.
fn keys(kind: &str, name: &str, keys: &Value) -> Value {
    let field = if kind == "Secret" { "stringData" } else { "data" };
    json!({"apiVersion": "v1", "kind": kind, "metadata": {"name": name}, field: keys})
}

/// The test widget's container with more fields.
fn container(further: &Value) -> Value {
    let mut container = test_widget(&[]);
    for (field, value) in further.as_object().unwrap() {
        container[field] = value.clone();
    }
    container
}

/// What the process of the widget's container sees: a path of its own, seen from this machine.
fn path(lab: &Lab, pod: &Pod, path: &str) -> PathBuf {
    let process = process_of(lab.cluster(), pod, "widget").unwrap();
    format!("/proc/{process}/root{path}").into()
}

/// The environment of that process.
fn environment(lab: &Lab, pod: &Pod) -> BTreeMap<String, String> {
    let process = process_of(lab.cluster(), pod, "widget").unwrap();
    let text = fs::read_to_string(format!("/proc/{process}/environ")).unwrap();
    let pairs = text.split('\0').filter_map(|pair| pair.split_once('='));
    pairs.map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
}

#[tokio::test]
async fn a_container_sees_the_keys_it_refers_to_and_a_folder_that_outlives_it() {
    let lab = Lab::with_kontrol("references").await.unwrap();
    lab.apply(&keys("ConfigMap", "settings", &json!({"model": "small", "unused": "x"}))).unwrap();
    lab.apply(&keys("Secret", "keys", &json!({"token": "s3cret", "pem": "-----\n"}))).unwrap();
    lab.apply(&keys("Secret", "all", &json!({"USER": "reader"}))).unwrap();
    let container = container(&json!({
        "env": [
            {"name": "MODEL", "valueFrom": {"configMapKeyRef": {"name": "settings", "key": "model"}}},
            {"name": "TOKEN", "valueFrom": {"secretKeyRef": {"name": "keys", "key": "token"}}},
            {"name": "NODE", "valueFrom": {"fieldRef": {"fieldPath": "spec.nodeName"}}},
        ],
        "envFrom": [{"prefix": "DB_", "secretRef": {"name": "all"}}],
        "volumeMounts": [
            {"name": "keys", "mountPath": "/keys", "readOnly": true},
            {"name": "scratch", "mountPath": "/scratch"},
        ],
    }));
    let volumes =
        json!([{"name": "keys", "secret": {"secretName": "keys"}}, {"name": "scratch", "emptyDir": {}}]);
    lab.apply(&object("Widget", "reads", &json!({"container": container, "volumes": volumes}))).unwrap();
    lab.until_ready("Widget", "reads").await.unwrap();
    let pod = lab.until_pods("reads", "reads", 1).await.unwrap().remove(0);

    let seen = environment(&lab, &pod);
    let node = pod.spec.as_ref().unwrap().node_name.clone().unwrap();
    for (name, value) in [("MODEL", "small"), ("TOKEN", "s3cret"), ("NODE", &*node), ("DB_USER", "reader")] {
        assert_eq!(seen.get(name).map(String::as_str), Some(value), "{name}");
    }
    assert!(!seen.values().any(|value| value == "x"), "a key that nothing refers to is not given");
    let read = |file: &str| fs::read_to_string(path(&lab, &pod, file)).unwrap();
    assert_eq!((read("/keys/token").as_str(), read("/keys/pem").as_str()), ("s3cret", "-----\n"));
    assert!(fs::write(path(&lab, &pod, "/keys/token"), "other").is_err(), "it is mounted read-only");
    assert!(fs::write(path(&lab, &pod, "/note"), "kept").is_err(), "the root is read-only");

    // The container ends and comes back in the same pod: its folder is as it was.
    fs::write(path(&lab, &pod, "/scratch/note"), "kept").unwrap();
    lab.signal(&pod, "widget", "SIGKILL").unwrap();
    lab.wait("the container to run again", async || {
        let pods = lab.until_pods("reads", "reads", 1).await?;
        let count = restarts(&pods[0], "widget");
        let same = pods[0].metadata.uid == pod.metadata.uid;
        Ok(if count == 1 && same { Ok(()) } else { Err((count, same)) })
    })
    .await
    .unwrap();
    let pod = lab.until_pods("reads", "reads", 1).await.unwrap().remove(0);
    assert_eq!(fs::read_to_string(path(&lab, &pod, "/scratch/note")).unwrap(), "kept");
}

#[tokio::test]
async fn a_secret_that_is_not_there_is_named_and_waited_for() {
    let lab = Lab::with_kontrol("absent").await.unwrap();
    let variable =
        json!([{"name": "TOKEN", "valueFrom": {"secretKeyRef": {"name": "late-keys", "key": "token"}}}]);
    let variable = json!({"container": container(&json!({"env": variable}))});
    lab.apply(&object("Widget", "variable", &variable)).unwrap();
    let mount = container(&json!({"volumeMounts": [{"name": "keys", "mountPath": "/keys"}]}));
    let volumes = json!([{"name": "keys", "secret": {"secretName": "late-keys"}}]);
    lab.apply(&object("Widget", "file", &json!({"container": mount, "volumes": volumes}))).unwrap();

    lab.until_object("Widget", "variable", "its status to name the Secret", |widget| {
        let said = widget["status"]["instances"][0]["message"].as_str().unwrap_or_default();
        said.contains("CreateContainerConfigError") && said.contains("late-keys")
    })
    .await
    .unwrap();
    // A pod whose volume is not there says nothing in its status: its kubelet does, in an event.
    lab.wait("an event to name the Secret", async || {
        let events = lab.events().await?;
        let named = |(reason, about, note): &(String, String, String)| {
            reason == "FailedMount" && about == "Pod/file-0-1" && note.contains("late-keys")
        };
        Ok(if events.iter().any(named) { Ok(()) } else { Err(events) })
    })
    .await
    .unwrap();
    for name in ["variable", "file"] {
        assert_eq!(lab.condition("Widget", name, "Ready").await.unwrap().status, "False", "{name}");
    }

    lab.apply(&keys("Secret", "late-keys", &json!({"token": "s3cret"}))).unwrap();
    for name in ["variable", "file"] {
        let widget = lab.until_ready("Widget", name).await.unwrap();
        assert_eq!(
            widget["status"]["instances"][0]["name"],
            format!("{name}-0-1"),
            "the first pod has waited"
        );
    }
    let variable = lab.until_pods("variable", "variable", 1).await.unwrap().remove(0);
    assert_eq!(environment(&lab, &variable)["TOKEN"], "s3cret");
    let file = lab.until_pods("file", "file", 1).await.unwrap().remove(0);
    assert_eq!(fs::read_to_string(path(&lab, &file, "/keys/token")).unwrap(), "s3cret");
}
