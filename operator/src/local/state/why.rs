//! Names as people write them, and the answer to "why is it so?".

use kontrol_core::{
    id::{Name, ObjectId, WidgetId},
    spec::{self, ScalingClass},
    time::Timestamp,
};
use kontrol_plan::{
    RestartTarget,
    event::Cause,
    status::{Inner, Node, Slot as Child, Widget},
};
use kontrol_proto::v1;

use super::State;
use crate::local::desired::{groups, replicas_rule};

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

    /// Why it is as it is.
    pub fn why(&self, named: &Named, now: Timestamp) -> v1::WhyResponse {
        match named {
            Named::Widget(id) => self.why_widget(id, now),
            Named::Group(id) | Named::Supervisor(id) => self.why_node(id, now),
        }
    }

    fn why_node(&self, id: &ObjectId, now: Timestamp) -> v1::WhyResponse {
        let Some(status) = self.statuses().find_map(|root| find_node(root, id)) else {
            return answer(vec![format!("{} has not been started yet", id.name)], None);
        };
        let conditions = &status.conditions;
        let mut lines = vec![format!(
            "{}: {} ({})",
            id.name,
            if conditions.ready.status { "Ready" } else { "not Ready" },
            conditions.ready.reason.as_str(),
        )];
        if conditions.stalled.status {
            lines.push(format!("stands still: {}", conditions.stalled.reason.as_str()));
        }
        let intensity = self.desired.node(id).map(|node| match node {
            spec::Node::Group(group) => group.intensity,
            spec::Node::Supervisor(supervisor) => supervisor.intensity,
        });
        if let Some(intensity) = intensity {
            let window = now.minus(intensity.period);
            let counted = status.restarts.iter().filter(|at| **at >= window).count();
            lines.push(format!(
                "epoch {}, {counted} of {} restarts in {}",
                status.epoch,
                intensity.max_restarts,
                kontrol_core::duration::format(intensity.period)
            ));
        }
        answer(lines, status.last.as_deref())
    }

    fn why_widget(&self, id: &WidgetId, now: Timestamp) -> v1::WhyResponse {
        let object = ObjectId { namespace: id.namespace.clone(), name: id.group.clone() };
        let group = self.statuses().find_map(|root| find_node(root, &object));
        let widget = group.and_then(|group| {
            group.children.iter().find(|slot| slot.key.name == id.widget).and_then(widget_of)
        });
        let (Some(group), Some(widget)) = (group, widget) else {
            return answer(vec![format!("{}/{} has not been started yet", id.group, id.widget)], None);
        };
        let mut lines = vec![self.replicas_line(id, widget)];
        for replica in self.tree_replicas(id) {
            let seconds = now.since(Timestamp::from_micros(replica.since_micros)).as_secs();
            let note =
                if replica.message.is_empty() { String::new() } else { format!(": {}", replica.message) };
            lines.push(format!(
                "replica {}: {} for {seconds} s, incarnation {}, epoch {}{note}",
                replica.ordinal, replica.state, replica.incarnation, replica.epoch
            ));
        }
        let concerns = group.last.as_deref().filter(|last| {
            let leaf = last.chain().last();
            widget.last.as_deref().is_some_and(|own| leaf.is_some_and(|leaf| leaf.event == own.event))
        });
        answer(lines, concerns.or(widget.last.as_deref()))
    }

    fn replicas_line(&self, id: &WidgetId, status: &Widget) -> String {
        let count = match status.desired {
            1 => "1 replica".to_owned(),
            count => format!("{count} replicas"),
        };
        match (&status.scaling, self.desired.widget(id)) {
            (Some(scaling), _) => format!("{count}: {}", scaling.reason),
            (None, Some(widget)) if replicas_rule(widget) => {
                let external =
                    widget.scaling.as_ref().is_some_and(|scaling| scaling.class == ScalingClass::External);
                let class = if external { " (scaling is External)" } else { "" };
                format!("{count}: as spec.replicas says{class}")
            }
            _ => count,
        }
    }

    fn statuses(&self) -> impl Iterator<Item = &Node> {
        self.written.trees.values().filter_map(|status| status.root.as_deref())
    }

    /// Whether `kontrol scale` may set its replicas, and if not, why.
    pub fn may_scale(&self, id: &WidgetId) -> Result<(), String> {
        match self.desired.widget(id) {
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

fn find_node<'a>(node: &'a Node, id: &ObjectId) -> Option<&'a Node> {
    if node.id == *id {
        return Some(node);
    }
    node.children.iter().find_map(|slot| match &slot.inner {
        Inner::Node(inner) => find_node(inner, id),
        Inner::Widget(_) => None,
    })
}

fn widget_of(slot: &Child) -> Option<&Widget> {
    match &slot.inner {
        Inner::Widget(widget) => Some(widget),
        Inner::Node(_) => None,
    }
}

fn answer(lines: Vec<String>, last: Option<&Cause>) -> v1::WhyResponse {
    let chain = last.into_iter().flat_map(Cause::chain);
    v1::WhyResponse {
        lines,
        chain: chain
            .map(|cause| v1::WhyCause { at_micros: cause.at.as_micros(), text: cause.event.to_string() })
            .collect(),
    }
}
