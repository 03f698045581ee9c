//! One view of groups and supervisors: a node with children in order.

use kontrol_core::{
    id::{Name, ObjectId},
    spec::{self, AutoShutdown, Exhausted, Intensity, Restart, Strategy},
};

use crate::status::{Key, Kind};

/// A group or a supervisor of the manifest.
#[derive(Clone, Copy)]
pub(crate) struct Desired<'a>(pub(crate) &'a spec::Node);

/// A child of one.
#[derive(Clone, Copy)]
pub(crate) enum DesiredChild<'a> {
    Widget(&'a spec::Widget),
    Node(&'a spec::Child),
}

impl<'a> Desired<'a> {
    pub(crate) fn id(self) -> &'a ObjectId {
        self.0.id()
    }

    pub(crate) fn kind(self) -> Kind {
        match self.0 {
            spec::Node::Group(_) => Kind::Group,
            spec::Node::Supervisor(_) => Kind::Supervisor,
        }
    }

    pub(crate) fn strategy(self) -> Strategy {
        match self.0 {
            spec::Node::Group(group) => group.strategy,
            spec::Node::Supervisor(supervisor) => supervisor.strategy,
        }
    }

    pub(crate) fn intensity(self) -> Intensity {
        match self.0 {
            spec::Node::Group(group) => group.intensity,
            spec::Node::Supervisor(supervisor) => supervisor.intensity,
        }
    }

    pub(crate) fn auto_shutdown(self) -> AutoShutdown {
        match self.0 {
            spec::Node::Group(group) => group.auto_shutdown,
            spec::Node::Supervisor(supervisor) => supervisor.auto_shutdown,
        }
    }

    pub(crate) fn when_exhausted(self) -> Exhausted {
        match self.0 {
            spec::Node::Group(group) => group.when_exhausted,
            spec::Node::Supervisor(supervisor) => supervisor.when_exhausted,
        }
    }

    pub(crate) fn len(self) -> usize {
        match self.0 {
            spec::Node::Group(group) => group.widgets.len(),
            spec::Node::Supervisor(supervisor) => supervisor.children.len(),
        }
    }

    pub(crate) fn child(self, at: usize) -> Option<DesiredChild<'a>> {
        match self.0 {
            spec::Node::Group(group) => group.widgets.get(at).map(DesiredChild::Widget),
            spec::Node::Supervisor(supervisor) => supervisor.children.get(at).map(DesiredChild::Node),
        }
    }

    pub(crate) fn children(self) -> impl Iterator<Item = DesiredChild<'a>> {
        (0..self.len()).filter_map(move |at| self.child(at))
    }
}

impl<'a> DesiredChild<'a> {
    pub(crate) fn kind(self) -> Kind {
        match self {
            Self::Widget(_) => Kind::Widget,
            Self::Node(child) => Desired(&child.node).kind(),
        }
    }

    pub(crate) fn name(self) -> &'a Name {
        match self {
            Self::Widget(widget) => &widget.id.widget,
            Self::Node(child) => &child.node.id().name,
        }
    }

    pub(crate) fn key(self) -> Key {
        Key { kind: self.kind(), name: self.name().clone() }
    }

    pub(crate) fn is(self, key: &Key) -> bool {
        self.kind() == key.kind && *self.name() == key.name
    }

    pub(crate) fn restart(self) -> Restart {
        match self {
            Self::Widget(widget) => widget.restart,
            Self::Node(child) => child.restart,
        }
    }

    pub(crate) fn significant(self) -> bool {
        match self {
            Self::Widget(widget) => widget.significant,
            Self::Node(child) => child.significant,
        }
    }

    pub(crate) fn widget(self) -> Option<&'a spec::Widget> {
        match self {
            Self::Widget(widget) => Some(widget),
            Self::Node(_) => None,
        }
    }

    pub(crate) fn node(self) -> Option<Desired<'a>> {
        match self {
            Self::Widget(_) => None,
            Self::Node(child) => Some(Desired(&child.node)),
        }
    }
}
