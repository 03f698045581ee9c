//! Who is told when something is declared otherwise: the sidecar of `llm`, which has the one session here.

use super::*;

/// The widget `llm` as it is declared, and its sidecar on its session.
fn hearing(further: &Value) -> Cluster {
    let mut cluster = Cluster::new();
    cluster.put(Kind::Topic, "t", json!({"spec": {}}));
    let mut spec = json!({"container": container()});
    merge(&mut spec, further);
    cluster.put(Kind::Widget, "llm", json!({"spec": spec}));
    cluster.run();
    cluster.ready("llm-0-1");
    cluster.opens(1);
    cluster.told.clear();
    cluster
}

impl Cluster {
    /// The configuration that was told last, since this was asked last.
    fn config(&mut self) -> Option<v1::SidecarConfig> {
        match self.told.drain(..).next_back()? {
            Configuration::Sidecar(config) => Some(*config),
            Configuration::Hub(_) => None,
        }
    }

    fn subscriptions(&mut self) -> Option<Vec<String>> {
        Some(self.config()?.topics.remove(0).subscriptions)
    }
}

#[test]
fn who_publishes_is_told_of_subscriptions_that_come_and_go_in_other_trees() {
    let mut cluster = hearing(&json!({"produces": [{"topic": "t"}]}));
    let consumes = json!([{"topic": "t", "subscription": "sub"}]);
    let worker = json!({"spec": {"container": container(), "consumes": consumes}});
    cluster.put(Kind::Widget, "worker", worker);
    cluster.run();
    assert_eq!(cluster.subscriptions(), Some(vec!["sub".to_owned()]));
    cluster.put(Kind::Widget, "worker", json!({"spec": {"consumes": []}, "metadata": {"generation": 2}}));
    cluster.run();
    assert_eq!(cluster.subscriptions(), Some(vec![]));
    cluster.put(
        Kind::Widget,
        "worker",
        json!({"spec": {"consumes": consumes}, "metadata": {"generation": 3}}),
    );
    cluster.run();
    assert_eq!(cluster.subscriptions(), Some(vec!["sub".to_owned()]));
    cluster.remove(Kind::Widget, "worker");
    cluster.run();
    assert_eq!(cluster.subscriptions(), Some(vec![]), "nobody said that it would go");
}

#[test]
fn who_is_called_is_told_of_a_new_caller() {
    let mut cluster = hearing(&json!({"serves": [{"method": "answer"}]}));
    cluster.put(
        Kind::Widget,
        "asker",
        json!({"spec": {"container": container(), "calls": [{"target": "llm/llm"}]}}),
    );
    cluster.run();
    let fences = cluster.config().unwrap().fences;
    assert_eq!(
        fences.iter().map(|fence| fence.instance.as_str()).collect::<Vec<_>>(),
        ["default/asker/asker/0"]
    );
}

#[test]
fn who_calls_is_told_of_a_replica_that_is_ready_and_has_not_yet_come_to_this_leader() {
    let mut cluster = hearing(&json!({"calls": [{"target": "vectors/vectors"}]}));
    cluster.put(Kind::Widget, "vectors", json!({"spec": {"container": container()}}));
    cluster.run();
    cluster.put(Kind::Pod, "vectors-0-1", json!({"status": {"podIP": "10.0.0.7"}}));
    cluster.run();
    let endpoints = |cluster: &mut Cluster| cluster.config().unwrap().targets.remove(0).endpoints;
    assert_eq!(endpoints(&mut cluster), [], "it has only just begun");
    cluster.ready("vectors-0-1");
    cluster.run();
    let [endpoint] = &endpoints(&mut cluster)[..] else { panic!("one replica is ready") };
    assert_eq!((endpoint.address.as_str(), endpoint.ready), ("10.0.0.7:7412", true));
}

#[test]
fn who_publishes_is_told_of_a_hub_that_is_ready_and_has_not_yet_come_to_this_leader() {
    let mut cluster = hearing(&json!({"produces": [{"topic": "t"}]}));
    cluster.pass(Duration::from_secs(1));
    assert_eq!(cluster.config().map_or_else(String::new, |config| config.hub), "", "it has only just begun");
    cluster.ready("kontrol-hub-default-1");
    cluster.run();
    assert_eq!(cluster.config().unwrap().hub, "kontrol-hub-default.default.svc:7412");
}

#[test]
fn who_has_nothing_to_do_with_it_is_told_nothing() {
    let mut cluster = hearing(&json!({}));
    cluster.put(Kind::Widget, "other", json!({"spec": {"container": container()}}));
    cluster.run();
    assert_eq!(cluster.config(), None);
}

#[test]
fn who_leads_again_knows_no_subscription_of_a_tree_that_went_meanwhile() {
    let mut cluster = hearing(&json!({"produces": [{"topic": "t"}]}));
    let consumes = json!([{"topic": "t", "subscription": "sub"}]);
    cluster.put(Kind::Widget, "worker", json!({"spec": {"container": container(), "consumes": consumes}}));
    cluster.run();
    cluster.state.take(Input::Leads(false), cluster.now);
    cluster.remove(Kind::Widget, "worker");
    cluster.run();
    cluster.state.take(Input::Leads(true), cluster.now);
    cluster.run();
    cluster.told.clear();
    cluster.opens(2);
    assert_eq!(cluster.subscriptions(), Some(vec![]));
}
