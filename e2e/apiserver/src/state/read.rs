//! Get, list, watch, logs.

use std::sync::Arc;

use http::StatusCode;
use serde_json::{Value, json};

use super::{Answer, State};
use crate::{
    failure::Failure,
    request::{Request, Target},
    resource::Resource,
    selector::Selector,
    watch::Watch,
};

impl State {
    /// The object that a path names.
    pub(crate) fn find(&self, target: &Target, name: &str) -> Result<Arc<Value>, Failure> {
        let key = Self::key(&target.resource, &target.namespace, name);
        self.objects.get(&key).cloned().ok_or_else(|| Failure::not_found(&target.resource.id(), name))
    }

    pub(super) fn get(&self, target: &Target, name: &str, request: &Request) -> Result<Value, Failure> {
        let object = self.find(target, name)?;
        match target.sub() {
            "scale" => scale_of(&target.resource, &object),
            _ => Ok(shown(&object, request)),
        }
    }

    pub(super) fn list(&mut self, target: &Target, request: &Request) -> Result<Value, Failure> {
        let selector = Selector::parse(request.text("labelSelector"), request.text("fieldSelector"))?;
        let limit = request.number("limit")?.and_then(|limit| usize::try_from(limit).ok()).filter(|&l| l > 0);
        let id = target.resource.id();
        let (version, mut found) = if let Some(token) = request.text("continue") {
            let gone = || {
                let why = "The provided continue parameter is too old to display a consistent list result.";
                Failure::new(StatusCode::GONE, "Expired", why)
            };
            token.parse().ok().and_then(|page: u64| self.pages.remove(&page)).ok_or_else(gone)?
        } else {
            let version = self.list_version(&id, request)?;
            let mut found = self.at(&id, &target.namespace, version);
            found.retain(|object| selector.matches(object));
            (version, found)
        };
        let mut metadata = json!({"resourceVersion": version.to_string()});
        if let Some(limit) = limit.filter(|limit| *limit < found.len()) {
            let rest = found.split_off(limit);
            metadata["remainingItemCount"] = rest.len().into();
            let page = self.id();
            self.pages.insert(page, (version, rest));
            metadata["continue"] = page.to_string().into();
        }
        let items: Vec<_> = found.iter().map(|object| shown(object, request)).collect();
        let resource = &target.resource;
        Ok(if only_metadata(request) {
            json!({"apiVersion": "meta.k8s.io/v1", "kind": "PartialObjectMetadataList", "metadata": metadata, "items": items})
        } else {
            json!({"apiVersion": resource.api_version(), "kind": format!("{}List", resource.kind), "metadata": metadata, "items": items})
        })
    }

    /// Which state a list shows: the newest, unless the client takes an older one.
    fn list_version(&self, id: &str, request: &Request) -> Result<u64, Failure> {
        let asked = request.number("resourceVersion")?;
        match (asked, request.text("resourceVersionMatch")) {
            (None, _) => Ok(self.version),
            (Some(exact), Some("Exact")) if exact > 0 => {
                if exact < self.compacted {
                    return Err(Failure::expired(exact, self.compacted));
                }
                Ok(exact)
            }
            (Some(least), _) if least > self.version => Err(too_large(least, self.version)),
            (Some(least), _) => Ok(request.bound(id, self.version).max(least)),
        }
    }

