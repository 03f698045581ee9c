//! What objects say of each other: names that are taken, topics, targets, buses, ports and subscriptions.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use kontrol_core::{
    code::Code,
    id::{Name, ObjectId, WidgetId},
    limits, spec,
};

use super::{Entry, Object, cycle::circles, is_default, named::NamedWidget, object::Kind};
use crate::{
    Problem,
    convert::Runtime,
    nearest::{hint, list},
};

/// Names that are taken twice: by two objects of one kind, by two nodes of the tree, or by two widgets as `<group>-<widget>`.
pub(super) fn names(entries: &[Entry], problems: &mut Vec<Problem>) {
    let mut objects: HashMap<(Kind, &ObjectId), &Entry> = HashMap::new();
    let mut nodes: HashMap<&ObjectId, &Entry> = HashMap::new();
    let mut widgets: HashMap<(&Name, String), (&Entry, &WidgetId)> = HashMap::new();
    for entry in entries {
        if let Some(first) = objects.get(&(entry.kind, &entry.id)) {
            let message = format!("there is another {}; rename one of the two", first.place());
            problems.push(entry.problem("metadata.name", Code::DuplicateName, message));
            continue;
        }
        objects.insert((entry.kind, &entry.id), entry);
        if matches!(entry.kind, Kind::Widget | Kind::WidgetGroup | Kind::Supervisor) {
            if let Some(first) = nodes.get(&entry.id) {
                let message = format!(
                    "{} has the same name; groups, supervisors and widgets outside any group share one set of names, so rename one of the two",
                    first.place()
                );
                problems.push(entry.problem("metadata.name", Code::DuplicateName, message));
                continue;
            }
            nodes.insert(&entry.id, entry);
        }
        for (index, widget) in entry.group().into_iter().flat_map(|group| group.widgets.iter().enumerate()) {
            let name = object_name(entry, &widget.id);
            if let Some((first, other)) = widgets.get(&(&entry.id.namespace, name.clone())) {
                let message = format!(
                    "name collision: the widgets {} and {other} of {} would both be called {name}; rename one of the two",
                    widget.id,
                    first.place()
                );
                let path = match entry.kind {
                    Kind::Widget => "metadata.name".to_owned(),
                    _ => format!("{}.name", entry.widget_path(index)),
                };
                problems.push(entry.problem(&path, Code::DuplicateName, message));
            } else {
                widgets.insert((&entry.id.namespace, name), (entry, &widget.id));
            }
        }
    }
}

/// The name of the object that stands for a widget.
fn object_name(entry: &Entry, id: &WidgetId) -> String {
    match entry.kind {
        Kind::Widget => id.widget.to_string(),
        _ => format!("{}-{}", id.group, id.widget),
    }
}

/// What is there, for references to it. Objects whose conversion failed are there as well.
struct Index<'a> {
    topics: BTreeMap<&'a ObjectId, &'a Entry>,
    buses: BTreeSet<&'a ObjectId>,
    /// Each widget, and whether it serves any method.
    widgets: BTreeMap<&'a WidgetId, bool>,
    /// Groups of which not every widget has a name that can be read.
    broken: BTreeSet<&'a ObjectId>,
}

/// Everything that one object says of another one.
pub(super) fn check(entries: &[Entry], runtime: Runtime, problems: &mut Vec<Problem>) {
    let of = |kind| entries.iter().filter(move |entry| entry.kind == kind);
    let named: Vec<(&Entry, Vec<NamedWidget>)> =
        entries.iter().map(|entry| (entry, entry.named_widgets())).collect();
    let index = Index {
        topics: of(Kind::Topic).map(|entry| (&entry.id, entry)).collect(),
        buses: of(Kind::MessageBus).map(|entry| &entry.id).collect(),
        widgets: named
            .iter()
            .flat_map(|(_, widgets)| widgets)
            .map(|widget| (&widget.id, widget.serves))
            .collect(),
        broken: entries.iter().filter(|entry| entry.has_nameless_widgets()).map(|entry| &entry.id).collect(),
    };
    for (entry, widgets) in &named {
        for widget in widgets {
            index.widget(entry, widget, runtime, problems);
        }
        for (path, topic) in entry.named_topics() {
            index.declared(entry, &path, &topic, problems);
        }
        match (&entry.object, entry.kind) {
            (_, Kind::Topic) => index.topic(entry, problems),
            (Some(Object::Route(route)), _) => index.route(entry, route, problems),
            _ => {}
        }
    }
    subscriptions(entries, problems);
    if runtime != Runtime::Cluster {
        ports(entries, problems);
    }
    if runtime == Runtime::Local {
        one_hub(entries, problems);
    }
    messages_fit(entries, problems);
    dead_letter_circles(entries, problems);
    route_circles(entries, problems);
}

