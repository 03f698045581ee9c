//! What people see: the status and the conditions of each object of a tree, written where they differ from what is there.

mod conditions;
mod rollout;

pub(super) use conditions::{accepted, shown};

use std::hash::{DefaultHasher, Hash as _, Hasher as _};

use kontrol_core::{
    id::{InstanceId, ObjectId, WidgetId},
    spec,
    time::Timestamp,
};
use kontrol_crds as api;
use kontrol_plan::{
    End, Event, InstanceState,
    event::Cause,
    status::{Inner, Key as SlotKey, Kind as Is, Node, NodePhase, Open, OpenKind, Slot, SlotPhase, Widget},
};
use serde_json::{Map, Value, json};

use super::{Purpose, State, Tree, reconcile::Requests};
use crate::kubernetes::{
    forest::{Root, id_of},
    kind::Kind,
    object::{Key, Own},
    observe,
    pod::Pod,
    request::{Request, Verb},
    time,
};

/// Replicas that a status shows one by one.
const SHOWN: usize = 100;
/// Breakers that a status shows of a replica.
const BREAKERS: usize = 8;

/// One condition as it is to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Shown {
    pub(super) kind: &'static str,
    pub(super) status: &'static str,
    pub(super) reason: String,
    pub(super) message: String,
}

/// A widget as it is declared, and as the plan has it.
#[derive(Clone, Copy)]
struct Of<'a> {
    id: &'a WidgetId,
    spec: Option<&'a spec::Widget>,
    node: &'a Node,
    slot: &'a Slot,
    widget: &'a Widget,
}

impl State {
    /// The statuses that are to be written.
    pub(super) fn show(&mut self, root: &Root, tree: &Tree, now: Timestamp) -> Requests {
        let mut requests = Requests::new();
        let later = tree.shows.until(now);
        self.queue.soon(root, later);
        if later.is_some() || tree.unsaid {
            return requests;
        }
        let status = tree.status.root.as_deref();
        let whole = tree.status.root.as_deref().filter(|node| node_is(node, root));
        for (kind, key) in &tree.members {
            let Some(object) = self.store.own(*kind, key) else { continue };
            let id = id_of(key);
            let noted = id.as_ref().and_then(|id| find(whole.or(status)?, *kind == Kind::Supervisor, id));
            let (view, conditions) = match kind {
                Kind::Supervisor => (
                    Self::supervisor(noted, tree, key),
                    conditions::of_node(noted, tree, *kind, key, &self.declared),
                ),
                Kind::WidgetGroup => (
                    self.group(noted, tree, key),
                    conditions::of_node(noted, tree, *kind, key, &self.declared),
                ),
                _ => {
                    let id = id.map(|ObjectId { namespace, name }| WidgetId {
                        namespace,
                        group: name.clone(),
                        widget: name,
                    });
                    let of = id.as_ref().and_then(|id| self.of(id, noted?));
                    let alone = Some((*kind, key));
                    (self.widget(of, tree, now), conditions::of_widget(of, tree, alone))
                }
            };
            requests.extend(write(*kind, key, object, tree, view, conditions, now));
        }
        for widget in tree.node.as_deref().into_iter().flat_map(super::widgets) {
            let (key, lone) = self.object_of(tree, &widget.id);
            let Some(object) = self.store.own(Kind::Widget, &key).filter(|_| !lone) else { continue };
            let group = ObjectId { namespace: widget.id.namespace.clone(), name: widget.id.group.clone() };
            let node = status.and_then(|status| find(status, false, &group));
            let of = node.and_then(|node| self.of(&widget.id, node));
            let conditions = conditions::of_widget(of, tree, None);
            let view = self.widget(of, tree, now);
            requests.extend(write(Kind::Widget, &key, object, tree, view, conditions, now));
        }
        requests
    }

