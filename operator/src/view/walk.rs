//! Trees of what is declared, walked.

use kontrol_core::spec::{Group, Node, Scaling, ScalingClass, Widget};

/// The key of a tree in what is written: `group/<namespace>/<name>` or `supervisor/…` of its root.
pub fn tree_key(root: &Node) -> String {
    let kind = match root {
        Node::Group(_) => "group",
        Node::Supervisor(_) => "supervisor",
    };
    format!("{kind}/{}", root.id())
}

/// All groups and supervisors at and below a node, each before what is below it.
pub fn nodes(node: &Node) -> Vec<&Node> {
    let mut all = vec![node];
    if let Node::Supervisor(supervisor) = node {
        all.extend(supervisor.children.iter().flat_map(|child| nodes(&child.node)));
    }
    all
}

/// All groups at and below a node.
pub fn groups(node: &Node) -> impl Iterator<Item = &Group> {
    nodes(node).into_iter().filter_map(|node| match node {
        Node::Group(group) => Some(group),
        Node::Supervisor(_) => None,
    })
}

/// All widgets at and below a node, in their order.
pub fn widgets(node: &Node) -> impl Iterator<Item = &Widget> {
    groups(node).flat_map(|group| &group.widgets)
}

/// Whether `spec.replicas` rules.
pub fn replicas_rule(widget: &Widget) -> bool {
    widget.scaling.as_ref().is_none_or(|scaling| scaling.class == ScalingClass::External)
}

/// Replicas before anybody has decided: the fewest that scaling allows, or those of the manifest.
pub fn first_replicas(widget: &Widget) -> u32 {
    match widget.scaling.as_deref() {
        Some(Scaling { class: ScalingClass::Kontrol, min, .. }) => *min,
        _ => widget.replicas,
    }
}
