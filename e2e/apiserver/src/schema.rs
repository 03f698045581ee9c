//! Structural schemas: what is pruned, and what is refused. Rules in CEL are `kube_cel`'s.

use regex::Regex;
use serde_json::Value;

/// Drops the fields that the schema does not have, and says which.
pub(crate) fn prune(schema: &Value, value: &mut Value) -> Vec<String> {
    let mut dropped = Vec::new();
    walk(schema, value, "", &mut dropped);
    dropped
}

fn walk(schema: &Value, value: &mut Value, path: &str, dropped: &mut Vec<String>) {
    let open = schema["x-kubernetes-preserve-unknown-fields"] == true;
    match value {
        Value::Object(fields) => {
            let more = Some(&schema["additionalProperties"]).filter(|more| more.is_object());
            let free = open || schema["additionalProperties"] == true;
            fields.retain(|name, value| {
                let path = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
                if let Some(schema) = schema["properties"].get(name).or(more) {
                    walk(schema, value, &path, dropped);
                    // A null where none may be is as good as absent.
                    return !(value.is_null() && schema["nullable"] != true);
                }
                if !free {
                    dropped.push(path);
                }
                free
            });
        }
        Value::Array(items) => {
            for (index, item) in items.iter_mut().enumerate() {
                walk(&schema["items"], item, &format!("{path}[{index}]"), dropped);
            }
        }
        _ => {}
    }
}

/// What the schema refuses: the field, and why.
pub(crate) fn validate(schema: &Value, value: &Value) -> Vec<(String, String)> {
    let mut found = Vec::new();
    check(schema, value, "", &mut found);
    found
}

fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(number) if number.is_f64() => "number",
        Value::Number(_) => "integer",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    }
}

fn check(schema: &Value, value: &Value, path: &str, found: &mut Vec<(String, String)>) {
    let mut say = |why: String| found.push((path.trim_start_matches('.').to_owned(), why));
    if value.is_null() && schema["nullable"] == true {
        return;
    }
    let either = schema["x-kubernetes-int-or-string"] == true;
    if either && !(value.is_string() || value.is_i64() || value.is_u64()) {
        say(format!("Invalid value: {value}: must be a whole number or a text"));
        return;
    }
    if let Some(wanted) = schema["type"].as_str().filter(|_| !either) {
        let is = kind(value);
        if wanted != is && !(wanted == "number" && is == "integer") {
            say(format!("Invalid value: \"{is}\": must be of type {wanted}: \"{is}\""));
            return;
        }
    }
    if let Some(allowed) = schema["enum"].as_array().filter(|allowed| !allowed.contains(value)) {
        let allowed: Vec<_> = allowed.iter().map(Value::to_string).collect();
        say(format!("Unsupported value: {value}: supported values: {}", allowed.join(", ")));
    }
    match value {
        Value::Number(number) => numbers(schema, number.as_f64().unwrap_or_default(), &mut say),
        Value::String(text) => texts(schema, text, &mut say),
        Value::Array(items) => {
            lengths(schema, ("minItems", "maxItems"), items.len(), "items", &mut say);
            unique(schema, items, &mut say);
            for (index, item) in items.iter().enumerate() {
                check(&schema["items"], item, &format!("{path}[{index}]"), found);
            }
        }
        Value::Object(fields) => {
            lengths(schema, ("minProperties", "maxProperties"), fields.len(), "properties", &mut say);
            for name in schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str) {
                if !fields.contains_key(name) {
                    found.push((
                        format!("{path}.{name}").trim_start_matches('.').to_owned(),
                        "Required value".into(),
                    ));
                }
            }
            let more = Some(&schema["additionalProperties"]).filter(|more| more.is_object());
            for (name, value) in fields {
                if let Some(schema) = schema["properties"].get(name).or(more) {
                    check(schema, value, &format!("{path}.{name}"), found);
                }
            }
        }
        _ => {}
    }
}

fn numbers(schema: &Value, number: f64, say: &mut impl FnMut(String)) {
    if schema["minimum"].as_f64().is_some_and(|least| number < least) {
        say(format!("Invalid value: {number}: should be greater than or equal to {}", schema["minimum"]));
    }
    if schema["maximum"].as_f64().is_some_and(|most| number > most) {
        say(format!("Invalid value: {number}: should be less than or equal to {}", schema["maximum"]));
    }
}

fn texts(schema: &Value, text: &str, say: &mut impl FnMut(String)) {
    lengths(schema, ("minLength", "maxLength"), text.chars().count(), "characters", say);
    if let Some(pattern) = schema["pattern"].as_str()
        && Regex::new(pattern).is_ok_and(|pattern| !pattern.is_match(text))
    {
        say(format!("Invalid value: \"{text}\": should match '{pattern}'"));
    }
    if schema["format"] == "date-time" && text.parse::<jiff::Timestamp>().is_err() {
        say(format!("Invalid value: \"{text}\": must be of type date-time"));
    }
}

fn lengths(
    schema: &Value,
    (least, most): (&str, &str),
    count: usize,
    of: &str,
    say: &mut impl FnMut(String),
) {
    let bound = |name: &str| schema[name].as_u64().and_then(|bound| usize::try_from(bound).ok());
    if bound(least).is_some_and(|bound| count < bound) {
        say(format!("Invalid value: should have at least {} {of}", schema[least]));
    }
    if bound(most).is_some_and(|bound| count > bound) {
        say(format!("Too long: may not be more than {} {of}", schema[most]));
    }
}

fn unique(schema: &Value, items: &[Value], say: &mut impl FnMut(String)) {
    let keys: Vec<&str> = match schema["x-kubernetes-list-type"].as_str() {
        Some("map") => schema["x-kubernetes-list-map-keys"]
            .as_array()
            .into_iter()
            .flatten()
            .filter_map(Value::as_str)
            .collect(),
        Some("set") => Vec::new(),
        _ => return,
    };
    let key = |item: &Value| -> Vec<Value> {
        if keys.is_empty() { vec![item.clone()] } else { keys.iter().map(|key| item[*key].clone()).collect() }
    };
    for (index, item) in items.iter().enumerate() {
        if items[..index].iter().any(|other| key(other) == key(item)) {
            say(format!("Duplicate value: {item}"));
        }
    }
}
