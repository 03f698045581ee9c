//! How a status follows its manifest: children are matched by kind and name, what is the same stays as it is, what is new waits to be
//! started, what is no longer there leaves. An order of children that changed restarts nobody; it rules the next start and stop.

use kontrol_core::{id::ObjectId, time::Timestamp};

use crate::{
    Instance,
    desired::{Desired, DesiredChild},
    event::Event,
    plan::Planner,
    scale::policy,
    status::{Conditions, Inner, Key, Node, NodePhase, Open, OpenKind, Slot, SlotPhase, Stage, Widget},
};

impl Node {
    fn new(desired: Desired<'_>, now: Timestamp) -> Self {
        Self {
            kind: desired.kind(),
            id: desired.id().clone(),
            phase: NodePhase::Down(None),
            since: now,
            up_since: None,
            epoch: 0,
            restarts: Vec::new(),
            children: Vec::new(),
            leaving: Vec::new(),
            open: Vec::new(),
            last: None,
            conditions: Conditions::new(now),
        }
    }

    /// Whether it is the status of this object.
    pub(crate) fn is(&self, desired: Desired<'_>) -> bool {
        self.kind == desired.kind() && self.id == *desired.id()
    }

    /// Where these children are, in order.
    pub(crate) fn places(&self, keys: &[Key]) -> Vec<usize> {
        // A scope has the order of the children where the manifest has not changed since: the next key is mostly the next child.
        let mut places = Vec::with_capacity(keys.len());
        let mut next = 0;
        for key in keys {
            let is = |slot: &Slot| slot.key == *key;
            let at = match self.children.get(next) {
                Some(slot) if is(slot) => Some(next),
                _ => self.children.iter().position(is),
            };
            if let Some(at) = at {
                places.push(at);
                next = at + 1;
            }
        }
        places.sort_unstable();
        places
    }

    fn is_aligned(&self, desired: Desired<'_>) -> bool {
        self.children.len() == desired.len()
            && desired.children().zip(&self.children).all(|(child, slot)| child.is(&slot.key))
    }
}

