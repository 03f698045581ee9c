//! Pods that look like ours.

use super::*;

fn labels(ordinal: &str, incarnation: &str) -> Value {
    json!({
        "kontrol.dev/group": "llm", "kontrol.dev/widget": "llm", "kontrol.dev/ordinal": ordinal,
        "kontrol.dev/incarnation": incarnation, "kontrol.dev/epoch": "1",
    })
}

fn owner(api: &str, kind: &str, name: &str, uid: &str) -> Value {
    json!([{"apiVersion": api, "kind": kind, "name": name, "uid": uid, "controller": true}])
}

const OURS: &str = "kontrol.dev/v1alpha1";

/// Nothing was asked about a pod.
fn in_peace(cluster: &Cluster, name: &str) {
    let about = cluster.asked.iter().find(|asked| asked.kind == Kind::Pod && asked.name == name);
    assert_eq!(about, None);
}

fn is_up(cluster: &mut Cluster) {
    cluster.run();
    cluster.ready("llm-0-1");
    cluster.run();
    assert_eq!(cluster.condition(Kind::Widget, "llm", "Ready")["status"], "True");
}

#[test]
fn a_pod_with_our_labels_and_another_owner_or_none_is_left_in_peace() {
    let owners = [
        Value::Null,
        owner("apps/v1", "ReplicaSet", "llm", "u-llm"),
        owner("other.dev/v1", "Widget", "llm", "u-llm"),
        owner(OURS, "Widget", "other", "u-other"),
        owner(OURS, "WidgetGroup", "llm", "u-llm"),
    ];
    for owner in owners {
        for begins in [true, false] {
            let mut cluster = lone();
            if !begins {
                is_up(&mut cluster);
            }
            for (name, ordinal) in [("copy", "0"), ("llm-7-9", "7")] {
                let metadata = json!({"labels": labels(ordinal, "9"), "ownerReferences": owner});
                cluster.put(Kind::Pod, name, json!({"metadata": metadata}));
            }
            is_up(&mut cluster);
            let widget = (Kind::Widget, "default".to_owned(), "llm".to_owned());
            assert_eq!(cluster.objects[&widget]["status"]["replicas"], 1);
            cluster.end("llm-0-1", 1);
            cluster.pass(Duration::from_secs(30));
            assert_eq!(cluster.names(Kind::Pod), ["copy", "llm-0-2", "llm-7-9"], "{owner}");
            in_peace(&cluster, "copy");
            in_peace(&cluster, "llm-7-9");
        }
    }
}

#[test]
fn an_absurd_number_in_a_label_does_no_harm() {
    for (ordinal, incarnation) in
        [("4000000000", "1"), ("1000", "1"), ("0", "18446744073709551615"), ("-1", "x")]
    {
        let mut cluster = Cluster::new();
        let owner = owner(OURS, "Widget", "llm", "u-llm");
        let metadata = json!({"labels": labels(ordinal, incarnation), "ownerReferences": owner});
        cluster.put(Kind::Pod, "absurd", json!({"metadata": metadata, "status": {"phase": "Succeeded"}}));
        cluster.put(Kind::Widget, "llm", json!({"spec": {"container": container()}}));
        cluster.pass(Duration::from_secs(30));
        let widget = &cluster.objects[&(Kind::Widget, "default".to_owned(), "llm".to_owned())];
        let text = widget.to_string();
        assert!(text.len() < 20_000, "{}", text.len());
        let made = cluster.asked_for(Verb::Create, Kind::Pod);
        assert_eq!(made.first().map(|made| made.name.as_str()), Some("llm-0-1"));
        in_peace(&cluster, "absurd");
    }
}

#[test]
fn the_pod_of_a_widget_that_was_made_again_counts_until_it_is_gone() {
    let mut cluster = lone();
    is_up(&mut cluster);
    make_again(&mut cluster);
    assert_eq!(cluster.names(Kind::Pod), ["llm-0-1"], "nothing starts beside it");
    assert_eq!(cluster.state.subject("default", "llm-0-1", "u-llm-0-1"), None, "it gets no certificate");
    // The garbage collector comes.
    cluster.remove(Kind::Pod, "llm-0-1");
    cluster.pass(Duration::from_secs(10));
    assert_eq!(cluster.names(Kind::Pod), ["llm-0-2"]);
    assert_eq!(
        cluster.state.subject("default", "llm-0-2", "u-llm-0-2").as_deref(),
        Some("default/llm/llm/0")
    );
}

#[test]
fn a_pod_that_is_taken_from_its_widget_is_replaced_and_left_in_peace() {
    let mut cluster = lone();
    is_up(&mut cluster);
    cluster.asked.clear();
    cluster.put(Kind::Pod, "llm-0-1", json!({"metadata": {"ownerReferences": null}}));
    cluster.pass(Duration::from_secs(10));
    assert_eq!(cluster.names(Kind::Pod), ["llm-0-1", "llm-0-2"]);
    in_peace(&cluster, "llm-0-1");
}

#[test]
fn a_name_that_an_orphan_holds_is_said() {
    let mut cluster = Cluster::new();
    cluster.put(Kind::Pod, "llm-0-1", json!({"metadata": {"labels": labels("0", "1")}}));
    cluster.put(Kind::Widget, "llm", json!({"spec": {"container": container()}}));
    cluster.pass(Duration::from_secs(5));
    let said = cluster.status(Kind::Widget, "llm")["conditions"].to_string();
    assert!(said.contains("llm-0-1 already exists; where that one is not the widget's"), "{said}");
    cluster.remove(Kind::Pod, "llm-0-1");
    cluster.pass(Duration::from_secs(31));
    is_up(&mut cluster);
}
