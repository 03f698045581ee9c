//! Topics, routes and buses, and what objects say of each other that is not so: topics, buses and widgets that are not there, two buses for
//! one widget, subscriptions that two share. It is said where it is wrong, and stops nobody: what it lacks may come a moment later.

use std::collections::{BTreeMap, BTreeSet};

use kontrol_core::{
    code::Code,
    id::{Name, ObjectId, WidgetId},
    limits, spec,
    time::Timestamp,
};
use kontrol_crds as api;
use serde_json::json;

use super::{
    Effect, State, Tree,
    show::{accepted, shown, write},
};
use crate::{
    kubernetes::{
        forest::{self, Problem, Root, id_of, key_of},
        kind::Kind,
        object::{Key, Own},
    },
    view::names::meant,
};

/// The bus that is there without being declared.
const DEFAULT_BUS: &str = "default";

fn problem(reason: &'static str, code: Code, path: &str, message: &str) -> Problem {
    Problem { reason, message: format!("{code} {path}: {message}"), goes_on: true }
}

fn metadata(key: &Key) -> kube::core::ObjectMeta {
    kube::core::ObjectMeta {
        namespace: Some(key.namespace.to_string()),
        name: Some(key.name.to_string()),
        ..kube::core::ObjectMeta::default()
    }
}

fn invalid(message: String) -> Problem {
    Problem { reason: "Invalid", message, goes_on: true }
}

/// Reads an object of these; what is wrong with its spec.
macro_rules! read {
    ($name:ident, $object:ident, $spec:ty) => {
        /// The object as it is declared.
        pub(super) fn $name(own: &Own, key: &Key) -> Result<$spec, Problem> {
            let spec = serde_json::from_str(&own.spec.read())
                .map_err(|error| invalid(format!("spec cannot be read: {error}")))?;
            let object = api::$object { metadata: metadata(key), spec, status: None };
            <$spec>::try_from(&object).map_err(|faults| invalid(forest::said(&faults)))
        }
    };
}

read!(topic, Topic, spec::Topic);
read!(route, Route, spec::Route);
read!(bus, MessageBus, spec::Bus);

/// What is wrong with a bus.
pub(super) fn problem_of_bus(own: &Own, key: &Key) -> Option<Problem> {
    bus(own, key).err()
}

fn within(namespace: &Name, name: &Name) -> ObjectId {
    ObjectId { namespace: namespace.clone(), name: name.clone() }
}

impl State {
    /// Has a topic or a route looked at again.
    fn mark_message(&mut self, kind: Kind, id: &ObjectId) {
        self.mark(Root { kind, key: key_of(id) });
    }

    /// A topic, a route or a bus has changed: it, and all that name it, are looked at again.
    pub(super) fn message_changed(&mut self, kind: Kind, id: &ObjectId) {
        match kind {
            Kind::Topic => {
                self.mark_message(kind, id);
                self.forget_queues(id);
                let letters = self.declared.topics().filter(|topic| {
                    topic.id.namespace == id.namespace && topic.dead_letter.as_ref() == Some(&id.name)
                });
                let letters: Vec<ObjectId> = letters.map(|topic| topic.id.clone()).collect();
                for letter in &letters {
                    self.mark_message(Kind::Topic, letter);
                }
                self.mark_routes(&id.namespace);
                let consumers = self.declared.consumers(id).map(|(widget, _)| widget);
                let widgets: BTreeSet<WidgetId> =
                    consumers.chain(self.declared.producers(id)).cloned().collect();
                for widget in &widgets {
                    self.mark_group(widget);
                }
            }
            Kind::Route => self.mark_routes(&id.namespace),
            _ => self.bus_changed(id),
        }
    }

    /// What lives on a bus is looked at again.
    pub(super) fn bus_changed(&mut self, bus: &ObjectId) {
        let here = self
            .declared
            .topics()
            .filter(|topic| topic.id.namespace == bus.namespace && topic.bus == bus.name);
        let topics: Vec<ObjectId> = here.map(|topic| topic.id.clone()).collect();
        for topic in &topics {
            self.mark_message(Kind::Topic, topic);
        }
        self.mark_routes(&bus.namespace);
    }

