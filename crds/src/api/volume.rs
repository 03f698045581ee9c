//! What a pod can mount. Everything is by reference: Kontrol makes no claim, Secret or `ConfigMap` for a widget.

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{PullPolicy, Quantity, text::LABEL};

/// A volume of the pod, in exactly one form.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("(has(self.emptyDir) ? 1 : 0) + (has(self.configMap) ? 1 : 0) + (has(self.secret) ? 1 : 0) + (has(self.projected) ? 1 : 0) + (has(self.persistentVolumeClaim) ? 1 : 0) + (has(self.image) ? 1 : 0) == 1")
    .message("a volume is exactly one of emptyDir, configMap, secret, projected, persistentVolumeClaim and image"))]
pub struct Volume {
    /// Its name, for `volumeMounts`. Names that start with `kontrol-` are Kontrol's own. Example: `models`.
    #[schemars(length(min = 1, max = 63), regex(pattern = LABEL))]
    #[x_kube(validation = Rule::new("!self.startsWith('kontrol-')")
        .message("names of volumes that start with kontrol- are Kontrol's own; choose another name"))]
    pub name: String,
    /// A folder that lives as long as the pod. Exactly one of the forms. Example: `{sizeLimit: 1Gi}`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub empty_dir: Option<EmptyDir>,
    /// The keys of a `ConfigMap`, as files. Exactly one of the forms. Example: `{name: settings}`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub config_map: Option<ConfigMapVolume>,
    /// The keys of a Secret, as files. Exactly one of the forms. Example: `{secretName: keys}`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret: Option<SecretVolume>,
    /// Several sources in one folder. Exactly one of the forms. Example: `{sources: [{secret: {name: keys}}]}`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub projected: Option<Projected>,
    /// A claim that somebody made. Exactly one of the forms. Example: `{claimName: models}`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub persistent_volume_claim: Option<ClaimVolume>,
    /// The content of an image, read-only (Kubernetes 1.35 or newer, or the gate `ImageVolume`). Exactly one of the forms.
    /// Example: `{reference: registry.example.com/weights:7b}`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image: Option<ImageVolume>,
}

/// Where an `emptyDir` lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Medium {
    /// In memory, which counts for the memory of who writes it.
    Memory,
}

/// A folder that lives as long as the pod.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct EmptyDir {
    /// `Memory` keeps it in memory. Default: on the node's disk. Example: `Memory`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Medium")]
    pub medium: Option<Medium>,
    /// What it may take; beyond it the pod is evicted. Default: no limit. Example: `1Gi`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub size_limit: Option<Quantity>,
}

/// A key and the file that it becomes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct KeyFile {
    /// The key. Example: `model.json`.
    #[schemars(length(min = 1, max = 253))]
    pub key: String,
    /// The file, relative to the mount. Example: `config/model.json`.
    #[schemars(length(min = 1, max = 1024))]
    pub path: String,
    /// The file's permissions, as a number: 256 is 0400. Default: that of the volume. Example: `256`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 511))]
    pub mode: Option<i32>,
}

/// The keys of a `ConfigMap`, as files.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct ConfigMapVolume {
    /// The `ConfigMap`'s name. Example: `settings`.
    #[schemars(length(min = 1, max = 253))]
    pub name: String,
    /// The keys that appear, and where. Default: all, under their own names. Example: `[{key: model.json, path: model.json}]`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64))]
    #[x_kube(merge_strategy = ListMerge::Atomic)]
    pub items: Vec<KeyFile>,
    /// The files' permissions, as a number: 292 is 0444. Default: 420, which is 0644. Example: `292`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 511))]
    pub default_mode: Option<i32>,
    /// Whether the pod starts without it where it is not there. Default: it waits. Example: `true`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub optional: Option<bool>,
}

