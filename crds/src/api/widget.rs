//! One component.

use kube::{CustomResource, KubeSchema};
use serde::{Deserialize, Serialize};

use super::{
    CallTarget, Consume, Container, Disruption, Endpoint, Gpu, Health, Identity, Intensity, Placement,
    PodMetadata, Process, Produce, PullSecret, ReplicaEnd, Resilience, Restart, Rollout, Scaling,
    ServedMethod, Shutdown, Start, Volume, WidgetStatus,
};

/// One component: how it runs, what it talks to, when it is healthy, how many of it there are.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, CustomResource, KubeSchema)]
#[kube(
    group = "kontrol.dev",
    version = "v1alpha1",
    kind = "Widget",
    plural = "widgets",
    shortname = "kwd",
    category = "kontrol",
    namespaced,
    status = "WidgetStatus",
    derive = "PartialEq",
    doc = "One component. Outside a group it is the only widget of a group of its own name, under OneForOne.",
    scale(
        spec_replicas_path = ".spec.replicas",
        status_replicas_path = ".status.replicas",
        label_selector_path = ".status.labelSelector"
    ),
    printcolumn(name = "Ready", type_ = "integer", json_path = ".status.readyReplicas", description = "Replicas that are ready."),
    printcolumn(name = "Replicas", type_ = "integer", json_path = ".status.replicas", description = "Replicas that there are."),
    printcolumn(name = "Desired", type_ = "integer", json_path = ".status.scaling.desiredReplicas", description = "Replicas that scaling decided on."),
    printcolumn(name = "Restarts", type_ = "integer", json_path = ".status.restarts", description = "Restarts so far."),
    printcolumn(name = "Status", type_ = "string", json_path = ".status.conditions[?(@.type=='Ready')].reason", description = "Why it is ready or not."),
    printcolumn(name = "Revision", type_ = "string", json_path = ".status.revision", description = "The hash of what runs.", priority = "1"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    validation = Rule::new("size(self.metadata.name) <= 63").message("the name of a widget has at most 63 characters"),
    validation = Rule::new("!has(self.spec.container) || size(self.metadata.name) <= 59").message("the name of a widget that runs on a cluster has at most 59 characters, so that the host name <name>-<ordinal> fits into 63"),
    validation = Rule::new("!has(self.spec.container) || self.metadata.name.matches('^[a-z]([-a-z0-9]*[a-z0-9])?$')").message("the name of a widget that runs on a cluster starts with a letter and has no dots, because it is the name of its Service as well"),
    validation = Rule::new("!self.spec.significant").message("significant means something only in a group with autoShutdown; leave it out")
)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("!self.significant || self.restart != 'Always'")
    .message("a significant widget needs restart: OnFailure or Never, or it would never end by itself"))]
#[x_kube(validation = Rule::new("has(self.endpoint) || !has(self.health) || !has(self.health.http)")
    .message("health.http needs the widget's endpoint; add endpoint: {} to get a port as $PORT"))]
#[x_kube(validation = Rule::new("has(self.endpoint) || !has(self.consumes) || self.consumes.all(c, !has(c.http))")
    .message("consumes with http needs the widget's endpoint; add endpoint: {} to get a port as $PORT"))]
#[x_kube(validation = Rule::new("has(self.endpoint) || !has(self.serves) || self.serves.all(s, !has(s.http))")
    .message("serves with http needs the widget's endpoint; add endpoint: {} to get a port as $PORT"))]
#[x_kube(validation = Rule::new("!has(self.process) || !has(self.endpoint) || !has(self.endpoint.port) || (has(self.scaling) && self.scaling.class == 'Kontrol' && has(self.scaling.max) ? self.scaling.max : self.replicas) <= 1")
    .message("several replicas cannot listen on one port; leave endpoint.port out, and each is given its own as $PORT"))]
#[x_kube(validation = Rule::new("has(self.process) || has(self.container)")
    .message("a widget needs a way to run: process (for kontrol up), container (for a cluster), or both"))]
#[x_kube(validation = Rule::new("!has(self.container) || !has(self.endpoint) || !has(self.endpoint.port) || self.endpoint.port < 7410 || self.endpoint.port > 7413")
    .message("ports 7410 to 7413 belong to the sidecar in the same pod; choose another endpoint.port, or leave it out"))]
#[x_kube(validation = Rule::new("!has(self.container) || !has(self.container.volumeMounts) || self.container.volumeMounts.all(m, has(self.volumes) && self.volumes.exists(v, v.name == m.name))")
    .message("each of container.volumeMounts names one of the widget's volumes; declare it under volumes"))]
