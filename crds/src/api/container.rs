//! How a widget runs on a cluster: its container.

use std::collections::BTreeMap;

use kube::KubeSchema;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};

use super::text::{LABEL, VARIABLE, texts};

/// The container of each replica's pod.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("!self.wrapped || (has(self.command) && size(self.command) > 0)")
    .message("wrapped needs command: the shim starts what command says, and cannot read the image's own entry point"))]
#[x_kube(validation = Rule::new("!has(self.command) || size(self.command) == 0 || self.command[0] != ''")
    .message("command has an empty program as its first item; write one, or leave command out for the image's own"))]
pub struct Container {
    /// The image. Example: `registry.example.com/llm:1.4`.
    #[schemars(length(min = 1, max = 1024))]
    #[x_kube(validation = Rule::new("!self.matches('[ \\t\\n]')").message("an image has no spaces, such as registry.example.com/llm:1.4"))]
    pub image: String,
    /// When the node pulls it: `Always`, `IfNotPresent` or `Never`. Default: Kubernetes decides by the tag, `Always` for `latest`.
    /// Example: `IfNotPresent`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "PullPolicy")]
    pub image_pull_policy: Option<PullPolicy>,
    /// The program and its first arguments, in place of the image's entry point; no shell is involved. Needed where `wrapped`. Default: the
    /// image's own. Example: `[python3, /app/llm.py]`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 256), inner(length(max = 4096)))]
    #[x_kube(merge_strategy = ListMerge::Atomic)]
    pub command: Vec<String>,
    /// Arguments after `command`. Default: the image's own, or none where `command` is given. Example: `[--verbose]`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 256), inner(length(max = 4096)))]
    #[x_kube(merge_strategy = ListMerge::Atomic)]
    pub args: Vec<String>,
    /// The folder that it starts in. Default: the image's own. Example: `/app`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 4096))]
    pub working_dir: Option<String>,
    /// Whether Kontrol's shim starts `command` as its child, and so starts it again within milliseconds where the kubelet takes a second and, from
    /// the second end on, ten and more. Default `false`. Example: `true`.
    #[serde(default)]
    pub wrapped: bool,
    /// Additions to the environment. Default: none. Example: `[{name: MODEL, value: small}]`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 128))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".into()]))]
    pub env: Vec<ContainerVariable>,
    /// Config maps and secrets whose every key becomes a variable. Default: none. Example: `[{secretRef: {name: keys}}]`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    #[x_kube(merge_strategy = ListMerge::Atomic)]
    pub env_from: Vec<EnvFrom>,
    /// Ports that others may want to know of. The port of `endpoint` is there by itself. Default: none.
    /// Example: `[{name: page, containerPort: 8080}]`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["containerPort".into(), "protocol".into()]))]
    pub ports: Vec<ContainerPort>,
    /// What it asks the node for, and what it is kept within. GPUs are asked for by `gpu`. Default: nothing.
    /// Example: `{requests: {cpu: 500m, memory: 1Gi}, limits: {memory: 1Gi}}`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resources: Option<Resources>,
    /// Where the widget's `volumes` appear. Default: none. Example: `[{name: models, mountPath: /models, readOnly: true}]`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["mountPath".into()]))]
    pub volume_mounts: Vec<VolumeMount>,
    /// What it may do beyond the least. Default: what the Pod Security Standard `restricted` asks for, as user 65532 on a read-only root.
    /// Example: `{runAsUser: 1000}`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub security_context: Option<SecurityContext>,
}

/// When a node pulls an image.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum PullPolicy {
    /// Before each start.
    Always,
    /// Where the node has none.
    IfNotPresent,
    /// Never: the node has it, or the start fails.
    Never,
}

/// One variable of a container's environment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("!has(self.value) || !has(self.valueFrom)")
    .message("a variable has value or valueFrom, not both"))]
pub struct ContainerVariable {
    /// The variable's name: letters, digits and `_`, not starting with a digit. Names that start with `KONTROL_` belong to Kontrol. Example: `MODEL`.
    #[schemars(length(min = 1, max = 256), regex(pattern = VARIABLE))]
    #[x_kube(validation = Rule::new("!self.startsWith('KONTROL_')")
        .message("names that start with KONTROL_ are given by Kontrol itself; choose another name"))]
    pub name: String,
    /// The variable's value, as a text: quote numbers and booleans. `$(NAME)` is replaced by an earlier variable. Default: empty. Example: `"8"`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 32768))]
    pub value: Option<String>,
    /// Where the value is read from when the pod starts. Default: it is `value`. Example: `{secretKeyRef: {name: keys, key: token}}`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub value_from: Option<VariableSource>,
}

