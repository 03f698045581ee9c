//! Where replicas run on a cluster, and on what: GPUs, nodes, spread.

use std::collections::BTreeMap;

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Affinity, Duration, LabelSelector, Quantity, text::texts};

/// GPUs, or any other extended resource of nodes, that each replica is given.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct Gpu {
    /// How many each replica is given, whole. Default 1. Example: `2`.
    #[serde(default = "one")]
    #[schemars(range(min = 1, max = 64))]
    pub count: u32,
    /// The resource as nodes offer it; a slice of a GPU has a name of its own. Default `nvidia.com/gpu`. Example: `nvidia.com/mig-1g.10gb`.
    #[serde(default = "resource")]
    #[schemars(length(min = 3, max = 253), regex(pattern = RESOURCE))]
    pub resource: String,
    /// Labels that the node must have, beside those of `placement`. Default: none. Example: `{nvidia.com/gpu.product: NVIDIA-H100-80GB-HBM3}`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(schema_with = "texts::<63>")]
    pub node_selector: BTreeMap<String, String>,
    /// Taints that it bears, beside those of `placement`. A taint named as the resource is borne by itself. Default: none.
    /// Example: `[{key: gpu, operator: Exists}]`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    #[x_kube(merge_strategy = ListMerge::Atomic)]
    pub tolerations: Vec<Toleration>,
    /// What else would do, in order of preference: the next is tried when a replica finds no node for `placement.unschedulableAfter`; after the
    /// last one it begins again. Default: nothing else would. Example: `[{count: 1, resource: amd.com/gpu}, {cpu: "4", memory: 16Gi}]`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 8))]
    #[x_kube(merge_strategy = ListMerge::Atomic)]
    pub alternatives: Vec<Alternative>,
}

/// One alternative to a widget's GPU. It takes the place of all of `gpu`; `placement` and the container's own resources stay.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("!has(self.resource) || has(self.count)")
    .message("resource needs count: how many of it"))]
#[x_kube(validation = Rule::new("has(self.count) || has(self.cpu) || has(self.memory) || has(self.nodeSelector)")
    .message("an alternative says what would do: count (GPUs), cpu, memory or nodeSelector, such as {cpu: \"4\"}"))]
pub struct Alternative {
    /// How many GPUs each replica is given. Default: none, it runs on CPUs alone. Example: `1`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 64))]
    pub count: Option<u32>,
    /// The resource as nodes offer it. Default: `nvidia.com/gpu`, where `count` is given. Example: `amd.com/gpu`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 3, max = 253), regex(pattern = RESOURCE))]
    pub resource: Option<String>,
    /// CPUs that it asks for, in place of `container.resources`. Default: as there. Example: `"4"`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cpu: Option<Quantity>,
    /// Memory that it asks for, in place of `container.resources`. Default: as there. Example: `16Gi`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory: Option<Quantity>,
    /// Labels that the node must have, beside those of `placement`. Default: none. Example: `{pool: big}`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(schema_with = "texts::<63>")]
    pub node_selector: BTreeMap<String, String>,
    /// Taints that it bears, beside those of `placement`. A taint named as the resource is borne by itself. Default: none.
    /// Example: `[{key: gpu, operator: Exists}]`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    #[x_kube(merge_strategy = ListMerge::Atomic)]
    pub tolerations: Vec<Toleration>,
}

/// The resource of GPUs where none is named.
pub const GPU: &str = "nvidia.com/gpu";

/// A name with a domain.
pub(crate) const RESOURCE: &str = "^[a-z0-9]([-a-z0-9.]*[a-z0-9])?/[A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?$";

const fn one() -> u32 {
    1
}

fn resource() -> String {
    GPU.to_owned()
}

/// Which nodes replicas run on. Every field is Kubernetes' own, with its meaning there.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct Placement {
    /// Labels that the node must have. Default: none. Example: `{kubernetes.io/arch: amd64}`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(schema_with = "texts::<63>")]
    pub node_selector: BTreeMap<String, String>,
    /// Taints that it bears. Default: none. Example: `[{key: edge, operator: Exists, effect: NoSchedule}]`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    #[x_kube(merge_strategy = ListMerge::Atomic)]
    pub tolerations: Vec<Toleration>,
    /// Which nodes and which company it must or should have. Default: any.
    /// Example: `{nodeAffinity: {requiredDuringSchedulingIgnoredDuringExecution: {nodeSelectorTerms: [{matchExpressions: [{key: zone, operator: In, values: [a, b]}]}]}}}`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub affinity: Option<Affinity>,
    /// How evenly replicas are spread. Default: as the scheduler is set up.
    /// Example: `[{maxSkew: 1, topologyKey: kubernetes.io/hostname, whenUnsatisfiable: ScheduleAnyway}]`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 8))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["topologyKey".into(), "whenUnsatisfiable".into()]))]
    pub topology_spread: Vec<TopologySpread>,
    /// The `PriorityClass`. Default: that of the cluster. Example: `high`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    pub priority_class_name: Option<String>,
    /// The `RuntimeClass`. Default: that of the node. Example: `nvidia`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    pub runtime_class_name: Option<String>,
    /// The scheduler. Default: that of the cluster. Example: `kai-scheduler`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    pub scheduler_name: Option<String>,
    /// How long a replica may find no node before the next of `gpu.alternatives` is tried. A duration above zero; default `30s`. Example: `2m`.
    #[serde(default = "Placement::unschedulable_after")]
    pub unschedulable_after: Duration,
}

