//! One component: how it runs, what it talks to, when it is healthy, how many of it there are.

use std::{collections::BTreeMap, fmt, path::PathBuf, time::Duration};

use serde::{Deserialize, Serialize};

use super::{Backoff, Container, Intensity, Restart, Rollout};
use crate::id::{Name, WidgetId};

/// The hash of a widget's template: what is restarted when it changes. Never compared with an epoch or an incarnation.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Revision(pub u64);

impl fmt::Display for Revision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

/// One component.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Widget {
    /// The widget.
    pub id: WidgetId,
    /// The hash of all that a running replica was started with, in the world that it was made for (the local one: process, endpoint,
    /// environment; a cluster: container, volumes, GPU, placement, endpoint); set by `kontrol-crds`. Changes of replicas, scaling,
    /// intensity or of other rules leave it as it is.
    pub revision: Revision,
    /// How the local world runs it; none where the manifest gives only other ways.
    pub process: Option<Box<Process>>,
    /// How a cluster runs it, as far as that decides anything; none where the manifest gives only other ways.
    pub container: Option<Container>,
    /// How a new revision is rolled out; what the manifest leaves out is that of its group.
    pub rollout: Rollout,
    /// Replicas where `scaling` is absent or its class is External. Default 1.
    pub replicas: u32,
    /// When it is started again.
    pub restart: Restart,
    /// Whether its end by itself counts for its group's automatic shutdown.
    pub significant: bool,
    /// How it is stopped.
    pub shutdown: Shutdown,
    /// When it counts as started.
    pub start: Start,
    /// Whether the end of one replica is the end of the widget.
    pub replica_end: ReplicaEnd,
    /// Counts the ends of replicas under [`ReplicaEnd::ReplacesReplica`]; exhausted, that is one end of the widget.
    pub intensity: Intensity,
    /// What makes a running replica unhealthy; none: only the end of its process, and its own word.
    pub health: Option<Box<Health>>,
    /// The widget's own server, for delivery by its sidecar.
    pub endpoint: Option<Endpoint>,
    /// Subscriptions.
    pub consumes: Box<[Consume]>,
    /// Topics that it may publish to.
    pub produces: Box<[Name]>,
    /// Methods that it answers.
    pub serves: Box<[Served]>,
    /// Widgets that it may call.
    pub calls: Box<[WidgetId]>,
    /// Rules of its calls to others; none: the default ones.
    pub resilience: Option<Box<Resilience>>,
    /// How many replicas, decided by load; none: `replicas`.
    pub scaling: Option<Box<Scaling>>,
}

/// A local process.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Process {
    /// The program and its arguments; never empty. A program without `/` is looked up in PATH.
    pub command: Vec<String>,
    /// The folder it starts in; default: the folder of the manifest.
    pub working_dir: Option<PathBuf>,
    /// Additions to the environment.
    pub env: BTreeMap<String, String>,
    /// What the system keeps it within.
    pub limits: Limits,
}

/// Limits of a process, as far as the system allows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Limits {
    /// Address space in bytes (`RLIMIT_AS`).
    pub memory: Option<u64>,
    /// Open files (`RLIMIT_NOFILE`).
    pub open_files: Option<u64>,
}

/// How a replica is stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Shutdown {
    /// SIGTERM, then SIGKILL after this time (OTP: `shutdown => Timeout`). Default 10 s.
    Graceful(Duration),
    /// SIGKILL at once (OTP: `brutal_kill`).
    Brutal,
}

impl Default for Shutdown {
    fn default() -> Self {
        Self::Graceful(Duration::from_secs(10))
    }
}

/// When a widget counts as started, and how long that may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Start {
    /// The state that all desired replicas must have reached once.
    pub when: StartedWhen,
    /// A start that takes longer has failed. Default 60 s.
    pub timeout: Duration,
}

impl Default for Start {
    fn default() -> Self {
        Self { when: StartedWhen::Ready, timeout: Duration::from_mins(1) }
    }
}

/// The state in which a replica counts as started.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum StartedWhen {
    /// Its health says ready; a widget without `health` is ready as soon as it runs.
    #[default]
    Ready,
    /// Its process runs.
    Running,
}

/// What the end of one replica means. The default is decided by the spec alone: [`Self::EndsWidget`] with one replica for good,
/// [`Self::ReplacesReplica`] where `replicas` or `scaling.max` is above one. The current count never decides: a widget whose spec says
/// one replica keeps [`Self::EndsWidget`] when a user gives it more for a while.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum ReplicaEnd {
    /// It is the end of the widget: its group decides.
    EndsWidget,
    /// The replica is replaced within the widget's own intensity (OTP: `simple_one_for_one`).
    ReplacesReplica,
}

