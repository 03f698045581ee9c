//! The pod of one replica.

use std::{sync::Arc, time::Duration};

use k8s_openapi::{
    api::core::v1::{
        Container, ContainerPort, EnvFromSource, EnvVar, LocalObjectReference, Pod, PodReadinessGate,
        PodSpec, Volume, VolumeMount,
    },
    apimachinery::pkg::apis::meta::v1::ObjectMeta,
};
use kontrol_core::{
    duration,
    id::InstanceId,
    spec::{Revision, Strategy},
};
use kontrol_crds as api;

use super::{
    Owner, Settings, names,
    placement::{self, same},
    security, sidecar,
};

/// The port of a widget whose endpoint names none.
const PORT: u16 = 8080;
/// The name of the port of `endpoint`.
const PORT_NAME: &str = "http-endpoint";

/// What a pod is rendered from.
#[derive(Clone, Debug)]
pub struct PodInput<'a> {
    /// What is the same for all pods.
    pub settings: &'a Settings,
    /// The replica.
    pub instance: &'a InstanceId,
    /// Its `Widget` object.
    pub owner: &'a Owner,
    /// The number of this pod among those of the replica.
    pub incarnation: u64,
    /// The epoch of its group.
    pub epoch: u64,
    /// The hash of `spec` ([`kontrol_crds::convert`]).
    pub revision: Revision,
    /// Which of the placement's alternatives; 0 is the declared placement.
    pub alternative: u32,
    /// Nodes to keep away from.
    pub avoid: &'a [Arc<str>],
    /// Nodes to keep away from where another one takes it as well.
    pub rather_not: &'a [Arc<str>],
    /// The strategy of its group.
    pub strategy: Strategy,
    /// The template: the spec of the revision.
    pub spec: &'a api::WidgetSpec,
}

/// Whether the kubelet starts the container of a widget again by itself: only where nobody else is concerned by its end, it is always
/// started again, and no shim does so faster. Everywhere else the pod ends with its container, and the plan acts.
pub fn restarts_in_place(spec: &api::WidgetSpec, strategy: Strategy) -> bool {
    let wrapped = spec.container.as_ref().is_some_and(|container| container.wrapped);
    !wrapped && spec.restart == api::Restart::Always && strategy == Strategy::OneForOne
}

/// The port of a widget's endpoint, which is `PORT` in its environment.
pub fn endpoint_port(spec: &api::WidgetSpec) -> Option<u16> {
    spec.endpoint.as_ref().map(|endpoint| endpoint.port.unwrap_or(PORT))
}

/// How long a widget may take to end.
fn grace(spec: &api::WidgetSpec) -> Duration {
    match (spec.shutdown.policy, &spec.shutdown.grace) {
        (api::ShutdownPolicy::Brutal, _) => Duration::ZERO,
        (_, Some(grace)) => duration::parse(&grace.0).unwrap_or(Duration::from_secs(10)),
        (_, None) => Duration::from_secs(10),
    }
}

/// The seconds that a pod is given to end, in its spec and in its deletion. Never 0: the API server would forget the pod before its node has ended
/// it, and two replicas could run at once; so a brutal end takes up to a second. Where the widget is `wrapped` the shim counts the grace itself, and the
/// kubelet waits a second longer, so as not to overtake it.
pub fn grace_seconds(grace: Duration, wrapped: bool) -> u64 {
    let whole = grace.as_secs().saturating_add(u64::from(grace.subsec_nanos() > 0));
    whole.max(1).saturating_add(u64::from(wrapped && whole > 0))
}

