//! What an edit asks for and this machine cannot start: said before anything that runs is stopped for it.

use std::path::Path;

use kontrol_core::{id::WidgetId, spec::Widget};
use kontrol_crds::{Problem, Source};
use kontrol_operator::local::{Desired, preflight::obstacle};
use serde::Deserialize;
use serde_yaml::Value;

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
        let place = place_of(widget, sources);
        Some(Problem {
            file: place.file,
            line: None,
            object: Some(place.object),
            path: format!("{}.process.{}", place.template, obstacle.field),
            code: obstacle.code,
            message: obstacle.reason,
        })
    });
    found.collect()
}

/// Where a widget is declared.
struct Place {
    file: String,
    object: String,
    /// The path of its template in the object.
    template: String,
}

fn place_of(widget: &Widget, sources: &[Source]) -> Place {
    let documents = sources.iter().flat_map(|source| {
        let values = serde_yaml::Deserializer::from_str(&source.text).map(Value::deserialize);
        values.filter_map(|value| Some((source.name.clone(), value.ok()?)))
    });
    let mut places = documents.filter_map(|(file, object)| place_in(&object, &widget.id, file));
    places.next().unwrap_or_else(|| Place {
        file: sources.first().map(|source| source.name.clone()).unwrap_or_default(),
        object: format!("Widget {}", widget.id),
        template: "spec".to_owned(),
    })
}

fn place_in(object: &Value, id: &WidgetId, file: String) -> Option<Place> {
    let text = |value: &Value, field: &str| Some(value.get(field)?.as_str()?.to_owned());
    let metadata = object.get("metadata")?;
    let (kind, name) = (text(object, "kind")?, text(metadata, "name")?);
    let namespace = text(metadata, "namespace").unwrap_or_else(|| "default".to_owned());
    if namespace != id.namespace.as_str() || name != id.group.as_str() {
        return None;
    }
    let template = match kind.as_str() {
        "Widget" if id.group == id.widget => "spec".to_owned(),
        "WidgetGroup" => {
            let mut widgets = object.get("spec")?.get("widgets")?.as_sequence()?.iter();
            let at =
                widgets.position(|widget| text(widget, "name").as_deref() == Some(id.widget.as_str()))?;
            format!("spec.widgets[{at}]")
        }
        _ => return None,
    };
    Some(Place { file, object: format!("{kind} {namespace}/{name}"), template })
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
                "m.yaml: KTL2001 WidgetGroup default/g, spec.widgets[1].process.command: no-such-program is not in PATH",
                "m.yaml: KTL2001 Widget default/w, spec.process.command: no-such-program is not in PATH",
            ]
        );
    }

    #[test]
    fn what_is_as_it_was_is_not_doubted() {
        let gone = source("no-such-program", "sh");
        assert!(said(&gone, &source("no-such-program", "cat")).is_empty());
    }
}
