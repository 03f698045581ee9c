//! What status shows: states and decisions. Figures that change all the time are metrics.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::KubeSchema;
use schemars::JsonSchema;
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
            /// What is true of the object now. `Ready` says whether it does its work, `Accepted` whether its spec can be carried out.
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
        /// Restarts so far.
        restarts: u64,
        /// The last scaling decision, where `scaling` is given.
        scaling: ScalingStatus,
    }
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
    }
}

status! {
    /// What is known of a bus.
    MessageBusStatus {}
}

status! {
    /// What is known of a topic.
    TopicStatus {}
}

status! {
    /// What is known of a route.
    RouteStatus {}
}