    fn mark_routes(&mut self, namespace: &Name) {
        let routes = self.store.all_in(Kind::Route, namespace.as_str());
        let routes: Vec<Key> = routes.map(|(key, _)| key.clone()).collect();
        for key in routes {
            self.mark(Root { kind: Kind::Route, key });
        }
    }

    /// All topics and routes of a namespace are looked at again; none: of all namespaces.
    pub(super) fn mark_messages(&mut self, namespace: Option<&str>) {
        for kind in [Kind::Topic, Kind::Route] {
            let here = |key: &&Key| namespace.is_none_or(|name| *key.namespace == *name);
            let keys: Vec<Key> = self.store.all(kind).map(|(key, _)| key).filter(here).cloned().collect();
            for key in keys {
                self.mark(Root { kind, key });
            }
        }
    }

    /// A tree is declared otherwise than before: its topics have other users, and who calls its widgets finds others.
    pub(super) fn users_changed(&mut self, old: Option<&spec::Node>, new: Option<&spec::Node>) {
        let mut topics = BTreeSet::new();
        let mut concerned = BTreeSet::new();
        self.concerns_widgets(old, new);
        for widget in old.into_iter().chain(new).flat_map(super::widgets) {
            let names = widget.produces.iter().chain(widget.consumes.iter().map(|consume| &consume.topic));
            topics.extend(names.map(|name| within(&widget.id.namespace, name)));
            concerned.extend(self.declared.callers(&widget.id).cloned());
            for consume in &widget.consumes {
                let topic = within(&widget.id.namespace, &consume.topic);
                let others = self.declared.consumers(&topic);
                let others = others.filter(|(_, subscription)| **subscription == consume.subscription);
                concerned.extend(others.map(|(other, _)| other.clone()));
            }
        }
        for topic in &topics {
            self.mark_message(Kind::Topic, topic);
            self.forget_queues(topic);
        }
        for widget in &concerned {
            self.mark_group(widget);
        }
    }

    /// Shows how a topic or a route stands.
    pub(super) fn show_message(&mut self, root: &Root, now: Timestamp, effects: &mut Vec<Effect>) {
        let Some(own) = self.store.own(root.kind, &root.key).filter(|own| own.meta.deleting().is_none())
        else {
            self.trees.remove(root);
            self.queue.at(root, None);
            return;
        };
        let tree = self.trees.wake(root, &self.declared);
        let later = tree.shows.until(now);
        self.queue.at(root, later);
        if later.is_some() {
            return;
        }
        let (view, problem, bus) = if root.kind == Kind::Topic {
            self.topic_view(own, &root.key)
        } else {
            self.route_view(own, &root.key)
        };
        let serves = bus.is_some_and(|bus| self.hubs.get(&bus).is_some_and(|hub| hub.addresses.is_some()));
        let ready = serves && problem.is_none();
        let (reason, message) = match &problem {
            Some(problem) => (problem.reason, problem.message.clone()),
            None if serves => ("Serving", String::new()),
            None => ("Starting", "the hub of its bus does not serve yet".to_owned()),
        };
        let working = problem.is_none() && !serves;
        let conditions = vec![
            shown("Ready", ready, reason, message.clone()),
            shown("Reconciling", working, if working { "Starting" } else { "Settled" }, String::new()),
            shown(
                "Stalled",
                problem.is_some(),
                if problem.is_some() { "NotAccepted" } else { "Settled" },
                if problem.is_some() { message } else { String::new() },
            ),
            accepted(problem.as_ref()),
            shown("Progressing", working, if working { "Starting" } else { "Complete" }, String::new()),
        ];
        let Some(tree) = self.trees.awake_mut(root) else { return };
        tree.problems = problem.map(|problem| ((root.kind, root.key.clone()), problem)).into_iter().collect();
        let request = write(root.kind, &root.key, own, tree, view, conditions, now);
        if let Some((purpose, request)) = request {
            self.ask(root, purpose, request, effects);
        }
    }

