//! Create, replace, patch and apply.

use std::sync::Arc;

use http::StatusCode;
use jiff::Timestamp;
use serde_json::{Value, json};

use super::State;
use crate::{
    clock::seconds,
    failure::Failure,
    managers::{Managers, Writer},
    request::{Request, Target},
    resource::Resource,
    state::read::scale_of,
};

impl State {
    pub(crate) fn create(
        &mut self,
        target: &Target,
        mut object: Value,
        manager: &str,
        dry: bool,
        now: Timestamp,
    ) -> Result<Value, Failure> {
        let resource = &target.resource;
        same_kind(resource, &object)?;
        let prefix = object["metadata"]["generateName"].as_str().unwrap_or_default().to_owned();
        if object["metadata"]["name"].as_str().unwrap_or_default().is_empty() && !prefix.is_empty() {
            let name = format!("{prefix}{:05}", self.id());
            object["metadata"]["name"] = name.into();
        }
        let name = object["metadata"]["name"].as_str().unwrap_or_default().to_owned();
        if name.is_empty() {
            let required = "Required value: name or generateName is required".to_owned();
            return Err(Failure::invalid(&resource.kind, "", &[("metadata.name".to_owned(), required)]));
        }
        Self::place(target, &mut object)?;
        let key = Self::key(resource, &target.namespace, &name);
        if self.objects.contains_key(&key) {
            return Err(Failure::exists(&resource.id(), &name));
        }
        if object["metadata"]["resourceVersion"].as_str().is_some_and(|version| !version.is_empty()) {
            return Err(Failure::bad_request("resourceVersion should not be set on objects to be created"));
        }
        self.namespace_takes(target, &name)?;
        if let Some(metadata) = object["metadata"].as_object_mut() {
            for field in ["deletionTimestamp", "deletionGracePeriodSeconds", "managedFields", "selfLink"] {
                metadata.remove(field);
            }
            metadata.insert("uid".to_owned(), self.uid().into());
            metadata.insert("creationTimestamp".to_owned(), seconds(now).into());
            metadata.insert("generation".to_owned(), 1.into());
        }
        if resource.status && resource.plural != "nodes" && resource.plural != "namespaces" {
            object.as_object_mut().map(|fields| fields.remove("status"));
        }
        let mut object = self.admit(resource, None, object, true, now)?;
        let mut managers = Managers::default();
        managers.update(resource, &json!({}), &object, Writer { name: manager, subresource: "", now });
        object["metadata"]["managedFields"] = managers.write();
        self.quota(target, &object)?;
        if dry {
            return Ok(object);
        }
        Ok((*self.record(&key, object, false)).clone())
    }

    pub(super) fn replace(
        &mut self,
        target: &Target,
        name: &str,
        request: &Request,
        now: Timestamp,
    ) -> Result<Value, Failure> {
        let body = request.json()?;
        let old = self.find(target, name)?;
        if target.sub() == "scale" {
            return self.rescale(target, name, &body, request, now);
        }
        same_kind(&target.resource, &body)?;
        if body["metadata"]["name"].as_str().is_some_and(|said| said != name) {
            let why = "the name of the object does not match the name on the URL";
            return Err(Failure::bad_request(why));
        }
        let version = body["metadata"]["resourceVersion"].as_str().unwrap_or_default();
        if version.is_empty() && needs_version(&target.resource) {
            let why = "Invalid value: 0: must be specified for an update".to_owned();
            let cause = ("metadata.resourceVersion".to_owned(), why);
            return Err(Failure::invalid(&target.resource.kind, name, &[cause]));
        }
        preconditions(&target.resource, name, &old, &body)?;
        let mut body = body;
        Self::place(target, &mut body)?;
        self.commit(target, name, &old, body, request, None, now)
    }

