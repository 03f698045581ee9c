//! Kontrol on the cluster: its chart installed once for all tests, widgets of a test, and what may befall them.

use std::{
    fs::{self, File},
    path::{Path, PathBuf},
    time::Duration,
};

use k8s_openapi::api::core::v1::Pod;
use kube::{
    Api,
    api::{ListParams, Patch, PatchParams},
    core::{ApiResource, DynamicObject, GroupVersionKind},
};
pub use rustix::process::Signal;
use rustix::{
    fs::{FlockOperation, flock},
    process::{Pid, kill_process},
};
use serde_json::{Value, json};

use super::{Lab, is_ready, operator};
use crate::{Cluster, Error, Result, error::at, network::command};

/// The namespace of the operator.
pub const SYSTEM: &str = "kontrol-system";
/// The image of the test widget.
pub const WIDGET: &str = "kontrol.local/kontrol-test-widget:dev";
/// What the chart is told, so that it takes the images of this work tree.
const VALUES: [&str; 8] = [
    "--set",
    "image.operator.repository=kontrol.local/kontrol-operator",
    "--set",
    "image.operator.tag=dev",
    "--set",
    "image.sidecar.repository=kontrol.local/kontrol-sidecar",
    "--set",
    "image.sidecar.tag=dev",
];

/// A condition of an object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Condition {
    /// `True`, `False` or `Unknown`; empty where there is none.
    pub status: String,
    /// The reason, in one word.
    pub reason: String,
    /// The same for people.
    pub message: String,
}

/// A folder of this work tree.
pub fn tree(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").join(path)
}

/// The chart of this work tree.
pub fn chart() -> String {
    tree("charts/kontrol").display().to_string()
}

/// Installs the chart that an upgrade starts from: its definitions and its rights, with the operator of this work tree.
pub fn install_previous(cluster: &Cluster) -> Result<String> {
    let chart = tree("charts/previous/kontrol-0.0.1.tgz").display().to_string();
    let mut all = vec!["install", "kontrol", &chart, "--namespace", SYSTEM, "--wait", "--timeout", "2m"];
    all.extend(VALUES);
    helm(cluster, &all)
}

/// Runs helm as an administrator; gives what it printed.
pub fn helm(cluster: &Cluster, arguments: &[&str]) -> Result<String> {
    let program =
        cluster.program("helm").map_or_else(|_| "helm".to_owned(), |path| path.display().to_string());
    let config = format!("--kubeconfig={}", cluster.kubeconfig().display());
    let mut all = vec![config.as_str()];
    all.extend(arguments);
    command(&program, &all)
}

/// Installs Kontrol by its chart, or upgrades what is there, and waits until the operator is up.
pub fn install(cluster: &Cluster, further: &[&str]) -> Result<String> {
    let chart = chart();
    let mut all =
        vec!["upgrade", "--install", "kontrol", &chart, "--namespace", SYSTEM, "--create-namespace"];
    all.extend(["--wait", "--timeout", "2m"]);
    all.extend(VALUES);
    all.extend(further);
    helm(cluster, &all)
}

/// Installs Kontrol where it is not there, and puts its operators back where they were scaled away. Processes of tests that come at once
/// wait for the first of them.
pub fn ensure(cluster: &Cluster) -> Result<()> {
    let path = cluster.run().root().join("kontrol.lock");
    let lock = File::create(&path).map_err(at(&path))?;
    flock(&lock, FlockOperation::LockExclusive).map_err(|error| at(&path)(error.into()))?;
    let state = helm(cluster, &["status", "kontrol", "--namespace", SYSTEM, "-o", "json"]);
    if state.is_ok_and(|state| state.contains("\"status\":\"deployed\"")) {
        return operator::put_back(cluster);
    }
    install(cluster, &[]).map(drop)
}

/// What kubectl calls a kind of Kontrol's, for a client that knows none.
pub fn resource(kind: &str) -> ApiResource {
    let plural = match kind {
        "MessageBus" => "messagebuses".to_owned(),
        other => format!("{}s", other.to_lowercase()),
    };
    ApiResource::from_gvk_with_plural(&GroupVersionKind::gvk("kontrol.dev", "v1alpha1", kind), &plural)
}

