//! Names as people write them.

use kontrol_core::{
    id::{InstanceId, Name, ObjectId, WidgetId},
    limits::REPLICAS,
    spec,
};
use kontrol_plan::RestartTarget;

use super::State;
use crate::local::desired::{replicas_rule, widgets};

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

fn fixed_port(widget: &spec::Widget) -> bool {
    widget.endpoint.as_ref().is_some_and(|endpoint| endpoint.port.is_some())
}

impl State {
    /// Everything that a name may mean. One part: a group or supervisor, else any widget of that name; two: `group/widget` or
    /// `namespace/name`; three: `namespace/group/widget`. The name of a replica, `<widget>-<ordinal>` or `<widget>/<ordinal>`, means its
    /// widget.
    pub fn named(&self, name: &str) -> Vec<Named> {
        let exact = self.find(name);
        if !exact.is_empty() {
            return exact;
        }
        let Some((widget, _)) = replica(name) else { return Vec::new() };
        self.find(widget)
            .into_iter()
            .filter_map(|named| Some(Named::Widget(self.widget_of(named)?)))
            .collect()
    }

    /// The ordinal where a name is that of a replica rather than of what it belongs to.
    pub fn ordinal(&self, name: &str) -> Option<u32> {
        replica(name).map(|(_, ordinal)| ordinal).filter(|_| self.find(name).is_empty())
    }

    /// What there is of a widget instead of this replica; none: it is there.
    pub fn lacks(&self, widget: &WidgetId, ordinal: u32) -> Option<String> {
        let instances = self.instances(widget);
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
    pub fn widget_of(&self, named: Named) -> Option<WidgetId> {
        match named {
            Named::Widget(id) => Some(id),
            Named::Group(ObjectId { namespace, name }) => {
                let id = WidgetId { namespace, group: name.clone(), widget: name };
                self.desired.widget(&id).map(|widget| widget.id.clone())
            }
            Named::Supervisor(_) => None,
        }
    }

    /// The replicas of a widget, or of all widgets at and below a group or supervisor.
    pub fn instances_of(&self, named: &Named) -> Vec<InstanceId> {
        match named {
            Named::Widget(id) => self.instances(id),
            Named::Group(id) | Named::Supervisor(id) => {
                self.below(id).flat_map(|widget| self.instances(&widget.id)).collect()
            }
        }
    }

    /// The names of all widgets at and below a group or supervisor.
    pub fn widgets_below(&self, id: &ObjectId) -> Vec<String> {
        self.below(id).map(|widget| format!("{:#}", widget.id)).collect()
    }

    fn below(&self, id: &ObjectId) -> impl Iterator<Item = &spec::Widget> {
        self.desired.node(id).into_iter().flat_map(widgets)
    }

    fn find(&self, name: &str) -> Vec<Named> {
        let parts: Vec<&str> = name.split('/').collect();
        let nodes = || self.desired.trees.iter().flat_map(all_nodes);
        let widgets = |matches: &dyn Fn(&WidgetId) -> bool| {
            let found = self.desired.widgets().filter(|widget| matches(&widget.id));
            found.map(|widget| Named::Widget(widget.id.clone())).collect::<Vec<_>>()
        };
        match parts[..] {
            [name] => {
                let found: Vec<Named> = nodes().filter(|node| is(&node.id().name, name)).map(named).collect();
                if found.is_empty() { widgets(&|id| is(&id.widget, name)) } else { found }
            }
            [first, second] => {
                let found = widgets(&|id| is(&id.group, first) && is(&id.widget, second));
                if found.is_empty() {
                    let matches =
                        |node: &&spec::Node| is(&node.id().namespace, first) && is(&node.id().name, second);
                    nodes().filter(matches).map(named).collect()
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
    pub fn may_scale(&self, id: &WidgetId, replicas: u32) -> Result<(), String> {
        match self.desired.widget(id) {
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
    pub fn names(&self) -> Vec<String> {
        let mut names = Vec::new();
        for node in self.desired.trees.iter().flat_map(all_nodes) {
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
}

/// A replica's name in its parts.
fn replica(name: &str) -> Option<(&str, u32)> {
    let (widget, ordinal) = name.rsplit_once(['-', '/'])?;
    Some((widget, ordinal.parse().ok()?))
}

fn is(name: &Name, text: &str) -> bool {
    name.as_str() == text
}

fn named(node: &spec::Node) -> Named {
    match node {
        spec::Node::Group(group) => Named::Group(group.id.clone()),
        spec::Node::Supervisor(supervisor) => Named::Supervisor(supervisor.id.clone()),
    }
}

fn all_nodes(node: &spec::Node) -> Vec<&spec::Node> {
    let mut nodes = vec![node];
    if let spec::Node::Supervisor(supervisor) = node {
        nodes.extend(supervisor.children.iter().flat_map(|child| all_nodes(&child.node)));
    }
    nodes
}
