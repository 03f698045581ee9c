//! The control plane: etcd, the API server, its controllers and scheduler, and the cluster's DNS.

use std::fs;

use crate::{
    Addresses, Component, Options, Result, Run, Tools,
    error::at,
    pki::{Authority, Subject},
};

/// The port on which `CoreDNS` says that it is ready.
pub(crate) const DNS_READY: u16 = 8181;

/// What the API server writes down where it is asked to: each write, without its body.
const AUDIT_POLICY: &str = r#"{"apiVersion": "audit.k8s.io/v1", "kind": "Policy", "omitStages": ["RequestReceived"],
 "rules": [{"level": "None", "verbs": ["get", "list", "watch"]}, {"level": "Metadata"}]}
"#;

/// Issues what the control plane needs to know and to prove.
pub(crate) fn write_keys(run: &Run, addresses: Addresses, authority: &Authority) -> Result<()> {
    let names = ["localhost", "kubernetes", "kubernetes.default", "kubernetes.default.svc"];
    let mut serves: Vec<String> = names.map(str::to_owned).to_vec();
    serves.push("kubernetes.default.svc.cluster.local".to_owned());
    serves.extend(["127.0.0.1".to_owned(), addresses.control().to_string()]);
    serves.push(addresses.api_service().to_string());
    authority.issue(&Subject { file: "apiserver", user: "kube-apiserver", group: None, serves })?;
    let masters = Some("system:masters");
    authority.issue(&Subject::client("kubelet-client", "kube-apiserver-kubelet-client", masters))?;
    let clients = [
        ("admin", "kubernetes-admin", masters),
        ("kube-controller-manager", "system:kube-controller-manager", None),
        ("kube-scheduler", "system:kube-scheduler", None),
        ("kube-proxy", "system:kube-proxy", None),
        ("coredns", "system:coredns", None),
        ("kwok", "kontrol:kwok", masters),
        ("provisioner", "kontrol:provisioner", masters),
    ];
    for (file, user, group) in clients {
        let path = if file == "admin" { run.kubeconfig() } else { run.kubeconfig_of(file) };
        authority.kubeconfig(&Subject::client(file, user, group), addresses, &path)?;
    }
    Ok(())
}

/// etcd, which syncs nothing to the disk: it lives as long as the run.
pub(crate) fn etcd(run: &Run) -> Component {
    let folder = run.root().join("etcd");
    let command = [
        "etcd",
        "--data-dir",
        &folder.display().to_string(),
        "--unsafe-no-fsync",
        "--listen-client-urls=http://127.0.0.1:2379",
        "--advertise-client-urls=http://127.0.0.1:2379",
        "--listen-peer-urls=http://127.0.0.1:2380",
        "--quota-backend-bytes=4294967296",
        "--auto-compaction-retention=5m",
        "--log-level=warn",
    ];
    Component::control(run, "etcd", command.map(str::to_owned).to_vec())
}

