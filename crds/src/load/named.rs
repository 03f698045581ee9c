//! What an object names, read from its text: known of objects as well that could not be converted, so that a wrong reference is said
//! together with whatever else is wrong with them.

use kontrol_core::{
    id::{Name, ObjectId, WidgetId},
    spec,
};

use super::{Entry, object::Kind};
use crate::yaml::{self, Node};

/// A reference and the path of the field that makes it.
pub(super) type At<T> = (String, T);

/// One widget, as far as its text can be understood.
pub(super) struct NamedWidget {
    /// The path of its spec.
    pub(super) path: String,
    pub(super) id: WidgetId,
    /// Whether it gives a process, for the local world.
    pub(super) process: bool,
    /// Whether it gives a container, for a cluster.
    pub(super) container: bool,
    pub(super) serves: bool,
    /// Topics that it consumes and produces.
    pub(super) topics: Vec<At<Name>>,
    /// Widgets that it calls.
    pub(super) calls: Vec<At<WidgetId>>,
}

impl Entry {
    fn spec(&self) -> Option<&Node> {
        self.node.get("spec")
    }

    /// The widgets of a widget or group.
    pub(super) fn named_widgets(&self) -> Vec<NamedWidget> {
        let Some(spec) = self.spec() else { return Vec::new() };
        match self.kind {
            Kind::Widget => vec![self.named_widget("spec".to_owned(), self.id.name.clone(), spec)],
            Kind::WidgetGroup => {
                let templates = items(spec, "widgets", "spec");
                let widget = |(path, template): At<&Node>| {
                    let name = name(template, "name")?;
                    Some(self.named_widget(path, name, template))
                };
                templates.into_iter().filter_map(widget).collect()
            }
            _ => Vec::new(),
        }
    }

    /// Whether it is a group of which not every widget has a name that can be read.
    pub(super) fn has_nameless_widgets(&self) -> bool {
        let widgets = self.spec().map_or(0, |spec| items(spec, "widgets", "spec").len());
        self.kind == Kind::WidgetGroup && (widgets == 0 || self.named_widgets().len() < widgets)
    }

    fn named_widget(&self, path: String, widget: Name, spec: &Node) -> NamedWidget {
        let id = WidgetId { namespace: self.id.namespace.clone(), group: self.id.name.clone(), widget };
        let topics = ["consumes", "produces"]
            .iter()
            .flat_map(|field| items(spec, field, &path))
            .filter_map(topic)
            .collect();
        let calls = items(spec, "calls", &path).into_iter().filter_map(|(path, call)| {
            let target = call.get("target")?.text()?;
            Some((format!("{path}.target"), WidgetId::resolve(target, &id).ok()?))
        });
        let calls = calls.collect();
        let serves = !items(spec, "serves", &path).is_empty();
        let gives = |field| spec.get(field).is_some_and(|value| !value.is_null());
        let (process, container) = (gives("process"), gives("container"));
        NamedWidget { path, id, process, container, serves, topics, calls }
    }

    /// The topics that a topic or route names.
    pub(super) fn named_topics(&self) -> Vec<At<Name>> {
        let Some(spec) = self.spec() else { return Vec::new() };
        let one = |field: &str| spec.get(field).and_then(|value| topic((format!("spec.{field}"), value)));
        match self.kind {
            Kind::Topic => one("deadLetter").into_iter().collect(),
            Kind::Route => {
                let rules = items(spec, "rules", "spec");
                let to =
                    rules.into_iter().flat_map(|(path, rule)| items(rule, "to", &path)).filter_map(topic);
                one("from").into_iter().chain(to).collect()
            }
            _ => Vec::new(),
        }
    }

    /// The bus that a topic lives on.
    pub(super) fn named_bus(&self) -> Option<Name> {
        match self.spec()?.get("bus").filter(|bus| !bus.is_null()) {
            Some(bus) => Name::new(bus.text()?).ok(),
            None => Name::new(super::DEFAULT_BUS).ok(),
        }
    }

    /// The children of a supervisor, each with its index.
    pub(super) fn named_children(&self) -> Vec<(usize, spec::ChildRef)> {
        let (Kind::Supervisor, Some(spec)) = (self.kind, self.spec()) else { return Vec::new() };
        let id = |name| ObjectId { namespace: self.id.namespace.clone(), name };
        let child =
            |(index, (_, child)): (usize, At<&Node>)| match (name(child, "group"), name(child, "supervisor"))
            {
                (Some(group), None) => Some((index, spec::ChildRef::Group(id(group)))),
                (None, Some(supervisor)) => Some((index, spec::ChildRef::Supervisor(id(supervisor)))),
                _ => None,
            };
        items(spec, "children", "spec").into_iter().enumerate().filter_map(child).collect()
    }
}

/// The items of a list, each with its path.
fn items<'a>(node: &'a Node, field: &str, path: &str) -> Vec<At<&'a Node>> {
    match node.get(field).map(|list| &list.kind) {
        Some(yaml::Kind::List(items)) => {
            items.iter().enumerate().map(|(index, item)| (format!("{path}.{field}[{index}]"), item)).collect()
        }
        _ => Vec::new(),
    }
}

fn name(node: &Node, field: &str) -> Option<Name> {
    Name::new(node.get(field)?.text()?).ok()
}

fn topic((path, node): At<&Node>) -> Option<At<Name>> {
    Some((format!("{path}.topic"), name(node, "topic")?))
}