/// A container of the test widget with `arguments`, for a manifest.
pub fn test_widget(arguments: &[&str]) -> Value {
    json!({"image": WIDGET, "imagePullPolicy": "Never", "args": arguments})
}

/// The same, wrapped in the shim.
pub fn wrapped_widget(arguments: &[&str]) -> Value {
    json!({
        "image": WIDGET, "imagePullPolicy": "Never", "wrapped": true,
        "command": ["/bin/kontrol-test-widget"], "args": arguments,
    })
}

/// An object of Kontrol's.
pub fn object(kind: &str, name: &str, spec: &Value) -> Value {
    json!({"apiVersion": "kontrol.dev/v1alpha1", "kind": kind, "metadata": {"name": name}, "spec": spec})
}

/// Placement on one node.
pub fn on(node: &str) -> Value {
    json!({"nodeSelector": {"kubernetes.io/hostname": node}})
}

impl Lab {
    /// A namespace on a cluster that has Kontrol.
    pub async fn with_kontrol(name: &str) -> Result<Self> {
        let lab = Self::open(name).await?;
        let cluster = lab.cluster().clone();
        tokio::task::spawn_blocking(move || ensure(&cluster))
            .await
            .map_err(|error| Error::Invalid(error.to_string()))??;
        Ok(lab)
    }

    /// Objects of Kontrol's in the namespace.
    pub fn objects(&self, kind: &str) -> Api<DynamicObject> {
        Api::namespaced_with(self.client().clone(), self.namespace(), &resource(kind))
    }

    /// An object as JSON; `null` where there is none.
    pub async fn get(&self, kind: &str, name: &str) -> Result<Value> {
        let found = self.objects(kind).get_opt(name).await?;
        Ok(found.and_then(|object| serde_json::to_value(object).ok()).unwrap_or_default())
    }

    /// Changes an object as `kubectl patch --type=merge` does.
    pub async fn patch(&self, kind: &str, name: &str, change: &Value) -> Result<()> {
        self.objects(kind).patch(name, &PatchParams::default(), &Patch::Merge(change)).await?;
        Ok(())
    }

    /// A condition of an object, empty where there is none.
    pub async fn condition(&self, kind: &str, name: &str, condition: &str) -> Result<Condition> {
        let object = self.get(kind, name).await?;
        let all = object["status"]["conditions"].as_array().cloned().unwrap_or_default();
        let found = all.into_iter().find(|known| known["type"] == condition).unwrap_or_default();
        let text = |name: &str| found[name].as_str().unwrap_or_default().to_owned();
        Ok(Condition { status: text("status"), reason: text("reason"), message: text("message") })
    }

    /// Waits until an object's condition has this status, for the generation that is declared now.
    pub async fn until_condition(
        &self,
        kind: &str,
        name: &str,
        condition: &str,
        status: &str,
    ) -> Result<Condition> {
        let what = format!("{kind} {name} to be {condition}={status}");
        self.wait(&what, async || {
            let object = self.get(kind, name).await?;
            let current = object["status"]["observedGeneration"] == object["metadata"]["generation"];
            let seen = self.condition(kind, name, condition).await?;
            Ok(if current && seen.status == status { Ok(seen) } else { Err((seen, current)) })
        })
        .await
    }

    /// Waits until an object is ready.
    pub async fn until_ready(&self, kind: &str, name: &str) -> Result<Value> {
        self.until_condition(kind, name, "Ready", "True").await?;
        self.get(kind, name).await
    }