    fn topic_view(&self, own: &Own, key: &Key) -> (serde_json::Value, Option<Problem>, Option<ObjectId>) {
        let topic = match topic(own, key) {
            Ok(topic) => topic,
            Err(problem) => return (json!({}), Some(problem), None),
        };
        let view = json!({
            "bus": topic.bus,
            "producers": self.declared.producers(&topic.id).count(),
            "subscriptions": self.declared.consumers(&topic.id).count(),
        });
        let bus = within(&topic.id.namespace, &topic.bus);
        (view, self.wrong_topic(&topic, &bus), Some(bus))
    }

    fn wrong_topic(&self, topic: &spec::Topic, bus: &ObjectId) -> Option<Problem> {
        let declared = self.declared.bus(bus);
        if declared.is_none() && bus.name.as_str() != DEFAULT_BUS {
            let here = self.declared.buses().filter(|known| known.id.namespace == bus.namespace);
            let here: Vec<String> = here.map(|known| known.id.name.to_string()).collect();
            let out =
                format!("declare it (kind: MessageBus, metadata: {{name: {}}}), or leave bus out", bus.name);
            let out = meant(bus.name.as_str(), &here).map_or(out, |meant| format!("did you mean {meant}?"));
            let message =
                format!("there is no message bus {} in namespace {}; {out}", bus.name, bus.namespace);
            return Some(problem("BusNotFound", Code::UndeclaredBus, "spec.bus", &message));
        }
        let segment = declared.map_or_else(|| spec::Storage::default().segment, |bus| bus.storage.segment);
        let largest = limits::largest_message(segment);
        if topic.max_message > largest {
            let message = format!(
                "bus {} takes messages of up to {largest} bytes, an eighth of its segmentSize; lower maxMessageSize (default 1Mi), or raise segmentSize",
                bus.name
            );
            return Some(problem("MessageTooLarge", Code::InvalidValue, "spec.maxMessageSize", &message));
        }
        let path = "spec.deadLetter.topic";
        let letter = topic.dead_letter.as_ref()?;
        self.wrong_target(path, &topic.bus, &within(&topic.id.namespace, letter)).or_else(|| {
            let mut way = vec![&topic.id.name];
            let mut at = topic;
            while let Some(letter) = &at.dead_letter {
                way.push(letter);
                if *letter == topic.id.name {
                    let message = format!(
                        "dead letters would go round in a circle: {}; leave deadLetter out at one of them",
                        said(&way)
                    );
                    return Some(problem("RouteCycle", Code::RouteCycle, path, &message));
                }
                at = self.declared.topic(&within(&at.id.namespace, letter))?;
                // A circle further on is one of others.
                if way.iter().filter(|name| **name == letter).count() > 1 {
                    return None;
                }
            }
            None
        })
    }

    fn route_view(&self, own: &Own, key: &Key) -> (serde_json::Value, Option<Problem>, Option<ObjectId>) {
        let route = match route(own, key) {
            Ok(route) => route,
            Err(problem) => return (json!({}), Some(problem), None),
        };
        let targets: BTreeSet<&Name> = route.rules.iter().flat_map(|rule| &rule.to).collect();
        let view = json!({"targets": targets.len()});
        let from = within(&route.id.namespace, &route.from);
        let Some(topic) = self.declared.topic(&from) else {
            return (view, Some(self.undeclared("spec.from", &from)), None);
        };
        let bus = within(&topic.id.namespace, &topic.bus);
        (view, self.wrong_route(&route, &topic.bus), Some(bus))
    }

    fn wrong_route(&self, route: &spec::Route, bus: &Name) -> Option<Problem> {
        for (index, rule) in route.rules.iter().enumerate() {
            for (at, to) in rule.to.iter().enumerate() {
                let path = format!("spec.rules[{index}].to[{at}].topic");
                let to = within(&route.id.namespace, to);
                if let Some(problem) = self.wrong_target(&path, bus, &to) {
                    return Some(problem);
                }
            }
        }
        let targets = route.rules.iter().flat_map(|rule| &rule.to);
        let way = self.way_back(&route.id.namespace, &route.from, targets)?;
        let message = format!(
            "messages would go round in a circle: {}; a route changes nothing in a message, so what passed once would pass again",
            said(&way.iter().collect::<Vec<_>>())
        );
        Some(problem("RouteCycle", Code::RouteCycle, "spec.rules", &message))
    }

