//! What is to run here: the valid trees, topics and routes of all manifests together.

use std::collections::BTreeMap;

use kontrol_core::{
    id::{ObjectId, WidgetId},
    spec::{Bus, Node, Route, Scaling, ScalingClass, Topic, Widget},
};

use super::folder::{Scaled, Written};

/// Everything that is declared.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Desired {
    /// The trees of supervision.
    pub trees: Vec<Node>,
    /// The buses; the hub is the one of this world.
    pub buses: Vec<Bus>,
    /// The topics.
    pub topics: Vec<Topic>,
    /// The routes.
    pub routes: Vec<Route>,
}

/// The key of a tree in what is written.
pub(crate) fn tree_key(root: &Node) -> String {
    let kind = match root {
        Node::Group(_) => "group",
        Node::Supervisor(_) => "supervisor",
    };
    format!("{kind}/{}", root.id())
}

/// All groups at and below a node.
pub(crate) fn groups(node: &Node) -> Vec<&kontrol_core::spec::Group> {
    match node {
        Node::Group(group) => vec![group],
        Node::Supervisor(supervisor) => {
            supervisor.children.iter().flat_map(|child| groups(&child.node)).collect()
        }
    }
}

/// All widgets at and below a node, in their order.
pub fn widgets(node: &Node) -> impl Iterator<Item = &Widget> {
    groups(node).into_iter().flat_map(|group| &group.widgets)
}

fn widgets_mut(node: &mut Node) -> Vec<&mut Widget> {
    match node {
        Node::Group(group) => group.widgets.iter_mut().collect(),
        Node::Supervisor(supervisor) => {
            supervisor.children.iter_mut().flat_map(|child| widgets_mut(&mut child.node)).collect()
        }
    }
}

/// Whether `spec.replicas` rules.
pub(crate) fn replicas_rule(widget: &Widget) -> bool {
    widget.scaling.as_ref().is_none_or(|scaling| scaling.class == ScalingClass::External)
}

impl Desired {
    /// All widgets, tree by tree in the order of the manifests.
    pub fn widgets(&self) -> impl Iterator<Item = &Widget> {
        self.trees.iter().flat_map(widgets)
    }

    /// One widget.
    pub fn widget(&self, id: &WidgetId) -> Option<&Widget> {
        self.widgets().find(|widget| widget.id == *id)
    }

    /// A supervisor or group.
    pub fn node(&self, id: &ObjectId) -> Option<&Node> {
        fn find<'a>(node: &'a Node, id: &ObjectId) -> Option<&'a Node> {
            match node {
                node if node.id() == id => Some(node),
                Node::Supervisor(supervisor) => {
                    supervisor.children.iter().find_map(|child| find(&child.node, id))
                }
                Node::Group(_) => None,
            }
        }
        self.trees.iter().find_map(|root| find(root, id))
    }

    /// Sets the replicas that users asked for, where the manifest still says what it said then; forgets the others.
    pub(crate) fn scale(&mut self, written: &mut Written) {
        let mut kept = BTreeMap::new();
        for widget in self.trees.iter_mut().flat_map(widgets_mut) {
            let key = Written::scaled_key(&widget.id);
            if let Some(scaled) = written.scaled.get(&key).copied()
                && scaled.manifest == widget.replicas
                && replicas_rule(widget)
            {
                widget.replicas = scaled.replicas;
                kept.insert(key, scaled);
            }
        }
        written.scaled = kept;
    }

    /// Sets the replicas of one widget, and notes it for the next world.
    pub(crate) fn set_replicas(
        &mut self,
        id: &WidgetId,
        replicas: u32,
        written: &mut Written,
    ) -> Option<u32> {
        let widget = self.trees.iter_mut().flat_map(widgets_mut).find(|widget| widget.id == *id)?;
        let key = Written::scaled_key(id);
        let before = std::mem::replace(&mut widget.replicas, replicas);
        let manifest = written.scaled.get(&key).map_or(before, |scaled| scaled.manifest);
        written.scaled.insert(key, Scaled { replicas, manifest });
        Some(before)
    }
}

/// Replicas before anybody has decided: the fewest that scaling allows, or those of the manifest.
pub(crate) fn first_replicas(widget: &Widget) -> u32 {
    match &widget.scaling {
        Some(Scaling { class: ScalingClass::Kontrol, min, .. }) => *min,
        _ => widget.replicas,
    }
}
