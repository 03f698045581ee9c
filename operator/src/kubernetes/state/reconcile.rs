//! One look at one tree: the first step that has something to do.

use std::{collections::BTreeMap, sync::Arc};

use kontrol_core::{
    id::{InstanceId, Name, WidgetId},
    spec,
    time::Timestamp,
};
use kontrol_plan::{
    Action, Instance, InstanceState, Observed, RestartRequest, RestartTarget, StartError, Status,
};
use serde_json::json;

use super::{Decided, Effect, Purpose, State, Tree};
use crate::kubernetes::{
    forest::{Problem, Root, id_of},
    kind::Kind,
    object::{Key, Own},
    observe, render,
    request::{Request, Verb},
    text::Text,
    time,
};
use crate::view;

/// Requests with what they are for.
pub(super) type Requests = Vec<(Purpose, Request)>;

impl State {
    /// Looks at a tree.
    pub(super) fn reconcile(&mut self, root: &Root, now: Timestamp, effects: &mut Vec<Effect>) {
        let is_root = self.forest.root_of(&self.store, root.kind, &root.key).as_ref() == Some(root);
        let (released, deadline) = if is_root { self.release(root, now) } else { (Requests::new(), None) };
        if !released.is_empty() {
            for (purpose, request) in released {
                self.ask(root, purpose, request, effects);
            }
            return;
        }
        let kinds = [Kind::Supervisor, Kind::WidgetGroup, Kind::Widget, Kind::Pod];
        if !self.sees(&root.key.namespace, &kinds) {
            // What cannot be seen is not absent; whoever can see again looks at every tree.
            self.queue.soon(root, deadline);
            return;
        }
        let Some(own) = self.store.own(root.kind, &root.key).filter(|_| is_root) else {
            // A widget and a group of one name have one key: what was never declared leaves what is.
            let declared = self.trees.is_declared(root);
            self.trees.remove(root);
            self.queue.at(root, None);
            self.surveyed(root);
            if declared && (is_root || self.store.own(root.kind, &root.key).is_none()) {
                let old = self.declared.set_tree(&root.to_string(), None);
                self.users_changed(old.as_deref(), None);
            }
            return;
        };
        if own.meta.deleting().is_none()
            && self.trees.is_unaware(root)
            && let Some(until) = self.removed_namespaces.until(&root.key.namespace, now)
        {
            self.queue.at(root, Some(until));
            self.queue.soon(root, deadline);
            self.surveyed(root);
            return;
        }
        // One at a time: nothing else looks at this object while it is out.
        let own = own.clone();
        let mut tree = self.trees.take(root, &self.declared);
        let requests = self.look(root, &own, &mut tree, now);
        self.queue.soon(root, deadline);
        let more = tree.more;
        tree.more = false;
        let is_named = tree.node.as_deref().is_some_and(|node| self.concerns_others(node));
        self.trees.put(root, tree);
        self.surveyed(root);
        if more && requests.is_empty() {
            self.mark(root.clone());
        }
        for (purpose, request) in requests {
            self.ask(root, purpose, request, effects);
        }
        if !more {
            self.trees.rest(root, is_named);
        }
    }

