//! What is declared, found by name: kept up object by object, so that a change costs what it changes.

#[cfg(test)]
pub(in crate::view) mod tests;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use kontrol_core::{
    id::{Name, ObjectId, WidgetId},
    spec::{Bus, Group, Node, Route, Topic, Widget},
};
use kontrol_plan::status::Kind;

/// Everything that is declared. No two of its trees hold the same group or supervisor for long: of two, the one that came last is found.
#[derive(Clone, Debug, Default)]
pub struct Declared {
    trees: BTreeMap<Arc<str>, Arc<Node>>,
    nodes: BTreeMap<(Kind, ObjectId), Place>,
    callers: BTreeMap<WidgetId, BTreeSet<WidgetId>>,
    /// The subscriptions of each topic, by who has them.
    consumers: BTreeMap<ObjectId, BTreeMap<WidgetId, Name>>,
    producers: BTreeMap<ObjectId, BTreeSet<WidgetId>>,
    topics: BTreeMap<ObjectId, Arc<Topic>>,
    routes: BTreeMap<ObjectId, Arc<Route>>,
    /// The routes that look at a topic.
    routes_from: BTreeMap<ObjectId, BTreeSet<Name>>,
    buses: BTreeMap<ObjectId, Arc<Bus>>,
}

/// Where a group or supervisor is: the tree, and the way down by the positions of children.
#[derive(Clone, Debug)]
struct Place {
    tree: Arc<str>,
    root: Arc<Node>,
    /// None: it is the root itself, and has few widgets, as most.
    found: Option<Box<Found>>,
}

/// What leads to a node, and to its widgets.
#[derive(Clone, Debug)]
struct Found {
    way: Box<[usize]>,
    /// The positions of the widgets of a group of more than [`FEW`], by their names.
    by_name: Box<[usize]>,
}

/// So many widgets of a group are looked through one after the other.
const FEW: usize = 8;

impl Place {
    fn node(&self) -> Option<&Node> {
        let way = self.found.as_ref().map_or(&[][..], |found| &found.way);
        way.iter().try_fold(&*self.root, |node, at| match node {
            Node::Supervisor(supervisor) => Some(&supervisor.children.get(*at)?.node),
            Node::Group(_) => None,
        })
    }

    fn widget(&self, id: &WidgetId) -> Option<&Widget> {
        let Node::Group(Group { widgets, .. }) = self.node()? else { return None };
        let by_name = self.found.as_ref().map_or(&[][..], |found| &found.by_name);
        if by_name.is_empty() {
            return widgets.iter().find(|widget| widget.id == *id);
        }
        let name = |at: &usize| widgets.get(*at).map(|widget| &widget.id.widget);
        let found = by_name.binary_search_by(|at| name(at).cmp(&Some(&id.widget))).ok()?;
        widgets.get(*by_name.get(found)?).filter(|widget| widget.id == *id)
    }
}

/// The positions of widgets by their names, where there are many of them.
fn by_name(node: &Node) -> Box<[usize]> {
    match node {
        Node::Group(Group { widgets, .. }) if widgets.len() > FEW => {
            let mut sorted: Vec<(&Name, usize)> =
                widgets.iter().enumerate().map(|(at, widget)| (&widget.id.widget, at)).collect();
            sorted.sort_unstable();
            sorted.into_iter().map(|(_, at)| at).collect()
        }
        _ => Box::default(),
    }
}

impl Declared {
    /// Declares a tree under its [key](super::tree_key), in the place of the one that had it; none: it is no longer declared.
    /// Gives the one that it was.
    pub fn set_tree(&mut self, key: &str, root: Option<Arc<Node>>) -> Option<Arc<Node>> {
        let old = self.trees.remove(key);
        if let Some(old) = &old {
            self.forget(old, old);
        }
        if let Some(root) = root {
            let key: Arc<str> = key.into();
            self.trees.insert(Arc::clone(&key), Arc::clone(&root));
            self.place(&key, &root, &root, &mut Vec::new());
        }
        old
    }

