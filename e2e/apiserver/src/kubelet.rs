//! Nodes and what runs on them: a scheduler and a kubelet that do one thing at a time, when a test says so.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};
use tokio::task::JoinSet;

use crate::{clock::seconds, server::ApiServer};

mod containers;
mod schedule;

/// Where every machine is found: nothing listens there, and nobody else is there.
const ADDRESS: &str = "127.255.0.1";

/// A node.
#[derive(Clone, Debug, Default)]
pub struct Machine {
    /// Its name, and its label `kubernetes.io/hostname`.
    pub name: String,
    /// More labels.
    pub labels: BTreeMap<String, String>,
    /// Extended resources, as `nvidia.com/gpu`, and how many there are.
    pub extended: BTreeMap<String, u64>,
}

impl Machine {
    /// A node with nothing special about it.
    pub fn named(name: &str) -> Self {
        Self { name: name.to_owned(), ..Self::default() }
    }

    /// With so many of an extended resource.
    #[must_use]
    pub fn with(mut self, resource: &str, count: u64) -> Self {
        self.extended.insert(resource.to_owned(), count);
        self
    }
}

/// How a container ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ended {
    /// The exit code.
    pub code: i32,
    /// The signal, or 0.
    pub signal: i32,
    /// `Error`, `Completed`, `OOMKilled`.
    pub reason: String,
    /// What it said, as its termination message.
    pub message: String,
}

impl Ended {
    /// By itself, with a code.
    pub fn code(code: i32) -> Self {
        let reason = if code == 0 { "Completed" } else { "Error" };
        Self { code, signal: 0, reason: reason.to_owned(), message: String::new() }
    }

    /// Killed for its memory.
    pub fn out_of_memory() -> Self {
        Self { code: 137, signal: 0, reason: "OOMKilled".to_owned(), message: String::new() }
    }
}

/// The scheduler, and a kubelet for each node. Clones are the same.
#[derive(Clone)]
pub struct Kubelet {
    server: ApiServer,
    inner: Arc<Mutex<Inner>>,
}

#[derive(Default)]
struct Inner {
    /// Nodes that nobody hears of: nothing happens there.
    lost: BTreeSet<String>,
    /// Whether pods that are being deleted stay until they are let go one by one.
    slow_deletes: bool,
    /// Whether pods stay as they are before they start.
    slow_starts: bool,
    /// Whether readiness gates are left to whoever is to open them.
    closed_gates: bool,
    addresses: u32,
    /// When the nodes' leases were renewed.
    renewed: Option<Timestamp>,
}

/// A kubelet that acts by itself; it stops when this is dropped.
pub struct Running {
    _tasks: JoinSet<()>,
}

