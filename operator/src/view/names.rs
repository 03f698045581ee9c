//! Names as people write them.

mod nearest;

use kontrol_core::{
    code::Code,
    id::{InstanceId, Name, ObjectId, WidgetId},
    limits::REPLICAS,
    spec,
};
use kontrol_plan::{RestartTarget, status::Kind};

use super::{View, nodes, replicas_rule, widgets};
use nearest::listed;
pub(crate) use nearest::meant;

/// Why a name, or what is asked of what it means, is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Refused {
    /// The stable code.
    pub code: Code,
    /// The name.
    pub subject: String,
    /// The reason and the way out.
    pub message: String,
}

/// What a name means here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Named {
    /// A widget.
    Widget(WidgetId),
    /// A group.
    Group(ObjectId),
    /// A supervisor.
    Supervisor(ObjectId),
}

impl Named {
    /// What to restart.
    pub fn restart(self) -> RestartTarget {
        match self {
            Self::Widget(id) => RestartTarget::Widget(id),
            Self::Group(id) => RestartTarget::Group(id),
            Self::Supervisor(id) => RestartTarget::Supervisor(id),
        }
    }

    /// `widget default/rag/llm`.
    pub fn describe(&self) -> String {
        match self {
            Self::Widget(id) => format!("widget {id}"),
            Self::Group(id) => format!("group {id}"),
            Self::Supervisor(id) => format!("supervisor {id}"),
        }
    }
}

/// The one thing that a name means.
pub fn one(view: &impl View, name: &str) -> Result<Named, Refused> {
    let unknown = |message| refused(Code::NoSuchObject, name, message);
    let mut found = named(view, name);
    let named = match (found.pop(), found.is_empty()) {
        (Some(named), true) => named,
        (Some(last), false) => {
            found.push(last);
            let all: Vec<String> = found.iter().map(Named::describe).collect();
            return Err(unknown(format!("{name:?} may mean {}; write more of it", all.join(" or "))));
        }
        (None, _) => {
            let names = names(view);
            let there_are = listed(&names);
            return Err(unknown(match meant(name, &names) {
                Some(meant) => {
                    format!("there is no {name:?} here; did you mean {meant}? There are {there_are}")
                }
                None => format!("there is no {name:?} here; there are {there_are}"),
            }));
        }
    };
    if let (Named::Widget(widget), Some(ordinal)) = (&named, ordinal(view, name))
        && let Some(there) = lacks(view, widget, ordinal)
    {
        return Err(unknown(format!("{widget} has no replica {ordinal}: {there}")));
    }
    Ok(named)
}

/// A widget whose replicas a user may set, and how many it has.
pub fn scalable(view: &impl View, name: &str, replicas: u32) -> Result<(WidgetId, u32), Refused> {
    let unfit = |message| refused(Code::NotScalable, name, message);
    let named = one(view, name)?;
    let Some(widget) = widget_of(view, named.clone()) else {
        let widgets: Vec<String> = below(view, &named).map(|widget| format!("{:#}", widget.id)).collect();
        return Err(unfit(format!(
            "{} has no replicas of its own; scale one of its widgets: {}",
            named.describe(),
            listed(&widgets)
        )));
    };
    if let Some(ordinal) = ordinal(view, name) {
        return Err(unfit(format!("{name} is replica {ordinal} of {widget}; scale the widget")));
    }
    may_scale(view, &widget, replicas).map_err(unfit)?;
    let before = view.declared().widget(&widget).map_or(0, |widget| widget.replicas);
    Ok((widget, before))
}

fn refused(code: Code, name: &str, message: String) -> Refused {
    Refused { code, subject: name.to_owned(), message }
}

/// Everything that a name may mean. One part: a group or supervisor, else any widget of that name; two: `group/widget` or
/// `namespace/name`; three: `namespace/group/widget`. The name of a replica, `<widget>-<ordinal>` or `<widget>/<ordinal>`, means its
/// widget.
pub fn named(view: &impl View, name: &str) -> Vec<Named> {
    let exact = find(view, name);
    if !exact.is_empty() {
        return exact;
    }
    let Some((widget, _)) = replica(name) else { return Vec::new() };
    let found = find(view, widget).into_iter();
    found.filter_map(|named| Some(Named::Widget(widget_of(view, named)?))).collect()
}

/// The ordinal where a name is that of a replica rather than of what it belongs to.
pub fn ordinal(view: &impl View, name: &str) -> Option<u32> {
    replica(name).map(|(_, ordinal)| ordinal).filter(|_| find(view, name).is_empty())
}

/// What there is of a widget instead of this replica; none: it is there.
fn lacks(view: &impl View, widget: &WidgetId, ordinal: u32) -> Option<String> {
    let instances = instances(view, widget);
    if instances.iter().any(|instance| instance.ordinal == ordinal) {
        return None;
    }
    let there: Vec<String> = instances.iter().map(|instance| instance.ordinal.to_string()).collect();
    Some(match there.as_slice() {
        [] => "it has none".to_owned(),
        [only] => format!("it has replica {only}"),
        [first, .., last] => format!("it has replicas {first} to {last}"),
    })
}

