//! Where messages live.

use std::collections::BTreeMap;

use kube::{CustomResource, KubeSchema};
use serde::{Deserialize, Serialize};

use super::{MessageBusStatus, PullSecret, Resources, Size, Toleration, text::texts};

/// Where messages live.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, CustomResource, KubeSchema)]
#[kube(
    group = "kontrol.dev",
    version = "v1alpha1",
    kind = "MessageBus",
    plural = "messagebuses",
    shortname = "kmb",
    category = "kontrol",
    namespaced,
    status = "MessageBusStatus",
    derive = "PartialEq",
    doc = "Where messages live. The bus named `default` exists without being declared.",
    printcolumn(name = "Size", type_ = "string", json_path = ".spec.embedded.storage.size", description = "Bytes that its log may take."),
    printcolumn(name = "Status", type_ = "string", json_path = ".status.conditions[?(@.type=='Ready')].reason", description = "Why it is ready or not."),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    validation = Rule::new("size(self.metadata.name) <= 63").message("the name of a bus has at most 63 characters")
)]
#[serde(rename_all = "camelCase")]
pub struct MessageBusSpec {
    /// The hub that comes with Kontrol: one durable log on one machine. Default: `{}`. Example: `{storage: {size: 1Gi}}`.
    #[serde(default)]
    pub embedded: Embedded,
}

/// The hub that comes with Kontrol. What is said of its pod holds from the next pod on: one that runs is left as it is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct Embedded {
    /// The storage of its log. Default: the defaults of its fields. Example: `{size: 1Gi, segmentSize: 16Mi}`.
    #[serde(default)]
    pub storage: Storage,
    /// Secrets with the keys of registries, for its pod in a cluster. Default: those of the service account. Example: `[{name: registry}]`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".into()]))]
    pub image_pull_secrets: Vec<PullSecret>,
    /// Labels that its node in a cluster must have. Default: none. Example: `{kubernetes.io/arch: amd64}`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(schema_with = "texts::<63>")]
    pub node_selector: BTreeMap<String, String>,
    /// Taints that it bears. Default: none. Example: `[{key: storage, operator: Exists, effect: NoSchedule}]`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    #[x_kube(merge_strategy = ListMerge::Atomic)]
    pub tolerations: Vec<Toleration>,
    /// The `PriorityClass` of its pod. Default: that of the cluster. Example: `high`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    pub priority_class_name: Option<String>,
    /// What it asks its node for, and what it is kept within. Default: `{requests: {cpu: 10m, memory: 16Mi}, limits: {memory: 512Mi}}`.
    /// Example: `{requests: {memory: 1Gi}, limits: {memory: 1Gi}}`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resources: Option<Resources>,
}

/// The storage of the embedded hub.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct Storage {
    /// What its log may take, in bytes; a publish beyond it is refused. At least four segments; default `10Gi`. Example: `1Gi`.
    #[serde(default = "Storage::size")]
    pub size: Size,
    /// The size of one segment, in bytes: the unit in which space is given back. From `64Ki` to `1Gi`, and at least eight times
    /// the largest message; default `64Mi`. Example: `16Mi`.
    #[serde(default = "Storage::segment_size")]
    pub segment_size: Size,
    /// The `StorageClass` of the claim that a cluster keeps it on; the local world has a folder. Default: that of the cluster. Example: `fast`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    pub storage_class_name: Option<String>,
}

impl Storage {
    fn size() -> Size {
        "10Gi".into()
    }

    fn segment_size() -> Size {
        "64Mi".into()
    }
}

impl Default for Storage {
    fn default() -> Self {
        Self { size: Self::size(), segment_size: Self::segment_size(), storage_class_name: None }
    }
}