impl Kubelet {
    /// For a server, without nodes.
    pub fn new(server: &ApiServer) -> Self {
        Self { server: server.clone(), inner: Arc::new(Mutex::new(Inner::default())) }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds a node that is ready.
    pub fn add(&self, machine: &Machine) {
        let now = seconds(self.server.now());
        let mut capacity = json!({"cpu": "8", "memory": "32Gi", "pods": "110"});
        for (resource, count) in &machine.extended {
            capacity[resource] = count.to_string().into();
        }
        let mut labels = json!({"kubernetes.io/hostname": machine.name, "kubernetes.io/os": "linux"});
        for (key, value) in &machine.labels {
            labels[key] = value.clone().into();
        }
        let node = json!({
            "apiVersion": "v1", "kind": "Node", "metadata": {"name": machine.name, "labels": labels},
            "status": {
                "capacity": capacity, "allocatable": capacity,
                "addresses": [{"type": "InternalIP", "address": ADDRESS}, {"type": "Hostname", "address": machine.name}],
                "conditions": [{
                    "type": "Ready", "status": "True", "reason": "KubeletReady", "message": "kubelet is posting ready status",
                    "lastHeartbeatTime": now, "lastTransitionTime": now,
                }],
            },
        });
        drop(self.server.put(node));
        let lease = json!({
            "apiVersion": "coordination.k8s.io/v1", "kind": "Lease",
            "metadata": {"name": machine.name, "namespace": "kube-node-lease"},
            "spec": {"holderIdentity": machine.name, "leaseDurationSeconds": 40, "renewTime": micros(self.server.now())},
        });
        drop(self.server.put(lease));
    }

    /// Keeps pods that are being deleted until [`Self::let_go`].
    pub fn set_slow_deletes(&self, slow: bool) {
        self.lock().slow_deletes = slow;
        self.server.wake();
    }

    /// Keeps pods from starting.
    pub fn set_slow_starts(&self, slow: bool) {
        self.lock().slow_starts = slow;
        self.server.wake();
    }

    /// Leaves readiness gates to whoever is to open them. Without this they open as the containers start.
    pub fn set_closed_gates(&self, closed: bool) {
        self.lock().closed_gates = closed;
    }

    /// Silences a node: its pods stay as they are in the API, and deletions there do not end.
    pub fn lose(&self, node: &str) {
        self.lock().lost.insert(node.to_owned());
    }

    /// Whether nobody hears of a node.
    pub fn is_lost(&self, node: &str) -> bool {
        self.lock().lost.contains(node)
    }

    /// Gives a node its voice back.
    pub fn find(&self, node: &str) {
        self.lock().lost.remove(node);
        self.set_ready(node, "True", "KubeletReady");
    }

    /// What the node controller writes of a node that it does not hear of: `Unknown`, `NodeStatusUnknown`.
    pub fn set_ready(&self, node: &str, status: &str, reason: &str) {
        let now = seconds(self.server.now());
        self.server.edit("nodes", "", node, |node| {
            let conditions = node["status"]["conditions"].as_array_mut().into_iter().flatten();
            for condition in conditions.filter(|condition| condition["type"] == "Ready") {
                condition["status"] = status.into();
                condition["reason"] = reason.into();
                condition["lastTransitionTime"] = now.clone().into();
            }
        });
    }

    /// One round over all pods: each that can go on does one step. `false`: nothing changed.
    pub fn step(&self) -> bool {
        let now = self.server.now();
        self.renew(now);
        let before = self.server.version();
        for pod in self.server.all("pods", "") {
            let node = pod["spec"]["nodeName"].as_str().unwrap_or_default();
            let deleting = pod["metadata"]["deletionTimestamp"].is_string();
            let (lost, slow_deletes, slow_starts) = {
                let inner = self.lock();
                (inner.lost.contains(node), inner.slow_deletes, inner.slow_starts)
            };
            let (namespace, name) = place(&pod);
            if lost {
                continue;
            }
            if deleting {
                if !slow_deletes {
                    self.let_go(&namespace, &name);
                }
            } else if node.is_empty() {
                self.schedule(&pod, now);
            } else if pod["status"]["phase"] == "Pending" {
                if !slow_starts {
                    self.start(&pod, now);
                }
            } else {
                self.look_again(&pod, now);
            }
        }
        self.server.version() != before
    }

    /// Rounds until nothing changes.
    pub fn settle(&self) {
        for _ in 0..64 {
            if !self.step() {
                return;
            }
        }
    }

    /// Acts by itself on each change, and looks around every 250 ms of tokio's time.
    pub fn run(&self) -> Running {
        let kubelet = self.clone();
        let mut tasks = JoinSet::new();
        tasks.spawn(async move {
            let mut pulse = kubelet.server.pulse();
            loop {
                pulse.mark_unchanged();
                kubelet.step();
                tokio::select! {
                    changed = pulse.changed() => if changed.is_err() { return },
                    () = tokio::time::sleep(Duration::from_millis(250)) => {}
                }
            }
        });
        Running { _tasks: tasks }
    }

    /// Ends the deletion of a pod, whatever its grace.
    pub fn let_go(&self, namespace: &str, name: &str) {
        drop(self.server.delete_with("pods", namespace, name, &json!({"gracePeriodSeconds": 0})));
    }

    /// Ends a pod for lack of room, as a kubelet does.
    pub fn evict(&self, namespace: &str, name: &str) {
        let message = "The node was low on resource: memory.";
        self.fail(namespace, name, "Evicted", message, ("DisruptionTarget", "TerminationByKubelet"));
    }

    /// Ends a pod in favour of one that matters more, as the scheduler does.
    pub fn preempt(&self, namespace: &str, name: &str) {
        let now = self.server.now();
        self.server.edit("pods", namespace, name, |pod| {
            condition(pod, "DisruptionTarget", "True", "PreemptionByScheduler", now);
        });
        drop(self.server.delete("pods", namespace, name));
    }

    fn fail(&self, namespace: &str, name: &str, reason: &str, message: &str, sign: (&str, &str)) {
        let now = self.server.now();
        self.server.edit("pods", namespace, name, |pod| {
            condition(pod, sign.0, "True", sign.1, now);
            containers::end_all(pod, &Ended { signal: 9, ..Ended::code(137) }, now);
            pod["status"]["phase"] = "Failed".into();
            pod["status"]["reason"] = reason.into();
            pod["status"]["message"] = message.into();
        });
    }

    fn renew(&self, now: Timestamp) {
        let due = |at: Timestamp| now.duration_since(at) >= SignedDuration::from_secs(10);
        let lost = {
            let mut inner = self.lock();
            if !inner.renewed.is_none_or(due) {
                return;
            }
            inner.renewed = Some(now);
            inner.lost.clone()
        };
        for lease in self.server.all("leases.coordination.k8s.io", "kube-node-lease") {
            let name = lease["metadata"]["name"].as_str().unwrap_or_default();
            if !lost.contains(name) {
                self.server.edit("leases.coordination.k8s.io", "kube-node-lease", name, |lease| {
                    lease["spec"]["renewTime"] = micros(now).into();
                });
            }
        }
    }
}

fn micros(at: Timestamp) -> String {
    at.strftime("%Y-%m-%dT%H:%M:%S%.6fZ").to_string()
}

fn place(pod: &Value) -> (String, String) {
    let text = |field: &str| pod["metadata"][field].as_str().unwrap_or_default().to_owned();
    (text("namespace"), text("name"))
}

/// Sets a condition of a pod.
fn condition(pod: &mut Value, kind: &str, status: &str, reason: &str, now: Timestamp) {
    let next = json!({"type": kind, "status": status, "reason": reason, "lastTransitionTime": seconds(now)});
    let next = if reason.is_empty() {
        json!({"type": kind, "status": status, "lastTransitionTime": seconds(now)})
    } else {
        next
    };
    if !pod["status"]["conditions"].is_array() {
        pod["status"]["conditions"] = json!([]);
    }
    let Some(conditions) = pod["status"]["conditions"].as_array_mut() else { return };
    match conditions.iter_mut().find(|one| one["type"] == kind) {
        Some(one) if one["status"] == status && one["reason"] == next["reason"] => {}
        Some(one) => *one = next,
        None => conditions.push(next),
    }
}