    /// A widget in the node of its group.
    fn of<'a>(&'a self, id: &'a WidgetId, node: &'a Node) -> Option<Of<'a>> {
        let slot = slot_of(node, id.widget.as_str())?;
        Some(Of { id, spec: self.declared.widget(id), node, slot, widget: widget_of(slot)? })
    }

    /// When a status changes by itself: a revision has run well for long enough to be gone back to.
    pub(super) fn next_news(&self, tree: &Tree, now: Timestamp) -> Option<Timestamp> {
        let mut next = None;
        observe::each_widget(&tree.status, &mut |id, widget| {
            let at = rollout::proven(widget, self.declared.widget(id)).filter(|at| *at > now);
            next = next.into_iter().chain(at).min();
        });
        next
    }

    fn supervisor(noted: Option<&Node>, tree: &Tree, key: &Key) -> Value {
        let Some(node) = noted else { return json!({}) };
        let children = node.children.iter().map(|slot| {
            let kind = match slot.key.kind {
                Is::Supervisor => "Supervisor",
                _ if tree
                    .members
                    .contains(&(Kind::Widget, Key::new(&key.namespace, slot.key.name.as_str()))) =>
                {
                    "Widget"
                }
                _ => "WidgetGroup",
            };
            api::ChildStatus {
                kind: kind.to_owned(),
                name: slot.key.name.to_string(),
                state: slot_state(node, slot),
            }
        });
        to_value(&api::SupervisorStatus {
            state: Some(node_state(node, tree)),
            restarts: Some(count(node.restarts.len())),
            epoch: Some(node.epoch),
            children: Some(children.collect()),
            last_cause: chain(node),
            ..api::SupervisorStatus::default()
        })
    }

    fn group(&self, noted: Option<&Node>, tree: &Tree, key: &Key) -> Value {
        let Some(node) = noted else { return json!({}) };
        let widgets = node.children.iter().map(|slot| {
            let widget = widget_of(slot);
            let running = widget.map_or(0, |widget| widget.replicas.iter().filter(|r| is_there(r)).count());
            let id = WidgetId {
                namespace: node.id.namespace.clone(),
                group: node.id.name.clone(),
                widget: slot.key.name.clone(),
            };
            api::WidgetStateStatus {
                name: slot.key.name.to_string(),
                state: slot_state(node, slot),
                replicas: count(running),
                ready_replicas: count(widget.map_or(0, Widget::ready)),
                updated_replicas: widget
                    .map_or(0, |widget| rollout::updated(widget, self.declared.widget(&id))),
                object: Some(format!("{}-{}", key.name, slot.key.name)),
            }
        });
        to_value(&api::WidgetGroupStatus {
            state: Some(node_state(node, tree)),
            restarts: Some(count(node.restarts.len())),
            epoch: Some(node.epoch),
            widgets: Some(widgets.collect()),
            last_cause: chain(node),
            ..api::WidgetGroupStatus::default()
        })
    }

    fn widget(&self, of: Option<Of<'_>>, tree: &Tree, now: Timestamp) -> Value {
        let Some(of) = of else { return json!({}) };
        let Of { id, widget, .. } = of;
        let instances: Vec<api::InstanceStatus> = widget
            .replicas
            .iter()
            .enumerate()
            .filter(|(_, replica)| is_there(replica))
            .take(SHOWN)
            .map(|(ordinal, replica)| self.instance(id, ordinal, replica, tree))
            .collect();
        let selector = format!("kontrol.dev/group={},kontrol.dev/widget={}", id.group, id.widget);
        let shown = widget.replicas.iter().filter(|replica| is_there(replica)).count();
        to_value(&api::WidgetStatus {
            replicas: Some(count(shown)),
            ready_replicas: Some(count(widget.ready())),
            label_selector: Some(selector),
            revision: Some(widget.revision.to_string()),
            restarts: Some(widget.restart_count),
            scaling: widget.scaling.as_ref().map(|scaling| api::ScalingStatus {
                desired_replicas: scaling.desired_replicas,
                reason: scaling.reason.to_string(),
            }),
            instances: Some(instances),
            last_end: widget.last.as_deref().and_then(|last| self.last_end(last)),
            rollout: Some(rollout::status(widget, of.spec, now)),
            ..api::WidgetStatus::default()
        })
    }

    fn instance(
        &self,
        id: &WidgetId,
        ordinal: usize,
        replica: &kontrol_plan::status::Replica,
        tree: &Tree,
    ) -> api::InstanceStatus {
        let instance = InstanceId { widget: id.clone(), ordinal: count(ordinal) };
        let (object, _) = self.object_of(tree, id);
        let pod = self.pod_of(&instance, replica.incarnation).map(|(_, pod)| pod);
        let seen = pod.map(|pod| self.seen(&instance, pod, Some(replica)));
        let breakers = pod.map(|pod| self.breakers(pod, &instance, tree)).unwrap_or_default();
        let state = seen.as_ref().map_or(api::InstanceState::Starting, |seen| match seen.state {
            InstanceState::Unschedulable => api::InstanceState::Unschedulable,
            InstanceState::Starting | InstanceState::Restarting(_) => api::InstanceState::Starting,
            InstanceState::Ready => api::InstanceState::Ready,
            InstanceState::Stopping => api::InstanceState::Stopping,
            InstanceState::Ended(_) => api::InstanceState::Ended,
            InstanceState::Running | InstanceState::NotReady | InstanceState::Hung => {
                api::InstanceState::Running
            }
        });
        api::InstanceStatus {
            ordinal: instance.ordinal,
            name: format!("{}-{}-{}", object.name, instance.ordinal, replica.incarnation),
            state,
            incarnation: replica.incarnation,
            restarts: seen.as_ref().map_or(0, |seen| seen.restarts),
            revision: replica.revision.to_string(),
            node: pod.and_then(|pod| pod.node.as_deref()).map(str::to_owned),
            alternative: pod.map_or(0, |pod| pod.alternative),
            message: seen.and_then(|seen| seen.message).map(|message| message.to_string()).or_else(|| {
                tree.denied
                    .get(&(instance, replica.incarnation))
                    .map(|denied| denied.refusal.message.to_string())
            }),
            breakers,
        }
    }

    /// The breakers of a pod's calls that are not closed; what was known of them before, where its sidecar has not said anything yet. Whether
    /// one tries again at the moment is not told apart: that would be a write each time.
    fn breakers(&self, pod: &Pod, of: &InstanceId, tree: &Tree) -> Vec<api::BreakerStatus> {
        let said = self.companions.of(&pod.meta.uid).and_then(|companion| companion.signals.as_ref());
        let Some((_, signals)) = said else {
            let (object, _) = self.object_of(tree, &of.widget);
            let own = self.store.own(Kind::Widget, &object).map(|own| own.status.read());
            let named = own.filter(|status| status.contains("\"breakers\""));
            let before = named.and_then(|status| serde_json::from_str::<api::WidgetStatus>(&status).ok());
            let mut instances = before.and_then(|status| status.instances).into_iter().flatten();
            let ours =
                instances.find(|known| known.ordinal == of.ordinal && known.incarnation == pod.incarnation);
            return ours.map(|instance| instance.breakers).unwrap_or_default();
        };
        let all = signals.breakers.iter().filter(|_| signals.incarnation == pod.incarnation);
        let shown = all.take(BREAKERS).map(|breaker| api::BreakerStatus {
            instance: breaker.instance.clone(),
            reason: breaker.reason.clone(),
        });
        shown.collect()
    }

    /// The end of a replica that a chain of causes began with.
    fn last_end(&self, last: &Cause) -> Option<api::EndStatus> {
        let first = last.first();
        let (Event::Ended { instance, incarnation, end, message, .. }
        | Event::RestartedInPlace { instance, incarnation, end, message, .. }) = &first.event
        else {
            return None;
        };
        let (reason, exit_code, signal) = match end {
            End::Exited(code) => (api::EndReason::Exited, Some(*code), None),
            End::Signalled(signal) => (api::EndReason::Signaled, None, Some(*signal)),
            End::NotStarted(_) => (api::EndReason::NotStarted, None, None),
            End::NeverRan => (api::EndReason::Stopped, None, None),
            End::OutOfMemory => (api::EndReason::OutOfMemory, None, None),
            End::Evicted => (api::EndReason::Evicted, None, None),
            End::Preempted => (api::EndReason::Preempted, None, None),
            End::Lost | End::NodeLost => (api::EndReason::NodeLost, None, None),
            End::Deleted => (api::EndReason::Deleted, None, None),
            End::StartTimedOut => (api::EndReason::StartTimeout, None, None),
            End::Hung => (api::EndReason::Unhealthy, None, None),
        };
        let pod = self.pod_of(instance, *incarnation).map(|(_, pod)| pod);
        Some(api::EndStatus {
            time: time::rfc3339(first.at),
            ordinal: instance.ordinal,
            reason,
            exit_code,
            signal,
            node: pod.and_then(|pod| pod.node.as_deref()).map(str::to_owned),
            message: message.as_deref().map(str::to_owned),
        })
    }
}

