//! The kinds that the server knows: those built in, and one for each `CustomResourceDefinition`.

use std::{any::TypeId, sync::Arc};

use k8s_openapi::{
    NamespaceResourceScope,
    api::{
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
    },
    apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition,
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

impl Scale {
    /// Where the built-in kinds keep it.
    fn of_replicas() -> Self {
        let path = |of: &str| vec![of.to_owned(), "replicas".to_owned()];
        Self { spec: path("spec"), status: path("status"), selector: None }
    }
}

/// What a `CustomResourceDefinition` says.
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
    let with_status = [
        of::<v1::Namespace>,
        of::<v1::Node>,
        of::<v1::Pod>,
        of::<v1::Service>,
        of::<v1::PersistentVolumeClaim>,
        of::<v1::PersistentVolume>,
        of::<v1::ResourceQuota>,
        of::<DaemonSet>,
        of::<HorizontalPodAutoscaler>,
        of::<PodDisruptionBudget>,
        of::<ValidatingAdmissionPolicy>,
    ];
    let without = [
        of::<v1::Endpoints>,
        of::<v1::ConfigMap>,
        of::<v1::Secret>,
        of::<v1::ServiceAccount>,
        of::<v1::Event>,
        of::<Event>,
        of::<ControllerRevision>,
        of::<Lease>,
        of::<NetworkPolicy>,
        of::<PriorityClass>,
        of::<StorageClass>,
        of::<ClusterRole>,
        of::<ClusterRoleBinding>,
        of::<Role>,
        of::<RoleBinding>,
        of::<ValidatingAdmissionPolicyBinding>,
    ];
    let scaled = [of::<Deployment>, of::<ReplicaSet>, of::<StatefulSet>];
    // Definitions are read with what their types do not know.
    let definition = Resource { typed: None, ..of::<CustomResourceDefinition>(&shape, true) };
    let scaled = scaled.map(|of| Resource { scale: Some(Scale::of_replicas()), ..of(&shape, true) });
    let with_status = with_status.map(|of| of(&shape, true));
    let without = without.map(|of| of(&shape, false));
    [definition].into_iter().chain(with_status).chain(without).chain(scaled).collect()
}

/// A built-in kind, as its type says.
fn of<T>(shape: &Arc<Value>, status: bool) -> Resource
where
    T: k8s_openapi::Resource<Scope: 'static> + Serialize + DeserializeOwned,
{
    Resource {
        group: T::GROUP.to_owned(),
        version: T::VERSION.to_owned(),
        kind: T::KIND.to_owned(),
        plural: T::URL_PATH_SEGMENT.to_owned(),
        short_names: Vec::new(),
        namespaced: TypeId::of::<T::Scope>() == TypeId::of::<NamespaceResourceScope>(),
        status,
        scale: None,
        custom: None,
        typed: Some(typed::<T>),
        shape: Arc::clone(shape),
    }
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
