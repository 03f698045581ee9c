//! What requests have in common: path, query and the deadline, with errors that say what was wrong.

use std::convert::Infallible;

use axum::{
    extract::{FromRequestParts, Path, Query},
    http::{HeaderMap, request::Parts},
};
use kontrol_core::{code::Code, duration};
use serde::de::DeserializeOwned;
use tokio::time::Instant;

use super::Problem;
use crate::{clock, service::Error};

/// The header that says how long a caller waits, such as `5s` or `1m30s`.
pub(super) const TIMEOUT: &str = "kontrol-timeout";

pub(super) fn invalid(subject: &str, message: String) -> Problem {
    Error::new(Code::InvalidRequest, subject, message).into()
}

/// The deadline that a request names; none: the widget's `resilience.timeout`.
pub(super) fn deadline(headers: &HeaderMap) -> Result<Option<Instant>, Problem> {
    let Some(value) = headers.get(TIMEOUT) else { return Ok(None) };
    let text = value.to_str().unwrap_or("");
    let timeout = duration::parse(text)
        .map_err(|error| invalid("Kontrol-Timeout", format!("Kontrol-Timeout: {error}")))?;
    let out_of_range = || invalid("Kontrol-Timeout", format!("Kontrol-Timeout: {text} is too long"));
    clock::now().checked_add(timeout).map(Some).ok_or_else(out_of_range)
}

/// The parameters of the path.
pub(super) struct Segments<T>(pub(super) T);

impl<T: DeserializeOwned + Send, S: Send + Sync> FromRequestParts<S> for Segments<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        match Path::<T>::from_request_parts(parts, state).await {
            Ok(Path(value)) => Ok(Self(value)),
            Err(error) => Err(invalid("path", error.body_text())),
        }
    }
}

/// The query's parameters.
pub(super) struct Parameters<T>(pub(super) T);

impl<T: DeserializeOwned + Send, S: Send + Sync> FromRequestParts<S> for Parameters<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        match Query::<T>::from_request_parts(parts, state).await {
            Ok(Query(value)) => Ok(Self(value)),
            Err(error) => Err(invalid("query", error.body_text())),
        }
    }
}

/// What the client accepts, in lower case; empty: it says nothing.
pub(super) struct Accept(pub(super) String);

impl<S: Send + Sync> FromRequestParts<S> for Accept {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Infallible> {
        let values = parts.headers.get_all(axum::http::header::ACCEPT).iter();
        let texts: Vec<_> = values.filter_map(|value| value.to_str().ok()).collect();
        Ok(Self(texts.join(",").to_ascii_lowercase()))
    }
}

impl Accept {
    /// Whether a media type is named, with whatever parameters.
    pub(super) fn names(&self, media_type: &str) -> bool {
        self.0.split(',').any(|item| item.split(';').next().is_some_and(|item| item.trim() == media_type))
    }
}
