//! What people read: the tree as a table, decisions and lines with their time.

use std::collections::BTreeSet;

use jiff::{Timestamp, tz::TimeZone};
use kontrol_core::id::DEFAULT_NAMESPACE;
use kontrol_proto::v1;
use serde::Serialize;

use crate::{args::Format, complain, print};

/// Prints an answer as JSON or YAML.
pub(crate) fn structured<T: Serialize + ?Sized>(format: Format, value: &T) {
    let text = match format {
        Format::Yaml => serde_saphyr::to_string(&value).map_err(|error| error.to_string()),
        Format::Json | Format::Text => serde_json::to_string_pretty(value).map_err(|error| error.to_string()),
    };
    match text {
        Ok(text) => print(text.trim_end()),
        Err(error) => complain(&format!("the answer cannot be printed: {error}")),
    }
}

/// Prints one of many answers as JSON on one line.
pub(crate) fn compact<T: Serialize>(value: &T) {
    match serde_json::to_string(value) {
        Ok(text) => print(&text),
        Err(error) => complain(&format!("the answer cannot be printed: {error}")),
    }
}

/// The local time of day.
pub(crate) fn clock(micros: u64) -> String {
    let micros = i64::try_from(micros).unwrap_or(i64::MAX);
    Timestamp::from_microsecond(micros)
        .map(|at| at.to_zoned(TimeZone::system()).strftime("%H:%M:%S").to_string())
        .unwrap_or_default()
}

/// One line: a decision, or what a process wrote.
pub(crate) fn line(line: &v1::LogLine) -> String {
    let at = clock(line.at_micros);
    let text = plain(&line.text);
    match (line.source.as_str(), line.level.as_str()) {
        ("", "error" | "warn") => format!("{at} ! {text}"),
        ("", _) => format!("{at} {text}"),
        (source, "error") => format!("{at} {source} ! {text}"),
        (source, _) => format!("{at} {source} | {text}"),
    }
}

/// What a sidecar logs is JSON for machines; people read its message.
fn plain(text: &str) -> String {
    let parsed =
        text.starts_with('{').then(|| serde_json::from_str::<serde_json::Value>(text).ok()).flatten();
    let message = parsed.as_ref().and_then(|value| {
        let fields = value.get("fields").unwrap_or(value);
        fields.get("message")?.as_str()
    });
    message.map_or_else(|| text.to_owned(), str::to_owned)
}

/// The tree as a table.
pub(crate) fn tree(tree: &v1::TreeResponse) -> String {
    let mut rows = Vec::new();
    for root in &tree.roots {
        node(root, "", "", &mut rows);
    }
    let mut text = table(&rows);
    if !text.is_empty() {
        text.push('\n');
    }
    if tree.draining {
        text.push_str("draining\n");
    }
    text
}

/// Rows of cells, each column as wide as its widest cell.
pub(crate) fn table<const N: usize>(rows: &[[String; N]]) -> String {
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
    let lines = rows.iter().map(|row| {
        let mut line = String::new();
        for (column, cell) in row.iter().enumerate() {
            line.push_str(cell);
            if column + 1 < N {
                line.push_str(&" ".repeat(width(column) - cell.chars().count() + 2));
            }
        }
        line.trim_end().to_owned()
    });
    lines.collect::<Vec<_>>().join("\n")
}

/// Its name, after its namespace where that is not the default one.
fn name_of(node: &v1::TreeNode) -> String {
    match node.namespace.as_str() {
        "" | DEFAULT_NAMESPACE => node.name.clone(),
        namespace => format!("{namespace}/{}", node.name),
    }
}

fn node(node: &v1::TreeNode, first: &str, rest: &str, rows: &mut Vec<[String; 4]>) {
    let period = kontrol_core::duration::format(std::time::Duration::from_millis(node.period_ms));
    let ready = if node.ready && node.reason != COMPLETED { "Ready" } else { &node.reason };
    rows.push([
        format!("{first}{}", name_of(node)),
        node.kind.clone(),
        node.strategy.clone(),
        format!("{} of {} restarts in {period}  {ready}", node.restarts, node.max_restarts),
    ]);
    let count = node.nodes.len() + node.widgets.len();
    let branch = |index: usize| {
        if index + 1 == count { ("└─ ", "   ") } else { ("├─ ", "│  ") }
    };
    for (index, inner) in node.nodes.iter().enumerate() {
        let (head, tail) = branch(index);
        self::node(inner, &format!("{rest}{head}"), &format!("{rest}{tail}"), rows);
    }
    for (index, widget) in node.widgets.iter().enumerate() {
        let (head, _) = branch(node.nodes.len() + index);
        rows.push(widget_row(widget, &format!("{rest}{head}")));
    }
}