    fn look(&mut self, root: &Root, own: &Own, tree: &mut Tree, now: Timestamp) -> Requests {
        read_status(own, tree);
        self.declare(root, own, tree);
        let held = tree.hold.until(now);
        self.queue.at(root, held);
        if held.is_some() {
            return self.show(root, tree, now);
        }
        tree.failed = None;
        let removed = own.meta.deleting().is_some();
        if removed && !own.meta.has_finalizer() {
            // What it owns goes with it.
            return Vec::new();
        }
        if tree.node.is_none() && !removed {
            return self.show(root, tree, now);
        }
        let requests = self.prepare(root, own, tree);
        if !requests.is_empty() {
            return requests;
        }
        if let Some(actions) = decided(own, tree) {
            tree.more = true;
            let requests = self.act(tree, actions, now);
            if !requests.is_empty() {
                return requests;
            }
        }
        let gates = self.gates(tree, now);
        let mut requests = self.plan(root, own, tree, now);
        requests.extend(gates);
        if !requests.is_empty() {
            return requests;
        }
        let requests = self.try_denied(root, tree, now);
        if !requests.is_empty() {
            return requests;
        }
        tree.templates.clear();
        self.queue.soon(root, tree.unread.values().filter_map(|(pause, _)| pause.until(now)).min());
        let (later, until) = (tree.follows.until(now), tree.gates.until(now));
        self.queue.soon(root, later);
        self.queue.soon(root, until);
        if later.is_none() {
            let requests = self.follow(own, tree, now);
            if !requests.is_empty() {
                return requests;
            }
            if until.is_none() {
                // All that was asked for is there.
                tree.refusal = None;
                tree.logged = None;
                tree.behind = None;
            }
        }
        self.queue.soon(root, tree.next_free(now));
        self.queue.soon(root, self.next_news(tree, now));
        if removed {
            return Vec::new();
        }
        let requests = self.show(root, tree, now);
        if requests.is_empty() {
            tree.calm(now);
        }
        requests
    }

    /// Puts the tree together.
    fn declare(&mut self, root: &Root, own: &Own, tree: &mut Tree) {
        let begun = tree.status.root.is_some();
        let runs = |key: &Key| {
            let mut runs =
                id_of(key).is_some_and(|id| self.store.pods_of(&id.namespace, &id.name).next().is_some());
            observe::each_widget(&tree.status, &mut |id, _| {
                runs |= id.group.as_str() == &*key.name && id.namespace.as_str() == &*key.namespace;
            });
            runs
        };
        let mut assembled = self.forest.assemble(&self.store, root, begun, &runs);
        if root.kind == Kind::Widget && self.store.own(Kind::WidgetGroup, &root.key).is_some() {
            let message =
                format!("there is a WidgetGroup {} in this namespace; rename one of them", root.key.name);
            let problem = Problem { reason: "NameCollision", message, goes_on: false };
            assembled.problems.insert((root.kind, root.key.clone()), problem);
            assembled.node = None;
        }
        for (kind, key) in &assembled.members {
            let invalid =
                assembled.problems.get(&(*kind, key.clone())).is_some_and(|known| known.reason == "Invalid");
            if !invalid && self.store.own(*kind, key).is_some_and(|own| own.good.is_some()) {
                self.store.is_good(*kind, key);
            }
        }
        let node = assembled.node.filter(|_| own.meta.deleting().is_none());
        if tree.node.as_deref() != node.as_ref() {
            let old = std::mem::replace(&mut tree.node, node.map(Arc::new));
            self.declared.set_tree(&root.to_string(), tree.node.clone());
            self.users_changed(old.as_deref(), tree.node.as_deref());
        }
        tree.members = assembled.members;
        tree.problems = assembled.problems;
        let names_others =
            tree.node.as_deref().is_some_and(|node| super::widgets(node).any(super::names_others));
        tree.unsaid = names_others && !self.survey.is_over(&root.key.namespace);
        for (of, problem) in self.wrong_references(tree).into_iter().chain(self.collisions(tree)) {
            tree.problems.entry(of).or_insert(problem);
        }
    }

    /// Plans, and writes what was decided, or asks for what is still missing.
    fn plan(&mut self, root: &Root, own: &Own, tree: &mut Tree, now: Timestamp) -> Requests {
        let observed = self.observe(&root.key.namespace, own, tree, now);
        let plan = kontrol_plan::plan(tree.node.as_deref(), &observed, now);
        self.plans += 1;
        self.queue.at(root, plan.wake.filter(|at| *at > now));
        let more = plan.wake.is_some_and(|at| at <= now);
        if plan.status == observed.status {
            tree.more |= more;
            let requests = self.act(tree, plan.actions, now);
            return requests;
        }
        let text = serde_json::to_string(&plan.status).unwrap_or_default();
        let supervision =
            if plan.status == Status::default() { serde_json::Value::Null } else { json!({"plan": text}) };
        let body = json!({
            "metadata": {"resourceVersion": own.meta.version.to_string(), "uid": own.meta.uid},
            "status": {"supervision": supervision},
        });
        tree.decided =
            Some(Box::new(Decided { text: Text::new(&text), status: plan.status, actions: plan.actions }));
        let request = Request::new(Verb::Merge, root.kind, &root.key.namespace, &root.key.name);
        vec![(Purpose::Decide(plan.events), request.of("status").by("kontrol-plan").with(body))]
    }

