//! What follows pods: services and budgets, widgets that a group no longer has, old revisions, and statuses that a tree above has
//! taken over.

use std::collections::BTreeSet;

use kontrol_core::spec;
use serde_json::{Value, json};

use super::{Purpose, State, Tree, act, prepare, reconcile::Requests};
use crate::kubernetes::{
    forest::key_of,
    kind::Kind,
    object::{Key, Own},
    observe, render,
    request::{Request, Verb},
};

/// Revisions of a widget that are kept.
const HISTORY: usize = 10;

impl State {
    /// What is to be done.
    pub(super) fn follow(&self, own: &Own, tree: &Tree) -> Requests {
        let mut requests = self.sweep(tree);
        requests.extend(self.take_over(own, tree));
        for widget in tree.node.as_deref().into_iter().flat_map(super::widgets) {
            self.surround(tree, widget, &mut requests);
        }
        requests
    }

    /// The Service and the budget of a widget, and what is left of its old revisions.
    fn surround(&self, tree: &Tree, widget: &spec::Widget, requests: &mut Requests) {
        let (object, _) = self.object_of(tree, &widget.id);
        let Some(own) = self.store.own(Kind::Widget, &object).filter(|own| own.meta.deleting.is_none())
        else {
            return;
        };
        if widget.container.is_none() {
            return;
        }
        let Some(spec) = self.declared_spec(tree, &widget.id) else { return };
        let owner = render::Owner {
            kind: Kind::Widget.as_str(),
            name: object.name.to_string(),
            uid: own.meta.uid.to_string(),
        };
        let service = serde_json::to_value(render::service(&widget.id, &owner, &spec)).unwrap_or_default();
        requests.extend(self.apply(Kind::Service, &object, service));
        let desired = observe::noted(&tree.status, &widget.id).map_or(widget.replicas, |noted| noted.desired);
        let input = render::BudgetInput { id: &widget.id, owner: &owner, spec: &spec, desired };
        if let Some(budget) = render::disruption_budget(&input) {
            let budget = serde_json::to_value(budget).unwrap_or_default();
            requests.extend(self.apply(Kind::PodDisruptionBudget, &object, budget));
        } else {
            let there = self.store.owned(Kind::PodDisruptionBudget, &object);
            let ours = there.filter(|there| {
                there.meta.controller.as_ref().is_some_and(|owner| owner.uid == own.meta.uid)
            });
            requests.extend(ours.map(|there| {
                (Purpose::Stop, act::remove(Kind::PodDisruptionBudget, &object, &there.meta.uid, None))
            }));
        }
        self.prune(tree, widget, &object, requests);
    }

    /// The request that makes an object this one; none: it is so.
    fn apply(&self, kind: Kind, key: &Key, mut body: Value) -> Option<(Purpose, Request)> {
        let hash = prepare::hash(&body);
        let there = self.store.owned(kind, key);
        if there.and_then(|there| there.meta.annotation("applied")) == Some(hash.as_str()) {
            return None;
        }
        if let Some(metadata) = body["metadata"].as_object_mut() {
            let annotations = metadata.entry("annotations").or_insert_with(|| json!({}));
            annotations["kontrol.dev/applied"] = json!(hash);
        }
        body["apiVersion"] = json!(kind.api_version());
        body["kind"] = json!(kind.as_str());
        let request = Request::new(Verb::Apply, kind, &key.namespace, &key.name);
        Some((Purpose::Follow, request.by("kontrol-reconciler").with(body)))
    }

    /// Removes the oldest revisions beyond the history, but none that anything runs from or may go back to.
    fn prune(&self, tree: &Tree, widget: &spec::Widget, object: &Key, requests: &mut Requests) {
        let prefix = format!("{}-", object.name);
        let mut revisions: Vec<_> = self
            .store
            .owned_named(Kind::ControllerRevision, &object.namespace, &prefix)
            .filter(|(_, there)| *there.of == *object.name)
            .collect();
        if revisions.len() <= HISTORY {
            return;
        }
        let mut used = BTreeSet::from([act::revision_name(object, widget.revision)]);
        if let Some(noted) = observe::noted(&tree.status, &widget.id) {
            used.insert(act::revision_name(object, noted.revision));
            used.extend(noted.good.map(|good| act::revision_name(object, good)));
            used.extend(noted.replicas.iter().map(|replica| act::revision_name(object, replica.revision)));
        }
        revisions.sort_by_key(|(_, there)| there.meta.version);
        let beyond = revisions.len() - HISTORY;
        for (name, there) in
            revisions.into_iter().filter(|(name, _)| !used.contains(&*name.name)).take(beyond)
        {
            requests
                .push((Purpose::Stop, act::remove(Kind::ControllerRevision, name, &there.meta.uid, None)));
        }
    }

    /// Removes widgets that their group no longer has, once nothing of them runs.
    fn sweep(&self, tree: &Tree) -> Requests {
        let mut requests = Requests::new();
        let mut noted = BTreeSet::new();
        observe::each_widget(&tree.status, &mut |id, _| {
            noted.insert(id.clone());
        });
        let Some(node) = tree.node.as_deref() else { return requests };
        for group in super::groups(node) {
            let key = key_of(&group.id);
            let Some(own) = self.store.own(Kind::WidgetGroup, &key) else { continue };
            let wanted: BTreeSet<Key> =
                group.widgets.iter().map(|widget| self.object_of(tree, &widget.id).0).collect();
            let kept: BTreeSet<Key> = noted
                .iter()
                .filter(|id| id.group == group.id.name)
                .map(|id| self.object_of(tree, id).0)
                .collect();
            let prefix = format!("{}-", key.name);
            for (name, there) in self.store.named(Kind::Widget, &key.namespace, &prefix) {
                let ours = there.meta.controller.as_ref().is_some_and(|owner| owner.uid == own.meta.uid);
                if ours && there.meta.deleting.is_none() && !wanted.contains(name) && !kept.contains(name) {
                    requests.push((Purpose::Stop, act::remove(Kind::Widget, name, &there.meta.uid, None)));
                }
            }
        }
        requests
    }

    /// The status of what is a child now speaks for no tree any more.
    fn take_over(&self, own: &Own, tree: &Tree) -> Requests {
        if own.supervision.is_empty() {
            return Requests::new();
        }
        let below = tree.members.iter().skip(1).filter_map(|(kind, key)| {
            let child = self.store.own(*kind, key).filter(|child| !child.supervision.is_empty())?;
            let body = json!({
                "metadata": {"resourceVersion": child.meta.version.to_string(), "uid": child.meta.uid},
                "status": {"supervision": null},
            });
            let request = Request::new(Verb::Merge, *kind, &key.namespace, &key.name).of("status");
            Some((Purpose::Follow, request.by("kontrol-plan").with(body)))
        });
        below.collect()
    }
}