    pub(super) fn watch(&self, target: &Target, request: &Request) -> Result<Answer, Failure> {
        let mut fields = request.text("fieldSelector").map(str::to_owned);
        if let Some(name) = &target.name {
            let one = format!("metadata.name={name}");
            fields = Some(fields.map_or(one.clone(), |fields| format!("{fields},{one}")));
        }
        let selector = Selector::parse(request.text("labelSelector"), fields.as_deref())?;
        let asked = request.number("resourceVersion")?;
        let initial = request.flag("sendInitialEvents");
        if initial && request.text("resourceVersionMatch") != Some("NotOlderThan") {
            let message = "sendInitialEvents: Forbidden: resourceVersionMatch=NotOlderThan is required";
            return Err(Failure::invalid(
                "ListOptions",
                "",
                &[("resourceVersionMatch".into(), message.into())],
            ));
        }
        let mut watch = Watch {
            resource: Arc::clone(&target.resource),
            namespace: target.namespace.clone(),
            selector,
            cursor: asked.unwrap_or_default(),
            wait_for: 0,
            snapshot: initial || asked.unwrap_or_default() == 0,
            initial_end: initial,
            bookmarks: request.flag("allowWatchBookmarks"),
            only_metadata: only_metadata(request),
            timeout: request.number("timeoutSeconds")?.unwrap_or(1800),
            expired: None,
        };
        if watch.snapshot {
            // Without a version the state must be at least as new as the request; with one, as that version.
            watch.wait_for = asked.unwrap_or(self.version);
        } else if watch.cursor < self.compacted {
            watch.expired = Some(Failure::expired(watch.cursor, self.compacted));
        }
        Ok(Answer::Watch(Box::new(watch)))
    }

    pub(super) fn log(&self, target: &Target, name: &str, request: &Request) -> Result<Answer, Failure> {
        let pod = self.find(target, name)?;
        let containers: Vec<&str> = ["initContainers", "containers"]
            .iter()
            .flat_map(|list| pod["spec"][list].as_array().into_iter().flatten())
            .filter_map(|container| container["name"].as_str())
            .collect();
        let main = pod["spec"]["containers"][0]["name"].as_str().unwrap_or_default();
        let container = request.text("container").unwrap_or(main);
        if !containers.contains(&container) {
            return Err(Failure::bad_request(format!("container {container} is not valid for pod {name}")));
        }
        let text = self.logs.get(&format!("{}/{name}/{container}", target.namespace)).cloned();
        let mut lines: Vec<&str> = text.as_deref().unwrap_or_default().lines().collect();
        if let Some(tail) = request.number("tailLines")?.and_then(|tail| usize::try_from(tail).ok()) {
            lines.drain(..lines.len().saturating_sub(tail));
        }
        Ok(Answer::Text(StatusCode::OK, lines.iter().flat_map(|line| [line, "\n"]).collect()))
    }
}

pub(crate) fn too_large(asked: u64, version: u64) -> Failure {
    let message = format!("Too large resource version: {asked}, current: {version}");
    Failure::new(StatusCode::GATEWAY_TIMEOUT, "Timeout", message)
        .with(json!({"retryAfterSeconds": 1, "causes": [{"reason": "ResourceVersionTooLarge", "message": "Too large resource version"}]}))
}

fn only_metadata(request: &Request) -> bool {
    request.accept.contains("as=PartialObjectMetadata")
}

fn shown(object: &Value, request: &Request) -> Value {
    if only_metadata(request) { partial(object) } else { object.clone() }
}

/// An object's metadata alone.
pub(crate) fn partial(object: &Value) -> Value {
    json!({"apiVersion": "meta.k8s.io/v1", "kind": "PartialObjectMetadata", "metadata": object["metadata"]})
}

fn at<'v>(object: &'v Value, path: &[String]) -> &'v Value {
    path.iter().fold(object, |value, step| &value[step.as_str()])
}

/// The `Scale` of an object.
pub(crate) fn scale_of(resource: &Resource, object: &Value) -> Result<Value, Failure> {
    let scale = resource.scale.as_ref().ok_or_else(Failure::no_such_path)?;
    let metadata = &object["metadata"];
    let selector = scale.selector.as_ref().map(|path| at(object, path).clone()).unwrap_or_default();
    let mut answer = json!({
        "apiVersion": "autoscaling/v1", "kind": "Scale",
        "metadata": {
            "name": metadata["name"], "namespace": metadata["namespace"], "uid": metadata["uid"],
            "resourceVersion": metadata["resourceVersion"], "creationTimestamp": metadata["creationTimestamp"],
        },
        "spec": {"replicas": at(object, &scale.spec).as_i64().unwrap_or_default()},
        "status": {"replicas": at(object, &scale.status).as_i64().unwrap_or_default()},
    });
    if selector.is_string() {
        answer["status"]["selector"] = selector;
    }
    Ok(answer)
}
