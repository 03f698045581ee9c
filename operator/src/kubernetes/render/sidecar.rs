//! Kontrol's own containers in a pod, and their volumes.

use std::collections::BTreeMap;

use k8s_openapi::{
    api::core::v1::{
        ConfigMapVolumeSource, Container, ContainerPort, EmptyDirVolumeSource, EnvVar, EnvVarSource,
        HTTPGetAction, KeyToPath, ObjectFieldSelector, Probe, ProjectedVolumeSource, ResourceRequirements,
        ServiceAccountTokenProjection, Volume, VolumeMount, VolumeProjection,
    },
    apimachinery::pkg::{api::resource::Quantity, util::intstr::IntOrString},
};
use kontrol_core::id::InstanceId;

use super::{Settings, names, security};

/// Where sockets are, shared with the widget.
const RUN: &str = "kontrol-run";
/// Where the sidecar keeps its last configuration.
const STATE: &str = "kontrol-state";
/// Where the shim is copied to.
const BIN: &str = "kontrol-bin";
const TOKEN: &str = "kontrol-token";
const TRUST: &str = "kontrol-trust";
/// A folder for files of the moment, where the widget mounts none.
pub(super) const TMP: &str = "kontrol-tmp";

/// The variable with a value.
pub(super) fn variable(name: &str, value: impl Into<String>) -> EnvVar {
    EnvVar { name: name.to_owned(), value: Some(value.into()), value_from: None }
}

/// The variable with a field of the pod.
fn field(name: &str, path: &str) -> EnvVar {
    let field = ObjectFieldSelector { field_path: path.to_owned(), api_version: None };
    EnvVar {
        name: name.to_owned(),
        value: None,
        value_from: Some(EnvVarSource { field_ref: Some(field), ..EnvVarSource::default() }),
    }
}

/// What sidecars and hubs are told alike.
pub(super) fn joining(settings: &Settings) -> Vec<EnvVar> {
    vec![
        variable("KONTROL_PEER", format!("0.0.0.0:{}", names::PEER_PORT)),
        variable("KONTROL_ADMIN", format!("0.0.0.0:{}", names::ADMIN_PORT)),
        variable("KONTROL_CONTROL", &settings.control),
        variable("KONTROL_TRUST_DOMAIN", &settings.trust_domain),
        variable("KONTROL_CA_FILE", format!("{}/{}", names::TRUST_FOLDER, names::TRUST_KEY)),
        variable("KONTROL_TOKEN_FILE", format!("{}/token", names::TOKEN)),
        field("KONTROL_ADVERTISE", "status.podIP"),
        field("KONTROL_NODE", "spec.nodeName"),
        field("KONTROL_POD", "metadata.name"),
        field("KONTROL_POD_UID", "metadata.uid"),
    ]
}

fn quantities<const N: usize>(amounts: [(&str, &str); N]) -> BTreeMap<String, Quantity> {
    amounts.into_iter().map(|(name, amount)| (name.to_owned(), Quantity(amount.to_owned()))).collect()
}

pub(super) fn ports() -> Vec<ContainerPort> {
    let port = |name: &str, port: u16| ContainerPort {
        name: Some(name.to_owned()),
        container_port: i32::from(port),
        protocol: Some("TCP".to_owned()),
        ..ContainerPort::default()
    };
    vec![port("kontrol-peer", names::PEER_PORT), port("kontrol-admin", names::ADMIN_PORT)]
}

pub(super) fn probe(path: &str, period: i32, failures: i32) -> Probe {
    Probe {
        http_get: Some(HTTPGetAction {
            path: Some(path.to_owned()),
            port: IntOrString::String("kontrol-admin".to_owned()),
            ..HTTPGetAction::default()
        }),
        period_seconds: Some(period),
        timeout_seconds: Some(2),
        failure_threshold: Some(failures),
        ..Probe::default()
    }
}

pub(super) fn mount(name: &str, path: &str, read_only: bool) -> VolumeMount {
    VolumeMount {
        name: name.to_owned(),
        mount_path: path.to_owned(),
        read_only: read_only.then_some(true),
        ..VolumeMount::default()
    }
}

/// The mounts of the token and of the authority's certificates.
pub(super) fn identity_mounts() -> Vec<VolumeMount> {
    vec![mount(TOKEN, names::TOKEN, true), mount(TRUST, names::TRUST_FOLDER, true)]
}

