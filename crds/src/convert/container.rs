//! What of a widget's container and roll-out decides anything, and what would be wrong with its pods.

use std::collections::{BTreeMap, BTreeSet};

use kontrol_core::{code::Code, spec};

use super::widget::variable;
use crate::{api, fault::Checker, quantity};

/// The most characters of the object's name, so that `<object>-<ordinal>` is a host name: ordinals have three digits.
const LONGEST: usize = 59;

/// Converts what decides about a widget's container; `object` is the name of its `Widget` object.
pub(super) fn convert(
    check: &mut Checker,
    widget: &api::WidgetSpec,
    object: &str,
) -> Option<spec::Container> {
    let gpu = widget.gpu.as_ref();
    if let Some(gpu) = gpu {
        check.within("gpu", |check| check_gpu(check, gpu));
    }
    let placement = widget.placement.clone().unwrap_or_default();
    let unschedulable_after = check.within("placement", |check| {
        check_placement(check, &placement);
        check.positive("unschedulableAfter", &placement.unschedulable_after)
    });
    if let Some(disruption) = &widget.disruption {
        check.within("disruption", |check| {
            let one = disruption.max_unavailable.is_some() != disruption.min_available.is_some();
            check.ensure(one, "", "disruption is exactly one of maxUnavailable and minAvailable");
            share(check, "maxUnavailable", disruption.max_unavailable.as_ref());
            share(check, "minAvailable", disruption.min_available.as_ref());
        });
    }
    let identity = widget.identity.clone().unwrap_or_default();
    check.within("identity", |check| {
        let message =
            "says what becomes of an identity of its own; set stable: true as well, or leave it out";
        check.ensure(!identity.force_delete || identity.stable, "forceDelete", message);
    });
    check.each("volumes", &widget.volumes, |check, volume| {
        check_volume(check, volume);
        Some(())
    });
    if let Some(metadata) = &widget.pod_metadata {
        check.within("podMetadata", |check| {
            let ours =
                |texts: &BTreeMap<String, String>| texts.keys().any(|key| key.starts_with("kontrol.dev/"));
            let message = "labels of kontrol.dev/ are Kontrol's own; choose another prefix";
            check.ensure(!ours(&metadata.labels), "labels", message);
            let message = "annotations of kontrol.dev/ are Kontrol's own; choose another prefix";
            check.ensure(!ours(&metadata.annotations), "annotations", message);
        });
    }
    let container = widget.container.as_ref()?;
    check_name(check, object);
    check.within("container", |check| check_container(check, container, &widget.volumes));
    if let Some(port) = widget.endpoint.as_ref().and_then(|endpoint| endpoint.port)
        && SIDECAR_PORTS.contains(&port)
    {
        let message =
            "ports 7410 to 7413 belong to the sidecar in the same pod; choose another, or leave it out";
        check.within("endpoint", |check| check.fault("port", Code::DuplicatePort, message));
    }
    let alternatives = gpu.map_or(0, |gpu| gpu.alternatives.len());
    Some(spec::Container {
        wrapped: container.wrapped,
        alternatives: u32::try_from(alternatives).unwrap_or(u32::MAX),
        unschedulable_after,
        identity: identity.stable,
        force_delete: identity.force_delete,
        count_external: widget.count_external,
    })
}

/// The sidecar's own ports, which the pod's containers share with it.
const SIDECAR_PORTS: std::ops::RangeInclusive<u16> = 7410..=7413;

/// The object's name is that of a Service, and begins host names.
fn check_name(check: &mut Checker, object: &str) {
    if object.len() > LONGEST {
        let message = format!(
            "{object} is too long for a widget that runs on a cluster: at most {LONGEST} characters, so that the host name {object}-<ordinal> fits into 63; shorten the name"
        );
        check.fault("container", Code::InvalidName, message);
    }
    if object.starts_with(|c: char| c.is_ascii_digit()) {
        let message = format!(
            "{object} starts with a digit, and a widget that runs on a cluster needs a name that starts with a letter, because it is the name of its Service as well"
        );
        check.fault("container", Code::InvalidName, message);
    }
}

