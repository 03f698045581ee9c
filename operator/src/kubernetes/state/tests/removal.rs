use super::*;

/// Two widgets that run.
fn running() -> Cluster {
    let mut cluster = group("OneForOne");
    for pod in ["rag-a-0-1", "rag-b-0-1"] {
        cluster.run();
        cluster.ready(pod);
    }
    cluster.run();
    cluster
}

impl Cluster {
    /// The user deletes the group, 20 s after the time at which these clusters begin.
    fn delete_group(&mut self) {
        self.now = Timestamp::from_micros(1_795_000_020_000_000);
        self.put(
            Kind::WidgetGroup,
            "rag",
            json!({"metadata": {"deletionTimestamp": "2026-11-18T11:07:00Z"}}),
        );
    }

    fn finalizers(&self) -> &Value {
        let group = &self.objects[&(Kind::WidgetGroup, "default".into(), "rag".into())];
        &group["metadata"]["finalizers"]
    }
}

#[test]
fn a_group_that_a_supervisor_took_over_stops_in_order_and_goes_when_it_is_deleted_alone() {
    let mut cluster = running();
    assert_eq!(cluster.finalizers(), &json!(["kontrol.dev/drain"]));
    cluster.put(Kind::Supervisor, "top", json!({"spec": {"children": [{"group": "rag"}]}}));
    cluster.run();
    cluster.asked.clear();
    cluster.delete_group();
    cluster.run();
    let stops: Vec<&str> =
        cluster.asked_for(Verb::Delete, Kind::Pod).iter().map(|request| request.name.as_str()).collect();
    assert_eq!(stops, ["rag-b-0-1", "rag-a-0-1"]);
    assert_eq!(cluster.finalizers(), &json!([]));
}

#[test]
fn a_group_that_was_deleted_before_a_supervisor_named_it_goes_all_the_same() {
    let mut cluster = running();
    cluster.delete_group();
    cluster.put(Kind::Supervisor, "top", json!({"spec": {"children": [{"group": "rag"}]}}));
    cluster.pass(Duration::from_secs(40));
    assert_eq!(cluster.finalizers(), &json!([]));
}

#[test]
fn a_group_goes_at_its_deadline_though_its_pods_cannot_be_stopped() {
    let mut cluster = running();
    for _ in 0..200 {
        cluster.answers.push((Verb::Delete, Kind::Pod, Outcome::Forbidden("no".into())));
    }
    cluster.delete_group();
    // Two widgets of ten seconds each, and half a minute.
    cluster.pass(Duration::from_secs(49));
    assert_eq!(cluster.finalizers(), &json!(["kontrol.dev/drain"]));
    cluster.pass(Duration::from_secs(2));
    assert_eq!(cluster.finalizers(), &json!([]));
    assert_eq!(cluster.names(Kind::Pod).len(), 2);
}

#[test]
fn a_group_goes_at_its_deadline_though_no_decision_can_be_written() {
    let mut cluster = running();
    for _ in 0..200 {
        cluster.answers.push((Verb::Merge, Kind::WidgetGroup, Outcome::Invalid("no".into())));
    }
    cluster.delete_group();
    cluster.pass(Duration::from_secs(49));
    cluster.answers.clear();
    let released = |cluster: &Cluster| {
        let writes = cluster.asked_for(Verb::Merge, Kind::WidgetGroup);
        writes.iter().filter(|request| request.body["metadata"]["finalizers"] == json!([])).count()
    };
    assert_eq!(released(&cluster), 0);
    for _ in 0..200 {
        cluster.answers.push((Verb::Merge, Kind::WidgetGroup, Outcome::Invalid("no".into())));
    }
    cluster.pass(Duration::from_secs(2));
    let tries = released(&cluster);
    assert!((1..=5).contains(&tries), "{tries}: it is asked for, at growing pauses");
    cluster.answers.clear();
    cluster.pass(Duration::from_secs(30));
    assert_eq!(cluster.finalizers(), &json!([]));
}

#[test]
fn a_group_goes_at_its_deadline_though_its_pods_cannot_be_seen() {
    let mut cluster = running();
    let pods = Cluster::source(Kind::Pod);
    cluster.state.take(Input::Watch(pods, Seen::Broken("no route".into())), cluster.now);
    cluster.delete_group();
    cluster.pass(Duration::from_secs(49));
    assert_eq!(cluster.finalizers(), &json!(["kontrol.dev/drain"]));
    cluster.pass(Duration::from_secs(2));
    assert_eq!(cluster.finalizers(), &json!([]));
    assert_eq!(cluster.names(Kind::Pod).len(), 2);
}