/// The widget that has replicas under this name. A `Widget` outside any group is in a group of its own name.
pub fn widget_of(view: &impl View, named: Named) -> Option<WidgetId> {
    match named {
        Named::Widget(id) => Some(id),
        Named::Group(ObjectId { namespace, name }) => {
            let id = WidgetId { namespace, group: name.clone(), widget: name };
            view.declared().widget(&id).map(|widget| widget.id.clone())
        }
        Named::Supervisor(_) => None,
    }
}

/// The replicas of a widget that have a place.
pub fn instances(view: &impl View, widget: &WidgetId) -> Vec<InstanceId> {
    view.replicas(widget).map(|replica| replica.id.clone()).collect()
}

/// The replicas of a widget, or of all widgets at and below a group or supervisor.
pub fn instances_of(view: &impl View, named: &Named) -> Vec<InstanceId> {
    match named {
        Named::Widget(id) => instances(view, id),
        node => below(view, node).flat_map(|widget| instances(view, &widget.id)).collect(),
    }
}

fn below<'a>(view: &'a impl View, named: &Named) -> impl Iterator<Item = &'a spec::Widget> {
    let node = match named {
        Named::Group(id) => view.declared().node(Kind::Group, id),
        Named::Supervisor(id) => view.declared().node(Kind::Supervisor, id),
        Named::Widget(_) => None,
    };
    node.into_iter().flat_map(widgets)
}

fn find(view: &impl View, name: &str) -> Vec<Named> {
    let parts: Vec<&str> = name.split('/').collect();
    let all = || view.roots().flat_map(nodes);
    let widgets = |matches: &dyn Fn(&WidgetId) -> bool| {
        let found = view.roots().flat_map(super::widgets).filter(|widget| matches(&widget.id));
        found.map(|widget| Named::Widget(widget.id.clone())).collect::<Vec<_>>()
    };
    match parts[..] {
        [name] => {
            let found: Vec<Named> = all().filter(|node| is(&node.id().name, name)).map(node_named).collect();
            if found.is_empty() { widgets(&|id| is(&id.widget, name)) } else { found }
        }
        [first, second] => {
            let found = widgets(&|id| is(&id.group, first) && is(&id.widget, second));
            if found.is_empty() {
                let matches =
                    |node: &&spec::Node| is(&node.id().namespace, first) && is(&node.id().name, second);
                all().filter(matches).map(node_named).collect()
            } else {
                found
            }
        }
        [namespace, group, widget] => {
            widgets(&|id| is(&id.namespace, namespace) && is(&id.group, group) && is(&id.widget, widget))
        }
        _ => Vec::new(),
    }
}

/// Whether `kontrol scale` may set its replicas, and if not, why.
pub fn may_scale(view: &impl View, id: &WidgetId, replicas: u32) -> Result<(), String> {
    match view.declared().widget(id) {
        Some(_) if replicas > REPLICAS => {
            Err(format!("{id} may have 0 to {REPLICAS} replicas, not {replicas}"))
        }
        Some(widget) if replicas > 1 && fixed_port(widget) => Err(format!(
            "{replicas} replicas of {id} cannot share its endpoint.port: leave endpoint.port out, and each is given one in PORT"
        )),
        Some(widget) if replicas_rule(widget) => Ok(()),
        Some(_) => Err(format!(
            "the replicas of {id} are decided by its scaling (class Kontrol): change scaling.min and scaling.max in the manifest, \
             or set scaling.class to External"
        )),
        None => Err(format!("there is no widget {id}")),
    }
}

/// Every name, as short as it is clear within its namespace: supervisors and groups, and after each group its widgets.
pub fn names(view: &impl View) -> Vec<String> {
    let mut names = Vec::new();
    for node in view.roots().flat_map(nodes) {
        let id = node.id();
        names.push(format!("{id:#}"));
        if let spec::Node::Group(group) = node {
            let own = |widget: &&spec::Widget| group.widgets.len() > 1 || widget.id.widget != id.name;
            let widgets = group.widgets.iter().filter(own);
            names.extend(widgets.map(|widget| format!("{:#}", widget.id)));
        }
    }
    names
}

/// A replica's name in its parts.
fn replica(name: &str) -> Option<(&str, u32)> {
    let (widget, ordinal) = name.rsplit_once(['-', '/'])?;
    Some((widget, ordinal.parse().ok()?))
}

fn is(name: &Name, text: &str) -> bool {
    name.as_str() == text
}

fn node_named(node: &spec::Node) -> Named {
    match node {
        spec::Node::Group(group) => Named::Group(group.id.clone()),
        spec::Node::Supervisor(supervisor) => Named::Supervisor(supervisor.id.clone()),
    }
}

fn fixed_port(widget: &spec::Widget) -> bool {
    widget.endpoint.as_ref().is_some_and(|endpoint| endpoint.port.is_some())
}
