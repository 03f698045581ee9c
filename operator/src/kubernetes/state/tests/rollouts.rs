use super::*;

fn several(replicas: u32, more: Value) -> Cluster {
    let mut cluster = Cluster::new();
    let mut spec = json!({
        "container": container(), "replicas": replicas, "intensity": {"maxRestarts": 1, "period": "10s"},
    });
    merge(&mut spec, &more);
    cluster.put(Kind::Widget, "llm", json!({"spec": spec}));
    cluster.run();
    for ordinal in 0..replicas {
        cluster.ready(&format!("llm-{ordinal}-1"));
        cluster.run();
    }
    cluster
}

fn image(cluster: &mut Cluster, image: &str) {
    let generation =
        cluster.objects[&(Kind::Widget, "default".into(), "llm".into())]["metadata"]["generation"]
            .as_i64()
            .unwrap();
    let edit = json!({"metadata": {"generation": generation + 1}, "spec": {"container": {"image": image}}});
    cluster.put(Kind::Widget, "llm", edit);
    cluster.run();
}

fn rollout(cluster: &Cluster) -> Value {
    cluster.status(Kind::Widget, "llm")["rollout"].clone()
}

fn progressing(cluster: &Cluster) -> (String, String) {
    let condition = cluster.condition(Kind::Widget, "llm", "Progressing");
    let text = |name: &str| condition[name].as_str().unwrap_or_default().to_owned();
    (text("status"), text("reason"))
}

#[test]
fn a_revision_is_good_when_it_ran_well_for_as_long_as_ends_are_counted() {
    let mut cluster = several(2, json!({}));
    let first = rollout(&cluster);
    assert_eq!((first["state"].as_str(), first["updatedReplicas"].as_u64()), (Some("Complete"), Some(2)));
    assert_eq!(first["currentRevision"], first["updateRevision"]);
    assert_eq!(first["lastGoodRevision"], Value::Null);
    assert_eq!(progressing(&cluster), ("True".into(), "RolledOut".into()));
    cluster.pass(Duration::from_secs(11));
    assert_eq!(rollout(&cluster)["lastGoodRevision"], first["updateRevision"]);
    cluster.asked.clear();
    cluster.pass(Duration::from_mins(10));
    assert_eq!(cluster.asked, []);
}

#[test]
fn a_roll_out_says_where_it_comes_from_where_it_goes_and_how_far_it_is() {
    let mut cluster = several(2, json!({}));
    cluster.pass(Duration::from_secs(11));
    let old = rollout(&cluster)["updateRevision"].clone();
    image(&mut cluster, "example/llm:2");
    let under_way = rollout(&cluster);
    assert_eq!((&under_way["state"], &under_way["currentRevision"]), (&json!("Progressing"), &old));
    assert_eq!(under_way["lastGoodRevision"], old);
    assert_ne!(under_way["updateRevision"], old);
    assert_eq!(under_way["message"], "0 of 2 replicas have the new revision and are ready");
    assert_eq!(progressing(&cluster), ("True".into(), "RollingOut".into()));
    for pod in ["llm-1-2", "llm-0-2"] {
        cluster.ready(pod);
        cluster.run();
    }
    let done = rollout(&cluster);
    assert_eq!((&done["state"], done["updatedReplicas"].as_u64()), (&json!("Complete"), Some(2)));
    assert_eq!(done["currentRevision"], under_way["updateRevision"]);
    assert_eq!(cluster.status(Kind::Widget, "llm")["restarts"], 0, "a roll-out is no restart");
}

#[test]
fn a_roll_out_that_is_paused_says_so_though_the_plan_has_not_turned_to_it() {
    let mut cluster = several(1, json!({"rollout": {"paused": true}}));
    image(&mut cluster, "example/llm:2");
    let paused = rollout(&cluster);
    assert_eq!((&paused["state"], &paused["updatedReplicas"]), (&json!("Paused"), &json!(0)));
    assert_ne!(paused["currentRevision"], paused["updateRevision"]);
    assert_eq!(progressing(&cluster), ("True".into(), "Paused".into()));
}

#[test]
fn what_failed_says_why_and_that_the_last_good_revision_runs_again() {
    let mut cluster = several(2, json!({"rollout": {"progressDeadline": "1m"}}));
    cluster.pass(Duration::from_secs(11));
    let old = rollout(&cluster)["updateRevision"].clone();
    image(&mut cluster, "example/llm:2");
    for pod in ["llm-1-2", "llm-1-3"] {
        cluster.end(pod, 3);
        cluster.run();
    }
    let back = rollout(&cluster);
    assert_eq!((&back["state"], &back["updateRevision"]), (&json!("RollingBack"), &old));
    assert_eq!(cluster.names(Kind::Pod), ["llm-0-1", "llm-1-5"]);
    cluster.ready("llm-1-5");
    cluster.run();
    let back = rollout(&cluster);
    assert_eq!((&back["state"], &back["lastGoodRevision"]), (&json!("RolledBack"), &old));
    assert!(back["message"].as_str().unwrap().contains("exit code 3"), "{back}");
    assert_eq!(progressing(&cluster), ("False".into(), "Returned".into()));
    let stalled = cluster.condition(Kind::Widget, "llm", "Stalled");
    assert_eq!((&stalled["status"], &stalled["reason"]), (&json!("True"), &json!("Returned")));
    assert_eq!(cluster.status(Kind::Widget, "llm")["restarts"], 2);
}