impl Planner<'_> {
    /// A status for a tree that has none: everything waits to be started, or what runs already is taken over.
    pub(crate) fn plant(&mut self, status: &mut crate::Status, desired: Desired<'_>) {
        let mut root = Box::new(Node::new(desired, self.now));
        self.align(&mut root, desired, status.floor);
        if self.take_over(&mut root) {
            status.recovered = Some(self.now);
            let instances = self.instances.iter().filter(|instance| !instance.state.is_ended()).count();
            root.last = Some(self.tell_because(Event::TookOver { node: root.id.clone(), instances }, None));
        }
        status.root = Some(root);
    }

    /// Matches the children with the manifest, here and below, and sizes widgets.
    pub(crate) fn align(&mut self, node: &mut Node, desired: Desired<'_>, floor: u64) {
        if !node.is_aligned(desired) {
            self.rearrange(node, desired, floor);
        }
        for (slot, child) in node.children.iter_mut().zip(desired.children()) {
            match (&mut slot.inner, child) {
                (Inner::Widget(widget), DesiredChild::Widget(spec)) => {
                    widget.shutdown = spec.shutdown;
                    if policy(spec).is_none() {
                        widget.scaling = None;
                        widget.desired = spec.replicas;
                    }
                    if slot.phase == SlotPhase::Starting && widget.revision != spec.revision {
                        widget.begin_stop(self.now);
                        slot.phase = SlotPhase::Stopping;
                    }
                }
                (Inner::Node(below), DesiredChild::Node(child)) => {
                    self.align(below, Desired(&child.node), floor);
                }
                (Inner::Widget(_), DesiredChild::Node(_)) | (Inner::Node(_), DesiredChild::Widget(_)) => {}
            }
        }
    }

    fn rearrange(&mut self, node: &mut Node, desired: Desired<'_>, floor: u64) {
        let mut old: Vec<Slot> = std::mem::take(&mut node.children);
        for child in desired.children() {
            let kept = old.iter().position(|slot| child.is(&slot.key)).map(|at| old.remove(at));
            let back = || {
                let at = node.leaving.iter().position(|slot| child.is(&slot.key))?;
                Some(node.leaving.remove(at))
            };
            let slot = kept.or_else(back).unwrap_or_else(|| self.slot(&node.id, child, floor));
            node.children.push(slot);
        }
        for slot in &old {
            self.tell(Event::Removes { node: node.id.clone(), child: slot.key.clone() });
        }
        node.leaving.extend(old);
        let keys = &node.children;
        for open in &mut node.open {
            open.scope.retain(|key| keys.iter().any(|slot| slot.key == *key));
        }
    }

    fn slot(&mut self, parent: &ObjectId, child: DesiredChild<'_>, floor: u64) -> Slot {
        let inner = match child {
            DesiredChild::Widget(spec) => {
                let seen = self.instances.of(&parent.name, &spec.id.widget);
                let highest = seen.iter().map(|instance| instance.incarnation).max().unwrap_or(0);
                Inner::Widget(Widget::new(spec, floor.max(highest)))
            }
            DesiredChild::Node(child) => Inner::Node(Box::new(Node::new(Desired(&child.node), self.now))),
        };
        Slot { key: child.key(), phase: SlotPhase::Waiting, asked: Timestamp::ZERO, failed: None, inner }
    }

    /// Lets widgets that run have the replicas that are wanted.
    pub(crate) fn fit(&mut self, node: &mut Node, desired: Desired<'_>) {
        let (epoch, runs) = (node.epoch, matches!(node.phase, NodePhase::Starting | NodePhase::Running));
        for (slot, child) in node.children.iter_mut().zip(desired.children()) {
            match (&mut slot.inner, child) {
                (Inner::Widget(widget), DesiredChild::Widget(spec)) => {
                    if runs && matches!(slot.phase, SlotPhase::Starting | SlotPhase::Up) {
                        widget.fit(spec, epoch, self.now);
                    }
                }
                (Inner::Node(below), DesiredChild::Node(child)) => self.fit(below, Desired(&child.node)),
                (Inner::Widget(_), DesiredChild::Node(_)) | (Inner::Node(_), DesiredChild::Widget(_)) => {}
            }
        }
    }

    /// The first child that is to be started, or restarted from a new template.
    pub(crate) fn follows(node: &Node, desired: Desired<'_>) -> Option<usize> {
        let settled = node.open.is_empty()
            && !node.children.iter().any(|slot| matches!(slot.phase, SlotPhase::Failed(_)));
        if !settled {
            return None;
        }
        node.children.iter().zip(desired.children()).position(|(slot, child)| match slot.phase {
            SlotPhase::Waiting | SlotPhase::Stopping => true,
            SlotPhase::Up | SlotPhase::Ended | SlotPhase::Forgotten => match (&slot.inner, child.widget()) {
                (Inner::Widget(widget), Some(spec)) => widget.revision != spec.revision,
                _ => false,
            },
            SlotPhase::Starting | SlotPhase::Failed(_) => false,
        })
    }

    pub(crate) fn follow(&mut self, node: &mut Node, at: usize) {
        let Some(slot) = node.children.get(at) else { return };
        let scope = vec![slot.key.clone()];
        self.tell(Event::Follows { node: node.id.clone(), children: scope.clone() });
        node.open.push(Open { kind: OpenKind::Manifest, scope, stage: Stage::Stopping });
    }

    /// Takes over what runs of a tree whose status was lost; says whether anything did. What runs from an older template is replaced in
    /// order afterwards, as after any change of the manifest.
    fn take_over(&mut self, node: &mut Node) -> bool {
        let mut any = false;
        for slot in &mut node.children {
            let taken = match &mut slot.inner {
                Inner::Widget(widget) => {
                    let seen = self.instances.of(&node.id.name, &slot.key.name);
                    node.epoch = seen.iter().map(|instance| instance.epoch).fold(node.epoch, u64::max);
                    widget.take_over(seen, self.now)
                }
                Inner::Node(below) => self.take_over(below),
            };
            if taken {
                slot.phase = SlotPhase::Up;
                any = true;
            }
        }
        if any {
            node.becomes(NodePhase::Running, self.now);
            node.up_since = Some(self.now);
        }
        any
    }
}

impl Widget {
    fn take_over(&mut self, seen: &[&Instance], now: Timestamp) -> bool {
        let mut any = false;
        for instance in seen.iter().filter(|instance| !instance.state.is_ended()) {
            any = true;
            self.adopt(instance, now);
        }
        any
    }
}