    /// What the plan is shown.
    fn observe(&self, namespace: &str, own: &Own, tree: &mut Tree, now: Timestamp) -> Observed {
        forget(tree);
        let mut status = tree.status.clone();
        let mut instances = Vec::new();
        let mut there = std::collections::BTreeSet::new();
        let groups = groups_of(tree);
        for (namespace, group) in &groups {
            for (_, pod) in self.store.pods_of(namespace, group) {
                let Some(id) = pod.instance() else { continue };
                let replica = observe::noted(&status, &id.widget)
                    .and_then(|widget| widget.replicas.get(id.ordinal as usize));
                there.insert((id.clone(), pod.incarnation));
                instances.push(self.seen(id, pod, replica));
            }
        }
        for ((id, incarnation), (at, message)) in &tree.refused {
            if there.insert((id.clone(), *incarnation)) {
                let replica = observe::noted(&status, &id.widget)
                    .and_then(|widget| widget.replicas.get(id.ordinal as usize));
                let (epoch, revision) = replica.map_or((0, spec::Revision(0)), |r| (r.epoch, r.revision));
                let state = InstanceState::Ended(kontrol_plan::End::NotStarted(StartError::Other));
                let mut instance = Instance::new(id.clone(), (*incarnation, epoch, revision), state, *at);
                instance.message = Some(Arc::clone(message));
                instances.push(instance);
            }
        }
        // What may not be made has no place: it is waited for, and is no failed start.
        for ((id, incarnation), denied) in &tree.denied {
            if let Action::Start { epoch, revision, .. } = denied.action
                && there.insert((id.clone(), *incarnation))
            {
                let numbers = (*incarnation, epoch, revision);
                let state = InstanceState::Unschedulable;
                let mut instance = Instance::new(id.clone(), numbers, state, denied.since);
                instance.message = Some(Arc::clone(&denied.refusal.message));
                instances.push(instance);
            }
        }
        let launched = &tree.launched;
        let last_said = |id: &InstanceId, incarnation| {
            let (object, _) = self.object_of(tree, &id.widget);
            let name = render::names::pod(&object.name, id.ordinal, incarnation);
            self.store.last_said(&Key::new(&object.namespace, &name))
        };
        instances.extend(observe::missing(
            &status,
            &|id, incarnation| there.contains(&(id.clone(), incarnation)),
            &|id, incarnation| launched.get(id) == Some(&incarnation),
            &last_said,
            now,
        ));
        if status.root.is_none() {
            let highest = instances.iter().map(|instance| instance.incarnation).max().unwrap_or(0);
            status.floor = status.floor.max(highest);
            tree.status = status.clone();
        }
        Observed {
            status,
            instances,
            signals: tree.node.as_deref().map(|node| view::signals::of_tree(self, node)).unwrap_or_default(),
            restarts: self.requests(tree),
            generation: u64::try_from(own.meta.generation).ok(),
            nodes: self.health(),
            sees_since: self.sees_since(namespace),
        }
    }

