//! What a cluster has come to, without what may differ between two ways to the same end.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::cluster::Cluster;

/// The state of a cluster at rest.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Shape {
    /// Object by kind and name: what is declared, and its conditions.
    pub(crate) objects: BTreeMap<String, Vec<String>>,
    /// Pod by widget and ordinal: epoch, revision, phase, readiness.
    pub(crate) pods: BTreeMap<String, Vec<String>>,
    /// Pods made, by widget and ordinal.
    pub(crate) made: BTreeMap<String, usize>,
}

const KINDS: [&str; 12] = [
    "supervisors.kontrol.dev",
    "widgetgroups.kontrol.dev",
    "widgets.kontrol.dev",
    "messagebuses.kontrol.dev",
    "topics.kontrol.dev",
    "routes.kontrol.dev",
    "services",
    "persistentvolumeclaims",
    "configmaps",
    "leases.coordination.k8s.io",
    "controllerrevisions.apps",
    "poddisruptionbudgets.policy",
];

impl Shape {
    pub(crate) fn of(cluster: &Cluster) -> Self {
        let mut objects = BTreeMap::new();
        for kind in KINDS {
            for object in cluster.server.list(kind, "") {
                if object["metadata"]["namespace"] == "kube-node-lease" {
                    continue;
                }
                let name = object["metadata"]["name"].as_str().unwrap_or_default();
                objects.insert(format!("{kind}/{name}"), conditions(&object));
            }
        }
        let mut pods: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for pod in cluster.server.list("pods", "").iter().filter(|pod| is_ours(pod)) {
            let labels = &pod["metadata"]["labels"];
            let text = |name: &str| labels[name].as_str().unwrap_or_default().to_owned();
            let phase = pod["status"]["phase"].as_str().unwrap_or_default();
            let line = format!(
                "epoch {} revision {} {phase} {}",
                text("kontrol.dev/epoch"),
                text("kontrol.dev/revision"),
                if pod["metadata"]["deletionTimestamp"].is_null() { "stays" } else { "goes" },
            );
            pods.entry(replica(pod)).or_default().push(line);
        }
        let mut made = BTreeMap::new();
        for change in cluster.server.changes(0).iter().filter(|change| change.resource == "pods") {
            if let (None, Some(pod)) = (&change.before, &change.after)
                && is_ours(pod)
            {
                *made.entry(replica(pod)).or_default() += 1;
            }
        }
        Self { objects, pods, made }
    }
}

pub(crate) fn is_ours(pod: &Value) -> bool {
    let labels = &pod["metadata"]["labels"];
    labels["kontrol.dev/widget"].is_string() || labels["kontrol.dev/bus"].is_string()
}

/// The name of a replica: its pod's, without the incarnation.
pub(crate) fn replica(pod: &Value) -> String {
    let name = pod["metadata"]["name"].as_str().unwrap_or_default();
    name.rsplit_once('-').map_or(name, |(replica, _)| replica).to_owned()
}

/// The conditions of an object, `Ready=True:Reason`.
pub(crate) fn conditions(object: &Value) -> Vec<String> {
    let text = |one: &Value, field: &str| one[field].as_str().unwrap_or_default().to_owned();
    let mut found: Vec<_> = object["status"]["conditions"]
        .as_array()
        .into_iter()
        .flatten()
        .map(|one| format!("{}={}:{}", text(one, "type"), text(one, "status"), text(one, "reason")))
        .collect();
    found.sort();
    found
}

/// What must hold at every moment of a history.
pub(crate) fn check_history(cluster: &Cluster, said: &str) {
    let mut live: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for change in cluster.server.changes(0).iter().filter(|change| change.resource == "pods") {
        let pod = change.after.as_ref().or(change.before.as_ref()).unwrap();
        if !is_ours(pod) {
            let touched =
                change.after.as_ref().is_none_or(|pod| !pod["metadata"]["deletionTimestamp"].is_null());
            assert!(!touched, "{said}: {} of somebody else was touched", change.name);
            continue;
        }
        let of = live.entry(replica(pod)).or_default();
        of.retain(|name| *name != change.name);
        let ended = |pod: &Value| {
            !pod["metadata"]["deletionTimestamp"].is_null()
                || matches!(pod["status"]["phase"].as_str(), Some("Succeeded" | "Failed"))
        };
        if change.after.as_ref().is_some_and(|pod| !ended(pod)) {
            of.push(change.name.clone());
            assert!(of.len() == 1, "{said}: {of:?} run at the same time\n{}", cluster.history());
        }
    }
}
