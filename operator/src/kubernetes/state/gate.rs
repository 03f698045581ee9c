//! The readiness gates of pods: what sidecars say of their widgets, where Services and `kubectl wait` read it.

use kontrol_core::time::Timestamp;
use kontrol_plan::InstanceState;
use serde_json::json;

use super::{
    Purpose, State, Tree,
    reconcile::{Requests, groups_of},
};
use crate::kubernetes::{
    kind::Kind,
    object::Key,
    observe::{self, Word},
    pod::Pod,
    render::names::READY,
    request::{Request, Verb},
    time,
};

impl State {
    /// Writes the gates of a tree's pods that say something else than their sidecars. The kubelet holds a pod back until its gate is true: one whose
    /// sidecar has not spoken is not ready, and one whose sidecar is silent stays what it was.
    pub(super) fn gates(&self, tree: &Tree, now: Timestamp) -> Requests {
        if tree.gates.until(now).is_some() {
            return Requests::new();
        }
        let groups = groups_of(tree);
        let pods = groups.iter().flat_map(|(namespace, group)| self.store.pods_of(namespace, group));
        pods.filter_map(|(key, pod)| {
            let word = self.word(pod)?;
            (pod.gate? != is_ready(word) && pod.meta.deleting().is_none() && !observe::is_over(pod))
                .then(|| (Purpose::Gate, gate(key, pod, word, now)))
        })
        .collect()
    }
}

fn is_ready(word: &Word) -> bool {
    word.state == InstanceState::Ready
}

/// The request that writes the gate of a pod: of no other one of its name, and beside what others write of it.
fn gate(key: &Key, pod: &Pod, word: &Word, now: Timestamp) -> Request {
    let (status, reason, message) = match (is_ready(word), word.state) {
        (true, _) => ("True", "Ready", "the widget is ready"),
        (_, InstanceState::Hung) => ("False", "Hung", "the widget does not answer"),
        _ => ("False", "NotReady", "the widget is not ready"),
    };
    let condition = json!({
        "type": READY, "status": status, "reason": reason,
        "message": word.message.as_deref().unwrap_or(message), "lastTransitionTime": time::seconds(now),
    });
    let body = json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": key.name, "namespace": key.namespace, "uid": pod.meta.uid},
        "status": {"conditions": [condition]},
    });
    Request::new(Verb::Apply, Kind::Pod, &key.namespace, &key.name)
        .of("status")
        .by("kontrol-readiness")
        .with(body)
}
