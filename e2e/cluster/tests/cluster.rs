//! The cluster itself: what every other test here relies on.

#![allow(clippy::unwrap_used, reason = "a test's helpers fail the test")]

use std::{
    process::{Command, Stdio},
    time::Duration,
};

use k8s_openapi::api::core::v1::{Node, PersistentVolume, Pod};
use kontrol_e2e_cluster::{
    Entry, Ledger, Run,
    lab::{Lab, container, probe},
};
use kube::{
    Api,
    api::{DeleteParams, ListParams},
};
use serde_json::{Value, json};

fn service(name: &str, headless: bool) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Service", "metadata": {"name": name},
        "spec": {
            "selector": {"app": name},
            "clusterIP": headless.then_some("None"),
            "publishNotReadyAddresses": headless,
            "ports": [{"port": 80, "targetPort": 8080}],
        },
    })
}

fn address(pod: &Pod) -> String {
    pod.status.as_ref().and_then(|status| status.pod_ip.clone()).unwrap()
}

#[tokio::test]
async fn two_real_nodes_are_ready() {
    let lab = Lab::open("nodes").await.unwrap();
    for node in ["node0", "node1"] {
        lab.cluster().wait_for_node(node, true, Duration::from_secs(30)).unwrap();
        let node = Api::<Node>::all(lab.client().clone()).get(node).await.unwrap();
        let info = node.status.unwrap().node_info.unwrap();
        let version = lab.cluster().state().options.kubernetes.as_str();
        assert!(info.kubelet_version.starts_with(&format!("v{version}.")), "{}", info.kubelet_version);
    }
}

#[tokio::test]
async fn a_pod_reaches_a_pod_on_the_other_node_and_on_its_own() {
    let lab = Lab::open("reach").await.unwrap();
    lab.apply(&probe("server", Some("node0"), &["serve", "8080"])).unwrap();
    let address = format!("{}:8080", address(&lab.ready("server").await.unwrap()));
    for node in ["node0", "node1"] {
        let name = format!("asks-from-{node}");
        lab.apply(&probe(&name, Some(node), &["get", &address])).unwrap();
        assert_eq!(lab.output(&name).await.unwrap().trim(), "server");
    }
}

#[tokio::test]
async fn the_host_reaches_pods_and_services() {
    let lab = Lab::open("host").await.unwrap();
    lab.apply(&service("server", false)).unwrap();
    lab.apply(&probe("server", Some("node1"), &["serve", "8080"])).unwrap();
    let pod = address(&lab.ready("server").await.unwrap());
    let service = lab.api::<k8s_openapi::api::core::v1::Service>().get("server").await.unwrap();
    let service = service.spec.unwrap().cluster_ip.unwrap();
    for address in [format!("{pod}:8080"), format!("{service}:80")] {
        lab.wait(&format!("{address} to answer the host"), async || {
            let connected =
                tokio::time::timeout(Duration::from_secs(2), tokio::net::TcpStream::connect(&address));
            Ok(connected
                .await
                .map_err(|error| error.to_string())
                .and_then(|c| c.map_err(|error| error.to_string())))
        })
        .await
        .unwrap();
    }
}

#[tokio::test]
async fn names_resolve_in_a_pod_whose_image_is_one_static_program() {
    let lab = Lab::open("dns").await.unwrap();
    lab.apply(&service("server", true)).unwrap();
    let mut server = probe("server", Some("node0"), &["serve", "8080"]);
    server["spec"]["hostname"] = json!("first");
    server["spec"]["subdomain"] = json!("server");
    lab.apply(&server).unwrap();
    let address = address(&lab.ready("server").await.unwrap());
    let names = ["kubernetes.default.svc.cluster.local", "kubernetes.default", "server", "first.server"];
    let arguments: Vec<&str> = std::iter::once("resolve").chain(names).collect();
    for node in ["node0", "node1"] {
        let name = format!("asks-from-{node}");
        lab.apply(&probe(&name, Some(node), &arguments)).unwrap();
        let output = lab.output(&name).await.unwrap();
        assert!(output.contains(&format!("first.server {address} ")), "{output}");
        assert!(output.contains(&format!("\nserver {address} ")), "{output}");
    }
}

