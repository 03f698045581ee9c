//! How a widget runs, starts, stops, and shows that it is well.

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Duration, HttpDelivery, Size, text::VARIABLE};

/// A local process, run by `kontrol up`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("size(self.command) > 0 && self.command[0] != ''")
    .message("command needs a program as its first item, such as [python3, worker.py]"))]
pub struct Process {
    /// The program and its arguments, as a list; no shell is involved. A program without `/` is looked up in `PATH`, one with `/` is
    /// relative to `workingDir`. Example: `[python3, worker.py, --verbose]`.
    #[schemars(length(max = 256), inner(length(max = 4096)))]
    #[x_kube(merge_strategy = ListMerge::Atomic)]
    pub command: Vec<String>,
    /// The folder that the process starts in, absolute or relative to the folder of the manifest. Default: the folder of the manifest.
    /// Example: `services/llm`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 4096))]
    pub working_dir: Option<String>,
    /// Additions to the environment. Default: none. Example: `[{name: MODEL, value: small}]`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 256))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".into()]))]
    pub env: Vec<EnvVar>,
    /// What the system keeps the process within. Default: no limits. Example: `{memory: 2Gi, openFiles: 1024}`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limits: Option<Limits>,
}

/// One variable of the environment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct EnvVar {
    /// The variable's name: letters, digits and `_`, not starting with a digit. Names that start with `KONTROL_` belong to Kontrol. Example: `MODEL`.
    #[schemars(length(min = 1, max = 256), regex(pattern = VARIABLE))]
    #[x_kube(validation = Rule::new("!self.startsWith('KONTROL_')")
        .message("names that start with KONTROL_ are given by Kontrol itself; choose another name"))]
    pub name: String,
    /// The variable's value, as a text: quote numbers and booleans. Default: empty. Example: `"8"`.
    #[serde(default)]
    #[schemars(length(max = 32768))]
    pub value: String,
}

/// Limits of a process.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct Limits {
    /// Address space, in bytes; an allocation beyond it fails. Default: no limit. Example: `2Gi`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory: Option<Size>,
    /// Files and sockets that the process may hold open. Default: no limit of its own. Example: `1024`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 8, max = 1_048_576))]
    pub open_files: Option<u32>,
}

/// How a replica is asked to stop.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum ShutdownPolicy {
    /// SIGTERM, then SIGKILL after the grace.
    #[default]
    Graceful,
    /// SIGKILL at once.
    Brutal,
}

/// How a replica is stopped.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("self.policy == 'Graceful' || !has(self.grace)")
    .message("grace belongs to policy Graceful; leave it out, or set policy: Graceful"))]
pub struct Shutdown {
    /// `Graceful` sends SIGTERM, and SIGKILL after `grace`; `Brutal` sends SIGKILL at once. Default `Graceful`. Example: `Brutal`.
    #[serde(default)]
    pub policy: ShutdownPolicy,
    /// How long a replica may take to end after SIGTERM. A duration; only with policy `Graceful`, default `10s`. Example: `30s`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub grace: Option<Duration>,
}

/// The state in which a replica counts as started.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum StartedWhen {
    /// Its health says ready.
    #[default]
    Ready,
    /// Its process runs.
    Running,
}

/// When a widget counts as started, so that the next one may start.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct Start {
    /// `Ready` waits until all desired replicas were ready once (without `health`: until they run); `Running` waits only for their
    /// processes. Default `Ready`. Example: `Running`.
    #[serde(default)]
    pub when: StartedWhen,
    /// A start that takes longer has failed, and the strategy decides. A duration above zero; default `60s`. Example: `5m`.
    #[serde(default = "Start::timeout")]
    pub timeout: Duration,
}

impl Start {
    fn timeout() -> Duration {
        "60s".into()
    }
}

impl Default for Start {
    fn default() -> Self {
        Self { when: StartedWhen::Ready, timeout: Self::timeout() }
    }
}

/// What the end of one replica means.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum ReplicaEnd {
    /// It is the end of the widget: its group decides.
    EndsWidget,
    /// The replica is replaced within the widget's own intensity.
    ReplacesReplica,
}

/// The widget reports its health itself. It has no fields.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
pub struct ReportProbe {}

/// What makes a running replica unhealthy, beyond the end of its process.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("has(self.report) != has(self.http)")
    .message("health is told in exactly one way: give report: {} or http: {path: /healthz}"))]
pub struct Health {
    /// The widget says how it is at its sidecar's door (`Report`). It has no fields. Exactly one of `report` and `http`. Example: `{}`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub report: Option<ReportProbe>,
    /// The sidecar asks the widget's endpoint with `GET`; 2xx is good. Needs `endpoint`. Exactly one of `report` and `http`.
    /// Example: `{path: /healthz}`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub http: Option<HttpDelivery>,
    /// Without a good word for this long a replica is hung, and is restarted. A duration, longer than `interval`; default `15s`.
    /// Example: `1m`.
    #[serde(default = "Health::timeout")]
    pub timeout: Duration,
    /// How often the sidecar asks over `http`. A duration above zero; default `2s`. Example: `500ms`.
    #[serde(default = "Health::interval")]
    pub interval: Duration,
}

impl Health {
    fn timeout() -> Duration {
        "15s".into()
    }

    fn interval() -> Duration {
        "2s".into()
    }
}

/// The widget's own HTTP server on its loopback.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct Endpoint {
    /// The port that the widget listens on; it is in its environment as `PORT`. Default: each replica is given a free one.
    /// Example: `8080`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 65535))]
    pub port: Option<u16>,
}
