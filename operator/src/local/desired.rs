//! What is to run here: the valid trees, topics and routes of all manifests together.

use std::{collections::BTreeMap, sync::Arc};

use kontrol_core::{
    id::WidgetId,
    spec::{Bus, Node, Route, Topic, Widget},
};

use super::folder::{Scaled, Written};
use crate::view::{Declared, replicas_rule, tree_key, widgets};

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

fn widgets_mut(node: &mut Node) -> Vec<&mut Widget> {
    match node {
        Node::Group(group) => group.widgets.iter_mut().collect(),
        Node::Supervisor(supervisor) => {
            supervisor.children.iter_mut().flat_map(|child| widgets_mut(&mut child.node)).collect()
        }
    }
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

    /// The same, found by name.
    pub(crate) fn declared(&self) -> Declared {
        let mut declared = Declared::default();
        for root in &self.trees {
            declared.set_tree(&tree_key(root), Some(Arc::new(root.clone())));
        }
        for topic in &self.topics {
            declared.set_topic(&topic.id, Some(Arc::new(topic.clone())));
        }
        for route in &self.routes {
            declared.set_route(&route.id, Some(Arc::new(route.clone())));
        }
        for bus in &self.buses {
            declared.set_bus(&bus.id, Some(Arc::new(bus.clone())));
        }
        declared
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