#[tokio::test]
async fn a_service_finds_a_pod_on_the_callers_own_node() {
    let lab = Lab::open("service").await.unwrap();
    lab.apply(&service("server", false)).unwrap();
    lab.apply(&probe("server", Some("node0"), &["serve", "8080"])).unwrap();
    lab.ready("server").await.unwrap();
    for node in ["node0", "node1"] {
        let name = format!("asks-from-{node}");
        lab.apply(&probe(&name, Some(node), &["get", "server:80"])).unwrap();
        assert_eq!(lab.output(&name).await.unwrap().trim(), "server");
    }
}

#[tokio::test]
async fn a_claim_of_any_size_gets_a_volume_on_the_pods_node_that_outlives_the_pod() {
    let lab = Lab::open("volume").await.unwrap();
    let claim = json!({
        "apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": "disk"},
        "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "7Gi"}}},
    });
    lab.apply(&claim).unwrap();
    let with_disk = |name: &str, node: Option<&str>, arguments: &[&str]| {
        let mut pod = probe(name, node, arguments);
        pod["spec"]["volumes"] = json!([{"name": "disk", "persistentVolumeClaim": {"claimName": "disk"}}]);
        pod["spec"]["containers"][0]["volumeMounts"] = json!([{"name": "disk", "mountPath": "/disk"}]);
        pod
    };
    lab.apply(&with_disk("writes", Some("node1"), &["write", "/disk/a", "kept"])).unwrap();
    lab.output("writes").await.unwrap();
    lab.api::<Pod>().delete("writes", &DeleteParams::default()).await.unwrap();
    // With no node named, it follows its volume.
    lab.apply(&with_disk("reads", None, &["read", "/disk/a"])).unwrap();
    assert_eq!(lab.output("reads").await.unwrap().trim(), "kept");
    assert_eq!(
        lab.api::<Pod>().get("reads").await.unwrap().spec.unwrap().node_name.as_deref(),
        Some("node1")
    );

    let volumes = Api::<PersistentVolume>::all(lab.client().clone());
    let ours = |volume: &PersistentVolume| {
        let claim = volume.spec.as_ref().and_then(|spec| spec.claim_ref.as_ref());
        claim.and_then(|claim| claim.namespace.as_deref()) == Some(lab.namespace())
    };
    let volume = volumes.list(&ListParams::default()).await.unwrap().into_iter().find(ours).unwrap();
    let path = volume.spec.unwrap().local.unwrap().path;
    assert!(std::path::Path::new(&path).join("a").exists());
    lab.kubectl(&["delete", "pod", "reads", "--now"]).unwrap();
    lab.kubectl(&["delete", "pvc", "disk"]).unwrap();
    lab.wait("the volume to be gone", async || {
        let gone = volumes.get_opt(volume.metadata.name.as_deref().unwrap()).await?.is_none();
        Ok(if gone && !std::path::Path::new(&path).exists() { Ok(()) } else { Err("it is there") })
    })
    .await
    .unwrap();
}

#[tokio::test]
async fn a_resource_that_a_node_is_said_to_have_is_counted_by_the_scheduler() {
    let lab = Lab::open("gpu").await.unwrap();
    // A resource of this test's own, so that no other test's pods take from it.
    let resource = "cluster.test/gpu";
    lab.cluster().advertise("node1", resource, 1).await.unwrap();
    let wants = |name: &str| {
        let mut pod = probe(name, None, &["wait"]);
        pod["spec"]["containers"][0]["resources"] = json!({"limits": {resource: "1"}});
        pod
    };
    lab.apply(&wants("first")).unwrap();
    let first = lab.ready("first").await.unwrap();
    assert_eq!(first.spec.unwrap().node_name.as_deref(), Some("node1"));
    lab.apply(&wants("second")).unwrap();
    let pods = lab.api::<Pod>();
    lab.wait("the second pod to be unschedulable", async || {
        let conditions =
            pods.get("second").await?.status.and_then(|status| status.conditions).unwrap_or_default();
        let found = conditions
            .iter()
            .any(|c| c.type_ == "PodScheduled" && c.reason.as_deref() == Some("Unschedulable"));
        Ok(if found { Ok(()) } else { Err(conditions) })
    })
    .await
    .unwrap();
}

