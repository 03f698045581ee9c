//! Roll-outs: how they stand, and what a user makes of them.

use std::{collections::BTreeMap, time::Duration};

use kontrol_core::id::WidgetId;
use kontrol_operator::{
    clock,
    kubernetes::{kind::Kind, object::Key, time::parse},
    view::{Named, View, names, widgets},
};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use tokio::time::{Instant, sleep};

use super::{
    LOOK_EVERY,
    access::{Access, Patch},
    ago,
    change::object_of,
    failure::Failure,
    known::Known,
    look,
};
use crate::{
    Outcome,
    args::{Format, Rollout},
    print, render,
};

/// Who has changed what roll-outs change.
const MANAGER: &str = "kontrol-rollout";
/// Of which object a revision is.
const OBJECT: &str = "kontrol.dev/widget-object";

pub(super) async fn run(access: &Access, rollout: Rollout) -> Result<Outcome, Failure> {
    match rollout {
        Rollout::Status { name, no_wait, timeout, output } => {
            status(access, &name, (!no_wait).then_some(timeout), output).await
        }
        Rollout::Pause { name } => {
            pause(access, &name, true).await?;
            print(&format!(
                "the roll-outs of {name} stand still; `kubectl kontrol rollout resume {name}` lets them go on"
            ));
            Ok(Outcome::Done)
        }
        Rollout::Resume { name } => {
            pause(access, &name, false).await?;
            print(&format!("the roll-outs of {name} go on"));
            Ok(Outcome::Done)
        }
        Rollout::Undo { name, to_revision } => {
            let known = look(access).await?;
            let widget = widget(&known, access, &name)?;
            let revision = undo(access, &known, &widget, to_revision).await?;
            print(&format!(
                "{widget} goes back to revision {revision}; `kubectl kontrol rollout status {name}` follows it"
            ));
            Ok(Outcome::Done)
        }
        Rollout::History { name, output } => {
            let known = look(access).await?;
            let widget = widget(&known, access, &name)?;
            let revisions = revisions(access, &known, &widget).await?;
            match output {
                Format::Text => print(&history(&widget, &revisions)),
                format => render::structured(format, &revisions),
            }
            Ok(Outcome::Done)
        }
    }
}

/// How the roll-out of one widget stands.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
struct Standing {
    widget: String,
    /// `Complete`, `Progressing`, `Paused`, `RollingBack`, `RolledBack`, `Failed`; `Unknown` where the operator has not said.
    state: String,
    updated: u64,
    replicas: u64,
    message: String,
}

impl Standing {
    /// What the Widget object says. As long as the operator has not seen the object as it is, it is on its way.
    fn of(widget: &WidgetId, object: &Value) -> Self {
        let status = &object["status"];
        let rollout = &status["rollout"];
        let seen = status["observedGeneration"].as_i64().unwrap_or(0)
            >= object["metadata"]["generation"].as_i64().unwrap_or(0);
        let said = rollout["state"].as_str().unwrap_or("Unknown");
        let (state, message) = match rollout["message"].as_str().unwrap_or_default() {
            _ if !seen => ("Progressing", "the operator has not taken up the newest generation yet"),
            message => (said, message),
        };
        Self {
            widget: widget.to_string(),
            state: state.to_owned(),
            updated: rollout["updatedReplicas"].as_u64().unwrap_or(0),
            replicas: status["replicas"].as_u64().unwrap_or(0),
            message: message.to_owned(),
        }
    }

    fn is_over(&self) -> bool {
        !matches!(self.state.as_str(), "Progressing" | "RollingBack" | "Unknown")
    }

    fn text(&self) -> String {
        let message = if self.message.is_empty() { String::new() } else { format!(": {}", self.message) };
        format!(
            "{}: {}, {} of {} replicas are of the newest revision{message}",
            self.widget, self.state, self.updated, self.replicas
        )
    }
}

async fn status(
    access: &Access,
    name: &str,
    wait: Option<Duration>,
    output: Format,
) -> Result<Outcome, Failure> {
    let until = wait.map(|wait| Instant::now() + wait);
    let mut said = BTreeMap::new();
    loop {
        let known = look(access).await?;
        let mut all = Vec::new();
        for id in concerned(&known, access, name)? {
            let (kind, key) = object_of(&known, &Named::Widget(id.clone()))?;
            all.push(Standing::of(&id, &access.get(kind, &key.namespace, &key.name).await?));
        }
        let over = all.iter().all(Standing::is_over);
        let late = until.is_none_or(|until| Instant::now() >= until);
        if output == Format::Text {
            for standing in &all {
                let text = standing.text();
                if said.get(&standing.widget) != Some(&text) {
                    print(&text);
                    said.insert(standing.widget.clone(), text);
                }
            }
        } else if over || late {
            render::structured(output, &all);
        }
        if over || late {
            let complete = all.iter().all(|standing| standing.state == "Complete");
            if late && !over && wait.is_some() {
                return Err(Failure::new(
                    "the roll-out is not over in time (--timeout); it goes on all the same",
                ));
            }
            return Ok(if complete { Outcome::Done } else { Outcome::Failed });
        }
        sleep(LOOK_EVERY).await;
    }
}