fn check_container(check: &mut Checker, container: &api::Container, volumes: &[api::Volume]) {
    let image = &container.image;
    let spaces = image.is_empty() || image.contains(char::is_whitespace);
    check.ensure(!spaces, "image", "is no image; write one, such as registry.example.com/llm:1.4");
    let program = container.command.first();
    check.ensure(
        !container.wrapped || program.is_some(),
        "command",
        "wrapped needs command: the shim starts what command says, and cannot read the image's own entry point",
    );
    check.ensure(
        program.is_none_or(|program| !program.is_empty()),
        "command",
        "command has an empty program as its first item; write one, or leave command out for the image's own",
    );
    check.each("env", &container.env, |check, entry| {
        variable(check, &entry.name);
        let both = entry.value.is_some() && entry.value_from.is_some();
        check.ensure(!both, "", "a variable has value or valueFrom, not both");
        if let Some(from) = &entry.value_from {
            let given = usize::from(from.secret_key_ref.is_some())
                + usize::from(from.config_map_key_ref.is_some())
                + usize::from(from.field_ref.is_some());
            let message = "valueFrom is exactly one of secretKeyRef, configMapKeyRef and fieldRef";
            check.ensure(given == 1, "valueFrom", message);
        }
        Some(())
    });
    check.each("envFrom", &container.env_from, |check, from| {
        let one = from.config_map_ref.is_some() != from.secret_ref.is_some();
        check.ensure(one, "", "envFrom is exactly one of configMapRef and secretRef");
        Some(())
    });
    let mut names = BTreeSet::new();
    check.each("ports", &container.ports, |check, port| {
        if SIDECAR_PORTS.contains(&port.container_port) {
            let message = "ports 7410 to 7413 belong to the sidecar in the same pod; choose another";
            check.fault("containerPort", Code::DuplicatePort, message);
        }
        if let Some(name) = &port.name {
            let ours = name.starts_with("kontrol-") || name == ENDPOINT_PORT;
            let message = "names of ports that start with kontrol-, and http-endpoint, are Kontrol's own; choose another name";
            check.ensure(!ours, "name", message);
            let lettered = name.bytes().any(|byte| byte.is_ascii_lowercase());
            check.ensure(lettered, "name", "the name of a port has at least one letter");
            if !names.insert(name.clone()) {
                check.fault("name", Code::DuplicateName, "another port has this name; rename one of the two");
            }
        }
        Some(())
    });
    if let Some(resources) = &container.resources {
        check.within("resources", |check| check_resources(check, resources));
    }
    let mut paths = BTreeSet::new();
    check.each("volumeMounts", &container.volume_mounts, |check, mount| {
        let declared = volumes.iter().any(|volume| volume.name == mount.name);
        let message = format!("there is no volume {} here; declare it under volumes", mount.name);
        check.ensure(declared, "name", &message);
        let path = mount.mount_path.as_str();
        let absolute = path.starts_with('/') && !path.contains(':');
        check.ensure(absolute, "mountPath", "mountPath starts with '/' and has no ':', such as /models");
        let within = |folder: &str| {
            path.strip_prefix(folder).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        };
        let ours = within("/kontrol") || within("/run/kontrol");
        let message = "/kontrol and /run/kontrol are Kontrol's own folders; mount the volume elsewhere";
        check.ensure(!ours, "mountPath", message);
        if !paths.insert(path.to_owned()) {
            let message = "another volume appears at this path; choose another path";
            check.fault("mountPath", Code::DuplicateName, message);
        }
        Some(())
    });
    if let Some(security) = &container.security_context {
        let root = security.run_as_user == Some(0) && security.run_as_non_root != Some(false);
        check.ensure(!root, "securityContext.runAsUser", "runAsUser: 0 is root; say runAsNonRoot: false as well (a namespace under the restricted standard refuses such a pod), or choose another user");
    }
}

/// The name of the port of `endpoint`.
const ENDPOINT_PORT: &str = "http-endpoint";

fn check_resources(check: &mut Checker, resources: &api::Resources) {
    for (field, amounts) in [("requests", &resources.requests), ("limits", &resources.limits)] {
        check.within(field, |check| {
            for (name, amount) in amounts {
                amount_of(check, name, Some(amount));
            }
        });
    }
    for (name, request) in &resources.requests {
        let (Ok(request), Some(Ok(limit))) =
            (quantity::nano(request), resources.limits.get(name).map(quantity::nano))
        else {
            continue;
        };
        let message =
            format!("asks for more {name} than its limit allows; raise the limit or lower the request");
        check.within("requests", |check| check.ensure(request <= limit, name, &message));
    }
}

fn amount_of(check: &mut Checker, field: &str, amount: Option<&api::Quantity>) {
    if let Some(Err(error)) = amount.map(quantity::nano) {
        check.invalid(field, error.to_string());
    }
}

fn check_volume(check: &mut Checker, volume: &api::Volume) {
    check.name("name", &volume.name);
    let ours = volume.name.starts_with("kontrol-");
    check.ensure(
        !ours,
        "name",
        "names of volumes that start with kontrol- are Kontrol's own; choose another name",
    );
    let forms = [
        volume.empty_dir.is_some(),
        volume.config_map.is_some(),
        volume.secret.is_some(),
        volume.projected.is_some(),
        volume.persistent_volume_claim.is_some(),
        volume.image.is_some(),
    ];
    let one = forms.iter().filter(|given| **given).count() == 1;
    let message =
        "a volume is exactly one of emptyDir, configMap, secret, projected, persistentVolumeClaim and image";
    check.ensure(one, "", message);
    if let Some(folder) = &volume.empty_dir {
        check.within("emptyDir", |check| amount_of(check, "sizeLimit", folder.size_limit.as_ref()));
    }
    let sources = volume.projected.iter().flat_map(|projected| &projected.sources).enumerate();
    for (index, source) in sources {
        check.within(&format!("projected.sources[{index}]"), |check| {
            let forms = [
                source.config_map.is_some(),
                source.secret.is_some(),
                source.service_account_token.is_some(),
            ];
            let one = forms.iter().filter(|given| **given).count() == 1;
            let message = "a projected source is exactly one of configMap, secret and serviceAccountToken";
            check.ensure(one, "", message);
            let ours = source.service_account_token.as_ref().is_some_and(|t| t.audience == "kontrol.dev");
            let message =
                "a token for kontrol.dev would let the widget pass for its sidecar; name another audience";
            check.ensure(!ours, "serviceAccountToken.audience", message);
        });
    }
}