    /// Restarts that users asked for by an annotation.
    fn requests(&self, tree: &Tree) -> Vec<RestartRequest> {
        let asked = |own: &Own| time::parse(own.meta.annotation("restart-requested-at")?);
        let mut requests = Vec::new();
        for (kind, key) in &tree.members {
            let Some(own) = self.store.own(*kind, key) else { continue };
            let Some(id) = id_of(key) else { continue };
            if let Some(at) = asked(own) {
                let target = match kind {
                    Kind::Supervisor => RestartTarget::Supervisor(id.clone()),
                    Kind::WidgetGroup => RestartTarget::Group(id.clone()),
                    _ => RestartTarget::Widget(WidgetId {
                        namespace: id.namespace.clone(),
                        group: id.name.clone(),
                        widget: id.name.clone(),
                    }),
                };
                requests.push(RestartRequest { target, at });
            }
        }
        for widget in tree.node.as_deref().into_iter().flat_map(super::widgets) {
            let (key, _) = self.object_of(tree, &widget.id);
            if let Some(at) = self.store.own(Kind::Widget, &key).and_then(asked)
                && !requests.iter().any(|known| known.target == RestartTarget::Widget(widget.id.clone()))
            {
                requests.push(RestartRequest { target: RestartTarget::Widget(widget.id.clone()), at });
            }
        }
        requests
    }
}

/// The groups of a tree, as namespace and name: those that are declared, and those of which a status still speaks.
pub(super) fn groups_of(tree: &Tree) -> Vec<(Name, Name)> {
    let mut groups: Vec<(Name, Name)> = tree
        .members
        .iter()
        .filter(|(kind, _)| *kind != Kind::Supervisor)
        .filter_map(|(_, key)| id_of(key))
        .map(|id| (id.namespace, id.name))
        .collect();
    observe::each_widget(&tree.status, &mut |id, _| {
        let group = (id.namespace.clone(), id.group.clone());
        if !groups.contains(&group) {
            groups.push(group);
        }
    });
    groups
}

/// The status as it is written.
pub(super) fn read_status(own: &Own, tree: &mut Tree) {
    if tree.status_text == own.supervision {
        return;
    }
    let decided = tree.decided.as_ref().filter(|decided| decided.text == own.supervision);
    tree.status = match decided {
        Some(decided) => decided.status.clone(),
        None if own.supervision.is_empty() => Status { floor: tree.status.floor, ..Status::default() },
        None => written(own).unwrap_or_default(),
    };
    tree.status_text = own.supervision.clone();
}

/// The plan's status as it is written; none: there is none, or it cannot be read.
pub(super) fn written(own: &Own) -> Option<Status> {
    if own.supervision.is_empty() {
        return None;
    }
    let unreadable = |error: &serde_json::Error| {
        tracing::error!(%error, "the written status cannot be read: what runs is taken over");
    };
    serde_json::from_str(&own.supervision.read()).inspect_err(unreadable).ok()
}

/// The actions of a decision that stands as it was made.
fn decided(own: &Own, tree: &mut Tree) -> Option<Vec<Action>> {
    let decided = tree.decided.take()?;
    let stands = decided.text == own.supervision
        || (own.supervision.is_empty() && decided.status == Status::default());
    (stands && !decided.actions.is_empty()).then_some(decided.actions)
}

/// Forgets what was launched and refused, of incarnations that no longer start, and what could not be read, of revisions that nothing runs.
fn forget(tree: &mut Tree) {
    let status = &tree.status;
    tree.unread.retain(|(id, revision), _| {
        observe::noted(status, id)
            .is_some_and(|widget| widget.replicas.iter().any(|replica| replica.revision == *revision))
    });
    if tree.launched.is_empty() && tree.refused.is_empty() && tree.denied.is_empty() {
        return;
    }
    let status = &tree.status;
    let starts = |id: &InstanceId, incarnation: u64| {
        observe::noted(status, &id.widget)
            .and_then(|widget| widget.replicas.get(id.ordinal as usize))
            .is_some_and(|replica| {
                replica.incarnation == incarnation
                    && replica.phase == kontrol_plan::status::ReplicaPhase::Starting
            })
    };
    tree.launched.retain(|id, incarnation| starts(id, *incarnation));
    if tree.launched.is_empty() {
        // An emptied map keeps room for eleven, in each tree that rests.
        tree.launched = BTreeMap::new();
    }
    tree.refused.retain(|(id, incarnation), _| starts(id, *incarnation));
    tree.denied.retain(|(id, incarnation), _| starts(id, *incarnation));
}