#[tokio::test]
async fn a_restricted_namespace_refuses_a_pod_that_is_not() {
    let lab = Lab::open("restricted").await.unwrap();
    let mut pod = probe("root", None, &["wait"]);
    pod["spec"]["containers"][0]["securityContext"]["allowPrivilegeEscalation"] = json!(true);
    let refused = lab.apply(&pod).unwrap_err().to_string();
    assert!(refused.contains("violates PodSecurity \"restricted"), "{refused}");
}

#[tokio::test]
async fn a_native_sidecar_starts_first_and_its_pod_runs_restricted() {
    let lab = Lab::open("sidecar").await.unwrap();
    let mut pod = probe("pod", None, &["get", "127.0.0.1:8080"]);
    let mut sidecar = container("sidecar", &["serve", "8080"]);
    sidecar["restartPolicy"] = json!("Always");
    sidecar["startupProbe"] = json!({"httpGet": {"port": 8080, "path": "/"}, "periodSeconds": 1});
    pod["spec"]["initContainers"] = json!([sidecar]);
    lab.apply(&pod).unwrap();
    let pods = lab.api::<Pod>();
    lab.wait("the pod to succeed though its sidecar would serve for ever", async || {
        let phase = pods.get("pod").await?.status.and_then(|status| status.phase);
        Ok(if phase.as_deref() == Some("Succeeded") { Ok(()) } else { Err(phase) })
    })
    .await
    .unwrap();
}

#[tokio::test]
async fn breaks_the_api_server_and_pods_go_on() {
    let lab = Lab::open("api").await.unwrap();
    lab.apply(&probe("server", None, &["serve", "8080"])).unwrap();
    let address = format!("{}:8080", address(&lab.ready("server").await.unwrap()));
    lab.cluster().apiserver_stop().unwrap();
    let asked = lab.api::<Pod>().get("server").await;
    let served = tokio::net::TcpStream::connect(&address).await;
    lab.cluster().apiserver_start().unwrap();
    assert!(asked.is_err());
    served.unwrap();
    lab.ready("server").await.unwrap();
}

#[tokio::test]
async fn breaks_a_nodes_cable_and_puts_it_back() {
    let lab = Lab::open("cable").await.unwrap();
    lab.apply(&probe("server", Some("node1"), &["serve", "8080"])).unwrap();
    let address = format!("{}:8080", address(&lab.ready("server").await.unwrap()));
    let reach = async || {
        let connected =
            tokio::time::timeout(Duration::from_secs(2), tokio::net::TcpStream::connect(&address)).await;
        Ok(match connected {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(error)) => Err(error.to_string()),
            Err(error) => Err(error.to_string()),
        })
    };
    lab.cluster().node_partition("node1").unwrap();
    let cut: kontrol_e2e_cluster::Result<Result<(), String>> = reach().await;
    lab.cluster().node_heal("node1").unwrap();
    assert!(cut.unwrap().is_err());
    lab.wait("the pod to be reached again", reach).await.unwrap();
}

#[tokio::test]
async fn breaks_a_nodes_power_and_gives_it_back() {
    let lab = Lab::open("power").await.unwrap();
    let mut pod = probe("server", Some("node1"), &["serve", "8080"]);
    pod["spec"]["restartPolicy"] = json!("Always");
    lab.apply(&pod).unwrap();
    lab.ready("server").await.unwrap();
    lab.cluster().node_kill("node1").unwrap();
    let status = lab.cluster().status().unwrap();
    let node = status.nodes.iter().find(|node| node.name == "node1").unwrap();
    assert!(!node.running && !node.connected);
    lab.cluster().node_restart("node1").unwrap();
    lab.cluster().wait_for_node("node1", true, Duration::from_mins(2)).unwrap();
    let pods = lab.api::<Pod>();
    lab.wait("the pod's container to be started again", async || {
        let statuses =
            pods.get("server").await?.status.and_then(|status| status.container_statuses).unwrap_or_default();
        let again = statuses.iter().any(|status| status.restart_count > 0 && status.ready);
        Ok(if again { Ok(()) } else { Err(statuses) })
    })
    .await
    .unwrap();
}

