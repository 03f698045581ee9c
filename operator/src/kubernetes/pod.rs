//! A pod, pruned to what a plan needs of it.

use std::{
    collections::BTreeMap,
    sync::{Arc, LazyLock},
};

use kontrol_core::{
    id::{InstanceId, Name, ObjectId, WidgetId, shared},
    limits::REPLICAS,
    spec::Revision,
    time::Timestamp,
};
use serde::Deserialize;

use super::{
    kind::Kind,
    object::{Key, Meta, RawMeta},
    render::names::{READY, SHIM},
    state::object_name,
    store::extended,
    time,
};

/// The name of the widget's own container.
pub const CONTAINER: &str = "widget";

/// No number of a process gets above this one: JSON keeps it exactly, and there is room to count on.
pub(super) const HIGHEST: u64 = 1 << 53;

/// A pod of ours.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pod {
    /// What it says of itself.
    pub meta: Meta,
    /// What it is a process of.
    pub of: PodOf,
    /// The number of the process.
    pub incarnation: u64,
    /// The epoch that it was started in.
    pub epoch: u64,
    /// The template that it was made from.
    pub revision: Revision,
    /// Which placement alternative it has.
    pub alternative: u32,
    /// When it was made.
    pub created: Timestamp,
    /// Its node; none: not placed yet.
    pub node: Option<Arc<str>>,
    /// Its address; empty: none yet.
    pub ip: Box<str>,
    /// `Pending`, `Running`, `Succeeded`, `Failed` or `Unknown`.
    pub phase: Phase,
    /// Since when its condition `Ready` is true.
    pub ready: Option<Timestamp>,
    /// What its readiness gate says; none: it has none.
    pub gate: Option<bool>,
    /// What is said of it; none: nothing, as of most.
    pub said: Option<Box<Said>>,
    /// Whether its widget runs under the shim.
    pub wrapped: bool,
    /// Whether the kubelet starts its container again by itself.
    pub restarts_itself: bool,
    /// The widget's container.
    pub container: Container,
}

/// What is said of a pod that has no place, loses it, or has ended.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Said {
    /// Why the pod as a whole ended, as `status.reason` has it.
    pub reason: Box<str>,
    /// What is said of it.
    pub message: Box<str>,
    /// Since when no node takes it.
    pub unschedulable: Option<Timestamp>,
    /// The extended resources that it asks for; empty where it has its place.
    pub wants: Box<[(Box<str>, u64)]>,
    /// Why it is, or will be, taken from its node, as the condition `DisruptionTarget` says.
    pub disruption: Box<str>,
}

/// What a pod is a process of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PodOf {
    /// A replica of a widget.
    Replica(InstanceId),
    /// The hub of a message bus.
    Hub(ObjectId),
}

/// How far a pod is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Phase {
    /// Not all of it runs yet.
    #[default]
    Pending,
    /// It runs.
    Running,
    /// All of it ended well.
    Succeeded,
    /// It ended otherwise.
    Failed,
    /// Its node does not say.
    Unknown,
}

/// The state of the widget's container.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Container {
    /// How it is.
    pub state: ContainerState,
    /// Whether it is ready by its own probes.
    pub ready: bool,
    /// How often the kubelet started it again.
    pub restarts: u32,
    /// The end before that.
    pub last: Option<Box<Terminated>>,
}

/// How a container is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum ContainerState {
    /// Nothing is known.
    #[default]
    Unknown,
    /// It waits: `ContainerCreating`, `ImagePullBackOff`, `CrashLoopBackOff`, …
    Waiting {
        /// Why.
        reason: Box<str>,
        /// More of it.
        message: Box<str>,
    },
    /// It runs since then.
    Running(Timestamp),
    /// It has ended.
    Ended(Box<Terminated>),
}

/// An end of a container.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Terminated {
    /// Its exit code.
    pub exit_code: i32,
    /// The signal; none: it exited.
    pub signal: Option<i32>,
    /// `OOMKilled`, `Error`, `Completed`, `ContainerCannotRun`, …
    pub reason: Box<str>,
    /// Its last words.
    pub message: Box<str>,
    /// When, as it was written.
    pub finished_at: Option<Box<str>>,
}