fn widget_row(widget: &v1::TreeWidget, head: &str) -> [String; 4] {
    let count = if widget.max > 0 {
        format!("{} of {} (max {})", widget.ready, widget.desired, widget.max)
    } else {
        format!("{} of {}", widget.ready, widget.desired)
    };
    let mut load: Vec<String> = Vec::new();
    let in_flight: u32 = widget.replicas.iter().filter_map(|replica| replica.in_flight).sum();
    if in_flight > 0 {
        load.push(format!("in flight {in_flight}"));
    }
    if let Some(queue) = widget.queue.filter(|queue| *queue > 0) {
        load.push(format!("queue {queue}"));
    }
    let mut notes = Vec::new();
    if !all_ready(widget) {
        notes.push(how_it_is(widget));
        let said =
            widget.replicas.iter().find(|replica| replica.state != "Ready" && !replica.message.is_empty());
        notes.extend(said.map(|replica| replica.message.clone()));
    }
    if !widget.scaling.is_empty() {
        notes.push(widget.scaling.clone());
    }
    let machines: BTreeSet<&str> = widget.replicas.iter().map(|replica| replica.node.as_str()).collect();
    let machines: Vec<&str> = machines.into_iter().filter(|machine| !machine.is_empty()).collect();
    if !machines.is_empty() {
        notes.push(format!("on {}", machines.join(", ")));
    }
    let endpoints = widget.replicas.iter().filter(|replica| !replica.endpoint.is_empty());
    notes.extend(endpoints.map(|replica| format!("http://{}", replica.endpoint)));
    [format!("{head}{}", widget.name), count, load.join(", "), notes.join("  ")]
}

/// What has ended as it should.
const COMPLETED: &str = "Completed";

/// Whether a widget has ended and is not started again by itself.
fn is_over(widget: &v1::TreeWidget) -> bool {
    matches!(&*widget.phase, COMPLETED | "Failed" | "Stopped")
}

fn all_ready(widget: &v1::TreeWidget) -> bool {
    widget.ready == widget.desired && widget.phase == "Up"
}

/// The states of the replicas that are not ready, or how the widget stands with its group.
pub(crate) fn how_it_is(widget: &v1::TreeWidget) -> String {
    let mut states: Vec<&str> = widget.replicas.iter().map(|replica| replica.state.as_str()).collect();
    states.retain(|state| !matches!(*state, "Ready" | "Waiting"));
    states.dedup();
    if states.is_empty() || is_over(widget) { widget.phase.clone() } else { states.join(", ") }
}

/// What is not ready, and how it is: `rag/llm (Starting)`.
pub(crate) fn missing(tree: &v1::TreeResponse) -> Vec<String> {
    fn below(node: &v1::TreeNode, found: &mut Vec<String>) {
        let as_it_should =
            |widget: &&v1::TreeWidget| all_ready(widget) || matches!(&*widget.phase, COMPLETED | "Stopped");
        let widgets = node.widgets.iter().filter(|widget| !as_it_should(widget));
        found.extend(
            widgets.map(|widget| format!("{}/{} ({})", name_of(node), widget.name, how_it_is(widget))),
        );
        node.nodes.iter().for_each(|node| below(node, found));
    }
    let mut found = Vec::new();
    tree.roots.iter().for_each(|root| below(root, &mut found));
    found
}

