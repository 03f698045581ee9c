//! A pod that is evicted and gone before anybody has looked at it.

use super::*;

/// `llm-0-1`, ready.
fn ready() -> Cluster {
    let mut cluster = lone();
    cluster.run();
    cluster.ready("llm-0-1");
    cluster.run();
    cluster
}

/// The API server notes why it takes a pod away, and asks for its removal.
fn evict(cluster: &mut Cluster, pod: &str) {
    let disrupted = json!({
        "type": "DisruptionTarget", "status": "True", "reason": "EvictionByEvictionAPI",
        "message": "Eviction API: evicting",
    });
    cluster.put(Kind::Pod, pod, json!({"status": {"conditions": [disrupted]}}));
    cluster.put(Kind::Pod, pod, json!({"metadata": {"deletionTimestamp": "2026-11-18T11:07:00Z"}}));
}

fn last_end(cluster: &Cluster) -> (&Value, &Value) {
    let end = &cluster.status(Kind::Widget, "llm")["lastEnd"];
    (&end["reason"], &end["message"])
}

#[test]
fn one_that_is_evicted_and_gone_at_one_look_was_evicted() {
    let mut cluster = ready();
    evict(&mut cluster, "llm-0-1");
    cluster.remove(Kind::Pod, "llm-0-1");
    cluster.run();
    assert_eq!(cluster.names(Kind::Pod), ["llm-0-2"]);
    assert_eq!(last_end(&cluster), (&json!("Evicted"), &json!("Eviction API: evicting")));
}

#[test]
fn one_that_is_evicted_while_nobody_leads_was_evicted_for_who_leads_next() {
    let mut cluster = ready();
    cluster.state.take(Input::Leads(false), cluster.now);
    evict(&mut cluster, "llm-0-1");
    cluster.remove(Kind::Pod, "llm-0-1");
    cluster.state.take(Input::Leads(true), cluster.now);
    cluster.run();
    assert_eq!(last_end(&cluster).0, "Evicted");
}

#[test]
fn what_was_said_of_an_evicted_one_is_not_said_of_another_of_its_name() {
    let mut cluster = ready();
    cluster.state.take(Input::Leads(false), cluster.now);
    evict(&mut cluster, "llm-0-1");
    cluster.remove(Kind::Pod, "llm-0-1");
    cluster.remove(Kind::Widget, "llm");
    cluster.state.take(Input::Leads(true), cluster.now);
    cluster.run();
    cluster.put(Kind::Widget, "llm", json!({"spec": {"container": container()}, "metadata": {"uid": "u-2"}}));
    cluster.run();
    cluster.ready("llm-0-1");
    cluster.run();
    cluster.remove(Kind::Pod, "llm-0-1");
    cluster.run();
    assert_eq!(cluster.names(Kind::Pod), ["llm-0-2"]);
    assert_eq!(last_end(&cluster).0, "Deleted");
}
