//! The kinds that the server knows: those built in, and one for each CustomResourceDefinition.

use std::sync::Arc;

use k8s_openapi::api::{
    admissionregistration::v1::{ValidatingAdmissionPolicy, ValidatingAdmissionPolicyBinding},
    apps::v1::{ControllerRevision, DaemonSet, Deployment, ReplicaSet, StatefulSet},
    autoscaling::v2::HorizontalPodAutoscaler,
    coordination::v1::Lease,
    core::v1,
    events::v1::Event,
    networking::v1::NetworkPolicy,
    policy::v1::PodDisruptionBudget,
    rbac::v1::{ClusterRole, ClusterRoleBinding, Role, RoleBinding},
    scheduling::v1::PriorityClass,
    storage::v1::StorageClass,
};
use kube_cel::{CompiledSchema, compile_schema};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::{Value, json};

/// Reads an object as its type, and gives it back with nothing but what the type has.
type Typed = fn(&Value) -> Result<Value, String>;

/// One kind and its paths.
pub(crate) struct Resource {
    pub(crate) group: String,
    pub(crate) version: String,
    pub(crate) kind: String,
    pub(crate) plural: String,
    pub(crate) short_names: Vec<String>,
    pub(crate) namespaced: bool,
    pub(crate) status: bool,
    pub(crate) scale: Option<Scale>,
    pub(crate) custom: Option<Custom>,
    pub(crate) typed: Option<Typed>,
    /// The schema that says which lists are maps, for server-side apply.
    pub(crate) shape: Arc<Value>,
}

/// Paths of the scale subresource, from the object's root.
pub(crate) struct Scale {
    pub(crate) spec: Vec<String>,
    pub(crate) status: Vec<String>,
    pub(crate) selector: Option<Vec<String>>,
}

/// What a CustomResourceDefinition says.
pub(crate) struct Custom {
    pub(crate) schema: Arc<Value>,
    pub(crate) rules: CompiledSchema,
}

impl Resource {
    /// `pods`, `widgets.kontrol.dev`.
    pub(crate) fn id(&self) -> String {
        if self.group.is_empty() { self.plural.clone() } else { format!("{}.{}", self.plural, self.group) }
    }

    /// `v1`, `kontrol.dev/v1alpha1`.
    pub(crate) fn api_version(&self) -> String {
        if self.group.is_empty() { self.version.clone() } else { format!("{}/{}", self.group, self.version) }
    }

    /// The resource that a definition stands for.
    pub(crate) fn custom(definition: &Value) -> Option<Self> {
        let spec = &definition["spec"];
        let version = spec["versions"].as_array()?.iter().find(|version| version["storage"] == true)?;
        let text = |value: &Value| value.as_str().map(str::to_owned);
        let path = |value: &Value| {
            value.as_str().map(|path| path.trim_start_matches('.').split('.').map(str::to_owned).collect())
        };
        let scale = &version["subresources"]["scale"];
        let mut schema = version["schema"]["openAPIV3Schema"].clone();
        schema["properties"]["metadata"] = metadata();
        schema["properties"]["apiVersion"] = json!({"type": "string"});
        schema["properties"]["kind"] = json!({"type": "string"});
        let schema = Arc::new(schema);
        Some(Self {
            group: text(&spec["group"])?,
            version: text(&version["name"])?,
            kind: text(&spec["names"]["kind"])?,
            plural: text(&spec["names"]["plural"])?,
            short_names: spec["names"]["shortNames"]
                .as_array()
                .into_iter()
                .flatten()
                .filter_map(text)
                .collect(),
            namespaced: spec["scope"] == "Namespaced",
            status: version["subresources"]["status"].is_object(),
            scale: path(&scale["specReplicasPath"])
                .zip(path(&scale["statusReplicasPath"]))
                .map(|(spec, status)| Scale { spec, status, selector: path(&scale["labelSelectorPath"]) }),
            custom: Some(Custom { rules: compile_schema(&schema), schema: Arc::clone(&schema) }),
            typed: None,
            shape: schema,
        })
    }
}

fn typed<T: Serialize + DeserializeOwned>(value: &Value) -> Result<Value, String> {
    let read: T = serde_json::from_value(value.clone()).map_err(|error| error.to_string())?;
    serde_json::to_value(read).map_err(|error| error.to_string())
}

