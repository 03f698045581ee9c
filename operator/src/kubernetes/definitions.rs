//! Definitions of our kinds that are older than the operator: what they lack is said, and is not written.
//!
//! What a definition lacks is known from comparing it with ours, and from answers in which something that was written is not there.

use std::collections::{BTreeMap, BTreeSet};

use kontrol_crds::generated;
use serde_json::{Map, Value};

use super::{kind::Kind, request::Request, text::Text};

/// The elements of a list, as a step of a path.
const EACH: &str = "[]";
/// The values of a map.
const ANY: &str = "{}";

/// A field, from the object on: `status`, `instances`, `[]`, `node`.
type Path = Vec<Box<str>>;

/// The fields that the definitions of the cluster lack, by kind.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Lacks(BTreeMap<Kind, BTreeSet<Path>>);

impl Lacks {
    /// What these definitions of the cluster lack of ours. A kind that is not among them lacks nothing that is known.
    pub fn of(installed: &BTreeMap<Kind, Value>) -> Self {
        let mut lacks = Self::default();
        for ours in generated::definitions() {
            let kind = Kind::OWN.into_iter().find(|kind| ours["spec"]["names"]["kind"] == kind.as_str());
            let Some((kind, theirs)) = kind.and_then(|kind| Some((kind, installed.get(&kind)?))) else {
                continue;
            };
            let mut missing = BTreeSet::new();
            if let (Some(ours), Some(theirs)) = (schema(&ours, kind), schema(theirs, kind)) {
                for part in ["spec", "status"] {
                    let path = vec![part.into()];
                    compare(&ours["properties"][part], &theirs["properties"][part], &path, &mut missing);
                }
            }
            lacks.add(kind, missing);
        }
        lacks
    }

    /// Whether nothing is known to lack.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Each field, as `Widget.status.instances[].node`.
    pub fn fields(&self) -> Vec<String> {
        let of = |kind: &Kind, path: &Path| {
            path.iter().fold(kind.as_str().to_owned(), |text, step| match &**step {
                EACH => text + EACH,
                step => text + "." + step,
            })
        };
        self.0.iter().flat_map(|(kind, paths)| paths.iter().map(|path| of(kind, path))).collect()
    }

    fn add(&mut self, kind: Kind, missing: BTreeSet<Path>) {
        if !missing.is_empty() {
            self.0.entry(kind).or_default().extend(missing);
        }
    }

    /// Learns from the status that was written and the object that was answered.
    pub(super) fn learn(&mut self, kind: Kind, written: &Value, answer: &Value) {
        let mut missing = BTreeSet::new();
        lost(written, &answer["status"], &vec!["status".into()], &mut missing);
        self.add(kind, missing);
    }

    /// Takes out of a write of a status what its definition lacks. `false`: nothing is left that differs from the status as it is.
    pub(super) fn trim(&self, request: &mut Request, status: &Text) -> bool {
        let Some(missing) = self.0.get(&request.kind) else { return true };
        let old: Value = serde_json::from_str(&status.read()).unwrap_or_default();
        let Some(patch) = request.body.get_mut("status") else { return true };
        for path in missing {
            if let Some((first, rest)) = path.split_first()
                && &**first == "status"
            {
                prune(patch, rest);
            }
        }
        let Some(patch) = patch.as_object_mut() else { return true };
        patch.retain(|name, value| changes(old.get(name).unwrap_or(&Value::Null), value));
        !patch.is_empty()
    }
}

fn schema(definition: &Value, kind: Kind) -> Option<&Value> {
    let version = kind.api_version().rsplit('/').next()?;
    let versions = definition["spec"]["versions"].as_array()?;
    let version = versions.iter().find(|known| known["name"] == version)?;
    Some(&version["schema"]["openAPIV3Schema"])
}

/// Finds the fields of our schema that theirs lacks.
fn compare(ours: &Value, theirs: &Value, path: &Path, missing: &mut BTreeSet<Path>) {
    if theirs["x-kubernetes-preserve-unknown-fields"] == true {
        return;
    }
    let with = |step: &str| path.iter().cloned().chain([step.into()]).collect::<Path>();
    for (name, field) in ours["properties"].as_object().into_iter().flatten() {
        match theirs["properties"].get(name) {
            Some(known) => compare(field, known, &with(name), missing),
            None if theirs["additionalProperties"].is_null() => {
                missing.insert(with(name));
            }
            None => {}
        }
    }
    for (inner, step) in [("items", EACH), ("additionalProperties", ANY)] {
        if ours[inner].is_object() && theirs[inner].is_object() {
            compare(&ours[inner], &theirs[inner], &with(step), missing);
        }
    }
}

