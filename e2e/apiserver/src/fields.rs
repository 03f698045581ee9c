//! Sets of fields, as `managedFields` holds them, and what server-side apply does with them.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

/// A set of fields: a tree whose steps are `f:name`, `k:{…}` and `v:…`.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Fields {
    /// Whether the place itself is in the set.
    pub(crate) own: bool,
    pub(crate) under: BTreeMap<String, Fields>,
}

/// How a place in an object merges.
enum Form<'s> {
    /// Field by field.
    Map,
    /// Item by item, by these keys.
    ListMap(Vec<&'s str>),
    /// Item by item, by value.
    Set,
    /// Whole.
    Atomic,
}

fn form<'s>(schema: Option<&'s Value>, value: &Value) -> Form<'s> {
    let schema = schema.unwrap_or(&Value::Null);
    match value {
        Value::Object(_) if schema["x-kubernetes-map-type"] == "atomic" => Form::Atomic,
        Value::Object(_) => Form::Map,
        Value::Array(_) => match schema["x-kubernetes-list-type"].as_str() {
            Some("map") => Form::ListMap(
                schema["x-kubernetes-list-map-keys"]
                    .as_array()
                    .into_iter()
                    .flatten()
                    .filter_map(Value::as_str)
                    .collect(),
            ),
            Some("set") => Form::Set,
            _ => Form::Atomic,
        },
        _ => Form::Atomic,
    }
}

fn child<'s>(schema: Option<&'s Value>, name: &str) -> Option<&'s Value> {
    let schema = schema?;
    schema["properties"]
        .get(name)
        .or_else(|| Some(&schema["additionalProperties"]).filter(|schema| schema.is_object()))
}

fn items(schema: Option<&Value>) -> Option<&Value> {
    schema?.get("items")
}

/// The step to an item of a list map. A key that is absent takes the schema's default.
fn step(item: &Value, keys: &[&str], schema: Option<&Value>) -> String {
    let key: Map<String, Value> = keys
        .iter()
        .filter_map(|key| {
            let value = item.get(*key).cloned();
            let default = || {
                let default = schema.and_then(|schema| schema["properties"][*key].get("default").cloned());
                default.or_else(|| (*key == "protocol").then(|| "TCP".into()))
            };
            value.or_else(default).map(|value| ((*key).to_owned(), value))
        })
        .collect();
    format!("k:{}", Value::Object(key))
}

impl Fields {
    fn leaf() -> Self {
        Self { own: true, under: BTreeMap::new() }
    }

    pub(crate) fn is_empty(&self) -> bool {
        !self.own && self.under.is_empty()
    }

    /// All fields of a value.
    pub(crate) fn of(schema: Option<&Value>, value: &Value) -> Self {
        let mut set = Self::default();
        match (form(schema, value), value) {
            (Form::Map, Value::Object(fields)) if !fields.is_empty() => {
                for (name, value) in fields {
                    set.under.insert(format!("f:{name}"), Self::of(child(schema, name), value));
                }
            }
            (Form::ListMap(keys), Value::Array(list)) if !list.is_empty() => {
                let schema = items(schema);
                for item in list {
                    let mut under = Self::of(schema, item);
                    under.own = true;
                    set.under.insert(step(item, &keys, schema), under);
                }
            }
            (Form::Set, Value::Array(list)) if !list.is_empty() => {
                for item in list {
                    set.under.insert(format!("v:{item}"), Self::leaf());
                }
            }
            _ => set.own = true,
        }
        set
    }

    /// The fields of `new` that are not in `old`, or differ there.
    pub(crate) fn changed(schema: Option<&Value>, old: &Value, new: &Value) -> Self {
        let mut set = Self::default();
        if old == new {
            return set;
        }
        match (form(schema, new), old, new) {
            (Form::Map, Value::Object(before), Value::Object(after)) => {
                for (name, value) in after {
                    let schema = child(schema, name);
                    let under = match before.get(name) {
                        Some(before) => Self::changed(schema, before, value),
                        None => Self::of(schema, value),
                    };
                    set.insert(format!("f:{name}"), under);
                }
            }
            (Form::ListMap(keys), Value::Array(before), Value::Array(after)) => {
                let schema = items(schema);
                let steps: BTreeMap<_, _> =
                    before.iter().map(|item| (step(item, &keys, schema), item)).collect();
                for item in after {
                    let step = step(item, &keys, schema);
                    let under = if let Some(before) = steps.get(&step) {
                        Self::changed(schema, before, item)
                    } else {
                        let mut under = Self::of(schema, item);
                        under.own = true;
                        under
                    };
                    set.insert(step, under);
                }
            }
            (Form::Set, Value::Array(before), Value::Array(after)) => {
                for item in after.iter().filter(|item| !before.contains(item)) {
                    set.insert(format!("v:{item}"), Self::leaf());
                }
            }
            _ => return Self::of(schema, new),
        }
        set
    }

