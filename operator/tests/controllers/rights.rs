//! The rights that the chart gives: all that the operator asks for, and nothing else; and what is said where one of them is taken away.

mod own;
mod removed;

use std::time::Duration;

use kontrol_e2e_apiserver::{ApiServer, Ended, Rules};
use kontrol_operator::kubernetes::{
    Options, World, events::Events, request::Outcome, rights::Asked, state::Input,
};
use serde_json::{Value, json};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::{
    cluster::{Cluster, Trouble},
    operator::USER,
    scenarios::{self, GROUPS, WIDGETS, container, group, message_object, supervisor, widget},
};

const NAMESPACE: &str = "kontrol-system";
/// The rules of the chart, by where they hold.
const FILES: [(&str, Option<&str>); 4] = [
    (include_str!("../../../charts/kontrol/files/rbac/cluster.yaml"), None),
    (include_str!("../../../charts/kontrol/files/rbac/namespaces.yaml"), None),
    (include_str!("../../../charts/kontrol/files/rbac/own.yaml"), Some(NAMESPACE)),
    (include_str!("../../../charts/kontrol/files/rbac/nodes.yaml"), Some("kube-node-lease")),
];
/// What is asked about a sidecar's token, and when the authority's key is rotated: nothing here does either.
const ELSEWHERE: [&str; 2] =
    ["create tokenreviews.authentication.k8s.io", "update secrets [\"kontrol-authority\"] in kontrol-system"];

/// The rules of one file: flat entries with lists in flow style.
fn role(text: &str) -> Value {
    let mut rules: Vec<Value> = Vec::new();
    for line in text.lines().filter(|line| !line.starts_with('#')) {
        if line.starts_with("- ") {
            rules.push(json!({}));
        }
        let (key, list) = line.trim_start_matches(['-', ' ']).split_once(": ").unwrap();
        let list = list.trim_start_matches('[').trim_end_matches(']');
        let items: Vec<&str> = list.split(',').map(|item| item.trim().trim_matches('"')).collect();
        rules.last_mut().unwrap()[key] = json!(items);
    }
    json!({"rules": rules})
}

fn rules() -> Rules {
    FILES.iter().fold(Rules::default(), |rules, (text, namespace)| rules.with(&role(text), *namespace))
}

fn under(rules: &Rules) -> Cluster {
    let cluster = Cluster::new(Trouble::Nothing);
    cluster.server.set_rules(USER, rules.clone());
    cluster
}

/// Writes what happened as events, as the world does.
fn tell(cluster: &mut Cluster) {
    let now = cluster.now();
    let operator = cluster.operator.as_mut().unwrap();
    let mut events = Events::new("operator-a");
    for (root, event) in operator.state.told() {
        let Some(about) = operator.state.regarding(&root, &event) else { continue };
        let Some(request) = events.tell(&about, &event, now) else { continue };
        let (code, after, body) = operator.session.ask(request.to_http().unwrap()).unwrap();
        let outcome = Outcome::of(code, after, &body);
        drop(operator.lacking.note(&Asked::of(&request), &outcome, now));
        if !outcome.is_done() {
            operator
                .refused
                .push(format!("{:?} {:?} {}: {outcome:?}", request.verb, request.kind, request.name));
        }
    }
}

fn trust(cluster: &mut Cluster, bundle: &str) {
    let now = cluster.now();
    cluster.operator.as_mut().unwrap().state.take(Input::Trust(bundle.to_owned()), now);
}

/// An object of somebody else's.
fn foreign(cluster: &mut Cluster, api_version: &str, kind: &str, name: &str, spec: &Value) {
    cluster.put(&json!({"apiVersion": api_version, "kind": kind, "metadata": {"name": name}, "spec": spec}));
}

fn replicas(name: &str, replicas: u32) -> Value {
    let mut widget = widget(name, "example/lone:1");
    widget["spec"]["replicas"] = replicas.into();
    widget
}

/// A bit of everything, at rest, with so many earlier revisions of a widget.
fn everything(cluster: &mut Cluster, revisions: usize) {
    trust(cluster, "one");
    cluster.put(&supervisor("s", &json!([{"group": "h"}])));
    cluster.put(&group("h", "OneForOne"));
    cluster.put(&group("g", "OneForOne"));
    cluster.put(&message_object("MessageBus", "b", &json!({})));
    for topic in ["t", "u"] {
        cluster.put(&message_object("Topic", topic, &json!({"bus": "b"})));
    }
    let rules = json!({"from": {"topic": "t"}, "rules": [{"to": [{"topic": "u"}]}]});
    cluster.put(&message_object("Route", "r", &rules));
    cluster.put(&replicas("w", 2));
    let mut paused = widget("p", "example/lone:1");
    paused["spec"]["rollout"] = json!({"paused": true});
    cluster.put(&paused);
    cluster.put(&widget("many", "example/many:0"));
    cluster.settle();
    for image in 1..=revisions {
        cluster.edit(WIDGETS, "many", |widget| {
            widget["spec"]["container"] = container(&format!("example/many:{image}"));
        });
        cluster.pass(Duration::from_secs(10));
    }
    cluster.edit(WIDGETS, "p", |widget| widget["spec"]["container"] = container("example/lone:2"));
    cluster.settle();
}