pub struct WidgetSpec {
    /// How `kontrol up` runs it. Default: it has no process, and cannot run in the local world. Example: `{command: [python3, llm.py]}`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub process: Option<Process>,
    /// How a cluster runs it: the container of each replica's pod. Default: it has none, and cannot run on a cluster.
    /// Example: `{image: registry.example.com/llm:1.4, command: [python3, /app/llm.py], wrapped: true}`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub container: Option<Container>,
    /// What its container can mount; the local world has none of it. Default: none. Example: `[{name: models, persistentVolumeClaim: {claimName: models}}]`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".into()]))]
    pub volumes: Vec<Volume>,
    /// GPUs that each replica is given on a cluster; the local world gives what there is. Default: none. Example: `{count: 1, alternatives: [{cpu: "4"}]}`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gpu: Option<Gpu>,
    /// Which nodes of a cluster it runs on. Default: any. Example: `{nodeSelector: {kubernetes.io/arch: amd64}}`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub placement: Option<Placement>,
    /// The service account of its pods. Its token is not given to the widget. Default: `default` of the namespace. Example: `llm`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    pub service_account_name: Option<String>,
    /// Secrets with the keys of registries. Default: those of the service account. Example: `[{name: registry}]`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".into()]))]
    pub image_pull_secrets: Vec<PullSecret>,
    /// Labels and annotations that its pods have beside Kontrol's own. Default: none. Example: `{labels: {team: search}}`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pod_metadata: Option<PodMetadata>,
    /// Whether replicas have an identity of their own, which two pods must never have at once. Default: they have not, and a replacement need
    /// not wait. Example: `{stable: true}`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub identity: Option<Identity>,
    /// How many replicas a drain of nodes may take away at once. Default: one where there are several; a single one is not protected.
    /// Example: `{minAvailable: 2}`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub disruption: Option<Disruption>,
    /// How a new revision is rolled out. Default: as its group says, else one replica at a time. Example: `{maxSurge: 1, maxUnavailable: 0}`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rollout: Option<Rollout>,
    /// Whether ends that the widget is not to blame for (out of memory, eviction, preemption, loss of its node, deletion by somebody else) count in the
    /// intensity. Default `false`. Example: `true`.
    #[serde(default)]
    pub count_external: bool,
    /// How many replicas, where `scaling` is absent or its class is `External`. A number from 0; default 1. Example: `3`.
    #[serde(default = "replicas")]
    #[schemars(range(min = 0, max = 1000))]
    pub replicas: u32,
    /// When it is started again after it ended: `Always`, `OnFailure` (unless it ended normally: exit code 0, or the end that Kontrol
    /// asked for), or `Never`. Default `Always`. Example: `OnFailure`.
    #[serde(default)]
    pub restart: Restart,
    /// Whether its end by itself counts for the `autoShutdown` of its group. Only with `restart: OnFailure` or `Never`. Default `false`. Example: `true`.
    #[serde(default)]
    pub significant: bool,
    /// How a replica is stopped. Default: `{policy: Graceful}` with 10 s of grace. Example: `{grace: 30s}`.
    #[serde(default)]
    pub shutdown: Shutdown,
    /// When it counts as started, so that the next widget of the group may start. Default: `{when: Ready, timeout: 60s}`.
    /// Example: `{timeout: 5m}`.
    #[serde(default)]
    pub start: Start,
    /// What the end of one replica means: `EndsWidget` lets the group decide, `ReplacesReplica` replaces it within the widget's own
    /// `intensity`. Default: `ReplacesReplica` where `replicas` or `scaling.max` is above 1 (class `External` may leave it out, and then it
    /// is), else `EndsWidget`: the spec alone decides, so a widget of `replicas: 1` keeps `EndsWidget` when it is scaled by hand.
    /// Example: `EndsWidget`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "ReplicaEnd")]
    pub replica_end: Option<ReplicaEnd>,
    /// How many ends of replicas are too many under `ReplacesReplica`; one more is one end of the widget. Default: that of its group.
    /// Example: `{maxRestarts: 10, period: 1m}`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub intensity: Option<Intensity>,
    /// What makes a running replica unhealthy. Default: only the end of its process, and its own word. Example: `{report: {}, timeout: 15s}`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub health: Option<Health>,
    /// The widget's own HTTP server, to which its sidecar delivers. Default: it has none. Example: `{port: 8080}`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub endpoint: Option<Endpoint>,
    /// Topics that it is given messages of. Default: none. Example: `[{topic: documents}]`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["topic".into()]))]
    pub consumes: Vec<Consume>,
    /// Topics that it may publish to. Default: none. Example: `[{topic: answers}]`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["topic".into()]))]
    pub produces: Vec<Produce>,
    /// Methods that it answers. Default: none. Example: `[{method: nearest}]`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["method".into()]))]
    pub serves: Vec<ServedMethod>,
    /// Widgets that it may call. Default: none. Example: `[{target: vectors}]`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["target".into()]))]
    pub calls: Vec<CallTarget>,
    /// Rules of its calls to others. Default: the defaults of its fields. Example: `{timeout: 2m, maxRetries: 0}`.
    #[serde(default)]
    pub resilience: Resilience,
    /// How many replicas, decided by load. Default: `replicas`. Example: `{max: 8, target: {inFlight: 2}}`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scaling: Option<Scaling>,
}

const fn replicas() -> u32 {
    1
}
