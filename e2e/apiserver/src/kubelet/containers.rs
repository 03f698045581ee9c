//! Containers: started, ended, started again in place, and what the pod's status says of it.

use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

use super::{ADDRESS, Ended, Kubelet, condition, place, schedule};
use crate::clock::seconds;

/// Images of this prefix are not to be had.
const MISSING: &str = "missing/";

impl Kubelet {
    /// Starts all containers of a pod that has its node; they are ready at once.
    pub(super) fn start(&self, pod: &Value, now: Timestamp) {
        let (namespace, name) = place(pod);
        let (count, closed_gates) = {
            let mut inner = self.lock();
            inner.addresses += 1;
            (inner.addresses, inner.closed_gates)
        };
        self.server.edit("pods", &namespace, &name, |pod| {
            let images = pod["spec"]["containers"].as_array().into_iter().flatten();
            let missing =
                images.into_iter().any(|one| one["image"].as_str().unwrap_or_default().starts_with(MISSING));
            let spec = pod["spec"].clone();
            let statuses = |list: &str| -> Vec<Value> {
                let containers = spec[list].as_array().into_iter().flatten();
                containers.map(|container| started(container, list == "initContainers", now)).collect()
            };
            let (init, main) = (statuses("initContainers"), statuses("containers"));
            let status = &mut pod["status"];
            status["startTime"] = seconds(now).into();
            status["hostIP"] = ADDRESS.into();
            status["podIP"] = schedule::address(count);
            status["podIPs"] = json!([{"ip": status["podIP"]}]);
            if !init.is_empty() {
                status["initContainerStatuses"] = init.into();
            }
            status["containerStatuses"] = main.into();
            condition(pod, "Initialized", "True", "", now);
            if !missing {
                pod["status"]["phase"] = "Running".into();
            }
            let gates = pod["spec"]["readinessGates"].as_array().cloned().unwrap_or_default();
            for gate in gates.iter().filter(|_| !closed_gates) {
                condition(pod, gate["conditionType"].as_str().unwrap_or_default(), "True", "", now);
            }
            ready(pod, now);
        });
    }

    /// Ends a container. The pod's restartPolicy says what follows: at once the first time, after the kubelet's back-off from the second.
    pub fn end(&self, namespace: &str, name: &str, container: &str, how: &Ended) -> bool {
        let now = self.server.now();
        self.server.edit("pods", namespace, name, |pod| {
            let policy = policy(pod, container);
            let again = match policy.as_str() {
                "Always" => true,
                "OnFailure" => how.code != 0,
                _ => false,
            };
            if let Some(status) = status_of(pod, container) {
                let began = status["state"]["running"]["startedAt"].clone();
                let ended = terminated(how, &began, now);
                if again {
                    let restarts = status["restartCount"].as_u64().unwrap_or_default();
                    status["lastState"] = json!({"terminated": ended});
                    status["ready"] = (restarts == 0).into();
                    status["started"] = (restarts == 0).into();
                    if restarts == 0 {
                        status["restartCount"] = 1.into();
                        status["state"] = json!({"running": {"startedAt": seconds(now)}});
                    } else {
                        let message =
                            format!("back-off {}s restarting failed container={container}", wait(restarts));
                        status["state"] =
                            json!({"waiting": {"reason": "CrashLoopBackOff", "message": message}});
                    }
                } else {
                    status["state"] = json!({"terminated": ended});
                    status["ready"] = false.into();
                    status["started"] = false.into();
                }
            }
            finish(pod, now);
            ready(pod, now);
        })
    }

    /// Sets whether the widget's container is ready.
    pub fn set_container_ready(&self, namespace: &str, name: &str, container: &str, is: bool) -> bool {
        let now = self.server.now();
        self.server.edit("pods", namespace, name, |pod| {
            if let Some(status) = status_of(pod, container) {
                status["ready"] = is.into();
            }
            ready(pod, now);
        })
    }

    /// Starts the containers whose back-off is over, and says of the pod what its readiness gates say.
    pub(super) fn look_again(&self, pod: &Value, now: Timestamp) {
        let (namespace, name) = place(pod);
        if gates_moved(pod) {
            self.server.edit("pods", &namespace, &name, |pod| ready(pod, now));
        }
        let due = |status: &Value| {
            let restarts = status["restartCount"].as_u64().unwrap_or_default();
            let ended = status["lastState"]["terminated"]["finishedAt"].as_str().unwrap_or_default();
            let waits = SignedDuration::from_secs(wait(restarts));
            status["state"]["waiting"]["reason"] == "CrashLoopBackOff"
                && ended.parse::<Timestamp>().is_ok_and(|ended| now.duration_since(ended) >= waits)
        };
        let statuses =
            |pod: &Value| pod["status"]["containerStatuses"].as_array().cloned().unwrap_or_default();
        if !statuses(pod).iter().any(due) {
            return;
        }
        self.server.edit("pods", &namespace, &name, |pod| {
            for status in pod["status"]["containerStatuses"].as_array_mut().into_iter().flatten() {
                if due(status) {
                    status["restartCount"] = (status["restartCount"].as_u64().unwrap_or_default() + 1).into();
                    status["state"] = json!({"running": {"startedAt": seconds(now)}});
                    status["ready"] = true.into();
                    status["started"] = true.into();
                }
            }
            ready(pod, now);
        });
    }
}

/// Seconds before a restart that follows so many.
fn wait(restarts: u64) -> i64 {
    i64::try_from((10_u64 << restarts.saturating_sub(1).min(5)).min(300)).unwrap_or(300)
}