fn to_value(status: &impl serde::Serialize) -> Value {
    let mut value = serde_json::to_value(status).unwrap_or_default();
    if let Value::Object(fields) = &mut value {
        fields.remove("conditions");
    }
    value
}

/// The write that makes the status of an object this one; none: it is so.
pub(super) fn write(
    kind: Kind,
    key: &Key,
    own: &Own,
    tree: &Tree,
    view: Value,
    conditions: Vec<Shown>,
    now: Timestamp,
) -> Option<(Purpose, Request)> {
    let old: Map<String, Value> = serde_json::from_str(&own.status.read()).unwrap_or_default();
    let Value::Object(mut new) = view else { return None };
    new.insert("observedGeneration".to_owned(), json!(own.meta.generation));
    // Where a tree is not planned, what was said of its replicas stays.
    if new.len() == 1 {
        for (name, value) in &old {
            if !matches!(name.as_str(), "conditions" | "observedGeneration") {
                new.insert(name.clone(), value.clone());
            }
        }
    }
    let before = old.get("conditions").and_then(Value::as_array);
    let conditions: Vec<Value> = conditions
        .into_iter()
        .map(|condition| {
            let was = before.into_iter().flatten().find(|was| was["type"] == condition.kind);
            let since = was.filter(|was| was["status"] == condition.status);
            let since = since.and_then(|was| was["lastTransitionTime"].as_str()).map(str::to_owned);
            json!({
                "type": condition.kind, "status": condition.status, "reason": condition.reason,
                "message": condition.message, "observedGeneration": own.meta.generation,
                "lastTransitionTime": since.unwrap_or_else(|| time::seconds(now)),
            })
        })
        .collect();
    new.insert("conditions".to_owned(), Value::Array(conditions));
    let patch = difference(&old, &new);
    if patch.is_empty() {
        return None;
    }
    let body = json!({"metadata": {"uid": own.meta.uid}, "status": patch});
    let mut hasher = DefaultHasher::new();
    body.to_string().hash(&mut hasher);
    let write = hasher.finish();
    if tree.shown.get(&(kind, key.clone())) == Some(&(own.meta.version, write)) {
        return None;
    }
    let request = Request::new(Verb::Merge, kind, &key.namespace, &key.name).of("status");
    Some((Purpose::Show(write), request.by("kontrol-status").with(body)))
}

