//! Errors as HTTP says them: `application/problem+json` (RFC 9457).

use axum::{
    body::Body,
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use serde::Serialize;

use crate::{
    cloudevents,
    service::{Error, Status},
};

/// Where a problem's `type` points: the anchor of its code.
const TYPE: &str = "https://kontrol.dev/errors#";

/// An error with the HTTP status that carries it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    error: Error,
    status: u16,
}

/// The body.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Written<'a> {
    #[serde(rename = "type")]
    kind: String,
    title: &'static str,
    status: u16,
    detail: &'a str,
    code: &'static str,
    #[serde(skip_serializing_if = "str::is_empty")]
    subject: &'a str,
    help: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    retry_after_ms: Option<u64>,
}

impl Problem {
    /// The same with another HTTP status than its code's.
    #[must_use]
    pub fn with_status(self, status: u16) -> Self {
        Self { status, ..self }
    }

    /// The body, on one line.
    pub fn to_json(&self) -> String {
        let Error { code, message, subject, retry_after, .. } = &self.error;
        let written = Written {
            kind: format!("{TYPE}{code}"),
            title: code.meaning(),
            status: self.status,
            detail: message,
            code: code.as_str(),
            subject,
            help: code.way_out(),
            retry_after_ms: retry_after.map(|after| u64::try_from(after.as_millis()).unwrap_or(u64::MAX)),
        };
        // Nothing in it can fail to be JSON.
        serde_json::to_string(&written).unwrap_or_default()
    }
}

impl From<Error> for Problem {
    fn from(error: Error) -> Self {
        let own = error.status == error.code.status();
        let status = if own { error.code.http() } else { http_of(error.status) };
        Self { error, status }
    }
}

impl From<cloudevents::Error> for Problem {
    fn from(error: cloudevents::Error) -> Self {
        let status = error.http();
        Self::from(Error::new(error.code(), error.attribute(), error.to_string())).with_status(status)
    }
}

/// The HTTP status for a gRPC status that a widget has chosen.
const fn http_of(status: Status) -> u16 {
    match status {
        Status::Ok => 200,
        Status::InvalidArgument | Status::OutOfRange => 400,
        Status::Unauthenticated => 401,
        Status::PermissionDenied => 403,
        Status::NotFound => 404,
        Status::AlreadyExists | Status::Aborted | Status::FailedPrecondition => 409,
        Status::ResourceExhausted => 429,
        Status::Cancelled => 499,
        Status::Unknown | Status::Internal | Status::DataLoss => 500,
        Status::Unimplemented => 501,
        Status::Unavailable => 503,
        Status::DeadlineExceeded => 504,
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let mut response = Response::new(Body::from(self.to_json()));
        *response.status_mut() =
            StatusCode::from_u16(self.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        if let Some(after) = self.error.retry_after {
            // Whole seconds, rounded up: coming back too early helps nobody.
            let seconds = after.as_secs() + u64::from(after.subsec_nanos() > 0);
            headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        response
    }
}