impl Index<'_> {
    fn declared(&self, entry: &Entry, path: &str, topic: &Name, problems: &mut Vec<Problem>) {
        let id = ObjectId { namespace: entry.id.namespace.clone(), name: topic.clone() };
        if self.topics.contains_key(&id) {
            return;
        }
        let known: Vec<&str> = self
            .topics
            .keys()
            .filter(|id| id.namespace == entry.id.namespace)
            .map(|id| id.name.as_str())
            .collect();
        let meant = match hint(topic.as_str(), &known) {
            Some(meant) => format!("did you mean {meant}?"),
            None => format!("declare it: kind: Topic, metadata: {{name: {topic}}}"),
        };
        let message = format!("there is no topic {topic} in namespace {}; {meant}", entry.id.namespace);
        problems.push(entry.problem(path, Code::UndeclaredTopic, message));
    }

    fn widget(&self, entry: &Entry, widget: &NamedWidget, runtime: Runtime, problems: &mut Vec<Problem>) {
        let missing = match runtime {
            Runtime::Local if !widget.process => Some((
                "process",
                "the widget gives no way to run in the local world; add process: {command: [...]}",
            )),
            Runtime::Cluster if !widget.container => Some((
                "container",
                "the widget gives no way to run on a cluster; add container: {image: ...}",
            )),
            Runtime::Any if !widget.process && !widget.container => Some((
                "process",
                "the widget gives no way to run; add process: {command: [...]} for kontrol up, or container: {image: ...} for a cluster",
            )),
            _ => None,
        };
        if let Some((field, message)) = missing {
            let path = format!("{}.{field}", widget.path);
            problems.push(entry.problem(&path, Code::NoRuntimeForWorld, message));
        }
        for (path, topic) in &widget.topics {
            self.declared(entry, path, topic, problems);
        }
        for (path, target) in &widget.calls {
            if let Some((code, message)) = self.target(&widget.id, target) {
                problems.push(entry.problem(path, code, message));
            }
        }
    }

    fn target(&self, caller: &WidgetId, target: &WidgetId) -> Option<(Code, String)> {
        if target.namespace != caller.namespace {
            let message = format!(
                "{target} is in another namespace than {caller}, and cannot be called; put both into one"
            );
            return Some((Code::ForeignNamespace, message));
        }
        let group = ObjectId { namespace: target.namespace.clone(), name: target.group.clone() };
        match self.widgets.get(target) {
            Some(serves) if !serves => {
                let message = format!(
                    "{target} serves no method; add serves to it, such as serves: [{{method: answer}}]"
                );
                Some((Code::InvalidValue, message))
            }
            Some(_) => None,
            None if self.broken.contains(&group) => None,
            None => {
                let near = self.widgets.keys().filter(|id| id.namespace == target.namespace);
                let known: Vec<String> = near.map(|id| format!("{}/{}", id.group, id.widget)).collect();
                let known: Vec<&str> = known.iter().map(String::as_str).collect();
                let same = known
                    .iter()
                    .find(|known| known.rsplit('/').next() == Some(target.widget.as_str()))
                    .copied();
                let wanted = format!("{}/{}", target.group, target.widget);
                let meant =
                    same.or_else(|| hint(&wanted, &known)).map(|meant| format!("; did you mean {meant}?"));
                Some((
                    Code::UndeclaredTarget,
                    format!("there is no widget {target}{}", meant.unwrap_or_default()),
                ))
            }
        }
    }

    fn topic(&self, entry: &Entry, problems: &mut Vec<Problem>) {
        let Some(name) = entry.named_bus() else { return };
        let bus = ObjectId { namespace: entry.id.namespace.clone(), name: name.clone() };
        if !is_default(&name) && !self.buses.contains(&bus) {
            let known: Vec<&str> = self
                .buses
                .iter()
                .filter(|id| id.namespace == bus.namespace)
                .map(|id| id.name.as_str())
                .collect();
            let meant = match hint(name.as_str(), &known) {
                Some(meant) => format!("did you mean {meant}?"),
                None => {
                    format!("declare it (kind: MessageBus, metadata: {{name: {name}}}), or leave bus out")
                }
            };
            let message = format!("there is no message bus {name} in namespace {}; {meant}", bus.namespace);
            problems.push(entry.problem("spec.bus", Code::UndeclaredBus, message));
        }
        if let Some(topic) = entry.topic()
            && let Some(letter) = &topic.dead_letter
        {
            self.same_bus(entry, "spec.deadLetter.topic", &topic.bus, letter, problems);
        }
    }

    fn route(&self, entry: &Entry, route: &spec::Route, problems: &mut Vec<Problem>) {
        let from = ObjectId { namespace: route.id.namespace.clone(), name: route.from.clone() };
        let Some(from) = self.topics.get(&from).and_then(|from| from.topic()) else { return };
        for (index, rule) in route.rules.iter().enumerate() {
            for (at, to) in rule.to.iter().enumerate() {
                let path = format!("spec.rules[{index}].to[{at}].topic");
                self.same_bus(entry, &path, &from.bus, to, problems);
            }
        }
    }

    /// Copies are written into the same log as their original.
    fn same_bus(&self, entry: &Entry, path: &str, bus: &Name, to: &Name, problems: &mut Vec<Problem>) {
        let id = ObjectId { namespace: entry.id.namespace.clone(), name: to.clone() };
        if let Some(other) = self.topics.get(&id).and_then(|to| to.topic()).filter(|to| to.bus != *bus) {
            let message = format!(
                "topic {to} lives on bus {}, but messages come from bus {bus}; put both on one bus",
                other.bus
            );
            problems.push(entry.problem(path, Code::InvalidValue, message));
        }
    }
}