/// The widgets of a name.
fn concerned(known: &Known, access: &Access, name: &str) -> Result<Vec<WidgetId>, Failure> {
    let named = known.one(access, name)?;
    Ok(match &named {
        Named::Widget(id) => vec![id.clone()],
        Named::Group(id) => known
            .declared()
            .group(id)
            .map(|group| group.widgets.iter().map(|widget| widget.id.clone()).collect())
            .unwrap_or_default(),
        Named::Supervisor(id) => {
            let node = known.declared().node(kontrol_plan::status::Kind::Supervisor, id);
            node.into_iter().flat_map(widgets).map(|widget| widget.id.clone()).collect()
        }
    })
}

/// The one widget of a name.
fn widget(known: &Known, access: &Access, name: &str) -> Result<WidgetId, Failure> {
    let named = known.one(access, name)?;
    names::widget_of(known, named.clone()).ok_or_else(|| {
        Failure::new(format!(
            "{} has no revisions of its own; name one of its widgets: group/widget",
            named.describe()
        ))
    })
}

/// Where the template of a widget is declared: the object, and the way to the template in it as a JSON pointer.
async fn template(
    access: &Access,
    known: &Known,
    widget: &WidgetId,
) -> Result<(Kind, Key, String, Value), Failure> {
    let group = Key::new(widget.namespace.as_str(), widget.group.as_str());
    if known.store.own(Kind::WidgetGroup, &group).is_none() {
        let object = access.get(Kind::Widget, &group.namespace, &group.name).await?;
        return Ok((Kind::Widget, group, "/spec".to_owned(), object));
    }
    let object = access.get(Kind::WidgetGroup, &group.namespace, &group.name).await?;
    let templates = object["spec"]["widgets"].as_array().cloned().unwrap_or_default();
    let at = templates.iter().position(|template| template["name"] == widget.widget.as_str());
    let at = at.ok_or_else(|| {
        Failure::new(format!("the group {group} declares no widget {} any more", widget.widget))
    })?;
    Ok((Kind::WidgetGroup, group, format!("/spec/widgets/{at}"), object))
}

async fn pause(access: &Access, name: &str, paused: bool) -> Result<(), Failure> {
    let known = look(access).await?;
    let (kind, key, way, object) = match known.one(access, name)? {
        Named::Widget(id) => template(access, &known, &id).await?,
        named @ Named::Group(_) => {
            let (kind, key) = object_of(&known, &named)?;
            let object = access.get(kind, &key.namespace, &key.name).await?;
            (kind, key, "/spec".to_owned(), object)
        }
        Named::Supervisor(id) => {
            return Err(Failure::new(format!(
                "supervisor {id} has no roll-out of its own; name one of its groups"
            )));
        }
    };
    let patch = paused_patch(&object, &way, paused);
    access.patch((kind, ""), (&key.namespace, &key.name), MANAGER, (Patch::Json, &patch)).await?;
    Ok(())
}

/// What sets `rollout.paused` of a template, and nothing else.
fn paused_patch(object: &Value, way: &str, paused: bool) -> Value {
    let mut patch = unchanged(object, way);
    match object.pointer(&format!("{way}/rollout")) {
        Some(Value::Object(_)) => {
            patch.push(json!({"op": "add", "path": format!("{way}/rollout/paused"), "value": paused}));
        }
        _ => patch.push(json!({"op": "add", "path": format!("{way}/rollout"), "value": {"paused": paused}})),
    }
    Value::Array(patch)
}

/// What holds only as long as a template is where it was.
fn unchanged(object: &Value, way: &str) -> Vec<Value> {
    let name = object.pointer(&format!("{way}/name"));
    name.map(|name| json!({"op": "test", "path": format!("{way}/name"), "value": name})).into_iter().collect()
}

/// A revision of a widget that is kept.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
struct Revision {
    number: i64,
    name: String,
    created: String,
    newest: bool,
    template: Value,
}

/// The revisions that are kept, the oldest first.
async fn revisions(access: &Access, known: &Known, widget: &WidgetId) -> Result<Vec<Revision>, Failure> {
    #[derive(Deserialize)]
    #[serde(default)]
    #[derive(Default)]
    struct Kept {
        metadata: Value,
        revision: i64,
        data: Value,
    }
    let (_, key) = object_of(known, &Named::Widget(widget.clone()))?;
    let within = access.within(&key.namespace);
    let texts = within.list(Kind::ControllerRevision, &format!("{OBJECT}={}", key.name)).await?;
    let mut found: Vec<Revision> = texts
        .iter()
        .filter_map(|text| serde_json::from_str::<Kept>(text).ok())
        .map(|kept| Revision {
            number: kept.revision,
            name: kept.metadata["name"].as_str().unwrap_or_default().to_owned(),
            created: kept.metadata["creationTimestamp"].as_str().unwrap_or_default().to_owned(),
            newest: false,
            template: kept.data,
        })
        .collect();
    found.sort_by_key(|revision| revision.number);
    if let Some(last) = found.last_mut() {
        last.newest = true;
    }
    Ok(found)
}

