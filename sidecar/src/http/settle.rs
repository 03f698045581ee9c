//! `POST /v1/subscriptions/{session}/deliveries/{delivery}/{outcome}`.

use std::time::Duration;

use axum::{body::Body, extract::State, http::StatusCode};
use kontrol_core::code::Code;
use serde::Deserialize;

use super::{
    Door, Problem, body,
    request::{Parameters, Segments, invalid},
};
use crate::service::{Error, Outcome};

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Query {
    /// Whether to answer not before the outcome is durable; an event says the same on the stream.
    #[serde(default)]
    confirm: bool,
}

/// The body of a `nak`, and of a `term` without the delay.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Reason {
    /// 0: the topic's backoff.
    #[serde(default)]
    delay_ms: u64,
    #[serde(default)]
    reason: String,
}

pub(super) async fn settle(
    State(door): State<Door>,
    Segments((session, delivery, outcome)): Segments<(String, String, String)>,
    Parameters(Query { confirm }): Parameters<Query>,
    body: Body,
) -> Result<StatusCode, Problem> {
    let delivery: u64 = delivery.parse().map_err(|_| {
        invalid("delivery", format!("{delivery:?} is no delivery; it is the id of an event message"))
    })?;
    let outcome = match outcome.as_str() {
        "ack" => Outcome::Ack,
        "progress" => Outcome::Progress,
        "nak" => {
            let Reason { delay_ms, reason } = body::json(body).await?.unwrap_or_default();
            Outcome::Nak { delay: Duration::from_millis(delay_ms), reason, attempt_counts: true }
        }
        "term" => Outcome::Term { reason: body::json::<Reason>(body).await?.unwrap_or_default().reason },
        other => {
            let message = format!("a delivery has no {other}; there is ack, nak, progress and term");
            return Err(Error::new(Code::NoSuchPath, other, message).into());
        }
    };
    let open = door.sessions.get(&session).ok_or_else(|| {
        let message = format!("there is no open subscription session {session:?}");
        Error::new(Code::SessionNotFound, session.as_str(), message)
    })?;
    open.settle(delivery, &outcome, confirm).await?;
    Ok(StatusCode::NO_CONTENT)
}
