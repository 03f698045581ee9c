//! What an edit asks for and this machine cannot start: said before anything that runs is stopped for it.

use std::path::Path;

use kontrol_crds::{Problem, Source, widget_problem};
use kontrol_operator::local::{Desired, preflight::obstacle};

/// What keeps widgets from being started whose `process` is other than in `running`. What runs already is not doubted.
pub(crate) fn obstacles(
    desired: &Desired,
    running: &Desired,
    sources: &[Source],
    origin: &Path,
) -> Vec<Problem> {
    let found = desired.widgets().filter_map(|widget| {
        let process = widget.process.as_ref()?;
        if running.widget(&widget.id).is_some_and(|running| running.process.as_ref() == Some(process)) {
            return None;
        }
        let obstacle = obstacle(process, origin)?;
        let field = format!("process.{}", obstacle.field);
        widget_problem(sources, &widget.id, &field, obstacle.code, &obstacle.reason)
    });
    found.collect()
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
        let found = obstacles(&desired, &running, after, Path::new("/"));
        found.iter().map(ToString::to_string).collect()
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
}
