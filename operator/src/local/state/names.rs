//! Names as people write them.

use kontrol_core::{
    id::{Name, ObjectId, WidgetId},
    spec,
};
use kontrol_plan::RestartTarget;

use super::State;
use crate::local::desired::{groups, replicas_rule};

/// The most replicas of one widget, as manifests allow.
const MAX_REPLICAS: u32 = 1000;

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
    /// `namespace/name`; three: `namespace/group/widget`. A trailing `-<ordinal>` or `/<ordinal>` of a replica is passed over.
    pub fn named(&self, name: &str) -> Vec<Named> {
        let exact = self.find(name);
        if !exact.is_empty() {
            return exact;
        }
        let shorter = name.rsplit_once(['-', '/']).filter(|(_, last)| last.parse::<u32>().is_ok());
        shorter.map(|(shorter, _)| self.find(shorter)).unwrap_or_default()
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
            Some(_) if replicas > MAX_REPLICAS => {
                Err(format!("{id} may have 0 to {MAX_REPLICAS} replicas, not {replicas}"))
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

    /// Every name that `named` finds, for the message when it finds none.
    pub fn names(&self) -> Vec<String> {
        let groups = self.desired.trees.iter().flat_map(groups);
        groups
            .flat_map(|group| {
                group.widgets.iter().map(|widget| format!("{}/{}", group.id.name, widget.id.widget))
            })
            .collect()
    }
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
