//! What the operator wants of this sidecar: converted from the wire once, applied whole, and kept on disk for a start without operator.

mod store;

pub use store::Store;
pub(crate) use store::replace;

use std::{
    collections::{BTreeMap, HashMap},
    time::Duration,
};

use kontrol_core::spec::{Backoff, BreakerPolicy, HealthProbe, Resilience};
use kontrol_proto::v1;

use crate::metrics::Named;

/// A configuration, valid as a whole.
#[derive(Clone, Debug, Default)]
pub struct Config {
    /// The operator's number for it; 0: none came yet.
    pub version: u64,
    /// The incarnation of the widget that the sidecar serves now.
    pub incarnation: u64,
    /// The widget's subscriptions.
    pub consumes: Vec<Consume>,
    /// Topics that the widget may publish to.
    pub produces: Vec<String>,
    /// Methods that it answers, with the path at its endpoint; an empty path: at the door.
    pub serves: BTreeMap<String, String>,
    /// Widgets that it may call, with their replicas.
    pub targets: HashMap<String, Vec<Endpoint>>,
    /// The names that metrics tell apart.
    pub named: Named,
    /// The lowest incarnation that each instance may have.
    pub fences: HashMap<String, u64>,
    /// The topics of its namespace that it has to do with.
    pub topics: HashMap<String, Topic>,
    /// The routes from topics that it publishes to.
    pub routes: Vec<v1::RouteConfig>,
    /// The hub's address.
    pub hub: Option<String>,
    /// The subject of its certificate; none: `hub`.
    pub hub_subject: Option<String>,
    /// How its health is known.
    pub health: Option<HealthPolicy>,
    /// The widget's own server, `host:port`.
    pub endpoint: Option<String>,
    /// Rules of its calls.
    pub resilience: Resilience,
    /// What the shim may do by itself; none: nothing new.
    pub grant: Option<v1::RestartGrant>,
}

/// One subscription of the widget.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Consume {
    /// The topic.
    pub topic: String,
    /// The durable subscription.
    pub subscription: String,
    /// The path at the widget's endpoint; none: the widget subscribes at the door.
    pub path: Option<String>,
    /// Messages that it holds unacknowledged at most.
    pub max_in_flight: u32,
}

/// A replica of a target.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    /// `<namespace>/<group>/<widget>/<ordinal>`.
    pub instance: String,
    /// The peer address of its sidecar, `host:port`.
    pub address: String,
    /// Whether its widget is ready.
    pub ready: bool,
}

/// What a publisher and a subscriber must know of a topic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Topic {
    /// The attribute whose value orders.
    pub key: Option<String>,
    /// How long a delivery may stay without a sign of life.
    pub ack_timeout: Duration,
    /// The largest message, envelope included.
    pub max_message: u64,
}

/// How the widget's health is known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HealthPolicy {
    /// By its reports, or by asking.
    pub probe: HealthProbe,
    /// Without a good word for this long it is hung.
    pub timeout: Duration,
    /// How often a probe asks.
    pub interval: Duration,
}

impl Config {
    /// The subscription of a topic: the one named, or where the name is empty the one that the widget declares.
    pub fn consume(&self, topic: &str, subscription: &str) -> Option<&Consume> {
        self.consumes.iter().find(|consume| {
            consume.topic == topic && (subscription.is_empty() || consume.subscription == subscription)
        })
    }

    /// The fence of an instance: incarnations below it are refused.
    pub fn fence(&self, instance: &str) -> u64 {
        self.fences.get(instance).copied().unwrap_or(0)
    }
}

fn some(text: String) -> Option<String> {
    (!text.is_empty()).then_some(text)
}

/// The map of fences, as both sidecars and hub get them.
pub fn fences(list: Vec<v1::Fence>) -> HashMap<String, u64> {
    list.into_iter().map(|fence| (fence.instance, fence.incarnation)).collect()
}

impl From<v1::SidecarConfig> for Config {
    fn from(wire: v1::SidecarConfig) -> Self {
        Self {
            named: Named::of(&wire),
            version: wire.version,
            incarnation: wire.incarnation,
            consumes: wire.consumes.into_iter().map(Consume::from).collect(),
            produces: wire.produces,
            serves: wire.serves.into_iter().map(|serve| (serve.method, serve.http_path)).collect(),
            targets: wire
                .targets
                .into_iter()
                .map(|target| (target.widget, target.endpoints.into_iter().map(Endpoint::from).collect()))
                .collect(),
            fences: fences(wire.fences),
            topics: wire.topics.into_iter().map(|topic| (topic.name.clone(), Topic::from(topic))).collect(),
            routes: wire.routes,
            hub: some(wire.hub),
            hub_subject: some(wire.hub_subject),
            grant: wire.grant,
            health: wire.health.map(HealthPolicy::from),
            endpoint: some(wire.endpoint),
            resilience: wire.resilience.map(resilience).unwrap_or_default(),
        }
    }
}

impl From<v1::Consume> for Consume {
    fn from(wire: v1::Consume) -> Self {
        let v1::Consume { topic, subscription, http_path, max_in_flight } = wire;
        Self { topic, subscription, path: some(http_path), max_in_flight: max_in_flight.max(1) }
    }
}

impl From<v1::Endpoint> for Endpoint {
    fn from(wire: v1::Endpoint) -> Self {
        Self { instance: wire.instance, address: wire.address, ready: wire.ready }
    }
}

impl From<v1::TopicConfig> for Topic {
    fn from(wire: v1::TopicConfig) -> Self {
        Self {
            key: some(wire.key),
            ack_timeout: Duration::from_millis(wire.ack_timeout_ms),
            max_message: wire.max_message_bytes,
        }
    }
}

impl From<v1::HealthConfig> for HealthPolicy {
    fn from(wire: v1::HealthConfig) -> Self {
        let probe = some(wire.http_path).map_or(HealthProbe::Report, HealthProbe::Http);
        let (timeout, interval) =
            (Duration::from_millis(wire.timeout_ms), Duration::from_millis(wire.interval_ms.max(10)));
        Self { probe, timeout, interval }
    }
}

/// A backoff from the wire; what is absent or zero is the default's.
pub fn backoff(wire: Option<v1::Backoff>, default: Backoff) -> Backoff {
    wire.map_or(default, |wire| Backoff {
        initial: Duration::from_millis(wire.initial_ms),
        max: Duration::from_millis(wire.max_ms.max(wire.initial_ms)),
        factor_percent: wire.factor_percent,
        jitter_percent: wire.jitter_percent,
    })
}

fn resilience(wire: v1::Resilience) -> Resilience {
    let default = Resilience::default();
    Resilience {
        timeout: if wire.timeout_ms == 0 { default.timeout } else { Duration::from_millis(wire.timeout_ms) },
        breaker: BreakerPolicy {
            failures: wire.breaker_failures,
            open_for: Duration::from_millis(wire.breaker_open_ms),
            failure_rate_percent: wire.breaker_rate_percent,
            window: Duration::from_millis(wire.breaker_window_ms),
            min_calls: wire.breaker_min_calls,
        },
        max_retries: wire.max_retries,
        backoff: backoff(wire.backoff, default.backoff),
        retry_budget_percent: wire.retry_budget_percent,
    }
}
