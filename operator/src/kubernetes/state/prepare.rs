//! What has to be there before pods are: the widgets of a group, the finalizer, the templates.

use kontrol_core::{id::WidgetId, spec};
use kontrol_crds as api;
use serde_json::{Value, json};

use super::{Purpose, State, Tree, act, reconcile::Requests};
use crate::kubernetes::{
    forest::Root,
    kind::Kind,
    object::{FINALIZER, Key, Own},
    request::{Request, Verb},
};

impl State {
    /// What is missing.
    pub(super) fn prepare(&self, root: &Root, own: &Own, tree: &Tree) -> Requests {
        let mut requests = Requests::new();
        let Some(node) = tree.node.as_deref() else { return requests };
        let groups = super::groups(node);
        let ordered = root.kind == Kind::WidgetGroup && groups.iter().any(|group| group.widgets.len() > 1);
        if ordered && !own.meta.finalizer {
            let mut finalizers: Vec<&str> = own.meta.finalizers.iter().map(AsRef::as_ref).collect();
            finalizers.push(FINALIZER);
            let body = json!({
                "metadata": {
                    "resourceVersion": own.meta.version.to_string(), "uid": own.meta.uid, "finalizers": finalizers,
                },
            });
            let request = Request::new(Verb::Merge, root.kind, &root.key.namespace, &root.key.name);
            requests.push((Purpose::Prepare, request.by("kontrol-reconciler").with(body)));
        }
        for group in groups {
            let key = crate::kubernetes::forest::key_of(&group.id);
            if tree.members.contains(&(Kind::WidgetGroup, key.clone())) {
                self.stamp(tree, &key, group, &mut requests);
            }
            for widget in &group.widgets {
                requests.extend(self.keep(tree, widget));
            }
        }
        requests
    }

    /// The widgets of a group, as objects.
    fn stamp(&self, tree: &Tree, key: &Key, group: &spec::Group, requests: &mut Requests) {
        let Some(own) = self.store.own(Kind::WidgetGroup, key) else { return };
        let text = own.good.as_deref().unwrap_or(&own.spec);
        let Ok(spec) = serde_json::from_str::<api::WidgetGroupSpec>(text) else { return };
        for template in &spec.widgets {
            let Some(widget) = group.widgets.iter().find(|widget| widget.id.widget.as_str() == template.name)
            else {
                continue;
            };
            let (object, _) = self.object_of(tree, &widget.id);
            let there = self.store.own(Kind::Widget, &object);
            if there.is_some_and(|there| there.meta.deleting.is_some()) {
                continue;
            }
            let mut spec = serde_json::to_value(&template.spec).unwrap_or_default();
            if let Value::Object(spec) = &mut spec {
                spec.remove("replicas");
            }
            let hash = hash(&spec);
            if there.and_then(|there| there.meta.annotation("template")) != Some(hash.as_str()) {
                let body = json!({
                    "apiVersion": api::API_VERSION, "kind": "Widget",
                    "metadata": {
                        "name": object.name, "namespace": object.namespace,
                        "labels": labels(&widget.id),
                        "annotations": {
                            "kontrol.dev/group-widget": template.name, "kontrol.dev/template": hash,
                        },
                        "ownerReferences": [act::owner(Kind::WidgetGroup, key, &own.meta.uid)],
                    },
                    "spec": spec,
                });
                let request = Request::new(Verb::Apply, Kind::Widget, &object.namespace, &object.name);
                requests.push((Purpose::Prepare, request.by("kontrol-reconciler").with(body)));
                continue;
            }
            let wanted = template.spec.replicas.to_string();
            if there.and_then(|there| there.meta.annotation("template-replicas")) != Some(wanted.as_str()) {
                let body = json!({
                    "apiVersion": api::API_VERSION, "kind": "Widget",
                    "metadata": {
                        "name": object.name, "namespace": object.namespace,
                        "annotations": {"kontrol.dev/template-replicas": wanted},
                    },
                    "spec": {"replicas": template.spec.replicas},
                });
                let request = Request::new(Verb::Apply, Kind::Widget, &object.namespace, &object.name);
                requests.push((Purpose::Prepare, request.by("kontrol-replicas").with(body)));
            }
        }
    }

    /// The template of a widget's revision, kept so that it can be gone back to.
    fn keep(&self, tree: &Tree, widget: &spec::Widget) -> Option<(Purpose, Request)> {
        let (object, _) = self.object_of(tree, &widget.id);
        let own = self.store.own(Kind::Widget, &object)?;
        let name = act::revision_name(&object, widget.revision);
        let key = Key::new(&object.namespace, &name);
        if self.store.owned(Kind::ControllerRevision, &key).is_some() || own.meta.deleting.is_some() {
            return None;
        }
        let mut spec = serde_json::to_value(self.declared_spec(tree, &widget.id)?).unwrap_or_default();
        if let Value::Object(spec) = &mut spec {
            spec.remove("replicas");
        }
        let body = json!({
            "apiVersion": Kind::ControllerRevision.api_version(), "kind": "ControllerRevision",
            "metadata": {
                "name": name, "namespace": object.namespace,
                "labels": object_labels(&widget.id, &object),
                "ownerReferences": [act::owner(Kind::Widget, &object, &own.meta.uid)],
            },
            "revision": self.next_revision(&object),
            "data": {"spec": spec},
        });
        let request = Request::new(Verb::Apply, Kind::ControllerRevision, &object.namespace, &name);
        Some((Purpose::Prepare, request.by("kontrol-rollout").with(body)))
    }

    /// The number of the next template of an object: they only grow, and each is of its own generation.
    fn next_revision(&self, object: &Key) -> u64 {
        let own = self.store.own(Kind::Widget, object);
        own.map_or(1, |own| u64::try_from(own.meta.generation).unwrap_or(1))
    }
}

/// The labels of everything of a widget.
pub(super) fn labels(id: &WidgetId) -> Value {
    json!({
        "app.kubernetes.io/name": id.widget, "app.kubernetes.io/part-of": id.group,
        "app.kubernetes.io/managed-by": "kontrol",
        "kontrol.dev/group": id.group, "kontrol.dev/widget": id.widget,
    })
}

/// The labels of what a widget's object owns.
pub(super) fn object_labels(id: &WidgetId, object: &Key) -> Value {
    let mut labels = labels(id);
    labels["kontrol.dev/widget-object"] = json!(object.name);
    labels
}

/// A short hash of what was applied, to be told from what is to be applied.
pub(super) fn hash(value: &Value) -> String {
    use sha2::{Digest as _, Sha256};
    let digest = Sha256::digest(value.to_string().as_bytes());
    digest.iter().take(8).fold(String::with_capacity(16), |mut text, byte| {
        for digit in [byte >> 4, byte & 0xf] {
            text.extend(char::from_digit(digit.into(), 16));
        }
        text
    })
}
