//! Holds a manifest against the schema of its kind, as the API server would, but with all errors at once, each with its path, and
//! with the field that was probably meant.
//!
//! CEL rules are left to the conversions, which say more about them; so are formats, unless the value cannot be converted at all.

use std::collections::HashSet;

use kontrol_core::{code::Code, duration, id::Name};
use serde_json::Value;

use crate::{
    api::{
        Amount, Size,
        text::{AMOUNT, DURATION, LABEL, PATH, SIZE},
    },
    fault::Fault,
    nearest::{hint, list},
    quantity,
    yaml::{Kind, Node},
};

/// All that keeps `node` from being what `schema` describes. `formats` says whether texts are held against their format as well.
pub(crate) fn check(node: &Node, schema: &Value, path: &str, formats: bool) -> Vec<Fault> {
    let mut walk = Walk { faults: Vec::new(), formats };
    walk.value(node, schema, path, &example(schema));
    walk.faults
}

struct Walk {
    faults: Vec<Fault>,
    formats: bool,
}

impl Walk {
    fn fault(&mut self, path: &str, code: Code, message: String) {
        self.faults.push(Fault { path: path.to_owned(), code, message });
    }

    /// `example` is what the documentation gives as one of the value; empty where it gives none.
    fn value(&mut self, node: &Node, schema: &Value, path: &str, example: &str) {
        let number_or_text = schema["x-kubernetes-int-or-string"] == true;
        match (&node.kind, schema["type"].as_str()) {
            (Kind::Map(entries), Some("object")) => self.map(node, entries, schema, path),
            (Kind::List(items), Some("array")) => self.list(items, schema, path, example),
            (Kind::Scalar(Value::String(text)), Some("string")) => self.text(text, schema, path),
            (Kind::Scalar(Value::Bool(_)), Some("boolean")) => {}
            (Kind::Scalar(Value::Number(number)), Some("integer")) if whole(number).is_some() => {
                self.number(number, schema, path);
            }
            (Kind::Scalar(Value::String(text)), None) if number_or_text => self.format(text, schema, path),
            (Kind::Scalar(Value::Number(number)), None) if number_or_text && whole(number).is_some() => {
                self.number(number, schema, path);
            }
            (kind, expected) => {
                let found = describe(kind);
                let such_as = if example.is_empty() { String::new() } else { format!(", such as {example}") };
                let (expected, way_out) = match (expected, kind) {
                    (Some("object"), _) => (format!("fields{such_as}"), String::new()),
                    (Some("array"), _) => (format!("a list{such_as}"), String::new()),
                    (Some("string"), Kind::Scalar(Value::Number(number)))
                        if schema["pattern"] == DURATION && whole(number).is_some() =>
                    {
                        ("a duration".to_owned(), format!("; give it a unit, such as {number}s"))
                    }
                    (Some("string"), _) if schema["pattern"] == DURATION => {
                        (format!("a duration{such_as}"), String::new())
                    }
                    (Some("string"), Kind::Scalar(Value::Bool(_) | Value::Number(_))) => {
                        ("a text".to_owned(), "; write it in quotes".to_owned())
                    }
                    (Some("string"), _) => (format!("a text{such_as}"), String::new()),
                    (Some("boolean"), _) => ("true or false".to_owned(), String::new()),
                    (Some("integer"), Kind::Scalar(Value::String(text))) if text.parse::<i64>().is_ok() => {
                        ("a whole number".to_owned(), "; write it without quotes".to_owned())
                    }
                    (Some("integer"), _) => ("a whole number".to_owned(), String::new()),
                    (_, Kind::Scalar(Value::Number(_))) => {
                        ("a whole number from 0 or a text".to_owned(), "; write it in quotes".to_owned())
                    }
                    _ => ("a whole number or a text".to_owned(), String::new()),
                };
                self.fault(path, Code::InvalidValue, format!("expected {expected}, found {found}{way_out}"));
            }
        }
    }

