use super::*;

#[test]
fn the_pod_of_what_has_done_its_work_is_kept_until_the_next_start() {
    let mut cluster = Cluster::new();
    cluster.put(Kind::Widget, "job", json!({"spec": {"container": container(), "restart": "OnFailure"}}));
    cluster.run();
    cluster.ready("job-0-1");
    cluster.run();
    cluster.end("job-0-1", 0);
    cluster.pass(Duration::from_mins(10));
    assert_eq!(cluster.names(Kind::Pod), ["job-0-1"], "what it said can be read");
    assert_eq!(cluster.condition(Kind::Widget, "job", "Ready")["reason"], "Completed");
    let asked =
        json!({"metadata": {"annotations": {"kontrol.dev/restart-requested-at": "2026-11-19T00:00:00Z"}}});
    cluster.now = cluster.now.plus(Duration::from_hours(24));
    cluster.put(Kind::Widget, "job", asked);
    cluster.run();
    assert_eq!(cluster.names(Kind::Pod), ["job-0-2"]);
}

#[test]
fn a_namespace_that_was_removed_gets_its_certificates_again() {
    let mut cluster = lone();
    cluster.state.take(Input::Trust("one".to_owned()), cluster.now);
    cluster.run();
    assert_eq!(cluster.asked_for(Verb::Apply, Kind::ConfigMap).len(), 1);
    cluster.remove(Kind::Pod, "llm-0-1");
    cluster.remove(Kind::Widget, "llm");
    cluster.run();
    cluster.put(Kind::Widget, "llm", json!({"spec": {"container": container()}, "metadata": {"uid": "u-2"}}));
    cluster.run();
    assert_eq!(cluster.asked_for(Verb::Apply, Kind::ConfigMap).len(), 2);
}

#[test]
fn certificates_that_somebody_removed_are_there_before_the_next_start() {
    let mut cluster = lone();
    cluster.state.take(Input::Trust("one".to_owned()), cluster.now);
    cluster.run();
    cluster.pass(Duration::from_mins(2));
    assert!(cluster.asked_for(Verb::Apply, Kind::ConfigMap).len() >= 2);
}

#[test]
fn a_hub_that_may_not_be_made_keeps_its_number_and_is_asked_for_at_a_pause() {
    let mut cluster = Cluster::new();
    let going =
        "pods is forbidden: unable to create new content in namespace default because it is being terminated";
    for _ in 0..20 {
        cluster.answers.push((Verb::Create, Kind::Pod, Outcome::Forbidden(going.to_owned())));
    }
    cluster.put(Kind::Topic, "t", json!({"spec": {}}));
    cluster.pass(Duration::from_mins(5));
    let asked = cluster.asked_for(Verb::Create, Kind::Pod);
    assert!(asked.len() <= 6, "{}", asked.len());
    assert!(asked.iter().all(|request| request.name == "kontrol-hub-default-1"));
}
