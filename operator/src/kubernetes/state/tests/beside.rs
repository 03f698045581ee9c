use super::*;

const SERVICE: &str = "llm";

impl Cluster {
    fn service(&self) -> Option<&Value> {
        self.objects.get(&(Kind::Service, "default".into(), SERVICE.into()))
    }

    fn accepts(&self, kind: Kind, name: &str) -> String {
        let condition = self.condition(kind, name, "Accepted");
        format!("{}: {}", condition["reason"].as_str().unwrap(), condition["message"].as_str().unwrap())
    }
}

/// A Service that no watch of ours shows, and the widget that is to have one of its name.
fn beside_a_service() -> (Cluster, Value) {
    let mut cluster = Cluster::new();
    let theirs = json!({
        "metadata": {
            "name": SERVICE, "namespace": "default", "uid": "theirs", "resourceVersion": "1",
            "ownerReferences": [{"kind": "Shop", "name": "s", "uid": "o", "controller": true}],
        },
        "spec": {"selector": {"app": "llm"}},
    });
    cluster.objects.insert((Kind::Service, "default".into(), SERVICE.into()), theirs.clone());
    cluster.put(Kind::Widget, "llm", json!({"spec": {"container": container()}}));
    cluster.run();
    cluster.ready("llm-0-1");
    cluster.run();
    (cluster, theirs)
}

#[test]
fn a_service_of_somebody_else_is_left_alone_and_said_and_the_widget_runs() {
    let (mut cluster, theirs) = beside_a_service();
    cluster.asked.clear();
    cluster.pass(Duration::from_mins(10));
    assert_eq!(cluster.service(), Some(&theirs));
    let said = cluster.accepts(Kind::Widget, "llm");
    assert_eq!(said, "NameCollision: the Service llm is that of the Shop s; rename it, or the widget");
    assert_eq!(cluster.condition(Kind::Widget, "llm", "Ready")["status"], "True");
    let looks = cluster.asked_for(Verb::Get, Kind::Service).len();
    let of_services = cluster.asked.iter().filter(|request| request.kind == Kind::Service);
    assert_eq!(of_services.count(), looks, "nothing is written");
    assert!((15..60).contains(&looks), "{looks}");
}

#[test]
fn a_name_that_becomes_free_is_taken_and_no_longer_said() {
    let (mut cluster, _) = beside_a_service();
    cluster.objects.remove(&(Kind::Service, "default".into(), SERVICE.into()));
    cluster.pass(Duration::from_secs(31));
    let service = cluster.service().unwrap();
    assert_eq!(service["metadata"]["ownerReferences"][0]["uid"], "u-llm");
    assert!(cluster.accepts(Kind::Widget, "llm").starts_with("Valid"));
}

#[test]
fn a_service_that_only_looks_like_ours_is_left_alone_until_it_goes() {
    let mut cluster = Cluster::new();
    let theirs =
        json!({"metadata": {"labels": {"kontrol.dev/widget": "b"}}, "spec": {"selector": {"app": "b"}}});
    cluster.put(Kind::Service, "rag-b", theirs);
    let before = cluster.objects.clone();
    let widgets = json!([{"name": "a", "container": container()}, {"name": "b", "container": container()}]);
    cluster.put(Kind::WidgetGroup, "rag", json!({"spec": {"widgets": widgets}}));
    cluster.pass(Duration::from_mins(1));
    let service = (Kind::Service, "default".to_owned(), "rag-b".to_owned());
    assert_eq!(cluster.objects[&service], before[&service]);
    let said = cluster.accepts(Kind::WidgetGroup, "rag");
    assert_eq!(said, "NameCollision: the Service rag-b is somebody else's; rename it, or the widget");
    cluster.remove(Kind::Service, "rag-b");
    cluster.run();
    assert_eq!(cluster.objects[&service]["metadata"]["ownerReferences"][0]["name"], "rag-b");
    assert!(cluster.accepts(Kind::WidgetGroup, "rag").starts_with("Valid"));
}

#[test]
fn the_service_of_a_widget_that_is_gone_is_waited_for_and_one_that_was_left_behind_is_kept() {
    let mut cluster = lone();
    cluster.run();
    make_again(&mut cluster);
    assert!(cluster.asked.iter().all(|request| request.kind != Kind::Service));
    assert!(cluster.accepts(Kind::Widget, "llm").starts_with("Valid"));
    cluster.put(Kind::Service, SERVICE, json!({"metadata": {"ownerReferences": null}}));
    cluster.run();
    let service = cluster.service().unwrap();
    assert_eq!(
        (&service["metadata"]["uid"], &service["metadata"]["ownerReferences"][0]["uid"]),
        (&json!("u-llm"), &json!("u-2"))
    );
}

#[test]
fn a_change_of_a_service_names_the_object_that_was_seen() {
    let mut cluster = lone();
    cluster.run();
    let ports = json!([{"containerPort": 9}]);
    cluster.put(Kind::Widget, "llm", json!({"spec": {"container": {"ports": ports}}}));
    cluster.run();
    let change = cluster.asked_for(Verb::Merge, Kind::Service);
    assert_eq!(change.len(), 1);
    assert_eq!(change[0].body["metadata"]["uid"], "u-llm");
    assert_eq!(cluster.service().unwrap()["spec"]["ports"][0]["port"], 9);
    cluster.put(Kind::Widget, "llm", json!({"spec": {"container": {"ports": null}}}));
    cluster.run();
    assert_eq!(cluster.service().unwrap()["spec"]["ports"], Value::Null);
}