    fn insert(&mut self, step: String, under: Self) {
        if !under.is_empty() {
            self.under.insert(step, under);
        }
    }

    pub(crate) fn add(&mut self, other: &Self) {
        self.own |= other.own;
        for (step, under) in &other.under {
            self.under.entry(step.clone()).or_default().add(under);
        }
    }

    /// Takes `other` out. What lies under a place that `other` owns whole goes as well.
    pub(crate) fn subtract(&mut self, other: &Self) {
        if other.own {
            self.own = false;
            if other.under.is_empty() {
                self.under.clear();
            }
        }
        for (step, under) in &other.under {
            if let Some(mine) = self.under.get_mut(step) {
                mine.subtract(under);
                if mine.is_empty() {
                    self.under.remove(step);
                }
            }
        }
    }

    /// The paths that are in both.
    pub(crate) fn common(&self, other: &Self) -> Vec<String> {
        fn walk(a: &Fields, b: &Fields, path: &str, found: &mut Vec<String>) {
            if a.own && b.own {
                found.push(path.to_owned());
            }
            for (step, under) in &a.under {
                if let Some(other) = b.under.get(step) {
                    let name = step.strip_prefix("f:").map_or_else(
                        || format!("[{}]", step.get(2..).unwrap_or_default()),
                        |name| format!(".{name}"),
                    );
                    walk(under, other, &format!("{path}{name}"), found);
                }
            }
        }
        let mut found = Vec::new();
        walk(self, other, "", &mut found);
        found
    }

    /// Keeps what is still there in an object.
    pub(crate) fn keep(&mut self, present: &Self) {
        self.under.retain(|step, mine| {
            let Some(there) = present.under.get(step) else { return false };
            mine.keep(there);
            !mine.is_empty()
        });
    }

    /// As `fieldsV1`.
    pub(crate) fn write(&self) -> Value {
        let mut map = Map::new();
        if self.own && !self.under.is_empty() {
            map.insert(".".to_owned(), json!({}));
        }
        for (step, under) in &self.under {
            map.insert(step.clone(), under.write());
        }
        Value::Object(map)
    }

    /// From `fieldsV1`.
    pub(crate) fn read(value: &Value) -> Self {
        let mut set = Self::default();
        let Some(map) = value.as_object() else { return set };
        set.own = map.is_empty() || map.contains_key(".");
        for (step, under) in map.iter().filter(|(step, _)| *step != ".") {
            set.under.insert(step.clone(), Self::read(under));
        }
        set
    }
}

/// Puts an applied configuration over an object.
pub(crate) fn merge(schema: Option<&Value>, live: &mut Value, applied: &Value) {
    match (form(schema, applied), applied) {
        (Form::Map, Value::Object(fields)) if live.is_object() => {
            for (name, value) in fields {
                match live.get_mut(name) {
                    Some(live) => merge(child(schema, name), live, value),
                    None => live[name] = value.clone(),
                }
            }
        }
        (Form::ListMap(keys), Value::Array(list)) if live.is_array() => {
            let schema = items(schema);
            let Some(live) = live.as_array_mut() else { return };
            for item in list {
                let wanted = step(item, &keys, schema);
                match live.iter_mut().find(|live| step(live, &keys, schema) == wanted) {
                    Some(live) => merge(schema, live, item),
                    None => live.push(item.clone()),
                }
            }
        }
        (Form::Set, Value::Array(list)) if live.is_array() => {
            let Some(live) = live.as_array_mut() else { return };
            for item in list {
                if !live.contains(item) {
                    live.push(item.clone());
                }
            }
        }
        _ => *live = applied.clone(),
    }
}

/// Removes what a manager had and no longer wants, unless somebody holds it.
pub(crate) fn prune(schema: Option<&Value>, live: &mut Value, had: &Fields, held: &Fields) {
    match live {
        Value::Object(fields) => {
            for (had_step, had) in &had.under {
                let Some(name) = had_step.strip_prefix("f:") else { continue };
                match held.under.get(had_step) {
                    None => drop(fields.remove(name)),
                    Some(held) => {
                        if let Some(live) = fields.get_mut(name) {
                            prune(child(schema, name), live, had, held);
                        }
                    }
                }
            }
        }
        Value::Array(list) => {
            let form = schema.and_then(|schema| schema["x-kubernetes-list-type"].as_str());
            let keys: Vec<&str> = schema
                .and_then(|schema| schema["x-kubernetes-list-map-keys"].as_array())
                .into_iter()
                .flatten()
                .filter_map(Value::as_str)
                .collect();
            let schema = items(schema);
            list.retain_mut(|item| {
                let step = match form {
                    Some("map") => step(item, &keys, schema),
                    Some("set") => format!("v:{item}"),
                    _ => return true,
                };
                match (had.under.get(&step), held.under.get(&step)) {
                    (None, _) => true,
                    (Some(_), None) => false,
                    (Some(had), Some(held)) => {
                        prune(schema, item, had, held);
                        true
                    }
                }
            });
        }
        _ => {}
    }
}