/// Finds the fields that were written and are not in the answer.
fn lost(written: &Value, answer: &Value, path: &Path, missing: &mut BTreeSet<Path>) {
    let with = |step: &str| path.iter().cloned().chain([step.into()]).collect::<Path>();
    match (written, answer) {
        (Value::Object(fields), Value::Object(known)) => {
            for (name, field) in fields.iter().filter(|(_, field)| !is_nothing(field)) {
                match known.get(name) {
                    Some(known) => lost(field, known, &with(name), missing),
                    None => {
                        missing.insert(with(name));
                    }
                }
            }
        }
        (Value::Array(items), Value::Array(known)) => {
            for (item, known) in items.iter().zip(known) {
                lost(item, known, &with(EACH), missing);
            }
        }
        _ => {}
    }
}

fn is_nothing(value: &Value) -> bool {
    value.is_null()
        || value.as_object().is_some_and(Map::is_empty)
        || value.as_array().is_some_and(Vec::is_empty)
}

/// Takes a field away, and what is empty without it.
fn prune(value: &mut Value, path: &[Box<str>]) {
    let Some((step, rest)) = path.split_first() else { return };
    match (value, &**step) {
        (Value::Array(items), EACH) => items.iter_mut().for_each(|item| prune(item, rest)),
        (Value::Object(fields), ANY) => fields.values_mut().for_each(|field| prune(field, rest)),
        (Value::Object(fields), name) if rest.is_empty() => {
            fields.remove(name);
        }
        (Value::Object(fields), name) => {
            if let Some(field) = fields.get_mut(name) {
                prune(field, rest);
                if field.as_object().is_some_and(Map::is_empty) {
                    fields.remove(name);
                }
            }
        }
        _ => {}
    }
}

/// Whether a merge patch changes anything.
fn changes(old: &Value, patch: &Value) -> bool {
    match (old, patch) {
        (Value::Object(old), Value::Object(patch)) => {
            patch.iter().any(|(name, value)| changes(old.get(name).unwrap_or(&Value::Null), value))
        }
        (old, patch) => old != patch,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::kubernetes::request::Verb;

    fn installed() -> Value {
        let all = generated::definitions();
        all.into_iter().find(|known| known["spec"]["names"]["kind"] == "Widget").unwrap()
    }

    fn status(definition: &mut Value) -> &mut Map<String, Value> {
        let schema = &mut definition["spec"]["versions"][0]["schema"]["openAPIV3Schema"];
        schema["properties"]["status"]["properties"].as_object_mut().unwrap()
    }

    #[test]
    fn a_definition_as_ours_lacks_nothing() {
        assert_eq!(Lacks::of(&BTreeMap::from([(Kind::Widget, installed())])), Lacks::default());
    }

    #[test]
    fn what_an_older_definition_lacks_is_named_and_not_written() {
        let mut old = installed();
        status(&mut old).remove("scaling");
        let instance = &mut status(&mut old)["instances"]["items"]["properties"];
        instance.as_object_mut().unwrap().remove("node");
        let lacks = Lacks::of(&BTreeMap::from([(Kind::Widget, old)]));
        assert_eq!(lacks.fields(), ["Widget.status.instances[].node", "Widget.status.scaling"]);

        let write = |status: Value| {
            Request::new(Verb::Merge, Kind::Widget, "default", "w")
                .of("status")
                .with(json!({"status": status}))
        };
        let mut request = write(json!({
            "instances": [{"ordinal": 0, "node": "a"}], "scaling": {"desiredReplicas": 1}, "replicas": 1,
        }));
        assert!(lacks.trim(&mut request, &Text::new("{}")));
        assert_eq!(request.body["status"], json!({"instances": [{"ordinal": 0}], "replicas": 1}));
        let mut nothing = write(json!({"scaling": {"desiredReplicas": 1}}));
        assert!(!lacks.trim(&mut nothing, &Text::new("{}")));
        // The cluster has taken all of it that it can take.
        let mut again =
            write(json!({"instances": [{"ordinal": 0, "node": "a"}], "scaling": {"desiredReplicas": 1}}));
        assert!(!lacks.trim(&mut again, &Text::new(r#"{"instances":[{"ordinal":0}],"replicas":1}"#)));
    }

    #[test]
    fn an_answer_shows_what_was_not_taken() {
        let mut lacks = Lacks::default();
        let written = json!({"instances": [{"ordinal": 0, "node": "a"}], "scaling": null, "replicas": 1, "lastEnd": {}});
        lacks.learn(Kind::Widget, &written, &json!({"status": {"instances": [{"ordinal": 0}]}}));
        assert_eq!(lacks.fields(), ["Widget.status.instances[].node", "Widget.status.replicas"]);
    }
}