    /// No tree is declared any more.
    pub fn forget_trees(&mut self) {
        let Self { topics, routes, routes_from, buses, .. } = std::mem::take(self);
        *self = Self { topics, routes, routes_from, buses, ..Self::default() };
    }

    /// Declares a topic; none: it is no longer declared.
    pub fn set_topic(&mut self, id: &ObjectId, topic: Option<Arc<Topic>>) {
        set(&mut self.topics, id, topic);
    }

    /// Declares a route; none: it is no longer declared.
    pub fn set_route(&mut self, id: &ObjectId, route: Option<Arc<Route>>) {
        let from = |route: &Route| within(&route.id.namespace, &route.from);
        if let Some(old) = self.routes.get(id) {
            take(&mut self.routes_from, &from(old), |routes| {
                routes.remove(&id.name);
                routes.is_empty()
            });
        }
        if let Some(new) = &route {
            self.routes_from.entry(from(new)).or_default().insert(id.name.clone());
        }
        set(&mut self.routes, id, route);
    }

    /// Declares a bus; none: it is no longer declared.
    pub fn set_bus(&mut self, id: &ObjectId, bus: Option<Arc<Bus>>) {
        set(&mut self.buses, id, bus);
    }

    /// The roots of all trees, by their keys.
    pub fn trees(&self) -> impl Iterator<Item = &Node> {
        self.trees.values().map(AsRef::as_ref)
    }

    /// The root of a tree, by its [key](super::tree_key).
    pub fn tree(&self, key: &str) -> Option<&Arc<Node>> {
        self.trees.get(key)
    }

    /// A group or supervisor.
    pub fn node(&self, kind: Kind, id: &ObjectId) -> Option<&Node> {
        self.nodes.get(&(kind, id.clone()))?.node()
    }

    /// A group.
    pub fn group(&self, id: &ObjectId) -> Option<&Group> {
        match self.node(Kind::Group, id)? {
            Node::Group(group) => Some(group),
            Node::Supervisor(_) => None,
        }
    }

    /// A widget.
    pub fn widget(&self, id: &WidgetId) -> Option<&Widget> {
        self.nodes.get(&(Kind::Group, group_of(id)))?.widget(id)
    }

    /// The key of the tree that a widget is in.
    pub fn tree_of(&self, id: &WidgetId) -> Option<&str> {
        self.widget(id)?;
        self.nodes.get(&(Kind::Group, group_of(id))).map(|place| &*place.tree)
    }

    /// The widgets that may call a widget.
    pub fn callers(&self, id: &WidgetId) -> impl Iterator<Item = &WidgetId> {
        self.callers.get(id).into_iter().flatten()
    }

    /// A topic.
    pub fn topic(&self, id: &ObjectId) -> Option<&Topic> {
        self.topics.get(id).map(AsRef::as_ref)
    }

    /// All topics.
    pub fn topics(&self) -> impl Iterator<Item = &Topic> {
        self.topics.values().map(AsRef::as_ref)
    }

    /// The subscriptions of a topic that widgets declare, with who declares them.
    pub fn consumers(&self, topic: &ObjectId) -> impl Iterator<Item = (&WidgetId, &Name)> {
        self.consumers.get(topic).into_iter().flatten()
    }

    /// The widgets that may publish to a topic, other than by routes.
    pub fn producers(&self, topic: &ObjectId) -> impl Iterator<Item = &WidgetId> {
        self.producers.get(topic).into_iter().flatten()
    }