#[test]
fn what_beside_the_pods_cannot_be_made_is_said_and_holds_up_nothing() {
    let mut cluster = lone();
    for _ in 0..100 {
        let refused = Outcome::Invalid("spec.ports[0].port: Invalid value".into());
        cluster.answers.push((Verb::Create, Kind::Service, refused));
    }
    cluster.run();
    cluster.ready("llm-0-1");
    cluster.pass(Duration::from_secs(20));
    assert_eq!(cluster.condition(Kind::Widget, "llm", "Ready")["status"], "True");
    let message = cluster.condition(Kind::Widget, "llm", "Reconciling")["message"].clone();
    assert_eq!(message, "spec.ports[0].port: Invalid value");
    cluster.answers.clear();
    cluster.pass(Duration::from_secs(31));
    assert_eq!(cluster.condition(Kind::Widget, "llm", "Reconciling")["message"], "");
}

#[test]
fn a_kept_template_that_cannot_be_read_is_said_and_read_again_at_growing_pauses() {
    let mut cluster = Cluster::new();
    let spec = json!({"container": container(), "rollout": {"paused": true}, "start": {"timeout": "1h"}});
    cluster.put(Kind::Widget, "llm", json!({"spec": spec}));
    cluster.run();
    cluster.ready("llm-0-1");
    cluster.run();
    let of = (Kind::ControllerRevision, "default".to_owned());
    let (name, kept) = cluster
        .objects
        .iter()
        .find(|((kind, ..), _)| *kind == of.0)
        .map(|((.., name), kept)| (name.clone(), kept["data"].clone()))
        .unwrap();
    cluster.put(of.0, &name, json!({"data": {"restart": "Sometimes"}}));
    let edit = json!({"metadata": {"generation": 2}, "spec": {"container": {"image": "example/llm:2"}}});
    cluster.put(Kind::Widget, "llm", edit);
    cluster.run();
    cluster.remove(Kind::Pod, "llm-0-1");
    cluster.run();
    assert_eq!(cluster.asked_for(Verb::Get, of.0).len(), 1);
    let message = cluster.condition(Kind::Widget, "llm", "Reconciling")["message"].to_string();
    assert!(message.contains("cannot be read") && message.contains("Sometimes"), "{message}");
    cluster.pass(Duration::from_mins(2));
    let reads = cluster.asked_for(Verb::Get, of.0).len();
    assert!((5..20).contains(&reads), "{reads}");
    assert!(cluster.names(Kind::Pod).is_empty());
    cluster.put(of.0, &name, json!({"data": kept}));
    cluster.pass(Duration::from_secs(31));
    assert_eq!(cluster.names(Kind::Pod), ["llm-0-2"]);
    assert_eq!(cluster.condition(Kind::Widget, "llm", "Reconciling")["message"], "");
}

#[test]
fn the_kubelet_waits_a_second_longer_than_the_shim() {
    for (wrapped, seconds) in [(false, 30), (true, 31)] {
        let mut cluster = Cluster::new();
        let container = json!({"image": "i", "command": ["llm"], "wrapped": wrapped});
        let spec = json!({"container": container, "shutdown": {"grace": "30s"}});
        cluster.put(Kind::Widget, "llm", json!({"spec": spec}));
        cluster.run();
        cluster.ready("llm-0-1");
        cluster.run();
        cluster.put(Kind::Widget, "llm", json!({"spec": {"replicas": 0}, "metadata": {"generation": 2}}));
        cluster.run();
        let stops = cluster.asked_for(Verb::Delete, Kind::Pod);
        assert_eq!(stops[0].body["gracePeriodSeconds"], seconds);
    }
}

#[test]
fn who_does_not_lead_keeps_no_list_of_what_to_look_at() {
    let mut cluster = Cluster::unled();
    cluster.list_all();
    for n in 0..100 {
        cluster.put(Kind::Widget, "llm", json!({"metadata": {"generation": n}}));
        let revision = json!({"metadata": {"labels": {"kontrol.dev/widget-object": "llm"}}});
        cluster.put(Kind::ControllerRevision, &format!("llm-{n:016x}"), revision);
    }
    cluster.state.take(Input::Trust("one".to_owned()), cluster.now);
    assert_eq!(cluster.state.wake(), None);
    cluster.state.take(Input::Leads(true), cluster.now);
    cluster.put(Kind::ControllerRevision, "llm-0000000000000001", json!({"data": {}}));
    let llm = Root { kind: Kind::Widget, key: Key::new("default", "llm") };
    assert_eq!(cluster.state.queue.next(cluster.now), Some(llm));
    assert_eq!(cluster.state.queue.next(cluster.now), None);
    cluster.state.take(Input::Leads(false), cluster.now);
    cluster.put(Kind::Widget, "llm", json!({"metadata": {"generation": 200}}));
    assert_eq!(cluster.state.wake(), None);
}
