//! What the server refuses, as the `Status` that a client reads.

use http::StatusCode;
use serde_json::{Value, json};

/// A refusal: its HTTP code, its reason and its message, as Kubernetes words them.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[error("{code} {reason}: {message}")]
pub struct Failure {
    /// The HTTP code.
    pub code: u16,
    /// The machine's word, as `AlreadyExists`.
    pub reason: &'static str,
    /// The sentence for people.
    pub message: String,
    /// `status.details`.
    pub details: Value,
}

impl Failure {
    pub(crate) fn new(code: StatusCode, reason: &'static str, message: impl Into<String>) -> Self {
        Self { code: code.as_u16(), reason, message: message.into(), details: json!({}) }
    }

    pub(crate) fn with(mut self, details: Value) -> Self {
        self.details = details;
        self
    }

    /// 404 for an object.
    pub(crate) fn not_found(resource: &str, name: &str) -> Self {
        let group = resource.split_once('.').map_or("", |(_, group)| group);
        let plural = resource.split_once('.').map_or(resource, |(plural, _)| plural);
        Self::new(StatusCode::NOT_FOUND, "NotFound", format!("{resource} \"{name}\" not found"))
            .with(json!({"name": name, "group": group, "kind": plural}))
    }

    /// 404 for a path that leads nowhere.
    pub(crate) fn no_such_path() -> Self {
        Self::new(StatusCode::NOT_FOUND, "NotFound", "the server could not find the requested resource")
    }

    /// 409 for a name that is held.
    pub(crate) fn exists(resource: &str, name: &str) -> Self {
        Self::new(StatusCode::CONFLICT, "AlreadyExists", format!("{resource} \"{name}\" already exists"))
            .with(json!({"name": name}))
    }

    /// 409 for a precondition that does not hold.
    pub(crate) fn conflict(resource: &str, name: &str, why: &str) -> Self {
        let message = format!("Operation cannot be fulfilled on {resource} \"{name}\": {why}");
        Self::new(StatusCode::CONFLICT, "Conflict", message).with(json!({"name": name}))
    }

    /// 409 for a write that rests on an old version.
    pub(crate) fn modified(resource: &str, name: &str) -> Self {
        let why =
            "the object has been modified; please apply your changes to the latest version and try again";
        Self::conflict(resource, name, why)
    }

    /// 422 with one cause a line.
    pub(crate) fn invalid(kind: &str, name: &str, causes: &[(String, String)]) -> Self {
        let said: Vec<_> = causes.iter().map(|(field, why)| format!("{field}: {why}")).collect();
        let said = if said.len() == 1 { said.concat() } else { format!("[{}]", said.join(", ")) };
        let causes: Vec<_> = causes
            .iter()
            .map(|(field, why)| json!({"field": field, "message": why, "reason": "FieldValueInvalid"}))
            .collect();
        Self::new(
            StatusCode::UNPROCESSABLE_ENTITY,
            "Invalid",
            format!("{kind} \"{name}\" is invalid: {said}"),
        )
        .with(json!({"name": name, "kind": kind, "causes": causes}))
    }

    pub(crate) fn bad_request(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "BadRequest", message)
    }

    pub(crate) fn forbidden(message: impl Into<String>) -> Self {
        Self::new(StatusCode::FORBIDDEN, "Forbidden", message)
    }

    /// 410: the version asked for is compacted away.
    pub(crate) fn expired(asked: u64, compacted: u64) -> Self {
        let message = format!("too old resource version: {asked} ({compacted})");
        Self::new(StatusCode::GONE, "Expired", message)
    }

    /// The `Status` object.
    pub fn status(&self) -> Value {
        json!({
            "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
            "message": self.message, "reason": self.reason, "details": self.details, "code": self.code,
        })
    }
}
