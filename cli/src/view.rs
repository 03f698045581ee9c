//! The answers as they are printed with `-o json` and `-o yaml`: the wire's fields by the names that manifests use.

use std::collections::BTreeMap;

use kontrol_proto::v1;
use serde::Serialize;

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Tree {
    pub(crate) ready: bool,
    draining: bool,
    pid: u32,
    hub: Option<String>,
    hub_admin: Option<String>,
    roots: Vec<Node>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Node {
    kind: String,
    namespace: String,
    name: String,
    strategy: String,
    ready: bool,
    reason: String,
    stalled: bool,
    epoch: u64,
    restarts: u32,
    max_restarts: u32,
    period: String,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    children: Vec<Node>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    widgets: Vec<Widget>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Widget {
    name: String,
    phase: String,
    desired: u32,
    ready: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    max: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    scaling: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    queue: Option<u64>,
    replicas: Vec<Replica>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Replica {
    ordinal: u32,
    incarnation: u64,
    epoch: u64,
    state: String,
    pid: Option<u32>,
    since_micros: u64,
    in_flight: Option<u32>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    load: BTreeMap<String, f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    endpoint: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    message: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pod: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    node: Option<String>,
    sidecar: Sidecar,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Sidecar {
    pid: Option<u32>,
    http: Option<String>,
    grpc: Option<String>,
    admin: Option<String>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Why {
    lines: Vec<String>,
    chain: Vec<Cause>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Cause {
    at_micros: u64,
    text: String,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Line {
    at_micros: u64,
    source: String,
    stream: String,
    level: String,
    text: String,
}

fn some(text: String) -> Option<String> {
    (!text.is_empty()).then_some(text)
}

fn nonzero(number: u32) -> Option<u32> {
    (number > 0).then_some(number)
}

impl From<v1::TreeResponse> for Tree {
    fn from(wire: v1::TreeResponse) -> Self {
        let v1::TreeResponse { roots, ready, draining, pid, hub, hub_admin } = wire;
        let roots = roots.into_iter().map(Node::from).collect();
        Self { ready, draining, pid, hub: some(hub), hub_admin: some(hub_admin), roots }
    }
}

impl From<v1::TreeNode> for Node {
    fn from(wire: v1::TreeNode) -> Self {
        Self {
            kind: wire.kind,
            namespace: wire.namespace,
            name: wire.name,
            strategy: wire.strategy,
            ready: wire.ready,
            reason: wire.reason,
            stalled: wire.stalled,
            epoch: wire.epoch,
            restarts: wire.restarts,
            max_restarts: wire.max_restarts,
            period: kontrol_core::duration::format(std::time::Duration::from_millis(wire.period_ms)),
            children: wire.nodes.into_iter().map(Node::from).collect(),
            widgets: wire.widgets.into_iter().map(Widget::from).collect(),
        }
    }
}

impl From<v1::TreeWidget> for Widget {
    fn from(wire: v1::TreeWidget) -> Self {
        Self {
            name: wire.name,
            phase: wire.phase,
            desired: wire.desired,
            ready: wire.ready,
            max: nonzero(wire.max),
            scaling: some(wire.scaling),
            queue: wire.queue,
            replicas: wire.replicas.into_iter().map(Replica::from).collect(),
        }
    }
}

impl From<v1::TreeReplica> for Replica {
    fn from(wire: v1::TreeReplica) -> Self {
        Self {
            ordinal: wire.ordinal,
            incarnation: wire.incarnation,
            epoch: wire.epoch,
            state: wire.state,
            pid: nonzero(wire.pid),
            since_micros: wire.since_micros,
            in_flight: wire.in_flight,
            load: wire.load.into_iter().collect(),
            endpoint: some(wire.endpoint),
            message: some(wire.message),
            pod: some(wire.pod),
            node: some(wire.node),
            sidecar: Sidecar {
                pid: nonzero(wire.sidecar_pid),
                http: some(wire.sidecar_http),
                grpc: some(wire.sidecar_grpc),
                admin: some(wire.sidecar_admin),
            },
        }
    }
}

impl From<v1::WhyResponse> for Why {
    fn from(wire: v1::WhyResponse) -> Self {
        let cause = |cause: v1::WhyCause| Cause { at_micros: cause.at_micros, text: cause.text };
        Self { lines: wire.lines, chain: wire.chain.into_iter().map(cause).collect() }
    }
}

impl From<v1::LogLine> for Line {
    fn from(wire: v1::LogLine) -> Self {
        let v1::LogLine { at_micros, source, stream, level, text } = wire;
        Self { at_micros, source, stream, level, text }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn shown(tree: v1::TreeResponse) -> serde_json::Value {
        serde_json::to_value(Tree::from(tree)).unwrap()
    }

    #[test]
    fn a_tree_has_the_fields_that_its_page_says() {
        let replica = v1::TreeReplica { state: "Ready".into(), ..v1::TreeReplica::default() };
        let widget =
            v1::TreeWidget { name: "llm".into(), replicas: vec![replica], ..v1::TreeWidget::default() };
        let node = v1::TreeNode { name: "rag".into(), widgets: vec![widget], ..v1::TreeNode::default() };
        let tree = v1::TreeResponse { roots: vec![node], ..v1::TreeResponse::default() };
        let sidecar = json!({"pid": null, "http": null, "grpc": null, "admin": null});
        let replica = json!({
            "ordinal": 0, "incarnation": 0, "epoch": 0, "state": "Ready", "pid": null, "sinceMicros": 0, "inFlight": null,
            "sidecar": sidecar,
        });
        let widget = json!({"name": "llm", "phase": "", "desired": 0, "ready": 0, "replicas": [replica]});
        let node = json!({
            "kind": "", "namespace": "", "name": "rag", "strategy": "", "ready": false, "reason": "", "stalled": false,
            "epoch": 0, "restarts": 0, "maxRestarts": 0, "period": "0s", "widgets": [widget],
        });
        let expected = json!({
            "ready": false, "draining": false, "pid": 0, "hub": null, "hubAdmin": null, "roots": [node],
        });
        assert_eq!(shown(tree), expected);
    }

    #[test]
    fn what_is_there_only_sometimes_has_its_field_then() {
        let replica = v1::TreeReplica {
            load: [("gpu".to_owned(), 0.5)].into(),
            endpoint: "127.0.0.1:1".into(),
            message: "loads".into(),
            ..v1::TreeReplica::default()
        };
        let widget = v1::TreeWidget {
            max: 3,
            scaling: "why".into(),
            queue: Some(0),
            replicas: vec![replica],
            ..v1::TreeWidget::default()
        };
        let inner = v1::TreeNode { widgets: vec![widget], ..v1::TreeNode::default() };
        let root = v1::TreeNode { nodes: vec![inner], ..v1::TreeNode::default() };
        let tree = shown(v1::TreeResponse { roots: vec![root], ..v1::TreeResponse::default() });
        let widget = &tree["roots"][0]["children"][0]["widgets"][0];
        assert_eq!(
            (&widget["max"], &widget["scaling"], &widget["queue"]),
            (&json!(3), &json!("why"), &json!(0))
        );
        let replica = &widget["replicas"][0];
        assert_eq!((&replica["load"], &replica["message"]), (&json!({"gpu": 0.5}), &json!("loads")));
        assert_eq!(replica["endpoint"], "127.0.0.1:1");
    }
}