    /// Waits until what `read` says of an object is what is wanted.
    pub async fn until_object(
        &self,
        kind: &str,
        name: &str,
        what: &str,
        mut read: impl FnMut(&Value) -> bool,
    ) -> Result<Value> {
        let api = async || self.get(kind, name).await;
        let deadline = crate::clock::now() + super::PATIENCE;
        loop {
            let object = api().await?;
            if read(&object) {
                return Ok(object);
            }
            if crate::clock::now() > deadline {
                let mut seen = object["status"].clone();
                if let Some(status) = seen.as_object_mut() {
                    status.remove("supervision");
                }
                let last = format!("{seen:#}\n{}", self.describe());
                return Err(Error::Timeout { what: what.to_owned(), after: super::PATIENCE, last });
            }
            tokio::time::sleep(super::LOOK).await;
        }
    }

    /// Waits until the status of a widget tells of an end.
    pub async fn until_ended(&self, name: &str) -> Result<Value> {
        let told = |widget: &Value| !widget["status"]["lastEnd"]["reason"].is_null();
        self.until_object("Widget", name, "its end to be told", told).await
    }

    /// The pods of a widget that are not going, in order of ordinal and incarnation. `group` is the widget's own name where it has no group.
    pub async fn pods(&self, group: &str, widget: &str) -> Result<Vec<Pod>> {
        let labels = format!("kontrol.dev/group={group},kontrol.dev/widget={widget}");
        let mut pods = self.api::<Pod>().list(&ListParams::default().labels(&labels)).await?.items;
        pods.retain(|pod| pod.metadata.deletion_timestamp.is_none());
        pods.sort_by_key(|pod| (number(pod, "ordinal"), number(pod, "incarnation")));
        Ok(pods)
    }

    /// Waits until a widget has exactly `count` pods that are ready and none besides, and gives them.
    pub async fn until_pods(&self, group: &str, widget: &str, count: usize) -> Result<Vec<Pod>> {
        let what = format!("{group}/{widget} to have {count} ready pods");
        self.wait(&what, async || {
            let pods = self.pods(group, widget).await?;
            let ready = pods.iter().filter(|pod| is_ready(pod)).count();
            let names: Vec<_> = pods.iter().map(name_of).collect();
            Ok(if ready == count && pods.len() == count { Ok(pods) } else { Err((ready, names)) })
        })
        .await
    }

    /// Waits until a widget's only pod is a ready one of another incarnation than `before`.
    pub async fn until_replaced(&self, group: &str, before: &Pod) -> Result<Pod> {
        let widget = label(before, "widget");
        let what = format!("{} to be replaced", name_of(before));
        self.wait(&what, async || {
            let pods = self.pods(group, &widget).await?;
            let same = |pod: &&Pod| number(pod, "ordinal") == number(before, "ordinal");
            let ours: Vec<_> = pods.iter().filter(same).collect();
            Ok(match ours.as_slice() {
                [pod] if name_of(pod) != name_of(before) && is_ready(pod) => Ok((*pod).clone()),
                other => Err(other.iter().map(|pod| name_of(pod)).collect::<Vec<_>>()),
            })
        })
        .await
    }

    /// Sends a signal to the process of a pod's container, as if it did that to itself.
    pub fn signal(&self, pod: &Pod, container: &str, signal: &str) -> Result<()> {
        signal_container(self.cluster(), pod, container, signal)
    }

    /// The first child of the process of a pod's container whose program is called `program`, by its number on this machine.
    pub fn child(&self, pod: &Pod, container: &str, program: &str) -> Result<i32> {
        let parent = process_of(self.cluster(), pod, container)?;
        let path = PathBuf::from(format!("/proc/{parent}/task/{parent}/children"));
        let children = fs::read_to_string(&path).map_err(at(&path))?;
        let called = |pid: &i32| {
            let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            String::from_utf8_lossy(&line).split('\0').next().is_some_and(|first| first.ends_with(program))
        };
        let child = children.split_whitespace().filter_map(|pid| pid.parse().ok()).find(called);
        child
            .ok_or_else(|| Error::Invalid(format!("no {program} among the children of {parent}: {children}")))
    }

    /// Sends a signal to such a child.
    pub fn signal_child(&self, pod: &Pod, container: &str, program: &str, signal: Signal) -> Result<()> {
        let child = self.child(pod, container, program)?;
        let process = Pid::from_raw(child).ok_or_else(|| Error::Invalid(format!("no process {child}")))?;
        kill_process(process, signal).map_err(|error| at(format!("/proc/{child}"))(error.into()))
    }

