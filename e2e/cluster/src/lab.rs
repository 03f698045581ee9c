//! A place for one test on the cluster: a namespace of its own, restricted as far as Kubernetes restricts, gone with the test.

pub mod door;
pub mod kontrol;
pub mod operator;
pub mod web;

use std::{
    fmt::Debug,
    future::Future,
    io::Write as _,
    path::Path,
    process::{Command, Stdio},
    sync::atomic::{AtomicU32, Ordering},
    time::Duration,
};

use k8s_openapi::{NamespaceResourceScope, api::core::v1::Pod};
use kube::{Api, Client, Resource};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use crate::{Cluster, Error, Result, Run, clock, error::at, network::command};

/// How long anything may take that should take seconds on a machine with nothing else to do.
pub const PATIENCE: Duration = Duration::from_mins(3);
/// How often a condition is looked at.
const LOOK: Duration = Duration::from_millis(50);

/// Names namespaces within one process.
static NEXT: AtomicU32 = AtomicU32::new(0);

/// A namespace on the cluster that is up. Dropping it deletes the namespace, and does not wait for that.
pub struct Lab {
    cluster: Cluster,
    client: Client,
    namespace: String,
}

impl Lab {
    /// Makes a namespace on the cluster of this work tree, or the one that `KONTROL_CLUSTER` names. `name` begins the namespace's name.
    pub async fn open(name: &str) -> Result<Self> {
        let run = match std::env::var_os("KONTROL_CLUSTER").and_then(|name| name.into_string().ok()) {
            Some(name) => name.parse()?,
            None => Run::default_name(),
        };
        Self::on(Cluster::open(Run::new(run))?, name).await
    }

    /// Makes a namespace on `cluster`, whose name begins with `name`.
    pub async fn on(cluster: Cluster, name: &str) -> Result<Self> {
        cluster.mend()?;
        let client = cluster.client().await?;
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let namespace = format!("{name}-{}-{number}", std::process::id());
        let lab = Self { cluster, client, namespace };
        lab.apply_anywhere(&json!({
            "apiVersion": "v1", "kind": "Namespace",
            "metadata": {"name": lab.namespace, "labels": {"pod-security.kubernetes.io/enforce": "restricted"}},
        }))?;
        let accounts =
            Api::<k8s_openapi::api::core::v1::ServiceAccount>::namespaced(lab.client.clone(), &lab.namespace);
        lab.wait("the namespace's service account", async || match accounts.get_opt("default").await? {
            Some(_) => Ok(Ok(())),
            None => Ok(Err("it is not there")),
        })
        .await?;
        Ok(lab)
    }

    /// The cluster.
    pub fn cluster(&self) -> &Cluster {
        &self.cluster
    }

    /// An administrator's client.
    pub fn client(&self) -> &Client {
        &self.client
    }

    /// The namespace.
    pub fn namespace(&self) -> &str {
        &self.namespace
    }

    /// The objects of one kind in the namespace.
    pub fn api<K>(&self) -> Api<K>
    where
        K: Resource<Scope = NamespaceResourceScope, DynamicType = ()> + Clone + DeserializeOwned + Debug,
    {
        Api::namespaced(self.client.clone(), &self.namespace)
    }

    /// Runs `kubectl` in the namespace; gives what it printed.
    pub fn kubectl(&self, arguments: &[&str]) -> Result<String> {
        let mut all = vec!["--namespace", self.namespace.as_str()];
        all.extend(arguments);
        self.cluster.kubectl(&all)
    }

    /// Applies an object to the namespace.
    pub fn apply(&self, object: &Value) -> Result<()> {
        self.apply_with(&["--namespace", &self.namespace], &object.to_string())
    }

    /// Applies manifests (YAML or JSON) to the namespace.
    pub fn apply_text(&self, manifests: &str) -> Result<()> {
        self.apply_with(&["--namespace", &self.namespace], manifests)
    }

    /// Applies the manifests in a file or folder to the namespace.
    pub fn apply_path(&self, path: &Path) -> Result<()> {
        self.kubectl(&["apply", "--server-side", "-f", &path.display().to_string()]).map(drop)
    }

    fn apply_anywhere(&self, object: &Value) -> Result<()> {
        self.apply_with(&[], &object.to_string())
    }

    fn apply_with(&self, arguments: &[&str], text: &str) -> Result<()> {
        let program = self.cluster.program("kubectl")?;
        let mut child = Command::new(&program)
            .args(arguments)
            .args(["apply", "--server-side", "-f", "-", "--kubeconfig"])
            .arg(self.cluster.kubeconfig())
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(at(&program))?;
        if let Some(mut input) = child.stdin.take() {
            input.write_all(text.as_bytes()).map_err(at(&program))?;
        }
        let output = child.wait_with_output().map_err(at(program))?;
        if output.status.success() {
            return Ok(());
        }
        let reason = String::from_utf8_lossy(&output.stderr).trim().to_owned();
        Err(Error::Command { command: "kubectl apply".to_owned(), reason })
    }

