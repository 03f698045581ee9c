//! A node: containerd, a kubelet and kube-proxy in a network namespace of their own.

use std::{collections::BTreeMap, fs};

use serde_json::json;

use crate::{
    Addresses, Component, Result, Run, Tools, cgroup,
    error::at,
    images::PAUSE,
    pki::{Authority, Subject},
};

/// What the components of the node `name` are called, in the order they are started in.
pub(crate) fn component_names(name: &str) -> [String; 3] {
    ["containerd", "kubelet", "kube-proxy"].map(|part| format!("{name}-{part}"))
}

/// Makes what the node `name` needs before it starts; gives its components, in the order they are started in.
pub(crate) fn make(
    run: &Run,
    addresses: Addresses,
    (name, number): (&str, u8),
    tools: &Tools,
    authority: &Authority,
) -> Result<Vec<Component>> {
    let folder = run.node(name);
    for part in ["cni", "kubelet", "volumes"] {
        let path = folder.join(part);
        fs::create_dir_all(&path).map_err(at(path))?;
    }
    cgroup::make(&run.cgroup_of(&format!("{name}/runtime")))?;
    let address = addresses.node(number).to_string();
    let user = format!("system:node:{name}");
    let serves = vec![name.to_owned(), address.clone()];
    let subject = Subject { file: name, user: &user, group: Some("system:nodes"), serves };
    authority.kubeconfig(&subject, addresses, &run.kubeconfig_of(name))?;

    let write = |file: &str, text: String| -> Result<String> {
        let path = folder.join(file);
        fs::write(&path, text).map_err(at(&path))?;
        Ok(path.display().to_string())
    };
    let containerd = write("containerd.toml", containerd_config(run, name))?;
    write("cni/10-kontrol.conflist", cni_config(run, addresses, (name, number)))?;
    let kubelet = write("kubelet.json", kubelet_config(run, addresses, (name, &address)))?;
    let proxy = write("kube-proxy.json", proxy_config(run, addresses, name))?;

    // containerd finds its shim by the path, and the shim finds runc.
    let path = std::env::var_os("PATH").unwrap_or_default();
    let path = format!("{}:{}", tools.folder_of("containerd-shim-runc-v2")?, path.to_string_lossy());
    let component = |part: &str, command: Vec<String>| Component {
        name: format!("{name}-{part}"),
        namespace: run.node_namespace(name),
        cgroup: run.cgroup_of(&format!("{name}/runtime")),
        command,
        environment: BTreeMap::from([("PATH".to_owned(), path.clone())]),
    };
    Ok(vec![
        component("containerd", vec![tools.program("containerd")?, "--config".to_owned(), containerd]),
        component(
            "kubelet",
            vec![
                tools.program("kubelet")?,
                format!("--config={kubelet}"),
                format!("--kubeconfig={}", run.kubeconfig_of(name).display()),
                format!("--hostname-override={name}"),
                format!("--node-ip={address}"),
                format!("--root-dir={}", folder.join("kubelet").display()),
                format!("--cert-dir={}", folder.join("kubelet-pki").display()),
                format!("--node-labels=kontrol.dev/cluster={}", run.name()),
            ],
        ),
        component("kube-proxy", vec![tools.program("kube-proxy")?, format!("--config={proxy}")]),
    ])
}

fn containerd_config(run: &Run, name: &str) -> String {
    let folder = run.node(name);
    let folder = folder.display();
    format!(
        r#"version = 3
root = "{folder}/containerd"
state = "{folder}/state"
[grpc]
  address = "{folder}/containerd.sock"
[ttrpc]
  address = "{folder}/containerd.sock.ttrpc"
[plugins."io.containerd.nri.v1.nri"]
  disable = true
[plugins."io.containerd.cri.v1.images"]
  snapshotter = "overlayfs"
  [plugins."io.containerd.cri.v1.images".pinned_images]
    sandbox = "{PAUSE}"
[plugins."io.containerd.cri.v1.runtime"]
  # The machine may not let a process lower its score, and runc fails where it tries.
  restrict_oom_score_adj = true
  # So that the pods' namespaces are found below the run's folder.
  netns_mounts_under_state_dir = true
  [plugins."io.containerd.cri.v1.runtime".cni]
    bin_dirs = ["/usr/lib/cni"]
    conf_dir = "{folder}/cni"
  [plugins."io.containerd.cri.v1.runtime".containerd]
    default_runtime_name = "runc"
    [plugins."io.containerd.cri.v1.runtime".containerd.runtimes.runc]
      runtime_type = "io.containerd.runc.v2"
      [plugins."io.containerd.cri.v1.runtime".containerd.runtimes.runc.options]
        SystemdCgroup = false
[plugins."io.containerd.internal.v1.opt"]
  path = "{folder}/opt"
"#
    )
}