    fn map(&mut self, node: &Node, entries: &[(String, u64, Node)], schema: &Value, path: &str) {
        if schema["additionalProperties"].is_object() {
            return self.names(entries, schema, path);
        }
        let Some(properties) = schema["properties"].as_object() else {
            if let Some((name, ..)) = entries.first() {
                self.fault(
                    &join(path, name),
                    Code::UnknownField,
                    "there are no fields here; write {}".to_owned(),
                );
            }
            return;
        };
        for (name, _, value) in entries {
            let at = join(path, name);
            match properties.get(name) {
                Some(_) if value.is_null() => {}
                Some(schema) => self.value(value, schema, &at, &example(schema)),
                None => {
                    let known: Vec<&str> = properties.keys().map(String::as_str).collect();
                    let message = match hint(name, &known) {
                        Some(meant) => format!("there is no such field; did you mean {meant}?"),
                        None => format!("there is no such field; the fields here are {}", list(&known)),
                    };
                    self.fault(&at, Code::UnknownField, message);
                }
            }
        }
        for name in schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str) {
            if node.get(name).is_none_or(Node::is_null) {
                let about =
                    properties.get(name).and_then(|field| field["description"].as_str()).unwrap_or_default();
                let about: String = about.split_whitespace().collect::<Vec<_>>().join(" ");
                self.fault(&join(path, name), Code::MissingField, format!("is missing. {about}"));
            }
        }
    }

    /// A map of names that nobody fixed, such as labels.
    fn names(&mut self, entries: &[(String, u64, Node)], schema: &Value, path: &str) {
        let count = entries.len() as u64;
        if let Some(most) = schema["maxProperties"].as_u64().filter(|most| count > *most) {
            self.fault(path, Code::InvalidValue, format!("has {count} entries; at most {most} are possible"));
        }
        for (name, _, value) in entries {
            self.value(value, &schema["additionalProperties"], &join(path, name), "");
        }
    }

    fn list(&mut self, items: &[Node], schema: &Value, path: &str, example: &str) {
        let count = items.len() as u64;
        if let Some(least) = schema["minItems"].as_u64().filter(|least| count < *least) {
            self.fault(path, Code::InvalidValue, format!("needs at least {least} item"));
        }
        if let Some(most) = schema["maxItems"].as_u64().filter(|most| count > *most) {
            self.fault(path, Code::InvalidValue, format!("has {count} items; at most {most} are possible"));
        }
        for (index, item) in items.iter().enumerate() {
            self.value(item, &schema["items"], &format!("{path}[{index}]"), first_item(example));
        }
        let keys: Vec<&str> = schema["x-kubernetes-list-map-keys"]
            .as_array()
            .into_iter()
            .flatten()
            .filter_map(Value::as_str)
            .collect();
        let mut seen = HashSet::new();
        for (index, item) in items.iter().enumerate() {
            let key: Vec<&str> = keys.iter().filter_map(|key| item.get(key)?.text()).collect();
            if !key.is_empty() && !seen.insert(key.clone()) {
                let (what, key) = (keys.join(" and "), key.join("/"));
                let message = format!(
                    "there is another item with the {what} {key} in this list; each may be there once"
                );
                self.fault(&join(&format!("{path}[{index}]"), keys[0]), Code::DuplicateName, message);
            }
        }
    }

    fn text(&mut self, text: &str, schema: &Value, path: &str) {
        if let Some(choices) = schema["enum"].as_array() {
            let choices: Vec<&str> = choices.iter().filter_map(Value::as_str).collect();
            if !choices.contains(&text) {
                let meant =
                    hint(text, &choices).map(|meant| format!("; did you mean {meant}?")).unwrap_or_default();
                self.fault(
                    path,
                    Code::InvalidValue,
                    format!("{text:?} is none of {}{meant}", list(&choices)),
                );
            }
            return;
        }
        let length = text.chars().count() as u64;
        if schema["minLength"].as_u64().is_some_and(|least| length < least) {
            self.fault(path, Code::InvalidValue, "is empty".to_owned());
        }
        if let Some(most) = schema["maxLength"].as_u64().filter(|most| length > *most) {
            self.fault(
                path,
                Code::InvalidValue,
                format!("has {length} characters; at most {most} are possible"),
            );
        }
        self.format(text, schema, path);
    }

    fn format(&mut self, text: &str, schema: &Value, path: &str) {
        let Some(pattern) = schema["pattern"].as_str().filter(|_| self.formats) else { return };
        let (code, wrong) = match pattern {
            LABEL => (Code::InvalidName, Name::new(text).err().map(|error| error.to_string())),
            DURATION => (Code::InvalidValue, duration::parse(text).err().map(|error| error.to_string())),
            SIZE => {
                let size = quantity::bytes(&Size::Text(text.to_owned()));
                (Code::InvalidValue, size.err().map(|error| error.to_string()))
            }
            AMOUNT => {
                let amount = quantity::thousandths(&Amount::Text(text.to_owned()));
                (Code::InvalidValue, amount.err().map(|error| error.to_string()))
            }
            PATH => {
                let wrong = (!is_path(text)).then(|| NO_PATH.to_owned());
                (Code::InvalidValue, wrong)
            }
            _ => return,
        };
        if let Some(message) = wrong {
            self.fault(path, code, message);
        }
    }

    fn number(&mut self, number: &serde_json::Number, schema: &Value, path: &str) {
        let Some(value) = whole(number) else { return };
        let bound = |name: &str| schema[name].as_number().and_then(whole);
        let (least, most) = (bound("minimum"), bound("maximum"));
        if least.is_some_and(|least| value < least) || most.is_some_and(|most| value > most) {
            let message = match (least, most) {
                (Some(least), Some(most)) => format!("{value} is not between {least} and {most}"),
                (Some(least), None) => format!("{value} is below {least}"),
                (_, most) => format!("{value} is above {}", most.unwrap_or_default()),
            };
            self.fault(path, Code::InvalidValue, message);
        }
    }
}

