//! `POST /v1/topics/{topic}/events`.

use axum::{
    Json,
    body::Body,
    extract::State,
    http::{HeaderMap, header::CONTENT_TYPE},
};
use kontrol_core::code::Code;
use serde::{Deserialize, Serialize};

use super::{
    Door, Problem, body,
    request::{self, Parameters, Segments},
};
use crate::{cloudevents, service::Event};

/// The attributes that a plain body cannot carry. A `CloudEvent` has its own.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Attributes {
    id: Option<String>,
    #[serde(rename = "type")]
    kind: Option<String>,
    subject: Option<String>,
}

/// A message that is durable.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Published {
    id: String,
    sequence: u64,
    duplicate: bool,
    dropped: u64,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    dropped_by: Vec<String>,
}

pub(super) async fn publish(
    State(door): State<Door>,
    Segments(topic): Segments<String>,
    Parameters(attributes): Parameters<Attributes>,
    headers: HeaderMap,
    body: Body,
) -> Result<Json<Published>, Problem> {
    let deadline = request::deadline(&headers)?;
    let mode = cloudevents::Mode::of(&headers)?;
    let body = body::read(body, Code::MessageTooLarge).await?;
    let mut event = cloudevents::read(&headers, body)?;
    attributes.complete(mode, &mut event)?;
    if mode == cloudevents::Mode::Plain
        && event.datacontenttype.is_empty()
        && headers.get(CONTENT_TYPE).is_none()
    {
        event.datacontenttype = guess(&event.data).to_owned();
    }
    let published = door.service.publish(&topic, event, deadline).await?;
    let crate::service::Published { id, sequence, duplicate, dropped, dropped_by } = published;
    Ok(Json(Published { id, sequence, duplicate, dropped, dropped_by }))
}

impl Attributes {
    fn complete(self, mode: cloudevents::Mode, event: &mut Event) -> Result<(), Problem> {
        let Self { id, kind, subject } = self;
        if mode != cloudevents::Mode::Plain {
            if id.is_some() || kind.is_some() || subject.is_some() {
                let message = "a CloudEvent carries its own attributes; id, type and subject in the query are for plain bodies";
                return Err(request::invalid("query", message.to_owned()));
            }
            return Ok(());
        }
        for (name, value, place) in [
            ("id", id, &mut event.id),
            ("type", kind, &mut event.r#type),
            ("subject", subject, &mut event.subject),
        ] {
            if let Some(value) = value {
                if value.is_empty() || value.contains(char::is_control) {
                    return Err(request::invalid(
                        name,
                        format!("{name} in the query is empty or has a control character"),
                    ));
                }
                *place = value;
            }
        }
        Ok(())
    }
}

/// The content type of a body whose sender names none: text where it is text.
fn guess(data: &[u8]) -> &'static str {
    match std::str::from_utf8(data) {
        Ok("") => "",
        Ok(_) if serde_json::from_slice::<serde::de::IgnoredAny>(data).is_ok() => "application/json",
        Ok(_) => "text/plain; charset=utf-8",
        Err(_) => "application/octet-stream",
    }
}
