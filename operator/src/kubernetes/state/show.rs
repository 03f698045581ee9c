//! What people see: the status and the conditions of each object of a tree, written where they differ from what is there.

use kontrol_core::{
    id::{InstanceId, WidgetId},
    time::Timestamp,
};
use kontrol_crds as api;
use kontrol_plan::{
    End, Event, InstanceState,
    event::Cause,
    status::{
        Inner, Key as SlotKey, Kind as Is, Node, NodePhase, Open, OpenKind, Outcome, Slot, SlotPhase, Widget,
    },
};
use serde_json::{Map, Value, json};

use super::{Purpose, State, Tree, reconcile::Requests};
use crate::kubernetes::{
    forest::{Root, id_of},
    kind::Kind,
    object::{Key, Own},
    observe,
    request::{Request, Verb},
    time,
};

/// Replicas that a status shows one by one.
const SHOWN: usize = 100;

/// One condition as it is to be.
struct Shown {
    kind: &'static str,
    status: &'static str,
    reason: String,
    message: String,
}

impl State {
    /// The statuses that are to be written.
    pub(super) fn show(&self, root: &Root, own: &Own, tree: &Tree, now: Timestamp) -> Requests {
        let mut requests = Requests::new();
        let status = tree.status.root.as_deref();
        let whole = tree.status.root.as_deref().filter(|node| node_is(node, root));
        for (kind, key) in &tree.members {
            let Some(object) = self.store.own(*kind, key) else { continue };
            let id = id_of(key);
            let noted = id.as_ref().and_then(|id| find(whole.or(status)?, *kind == Kind::Supervisor, id));
            let mut view = match kind {
                Kind::Supervisor => Self::supervisor(noted, tree, key),
                Kind::WidgetGroup => Self::group(noted, tree, key),
                _ => {
                    let id = id.map(|id| WidgetId {
                        namespace: id.namespace,
                        group: id.name.clone(),
                        widget: id.name,
                    });
                    self.widget(
                        id.as_ref(),
                        noted.and_then(|node| node.children.first()).map(AsRef::as_ref),
                        tree,
                    )
                }
            };
            let conditions = conditions(noted, tree, *kind, key);
            requests.extend(write(*kind, key, object, &mut view, conditions, now));
        }
        for widget in tree.node.as_deref().into_iter().flat_map(super::widgets) {
            let (key, lone) = self.object_of(tree, &widget.id);
            let Some(object) = self.store.own(Kind::Widget, &key).filter(|_| !lone) else { continue };
            let group = kontrol_core::id::ObjectId {
                namespace: widget.id.namespace.clone(),
                name: widget.id.group.clone(),
            };
            let node = status.and_then(|status| find(status, false, &group));
            let slot = node.and_then(|node| slot_of(node, widget.id.widget.as_str()));
            let mut view = self.widget(Some(&widget.id), slot, tree);
            let conditions = widget_conditions(node, slot, tree);
            requests.extend(write(Kind::Widget, &key, object, &mut view, conditions, now));
        }
        let _ = own;
        requests
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

    fn group(noted: Option<&Node>, tree: &Tree, key: &Key) -> Value {
        let Some(node) = noted else { return json!({}) };
        let widgets = node.children.iter().map(|slot| {
            let widget = widget_of(slot);
            let running = widget.map_or(0, |widget| widget.replicas.iter().filter(|r| is_there(r)).count());
            let updated = widget.map_or(0, |widget| {
                widget.replicas.iter().filter(|r| is_there(r) && r.revision == widget.revision).count()
            });
            api::WidgetStateStatus {
                name: slot.key.name.to_string(),
                state: slot_state(node, slot),
                replicas: count(running),
                ready_replicas: count(widget.map_or(0, Widget::ready)),
                updated_replicas: count(updated),
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

    fn widget(&self, id: Option<&WidgetId>, slot: Option<&Slot>, tree: &Tree) -> Value {
        let (Some(id), Some(widget)) = (id, slot.and_then(widget_of)) else { return json!({}) };
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
            restarts: Some(restarts(widget)),
            scaling: widget.scaling.as_ref().map(|scaling| api::ScalingStatus {
                desired_replicas: scaling.desired_replicas,
                reason: scaling.reason.to_string(),
            }),
            instances: Some(instances),
            last_end: widget.last.as_deref().and_then(|last| self.last_end(last)),
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
        let seen = pod.map(|pod| observe::observe(&instance, pod, Some(replica), self.word(&instance, pod)));
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
            message: seen.and_then(|seen| seen.message).map(|message| message.to_string()),
        }
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
fn write(
    kind: Kind,
    key: &Key,
    own: &Own,
    view: &mut Value,
    conditions: Vec<Shown>,
    now: Timestamp,
) -> Option<(Purpose, Request)> {
    let old: Map<String, Value> = serde_json::from_str(&own.status).unwrap_or_default();
    let Value::Object(new) = view else { return None };
    let mut new = std::mem::take(new);
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
    let request = Request::new(Verb::Merge, kind, &key.namespace, &key.name).of("status");
    Some((Purpose::Show, request.by("kontrol-status").with(body)))
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

fn restarts(widget: &Widget) -> u64 {
    let floor = widget.floor;
    widget
        .replicas
        .iter()
        .map(|replica| {
            replica.incarnation.saturating_sub(floor).saturating_sub(1) + u64::from(replica.restarts)
        })
        .sum()
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
fn find<'a>(node: &'a Node, supervisor: bool, id: &kontrol_core::id::ObjectId) -> Option<&'a Node> {
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

/// The condition `Accepted` of an object.
fn accepted(tree: &Tree, kind: Kind, key: &Key) -> Shown {
    match tree.problems.get(&(kind, key.clone())) {
        Some(problem) => Shown {
            kind: "Accepted",
            status: "False",
            reason: problem.reason.to_owned(),
            message: problem.message.clone(),
        },
        None => Shown {
            kind: "Accepted",
            status: "True",
            reason: "Valid".to_owned(),
            message: "the spec can be carried out".to_owned(),
        },
    }
}

fn flag(status: bool) -> &'static str {
    if status { "True" } else { "False" }
}

fn conditions(noted: Option<&Node>, tree: &Tree, kind: Kind, key: &Key) -> Vec<Shown> {
    let accepted = accepted(tree, kind, key);
    let Some(node) = noted else {
        let reason = if tree.problems.is_empty() { "Pending" } else { "NotAccepted" };
        let first = tree.problems.values().next().map_or_else(String::new, |problem| problem.message.clone());
        let unknown =
            |kind, status| Shown { kind, status, reason: reason.to_owned(), message: first.clone() };
        let stalled = flag(!tree.problems.is_empty());
        return vec![
            unknown("Ready", "Unknown"),
            unknown("Reconciling", "Unknown"),
            unknown("Stalled", stalled),
            accepted,
            unknown("Progressing", "Unknown"),
        ];
    };
    let of = |name, condition: kontrol_plan::status::Condition, message: String| Shown {
        kind: name,
        status: flag(condition.status),
        reason: condition.reason.as_str().to_owned(),
        message,
    };
    let known = node.conditions;
    let total = node.children.len();
    let ready = node.children.iter().filter(|slot| is_ready(slot)).count();
    let message = format!("{ready} of {total} are ready");
    let wrong = tree.failed.clone().unwrap_or_default();
    let mut stalled =
        of("Stalled", known.stalled, chain(node).filter(|_| known.stalled.status).unwrap_or_default());
    if let Some(refusal) = tree.refusal.as_ref().filter(|_| !known.stalled.status) {
        stalled.status = "True";
        "Refused".clone_into(&mut stalled.reason);
        stalled.message.clone_from(refusal);
    }
    if !tree.problems.is_empty() && !known.stalled.status {
        stalled.status = "True";
        "NotAccepted".clone_into(&mut stalled.reason);
        stalled.message =
            tree.problems.values().next().map_or_else(String::new, |known| known.message.clone());
    }
    vec![
        of("Ready", known.ready, message),
        of("Reconciling", known.reconciling, wrong),
        stalled,
        accepted,
        progressing(node.open.iter().any(|open| open.kind == OpenKind::Manifest)),
    ]
}

fn progressing(under_way: bool) -> Shown {
    let (status, reason, message) = if under_way {
        ("True", "RollingOut", "a new revision is on its way")
    } else {
        ("False", "Complete", "all replicas have the newest revision")
    };
    Shown { kind: "Progressing", status, reason: reason.to_owned(), message: message.to_owned() }
}

fn is_ready(slot: &Slot) -> bool {
    match (&slot.inner, slot.phase) {
        (_, SlotPhase::Ended | SlotPhase::Forgotten) => slot.outcome != Some(Outcome::Failed),
        (Inner::Node(node), _) => node.conditions.ready.status,
        (Inner::Widget(widget), SlotPhase::Up) => widget.ready() >= widget.desired as usize,
        (Inner::Widget(_), _) => false,
    }
}

/// The conditions of a widget that a group stamped out.
fn widget_conditions(node: Option<&Node>, slot: Option<&Slot>, tree: &Tree) -> Vec<Shown> {
    let (Some(node), Some(slot)) = (node, slot) else {
        let of = |kind, status: &'static str| Shown {
            kind,
            status,
            reason: "Pending".to_owned(),
            message: String::new(),
        };
        return vec![
            of("Ready", "Unknown"),
            of("Reconciling", "Unknown"),
            of("Stalled", "False"),
            of("Accepted", "True"),
            of("Progressing", "Unknown"),
        ];
    };
    let state = slot_state(node, slot);
    let ready = is_ready(slot);
    let widget = widget_of(slot);
    let message = widget.map_or_else(String::new, |widget| {
        format!("{} of {} replicas are ready", widget.ready(), widget.desired)
    });
    let working = matches!(state, api::State::Starting | api::State::Restarting | api::State::Stopping);
    let failed = slot.outcome == Some(Outcome::Failed);
    let rolls =
        node.open.iter().any(|open| open.kind == OpenKind::Manifest && open.scope.contains(&slot.key));
    let reason = if ready { "AllReady".to_owned() } else { format!("{state:?}") };
    let shown =
        |kind, status, reason: String, message: String| Shown { kind, status: flag(status), reason, message };
    let what = if working { format!("{state:?}") } else { "Settled".to_owned() };
    let cause = widget.and_then(|widget| widget.last.as_deref()).map(|last| last.first().event.to_string());
    let cause = cause.filter(|_| failed || !ready).unwrap_or_default();
    vec![
        shown("Ready", ready, if failed { "Failed".to_owned() } else { reason }, message),
        shown("Reconciling", working, what, tree.failed.clone().unwrap_or_default()),
        match &tree.refusal {
            Some(refusal) if !failed => shown("Stalled", true, "Refused".to_owned(), refusal.clone()),
            _ => shown(
                "Stalled",
                failed,
                if failed { "Failed".to_owned() } else { "Settled".to_owned() },
                cause,
            ),
        },
        Shown {
            kind: "Accepted",
            status: "True",
            reason: "Valid".to_owned(),
            message: "the spec can be carried out".to_owned(),
        },
        progressing(rolls),
    ]
}