#[test]
fn a_lone_widget_counts_its_replicas() {
    let mut cluster = several(1, json!({}));
    cluster.put(Kind::Widget, "llm", json!({"spec": {"replicas": 2}}));
    cluster.run();
    let ready = cluster.condition(Kind::Widget, "llm", "Ready");
    assert_eq!(ready["message"], "1 of 2 replicas are ready");
    assert_eq!(ready["status"], "False");
}

#[test]
fn a_restart_in_place_is_counted_and_is_the_last_end() {
    let mut cluster = several(1, json!({}));
    let again = json!({
        "name": "widget", "restartCount": 1, "state": {"running": {"startedAt": "2026-11-18T11:06:43Z"}},
        "lastState": {"terminated": {"exitCode": 7, "finishedAt": "2026-11-18T11:06:42Z"}},
    });
    cluster.put(Kind::Pod, "llm-0-1", json!({"status": {"containerStatuses": [again]}}));
    cluster.run();
    let status = cluster.status(Kind::Widget, "llm");
    assert_eq!((&status["restarts"], &status["instances"][0]["restarts"]), (&json!(1), &json!(1)));
    assert_eq!((&status["lastEnd"]["reason"], &status["lastEnd"]["exitCode"]), (&json!("Exited"), &json!(7)));
    cluster.put(Kind::Widget, "llm", json!({"spec": {"replicas": 0}}));
    cluster.run();
    cluster.put(Kind::Widget, "llm", json!({"spec": {"replicas": 1}}));
    cluster.run();
    assert_eq!(cluster.status(Kind::Widget, "llm")["restarts"], 1, "scaling is no restart");
    cluster.ready("llm-0-2");
    cluster.run();
    cluster.remove(Kind::Pod, "llm-0-2");
    cluster.run();
    assert_eq!(cluster.status(Kind::Widget, "llm")["restarts"], 2);
}

#[test]
fn a_process_that_no_sidecar_speaks_for_is_not_ready() {
    let mut cluster = lone();
    cluster.run();
    let running = json!({"name": "widget", "state": {"running": {"startedAt": "2026-11-18T11:06:41Z"}}});
    let silent = json!({
        "spec": {"nodeName": "node0"},
        "status": {"phase": "Running", "containerStatuses": [running], "conditions": [{"type": "Ready", "status": "False"}]},
    });
    cluster.put(Kind::Pod, "llm-0-1", silent);
    cluster.run();
    assert_eq!(cluster.condition(Kind::Widget, "llm", "Ready")["status"], "False");
    assert_eq!(cluster.status(Kind::Widget, "llm")["readyReplicas"], 0);
    // It is not waited for longer than for any start.
    cluster.pass(Duration::from_secs(61));
    assert_eq!(cluster.status(Kind::Widget, "llm")["lastEnd"]["reason"], "StartTimeout");
}

#[test]
fn one_that_is_started_when_it_runs_is_started_without_its_sidecar_and_not_ready() {
    let mut cluster = Cluster::new();
    cluster.put(
        Kind::Widget,
        "llm",
        json!({"spec": {"container": container(), "start": {"when": "Running"}}}),
    );
    cluster.run();
    let running = json!({"name": "widget", "state": {"running": {"startedAt": "2026-11-18T11:06:41Z"}}});
    let status = json!({"phase": "Running", "containerStatuses": [running], "conditions": []});
    cluster.put(Kind::Pod, "llm-0-1", json!({"spec": {"nodeName": "node0"}, "status": status}));
    cluster.pass(Duration::from_mins(5));
    assert_eq!(cluster.names(Kind::Pod), ["llm-0-1"]);
    assert_eq!(cluster.condition(Kind::Widget, "llm", "Ready")["status"], "False");
}

#[test]
fn one_with_an_identity_of_its_own_has_no_second_pod_before_the_first_is_gone() {
    let mut cluster = several(1, json!({"identity": {"stable": true}}));
    let deleting =
        json!({"metadata": {"deletionTimestamp": "2026-11-18T11:07:00Z", "deletionGracePeriodSeconds": 30}});
    cluster.put(Kind::Pod, "llm-0-1", deleting);
    cluster.asked.clear();
    cluster.pass(Duration::from_mins(10));
    assert_eq!(cluster.names(Kind::Pod), ["llm-0-1"]);
    assert!(cluster.asked_for(Verb::Create, Kind::Pod).is_empty());
    assert!(cluster.asked_for(Verb::Delete, Kind::Pod).is_empty(), "its end is not forced");
    assert_eq!(cluster.condition(Kind::Widget, "llm", "Ready")["status"], "False");
    cluster.remove(Kind::Pod, "llm-0-1");
    cluster.run();
    assert_eq!(cluster.names(Kind::Pod), ["llm-0-2"]);
    assert_eq!(cluster.status(Kind::Widget, "llm")["lastEnd"]["reason"], "Deleted");
}