    pub(super) fn patch(
        &mut self,
        target: &Target,
        name: &str,
        request: &Request,
        now: Timestamp,
    ) -> Result<(StatusCode, Value), Failure> {
        let old = match self.find(target, name) {
            Ok(old) => old,
            Err(_) if request.content_type == "application/apply-patch+yaml" && target.sub().is_empty() => {
                return self.apply_new(target, name, request, now).map(|value| (StatusCode::CREATED, value));
            }
            Err(gone) => return Err(gone),
        };
        let scaled = target.sub() == "scale";
        let base = if scaled { scale_of(&target.resource, &old)? } else { (*old).clone() };
        let mut new = base;
        match request.content_type.as_str() {
            "application/merge-patch+json" => json_patch::merge(&mut new, &request.json()?),
            "application/json-patch+json" => {
                let patch: json_patch::Patch = serde_json::from_slice(&request.body)
                    .map_err(|error| Failure::bad_request(format!("error decoding patch: {error}")))?;
                json_patch::patch(&mut new, &patch).map_err(|error| {
                    let message =
                        format!("the server rejected our request due to an error in our request: {error}");
                    Failure::new(StatusCode::UNPROCESSABLE_ENTITY, "Invalid", message)
                })?;
            }
            "application/apply-patch+yaml" if !scaled => {
                return self.apply(target, name, &old, request, now).map(|value| (StatusCode::OK, value));
            }
            "application/strategic-merge-patch+json" if target.resource.custom.is_none() && !scaled => {
                json_patch::merge(&mut new, &request.json()?);
            }
            other => {
                let message = format!("the body of the request was in an unknown format: {other}");
                return Err(Failure::new(
                    StatusCode::UNSUPPORTED_MEDIA_TYPE,
                    "UnsupportedMediaType",
                    message,
                ));
            }
        }
        if scaled {
            return self.rescale(target, name, &new, request, now).map(|value| (StatusCode::OK, value));
        }
        preconditions(&target.resource, name, &old, &new)?;
        self.commit(target, name, &old, new, request, None, now).map(|value| (StatusCode::OK, value))
    }

    fn rescale(
        &mut self,
        target: &Target,
        name: &str,
        scale: &Value,
        request: &Request,
        now: Timestamp,
    ) -> Result<Value, Failure> {
        let old = self.find(target, name)?;
        preconditions(&target.resource, name, &old, scale)?;
        let paths = target.resource.scale.as_ref().ok_or_else(Failure::no_such_path)?;
        let mut new = (*old).clone();
        let replicas = scale["spec"]["replicas"].as_i64().unwrap_or_default();
        *paths.spec.iter().fold(&mut new, |value, step| &mut value[step.as_str()]) = replicas.into();
        let written = self.commit(target, name, &old, new, request, None, now)?;
        scale_of(&target.resource, &written)
    }

    /// The body of an apply, as the server reads it.
    fn applied(target: &Target, name: &str, request: &Request) -> Result<Value, Failure> {
        let mut applied = request.json()?;
        if request.text("fieldManager").is_none() {
            let why = "PatchOptions.meta.k8s.io \"\" is invalid: fieldManager: Required value: is required for apply patch";
            return Err(Failure::new(StatusCode::UNPROCESSABLE_ENTITY, "Invalid", why));
        }
        if applied["apiVersion"] != *target.resource.api_version() || applied["kind"] != *target.resource.kind
        {
            return Err(Failure::bad_request(
                "apiVersion and kind must be set, and be those of the resource",
            ));
        }
        if applied["metadata"]["managedFields"].is_array() {
            return Err(Failure::bad_request("metadata.managedFields must be nil"));
        }
        if applied["metadata"]["name"].as_str().is_some_and(|said| said != name) {
            return Err(Failure::bad_request("the name of the object does not match the name on the URL"));
        }
        Self::place(target, &mut applied)?;
        if target.resource.status {
            let other = if target.sub() == "status" { "spec" } else { "status" };
            if let Some(fields) = applied.as_object_mut() {
                fields.remove(other);
            }
        }
        if let Some(custom) = &target.resource.custom {
            crate::schema::prune(&custom.schema, &mut applied);
        }
        Ok(applied)
    }