fn started(container: &Value, init: bool, now: Timestamp) -> Value {
    let name = container["name"].clone();
    let image = container["image"].clone();
    let mut status = json!({
        "name": name, "image": image, "imageID": image, "restartCount": 0,
        "containerID": format!("containerd://{}", name.as_str().unwrap_or_default()),
    });
    if image.as_str().unwrap_or_default().starts_with(MISSING) {
        let message = format!("Back-off pulling image {image}: not found");
        status["ready"] = false.into();
        status["started"] = false.into();
        status["state"] = json!({"waiting": {"reason": "ImagePullBackOff", "message": message}});
    } else if init && container["restartPolicy"] != "Always" {
        status["ready"] = true.into();
        status["started"] = false.into();
        status["state"] = json!({"terminated": terminated(&Ended::code(0), &seconds(now).into(), now)});
    } else {
        status["ready"] = true.into();
        status["started"] = true.into();
        status["state"] = json!({"running": {"startedAt": seconds(now)}});
    }
    status
}

fn terminated(how: &Ended, began: &Value, now: Timestamp) -> Value {
    let mut ended = json!({
        "exitCode": how.code, "reason": how.reason, "finishedAt": seconds(now),
        "startedAt": if began.is_null() { seconds(now).into() } else { began.clone() },
    });
    if how.signal != 0 {
        ended["signal"] = how.signal.into();
    }
    if !how.message.is_empty() {
        ended["message"] = how.message.clone().into();
    }
    ended
}

fn status_of<'p>(pod: &'p mut Value, container: &str) -> Option<&'p mut Value> {
    let status = pod["status"].as_object_mut()?;
    for (list, statuses) in status.iter_mut() {
        if list == "containerStatuses" || list == "initContainerStatuses" {
            let found = statuses.as_array_mut().into_iter().flatten().find(|one| one["name"] == container);
            if found.is_some() {
                return found;
            }
        }
    }
    None
}

/// The restart policy that holds for a container.
fn policy(pod: &Value, container: &str) -> String {
    let own = ["initContainers", "containers"]
        .iter()
        .flat_map(|list| pod["spec"][list].as_array().into_iter().flatten())
        .find(|one| one["name"] == container)
        .and_then(|one| one["restartPolicy"].as_str());
    own.or_else(|| pod["spec"]["restartPolicy"].as_str()).unwrap_or("Always").to_owned()
}

/// Where the last main container ended for good, the pod has.
fn finish(pod: &mut Value, now: Timestamp) {
    let codes: Vec<_> = pod["status"]["containerStatuses"]
        .as_array()
        .into_iter()
        .flatten()
        .map(|status| status["state"]["terminated"]["exitCode"].as_i64())
        .collect();
    let Some(codes) = codes.into_iter().collect::<Option<Vec<_>>>() else { return };
    if codes.is_empty() {
        return;
    }
    let well = codes.iter().all(|code| *code == 0);
    end_all(pod, &Ended::code(0), now);
    pod["status"]["phase"] = if well { "Succeeded" } else { "Failed" }.into();
}

/// Ends every container that still runs.
pub(super) fn end_all(pod: &mut Value, how: &Ended, now: Timestamp) {
    for list in ["initContainerStatuses", "containerStatuses"] {
        for status in pod["status"][list].as_array_mut().into_iter().flatten() {
            if status["state"]["terminated"].is_null() {
                let began = status["state"]["running"]["startedAt"].clone();
                status["state"] = json!({"terminated": terminated(how, &began, now)});
                status["ready"] = false.into();
                status["started"] = false.into();
            }
        }
        if pod["status"][list].is_null() {
            pod["status"].as_object_mut().map(|status| status.remove(list));
        }
    }
    ready(pod, now);
}

/// Puts the pod's own readiness in step with its containers'.
fn ready(pod: &mut Value, now: Timestamp) {
    let restartable: Vec<_> = pod["spec"]["initContainers"]
        .as_array()
        .into_iter()
        .flatten()
        .filter(|container| container["restartPolicy"] == "Always")
        .map(|container| container["name"].clone())
        .collect();
    let main = pod["status"]["containerStatuses"].as_array().cloned().unwrap_or_default();
    let init = pod["status"]["initContainerStatuses"].as_array().cloned().unwrap_or_default();
    let sidecars = init.iter().filter(|status| restartable.contains(&status["name"]));
    let all = !main.is_empty() && main.iter().chain(sidecars).all(|status| status["ready"] == true);
    let ended = matches!(pod["status"]["phase"].as_str(), Some("Succeeded" | "Failed"));
    let (status, reason) = match (all && !ended, ended) {
        (true, _) => ("True", ""),
        (false, true) => ("False", "PodCompleted"),
        (false, false) => ("False", "ContainersNotReady"),
    };
    condition(pod, "ContainersReady", status, reason, now);
    let (status, reason) = if status == "True" && !gates_open(pod) {
        ("False", "ReadinessGatesNotReady")
    } else {
        (status, reason)
    };
    condition(pod, "Ready", status, reason, now);
}

/// Whether all that a pod's readiness waits for beside its containers has come.
fn gates_open(pod: &Value) -> bool {
    let conditions = pod["status"]["conditions"].as_array();
    let is_true = |wanted: &Value| {
        conditions.into_iter().flatten().any(|one| one["type"] == *wanted && one["status"] == "True")
    };
    pod["spec"]["readinessGates"].as_array().into_iter().flatten().all(|gate| is_true(&gate["conditionType"]))
}

/// Whether a pod says something else of its readiness than its gates do.
pub(super) fn gates_moved(pod: &Value) -> bool {
    let of = |wanted: &str| {
        let conditions = pod["status"]["conditions"].as_array();
        conditions.into_iter().flatten().any(|one| one["type"] == *wanted && one["status"] == "True")
    };
    of("Ready") != (of("ContainersReady") && gates_open(pod))
}
