//! How a status follows its manifest: children are matched by kind and name, what is the same stays as it is, what is new waits to be
//! started, what is no longer there leaves. An order of children that changed restarts nobody; it rules the next start and stop.

use std::sync::Arc;

use kontrol_core::{id::ObjectId, spec, time::Timestamp};

use crate::{
    Instance,
    desired::{Desired, DesiredChild},
    event::Event,
    plan::Planner,
    roll::{Step, step},
    scale::policy,
    status::{Conditions, Inner, Key, Node, NodePhase, Open, OpenKind, Slot, SlotPhase, Stage, Widget},
    widget::Begin,
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
            decisions: Vec::new(),
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
            let is = |slot: &Arc<Slot>| slot.key == *key;
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
            match child {
                DesiredChild::Widget(spec) if !slot.is_aligned(spec) => {
                    Arc::make_mut(slot).align(spec, self.now);
                }
                DesiredChild::Widget(_) => {}
                DesiredChild::Node(child) => {
                    if let Some(below) = slot.node_mut() {
                        self.align(below, Desired(&child.node), floor);
                    }
                }
            }
        }
    }

    fn rearrange(&mut self, node: &mut Node, desired: Desired<'_>, floor: u64) {
        let mut old = std::mem::take(&mut node.children);
        for child in desired.children() {
            let kept = old.iter().position(|slot| child.is(&slot.key)).map(|at| old.remove(at));
            let back = || {
                let at = node.leaving.iter().position(|slot| child.is(&slot.key))?;
                Some(node.leaving.remove(at))
            };
            let slot = kept.or_else(back).unwrap_or_else(|| Arc::new(self.slot(&node.id, child, floor)));
            node.children.push(slot);
        }
        for slot in &old {
            self.tell(Event::Removes { node: node.id.clone(), child: slot.key.clone() });
        }
        node.leaving.extend(old);
        let is_here = |key: &&Key| node.children.iter().any(|slot| slot.key == **key);
        for open in &mut node.open {
            open.scope = open.scope.iter().filter(is_here).cloned().collect();
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
        Slot {
            key: child.key(),
            phase: SlotPhase::Waiting,
            asked: Timestamp::ZERO,
            failed: None,
            decision: 0,
            outcome: None,
            inner,
        }
    }

    /// Lets widgets that run have the replicas that are wanted.
    pub(crate) fn fit(&mut self, node: &mut Node, desired: Desired<'_>) {
        let (epoch, runs) = (node.epoch, matches!(node.phase, NodePhase::Starting | NodePhase::Running));
        for (slot, child) in node.children.iter_mut().zip(desired.children()) {
            match child {
                DesiredChild::Widget(spec) => {
                    if runs
                        && matches!(slot.phase, SlotPhase::Starting | SlotPhase::Up)
                        && slot.widget().is_some_and(|widget| !widget.fits())
                        && let Some(widget) = slot.widget_mut()
                    {
                        widget.fit(Begin { spec, epoch, avoid: self.avoid, now: self.now });
                    }
                }
                DesiredChild::Node(child) => {
                    if let Some(below) = slot.node_mut() {
                        self.fit(below, Desired(&child.node));
                    }
                }
            }
        }
    }

    /// The first child that is to be started, or restarted from a new template.
    pub(crate) fn follows(node: &Node, desired: Desired<'_>) -> Option<(usize, Step)> {
        let settled = node.open.is_empty()
            && !node.children.iter().any(|slot| matches!(slot.phase, SlotPhase::Failed(_)));
        if !settled {
            return None;
        }
        for (at, (slot, child)) in node.children.iter().zip(desired.children()).enumerate() {
            let step = match slot.phase {
                SlotPhase::Waiting | SlotPhase::Stopping => Step::Whole,
                SlotPhase::Up | SlotPhase::Ended | SlotPhase::Forgotten => {
                    child.widget().map_or(Step::Done, |spec| step(slot, spec))
                }
                SlotPhase::Starting | SlotPhase::Failed(_) => Step::Done,
            };
            match step {
                Step::Done => {}
                Step::Wait => return None,
                Step::Whole | Step::Some => return Some((at, step)),
            }
        }
        None
    }

    pub(crate) fn follow(&mut self, node: &mut Node, desired: Desired<'_>, at: usize, step: Step) {
        if let (Step::Some, Some(spec)) = (step, desired.child(at).and_then(DesiredChild::widget)) {
            return self.roll(node, spec, at);
        }
        let Some(slot) = node.children.get(at) else { return };
        let scope: Arc<[Key]> = Arc::new([slot.key.clone()]);
        let event = Event::Follows { node: node.id.clone(), children: scope.clone() };
        let decision = node.note(self.tell_because(event, None));
        node.open.push(Open { kind: OpenKind::Manifest, scope, stage: Stage::Stopping, decision });
    }

    /// Takes over what runs of a tree whose status was lost; says whether anything did. What runs from an older template is replaced in
    /// order afterwards, as after any change of the manifest.
    fn take_over(&mut self, node: &mut Node) -> bool {
        let mut any = false;
        for slot in &mut node.children {
            let slot = Arc::make_mut(slot);
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

/// Whether replicas have an identity of their own, and whether one on a lost machine is given up all the same.
pub(crate) fn identity(spec: &spec::Widget) -> (bool, bool) {
    spec.container.map_or((false, false), |container| (container.identity, container.force_delete))
}

impl Slot {
    /// Whether its widget follows what its manifest says of one that goes on.
    fn is_aligned(&self, spec: &spec::Widget) -> bool {
        let Inner::Widget(widget) = &self.inner else { return true };
        let sized = policy(spec).is_some() || (widget.scaling.is_none() && widget.desired == spec.replicas);
        let outdated = self.phase == SlotPhase::Starting && widget.revision != widget.target(spec);
        sized
            && !outdated
            && widget.shutdown == spec.shutdown
            && (widget.identity, widget.force) == identity(spec)
    }

    fn align(&mut self, spec: &spec::Widget, now: Timestamp) {
        let Inner::Widget(widget) = &mut self.inner else { return };
        widget.shutdown = spec.shutdown;
        (widget.identity, widget.force) = identity(spec);
        if policy(spec).is_none() {
            widget.scaling = None;
            widget.desired = spec.replicas;
        }
        if self.phase == SlotPhase::Starting && widget.revision != widget.target(spec) {
            widget.begin_stop(now);
            self.phase = SlotPhase::Stopping;
        }
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
