//! `docs/reference.md`, written from the schemas.

use std::fmt::Write;

use serde_json::Value;

use super::definitions;

const HEAD: &str = "\
# API reference: `kontrol.dev/v1alpha1`

Every field of every kind, with its type, its default and what it means. This page is generated from the types by
`cargo run -p kontrol-crds --bin crdgen`; `kubectl explain` says the same. How to write manifests is in [manifests.md](manifests.md).

Durations are texts such as `500ms`, `30s` or `1h30m` (units `us`, `ms`, `s`, `m`, `h`, `d`). Sizes are bytes, as a number or with a
unit such as `64Mi` (`Ki`, `Mi`, `Gi`, `Ti`, `k`, `M`, `G`, `T`). A default of — means that the field is left out unless it is given.
";

/// The text of `docs/reference.md`.
pub fn reference() -> String {
    let mut page = HEAD.to_owned();
    for definition in definitions() {
        kind(&mut page, &definition);
    }
    page
}

fn text<'a>(value: &'a Value, field: &str) -> &'a str {
    value[field].as_str().unwrap_or_default()
}

/// Writing into a `String` cannot fail.
macro_rules! line {
    ($page:expr, $($text:tt)*) => { writeln!($page, $($text)*).unwrap_or_default() };
}

fn kind(page: &mut String, definition: &Value) {
    let names = &definition["spec"]["names"];
    let schema = &definition["spec"]["versions"][0]["schema"]["openAPIV3Schema"];
    let short = names["shortNames"][0].as_str().unwrap_or_default();
    line!(page, "\n## {}\n\n{} Short name `{short}`.", text(names, "kind"), text(schema, "description"));
    for part in ["spec", "status"] {
        let fields = &schema["properties"][part];
        line!(page, "\n### {} `{part}`\n", text(names, "kind"));
        line!(page, "| field | type | default | meaning |\n| --- | --- | --- | --- |");
        rows(page, part, fields);
    }
    let mut found = Vec::new();
    collect(&mut found, "spec", &schema["properties"]["spec"]);
    let own = schema["x-kubernetes-validations"]
        .as_array()
        .into_iter()
        .flatten()
        .map(|rule| ("metadata, spec".to_owned(), rule));
    let all: Vec<_> = own.chain(found).collect();
    if !all.is_empty() {
        line!(
            page,
            "\n### {} rules\n\n| where | rule | said when it is broken |\n| --- | --- | --- |",
            text(names, "kind")
        );
        for (path, rule) in all {
            line!(
                page,
                "| `{path}` | `{}` | {} |",
                escape(text(rule, "rule")),
                escape(text(rule, "message"))
            );
        }
    }
}

fn collect<'a>(found: &mut Vec<(String, &'a Value)>, path: &str, schema: &'a Value) {
    for rule in schema["x-kubernetes-validations"].as_array().into_iter().flatten() {
        found.push((path.to_owned(), rule));
    }
    for (name, field) in schema["properties"].as_object().into_iter().flatten() {
        collect(found, &format!("{path}.{name}"), field);
    }
    if schema["items"].is_object() {
        collect(found, &format!("{path}[]"), &schema["items"]);
    }
}

fn rows(page: &mut String, path: &str, schema: &Value) {
    let required: Vec<&str> =
        schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    for (name, field) in schema["properties"].as_object().into_iter().flatten() {
        let path = format!("{path}.{name}");
        if name == "conditions" {
            line!(page, "| `{path}` | list of conditions | — | {} |", escape(text(field, "description")));
            continue;
        }
        let default = match &field["default"] {
            Value::Null if required.contains(&name.as_str()) => "required".to_owned(),
            Value::Null => "—".to_owned(),
            Value::Object(_) => "see its fields".to_owned(),
            Value::String(text) if text.is_empty() => "empty".to_owned(),
            Value::String(text) => format!("`{text}`"),
            other => format!("`{other}`"),
        };
        line!(page, "| `{path}` | {} | {default} | {} |", type_of(field), escape(text(field, "description")));
        match text(field, "type") {
            "object" => rows(page, &path, field),
            "array" if field["items"]["type"] == "object" => {
                rows(page, &format!("{path}[]"), &field["items"]);
            }
            _ => {}
        }
    }
}

fn type_of(field: &Value) -> String {
    if field["x-kubernetes-int-or-string"] == true {
        let size = text(field, "pattern").contains("Ki");
        return if size { "size" } else { "amount" }.to_owned();
    }
    if let Some(choices) = field["enum"].as_array() {
        return choices
            .iter()
            .filter_map(Value::as_str)
            .map(|choice| format!("`{choice}`"))
            .collect::<Vec<_>>()
            .join(", ");
    }
    match text(field, "type") {
        "string" if text(field, "pattern").contains("us|ms") => "duration".to_owned(),
        "string" => "text".to_owned(),
        "boolean" => "true or false".to_owned(),
        "integer" => match (&field["minimum"], &field["maximum"]) {
            (Value::Null, _) | (_, Value::Null) => "number".to_owned(),
            (least, most) => format!("number, {least} to {most}"),
        },
        "array" => match text(&field["items"], "type") {
            "string" => "list of texts".to_owned(),
            _ => "list".to_owned(),
        },
        _ => "object".to_owned(),
    }
}

fn escape(text: &str) -> String {
    text.replace('|', "\\|").replace('\n', " ")
}
