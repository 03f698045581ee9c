//! What follows pods: services and budgets, widgets that a group no longer has, old revisions, and statuses that a tree above has
//! taken over.
//!
//! Services and budgets are made with a create, which never takes what is there, and only those that are ours are changed: a name that
//! somebody else's object has is said, and asked for again at growing pauses.

use std::collections::{BTreeMap, BTreeSet};

use kontrol_core::{spec, time::Timestamp};
use serde_json::{Value, json};

use super::{Pause, Purpose, State, Tree, act, prepare, reconcile::Requests};
use crate::kubernetes::{
    forest::{Problem, key_of},
    kind::Kind,
    object::{Key, Own, Owned},
    observe, render,
    request::{Request, Verb},
};

/// Revisions of a widget that are kept.
const HISTORY: usize = 10;

/// What has the name of something that a widget is to have.
#[derive(Clone, Debug, Default)]
pub(super) struct Taken {
    /// Whose it is, for people; none: nobody has looked yet.
    by: Option<String>,
    /// Before this is over nobody looks again.
    pause: Pause,
}

/// Whose an object is.
enum Holder {
    /// There is none, as far as is seen.
    Nobody,
    /// The widget's.
    Itself,
    /// That of a widget of its name that is gone, which it follows.
    Before,
    /// Somebody else's: whose.
    Other(String),
}

impl State {
    /// What is to be done.
    pub(super) fn follow(&self, own: &Own, tree: &mut Tree, now: Timestamp) -> Requests {
        let mut requests = self.sweep(tree);
        requests.extend(self.take_over(own, tree));
        let node = tree.node.clone();
        let widgets: Vec<_> = node.as_deref().into_iter().flat_map(super::widgets).collect();
        let objects: BTreeSet<Key> =
            widgets.iter().map(|widget| self.object_of(tree, &widget.id).0).collect();
        tree.taken.retain(|(_, key), _| objects.contains(key));
        for widget in widgets {
            self.surround(tree, widget, now, &mut requests);
        }
        requests
    }

    /// The Service and the budget of a widget, and what is left of its old revisions.
    fn surround(&self, tree: &mut Tree, widget: &spec::Widget, now: Timestamp, requests: &mut Requests) {
        let (object, _) = self.object_of(tree, &widget.id);
        let Some(own) = self.store.own(Kind::Widget, &object).filter(|own| own.meta.deleting().is_none())
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
        requests.extend(self.settle(tree, Kind::Service, &object, &owner.uid, service, now));
        let desired = observe::noted(&tree.status, &widget.id).map_or(widget.replicas, |noted| noted.desired);
        let input = render::BudgetInput { id: &widget.id, owner: &owner, spec: &spec, desired };
        let kind = Kind::PodDisruptionBudget;
        if let Some(budget) = render::disruption_budget(&input) {
            let budget = serde_json::to_value(budget).unwrap_or_default();
            requests.extend(self.settle(tree, kind, &object, &owner.uid, budget, now));
        } else {
            tree.more |= tree.taken.remove(&(kind, object.clone())).is_some();
            let there = self.store.owned(kind, &object);
            let ours =
                there.filter(|there| matches!(holder(Some(there), &object, &own.meta.uid), Holder::Itself));
            requests.extend(
                ours.map(|there| (Purpose::Sweep, act::remove(kind, &object, &there.meta.uid, None))),
            );
        }
        self.prune(tree, widget, &object, requests);
    }