/// The native sidecar: up before the widget, gone after it. It has neither a startup nor a readiness probe: the kubelet looks only each second, and would
/// make every start that much longer. Its doors are bound some milliseconds after it starts, which is before the widget's container is made, and the
/// gate [`names::READY`] says when the widget is ready.
pub(super) fn container(
    settings: &Settings,
    instance: &InstanceId,
    incarnation: u64,
    wrapped: bool,
) -> Container {
    let mut env = vec![
        variable("KONTROL_INSTANCE", instance.to_string()),
        variable("KONTROL_INCARNATION", incarnation.to_string()),
        variable("KONTROL_SOCKET", names::SOCKET),
        variable("KONTROL_GRPC", "127.0.0.1:7410"),
        variable("KONTROL_HTTP", "127.0.0.1:7411"),
        variable("KONTROL_STATE_DIR", names::STATE),
        // The kubelet leaves a sidecar two seconds at least after the widget has ended.
        variable("KONTROL_DRAIN_GRACE", "2s"),
    ];
    if wrapped {
        env.push(variable("KONTROL_SHIM_SOCKET", names::SHIM_SOCKET));
    }
    env.extend(joining(settings));
    let mut mounts = vec![mount(RUN, names::RUN, false), mount(STATE, names::STATE, false)];
    mounts.extend(identity_mounts());
    Container {
        name: names::SIDECAR.to_owned(),
        image: Some(settings.sidecar_image.clone()),
        args: Some(vec!["run".to_owned()]),
        env: Some(env),
        ports: Some(ports()),
        restart_policy: Some("Always".to_owned()),
        liveness_probe: Some(probe("/healthz", 10, 3)),
        resources: Some(resources("64Mi")),
        security_context: Some(security::of_ours()),
        volume_mounts: Some(mounts),
        ..Container::default()
    }
}

/// Little, and no limit of CPU: what is throttled answers late.
pub(super) fn resources(memory: &str) -> ResourceRequirements {
    ResourceRequirements {
        requests: Some(quantities([("cpu", "10m"), ("memory", "16Mi")])),
        limits: Some(quantities([("memory", memory)])),
        claims: None,
    }
}

/// Copies the shim into the pod, for the widget's container to start with.
pub(super) fn shim(settings: &Settings) -> Container {
    Container {
        name: names::SHIM.to_owned(),
        image: Some(settings.shim_image.clone()),
        command: Some(vec!["/bin/kontrol-shim".to_owned(), "--install".to_owned(), names::BIN.to_owned()]),
        resources: Some(resources("16Mi")),
        security_context: Some(security::of_ours()),
        volume_mounts: Some(vec![mount(BIN, names::BIN, false)]),
        ..Container::default()
    }
}

/// What the widget's container mounts of Kontrol's own.
pub(super) fn widget_mounts(wrapped: bool) -> Vec<VolumeMount> {
    let mut mounts = vec![mount(RUN, names::RUN, false)];
    if wrapped {
        mounts.push(mount(BIN, names::BIN, true));
    }
    mounts
}

pub(super) fn empty(name: &str, memory: bool, limit: Option<&str>) -> Volume {
    Volume {
        name: name.to_owned(),
        empty_dir: Some(EmptyDirVolumeSource {
            medium: memory.then(|| "Memory".to_owned()),
            size_limit: limit.map(|limit| Quantity(limit.to_owned())),
            ..EmptyDirVolumeSource::default()
        }),
        ..Volume::default()
    }
}

/// The volumes of the token and of the authority's certificates.
pub(super) fn identity_volumes() -> Vec<Volume> {
    let token = ServiceAccountTokenProjection {
        audience: Some(names::AUDIENCE.to_owned()),
        expiration_seconds: Some(3600),
        path: "token".to_owned(),
        ..ServiceAccountTokenProjection::default()
    };
    let source = VolumeProjection { service_account_token: Some(token), ..VolumeProjection::default() };
    let key = names::TRUST_KEY.to_owned();
    let key = KeyToPath { path: key.clone(), key, ..KeyToPath::default() };
    vec![
        Volume {
            name: TOKEN.to_owned(),
            projected: Some(ProjectedVolumeSource {
                default_mode: Some(0o440),
                sources: Some(vec![source]),
                ..ProjectedVolumeSource::default()
            }),
            ..Volume::default()
        },
        Volume {
            name: TRUST.to_owned(),
            config_map: Some(ConfigMapVolumeSource {
                name: names::TRUST.to_owned(),
                items: Some(vec![key]),
                ..ConfigMapVolumeSource::default()
            }),
            ..Volume::default()
        },
    ]
}

/// Kontrol's own volumes in a widget's pod.
pub(super) fn volumes(wrapped: bool) -> Vec<Volume> {
    let mut volumes = vec![empty(RUN, true, Some("1Mi")), empty(STATE, true, Some("16Mi"))];
    if wrapped {
        volumes.push(empty(BIN, false, Some("16Mi")));
    }
    volumes.extend(identity_volumes());
    volumes
}