/// The pod of a replica. None: its spec gives no container.
pub fn pod(input: &PodInput<'_>) -> Option<Pod> {
    let spec = input.spec;
    let container = spec.container.as_ref()?;
    let object = &input.owner.name;
    let id = &input.instance.widget;
    let wrapped = container.wrapped;
    let mut init = vec![sidecar::container(input.settings, input.instance, input.incarnation, wrapped)];
    if wrapped {
        init.insert(0, sidecar::shim(input.settings));
    }
    let mut volumes: Vec<Volume> = spec.volumes.iter().map(same).collect();
    volumes.extend(sidecar::volumes(wrapped));
    let own_tmp = container.volume_mounts.iter().all(|mount| mount.mount_path != "/tmp");
    if own_tmp {
        volumes.push(sidecar::empty(sidecar::TMP, false, None));
    }
    let secrets: Vec<LocalObjectReference> = spec.image_pull_secrets.iter().map(same).collect();
    let mut pod = PodSpec {
        init_containers: Some(init),
        containers: vec![widget(input, container, own_tmp)],
        volumes: Some(volumes),
        readiness_gates: Some(vec![PodReadinessGate { condition_type: names::READY.to_owned() }]),
        hostname: Some(names::host(object, input.instance.ordinal)),
        subdomain: Some(object.clone()),
        restart_policy: Some(
            if restarts_in_place(spec, input.strategy) { "Always" } else { "Never" }.to_owned(),
        ),
        termination_grace_period_seconds: i64::try_from(grace_seconds(grace(spec), wrapped)).ok(),
        service_account_name: spec.service_account_name.clone(),
        automount_service_account_token: Some(false),
        enable_service_links: Some(false),
        image_pull_secrets: (!secrets.is_empty()).then_some(secrets),
        security_context: Some(security::of_pod(container.security_context.as_ref())),
        ..PodSpec::default()
    };
    placement::place(
        &mut pod,
        spec,
        input.alternative,
        (input.avoid, input.rather_not),
        &names::label_selector(id),
    );
    Some(Pod { metadata: metadata(input, own_tmp), spec: Some(pod), status: None })
}

fn metadata(input: &PodInput<'_>, own_tmp: bool) -> ObjectMeta {
    let declared = input.spec.pod_metadata.clone().unwrap_or_default();
    let mut labels = declared.labels;
    labels.extend(names::labels(&input.instance.widget));
    let number = [
        ("ordinal", input.instance.ordinal.to_string()),
        ("incarnation", input.incarnation.to_string()),
        ("epoch", input.epoch.to_string()),
        ("revision", input.revision.to_string()),
    ];
    labels.extend(number.map(|(name, value)| (format!("kontrol.dev/{name}"), value)));
    let mut annotations = declared.annotations;
    annotations.insert("kontrol.dev/alternative".to_owned(), input.alternative.to_string());
    // What `kubectl logs` and `exec` mean, and that a node may be emptied in spite of the sidecar's folders.
    annotations
        .entry("kubectl.kubernetes.io/default-container".to_owned())
        .or_insert_with(|| names::WIDGET.to_owned());
    let mut folders = vec!["kontrol-run", "kontrol-state"];
    if input.spec.container.as_ref().is_some_and(|container| container.wrapped) {
        folders.push("kontrol-bin");
    }
    if own_tmp {
        folders.push(sidecar::TMP);
    }
    annotations
        .entry("cluster-autoscaler.kubernetes.io/safe-to-evict-local-volumes".to_owned())
        .or_insert_with(|| folders.join(","));
    ObjectMeta {
        name: Some(names::pod(&input.owner.name, input.instance.ordinal, input.incarnation)),
        namespace: Some(input.instance.widget.namespace.to_string()),
        labels: Some(labels),
        annotations: Some(annotations),
        owner_references: Some(names::owned_by(input.owner)),
        ..ObjectMeta::default()
    }
}