/// What of a run is there: network namespaces, cgroups, mounts, addresses, and its folder.
fn traces(run: &Run) -> Vec<String> {
    let named = |folder: &str, begin: &str| -> Vec<String> {
        let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
        let names = entries.map(|entry| entry.file_name().to_string_lossy().into_owned());
        names.filter(|name| name.starts_with(begin)).map(|name| format!("{folder}/{name}")).collect()
    };
    let mut found = named("/run/netns", &run.namespace());
    let hierarchies = std::fs::read_dir("/sys/fs/cgroup").into_iter().flatten().flatten();
    for folder in
        hierarchies.map(|entry| entry.path().display().to_string()).chain(["/sys/fs/cgroup".to_owned()])
    {
        found.extend(named(&folder, &run.cgroup()));
    }
    let root = run.root().display().to_string();
    let mounts = std::fs::read_to_string("/proc/self/mounts").unwrap();
    found.extend(mounts.lines().filter(|line| line.contains(&root)).map(str::to_owned));
    found.extend(run.root().exists().then_some(root));
    let claims = std::fs::read_dir(run.base().join(".addresses")).into_iter().flatten().flatten();
    let ours = claims
        .map(|entry| entry.path())
        .filter(|path| std::fs::read_to_string(path).is_ok_and(|owner| owner == run.name().as_str()));
    found.extend(ours.map(|path| path.display().to_string()));
    found
}

/// The links of the host, each as its index, which a later one does not get, and its name.
fn links() -> Vec<String> {
    let listed = Command::new("ip").args(["-o", "link"]).output().unwrap();
    assert!(listed.status.success(), "{}", String::from_utf8_lossy(&listed.stderr));
    let named = |line: &str| line.split_whitespace().take(2).collect::<Vec<_>>().join(" ");
    String::from_utf8_lossy(&listed.stdout).lines().map(named).collect()
}

/// The links of the host that a run has made.
fn links_of(run: &Run) -> Vec<String> {
    let made = Ledger::read(&run.ledger()).unwrap();
    let named = |link: &String| {
        made.iter().any(|entry| matches!(entry, Entry::Link { name } if link.contains(&format!(" {name}@"))))
    };
    links().into_iter().filter(named).collect()
}

#[tokio::test]
async fn breaks_off_the_making_of_another_cluster_which_is_taken_down_whole_and_this_one_stays() {
    let lab = Lab::open("beside").await.unwrap();
    let run = Run::new(format!("crash-{}", std::process::id()).parse().unwrap());
    let program = |verb: &str| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_kontrol-cluster"));
        command.args(["--name", run.name().as_str(), verb]).stdout(Stdio::null()).stderr(Stdio::null());
        command
    };
    let mut up = program("up").spawn().unwrap();
    let begun = lab.wait("a kubelet of the other cluster to write its log", async || {
        let log = run.logs().join("node0-kubelet.log");
        Ok(if log.exists() { Ok(()) } else { Err(log) })
    });
    let begun = begun.await;
    up.kill().unwrap();
    up.wait().unwrap();
    let (there, linked) = (traces(&run), links_of(&run));
    let down = program("down").status().unwrap();
    begun.unwrap();
    assert!(down.success() && there.len() > 4, "{there:?}");
    assert_eq!(traces(&run), [""; 0]);
    let left = links();
    assert!(linked.len() == 1 && !left.contains(&linked[0]), "{linked:?} of {left:?}");
    for node in ["node0", "node1"] {
        lab.cluster().wait_for_node(node, true, Duration::from_secs(30)).unwrap();
    }
}