/// The answer to `why`.
pub(crate) fn why(answer: &v1::WhyResponse) -> String {
    let chain = answer.chain.iter().enumerate().map(|(depth, cause)| {
        let head = if depth == 0 { "last".to_owned() } else { format!("{}because", "  ".repeat(depth)) };
        format!("{head}: {} {}", clock(cause.at_micros), cause.text)
    });
    answer.lines.iter().cloned().chain(chain).collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tree_reads_like_a_tree() {
        let widget = |name: &str, ready| v1::TreeWidget {
            name: name.into(),
            phase: "Up".into(),
            desired: 1,
            ready,
            ..v1::TreeWidget::default()
        };
        let response = v1::TreeResponse {
            roots: vec![v1::TreeNode {
                kind: "group".into(),
                name: "rag".into(),
                strategy: "RestForOne".into(),
                ready: true,
                max_restarts: 3,
                period_ms: 30_000,
                widgets: vec![widget("vectors", 1), widget("llm", 0)],
                ..v1::TreeNode::default()
            }],
            ..v1::TreeResponse::default()
        };
        assert_eq!(
            tree(&response),
            "rag         group   RestForOne  0 of 3 restarts in 30s  Ready\n\
             ├─ vectors  1 of 1\n\
             └─ llm      0 of 1              Up\n"
        );
    }

    #[test]
    fn a_widget_that_is_not_ready_says_how_it_is_and_why() {
        let replica = |state: &str, message: &str| v1::TreeReplica {
            state: state.into(),
            message: message.into(),
            endpoint: "127.0.0.1:8080".into(),
            ..v1::TreeReplica::default()
        };
        let widget = v1::TreeWidget {
            name: "llm".into(),
            phase: "Starting".into(),
            desired: 3,
            ready: 1,
            max: 8,
            scaling: "in flight 6, target 2 a replica → 3".into(),
            replicas: vec![
                replica("Ready", "fine"),
                replica("Running", ""),
                replica("Running", "loads its model"),
            ],
            queue: Some(4),
        };
        assert_eq!(
            widget_row(&widget, "├─ "),
            [
                "├─ llm",
                "1 of 3 (max 8)",
                "queue 4",
                "Running  loads its model  in flight 6, target 2 a replica → 3  http://127.0.0.1:8080  \
                 http://127.0.0.1:8080  http://127.0.0.1:8080",
            ]
        );
        let node = |name: &str, nodes, widgets| v1::TreeNode {
            name: name.into(),
            nodes,
            widgets,
            ..v1::TreeNode::default()
        };
        let group = node(
            "rag",
            Vec::new(),
            vec![widget.clone(), v1::TreeWidget { phase: COMPLETED.into(), ..widget }],
        );
        let response = v1::TreeResponse {
            roots: vec![node("top", vec![group], Vec::new())],
            ..v1::TreeResponse::default()
        };
        assert_eq!(missing(&response), ["rag/llm (Running)"]);
        assert_eq!(
            tree(&response).lines().map(|line| line.split_whitespace().next().unwrap()).collect::<Vec<_>>(),
            ["top", "└─", "├─", "└─"]
        );
    }

    #[test]
    fn a_why_reads_from_the_decision_down_to_its_first_cause() {
        let cause = |text: &str| v1::WhyCause { at_micros: 0, text: text.into() };
        let answer = v1::WhyResponse {
            lines: vec!["1 replica: as its manifest says".into()],
            chain: vec![cause("rag restarts llm"), cause("rag/llm-0 ended")],
        };
        let at = clock(0);
        assert_eq!(
            why(&answer),
            format!(
                "1 replica: as its manifest says\nlast: {at} rag restarts llm\n  because: {at} rag/llm-0 ended"
            )
        );
    }

    #[test]
    fn lines_show_where_they_come_from_and_what_matters() {
        let said = |source: &str, level: &str| {
            let told = v1::LogLine {
                source: source.into(),
                level: level.into(),
                text: "x".into(),
                ..v1::LogLine::default()
            };
            line(&told)[9..].to_owned()
        };
        assert_eq!(said("", "info"), "x");
        assert_eq!(said("", "warn"), "! x");
        assert_eq!(said("rag/llm-0", "warn"), "rag/llm-0 | x");
        assert_eq!(said("rag/llm-0", "error"), "rag/llm-0 ! x");
    }

    #[test]
    fn a_sidecars_line_is_read_by_its_message() {
        let line = |text: &str| plain(text);
        assert_eq!(
            line(r#"{"level":"INFO","fields":{"message":"certificate issued"}}"#),
            "certificate issued"
        );
        assert_eq!(line("{plain"), "{plain");
    }
}