/// The API server.
pub(crate) fn apiserver(
    run: &Run,
    addresses: Addresses,
    tools: &Tools,
    options: &Options,
) -> Result<Component> {
    let pki = run.pki();
    let key = |name: &str| pki.join(name).display().to_string();
    let mut command = vec![
        tools.program("kube-apiserver")?,
        "--etcd-servers=http://127.0.0.1:2379".to_owned(),
        format!("--advertise-address={}", addresses.control()),
        format!("--bind-address={}", addresses.control()),
        "--secure-port=6443".to_owned(),
        format!("--cert-dir={}", pki.display()),
        format!("--tls-cert-file={}", key("apiserver.crt")),
        format!("--tls-private-key-file={}", key("apiserver.key")),
        format!("--client-ca-file={}", key("ca.crt")),
        format!("--service-account-key-file={}", key("sa.pub")),
        format!("--service-account-signing-key-file={}", key("sa.key")),
        "--service-account-issuer=https://kubernetes.default.svc.cluster.local".to_owned(),
        format!("--service-cluster-ip-range={}", addresses.services()),
        "--authorization-mode=Node,RBAC".to_owned(),
        "--enable-admission-plugins=NodeRestriction".to_owned(),
        "--allow-privileged=true".to_owned(),
        format!("--kubelet-client-certificate={}", key("kubelet-client.crt")),
        format!("--kubelet-client-key={}", key("kubelet-client.key")),
        format!("--kubelet-certificate-authority={}", key("ca.crt")),
        // Nobody resolves the nodes' names.
        "--kubelet-preferred-address-types=InternalIP".to_owned(),
        // It is stopped to see what goes on without it, not to see how it stops.
        "--shutdown-delay-duration=0s".to_owned(),
        "--profiling=false".to_owned(),
    ];
    if options.audit {
        let policy = run.root().join("audit-policy.json");
        fs::write(&policy, AUDIT_POLICY).map_err(at(&policy))?;
        command.push(format!("--audit-policy-file={}", policy.display()));
        command.push(format!("--audit-log-path={}", run.audit().display()));
    }
    Ok(Component::control(run, "kube-apiserver", command))
}

/// The controllers.
pub(crate) fn controller_manager(
    run: &Run,
    addresses: Addresses,
    tools: &Tools,
    options: &Options,
) -> Result<Component> {
    let pki = run.pki();
    let command = vec![
        tools.program("kube-controller-manager")?,
        format!("--kubeconfig={}", run.kubeconfig_of("kube-controller-manager").display()),
        format!("--cert-dir={}", pki.join("kcm").display()),
        format!("--service-account-private-key-file={}", pki.join("sa.key").display()),
        format!("--root-ca-file={}", pki.join("ca.crt").display()),
        format!("--cluster-cidr={}", addresses.pods()),
        "--use-service-account-credentials=true".to_owned(),
        "--leader-elect=false".to_owned(),
        format!("--kube-api-qps={}", options.controller_qps),
        format!("--kube-api-burst={}", options.controller_qps.saturating_mul(2)),
        "--profiling=false".to_owned(),
    ];
    Ok(Component::control(run, "kube-controller-manager", command))
}

/// The scheduler.
pub(crate) fn scheduler(run: &Run, tools: &Tools, options: &Options) -> Result<Component> {
    let config = run.root().join("scheduler.json");
    let text = serde_json::json!({
        "apiVersion": "kubescheduler.config.k8s.io/v1",
        "kind": "KubeSchedulerConfiguration",
        "clientConnection": {
            "kubeconfig": run.kubeconfig_of("kube-scheduler"),
            "qps": options.controller_qps,
            "burst": options.controller_qps.saturating_mul(2),
        },
        "leaderElection": {"leaderElect": false},
    });
    fs::write(&config, format!("{text:#}\n")).map_err(at(&config))?;
    let command = vec![
        tools.program("kube-scheduler")?,
        format!("--config={}", config.display()),
        format!("--cert-dir={}", run.pki().join("scheduler").display()),
    ];
    Ok(Component::control(run, "kube-scheduler", command))
}

/// The cluster's DNS. It is no pod, so that no fault of a node is a fault of DNS.
pub(crate) fn coredns(run: &Run, addresses: Addresses, tools: &Tools) -> Result<Component> {
    let path = run.root().join("Corefile");
    let text = format!(
        ".:53 {{
    bind {address}
    errors
    ready {address}:{DNS_READY}
    kubernetes cluster.local in-addr.arpa ip6.arpa {{
        kubeconfig {kubeconfig}
        pods insecure
        ttl 1
        fallthrough in-addr.arpa ip6.arpa
    }}
    cache 1
}}
",
        address = addresses.control(),
        kubeconfig = run.kubeconfig_of("coredns").display(),
    );
    fs::write(&path, text).map_err(at(&path))?;
    let command = vec![tools.program("coredns")?, "-conf".to_owned(), path.display().to_string()];
    Ok(Component::control(run, "coredns", command))
}