/// Where the value of a variable is read from.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("(has(self.secretKeyRef) ? 1 : 0) + (has(self.configMapKeyRef) ? 1 : 0) + (has(self.fieldRef) ? 1 : 0) == 1")
    .message("valueFrom is exactly one of secretKeyRef, configMapKeyRef and fieldRef"))]
pub struct VariableSource {
    /// A key of a Secret. Exactly one of `secretKeyRef`, `configMapKeyRef` and `fieldRef`. Example: `{name: keys, key: token}`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret_key_ref: Option<KeyRef>,
    /// A key of a `ConfigMap`. Exactly one of `secretKeyRef`, `configMapKeyRef` and `fieldRef`. Example: `{name: settings, key: model}`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub config_map_key_ref: Option<KeyRef>,
    /// A field of the pod itself. Exactly one of `secretKeyRef`, `configMapKeyRef` and `fieldRef`. Example: `{fieldPath: spec.nodeName}`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub field_ref: Option<FieldRef>,
}

/// A key of a Secret or `ConfigMap` of the same namespace.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct KeyRef {
    /// The object's name. Example: `keys`.
    #[schemars(length(min = 1, max = 253))]
    pub name: String,
    /// The key within it. Example: `token`.
    #[schemars(length(min = 1, max = 253))]
    pub key: String,
    /// Whether the pod starts without it where it is not there. Default: it waits. Example: `true`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub optional: Option<bool>,
}

/// A field of the pod.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct FieldRef {
    /// Its path: `metadata.name`, `metadata.namespace`, `metadata.uid`, `metadata.labels['…']`, `metadata.annotations['…']`, `spec.nodeName`,
    /// `spec.serviceAccountName`, `status.hostIP` or `status.podIP`. Example: `spec.nodeName`.
    #[schemars(length(min = 1, max = 512))]
    pub field_path: String,
}

/// An object whose every key becomes a variable.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("has(self.configMapRef) != has(self.secretRef)")
    .message("envFrom is exactly one of configMapRef and secretRef"))]
pub struct EnvFrom {
    /// What is put before each key. Default: nothing. Example: `MODEL_`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 256))]
    pub prefix: Option<String>,
    /// A `ConfigMap`. Exactly one of `configMapRef` and `secretRef`. Example: `{name: settings}`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub config_map_ref: Option<ObjectRef>,
    /// A Secret. Exactly one of `configMapRef` and `secretRef`. Example: `{name: keys}`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret_ref: Option<ObjectRef>,
}

/// A Secret or `ConfigMap` of the same namespace.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct ObjectRef {
    /// The object's name. Example: `settings`.
    #[schemars(length(min = 1, max = 253))]
    pub name: String,
    /// Whether the pod starts without it where it is not there. Default: it waits. Example: `true`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub optional: Option<bool>,
}

/// What is spoken at a port.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "UPPERCASE")]
pub enum Protocol {
    /// TCP.
    #[default]
    Tcp,
    /// UDP.
    Udp,
    /// SCTP.
    Sctp,
}

/// A port of a container.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct ContainerPort {
    /// Its name, for Services and monitors: at most 15 lower-case letters, digits and `-`. Default: none. Example: `page`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 15), regex(pattern = LABEL))]
    #[x_kube(validation = Rule::new("!self.startsWith('kontrol-') && self != 'http-endpoint'")
        .message("names of ports that start with kontrol-, and http-endpoint, are Kontrol's own; choose another name"))]
    pub name: Option<String>,
    /// The port. 7410 to 7413 are the sidecar's. Example: `8080`.
    #[schemars(range(min = 1, max = 65535))]
    #[x_kube(validation = Rule::new("self < 7410 || self > 7413")
        .message("ports 7410 to 7413 belong to the sidecar in the same pod; choose another"))]
    pub container_port: u16,
    /// What is spoken there: `TCP`, `UDP` or `SCTP`. Default `TCP`. Example: `UDP`.
    #[serde(default)]
    pub protocol: Protocol,
}

/// What a container asks the node for, and what it is kept within.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct Resources {
    /// What the scheduler keeps free for it, by resource. Default: as `limits`. Example: `{cpu: 500m, memory: 1Gi}`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(schema_with = "quantities")]
    pub requests: BTreeMap<String, Quantity>,
    /// What it may use at most, by resource; beyond its memory it is ended (`OutOfMemory`). Default: no limits. Example: `{memory: 1Gi}`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(schema_with = "quantities")]
    pub limits: BTreeMap<String, Quantity>,
}

fn quantities(generator: &mut SchemaGenerator) -> Schema {
    let quantity = Quantity::json_schema(generator);
    json_schema!({"type": "object", "additionalProperties": quantity, "maxProperties": 16})
}

/// An amount of a resource as Kubernetes writes it: a whole number, or a text such as `500m`, `0.5` or `1Gi`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(untagged)]
pub enum Quantity {
    /// A whole number.
    Whole(u64),
    /// A number with decimals or a unit.
    Text(String),
}