fn check_gpu(check: &mut Checker, gpu: &api::Gpu) {
    check_tolerations(check, &gpu.tolerations);
    check.each("alternatives", &gpu.alternatives, |check, alternative| {
        let counted = alternative.resource.is_none() || alternative.count.is_some();
        check.ensure(counted, "resource", "resource needs count: how many of it");
        let given = alternative.count.is_some()
            || alternative.cpu.is_some()
            || alternative.memory.is_some()
            || !alternative.node_selector.is_empty();
        check.ensure(given, "", "an alternative says what would do: count (GPUs), cpu, memory or nodeSelector, such as {cpu: \"4\"}");
        amount_of(check, "cpu", alternative.cpu.as_ref());
        amount_of(check, "memory", alternative.memory.as_ref());
        check_tolerations(check, &alternative.tolerations);
        Some(())
    });
}

fn check_placement(check: &mut Checker, placement: &api::Placement) {
    check_tolerations(check, &placement.tolerations);
}

fn check_tolerations(check: &mut Checker, tolerations: &[api::Toleration]) {
    check.each("tolerations", tolerations, |check, toleration| {
        let exists = toleration.operator == Some(api::TolerationOperator::Exists);
        let message =
            "a toleration without key bears every taint: say so with operator: Exists, or give a key";
        check.ensure(toleration.key.is_some() || exists, "key", message);
        let message = "operator Exists bears any value; leave value out, or set operator: Equal";
        check.ensure(toleration.value.is_none() || !exists, "value", message);
        let executes = toleration.effect == Some(api::TaintEffect::NoExecute);
        let message = "tolerationSeconds belongs to effect NoExecute";
        check.ensure(toleration.toleration_seconds.is_none() || executes, "tolerationSeconds", message);
        Some(())
    });
}

/// Says what is wrong with a roll-out.
pub(super) fn check_rollout(check: &mut Checker, rollout: &api::Rollout) {
    share(check, "maxUnavailable", rollout.max_unavailable.as_ref());
    share(check, "maxSurge", rollout.max_surge.as_ref());
    if let Some(deadline) = &rollout.progress_deadline {
        check.positive("progressDeadline", deadline);
    }
}

/// The roll-out of a widget: its own, else that of its group, else the default, field by field.
pub(super) fn rollout(
    check: &mut Checker,
    widget: &api::WidgetSpec,
    group: Option<&api::Rollout>,
) -> spec::Rollout {
    let own = widget.rollout.as_ref();
    if let Some(own) = own {
        check.within("rollout", |check| check_rollout(check, own));
        let surge = own.max_surge.as_ref().and_then(|surge| quantity::share(surge).ok());
        let identity = widget.identity.as_ref().is_some_and(|identity| identity.stable);
        let none = surge.is_none_or(|surge| matches!(surge, spec::Share::Count(0) | spec::Share::Percent(0)));
        let message = "a widget with an identity of its own has no replicas beyond its number; leave maxSurge out, or identity.stable";
        check.within("rollout", |check| check.ensure(!identity || none, "maxSurge", message));
    }
    let default = spec::Rollout::default();
    let either = [own, group];
    let pick = |field: fn(&api::Rollout) -> Option<&api::Share>| {
        either.into_iter().flatten().find_map(|rollout| quantity::share(field(rollout)?).ok())
    };
    let deadline = either.into_iter().flatten().find_map(|rollout| rollout.progress_deadline.as_ref());
    let stable = widget.identity.as_ref().is_some_and(|identity| identity.stable);
    let surge = pick(|rollout| rollout.max_surge.as_ref()).unwrap_or(default.max_surge);
    let flag = |field: fn(&api::Rollout) -> Option<bool>| either.into_iter().flatten().find_map(field);
    spec::Rollout {
        max_unavailable: pick(|rollout| rollout.max_unavailable.as_ref()).unwrap_or(default.max_unavailable),
        max_surge: if stable { default.max_surge } else { surge },
        paused: flag(|rollout| rollout.paused).unwrap_or(default.paused),
        progress_deadline: deadline
            .and_then(|text| kontrol_core::duration::parse(&text.0).ok())
            .unwrap_or(default.progress_deadline),
        auto_rollback: flag(|rollout| rollout.auto_rollback).unwrap_or(default.auto_rollback),
    }
}

fn share(check: &mut Checker, field: &str, value: Option<&api::Share>) {
    if let Some(Err(error)) = value.map(quantity::share) {
        check.invalid(field, error.to_string());
    }
}