/// The merge patch from one to the other.
pub(super) fn difference(old: &Map<String, Value>, new: &Map<String, Value>) -> Map<String, Value> {
    let mut patch = Map::new();
    for (name, value) in new {
        match (old.get(name), value) {
            (Some(before), value) if before == value => {}
            (Some(Value::Object(before)), Value::Object(after)) => {
                patch.insert(name.clone(), Value::Object(difference(before, after)));
            }
            _ => {
                patch.insert(name.clone(), value.clone());
            }
        }
    }
    for name in old.keys().filter(|name| !new.contains_key(*name)) {
        patch.insert(name.clone(), Value::Null);
    }
    patch
}

fn count(count: usize) -> u32 {
    u32::try_from(count).unwrap_or(u32::MAX)
}

fn is_there(replica: &kontrol_plan::status::Replica) -> bool {
    use kontrol_plan::status::ReplicaPhase::{Done, Down};
    !matches!(replica.phase, Down | Done)
}

fn widget_of(slot: &Slot) -> Option<&Widget> {
    match &slot.inner {
        Inner::Widget(widget) => Some(widget),
        Inner::Node(_) => None,
    }
}

fn slot_of<'a>(node: &'a Node, name: &str) -> Option<&'a Slot> {
    node.children.iter().map(AsRef::as_ref).find(|slot: &&Slot| slot.key.name.as_str() == name)
}

fn node_is(node: &Node, root: &Root) -> bool {
    (node.kind == Is::Supervisor) == (root.kind == Kind::Supervisor)
        && node.id.name.as_str() == &*root.key.name
        && node.id.namespace.as_str() == &*root.key.namespace
}

/// A group or supervisor in a status.
fn find<'a>(node: &'a Node, supervisor: bool, id: &ObjectId) -> Option<&'a Node> {
    if node.id == *id && (node.kind == Is::Supervisor) == supervisor {
        return Some(node);
    }
    node.children.iter().find_map(|slot| match &slot.inner {
        Inner::Node(below) => find(below, supervisor, id),
        Inner::Widget(_) => None,
    })
}

fn chain(node: &Node) -> Option<String> {
    let cause = node.last.as_deref()?;
    let texts: Vec<String> = cause.chain().map(|cause| cause.event.to_string()).collect();
    Some(texts.join(" ← "))
}

fn node_state(node: &Node, tree: &Tree) -> api::State {
    let exhausted = tree.status.exhausted.is_some_and(|exhausted| {
        exhausted.why != kontrol_plan::status::Why::ShutDown && node.conditions.stalled.status
    });
    match node.phase {
        NodePhase::Down(_) if exhausted => api::State::Exhausted,
        NodePhase::Down(_) => api::State::Stopped,
        NodePhase::Starting => api::State::Starting,
        NodePhase::Stopping(_) => api::State::Stopping,
        NodePhase::Running if node.open.iter().any(|open| open.kind != OpenKind::Manifest) => {
            api::State::Restarting
        }
        NodePhase::Running => api::State::Running,
    }
}

fn slot_state(node: &Node, slot: &Slot) -> api::State {
    let is_in = |open: &Open, key: &SlotKey| open.kind != OpenKind::Manifest && open.scope.contains(key);
    match slot.phase {
        SlotPhase::Ended | SlotPhase::Forgotten => api::State::Stopped,
        SlotPhase::Stopping => api::State::Stopping,
        _ if node.open.iter().any(|open| is_in(open, &slot.key)) => api::State::Restarting,
        SlotPhase::Up => api::State::Running,
        SlotPhase::Failed(_) => api::State::Restarting,
        SlotPhase::Waiting | SlotPhase::Starting => api::State::Starting,
    }
}