    /// What `kubectl get events` knows of reasons, as `(reason, kind/name, note)`.
    pub async fn events(&self) -> Result<Vec<(String, String, String)>> {
        let all = self.api::<k8s_openapi::api::events::v1::Event>().list(&ListParams::default()).await?;
        let told = |event: k8s_openapi::api::events::v1::Event| {
            let regarding = event.regarding.unwrap_or_default();
            let about =
                format!("{}/{}", regarding.kind.unwrap_or_default(), regarding.name.unwrap_or_default());
            (event.reason.unwrap_or_default(), about, event.note.unwrap_or_default())
        };
        Ok(all.items.into_iter().map(told).collect())
    }
}

/// Sends a signal to the process of a container, from its node.
pub fn signal_container(cluster: &Cluster, pod: &Pod, container: &str, signal: &str) -> Result<()> {
    let (socket, id) = container_of(cluster, pod, container)?;
    let ctr = cluster.program("ctr")?.display().to_string();
    command(&ctr, &["-a", &socket, "-n", "k8s.io", "tasks", "kill", "--signal", signal, &id]).map(drop)
}

/// The container of that name in a pod, as `(node's socket, its id)`.
fn container_of(cluster: &Cluster, pod: &Pod, container: &str) -> Result<(String, String)> {
    let status = pod.status.clone().unwrap_or_default();
    let all = status.container_statuses.into_iter().chain(status.init_container_statuses).flatten();
    let id = all
        .filter(|status| status.name == container)
        .find_map(|status| status.container_id)
        .and_then(|id| id.strip_prefix("containerd://").map(str::to_owned))
        .ok_or_else(|| Error::Invalid(format!("{} has no container {container} that runs", name_of(pod))))?;
    let socket = cluster.run().node(&node_of(pod)).join("containerd.sock").display().to_string();
    Ok((socket, id))
}

/// The process, on this machine, of a pod's container.
pub fn process_of(cluster: &Cluster, pod: &Pod, container: &str) -> Result<i32> {
    let (socket, id) = container_of(cluster, pod, container)?;
    let ctr = cluster.program("ctr")?.display().to_string();
    let tasks = command(&ctr, &["-a", &socket, "-n", "k8s.io", "tasks", "list"])?;
    tasks
        .lines()
        .map(|line| line.split_whitespace().collect::<Vec<_>>())
        .find(|words| words.first() == Some(&id.as_str()))
        .and_then(|words| words.get(1)?.parse().ok())
        .ok_or_else(|| Error::Invalid(format!("no process of {id} in {tasks}")))
}

/// A pod's name.
pub fn name_of(pod: &Pod) -> String {
    pod.metadata.name.clone().unwrap_or_default()
}

/// The node that a pod is on.
pub fn node_of(pod: &Pod) -> String {
    pod.spec.as_ref().and_then(|spec| spec.node_name.clone()).unwrap_or_default()
}

/// One of Kontrol's labels.
pub fn label(pod: &Pod, name: &str) -> String {
    let labels = pod.metadata.labels.as_ref();
    labels.and_then(|labels| labels.get(&format!("kontrol.dev/{name}"))).cloned().unwrap_or_default()
}

/// One of Kontrol's labels that is a number.
pub fn number(pod: &Pod, name: &str) -> u64 {
    label(pod, name).parse().unwrap_or_default()
}

/// How often the kubelet has started a container of the pod again.
pub fn restarts(pod: &Pod, container: &str) -> i32 {
    let statuses = pod.status.as_ref().and_then(|status| status.container_statuses.as_ref());
    statuses
        .into_iter()
        .flatten()
        .find(|status| status.name == container)
        .map_or(0, |status| status.restart_count)
}

/// How long Kontrol may take for what takes it a second or two on an idle machine.
pub const SOON: Duration = Duration::from_secs(30);
