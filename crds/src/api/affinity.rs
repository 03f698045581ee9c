//! Kubernetes' affinity, field by field, within bounds.

use std::collections::BTreeMap;

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::text::texts;

/// Which nodes and which company pods must or should have.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct Affinity {
    /// Which nodes. Default: any. Example: `{preferredDuringSchedulingIgnoredDuringExecution: [{weight: 1, preference: {matchExpressions: [{key: disk, operator: In, values: [ssd]}]}}]}`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node_affinity: Option<NodeAffinity>,
    /// Near which pods. Default: any. Example: `{requiredDuringSchedulingIgnoredDuringExecution: [{topologyKey: kubernetes.io/hostname, labelSelector: {matchLabels: {app: cache}}}]}`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pod_affinity: Option<PodAffinity>,
    /// Away from which pods. Default: none. Example: `{requiredDuringSchedulingIgnoredDuringExecution: [{topologyKey: kubernetes.io/hostname, labelSelector: {matchLabels: {app: batch}}}]}`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pod_anti_affinity: Option<PodAffinity>,
}

/// Which nodes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct NodeAffinity {
    /// What a node must have. Default: nothing. Example: `{nodeSelectorTerms: [{matchExpressions: [{key: zone, operator: In, values: [a, b]}]}]}`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub required_during_scheduling_ignored_during_execution: Option<NodeSelector>,
    /// What a node should have, each with its weight. Default: nothing.
    /// Example: `[{weight: 1, preference: {matchExpressions: [{key: disk, operator: In, values: [ssd]}]}}]`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 8))]
    #[x_kube(merge_strategy = ListMerge::Atomic)]
    pub preferred_during_scheduling_ignored_during_execution: Vec<PreferredNode>,
}

/// Nodes that any of some terms fits.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct NodeSelector {
    /// The terms; one of them must fit. Example: `[{matchExpressions: [{key: zone, operator: In, values: [a, b]}]}]`.
    #[schemars(length(min = 1, max = 8))]
    #[x_kube(merge_strategy = ListMerge::Atomic)]
    pub node_selector_terms: Vec<NodeTerm>,
}

/// A preference for nodes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct PreferredNode {
    /// How much it counts beside the other preferences. Example: `10`.
    #[schemars(range(min = 1, max = 100))]
    pub weight: i32,
    /// Which nodes are meant. Example: `{matchExpressions: [{key: disk, operator: In, values: [ssd]}]}`.
    pub preference: NodeTerm,
}

/// What must be true of a node, all of it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct NodeTerm {
    /// About its labels. Default: nothing. Example: `[{key: zone, operator: In, values: [a, b]}]`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    #[x_kube(merge_strategy = ListMerge::Atomic)]
    pub match_expressions: Vec<NodeExpression>,
    /// About its fields, of which there is `metadata.name`. Default: nothing. Example: `[{key: metadata.name, operator: In, values: [node-1]}]`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    #[x_kube(merge_strategy = ListMerge::Atomic)]
    pub match_fields: Vec<NodeExpression>,
}

/// How a label of a node is compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum NodeOperator {
    /// It has one of the values.
    In,
    /// It has none of the values.
    NotIn,
    /// It is there.
    Exists,
    /// It is not there.
    DoesNotExist,
    /// It is a number above the value.
    Gt,
    /// It is a number below the value.
    Lt,
}

/// Something about a node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct NodeExpression {
    /// The label. Example: `zone`.
    #[schemars(length(min = 1, max = 316))]
    pub key: String,
    /// How it is compared. Example: `In`.
    pub operator: NodeOperator,
    /// With what: some for `In` and `NotIn`, one number for `Gt` and `Lt`. Default: nothing, for `Exists` and `DoesNotExist`. Example: `[a, b]`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64), inner(length(max = 253)))]
    #[x_kube(merge_strategy = ListMerge::Atomic)]
    pub values: Vec<String>,
}

/// Near, or away from, which pods.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct PodAffinity {
    /// What must be. Default: nothing. Example: `[{topologyKey: kubernetes.io/hostname, labelSelector: {matchLabels: {app: cache}}}]`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 8))]
    #[x_kube(merge_strategy = ListMerge::Atomic)]
    pub required_during_scheduling_ignored_during_execution: Vec<PodTerm>,
    /// What should be, each with its weight. Default: nothing.
    /// Example: `[{weight: 1, podAffinityTerm: {topologyKey: kubernetes.io/hostname, labelSelector: {matchLabels: {app: cache}}}}]`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 8))]
    #[x_kube(merge_strategy = ListMerge::Atomic)]
    pub preferred_during_scheduling_ignored_during_execution: Vec<PreferredPods>,
}

/// A preference for company.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct PreferredPods {
    /// How much it counts beside the other preferences. Example: `10`.
    #[schemars(range(min = 1, max = 100))]
    pub weight: i32,
    /// Which pods are meant. Example: `{topologyKey: kubernetes.io/hostname, labelSelector: {matchLabels: {app: cache}}}`.
    pub pod_affinity_term: PodTerm,
}

/// Some pods, and how near is near.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct PodTerm {
    /// The node label that nodes share which are near each other. Example: `kubernetes.io/hostname`.
    #[schemars(length(min = 1, max = 316))]
    pub topology_key: String,
    /// Which pods. Default: none. Example: `{matchLabels: {app: cache}}`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub label_selector: Option<LabelSelector>,
    /// Namespaces of the pods. Default: the widget's own. Example: `[shop]`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16), inner(length(min = 1, max = 63)))]
    #[x_kube(merge_strategy = ListMerge::Atomic)]
    pub namespaces: Vec<String>,
}

/// Objects with some labels.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct LabelSelector {
    /// Labels with their values, all of them. Default: any. Example: `{app: cache}`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(schema_with = "texts::<63>")]
    pub match_labels: BTreeMap<String, String>,
    /// What else must be true of the labels. Default: nothing. Example: `[{key: tier, operator: In, values: [front]}]`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    #[x_kube(merge_strategy = ListMerge::Atomic)]
    pub match_expressions: Vec<LabelExpression>,
}

/// How a label is compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum LabelOperator {
    /// It has one of the values.
    In,
    /// It has none of the values.
    NotIn,
    /// It is there.
    Exists,
    /// It is not there.
    DoesNotExist,
}

/// Something about a label.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct LabelExpression {
    /// The label. Example: `tier`.
    #[schemars(length(min = 1, max = 316))]
    pub key: String,
    /// How it is compared. Example: `In`.
    pub operator: LabelOperator,
    /// With what. Default: nothing, for `Exists` and `DoesNotExist`. Example: `[front]`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64), inner(length(max = 63)))]
    #[x_kube(merge_strategy = ListMerge::Atomic)]
    pub values: Vec<String>,
}