    /// Waits until `check` gives a value; `Ok(Err(seen))` says what it saw instead. After [`PATIENCE`] it is an error that says both, and what
    /// the namespace's pods and events are.
    pub async fn wait<T, E: Debug, F: Future<Output = Result<Result<T, E>>>>(
        &self,
        what: &str,
        check: impl FnMut() -> F,
    ) -> Result<T> {
        self.wait_within(what, PATIENCE, check).await
    }

    /// [`Lab::wait`] with another patience.
    pub async fn wait_within<T, E: Debug, F: Future<Output = Result<Result<T, E>>>>(
        &self,
        what: &str,
        within: Duration,
        mut check: impl FnMut() -> F,
    ) -> Result<T> {
        let deadline = clock::now() + within;
        loop {
            match check().await? {
                Ok(value) => return Ok(value),
                Err(last) if clock::now() > deadline => {
                    let last = format!("{last:?}\n{}", self.describe());
                    return Err(Error::Timeout { what: what.to_owned(), after: within, last });
                }
                Err(_) => tokio::time::sleep(LOOK).await,
            }
        }
    }

    /// What is in the namespace, for the message of a test that fails.
    pub fn describe(&self) -> String {
        let pods = self.kubectl(&["get", "pods", "-o", "wide"]);
        let events = self.kubectl(&["get", "events", "--sort-by=.lastTimestamp"]);
        let text = |seen: Result<String>| seen.unwrap_or_else(|error| error.to_string());
        format!("pods:\n{}\nevents:\n{}", text(pods), text(events))
    }

    /// Waits until the pod is ready.
    pub async fn ready(&self, pod: &str) -> Result<Pod> {
        let api = self.api::<Pod>();
        let what = format!("the pod {pod} to be ready");
        self.wait(&what, async || {
            let Some(pod) = api.get_opt(pod).await? else {
                return Ok(Err("there is no such pod".to_owned()));
            };
            Ok(if is_ready(&pod) { Ok(pod) } else { Err(format!("{:?}", pod.status)) })
        })
        .await
    }

    /// Waits until the pod has ended, and gives what it wrote.
    pub async fn output(&self, pod: &str) -> Result<String> {
        let api = self.api::<Pod>();
        let what = format!("the pod {pod} to end");
        let phase = self
            .wait(&what, async || {
                let Some(pod) = api.get_opt(pod).await? else {
                    return Ok(Err("there is no such pod".to_owned()));
                };
                Ok(match pod.status.and_then(|status| status.phase) {
                    Some(phase) if phase == "Succeeded" || phase == "Failed" => Ok(phase),
                    other => Err(format!("{other:?}")),
                })
            })
            .await?;
        let output = api.logs(pod, &kube::api::LogParams::default()).await?;
        if phase == "Succeeded" {
            return Ok(output);
        }
        Err(Error::Command { command: format!("the pod {pod}"), reason: format!("{phase}: {output}") })
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        let name = format!("namespace/{}", self.namespace);
        let Ok(program) = self.cluster.program("kubectl") else { return };
        let config = format!("--kubeconfig={}", self.cluster.kubeconfig().display());
        // The cluster goes away after the tests, with all that this leaves.
        command(&program.display().to_string(), &[&config, "delete", &name, "--wait=false", "--now"]).ok();
    }
}

/// Whether a pod is ready.
pub fn is_ready(pod: &Pod) -> bool {
    let conditions = pod.status.as_ref().and_then(|status| status.conditions.as_ref());
    conditions.into_iter().flatten().any(|condition| condition.type_ == "Ready" && condition.status == "True")
}

/// A pod that runs `kontrol-probe` with `arguments`, on `node` if one is named, as restricted as a namespace may ask for.
pub fn probe(name: &str, node: Option<&str>, arguments: &[&str]) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": name, "labels": {"app": name}},
        "spec": {
            "restartPolicy": "Never",
            "automountServiceAccountToken": false,
            "terminationGracePeriodSeconds": 2,
            "nodeSelector": node.map(|node| json!({"kubernetes.io/hostname": node})),
            "securityContext": {"runAsNonRoot": true, "seccompProfile": {"type": "RuntimeDefault"}},
            "containers": [container("probe", arguments)],
        },
    })
}

/// A container that runs `kontrol-probe` with `arguments`, restricted.
pub fn container(name: &str, arguments: &[&str]) -> Value {
    json!({
        "name": name,
        "image": "kontrol.local/kontrol-probe:dev",
        "imagePullPolicy": "Never",
        "args": arguments,
        "securityContext": {
            "allowPrivilegeEscalation": false,
            "readOnlyRootFilesystem": true,
            "capabilities": {"drop": ["ALL"]},
        },
    })
}