/// What is said of a text that is no path.
pub(crate) const NO_PATH: &str = "must start with '/' and have no spaces, such as /documents";

/// Whether a text is a path of an endpoint.
pub(crate) fn is_path(text: &str) -> bool {
    text.starts_with('/') && !text.contains(|c: char| c.is_whitespace() || c.is_control())
}

/// The example that a field's documentation gives; empty where it gives none.
fn example(schema: &Value) -> String {
    let about = schema["description"].as_str().unwrap_or_default();
    let example = about.rsplit_once("Example: `").and_then(|(_, rest)| rest.split_once('`'));
    example.map(|(example, _)| example.split_whitespace().collect::<Vec<_>>().join(" ")).unwrap_or_default()
}

/// The first item of a list's example, where it is one with fields.
fn first_item(example: &str) -> &str {
    let inner = example.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or_default();
    let end = inner.find("}, {").map_or(inner.len(), |end| end + 1);
    if inner.starts_with('{') { &inner[..end] } else { "" }
}

fn whole(number: &serde_json::Number) -> Option<i128> {
    number.as_i64().map(i128::from).or_else(|| number.as_u64().map(i128::from))
}

fn describe(kind: &Kind) -> String {
    match kind {
        Kind::Scalar(Value::Null) => "nothing".to_owned(),
        Kind::Scalar(Value::Bool(value)) => format!("the boolean {value}"),
        Kind::Scalar(Value::Number(number)) => format!("the number {number}"),
        Kind::Scalar(Value::String(text)) if text.chars().count() > 40 => "a text".to_owned(),
        Kind::Scalar(value) => format!("the text {value}"),
        Kind::List(_) => "a list".to_owned(),
        Kind::Map(_) => "fields".to_owned(),
    }
}

fn join(path: &str, name: &str) -> String {
    if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") }
}
