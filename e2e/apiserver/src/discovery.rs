//! What the server has: versions, groups, resources, health.

use std::collections::BTreeMap;

use http::StatusCode;
use serde_json::{Value, json};

use crate::{
    failure::Failure,
    request::Request,
    resource::Resource,
    state::{Answer, State},
};

impl State {
    pub(crate) fn discover(&self, request: &Request) -> Result<Answer, Failure> {
        let path: Vec<&str> = request.path.iter().map(String::as_str).collect();
        let ok = |value| Ok(Answer::Json(StatusCode::OK, value));
        match path.as_slice() {
            ["version"] => ok(json!({
                "major": "1", "minor": "36", "gitVersion": "v1.36.0", "gitCommit": "", "gitTreeState": "clean",
                "buildDate": "2026-01-01T00:00:00Z", "goVersion": "go1.26", "compiler": "gc", "platform": "linux/amd64",
            })),
            ["healthz" | "livez" | "readyz"] => Ok(Answer::Text(StatusCode::OK, "ok".to_owned())),
            ["api"] => {
                ok(json!({"kind": "APIVersions", "versions": ["v1"], "serverAddressByClientCIDRs": []}))
            }
            ["api", "v1"] => ok(self.resource_list("", "v1")),
            ["apis"] => ok(json!({"kind": "APIGroupList", "apiVersion": "v1", "groups": self.groups()})),
            ["apis", group] => self
                .groups()
                .into_iter()
                .find(|one| one["name"] == *group)
                .map_or_else(|| Err(Failure::no_such_path()), ok),
            ["apis", group, version] => {
                let list = self.resource_list(group, version);
                if list["resources"] == json!([]) { Err(Failure::no_such_path()) } else { ok(list) }
            }
            _ => Err(Failure::no_such_path()),
        }
    }

    fn groups(&self) -> Vec<Value> {
        let mut groups = BTreeMap::new();
        for resource in self.resources().filter(|resource| !resource.group.is_empty()) {
            groups.insert(resource.group.clone(), resource.version.clone());
        }
        let entry = |(group, version): (String, String)| {
            let one = json!({"groupVersion": format!("{group}/{version}"), "version": version});
            json!({"kind": "APIGroup", "apiVersion": "v1", "name": group, "versions": [one], "preferredVersion": one})
        };
        groups.into_iter().map(entry).collect()
    }

    fn resource_list(&self, group: &str, version: &str) -> Value {
        let mut list = Vec::new();
        let here =
            |resource: &&std::sync::Arc<Resource>| resource.group == group && resource.version == version;
        for resource in self.resources().filter(here) {
            let mut entry = json!({
                "name": resource.plural, "singularName": resource.kind.to_lowercase(), "kind": resource.kind,
                "namespaced": resource.namespaced,
                "verbs": ["create", "delete", "deletecollection", "get", "list", "patch", "update", "watch"],
            });
            if !resource.short_names.is_empty() {
                entry["shortNames"] = resource.short_names.clone().into();
            }
            list.push(entry);
            let mut sub = |name: &str, kind: &str, verbs: &[&str]| {
                list.push(json!({
                    "name": format!("{}/{name}", resource.plural), "singularName": "", "kind": kind,
                    "namespaced": resource.namespaced, "verbs": verbs,
                }));
            };
            if resource.status {
                sub("status", &resource.kind, &["get", "patch", "update"]);
            }
            if resource.scale.is_some() {
                sub("scale", "Scale", &["get", "patch", "update"]);
            }
            if resource.plural == "pods" {
                sub("log", "Pod", &["get"]);
                sub("eviction", "Eviction", &["create"]);
            }
        }
        let version = if group.is_empty() { version.to_owned() } else { format!("{group}/{version}") };
        json!({"kind": "APIResourceList", "apiVersion": "v1", "groupVersion": version, "resources": list})
    }
}