/// The keys of a Secret, as files.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct SecretVolume {
    /// The Secret's name. Example: `keys`.
    #[schemars(length(min = 1, max = 253))]
    pub secret_name: String,
    /// The keys that appear, and where. Default: all, under their own names. Example: `[{key: token, path: token}]`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64))]
    #[x_kube(merge_strategy = ListMerge::Atomic)]
    pub items: Vec<KeyFile>,
    /// The files' permissions, as a number: 288 is 0440. Default: 420, which is 0644. Example: `288`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 511))]
    pub default_mode: Option<i32>,
    /// Whether the pod starts without it where it is not there. Default: it waits. Example: `true`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub optional: Option<bool>,
}

/// Several sources in one folder.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct Projected {
    /// The sources; a later file replaces an earlier one of the same path. Example: `[{secret: {name: keys}}]`.
    #[schemars(length(min = 1, max = 16))]
    #[x_kube(merge_strategy = ListMerge::Atomic)]
    pub sources: Vec<ProjectedSource>,
    /// The files' permissions, as a number: 288 is 0440. Default: 420, which is 0644. Example: `288`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 511))]
    pub default_mode: Option<i32>,
}

/// One source of a projected volume.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("(has(self.configMap) ? 1 : 0) + (has(self.secret) ? 1 : 0) + (has(self.serviceAccountToken) ? 1 : 0) == 1")
    .message("a projected source is exactly one of configMap, secret and serviceAccountToken"))]
pub struct ProjectedSource {
    /// A `ConfigMap`. Exactly one of `configMap`, `secret` and `serviceAccountToken`. Example: `{name: settings}`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub config_map: Option<ProjectedObject>,
    /// A Secret. Exactly one of `configMap`, `secret` and `serviceAccountToken`. Example: `{name: keys}`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret: Option<ProjectedObject>,
    /// A token of the pod's service account for somebody else. Exactly one of `configMap`, `secret` and `serviceAccountToken`.
    /// Example: `{audience: vault, path: token}`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service_account_token: Option<ProjectedToken>,
}

/// A Secret or `ConfigMap` within a projected volume.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct ProjectedObject {
    /// The object's name. Example: `keys`.
    #[schemars(length(min = 1, max = 253))]
    pub name: String,
    /// The keys that appear, and where. Default: all, under their own names. Example: `[{key: token, path: token}]`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64))]
    #[x_kube(merge_strategy = ListMerge::Atomic)]
    pub items: Vec<KeyFile>,
    /// Whether the pod starts without it where it is not there. Default: it waits. Example: `true`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub optional: Option<bool>,
}

/// A service account token for a named reader.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct ProjectedToken {
    /// Who may read it. `kontrol.dev` is the sidecar's own. Example: `vault`.
    #[schemars(length(min = 1, max = 253))]
    #[x_kube(validation = Rule::new("self != 'kontrol.dev'")
        .message("a token for kontrol.dev would let the widget pass for its sidecar; name another audience"))]
    pub audience: String,
    /// The file, relative to the mount. Example: `token`.
    #[schemars(length(min = 1, max = 1024))]
    pub path: String,
    /// How long it is valid, in seconds; it is renewed in time. Default: 3600. Example: `7200`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 600, max = 4_294_967_296_i64))]
    pub expiration_seconds: Option<i64>,
}

/// A claim of the same namespace.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct ClaimVolume {
    /// The claim's name. All replicas mount the same one. Example: `models`.
    #[schemars(length(min = 1, max = 253))]
    pub claim_name: String,
    /// Whether it cannot be written. Default `false`. Example: `true`.
    #[serde(default)]
    pub read_only: bool,
}

/// The content of an image.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct ImageVolume {
    /// The image. Example: `registry.example.com/weights:7b`.
    #[schemars(length(min = 1, max = 1024))]
    pub reference: String,
    /// When the node pulls it: `Always`, `IfNotPresent` or `Never`. Default: Kubernetes decides by the tag, `Always` for `latest`.
    /// Example: `IfNotPresent`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "PullPolicy")]
    pub pull_policy: Option<PullPolicy>,
}
