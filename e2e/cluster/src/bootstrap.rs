//! The objects that a cluster has before anybody uses it: the DNS service, the default storage class, and what they need.

use std::{
    io::Write as _,
    process::{Command, Stdio},
};

use serde_json::{Value, json};

use crate::{Addresses, Error, Result, Run, Tools, error::at, provisioner};

/// The objects.
fn objects(addresses: Addresses) -> Value {
    let port = |name: &str, protocol: &str| json!({"name": name, "port": 53, "protocol": protocol});
    let ports = [port("dns", "UDP"), port("dns-tcp", "TCP")];
    json!({"apiVersion": "v1", "kind": "List", "items": [
        {
            "apiVersion": "v1", "kind": "Service",
            "metadata": {"name": "kube-dns", "namespace": "kube-system", "labels": {"k8s-app": "kube-dns"}},
            "spec": {"clusterIP": addresses.dns_service().to_string(), "ports": ports},
        },
        {
            "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice",
            "metadata": {
                "name": "kube-dns-host", "namespace": "kube-system",
                "labels": {"kubernetes.io/service-name": "kube-dns", "endpointslice.kubernetes.io/managed-by": "kontrol-cluster"},
            },
            "addressType": "IPv4",
            "endpoints": [{"addresses": [addresses.control().to_string()], "conditions": {"ready": true}}],
            "ports": ports,
        },
        {
            "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole",
            "metadata": {"name": "system:coredns"},
            "rules": [
                {"apiGroups": [""], "resources": ["services", "pods", "namespaces"], "verbs": ["list", "watch"]},
                {"apiGroups": ["discovery.k8s.io"], "resources": ["endpointslices"], "verbs": ["list", "watch"]},
            ],
        },
        {
            "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRoleBinding",
            "metadata": {"name": "system:coredns"},
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "system:coredns"},
            "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": "system:coredns"}],
        },
        {
            "apiVersion": "storage.k8s.io/v1", "kind": "StorageClass",
            "metadata": {
                "name": provisioner::CLASS,
                "annotations": {"storageclass.kubernetes.io/is-default-class": "true"},
            },
            "provisioner": provisioner::NAME,
            "volumeBindingMode": "WaitForFirstConsumer",
            "reclaimPolicy": "Delete",
        },
    ]})
}

/// Applies the objects. The namespace `kube-system` has to be there.
pub(crate) fn apply(run: &Run, addresses: Addresses, tools: &Tools) -> Result<()> {
    let program = tools.path("kubectl")?;
    let mut child = Command::new(program)
        .args(["apply", "--server-side", "--field-manager=kontrol-cluster", "-f", "-", "--kubeconfig"])
        .arg(run.kubeconfig())
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(at(program))?;
    if let Some(mut input) = child.stdin.take() {
        input.write_all(objects(addresses).to_string().as_bytes()).map_err(at(program))?;
    }
    let output = child.wait_with_output().map_err(at(program))?;
    if output.status.success() {
        return Ok(());
    }
    Err(Error::Command {
        command: "kubectl apply".to_owned(),
        reason: String::from_utf8_lossy(&output.stderr).trim().to_owned(),
    })
}
