//! What nodes lack of what a pod asks for, where no node takes it.

use std::collections::BTreeMap;

use super::{pod::Pod, store::Node};

/// Nodes that are named one by one.
const NAMED: usize = 5;

/// The scheduler's words, and for each extended resource that the pod asks for (GPUs among them) how many of it each node has: the scheduler
/// counts nodes and names none.
pub fn said(pod: &Pod, nodes: &BTreeMap<Box<str>, Node>) -> String {
    let mut sentences = vec![pod.said().message.trim().to_owned()];
    for (resource, wanted) in &pod.said().wants {
        // Those that have most come first: they are the ones that nearly do.
        let mut have: Vec<(u64, &str)> =
            nodes.iter().map(|(name, node)| (node.extended_of(resource), &**name)).collect();
        have.sort_by(|(one, first), (other, second)| other.cmp(one).then(first.cmp(second)));
        let named = have.iter().take(NAMED).map(|(count, name)| match count {
            0 => format!("{name} has none"),
            count => format!("{name} has {count}"),
        });
        let more =
            have.get(NAMED).map(|(most, _)| format!("{} more have at most {most}", have.len() - NAMED));
        let nodes: Vec<String> = named.chain(more).collect();
        let colon = if nodes.is_empty() { "" } else { ": " };
        sentences.push(format!("It asks for {wanted} {resource}{colon}{}.", nodes.join(", ")));
    }
    sentences.retain(|sentence| !sentence.is_empty());
    sentences.join(" ")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn pod(limits: &serde_json::Value) -> Pod {
        let labels = json!({
            "kontrol.dev/group": "g", "kontrol.dev/widget": "w", "kontrol.dev/ordinal": "0", "kontrol.dev/incarnation": "1",
        });
        let owner = json!({"apiVersion": "kontrol.dev/v1alpha1", "kind": "Widget", "name": "g-w", "controller": true});
        let unscheduled = json!({
            "type": "PodScheduled", "status": "False", "reason": "Unschedulable",
            "message": "0/2 nodes are available: 2 Insufficient nvidia.com/gpu.",
        });
        let text = json!({
            "metadata": {"name": "w-0-1", "namespace": "default", "labels": labels, "ownerReferences": [owner]},
            "spec": {"containers": [{"name": "widget", "resources": {"limits": limits}}]},
            "status": {"conditions": [unscheduled]},
        });
        Pod::read(&text.to_string()).unwrap().1.unwrap()
    }

    fn node(gpus: u64) -> Node {
        let extended = if gpus > 0 { vec![("nvidia.com/gpu".into(), gpus)] } else { Vec::new() };
        Node { extended: extended.into(), ..Node::default() }
    }

    #[test]
    fn each_node_is_named_with_what_it_has_of_what_is_asked_for() {
        let nodes = BTreeMap::from([("node0".into(), node(0)), ("node1".into(), node(2))]);
        assert_eq!(
            said(&pod(&json!({"nvidia.com/gpu": "4", "cpu": "2", "memory": "1Gi"})), &nodes),
            "0/2 nodes are available: 2 Insufficient nvidia.com/gpu. It asks for 4 nvidia.com/gpu: node1 has 2, node0 has none."
        );
        assert_eq!(
            said(&pod(&json!({"cpu": "64"})), &nodes),
            "0/2 nodes are available: 2 Insufficient nvidia.com/gpu."
        );
    }

    #[test]
    fn of_many_nodes_the_ones_that_have_most_are_named() {
        let nodes = (0..20).map(|number| (format!("node{number:02}").into(), node(number % 8))).collect();
        let said = said(&pod(&json!({"nvidia.com/gpu": 8})), &nodes);
        assert!(
            said.ends_with(
                "8 nvidia.com/gpu: node07 has 7, node15 has 7, node06 has 6, node14 has 6, node05 has 5, 15 more have at most 5."
            ),
            "{said}"
        );
    }
}
