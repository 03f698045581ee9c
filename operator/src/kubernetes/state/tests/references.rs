use super::*;

impl Cluster {
    fn accepted(&self, kind: Kind, name: &str) -> (String, String) {
        let condition = self.condition(kind, name, "Accepted");
        let text = |name: &str| condition[name].as_str().unwrap_or_default().to_owned();
        (text("reason"), text("message"))
    }

    fn topic(&mut self, name: &str, spec: Value) {
        self.put(Kind::Topic, name, json!({"spec": spec}));
    }

    fn route(&mut self, name: &str, from: &str, to: &str) {
        self.put(
            Kind::Route,
            name,
            json!({"spec": {"from": {"topic": from}, "rules": [{"to": [{"topic": to}]}]}}),
        );
    }
}

const VALID: &str = "Valid";

#[test]
fn a_widget_without_a_container_is_not_accepted_and_not_started_and_stops_nobody() {
    let mut cluster = lone();
    cluster.put(Kind::Widget, "local", json!({"spec": {"process": {"command": ["true"]}}}));
    let widgets =
        json!([{"name": "a", "container": container()}, {"name": "b", "process": {"command": ["true"]}}]);
    cluster.put(Kind::WidgetGroup, "rag", json!({"spec": {"widgets": widgets}}));
    cluster.run();
    cluster.ready("llm-0-1");
    let (reason, message) = cluster.accepted(Kind::Widget, "local");
    assert_eq!(reason, "NoRuntimeForWorld");
    assert!(message.contains("add container: {image: ...}"), "{message}");
    let (reason, message) = cluster.accepted(Kind::WidgetGroup, "rag");
    assert_eq!(reason, "NoRuntimeForWorld");
    assert!(message.starts_with("KTL1015 spec.widgets[1].container"), "{message}");
    cluster.pass(Duration::from_mins(5));
    assert_eq!(cluster.names(Kind::Pod), ["llm-0-1"]);
    assert_eq!(cluster.condition(Kind::Widget, "local", "Stalled")["status"], "True");
    cluster.put(
        Kind::Widget,
        "local",
        json!({"spec": {"container": container()}, "metadata": {"generation": 2}}),
    );
    cluster.run();
    assert_eq!(cluster.names(Kind::Pod), ["llm-0-1", "local-0-1"]);
    assert_eq!(cluster.accepted(Kind::Widget, "local").0, VALID);
}

#[test]
fn a_group_that_no_cluster_runs_is_left_out_of_its_tree() {
    let mut cluster = group("OneForAll");
    let process = json!([{"name": "a", "process": {"command": ["true"]}}]);
    cluster.put(Kind::WidgetGroup, "local", json!({"spec": {"widgets": process}}));
    let children = json!([{"group": "local"}, {"group": "rag"}]);
    cluster.put(Kind::Supervisor, "top", json!({"spec": {"children": children}}));
    cluster.run();
    assert_eq!(cluster.names(Kind::Pod), ["rag-a-0-1"]);
    assert_eq!(cluster.accepted(Kind::WidgetGroup, "local").0, "NoRuntimeForWorld");
    assert_eq!(cluster.accepted(Kind::WidgetGroup, "rag").0, VALID);
}

#[test]
fn what_runs_goes_on_when_its_manifest_no_longer_says_how() {
    let mut cluster = group("OneForOne");
    cluster.run();
    cluster.ready("rag-a-0-1");
    cluster.run();
    let process = json!([{"name": "a", "process": {"command": ["true"]}}]);
    cluster.put(
        Kind::WidgetGroup,
        "rag",
        json!({"spec": {"widgets": process}, "metadata": {"generation": 2}}),
    );
    cluster.run();
    assert_eq!(cluster.names(Kind::Pod), ["rag-a-0-1", "rag-b-0-1"]);
    assert_eq!(cluster.accepted(Kind::WidgetGroup, "rag").0, "NoRuntimeForWorld");
}

#[test]
fn a_topic_says_who_uses_it_and_what_it_lacks() {
    let mut cluster = lone();
    cluster.put(Kind::Widget, "llm", json!({"spec": {"produces": [{"topic": "t"}]}}));
    cluster.topic("t", json!({"bus": "far"}));
    cluster.topic("u", json!({"deadLetter": {"topic": "v"}}));
    cluster.run();
    let status = cluster.status(Kind::Topic, "t");
    assert_eq!(
        (&status["bus"], &status["producers"], &status["subscriptions"]),
        (&json!("far"), &json!(1), &json!(0))
    );
    assert_eq!(cluster.accepted(Kind::Topic, "t").0, "BusNotFound");
    let (reason, message) = cluster.accepted(Kind::Topic, "u");
    assert_eq!(reason, "TopicNotFound");
    assert!(message.contains("there is no topic v in namespace default; declare it"), "{message}");
    cluster.put(Kind::MessageBus, "far", json!({"spec": {}}));
    cluster.topic("v", json!({"deadLetter": {"topic": "u"}}));
    cluster.run();
    assert_eq!(cluster.accepted(Kind::Topic, "t").0, VALID);
    assert_eq!(cluster.accepted(Kind::Topic, "u").0, "RouteCycle");
    assert_eq!(cluster.condition(Kind::Topic, "t", "Ready")["reason"], "Starting");
}