    fn apply_new(
        &mut self,
        target: &Target,
        name: &str,
        request: &Request,
        now: Timestamp,
    ) -> Result<Value, Failure> {
        let mut applied = Self::applied(target, name, request)?;
        if applied["metadata"]["resourceVersion"].is_string() || applied["metadata"]["uid"].is_string() {
            let why = "the object was to be changed at a version, and there is none";
            return Err(Failure::conflict(&target.resource.id(), name, why));
        }
        applied["metadata"]["name"] = name.into();
        let target = Target { name: None, ..target.clone() };
        let created = self.create(&target, applied.clone(), &request.manager(), true, now)?;
        // What creation defaulted belongs to nobody.
        let writer = Writer { name: &request.manager(), subresource: "", now };
        let mut managers = Managers::default();
        managers.apply(&target.resource, &json!({}), &applied, writer, true)?;
        let mut created = created;
        created["metadata"]["managedFields"] = managers.write();
        if request.dry() {
            return Ok(created);
        }
        let key = Self::key(&target.resource, &target.namespace, name);
        Ok((*self.record(&key, created, false)).clone())
    }

    fn apply(
        &mut self,
        target: &Target,
        name: &str,
        old: &Arc<Value>,
        request: &Request,
        now: Timestamp,
    ) -> Result<Value, Failure> {
        let applied = Self::applied(target, name, request)?;
        preconditions(&target.resource, name, old, &applied)?;
        let mut managers = Managers::of(old);
        let writer = Writer { name: &request.manager(), subresource: target.sub(), now };
        let merged = managers.apply(&target.resource, old, &applied, writer, request.flag("force"))?;
        self.commit(target, name, old, merged, request, Some(managers), now)
    }

    /// Writes the next state of an object that there is.
    #[allow(clippy::too_many_arguments, reason = "one write, wholly said")]
    pub(crate) fn commit(
        &mut self,
        target: &Target,
        name: &str,
        old: &Arc<Value>,
        mut new: Value,
        request: &Request,
        managers: Option<Managers>,
        now: Timestamp,
    ) -> Result<Value, Failure> {
        let resource = &target.resource;
        keep_metadata(old, &mut new);
        if resource.status {
            if target.sub() == "status" {
                // A write of the status changes no metadata but its own managers.
                let status = new["status"].take();
                new = (**old).clone();
                transfer(&json!({"status": status}), &mut new, "status");
            } else {
                transfer(old, &mut new, "status");
            }
        }
        new_finalizers(resource, name, old, &new)?;
        let mut new = self.admit(resource, Some(old), new, false, now)?;
        let body = |object: &Value| {
            let mut object = object.clone();
            if let Some(fields) = object.as_object_mut() {
                fields.remove("metadata");
                fields.remove("status");
            }
            object
        };
        if body(old) != body(&new) {
            let generation = old["metadata"]["generation"].as_i64().unwrap_or_default() + 1;
            new["metadata"]["generation"] = generation.into();
        }
        let managers = managers.unwrap_or_else(|| {
            let mut managers = Managers::of(old);
            let writer = Writer { name: &request.manager(), subresource: target.sub(), now };
            managers.update(resource, old, &new, writer);
            managers
        });
        new["metadata"]["managedFields"] = managers.write();
        if new == **old || request.dry() {
            return Ok(new);
        }
        let key = Self::key(resource, &target.namespace, name);
        let ended = new["metadata"]["deletionTimestamp"].is_string()
            && new["metadata"]["deletionGracePeriodSeconds"].as_i64().unwrap_or_default() == 0
            && new["metadata"]["finalizers"].as_array().is_none_or(Vec::is_empty)
            && new["spec"]["finalizers"].as_array().is_none_or(Vec::is_empty);
        Ok((*self.record(&key, new, ended)).clone())
    }