impl Placement {
    fn unschedulable_after() -> Duration {
        "30s".into()
    }
}

impl Default for Placement {
    fn default() -> Self {
        Self {
            node_selector: BTreeMap::new(),
            tolerations: Vec::new(),
            affinity: None,
            topology_spread: Vec::new(),
            priority_class_name: None,
            runtime_class_name: None,
            scheduler_name: None,
            unschedulable_after: Self::unschedulable_after(),
        }
    }
}

/// How a toleration is compared with a taint.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum TolerationOperator {
    /// The taint has the key, whatever its value.
    Exists,
    /// The taint has the key and the value.
    Equal,
}

/// What a taint does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum TaintEffect {
    /// No new pods.
    NoSchedule,
    /// No new pods where another node does.
    PreferNoSchedule,
    /// No pods.
    NoExecute,
}

/// A taint that a pod bears.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("has(self.key) || (has(self.operator) && self.operator == 'Exists')")
    .message("a toleration without key bears every taint: say so with operator: Exists, or give a key"))]
#[x_kube(validation = Rule::new("!has(self.value) || !has(self.operator) || self.operator != 'Exists'")
    .message("operator Exists bears any value; leave value out, or set operator: Equal"))]
#[x_kube(validation = Rule::new("!has(self.tolerationSeconds) || (has(self.effect) && self.effect == 'NoExecute')")
    .message("tolerationSeconds belongs to effect NoExecute"))]
pub struct Toleration {
    /// The taint's key. Default: every taint, with operator `Exists`. Example: `nvidia.com/gpu`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 316))]
    pub key: Option<String>,
    /// `Exists` or `Equal`. Default: `Equal`. Example: `Exists`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "TolerationOperator")]
    pub operator: Option<TolerationOperator>,
    /// The taint's value, for `Equal`. Default: empty. Example: `present`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 63))]
    pub value: Option<String>,
    /// `NoSchedule`, `PreferNoSchedule` or `NoExecute`. Default: each of them. Example: `NoSchedule`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "TaintEffect")]
    pub effect: Option<TaintEffect>,
    /// How long a `NoExecute` taint is borne, in seconds. Default: for ever. Example: `60`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 31_536_000))]
    pub toleration_seconds: Option<i64>,
}

/// What the scheduler does where replicas cannot be spread.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum WhenUnsatisfiable {
    /// It waits.
    DoNotSchedule,
    /// It places them all the same.
    ScheduleAnyway,
}

/// Whether nodes that a rule leaves out count for the spread.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum InclusionPolicy {
    /// Only nodes that the rule lets in count.
    Honor,
    /// All nodes count.
    Ignore,
}

/// How evenly the replicas of a widget are spread.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct TopologySpread {
    /// How many more replicas one domain may have than another. Example: `1`.
    #[schemars(range(min = 1, max = 1000))]
    pub max_skew: i32,
    /// The node label whose values are the domains. Example: `topology.kubernetes.io/zone`.
    #[schemars(length(min = 1, max = 316))]
    pub topology_key: String,
    /// `DoNotSchedule` waits for a place that keeps the rule, `ScheduleAnyway` only prefers one. Example: `ScheduleAnyway`.
    pub when_unsatisfiable: WhenUnsatisfiable,
    /// How many domains there must be at least. Default: any number. Example: `2`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 1000))]
    pub min_domains: Option<i32>,
    /// Whose pods are counted. Default: those of this widget. Example: `{matchLabels: {app.kubernetes.io/part-of: rag}}`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub label_selector: Option<LabelSelector>,
    /// Whether nodes that the affinity and selector leave out count. Default: `Honor`. Example: `Ignore`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "InclusionPolicy")]
    pub node_affinity_policy: Option<InclusionPolicy>,
    /// Whether nodes with taints that it does not bear count. Default: `Ignore`. Example: `Honor`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "InclusionPolicy")]
    pub node_taints_policy: Option<InclusionPolicy>,
}
