//! What has to be there before pods are: the widgets of a group, the finalizer, the templates.

use kontrol_core::spec;
use kontrol_crds as api;
use serde_json::{Value, json};

use super::{Purpose, State, Tree, act, reconcile::Requests};
use crate::kubernetes::{
    forest::Root,
    kind::Kind,
    object::{FINALIZER, Key, Own},
    render,
    request::{Request, Verb},
};

impl State {
    /// What is missing.
    pub(super) fn prepare(&self, root: &Root, own: &Own, tree: &Tree) -> Requests {
        let mut requests = Requests::new();
        let Some(node) = tree.node.as_deref() else { return requests };
        let groups = super::groups(node);
        let ordered = root.kind == Kind::WidgetGroup && groups.iter().any(|group| group.widgets.len() > 1);
        if ordered && !own.meta.has_finalizer() {
            let mut finalizers: Vec<&str> = own.meta.finalizers().collect();
            finalizers.push(FINALIZER);
            let body = json!({
                "metadata": {
                    "resourceVersion": own.meta.version.to_string(), "uid": own.meta.uid, "finalizers": finalizers,
                },
            });
            let request = Request::new(Verb::Merge, root.kind, &root.key.namespace, &root.key.name);
            requests.push((Purpose::Prepare, request.by("kontrol-reconciler").with(body)));
        }
        requests.extend(self.trust(&root.key.namespace));
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

    /// What the sidecars of a namespace have to trust, where it is not there yet.
    pub(super) fn trust(&self, namespace: &str) -> Requests {
        let Some((bundle, hash)) = &self.trust else { return Requests::new() };
        if self.trusted.get(namespace) == Some(hash) {
            return Requests::new();
        }
        let body = json!({
            "apiVersion": "v1", "kind": "ConfigMap",
            "metadata": {
                "name": render::names::TRUST, "namespace": namespace,
                "labels": {"app.kubernetes.io/managed-by": "kontrol"},
            },
            "data": {render::names::TRUST_KEY: bundle},
        });
        let request = Request::new(Verb::Apply, Kind::ConfigMap, namespace, render::names::TRUST);
        vec![(Purpose::Trust(namespace.into(), hash.clone()), request.by("kontrol-authority").with(body))]
    }

    /// The widgets of a group, as objects.
    fn stamp(&self, tree: &Tree, key: &Key, group: &spec::Group, requests: &mut Requests) {
        let Some(own) = self.store.own(Kind::WidgetGroup, key) else { return };
        let text = own.readable().read();
        let Ok(spec) = serde_json::from_str::<api::WidgetGroupSpec>(&text) else { return };
        for template in &spec.widgets {
            let Some(widget) = group.widgets.iter().find(|widget| widget.id.widget.as_str() == template.name)
            else {
                continue;
            };
            let (object, _) = self.object_of(tree, &widget.id);
            let there = self.store.own(Kind::Widget, &object);
            if there.is_some_and(|there| there.meta.deleting().is_some()) {
                continue;
            }
            let owner = render::Owner {
                kind: Kind::WidgetGroup.as_str(),
                name: key.name.to_string(),
                uid: own.meta.uid.to_string(),
            };
            let mut body = render::child_widget(&widget.id, &owner, &template.spec);
            let hash = hash(&body["spec"]);
            if there.and_then(|there| there.meta.annotation("template")) != Some(hash.as_str()) {
                // Replicas are another concern, with a manager of its own.
                if let Some(annotations) = body["metadata"]["annotations"].as_object_mut() {
                    annotations.remove("kontrol.dev/template-replicas");
                    annotations.insert("kontrol.dev/template".to_owned(), json!(hash));
                }
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
        if self.store.has_owned(Kind::ControllerRevision, &key) || own.meta.deleting().is_some() {
            return None;
        }
        let spec = self.declared_spec(tree, &widget.id)?;
        let owner = render::Owner {
            kind: Kind::Widget.as_str(),
            name: object.name.to_string(),
            uid: own.meta.uid.to_string(),
        };
        let input = render::RevisionInput {
            id: &widget.id,
            object: &object.name,
            owner: &owner,
            revision: widget.revision,
            number: self.next_revision(&object),
            spec: &spec,
        };
        let mut body = serde_json::to_value(render::controller_revision(&input)).unwrap_or_default();
        body["apiVersion"] = json!(Kind::ControllerRevision.api_version());
        body["kind"] = json!(Kind::ControllerRevision.as_str());
        // The number is needed where only the metadata is kept.
        body["metadata"]["annotations"] = json!({"kontrol.dev/number": input.number.to_string()});
        let request = Request::new(Verb::Apply, Kind::ControllerRevision, &object.namespace, &name);
        Some((Purpose::Prepare, request.by("kontrol-rollout").with(body)))
    }

    /// The number of the next template of an object: one above all that there are.
    fn next_revision(&self, object: &Key) -> i64 {
        let prefix = format!("{}-", object.name);
        let kept = self.store.owned_named(Kind::ControllerRevision, &object.namespace, &prefix);
        let numbers = kept
            .filter(|(_, there)| *there.of == *object.name)
            .filter_map(|(_, there)| there.meta.annotation("number")?.parse::<i64>().ok());
        numbers.max().unwrap_or(0) + 1
    }
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
