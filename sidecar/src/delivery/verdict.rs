//! What the widget's answer means: the one place where HTTP statuses become outcomes and errors.

use std::time::Duration;

use http::{HeaderMap, StatusCode, header::RETRY_AFTER};

use crate::service::{Outcome, Status};

/// What became of a message that the widget has answered with `status`.
pub(super) fn of_message(status: StatusCode, retry_after: Option<Duration>, reason: String) -> Outcome {
    match status.as_u16() {
        200..=299 => Outcome::Ack,
        408 | 425 | 429 => nak(retry_after, reason),
        400..=499 => Outcome::Term { reason },
        _ => nak(retry_after, reason),
    }
}

fn nak(retry_after: Option<Duration>, reason: String) -> Outcome {
    Outcome::Nak { delay: retry_after.unwrap_or_default(), reason, attempt_counts: true }
}

/// The gRPC status of a call that the widget has answered with `status`; none: it went well.
pub(super) fn of_call(status: StatusCode) -> Option<Status> {
    match status.as_u16() {
        200..=299 => None,
        404 => Some(Status::Unimplemented),
        429 => Some(Status::ResourceExhausted),
        503 => Some(Status::Unavailable),
        400..=499 => Some(Status::InvalidArgument),
        _ => Some(Status::Internal),
    }
}

/// The pause that `Retry-After` asks for, in seconds or until a date; `now` is in microseconds since the Unix epoch.
pub(super) fn retry_after(headers: &HeaderMap, now: i64) -> Option<Duration> {
    let text = headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
    if let Ok(seconds) = text.parse() {
        return Some(Duration::from_secs(seconds));
    }
    let at = jiff::fmt::rfc2822::parse(text).ok()?.timestamp().as_microsecond();
    Some(Duration::from_micros(u64::try_from(at.saturating_sub(now)).unwrap_or(0)))
}
