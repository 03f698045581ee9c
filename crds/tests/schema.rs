//! What Kubernetes' API conventions ask of the resource definitions, and what the documentation of a field says.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test's helpers fail the test")]

use kontrol_crds::generated;
use serde_json::Value;

fn schema(definition: &Value) -> &Value {
    &definition["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
}

/// Every field at and below a schema, with its path and whether it must be given.
fn fields<'a>(path: &str, schema: &'a Value, found: &mut Vec<(String, bool, &'a Value)>) {
    for (name, field) in schema["properties"].as_object().into_iter().flatten() {
        let path = format!("{path}.{name}");
        let required = schema["required"].as_array().is_some_and(|names| names.iter().any(|n| n == name));
        found.push((path.clone(), required, field));
        if name != "conditions" {
            fields(&path, field, found);
            fields(&format!("{path}[]"), &field["items"], found);
        }
    }
}

fn all(part: &str) -> Vec<(String, bool, Value)> {
    let mut all = Vec::new();
    for definition in generated::definitions() {
        let kind = definition["spec"]["names"]["kind"].as_str().unwrap().to_owned();
        let mut found = Vec::new();
        fields(&kind, &schema(&definition)["properties"][part], &mut found);
        all.extend(found.into_iter().map(|(path, required, field)| (path, required, field.clone())));
    }
    all
}

#[test]
fn every_field_says_what_it_means_its_default_and_an_example() {
    for (path, required, field) in all("spec") {
        let about = field["description"].as_str().unwrap_or_default();
        assert!(about.ends_with('.') && about.contains("Example: `"), "{path}: {about:?}");
        let exactly_one = about.contains("Exactly one of");
        let one_of_targets = path.contains(".scaling.target.");
        let default = about.contains("Default") || about.contains("default");
        assert!(required || default || exactly_one || one_of_targets, "{path} has no default: {about:?}");
    }
    for (path, _, field) in all("status") {
        assert!(field["description"].as_str().is_some_and(|about| about.ends_with('.')), "{path}");
    }
}

#[test]
fn a_default_in_the_text_is_the_default_of_the_schema() {
    for (path, _, field) in all("spec") {
        let about = field["description"].as_str().unwrap_or_default();
        let said =
            about.split_once("efault `").and_then(|(_, rest)| rest.split_once('`')).map(|(said, _)| said);
        let Some(said) = said else { continue };
        let optional = ["whenExhausted.initial", "whenExhausted.max", "shutdown.grace"];
        if optional.iter().any(|end| path.ends_with(end)) {
            continue;
        }
        let default = match &field["default"] {
            Value::String(text) => text.clone(),
            other => other.to_string(),
        };
        assert_eq!(said, default, "{path}");
    }
}

#[test]
fn every_list_has_a_type_and_every_list_and_text_a_bound() {
    for (path, _, field) in all("spec").into_iter().chain(all("status")) {
        if field["type"] == "array" {
            let kind = field["x-kubernetes-list-type"].as_str();
            let keys = field["x-kubernetes-list-map-keys"].is_array();
            assert!(kind == Some("atomic") || kind == Some("map") && keys, "{path}");
        }
        if path.contains(".conditions") {
            assert_eq!(field["x-kubernetes-list-map-keys"], serde_json::json!(["type"]), "{path}");
        }
    }
    for (path, _, field) in all("spec") {
        let bounded = match field["type"].as_str() {
            Some("array") => field["maxItems"].is_u64(),
            Some("string") => field["maxLength"].is_u64() || field["enum"].is_array(),
            Some("integer") => field["minimum"].is_i64() && field["maximum"].is_i64(),
            _ => true,
        };
        assert!(bounded, "{path}: {field}");
    }
}

#[test]
fn every_kind_has_what_kubectl_shows_and_status_as_a_subresource() {
    let mut short = Vec::new();
    for definition in generated::definitions() {
        let (names, version) = (&definition["spec"]["names"], &definition["spec"]["versions"][0]);
        let kind = names["kind"].as_str().unwrap();
        short.push(names["shortNames"][0].as_str().unwrap().to_owned());
        assert_eq!(names["categories"], serde_json::json!(["kontrol"]), "{kind}");
        assert!(version["subresources"]["status"].is_object(), "{kind}");
        let columns = version["additionalPrinterColumns"].as_array().unwrap();
        for name in ["Status", "Age"] {
            assert!(columns.iter().any(|column| column["name"] == name), "{kind} has no column {name}");
        }
        let status = &schema(&definition)["properties"]["status"]["properties"];
        assert!(status["conditions"].is_object() && status["observedGeneration"].is_object(), "{kind}");
        let scale = &version["subresources"]["scale"];
        assert_eq!(scale.is_object(), kind == "Widget", "{kind}");
        if kind == "Widget" {
            assert_eq!(scale["specReplicasPath"], ".spec.replicas");
            assert_eq!(scale["statusReplicasPath"], ".status.replicas");
            assert_eq!(scale["labelSelectorPath"], ".status.labelSelector");
        }
    }
    assert_eq!(short, ["kwd", "kwg", "ksv", "kmb", "ktp", "krt"]);
}

#[test]
fn an_expression_that_the_schema_takes_is_not_too_long_for_the_evaluator() {
    let expressions = ["Route.filter", "Route.rules[].when"];
    let longest: Vec<_> = all("spec")
        .iter()
        .filter(|(path, ..)| expressions.contains(&path.as_str()))
        .map(|(.., field)| field["maxLength"].as_u64().unwrap())
        .collect();
    assert_eq!(longest, [kontrol_core::route::MAX_LENGTH as u64; 2]);
}