/// Liveness and readiness of a replica beyond its process.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Health {
    /// How the sidecar learns of it.
    pub probe: HealthProbe,
    /// Without a good word for this long the replica is hung and is restarted. Default 15 s.
    pub timeout: Duration,
    /// How often a probe asks. Default 2 s.
    pub interval: Duration,
}

/// How a sidecar learns of its widget's health.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum HealthProbe {
    /// The widget says so itself, by `Report`.
    Report,
    /// `GET` of this path at the widget's endpoint; 2xx is good.
    Http(String),
}

/// The widget's own HTTP server on its loopback.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Endpoint {
    /// The port; none: the world gives one to each replica, as `PORT` in its environment.
    pub port: Option<u16>,
}

/// One subscription of a widget.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Consume {
    /// The topic.
    pub topic: Name,
    /// The durable subscription's name, shared by all replicas. Default `<group>-<widget>`.
    pub subscription: Name,
    /// How messages reach the widget.
    pub via: ConsumeVia,
    /// Messages that one replica holds unacknowledged at most. Default 16.
    pub max_in_flight: u32,
}

/// How messages reach a widget.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum ConsumeVia {
    /// The widget subscribes at its sidecar's door.
    Door,
    /// The sidecar posts each message to this path of the widget's endpoint; 2xx acknowledges.
    Http(String),
}

/// One method that a widget answers.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Served {
    /// The method's name.
    pub method: Name,
    /// How calls reach the widget.
    pub via: ServeVia,
}

/// How calls reach a widget.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum ServeVia {
    /// The widget holds a `Serve` stream open at its sidecar's door.
    Door,
    /// The sidecar posts each call to this path of the widget's endpoint.
    Http(String),
}

/// Rules of a widget's calls to others.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Resilience {
    /// The deadline of a call that names none. Default 30 s.
    pub timeout: Duration,
    /// The breaker of each target.
    pub breaker: BreakerPolicy,
    /// Retries of a call, as far as the retry budget allows; never after the first chunk of a reply. Default 2.
    pub max_retries: u32,
    /// The pause before a retry.
    pub backoff: Backoff,
    /// Retries allowed as a share of calls, in percent. Default 20.
    pub retry_budget_percent: u32,
}

impl Default for Resilience {
    fn default() -> Self {
        Self {
            timeout: Duration::from_secs(30),
            breaker: BreakerPolicy::default(),
            max_retries: 2,
            backoff: Backoff {
                initial: Duration::from_millis(20),
                max: Duration::from_secs(1),
                factor_percent: 200,
                jitter_percent: 50,
            },
            retry_budget_percent: 20,
        }
    }
}

/// When a circuit breaker opens and for how long.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct BreakerPolicy {
    /// Consecutive failures that open it. Default 5.
    pub failures: u32,
    /// How long it stays open before a trial. Default 60 s.
    pub open_for: Duration,
    /// The share of failures within `window`, in percent, that opens it as well; 0 switches it off. Default 50.
    pub failure_rate_percent: u32,
    /// The window of the rate. Default 10 s.
    pub window: Duration,
    /// Calls within the window below which the rate says nothing. Default 20.
    pub min_calls: u32,
}

impl Default for BreakerPolicy {
    fn default() -> Self {
        Self {
            failures: 5,
            open_for: Duration::from_mins(1),
            failure_rate_percent: 50,
            window: Duration::from_secs(10),
            min_calls: 20,
        }
    }
}

/// How many replicas, decided by what they experience.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Scaling {
    /// Who decides.
    pub class: ScalingClass,
    /// The fewest replicas; 0 scales to zero. Default 1.
    pub min: u32,
    /// The most replicas.
    pub max: u32,
    /// What a replica should bear; the highest demand of all wins. Never empty.
    pub targets: Vec<ScalingTarget>,
    /// The lowest demand within this time rules an increase: 0 follows at once. Default 0 s.
    pub up_window: Duration,
    /// The highest demand within this time rules a decrease. Default 5 min.
    pub down_window: Duration,
}

/// Who decides about replicas.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum ScalingClass {
    /// The plan; the decision is `status.scaling.desiredReplicas`.
    #[default]
    Kontrol,
    /// Whoever writes `spec.replicas`.
    External,
}

/// What one replica should bear. Amounts are in thousandths, so that decisions are exact.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ScalingTarget {
    /// Calls and messages in flight.
    InFlight(u64),
    /// Messages that wait in the widget's subscriptions.
    QueueDepth(u64),
    /// Messages by which its subscriptions grow in a second.
    QueueGrowth(u64),
    /// A number that the widget reports itself, under this name.
    Reported(String, u64),
}
