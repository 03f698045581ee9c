//! What a widget says to others and hears from them: topics, methods, calls.

use kube::KubeSchema;
use serde::{Deserialize, Serialize};

use super::{
    Duration,
    text::{ADDRESS, LABEL, PATH},
};

/// A path of the widget's own HTTP endpoint.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct HttpDelivery {
    /// The path, starting with `/`. Example: `/documents`.
    #[schemars(length(max = 1024), regex(pattern = PATH))]
    pub path: String,
}

/// A topic of the same namespace.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct TopicRef {
    /// The topic's name. Example: `documents`.
    #[schemars(length(min = 1, max = 63), regex(pattern = LABEL))]
    pub topic: String,
}

/// One subscription of a widget.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct Consume {
    /// The topic, of the same namespace. Example: `documents`.
    #[schemars(length(min = 1, max = 63), regex(pattern = LABEL))]
    pub topic: String,
    /// The name of the durable subscription, which all replicas share. Default: `<group>-<widget>`, or the widget's name where it is
    /// in no group. Example: `indexer`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 63), regex(pattern = LABEL))]
    pub subscription: Option<String>,
    /// The sidecar posts each message to this path of the widget's endpoint, and 2xx acknowledges it. Needs `endpoint`. Default: the
    /// widget subscribes at its sidecar's door. Example: `{path: /documents}`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub http: Option<HttpDelivery>,
    /// Messages that one replica holds unacknowledged at most. A number from 1; default 16. Example: `1`.
    #[serde(default = "Consume::max_in_flight")]
    #[schemars(range(min = 1, max = 10000))]
    pub max_in_flight: u32,
}

impl Consume {
    const fn max_in_flight() -> u32 {
        16
    }
}

/// A topic that a widget may publish to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct Produce {
    /// The topic, of the same namespace. Example: `answers`.
    #[schemars(length(min = 1, max = 63), regex(pattern = LABEL))]
    pub topic: String,
}

/// One method that a widget answers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct ServedMethod {
    /// The method's name, a lower-case label. Example: `nearest`.
    #[schemars(length(min = 1, max = 63), regex(pattern = LABEL))]
    pub method: String,
    /// The sidecar posts each call to this path of the widget's endpoint. Needs `endpoint`. Default: the widget holds a `Serve` stream
    /// open at its sidecar's door. Example: `{path: /nearest}`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub http: Option<HttpDelivery>,
}

/// A widget that another one may call.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct CallTarget {
    /// The widget's address: `widget`, `group/widget` or `namespace/group/widget`; missing parts are the caller's. A widget outside any
    /// group is the only one of a group of its own name. Example: `vectors`.
    #[schemars(length(min = 1, max = 191), regex(pattern = ADDRESS))]
    pub target: String,
}

/// Rules of a widget's calls to others.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct Resilience {
    /// The deadline of a call that names none. A duration above zero; default `30s`. Example: `2m`.
    #[serde(default = "Resilience::timeout")]
    pub timeout: Duration,
    /// When the circuit breaker of a target opens, and for how long. Default: the defaults of its fields. Example: `{failures: 3}`.
    #[serde(default)]
    pub breaker: BreakerPolicy,
    /// Retries of one call, as far as the retry budget allows; never after the first chunk of a reply. A number from 0; default 2.
    /// Example: `0`.
    #[serde(default = "Resilience::max_retries")]
    #[schemars(range(min = 0, max = 10))]
    pub max_retries: u32,
    /// The pause before a retry. Default: the defaults of its fields. Example: `{initial: 50ms}`.
    #[serde(default)]
    pub backoff: RetryBackoff,
    /// Retries as a share of all calls, in percent; more are not made. From 0 to 100; default 20. Example: `10`.
    #[serde(default = "Resilience::retry_budget_percent")]
    #[schemars(range(min = 0, max = 100))]
    pub retry_budget_percent: u32,
}

impl Resilience {
    fn timeout() -> Duration {
        "30s".into()
    }

    const fn max_retries() -> u32 {
        2
    }

    const fn retry_budget_percent() -> u32 {
        20
    }
}

impl Default for Resilience {
    fn default() -> Self {
        Self {
            timeout: Self::timeout(),
            breaker: BreakerPolicy::default(),
            max_retries: Self::max_retries(),
            backoff: RetryBackoff::default(),
            retry_budget_percent: Self::retry_budget_percent(),
        }
    }
}

/// When a circuit breaker opens, and for how long.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct BreakerPolicy {
    /// Consecutive failures that open it. A number from 1; default 5. Example: `3`.
    #[serde(default = "BreakerPolicy::failures")]
    #[schemars(range(min = 1, max = 10000))]
    pub failures: u32,
    /// How long it stays open before a trial. A duration above zero; default `60s`. Example: `5s`.
    #[serde(default = "BreakerPolicy::open_for")]
    pub open_for: Duration,
    /// The share of failures within `window` that opens it as well, in percent; 0 switches that off. From 0 to 100; default 50.
    /// Example: `25`.
    #[serde(default = "BreakerPolicy::failure_rate_percent")]
    #[schemars(range(min = 0, max = 100))]
    pub failure_rate_percent: u32,
    /// The window of the rate. A duration above zero; default `10s`. Example: `1m`.
    #[serde(default = "BreakerPolicy::window")]
    pub window: Duration,
    /// Calls within the window below which the rate says nothing. A number from 1; default 20. Example: `100`.
    #[serde(default = "BreakerPolicy::min_calls")]
    #[schemars(range(min = 1, max = 1_000_000))]
    pub min_calls: u32,
}

impl BreakerPolicy {
    const fn failures() -> u32 {
        5
    }

    fn open_for() -> Duration {
        "60s".into()
    }

    const fn failure_rate_percent() -> u32 {
        50
    }

    fn window() -> Duration {
        "10s".into()
    }

    const fn min_calls() -> u32 {
        20
    }
}

impl Default for BreakerPolicy {
    fn default() -> Self {
        Self {
            failures: Self::failures(),
            open_for: Self::open_for(),
            failure_rate_percent: Self::failure_rate_percent(),
            window: Self::window(),
            min_calls: Self::min_calls(),
        }
    }
}

/// Exponential pauses between the attempts of one call.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct RetryBackoff {
    /// The first pause. A duration; default `20ms`. Example: `50ms`.
    #[serde(default = "RetryBackoff::initial")]
    pub initial: Duration,
    /// The longest pause. A duration, not shorter than `initial`; default `1s`. Example: `5s`.
    #[serde(default = "RetryBackoff::max")]
    pub max: Duration,
    /// Each pause over the one before, in percent. 100 keeps it the same; default 200. Example: `150`.
    #[serde(default = "RetryBackoff::factor_percent")]
    #[schemars(range(min = 100, max = 1000))]
    pub factor_percent: u32,
    /// The share of each pause that is drawn at random, in percent. From 0 to 100; default 50. Example: `20`.
    #[serde(default = "RetryBackoff::jitter_percent")]
    #[schemars(range(min = 0, max = 100))]
    pub jitter_percent: u32,
}

impl RetryBackoff {
    fn initial() -> Duration {
        "20ms".into()
    }

    fn max() -> Duration {
        "1s".into()
    }

    const fn factor_percent() -> u32 {
        200
    }

    const fn jitter_percent() -> u32 {
        50
    }
}

impl Default for RetryBackoff {
    fn default() -> Self {
        Self {
            initial: Self::initial(),
            max: Self::max(),
            factor_percent: Self::factor_percent(),
            jitter_percent: Self::jitter_percent(),
        }
    }
}