/// The local world runs one hub for all buses, so all that are in use have the same storage.
fn one_hub(entries: &[Entry], problems: &mut Vec<Problem>) {
    let default = spec::Storage::default();
    let declared = entries.iter().filter_map(|entry| match &entry.object {
        Some(Object::Bus(bus)) => Some((entry, bus)),
        _ => None,
    });
    let undeclared = entries.iter().filter(|entry| entry.kind == Kind::Topic).find_map(|entry| {
        let bus = ObjectId { namespace: entry.id.namespace.clone(), name: entry.named_bus()? };
        let there = entries.iter().any(|entry| entry.kind == Kind::MessageBus && entry.id == bus);
        let implicit = !there && is_default(&bus.name);
        implicit
            .then(|| (format!("the bus {} of {}, which is not declared,", bus.name, entry.place()), default))
    });
    let mut first = undeclared;
    for (entry, bus) in declared {
        match &first {
            Some((other, storage)) if *storage != bus.storage => {
                let message = format!(
                    "one hub serves all message buses here, and {other} has other storage; give both the same, or put all topics on one bus"
                );
                problems.push(entry.problem("spec.embedded.storage", Code::InvalidValue, message));
            }
            Some(_) => {}
            None => first = Some((entry.place(), bus.storage)),
        }
    }
}

/// The hub takes no message above an eighth of a segment.
fn messages_fit(entries: &[Entry], problems: &mut Vec<Problem>) {
    for (entry, topic) in entries.iter().filter_map(|entry| Some((entry, entry.topic()?))) {
        let bus = ObjectId { namespace: topic.id.namespace.clone(), name: topic.bus.clone() };
        let declared = entries.iter().find_map(|entry| match &entry.object {
            Some(Object::Bus(declared)) if declared.id == bus => Some(declared),
            _ => None,
        });
        let Some(declared) = declared else { continue };
        let largest = limits::largest_message(declared.storage.segment);
        if topic.max_message > largest {
            let message = format!(
                "bus {} takes messages of up to {largest} bytes, an eighth of its segmentSize; lower maxMessageSize (default 1Mi), or raise segmentSize",
                topic.bus
            );
            problems.push(entry.problem("spec.maxMessageSize", Code::InvalidValue, message));
        }
    }
}

