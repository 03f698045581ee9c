//! Whether a node takes pods.

use std::time::{SystemTime, UNIX_EPOCH};

use k8s_openapi::api::core::v1::{Node, NodeCondition};

/// What the control plane keeps pods away with from a node whose kubelet it has not heard, that is not ready, or that is cordoned. It is
/// taken back up to five seconds after the node is ready (`--node-monitor-period`).
const TAINTS: [&str; 3] =
    ["node.kubernetes.io/not-ready", "node.kubernetes.io/unreachable", "node.kubernetes.io/unschedulable"];

/// Whether the API server calls a node ready.
pub(crate) fn is_ready(node: &Node) -> bool {
    condition(node).is_some_and(|condition| condition.status == "True")
}

/// Whether somebody has said that the node is to take no more pods.
pub(crate) fn is_cordoned(node: &Node) -> bool {
    node.spec.as_ref().is_some_and(|spec| spec.unschedulable == Some(true))
}

/// Why a node takes no pods whose kubelet has started then; none: it does. A node is called ready by the word of a kubelet that is long gone until
/// its lease has run out, and by that of the next one only once it has said so.
pub(crate) fn why_not(node: &Node, started: SystemTime) -> Option<String> {
    if !is_ready(node) {
        return Some("it is not ready".to_owned());
    }
    let heartbeat = condition(node).and_then(|condition| condition.last_heartbeat_time.as_ref());
    let started = started.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    if heartbeat.is_none_or(|at| at.0.as_second() < i64::try_from(started).unwrap_or(i64::MAX)) {
        return Some("it is ready by the word of a kubelet that has ended".to_owned());
    }
    if is_cordoned(node) {
        return Some("it is ready, and cordoned".to_owned());
    }
    let taints = node.spec.iter().flat_map(|spec| spec.taints.iter().flatten());
    let taint = taints.map(|taint| &taint.key).find(|key| TAINTS.contains(&key.as_str()))?;
    Some(format!("it is ready, and still has the taint {taint}"))
}

fn condition(node: &Node) -> Option<&NodeCondition> {
    node.status.as_ref()?.conditions.iter().flatten().find(|condition| condition.type_ == "Ready")
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use serde_json::json;

    use super::*;

    /// A node that said at 12:00:10 whether it is ready.
    fn node(ready: &str, taints: &[&str]) -> Node {
        let taints: Vec<_> = taints.iter().map(|key| json!({"key": key, "effect": "NoExecute"})).collect();
        let ready = json!({"type": "Ready", "status": ready, "lastHeartbeatTime": "2026-01-01T12:00:10Z"});
        serde_json::from_value(json!({"spec": {"taints": taints}, "status": {"conditions": [ready]}}))
            .unwrap()
    }

    /// So many milliseconds after 12:00:00.
    fn at(millis: u64) -> SystemTime {
        UNIX_EPOCH + Duration::from_millis(1_767_268_800_000 + millis)
    }

    #[test]
    fn a_node_takes_pods_once_the_kubelet_that_runs_has_said_so_and_nothing_keeps_them_away() {
        assert_eq!(why_not(&node("True", &["example.com/own"]), at(10_900)), None);
        let why = |node, millis| why_not(&node, at(millis)).unwrap();
        assert_eq!(why(node("Unknown", &[]), 0), "it is not ready");
        assert_eq!(why(node("True", &[]), 11_000), "it is ready by the word of a kubelet that has ended");
        let tainted = node("True", &["node.kubernetes.io/not-ready"]);
        assert_eq!(why(tainted, 0), "it is ready, and still has the taint node.kubernetes.io/not-ready");
        let mut cordoned = node("True", &["node.kubernetes.io/unschedulable"]);
        assert_eq!(
            why(cordoned.clone(), 0),
            "it is ready, and still has the taint node.kubernetes.io/unschedulable"
        );
        cordoned.spec.get_or_insert_default().unschedulable = Some(true);
        assert_eq!(why(cordoned, 0), "it is ready, and cordoned");
    }
}