    /// The shortest way by routes from one of these topics back to this one.
    fn way_back<'a>(
        &self,
        namespace: &Name,
        start: &Name,
        targets: impl Iterator<Item = &'a Name>,
    ) -> Option<Vec<Name>> {
        let mut came_from: BTreeMap<Name, Name> = BTreeMap::new();
        let mut here = Vec::new();
        for target in targets {
            if came_from.insert(target.clone(), start.clone()).is_none() {
                here.push(target.clone());
            }
        }
        while !here.is_empty() && !came_from.contains_key(start) {
            let mut next = Vec::new();
            for topic in here {
                for route in self.declared.routes_from(&within(namespace, &topic)) {
                    for to in route.rules.iter().flat_map(|rule| &rule.to) {
                        if !came_from.contains_key(to) {
                            came_from.insert(to.clone(), topic.clone());
                            next.push(to.clone());
                        }
                    }
                }
            }
            here = next;
        }
        let mut way = vec![start.clone()];
        let mut at = came_from.get(start)?;
        while at != start {
            way.push(at.clone());
            at = came_from.get(at)?;
        }
        way.push(start.clone());
        way.reverse();
        Some(way)
    }

    /// What is wrong with a topic that gets messages from this bus. Copies are written into the same log as their original.
    fn wrong_target(&self, path: &str, bus: &Name, to: &ObjectId) -> Option<Problem> {
        let Some(topic) = self.declared.topic(to) else { return Some(self.undeclared(path, to)) };
        if topic.bus == *bus {
            return None;
        }
        let message = format!(
            "topic {} lives on bus {}, but messages come from bus {bus}; put both on one bus",
            to.name, topic.bus
        );
        Some(problem("OtherBus", Code::InvalidValue, path, &message))
    }

    /// What is wrong with what the widgets of a tree name, by their group; the first thing of each.
    pub(super) fn wrong_references(&self, tree: &Tree) -> BTreeMap<(Kind, Key), Problem> {
        let mut problems = BTreeMap::new();
        for group in tree.node.as_deref().into_iter().flat_map(super::groups) {
            let key = key_of(&group.id);
            let lone = tree.members.contains(&(Kind::Widget, key.clone()));
            let kind = if lone { Kind::Widget } else { Kind::WidgetGroup };
            let found = group.widgets.iter().enumerate().find_map(|(at, widget)| {
                let path = if lone { "spec".to_owned() } else { format!("spec.widgets[{at}]") };
                self.wrong_reference(widget, &path)
            });
            problems.extend(found.map(|problem| ((kind, key), problem)));
        }
        problems
    }

    fn wrong_reference(&self, widget: &spec::Widget, path: &str) -> Option<Problem> {
        let namespace = &widget.id.namespace;
        let produces = widget.produces.iter().enumerate();
        let produces = produces.map(|(at, topic)| (format!("{path}.produces[{at}].topic"), topic));
        let consumes = widget.consumes.iter().enumerate();
        let consumes = consumes.map(|(at, consume)| (format!("{path}.consumes[{at}].topic"), &consume.topic));
        let mut bus: Option<(&Name, &Name)> = None;
        for (path, name) in produces.chain(consumes) {
            let id = within(namespace, name);
            let Some(topic) = self.declared.topic(&id) else { return Some(self.undeclared(&path, &id)) };
            match bus {
                Some((first, on)) if *on != topic.bus => {
                    let message = format!(
                        "topic {name} lives on bus {}, and topic {first} on bus {on}, but a sidecar reaches one hub; put both on one bus",
                        topic.bus
                    );
                    return Some(problem("TwoBuses", Code::InvalidValue, &path, &message));
                }
                _ => bus = Some((name, &topic.bus)),
            }
        }
        for (at, consume) in widget.consumes.iter().enumerate() {
            let topic = within(namespace, &consume.topic);
            let first = self
                .declared
                .consumers(&topic)
                .find(|(other, subscription)| **subscription == consume.subscription && **other < widget.id);
            if let Some((first, _)) = first {
                let message = format!(
                    "{first} has the same subscription {} to topic {}, so each message would go to only one of the two; give it a name of its own",
                    consume.subscription, consume.topic
                );
                let path = format!("{path}.consumes[{at}].subscription");
                return Some(problem("DuplicateSubscription", Code::DuplicateSubscription, &path, &message));
            }
        }
        widget.calls.iter().enumerate().find_map(|(at, target)| {
            let path = format!("{path}.calls[{at}]");
            if target.namespace != *namespace {
                let message = format!(
                    "{target} is in another namespace than {}, and cannot be called; put both into one",
                    widget.id
                );
                return Some(problem("ForeignNamespace", Code::ForeignNamespace, &path, &message));
            }
            match self.declared.widget(target) {
                None => {
                    let message = format!("there is no widget {target}{}", self.meant_widget(target));
                    Some(problem("WidgetNotFound", Code::UndeclaredTarget, &path, &message))
                }
                Some(found) if found.serves.is_empty() => {
                    let message = format!(
                        "{target} serves no method; add serves to it, such as serves: [{{method: answer}}]"
                    );
                    Some(problem("NotServed", Code::InvalidValue, &path, &message))
                }
                Some(_) => None,
            }
        })
    }

    /// A topic that is not there, and which was probably meant.
    fn undeclared(&self, path: &str, id: &ObjectId) -> Problem {
        let here = self.declared.topics().filter(|topic| topic.id.namespace == id.namespace);
        let here: Vec<String> = here.map(|topic| topic.id.name.to_string()).collect();
        let declare = format!("declare it: kind: Topic, metadata: {{name: {}}}", id.name);
        let out = meant(id.name.as_str(), &here).map_or(declare, |meant| format!("did you mean {meant}?"));
        let message = format!("there is no topic {} in namespace {}; {out}", id.name, id.namespace);
        problem("TopicNotFound", Code::UndeclaredTopic, path, &message)
    }

    /// Which widget was probably meant by one that is not there, as the end of a sentence.
    fn meant_widget(&self, target: &WidgetId) -> String {
        let all = self.declared.trees().flat_map(super::widgets);
        let here = all.filter(|widget| widget.id.namespace == target.namespace);
        let here: Vec<String> =
            here.map(|widget| format!("{}/{}", widget.id.group, widget.id.widget)).collect();
        let wanted = format!("{}/{}", target.group, target.widget);
        let found = meant(&wanted, &here).or_else(|| meant(target.widget.as_str(), &here));
        found.map(|meant| format!("; did you mean {meant}?")).unwrap_or_default()
    }

    /// The id of a topic, a route or a bus whose spec has changed, as it is declared from now on. One that cannot be read leaves what was
    /// declared before as it is.
    pub(super) fn declare_message(&mut self, kind: Kind, key: &Key) -> Option<ObjectId> {
        let id = id_of(key)?;
        let own = self.store.own(kind, key).filter(|own| own.meta.deleting().is_none());
        let declared = &mut self.declared;
        let Some(own) = own else {
            match kind {
                Kind::Topic => declared.set_topic(&id, None),
                Kind::Route => declared.set_route(&id, None),
                _ => declared.set_bus(&id, None),
            }
            return Some(id);
        };
        // One that cannot be read stays as it was declared last.
        let is_read = match kind {
            Kind::Topic => topic(own, key).map(|topic| declared.set_topic(&id, Some(topic.into()))).is_ok(),
            Kind::Route => route(own, key).map(|route| declared.set_route(&id, Some(route.into()))).is_ok(),
            _ => bus(own, key).map(|bus| declared.set_bus(&id, Some(bus.into()))).is_ok(),
        };
        if is_read {
            self.store.is_good(kind, key);
        }
        Some(id)
    }
}

fn said(way: &[&Name]) -> String {
    way.iter().map(|name| name.as_str()).collect::<Vec<_>>().join(" → ")
}