/// The kinds that every cluster has, as far as Kontrol and its tests meet them.
pub(crate) fn built_in() -> Vec<Resource> {
    let shape = Arc::new(shape());
    let one =
        |group: &str, version: &str, kind: &str, plural: &str, namespaced, status, typed: Typed| Resource {
            group: group.to_owned(),
            version: version.to_owned(),
            kind: kind.to_owned(),
            plural: plural.to_owned(),
            short_names: Vec::new(),
            namespaced,
            status,
            scale: None,
            custom: None,
            typed: Some(typed),
            shape: Arc::clone(&shape),
        };
    let scaled = |mut resource: Resource| {
        let path = |text: &str| text.split('.').map(str::to_owned).collect();
        resource.scale =
            Some(Scale { spec: path("spec.replicas"), status: path("status.replicas"), selector: None });
        resource
    };
    let (apps, rbac) = ("apps", "rbac.authorization.k8s.io");
    let admission = "admissionregistration.k8s.io";
    let definition = Resource {
        typed: None,
        ..one(
            "apiextensions.k8s.io",
            "v1",
            "CustomResourceDefinition",
            "customresourcedefinitions",
            false,
            true,
            |value| Ok(value.clone()),
        )
    };
    vec![
        definition,
        one("", "v1", "Namespace", "namespaces", false, true, typed::<v1::Namespace>),
        one("", "v1", "Node", "nodes", false, true, typed::<v1::Node>),
        one("", "v1", "Pod", "pods", true, true, typed::<v1::Pod>),
        one("", "v1", "Service", "services", true, true, typed::<v1::Service>),
        one("", "v1", "Endpoints", "endpoints", true, false, typed::<v1::Endpoints>),
        one("", "v1", "ConfigMap", "configmaps", true, false, typed::<v1::ConfigMap>),
        one("", "v1", "Secret", "secrets", true, false, typed::<v1::Secret>),
        one("", "v1", "ServiceAccount", "serviceaccounts", true, false, typed::<v1::ServiceAccount>),
        one(
            "",
            "v1",
            "PersistentVolumeClaim",
            "persistentvolumeclaims",
            true,
            true,
            typed::<v1::PersistentVolumeClaim>,
        ),
        one("", "v1", "PersistentVolume", "persistentvolumes", false, true, typed::<v1::PersistentVolume>),
        one("", "v1", "ResourceQuota", "resourcequotas", true, true, typed::<v1::ResourceQuota>),
        one("", "v1", "Event", "events", true, false, typed::<v1::Event>),
        one("events.k8s.io", "v1", "Event", "events", true, false, typed::<Event>),
        one(
            apps,
            "v1",
            "ControllerRevision",
            "controllerrevisions",
            true,
            false,
            typed::<ControllerRevision>,
        ),
        scaled(one(apps, "v1", "Deployment", "deployments", true, true, typed::<Deployment>)),
        scaled(one(apps, "v1", "ReplicaSet", "replicasets", true, true, typed::<ReplicaSet>)),
        scaled(one(apps, "v1", "StatefulSet", "statefulsets", true, true, typed::<StatefulSet>)),
        one(apps, "v1", "DaemonSet", "daemonsets", true, true, typed::<DaemonSet>),
        one(
            "autoscaling",
            "v2",
            "HorizontalPodAutoscaler",
            "horizontalpodautoscalers",
            true,
            true,
            typed::<HorizontalPodAutoscaler>,
        ),
        one("coordination.k8s.io", "v1", "Lease", "leases", true, false, typed::<Lease>),
        one(
            "policy",
            "v1",
            "PodDisruptionBudget",
            "poddisruptionbudgets",
            true,
            true,
            typed::<PodDisruptionBudget>,
        ),
        one(
            "networking.k8s.io",
            "v1",
            "NetworkPolicy",
            "networkpolicies",
            true,
            false,
            typed::<NetworkPolicy>,
        ),
        one(
            "scheduling.k8s.io",
            "v1",
            "PriorityClass",
            "priorityclasses",
            false,
            false,
            typed::<PriorityClass>,
        ),
        one("storage.k8s.io", "v1", "StorageClass", "storageclasses", false, false, typed::<StorageClass>),
        one(rbac, "v1", "ClusterRole", "clusterroles", false, false, typed::<ClusterRole>),
        one(
            rbac,
            "v1",
            "ClusterRoleBinding",
            "clusterrolebindings",
            false,
            false,
            typed::<ClusterRoleBinding>,
        ),
        one(rbac, "v1", "Role", "roles", true, false, typed::<Role>),
        one(rbac, "v1", "RoleBinding", "rolebindings", true, false, typed::<RoleBinding>),
        one(
            admission,
            "v1",
            "ValidatingAdmissionPolicy",
            "validatingadmissionpolicies",
            false,
            true,
            typed::<ValidatingAdmissionPolicy>,
        ),
        one(
            admission,
            "v1",
            "ValidatingAdmissionPolicyBinding",
            "validatingadmissionpolicybindings",
            false,
            false,
            typed::<ValidatingAdmissionPolicyBinding>,
        ),
    ]
}

fn list_map(keys: &[&str], properties: &Value) -> Value {
    json!({
        "type": "array", "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": keys,
        "items": {"type": "object", "x-kubernetes-preserve-unknown-fields": true, "properties": properties},
    })
}

/// The lists of every object's metadata that are not atomic.
fn metadata() -> Value {
    json!({
        "type": "object", "x-kubernetes-preserve-unknown-fields": true,
        "properties": {
            "ownerReferences": list_map(&["uid"], &json!({})),
            "finalizers": {"type": "array", "x-kubernetes-list-type": "set", "items": {"type": "string"}},
        },
    })
}

/// The lists of built-in objects that are not atomic. Names do not clash, so one shape serves all kinds.
fn shape() -> Value {
    let container = json!({
        "env": list_map(&["name"], &json!({})),
        "ports": list_map(&["containerPort", "protocol"], &json!({})),
        "volumeMounts": list_map(&["mountPath"], &json!({})),
        "volumeDevices": list_map(&["devicePath"], &json!({})),
    });
    let pod = json!({
        "containers": list_map(&["name"], &container),
        "initContainers": list_map(&["name"], &container),
        "volumes": list_map(&["name"], &json!({})),
        "imagePullSecrets": list_map(&["name"], &json!({})),
        "hostAliases": list_map(&["ip"], &json!({})),
        "resourceClaims": list_map(&["name"], &json!({})),
        "schedulingGates": list_map(&["name"], &json!({})),
        "topologySpreadConstraints": list_map(&["topologyKey", "whenUnsatisfiable"], &json!({})),
        "ports": list_map(&["port", "protocol"], &json!({})),
    });
    json!({
        "type": "object",
        "properties": {
            "metadata": metadata(),
            "spec": {"type": "object", "properties": pod},
            "status": {"type": "object", "properties": {"conditions": list_map(&["type"], &json!({}))}},
        },
    })
}
