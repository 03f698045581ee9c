//! An operator that has rights in some namespaces alone.

use kontrol_e2e_apiserver::Rules;
use kontrol_operator::kubernetes::Options;
use serde_json::{Value, json};

use crate::{
    cluster::{Cluster, Trouble},
    operator::USER,
    scenarios::{WIDGETS, container, message_object, widget},
    shape::conditions,
};

const TOPICS: &str = "topics.kontrol.dev";

/// A role in each of these namespaces.
fn may_see(cluster: &Cluster, namespaces: &[&str]) {
    let any = json!({"rules": [{"apiGroups": ["*"], "resources": ["*"], "verbs": ["*"]}]});
    let each = namespaces.iter().fold(Rules::default(), |rules, name| rules.with(&any, Some(name)));
    cluster.server.set_rules(USER, each);
    // Rights are looked at where a watch is opened.
    if let Some(operator) = &cluster.operator {
        operator.session.drop_watches(false);
    }
}

fn put(cluster: &mut Cluster, namespace: &str, mut object: Value) {
    object["metadata"]["namespace"] = namespace.into();
    cluster.put(&object);
}

fn says(cluster: &Cluster, resource: &str, namespace: &str, name: &str, wanted: &str) {
    let said = conditions(&cluster.server.get(resource, namespace, name).unwrap_or_default());
    assert!(
        said.iter().any(|one| one.starts_with(wanted)),
        "{namespace}/{name} {wanted}: {said:?}\n{}",
        cluster.history()
    );
}

/// What the pods of a namespace run.
fn images(cluster: &Cluster, namespace: &str) -> Vec<String> {
    let pods = cluster.server.list("pods", namespace);
    let image = |pod: &Value| pod["spec"]["containers"][0]["image"].as_str().unwrap_or_default().to_owned();
    pods.iter().filter(|pod| pod["metadata"]["deletionTimestamp"].is_null()).map(image).collect()
}

fn cluster() -> Cluster {
    let names = ["shop", "lab"];
    let watch_namespaces = names.map(str::to_owned).into();
    let options = Options { watch_namespaces, ..Options::default() };
    let mut cluster = Cluster::with(options, Trouble::Nothing);
    for name in names {
        cluster.put(&json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}));
    }
    cluster
}

#[test]
fn a_namespace_whose_rights_go_stops_no_other() {
    let mut cluster = cluster();
    may_see(&cluster, &["shop", "lab"]);
    for namespace in ["shop", "lab"] {
        put(&mut cluster, namespace, widget("w", "example/lone:1"));
    }
    cluster.settle();
    for namespace in ["shop", "lab"] {
        says(&cluster, WIDGETS, namespace, "w", "Ready=True");
    }
    may_see(&cluster, &["shop"]);
    cluster.settle();
    for namespace in ["shop", "lab"] {
        let edited = cluster.server.edit(WIDGETS, namespace, "w", |widget| {
            widget["spec"]["container"] = container("example/lone:2");
        });
        assert!(edited);
    }
    cluster.settle();
    assert_eq!(images(&cluster, "shop"), ["example/lone:2"], "{}", cluster.history());
    assert_eq!(images(&cluster, "lab"), ["example/lone:1"], "{}", cluster.history());
    // Another process begins without a look at it.
    cluster.crash();
    put(&mut cluster, "shop", widget("v", "example/lone:1"));
    cluster.settle();
    says(&cluster, WIDGETS, "shop", "v", "Ready=True");
    may_see(&cluster, &["shop", "lab"]);
    cluster.settle();
    assert_eq!(images(&cluster, "lab"), ["example/lone:2"], "{}", cluster.history());
}

#[test]
fn a_namespace_that_may_never_be_seen_is_not_waited_for() {
    let mut cluster = cluster();
    may_see(&cluster, &["shop"]);
    put(&mut cluster, "shop", widget("w", "example/lone:1"));
    put(&mut cluster, "shop", message_object("Topic", "t", &json!({"bus": "default"})));
    put(&mut cluster, "lab", widget("w", "example/lone:1"));
    cluster.settle();
    says(&cluster, WIDGETS, "shop", "w", "Ready=True");
    says(&cluster, TOPICS, "shop", "t", "Accepted=True");
    assert_eq!(cluster.server.list("pods", "lab"), Vec::<Value>::new());
    may_see(&cluster, &["shop", "lab"]);
    cluster.settle();
    says(&cluster, WIDGETS, "lab", "w", "Ready=True");
}