impl Terminated {
    /// When it ended.
    pub fn at(&self) -> Option<Timestamp> {
        time::parse(self.finished_at.as_deref()?)
    }
}

static NOTHING: LazyLock<Said> = LazyLock::new(Said::default);

impl Pod {
    /// What is said of it.
    pub fn said(&self) -> &Said {
        self.said.as_deref().unwrap_or(&NOTHING)
    }

    /// Reads one; none: it is not ours, by its labels or by its owner.
    ///
    /// That of a replica is ours where a Widget of the replica's name controls it. It may be one that is gone, whose name another has now: such
    /// a pod is the garbage collector's to remove, and until that is done it counts, so that its number is not given twice and nothing starts
    /// beside it. One that nobody controls, such as a copy of `kubectl debug` or what a deletion left with `--cascade=orphan`, is its maker's.
    pub fn read(text: &str) -> Result<(Key, Option<Self>), serde_json::Error> {
        let raw: RawPod = serde_json::from_str(text)?;
        let key = raw.metadata.key();
        Ok((key, raw.pod()))
    }

    /// Its replica; none: it is a hub.
    pub fn instance(&self) -> Option<&InstanceId> {
        match &self.of {
            PodOf::Replica(instance) => Some(instance),
            PodOf::Hub(_) => None,
        }
    }
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct RawPod {
    metadata: RawMeta,
    spec: RawSpec,
    status: RawStatus,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct RawSpec {
    node_name: Option<String>,
    restart_policy: Option<String>,
    containers: Vec<RawTemplate>,
    readiness_gates: Vec<RawGate>,
    init_containers: Vec<RawInit>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct RawInit {
    name: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct RawTemplate {
    resources: RawResources,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct RawResources {
    limits: serde_json::Value,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct RawGate {
    condition_type: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct RawStatus {
    phase: String,
    reason: String,
    message: String,
    #[serde(rename = "podIP")]
    pod_ip: String,
    conditions: Vec<RawCondition>,
    container_statuses: Vec<RawContainer>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct RawCondition {
    r#type: String,
    status: String,
    reason: String,
    message: String,
    last_transition_time: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct RawContainer {
    name: String,
    ready: bool,
    restart_count: u32,
    state: RawState,
    last_state: RawState,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct RawState {
    waiting: Option<RawWaiting>,
    running: Option<RawRunning>,
    terminated: Option<Box<Terminated>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct RawWaiting {
    reason: String,
    message: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct RawRunning {
    started_at: Option<String>,
}

impl RawPod {
    fn is_owned(&self, of: &PodOf) -> bool {
        let PodOf::Replica(InstanceId { widget: id, .. }) = of else { return true };
        self.metadata.is_controlled_by(Kind::Widget, |name| {
            name == object_name(id, false) || (id.group == id.widget && name == object_name(id, true))
        })
    }

    fn pod(mut self) -> Option<Pod> {
        let labels = std::mem::take(&mut self.metadata.labels);
        let label = |name: &str| labels.get(name).map(String::as_str);
        let number = |name: &str| label(name)?.parse().ok().filter(|number| *number <= HIGHEST);
        let of = of(&self.metadata.namespace, &labels).filter(|of| self.is_owned(of))?;
        // No other of its annotations is asked for, and there are as many pods as replicas.
        let annotations = std::mem::take(&mut self.metadata.annotations);
        let alternative = annotations.get("kontrol.dev/alternative");
        let alternative = alternative.and_then(|text| text.parse().ok()).unwrap_or(0);
        let meta = self.metadata.meta();
        let created = self.metadata.creation_timestamp.as_deref().and_then(time::parse);
        let created = created.unwrap_or_default();
        let condition = |name: &str| self.status.conditions.iter().find(|known| known.r#type == name);
        let since = |known: &RawCondition| {
            known.last_transition_time.as_deref().and_then(time::parse).unwrap_or(created)
        };
        let ready = condition("Ready").filter(|ready| ready.status == "True").map(since);
        let gated = self.spec.readiness_gates.iter().any(|gate| gate.condition_type == READY);
        let gate = gated.then(|| condition(READY).is_some_and(|known| known.status == "True"));
        let scheduled = condition("PodScheduled")
            .filter(|scheduled| scheduled.status == "False" && scheduled.reason == "Unschedulable");
        let disruption = condition("DisruptionTarget").filter(|known| known.status == "True");
        let message = match (self.status.message.as_str(), scheduled, disruption) {
            ("", Some(scheduled), _) => scheduled.message.as_str(),
            ("", None, Some(disruption)) => disruption.message.as_str(),
            (message, _, _) => message,
        };
        let said = Said {
            reason: self.status.reason.as_str().into(),
            message: message.into(),
            unschedulable: scheduled.map(since),
            wants: match scheduled {
                Some(_) => {
                    self.spec.containers.iter().flat_map(|one| extended(&one.resources.limits)).collect()
                }
                None => Box::default(),
            },
            disruption: disruption.map_or("", |known| known.reason.as_str()).into(),
        };
        let own = match &of {
            PodOf::Replica(_) => CONTAINER,
            PodOf::Hub(_) => "hub",
        };
        let statuses = &self.status.container_statuses;
        let container = statuses.iter().find(|container| container.name == own).or(statuses.first());
        Some(Pod {
            incarnation: number("kontrol.dev/incarnation")?,
            epoch: number("kontrol.dev/epoch").unwrap_or(0),
            revision: Revision(
                label("kontrol.dev/revision").and_then(|hex| u64::from_str_radix(hex, 16).ok()).unwrap_or(0),
            ),
            alternative,
            created,
            node: self.spec.node_name.as_deref().filter(|node| !node.is_empty()).map(shared),
            ip: self.status.pod_ip.as_str().into(),
            phase: match self.status.phase.as_str() {
                "Running" => Phase::Running,
                "Succeeded" => Phase::Succeeded,
                "Failed" => Phase::Failed,
                "Unknown" => Phase::Unknown,
                _ => Phase::Pending,
            },
            ready,
            gate,
            said: (said != Said::default()).then(|| Box::new(said)),
            wrapped: self.spec.init_containers.iter().any(|init| init.name == SHIM),
            restarts_itself: self.spec.restart_policy.as_deref() == Some("Always"),
            container: container.map(RawContainer::container).unwrap_or_default(),
            of,
            meta,
        })
    }
}

fn of(namespace: &str, labels: &BTreeMap<String, String>) -> Option<PodOf> {
    let name = |name: &str| Name::new(labels.get(name)?).ok();
    let namespace = Name::new(namespace).ok()?;
    if let Some(name) = name("kontrol.dev/bus") {
        return Some(PodOf::Hub(ObjectId { namespace, name }));
    }
    let widget =
        WidgetId { namespace, group: name("kontrol.dev/group")?, widget: name("kontrol.dev/widget")? };
    // The plan keeps a place for each replica up to the highest.
    let ordinal = labels.get("kontrol.dev/ordinal")?.parse().ok().filter(|ordinal| *ordinal < REPLICAS)?;
    Some(PodOf::Replica(InstanceId { widget, ordinal }))
}

impl RawContainer {
    fn container(&self) -> Container {
        let state = if let Some(ended) = &self.state.terminated {
            ContainerState::Ended(ended.clone())
        } else if let Some(running) = &self.state.running {
            ContainerState::Running(running.started_at.as_deref().and_then(time::parse).unwrap_or_default())
        } else if let Some(waiting) = &self.state.waiting {
            let RawWaiting { reason, message } = waiting;
            ContainerState::Waiting { reason: reason.as_str().into(), message: message.as_str().into() }
        } else {
            ContainerState::Unknown
        };
        let last = self.last_state.terminated.clone();
        Container { state, ready: self.ready, restarts: self.restart_count, last }
    }
}
