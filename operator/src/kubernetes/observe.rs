//! What a plan is shown of pods: one instance each, and one for each that is missing though it should be there.

use std::{sync::Arc, time::Duration};

use kontrol_core::{
    id::{InstanceId, WidgetId},
    spec::StartedWhen,
    time::Timestamp,
};
use kontrol_plan::{
    End, Instance, InstanceState, LastEnd, Place, StartError, Status,
    status::{Inner, Node, Replica, ReplicaPhase, Slot, SlotPhase, Widget},
};

use super::pod::{ContainerState, Phase, Pod, Said, Terminated};

/// What the sidecar of a pod says of its widget.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Word {
    /// How the widget is.
    pub state: InstanceState,
    /// Since when.
    pub since: Timestamp,
    /// What it says of it.
    pub message: Option<Arc<str>>,
    /// Ends that a shim followed with a restart in place.
    pub restarts: u32,
    /// The newest of these.
    pub last_end: Option<LastEnd>,
}

/// The instance that a pod is. `noted` is its replica in the written status.
pub fn observe(id: &InstanceId, pod: &Pod, noted: Option<&Replica>, word: Option<&Word>) -> Instance {
    let (state, since, message) = state_of(pod, noted, word);
    let ends = pod.container.restarts + u32::from(matches!(state, InstanceState::Restarting(_)));
    let by_shim = word.map_or(0, |word| word.restarts);
    let last = match &pod.container.state {
        ContainerState::Ended(ended) => Some(ended),
        _ => pod.container.last.as_ref(),
    };
    let by_kubelet = last.filter(|_| ends > 0).map(|ended| LastEnd {
        at: ended.at().unwrap_or(since),
        end: end_of(ended),
        message: said(ended),
    });
    let by_shim_last = word.and_then(|word| word.last_end.clone());
    let last_end = match (by_kubelet, by_shim_last) {
        (Some(one), Some(other)) => Some(if one.at >= other.at { one } else { other }),
        (one, other) => one.or(other),
    };
    Instance {
        message,
        restarts: ends.saturating_add(by_shim),
        last_end,
        place: pod.node.clone().map(|node| Place { node }),
        // The kubelet follows the word of a sidecar by up to a second, and Services go by the kubelet's.
        serving: pod.ready.is_some(),
        ..Instance::new(id.clone(), (pod.incarnation, pod.epoch, pod.revision), state, since)
    }
}

/// How an instance counts whose process runs and of which neither its sidecar has said anything nor the kubelet that all of its pod is
/// ready, which its sidecar is part of: nobody can have said that it is ready.
pub fn unheard(noted: Option<&Replica>, when: StartedWhen) -> InstanceState {
    let is_up = noted.is_some_and(|noted| noted.phase == ReplicaPhase::Up);
    match when {
        StartedWhen::Ready if !is_up => InstanceState::Starting,
        StartedWhen::Ready | StartedWhen::Running => InstanceState::NotReady,
    }
}

type Told = (InstanceState, Timestamp, Option<Arc<str>>);

fn state_of(pod: &Pod, noted: Option<&Replica>, word: Option<&Word>) -> Told {
    if let Some(ended) = ended(pod) {
        return ended;
    }
    if let Some(since) = pod.meta.deleting() {
        return deleting(pod, noted, since);
    }
    if let Some(since) = pod.said().unschedulable.filter(|_| pod.node.is_none()) {
        return (InstanceState::Unschedulable, since, text(&pod.said().message));
    }
    match &pod.container.state {
        // The kubelet starts it again by itself.
        ContainerState::Ended(ended) => {
            (InstanceState::Restarting(end_of(ended)), ended.at().unwrap_or(pod.created), said(ended))
        }
        ContainerState::Waiting { reason, .. } if &**reason == "CrashLoopBackOff" => {
            let last = pod.container.last.as_deref();
            let end = last.map_or(End::Lost, end_of);
            let at = last.and_then(Terminated::at).unwrap_or(pod.created);
            (InstanceState::Restarting(end), at, last.and_then(said))
        }
        ContainerState::Waiting { reason, message } => {
            let starts = matches!(&**reason, "" | "ContainerCreating" | "PodInitializing");
            let message = (!starts).then(|| {
                let text =
                    if message.is_empty() { reason.to_string() } else { format!("{reason}: {message}") };
                Arc::from(text)
            });
            (InstanceState::Starting, pod.created, message)
        }
        ContainerState::Running(since) => match word {
            Some(word) => (word.state, word.since.max(*since), word.message.clone()),
            None => match pod.ready {
                Some(since) => (InstanceState::Ready, since, None),
                None => (InstanceState::Running, *since, None),
            },
        },
        ContainerState::Unknown => match (pod.phase, pod.ready) {
            (Phase::Running, Some(since)) => (InstanceState::Ready, since, None),
            (Phase::Running, None) => (InstanceState::Running, pod.created, None),
            _ => (InstanceState::Starting, pod.created, None),
        },
    }
}

