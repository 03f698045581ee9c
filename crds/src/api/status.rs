//! What status shows: states and decisions. Figures that change all the time are metrics.

use std::borrow::Cow;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::KubeSchema;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};

/// Where a widget, group or supervisor is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum State {
    /// Not started yet, or on the way.
    #[default]
    Starting,
    /// Started.
    Running,
    /// Being restarted after an end.
    Restarting,
    /// Being stopped.
    Stopping,
    /// Stopped, or ended by itself.
    Stopped,
    /// Ended after too many restarts; what happens next is decided by its parent or by `whenExhausted`.
    Exhausted,
}

macro_rules! status {
    ($(#[$doc:meta])* $name:ident { $($(#[$attribute:meta])* $field:ident: $type:ty,)* }) => {
        $(#[$doc])*
        #[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
        #[serde(rename_all = "camelCase")]
        pub struct $name {
            /// What is true of the object now. `Ready` says whether it does its work, `Accepted` whether its spec can be carried out,
            /// `Progressing` whether a new revision is on its way, `Reconciling` whether Kontrol is at work on it, `Stalled` whether it waits for
            /// somebody.
            #[serde(default, skip_serializing_if = "Vec::is_empty")]
            #[x_kube(merge_strategy = ListMerge::Map(vec!["type".into()]))]
            pub conditions: Vec<Condition>,
            /// The generation of the spec that this status is about.
            #[serde(default, skip_serializing_if = "Option::is_none")]
            pub observed_generation: Option<i64>,
            $($(#[$attribute])* #[serde(default, skip_serializing_if = "Option::is_none")] pub $field: Option<$type>,)*
        }
    };
}

status! {
    /// What is known of a widget.
    WidgetStatus {
        /// Replicas that there are.
        replicas: u32,
        /// Replicas that are ready.
        ready_replicas: u32,
        /// The label selector of its replicas, for the scale subresource.
        label_selector: String,
        /// The hash of what its replicas were started with.
        revision: String,
        /// Restarts of its replicas so far: those in place by the shim or the kubelet, those after an end, and those with its group. What a
        /// roll-out or another number of replicas replaces is none.
        restarts: u64,
        /// The last scaling decision, where `scaling` is given.
        scaling: ScalingStatus,
        /// Its replicas, in order, the first 100 of them.
        #[x_kube(merge_strategy = ListMerge::Map(vec!["ordinal".into()]))]
        instances: Vec<InstanceStatus>,
        /// The last end of a replica.
        last_end: EndStatus,
        /// The roll-out of the newest revision.
        rollout: RolloutStatus,
        /// What the operator goes on from, where the widget is the root of its tree. No API: only Kontrol reads it.
        supervision: Supervision,
    }
}

/// What the operator goes on from after a restart: the plan's own status of the tree, as JSON. No API: its fields change without notice.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Supervision(pub serde_json::Value);

impl JsonSchema for Supervision {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "Supervision".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({"x-kubernetes-preserve-unknown-fields": true})
    }
}

/// Where a replica is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum InstanceState {
    /// On its way: its pod is made, or its process starts.
    #[default]
    Starting,
    /// It finds no node.
    Unschedulable,
    /// It runs, and is not ready.
    Running,
    /// It is ready.
    Ready,
    /// It is being stopped.
    Stopping,
    /// It ended.
    Ended,
    /// Nothing is heard of its node.
    Unknown,
}

/// Why a replica ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum EndReason {
    /// By itself, with an exit code.
    #[default]
    Exited,
    /// By a signal.
    Signaled,
    /// It was stopped by Kontrol.
    Stopped,
    /// It could not be started.
    NotStarted,
    /// It did not start in time.
    StartTimeout,
    /// It was hung.
    Unhealthy,
    /// It used more memory than it may.
    OutOfMemory,
    /// Its node needed room.
    Evicted,
    /// A pod of higher priority needed its place.
    Preempted,
    /// Its node is lost.
    NodeLost,
    /// Somebody else deleted it.
    Deleted,
}

impl EndReason {
    /// Its name, as manifests and events write it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Exited => "Exited",
            Self::Signaled => "Signaled",
            Self::Stopped => "Stopped",
            Self::NotStarted => "NotStarted",
            Self::StartTimeout => "StartTimeout",
            Self::Unhealthy => "Unhealthy",
            Self::OutOfMemory => "OutOfMemory",
            Self::Evicted => "Evicted",
            Self::Preempted => "Preempted",
            Self::NodeLost => "NodeLost",
            Self::Deleted => "Deleted",
        }
    }
}

/// One end of a replica.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct EndStatus {
    /// When, in UTC.
    pub time: String,
    /// Which replica.
    pub ordinal: u32,
    /// Why.
    pub reason: EndReason,
    /// Its exit code, where it ended by itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exit_code: Option<i32>,
    /// The signal's number, where one ended it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signal: Option<i32>,
    /// The node that it ran on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node: Option<String>,
    /// More about it in one line, as far as anybody said more.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
}

