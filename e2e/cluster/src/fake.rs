//! Nodes without a machine: kwok plays their kubelets, so that the control plane is seen with thousands of them.

use kube::{
    Api, Client,
    api::{Patch, PatchParams, PostParams},
};
use serde_json::json;

use crate::{Component, Error, Result, Run, Tools};

/// By this annotation kwok knows its nodes; by a taint of the same name and value everybody else keeps away from them.
const FAKE: &str = "kwok.x-k8s.io/node";

/// kwok.
pub(crate) fn kwok(run: &Run, tools: &Tools) -> Result<Component> {
    let folder = tools.folder_of("kwok")?;
    let stages = [
        "node/fast/node-initialize",
        "node/heartbeat/node-heartbeat",
        "pod/fast/pod-ready",
        "pod/fast/pod-complete",
        "pod/fast/pod-delete",
    ];
    let mut command = vec![
        tools.program("kwok")?,
        format!("--kubeconfig={}", run.kubeconfig_of("kwok").display()),
        "--manage-all-nodes=false".to_owned(),
        format!("--manage-nodes-with-annotation-selector={FAKE}=fake"),
        // No leases: on a busy machine it fails to renew them, and its nodes would look lost. Their status says that they live.
        "--node-lease-duration-seconds=0".to_owned(),
        // Addresses that nothing routes.
        "--cidr=100.64.0.0/10".to_owned(),
        "--disregard-status-with-annotation-selector=kwok.x-k8s.io/status=custom".to_owned(),
        "--server-address=127.0.0.1:10247".to_owned(),
    ];
    command.extend(stages.iter().map(|stage| format!("--config={folder}/kustomize/stage/{stage}.yaml")));
    Ok(Component::control(run, "kwok", command))
}

/// Makes sure that there are `count` fake nodes, named `fake-0` and on.
pub(crate) async fn ensure(client: &Client, count: u32) -> Result<()> {
    let api = Api::<k8s_openapi::api::core::v1::Node>::all(client.clone());
    for index in 0..count {
        let name = format!("fake-{index}");
        let node = serde_json::from_value(json!({
            "metadata": {
                "name": name,
                "annotations": {FAKE: "fake", "node.alpha.kubernetes.io/ttl": "0"},
                "labels": {
                    "type": "kwok", "kubernetes.io/hostname": name, "kubernetes.io/os": "linux", "kubernetes.io/arch": "amd64",
                },
            },
            "spec": {"taints": [{"key": FAKE, "value": "fake", "effect": "NoSchedule"}]},
        }))
        .map_err(crate::error::json("a fake node"))?;
        match api.create(&PostParams::default(), &node).await {
            Err(kube::Error::Api(status)) if status.is_already_exists() => {}
            Err(error) => return Err(error.into()),
            Ok(_) => {}
        }
    }
    Ok(())
}

/// Says in the node's status that it has `count` of `resource` (`nvidia.com/gpu`). The kubelet leaves that alone.
pub(crate) async fn advertise(client: &Client, node: &str, resource: &str, count: u32) -> Result<()> {
    if !resource.contains('/') {
        return Err(Error::Invalid(format!(
            "`{resource}` is no extended resource: it needs a domain, as in nvidia.com/gpu"
        )));
    }
    let api = Api::<k8s_openapi::api::core::v1::Node>::all(client.clone());
    let amount = json!({resource: count.to_string()});
    let patch = json!({"status": {"capacity": amount, "allocatable": amount}});
    api.patch_status(node, &PatchParams::default(), &Patch::Merge(patch)).await?;
    Ok(())
}
