//! What a client asks: method, path, query and body, read into one call.

use std::{collections::BTreeMap, sync::Arc};

use bytes::Bytes;
use http::Method;
use percent_encoding::percent_decode_str;
use serde_json::Value;

use crate::{failure::Failure, resource::Resource};

/// A request, off the wire.
#[derive(Clone, Debug)]
pub(crate) struct Request {
    pub(crate) method: Method,
    pub(crate) path: Vec<String>,
    pub(crate) query: BTreeMap<String, String>,
    pub(crate) content_type: String,
    pub(crate) accept: String,
    pub(crate) agent: String,
    pub(crate) user: String,
    pub(crate) body: Bytes,
    /// Up to which version this client sees a resource; `*` is every resource.
    pub(crate) holds: BTreeMap<String, u64>,
}

impl Request {
    /// Reads a request's head; the body is that which was collected.
    pub(crate) fn read(head: &http::request::Parts, user: &str, body: Bytes) -> Self {
        let header = |name: http::HeaderName| {
            head.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default().to_owned()
        };
        let decode =
            |text: &str| percent_decode_str(&text.replace('+', " ")).decode_utf8_lossy().into_owned();
        let agent = header(http::header::USER_AGENT);
        Self {
            method: head.method.clone(),
            path: head.uri.path().split('/').filter(|part| !part.is_empty()).map(decode).collect(),
            query: head
                .uri
                .query()
                .unwrap_or_default()
                .split('&')
                .filter(|pair| !pair.is_empty())
                .map(|pair| pair.split_once('=').unwrap_or((pair, "")))
                .map(|(key, value)| (decode(key), decode(value)))
                .collect(),
            content_type: header(http::header::CONTENT_TYPE).split(';').next().unwrap_or_default().to_owned(),
            accept: header(http::header::ACCEPT),
            agent: agent.split('/').next().filter(|agent| !agent.is_empty()).unwrap_or("unknown").to_owned(),
            user: user.to_owned(),
            body,
            holds: BTreeMap::new(),
        }
    }

    /// Up to which version the server's cache shows a resource to this client.
    pub(crate) fn bound(&self, id: &str, version: u64) -> u64 {
        bound(&self.holds, id, version)
    }

    pub(crate) fn text(&self, key: &str) -> Option<&str> {
        self.query.get(key).map(String::as_str).filter(|value| !value.is_empty())
    }

    pub(crate) fn flag(&self, key: &str) -> bool {
        matches!(self.text(key), Some("true" | "1"))
    }

    pub(crate) fn number(&self, key: &str) -> Result<Option<u64>, Failure> {
        let read = |text: &str| {
            text.parse().map_err(|_| Failure::bad_request(format!("{key}: invalid value: \"{text}\"")))
        };
        self.text(key).map(read).transpose()
    }

    /// Who owns the fields that this call writes.
    pub(crate) fn manager(&self) -> String {
        self.text("fieldManager").unwrap_or(&self.agent).to_owned()
    }

    pub(crate) fn dry(&self) -> bool {
        self.text("dryRun").is_some()
    }

    pub(crate) fn json(&self) -> Result<Value, Failure> {
        serde_json::from_slice(&self.body)
            .map_err(|error| Failure::bad_request(format!("the body is not JSON: {error}")))
    }
}

/// The least of what is held.
pub(crate) fn bound(holds: &BTreeMap<String, u64>, id: &str, version: u64) -> u64 {
    let all = holds.get("*").copied().unwrap_or(version);
    holds.get(id).copied().unwrap_or(version).min(all).min(version)
}

/// What a resource path names.
#[derive(Clone)]
pub(crate) struct Target {
    pub(crate) resource: Arc<Resource>,
    /// Empty for resources of the cluster, and for lists over all namespaces.
    pub(crate) namespace: String,
    pub(crate) name: Option<String>,
    pub(crate) subresource: Option<String>,
}

impl Target {
    /// `status` and so on, or the empty text.
    pub(crate) fn sub(&self) -> &str {
        self.subresource.as_deref().unwrap_or_default()
    }

    /// The verb by which RBAC knows a call.
    pub(crate) fn verb(&self, request: &Request) -> &'static str {
        match (&request.method, self.name.is_some()) {
            (&Method::GET, _) if request.flag("watch") => "watch",
            (&Method::GET, true) => "get",
            (&Method::POST, _) => "create",
            (&Method::PUT, _) => "update",
            (&Method::PATCH, _) => "patch",
            (&Method::DELETE, true) => "delete",
            (&Method::DELETE, false) => "deletecollection",
            _ => "list",
        }
    }
}

/// Splits the parts after the version: namespace, plural, name and subresource.
pub(crate) fn places(path: &[String]) -> Option<(&str, &str, Option<&str>, Option<&str>)> {
    let parts: Vec<&str> = path.iter().map(String::as_str).collect();
    match parts.as_slice() {
        // A namespace's own subresources, and what lies in it.
        ["namespaces", name, sub @ ("status" | "finalize")] => {
            Some(("", "namespaces", Some(name), Some(sub)))
        }
        ["namespaces", namespace, plural, rest @ ..] => match rest {
            [] => Some((namespace, plural, None, None)),
            [name] => Some((namespace, plural, Some(name), None)),
            [name, sub] => Some((namespace, plural, Some(name), Some(sub))),
            _ => None,
        },
        [plural] => Some(("", plural, None, None)),
        [plural, name] => Some(("", plural, Some(name), None)),
        [plural, name, sub] => Some(("", plural, Some(name), Some(sub))),
        _ => None,
    }
}
