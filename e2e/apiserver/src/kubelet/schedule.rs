//! Where a pod may run.

use std::sync::Arc;

use jiff::Timestamp;
use serde_json::{Value, json};

use super::{Kubelet, condition, place};

impl Kubelet {
    /// Gives a pod the node with the fewest pods among those that take it, or says why none does.
    pub(super) fn schedule(&self, pod: &Value, now: Timestamp) {
        let (namespace, name) = place(pod);
        if pod["spec"]["schedulingGates"].as_array().is_some_and(|gates| !gates.is_empty()) {
            return;
        }
        let pods = self.server.all("pods", "");
        let nodes = self.server.all("nodes", "");
        let mut best: Option<(usize, String)> = None;
        let mut reasons = std::collections::BTreeMap::new();
        for node in &nodes {
            let name = node["metadata"]["name"].as_str().unwrap_or_default().to_owned();
            if let Some(why) = refusal(pod, node, &pods) {
                *reasons.entry(why).or_insert(0) += 1;
                continue;
            }
            let count = pods.iter().filter(|pod| pod["spec"]["nodeName"] == *name).count();
            if best.as_ref().is_none_or(|best| (count, &name) < (best.0, &best.1)) {
                best = Some((count, name));
            }
        }
        self.server.edit("pods", &namespace, &name, |pod| {
            if let Some((_, node)) = best {
                pod["spec"]["nodeName"] = node.into();
                condition(pod, "PodScheduled", "True", "", now);
                if let Some(one) = scheduled(pod) {
                    one.as_object_mut().map(|one| one.remove("message"));
                }
                return;
            }
            condition(pod, "PodScheduled", "False", "Unschedulable", now);
            let said: Vec<_> = reasons.iter().map(|(why, count)| format!("{count} {why}")).collect();
            let message = format!("0/{} nodes are available: {}.", nodes.len(), said.join(", "));
            if let Some(one) = scheduled(pod) {
                one["message"] = message.into();
            }
        });
    }
}

fn scheduled(pod: &mut Value) -> Option<&mut Value> {
    pod["status"]["conditions"].as_array_mut()?.iter_mut().find(|one| one["type"] == "PodScheduled")
}

/// Why a node does not take a pod.
fn refusal(pod: &Value, node: &Value, pods: &[Arc<Value>]) -> Option<String> {
    let spec = &pod["spec"];
    let labels = &node["metadata"]["labels"];
    let ready = node["status"]["conditions"].as_array().into_iter().flatten();
    if !ready.into_iter().any(|one| one["type"] == "Ready" && one["status"] == "True") {
        return Some("node(s) were not ready".to_owned());
    }
    if node["spec"]["unschedulable"] == true {
        return Some("node(s) were unschedulable".to_owned());
    }
    for taint in node["spec"]["taints"].as_array().into_iter().flatten() {
        let tolerated = spec["tolerations"].as_array().into_iter().flatten().any(|one| {
            (one["key"].is_null() || one["key"] == taint["key"])
                && (one["effect"].is_null() || one["effect"] == taint["effect"])
                && (one["operator"] == "Exists" || one["value"] == taint["value"])
        });
        if taint["effect"] != "PreferNoSchedule" && !tolerated {
            return Some("node(s) had untolerated taint(s)".to_owned());
        }
    }
    let selected =
        spec["nodeSelector"].as_object().into_iter().flatten().all(|(key, value)| labels[key] == *value);
    let affinity = &spec["affinity"]["nodeAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"];
    let terms = affinity["nodeSelectorTerms"].as_array();
    let wanted = terms.is_none_or(|terms| terms.iter().any(|term| takes(term, node)));
    if !selected || !wanted {
        return Some("node(s) didn't match Pod's node affinity/selector".to_owned());
    }
    let own = node["metadata"]["name"].as_str().unwrap_or_default();
    for (resource, count) in extended(pod) {
        let there = quantity(&node["status"]["allocatable"][resource.as_str()]);
        let used: u64 = pods
            .iter()
            .filter(|other| other["spec"]["nodeName"] == own)
            .filter(|other| !matches!(other["status"]["phase"].as_str(), Some("Succeeded" | "Failed")))
            .map(|other| extended(other).get(&resource).copied().unwrap_or_default())
            .sum();
        if used + count > there {
            return Some(format!("Insufficient {resource}"));
        }
    }
    None
}

fn takes(term: &Value, node: &Value) -> bool {
    let holds = |one: &Value, value: &Value| {
        let within = one["values"].as_array().is_some_and(|values| values.contains(value));
        match one["operator"].as_str() {
            Some("In") => within,
            Some("NotIn") => !within,
            Some("Exists") => !value.is_null(),
            Some("DoesNotExist") => value.is_null(),
            _ => false,
        }
    };
    let key = |one: &Value| one["key"].as_str().unwrap_or_default().to_owned();
    let labels = term["matchExpressions"].as_array().into_iter().flatten();
    let fields = term["matchFields"].as_array().into_iter().flatten();
    labels.into_iter().all(|one| holds(one, &node["metadata"]["labels"][key(one)]))
        && fields.into_iter().all(|one| holds(one, &node["metadata"]["name"]))
}

/// The extended resources that a pod asks for.
fn extended(pod: &Value) -> std::collections::BTreeMap<String, u64> {
    let mut found = std::collections::BTreeMap::new();
    for container in pod["spec"]["containers"].as_array().into_iter().flatten() {
        let limits = container["resources"]["limits"].as_object().into_iter().flatten();
        for (resource, count) in limits.filter(|(resource, _)| resource.contains('/')) {
            *found.entry(resource.clone()).or_default() += quantity(count);
        }
    }
    found
}

fn quantity(value: &Value) -> u64 {
    value.as_u64().or_else(|| value.as_str().and_then(|text| text.parse().ok())).unwrap_or_default()
}

/// An address within the pods' network.
pub(super) fn address(count: u32) -> Value {
    json!(std::net::Ipv4Addr::from(u32::from(std::net::Ipv4Addr::new(10, 244, 0, 1)) + count).to_string())
}
