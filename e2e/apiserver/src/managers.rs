//! `managedFields`: who owns what.

use jiff::Timestamp;
use serde_json::{Value, json};

use crate::{failure::Failure, fields::Fields, resource::Resource};

/// One entry of `managedFields`.
#[derive(Clone, Debug)]
pub(crate) struct Manager {
    name: String,
    apply: bool,
    api_version: String,
    subresource: String,
    time: String,
    fields: Fields,
}

/// All entries of an object.
#[derive(Clone, Debug, Default)]
pub(crate) struct Managers(Vec<Manager>);

/// The writer of a change.
#[derive(Clone, Copy)]
pub(crate) struct Writer<'w> {
    pub(crate) name: &'w str,
    pub(crate) subresource: &'w str,
    pub(crate) now: Timestamp,
}

impl Managers {
    pub(crate) fn of(object: &Value) -> Self {
        let read = |entry: &Value| Manager {
            name: entry["manager"].as_str().unwrap_or_default().to_owned(),
            apply: entry["operation"] == "Apply",
            api_version: entry["apiVersion"].as_str().unwrap_or_default().to_owned(),
            subresource: entry["subresource"].as_str().unwrap_or_default().to_owned(),
            time: entry["time"].as_str().unwrap_or_default().to_owned(),
            fields: Fields::read(&entry["fieldsV1"]),
        };
        Self(object["metadata"]["managedFields"].as_array().into_iter().flatten().map(read).collect())
    }

    pub(crate) fn write(&self) -> Value {
        let entry = |manager: &Manager| {
            let mut entry = json!({
                "manager": manager.name, "operation": if manager.apply { "Apply" } else { "Update" },
                "apiVersion": manager.api_version, "time": manager.time,
                "fieldsType": "FieldsV1", "fieldsV1": manager.fields.write(),
            });
            if !manager.subresource.is_empty() {
                entry["subresource"] = manager.subresource.clone().into();
            }
            entry
        };
        self.0.iter().map(entry).collect()
    }

    fn entry(&mut self, resource: &Resource, writer: Writer<'_>, apply: bool) -> &mut Manager {
        let found = self.0.iter().position(|manager| {
            manager.name == writer.name && manager.apply == apply && manager.subresource == writer.subresource
        });
        let at = found.unwrap_or_else(|| {
            self.0.push(Manager {
                name: writer.name.to_owned(),
                apply,
                api_version: resource.api_version(),
                subresource: writer.subresource.to_owned(),
                time: crate::clock::seconds(writer.now),
                fields: Fields::default(),
            });
            self.0.len() - 1
        });
        &mut self.0[at]
    }

    fn tidy(&mut self, present: &Fields) {
        for manager in &mut self.0 {
            manager.fields.keep(present);
        }
        self.0.retain(|manager| !manager.fields.is_empty());
    }

    /// Notes an update, or a patch that is none of server-side apply.
    pub(crate) fn update(&mut self, resource: &Resource, old: &Value, new: &Value, writer: Writer<'_>) {
        let shape = Some(&*resource.shape);
        let changed = Fields::changed(shape, &owned(old), &owned(new));
        let mine = self.entry(resource, writer, false);
        let before = mine.fields.clone();
        mine.fields.add(&changed);
        if mine.fields != before {
            mine.time = crate::clock::seconds(writer.now);
        }
        for manager in &mut self.0 {
            let same =
                manager.name == writer.name && !manager.apply && manager.subresource == writer.subresource;
            if !same {
                manager.fields.subtract(&changed);
            }
        }
        self.tidy(&Fields::of(shape, &owned(new)));
    }

    /// Merges an applied configuration into `live`, unless others own what it changes.
    pub(crate) fn apply(
        &mut self,
        resource: &Resource,
        live: &Value,
        applied: &Value,
        writer: Writer<'_>,
        force: bool,
    ) -> Result<Value, Failure> {
        let shape = Some(&*resource.shape);
        let wanted = Fields::of(shape, &owned(applied));
        let mut merged = live.clone();
        crate::fields::merge(shape, &mut merged, applied);
        let changed = Fields::changed(shape, &owned(live), &owned(&merged));
        let mine = |manager: &Manager| {
            manager.name == writer.name && manager.apply && manager.subresource == writer.subresource
        };
        let mut conflicts = Vec::new();
        for manager in self.0.iter_mut().filter(|manager| !mine(manager)) {
            let taken = manager.fields.common(&changed);
            if force {
                manager.fields.subtract(&changed);
            } else {
                conflicts.extend(taken.into_iter().map(|path| (manager.name.clone(), path)));
            }
        }
        if !conflicts.is_empty() {
            let count = conflicts.len();
            let said: Vec<_> = conflicts
                .iter()
                .map(|(manager, path)| format!("conflict with \"{manager}\": {path}"))
                .collect();
            let causes: Vec<_> = conflicts
                .iter()
                .map(|(manager, path)| {
                    json!({"reason": "FieldManagerConflict", "message": format!("conflict with \"{manager}\""), "field": path})
                })
                .collect();
            let plural = if count == 1 { "conflict" } else { "conflicts" };
            let message = format!("Apply failed with {count} {plural}: {}", said.join(", "));
            return Err(
                Failure::new(http::StatusCode::CONFLICT, "Conflict", message).with(json!({"causes": causes}))
            );
        }
        let entry = self.entry(resource, writer, true);
        let had = std::mem::replace(&mut entry.fields, wanted.clone());
        if had != wanted {
            entry.time = crate::clock::seconds(writer.now);
        }
        let mut held = Fields::default();
        for manager in &self.0 {
            held.add(&manager.fields);
        }
        crate::fields::prune(shape, &mut merged, &had, &held);
        self.tidy(&Fields::of(shape, &owned(&merged)));
        Ok(merged)
    }
}

/// What of an object can be owned.
fn owned(object: &Value) -> Value {
    let mut object = object.clone();
    let Some(fields) = object.as_object_mut() else { return object };
    fields.remove("apiVersion");
    fields.remove("kind");
    if let Some(metadata) = fields.get_mut("metadata").and_then(Value::as_object_mut) {
        metadata.retain(|name, _| {
            matches!(name.as_str(), "labels" | "annotations" | "ownerReferences" | "finalizers")
        });
        if metadata.is_empty() {
            fields.remove("metadata");
        }
    }
    object
}
