#![allow(clippy::needless_pass_by_value, clippy::unwrap_used, reason = "tests write their values in place")]

use std::sync::Arc;

use kontrol_core::{
    id::{InstanceId, Name, WidgetId},
    spec::{Revision, Strategy},
};
use kontrol_crds as api;
use serde_json::{Value, json};

use super::*;

mod any;
mod shapes;

fn settings() -> Settings {
    Settings {
        sidecar_image: "kontrol.dev/kontrol-sidecar:1".to_owned(),
        shim_image: "kontrol.dev/kontrol-sidecar:1".to_owned(),
        control: "kontrol-control.kontrol-system.svc:7400".to_owned(),
        trust_domain: "kontrol.local".to_owned(),
    }
}

fn owner(name: &str) -> Owner {
    Owner { kind: "Widget", name: name.to_owned(), uid: "0000-1".to_owned() }
}

fn id(group: &str, widget: &str) -> WidgetId {
    let name = |text| Name::new(text).unwrap();
    WidgetId { namespace: name("shop"), group: name(group), widget: name(widget) }
}

fn spec(value: Value) -> api::WidgetSpec {
    serde_json::from_value(value).unwrap()
}

#[derive(Debug)]
struct Asked {
    spec: api::WidgetSpec,
    alternative: u32,
    avoid: Vec<Arc<str>>,
    rather_not: Vec<Arc<str>>,
    strategy: Strategy,
}

impl Asked {
    fn of(value: Value) -> Self {
        Self {
            spec: spec(value),
            alternative: 0,
            avoid: Vec::new(),
            rather_not: Vec::new(),
            strategy: Strategy::OneForOne,
        }
    }

    fn pod(&self) -> Value {
        let (settings, owner) = (settings(), owner("rag-llm"));
        let instance = InstanceId { widget: id("rag", "llm"), ordinal: 1 };
        let input = PodInput {
            settings: &settings,
            instance: &instance,
            owner: &owner,
            incarnation: 3,
            epoch: 2,
            revision: Revision(0xabc),
            alternative: self.alternative,
            avoid: &self.avoid,
            rather_not: &self.rather_not,
            strategy: self.strategy,
            spec: &self.spec,
        };
        serde_json::to_value(pod(&input).unwrap()).unwrap()
    }
}

fn container(more: Value) -> Value {
    let mut container = json!({"image": "registry.example.com/llm:1"});
    container.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    json!({"container": container})
}

fn widget_of(pod: &Value) -> &Value {
    &pod["spec"]["containers"][0]
}
