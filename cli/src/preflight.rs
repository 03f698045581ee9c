//! What an edit asks for and this machine cannot start: said before anything that runs is stopped for it.

use std::path::Path;

use kontrol_core::{id::WidgetId, spec::Node};
use kontrol_crds::{Declared, Problem, Source};
use kontrol_operator::{
    local::{
        Desired,
        preflight::{Obstacle, obstacle},
    },
    view::{nodes, widgets},
};

/// What keeps a widget of an edit from being started.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Found {
    widget: WidgetId,
    obstacle: Obstacle,
    /// Whether something runs that its failed start would take down: its tree is not new.
    pub(crate) harmful: bool,
}

/// What keeps widgets from being started whose `process` is other than in `running`. What runs already is not doubted.
pub(crate) fn obstacles(desired: &Desired, running: &Desired, origin: &Path) -> Vec<Found> {
    let mut found = Vec::new();
    for tree in &desired.trees {
        let harmful = runs_in(tree, running);
        for widget in widgets(tree) {
            let Some(process) = &widget.process else { continue };
            let before = running.widget(&widget.id).and_then(|running| running.process.as_ref());
            if before == Some(process) {
                continue;
            }
            if let Some(obstacle) = obstacle(process, origin) {
                found.push(Found { widget: widget.id.clone(), obstacle, harmful });
            }
        }
    }
    found
}

/// Whether anything of a tree is there already.
fn runs_in(tree: &Node, running: &Desired) -> bool {
    running.trees.iter().flat_map(nodes).any(|node| node.id() == tree.id())
        || match tree {
            Node::Group(_) => false,
            Node::Supervisor(supervisor) => {
                supervisor.children.iter().any(|child| runs_in(&child.node, running))
            }
        }
}

/// What was found, where the manifests ask for it.
pub(crate) fn problems(found: &[Found], sources: &[Source]) -> Vec<Problem> {
    if found.is_empty() {
        return Vec::new();
    }
    let declared = Declared::read(sources);
    let problem = |found: &Found| {
        let Obstacle { code, field, reason } = &found.obstacle;
        declared.problem(&found.widget, &format!("process.{field}"), *code, reason)
    };
    found.iter().map(problem).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lint::desired_of;

    fn source(first: &str, second: &str) -> [Source; 1] {
        let text = format!(
            "apiVersion: kontrol.dev/v1alpha1\nkind: WidgetGroup\nmetadata: {{name: g}}\nspec:\n  widgets:\n  \
             - {{name: a, process: {{command: [{first}]}}}}\n  - {{name: b, process: {{command: [{second}]}}}}\n---\n\
             apiVersion: kontrol.dev/v1alpha1\nkind: Widget\nmetadata: {{name: w}}\nspec: {{process: {{command: [{second}]}}}}\n"
        );
        [Source { name: "m.yaml".into(), text }]
    }

    fn said(before: &[Source], after: &[Source]) -> Vec<String> {
        let (running, desired) = (desired_of(before).unwrap(), desired_of(after).unwrap());
        let found = obstacles(&desired, &running, Path::new("/"));
        problems(&found, after).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn what_cannot_be_started_is_said_where_the_manifest_asks_for_it() {
        assert_eq!(
            said(&source("sh", "sh"), &source("sh", "no-such-program")),
            [
                "m.yaml:7: KTL2001 WidgetGroup default/g, spec.widgets[1].process.command: no-such-program is not in PATH",
                "m.yaml:12: KTL2001 Widget default/w, spec.process.command: no-such-program is not in PATH",
            ]
        );
    }

    #[test]
    fn what_is_as_it_was_is_not_doubted() {
        let gone = source("no-such-program", "sh");
        assert!(said(&gone, &source("no-such-program", "cat")).is_empty());
    }

    #[test]
    fn only_where_something_runs_can_a_failed_start_do_harm() {
        let widget = |name: &str| {
            let text = format!(
                "apiVersion: kontrol.dev/v1alpha1\nkind: Widget\nmetadata: {{name: {name}}}\nspec: {{process: {{command: [no-such-program]}}}}\n"
            );
            Source { name: name.into(), text }
        };
        let running = desired_of(&source("sh", "sh")).unwrap();
        let [mut after] = source("sh", "no-such-program");
        after.text.push_str("---\n");
        after.text.push_str(&widget("other").text);
        let found = obstacles(&desired_of(&[after]).unwrap(), &running, Path::new("/"));
        let harmful = found.iter().map(|found| (found.widget.to_string(), found.harmful));
        assert_eq!(
            harmful.collect::<Vec<_>>(),
            [
                ("default/g/b".to_owned(), true),
                ("default/w/w".to_owned(), true),
                ("default/other/other".to_owned(), false)
            ]
        );
    }
}