/// Whether a pod has ended for good, as far as its node says.
pub fn is_over(pod: &Pod) -> bool {
    ended(pod).is_some()
}

/// Whether a pod has ended for good, however long it stays.
fn ended(pod: &Pod) -> Option<Told> {
    let over = matches!(pod.phase, Phase::Succeeded | Phase::Failed);
    let at = pod.meta.deleting().unwrap_or(pod.created);
    match &pod.container.state {
        ContainerState::Ended(ended) if over || !pod.restarts_itself || pod.meta.deleting().is_some() => {
            let at = ended.at().unwrap_or(at);
            // The end of the container is the trace that an eviction leaves, not its cause.
            let (end, message) = match external(pod.said()) {
                Some(end) => (end, text(&pod.said().message)),
                None => (end_of(ended), said(ended)),
            };
            Some((InstanceState::Ended(end), at, message))
        }
        _ if over => {
            let end = external(pod.said()).unwrap_or(match pod.phase {
                Phase::Succeeded => End::Exited(0),
                _ => End::Lost,
            });
            let message = text(&pod.said().message).or_else(|| text(&pod.said().reason));
            Some((InstanceState::Ended(end), at, message))
        }
        _ => None,
    }
}

/// One whose removal was asked for and that has not ended. Where that was not us, its end is as good as seen: what comes after it need
/// not wait for its last words.
fn deleting(pod: &Pod, noted: Option<&Replica>, since: Timestamp) -> Told {
    let ours = match noted {
        None => true,
        Some(noted) if noted.incarnation > pod.incarnation => false,
        Some(noted) => !matches!(noted.phase, ReplicaPhase::Starting | ReplicaPhase::Up),
    };
    if ours {
        return (InstanceState::Stopping, since, None);
    }
    let end = external(pod.said()).unwrap_or(End::Deleted);
    (InstanceState::Ended(end), since, text(&pod.said().message))
}

/// What outside of the widget ended a pod.
fn external(said: &Said) -> Option<End> {
    Some(match (&*said.disruption, &*said.reason) {
        ("PreemptionByScheduler", _) | (_, "Preempting") => End::Preempted,
        ("DeletionByPodGC", _) | (_, "NodeLost") => End::NodeLost,
        ("EvictionByEvictionAPI" | "DeletionByTaintManager" | "TerminationByKubelet", _)
        | (_, "Evicted" | "Terminated" | "NodeShutdown" | "Shutdown") => End::Evicted,
        _ => return None,
    })
}

/// How a container ended.
pub fn end_of(ended: &Terminated) -> End {
    match &*ended.reason {
        "OOMKilled" => return End::OutOfMemory,
        "ContainerCannotRun" | "StartError" | "RunContainerError" => {
            let text = ended.message.to_lowercase();
            let error = if text.contains("no such file") || text.contains("not found") {
                StartError::NotFound
            } else if text.contains("permission denied") {
                StartError::NotExecutable
            } else {
                StartError::Other
            };
            return End::NotStarted(error);
        }
        "ContainerStatusUnknown" => return End::Lost,
        _ => {}
    }
    match (ended.signal.filter(|signal| *signal > 0), ended.exit_code) {
        (Some(signal), _) => End::Signalled(signal),
        (None, code @ 129..=159) => End::Signalled(code - 128),
        (None, code) => End::Exited(code),
    }
}

fn said(ended: &Terminated) -> Option<Arc<str>> {
    text(&ended.message)
}

fn text(text: &str) -> Option<Arc<str>> {
    let line = text.trim();
    (!line.is_empty()).then(|| line.chars().take(400).collect::<String>().into())
}