/// Subscriptions that two widgets would share.
fn subscriptions(entries: &[Entry], problems: &mut Vec<Problem>) {
    let mut subscriptions: HashMap<(&Name, &Name, &Name), String> = HashMap::new();
    for (entry, path, widget) in widgets(entries) {
        for (index, consume) in widget.consumes.iter().enumerate() {
            let key = (&widget.id.namespace, &consume.topic, &consume.subscription);
            if let Some(first) = subscriptions.insert(key, who(entry, widget)) {
                let message = format!(
                    "{first} has the same subscription {} to topic {}, so each message would go to only one of the two; give it a name of its own",
                    consume.subscription, consume.topic
                );
                let path = format!("{path}.consumes[{index}].subscription");
                problems.push(entry.problem(&path, Code::DuplicateSubscription, message));
            }
        }
    }
}

/// Ports that two widgets would share: those of one machine.
fn ports(entries: &[Entry], problems: &mut Vec<Problem>) {
    let mut ports: HashMap<u16, String> = HashMap::new();
    for (entry, path, widget) in widgets(entries).filter(|(.., widget)| widget.process.is_some()) {
        if let Some(port) = widget.endpoint.and_then(|endpoint| endpoint.port)
            && let Some(first) = ports.insert(port, who(entry, widget))
        {
            let message = format!(
                "{first} listens on port {port} as well; choose another, or leave port out to be given one as $PORT"
            );
            problems.push(entry.problem(&format!("{path}.endpoint.port"), Code::DuplicatePort, message));
        }
    }
}

fn widgets(entries: &[Entry]) -> impl Iterator<Item = (&Entry, String, &spec::Widget)> {
    entries.iter().flat_map(|entry| {
        let widgets = entry.group().into_iter().flat_map(|group| group.widgets.iter().enumerate());
        widgets.map(move |(at, widget)| (entry, entry.widget_path(at), widget))
    })
}

fn who(entry: &Entry, widget: &spec::Widget) -> String {
    format!("{} of {}", widget.id, entry.place())
}

fn way(circle: &[ObjectId]) -> String {
    circle.iter().map(|id| id.name.as_str()).collect::<Vec<_>>().join(" → ")
}

fn dead_letter_circles(entries: &[Entry], problems: &mut Vec<Problem>) {
    let topics = || entries.iter().filter_map(|entry| Some((entry, entry.topic()?)));
    let next = |topic: &spec::Topic| {
        let letter = topic.dead_letter.clone();
        letter.map(|name| ObjectId { namespace: topic.id.namespace.clone(), name }).into_iter().collect()
    };
    let circles = circles(&topics().map(|(_, topic)| (topic.id.clone(), next(topic))).collect());
    for (entry, topic) in topics() {
        if let Some(circle) = circles.get(&topic.id) {
            let message = format!(
                "dead letters would go round in a circle: {}; leave deadLetter out at one of them",
                way(circle)
            );
            problems.push(entry.problem("spec.deadLetter.topic", Code::RouteCycle, message));
        }
    }
}

fn route_circles(entries: &[Entry], problems: &mut Vec<Problem>) {
    let routes = || {
        entries.iter().filter_map(|entry| match &entry.object {
            Some(Object::Route(route)) => Some((entry, route)),
            _ => None,
        })
    };
    let id = |route: &spec::Route, name: &Name| ObjectId {
        namespace: route.id.namespace.clone(),
        name: name.clone(),
    };
    let mut edges: BTreeMap<ObjectId, Vec<ObjectId>> = BTreeMap::new();
    for (_, route) in routes() {
        let to = route.rules.iter().flat_map(|rule| &rule.to).map(|to| id(route, to));
        edges.entry(id(route, &route.from)).or_default().extend(to);
    }
    let circles = circles(&edges);
    for (entry, route) in routes() {
        let Some(circle) = circles.get(&id(route, &route.from)) else { continue };
        let leads = |to: &Name| circle.get(1).is_some_and(|next| next.name == *to);
        if route.rules.iter().flat_map(|rule| &rule.to).any(leads) {
            let message = format!(
                "messages would go round in a circle: {}; a route changes nothing in a message, so what passed once would pass again",
                way(circle)
            );
            problems.push(entry.problem("spec.rules", Code::RouteCycle, message));
        }
    }
}

/// The names of a kind, for a message about one that is not there.
pub(super) fn known(names: &[&str], name: &str, what: &str) -> String {
    match (hint(name, names), names) {
        (Some(meant), _) => format!("did you mean {meant}?"),
        (None, []) => format!("there is no {what} at all"),
        (None, names) => format!("there are {}", list(names)),
    }
}