fn history(widget: &WidgetId, revisions: &[Revision]) -> String {
    if revisions.is_empty() {
        return format!("no revision of {widget} is kept yet");
    }
    let now = clock::now();
    let head = ["REVISION", "AGE", "NAME", ""].map(str::to_owned);
    let rows = revisions.iter().map(|revision| {
        let newest = if revision.newest { "newest" } else { "" };
        [
            revision.number.to_string(),
            ago(parse(&revision.created), now),
            revision.name.clone(),
            newest.to_owned(),
        ]
    });
    render::table(&std::iter::once(head).chain(rows).collect::<Vec<_>>())
}

/// Puts the template of an earlier revision back; gives the number of it.
async fn undo(access: &Access, known: &Known, widget: &WidgetId, number: i64) -> Result<i64, Failure> {
    let revisions = revisions(access, known, widget).await?;
    let kept = || revisions.iter().map(|revision| revision.number.to_string()).collect::<Vec<_>>().join(", ");
    let chosen = match number {
        0 => revisions.iter().rev().nth(1),
        number => revisions.iter().find(|revision| revision.number == number),
    };
    let Some(chosen) = chosen else {
        return Err(Failure::new(match (number, revisions.len()) {
            (_, 0) => format!("no revision of {widget} is kept yet"),
            (0, _) => format!("there is only one revision of {widget}: there is nothing to go back to"),
            (number, _) => format!("there is no revision {number} of {widget}; there are {}", kept()),
        }));
    };
    let (kind, key, way, object) = template(access, known, widget).await?;
    let patch = undo_patch(&object, &way, &chosen.template)
        .ok_or_else(|| Failure::new(format!("revision {} of {widget} holds no template", chosen.number)))?;
    access.patch((kind, ""), (&key.namespace, &key.name), MANAGER, (Patch::Json, &patch)).await?;
    Ok(chosen.number)
}

/// What puts a kept template in the place of the present one. Its name and its replicas stay as they are now: neither is part of a
/// revision.
fn undo_patch(object: &Value, way: &str, kept: &Value) -> Option<Value> {
    let kept = kept.get("spec").unwrap_or(kept);
    let mut template: Map<String, Value> = kept.as_object()?.clone();
    let now = object.pointer(way)?.as_object()?;
    for field in ["name", "replicas"] {
        template.remove(field);
        if let Some(value) = now.get(field) {
            template.insert(field.to_owned(), value.clone());
        }
    }
    let mut patch = unchanged(object, way);
    patch.push(json!({"op": "replace", "path": way, "value": template}));
    Some(Value::Array(patch))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn group() -> Value {
        json!({"spec": {"widgets": [
            {"name": "store", "replicas": 1},
            {"name": "llm", "replicas": 4, "container": {"image": "new"}, "rollout": {"maxSurge": 1}},
        ]}})
    }

    #[test]
    fn a_pause_touches_the_template_that_it_found_and_nothing_else() {
        let patch = paused_patch(&group(), "/spec/widgets/1", true);
        let expected = json!([
            {"op": "test", "path": "/spec/widgets/1/name", "value": "llm"},
            {"op": "add", "path": "/spec/widgets/1/rollout/paused", "value": true},
        ]);
        assert_eq!(patch, expected);
        let patch = paused_patch(&group(), "/spec/widgets/0", false);
        assert_eq!(
            patch[1],
            json!({"op": "add", "path": "/spec/widgets/0/rollout", "value": {"paused": false}})
        );
        let alone = json!({"spec": {"replicas": 1}});
        assert_eq!(paused_patch(&alone, "/spec", true).as_array().unwrap().len(), 1);
    }

    #[test]
    fn an_undo_puts_the_template_back_and_leaves_the_number_of_replicas() {
        let kept = json!({"replicas": 1, "container": {"image": "old"}});
        let patch = undo_patch(&group(), "/spec/widgets/1", &kept).unwrap();
        assert_eq!(patch[1]["value"], json!({"name": "llm", "replicas": 4, "container": {"image": "old"}}));
        assert_eq!(undo_patch(&group(), "/spec/widgets/1", &json!({"spec": kept})), Some(patch));
        assert_eq!(undo_patch(&group(), "/spec/widgets/1", &json!("?")), None);
    }

    #[test]
    fn a_roll_out_is_on_its_way_until_the_operator_has_seen_the_newest_generation() {
        let id: WidgetId = "default/rag/llm".parse().unwrap();
        let mut object = json!({
            "metadata": {"generation": 4},
            "status": {"observedGeneration": 3, "replicas": 2, "rollout": {"state": "Complete", "updatedReplicas": 2}},
        });
        assert!(!Standing::of(&id, &object).is_over());
        object["status"]["observedGeneration"] = json!(4);
        assert!(Standing::of(&id, &object).is_over());
        assert!(!Standing::of(&id, &json!({})).is_over(), "nothing is known yet");
    }
}