    /// The request that makes an object this one, or that finds out whose it is; none: it is so, or it is somebody else's.
    fn settle(
        &self,
        tree: &mut Tree,
        kind: Kind,
        key: &Key,
        uid: &str,
        mut body: Value,
        now: Timestamp,
    ) -> Option<(Purpose, Request)> {
        let hash = prepare::hash(&body);
        let metadata = body["metadata"].as_object_mut()?;
        metadata.entry("annotations").or_insert_with(|| json!({}))["kontrol.dev/applied"] = json!(hash);
        let there = self.store.owned(kind, key);
        let of = (kind, key.clone());
        match holder(there.as_ref(), key, uid) {
            Holder::Nobody => match tree.taken.get(&of) {
                Some(taken) if taken.pause.until(now).is_some() => None,
                Some(_) => Some((Purpose::Whose, Request::new(Verb::Get, kind, &key.namespace, &key.name))),
                None => {
                    body["apiVersion"] = json!(kind.api_version());
                    body["kind"] = json!(kind.as_str());
                    let request = Request::new(Verb::Create, kind, &key.namespace, &key.name);
                    Some((Purpose::Follow, request.by("kontrol-reconciler").with(body)))
                }
            },
            Holder::Itself => {
                tree.more |= tree.taken.remove(&of).is_some();
                let there = there.filter(|there| {
                    there.meta.deleting().is_none() && there.meta.annotation("applied") != Some(hash.as_str())
                })?;
                if there.meta.controller.is_some() {
                    body["metadata"].as_object_mut()?.remove("ownerReferences");
                }
                body["metadata"]["uid"] = json!(there.meta.uid);
                if kind == Kind::Service && body["spec"]["ports"].is_null() {
                    body["spec"]["ports"] = Value::Null;
                }
                let request = Request::new(Verb::Merge, kind, &key.namespace, &key.name);
                Some((Purpose::Follow, request.by("kontrol-reconciler").with(body)))
            }
            Holder::Before => None,
            Holder::Other(by) => {
                tree.more |= tree.is_taken(of, by);
                None
            }
        }
    }

    /// What is wrong with names that somebody else has, by the object that says so.
    pub(super) fn collisions(&self, tree: &Tree) -> BTreeMap<(Kind, Key), Problem> {
        let mut problems = BTreeMap::new();
        if tree.taken.is_empty() {
            return problems;
        }
        for widget in tree.node.as_deref().into_iter().flat_map(super::widgets) {
            let (object, lone) = self.object_of(tree, &widget.id);
            let kinds = [Kind::Service, Kind::PodDisruptionBudget];
            let found = kinds.into_iter().find_map(|kind| {
                let by = tree.taken.get(&(kind, object.clone()))?.by.as_deref()?;
                Some(format!("the {} {} is {by}; rename it, or the widget", kind.as_str(), object.name))
            });
            let Some(message) = found else { continue };
            let group = Key::new(widget.id.namespace.as_str(), widget.id.group.as_str());
            let of = if lone { (Kind::Widget, object) } else { (Kind::WidgetGroup, group) };
            problems.entry(of).or_insert(Problem { reason: "NameCollision", message, goes_on: true });
        }
        problems
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
                .push((Purpose::Sweep, act::remove(Kind::ControllerRevision, name, &there.meta.uid, None)));
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
                if ours && there.meta.deleting().is_none() && !wanted.contains(name) && !kept.contains(name) {
                    requests.push((Purpose::Sweep, act::remove(Kind::Widget, name, &there.meta.uid, None)));
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

impl Tree {
    /// A name was given to somebody else's object; whether that is news.
    fn is_taken(&mut self, of: (Kind, Key), by: String) -> bool {
        let taken = self.taken.entry(of).or_default();
        taken.by.replace(by) != taken.by
    }

    /// A name could not be given: somebody has it.
    pub(super) fn collides(&mut self, of: (Kind, Key)) {
        self.taken.entry(of).or_default();
    }

    /// Whose the object of a name is, as it was read; none: nobody's any more, or one that the watch shows as well.
    pub(super) fn belongs(&mut self, of: (Kind, Key), there: Option<&Owned>, now: Timestamp) {
        match there {
            Some(there) => {
                self.is_taken(of.clone(), whose(there));
                self.taken.entry(of).or_default().pause.fail(now);
            }
            None => {
                self.taken.remove(&of);
            }
        }
    }

    /// When somebody looks again whether a name is free.
    pub(super) fn next_free(&self, now: Timestamp) -> Option<Timestamp> {
        self.taken.values().filter_map(|taken| taken.pause.until(now)).min()
    }
}

/// Whose an object is that was to be one of the widget of this name and uid.
fn holder(there: Option<&Owned>, widget: &Key, uid: &str) -> Holder {
    let Some(there) = there else { return Holder::Nobody };
    match there.meta.controller.as_deref() {
        Some(owner) if *owner.uid == *uid => Holder::Itself,
        Some(owner) if &*owner.kind == Kind::Widget.as_str() && owner.name == (*widget.name).into() => {
            Holder::Before
        }
        // Made by us, and left behind when its widget was deleted without what it owned.
        None if there.meta.annotation("applied").is_some() => Holder::Itself,
        _ => Holder::Other(whose(there)),
    }
}

fn whose(there: &Owned) -> String {
    match &there.meta.controller {
        Some(owner) => format!("that of the {} {}", owner.kind, owner.name),
        None => "somebody else's".to_owned(),
    }
}
