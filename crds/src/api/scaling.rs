//! How many replicas, decided by load.

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Amount, Duration};

/// Who decides about replicas.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum ScalingClass {
    /// Kontrol.
    #[default]
    Kontrol,
    /// Whoever writes `spec.replicas`.
    External,
}

/// How many replicas, decided by what they experience.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("!has(self.max) || self.min <= self.max")
    .message("min is the fewest replicas and max the most: min must not be above max"))]
#[x_kube(validation = Rule::new("self.class == 'External' || (has(self.max) && has(self.target))")
    .message("class Kontrol decides by a target, up to a most: give max and target"))]
pub struct Scaling {
    /// `Kontrol` decides by the targets, and shows its decision in `status.scaling.desiredReplicas`; `External` leaves the number to
    /// whoever writes `spec.replicas`, such as `kubectl scale` or an autoscaler. Default `Kontrol`. Example: `External`.
    #[serde(default)]
    pub class: ScalingClass,
    /// The fewest replicas; 0 scales to zero. A number from 0; default 1. Example: `0`.
    #[serde(default = "Scaling::min")]
    #[schemars(range(min = 0, max = 1000))]
    pub min: u32,
    /// The most replicas. A number from 1, not below `min`. Class `Kontrol` needs it; default with `External`: 1000. Example: `8`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 1000))]
    pub max: Option<u32>,
    /// What one replica should bear; where several are given, the one that asks for most replicas wins. Class `Kontrol` needs it; default
    /// with `External`: nothing. Example: `{inFlight: 2}`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target: Option<ScalingTarget>,
    /// The lowest demand within this time rules an increase: `0s` follows a rise at once. A duration; default `0s`. Example: `10s`.
    #[serde(default = "Scaling::up_window")]
    pub up_window: Duration,
    /// The highest demand within this time rules a decrease. A duration; default `5m`. Example: `30s`.
    #[serde(default = "Scaling::down_window")]
    pub down_window: Duration,
}

impl Scaling {
    const fn min() -> u32 {
        1
    }

    fn up_window() -> Duration {
        "0s".into()
    }

    fn down_window() -> Duration {
        "5m".into()
    }
}

/// What one replica should bear.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("has(self.inFlight) || has(self.queueDepth) || has(self.queueGrowth) || has(self.reported)")
    .message("give at least one target: inFlight, queueDepth, queueGrowth or reported"))]
pub struct ScalingTarget {
    /// Calls and messages in flight in one replica. A number above 0, with up to three decimals as a text. Example: `2`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub in_flight: Option<Amount>,
    /// Messages that wait in the widget's subscriptions, for each replica. A number above 0. Example: `10`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub queue_depth: Option<Amount>,
    /// Messages by which the widget's subscriptions grow in a second, for each replica. A number above 0. Example: `"0.5"`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub queue_growth: Option<Amount>,
    /// A number that each replica reports itself. Example: `{name: tokensQueued, value: 100}`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reported: Option<ReportedTarget>,
}

/// A number that the widget reports at its sidecar's door.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct ReportedTarget {
    /// The name under which the widget reports it (`load` of `Report`). Example: `tokensQueued`.
    #[schemars(length(min = 1, max = 63))]
    pub name: String,
    /// What one replica should bear of it. A number above 0, with up to three decimals as a text. Example: `100`.
    pub value: Amount,
}