/// One replica.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct InstanceStatus {
    /// Which replica.
    pub ordinal: u32,
    /// The name of its pod.
    pub name: String,
    /// Where it is.
    pub state: InstanceState,
    /// How often it was replaced, and this one among them.
    pub incarnation: u64,
    /// Restarts in place of this pod, by the shim or the kubelet.
    #[serde(default)]
    pub restarts: u32,
    /// The hash of what it was started with.
    pub revision: String,
    /// The node that it runs on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node: Option<String>,
    /// Which of the alternatives of `gpu` it was placed by: 0 is the declared placement.
    #[serde(default)]
    pub alternative: u32,
    /// Why it is not ready, in one line.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// Whom it does not call for a while, since too many calls failed: replicas whose circuit breaker is not closed. At most 8 of them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["instance".into()]))]
    pub breakers: Vec<BreakerStatus>,
}

/// A circuit breaker that is not closed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct BreakerStatus {
    /// The replica that is called: `<namespace>/<group>/<widget>/<ordinal>`.
    pub instance: String,
    /// Why it opened, in words.
    pub reason: String,
}

/// Where a roll-out is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum RolloutState {
    /// All replicas have the newest revision.
    #[default]
    Complete,
    /// On its way.
    Progressing,
    /// It stands still because somebody said so.
    Paused,
    /// It failed, and the last good revision is on its way back.
    RollingBack,
    /// It failed, and all replicas have the last good revision again.
    RolledBack,
    /// It failed, and nothing was done about it.
    Failed,
}

/// The roll-out of the newest revision.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct RolloutStatus {
    /// Where it is.
    pub state: RolloutState,
    /// Replicas of the newest revision.
    #[serde(default)]
    pub updated_replicas: u32,
    /// The revision that replicas come from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub current_revision: Option<String>,
    /// The revision that replicas go to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub update_revision: Option<String>,
    /// The revision that is gone back to where a newer one fails: the last one that all replicas ran, and were ready with, for as long as
    /// ends are counted (`intensity.period`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_good_revision: Option<String>,
    /// Why it stands where it does, in one line.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
}

/// The last scaling decision.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct ScalingStatus {
    /// How many replicas there should be.
    pub desired_replicas: u32,
    /// Why, in one line.
    pub reason: String,
}

/// One widget of a group.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct WidgetStateStatus {
    /// The widget's name within its group.
    pub name: String,
    /// Where it is.
    pub state: State,
    /// Replicas that there are.
    pub replicas: u32,
    /// Replicas that are ready.
    pub ready_replicas: u32,
    /// Replicas of the newest revision.
    #[serde(default)]
    pub updated_replicas: u32,
    /// The name of its `Widget` object, where the group stamped one out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub object: Option<String>,
}

status! {
    /// What is known of a group.
    WidgetGroupStatus {
        /// Where it is.
        #[schemars(with = "State")]
        state: State,
        /// Restarts within the period of its intensity.
        restarts: u32,
        /// How often it has restarted widgets so far.
        epoch: u64,
        /// Its widgets, in order.
        #[x_kube(merge_strategy = ListMerge::Map(vec!["name".into()]))]
        widgets: Vec<WidgetStateStatus>,
        /// The chain of causes of its last restart, from the replica that ended up to here, in one line.
        last_cause: String,
        /// What the operator goes on from, where the group is the root of its tree. No API: only Kontrol reads it.
        supervision: Supervision,
    }
}

/// One child of a supervisor.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct ChildStatus {
    /// `WidgetGroup`, `Widget` or `Supervisor`.
    pub kind: String,
    /// The child's name.
    pub name: String,
    /// Where it is.
    pub state: State,
}

status! {
    /// What is known of a supervisor.
    SupervisorStatus {
        /// Where it is.
        #[schemars(with = "State")]
        state: State,
        /// Restarts within the period of its intensity.
        restarts: u32,
        /// How often it has restarted children so far.
        epoch: u64,
        /// Its children, in order.
        #[x_kube(merge_strategy = ListMerge::Map(vec!["kind".into(), "name".into()]))]
        children: Vec<ChildStatus>,
        /// The chain of causes of its last restart, from the leaf that ended up to here, in one line.
        last_cause: String,
        /// What the operator goes on from, where the supervisor is the root of its tree. No API: only Kontrol reads it.
        supervision: Supervision,
    }
}

status! {
    /// What is known of a bus.
    MessageBusStatus {
        /// The pod of its hub.
        pod: String,
        /// The claim that its log lies on.
        claim: String,
        /// Where sidecars reach it, as host and port.
        address: String,
        /// How many hubs its claim has had before this one, for whatever reason.
        restarts: u64,
        /// What it keeps to: `Durable` means that what it acknowledged is on disk.
        #[x_kube(merge_strategy = ListMerge::Atomic)]
        guarantees: Vec<Guarantee>,
    }
}

/// What a bus keeps to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Guarantee {
    /// What it acknowledged is on disk.
    Durable,
    /// Each message is delivered until it is acknowledged.
    AtLeastOnce,
    /// Messages of one key are delivered one after the other.
    OrderedByKey,
    /// A message that is published twice within the window is kept once.
    Deduplicated,
}

status! {
    /// What is known of a topic.
    TopicStatus {
        /// The bus that it lives on.
        bus: String,
        /// Widgets that publish to it.
        producers: u32,
        /// Subscriptions to it.
        subscriptions: u32,
    }
}

status! {
    /// What is known of a route.
    RouteStatus {
        /// Topics that it copies to.
        targets: u32,
    }
}
