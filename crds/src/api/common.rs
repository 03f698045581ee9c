//! What groups and supervisors have in common, and back-off.

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Duration;

/// Who is restarted with a child that ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Strategy {
    /// Only the child that ended.
    #[default]
    OneForOne,
    /// All children.
    OneForAll,
    /// The child that ended and those declared after it.
    RestForOne,
}

/// When a child that ended is started again.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Restart {
    /// Always.
    #[default]
    Always,
    /// Unless it ended normally.
    OnFailure,
    /// Never.
    Never,
}

/// Whether a supervisor ends by itself when its significant children have.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum AutoShutdown {
    /// Never.
    #[default]
    Never,
    /// With the first significant child.
    AnySignificant,
    /// With the last significant child.
    AllSignificant,
}

/// More than `maxRestarts` restarts within `period` are too many.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct Intensity {
    /// Restarts that are still allowed within the period; one more ends the supervisor, and its parent decides. A number from 0;
    /// default 3. Example: `5`.
    #[serde(default = "max_restarts")]
    #[schemars(range(min = 0, max = 10000))]
    pub max_restarts: u32,
    /// The length of the window in which restarts are counted. A duration above zero; default `30s`. Example: `1m`.
    #[serde(default = "period")]
    pub period: Duration,
}

impl Default for Intensity {
    fn default() -> Self {
        Self { max_restarts: max_restarts(), period: period() }
    }
}

const fn max_restarts() -> u32 {
    3
}

fn period() -> Duration {
    "30s".into()
}

/// Whether a root starts again after its intensity is exhausted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum ExhaustedPolicy {
    /// After a pause, with cleared windows.
    #[default]
    Retry,
    /// Not before the manifest changes or somebody asks for a restart.
    Stop,
}

/// What the root of a tree does when its intensity is exhausted.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("self.policy == 'Retry' || (!has(self.initial) && !has(self.max))")
    .message("initial and max are pauses of policy Retry; leave them out, or set policy: Retry"))]
pub struct WhenExhausted {
    /// `Retry` starts the tree again after a pause, with cleared windows; `Stop` leaves it stopped until its manifest changes or
    /// somebody runs `kontrol restart`. Default `Retry`. Example: `Stop`.
    #[serde(default)]
    pub policy: ExhaustedPolicy,
    /// The first pause of `Retry`; each one after it is twice as long, and the count starts over once the tree has run for `max`. A duration above zero;
    /// default `10s`. Example: `1s`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub initial: Option<Duration>,
    /// The longest pause of `Retry`. A duration, not shorter than `initial`; default `5m`. Example: `1m`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max: Option<Duration>,
}

/// Exponential pauses between the deliveries of one message.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct Backoff {
    /// The first pause. A duration; default `1s`. Example: `100ms`.
    #[serde(default = "Backoff::initial")]
    pub initial: Duration,
    /// The longest pause. A duration, not shorter than `initial`; default `1m`. Example: `10s`.
    #[serde(default = "Backoff::max")]
    pub max: Duration,
    /// Each pause over the one before, in percent. 100 keeps it the same; default 200. Example: `150`.
    #[serde(default = "Backoff::factor_percent")]
    #[schemars(range(min = 100, max = 1000))]
    pub factor_percent: u32,
    /// The share of each pause that is drawn at random, in percent. From 0 to 100; default 20. Example: `50`.
    #[serde(default = "Backoff::jitter_percent")]
    #[schemars(range(min = 0, max = 100))]
    pub jitter_percent: u32,
}

impl Backoff {
    fn initial() -> Duration {
        "1s".into()
    }

    fn max() -> Duration {
        "1m".into()
    }

    const fn factor_percent() -> u32 {
        200
    }

    const fn jitter_percent() -> u32 {
        20
    }
}

impl Default for Backoff {
    fn default() -> Self {
        Self {
            initial: Self::initial(),
            max: Self::max(),
            factor_percent: Self::factor_percent(),
            jitter_percent: Self::jitter_percent(),
        }
    }
}