/// Ends the widget's container, where there is one.
fn end(cluster: &mut Cluster, name: &str) {
    if cluster.pod(name, 0).is_some() {
        cluster.end(name, &Ended::code(1));
    }
}

/// What needs every right of a widget's namespace.
fn change_everything(cluster: &mut Cluster) {
    let operator = cluster.operator.as_ref().unwrap();
    operator.session.drop_watches(false);
    cluster.server.compact();
    trust(cluster, "two");
    cluster.server.delete("configmaps", "default", "kontrol-trust").unwrap();
    cluster.edit(WIDGETS, "w", |widget| {
        widget["spec"]["replicas"] = 1.into();
        widget["spec"]["container"]["ports"] = json!([{"containerPort": 9000}]);
    });
    cluster.edit(WIDGETS, "many", |widget| widget["spec"]["container"] = container("example/many:11"));
    cluster.kubelet.evict("default", "p-0-1");
    end(cluster, "h-b");
    cluster.edit(GROUPS, "g", |group| {
        let widgets = group["spec"]["widgets"].as_array_mut().unwrap();
        widgets.remove(2);
        widgets[0]["container"] = container("example/widget:2");
        widgets.push(json!({"name": "d", "container": container("example/widget:1")}));
    });
    cluster.put(&group("k", "OneForOne"));
    cluster.put(&replicas("x", 2));
    cluster.put(&message_object("Topic", "v", &json!({})));
    cluster.put(&message_object("MessageBus", "b2", &json!({})));
    cluster.server.delete("topics.kontrol.dev", "default", "u").unwrap();
    cluster.settle();
    // The hub of this one has no other name.
    cluster.server.delete("topics.kontrol.dev", "default", "v").unwrap();
    end(cluster, "h-b");
    cluster.settle();
    tell(cluster);
}

/// Names that somebody else has.
fn collide(cluster: &mut Cluster) {
    foreign(cluster, "v1", "Service", "y", &json!({"selector": {"app": "y"}, "ports": [{"port": 80}]}));
    let budget = json!({"minAvailable": 1, "selector": {"matchLabels": {"app": "z"}}});
    foreign(cluster, "policy/v1", "PodDisruptionBudget", "z", &budget);
    cluster.put(&widget("y", "example/lone:1"));
    cluster.put(&replicas("z", 2));
    cluster.edit(WIDGETS, "x", |widget| widget["spec"]["replicas"] = 3.into());
    cluster.settle();
}

fn refused(cluster: &Cluster) -> Vec<String> {
    let refused = cluster.operator.iter().flat_map(|operator| &operator.refused);
    refused.filter(|line| line.contains("Forbidden")).cloned().collect()
}

/// Replicas that lead one after the other.
async fn lead(rules: &Rules) {
    let server = ApiServer::new();
    server.set_rules(USER, rules.clone());
    let is_labelled = |server: &ApiServer, name: &str| {
        let pod = server.get("pods", NAMESPACE, name).unwrap_or_default();
        pod["metadata"]["labels"]["kontrol.dev/leader"] == "true"
    };
    for name in ["operator-a", "operator-b"] {
        let pod = json!({
            "apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "namespace": NAMESPACE},
            "spec": {"containers": [{"name": "operator", "image": "kontrol-operator"}]},
        });
        server.put(pod).unwrap();
        let any = "127.0.0.1:0".to_owned();
        let options =
            Options { pod_name: name.to_owned(), control: any.clone(), admin: any, ..Options::default() };
        let session = server.session(USER);
        let own = session.clone();
        let world = World::new(session.client(), options).elected_by(move || Ok(own.client()));
        let stop = CancellationToken::new();
        let mut task = JoinSet::new();
        task.spawn(world.run(stop.clone()));
        let limit = Duration::from_mins(1);
        assert!(server.until(limit, |server| is_labelled(server, name)).await, "{name} does not lead");
        let looks = |_: &ApiServer| {
            session.calls().iter().any(|call| (call.verb, call.resource.as_str()) == ("get", "pods"))
        };
        assert!(server.until(limit, looks).await, "{name} does not look at its label");
        stop.cancel();
        task.join_next().await.unwrap().unwrap().unwrap();
    }
}

#[tokio::test]
async fn the_chart_gives_every_right_that_is_used_and_no_other() {
    let rules = rules();
    for (name, scenario) in scenarios::ALL {
        let mut cluster = under(&rules);
        scenario(&mut cluster);
        tell(&mut cluster);
        assert_eq!(refused(&cluster), [""; 0], "{name}");
    }
    let mut cluster = under(&rules);
    everything(&mut cluster, 10);
    change_everything(&mut cluster);
    collide(&mut cluster);
    assert_eq!(refused(&cluster), [""; 0]);
    let mut cluster = under(&rules).with_sidecars();
    cluster.put(&widget("w", "example/lone:1"));
    cluster.pass(Duration::from_secs(5));
    assert_eq!(refused(&cluster), [""; 0]);
    lead(&rules).await;
    assert_eq!(rules.unused(), ELSEWHERE);
}