    /// The namespace of a body is that of its path.
    fn place(target: &Target, object: &mut Value) -> Result<(), Failure> {
        if !object["metadata"].is_object() {
            object["metadata"] = json!({});
        }
        let said = object["metadata"]["namespace"].as_str().unwrap_or_default();
        if target.resource.namespaced {
            if !said.is_empty() && said != target.namespace {
                let why =
                    "the namespace of the provided object does not match the namespace sent on the request";
                return Err(Failure::bad_request(why));
            }
            object["metadata"]["namespace"] = target.namespace.clone().into();
        }
        object["apiVersion"] = target.resource.api_version().into();
        object["kind"] = target.resource.kind.clone().into();
        Ok(())
    }
}

fn same_kind(resource: &Resource, object: &Value) -> Result<(), Failure> {
    let differs = |field: &str, own: &str| object[field].as_str().is_some_and(|said| said != own);
    if differs("kind", &resource.kind) || differs("apiVersion", &resource.api_version()) {
        let message = format!(
            "the object provided is unrecognized: {} in version {}",
            object["kind"], object["apiVersion"]
        );
        return Err(Failure::bad_request(message));
    }
    Ok(())
}

fn needs_version(resource: &Resource) -> bool {
    resource.custom.is_some() || matches!(resource.plural.as_str(), "leases" | "poddisruptionbudgets")
}

/// A version or an id in a body must be that of the object.
fn preconditions(resource: &Resource, name: &str, old: &Value, body: &Value) -> Result<(), Failure> {
    let said = |field: &str| body["metadata"][field].as_str().filter(|text| !text.is_empty());
    if said("uid").is_some_and(|uid| old["metadata"]["uid"] != uid) {
        let why = format!(
            "Precondition failed: UID in precondition: {}, UID in object meta: {}",
            body["metadata"]["uid"], old["metadata"]["uid"]
        );
        return Err(Failure::conflict(&resource.id(), name, &why));
    }
    if said("resourceVersion").is_some_and(|version| old["metadata"]["resourceVersion"] != version) {
        return Err(Failure::modified(&resource.id(), name));
    }
    Ok(())
}

/// What a client cannot change.
fn keep_metadata(old: &Value, new: &mut Value) {
    let fields = [
        "name",
        "namespace",
        "uid",
        "creationTimestamp",
        "generation",
        "deletionTimestamp",
        "deletionGracePeriodSeconds",
        "resourceVersion",
        "managedFields",
        "generateName",
    ];
    for field in fields {
        let kept = old["metadata"].get(field).cloned();
        let Some(metadata) = new["metadata"].as_object_mut() else { return };
        match kept {
            Some(value) => drop(metadata.insert(field.to_owned(), value)),
            None => drop(metadata.remove(field)),
        }
    }
}

/// Takes a field of one object over into another, or away where the first has none.
fn transfer(from: &Value, to: &mut Value, field: &str) {
    let Some(to) = to.as_object_mut() else { return };
    match from.get(field).filter(|value| !value.is_null()) {
        Some(value) => drop(to.insert(field.to_owned(), value.clone())),
        None => drop(to.remove(field)),
    }
}

fn new_finalizers(resource: &Resource, name: &str, old: &Value, new: &Value) -> Result<(), Failure> {
    if old["metadata"]["deletionTimestamp"].is_null() {
        return Ok(());
    }
    let had = old["metadata"]["finalizers"].as_array().cloned().unwrap_or_default();
    let added = new["metadata"]["finalizers"].as_array().into_iter().flatten().any(|one| !had.contains(one));
    if added {
        let why = "Forbidden: no new finalizers can be added if the object is being deleted".to_owned();
        return Err(Failure::invalid(&resource.kind, name, &[("metadata.finalizers".to_owned(), why)]));
    }
    Ok(())
}