#[test]
fn a_route_says_which_of_its_topics_is_not_there() {
    let mut cluster = Cluster::new();
    cluster.topic("a", json!({}));
    cluster.route("r", "a", "b");
    cluster.route("s", "none", "a");
    cluster.run();
    assert_eq!(cluster.accepted(Kind::Route, "r").0, "TopicNotFound");
    assert!(cluster.accepted(Kind::Route, "s").1.contains("spec.from: there is no topic none"));
    cluster.topic("b", json!({}));
    cluster.run();
    assert_eq!(cluster.accepted(Kind::Route, "r").0, VALID);
    assert_eq!(cluster.status(Kind::Route, "r")["targets"], 1);
    cluster.route("back", "b", "a");
    cluster.run();
    for route in ["r", "back"] {
        assert_eq!(cluster.accepted(Kind::Route, route).0, "RouteCycle");
    }
    cluster.remove(Kind::Route, "back");
    cluster.run();
    assert_eq!(cluster.accepted(Kind::Route, "r").0, VALID);
}

#[test]
fn a_widget_that_names_what_is_not_there_says_so_and_runs() {
    let mut cluster = lone();
    let names = json!({"spec": {
        "consumes": [{"topic": "t"}], "calls": [{"target": "other/other"}],
    }});
    cluster.put(Kind::Widget, "llm", names);
    cluster.run();
    assert_eq!(cluster.names(Kind::Pod), ["llm-0-1"]);
    assert_eq!(cluster.accepted(Kind::Widget, "llm").0, "TopicNotFound");
    cluster.topic("t", json!({}));
    cluster.run();
    assert_eq!(cluster.accepted(Kind::Widget, "llm").0, "WidgetNotFound");
    cluster.put(Kind::Widget, "other", json!({"spec": {"container": container()}}));
    cluster.run();
    assert_eq!(cluster.accepted(Kind::Widget, "llm").0, "NotServed");
    cluster.put(
        Kind::Widget,
        "other",
        json!({"spec": {"serves": [{"method": "answer"}]}, "metadata": {"generation": 2}}),
    );
    cluster.run();
    assert_eq!(cluster.accepted(Kind::Widget, "llm").0, VALID);
}

#[test]
fn a_widget_whose_topics_lie_on_two_buses_is_not_accepted() {
    let mut cluster = lone();
    cluster.put(Kind::MessageBus, "far", json!({"spec": {}}));
    cluster.topic("near", json!({}));
    cluster.topic("away", json!({"bus": "far"}));
    cluster.put(
        Kind::Widget,
        "llm",
        json!({"spec": {"consumes": [{"topic": "near"}], "produces": [{"topic": "away"}]}}),
    );
    cluster.run();
    let (reason, message) = cluster.accepted(Kind::Widget, "llm");
    assert_eq!(reason, "TwoBuses");
    assert!(message.contains("bus far") && message.contains("bus default"), "{message}");
}

#[test]
fn a_new_leader_says_nothing_of_widgets_that_it_has_not_looked_at_yet() {
    let mut cluster = lone();
    cluster.put(Kind::Widget, "a", json!({"spec": {"container": container(), "calls": [{"target": "z/z"}]}}));
    cluster.put(
        Kind::Widget,
        "z",
        json!({"spec": {"container": container(), "serves": [{"method": "answer"}]}}),
    );
    cluster.run();
    assert_eq!(cluster.accepted(Kind::Widget, "a").0, VALID);
    let statuses: Vec<Value> = cluster
        .asked_for(Verb::Merge, Kind::Widget)
        .iter()
        .filter(|request| request.name == "a" && request.manager == "kontrol-status")
        .map(|request| request.body["status"]["conditions"].clone())
        .collect();
    assert!(
        statuses.iter().all(|conditions| !conditions.to_string().contains("WidgetNotFound")),
        "{statuses:?}"
    );
}

#[test]
fn what_is_not_there_is_said_with_what_was_probably_meant() {
    let mut cluster = lone();
    cluster.topic("notes", json!({}));
    cluster.put(Kind::MessageBus, "archive", json!({"spec": {}}));
    cluster.topic("kept", json!({"bus": "archiv"}));
    cluster.route("r", "nots", "kept");
    cluster.put(Kind::Widget, "store", json!({"spec": {"container": container()}}));
    cluster.put(Kind::Widget, "llm", json!({"spec": {"calls": [{"target": "stor/stor"}]}}));
    cluster.run();
    for (kind, name, meant) in
        [(Kind::Route, "r", "notes"), (Kind::Topic, "kept", "archive"), (Kind::Widget, "llm", "store/store")]
    {
        let (_, message) = cluster.accepted(kind, name);
        assert!(message.ends_with(&format!("; did you mean {meant}?")), "{message}");
    }
}