fn widget(input: &PodInput<'_>, container: &api::Container, own_tmp: bool) -> Container {
    let (command, args) = command(input.spec, container);
    let mut mounts: Vec<VolumeMount> = container.volume_mounts.iter().map(same).collect();
    mounts.extend(sidecar::widget_mounts(container.wrapped));
    if own_tmp {
        mounts.push(sidecar::mount(sidecar::TMP, "/tmp", false));
    }
    let sources: Vec<EnvFromSource> = container.env_from.iter().map(same).collect();
    let ports = ports(input.spec, container);
    Container {
        name: names::WIDGET.to_owned(),
        image: Some(container.image.clone()),
        image_pull_policy: container.image_pull_policy.as_ref().map(same),
        command,
        args,
        working_dir: container.working_dir.clone(),
        env: Some(environment(input, container)),
        env_from: (!sources.is_empty()).then_some(sources),
        ports: (!ports.is_empty()).then_some(ports),
        resources: placement::resources(input.spec, input.alternative),
        volume_mounts: Some(mounts),
        security_context: Some(security::of_widget(container.security_context.as_ref())),
        // The last lines that it said are the message of its end.
        termination_message_policy: Some("FallbackToLogsOnError".to_owned()),
        ..Container::default()
    }
}

type Arguments = Option<Vec<String>>;

fn command(spec: &api::WidgetSpec, container: &api::Container) -> (Arguments, Arguments) {
    let some = |texts: Vec<String>| (!texts.is_empty()).then_some(texts);
    if !container.wrapped {
        return (some(container.command.clone()), some(container.args.clone()));
    }
    let shim = [
        format!("{}/kontrol-shim", names::BIN),
        "--socket".to_owned(),
        names::SHIM_SOCKET.to_owned(),
        "--peer-uid".to_owned(),
        security::USER.to_string(),
        "--shutdown-grace-ms".to_owned(),
        grace(spec).as_millis().to_string(),
        "--".to_owned(),
    ];
    let words = shim.into_iter().chain(container.command.iter().chain(&container.args).cloned());
    (Some(words.collect()), None)
}

/// Kontrol's own variables come first, so that the widget's may be made of them.
fn environment(input: &PodInput<'_>, container: &api::Container) -> Vec<EnvVar> {
    let id = &input.instance.widget;
    let mut env = vec![
        sidecar::variable("KONTROL_SIDECAR_SOCKET", names::SOCKET),
        sidecar::variable("KONTROL_SIDECAR_GRPC", "http://127.0.0.1:7410"),
        sidecar::variable("KONTROL_SIDECAR_HTTP", "http://127.0.0.1:7411"),
        sidecar::variable("KONTROL_NAMESPACE", id.namespace.to_string()),
        sidecar::variable("KONTROL_GROUP", id.group.to_string()),
        sidecar::variable("KONTROL_WIDGET", id.widget.to_string()),
        sidecar::variable("KONTROL_ORDINAL", input.instance.ordinal.to_string()),
        sidecar::variable("KONTROL_INCARNATION", input.incarnation.to_string()),
        sidecar::variable("KONTROL_ALTERNATIVE", input.alternative.to_string()),
    ];
    if let Some(port) = endpoint_port(input.spec) {
        env.push(sidecar::variable("PORT", port.to_string()));
    }
    let declared: Vec<EnvVar> = container.env.iter().map(same).collect();
    env.retain(|own| declared.iter().all(|declared| declared.name != own.name));
    env.extend(declared);
    env
}

/// The declared ports, and that of the endpoint where it is not among them.
pub(super) fn ports(spec: &api::WidgetSpec, container: &api::Container) -> Vec<ContainerPort> {
    let mut ports: Vec<ContainerPort> = container.ports.iter().map(same).collect();
    if let Some(port) = endpoint_port(spec).map(i32::from) {
        let tcp = |known: &ContainerPort| known.protocol.as_deref().unwrap_or("TCP") == "TCP";
        if !ports.iter().any(|known| known.container_port == port && tcp(known)) {
            ports.push(ContainerPort {
                name: Some(PORT_NAME.to_owned()),
                container_port: port,
                protocol: Some("TCP".to_owned()),
                ..ContainerPort::default()
            });
        }
    }
    ports
}