/// The name of a node's pod network, under which the CNI plugins keep files of their own.
pub(crate) fn cni_network(run: &Run, name: &str) -> String {
    format!("kontrol-{}-{name}", run.name())
}

/// Point to point rather than a bridge: a service whose pod is on the caller's own node needs each packet to pass the node's own rules,
/// which a bridge skips where the kernel has no `br_netfilter`.
fn cni_config(run: &Run, addresses: Addresses, (name, number): (&str, u8)) -> String {
    let config = json!({
        "cniVersion": "1.0.0",
        "name": cni_network(run, name),
        "plugins": [
            {"type": "ptp", "ipMasq": false, "ipam": {
                "type": "host-local",
                "dataDir": run.node(name).join("ipam"),
                "ranges": [[{"subnet": addresses.pods_of(number)}]],
                "routes": [{"dst": "0.0.0.0/0"}],
            }},
            {"type": "portmap", "capabilities": {"portMappings": true}},
        ],
    });
    format!("{config:#}\n")
}

fn kubelet_config(run: &Run, addresses: Addresses, (name, address): (&str, &str)) -> String {
    let (pki, folder) = (run.pki(), run.node(name));
    let config = json!({
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "address": address,
        "authentication": {
            "anonymous": {"enabled": false},
            "x509": {"clientCAFile": pki.join("ca.crt")},
            "webhook": {"enabled": true},
        },
        "authorization": {"mode": "Webhook"},
        "tlsCertFile": pki.join(format!("{name}.crt")),
        "tlsPrivateKeyFile": pki.join(format!("{name}.key")),
        "cgroupDriver": "cgroupfs",
        "failCgroupV1": false,
        "cgroupsPerQOS": true,
        "cgroupRoot": format!("/{}", run.cgroup_of(name)),
        "enforceNodeAllocatable": [],
        "clusterDNS": [addresses.dns_service().to_string()],
        "clusterDomain": "cluster.local",
        "containerRuntimeEndpoint": format!("unix://{}", folder.join("containerd.sock").display()),
        "failSwapOn": false,
        "evictionHard": {
            "memory.available": "100Mi", "nodefs.available": "1%", "imagefs.available": "1%", "nodefs.inodesFree": "1%",
        },
        // Images are loaded by hand and cannot be pulled again.
        "imageGCHighThresholdPercent": 100,
        "maxPods": 250,
        "serializeImagePulls": false,
        "podLogsDir": folder.join("podlogs"),
        "volumePluginDir": folder.join("plugins"),
    });
    format!("{config:#}\n")
}

fn proxy_config(run: &Run, addresses: Addresses, name: &str) -> String {
    let config = json!({
        "apiVersion": "kubeproxy.config.k8s.io/v1alpha1",
        "kind": "KubeProxyConfiguration",
        "mode": "nftables",
        "hostnameOverride": name,
        "clusterCIDR": addresses.pods(),
        "clientConnection": {"kubeconfig": run.kubeconfig_of("kube-proxy")},
        // A namespace may not set the machine's limits.
        "conntrack": {"maxPerCore": 0, "min": 0, "tcpEstablishedTimeout": "0s", "tcpCloseWaitTimeout": "0s"},
        "nftables": {"minSyncPeriod": "100ms"},
    });
    format!("{config:#}\n")
}
