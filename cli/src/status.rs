//! `status`: whether something is ready, in a line each, and as an exit code.

use std::time::Duration;

use kontrol_core::id::DEFAULT_NAMESPACE;
use kontrol_proto::v1;
use serde::Serialize;
use tokio::time::{Instant, sleep};

use crate::{Outcome, args::Format, ask::nobody_reads, complain, print, render};

/// How often it is looked at again while it is waited for.
const LOOK_EVERY: Duration = Duration::from_millis(500);

/// What is meant: its kind, and its full name; none: every tree.
pub(crate) type Path = Option<(&'static str, String)>;

/// How one thing is.
#[derive(Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Row {
    kind: String,
    name: String,
    ready: bool,
    ready_replicas: u32,
    replicas: u32,
    restarts: u32,
    reason: String,
}

/// Shows how it is, once, or again and again until it is ready or the time is over.
pub(crate) async fn follow<E>(
    look: impl AsyncFn() -> Result<(v1::TreeResponse, Path), E>,
    wait: Option<Duration>,
    output: Format,
) -> Result<Outcome, E> {
    let until = wait.map(|wait| Instant::now() + wait);
    loop {
        let (tree, path) = look().await?;
        let rows = rows(&tree, path.as_ref());
        let ready = !rows.is_empty() && rows.iter().all(|row| row.ready);
        let over = until.is_none_or(|until| Instant::now() >= until) || nobody_reads();
        if ready || over {
            match output {
                Format::Text => print(&text(&rows)),
                format => render::structured(format, &rows),
            }
            if !ready && wait.is_some() {
                complain("it did not become ready in time; `why NAME` says what it waits for");
            }
            return Ok(if ready { Outcome::Done } else { Outcome::Failed });
        }
        sleep(LOOK_EVERY).await;
    }
}

/// A row for each tree, or for what is meant.
fn rows(tree: &v1::TreeResponse, path: Option<&(&'static str, String)>) -> Vec<Row> {
    let Some((kind, name)) = path else { return tree.roots.iter().map(of_node).collect() };
    let mut found = Vec::new();
    for root in &tree.roots {
        find(root, kind, name, &mut found);
    }
    found
}

fn find(node: &v1::TreeNode, kind: &str, name: &str, found: &mut Vec<Row>) {
    let full = format!("{}/{}", node.namespace, node.name);
    if node.kind == kind && full == name {
        found.push(of_node(node));
    }
    for widget in &node.widgets {
        if kind == "widget" && format!("{full}/{}", widget.name) == name {
            found.push(of_widget(node, widget));
        }
    }
    node.nodes.iter().for_each(|below| find(below, kind, name, found));
}

fn of_node(node: &v1::TreeNode) -> Row {
    let (ready_replicas, replicas) = replicas(node);
    Row {
        kind: node.kind.clone(),
        name: short(&node.namespace, &node.name),
        ready: node.ready,
        ready_replicas,
        replicas,
        restarts: node.restarts,
        reason: node.reason.clone(),
    }
}

fn of_widget(group: &v1::TreeNode, widget: &v1::TreeWidget) -> Row {
    let up = widget.phase == "Up" && widget.ready >= widget.desired;
    Row {
        kind: "widget".to_owned(),
        name: format!("{}/{}", short(&group.namespace, &group.name), widget.name),
        ready: up || widget.phase == "Completed",
        ready_replicas: widget.ready,
        replicas: widget.desired,
        restarts: group.restarts,
        reason: if up { "Ready".to_owned() } else { render::how_it_is(widget) },
    }
}

fn replicas(node: &v1::TreeNode) -> (u32, u32) {
    let own = node.widgets.iter().map(|widget| (widget.ready, widget.desired));
    let below = node.nodes.iter().map(replicas);
    own.chain(below).fold((0, 0), |(ready, all), (more, of)| (ready + more, all + of))
}

fn short(namespace: &str, name: &str) -> String {
    if matches!(namespace, "" | DEFAULT_NAMESPACE) { name.to_owned() } else { format!("{namespace}/{name}") }
}

fn text(rows: &[Row]) -> String {
    if rows.is_empty() {
        return "nothing is declared here".to_owned();
    }
    let head = ["NAME", "KIND", "READY", "REPLICAS", "RESTARTS", "REASON"].map(str::to_owned);
    let lines = rows.iter().map(|row| {
        let ready = if row.ready { "yes" } else { "no" };
        let replicas = format!("{}/{}", row.ready_replicas, row.replicas);
        [
            row.name.clone(),
            row.kind.clone(),
            ready.to_owned(),
            replicas,
            row.restarts.to_string(),
            row.reason.clone(),
        ]
    });
    render::table(&std::iter::once(head).chain(lines).collect::<Vec<_>>())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tree() -> v1::TreeResponse {
        let widget = |name: &str, phase: &str, ready| v1::TreeWidget {
            name: name.into(),
            phase: phase.into(),
            desired: 2,
            ready,
            ..v1::TreeWidget::default()
        };
        let group = v1::TreeNode {
            kind: "group".into(),
            namespace: "shop".into(),
            name: "rag".into(),
            reason: "NotReady".into(),
            restarts: 1,
            widgets: vec![widget("llm", "Up", 1), widget("store", "Up", 2)],
            ..v1::TreeNode::default()
        };
        v1::TreeResponse { roots: vec![group], ..v1::TreeResponse::default() }
    }

    #[test]
    fn a_tree_has_one_line_and_what_is_named_has_its_own() {
        assert_eq!(
            text(&rows(&tree(), None)),
            "NAME      KIND   READY  REPLICAS  RESTARTS  REASON\n\
             shop/rag  group  no     3/4       1         NotReady"
        );
        let of = |name: &str| rows(&tree(), Some(&("widget", name.to_owned())));
        assert!(of("shop/rag/store")[0].ready);
        assert_eq!((of("shop/rag/llm")[0].ready, of("shop/rag/nobody").len()), (false, 0));
    }
}