    /// The routes that look at a topic.
    pub fn routes_from<'a>(&'a self, topic: &ObjectId) -> impl Iterator<Item = &'a Route> + use<'a> {
        let names = self.routes_from.get(topic).into_iter().flatten();
        let namespace = topic.namespace.clone();
        names.filter_map(move |name| self.routes.get(&within(&namespace, name)).map(AsRef::as_ref))
    }

    /// A bus.
    pub fn bus(&self, id: &ObjectId) -> Option<&Bus> {
        self.buses.get(id).map(AsRef::as_ref)
    }

    /// All buses.
    pub fn buses(&self) -> impl Iterator<Item = &Bus> {
        self.buses.values().map(AsRef::as_ref)
    }

    fn place(&mut self, tree: &Arc<str>, root: &Arc<Node>, node: &Node, way: &mut Vec<usize>) {
        let key = key_of(node);
        if let Some(elsewhere) = self.nodes.get(&key).cloned()
            && let Some(there) = elsewhere.node()
        {
            self.forget_node(&elsewhere.root, there);
        }
        let found = Found { way: way.as_slice().into(), by_name: by_name(node) };
        let found = (!found.way.is_empty() || !found.by_name.is_empty()).then(|| Box::new(found));
        self.nodes.insert(key, Place { tree: tree.clone(), root: root.clone(), found });
        match node {
            Node::Group(group) => {
                for widget in &group.widgets {
                    for target in &widget.calls {
                        self.callers.entry(target.clone()).or_default().insert(widget.id.clone());
                    }
                    for topic in &widget.produces {
                        let topic = within(&widget.id.namespace, topic);
                        self.producers.entry(topic).or_default().insert(widget.id.clone());
                    }
                    for consume in &widget.consumes {
                        let topic = within(&widget.id.namespace, &consume.topic);
                        let consumers = self.consumers.entry(topic).or_default();
                        consumers.insert(widget.id.clone(), consume.subscription.clone());
                    }
                }
            }
            Node::Supervisor(supervisor) => {
                for (at, child) in supervisor.children.iter().enumerate() {
                    way.push(at);
                    self.place(tree, root, &child.node, way);
                    way.pop();
                }
            }
        }
    }

    /// Forgets a node of a tree and all below it.
    fn forget(&mut self, root: &Arc<Node>, node: &Node) {
        self.forget_node(root, node);
        if let Node::Supervisor(supervisor) = node {
            supervisor.children.iter().for_each(|child| self.forget(root, &child.node));
        }
    }

    /// Forgets a node alone, unless it is found in another tree by now.
    fn forget_node(&mut self, root: &Arc<Node>, node: &Node) {
        let key = key_of(node);
        if !self.nodes.get(&key).is_some_and(|place| Arc::ptr_eq(&place.root, root)) {
            return;
        }
        self.nodes.remove(&key);
        let Node::Group(group) = node else { return };
        for widget in &group.widgets {
            for target in &widget.calls {
                take(&mut self.callers, target, |callers| {
                    callers.remove(&widget.id);
                    callers.is_empty()
                });
            }
            for topic in &widget.produces {
                take(&mut self.producers, &within(&widget.id.namespace, topic), |producers| {
                    producers.remove(&widget.id);
                    producers.is_empty()
                });
            }
            for consume in &widget.consumes {
                take(&mut self.consumers, &within(&widget.id.namespace, &consume.topic), |consumers| {
                    consumers.remove(&widget.id);
                    consumers.is_empty()
                });
            }
        }
    }
}

fn set<T>(all: &mut BTreeMap<ObjectId, T>, id: &ObjectId, one: Option<T>) {
    match one {
        Some(one) => drop(all.insert(id.clone(), one)),
        None => drop(all.remove(id)),
    }
}

/// Takes something out of one entry, and the entry where nothing is left in it.
fn take<K: Ord, V>(all: &mut BTreeMap<K, V>, key: &K, out: impl FnOnce(&mut V) -> bool) {
    if all.get_mut(key).is_some_and(out) {
        all.remove(key);
    }
}

fn key_of(node: &Node) -> (Kind, ObjectId) {
    let kind = match node {
        Node::Group(_) => Kind::Group,
        Node::Supervisor(_) => Kind::Supervisor,
    };
    (kind, node.id().clone())
}

/// The group of a widget.
fn group_of(id: &WidgetId) -> ObjectId {
    within(&id.namespace, &id.group)
}

/// An object of a namespace.
pub(super) fn within(namespace: &Name, name: &Name) -> ObjectId {
    ObjectId { namespace: namespace.clone(), name: name.clone() }
}
