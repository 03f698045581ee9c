//! What is asked of the API server, as data: the pure state makes these, and only [`super::client`] sends them.

use std::time::Duration;

use serde_json::Value;

use super::kind::Kind;

/// How to write.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Verb {
    /// Read it.
    Get,
    /// Make it; it must not be there.
    Create,
    /// Replace it; the body carries the resource version that it must still have.
    Replace,
    /// Server-side apply, with force: only of fields that are ours.
    Apply,
    /// A merge patch.
    Merge,
    /// A JSON patch, whose tests must hold.
    Test,
    /// Remove it.
    Delete,
}

impl Verb {
    /// In one word, for metrics and logs.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Get => "get",
            Self::Create => "create",
            Self::Replace => "update",
            Self::Apply => "apply",
            Self::Merge | Self::Test => "patch",
            Self::Delete => "delete",
        }
    }
}

/// One request.
#[derive(Clone, Debug, PartialEq)]
pub struct Request {
    /// What to do.
    pub verb: Verb,
    /// Of which kind.
    pub kind: Kind,
    /// In which namespace; none: the object has none.
    pub namespace: Option<String>,
    /// The object's name.
    pub name: String,
    /// `status` or another subresource; empty: the object itself.
    pub subresource: &'static str,
    /// Who writes, for the managed fields; empty for reads and removals.
    pub manager: &'static str,
    /// The body; null: none.
    pub body: Value,
}

impl Request {
    /// A request of an object in a namespace.
    pub fn new(verb: Verb, kind: Kind, namespace: &str, name: &str) -> Self {
        Self {
            verb,
            kind,
            namespace: Some(namespace.to_owned()),
            name: name.to_owned(),
            subresource: "",
            manager: "",
            body: Value::Null,
        }
    }

    /// The same of a subresource.
    #[must_use]
    pub fn of(self, subresource: &'static str) -> Self {
        Self { subresource, ..self }
    }

    /// The same by this field manager.
    #[must_use]
    pub fn by(self, manager: &'static str) -> Self {
        Self { manager, ..self }
    }

    /// The same with this body.
    #[must_use]
    pub fn with(self, body: Value) -> Self {
        Self { body, ..self }
    }

    /// As HTTP says it.
    pub fn to_http(&self) -> Result<http::Request<Vec<u8>>, http::Error> {
        let mut uri = self.kind.path(self.namespace.as_deref());
        if self.verb != Verb::Create {
            uri.push('/');
            uri.push_str(&self.name);
        }
        if !self.subresource.is_empty() {
            uri.push('/');
            uri.push_str(self.subresource);
        }
        if !self.manager.is_empty() {
            uri.push_str("?fieldManager=");
            uri.push_str(self.manager);
            if self.verb == Verb::Apply {
                uri.push_str("&force=true");
            }
        }
        let (method, content) = match self.verb {
            Verb::Get => ("GET", "application/json"),
            Verb::Create => ("POST", "application/json"),
            Verb::Replace => ("PUT", "application/json"),
            Verb::Apply => ("PATCH", "application/apply-patch+yaml"),
            Verb::Merge => ("PATCH", "application/merge-patch+json"),
            Verb::Test => ("PATCH", "application/json-patch+json"),
            Verb::Delete => ("DELETE", "application/json"),
        };
        let body = if self.body.is_null() { Vec::new() } else { self.body.to_string().into_bytes() };
        http::Request::builder()
            .method(method)
            .uri(uri)
            .header(http::header::CONTENT_TYPE, content)
            .header(http::header::ACCEPT, "application/json")
            .body(body)
    }
}

/// What became of a request.
#[derive(Clone, Debug, PartialEq)]
pub enum Outcome {
    /// It was done; this is the object as it is now, or a `Status`, as JSON.
    Done(String),
    /// There is no such object (404), or not this one any more.
    Gone(String),
    /// The precondition did not hold (409): what was known was old.
    Conflict(String),
    /// Another object has the name (409).
    Exists(String),
    /// The API server refuses the content (400, 422).
    Invalid(String),
    /// It is not allowed: by RBAC, quota, admission or a namespace that is being removed (403).
    Forbidden(String),
    /// Too much at the moment (429, 503): not before this time has passed.
    Busy(Duration),
    /// Anything else, above all no answer: whether it was done is not known.
    Failed(String),
}

impl Outcome {
    /// Whether it was done.
    pub fn is_done(&self) -> bool {
        matches!(self, Self::Done(_))
    }

    /// The object, where it was done.
    pub fn value(&self) -> Value {
        match self {
            Self::Done(text) => serde_json::from_str(text).unwrap_or_default(),
            _ => Value::Null,
        }
    }

    /// In one word, for metrics.
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::Done(_) => "ok",
            Self::Gone(_) => "not_found",
            Self::Conflict(_) => "conflict",
            Self::Exists(_) => "already_exists",
            Self::Invalid(_) => "invalid",
            Self::Forbidden(_) => "forbidden",
            Self::Busy(_) => "busy",
            Self::Failed(_) => "failed",
        }
    }

    /// What the API server says, where it was not done.
    pub fn message(&self) -> &str {
        match self {
            Self::Done(_) => "",
            Self::Gone(text)
            | Self::Conflict(text)
            | Self::Exists(text)
            | Self::Invalid(text)
            | Self::Forbidden(text)
            | Self::Failed(text) => text,
            Self::Busy(_) => "the API server has too much to do",
        }
    }

    /// What an answer means.
    pub fn of(status: u16, retry_after: Option<u64>, body: &[u8]) -> Self {
        if (200..300).contains(&status) {
            return Self::Done(String::from_utf8_lossy(body).into_owned());
        }
        let value: Value = serde_json::from_slice(body).unwrap_or_default();
        let text = |key: &str| value[key].as_str().unwrap_or_default().to_owned();
        let message = if text("message").is_empty() { format!("HTTP {status}") } else { text("message") };
        match status {
            400 | 422 => Self::Invalid(message),
            403 => Self::Forbidden(message),
            404 => Self::Gone(message),
            409 if text("reason") == "AlreadyExists" => Self::Exists(message),
            409 => Self::Conflict(message),
            429 | 503 => Self::Busy(Duration::from_secs(retry_after.unwrap_or(1).clamp(1, 60))),
            _ => Self::Failed(message),
        }
    }
}
