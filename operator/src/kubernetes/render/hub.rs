//! The hub of a message bus: one pod on one claim.

use std::collections::BTreeMap;

use k8s_openapi::{
    api::core::v1::{
        Container, LocalObjectReference, PersistentVolumeClaim, PersistentVolumeClaimSpec,
        PersistentVolumeClaimVolumeSource, Pod, PodSpec, Service, ServicePort, ServiceSpec, Toleration,
        Volume, VolumeResourceRequirements,
    },
    apimachinery::pkg::{api::resource::Quantity, apis::meta::v1::ObjectMeta, util::intstr::IntOrString},
};
use kontrol_core::spec;
use kontrol_crds as api;

use super::{
    Owner, Settings, names,
    placement::{self, same},
    security, sidecar,
};

/// The folder of the log.
const FOLDER: &str = "/var/lib/kontrol-hub";
const DATA: &str = "data";

/// What the pod of a hub is rendered from.
#[derive(Clone, Copy, Debug)]
pub struct HubInput<'a> {
    /// What is the same for all pods.
    pub settings: &'a Settings,
    /// The namespace of the bus.
    pub namespace: &'a str,
    /// The bus.
    pub bus: &'a str,
    /// The `MessageBus`; none for the bus that exists without being declared.
    pub owner: Option<&'a Owner>,
    /// What is declared of the hub.
    pub spec: &'a api::Embedded,
    /// The number of this pod among those of the bus.
    pub incarnation: u64,
}

fn metadata(namespace: &str, bus: &str, name: String, owner: Option<&Owner>) -> ObjectMeta {
    ObjectMeta {
        name: Some(name),
        namespace: Some(namespace.to_owned()),
        labels: Some(names::hub_labels(bus)),
        owner_references: owner.map(names::owned_by),
        ..ObjectMeta::default()
    }
}

/// The pod of a hub.
pub fn hub_pod(input: &HubInput<'_>) -> Pod {
    let spec = input.spec;
    let name = names::hub_pod(input.bus, input.incarnation);
    let mut metadata = metadata(input.namespace, input.bus, name, input.owner);
    let labels = metadata.labels.get_or_insert_default();
    labels.insert("kontrol.dev/incarnation".to_owned(), input.incarnation.to_string());
    let mut env = vec![
        sidecar::variable("KONTROL_HUB_DIR", FOLDER),
        sidecar::variable("KONTROL_SUBJECT", format!("{}/hub/{}", input.namespace, input.bus)),
    ];
    env.extend(sidecar::joining(input.settings));
    let mut mounts = vec![sidecar::mount(DATA, FOLDER, false)];
    mounts.extend(sidecar::identity_mounts());
    let container = Container {
        name: names::HUB.to_owned(),
        image: Some(input.settings.sidecar_image.clone()),
        args: Some(vec!["hub".to_owned()]),
        env: Some(env),
        ports: Some(sidecar::ports()),
        readiness_probe: Some(sidecar::probe("/readyz", 2, 2)),
        liveness_probe: Some(sidecar::probe("/healthz", 10, 6)),
        resources: Some(
            spec.resources.as_ref().map_or_else(|| sidecar::resources("512Mi"), placement::declared),
        ),
        security_context: Some(security::of_ours()),
        volume_mounts: Some(mounts),
        termination_message_policy: Some("FallbackToLogsOnError".to_owned()),
        ..Container::default()
    };
    let claim = PersistentVolumeClaimVolumeSource { claim_name: names::hub(input.bus), read_only: None };
    let mut volumes =
        vec![Volume { name: DATA.to_owned(), persistent_volume_claim: Some(claim), ..Volume::default() }];
    volumes.extend(sidecar::identity_volumes());
    let secrets: Vec<LocalObjectReference> = spec.image_pull_secrets.iter().map(same).collect();
    let tolerations: Vec<Toleration> = spec.tolerations.iter().map(same).collect();
    Pod {
        metadata,
        spec: Some(PodSpec {
            containers: vec![container],
            volumes: Some(volumes),
            image_pull_secrets: (!secrets.is_empty()).then_some(secrets),
            node_selector: (!spec.node_selector.is_empty()).then(|| spec.node_selector.clone()),
            tolerations: (!tolerations.is_empty()).then_some(tolerations),
            priority_class_name: spec.priority_class_name.clone(),
            // Each end is the operator's to answer with the next pod: the kubelet would wait longer each time, up to five minutes.
            restart_policy: Some("Never".to_owned()),
            termination_grace_period_seconds: Some(10),
            automount_service_account_token: Some(false),
            enable_service_links: Some(false),
            security_context: Some(security::of_pod(None)),
            ..PodSpec::default()
        }),
        status: None,
    }
}

/// The claim of a hub. Nothing owns it: what users wrote outlives the bus. `one_pod` says that the cluster has `ReadWriteOncePod`.
pub fn hub_claim(namespace: &str, bus: &str, storage: &api::Storage, one_pod: bool) -> PersistentVolumeClaim {
    let default = spec::Storage::default();
    let size = kontrol_crds::quantity::bytes(&storage.size).unwrap_or(default.size);
    let segment = kontrol_crds::quantity::bytes(&storage.segment_size).unwrap_or(default.segment);
    // The log keeps within `size`; beside it lie its index and the segment that is being written.
    let needed = size.saturating_add(size / 16).saturating_add(segment);
    let whole = needed.div_ceil(1 << 20);
    let mode = if one_pod { "ReadWriteOncePod" } else { "ReadWriteOnce" };
    PersistentVolumeClaim {
        metadata: metadata(namespace, bus, names::hub(bus), None),
        spec: Some(PersistentVolumeClaimSpec {
            access_modes: Some(vec![mode.to_owned()]),
            storage_class_name: storage.storage_class_name.clone(),
            resources: Some(VolumeResourceRequirements {
                requests: Some(BTreeMap::from([("storage".to_owned(), Quantity(format!("{whole}Mi")))])),
                limits: None,
            }),
            ..PersistentVolumeClaimSpec::default()
        }),
        status: None,
    }
}

/// The Service of a hub: a stable address, which leads to the pod that is ready.
pub fn hub_service(namespace: &str, bus: &str, owner: Option<&Owner>) -> Service {
    let selector = BTreeMap::from([("kontrol.dev/bus".to_owned(), bus.to_owned())]);
    let port = i32::from(names::PEER_PORT);
    Service {
        metadata: metadata(namespace, bus, names::hub(bus), owner),
        spec: Some(ServiceSpec {
            selector: Some(selector),
            ports: Some(vec![ServicePort {
                name: Some("kontrol-peer".to_owned()),
                port,
                target_port: Some(IntOrString::Int(port)),
                protocol: Some("TCP".to_owned()),
                ..ServicePort::default()
            }]),
            ..ServiceSpec::default()
        }),
        status: None,
    }
}