/// Instances that a status speaks of and that are not `there`. Only where all pods are known: what cannot be seen is not absent.
/// `launched` says whether an incarnation that starts was there once, `last_said` what was said of one that was taken from its node.
pub fn missing<'a>(
    status: &Status,
    there: &dyn Fn(&InstanceId, u64) -> bool,
    launched: &dyn Fn(&InstanceId, u64) -> bool,
    last_said: &dyn Fn(&InstanceId, u64) -> Option<&'a Said>,
    now: Timestamp,
) -> Vec<Instance> {
    let mut instances = Vec::new();
    each_replica(status, &mut |id, replica| {
        if there(id, replica.incarnation) {
            return;
        }
        let removed = || {
            let said = last_said(id, replica.incarnation);
            let end = said.and_then(external).unwrap_or(End::Deleted);
            (end, said.and_then(|said| text(&said.message)))
        };
        let (end, message) = match replica.phase {
            ReplicaPhase::Up => removed(),
            ReplicaPhase::Starting if launched(id, replica.incarnation) => removed(),
            ReplicaPhase::Stopping | ReplicaPhase::Failing { .. } => (End::NeverRan, None),
            ReplicaPhase::Starting | ReplicaPhase::Down | ReplicaPhase::Done => return,
        };
        let numbers = (replica.incarnation, replica.epoch, replica.revision);
        let instance = Instance::new(id.clone(), numbers, InstanceState::Ended(end), now);
        instances.push(Instance { message, ..instance });
    });
    instances
}

/// Shows each replica of a status.
pub fn each_replica(status: &Status, show: &mut dyn FnMut(&InstanceId, &Replica)) {
    each_widget(status, &mut |widget, noted| {
        for (ordinal, replica) in noted.replicas.iter().enumerate() {
            let ordinal = u32::try_from(ordinal).unwrap_or(u32::MAX);
            show(&InstanceId { widget: widget.clone(), ordinal }, replica);
        }
    });
}

/// Shows each widget of a status, those that leave among them.
pub fn each_widget(status: &Status, show: &mut dyn FnMut(&WidgetId, &Widget)) {
    fn walk(node: &Node, show: &mut dyn FnMut(&WidgetId, &Widget)) {
        for slot in node.children.iter().chain(&node.leaving) {
            match &slot.inner {
                Inner::Node(below) => walk(below, show),
                Inner::Widget(widget) => {
                    let id = WidgetId {
                        namespace: node.id.namespace.clone(),
                        group: node.id.name.clone(),
                        widget: slot.key.name.clone(),
                    };
                    show(&id, widget);
                }
            }
        }
    }
    if let Some(root) = &status.root {
        walk(root, show);
    }
}

/// The widget of this name in a status.
pub fn noted<'a>(status: &'a Status, id: &WidgetId) -> Option<&'a Widget> {
    fn walk<'a>(node: &'a Node, id: &WidgetId) -> Option<&'a Widget> {
        node.children.iter().chain(&node.leaving).find_map(|slot| match &slot.inner {
            Inner::Node(below) => walk(below, id),
            Inner::Widget(widget) => {
                (node.id.name == id.group && node.id.namespace == id.namespace && slot.key.name == id.widget)
                    .then_some(widget)
            }
        })
    }
    walk(status.root.as_deref()?, id)
}

/// Whether this incarnation is the last one of a replica that has ended and is not started again.
pub fn stays_ended(status: &Status, instance: &InstanceId, incarnation: u64) -> bool {
    fn walk<'a>(node: &'a Node, id: &WidgetId) -> Option<&'a Slot> {
        node.children.iter().find_map(|slot| match &slot.inner {
            Inner::Node(below) => walk(below, id),
            Inner::Widget(_) => {
                (node.id.name == id.group && node.id.namespace == id.namespace && slot.key.name == id.widget)
                    .then_some(&**slot)
            }
        })
    }
    let slot = status.root.as_deref().and_then(|root| walk(root, &instance.widget));
    let Some((slot, Inner::Widget(widget))) = slot.map(|slot| (slot, &slot.inner)) else { return false };
    let has_ended = matches!(slot.phase, SlotPhase::Ended | SlotPhase::Forgotten);
    instance.ordinal < widget.desired
        && widget.replicas.get(instance.ordinal as usize).is_some_and(|replica| {
            replica.incarnation == incarnation
                && (replica.phase == ReplicaPhase::Done || (has_ended && replica.phase == ReplicaPhase::Down))
        })
}

/// How long a pod may take beyond its grace before its being there is worth a word.
pub const OVERDUE: Duration = Duration::from_secs(30);

#[cfg(test)]
mod tests;
