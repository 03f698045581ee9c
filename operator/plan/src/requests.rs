//! Restarts that users ask for. A request is handled once: what it asks for remembers its time. A start that is decided for any other
//! reason after a request is as good as what was asked for.

use std::sync::Arc;

use kontrol_core::{id::ObjectId, time::Timestamp};

use crate::{
    RestartTarget, Status,
    desired::Desired,
    event::Event,
    plan::Planner,
    status::{Key, Kind, Node, NodePhase, Open, OpenKind, Slot, Stage},
};

impl RestartTarget {
    fn is_child(&self, parent: &ObjectId, key: &Key) -> bool {
        let (namespace, kind) = match self {
            Self::Widget(id) => {
                if id.group != parent.name {
                    return false;
                }
                (&id.namespace, Kind::Widget)
            }
            Self::Group(id) => (&id.namespace, Kind::Group),
            Self::Supervisor(id) => (&id.namespace, Kind::Supervisor),
        };
        kind == key.kind && *namespace == parent.namespace && *self.name() == key.name
    }

    fn is_root(&self, root: &Node) -> bool {
        match self {
            Self::Widget(_) => false,
            Self::Group(id) => root.kind == Kind::Group && root.id == *id,
            Self::Supervisor(id) => root.kind == Kind::Supervisor && root.id == *id,
        }
    }
}

impl Planner<'_> {
    /// The first request about a child of this node that can be taken up.
    pub(crate) fn next_request(&self, node: &Node, desired: Desired<'_>) -> Option<(usize, Timestamp)> {
        self.requests().iter().find_map(|request| {
            let at = node.children.iter().position(|slot| request.target.is_child(&node.id, &slot.key))?;
            let slot = node.children.get(at)?;
            let free = !node.is_busy_with(desired.strategy(), &slot.key);
            (request.at > slot.asked && free).then_some((at, request.at))
        })
    }

    pub(crate) fn restart_as_asked(&mut self, node: &mut Node, at: usize, asked: Timestamp) {
        let Some(slot) = node.children.get_mut(at) else { return };
        Arc::make_mut(slot).asked = asked;
        let key = slot.key.clone();
        let event = Event::Asked { node: node.id.clone(), child: Some(key.clone()) };
        let cause = self.tell_because(event, None);
        node.last = Some(cause.clone());
        let decision = node.note(cause);
        node.open.push(Open {
            kind: OpenKind::Asked,
            scope: Arc::new([key]),
            stage: Stage::Stopping,
            decision,
        });
    }

    /// A child is being started: what was asked for before is done by that.
    pub(crate) fn satisfy_requests(&self, parent: &ObjectId, slot: &mut Slot) {
        for request in self.requests() {
            if request.target.is_child(parent, &slot.key) {
                slot.asked = slot.asked.max(request.at);
            }
        }
    }

    /// The same for the root.
    pub(crate) fn satisfy_requests_for_root(&self, root: &Node, asked: &mut Timestamp) {
        for request in self.requests() {
            if request.target.is_root(root) {
                *asked = (*asked).max(request.at);
            }
        }
    }

    /// A request about the root, or about anything below it where the root is stopped.
    pub(crate) fn take_up_request_for_root(
        &mut self,
        status: &mut Status,
        desired: Option<Desired<'_>>,
    ) -> bool {
        let Some(root) = status.root.as_mut().filter(|root| desired.is_some_and(|desired| root.is(desired)))
        else {
            return false;
        };
        let halted = root.is_gone() && status.exhausted.is_some();
        let since = root.since;
        let asked = self
            .requests()
            .iter()
            .filter(|request| request.target.is_root(root) || (halted && request.at > since))
            .map(|request| request.at)
            .max();
        let Some(asked) = asked.filter(|asked| *asked > status.asked) else { return false };
        status.asked = asked;
        status.exhausted = None;
        if !matches!(root.phase, NodePhase::Down(_)) {
            root.begin_stop(self.now);
        }
        let event = Event::Asked { node: root.id.clone(), child: None };
        root.last = Some(self.tell_because(event, None));
        true
    }
}