/// What Kubernetes reads as a quantity, without a sign.
pub(crate) const QUANTITY: &str =
    "^([0-9]+(\\.[0-9]*)?|\\.[0-9]+)(([KMGTPE]i)|[numkMGTPE]|([eE][+-]?[0-9]+))?$";

impl From<&str> for Quantity {
    fn from(text: &str) -> Self {
        Self::Text(text.to_owned())
    }
}

impl std::fmt::Display for Quantity {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Whole(number) => write!(f, "{number}"),
            Self::Text(text) => f.write_str(text),
        }
    }
}

/// Always as a text, so that `1` and `"1"` are the same to whoever reads or hashes it.
impl Serialize for Quantity {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl JsonSchema for Quantity {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Quantity".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "x-kubernetes-int-or-string": true,
            "pattern": QUANTITY,
            "minimum": 0,
            "maxLength": 32,
        })
    }
}

/// Where a volume appears in the container.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct VolumeMount {
    /// The name of one of the widget's `volumes`. Example: `models`.
    #[schemars(length(min = 1, max = 63), regex(pattern = LABEL))]
    pub name: String,
    /// The folder, or the file where `subPath` names one. Example: `/models`.
    #[schemars(length(min = 1, max = 1024))]
    #[x_kube(validation = Rule::new("self.startsWith('/') && !self.contains(':')")
        .message("mountPath starts with '/' and has no ':', such as /models"))]
    #[x_kube(validation = Rule::new("!(self == '/kontrol' || self.startsWith('/kontrol/') || self == '/run/kontrol' || self.startsWith('/run/kontrol/'))")
        .message("/kontrol and /run/kontrol are Kontrol's own folders; mount the volume elsewhere"))]
    pub mount_path: String,
    /// A file or folder within the volume. Default: the volume as a whole. Example: `llm/weights`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 1024))]
    pub sub_path: Option<String>,
    /// Whether it cannot be written. Default `false`. Example: `true`.
    #[serde(default)]
    pub read_only: bool,
}

/// What a container may do. What is not here stays as the Pod Security Standard `restricted` asks for.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("!has(self.runAsUser) || self.runAsUser != 0 || (has(self.runAsNonRoot) && !self.runAsNonRoot)")
    .message("runAsUser: 0 is root; say runAsNonRoot: false as well (a namespace under the restricted standard refuses such a pod), or choose another user"))]
pub struct SecurityContext {
    /// The user's number. Default: 65532, as the sidecar. Example: `1000`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 4_294_967_295_i64))]
    pub run_as_user: Option<i64>,
    /// The group's number. Default: 65532. Example: `1000`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 4_294_967_295_i64))]
    pub run_as_group: Option<i64>,
    /// Whether the node refuses to run it as root. `false` leaves the Pod Security Standard `restricted`: the image's own user runs, root
    /// as well. Default: it refuses. Example: `false`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub run_as_non_root: Option<bool>,
    /// Whether its root is read-only; write into volumes then. Default: it is. Example: `false`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub read_only_root_filesystem: Option<bool>,
    /// Capabilities that are given in spite of the drop of all. `NET_BIND_SERVICE` alone is within the standard `restricted`. Default: none.
    /// Example: `[NET_BIND_SERVICE]`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16), inner(length(min = 1, max = 64)))]
    #[x_kube(merge_strategy = ListMerge::Atomic)]
    pub add_capabilities: Vec<String>,
    /// The group that volumes belong to, and every process of the pod with them. Default: 65532. Example: `2000`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 4_294_967_295_i64))]
    pub fs_group: Option<i64>,
}

/// Additions to each pod's metadata.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct PodMetadata {
    /// Labels. Those of `kontrol.dev/` and `app.kubernetes.io/` that Kontrol sets itself stay its own. Default: none. Example: `{team: search}`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(schema_with = "texts::<63>")]
    #[x_kube(validation = Rule::new("self.all(key, !key.startsWith('kontrol.dev/'))")
        .message("labels of kontrol.dev/ are Kontrol's own; choose another prefix"))]
    pub labels: BTreeMap<String, String>,
    /// Annotations. Those of `kontrol.dev/` are Kontrol's own. Default: none. Example: `{prometheus.io/scrape: "true"}`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(schema_with = "texts::<4096>")]
    #[x_kube(validation = Rule::new("self.all(key, !key.startsWith('kontrol.dev/'))")
        .message("annotations of kontrol.dev/ are Kontrol's own; choose another prefix"))]
    pub annotations: BTreeMap<String, String>,
}

/// A Secret with the key of a registry.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct PullSecret {
    /// The Secret's name. Example: `registry`.
    #[schemars(length(min = 1, max = 253))]
    pub name: String,
}
